//! The report as one HTML page that needs nothing but itself: no network, no other file, no script.
//!
//! `main.rs` writes what [`html()`] returns; [`text`](crate::text) says the same on a terminal. The parts, from the top
//! of the page to its bottom: `verdict`, `tables`, `timeline`, `survival`, `resident`, `hold_times`,
//! `longest`, `facts`. Each takes a `Selection` and returns markup.
//!
//! The document and its style are [`report_page`]'s. Of its classes for series, `c0` is the limit, `c1` to `c9` are the
//! allocators.

mod facts;
mod hold_times;
mod lock;
mod longest;
mod outline;
mod resident;
mod selection;
mod survival;
mod tables;
mod timeline;
mod verdict;

use maud::{Markup, html};
use report_page::{document, section};
use time::OffsetDateTime;

use crate::report::Report;
use selection::Selection;

/// What a browser may load for the page: nothing but the style that is in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// Nothing was run.
    #[error("the report has no allocator with a run; a page needs at least one")]
    NoRun,
    /// The settings of the run could not be listed.
    #[error("the plan of the run cannot be listed: {0}")]
    Plan(#[from] serde_json::Error),
}

/// The report as an HTML page.
pub fn html(report: &Report) -> Result<String, PageError> {
    let selection = Selection::of(report);
    if selection.lanes.is_empty() {
        return Err(PageError::NoRun);
    }
    let body = body(report, &selection)?;
    let title = format!("Stress report, {}", date(report.began_s));
    Ok(document(&title, POLICY, &pickers(&selection), &body))
}

fn body(report: &Report, selection: &Selection<'_>) -> Result<Markup, PageError> {
    Ok(html! {
        header {
            p.kicker { "Stress report · " (date(report.began_s)) " · Linux " (report.machine.kernel) ", "
                (report.machine.cpu_count) " × " (report.machine.cpu_model) }
            h1 { (report.headline) }
            (verdict::words(report, selection))
        }
        main {
            (verdict::freezes(selection))
            (section("targets", "Targets", &verdict::targets(report)))
            (section("reading", "How to read this page", &facts::reading()))
            (section("figures", "Figures", &tables::comparison(selection, report.rounds)))
            (section("waits", "What the canaries felt", &tables::waits(selection)))
            @if selection.is_traced() {
                (section("locks", "Who took mmap_lock", &tables::locks(selection)))
            }
            (plots(selection))
            @if selection.is_traced() {
                (section("longest", "The longest holds and waits", &longest::table(selection)))
            }
            (section("unmeasured", "What was not measured", &facts::unmeasured(selection, report)))
            (section("run", "Machine and run", &facts::facts(report)?))
            (section("notes", "Notes", &facts::notes(selection)))
        }
    })
}

/// All plots, under one legend whose boxes choose the allocators that are drawn.
fn plots(selection: &Selection<'_>) -> Markup {
    html! {
        div.plots {
            fieldset.legend {
                legend { "Drawn below" }
                @for lane in &selection.lanes {
                    label.(timeline::class(lane)) {
                        input type="checkbox" id={ "show-" (lane.index) } checked;
                        svg viewBox="0 0 28 10" width="28" height="10" aria-hidden="true" {
                            path.curve d="M1 5H27" {}
                        }
                        (lane.name)
                    }
                }
            }
            (section("time", "Over time", &timeline::figures(selection)))
            (section("distribution", "How often a wait is long", &html! {
                p { "Of all measurements of all rounds, the share that took longer than a time, both axes logarithmic: "
                    "the further left and the lower a line, the better." }
                (survival::figures(selection))
            }))
            (section("memory", "Resident memory", &resident::figure(selection)))
            @if selection.is_traced() {
                (section("holds", "How long mmap_lock was held", &hold_times::figures(selection)))
            }
        }
    }
}

/// Rules that hide what is drawn of an allocator whose box is not checked.
fn pickers(selection: &Selection<'_>) -> String {
    let rule = |lane: &selection::Lane<'_>| {
        let (index, colour) = (lane.index, lane.colour);
        format!(".plots:has(#show-{index}:not(:checked)) section .c{colour}{{display:none}}\n")
    };
    selection.lanes.iter().map(rule).collect()
}

/// A moment as a date and a time of day, in UTC.
fn date(unix_s: u64) -> String {
    let moment = i64::try_from(unix_s).ok().and_then(|unix_s| OffsetDateTime::from_unix_timestamp(unix_s).ok());
    moment.map_or_else(
        || format!("{unix_s} s after 1970"),
        |moment| format!("{} {:02}:{:02} UTC", moment.date(), moment.hour(), moment.minute()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(1_795_762_620), "2026-11-27 06:57 UTC");
        assert_eq!(date(u64::MAX), format!("{} s after 1970", u64::MAX));
    }

    #[test]
    fn a_report_without_runs_has_no_page() {
        let error = html(&crate::report::samples::report(Vec::new())).unwrap_err();
        assert!(matches!(error, PageError::NoRun), "{error}");
    }
}
