//! A bounded queue from one thread to another that waits by letting others run, never asleep. Used by `remote` and
//! `remote_shallow`.
//!
//! With a channel on which threads sleep, those rows timed the kernel: on one processor 5 µs for each switch between
//! the two threads, as many switches as their shares of the work happened to make, and an allocator's work a part of
//! the rest. Programs do sleep there; `xmalloc` and `mpsc` show that. `rtrb`'s queue keeps what it last saw of the
//! other end, so that the two threads meet in its lines as little as can be.

use std::sync::atomic::{Ordering, fence};

use crossbeam_utils::Backoff;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

/// The end that puts in; dropping it ends the pipe.
pub(super) struct Sender<T>(Producer<T>);

/// The end that takes out; dropping it ends the pipe.
pub(super) struct Receiver<T>(Consumer<T>);

/// Plays `produce` on the calling thread and `consume` on another, with a pipe for `capacity` things between them;
/// gives what the two return.
///
/// # Panics
/// If one of the two does.
pub(super) fn between<T: Send, P, C: Send>(
    capacity: usize,
    produce: impl FnOnce(Sender<T>) -> P,
    consume: impl FnOnce(Receiver<T>) -> C + Send,
) -> (P, C) {
    let (producer, consumer) = RingBuffer::new(capacity);
    std::thread::scope(|scope| {
        let consumer = scope.spawn(move || consume(Receiver(consumer)));
        let produced = produce(Sender(producer));
        (produced, consumer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

impl<T> Sender<T> {
    /// Puts `thing` in when there is room.
    ///
    /// # Panics
    /// If the receiver is gone: its thread has panicked.
    pub(super) fn send(&mut self, mut thing: T) {
        let backoff = Backoff::new();
        while let Err(PushError::Full(back)) = self.0.push(thing) {
            assert!(!self.0.is_abandoned(), "the consumer is gone");
            thing = back;
            backoff.snooze();
        }
    }
}

impl<T> Iterator for Receiver<T> {
    type Item = T;

    /// The oldest thing in the pipe, when there is one; `None` when none is left and the sender is gone.
    fn next(&mut self) -> Option<T> {
        let backoff = Backoff::new();
        loop {
            if let Ok(thing) = self.0.pop() {
                return Some(thing);
            }
            if self.0.is_abandoned() {
                // Acquire: pairs with the release by which the sender's end gave its share of the queue up, which rtrb
                // leaves to its callers. What was put in last may have come just before that.
                fence(Ordering::Acquire);
                return self.0.pop().ok();
            }
            backoff.snooze();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Sender, between};

    #[test]
    fn everything_arrives_in_order() {
        let produce = |mut pipe: Sender<u32>| (0..10_000).for_each(|number| pipe.send(number));
        for capacity in [1, 7, 20_000] {
            let ((), received) = between(capacity, produce, |pipe| pipe.collect::<Vec<_>>());
            assert!(received.iter().copied().eq(0..10_000), "{capacity}");
        }
    }

    #[test]
    fn panic_at_one_end_ends_the_other() {
        let panic_of = |run: fn() -> ((), ())| *std::panic::catch_unwind(run).unwrap_err().downcast::<&str>().unwrap();
        let producer = || between::<u32, _, _>(2, |_| panic!("produced"), |pipe| pipe.for_each(drop));
        assert_eq!(panic_of(producer), "produced");
        let consumer =
            || between(2, |mut pipe| (0..u32::MAX).for_each(|number| pipe.send(number)), |_| panic!("consumed"));
        assert_eq!(panic_of(consumer), "the consumer is gone");
    }
}
