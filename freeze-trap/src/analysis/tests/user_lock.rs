//! Locks of the program, and waits for word from another thread.

use super::*;

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
