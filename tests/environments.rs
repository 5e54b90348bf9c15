//! Aim: where the machine says no, the allocator still works, keeps what it can of its promises, and never ends the
//! process: strict overcommit, limits on addresses and data, locked memory, each mode of transparent hugepages, and an
//! explicit hugepage pool that has enough, too little or nothing.
//!
//! Method: the parent makes the environment and puts it back; a child in it does work of every kind, checks what its
//! blocks hold, and judges by what the kernel says of the process and by the allocator's own numbers.

mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::process::Command;
use std::ptr::null_mut;
use std::time::Duration;

use antifreeze::PrewarmState;
use common::settings::{Turn, bytes_of, setting};
use common::{DEADLINE, MODES, Random, Test};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::Resource;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use test_support::skip;

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

const MIB: usize = 1 << 20;

fn main() {
    common::run(&[
        Test::Here("nothing_is_killed_under_strict_overcommit", strict_overcommit),
        Test::Here("work_goes_on_under_a_limit_on_addresses", || limited(Resource::RLIMIT_AS)),
        Test::Here("work_goes_on_under_a_limit_on_data", || limited(Resource::RLIMIT_DATA)),
        Test::Here("memory_locked_before_the_start_is_brought_in_when_touched", locked_before),
        Test::Here("memory_locked_later_is_brought_in_when_touched", locked_later),
        Test::Here("work_goes_on_in_every_mode_of_transparent_hugepages", hugepage_modes),
        Test::Here("huge_blocks_use_the_pool_of_hugepages_as_far_as_it_goes", pool),
        Test::Here("settings_are_put_back_when_the_test_is_killed", put_back),
        Test::Job("work", |arguments| work(arguments[0].parse().expect("the parent passes a number"))),
        Test::Job("strict", strict),
        Test::Job("locked", |arguments| locked(arguments.first().is_some_and(|when| when == "later"))),
        Test::Job("small_pages", |_| small_pages()),
        Test::Job("pool", |arguments| in_pool(arguments[0].parse().expect("the parent passes a number"))),
        Test::Job("killed", killed),
    ]);
}

/// Runs a child in both modes.
fn in_each_mode(name: &str, arguments: &[&str], prepare: impl Fn(&mut Command) -> &mut Command) {
    for mode in MODES {
        println!("environments: {name} {arguments:?} {mode}");
        let mut child = common::job(name, arguments);
        prepare(child.env("ANTIFREEZE_COMMIT", mode));
        common::expect_success(&mut child, DEADLINE);
    }
}

fn have(mib: usize) -> bool {
    let enough = common::available_bytes() >= mib * MIB;
    if !enough {
        skip(format_args!("less than {mib} MiB of memory is available"));
    }
    enough
}

// Work of every kind.

/// A block whose every byte was written.
fn filled(bytes: usize, tag: u8) -> Box<[u8]> {
    vec![tag; bytes].into_boxed_slice()
}

fn check(block: &[u8]) {
    assert!(block.iter().all(|byte| *byte == block[0]), "a block of {} bytes has changed", block.len());
}

/// Small, large, huge and growing blocks, memory warmed ahead and given back; at most about `mib` MiB at a time.
fn work(mib: usize) {
    let mut random = Random::new(mib as u64);
    let mut blocks: Vec<Box<[u8]>> = Vec::new();
    for number in 0..40_000 {
        let bytes = if number % 2_000 == 0 { mib * MIB / 60 } else { random.log_uniform(1..=3000) };
        blocks.push(filled(bytes, number as u8 | 1));
        if random.one_in(3) {
            let place = random.below(blocks.len());
            check(&blocks.swap_remove(place));
        }
    }
    let huge = filled(mib * MIB / 8, 7);
    let zeroed = vec![0_u8; mib * MIB / 8];
    check(&zeroed);
    let mut grown: Vec<u64> = Vec::new();
    (0..(mib * MIB / 32) as u64).for_each(|number| grown.push(number));
    assert!(grown.iter().copied().eq(0..grown.len() as u64));
    let request = antifreeze::prewarm(mib * MIB / 8);
    let progress = request.wait(Duration::from_secs(30));
    println!("environments: prewarm: {:?}, {} MiB warm", progress.state, progress.warm_bytes >> 20);
    assert_ne!(progress.state, PrewarmState::Warming, "a request has an end");
    let warmed = filled(mib * MIB / 8, 9);
    [&huge, &warmed].into_iter().chain(&blocks).for_each(|block| check(block));
    // All goes back, and what was freed is there again.
    let before = antifreeze::counters();
    drop((huge, zeroed, grown, warmed, blocks));
    antifreeze::purge(usize::MAX);
    let purged = || antifreeze::counters().purge.bytes() - before.purge.bytes();
    let wanted = (mib * MIB / 4) as u64;
    assert!(common::eventually(Duration::from_secs(20), || purged() >= wanted), "only {} bytes", purged());
    let again = vec![0_u8; mib * MIB / 8];
    check(&again);
    report();
}

/// Prints what the kernel was asked for, and checks what holds in every environment.
fn report() {
    let stats = antifreeze::counters();
    let us = |ns: u64| ns / 1_000;
    for (name, call) in [("commit", &stats.commit), ("purge", &stats.purge), ("warm", &stats.warm)] {
        let [application, governor] = [&call.application, &call.governor].map(|counts| (counts.calls, counts.errors));
        let longest_us = us(call.application.time.max_ns.max(call.governor.time.max_ns));
        let over = call.over_budget();
        println!(
            "environments: {name}: {application:?} + {governor:?} calls, longest {longest_us} us, {over} over budget"
        );
    }
    let calls = stats.write_lock_calls;
    println!("environments: {calls} calls for writing, {} MiB resident", common::resident_bytes() / MIB);
    assert_eq!(stats.purge.application.calls, 0, "a thread of the program gave memory back");
    // The machine may stop a thread in the middle of any call, but not in so many.
    let [calls, over] = [stats.purge.calls(), stats.purge.over_budget()];
    assert!(over <= 10 + calls / 4, "{over} of {calls} purges took too long");
}

// Limits.

fn limited(resource: Resource) {
    if have(1500) {
        in_each_mode("work", &["320"], |child| common::limit(child, resource, 1 << 30));
    }
}

const OVERCOMMIT: &str = "/proc/sys/vm/overcommit_memory";
const RATIO: &str = "/proc/sys/vm/overcommit_ratio";
const USER_RESERVE: &str = "/proc/sys/vm/user_reserve_kbytes";

/// What the child may commit. The rest of the machine must go on: the kernel leaves this much to a process, and of what
/// is left to others it takes at most a 32nd of the size of a process, which is little but for a process like ours.
const STRICT_BUDGET: usize = 1 << 30;

fn strict_overcommit() {
    if !have(6000) {
        return;
    }
    let turn = Turn::wait();
    let meminfo = |key| bytes_of("/proc/meminfo", key).expect("the kernel counts what it has promised");
    // All settings are changed in the order in which the machine stays usable.
    let Ok(_ratio) = turn.change(RATIO, "100").map_err(skip) else { return };
    let spare = meminfo("MemTotal").saturating_sub(meminfo("Committed_AS") + STRICT_BUDGET);
    let Ok(_reserve) = turn.change(USER_RESERVE, &(spare >> 10).to_string()).map_err(skip) else {
        return;
    };
    let Ok(_strict) = turn.change(OVERCOMMIT, "2").map_err(skip) else { return };
    in_each_mode("strict", &[], |child| child);
    in_each_mode("work", &["256"], |child| child);
}

/// Live blocks, each with the address of the one before in its first word.
struct Pile {
    top: *mut usize,
    count: usize,
}

impl Pile {
    const LAYOUT: Layout = match Layout::from_size_align(MIB, 8) {
        Ok(layout) => layout,
        Err(_) => panic!("a possible layout"),
    };

    /// Takes blocks until there is none to be had, at most `count_max`.
    fn take_all(count_max: usize) -> Pile {
        let mut pile = Pile { top: null_mut(), count: 0 };
        while pile.count < count_max {
            // SAFETY: the size is not zero.
            let block = unsafe { GLOBAL.alloc(Self::LAYOUT) }.cast::<usize>();
            if block.is_null() {
                break;
            }
            // SAFETY: the block is ours and large enough.
            unsafe { block.write(pile.top.expose_provenance()) };
            (pile.top, pile.count) = (block, pile.count + 1);
        }
        pile
    }
}

impl Drop for Pile {
    fn drop(&mut self) {
        while !self.top.is_null() {
            // SAFETY: the block is on the pile, so it is live and holds the address of the next.
            let next = unsafe { self.top.read() };
            // SAFETY: the block came from `take_all` with this layout and is not used again.
            unsafe { GLOBAL.dealloc(self.top.cast(), Self::LAYOUT) };
            self.top = std::ptr::with_exposed_provenance_mut(next);
        }
    }
}

fn strict(_: &[String]) {
    let count_max = 4 * STRICT_BUDGET / MIB;
    let request = antifreeze::prewarm(64 * MIB);
    assert_eq!(request.wait(Duration::from_secs(20)).state, PrewarmState::Ready);
    assert!(antifreeze::counters().commit.errors() > 0 || std::env::var("ANTIFREEZE_COMMIT").as_deref() != Ok("ready"));
    let pile = Pile::take_all(count_max);
    let first = pile.count;
    let filled = antifreeze::counters();
    // What was kept ahead of need is given up.
    let given_up = common::eventually(Duration::from_secs(5), || {
        request.progress().state == PrewarmState::Pressure && antifreeze::counters().governor.reserve_target == 0
    });
    let mut vector: Vec<u64> = Vec::new();
    let refused = vector.try_reserve_exact(first * MIB / 4).is_err();
    // A test that fails needs memory to say so.
    drop(pile);
    println!("environments: {first} blocks of 1 MiB before the machine said no");
    assert!((128..count_max).contains(&first), "{first} blocks");
    assert!(given_up, "{:?}", request.progress());
    assert!(refused, "no memory is an error and nothing else");
    let [application, governor] = [filled.commit.application, filled.commit.governor].map(|c| (c.calls, c.errors));
    println!("environments: {application:?} + {governor:?} commits");
    // The last memory is taken in pieces, but not in crumbs.
    assert!(filled.write_lock_calls <= 60, "{} calls for writing", filled.write_lock_calls);
    // All of it is to be had again, at once and after it has gone back to the kernel.
    for round in 0..2 {
        let pile = Pile::take_all(count_max);
        assert!(pile.count >= first - first / 50, "round {round}: {first} blocks at first, then {}", pile.count);
        drop(pile);
        antifreeze::purge(usize::MAX);
        assert!(common::eventually(Duration::from_secs(20), || { antifreeze::stats().memory.warm < 64 << 20 }));
    }
    report();
}

// Locked memory.

const LOCK: &std::ffi::CStr = c"ANTIFREEZE_TEST_LOCK";

/// Runs before anything else in this program, so also before it allocates.
#[used]
#[unsafe(link_section = ".init_array")]
static LOCK_FIRST: extern "C" fn() = lock_first;

extern "C" fn lock_first() {
    // SAFETY: nothing else runs yet that could change the environment.
    if !unsafe { libc::getenv(LOCK.as_ptr()) }.is_null() {
        // A refusal shows in `VmLck`. SAFETY: a system call that changes no memory.
        unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
    }
}

/// Whether this process may lock as many addresses as a reservation has.
fn may_lock() -> bool {
    // SAFETY: changes flags of mappings only; nothing is brought in.
    let may = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) } == 0;
    let may = may && nix::unistd::geteuid().is_root();
    if !may {
        skip("locking all memory is not permitted");
    }
    // Whatever was locked.
    let _ = nix::sys::mman::munlockall();
    may
}

fn locked_before() {
    if may_lock() && have(2000) {
        let lock = LOCK.to_str().expect("an ASCII name");
        in_each_mode("locked", &["before"], |child| child.env(lock, "1"));
        in_each_mode("work", &["320"], |child| child.env(lock, "1"));
    }
}

fn locked_later() {
    if may_lock() && have(2000) {
        // Not in ready mode: the program has said that it will not do this.
        for mode in ["stepped", "auto"] {
            println!("environments: locked later, {mode}");
            let mut child = common::job("locked", &["later"]);
            common::expect_success(child.env("ANTIFREEZE_COMMIT", mode), DEADLINE);
        }
    }
}

fn locked(later: bool) {
    if later {
        // Something of every kind, then all is locked.
        let blocks: Vec<Box<[u8]>> = [100, 10_000, MIB, 40 * MIB].iter().map(|bytes| filled(*bytes, 1)).collect();
        mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).expect("the parent may");
        blocks.iter().for_each(|block| check(block));
    }
    let status = |key| bytes_of("/proc/self/status", key).expect("the kernel tells");
    let reserved = antifreeze::stats().memory.reserved as usize;
    assert!(status("VmLck") >= reserved, "memory is locked: {} of {reserved} bytes", status("VmLck"));
    let start = common::resident_bytes();
    println!("environments: {} MiB resident at first, {} MiB reserved", start / MIB, reserved / MIB);
    // Once what was committed by then is in, committing brings nothing in.
    assert!(start < if later { 512 } else { 48 } * MIB, "{start} bytes");
    let layout = Layout::from_size_align(1 << 30, 8).expect("a possible layout");
    for _ in 0..2 {
        // SAFETY: the size is not zero; the block is written within its bounds and freed with its layout.
        unsafe {
            let block = GLOBAL.alloc(layout);
            assert!(!block.is_null());
            block.write(1);
            GLOBAL.dealloc(block, layout);
        }
    }
    let grown = common::resident_bytes().saturating_sub(start);
    assert!(grown < 32 * MIB, "{} MiB came in with a block that nobody has touched", grown / MIB);
    // 1 GiB would take three seconds.
    let commit = antifreeze::counters().commit;
    let longest = commit.application.time.max_ns.max(commit.governor.time.max_ns);
    assert!(longest < 50_000_000, "a commit took {longest} ns");
    work(320);
    let advise = antifreeze::counters().advise;
    // Two at start, and one that has pages locked when they are touched.
    assert_eq!(advise.calls() - advise.errors(), 3 * antifreeze::counters().reserve.calls(), "{advise:?}");
}

// Transparent hugepages.

const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

fn hugepage_modes() {
    if !have(2000) {
        return;
    }
    let turn = Turn::wait();
    for thp in ["never", "madvise", "always"] {
        let Ok(_thp) = turn.change(THP, thp).map_err(skip) else { return };
        println!("environments: hugepages {}", setting(THP).expect("readable"));
        in_each_mode("work", &["320"], |child| child);
        if thp == "never" {
            in_each_mode("small_pages", &[], |child| child);
        }
    }
}

fn small_pages() {
    let request = antifreeze::prewarm(100 * MIB);
    let progress = request.wait(Duration::from_secs(30));
    println!("environments: {progress:?}");
    assert_eq!(progress.state, PrewarmState::Ready);
    assert_eq!((progress.hugepage_bytes, antifreeze::counters().governor.prewarm_hugepage_bytes), (0, 0));
    let resident = common::resident_bytes();
    assert!(resident >= 100 * MIB, "{} MiB resident", resident / MIB);
    let block = filled(100 * MIB, 1);
    assert_eq!(request.progress().warm_bytes, 100 << 20);
    check(&block);
    drop(block);
    antifreeze::purge(usize::MAX);
    assert!(common::eventually(Duration::from_secs(20), || antifreeze::counters().purge.bytes() >= 100 << 20));
    report();
}

// The explicit pool.

const POOL_PAGES: &str = "/proc/sys/vm/nr_hugepages";
const PAGES: usize = 64;

fn pool() {
    if !have(2000) {
        return;
    }
    let turn = Turn::wait();
    let Ok(_pool) = turn.change(POOL_PAGES, &PAGES.to_string()).map_err(skip) else { return };
    let got = setting(POOL_PAGES).expect("readable");
    if got != PAGES.to_string() {
        return skip(format_args!("the kernel finds only {got} hugepages for the pool"));
    }
    // What is asked for, and how much of it there is.
    for (asked, mib) in [("96MiB", 96), ("128MiB", 128), ("1GiB", 128)] {
        in_each_mode("pool", &[&mib.to_string()], |child| child.env("ANTIFREEZE_HUGETLB", asked));
        in_each_mode("work", &["320"], |child| child.env("ANTIFREEZE_HUGETLB", asked));
    }
    if may_lock() {
        in_each_mode("pool", &["96"], |child| {
            child.env("ANTIFREEZE_HUGETLB", "96MiB").env(LOCK.to_str().expect("an ASCII name"), "1")
        });
    }
    drop(_pool);
    in_each_mode("pool", &["0"], |child| child.env("ANTIFREEZE_HUGETLB", "96MiB"));
}

/// Bytes of this process that are in pages of the pool.
fn pool_resident() -> usize {
    bytes_of("/proc/self/status", "HugetlbPages").expect("the kernel tells")
}

fn in_pool(mib: usize) {
    // The other processes' pages are theirs: this one has exactly what it was granted.
    let free = ["HugePages_Free", "HugePages_Rsvd"].map(|key| bytes_of("/proc/meminfo", key).unwrap_or(0) >> 10);
    println!("environments: pool of {mib} MiB: {} pages free, {} of them promised", free[0], free[1]);
    for round in 0..2 {
        // More than any of these pools has.
        let mut blocks: Vec<Box<[u8]>> = (1..=6).map(|tag| filled(33 * MIB, tag)).collect();
        let resident = pool_resident();
        println!("environments: {} MiB of the pool in use", resident / MIB);
        let expected = (mib / 34).min(6) * 33;
        assert!(resident >= expected * MIB && resident <= mib * MIB, "{resident} bytes in pages of the pool");
        // One that grows, where it is or elsewhere.
        let last = blocks.pop().expect("six");
        let mut growing = last.into_vec();
        growing.reserve_exact(40 * MIB);
        growing.resize(70 * MIB, round);
        assert!(growing[..33 * MIB].iter().all(|byte| *byte == 6) && growing[33 * MIB..].iter().all(|b| *b == round));
        blocks.iter().for_each(|block| check(block));
        drop((blocks, growing));
        // What comes zeroed is zero, though it was used.
        for _ in 0..2 {
            let mut zeroed = vec![0_u8; 40 * MIB];
            check(&zeroed);
            zeroed.fill(1);
            black_box(&zeroed);
        }
    }
    let before = pool_resident();
    antifreeze::purge(usize::MAX);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(pool_resident(), before, "pages of the pool stay");
    children(mib);
    report();
}

/// Children: one that becomes another program, and one that goes on and works.
fn children(mib: usize) {
    assert!(Command::new("true").status().expect("a child starts").success());
    let parents = filled(40 * MIB, 3);
    // SAFETY: the child uses the allocator, which is made for that, prints nothing, and leaves by `_exit`.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child => {
            let own = filled(64 * MIB, 4);
            check(&own);
            check(&parents);
            drop((own, parents));
            let again = filled(40 * MIB, 5);
            check(&again);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None).expect("the child is ours");
            assert!(matches!(ended, WaitStatus::Exited(_, 0)), "pool of {mib} MiB: the child ended with {ended:?}");
            check(&parents);
        }
    }
    let more = filled(40 * MIB, 6);
    check(&more);
}

// The test's own tools.

/// A setting that anybody may have: a file.
fn put_back() {
    let path = std::env::temp_dir().join(format!("antifreeze-setting-{}", std::process::id()));
    std::fs::write(&path, "one [two] three\n").expect("writable");
    let name = path.to_str().expect("text");
    let turn = Turn::wait();
    {
        let _changed = turn.change(name, "four").expect("permitted");
        assert_eq!(setting(name).expect("readable"), "four");
    }
    assert_eq!(setting(name).expect("readable"), "two");
    // The child needs a turn of its own.
    drop(turn);
    let status = common::job("killed", &[name]).status().expect("a child starts");
    assert!(!status.success(), "the child kills itself");
    let back = common::eventually(Duration::from_secs(10), || setting(name).is_ok_and(|value| value == "two"));
    std::fs::remove_file(&path).expect("the file is ours");
    assert!(back, "a killed test leaves its setting behind");
}

fn killed(arguments: &[String]) {
    let turn = Turn::wait();
    let _changed = turn.change(&arguments[0], "five").expect("permitted");
    assert_eq!(setting(&arguments[0]).expect("readable"), "five");
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("a signal");
}
