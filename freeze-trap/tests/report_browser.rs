//! The page in a real browser: that it is drawn and does not overflow a desktop or a phone, in both themes, and that
//! the script of the flame graphs does what it should, with a pointer and with keys.

mod report_sample;

use std::fs;
use std::path::Path;

use freeze_trap::freeze::Cause;
use freeze_trap::report;
use report_page::browser::{Browser, VIEWS, View};
use scraper::Selector;
use serde_json::Value;

/// Measures, with everything unfolded, and uses the first flame graph.
const PROBE: &str = r##"
const errors = [];
addEventListener("error", event => errors.push(String(event.message)));
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(details => details.open = true);
  const style = selector => getComputedStyle(document.querySelector(selector));
  const boxes = [...document.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
  const svg = document.querySelector("svg.flame");
  const tiles = [...svg.querySelectorAll("g.tile")];
  const width = tile => Number(tile.querySelector("rect").getAttribute("width"));
  const press = key => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const [root, first] = tiles;
  const widths = [width(first)];
  first.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  widths.push(width(first));
  const away = svg.querySelectorAll(".away").length;
  root.focus();
  press("Escape");
  widths.push(width(first));
  press("ArrowUp");
  const focused = document.activeElement.dataset.name;
  press("ArrowRight");
  const beside = document.activeElement.dataset.name;
  window.prompt = () => "rwsem";
  svg.querySelector(".search").dispatchEvent(new MouseEvent("click", { bubbles: true }));
  parent.postMessage(JSON.stringify({
    width: innerWidth,
    overflow: document.documentElement.scrollWidth - innerWidth,
    empty: boxes.filter(box => box.width <= 0 || box.height <= 0).length,
    paper: style("body").backgroundColor,
    ink: style("body").color,
    hold: style("rect.hold.write").fill,
    kernel: style(".tile.kernel rect").fill,
    smallest: Math.min(...[...document.querySelectorAll("svg text")].filter(text => text.textContent).map(text =>
      parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getScreenCTM().a)),
    live: document.querySelectorAll("svg.flame.live").length,
    widths, away, focused, beside,
    found: svg.querySelectorAll(".found").length,
    detail: svg.querySelector(".detail").textContent,
    errors,
  }), "*");
});
"##;

#[test]
fn the_page_is_drawn_and_used_on_desktop_and_phone() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("freeze-page");
    let Some(browser) = Browser::find(folder) else { return };
    let page = report::page(&report_sample::freeze(Cause::MmapLock));
    let policy = page.split_once("content=\"default-src").expect("the page has a policy").1;
    let policy = format!("default-src{}", policy.split_once('"').expect("an attribute has an end").0);
    let seen = VIEWS.map(|view| look(&browser, view, &page, &policy));
    assert_ne!(seen[0]["paper"], seen[1]["paper"], "light and dark differ");
    assert_ne!(seen[0]["hold"], seen[1]["hold"], "and so do the plots' colours");
    let allowed = browser.document(VIEWS[0], &browser.path("page.html"));
    let live = Selector::parse("svg.flame.live").unwrap();
    assert_eq!(allowed.select(&live).count(), 2, "the policy lets the page's own script run");
    let svg = browser.path("flame.svg");
    fs::write(&svg, report::flame(&report_sample::freeze(Cause::MmapLock), report::Kind::OffCpu)).unwrap();
    let alone = browser.document(VIEWS[0], &svg);
    assert_eq!(alone.select(&live).count(), 1, "the script runs in a file of its own");
}

/// Takes a picture of the page, and checks the facts of its copy.
fn look(browser: &Browser, view: View, page: &str, policy: &str) -> Value {
    let facts = browser.look(view, page, policy, PROBE);
    let about = format!("{}: {facts}", view.name);
    assert_eq!(facts["width"], view.width, "{about}");
    assert!(facts["overflow"].as_i64().unwrap() <= 0, "{about}");
    assert_eq!(facts["empty"], 0, "{about}");
    assert_eq!(facts["errors"], Value::Array(Vec::new()), "{about}");
    assert_ne!(facts["paper"], facts["ink"], "{about}");
    assert_ne!(facts["kernel"], "rgb(0, 0, 0)", "{about}");
    assert!(facts["smallest"].as_f64().unwrap() > 7.0, "{about}");
    assert_eq!(facts["live"], 2, "{about}");
    let width = |index: usize| facts["widths"][index].as_f64().unwrap();
    assert!(width(1) > 1.05 * width(0) && (width(2) - width(0)).abs() < 0.1, "zoomed and back: {about}");
    assert!(facts["away"].as_u64().unwrap() >= 5, "{about}");
    assert_ne!(facts["focused"], facts["beside"], "arrow keys move: {about}");
    assert_eq!(facts["found"], 1, "{about}");
    assert!(facts["detail"].as_str().unwrap().starts_with("1 found, with "), "{about}");
    facts
}
