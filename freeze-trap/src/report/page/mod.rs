//! A freeze as one HTML page that needs nothing but itself: no network, no other file. It can be read without its
//! script, which only adds zooming and searching to the flame graphs.
//!
//! The document and its style are [`report_page`]'s, with a few rules more. The parts, from the top of the page to its
//! bottom: `timeline`, `tables`, the flame graphs, `lock`, `facts`.

mod facts;
mod lock;
mod tables;
mod timeline;

use maud::{Markup, PreEscaped, html};
use report_page::{document, scroll};

use super::flame::{self, Kind};
use super::say;
use crate::freeze::Freeze;

/// What only this page has.
const STYLE: &str = include_str!("style.css");
/// What a browser may load for the page: nothing. It may apply the style that is in it, and run one script, that of the
/// flame graphs, told by its SHA-256 in base64.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    script-src 'sha256-AuX2Eq4nE/B9wmkNVBHVtzZyFfgF37c2banuKv/FX8g='";

/// The freeze as an HTML page.
#[must_use]
pub fn page(freeze: &Freeze) -> String {
    let title = format!("Freeze of {}, {}", freeze.target.name, say::wall(&freeze.window.trigger_wall));
    let body = html! {
        (header(freeze))
        main { (body(freeze)) }
        script { (PreEscaped(flame::SCRIPT)) }
    };
    say::plain_document(&document(&title, POLICY, &format!("{STYLE}{}", flame::STYLE), &body))
}

fn header(freeze: &Freeze) -> Markup {
    let (window, trigger) = (&freeze.window, &freeze.trigger);
    let frozen = say::duration(window.frozen_end_ns().saturating_sub(window.frozen_ns));
    html! {
        header {
            p.kicker {
                "Freeze of " (freeze.target.name) " · " (say::wall(&window.trigger_wall)) " · " (freeze.machine.host)
            }
            h1 { (freeze.sentence) }
            div.verdict.missed {
                p.result {
                    strong { "Frozen for " (frozen) }
                    @if window.recovered_ns.is_none() { ", and not recovered when the window ended" }
                    "."
                }
                p {
                    "Set off by “" (trigger.probe) "”: " (trigger.found) ", "
                    (say::counted(u64::from(trigger.failures), "failure")) " in a row."
                    @if let Some(throttled_ns) = freeze.throttled_ns {
                        " The cgroup was refused " (say::duration(throttled_ns)) " of processor time."
                    }
                }
            }
        }
    }
}

fn body(freeze: &Freeze) -> Markup {
    html! {
        (section("time", "Over time", timeline::figures(freeze)))
        (section("holders", "Who held what others wanted", tables::holders(freeze)))
        (section("blocked", "Who was blocked", tables::blocked(freeze)))
        (section("pairs", "Who waited for whom", tables::pairs(freeze)))
        (section("off-cpu", "Where threads were off the processor", off_cpu(freeze)))
        (section("waits", "What others waited for", graph(freeze, Kind::LockWait)))
        (section("outsiders", "Other processes that took the target’s mmap_lock", tables::outsiders(freeze)))
        (section("locks", "mmap_lock in the window", lock::figures(freeze)))
        (section("memory", "Memory", tables::memory(freeze)))
        (section("probes", "What the probes saw", tables::probes(freeze)))
        (section("seen", "How it was seen, and what was not", facts::seen(freeze)))
        (section("machine", "Machine", facts::machine(freeze)))
    }
}

fn section(id: &str, title: &str, content: Option<Markup>) -> Markup {
    content.map_or_else(|| html! {}, |content| report_page::section(id, title, &content))
}

fn off_cpu(freeze: &Freeze) -> Option<Markup> {
    let (graph, stacks) = (graph(freeze, Kind::OffCpu)?, tables::stacks(freeze)?);
    Some(html! { (graph) (stacks) })
}

fn graph(freeze: &Freeze, kind: Kind) -> Option<Markup> {
    let drawing = flame::drawing(freeze, kind)?;
    Some(html! {
        figure {
            figcaption {
                h3 { (kind.title()) }
                p { "Each tile is a function, as wide as the time that was spent below it; its callers are under it. "
                    span.swatch.user {} " program, " span.swatch.inlined {} " inlined, " span.swatch.kernel {}
                    " kernel, " span.swatch.waits {} " kernel, waiting for a lock." }
            }
            (scroll(kind.title(), &html! { div.wide { (drawing) } }))
        }
    })
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn base64(bytes: &[u8]) -> String {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let group = |three: &[u8]| {
            let all = three.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
            let letter = |place: usize| {
                let index = all >> (18 - 6 * place) & 63;
                if place <= three.len() { char::from(letters[index as usize]) } else { '=' }
            };
            (0..4).map(letter).collect::<String>()
        };
        bytes.chunks(3).map(group).collect()
    }

    #[test]
    fn the_policy_names_the_script() {
        assert_eq!([&b"Man"[..], b"Ma", b"M"].map(base64), ["TWFu", "TWE=", "TQ=="]);
        let hash = base64(&Sha256::digest(flame::SCRIPT));
        assert!(POLICY.ends_with(&format!("script-src 'sha256-{hash}'")), "it should name {hash}");
    }
}
