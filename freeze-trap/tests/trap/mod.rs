//! The trap as people run it, as a child, for tests.
#![allow(dead_code, unused_imports, reason = "each test uses a part")]

mod port;
mod wait;

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use freeze_trap::freeze::Freeze;
use freeze_trap::report::read_json;
use nix::sys::signal::{SigHandler, Signal, kill, killpg, signal};
use nix::unistd::Pid;
pub use port::port;
use tempfile::TempDir;
pub use wait::{DEADLINE, wait_for};

/// The service that freezes on purpose.
pub const TARGET: &str = env!("CARGO_BIN_EXE_freeze-target");

/// A probe that fails soon after the service on a port has frozen.
pub fn http(port: u16) -> String {
    format!("http://127.0.0.1:{port}/,every=50ms,within=300ms,failures=1")
}

/// A probe that fails at once when nobody listens, and not because the machine is slow.
pub fn patient_http(port: u16) -> String {
    format!("http://127.0.0.1:{port}/,every=50ms,within=10s,failures=1")
}

/// A trap; it ends with this, and so does a command that it has started.
pub struct Trap {
    child: Child,
    /// Where captures go.
    pub directory: PathBuf,
    files: TempDir,
}

impl Trap {
    /// `freeze-trap watch` with options.
    pub fn watch<Word: AsRef<std::ffi::OsStr>>(options: &[Word]) -> Trap {
        Trap::spawn(Command::new(env!("CARGO_BIN_EXE_freeze-trap")), options, None)
    }

    /// The same, with captures going to a directory that is there.
    pub fn watch_into<Word: AsRef<std::ffi::OsStr>>(directory: &Path, options: &[Word]) -> Trap {
        Trap::spawn(Command::new(env!("CARGO_BIN_EXE_freeze-trap")), options, Some(directory))
    }

    /// The same, with the beginning of a command that executes it.
    pub fn spawn<Word: AsRef<std::ffi::OsStr>>(mut command: Command, options: &[Word], into: Option<&Path>) -> Trap {
        let files = tempfile::tempdir().unwrap();
        let directory = into.map_or_else(|| files.path().join("captures"), Path::to_owned);
        let said = File::create(files.path().join("said")).unwrap();
        let printed = File::create(files.path().join("printed")).unwrap();
        command.arg("watch").arg("--directory").arg(&directory).args(options);
        command.stdin(Stdio::null()).stdout(printed).stderr(said).process_group(0);
        // What was started in the background of a script has some ignored, and whatever it starts.
        let ends = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];
        let heed = move || {
            // SAFETY: no handler is installed.
            ends.iter().try_for_each(|one| unsafe { signal(*one, SigHandler::SigDfl) }.map(drop))?;
            Ok(())
        };
        // SAFETY: signal(2) may be called between fork and exec, and nothing else is done.
        unsafe { command.pre_exec(heed) };
        Trap { child: command.spawn().expect("the trap starts"), directory, files }
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.files.path().join("said")).unwrap()
    }

    /// What its command has printed so far.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.files.path().join("printed")).unwrap()
    }

    /// Waits until it says something.
    pub fn hears(&mut self, text: &str) {
        wait_for(text, || {
            let ended = self.child.try_wait().unwrap();
            let said = self.said();
            assert!(ended.is_none() || said.contains(text), "it ended without saying `{text}`: {said}");
            said.contains(text).then_some(())
        });
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Whether it has not ended yet.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal, and it alone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for its end. If that does not come, tells what it said and where its threads are.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the trap does not end: {}{}", self.said(), self.threads());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its threads, each with its state and where it is in the kernel, as far as that may be read.
    fn threads(&self) -> String {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let of = |task: fs::DirEntry| {
            let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            ["stat", "schedstat", "syscall", "stack"].map(read).concat()
        };
        tasks.map(of).collect()
    }

    /// Waits for its end, which is to have this status.
    pub fn ends_with(&mut self, code: i32) {
        let status = self.end();
        assert_eq!(status.code(), Some(code), "{status}: {}", self.said());
    }

    /// The captures that it has written, the oldest first.
    pub fn freezes(&self) -> Vec<Freeze> {
        let captures = freeze_trap::watch::disk::captures(&self.directory).unwrap();
        captures
            .iter()
            .map(|capture| read_json(&fs::read_to_string(capture.join("freeze.json")).unwrap()).unwrap())
            .collect()
    }

    /// The only one.
    pub fn freeze(&self) -> Freeze {
        let mut freezes = self.freezes();
        assert_eq!(freezes.len(), 1, "{}", self.said());
        freezes.remove(0)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        // Its command goes on without it, in its group.
        let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A service that is not the trap's child; it ends with this.
pub struct Service(Child);

impl Service {
    /// `freeze-target` on a port; it listens when this returns.
    pub fn start(port: u16, arguments: &[&str]) -> Service {
        Service::spawn(Command::new(TARGET), port, arguments)
    }

    /// The same, started by another program.
    pub fn spawn(mut command: Command, port: u16, arguments: &[&str]) -> Service {
        command.args(arguments).args(["--listen", &format!("127.0.0.1:{port}")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the service starts");
        let mut service = Service(child);
        wait_for("the service to listen", || {
            assert_eq!(service.0.try_wait().unwrap(), None, "the service has ended");
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        service
    }

    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
