//! Aim: a child that is forked at any moment of its parent's work can allocate, free what it inherited, start threads,
//! give memory back and fork again.
//!
//! Method: a process whose threads allocate and free all the time forks again and again. Each child does a bit of
//! everything and ends with code 0; the parent reaps it, and one that hangs is ended and shown with the state of its
//! threads.

mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Random, Test};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

fn main() {
    common::run(&[
        Test::InEachMode("a_child_forked_amid_the_work_of_threads_lives_and_allocates", many_forks),
        Test::InEachMode("a_grandchild_lives_and_allocates", grandchild),
        Test::InEachMode("a_child_gives_memory_back", child_gives_memory_back),
        Test::InEachMode("a_child_of_a_thread_lives_and_allocates", fork_from_threads),
        Test::InEachMode("the_parent_is_as_before", parent_is_as_before),
    ]);
}

/// How long a child may take: far above what it needs, also on a busy machine.
const CHILD_DEADLINE: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;

/// Forks, has the child do `work`, and waits until it has ended well.
fn in_child(what: &str, work: impl FnOnce()) {
    // SAFETY: that a child of a process with threads may allocate is what is tested. Besides that it uses the C library
    // as glibc allows it after fork.
    match unsafe { fork() }.expect("the system can fork") {
        ForkResult::Parent { child } => reap(what, child),
        ForkResult::Child => {
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
            // SAFETY: ends the process without the exit handlers of the parent's libraries.
            unsafe { libc::_exit(if worked { 0 } else { 101 }) };
        }
    }
}

fn reap(what: &str, child: Pid) {
    let end = Instant::now() + CHILD_DEADLINE;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).expect("the child is ours") {
            WaitStatus::StillAlive if Instant::now() > end => {
                let threads = common::threads_of(child.as_raw().unsigned_abs());
                kill(child, Signal::SIGKILL).expect("the child is ours");
                waitpid(child, None).expect("the child is ours");
                panic!("{what}: the child hung:\n{threads}");
            }
            WaitStatus::StillAlive => std::thread::sleep(Duration::from_micros(200)),
            WaitStatus::Exited(_, 0) => return,
            ended => panic!("{what}: the child ended with {ended:?}"),
        }
    }
}

/// A block that one process or thread allocated and another frees, filled with one byte.
struct Gift {
    base: *mut u8,
    layout: Layout,
    byte: u8,
}

// SAFETY: whoever holds the record owns the block.
unsafe impl Send for Gift {}

impl Gift {
    fn new(bytes: usize, byte: u8) -> Self {
        let layout = Layout::from_size_align(bytes, 16).expect("small sizes make a layout");
        // SAFETY: the size is not zero.
        let base = unsafe { GLOBAL.alloc(layout) };
        assert!(!base.is_null(), "no memory for {bytes} bytes");
        let gift = Gift { base, layout, byte };
        // SAFETY: the block is ours and holds `bytes`.
        gift.places().for_each(|at| unsafe { base.add(at).write(byte) });
        gift
    }

    /// Where the byte is written: everywhere in small blocks, at few places in large ones, so that a child is quick.
    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let bytes = self.layout.size();
        (0..bytes).step_by(if bytes <= 4096 { 1 } else { bytes / 3 }).chain([bytes - 1])
    }

    fn check(&self) {
        // SAFETY: the block is ours and was written at these places.
        let same = self.places().all(|at| unsafe { self.base.add(at).read() } == self.byte);
        assert!(same, "{:p} has lost its contents", self.base);
    }

    fn free(self) {
        self.check();
        // SAFETY: the block is ours, with this layout, and is not used again.
        unsafe { GLOBAL.dealloc(self.base, self.layout) };
    }
}

/// The records of blocks once more, for a child: it has its own copy of all memory.
fn copies(gifts: &[Gift]) -> Vec<Gift> {
    gifts.iter().map(|gift| Gift { base: gift.base, layout: gift.layout, byte: gift.byte }).collect()
}

const SIZES: [usize; 10] = [16, 48, 100, 700, 4096, 30_000, 300_000, MIB, 5 * MIB, 33 * MIB];

fn gifts(byte: u8) -> Vec<Gift> {
    SIZES.into_iter().map(|bytes| Gift::new(bytes, byte)).collect()
}

/// A bit of everything that a child may do.
fn do_everything(inherited: Vec<Gift>) {
    let own = gifts(1);
    for gift in inherited {
        gift.free();
    }
    let many: Vec<Gift> = (0..1000).map(|n| Gift::new(16 + n % 300, 2)).collect();
    let thread = std::thread::spawn(move || {
        for gift in gifts(3).into_iter().chain(many) {
            gift.free();
        }
        gifts(4)
    });
    let mut grown: Vec<u8> = vec![5; 1000];
    while grown.len() < 3 * MIB {
        grown.extend_from_within(..);
    }
    assert!(grown.iter().all(|byte| *byte == 5));
    for gift in own.into_iter().chain(thread.join().expect("the thread does not panic")) {
        gift.free();
    }
}

/// Threads that allocate and free until the process or the scope ends; each leaves some blocks in `left`.
struct Busy {
    stop: AtomicBool,
    rounds: AtomicUsize,
}

impl Busy {
    const THREADS: usize = 3;

    const fn new() -> Self {
        Busy { stop: AtomicBool::new(false), rounds: AtomicUsize::new(0) }
    }

    fn work(&self, number: u64) {
        let mut random = Random::new(number);
        let mut held: Vec<Gift> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let bytes_max = if random.one_in(50) { 64 * MIB } else { 8192 };
            let bytes = random.log_uniform(1..=bytes_max);
            // Large blocks are written at few places only: a fork copies page tables.
            if bytes > MIB {
                drop(Vec::<u8>::with_capacity(bytes));
            } else {
                held.push(Gift::new(bytes, number as u8));
            }
            if held.len() > 300 {
                let place = random.below(held.len());
                held.swap_remove(place).free();
            }
            if random.one_in(2000) {
                held.drain(..).for_each(Gift::free);
            }
            self.rounds.fetch_add(1, Ordering::Relaxed);
        }
        held.into_iter().for_each(Gift::free);
    }

    /// Runs `body` while the threads work. It gets blocks that they allocated, for `children` children.
    fn run(&self, children: usize, body: impl FnOnce(Vec<Vec<Gift>>)) {
        let seed = common::seed_from_environment().unwrap_or_else(common::seed_from_clock);
        println!("fork: ANTIFREEZE_TEST_SEED={seed}");
        let ready = Barrier::new(Self::THREADS + 1);
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::channel();
            for number in 0..Self::THREADS as u64 {
                let (sender, ready) = (sender.clone(), &ready);
                scope.spawn(move || {
                    sender.send((0..children).map(|_| gifts(9)).collect::<Vec<_>>()).expect("the main thread waits");
                    ready.wait();
                    self.work(seed.wrapping_add(number));
                });
            }
            ready.wait();
            let mut for_children: Vec<Vec<Gift>> = (0..children).map(|_| gifts(8)).collect();
            for blocks in receiver.iter().take(Self::THREADS) {
                for (child, more) in for_children.iter_mut().zip(blocks) {
                    child.extend(more);
                }
            }
            // However the body ends, the threads must.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(for_children)));
            self.stop.store(true, Ordering::Relaxed);
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        });
        assert!(self.rounds.load(Ordering::Relaxed) > 0, "the threads did nothing");
    }
}

fn many_forks() {
    const CHILDREN: usize = 50;
    Busy::new().run(4, |for_children| {
        for number in 0..CHILDREN {
            let inherited = copies(&for_children[number % for_children.len()]);
            in_child(&format!("child {number}"), || do_everything(inherited));
        }
        for_children.into_iter().flatten().for_each(Gift::free);
    });
}

fn grandchild() {
    Busy::new().run(1, |for_children| {
        let inherited = for_children.into_iter().next().expect("there is one set");
        for number in 0..5 {
            let mut for_child = copies(&inherited);
            let for_grandchild = for_child.split_off(inherited.len() / 2);
            in_child(&format!("child {number}"), || {
                do_everything(for_child);
                Busy::new().run(0, |_| {
                    in_child(&format!("grandchild {number}"), || do_everything(for_grandchild));
                });
            });
        }
        inherited.into_iter().for_each(Gift::free);
    });
}

/// Frees much and waits until the background thread has purged it.
fn give_back(what: &str) {
    let before = antifreeze::stats().purge.bytes();
    let blocks: Vec<Gift> = (0..8).map(|_| Gift::new(8 * MIB, 6)).collect();
    blocks.into_iter().for_each(Gift::free);
    let given =
        common::eventually(CHILD_DEADLINE / 2, || antifreeze::stats().purge.bytes() >= before + 32 * MIB as u64);
    assert!(given, "{what}: memory stays: {:?}", antifreeze::stats().purge.governor);
}

fn child_gives_memory_back() {
    // The parent's own background thread is at work when it forks.
    give_back("parent");
    for number in 0..2 {
        Gift::new(40 * MIB, 7).free();
        in_child("child", || {
            give_back("child");
            in_child("grandchild", || give_back("grandchild"));
        });
        std::thread::sleep(Duration::from_millis(150 * number));
    }
    give_back("parent, afterwards");
}

fn fork_from_threads() {
    Busy::new().run(0, |_| {
        std::thread::scope(|scope| {
            for number in 0..4 {
                scope.spawn(move || {
                    // One thread forks before it has allocated much, the others in the midst of it.
                    let inherited = if number == 0 { Vec::new() } else { gifts(7) };
                    let for_child = copies(&inherited);
                    in_child(&format!("child of thread {number}"), || do_everything(for_child));
                    inherited.into_iter().for_each(Gift::free);
                });
            }
        });
    });
}

fn parent_is_as_before() {
    let blocks = gifts(1);
    in_child("child", || do_everything(gifts(2)));
    blocks.iter().for_each(Gift::check);
    blocks.into_iter().for_each(Gift::free);
    do_everything(gifts(3));
}
