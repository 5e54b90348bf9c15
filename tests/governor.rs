//! Aim: the background thread is there only when there is something to do, sleeps when there is not, gives memory back
//! in the time that the options say, makes it warm when asked, and never stands in the way of a fork or of the end of
//! the process.
//!
//! Method: each test is a child with options of its own, which looks at its own threads and its resident memory as
//! the kernel tells them. Times are judged where a factor of several lies between right and wrong.

mod common;

use std::fs;
use std::hint::black_box;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use antifreeze::PrewarmState;
use common::{DEADLINE, Test, eventually, resident_bytes};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use test_support::skip;

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

const MIB: usize = 1 << 20;
/// Memory is retired and stays: or goes at once.
const KEEP: [(&str, &str); 2] = [("LINGER", "1h"), ("DECAY", "1h")];
const AT_ONCE: [(&str, &str); 2] = [("LINGER", "0"), ("DECAY", "0")];

fn main() {
    common::run(&[
        Test::Here("a_small_program_that_frees_nothing_has_no_thread", || in_child("free_nothing", &[])),
        Test::Here("a_thread_with_nothing_to_do_sleeps_for_good", || in_child("sleep", &AT_ONCE)),
        Test::Here("a_thread_that_waits_for_memory_to_age_hardly_wakes", || in_child("linger", &KEEP)),
        Test::Here("an_idle_process_shrinks_along_the_decay_time", || {
            in_child("decay", &[("LINGER", "1s"), ("DECAY", "3s")]);
        }),
        Test::Here("what_is_asked_back_comes_and_no_more", || in_child("ask_back", &[("DECAY", "off")])),
        Test::Here("a_program_that_lends_its_thread_has_no_other", || {
            in_child("tick", &[("GOVERNOR", "tick"), AT_ONCE[0], AT_ONCE[1]]);
        }),
        Test::Here("a_child_forked_amid_purges_has_a_thread_of_its_own", || in_child("forks", &AT_ONCE)),
        Test::Here("the_thread_is_not_bound_as_the_one_that_happened_to_start_it", || in_child("bound", &KEEP)),
        Test::Here("prewarmed_memory_is_there_and_zero", || in_child("prewarm", &AT_ONCE)),
        Test::Here("prewarmed_memory_outlives_its_handle_but_not_its_cancellation", || in_child("cancel", &AT_ONCE)),
        Test::Here("a_process_ends_at_once_while_gigabytes_are_given_back", every_end),
        Test::Job("free_nothing", |_| free_nothing()),
        Test::Job("sleep", |_| sleep()),
        Test::Job("linger", |_| linger()),
        Test::Job("decay", |_| decay()),
        Test::Job("ask_back", |_| ask_back()),
        Test::Job("tick", |_| tick()),
        Test::Job("forks", |_| forks()),
        Test::Job("bound", |_| bound()),
        Test::Job("prewarm", |_| prewarm()),
        Test::Job("cancel", |_| cancel()),
        Test::Job("end", |arguments| end(&arguments[0])),
    ]);
}

/// Runs a job in a child with options, in each mode.
fn in_child(job: &str, options: &[(&str, &str)]) {
    for mode in common::MODES {
        let mut child = common::job(job, &[]);
        child.env("ANTIFREEZE_COMMIT", mode);
        child.envs(options.iter().map(|(key, value)| (format!("ANTIFREEZE_{key}"), value)));
        common::expect_success(&mut child, DEADLINE);
    }
}

/// The threads of this process that are the governor's.
fn governors() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("threads can be listed").flatten();
    let paths = tasks.map(|task| task.path().display().to_string());
    paths
        .filter(|path| fs::read_to_string(format!("{path}/comm")).is_ok_and(|name| name == "antifreeze-gov\n"))
        .collect()
}

fn governor() -> String {
    assert!(eventually(DEADLINE, || governors().len() == 1), "{:?}", governors());
    governors().remove(0)
}

/// How often a thread has gone to sleep, and the time that it has used in the kernel's ticks.
fn sleeps_and_ticks(task: &str) -> (u64, u64) {
    let status = fs::read_to_string(format!("{task}/status")).expect("the thread is there");
    let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("a known line");
    let stat = fs::read_to_string(format!("{task}/stat")).expect("the thread is there");
    let after_name = stat.rsplit(')').next().expect("a name in brackets");
    // Fields 14 and 15, the name being the second.
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number"));
    (sleeps.trim().parse().expect("a number"), ticks.sum())
}

/// A block of so many bytes, each page of it written.
fn block(bytes: usize) -> Vec<u8> {
    let mut block = Vec::with_capacity(bytes);
    block.resize(bytes, 1);
    black_box(block)
}

fn purged_bytes() -> usize {
    antifreeze::counters().purge.bytes() as usize
}

fn wait_until_purged(bytes: usize) {
    let purged = eventually(DEADLINE / 2, || purged_bytes() >= bytes);
    assert!(purged, "{} of {bytes} bytes: {:?}", purged_bytes(), antifreeze::stats().governor);
}

fn free_nothing() {
    let blocks: Vec<Vec<u8>> = (1..100).map(|n| block(n * 200)).collect();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(governors(), [""; 0]);
    drop(blocks);
    drop(block(64 * MIB));
    governor();
}

/// A thread that is bound to one processor, and is a real-time one if that is permitted, frees memory first.
fn bound() {
    let allowed = |task: &str| {
        let status = fs::read_to_string(format!("{task}/status")).expect("the thread is there");
        status.lines().find(|line| line.starts_with("Cpus_allowed:")).expect("a known line").to_owned()
    };
    std::thread::spawn(|| {
        let mut one = CpuSet::new();
        let all = sched_getaffinity(Pid::from_raw(0)).expect("a thread may ask");
        let first = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap_or(false)).expect("there is a processor");
        one.set(first).expect("a known processor");
        sched_setaffinity(Pid::from_raw(0), &one).expect("a thread may be bound");
        let priority = libc::sched_param { sched_priority: 1 };
        // SAFETY: sched_setscheduler(2) reads the live struct. If it is not permitted the thread stays as it is.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
        drop(block(64 * MIB));
    })
    .join()
    .expect("the thread ends well");
    let task = governor();
    // The name is given first, the processors right after it.
    let freed = eventually(DEADLINE, || allowed(&task) == allowed("/proc/self"));
    assert!(freed, "{} instead of {}", allowed(&task), allowed("/proc/self"));
    let stat = fs::read_to_string(format!("{task}/stat")).expect("the thread is there");
    let policy = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(38)).expect("field 41");
    assert_eq!(policy, "0", "the ordinary policy");
}

fn sleep() {
    for _ in 0..3 {
        let before = purged_bytes();
        drop(block(64 * MIB));
        wait_until_purged(before + 64 * MIB);
        let task = governor();
        // `futex` (its number), with a fourth argument, the time-out, of none.
        let sleeps_for_good = || {
            let call = fs::read_to_string(format!("{task}/syscall")).unwrap_or_default();
            let mut words = call.split_whitespace();
            words.next() == Some(libc::SYS_futex.to_string().as_str()) && words.nth(3) == Some("0x0")
        };
        if fs::read_to_string(format!("{task}/syscall")).is_err() {
            skip("the kernel does not tell in which call a thread is");
        } else {
            assert!(eventually(Duration::from_secs(10), sleeps_for_good), "{}", common::threads_of(std::process::id()));
        }
        let before = sleeps_and_ticks(&task);
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(sleeps_and_ticks(&task), before, "it woke up");
    }
}

fn linger() {
    drop(block(64 * MIB));
    let task = governor();
    std::thread::sleep(Duration::from_millis(200));
    let (sleeps, ticks) = sleeps_and_ticks(&task);
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    let (sleeps_after, ticks_after) = sleeps_and_ticks(&task);
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(purged_bytes(), 0);
    let sleeps_per_second = (sleeps_after - sleeps) as f64 / seconds;
    assert!(sleeps_per_second < 40.0, "{sleeps_per_second} per second");
    // A tick is 10 ms, of which 1 % of a core has three here.
    assert!(ticks_after - ticks <= 3, "{} ticks", ticks_after - ticks);
}

fn decay() {
    let before = resident_bytes();
    let blocks: Vec<Vec<u8>> = (0..100).map(|_| block(MIB)).chain([block(100 * MIB)]).collect();
    assert!(resident_bytes() >= before + 200 * MIB);
    let freed = Instant::now();
    drop(blocks);
    let kept_bytes = || resident_bytes().saturating_sub(before);
    std::thread::sleep(Duration::from_millis(500));
    let kept = kept_bytes();
    if freed.elapsed() < Duration::from_millis(900) {
        assert!(kept >= 190 * MIB, "{} MiB are left within the time to linger", kept / MIB);
    }
    let gone = eventually(DEADLINE, || kept_bytes() < 16 * MIB);
    let took = freed.elapsed();
    assert!(gone, "{} MiB stay", kept_bytes() / MIB);
    assert!((Duration::from_millis(1500)..Duration::from_secs(6)).contains(&took), "gone after {took:?}");
}

fn ask_back() {
    let blocks: Vec<Vec<u8>> = (0..128).map(|_| block(MIB)).chain([block(128 * MIB)]).collect();
    drop(blocks);
    governor();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(purged_bytes(), 0, "without decay it stays");
    for bytes in [10 * MIB, 100 * MIB] {
        let before = purged_bytes();
        antifreeze::purge(bytes);
        wait_until_purged(before + bytes);
        std::thread::sleep(Duration::from_millis(300));
        let came = purged_bytes() - before;
        // A step of the largest size beyond what was asked for.
        assert!(came <= bytes + 64 * MIB, "{} MiB instead of {}", came / MIB, bytes / MIB);
    }
    antifreeze::purge(usize::MAX);
    wait_until_purged(250 * MIB);
}

fn tick() {
    let one_thread = || assert_eq!(fs::read_dir("/proc/self/task").expect("threads can be listed").count(), 1);
    let resident = resident_bytes();
    drop(block(256 * MIB));
    std::thread::sleep(Duration::from_millis(300));
    one_thread();
    assert!(purged_bytes() == 0 && resident_bytes() >= resident + 250 * MIB, "memory came back by itself");
    let end = Instant::now() + DEADLINE;
    while let Some(wait) = antifreeze::tick() {
        assert!(Instant::now() < end && wait <= Duration::from_secs(1), "{wait:?}");
        std::thread::sleep(wait);
    }
    assert!(purged_bytes() >= 256 * MIB && resident_bytes() < resident + 16 * MIB);
    let request = antifreeze::prewarm(64 * MIB);
    assert_eq!(request.wait(Duration::from_millis(100)).state, PrewarmState::Warming, "nobody ticks");
    while request.progress().state == PrewarmState::Warming && Instant::now() < end {
        antifreeze::tick();
    }
    assert_eq!(request.progress().state, PrewarmState::Ready);
    one_thread();
}

/// Has the governor give some memory back, if it has not already.
fn give_back() {
    let before = purged_bytes();
    drop(block(48 * MIB));
    wait_until_purged(before + 32 * MIB);
}

fn forks() {
    for number in 0..60 {
        // It is given back while the child is made.
        drop(block(64 * MIB));
        if number % 3 == 1 {
            std::thread::sleep(Duration::from_micros(number * 20));
        }
        // SAFETY: that a child of a process with threads may allocate is a promise that is tested here.
        match unsafe { fork() }.expect("the system can fork") {
            ForkResult::Child => {
                let worked = std::panic::catch_unwind(|| {
                    give_back();
                    assert_eq!(governors().len(), 1);
                });
                // SAFETY: ends the process without the exit handlers of the parent's libraries.
                unsafe { libc::_exit(if worked.is_ok() { 0 } else { 101 }) };
            }
            ForkResult::Parent { child } => {
                let ended = waitpid(child, None).expect("the child is ours");
                assert_eq!(ended, WaitStatus::Exited(child, 0), "child {number}");
            }
        }
    }
    give_back();
    assert_eq!(governors().len(), 1);
}

fn prewarm() {
    const BYTES: usize = 256 * MIB;
    drop(block(100));
    let before = resident_bytes();
    let request = antifreeze::prewarm(BYTES);
    let progress = request.wait(DEADLINE);
    assert_eq!((progress.state, progress.warm_bytes), (PrewarmState::Ready, BYTES as u64), "{progress:?}");
    let risen = resident_bytes() - before;
    assert!((BYTES..BYTES + 16 * MIB).contains(&risen), "{} MiB more are resident", risen / MIB);
    let faults = || getrusage(UsageWho::RUSAGE_THREAD).expect("a thread may ask").minor_page_faults();
    let faults_before = faults();
    let mut zeroes = vec![0_u8; BYTES];
    assert!(zeroes.iter().all(|byte| *byte == 0));
    zeroes.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    let faulted = faults() - faults_before;
    assert!(faulted < 20, "{faulted} page faults");
    assert!(resident_bytes() < before + BYTES + 16 * MIB);
    assert!(eventually(DEADLINE, || request.progress().state == PrewarmState::Taken), "{:?}", request.progress());
    drop(black_box(zeroes));
}

fn cancel() {
    drop(block(100));
    let before = resident_bytes();
    let more_bytes = || resident_bytes().saturating_sub(before);
    // A handle that is dropped takes nothing back.
    let request = antifreeze::prewarm(64 * MIB);
    assert_eq!(request.wait(DEADLINE).state, PrewarmState::Ready);
    drop(request);
    std::thread::sleep(Duration::from_secs(1));
    assert!(more_bytes() >= 64 * MIB, "what was asked for stays: {} MiB", more_bytes() / MIB);
    let kept = more_bytes();
    // One that is ready, and one that is under way, are given back when they are cancelled.
    let ready = antifreeze::prewarm(128 * MIB);
    assert_eq!(ready.wait(DEADLINE).state, PrewarmState::Ready);
    let begun = antifreeze::prewarm(4096 * MIB);
    assert_eq!(begun.wait(Duration::ZERO).state, PrewarmState::Warming);
    assert!(eventually(DEADLINE, || begun.progress().faulted_bytes > 0), "{:?}", begun.progress());
    for request in [&begun, &ready] {
        request.cancel();
        let cancelled = || request.progress().state == PrewarmState::Cancelled;
        assert!(eventually(DEADLINE, cancelled), "{:?}", request.progress());
    }
    assert!(eventually(DEADLINE, || more_bytes() < kept + 16 * MIB), "{} MiB more", more_bytes() / MIB);
    assert!(begun.progress().faulted_bytes < 4096 * MIB as u64);
}

fn every_end() {
    if common::available_bytes() < 4096 * MIB {
        return skip("the machine has not got the gigabytes");
    }
    for (way, expected) in [("return", None), ("exit", None), ("_exit", None), ("signal", Some(Signal::SIGTERM))] {
        let mut command = common::job("end", &[way]);
        // As slow as it goes, so that the end comes in the middle.
        command.envs([("ANTIFREEZE_LINGER", "0"), ("ANTIFREEZE_DECAY", "0"), ("ANTIFREEZE_PURGE_RATE", "200MiB/s")]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a child starts");
        let mut byte = [0];
        child.stdout.take().expect("a pipe").read_exact(&mut byte).expect("the child says when");
        if expected.is_some() {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("our child");
        }
        let start = Instant::now();
        let status = common::wait(&mut child, DEADLINE);
        assert_eq!(status.signal(), expected.map(|signal| signal as i32), "{way}: {status}");
        assert!(status.code().unwrap_or(0) == 0, "{way}: {status}");
        assert!(start.elapsed() < Duration::from_secs(3), "{way} took {:?}", start.elapsed());
    }
}

fn end(way: &str) {
    drop(block(2048 * MIB));
    wait_until_purged(8 * MIB);
    assert!(purged_bytes() < 1024 * MIB);
    // One byte; what a buffer holds would come at the end.
    nix::unistd::write(std::io::stdout(), b".").expect("the parent reads");
    match way {
        "return" => {}
        "exit" => std::process::exit(0),
        // SAFETY: ends the process at once.
        "_exit" => unsafe { libc::_exit(0) },
        _ => std::thread::sleep(DEADLINE),
    }
}
