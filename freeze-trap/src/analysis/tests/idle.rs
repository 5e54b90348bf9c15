//! Threads that have nothing to do, and are not blocked.

use super::*;

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
