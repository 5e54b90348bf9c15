//! Aim: the kernel itself says that no thread of a program takes mmap_lock for writing on the allocator's account
//! (promise P1), and that no thread of the program gives memory back (promise P3). And a program that locks its memory
//! locks about what it uses.
//!
//! Method: a child starts its threads, says that it is ready and waits. The parent traces it from outside with
//! `lock-trace`: each acquisition of mmap_lock and each system call that can take it, by thread. The child then does
//! work of every kind without any other call that maps memory. A control with one deliberate mmap shows that such a
//! call would be seen.

mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{DEADLINE, Random, Test};
use lock_trace::{CallRow, Options, Row, Trace, Tracer};
use nix::sys::mman::{MapFlags, MlockAllFlags, ProtFlags, mlockall, mmap_anonymous, munmap};
use test_support::skip;

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

fn main() {
    common::run(&[
        Test::Here("in_ready_mode_no_thread_takes_the_lock_for_writing", ready_mode),
        Test::Here("in_stepped_mode_each_acquisition_for_writing_is_a_counted_mprotect", stepped_mode),
        Test::Here("bursts_and_drops_of_gigabytes_take_no_lock_for_writing", bursts_in_ready_mode),
        Test::Here("starting_the_background_thread_takes_no_lock_for_writing", background_thread),
        Test::Here("a_deliberate_mmap_is_seen", control),
        Test::Here("locking_all_memory_later_locks_about_what_is_used", locked_memory),
        Test::Job("traced", traced),
        Test::Job("bursts", bursts),
        Test::Job("background_thread", start_background_thread),
        Test::Job("locked", locked),
    ]);
}

const MIB: usize = 1 << 20;

// The child.

/// Says a line to the parent.
fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().expect("the parent reads");
}

/// Waits for a line of the parent.
fn hear(wanted: &str) {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the parent writes");
    assert_eq!(line.trim(), wanted);
}

/// Touches the main thread's stack as deep as it will be used: its growth takes the lock for writing.
#[inline(never)]
fn deepen_stack(levels: usize) -> usize {
    let place = std::hint::black_box([levels; 512]);
    if levels == 0 { place[7] } else { deepen_stack(levels - 1) + place[9] }
}

fn traced(arguments: &[String]) {
    // Whatever goes wrong, the parent does not wait for ever.
    nix::unistd::alarm::set(90);
    let deliberate = arguments.iter().any(|argument| argument == "deliberate");
    std::hint::black_box(deepen_stack(60));
    // The threads stay until the trace is over: their stacks are given back when they end.
    let [start, done, end] = std::array::from_fn(|_| Barrier::new(4));
    let (sender, receiver) = channel::<Box<[u8]>>();
    std::thread::scope(|scope| {
        let between = |work: Box<dyn FnOnce() + Send>| {
            let [start, done, end] = [&start, &done, &end];
            scope.spawn(move || {
                start.wait();
                work();
                done.wait();
                end.wait();
            });
        };
        let send = move |block| sender.send(block).expect("the next thread listens");
        between(Box::new(move || mixed_work(1, send)));
        between(Box::new(move || receiver.into_iter().for_each(drop)));
        between(Box::new(move || {
            growth_and_drop();
            mixed_work(2, drop);
        }));
        say("ready");
        hear("go");
        let before = antifreeze::stats();
        start.wait();
        if deliberate {
            map_and_unmap();
        }
        done.wait();
        settle();
        let after = antifreeze::stats();
        let write_lock_calls = after.write_lock_calls - before.write_lock_calls;
        let purge_calls = after.purge.calls() - before.purge.calls();
        say(&format!("done {write_lock_calls} {} {purge_calls}", after.commit.errors()));
        hear("end");
        end.wait();
    });
}

/// Waits until the background thread has given back what was freed, and calls nothing any more.
fn settle() {
    let mut calls = u64::MAX;
    let quiet = common::eventually(DEADLINE, || {
        std::thread::sleep(Duration::from_millis(500));
        let stats = antifreeze::counters();
        let before = std::mem::replace(&mut calls, stats.purge.calls() + stats.warm.calls());
        stats.governor.retired == 0 && calls == before
    });
    assert!(quiet, "memory does not come back: {:?}", antifreeze::stats());
}

/// For some seconds: tables of up to gigabytes are built and dropped on one thread, small and large blocks come and go
/// in bursts on another, memory is prewarmed on a third; then all is given back.
fn bursts(arguments: &[String]) {
    nix::unistd::alarm::set(240);
    std::hint::black_box(deepen_stack(60));
    let seconds: u64 = arguments.first().and_then(|text| text.parse().ok()).expect("a number of seconds");
    let most = (common::available_bytes() / 4).min(3 << 30);
    let [start, done, end] = std::array::from_fn(|_| Barrier::new(4));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let between = |work: Box<dyn Fn(&mut Random) + Send>, seed: u64| {
            let ([start, done, end], over) = ([&start, &done, &end], &over);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                start.wait();
                while !over.load(Ordering::Relaxed) {
                    work(&mut random);
                }
                done.wait();
                end.wait();
            });
        };
        between(Box::new(move |random| drop_tables(random, most)), 5);
        between(Box::new(burst), 6);
        between(Box::new(prewarm_and_use), 7);
        say("ready");
        hear("go");
        let before = antifreeze::stats();
        start.wait();
        std::thread::sleep(Duration::from_secs(seconds));
        over.store(true, Ordering::Relaxed);
        done.wait();
        settle();
        let after = antifreeze::stats();
        let write_lock_calls = after.write_lock_calls - before.write_lock_calls;
        let purge_calls = after.purge.calls() - before.purge.calls();
        let calls = [("purge", after.purge.governor), ("warm", after.warm.governor)];
        for (name, calls) in calls {
            let within = 100.0 * (1.0 - calls.over_budget as f64 / calls.calls.max(1) as f64);
            let [half, most] = [500, 999].map(|part| calls.time.quantile_ns(part) / 1000);
            eprintln!(
                "mmap_lock: bursts: {} calls to {name} over {} MiB: {within:.2} % within hold_budget; half took \
                 at most {half} µs, 99.9 % at most {most} µs",
                calls.calls,
                calls.bytes >> 20,
            );
        }
        say(&format!("done {write_lock_calls} {} {purge_calls}", after.commit.errors()));
        hear("end");
        end.wait();
    });
}

/// Builds a table that doubles, touches every page of it, and drops it.
fn drop_tables(random: &mut Random, most: usize) {
    let mut table: Vec<u8> = Vec::new();
    let bytes = random.log_uniform(64 * MIB..=most / 2);
    for bytes in [bytes / 2, bytes] {
        let mut next: Vec<u8> = Vec::with_capacity(bytes);
        // SAFETY: all of these places lie in the vector's memory.
        (0..bytes).step_by(4096).for_each(|at| unsafe { next.as_mut_ptr().add(at).write(1) });
        // The smaller one is freed after the larger one was filled.
        table = next;
    }
    drop(table);
    std::thread::sleep(Duration::from_millis(random.below(400) as u64));
}

/// Some hundred megabytes of blocks of all sizes, freed in another order.
fn burst(random: &mut Random) {
    let mut held: Vec<Box<[u8]>> = Vec::with_capacity(20_000);
    let mut bytes = 0;
    while bytes < 200 * MIB && held.len() < held.capacity() {
        let size = if random.one_in(50) { 4 * MIB } else { 16 << 10 };
        let block = vec![1; random.log_uniform(16..=size)].into_boxed_slice();
        bytes += block.len();
        held.push(block);
    }
    while !held.is_empty() {
        held.swap_remove(random.below(held.len()));
    }
    std::thread::sleep(Duration::from_millis(random.below(300) as u64));
}

/// Has some memory warmed, and uses it or not.
fn prewarm_and_use(random: &mut Random) {
    let bytes = random.log_uniform(32 * MIB..=256 * MIB);
    let request = antifreeze::prewarm(bytes);
    let progress = request.wait(Duration::from_millis(random.below(1500) as u64));
    match random.below(3) {
        0 => request.cancel(),
        1 => {
            let block = vec![0_u8; bytes];
            let dirty = (0..bytes).step_by(64 << 10).any(|at| block[at] != 0);
            assert!(!dirty, "memory that should be zero is not: {progress:?}");
        }
        _ => {}
    }
    std::thread::sleep(Duration::from_millis(random.below(500) as u64));
}

fn map_and_unmap() {
    let length = std::num::NonZeroUsize::new(MIB).expect("not zero");
    // SAFETY: a fresh mapping that is given back at once and never used.
    unsafe {
        let base = mmap_anonymous(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE).expect("mmap works");
        munmap(base, MIB).expect("munmap works");
    }
}

/// Small, large and huge blocks, held for a while; some go to `give`.
fn mixed_work(seed: u64, mut give: impl FnMut(Box<[u8]>)) {
    let mut random = Random::new(seed);
    let mut held: Vec<Box<[u8]>> = Vec::with_capacity(2000);
    for step in 0..60_000 {
        let bytes_max = if step % 500 == 0 {
            48 * MIB
        } else if step % 20 == 0 {
            3 * MIB
        } else {
            4096
        };
        let bytes = random.log_uniform(1..=bytes_max);
        let block = if random.one_in(4) { vec![0; bytes] } else { Vec::with_capacity(bytes) };
        let mut block: Vec<u8> = block;
        block.clear();
        block.push(1);
        block.reserve_exact(bytes - 1);
        // SAFETY: the first byte is written, and the others are never read.
        unsafe { block.set_len(bytes) };
        held.push(block.into_boxed_slice());
        if held.len() == held.capacity() || random.one_in(3) {
            let place = random.below(held.len());
            let block = held.swap_remove(place);
            if random.one_in(2) { give(block) } else { drop(block) }
        }
    }
}

/// A vector grown from small to 1.25 GiB by doubling, touched, dropped whole; and once more.
fn growth_and_drop() {
    for _ in 0..2 {
        let mut vector: Vec<u8> = Vec::with_capacity(100);
        while vector.capacity() < 1280 * MIB {
            vector.reserve_exact((vector.capacity() * 2).min(1280 * MIB));
        }
        let base = vector.as_mut_ptr();
        // SAFETY: all of these places lie in the vector's memory.
        (0..1280 * MIB).step_by(64 << 10).for_each(|at| unsafe { base.add(at).write(1) });
        vector.shrink_to(500 * MIB);
        vector.reserve_exact(700 * MIB);
    }
}

/// Has the background thread started by a thread whose first call of the allocator is a free.
fn start_background_thread(_: &[String]) {
    nix::unistd::alarm::set(90);
    std::hint::black_box(deepen_stack(60));
    // SAFETY: the size is not zero; the first byte is written, so that there is something to give back.
    let block = unsafe {
        let block = GLOBAL.alloc(HUGE);
        block.write(1);
        block.expose_provenance()
    };
    let turn = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            turn.wait();
            // SAFETY: the block is live with this layout and nobody else's.
            unsafe { GLOBAL.dealloc(std::ptr::with_exposed_provenance_mut(block), HUGE) };
            turn.wait();
            turn.wait();
        });
        say("ready");
        hear("go");
        turn.wait();
        turn.wait();
        // All of it, so that no purge is still to come when the calls are counted.
        let purged = common::eventually(DEADLINE, || antifreeze::stats().purge.bytes() >= HUGE.size() as u64);
        assert!(purged, "the block was not purged");
        let stats = antifreeze::stats();
        say(&format!("done {} {} {}", stats.write_lock_calls, stats.commit.errors(), stats.purge.calls()));
        hear("end");
        turn.wait();
    });
}

const HUGE: Layout = match Layout::from_size_align(64 * MIB, 8) {
    Ok(layout) => layout,
    Err(_) => panic!("a possible layout"),
};

// The parent.

/// A child that waits for lines on its standard input.
struct Partner {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Partner {
    fn start(job: &str, arguments: &[&str], mode: &str) -> Partner {
        let mut command = common::job(job, arguments);
        // Soon, so that the trace ends soon.
        command.env("ANTIFREEZE_LINGER", "100ms").env("ANTIFREEZE_DECAY", "1s");
        command.env("ANTIFREEZE_COMMIT", mode).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a child starts");
        let input = child.stdin.take().expect("standard input is a pipe");
        let output = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        Partner { child, input, output }
    }

    /// The next line, which must begin with `word`; what follows it.
    fn hear(&mut self, word: &str) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the child writes");
        let rest = line.strip_prefix(word).unwrap_or_else(|| panic!("the child said {line:?} instead of {word}"));
        rest.trim().to_owned()
    }

    fn say(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).expect("the child reads");
    }

    fn end(mut self) {
        self.say("end");
        let status = common::wait(&mut self.child, DEADLINE);
        assert!(status.success(), "the child ended with {status}");
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // After `end` it is gone already, and there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the kernel saw of a child.
struct Seen {
    trace: Trace,
}

impl Seen {
    /// Calls of this name that asked for something.
    fn calls(&self, is_wanted: impl Fn(&CallRow) -> bool) -> u64 {
        let wanted = self.trace.calls.iter().filter(|row| is_wanted(row));
        wanted.map(|row| row.count - row.empty).sum()
    }

    /// Acquisitions of the lock for writing by the child's threads, in these activities.
    fn writes(&self, is_wanted: impl Fn(&Row) -> bool) -> u64 {
        self.trace.writes_by(|row| !row.outsider && is_wanted(row)).count
    }

    /// Calls by which memory is given back, and the like. One over no range is how the allocator finds out whether
    /// there is such a call.
    fn advice(&self, is_wanted: impl Fn(&CallRow) -> bool) -> u64 {
        self.calls(|row| ["madvise", "process_madvise"].contains(&row.call.as_str()) && is_wanted(row))
    }
}

/// The child's own numbers.
struct Told {
    write_lock_calls: u64,
    commit_errors: u64,
    purge_calls: u64,
}

/// So that nothing is lost while other programs keep the collecting thread from running.
const RING_BYTES: usize = 32 * MIB;

/// Runs a traced job in `mode`. `None` if the machine does not allow it; that is told then.
fn trace(job: &str, mode: &str, arguments: &[&str]) -> Option<(Seen, Told)> {
    let mut partner = Partner::start(job, arguments, mode);
    partner.hear("ready");
    let options = Options { ring_bytes: RING_BYTES, ..Options::default() };
    let tracer = match Tracer::attach(partner.child.id(), &options) {
        Ok(tracer) => tracer,
        Err(unavailable) => {
            skip(unavailable);
            return None;
        }
    };
    partner.say("go");
    let numbers = partner.hear("done");
    let trace = tracer.stop().expect("the collecting thread does not panic");
    partner.end();
    let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().expect("the child says numbers")).collect();
    let [write_lock_calls, commit_errors, purge_calls] = numbers[..] else { panic!("three numbers: {numbers:?}") };
    let seen = Seen { trace };
    let told = Told { write_lock_calls, commit_errors, purge_calls };
    let (calls, writes) = (seen.calls(|_| true), seen.writes(|_| true));
    let (advice, mprotects) = (seen.advice(|_| true), seen.calls(|row| row.call == "mprotect"));
    println!("mmap_lock: {job} {mode}: {calls} calls, {writes} acquisitions for writing, {advice} madvise");
    println!("mmap_lock: {job} {mode}: {mprotects} mprotect, {write_lock_calls} calls counted by the allocator");
    assert!(!seen.trace.lost.is_incomplete(), "events were lost: {}", seen.trace);
    assert_eq!(seen.trace.gone_ns, None, "the child ended too early: {}", seen.trace);
    assert!(calls > 0, "nothing was recorded");
    Some((seen, told))
}

/// Only the background thread gives memory back, and it does.
fn check_advisers(seen: &Seen, told: &Told) {
    assert!(told.purge_calls > 0, "the background thread did nothing");
    assert_eq!(seen.advice(|_| true), told.purge_calls, "calls seen and calls counted");
    let others = seen.advice(|row| row.thread != "antifreeze-gov");
    assert_eq!(others, 0, "other threads gave memory back: {}", seen.trace);
}

/// No thread of the child takes the lock for writing, nor has it been in the act since before the trace.
fn check_no_writes(seen: &Seen) {
    assert_eq!(seen.writes(|_| true), 0, "mmap_lock was taken for writing: {}", seen.trace);
    assert_eq!(seen.trace.lost.unmatched_releases, 0, "mmap_lock was held when the trace began: {}", seen.trace);
}

fn ready_mode() {
    let Some((seen, told)) = trace("traced", "ready", &[]) else { return };
    if told.commit_errors > 0 {
        return skip("the machine does not let a process have all of its reservation at once");
    }
    check_advisers(&seen, &told);
    check_no_writes(&seen);
    assert_eq!(told.write_lock_calls, 0);
}

/// Seconds of bursts.
const BURSTS_SECONDS: &str = "60";

fn bursts_in_ready_mode() {
    let Some((seen, told)) = trace("bursts", "ready", &[BURSTS_SECONDS]) else { return };
    if told.commit_errors > 0 {
        return skip("the machine does not let a process have all of its reservation at once");
    }
    check_advisers(&seen, &told);
    check_no_writes(&seen);
    assert_eq!(told.write_lock_calls, 0);
}

fn background_thread() {
    let Some((seen, told)) = trace("background_thread", "ready", &[]) else { return };
    if told.commit_errors > 0 {
        return skip("the machine does not let a process have all of its reservation at once");
    }
    check_advisers(&seen, &told);
    check_no_writes(&seen);
}

fn stepped_mode() {
    let Some((seen, told)) = trace("traced", "stepped", &[]) else { return };
    check_advisers(&seen, &told);
    let others = seen.writes(|row| row.activity != "mprotect");
    assert_eq!(others, 0, "mmap_lock was taken for writing other than by mprotect: {}", seen.trace);
    assert!(told.write_lock_calls > 0, "the work outgrows the first steps");
    assert_eq!(seen.writes(|_| true), seen.calls(|row| row.call == "mprotect"));
    assert_eq!(seen.writes(|_| true), told.write_lock_calls, "acquisitions seen and calls counted");
}

fn control() {
    let Some((seen, _)) = trace("traced", "ready", &["deliberate"]) else { return };
    for call in ["mmap", "munmap"] {
        assert_eq!(seen.writes(|row| row.activity == call), 1, "{}", seen.trace);
        assert_eq!(seen.calls(|row| row.call == call), 1, "{}", seen.trace);
    }
    assert_eq!(seen.calls(|row| row.call == "mmap" && row.bytes == MIB as u64), 1, "{}", seen.trace);
}

// Locked memory.

/// Bytes behind a key of `/proc/self/status`.
fn status_bytes(key: &str) -> usize {
    let text = fs::read_to_string("/proc/self/status").expect("status can be read");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("the key is there");
    line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<usize>().expect("a number") << 10
}

fn locked_memory() {
    let mut child = common::job("locked", &[]);
    common::expect_success(child.env_remove("ANTIFREEZE_COMMIT"), DEADLINE);
}

fn locked(_: &[String]) {
    let mut random = Random::new(3);
    let mut bytes = 0;
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    while bytes < 200 * MIB {
        let block = vec![1; random.log_uniform(16..=40 * MIB)];
        bytes += block.len();
        blocks.push(block);
        if random.one_in(4) {
            let place = random.below(blocks.len());
            bytes -= blocks.swap_remove(place).len();
        }
    }
    let before = status_bytes("VmRSS");
    if let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT) {
        return skip(format_args!("mlockall is not permitted: {error}"));
    }
    let (resident, locked) = (status_bytes("VmRSS"), status_bytes("VmLck"));
    let [before, resident, locked] = [before, resident, locked].map(|bytes| bytes / MIB);
    println!("mmap_lock: {before} MiB resident, after mlockall {resident} MiB, {locked} MiB of addresses locked");
    assert!(resident <= 2 * before + 64, "{before} MiB were resident, {resident} MiB after mlockall");
    // What is freed and allocated again works on locked memory.
    for round in 0..3 {
        blocks.truncate(blocks.len() / 2);
        blocks.extend((0..50).map(|_| vec![round; random.log_uniform(16..=4 * MIB)]));
        std::thread::sleep(Duration::from_millis(700));
    }
    assert!(blocks.iter().all(|block| block.iter().all(|byte| *byte == block[0])));
    let layout = Layout::from_size_align(100 * MIB, 8).expect("a possible layout");
    // SAFETY: the size is not zero, and the block is freed with its layout.
    unsafe {
        let block = GLOBAL.alloc_zeroed(layout);
        assert!(!block.is_null());
        GLOBAL.dealloc(block, layout);
    }
}
