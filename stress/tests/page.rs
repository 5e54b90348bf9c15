//! The report page: that it is complete, well-formed, needs nothing but itself, and holds for odd reports too.

mod page_sample;

use page_sample::{PROFILES, finish, report, report_of, run};
use roxmltree::Document;
use scraper::{Html, Selector};
use stress::page::html;
use stress::report::Report;

/// A name that only an escaped page shows as it is.
const NASTY: &str = "<b onclick=\"x\">&amp;'mal";
/// What a page of nine allocators may weigh.
const BYTES_MAX: usize = 2 << 20;

/// The page of a report, after the checks that hold for every page.
fn page(report: &Report) -> String {
    let page = html(report).unwrap();
    let parsed = Html::parse_document(&page);
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    for svg in drawings(&page) {
        Document::parse(svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
    }
    for foreign in ["http://", "https://", " src=", "@import", "url(", "<script", "<link"] {
        assert!(!page.contains(foreign), "{foreign} in the page");
    }
    for broken in ["NaN", "inf\"", "inf ", "=\"-inf"] {
        assert!(!drawings(&page).any(|svg| svg.contains(broken)), "{broken} in a drawing");
    }
    assert!(page.len() < BYTES_MAX, "{} bytes", page.len());
    page
}

fn drawings(page: &str) -> impl Iterator<Item = &str> {
    page.split("<svg").skip(1).map(|rest| {
        let begin = rest.as_ptr() as usize - page.as_ptr() as usize - "<svg".len();
        let end = begin + "<svg".len() + rest.find("</svg>").expect("every drawing ends") + "</svg>".len();
        &page[begin..end]
    })
}

/// The text of all elements that a selector finds.
fn texts(page: &str, selector: &str) -> Vec<String> {
    let selector = Selector::parse(selector).unwrap();
    Html::parse_document(page).select(&selector).map(|element| element.text().collect()).collect()
}

fn count(page: &str, selector: &str) -> usize {
    texts(page, selector).len()
}

#[test]
fn everything_of_the_report_is_in_the_page() {
    let report = report();
    let page = page(&report);
    let all = texts(&page, "body").concat();
    let names = report.summaries.iter().map(|summary| summary.allocator.as_str());
    let phases = report.summaries.iter().flat_map(|summary| summary.waits.iter().map(|wait| wait.phase.as_str()));
    let kinds = report.runs[0].record.canaries.iter().map(|canary| canary.kind.as_str());
    let figures = report.runs[0].record.figures.iter().map(|figure| figure.name.as_str());
    let goals = report.targets.iter().map(|target| target.goal.as_str());
    let notes = report.runs[0].record.notes.iter().map(String::as_str);
    let machine = [report.headline.as_str(), &report.machine.kernel, &report.machine.cpu_model, &report.machine.rustc];
    for wanted in names.chain(phases).chain(kinds).chain(figures).chain(goals).chain(notes).chain(machine) {
        assert!(all.contains(wanted), "{wanted} is not in the page");
    }
    assert_eq!(texts(&page, "h1"), [report.headline]);
    assert_eq!(count(&page, "ul.targets > li"), report.targets.len());
}

#[test]
fn every_allocator_is_drawn_in_every_plot() {
    let page = page(&report());
    let kinds = 5;
    assert_eq!(count(&page, ".timelines path.area"), kinds * PROFILES.len());
    assert_eq!(count(&page, ".timelines text.name"), kinds * PROFILES.len());
    assert_eq!(count(&page, "#memory path.curve"), PROFILES.len());
    assert_eq!(count(&page, "#memory text.label"), PROFILES.len());
    assert_eq!(count(&page, "#holds figure"), PROFILES.len());
    assert_eq!(count(&page, ".legend input[checked]"), PROFILES.len());
    assert_eq!(count(&page, "g[id^=holds-]"), PROFILES.len(), "each strip is stored once");
    assert_eq!(count(&page, "use"), (kinds - 1) * PROFILES.len(), "and referred to elsewhere");
    assert!(count(&page, "#distribution path.curve") >= 4 * kinds * PROFILES.len());
}

#[test]
fn holds_say_who_and_what_and_waits_say_for_whom() {
    let page = page(&report());
    let told = texts(&page, "g[id^=holds-] title");
    assert!(told.iter().any(|title| title.contains("giver-back: munmap of") && title.contains("write hold of")));
    let rows = texts(&page, "#longest tbody tr");
    assert!(rows.iter().any(|row| row.contains("write hold") && row.contains("canary-fault (")), "whom it made wait");
    assert!(rows.iter().any(|row| row.contains("read wait") && row.contains("giver-back, munmap of")), "who is blamed");
}

#[test]
fn drawings_have_names_and_tables_have_headings() {
    let page = page(&report());
    let unnamed = "svg:not([aria-label]):not([aria-hidden])";
    assert_eq!(count(&page, unnamed), 0);
    assert_eq!(count(&page, "th:not([scope])"), 0);
    assert_eq!(count(&page, "table"), count(&page, ".scroll > table"), "no table widens the page");
    assert_eq!(count(&page, "meta[name=viewport]"), 1);
}

#[test]
fn light_and_dark_define_the_same_colours() {
    let page = page(&report());
    let style = texts(&page, "style").concat();
    let (light, dark) = style.split_once("@media (prefers-color-scheme: dark)").expect("both are defined");
    let dark = dark.split_once("\n}").expect("the block ends").0;
    let names = |css: &str| {
        let declared = css.split([';', '{']).filter_map(|rule| rule.trim().strip_prefix("--")?.split_once(": #"));
        declared.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(light), names(dark));
    assert!(names(light).iter().filter(|name| name.starts_with('c')).count() == 10);
}

#[test]
fn names_are_shown_as_they_are() {
    let mut run = run(PROFILES[0], 1, true);
    run.record.allocator = NASTY.to_owned();
    run.record.spans[2].phase = NASTY.to_owned();
    run.record.canaries[0].kind = NASTY.to_owned();
    run.record.notes.push(NASTY.to_owned());
    run.locks.as_mut().unwrap().kept[0].thread = NASTY.to_owned();
    run.locks.as_mut().unwrap().kept[0].duration_ns = 1_000_000_000;
    let page = page(&finish(vec![run], Some(NASTY.to_owned())));
    assert_eq!(count(&page, "[onclick]"), 0);
    assert!(texts(&page, "text.name").iter().all(|name| name == NASTY));
    assert!(texts(&page, "#longest td").contains(&NASTY.to_owned()));
}

#[test]
fn one_allocator_untraced_is_a_page_that_says_so() {
    let page = page(&report_of(&PROFILES[2..3], false));
    assert!(texts(&page, "#unmeasured").concat().contains("mmap_lock was not traced: perf events need CAP_PERFMON"));
    assert_eq!((count(&page, "#holds"), count(&page, "#longest")), (0, 0));
    assert_eq!(count(&page, ".bars .row"), 1);
}

#[test]
fn a_child_that_measured_nothing_breaks_nothing() {
    let mut empty = run(PROFILES[0], 1, false);
    empty.record.canaries.clear();
    empty.record.spans.clear();
    empty.record.figures.clear();
    empty.rss.clear();
    let alone = page(&finish(vec![empty.clone()], None));
    assert!(texts(&alone, "#unmeasured").concat().contains("resident memory was not sampled"));
    let beside = page(&finish(vec![empty, run(PROFILES[1], 1, true)], None));
    assert_eq!(count(&beside, ".bars .row"), 1);
    assert_eq!(count(&beside, "#figures tbody tr"), 2);
}

#[test]
fn nothing_and_half_an_hour_are_both_drawn() {
    let mut run = run(PROFILES[0], 1, true);
    let half_hour_ns = 1_800_000_000_000;
    for (index, canary) in run.record.canaries.iter_mut().enumerate() {
        let longest_ns = if index == 0 { half_hour_ns } else { 0 };
        canary.timeline.worst_ns = vec![0, longest_ns, 0];
        for phase in &mut canary.phases {
            phase.latency.worst_ns = longest_ns;
            phase.latency.histogram = vec![(longest_ns, 1)];
        }
    }
    run.record.spans[2].end_ns = half_hour_ns;
    run.record.spans[3].start_ns = 0;
    run.record.spans[3].end_ns = 0;
    run.rss.iter_mut().for_each(|sample| sample.rss_kib = 0);
    run.locks.as_mut().unwrap().kept[0].duration_ns = half_hour_ns;
    run.locks.as_mut().unwrap().kept[1].duration_ns = 0;
    let page = page(&finish(vec![run], None));
    assert!(texts(&page, ".bars .value").concat().contains("1800.00 s"));
    assert_eq!(count(&page, ".timelines path.area"), 1, "what felt nothing has no panel");
}

#[test]
fn the_round_of_median_length_is_drawn() {
    let mut runs: Vec<_> = (1..=3).map(|round| run(PROFILES[0], round, false)).collect();
    runs[0].record.spans[2].end_ns += 900_000_000;
    runs[1].record.spans[2].end_ns -= 300_000_000;
    let page = page(&finish(runs, None));
    assert!(texts(&page, ".timelines text.note").contains(&"round 3".to_owned()));
    assert!(!texts(&page, ".timelines text.note").contains(&"round 1".to_owned()));
    assert!(
        texts(&page, ".timelines").concat().contains("seconds from the beginning of “doubling”"),
        "not of the fill"
    );
}
