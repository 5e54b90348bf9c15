//! Aim: what the kernel says of a process that does known things is what the trace says: calls and holds by thread,
//! waits and who is to blame, threads born later, readers from outside. And what a trace lacks is said.
//!
//! Method: a child does a job when it is told to, and the test traces it meanwhile. The child is this program again,
//! running the one test `job`, which does nothing otherwise. Where tracing is not permitted a test is skipped.

use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::ptr::NonNull;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lock_trace::{Activity, IntervalKind, Missing, Mode, Options, Trace, Tracer, Unavailable};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect, munlock, munmap};
use test_support::skip;

const JOB: &str = "LOCK_TRACE_TEST_JOB";
const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

const MPROTECTS: u64 = 100;
const MAPPINGS: u64 = 10;
const MUNLOCKS: u64 = 7;
/// Few enough for the descriptors that a process may have.
const EARLY_THREADS_MOST: usize = 150;
const LATE_THREADS: usize = 50;
const MANY: u64 = 20_000;
/// Bytes of a ring that holds all events of any job, should the collector not run at all: `many` makes 5 for each call.
const ROOMY: usize = 32 * MIB;
/// What is unmapped at once while another thread wants the lock.
const LARGE: usize = 256 * MIB;

// The child.

/// What a child does; a test of its own in other runs.
#[test]
fn job() {
    let Ok(job) = std::env::var(JOB) else { return };
    // Whatever goes wrong, the child does not stay.
    nix::unistd::alarm::set(120);
    match job.as_str() {
        "known" => known(),
        "contend" => contend(),
        "many" => many(),
        "births" => births(),
        "unprivileged" => unprivileged(),
        "clean" => clean(),
        other => panic!("no job is named {other}"),
    }
}

/// Says a line to the parent. The harness may have begun the line.
fn say(line: &str) {
    println!("\n{line}");
    std::io::stdout().flush().expect("the parent reads");
}

fn hear(wanted: &str) {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the parent writes");
    assert_eq!(line.trim(), wanted);
}

fn map(bytes: usize) -> NonNull<libc::c_void> {
    let length = NonZeroUsize::new(bytes).expect("not zero");
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping, of which nothing is known but its address.
    unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_PRIVATE) }.expect("mmap works")
}

fn unmap(base: NonNull<libc::c_void>, bytes: usize) {
    // SAFETY: the callers made this mapping and use it no more.
    unsafe { munmap(base, bytes) }.expect("munmap works");
}

fn touch(base: NonNull<libc::c_void>, bytes: usize) {
    for at in (0..bytes).step_by(PAGE) {
        // SAFETY: the place is inside of the caller's mapping, which is writable.
        unsafe { base.cast::<u8>().add(at).write_volatile(1) };
    }
}

/// Changes the protection of a page so often, each time to another one.
fn protect(count: u64) {
    let page = map(PAGE);
    for number in 0..count {
        let protection = if number % 2 == 0 { ProtFlags::PROT_READ } else { ProtFlags::PROT_NONE };
        // SAFETY: nobody uses the page.
        unsafe { mprotect(page, PAGE, protection) }.expect("mprotect works");
    }
}

/// Starts a named thread that waits, works when it is told to, and stays until the trace is over.
fn between<'a>(
    scope: &'a std::thread::Scope<'a, '_>,
    name: &str,
    turns: [&'a Barrier; 3],
    work: impl FnOnce() + Send + 'a,
) {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, move || {
        let [start, done, end] = turns;
        // The allocator of this thread maps what it needs before the trace begins.
        drop(std::hint::black_box(vec![1_u8; 64]));
        start.wait();
        work();
        done.wait();
        end.wait();
    });
    thread.expect("a thread starts");
}

fn known() {
    let [start, done, end, late] = std::array::from_fn(|at| Barrier::new(if at == 3 { 2 } else { 4 }));
    std::thread::scope(|scope| {
        let turns = [&start, &done, &end];
        between(scope, "worker", turns, || {
            protect(MPROTECTS);
            for _ in 0..MAPPINGS {
                unmap(map(MIB), MIB);
            }
        });
        between(scope, "toucher", turns, || {
            // Two pages between others' mappings: the first fault prepares the mapping under the lock.
            let base = map(16 * PAGE);
            touch(base, 16 * PAGE);
            unmap(base, 16 * PAGE);
        });
        between(scope, "reader", turns, || drop(std::fs::read("/proc/self/smaps").expect("smaps can be read")));
        say("ready");
        hear("go");
        start.wait();
        std::thread::Builder::new()
            .name(String::from("late"))
            .spawn_scoped(scope, || {
                let page = map(PAGE);
                for _ in 0..MUNLOCKS {
                    // SAFETY: the page is this thread's.
                    unsafe { munlock(page, PAGE) }.expect("munlock works");
                }
                late.wait();
                late.wait();
            })
            .expect("a thread starts");
        late.wait();
        done.wait();
        say("done");
        hear("end");
        late.wait();
        end.wait();
    });
}

fn contend() {
    let turns: [Barrier; 3] = std::array::from_fn(|_| Barrier::new(3));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let [start, done, end] = &turns;
        let turns = [start, done, end];
        between(scope, "zapper", turns, || {
            for _ in 0..5 {
                let base = map(LARGE);
                // SAFETY: it changes no content.
                unsafe { madvise(base, LARGE, MmapAdvise::MADV_NOHUGEPAGE) }.expect("madvise works");
                touch(base, LARGE);
                unmap(base, LARGE);
            }
            // Relaxed: nothing but the flag is handed over.
            over.store(true, Ordering::Relaxed);
        });
        between(scope, "mapper", turns, || {
            while !over.load(Ordering::Relaxed) {
                unmap(map(PAGE), PAGE);
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        say("ready");
        hear("go");
        start.wait();
        done.wait();
        say("done");
        hear("end");
        end.wait();
    });
}

fn many() {
    say("ready");
    hear("go");
    protect(MANY);
    say("done");
    hear("end");
}

/// Threads are born before, while and after the trace begins. Each makes the same number of calls after that.
fn births() {
    let page = map(PAGE).as_ptr().expose_provenance();
    let over = AtomicBool::new(false);
    let work = || {
        // Relaxed: nothing but the flag is handed over.
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let page = NonNull::new(std::ptr::with_exposed_provenance_mut(page)).expect("a page");
        for _ in 0..MUNLOCKS {
            // SAFETY: the page is mapped as long as the process lives.
            unsafe { munlock(page, PAGE) }.expect("munlock works");
        }
    };
    std::thread::scope(|scope| {
        let born = |name: &str| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work);
            thread.expect("a thread starts")
        };
        say("ready");
        let hearer = scope.spawn(|| {
            hear("go");
            over.store(true, Ordering::Relaxed);
        });
        let mut early = Vec::new();
        while early.len() < EARLY_THREADS_MOST && !over.load(Ordering::Relaxed) {
            early.push(born("early"));
            // Slow enough to go on until the events are being opened.
            std::thread::sleep(Duration::from_micros(500));
        }
        hearer.join().expect("the parent says it");
        early.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
        (0..LATE_THREADS).for_each(|_| born("late").join().expect("it does not panic"));
        say("done");
    });
    hear("end");
}

fn unprivileged() {
    let nobody = 65_534;
    nix::unistd::setgid(nobody.into()).expect("root may change its group");
    nix::unistd::setuid(nobody.into()).expect("root may change its user");
    let error = Tracer::attach(std::process::id(), &Options::default()).expect_err("nobody may not trace");
    say(&format!("done {}", serde_json::to_string(&error).expect("an error can be written")));
}

/// What this process has open, and which mounts of tracefs it sees.
fn traces_left() -> (usize, Vec<String>) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts can be read");
    let mounts = mounts.lines().filter(|line| line.contains("tracefs")).map(String::from).collect();
    (std::fs::read_dir("/proc/self/fd").expect("descriptors can be read").count(), mounts)
}

fn clean() {
    let before = traces_left();
    let options = Options { ring_bytes: PAGE, ..Options::default() };
    let trace = Tracer::attach(std::process::id(), &options).expect("the parent could").stop().expect("it ends well");
    assert!(trace.end_ns > trace.start_ns);
    drop(Tracer::attach(std::process::id(), &options).expect("the parent could"));
    assert_eq!(traces_left(), before);
    say("done");
}

// The parent.

struct Partner {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Partner {
    fn start(job: &str) -> Partner {
        let program = std::env::current_exe().expect("the system knows the path of a running program");
        let mut command = Command::new(program);
        command.args(["--exact", "job", "--nocapture", "--test-threads=1"]).env(JOB, job);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child starts");
        let input = child.stdin.take().expect("standard input is a pipe");
        let output = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        Partner { child, input, output }
    }

    fn say(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).expect("the child reads");
    }

    /// Waits for the line that begins so; gives the rest.
    fn hear(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let bytes = self.output.read_line(&mut line).expect("the child writes");
            assert!(bytes > 0, "the child ended before it said {word}");
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    fn end(mut self) {
        let rest = std::io::read_to_string(&mut self.output).expect("the child writes");
        let status = self.child.wait().expect("the child is ours to wait for");
        assert!(status.success(), "the child ended with {status}: {rest}");
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // After `end` it is gone already, and there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A busy machine does not lose events of these tests.
fn roomy() -> Options {
    Options { ring_bytes: ROOMY, ..Options::default() }
}

/// Attaches; `None` if that is not permitted here, which is said then.
fn attach(pid: u32, options: &Options) -> Option<Tracer> {
    Tracer::attach(pid, options).map_err(skip).ok()
}

/// Traces a job from before its work until after it.
fn trace(job: &str, options: &Options, meanwhile: impl FnOnce(u32)) -> Option<Trace> {
    let mut partner = Partner::start(job);
    partner.hear("ready");
    let pid = partner.child.id();
    let tracer = attach(pid, options)?;
    partner.say("go");
    partner.hear("done");
    meanwhile(pid);
    let trace = tracer.stop().expect("the collector works");
    partner.say("end");
    partner.end();
    Some(trace)
}

fn calls(trace: &Trace, thread: &str, call: &str) -> (u64, u64) {
    let mine = trace.calls.iter().filter(|row| row.thread == thread && row.call == call);
    mine.fold((0, 0), |(count, bytes), row| (count + row.count, bytes + row.bytes))
}

fn writes(trace: &Trace, thread: &str, activity: &str) -> u64 {
    trace.writes_by(|row| row.thread == thread && row.activity == activity).count
}

fn has_reads(trace: &Trace, thread: &str, activity: &str, outsider: bool) -> bool {
    let wanted = |row: &&lock_trace::Row| {
        row.thread == thread && row.activity == activity && row.outsider == outsider && row.mode == Mode::Read
    };
    trace.rows.iter().any(|row| wanted(&row) && row.holds.count > 0)
}

#[test]
fn known_calls_are_seen_by_thread() {
    let outsider = |pid: u32| {
        let status = Command::new("cat").arg(format!("/proc/{pid}/smaps")).stdout(Stdio::null()).status();
        assert!(status.expect("cat runs").success());
    };
    let Some(trace) = trace("known", &roomy(), outsider) else { return };
    assert!(!trace.lost.is_incomplete(), "{trace}");
    assert_eq!(calls(&trace, "worker", "mprotect").0, MPROTECTS, "{trace}");
    assert_eq!(writes(&trace, "worker", "mprotect"), MPROTECTS, "{trace}");
    // And the page that is protected.
    assert_eq!(calls(&trace, "worker", "mmap"), (MAPPINGS + 1, MAPPINGS * MIB as u64 + PAGE as u64), "{trace}");
    assert_eq!(calls(&trace, "worker", "munmap"), (MAPPINGS, MAPPINGS * MIB as u64), "{trace}");
    assert_eq!(writes(&trace, "worker", "munmap"), MAPPINGS, "{trace}");
    // Born after the trace began.
    assert_eq!(calls(&trace, "late", "munlock").0, MUNLOCKS, "{trace}");
    assert_eq!(writes(&trace, "late", "munlock"), MUNLOCKS, "{trace}");
    assert!(has_reads(&trace, "reader", "other call", false), "{trace}");
    assert!(has_reads(&trace, "cat", "other call", true), "{trace}");
    // Everything the process did itself is known.
    assert!(trace.rows.iter().all(|row| row.thread != "?"), "{trace}");
    #[cfg(target_arch = "x86_64")]
    assert!(has_reads(&trace, "toucher", "fault", false), "{trace}");
}

#[test]
fn a_wait_is_blamed_on_the_thread_and_call_that_held_the_lock() {
    let Some(trace) = trace("contend", &roomy(), |_| {}) else { return };
    assert!(!trace.lost.is_incomplete(), "{trace}");
    let zap = Activity::Call { number: libc::SYS_munmap, bytes: Some(LARGE as u64) };
    let waits = trace.kept.iter().filter(|kept| kept.kind == IntervalKind::Wait && kept.thread == "mapper");
    let blamed = waits.filter_map(|wait| wait.blame.first()).filter(|blame| blame.thread == "zapper");
    assert!(blamed.clone().any(|blame| blame.activity == zap && blame.mode == Mode::Read), "{trace}");
    assert_eq!(calls(&trace, "zapper", "munmap"), (5, 5 * LARGE as u64), "{trace}");
}

#[test]
fn threads_born_at_any_time_are_counted_once() {
    let Some(trace) = trace("births", &roomy(), |_| {}) else { return };
    assert!(!trace.lost.is_incomplete(), "{trace}");
    let counts = |thread: &str| -> Vec<u64> {
        let rows = trace.calls.iter().filter(|row| row.thread == thread && row.call == "munlock");
        rows.map(|row| row.count).collect()
    };
    let early = counts("early");
    assert!(!early.is_empty() && early.iter().all(|count| *count == MUNLOCKS), "{early:?}: {trace}");
    assert_eq!(counts("late"), [MUNLOCKS; LATE_THREADS], "{trace}");
}

#[test]
fn events_that_find_no_room_are_not_lost_in_silence() {
    let options = Options { ring_bytes: PAGE, ..Options::default() };
    let Some(trace) = trace("many", &options, |_| {}) else { return };
    let seen = trace.calls.iter().filter(|row| row.call == "mprotect").map(|row| row.count).sum::<u64>();
    assert!(seen <= MANY, "{trace}");
    assert!(seen == MANY || trace.lost.records >= MANY - seen, "{trace}");
    assert_eq!(trace.lost.records > 0, trace.text().contains("INCOMPLETE"), "{trace}");
    // And with room, nothing is.
    let Some(trace) = self::trace("many", &roomy(), |_| {}) else { return };
    assert!(!trace.lost.is_incomplete(), "{trace}");
    assert_eq!(trace.calls.iter().filter(|row| row.call == "mprotect").map(|row| row.count).sum::<u64>(), MANY);
}

#[test]
fn the_end_of_the_process_is_told() {
    let mut partner = Partner::start("many");
    partner.hear("ready");
    let Some(tracer) = attach(partner.child.id(), &Options::default()) else { return };
    partner.say("go");
    partner.hear("done");
    partner.say("end");
    partner.end();
    let trace = tracer.stop().expect("the collector works");
    assert!(trace.gone_ns.is_some(), "{trace}");
    assert!(trace.rows.iter().any(|row| row.activity == "exit_group"), "{trace}");
}

#[test]
fn nothing_is_left_behind() {
    let Some(tracer) = attach(std::process::id(), &Options { ring_bytes: PAGE, ..Options::default() }) else { return };
    drop(tracer);
    let mut partner = Partner::start("clean");
    partner.hear("done");
    partner.end();
}

#[test]
fn without_privileges_it_is_said_what_is_missing() {
    if !nix::unistd::Uid::effective().is_root() {
        return skip("only root can give privileges up");
    }
    let mut partner = Partner::start("unprivileged");
    let text = partner.hear("done");
    partner.end();
    let error: Unavailable = serde_json::from_str(&text).expect("an error can be read");
    let says = |word: &str| error.to_string().contains(word);
    assert!(error.missing.iter().any(|missing| matches!(missing, Missing::Tracefs { .. })), "{error}");
    assert!(says("mount -t tracefs"), "{error}");
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    if paranoid.trim().parse::<i32>().is_ok_and(|level| level >= 0) {
        assert!(error.missing.iter().any(|missing| matches!(missing, Missing::Privilege { .. })), "{error}");
        assert!(says("CAP_PERFMON") && says("kernel.perf_event_paranoid=-1"), "{error}");
    }
    assert_eq!(error.to_string().lines().count(), error.missing.len());
}

#[test]
fn what_is_no_process_is_refused() {
    let pid = i32::MAX as u32;
    let error = Tracer::attach(pid, &Options::default()).expect_err("there is no such process");
    assert_eq!(error.missing, [Missing::Process { pid }]);
    let status = std::fs::read_to_string("/proc/2/status").unwrap_or_default();
    if !status.contains("Kthread:\t1") {
        return skip("process 2 is no thread of the kernel, or is not told to be one");
    }
    // Some privilege may be missing besides, but not this reason.
    let error = Tracer::attach(2, &Options::default()).expect_err("a thread of the kernel has no address space");
    let told = |missing: &Missing| matches!(missing, Missing::AddressSpace { pid: 2 } | Missing::Access { pid: 2, .. });
    assert!(error.missing.iter().any(told), "{error}");
}
