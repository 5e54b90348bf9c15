//! Threads that got no processor, and one that had it all the time.

use super::*;

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
