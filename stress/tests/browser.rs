//! The report page in a real browser: that it is drawn, and does not overflow a desktop or a phone, in both themes.
//!
//! A copy of the page gets a script that measures what was drawn and tells the page around it, which the browser
//! prints. Needs Chromium or Chrome in `PATH`, or named by `STRESS_BROWSER`; skipped without.

mod page_sample;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use scraper::{Html, Selector};
use serde_json::Value;
use stress::process::{Ended, Running};

/// Names under which a browser may be installed.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
const LIMIT: Duration = Duration::from_secs(180);

/// Measures, with everything unfolded, and puts the result into the document.
const PROBE: &str = r##"<script>
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
</script>"##;

/// Shows the probed page in a frame, as a browser's window has a least width and a phone's is less, and writes down
/// what the probe says.
const FRAME: &str = r#"<!DOCTYPE html><html><head><meta charset="utf-8"><title>Frame</title><script>
addEventListener("message", event => {
  const out = document.createElement("script");
  out.type = "application/json";
  out.id = "facts";
  out.textContent = event.data;
  document.head.append(out);
});
</script></head><body><iframe src="probed.html" width="WIDTH" height="2000" style="border:0"></iframe></body></html>"#;

/// A window and a theme.
struct View {
    name: &'static str,
    width: u64,
    is_dark: bool,
}

const VIEWS: [View; 4] = [
    View { name: "desktop-light", width: 1280, is_dark: false },
    View { name: "desktop-dark", width: 1280, is_dark: true },
    View { name: "phone-light", width: 390, is_dark: false },
    View { name: "phone-dark", width: 390, is_dark: true },
];

#[test]
fn the_page_is_drawn_without_overflow_on_desktop_and_phone() {
    let Some(browser) = browser() else {
        let why = "skipped: no browser found; install chromium or name one by STRESS_BROWSER\n";
        std::io::stderr().write_all(why.as_bytes()).expect("standard error can be written");
        return;
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-page");
    fs::create_dir_all(&folder).unwrap();
    let page = stress::page::html(&page_sample::report()).unwrap();
    assert!(page.contains(POLICY), "the page forbids scripts, so its copy must not");
    let plain = folder.join("page.html");
    fs::write(&plain, &page).unwrap();
    fs::write(folder.join("probed.html"), page.replace(POLICY, "").replace("</body>", &format!("{PROBE}</body>")))
        .unwrap();
    let seen: Vec<_> = VIEWS.iter().map(|view| look(&browser, view, &folder, &plain)).collect();
    assert_ne!(seen[0]["paper"], seen[1]["paper"], "light and dark differ");
    assert_ne!(seen[0]["curve"], seen[1]["curve"], "and so do the plots' colours");
}

/// Takes a picture of the page, and checks the facts of its copy.
fn look(browser: &Path, view: &View, folder: &Path, plain: &Path) -> Value {
    let picture = folder.join(format!("{}.png", view.name));
    let _ = fs::remove_file(&picture);
    let mut screenshot = OsString::from("--screenshot=");
    screenshot.push(&picture);
    run(browser, view, folder, &[screenshot], plain);
    assert!(fs::metadata(&picture).is_ok_and(|file| file.len() > 10_000), "{} has no picture", view.name);
    let frame = folder.join(format!("frame-{}.html", view.name));
    fs::write(&frame, FRAME.replace("WIDTH", &view.width.to_string())).unwrap();
    let document = run(browser, view, folder, &["--dump-dom".into()], &frame);
    let facts = facts(&document);
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

fn facts(document: &str) -> Value {
    let parsed = Html::parse_document(document);
    let selector = Selector::parse("#facts").unwrap();
    let facts = parsed.select(&selector).next().expect("the script ran to its end");
    serde_json::from_str(&facts.text().collect::<String>()).unwrap()
}

/// What the browser prints for a page.
fn run(browser: &Path, view: &View, folder: &Path, what: &[OsString], page: &Path) -> String {
    let profile = tempfile::tempdir_in(folder).unwrap();
    let mut user_data = OsString::from("--user-data-dir=");
    user_data.push(profile.path());
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
    ]);
    let scheme = if view.is_dark { 0 } else { 1 };
    command.arg(format!("--blink-settings=preferredColorScheme={scheme}"));
    command.arg(format!("--window-size={},2000", view.width)).arg(user_data).args(what).arg(page);
    output(command, view.name)
}

fn browser() -> Option<PathBuf> {
    if let Some(named) = env::var_os("STRESS_BROWSER") {
        return Some(named.into());
    }
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH")?).collect();
    let programs = BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    programs.into_iter().find(|program| program.is_file())
}

/// Runs a command to its end, or until it hangs, and returns what it printed.
fn output(mut command: Command, about: &str) -> String {
    let mut printed = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    command.stdin(Stdio::null()).stdout(printed.try_clone().unwrap()).stderr(Stdio::null());
    let mut running = Running::start(&mut command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let ended = running.wait(&AtomicBool::new(false), LIMIT).unwrap();
    assert!(matches!(ended, Ended::Exited(status) if status.success()), "{about}: {ended:?}");
    let mut text = String::new();
    printed.rewind().unwrap();
    printed.read_to_string(&mut text).unwrap();
    text
}
