//! A unit of systemd: its cgroup, asked of systemd, or looked for below the places where cgroups are mounted.
//!
//! Invariant: a unit that is stopped has no processes and is looked for again, though not at every call, so that a
//! start is noticed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

/// Such a unit.
#[derive(Debug)]
pub(super) struct Unit {
    name: String,
    group: Option<Group>,
    looked: Instant,
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
        Answer::Runs(path) => Ok(Group::open(&path).ok()),
        Answer::Stopped => Ok(None),
        Answer::Unknown => bail!("systemd knows no unit {name}; `systemctl list-units` lists those that run"),
        Answer::Nothing => {
            let mounts = mounts();
            let mut of_systemd = mounts.iter().filter(|mount| mount.is_of_systemd());
            let found = of_systemd.find_map(|mount| search(mount.directory(), name, DEPTH_MAX));
            Ok(found.and_then(|path| Group::open(&path).ok()))
        }
    }
}

impl Unit {
    /// Looks for a unit.
    pub(super) fn open(name: &str) -> Result<Self> {
        if name.is_empty() || name.contains('/') {
            bail!("`{name}` is no name of a unit; write one like `nginx.service`, or `nginx` for short");
        }
        let name = full_name(name);
        let group = find(&name)?;
        Ok(Unit { name, group, looked: Instant::now() })
    }

    pub(super) fn processes(&mut self) -> Result<BTreeSet<i32>> {
        if self.group.as_ref().is_some_and(|group| !group.is_there()) {
            self.group = None;
        }
        if self.group.is_none() && self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            // A unit whose file is being replaced may be unknown for a moment.
            self.group = find(&self.name).unwrap_or(None);
        }
        self.group.as_ref().map_or_else(|| Ok(BTreeSet::new()), Group::processes)
    }

    /// Directories of its cgroup, if it has one.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        self.group.as_ref().map_or_else(Vec::new, |group| group.directories().to_vec())
    }
}

#[cfg(test)]
mod tests {
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
    fn what_cannot_be_a_name_is_refused() {
        for name in ["", "a/b"] {
            assert!(Unit::open(name).unwrap_err().to_string().contains("nginx.service"), "{name}");
        }
    }
}
