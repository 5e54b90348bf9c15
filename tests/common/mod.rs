//! What the integration tests share: a small test runner, children in a given commit mode, random numbers, the
//! process's own figures.
//!
//! The runner replaces libtest where a test needs a calm process: it runs one test after the other on the main thread,
//! starts no thread, and can start the same program again as a child that does one job ([`Test::Job`]).

#![allow(dead_code, reason = "each test program uses a part of this")]

pub mod settings;

use std::io::Read;
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Names the job of a child; its arguments are the program's.
const JOB: &str = "ANTIFREEZE_TEST_JOB";
/// Overrides every random seed.
const SEED: &str = "ANTIFREEZE_TEST_SEED";
/// The allocator's own variable.
const COMMIT: &str = "ANTIFREEZE_COMMIT";
/// The two ways to commit memory, under which nearly everything is tested.
pub const MODES: [&str; 2] = ["ready", "stepped"];
/// How long a child may take before it counts as hung. Far above what any of them needs.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// One entry of a test program's table.
pub enum Test {
    /// Runs in the test program itself.
    Here(&'static str, fn()),
    /// Runs in a fresh child, once in each mode.
    InEachMode(&'static str, fn()),
    /// Not a test: what a child of one does, when started by [`job`].
    Job(&'static str, fn(&[String])),
}

/// The main function of a test program: does the job that the environment names, or runs the tests that the command
/// line selects, as libtest would (`[FILTER] [--exact] [--skip FILTER] [--list]`; other options have no effect).
pub fn run(tests: &[Test]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Ok(job) = std::env::var(JOB) {
        return do_job(tests, &job, &arguments);
    }
    let mut cases: Vec<(String, Box<dyn Fn() + '_>)> = Vec::new();
    for test in tests {
        match test {
            Test::Here(name, body) => cases.push(((*name).to_owned(), Box::new(body))),
            Test::InEachMode(name, _) => {
                for mode in MODES {
                    let child = move || expect_success(job(name, &[]).env(COMMIT, mode), DEADLINE);
                    cases.push((format!("{name}_{mode}"), Box::new(child)));
                }
            }
            Test::Job(..) => {}
        }
    }
    let selection = Selection::parse(&arguments);
    cases.retain(|(name, _)| selection.takes(name));
    if selection.list {
        for (name, _) in &cases {
            println!("{name}: test");
        }
        return;
    }
    println!("\nrunning {} tests", cases.len());
    let mut failed = Vec::new();
    for (name, body) in &cases {
        println!("test {name} ...");
        let start = Instant::now();
        // The closures share nothing that a panic could leave half done.
        let passed = catch_unwind(AssertUnwindSafe(body)).is_ok();
        println!("test {name} ... {} ({:.1} s)", if passed { "ok" } else { "FAILED" }, start.elapsed().as_secs_f32());
        if !passed {
            failed.push(name);
        }
    }
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {} passed; {} failed", cases.len() - failed.len(), failed.len());
    if !failed.is_empty() {
        println!("failures: {failed:?}");
        std::process::exit(101);
    }
}

fn do_job(tests: &[Test], job: &str, arguments: &[String]) {
    for test in tests {
        match test {
            Test::InEachMode(name, body) if *name == job => return body(),
            Test::Job(name, body) if *name == job => return body(arguments),
            _ => {}
        }
    }
    panic!("no job is named {job}");
}

struct Selection {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
}

impl Selection {
    fn parse(arguments: &[String]) -> Self {
        let mut selection = Selection { filters: Vec::new(), skips: Vec::new(), exact: false, list: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => selection.exact = true,
                "--list" => selection.list = true,
                "--skip" => selection.skips.extend(arguments.next().cloned()),
                "--test-threads" | "--format" | "--color" | "-Z" => drop(arguments.next()),
                option if option.starts_with('-') => {}
                filter => selection.filters.push(filter.to_owned()),
            }
        }
        selection
    }

    fn takes(&self, name: &str) -> bool {
        let matches = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skips.iter().any(matches)
    }
}

/// This program again, as a child that does `name` with `arguments`, in the commit mode of the caller.
pub fn job(name: &str, arguments: &[&str]) -> Command {
    let program = std::env::current_exe().expect("the system knows the path of a running program");
    let mut command = Command::new(program);
    command.args(arguments).env(JOB, name);
    command
}

/// Runs a child and demands that it ends well. What it prints goes where ours goes.
pub fn expect_success(command: &mut Command, deadline: Duration) {
    let mut child = command.spawn().expect("a child starts");
    let status = wait(&mut child, deadline);
    assert!(status.success(), "child ended with {status}: {command:?}");
}

/// Waits for a child. One that is still there at the deadline is killed, and the test fails with what its threads did.
pub fn wait(child: &mut Child, deadline: Duration) -> ExitStatus {
    let end = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait().expect("the child is ours to wait for") {
            return status;
        }
        if Instant::now() > end {
            let threads = threads_of(child.id());
            child.kill().expect("the child is ours to end");
            child.wait().expect("the child is ours to wait for");
            panic!("the child hung; its threads:\n{threads}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a child left behind.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a child and collects what it prints.
pub fn output_of(command: &mut Command, deadline: Duration) -> Ended {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a child starts");
    let stdout = drain(child.stdout.take().expect("standard output is a pipe"));
    let stderr = drain(child.stderr.take().expect("standard error is a pipe"));
    let status = wait(&mut child, deadline);
    let text = |reader: JoinHandle<String>| reader.join().expect("the reader does not panic");
    Ended { status, stdout: text(stdout), stderr: text(stderr) }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// One line for each thread of a process: name, state, where in the kernel it sleeps.
pub fn threads_of(pid: u32) -> String {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return String::from("gone") };
    let lines = tasks.flatten().map(|task| {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let stat = read("stat");
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).unwrap_or("?");
        format!("{} {} {state} {} {}", task.file_name().display(), read("comm").trim(), read("wchan"), read("syscall"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Sets a resource limit, soft and hard, in the child before it runs.
pub fn limit(command: &mut Command, resource: nix::sys::resource::Resource, bytes: u64) -> &mut Command {
    let set = move || nix::sys::resource::setrlimit(resource, bytes, bytes).map_err(std::io::Error::from);
    // SAFETY: setrlimit(2) is one system call and may run between fork and exec.
    unsafe { command.pre_exec(set) }
}

/// Random numbers: xorshift64 with a multiplied output (Vigna, 2016). Not for secrets.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Spreads neighbouring seeds; zero would stay zero for ever.
        Random((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.word()) * end as u128) >> 64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A number in the range; its order of magnitude is uniform.
    pub fn log_uniform(&mut self, range: RangeInclusive<usize>) -> usize {
        let (low, high) = (range.start().ilog2() as usize, range.end().ilog2() as usize);
        let shift = low + self.below(high - low + 1);
        let size = (1 << shift) + self.below(1 << shift);
        size.clamp(*range.start(), *range.end())
    }
}

/// The seed that the environment asks for.
pub fn seed_from_environment() -> Option<u64> {
    let text = std::env::var(SEED).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{SEED} is not a number: {text}")))
}

/// A seed that differs from run to run.
pub fn seed_from_clock() -> u64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is past 1970");
    time.as_nanos() as u64
}

/// Bytes of memory that back this process (`/proc/self/statm`, which takes no lock of the address space).
pub fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm can be read");
    let pages: usize =
        text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("statm has two numbers");
    pages * nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as usize
}

/// Bytes of memory that the machine could give out (`MemAvailable`).
pub fn available_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").expect("meminfo can be read");
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("MemAvailable is there");
    line.trim().trim_end_matches("kB").trim().parse::<usize>().expect("MemAvailable is a number") << 10
}

/// Waits until `done`, at most until the deadline; says whether it came to that.
pub fn eventually(deadline: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    while !done() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    true
}
