//! The BPF source on real processes. Needs root, or CAP_BPF and CAP_PERFMON; says that it was skipped otherwise.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use freeze_trap::event::{Call, Interval, Kind, Sleep};
use freeze_trap::source::bpf::Bpf;
use freeze_trap::source::{Bounds, Source};
use freeze_trap::stack::Stacks;
use freeze_trap::symbols::MapsCache;
use lock_trace::Mode;
use test_support::skip;

/// After so long a test is taken to hang.
const DEADLINE: Duration = Duration::from_secs(60);

struct Target {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
}

impl Target {
    fn start(arguments: &[&str]) -> Target {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freeze-target"));
        let started = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("the target starts");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut target = Target { child, input, output };
        target.line();
        target.falls_asleep();
        target
    }

    /// Waits until the main thread and all workers sleep.
    fn falls_asleep(&self) {
        let end = Instant::now() + DEADLINE;
        let is_asleep = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap();
            stat.rsplit_once(')').unwrap().1.starts_with(" S")
        };
        loop {
            let tasks: Vec<_> = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().collect();
            if tasks.len() == 5 && tasks.into_iter().all(|task| is_asleep(task.unwrap())) {
                return;
            }
            assert!(Instant::now() < end, "the target does not come to rest");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the target says something");
        line
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Skipped only for want of rights, or where the kernel shows no types: a refusal of the verifier is a failure.
fn armed() -> Option<Bpf> {
    let has_types = Path::new("/sys/kernel/btf/vmlinux").exists();
    match Bpf::arm(&Bounds::default(), 4096) {
        Ok(bpf) => Some(bpf),
        Err(why) => {
            assert!(!(has_types && has_rights()), "{why:#}");
            skip(format_args!("{why:#}"));
            None
        }
    }
}

/// CAP_BPF and CAP_PERFMON, by their numbers.
fn has_rights() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("there are capabilities");
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    [39, 38].iter().all(|bit| mask >> bit & 1 == 1)
}

/// What is told until the target says that the freeze is over.
fn watch(bpf: &mut Bpf, target: &mut Target, stacks: &mut Stacks) -> Vec<Interval> {
    let mut maps = MapsCache::new();
    maps.read(target.pid()).unwrap();
    bpf.learn(&maps);
    bpf.watch(&[target.pid()]).unwrap();
    // Long enough for the sleep of the main thread to be told.
    thread::sleep(Duration::from_millis(20));
    writeln!(target.input, "freeze").unwrap();
    let mut told = Vec::new();
    thread::scope(|scope| {
        let thawed = scope.spawn(|| target.line());
        let end = Instant::now() + DEADLINE;
        while !thawed.is_finished() {
            assert!(Instant::now() < end, "the target hangs");
            bpf.take(stacks, &mut |interval| told.push(interval)).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    });
    bpf.take(stacks, &mut |interval| told.push(interval)).unwrap();
    assert_eq!(bpf.losses().unwrap(), freeze_trap::source::Losses::default());
    told
}

/// The process of whoever ended a sleep.
fn waker_of(interval: &Interval) -> Option<i32> {
    match &interval.kind {
        Kind::OffCpu { waker: Some(waker), .. } => Some(waker.thread.pid),
        _ => None,
    }
}

#[test]
fn holds_of_mmap_lock_are_told_with_thread_mode_call_and_stack() {
    let Some(mut bpf) = armed() else { return };
    let mut stacks = Stacks::new();
    let mut target = Target::start(&["mmap-lock", "--mib", "256", "--lasts", "0.5"]);
    let told = watch(&mut bpf, &mut target, &mut stacks);
    let holds: Vec<_> = told.iter().filter(|one| one.kind == Kind::Hold { mode: Mode::Write }).collect();
    // Of others, one that loses its processor with the lock may hold it for longer.
    let is_meant = |one: &&&Interval| {
        let is_call = |call: Call| call.number == libc::SYS_mmap.cast_unsigned() && call.arguments[1] == 256 << 20;
        one.thread.name == "culprit" && one.call.is_some_and(is_call)
    };
    let longest = holds.iter().filter(is_meant).max_by_key(|one| one.duration_ns());
    let longest = longest.unwrap_or_else(|| panic!("the culprit does not hold it: {holds:?}"));
    assert_eq!((longest.thread.pid, longest.is_outsider()), (target.pid(), false));
    for stack in [longest.stack.kernel, longest.stack.user] {
        assert!(stacks.get(stack.expect("there is a stack")).unwrap().addresses.len() >= 3);
    }
    let totals = bpf.totals().unwrap().unwrap();
    assert!(totals.holds[1].iter().sum::<u64>() >= holds.len() as u64);
    assert!(totals.hold_ns[1] >= longest.duration_ns());
}

#[test]
fn sleeps_are_told_with_who_ended_them() {
    let Some(mut bpf) = armed() else { return };
    let mut stacks = Stacks::new();
    let mut target = Target::start(&["user-lock", "--lasts", "0.3"]);
    let told = watch(&mut bpf, &mut target, &mut stacks);
    let is_in = |one: &Interval, calls: &[i64]| {
        let is_sleep = matches!(one.kind, Kind::OffCpu { sleep: Sleep::Interruptible, .. });
        is_sleep && one.call.is_some_and(|call| calls.contains(&(call.number as i64)))
    };
    let slept = told
        .iter()
        .find(|one| one.thread.name == "culprit" && is_in(one, &[libc::SYS_nanosleep, libc::SYS_clock_nanosleep]));
    let slept = slept.expect("the culprit sleeps");
    assert!(slept.duration_ns() > 200_000_000, "{} ns", slept.duration_ns());
    // The main thread sleeps until this test writes to its input, and then waits for the culprit's end. It may sleep
    // for other reasons as well.
    for (call, waker) in [(libc::SYS_read, std::process::id() as i32), (libc::SYS_futex, target.pid())] {
        let of_main = told.iter().filter(|one| one.thread.tid == target.pid() && is_in(one, &[call]));
        let longest = of_main.max_by_key(|one| one.duration_ns()).unwrap_or_else(|| panic!("no sleep in call {call}"));
        assert_eq!(waker_of(longest), Some(waker), "{longest:?}");
    }
}

#[test]
fn outsiders_that_take_the_lock_are_told() {
    let Some(mut bpf) = armed() else { return };
    let mut stacks = Stacks::new();
    let target = Target::start(&["nothing", "--every", "0.05"]);
    bpf.watch(&[target.pid()]).unwrap();
    let path = format!("/proc/{}/smaps", target.pid());
    let end = Instant::now() + DEADLINE;
    loop {
        // Long enough to be told: all of it, byte by byte of what the kernel makes of it.
        let before = bpf.totals().unwrap().unwrap().holds[0].iter().sum::<u64>();
        std::fs::read_to_string(&path).unwrap();
        let mut told = Vec::new();
        bpf.take(&mut stacks, &mut |interval| told.push(interval)).unwrap();
        let after = bpf.totals().unwrap().unwrap().holds[0].iter().sum::<u64>();
        // There may be others, as a look of an administrator at the processes.
        let own = std::process::id() as i32;
        if let Some(hold) = told.iter().find(|one| one.is_outsider() && one.thread.pid == own) {
            assert_eq!(hold.owner_pid, target.pid());
            return;
        }
        // The kernel takes a lock of each mapping instead since Linux 6.17, for what it can.
        if after > before && Instant::now() > end {
            skip("no hold of an outsider took 0.1 ms in a minute");
            return;
        }
        assert!(Instant::now() < end, "no hold of an outsider was counted");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_not_over_is_told_when_asked() {
    let Some(mut bpf) = armed() else { return };
    let mut stacks = Stacks::new();
    let target = Target::start(&["nothing"]);
    bpf.watch(&[target.pid()]).unwrap();
    // All its threads have slept since before it was watched.
    let mut told = Vec::new();
    bpf.unfinished(&mut stacks, &mut |interval| told.push(interval)).unwrap();
    assert!(told.iter().all(|one| one.unfinished && one.thread.pid == target.pid() && one.end_ns >= one.start_ns));
    let mut names: Vec<&str> = told.iter().map(|one| one.thread.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["freeze-target", "worker-0", "worker-1", "worker-2", "worker-3"]);
    for one in &told {
        assert!(one.call.is_some_and(|call| [libc::SYS_accept4, libc::SYS_read].contains(&(call.number as i64))));
        let stack = |id| stacks.get(one.stack.kernel.filter(|_| id).or(one.stack.user).unwrap()).unwrap();
        assert!(stack(true).addresses.len() >= 3 && !stack(false).addresses.is_empty());
    }
}

/// What is not over of this process's threads whose names begin so. This process has threads of other tests as well.
fn unfinished_of(bpf: &mut Bpf, stacks: &mut Stacks, name: &str) -> usize {
    let mut count = 0;
    bpf.unfinished(stacks, &mut |one| count += usize::from(one.thread.name.starts_with(name))).unwrap();
    count
}

/// Threads that sleep until they are let go.
struct Sleepers {
    threads: Vec<thread::JoinHandle<()>>,
    go: Arc<Barrier>,
}

impl Sleepers {
    fn start(name: &str, count: usize) -> Sleepers {
        let go = Arc::new(Barrier::new(count + 1));
        let one = |_| {
            let go = Arc::clone(&go);
            let thread = thread::Builder::new().name(name.to_owned());
            let wait = move || {
                go.wait();
            };
            thread.spawn(wait).unwrap()
        };
        Sleepers { threads: (0..count).map(one).collect(), go }
    }

    /// Gives back when the kernel has no trace of them.
    fn end(self) {
        self.go.wait();
        let tids = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = tids();
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let end = Instant::now() + DEADLINE;
        while tids() > before {
            assert!(Instant::now() < end, "threads stay");
            thread::yield_now();
        }
    }
}

/// Asks until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn threads_that_have_ended_leave_nothing() {
    let Some(mut bpf) = armed() else { return };
    let mut stacks = Stacks::new();
    bpf.watch(&[std::process::id() as i32]).unwrap();
    let sleepers = Sleepers::start("mayfly", 64);
    until("they are not told", || unfinished_of(&mut bpf, &mut stacks, "mayfly") == 64);
    sleepers.end();
    until("they are told for ever", || unfinished_of(&mut bpf, &mut stacks, "mayfly") == 0);
}

#[test]
fn what_is_not_watched_any_more_leaves_nothing() {
    let Some(mut bpf) = armed() else { return };
    let mut stacks = Stacks::new();
    let sleepers = Sleepers::start("sloth", 8);
    let own = std::process::id() as i32;
    bpf.watch(&[own]).unwrap();
    until("they are not told", || unfinished_of(&mut bpf, &mut stacks, "sloth") == 8);
    bpf.watch(&[]).unwrap();
    assert_eq!(unfinished_of(&mut bpf, &mut stacks, "sloth"), 0);
    bpf.watch(&[own]).unwrap();
    until("they are not told again", || unfinished_of(&mut bpf, &mut stacks, "sloth") == 8);
    sleepers.end();
}

#[test]
fn more_threads_than_there_is_room_for_are_counted() {
    let mut bpf = match armed().map(|_| Bpf::arm(&Bounds::default(), 16).unwrap()) {
        Some(bpf) => bpf,
        None => return,
    };
    let mut stacks = Stacks::new();
    let sleepers = Sleepers::start("crowd", 200);
    bpf.watch(&[std::process::id() as i32]).unwrap();
    until("none is lost", || bpf.losses().unwrap().threads >= 100);
    let told = unfinished_of(&mut bpf, &mut stacks, "");
    assert!((1..=16).contains(&told), "{told}");
    sleepers.end();
}

/// Another program in the same process has another address space.
#[test]
fn a_program_that_is_executed_is_watched_at_once_and_the_old_address_space_is_not() {
    let Some(mut bpf) = armed() else { return };
    let mut stacks = Stacks::new();
    let script = "read line; exec \"$0\" mmap-lock --mib 64 --lasts 0.2";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_freeze-target")]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut target = Target { child, input, output };
    bpf.watch(&[target.pid()]).unwrap();
    writeln!(target.input, "go").unwrap();
    target.line();
    writeln!(target.input, "freeze").unwrap();
    target.line();
    let mut held = false;
    bpf.take(&mut stacks, &mut |one| {
        held |= one.thread.name == "culprit" && one.kind == Kind::Hold { mode: Mode::Write }
    })
    .unwrap();
    assert!(held, "nothing is told of the program");
}

/// The writer that has the lock when it comes to be watched is told, with the time since then.
#[test]
fn a_writer_that_has_the_lock_already_is_told() {
    let Some(mut bpf) = armed() else { return };
    let mut stacks = Stacks::new();
    // Longer than the test may take.
    let mut target = Target::start(&["mmap-lock", "--mib", "512", "--lasts", "500"]);
    writeln!(target.input, "freeze").unwrap();
    until("no writer is found", || {
        bpf.watch(&[target.pid()]).unwrap();
        let mut found = false;
        bpf.unfinished(&mut stacks, &mut |one| found |= one.kind == Kind::Hold { mode: Mode::Write }).unwrap();
        bpf.watch(&[]).unwrap();
        found
    });
}
