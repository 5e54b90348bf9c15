//! Runs programs, with the library and without, and tells whether that made a difference.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use test_support::skip;

use crate::common;

/// A program that takes longer hangs: on two busy cores none takes a quarter of this.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Between two looks at a program that runs.
const POLL: Duration = Duration::from_millis(2);

/// How the allocator begins the number of bytes that are in use, in the statistics that it prints at exit.
const IN_USE: &str = "allocated_bytes: ";

/// Writes a line that the test runner does not hold back.
fn say(line: impl Display) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Where a program is installed: on the `PATH`, or where only administrators and services look.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    directories.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        directories.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    directories.into_iter().map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Does the work on both allocators, and fails if the answers differ. Skipped if one of the programs is missing.
pub fn same_answers(name: &str, programs: &[&str], work: impl Fn(&Place) -> String) {
    if let Some(missing) = programs.iter().find(|program| find(program).is_none()) {
        return skip(format_args!("{missing} is not installed"));
    }
    let root = Directory::new(name);
    // Other users must be able to load it, which they may not from where it was built.
    let copy = root.0.join("libantifreeze.so");
    fs::copy(common::library(), &copy).unwrap();
    // The names are equally long, as lengths of paths may be in what a program prints.
    let plain = Place::new(root.0.join("plain"), None);
    let other = Place::new(root.0.join("other"), Some(copy));
    let [expected, got] = [&plain, &other].map(|place| place.without_paths(&work(place)));
    assert_eq!(expected, got, "{name}: on its own allocator, and on this one");
    assert!(!got.trim().is_empty(), "{name} answers nothing");
    let [before, now] = [plain, other].map(|place| place.cost.get());
    say(format_args!(
        "{name}: alone {:.2} s, {} KiB at most; antifreeze {:.2} s, {} KiB",
        before.wall_time.as_secs_f64(),
        before.peak_kib,
        now.wall_time.as_secs_f64(),
        now.peak_kib,
    ));
}

/// A directory that goes with its value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("antifreeze-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the programs of a place have taken.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// All of them, one after the other.
    wall_time: Duration,
    /// The largest process. Not less than this test's own, which a process counts as its own until it runs its program.
    peak_kib: i64,
}

/// Where one side does the work.
pub struct Place {
    directory: PathBuf,
    library: Option<PathBuf>,
    cost: Cell<Cost>,
    commands: Cell<u32>,
}

/// What a program printed.
pub struct Answer {
    pub stdout: String,
    pub stderr: String,
    status: ExitStatus,
    has_library: bool,
}

impl Place {
    fn new(directory: PathBuf, library: Option<PathBuf>) -> Place {
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        Place { directory, library, cost: Cell::default(), commands: Cell::new(0) }
    }

    /// A file of the place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A number that stands for what is in a file of the place.
    pub fn digest(&self, name: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        fs::read(self.path(name)).unwrap().hash(&mut hasher);
        hasher.finish()
    }

    /// Writes a file of the place, and of directories in it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The text without the place's own name.
    fn without_paths(&self, text: &str) -> String {
        text.replace(self.directory.to_str().unwrap(), "PLACE")
    }

    /// A program that prints the same wherever it runs.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
        command.current_dir(&self.directory).stdin(Stdio::null()).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        command.env("HOME", &self.directory).env("TMPDIR", &self.directory);
        command.env_remove("LD_PRELOAD").env_remove("LD_LIBRARY_PATH");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ANTIFREEZE_") {
                command.env_remove(name);
            }
        }
        if let Some(library) = &self.library {
            command.env("LD_PRELOAD", library);
        }
        command
    }

    /// What a program prints that must end well.
    pub fn run<I: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = I>) -> String {
        self.finish(self.command(program).args(arguments)).stdout
    }

    /// As [`Place::run`], and the allocator is in use.
    pub fn run_with_stats<I: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = I>) -> String {
        self.finish_with_stats(self.command(program).args(arguments)).stdout
    }

    /// What a program leaves that must end well.
    pub fn finish(&self, command: &mut Command) -> Answer {
        self.start(command).wait()
    }

    /// As [`Place::finish`], and the allocator is in use: the process says so at its end, as do those that it starts.
    pub fn finish_with_stats(&self, command: &mut Command) -> Answer {
        let answer = self.finish(command.env("ANTIFREEZE_STATS", "exit"));
        self.must_have_blocks(&answer);
        answer
    }

    /// Fails if the library was not seen in the process, which ran for long enough to be looked at.
    pub fn must_have_library(&self, answer: &Answer) {
        assert_eq!(self.library.is_some(), answer.has_library, "the library in the process: {}", answer.has_library);
    }

    /// Fails if no process said at its end that it has blocks.
    pub fn must_have_blocks(&self, answer: &Answer) {
        let bytes = answer.stderr.lines().filter_map(|line| line.split_once(IN_USE)?.1.parse::<u64>().ok()).max();
        assert_eq!(self.library.is_some(), bytes > Some(0), "bytes in use at exit: {bytes:?}");
    }

    /// Starts a program.
    #[expect(clippy::zombie_processes, reason = "`Running` waits for it, as only wait4(2) tells of its memory")]
    pub fn start(&self, command: &mut Command) -> Running<'_> {
        let number = self.commands.replace(self.commands.get() + 1);
        let [stdout, stderr] =
            ["stdout", "stderr"].map(|name| self.directory.with_extension(format!("{name}{number}")));
        // Files, as those that the program leaves behind would hold a pipe open.
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap()).process_group(0);
        let what = format!("{command:?}");
        let started = Instant::now();
        let child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let process = i32::try_from(child.id()).unwrap();
        Running { place: self, what, process, started, has_library: false, ended: false, stdout, stderr }
    }
}

/// A program that was started. It leads a process group, which ends with the value.
pub struct Running<'a> {
    place: &'a Place,
    what: String,
    process: i32,
    started: Instant,
    has_library: bool,
    ended: bool,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running<'_> {
    fn age_limit(&self) -> Instant {
        self.started + TIMEOUT
    }

    fn fail(&self, why: &str) -> ! {
        let tail = |path: &Path| {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
            let skip = text.lines().count().saturating_sub(60);
            text.lines().skip(skip).map(|line| format!("  {line}\n")).collect::<String>()
        };
        let Running { what, stdout, stderr, .. } = self;
        panic!("{what}: {why}\nstdout ends:\n{}stderr ends:\n{}", tail(stdout), tail(stderr));
    }

    fn signal(&self, target: i32, signal: i32) {
        // SAFETY: 1. Sends a signal; no memory is involved.
        //         2. The process is ours, and its number is not used again before it is waited for.
        unsafe { libc::kill(target, signal) };
    }

    /// Looks whether the library is in the process.
    fn look(&mut self) {
        if !self.has_library && self.place.library.is_some() {
            let maps = fs::read(format!("/proc/{}/maps", self.process)).unwrap_or_default();
            self.has_library = String::from_utf8_lossy(&maps).contains("/libantifreeze.so");
        }
    }

    /// The status and the peak memory of a program that has ended, also of processes that it waited for. What it left
    /// behind is ended.
    fn poll(&mut self) -> Option<(ExitStatus, i64)> {
        self.look();
        // SAFETY: zeroed structures of numbers, and null pointers.
        let (mut info, mut usage) = unsafe { std::mem::zeroed::<(libc::siginfo_t, libc::rusage)>() };
        let id = self.process.cast_unsigned();
        // SAFETY: 1. It can be written.
        //         2. A process that has not ended leaves it zeroed.
        let ended = unsafe {
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            assert_eq!(libc::waitid(libc::P_PID, id, &raw mut info, flags), 0, "{}", std::io::Error::last_os_error());
            info.si_pid() != 0
        };
        if !ended {
            return None;
        }
        // Until it is waited for, its number is nobody else's.
        self.signal(-self.process, libc::SIGKILL);
        let mut status = 0;
        // SAFETY: both can be written, and the process is a child that nobody else waits for.
        unsafe { libc::wait4(self.process, &raw mut status, 0, &raw mut usage) };
        self.ended = true;
        Some((ExitStatus::from_raw(status), usage.ru_maxrss))
    }

    /// Waits until `ready`, for as long as the program runs.
    pub fn until(&mut self, ready: impl Fn() -> bool) {
        while !ready() {
            if let Some((status, _)) = self.poll() {
                self.fail(&format!("ended too early, {status}"));
            }
            if Instant::now() > self.age_limit() {
                self.fail("is not ready in time");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks a service to end, and waits until it has. It was on the allocator, and says so.
    pub fn stop(self, signal: i32) {
        let place = self.place;
        self.signal(self.process, signal);
        let answer = self.wait();
        place.must_have_library(&answer);
        place.must_have_blocks(&answer);
    }

    /// Waits for the end, which must be a good one.
    pub fn wait(self) -> Answer {
        let what = self.what.clone();
        let answer = self.wait_for_any_end();
        assert!(answer.status.success(), "{what}: {}\n{}\n{}", answer.status, answer.stdout, answer.stderr);
        answer
    }

    /// Waits for the end.
    fn wait_for_any_end(mut self) -> Answer {
        let (status, peak_kib) = loop {
            if let Some(end) = self.poll() {
                break end;
            }
            if Instant::now() > self.age_limit() {
                self.fail("does not end");
            }
            std::thread::sleep(POLL);
        };
        let mut cost = self.place.cost.get();
        cost.wall_time += self.started.elapsed();
        cost.peak_kib = cost.peak_kib.max(peak_kib);
        self.place.cost.set(cost);
        let [stdout, stderr] =
            [&self.stdout, &self.stderr].map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
        for fault in ["antifreeze: fatal", "pointer is not of this allocator", "cannot be preloaded"] {
            if stderr.contains(fault) {
                self.fail(fault);
            }
        }
        Answer { stdout, stderr, status, has_library: self.has_library }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(-self.process, libc::SIGKILL);
        }
        while !self.ended {
            self.poll();
        }
    }
}
