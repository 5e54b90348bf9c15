//! The outputs that are drawn: flame graphs and the page. That they are complete, well-formed, and need nothing but
//! themselves, also for odd freezes.

mod report_sample;

use freeze_trap::event::Sleep;
use freeze_trap::freeze::{Cause, Freeze, SpanKind};
use freeze_trap::report;
use freeze_trap::report::Kind;
use report_sample::{CAUSES, NASTY, freeze, nasty, thread};
use roxmltree::{Document, Node};
use scraper::{Html, Selector};

const KINDS: [Kind; 2] = [Kind::OffCpu, Kind::LockWait];
/// The only address of anything: the name of SVG itself.
const SVG: &str = "http://www.w3.org/2000/svg";

/// What must not be in a page that needs nothing but itself.
fn assert_alone(text: &str) {
    for foreign in ["://", " src=", "@import", "url(", "<link", "fetch(", "XMLHttpRequest"] {
        assert!(!text.contains(foreign), "{foreign} is in it");
    }
}

/// A page, after the checks that hold for every page.
fn page(freeze: &Freeze) -> String {
    let page = report::page(freeze);
    let parsed = Html::parse_document(&page);
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    assert_alone(&page.replace("http://127.0.0.1:", ""));
    assert!(page.chars().all(|one| one == '\n' || !one.is_control()));
    for drawing in drawings(&page) {
        let document = Document::parse(drawing).unwrap_or_else(|error| panic!("{error}: {drawing}"));
        assert_inside(&document);
    }
    page
}

fn drawings(page: &str) -> impl Iterator<Item = &str> {
    page.match_indices("<svg").map(|(begin, _)| {
        let length = page[begin..].find("</svg>").expect("every drawing ends");
        &page[begin..begin + length + "</svg>".len()]
    })
}

fn number(node: Node<'_, '_>, name: &str) -> f64 {
    let told = node.attribute(name).unwrap_or_else(|| panic!("{node:?} has no {name}"));
    told.parse().unwrap_or_else(|error| panic!("{told}: {error}"))
}

/// No rectangle and no line leaves its drawing.
fn assert_inside(document: &Document<'_>) {
    let view = document.root_element().attribute("viewBox").expect("a drawing says how large it is");
    let size: Vec<f64> = view.split(' ').map(|part| part.parse().unwrap()).collect();
    for rect in
        document.descendants().filter(|node| node.has_tag_name("rect") && node.attribute("class") != Some("paper"))
    {
        let [x, y, width, height] = ["x", "y", "width", "height"].map(|name| number(rect, name));
        let inside = x >= 0.0 && y >= 0.0 && width >= 0.0 && x + width <= size[2] + 0.1 && y + height <= size[3] + 0.1;
        assert!(inside, "{x} {y} {width} {height} in {view}");
    }
    for line in document.descendants().filter(|node| node.has_tag_name("line")) {
        let inside = |name, most: f64| (0.0..=most).contains(&number(line, name));
        assert!(inside("x1", size[2]) && inside("x2", size[2]) && inside("y1", size[3]) && inside("y2", size[3]));
    }
}

/// The text of all elements that a selector finds.
fn texts(page: &str, selector: &str) -> Vec<String> {
    let selector = Selector::parse(selector).unwrap();
    Html::parse_document(page).select(&selector).map(|element| element.text().collect()).collect()
}

fn count(page: &str, selector: &str) -> usize {
    texts(page, selector).len()
}

/// A name as a document shows it.
fn shown(name: &str) -> String {
    name.replace(|one: char| one.is_control() && one != '\n', "\u{fffd}")
}

#[test]
fn flame_graphs_are_whole_files_in_which_widths_sum_up() {
    for freeze in CAUSES.map(freeze).into_iter().chain([nasty()]) {
        for kind in KINDS {
            let svg = report::flame(&freeze, kind);
            assert_alone(&svg.replace(SVG, "").replace("http://127.0.0.1:80", ""));
            let text = svg.split_once("?>").expect("a declaration").1;
            let document = Document::parse(text).unwrap_or_else(|error| panic!("{error}: {svg}"));
            assert_inside(&document);
            let tiles: Vec<_> = document.descendants().filter(|node| node.tag_name().name() == "g").collect();
            let rect = |tile: &Node<'_, '_>| {
                let rect = tile.children().find(|node| node.tag_name().name() == "rect").expect("a tile is drawn");
                ["x", "y", "width"].map(|name| number(rect, name))
            };
            let Some(root) = tiles.first().map(rect) else { continue };
            let row: f64 = tiles.iter().map(rect).filter(|tile| tile[1] == root[1] - 18.0).map(|tile| tile[2]).sum();
            assert!((row - root[2]).abs() < 0.1, "threads take {row} of {}", root[2]);
            for tile in &tiles {
                let title = tile.first_element_child().filter(|title| title.tag_name().name() == "title");
                assert!(title.and_then(|title| title.text()).is_some_and(|text| text.contains(" %")));
            }
        }
    }
}

#[test]
fn flame_graphs_tell_threads_program_kernel_and_locks_apart() {
    let svg = report::flame(&freeze(Cause::MmapLock), Kind::OffCpu);
    let document = Document::parse(svg.split_once("?>").unwrap().1).unwrap();
    let classes = |name: &str| {
        let tile = document.descendants().find(|node| node.attribute("data-name") == Some(name));
        tile.and_then(|tile| tile.attribute("class")).unwrap_or_else(|| panic!("{name} is not drawn"))
    };
    let told = ["all", "worker-*", "start_thread", "schedule", "rwsem_down_read_slowpath"].map(classes);
    assert_eq!(told, ["tile root", "tile thread", "tile user", "tile kernel", "tile lock"]);
    assert_eq!(classes("<index::Map<K, V> as index::Lookup>::get"), "tile inlined");
    let waits = report::flame(&freeze(Cause::MmapLock), Kind::LockWait);
    for part in
        ["4107 (rebuild)", "index::grow", "__vm_munmap", "worker-3 waited", "900 (node_exporter, another process)"]
    {
        assert!(waits.contains(&format!("data-name=\"{part}\"")), "{part} is not drawn");
    }
}

#[test]
fn nobody_to_blame_is_an_empty_flame_graph() {
    let svg = report::flame(&freeze(Cause::Disk), Kind::LockWait);
    assert!(svg.contains("nothing was seen") && !svg.contains("class=\"tile"));
}

#[test]
fn everything_is_in_the_page() {
    for freeze in CAUSES.map(freeze) {
        let page = page(&freeze);
        let all = texts(&page, "body").concat();
        let machine = &freeze.machine;
        let named =
            [&freeze.sentence, &freeze.trigger.probe, &freeze.trigger.found, &freeze.seen.source, &machine.kernel];
        let missing = freeze.seen.missing.iter();
        let functions = freeze.off_cpu.iter().flat_map(|place| place.stack.user.iter().chain(&place.stack.kernel));
        let functions = functions.map(|frame| &frame.function);
        let doing = freeze.pairs.iter().map(|pair| &pair.doing);
        for wanted in named.into_iter().chain(missing).chain(functions).chain(doing) {
            assert!(all.contains(wanted), "{wanted} is not in the page");
        }
        assert_eq!(texts(&page, "h1"), [freeze.sentence.as_str()]);
        assert_eq!(count(&page, "#blocked tbody tr"), freeze.blocked.len());
        assert_eq!(count(&page, "#pairs tbody tr"), freeze.pairs.len());
        assert_eq!(count(&page, "#probes tbody tr"), freeze.probes.len());
        assert_eq!(count(&page, "#locks figure"), 2);
    }
}

#[test]
fn the_time_line_shows_threads_failures_and_moments() {
    let page = page(&freeze(Cause::MmapLock));
    assert_eq!(count(&page, "#time svg"), 2, "the frozen time from near, and all of it");
    let names = texts(&page, "#time svg:first-of-type text.name");
    assert!(names.iter().any(|name| name.starts_with("4107 (rebuild)")), "{names:?}");
    let titles = texts(&page, "#time rect title");
    for part in ["4107 (rebuild) held mmap_lock for writing, munmap of 1.7 GB, 2.3 s, at -1.200 s", "another process"] {
        assert!(titles.iter().any(|title| title.contains(part)), "{part} is not among {titles:?}");
    }
    assert_eq!(count(&page, "#time line.moment"), 6);
    let failed = texts(&page, "#time g.failed title");
    assert!(!failed.is_empty() && failed.iter().all(|title| title.contains("no answer within 500 ms")));
    assert!(count(&page, "#time g.answer:not(.failed)") > 40);
    for kind in ["rect.hold.write", "rect.hold.read", "rect.wait.read", "rect.off"] {
        assert!(count(&page, &format!("#time {kind}")) > 0, "no {kind}");
    }
}

/// All spans and answers are drawn between the plot's left and right ends.
#[test]
fn what_leaves_the_window_is_cut_at_its_edge() {
    let mut freeze = freeze(Cause::MmapLock);
    freeze.intervals[0].start_ns = 0;
    freeze.intervals[1].end_ns = u64::MAX;
    freeze.window.recovered_ns = None;
    freeze.probes[0].points.push((freeze.window.end_ns - 1, 40_000_000_000, Some("no answer".to_owned())));
    freeze.probes[0].points.push((u64::MAX, 1, None));
    let page = page(&freeze);
    assert_eq!(count(&page, "#time line.moment"), 4, "it never recovered");
    for drawing in drawings(&page).take(2) {
        let document = Document::parse(drawing).unwrap();
        for rect in document.descendants().filter(|node| node.has_tag_name("rect")) {
            let (x, width) = (number(rect, "x"), number(rect, "width"));
            assert!(x >= 190.0 && x + width <= 892.1, "{x} {width}");
        }
    }
}

#[test]
fn names_are_shown_as_they_are() {
    let page = page(&nasty());
    assert_eq!((count(&page, "[onclick]"), count(&page, "b")), (0, 0));
    assert_eq!(texts(&page, "h1"), [shown(NASTY)]);
    assert!(texts(&page, "ol.stack code").iter().all(|name| *name == shown(NASTY)));
    for kind in KINDS {
        let svg = report::flame(&nasty(), kind);
        let document = Document::parse(svg.split_once("?>").unwrap().1).unwrap();
        assert!(document.descendants().all(|node| node.attribute("onclick").is_none()));
    }
}

#[test]
fn little_and_much_are_both_a_page() {
    let mut empty = freeze(Cause::Unknown);
    (empty.blocked, empty.pairs, empty.off_cpu, empty.intervals) = (vec![], vec![], vec![], vec![]);
    (empty.memory, empty.probes, empty.lock) = (vec![], vec![], None);
    (empty.window.frozen_ns, empty.window.recovered_ns) = (empty.window.end_ns, Some(0));
    assert_eq!(count(&page(&empty), "main section"), 3, "the time line, how it was seen, the machine");

    let mut much = freeze(Cause::MmapLock);
    let pair = much.pairs[0].clone();
    for tid in 0..300 {
        much.pairs.push(freeze_trap::freeze::Pair { waiter: thread(5000 + tid, "many"), ..pair.clone() });
        let mut span = much.intervals[0].clone();
        (span.thread, span.what) = (thread(5000 + tid, "many"), SpanKind::OffCpu(Sleep::Runnable));
        much.blocked.push(freeze_trap::freeze::Blocked { thread: span.thread.clone(), ..much.blocked[0].clone() });
        much.intervals.extend((0..100).map(|_| span.clone()));
    }
    let page = page(&much);
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    assert!(
        texts(&page, "#pairs .note").concat().contains("more") && texts(&page, "#time .note").concat().contains("more")
    );
}

#[test]
fn drawings_have_names_and_tables_have_headings() {
    let page = page(&freeze(Cause::MmapLock));
    assert_eq!(count(&page, "svg:not([aria-label])"), 0);
    assert_eq!(count(&page, "th:not([scope])"), 0);
    assert_eq!(count(&page, "table"), count(&page, ".scroll > table"), "no table widens the page");
    assert_eq!(count(&page, ".scroll:not([tabindex])"), 0, "what is scrolled can be scrolled by keys");
    assert_eq!(count(&page, "script"), 1);
    assert_eq!(count(&page, "meta[name=viewport]"), 1);
}
