//! Settings of the machine that a test changes: one test program at a time, and all is put back whatever happens.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{Flock, FlockArg};

/// The right to change settings; held until it goes out of scope.
pub struct Turn {
    _lock: Flock<File>,
}

impl Turn {
    /// Waits until no other test program has it.
    pub fn wait() -> Turn {
        let open = |directory: PathBuf| {
            let path = directory.join("antifreeze-settings.lock");
            OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()
        };
        let file = [PathBuf::from("/run/lock"), std::env::temp_dir()].into_iter().find_map(open);
        let file = file.expect("a file can be made in /run/lock or for temporary files");
        let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap_or_else(|(_, error)| panic!("flock: {error}"));
        Turn { _lock: lock }
    }

    /// Has the file `path` hold `value` until the result goes out of scope. `Err` says why that is not permitted.
    pub fn change(&self, path: &str, value: &str) -> Result<Changed<'_>, String> {
        let failed = |error: io::Error| format!("{path}: {error}");
        let before = setting(path).map_err(failed)?;
        // A process of its own puts it back once we close its input, or are killed; not in our group, where the
        // keyboard could reach it.
        let script = "read line; printf %s \"$1\" > \"$0\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, path, &before]).stdin(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let keeper = command.spawn().map_err(failed)?;
        let changed = Changed { keeper, _turn: self };
        fs::write(path, value).map_err(failed)?;
        Ok(changed)
    }
}

/// A setting that is changed.
pub struct Changed<'a> {
    keeper: Child,
    _turn: &'a Turn,
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It ends at once; if it does not, there is nothing to be done about it.
        let _ = self.keeper.wait();
    }
}

/// What a file holds: its text, or the word in brackets of a choice.
pub fn setting(path: &str) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let chosen = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    Ok(chosen.unwrap_or(text.trim()).to_owned())
}

/// Bytes behind a key of a file such as `/proc/meminfo`; `None` if there is no such key.
pub fn bytes_of(path: impl Into<PathBuf>, key: &str) -> Option<usize> {
    let text = fs::read_to_string(path.into()).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(rest.trim().trim_end_matches("kB").trim().parse::<usize>().ok()? << 10)
}
