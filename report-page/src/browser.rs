//! A real browser that looks at a page, for tests: in windows of several widths, light and dark.
//!
//! A copy of the page gets a script that measures what was drawn, and posts that as JSON to the page around it, which
//! the browser prints. Chromium or Chrome in `PATH`, or what `REPORT_BROWSER` names.
//!
//! # Panics
//! Everything in here panics, saying why, where the browser does not do what it is asked for.

use std::env;
use std::fs;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use scraper::{Html, Selector};
use serde_json::Value;
use test_support::skip;

/// Names under which a browser may be installed.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// After so long the browser is taken to hang.
const DEADLINE: Duration = Duration::from_secs(180);

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
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// What the files that it leaves are called.
    pub name: &'static str,
    /// Pixels of its width.
    pub width: u64,
    /// Whether the reader likes it dark.
    pub is_dark: bool,
}

/// A desktop and a phone, each light and dark. The first two differ in their theme alone.
pub const VIEWS: [View; 4] = [
    View { name: "desktop-light", width: 1280, is_dark: false },
    View { name: "desktop-dark", width: 1280, is_dark: true },
    View { name: "phone-light", width: 360, is_dark: false },
    View { name: "phone-dark", width: 360, is_dark: true },
];

/// A browser with a folder for what it leaves.
#[derive(Debug)]
pub struct Browser {
    program: PathBuf,
    folder: PathBuf,
}

impl Browser {
    /// The browser of this machine, if there is one; otherwise says that the test is skipped. `folder` is made.
    #[must_use]
    pub fn find(folder: PathBuf) -> Option<Browser> {
        let Some(program) = installed() else {
            skip("no browser found; install chromium, or name one by REPORT_BROWSER");
            return None;
        };
        fs::create_dir_all(&folder).expect("a folder can be made below the one for tests");
        Some(Browser { program, folder })
    }

    /// Where a file of this name lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the browser makes of a file: its document, when all scripts have run.
    #[must_use]
    pub fn document(&self, view: View, page: &Path) -> Html {
        Html::parse_document(&self.run(view, "--dump-dom", page))
    }

    /// Takes a picture of `page`, and asks `probe`, a script without its tags, what is drawn of the page when `policy`,
    /// which is in the page, does not keep it from running.
    #[must_use]
    pub fn look(&self, view: View, page: &str, policy: &str, probe: &str) -> Value {
        let [plain, probed] = ["page.html", "probed.html"].map(|name| self.path(name));
        fs::write(&plain, page).expect("the folder can be written to");
        assert_eq!(page.matches(policy).count(), 1, "the page has its policy, and its copy must not");
        let copy = page.replace(policy, "").replace("</body>", &format!("<script>{probe}</script></body>"));
        fs::write(probed, copy).expect("the folder can be written to");
        let picture = self.path(&format!("{}.png", view.name));
        let _ = fs::remove_file(&picture);
        self.run(view, &format!("--screenshot={}", picture.display()), &plain);
        assert!(fs::metadata(&picture).is_ok_and(|file| file.len() > 10_000), "{} has no picture", view.name);
        let frame = self.path(&format!("frame-{}.html", view.name));
        fs::write(&frame, FRAME.replace("WIDTH", &view.width.to_string())).expect("the folder can be written to");
        let document = self.document(view, &frame);
        let selector = Selector::parse("#facts").expect("a selector");
        let facts = document.select(&selector).next().expect("the script ran to its end");
        serde_json::from_str(&facts.text().collect::<String>()).expect("the probe posts JSON")
    }

    /// What the browser prints.
    fn run(&self, view: View, what: &str, page: &Path) -> String {
        let profile = tempfile::tempdir_in(&self.folder).expect("a folder for the browser");
        let mut command = Command::new(&self.program);
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
        command.arg(format!("--window-size={},3000", view.width));
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(what).arg(page);
        output(command, view.name)
    }
}

fn installed() -> Option<PathBuf> {
    if let Some(named) = env::var_os("REPORT_BROWSER") {
        return Some(named.into());
    }
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH")?).collect();
    let programs = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    programs.into_iter().find(|program| program.is_file())
}

/// Runs a command to its end, or until it hangs, and returns what it printed.
fn output(mut command: Command, about: &str) -> String {
    let mut printed = tempfile::tempfile().expect("a file for what the browser prints");
    let theirs = printed.try_clone().expect("a second descriptor");
    let child = command.stdin(Stdio::null()).stdout(theirs).stderr(Stdio::null()).process_group(0).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status;
        }
        if begun.elapsed() > DEADLINE {
            // It has processes of its own.
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            let _ = child.wait();
            panic!("{about}: the browser hangs");
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{about}: {status}");
    let mut text = String::new();
    printed.rewind().and_then(|()| printed.read_to_string(&mut text)).expect("what was printed can be read");
    text
}
