//! A unit of systemd: its cgroup, asked of systemd, or looked for below the places where cgroups are mounted.
//!
//! Invariant: a unit that is stopped has no processes and is looked for again, though not at every call, so that a
//! start is noticed. But for the first time, that is done on a thread of its own: systemd may take long to answer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::cgroup::{Group, mounts};
use crate::probe::{Ended, run};

/// How often a unit without a cgroup is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long systemd may take for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// How deep units lie below a mount: `user.slice/user-0.slice/user@0.service/app.slice/a.service` and some more.
const DEPTH_MAX: u32 = 8;

/// What names of units end in (systemd.unit(5)), as far as units have processes.
const SUFFIXES: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];

/// What the others end in.
const WITHOUT_PROCESSES: [&str; 5] = [".target", ".timer", ".path", ".device", ".automount"];

/// How a unit's cgroup is looked for.
type Find = fn(&str) -> Result<Option<Group>>;

/// Such a unit.
#[derive(Debug)]
pub(super) struct Unit {
    name: String,
    group: Option<Group>,
    looked: Instant,
    find: Find,
    /// Where the answer comes from while somebody looks.
    answer: Option<Receiver<Option<Group>>>,
}

/// The name with a suffix.
pub(super) fn full_name(name: &str) -> String {
    let complete = SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    if complete { name.to_owned() } else { format!("{name}.service") }
}

/// What systemd says of a unit.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Its cgroup's path.
    Runs(PathBuf),
    /// It has no cgroup now.
    Stopped,
    /// There is no such unit.
    Unknown,
    /// Nothing: it does not run here, or cannot be asked.
    Nothing,
}

/// Understands `systemctl show -p LoadState -p ControlGroup`.
fn understand(text: &str) -> Answer {
    let value = |name| text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
    match (value("LoadState"), value("ControlGroup")) {
        (_, Some(path)) if path.starts_with('/') => Answer::Runs(PathBuf::from(path)),
        (Some("not-found"), _) => Answer::Unknown,
        (Some(_), _) => Answer::Stopped,
        (None, _) => Answer::Nothing,
    }
}

fn ask_systemd(name: &str) -> Answer {
    let mut command = Command::new("systemctl");
    command.args(["show", "-p", "LoadState", "-p", "ControlGroup", "--", name]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    match run(&mut command, Instant::now() + ANSWER_WAIT) {
        Ok(Ended::Exit(status, text)) if status.success() => understand(&text),
        _ => Answer::Nothing,
    }
}

/// A directory of that name below another one.
fn search(directory: &Path, name: &str, depth: u32) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).ok()?;
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let below: Vec<_> = directories.map(|entry| entry.path()).collect();
    let found = below.iter().find(|path| path.file_name().is_some_and(|own| own == name));
    match found {
        Some(found) => Some(found.clone()),
        None if depth == 0 => None,
        None => below.iter().find_map(|path| search(path, name, depth - 1)),
    }
}

/// The cgroup of a unit, if it has one.
fn find(name: &str) -> Result<Option<Group>> {
    match ask_systemd(name) {
        Answer::Runs(path) => Ok(Group::find(&path)),
        Answer::Stopped => Ok(None),
        Answer::Unknown => bail!(
            "systemd knows no unit {name}; `systemctl list-units` lists those that run; one of a user's own systemd is \
             watched by --cgroup, with the path that `systemctl --user show -p ControlGroup {name}` tells"
        ),
        Answer::Nothing => {
            let mounts = mounts();
            let mut of_systemd = mounts.iter().filter(|mount| mount.is_of_systemd());
            let found = of_systemd.find_map(|mount| search(mount.directory(), name, DEPTH_MAX));
            Ok(found.and_then(|path| Group::find(&path)))
        }
    }
}

/// Refuses what is no name of a unit, and of one that never has processes.
fn require_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains('/') {
        bail!("`{name}` is no name of a unit; write one like `nginx.service`, or `nginx` for short");
    }
    if WITHOUT_PROCESSES.iter().any(|suffix| name.ends_with(suffix)) {
        bail!("units like {name} have no processes; give the service that it starts");
    }
    let full = full_name(name);
    if let Some((template, suffix)) = full.rsplit_once('.').filter(|(before, _)| before.ends_with('@')) {
        bail!("{full} is a template, which never runs; give one of its instances, like {template}NAME.{suffix}");
    }
    Ok(())
}

impl Unit {
    /// Looks for a unit.
    pub(super) fn open(name: &str) -> Result<Self> {
        require_name(name)?;
        let name = full_name(name);
        let group = find(&name)?;
        Ok(Unit { name, group, looked: Instant::now(), find, answer: None })
    }

    /// What to tell the user while it does not run, as far as can be seen.
    pub(super) fn awaited(&self) -> Option<String> {
        self.group.is_none().then(|| format!("no cgroup of unit {} is there yet: it is waited for", self.name))
    }

    pub(super) fn processes(&mut self) -> Result<BTreeSet<i32>> {
        if self.group.as_ref().is_some_and(|group| !group.is_there()) {
            self.group = None;
        }
        if self.group.is_none() {
            self.look();
        }
        self.group.as_ref().map_or_else(|| Ok(BTreeSet::new()), Group::processes)
    }

    /// Takes the answer if it has come; sends somebody to look if it is time to.
    fn look(&mut self) {
        match self.answer.as_ref().map(Receiver::try_recv) {
            Some(Ok(found)) => (self.group, self.answer) = (found, None),
            Some(Err(TryRecvError::Empty)) => {}
            Some(Err(TryRecvError::Disconnected)) => self.answer = None,
            None if self.looked.elapsed() < LOOK_EVERY => {}
            None => {
                self.looked = Instant::now();
                let (sender, answer) = sync_channel(1);
                let (find, name) = (self.find, self.name.clone());
                // A unit whose file is being replaced may be unknown for a moment. Who has asked may be gone.
                let look = move || drop(sender.send(find(&name).unwrap_or(None)));
                // Without a thread it is tried again.
                self.answer = thread::Builder::new().name("unit".into()).spawn(look).ok().map(|_| answer);
            }
        }
    }

    /// Directories of its cgroup, and of those below that have processes, if it has one.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        self.group.as_ref().map_or_else(Vec::new, Group::directories)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn names_of_units_are_completed() {
        for (name, full) in [("nginx", "nginx.service"), ("a.service", "a.service"), ("b@1", "b@1.service")] {
            assert_eq!(full_name(name), full);
        }
        assert_eq!(full_name("run-7.scope"), "run-7.scope");
    }

    #[test]
    fn what_systemd_says_is_understood() {
        let runs = Answer::Runs("/system.slice/a.service".into());
        for (text, answer) in [
            ("LoadState=loaded\nControlGroup=/system.slice/a.service", runs),
            ("ControlGroup=\nLoadState=loaded\n", Answer::Stopped),
            ("LoadState=not-found\nControlGroup=\n", Answer::Unknown),
            ("", Answer::Nothing),
        ] {
            assert_eq!(understand(text), answer, "{text}");
        }
    }

    #[test]
    fn nobody_waits_for_systemd() {
        static MAY_ANSWER: Mutex<()> = Mutex::new(());
        // Acquire and release: what is counted is read by another thread.
        static ANSWERS: AtomicUsize = AtomicUsize::new(0);
        fn answers_late(_: &str) -> Result<Option<Group>> {
            let begun = Instant::now();
            // Were it called by who holds this, it would come back in the end, and be counted.
            while MAY_ANSWER.try_lock().is_err() && begun.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(5));
            }
            ANSWERS.fetch_add(1, Ordering::Release);
            Ok(Group::find(Path::new("/")))
        }
        let Some(before) = Instant::now().checked_sub(LOOK_EVERY) else { return };
        let mut unit = Unit { name: "a.service".into(), group: None, looked: before, find: answers_late, answer: None };
        let closed = MAY_ANSWER.lock().unwrap();
        for _ in 0..3 {
            assert!(unit.processes().unwrap().is_empty());
        }
        assert_eq!(ANSWERS.load(Ordering::Acquire), 0, "it was waited for");
        drop(closed);
        let begun = Instant::now();
        while ANSWERS.load(Ordering::Acquire) == 0 || unit.answer.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the answer is not taken");
            let _ = unit.processes();
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(unit.group.is_some(), Group::find(Path::new("/")).is_some());
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        let wrong = [
            ("", "nginx.service"),
            ("a/b", "nginx.service"),
            ("a.timer", "have no processes"),
            ("multi-user.target", "have no processes"),
            ("getty@.service", "like getty@NAME.service"),
            ("getty@", "like getty@NAME.service"),
        ];
        for (name, why) in wrong {
            let error = Unit::open(name).unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
    }
}
