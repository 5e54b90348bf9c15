//! mmap_lock: who held it, who queued for it, and who is not to blame.

use super::*;

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
