//! The report page in a real browser: that it is drawn, and does not overflow a desktop or a phone, in both themes.

mod page_sample;

use std::path::Path;

use report_page::browser::{Browser, VIEWS, View};
use serde_json::Value;

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Measures, with everything unfolded.
const PROBE: &str = r##"
const errors = [];
addEventListener("error", event => errors.push(String(event.message)));
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(details => details.open = true);
  const root = document.documentElement;
  const empty = [...document.querySelectorAll("svg")].filter(svg => {
    const box = svg.getBoundingClientRect();
    return box.width <= 0 || box.height <= 0;
  });
  const style = selector => getComputedStyle(document.querySelector(selector));
  const hidden = (selector, box) => {
    box.checked = false;
    const is_hidden = getComputedStyle(document.querySelector(selector)).display == "none";
    box.checked = true;
    return is_hidden;
  };
  const facts = {
    width: innerWidth,
    overflow: root.scrollWidth - innerWidth,
    drawings: document.querySelectorAll("svg").length,
    empty: empty.length,
    paper: style("body").backgroundColor,
    ink: style("body").color,
    curve: style("#memory path.curve").stroke,
    strip: style("rect.hold").fill,
    hides: hidden(".timelines svg", document.querySelector(".legend input")),
    smallest: Math.min(...[...document.querySelectorAll("svg text")].map(text =>
      parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getScreenCTM().a)),
    errors: errors,
  };
  parent.postMessage(JSON.stringify(facts), "*");
});
"##;

#[test]
fn the_page_is_drawn_without_overflow_on_desktop_and_phone() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-page");
    let Some(browser) = Browser::find(folder) else { return };
    let page = stress::page::html(&page_sample::report()).unwrap();
    let seen = VIEWS.map(|view| look(&browser, view, &page));
    assert_ne!(seen[0]["paper"], seen[1]["paper"], "light and dark differ");
    assert_ne!(seen[0]["curve"], seen[1]["curve"], "and so do the plots' colours");
}

/// Takes a picture of the page, and checks the facts of its copy.
fn look(browser: &Browser, view: View, page: &str) -> Value {
    let facts = browser.look(view, page, POLICY, PROBE);
    let about = format!("{}: {facts}", view.name);
    assert_eq!(facts["width"], view.width, "{about}");
    assert!(facts["overflow"].as_i64().unwrap() <= 0, "{about}");
    assert!(facts["drawings"].as_u64().unwrap() > 80, "{about}");
    assert_eq!(facts["empty"], 0, "{about}");
    assert_eq!(facts["errors"], serde_json::json!([]), "{about}");
    assert_eq!(facts["hides"], true, "a box that is not checked hides what it names; {about}");
    assert_ne!(facts["strip"], "rgb(0, 0, 0)", "{about}");
    assert_ne!(facts["paper"], facts["ink"], "{about}");
    assert!(facts["smallest"].as_f64().unwrap() >= 9.0, "text that nobody can read; {about}");
    facts
}
