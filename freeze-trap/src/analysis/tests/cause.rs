//! Which of several causes is told.

use super::*;

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
