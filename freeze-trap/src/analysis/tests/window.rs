//! What counts of the time before the freeze, in it and after it.

use super::*;

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
