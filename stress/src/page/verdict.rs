//! The top of the page: whether the targets are met, and who froze for how long.

use maud::{Markup, html};

use super::selection::{Lane, Selection};
use super::timeline::class;
use crate::candidates::LIMIT;
use crate::record::time;
use crate::report::{Outcome, Report};
use crate::scenario::CONTROL;
use crate::summary::Wait;
use crate::targets::{Target, TargetResult, Verdict};
use report_page::scale::{Scale, decade_above, decade_below, time_tick};

/// Whether this project's allocators keep what they promise, and between what the freezes lie, in plain words.
pub fn words(report: &Report, selection: &Selection<'_>) -> Markup {
    html! {
        div.verdict.(outcome_class(report.outcome())) {
            (sentence(report))
            (extremes(selection))
        }
    }
}

/// Who froze least and who froze most, the limit left aside: nobody can use it.
fn extremes(selection: &Selection<'_>) -> Markup {
    let freezes = longest_freezes(selection);
    let usable: Vec<_> = freezes.iter().filter(|freeze| freeze.lane.name != LIMIT).collect();
    let (Some(least), Some(most)) = (usable.first(), usable.last()) else { return html! {} };
    html! {
        p {
            "Once the preparation was over, another thread had to wait at most "
            strong { (time(least.wait.worst_ns)) } " under " (least.lane.name)
            @if usable.len() > 1 { ", and " strong { (time(most.wait.worst_ns)) } " under " (most.lane.name) }
            " (median of the rounds)."
            @if let Some(noise_ns) = noise_ns(selection) {
                " Before that, with nothing going on, this machine let one wait up to " (time(noise_ns)) "."
            }
        }
    }
}

/// The longest wait of any round in the control: what the machine does by itself.
fn noise_ns(selection: &Selection<'_>) -> Option<u64> {
    let waits = selection.lanes.iter().flat_map(|lane| &lane.summary.waits);
    waits.filter(|wait| wait.phase == CONTROL).map(|wait| wait.worst_any_round_ns).max()
}

fn outcome_class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Met => "met",
        Outcome::Missed => "missed",
        Outcome::Unjudged | Outcome::Nothing => "unjudged",
    }
}

/// One sentence with a mark.
fn sentence(report: &Report) -> Markup {
    let (mark, word, rest) = match report.outcome() {
        Outcome::Met => ("✓", "Met.", "This project’s allocators met every target that applies to them."),
        Outcome::Missed => ("✗", "Missed.", "An allocator of this project missed a target; below it says which."),
        Outcome::Unjudged => {
            ("–", "Not judged.", "No target was missed, but this run cannot tell of every one; below it says why.")
        }
        Outcome::Nothing => ("–", "Not judged.", "No allocator of this project took part, or no target applies to it."),
    };
    html! { p.result { span.mark aria-hidden="true" { (mark) } strong { (word) } " " (rest) } }
}

/// The targets, each with what every allocator came to.
pub fn targets(report: &Report) -> Markup {
    html! {
        ul.targets {
            @for target in &report.targets { (target_item(target)) }
        }
    }
}

fn target_item(target: &Target) -> Markup {
    html! {
        li {
            p { (target.goal) "." }
            ul.results {
                @for result in &target.results { (result_item(result)) }
                @if target.results.is_empty() { li { "not measured" } }
            }
        }
    }
}

fn result_item(result: &TargetResult) -> Markup {
    let (class, mark, word) = match &result.verdict {
        Verdict::Met => ("met", "✓", "met"),
        Verdict::Missed => ("missed", "✗", "missed"),
        Verdict::Unjudged(_) => ("unjudged", "–", "not judged"),
        Verdict::Shown => ("unjudged", "", ""),
    };
    html! {
        li.(class) {
            span.who { (result.allocator) }
            span.value { (result.value) }
            span.word { span aria-hidden="true" { (mark) } " " (word) }
            @if let Verdict::Unjudged(why) = &result.verdict { span.why { (why) } }
        }
    }
}

/// One allocator's longest wait after the control.
struct Freeze<'a> {
    lane: &'a Lane<'a>,
    wait: &'a Wait,
    /// The longest wait of any round.
    worst_ns: u64,
}

/// A bar for each allocator: the longest that any of its canaries waited after the control, shortest first. The median
/// of the rounds, as one round may have met a machine that stood still; and behind it the worst.
pub fn freezes(selection: &Selection<'_>) -> Markup {
    let freezes = longest_freezes(selection);
    let Some(longest) = freezes.last() else { return html! {} };
    let lowest = decade_below(freezes[0].wait.worst_ns / 3);
    let worst_ns = freezes.iter().map(|freeze| freeze.worst_ns).fold(longest.wait.worst_ns, u64::max);
    let scale = Scale::decades(lowest, decade_above(worst_ns), 0.0, 100.0);
    html! {
        figure.freezes {
            figcaption {
                h2 { "Who froze, and for how long" }
                p { "The longest that another thread of the process had to wait in any phase after the control: the median "
                    "of the rounds, and paler the worst round. The scale is logarithmic." }
            }
            div.bars {
                @for freeze in &freezes { (bar(freeze, &scale)) }
                div.scale aria-hidden="true" {
                    div.track { @for tick in scale.ticks(9) {
                        span style={ "left:" (percent(&scale, tick)) "%" } { (time_tick(tick)) }
                    } }
                }
            }
        }
    }
}

/// The freezes of all allocators, the shortest first.
fn longest_freezes<'a>(selection: &'a Selection<'a>) -> Vec<Freeze<'a>> {
    let mut freezes: Vec<_> = selection.lanes.iter().filter_map(|lane| freeze(selection, lane)).collect();
    freezes.sort_by_key(|freeze| freeze.wait.worst_ns);
    freezes
}

fn freeze<'a>(selection: &Selection<'a>, lane: &'a Lane<'a>) -> Option<Freeze<'a>> {
    let counts = |wait: &&Wait| selection.counted().any(|phase| phase == wait.phase);
    let waits = || lane.summary.waits.iter().filter(counts);
    let wait = waits().max_by_key(|wait| wait.worst_ns)?;
    Some(Freeze { lane, wait, worst_ns: waits().map(|wait| wait.worst_any_round_ns).max()? })
}

fn bar(freeze: &Freeze<'_>, scale: &Scale) -> Markup {
    let Freeze { lane, wait, worst_ns } = freeze;
    html! {
        div.row.(class(lane)) {
            span.who { (lane.name) }
            div.track aria-hidden="true" {
                @for tick in scale.ticks(9) { i style={ "left:" (percent(scale, tick)) "%" } {} }
                b.worst style={ "width:" (percent(scale, *worst_ns as f64)) "%" } {}
                b style={ "width:" (percent(scale, wait.worst_ns as f64)) "%" } {}
            }
            span.value { (time(wait.worst_ns)) }
            span.note { "“" (wait.kind) "” during “" (wait.phase) "”" }
        }
    }
}

fn percent(scale: &Scale, value: f64) -> String {
    format!("{:.1}", scale.at(value))
}
