//! Aim: the right cause and a sentence that names the culprit, for each kind of freeze and for those that mislead.
//!
//! Method: hand-made intervals and stacks, and the sentence word for word.

use lock_trace::Mode;

use super::samples::{MS, Sample, call};
use super::*;
use crate::event::{Kind, Sleep, Waker};
use crate::stack::StackPair;

pub(super) const MUTEX: &str =
    "syscall@libc.so.6; std::sys::sync::mutex::futex::Mutex::lock_contended@app; app::look_up@app";
pub(super) const CONDVAR: &str =
    "syscall@libc.so.6; std::sys::sync::condvar::futex::Condvar::wait@app; app::pool::run@app";
pub(super) const FUTEX: &str = "__schedule; schedule; futex_wait_queue; futex_wait; do_futex";
pub(super) const WAKE: &str = "try_to_wake_up; wake_up_q; futex_wake; do_futex";
pub(super) const WRITER: &str = "__schedule; schedule; rwsem_down_write_slowpath; down_write; vm_mmap_pgoff";
pub(super) const READER: &str =
    "__schedule; schedule; rwsem_down_read_slowpath; down_read; lock_mm_and_find_vma; exc_page_fault";
const GROW: &str = "munmap@libc.so.6; index::grow@app; app::run@app";
pub(super) const NAP: &str = "__schedule; schedule; do_nanosleep; hrtimer_nanosleep";
pub(super) const POLL: &str = "__schedule; schedule; schedule_hrtimeout_range; ep_poll; do_epoll_wait";

fn told(sample: &Sample) -> (Cause, String) {
    let Findings { cause, sentence, .. } = find(&sample.observed());
    (cause, sentence)
}

/// A thread that takes requests from a socket, before the freeze and in it.
fn idle(sample: &mut Sample, tid: i32) {
    let poll = sample.stack(POLL, "epoll_wait@libc.so.6; mio::poll@app; app::serve@app");
    sample.sleep(tid, Sleep::Interruptible, (0, 13_000), poll);
}

/// Workers that wait for mmap_lock, off the processor meanwhile, in milliseconds of the freeze.
fn waiters(sample: &mut Sample, tids: std::ops::RangeInclusive<i32>, mode: Mode, ms: (u64, u64)) {
    let slow = sample.stack(if mode == Mode::Write { WRITER } else { READER }, "mmap@libc.so.6; app::look_up@app");
    for tid in tids {
        sample.sleep(tid, Sleep::Uninterruptible, (ms.0 + 1, ms.1 - 1), slow);
        sample.wait(tid, mode, ms, slow).call = call(libc::SYS_mmap, &[0, 65_536]);
    }
}

fn munmap(sample: &mut Sample, tid: i32, mode: Mode, ms: (u64, u64)) {
    let stack = sample.stack("up_write; __vm_munmap; __x64_sys_munmap", GROW);
    sample.hold(tid, mode, ms, stack).call = call(libc::SYS_munmap, &[0, 1_700_000_000]);
}

#[test]
fn mmap_lock_held_for_writing() {
    let mut sample = Sample::new();
    munmap(&mut sample, 7, Mode::Write, (10_100, 12_400));
    waiters(&mut sample, 12..=31, Mode::Write, (10_110, 12_400));
    idle(&mut sample, 50);
    let sentence = "threads 12 to 31 waited up to 2.3 s for mmap_lock, held for writing by thread 7 (worker) in munmap \
                    of 1.7 GB, called from index::grow";
    let findings = find(&sample.observed());
    assert_eq!((findings.cause, findings.sentence.as_str()), (Cause::MmapLock, sentence));
    assert_eq!((findings.blocked.len(), findings.pairs.len()), (20, 20));
    assert_eq!(findings.blocked[0].total_ns, 2_290 * MS, "the sleep in the wait is the same time");
}

#[test]
fn a_writer_queued_behind_a_reader() {
    let mut sample = Sample::new();
    munmap(&mut sample, 7, Mode::Read, (10_000, 12_000));
    waiters(&mut sample, 9..=9, Mode::Write, (10_100, 12_000));
    waiters(&mut sample, 12..=31, Mode::Read, (10_200, 12_050));
    let sentence = "threads 12 to 31 waited up to 1.9 s for mmap_lock behind thread 9 (worker), which wanted it for \
                    writing in mmap of 66 kB while thread 7 (worker) held it for reading in munmap of 1.7 GB, called \
                    from index::grow";
    assert_eq!(told(&sample), (Cause::MmapLock, sentence.to_owned()));
}

#[test]
fn a_holder_of_mmap_lock_that_is_not_to_blame_for_its_delay() {
    let scan = "app::scan@app; app::run@app";
    let fault = "filemap_fault; __do_fault; handle_mm_fault; exc_page_fault";
    let cases = [
        (Sleep::Uninterruptible, "io_schedule; folio_wait_bit_common; filemap_fault", "slept for 1.7 s on a disk"),
        (Sleep::Runnable, "__schedule; irqentry_exit", "wanted to run for 1.7 s, and others had the processors"),
        (
            Sleep::Uninterruptible,
            "schedule; down_write; vma_link_file; do_mmap",
            "slept for 1.7 s in the kernel (vma_link_file)",
        ),
    ];
    for (sleep, kernel, why) in cases {
        let mut sample = Sample::new();
        let hold = sample.stack(fault, scan);
        sample.hold(7, Mode::Read, (10_000, 12_000), hold);
        let off = sample.stack(kernel, scan);
        sample.sleep(7, sleep, (10_200, 11_900), off);
        waiters(&mut sample, 12..=12, Mode::Write, (10_100, 12_000));
        let sentence = format!(
            "thread 12 (worker) waited up to 1.9 s for mmap_lock, held for reading by thread 7 (worker) in a page \
             fault, called from app::scan; meanwhile that one {why}"
        );
        assert_eq!(told(&sample), (Cause::MmapLock, sentence));
    }
}

#[test]
fn many_short_holders_in_turn_are_not_one_culprit() {
    let mut sample = Sample::new();
    waiters(&mut sample, 12..=13, Mode::Write, (10_000, 12_000));
    for (turn, tid) in (20..30).enumerate() {
        let start = 10_000 + 200 * turn as u64;
        munmap(&mut sample, tid, Mode::Write, (start, start + if tid == 25 { 200 } else { 190 }));
    }
    let sentence = "threads 12 and 13 waited up to 2.0 s for mmap_lock, which 10 threads held in turn, the most (10 %) \
                    thread 25 (worker), for writing in munmap of 1.7 GB, called from index::grow";
    assert_eq!(told(&sample), (Cause::MmapLock, sentence.to_owned()));
}

#[test]
fn a_holder_of_a_small_part_is_not_the_culprit_of_all() {
    let mut sample = Sample::new();
    waiters(&mut sample, 12..=13, Mode::Write, (10_000, 12_000));
    munmap(&mut sample, 7, Mode::Write, (10_000, 10_200));
    let sentence = "threads 12 and 13 waited up to 2.0 s for mmap_lock; who held it for most of that time was not \
                    seen; for 10 % of it that was thread 7 (worker), for writing in munmap of 1.7 GB, called from \
                    index::grow";
    assert_eq!(told(&sample), (Cause::MmapLock, sentence.to_owned()));
}

#[test]
fn an_outsider_holds_mmap_lock() {
    let mut sample = Sample::new();
    let walk =
        sample.stack("walk_page_range; smap_gather_stats; show_smap; seq_read_iter", "read@libc.so.6; main@agent");
    let hold = sample.hold(812, Mode::Read, (10_000, 12_000), walk);
    hold.thread = Thread { pid: 812, tid: 812, name: "node_exporter".into() };
    hold.call = call(libc::SYS_read, &[3, 0, 1 << 20]);
    waiters(&mut sample, 12..=13, Mode::Write, (10_100, 12_000));
    let sentence = "threads 12 and 13 waited up to 1.9 s for mmap_lock, held for reading by process 812 \
                    (node_exporter) in a read of /proc/1/smaps, called from main";
    assert_eq!(told(&sample), (Cause::MmapLock, sentence.to_owned()));
}

#[test]
fn mmap_lock_whose_holder_was_not_seen() {
    let mut sample = Sample::new();
    let slow = sample.stack(WRITER, "mmap@libc.so.6; app::look_up@app");
    sample.sleep(12, Sleep::Uninterruptible, (10_000, 12_000), slow);
    let sentence = "thread 12 (worker) waited up to 2.0 s for mmap_lock; who held it was not seen";
    assert_eq!(told(&sample), (Cause::MmapLock, sentence.to_owned()));
}

/// Workers that sleep for a mutex until thread 41 unlocks it.
fn locked(sample: &mut Sample) {
    let lock = sample.stack(FUTEX, MUTEX);
    let wake = sample.stack(WAKE, "syscall@libc.so.6; std::sys::sync::mutex::futex::Mutex::wake@app; app::reload@app");
    for tid in (2..18).step_by(2) {
        sample.lock(tid, (10_050, 11_950), lock, Some((41, wake)));
    }
}

#[test]
fn a_lock_of_the_program_held_in_a_sleep() {
    let mut sample = Sample::new();
    locked(&mut sample);
    let nap = sample.stack(NAP, "clock_nanosleep@libc.so.6; std::thread::sleep@app; app::reload@app");
    sample.sleep(41, Sleep::Interruptible, (10_000, 11_950), nap).call = call(libc::SYS_clock_nanosleep, &[]);
    let sentence = "8 threads waited up to 1.9 s for a lock that thread 41 (reload) held while it slept in \
                    clock_nanosleep, called from app::reload";
    assert_eq!(told(&sample), (Cause::UserLock, sentence.to_owned()));
}

#[test]
fn an_earlier_freeze_on_the_same_lock_is_not_how_things_always_are() {
    let mut sample = Sample::new();
    let lock = sample.stack(FUTEX, MUTEX);
    let wake = sample.stack(WAKE, "syscall@libc.so.6; std::sys::sync::mutex::futex::Mutex::wake@app; app::reload@app");
    for tid in (2..18).step_by(2) {
        for start_ms in [2_000, 5_000, 10_050] {
            sample.lock(tid, (start_ms, start_ms + 1_900), lock, Some((41, wake)));
        }
    }
    assert_ne!(told(&sample).0, Cause::UserLock, "for all that is known, they always wait for it");
    sample.calm_ns = 7_000 * MS;
    assert_eq!(told(&sample).0, Cause::UserLock);
}

#[test]
fn it_is_calm_from_the_last_failure_before_the_freeze_on() {
    let window = Window { start_ns: 100, frozen_ns: 1_000, ..Sample::new().window };
    let failed = Some("late".to_owned());
    let line = |points| ProbeLine { name: "tcp:1".to_owned(), points };
    let early = line(vec![(200, 50, failed.clone()), (300, 50, None), (1_000, 70, failed.clone())]);
    let late = line(vec![(400, 100, failed), (990, 5, None)]);
    assert_eq!(calm_ns(std::slice::from_ref(&early), &window), 250);
    assert_eq!(calm_ns(&[early, late], &window), 500);
    assert_eq!(calm_ns(&[line(vec![(1, 1, None)])], &window), 0);
}

#[test]
fn a_lock_of_the_program_held_in_a_computation() {
    let mut sample = Sample::new();
    locked(&mut sample);
    let sentence = "8 threads waited up to 1.9 s for a lock that thread 41 (reload) held while it was on a processor, \
                    in app::reload";
    assert_eq!(told(&sample), (Cause::UserLock, sentence.to_owned()));
}

#[test]
fn a_lock_of_the_program_held_in_a_wait_for_mmap_lock() {
    let mut sample = Sample::new();
    locked(&mut sample);
    waiters(&mut sample, 41..=41, Mode::Write, (10_000, 11_900));
    munmap(&mut sample, 7, Mode::Write, (10_000, 11_900));
    let sentence = "8 threads waited up to 1.9 s for a lock that thread 41 (reload) held while it waited for \
                    mmap_lock, held for writing by thread 7 (worker) in munmap of 1.7 GB, called from index::grow";
    assert_eq!(told(&sample), (Cause::UserLock, sentence.to_owned()));
}

#[test]
fn a_lock_that_many_threads_held_in_turn() {
    let mut sample = Sample::new();
    let lock = sample.stack(FUTEX, MUTEX);
    let wake = sample.stack(WAKE, "syscall@libc.so.6; std::sys::sync::mutex::futex::Mutex::wake@app; app::update@app");
    // Each waits for all before it.
    for turn in 0..10 {
        sample.lock(2 + turn, (10_000, 10_200 + 200 * turn as u64), lock, Some((1 + turn, wake)));
    }
    let (cause, sentence) = told(&sample);
    assert_eq!(cause, Cause::UserLock);
    let expected = "threads 2 to 11 waited up to 2.0 s for a lock that 10 threads held in turn, the most (18 %) \
                    thread 1 (main), which was on a processor, in app::update";
    assert_eq!(sentence, expected);
}

#[test]
fn a_lock_or_a_wait_for_word_is_not_taken_for_a_lock() {
    let mut sample = Sample::new();
    let wait = sample.stack(FUTEX, "syscall@libc.so.6; app::look_up@app");
    let wake = sample.stack(WAKE, "syscall@libc.so.6; app::reload@app");
    let nap = sample.stack(NAP, "clock_nanosleep@libc.so.6; std::thread::sleep@app; app::reload@app");
    sample.lock(2, (10_000, 12_000), wait, Some((41, wake)));
    sample.lock(3, (10_000, 12_000), wait, Some((41, wake)));
    sample.sleep(41, Sleep::Interruptible, (10_000, 12_000), nap).call = call(libc::SYS_clock_nanosleep, &[]);
    let sentence = "threads 2 and 3 waited up to 2.0 s in futex until thread 41 (reload) woke them, which meanwhile \
                    slept in clock_nanosleep, called from app::reload";
    assert_eq!(told(&sample), (Cause::UserLock, sentence.to_owned()));
}

#[test]
fn a_freeze_that_began_before_it_was_noticed() {
    let mut sample = Sample::new();
    sample.window.start_ns = 8_500 * MS;
    let lock = sample.stack(FUTEX, MUTEX);
    for tid in 2..=9 {
        sample.lock(tid, (9_000, 12_900), lock, None);
    }
    assert_eq!(told(&sample).0, Cause::UserLock);
}

#[test]
fn a_lock_that_nobody_lets_go_of() {
    let mut sample = Sample::new();
    let lock = sample.stack(FUTEX, MUTEX);
    sample.window.recovered_ns = None;
    for tid in 2..=9 {
        sample.lock(tid, (10_000, 25_000), lock, None);
        sample.intervals.last_mut().unwrap().unfinished = true;
    }
    let sentence = "threads 2 to 9 waited at least 15 s for a lock; who had it was not seen";
    assert_eq!(told(&sample), (Cause::UserLock, sentence.to_owned()));
    let nap = sample.stack(NAP, "clock_nanosleep@libc.so.6; std::thread::sleep@app; app::reload@app");
    sample.sleep(41, Sleep::Interruptible, (10_000, 25_000), nap).call = call(libc::SYS_clock_nanosleep, &[]);
    let sentence = "threads 2 to 9 waited at least 15 s for a lock; who had it was not seen; meanwhile thread 41 \
                    (reload) slept up to 15 s in clock_nanosleep, called from app::reload, unlike before";
    let findings = find(&sample.observed());
    assert_eq!(findings.sentence, sentence);
    assert!(findings.blocked.iter().all(|row| row.unfinished && row.total_ns == 15_000 * MS));
}

#[test]
fn workers_that_wait_for_word_from_one_that_sleeps() {
    let mut sample = Sample::new();
    let wait = sample.stack(FUTEX, CONDVAR);
    let wake = sample.stack(WAKE, "syscall@libc.so.6; std::sync::Condvar::notify_one@app; app::accept@app");
    let sync = sample.stack("io_schedule; folio_wait_bit; ext4_sync_file", "fdatasync@libc.so.6; app::persist@app");
    for tid in 2..=5 {
        sample.lock(tid, (10_000, 12_000), wait, Some((1, wake)));
    }
    sample.sleep(1, Sleep::Uninterruptible, (10_000, 12_000), sync).call = call(libc::SYS_fdatasync, &[3]);
    let sentence = "threads 2 to 5 waited up to 2.0 s for thread 1 (main), which slept in fdatasync, called from \
                    app::persist";
    assert_eq!(told(&sample), (Cause::UserLock, sentence.to_owned()));
}

#[test]
fn an_idle_pool_on_futex_is_not_blocked() {
    for user in [CONDVAR, MUTEX] {
        let mut sample = Sample::new();
        let wait = sample.stack(FUTEX, user);
        let wake = sample.stack(WAKE, "app::accept@app");
        for tid in 2..=9 {
            // One job a second before, none in the freeze.
            (0..10).for_each(|second| {
                sample.lock(tid, (second * 1000 + 200, second * 1000 + 1000), wait, Some((1, wake)))
            });
            sample.lock(tid, (10_000, 13_000), wait, Some((1, wake)));
        }
        let sentence = "no thread was blocked: threads 2 to 9 slept as they do when nothing is to be done, as if no \
                        request reached them";
        assert_eq!(told(&sample), (Cause::Idle, sentence.to_owned()), "{user}");
    }
}

#[test]
fn a_pool_that_sleeps_through_all_of_it_is_not_blocked() {
    let mut sample = Sample::new();
    let (wait, join) = (sample.stack(FUTEX, CONDVAR), sample.stack(FUTEX, "pthread_join@libc.so.6; app::main@app"));
    sample.lock(2, (0, 25_000), wait, None);
    sample.lock(1, (10_000, 25_000), join, Some((2, StackPair::default())));
    assert_eq!(told(&sample).0, Cause::Idle);
}

#[test]
fn a_thread_that_waits_for_the_end_of_another_one_is_not_blocked() {
    let mut sample = Sample::new();
    let wait = sample.stack(FUTEX, "__futex_abstimed_wait_common64@libc.so.6");
    let exit = sample.stack("futex_wake; mm_release; do_exit", "");
    sample.lock(1, (10_000, 12_000), wait, Some((7, exit)));
    // The other one goes on; its number is what the futex is expected to have.
    sample.lock(2, (10_000, 25_000), wait, None);
    sample.intervals[1].call = call(libc::SYS_futex, &[0x1000, 0, 1]);
    assert_eq!(told(&sample).0, Cause::Idle);
    let private = libc::FUTEX_PRIVATE_FLAG as u64;
    sample.intervals[1].call = call(libc::SYS_futex, &[0x1000, private, 1]);
    assert_eq!(told(&sample).0, Cause::UserLock, "a lock of the process alone");
    sample.intervals[1].call = call(libc::SYS_futex, &[0x1000, 0, 4711]);
    assert_eq!(told(&sample).0, Cause::Idle, "a thread that nothing was seen of");
}

#[test]
fn of_many_short_sleeps_the_sum_is_told_and_functions_that_are_new_come_first() {
    let mut sample = Sample::new();
    let sync = "io_schedule; folio_wait_bit; ext4_sync_file";
    let (usual, new) =
        (sample.stack(sync, "fsync@libc.so.6; app::log@app"), sample.stack(sync, "fsync@libc.so.6; app::dump@app"));
    for start in (0..13_000).step_by(100) {
        let longer = if start < 10_000 { 10 } else { 50 };
        sample.sleep(2, Sleep::Uninterruptible, (start, start + longer), usual).call = call(libc::SYS_fsync, &[3]);
        if start >= 10_000 {
            sample.sleep(3, Sleep::Uninterruptible, (start, start + 20), new).call = call(libc::SYS_fsync, &[3]);
        }
    }
    let sentence = "threads 2 and 3 slept up to 50 ms at a time and 1.5 s in all in D state in fsync on a disk, called \
                    from app::dump and app::log";
    assert_eq!(told(&sample), (Cause::Disk, sentence.to_owned()));
}

#[test]
fn a_peer_that_does_not_answer() {
    let mut sample = Sample::new();
    idle(&mut sample, 2);
    let recv =
        sample.stack("sk_wait_data; tcp_recvmsg", "recv@libc.so.6; std::net::TcpStream::read@app; app::query@app");
    sample.sleep(3, Sleep::Interruptible, (10_000, 13_000), recv).call = call(libc::SYS_recvfrom, &[]);
    let sentence = "no thread was blocked by another one, but thread 3 (worker) slept up to 3.0 s in recvfrom, called \
                    from app::query, unlike before";
    assert_eq!(told(&sample), (Cause::Idle, sentence.to_owned()));
}

#[test]
fn a_disk() {
    let mut sample = Sample::new();
    let sync = sample.stack("io_schedule; folio_wait_bit; ext4_sync_file", "fdatasync@libc.so.6; app::persist@app");
    for tid in [3, 5, 8] {
        sample.sleep(tid, Sleep::Uninterruptible, (10_500, 11_700), sync).call = call(libc::SYS_fdatasync, &[3]);
    }
    idle(&mut sample, 2);
    let sentence = "threads 3, 5 and 8 slept up to 1.2 s in D state in fdatasync on a disk, called from app::persist";
    assert_eq!(told(&sample), (Cause::Disk, sentence.to_owned()));
}

#[test]
fn a_page_that_has_to_be_read_from_a_network() {
    let mut sample = Sample::new();
    let fault = sample.stack("rpc_wait_bit_killable; nfs_readpage; filemap_fault; exc_page_fault", "app::scan@app");
    sample.sleep(3, Sleep::Uninterruptible, (10_500, 11_700), fault);
    let sentence = "thread 3 (worker) slept up to 1.2 s in D state in a page fault on a network file system, called \
                    from app::scan";
    assert_eq!(told(&sample), (Cause::Disk, sentence.to_owned()));
}

/// Six threads that want to run, one of them because it was woken.
fn runnable(sample: &mut Sample) {
    let stack = sample.stack("__schedule; irqentry_exit", "app::compute@app");
    for tid in 2..=6 {
        sample.sleep(tid, Sleep::Runnable, (10_000, 12_500), stack);
    }
    let poll = sample.stack(POLL, "epoll_wait@libc.so.6; app::serve@app");
    let waker = Waker { thread: samples::thread(2), at_ns: 10_000 * MS, stack: StackPair::default() };
    let kind = Kind::OffCpu { sleep: Sleep::Interruptible, waker: Some(waker) };
    sample.add(7, kind, (9_000, 12_500), poll);
}

#[test]
fn a_quota_of_the_cgroup() {
    let mut sample = Sample::new();
    runnable(&mut sample);
    sample.throttled_ns = Some(2_400 * MS);
    let sentence = "threads 2 to 7 waited up to 2.5 s for a processor, as the quota of the cgroup was used up (2.4 s \
                    of processor time refused in 3.0 s)";
    assert_eq!(told(&sample), (Cause::Throttled, format!("{sentence}, in app::compute")));
    // Two were on a processor around the freeze; what was measured in it tells of one that did nothing before.
    let compute = sample.stack("__schedule; irqentry_exit", "app::rebuild@app");
    sample.sleep(41, Sleep::Runnable, (9_000, 9_100), compute);
    sample.sleep(41, Sleep::Runnable, (10_000, 12_500), compute);
    sample.sleep(4, Sleep::Interruptible, (8_000, 9_890), compute);
    let running = [used(5, 3)];
    let findings = find(&Observed { running: &running, ..sample.observed() });
    let sentence = sentence.replace("threads 2 to 7", "7 threads");
    assert_eq!(findings.sentence, format!("{sentence}, 89 % of it by thread 41 (reload), in app::rebuild"));
}

#[test]
fn more_than_there_is_cannot_have_been_refused() {
    let mut sample = Sample::new();
    runnable(&mut sample);
    sample.throttled_ns = Some(6_100 * MS);
    let sentence =
        "threads 2 to 7 waited up to 2.5 s for a processor, as the quota of the cgroup was used up, in app::compute";
    assert_eq!(told(&sample), (Cause::Throttled, sentence.to_owned()));
}

/// So many milliseconds of processor time in three seconds.
fn used(tid: i32, ms: u64) -> Running {
    Running { thread: samples::thread(tid), cpu_ns: ms * MS, over_ns: 3_000 * MS }
}

#[test]
fn too_few_processors() {
    let mut sample = Sample::new();
    runnable(&mut sample);
    for refused_ns in [None, Some(0), Some(100 * MS)] {
        sample.throttled_ns = refused_ns;
        let wanted = "threads 2 to 7 wanted to run for up to 2.5 s; the 2 processors went to ";
        assert_eq!(told(&sample), (Cause::Starved, format!("{wanted}others")));
        let told = |running: &[Running]| find(&Observed { running, ..sample.observed() }).sentence;
        assert_eq!(told(&[used(4, 300), used(5, 10)]), format!("{wanted}other processes"));
        let own = [used(4, 2_500), used(5, 2_600), used(6, 100)];
        assert_eq!(told(&own), format!("{wanted}threads 4 and 5, in app::compute"));
    }
}

#[test]
fn what_is_always_so_is_not_the_cause() {
    let mut sample = Sample::new();
    let sync = sample.stack("io_schedule; folio_wait_bit; ext4_sync_file", "fdatasync@libc.so.6; app::log@app");
    for tid in 2..=6 {
        for start in (0..25_000).step_by(1_000) {
            let log = sample.sleep(tid, Sleep::Uninterruptible, (start, start + 900), sync);
            log.call = call(libc::SYS_fdatasync, &[3]);
        }
    }
    let usual = "threads 2 to 6 slept up to 900 ms at a time and 2.7 s in all in D state in fdatasync on a disk, \
                 called from app::log; but it was much the same before the freeze";
    assert_eq!(told(&sample), (Cause::Disk, usual.to_owned()));
    munmap(&mut sample, 7, Mode::Write, (10_000, 12_000));
    waiters(&mut sample, 12..=12, Mode::Write, (10_000, 12_000));
    let (cause, sentence) = told(&sample);
    assert_eq!(cause, Cause::MmapLock, "{sentence}");
    assert!(sentence.ends_with("called from index::grow"), "{sentence}");
}

#[test]
fn another_lock_of_the_kernel() {
    let mut sample = Sample::new();
    let grace =
        sample.stack("__schedule; schedule; wait_for_completion; synchronize_rcu", "syscall@libc.so.6; app::f@app");
    sample.sleep(3, Sleep::Uninterruptible, (10_000, 11_000), grace).call = call(libc::SYS_membarrier, &[]);
    let sentence =
        "thread 3 (worker) waited up to 1.0 s in the kernel in membarrier (synchronize_rcu), called from app::f";
    assert_eq!(told(&sample), (Cause::Kernel, sentence.to_owned()));
}

#[test]
fn a_process_that_was_stopped() {
    let mut sample = Sample::new();
    let stop = sample.stack("schedule; do_signal_stop; get_signal", "app::run@app");
    for tid in 2..=4 {
        sample.sleep(tid, Sleep::Other, (10_000, 12_000), stop);
    }
    let sentence = "threads 2 to 4 were stopped for up to 2.0 s by a signal, a debugger or the freezer of the cgroup";
    assert_eq!(told(&sample), (Cause::Kernel, sentence.to_owned()));
}

#[test]
fn a_busy_thread() {
    let mut sample = Sample::new();
    idle(&mut sample, 2);
    let poll = sample.stack(POLL, "epoll_wait@libc.so.6; app::serve@app");
    sample.sleep(1, Sleep::Interruptible, (0, 10_000), poll);
    sample.sleep(1, Sleep::Interruptible, (13_100, 25_000), poll);
    let sentence = "no thread was blocked: thread 1 (main) was on a processor all the time";
    assert_eq!(told(&sample), (Cause::Busy, sentence.to_owned()));
    let write = sample.stack("io_schedule; folio_wait_bit; ext4_sync_file", "fsync@libc.so.6; app::log@app");
    sample.sleep(3, Sleep::Uninterruptible, (10_500, 10_810), write);
    let sentence = "no thread was blocked for more than 310 ms: thread 1 (main) was on a processor all the time";
    assert_eq!(told(&sample), (Cause::Busy, sentence.to_owned()));
}

#[test]
fn nothing_was_seen() {
    let sample = Sample::new();
    assert_eq!(
        told(&sample),
        (Cause::Unknown, "nothing was seen of the service's threads in the 3.0 s of the freeze".to_owned())
    );
    let mut early = Sample::new();
    munmap(&mut early, 7, Mode::Write, (1_000, 2_000));
    waiters(&mut early, 12..=13, Mode::Write, (1_000, 2_000));
    early.window.recovered_ns = Some(13_000 * MS);
    assert_eq!(told(&early).0, Cause::Unknown, "what was over before the freeze does not explain it");
}

#[test]
fn two_causes_that_weigh_about_the_same_are_both_told() {
    let mut sample = Sample::new();
    munmap(&mut sample, 7, Mode::Write, (10_000, 12_000));
    waiters(&mut sample, 12..=14, Mode::Write, (10_000, 12_000));
    let sync = sample.stack("io_schedule; folio_wait_bit; ext4_sync_file", "fdatasync@libc.so.6; app::persist@app");
    for tid in [3, 4] {
        sample.sleep(tid, Sleep::Uninterruptible, (10_000, 12_000), sync).call = call(libc::SYS_fdatasync, &[3]);
    }
    let first = "threads 12 to 14 waited up to 2.0 s for mmap_lock, held for writing by thread 7 (worker) in munmap of \
                 1.7 GB, called from index::grow";
    let second = "threads 3 and 4 slept up to 2.0 s in D state in fdatasync on a disk, called from app::persist";
    assert_eq!(told(&sample), (Cause::MmapLock, format!("{first}; also {second}")));
    sample.intervals.pop();
    assert_eq!(told(&sample), (Cause::MmapLock, first.to_owned()), "the second is less than half");
}

#[test]
fn what_set_the_trap_off_is_told_first() {
    let mut sample = Sample::new();
    munmap(&mut sample, 7, Mode::Write, (10_000, 10_300));
    waiters(&mut sample, 12..=13, Mode::Write, (10_000, 10_300));
    let stack = sample.stack("__schedule; irqentry_exit", "app::compute@app");
    for tid in 20..=25 {
        sample.sleep(tid, Sleep::Runnable, (10_000, 12_000), stack);
    }
    assert_eq!(told(&sample).0, Cause::Starved);
    let Findings { cause, sentence, .. } = find_first(&sample.observed(), Some(Cause::MmapLock));
    assert_eq!(cause, Cause::MmapLock);
    assert!(
        sentence.starts_with("threads 12 and 13 waited up to 300 ms for mmap_lock, held for writing by"),
        "{sentence}"
    );
    assert!(
        sentence.ends_with("; also threads 20 to 25 wanted to run for up to 2.0 s; the 2 processors went to others")
    );
    let disk = find_first(&sample.observed(), Some(Cause::Disk));
    assert_eq!(disk.cause, Cause::Starved, "there is nothing of it");
}

#[test]
fn what_began_before_the_window_counts_from_the_freeze_on() {
    let mut sample = Sample::new();
    sample.window.start_ns = 9_000 * MS;
    munmap(&mut sample, 7, Mode::Write, (1_000, 11_000));
    waiters(&mut sample, 12..=13, Mode::Write, (2_000, 11_000));
    let findings = find(&sample.observed());
    let sentence = "threads 12 and 13 waited up to 1.0 s for mmap_lock, held for writing by thread 7 (worker) in \
                    munmap of 1.7 GB, called from index::grow";
    assert_eq!(findings.sentence, sentence);
    assert_eq!((findings.blocked[0].total_ns, findings.pairs[0].overlap_ns), (1_000 * MS, 1_000 * MS));
    assert!(findings.intervals.iter().all(|span| span.start_ns >= 9_000 * MS));
}

#[test]
fn a_freeze_that_has_not_ended_lasts_until_the_end_of_the_window() {
    let mut sample = Sample::new();
    sample.window.recovered_ns = None;
    munmap(&mut sample, 7, Mode::Write, (10_000, 25_000));
    waiters(&mut sample, 12..=13, Mode::Write, (10_000, 25_000));
    sample.intervals.iter_mut().for_each(|interval| interval.unfinished = true);
    let findings = find(&sample.observed());
    assert!(
        findings.sentence.starts_with("threads 12 and 13 waited at least 15 s for mmap_lock"),
        "{}",
        findings.sentence
    );
    assert!(findings.blocked.iter().all(|row| row.unfinished));
}

#[test]
fn one_long_history_of_short_waits_adds_up() {
    let mut sample = Sample::new();
    for start in (10_000..13_000).step_by(10) {
        munmap(&mut sample, 7, Mode::Write, (start, start + 8));
        waiters(&mut sample, 12..=12, Mode::Write, (start, start + 8));
    }
    let findings = find(&sample.observed());
    assert_eq!((findings.cause, findings.blocked[0].total_ns), (Cause::MmapLock, 2_400 * MS));
    assert_eq!((findings.blocked[0].longest_ns, findings.pairs[0].overlap_ns), (8 * MS, 2_400 * MS));
}
