//! The background thread: what is done when, and on which thread. The only caller of purges. Started by `arena` when
//! the first range is retired; or a program's own thread, by `tick`.
//!
//! Invariant: sleeps without a time-out while there is nothing to give back, to warm or to watch; what was queued
//! before the doorbell rang is seen. One round makes at most one call on memory, or the few that one batch needs, each
//! over a bounded piece inside one mapping and each followed by a pause, because the lock it takes can be won back by a
//! tight loop for up to 4 ms.

use core::cell::UnsafeCell;
use core::ffi::c_void;

use super::batch::{Batch, Piece};
use super::pace::{Go, Pace};
use super::pressure::Level;
use super::requests::Requests;
use super::site::Site;
use super::source::Source;
use super::warm::Warmer;
use super::watch::{Descriptors, Watch};
use crate::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::limits::{BATCH_PIECES_MAX, LONGEST_PLAIN_SLEEP_NS};
use crate::lockfree::doorbell::{ASLEEP, Doorbell, Ring};
use crate::options::Options;
use crate::os::{Kernel, Os, Range};
use crate::units::Nanos;

/// How long the worker waits after the kernel refused a purge, in nanoseconds: the reason is seldom gone at once.
/// Doubled with each refusal in a row, up to about a minute.
const REFUSED_PAUSE_NS: u64 = 1_000_000_000;
const REFUSED_DOUBLINGS_MAX: u32 = 6;
/// How long a request that met no memory counts as pressure, in nanoseconds.
const SHORT_NS: u64 = 1_000_000_000;
/// Time until the next try when what is retired was not to be had, in nanoseconds.
const MISSED_NS: u64 = 100_000_000;
/// Time between two looks at memory that is kept for requests, in nanoseconds.
const KEPT_NS: u64 = 500_000_000;
/// Time between two looks at the reserve while the program grows, in nanoseconds: a fifth of what the reserve lasts
/// for.
const RESERVE_NS: u64 = 20_000_000;

/// What comes after a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum After {
    /// There is more to do, after this pause.
    Pause(Nanos),
    /// Nothing to do for so long.
    Doze(Nanos),
    /// Nothing to do until somebody rings.
    Sleep,
}

/// What the worker remembers from round to round.
struct Memory {
    options: Options,
    pace: Pace,
    warmer: Warmer,
    watch: Watch,
    level: Level,
    watched_at: Nanos,
    /// Until when the last request that met no memory counts.
    short_until: Nanos,
    /// Refusals in a row, and until when no purge is tried.
    refused: u32,
    refused_until: Nanos,
    /// Whether warming has its turn before purging.
    warm_first: bool,
    /// Whether the kernel purges scattered ranges in one call; not known before the first round.
    scatters: bool,
    /// Whether a round was made, and what the machine is like is known.
    begun: bool,
    /// State of the random numbers that spread wake-ups.
    random: u64,
}

/// The governor's side that other threads see.
pub(crate) struct Governor {
    doorbell: Doorbell,
    requests: Requests,
    /// Bytes that the program has asked to be given back and that the worker has not heard of.
    asked: AtomicU64,
    /// Whether a request has met no memory and the worker has not heard of it.
    short: AtomicBool,
    /// Whether a thread makes a round, and has `memory` for itself.
    busy: AtomicBool,
    memory: UnsafeCell<Option<Memory>>,
}

// SAFETY: `memory` is written at start, before other threads know of the governor, and later only by the thread that
// has set `busy`; everything else is atomic.
unsafe impl Sync for Governor {}

impl Governor {
    /// Not started.
    pub(crate) const fn new(doorbell: Doorbell) -> Self {
        Governor {
            doorbell,
            requests: Requests::new(),
            asked: AtomicU64::new(0),
            short: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            memory: UnsafeCell::new(None),
        }
    }

    /// Sets the options, before any other thread gets to know of the governor; and again in a forked child.
    pub(crate) fn set_up<O: Os>(&self, kernel: &Kernel<O>, options: &Options) {
        let memory = Memory {
            options: *options,
            pace: Pace::new(options, options.hold_budget),
            warmer: Warmer::new(options, options.hold_budget),
            watch: Watch::new(Descriptors::Lent),
            level: Level::None,
            watched_at: Nanos(0),
            short_until: Nanos(0),
            refused: 0,
            refused_until: Nanos(0),
            warm_first: true,
            scatters: false,
            begun: false,
            random: kernel.os().secrets()[0] as u64,
        };
        // SAFETY: no other thread is there, by the caller's promise.
        unsafe { *self.memory.get() = Some(memory) };
    }

    /// Requests for warm memory.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Says that there is something to do: starts the worker by `start`, or wakes it, if need be; one that only dozes
    /// is woken if it is `urgent`. At most one system call here, none while the worker is awake.
    pub(crate) fn notify<O: Os>(&self, kernel: &Kernel<O>, urgent: bool, start: impl FnOnce() -> bool) {
        match self.doorbell.ring(urgent) {
            Ring::Heard => {}
            Ring::Wake => kernel.os().wake(self.doorbell.word()),
            Ring::Start => {
                if !start() {
                    // Without threads memory is kept until somebody rings again, when this is tried again.
                    self.doorbell.reset();
                }
            }
        }
    }

    /// Whether nobody has rung yet, so that there is no worker either.
    pub(crate) fn is_unheard_of(&self) -> bool {
        self.doorbell.is_untouched()
    }

    /// A worker that was to be started later, after all could not be: the next who rings tries again.
    pub(crate) fn is_not_to_be_had(&self) {
        self.doorbell.reset();
    }

    /// Whether a round is being made, in which ranges are out of use.
    pub(crate) fn is_busy(&self) -> bool {
        // Acquire: pairs with the Release at the end of a round; what it gave back is seen.
        self.busy.load(Ordering::Acquire)
    }

    /// Asks for `bytes` of retired memory to be given back soon, whatever their age.
    pub(crate) fn ask(&self, bytes: u64) {
        let add = |asked: u64| Some(asked.saturating_add(bytes));
        // Relaxed: the doorbell orders it. The closure never declines.
        let _ = self.asked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Says that a request has met no memory: what is kept ahead of need is given up, and what is retired goes at once.
    pub(crate) fn note_shortage(&self) {
        // Relaxed: the doorbell orders it.
        self.short.store(true, Ordering::Relaxed);
    }

    /// Forked child: the worker is gone; the next ring starts a new one. Requests of the parent are forgotten.
    pub(crate) fn start_anew_after_fork<O: Os>(&self, kernel: &Kernel<O>) {
        self.doorbell.reset();
        self.requests.clear();
        // Relaxed: the child has one thread.
        self.asked.store(0, Ordering::Relaxed);
        self.busy.store(false, Ordering::Relaxed);
        // SAFETY: the child has one thread. What the parent's worker may have left half written is replaced.
        let options = unsafe { (*self.memory.get()).as_ref().map(|memory| memory.options) };
        if let Some(options) = options {
            self.set_up(kernel, &options);
        }
    }

    /// The life of the worker.
    pub(crate) fn run<O: Os>(&self, kernel: &Kernel<O>, source: &impl Source) -> ! {
        let own = kernel.os().prepare_thread();
        let descriptors = if own { Descriptors::Own } else { Descriptors::Foreign };
        self.with_memory(|memory| memory.watch = Watch::new(descriptors));
        self.doorbell.wake_up();
        loop {
            let mut after = self.round(kernel, source);
            if after == Some(After::Sleep) {
                self.doorbell.fall_asleep();
                // Once more: what was queued before the worker said that it sleeps rang at one awake.
                after = self.round(kernel, source);
            }
            match after {
                Some(After::Pause(time)) if time.0 <= LONGEST_PLAIN_SLEEP_NS => kernel.os().sleep(time),
                Some(After::Pause(time) | After::Doze(time)) => self.doze(kernel, time),
                Some(After::Sleep) => kernel.os().wait(self.doorbell.word(), ASLEEP),
                // Another thread makes a round, by `tick`.
                None => kernel.os().sleep(Nanos(LONGEST_PLAIN_SLEEP_NS)),
            }
            self.doorbell.wake_up();
        }
    }

    /// Sleeps for `time`, or until somebody rings urgently; not at all if somebody did since the last `wake_up`.
    fn doze<O: Os>(&self, kernel: &Kernel<O>, time: Nanos) {
        let end = Nanos(kernel.os().now().0.saturating_add(time.0));
        if self.doorbell.doze() {
            while let Some(word) = self.doorbell.dozing_on() {
                let left = end.since(kernel.os().now());
                if left == Nanos(0) {
                    break;
                }
                kernel.os().wait_for(self.doorbell.word(), word, left);
            }
        }
    }

    /// One round on the calling thread. `None` if another thread is at it.
    pub(crate) fn round<O: Os>(&self, kernel: &Kernel<O>, source: &impl Source) -> Option<After> {
        self.with_memory(|memory| {
            // First, as it may replace the pace.
            memory.begin(kernel.os());
            // Relaxed, here and below: a number and a flag; the doorbell orders them.
            memory.pace.ask(self.asked.swap(0, Ordering::Relaxed));
            if self.short.swap(false, Ordering::Relaxed) {
                memory.short_until = Nanos(kernel.os().now().0.saturating_add(SHORT_NS));
            }
            memory.round(kernel, source, &self.requests)
        })
    }

    /// Does something with what the worker remembers. `None` if another thread is at it, or before the start.
    fn with_memory<T>(&self, act: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        // Acquire: pairs with the Release below; the last one who had the memory is done with it.
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: this thread has set `busy`.
        let result = unsafe { (*self.memory.get()).as_mut() }.map(act);
        // Release: pairs with the Acquire above.
        self.busy.store(false, Ordering::Release);
        result
    }
}

impl Memory {
    /// Learns what the machine is like, in the first round: not on a thread of the program.
    fn begin(&mut self, os: &impl Os) {
        if core::mem::replace(&mut self.begun, true) {
            return;
        }
        let machine = self.watch.machine(os);
        let half = Nanos(self.options.hold_budget.0 / 2);
        // On older kernels these calls hold mmap_lock, if only for reading: they get half of the time.
        if !machine.purges_without_mmap_lock() {
            self.pace = Pace::new(&self.options, half);
        }
        if !machine.faults_without_mmap_lock() {
            self.warmer = Warmer::new(&self.options, half);
        }
        self.scatters = os.can_purge_scattered();
    }

    fn round<O: Os>(&mut self, kernel: &Kernel<O>, source: &impl Source, requests: &Requests) -> After {
        let os = kernel.os();
        let now = os.now();
        let counters = kernel.counters().governor();
        counters.wakeups.add(1);
        let chore = source.chores(now);
        let options = self.options;
        let site = Site { kernel, source, requests, options: &options };
        let retired = source.retired();
        self.warmer.observe(now, source.cold_claimed_bytes());
        let has_memory = retired.bytes() > 0 || requests.has_any() || self.warmer.reserve_bytes() > 0;
        let looked = self.look_for_pressure(&site, now, has_memory);
        let hurry = self.level != Level::None || now < self.short_until;
        if hurry {
            self.warmer.give_up(&site);
        }
        let mut kept = self.warmer.kept_bytes(requests, retired);
        if self.pace.asked_bytes() > retired.bytes() - kept {
            // What the program asks for comes before what it may need.
            self.warmer.give_up_reserve();
            kept = self.warmer.kept_bytes(requests, retired);
        }
        if looked {
            // Not more is kept than what can still be taken: the program may want that much of another kind at once.
            self.pace.ask_at_least((retired.bytes() - kept).saturating_sub(self.watch.room_bytes()));
        }
        self.pace.observe(now, retired.bytes() - kept);
        self.tell(kernel, now, retired.bytes() - kept);

        if source.commit_ahead() {
            return After::Pause(options.pause);
        }
        let mut wait = chore;
        let mut sooner = |time: Nanos| wait = Some(wait.map_or(time, |wait| wait.min(time)));
        self.warm_first = !self.warm_first;
        if self.warm_first && !hurry && self.warmer.advance(&site, &mut self.watch, now, retired) {
            counters.batches.add(1);
            return After::Pause(options.pause);
        }
        match self.purge(&site, now, hurry, retired.blocks - kept) {
            After::Pause(time) => {
                counters.batches.add(1);
                return After::Pause(time);
            }
            // What is freed meanwhile wakes nobody, and is due no earlier than after it has lingered.
            After::Doze(time) => sooner(time.min(options.linger.max(Nanos(MISSED_NS)))),
            After::Sleep => {}
        }
        if !self.warm_first && !hurry && self.warmer.advance(&site, &mut self.watch, now, retired) {
            counters.batches.add(1);
            return After::Pause(options.pause);
        }
        if has_memory && options.pressure {
            sooner(self.watch.pause());
        }
        if requests.has_any() {
            sooner(Nanos(KEPT_NS));
        }
        if self.warmer.reserve_bytes() > 0 {
            sooner(Nanos(RESERVE_NS));
        }
        match wait {
            Some(time) => After::Doze(self.spread(time)),
            None => After::Sleep,
        }
    }

    /// Looks for pressure if it is time to. Says whether it did.
    fn look_for_pressure<O: Os>(&mut self, site: &Site<'_, O, impl Source>, now: Nanos, has_memory: bool) -> bool {
        let due = now.since(self.watched_at) >= Nanos(self.watch.pause().0 / 2) && has_memory;
        if !due || !self.options.pressure {
            return false;
        }
        self.watched_at = now;
        let level = self.watch.look(site.kernel.os(), now);
        if level > self.level {
            site.kernel.counters().governor().pressure_events.add(1);
        }
        self.level = level;
        true
    }

    /// Makes one batch of purges, if one is due.
    fn purge<O: Os>(&mut self, site: &Site<'_, O, impl Source>, now: Nanos, hurry: bool, blocks_max: u64) -> After {
        if now < self.refused_until {
            return After::Doze(self.refused_until.since(now));
        }
        let mut batch = Batch::new();
        let kept_first = if hurry { Warmer::take_kept(site, self.pace.step_bytes(true)) } else { None };
        let mut young = None;
        if let Some(piece) = kept_first {
            batch.push(piece);
        } else {
            let (bytes_max, linger) = match self.pace.next(now, hurry) {
                Go::Purge { bytes_max, linger } => (bytes_max, linger),
                Go::Wait(time) => return After::Doze(time),
                Go::Nothing => return After::Sleep,
            };
            let step = self.pace.step_bytes(true).max(self.pace.step_bytes(false));
            young = site.source.take(now, linger, bytes_max.min(step), blocks_max, &mut batch);
        }
        if batch.is_empty() {
            // Requests have taken what was retired, or it is younger than it seemed.
            return young.map_or(After::Doze(Nanos(MISSED_NS)), After::Doze);
        }
        batch.sort();
        if hurry {
            let counter = &site.kernel.counters().governor().purged_under_pressure;
            counter.add(batch.bytes() as u64);
        }
        let refused = self.purge_batch(site, &batch);
        if !refused {
            self.refused = 0;
            return After::Pause(self.options.pause);
        }
        self.refused = (self.refused + 1).min(REFUSED_DOUBLINGS_MAX + 1);
        let pause = Nanos(REFUSED_PAUSE_NS << (self.refused - 1));
        self.refused_until = Nanos(site.kernel.os().now().0.saturating_add(pause.0));
        After::Doze(pause)
    }

    /// Purges the pieces of a batch and gives each back. Says whether the kernel refused one.
    fn purge_batch<O: Os>(&mut self, site: &Site<'_, O, impl Source>, batch: &Batch) -> bool {
        let step = self.pace.step_bytes(batch.is_huge());
        let several = batch.ranges().nth(1).is_some();
        if several && self.scatters && batch.bytes() <= step {
            return self.purge_scattered(site, batch);
        }
        let mut pieces = batch.pieces();
        let mut refused = false;
        for (number, (range, count)) in batch.ranges().enumerate() {
            if number > 0 {
                site.kernel.os().sleep(self.options.pause);
            }
            let purged = self.purge_range(site, range, batch.is_huge());
            refused |= !purged;
            pieces.by_ref().take(count).for_each(|piece: &Piece| site.source.finish(piece.slot, !purged));
        }
        refused
    }

    /// Purges one range, in as many calls as the step asks for; each of them may change it. Says whether that worked.
    fn purge_range<O: Os>(&mut self, site: &Site<'_, O, impl Source>, range: Range, huge: bool) -> bool {
        let mut done = 0;
        while done < range.bytes {
            if done > 0 {
                site.kernel.os().sleep(self.options.pause);
            }
            let bytes = self.pace.step_bytes(huge).min(range.bytes - done);
            // SAFETY: the source has taken the range out of use until it is finished; it lies inside one mapping.
            let Ok(time) = (unsafe { site.kernel.purge(range.base.byte_add(done), bytes) }) else { return false };
            self.pace.note_call(huge, bytes, time);
            done += bytes;
        }
        true
    }

    /// Purges several ranges in one call. What the kernel left undone is given back as it was.
    fn purge_scattered<O: Os>(&mut self, site: &Site<'_, O, impl Source>, batch: &Batch) -> bool {
        let mut ranges = [Range::NONE; BATCH_PIECES_MAX];
        let mut count = 0;
        for (place, (range, _)) in ranges.iter_mut().zip(batch.ranges()) {
            *place = range;
            count += 1;
        }
        // SAFETY: the source has taken the ranges out of use until they are finished; each lies inside one mapping.
        let (result, time) = unsafe { site.kernel.purge_scattered(ranges.get(..count).unwrap_or_default()) };
        let mut purged_bytes = result.unwrap_or(0);
        if purged_bytes > 0 {
            self.pace.note_call(batch.is_huge(), purged_bytes, time);
        } else {
            // Locked memory, for one, is purged by another advice, range by range.
            self.scatters = false;
        }
        for piece in batch.pieces() {
            let purged = purged_bytes >= piece.bytes;
            purged_bytes = purged_bytes.saturating_sub(piece.bytes);
            site.source.finish(piece.slot, !purged);
        }
        false
    }

    fn tell<O: Os>(&self, kernel: &Kernel<O>, now: Nanos, retired: u64) {
        let counters = kernel.counters().governor();
        counters.retired.set(retired);
        counters.backlog.set(self.pace.backlog_bytes(now));
        counters.may_remain.set(self.pace.may_remain_bytes(now));
        counters.reserve_target.set(self.warmer.reserve_bytes() as u64);
        counters.pressure.set(self.level as u64);
    }

    /// `time` and up to an eighth more, so that processes that were started together do not wake together.
    fn spread(&mut self, time: Nanos) -> Nanos {
        // xorshift64 (Marsaglia, 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Nanos(time.0.saturating_add(((u128::from(time.0 / 8) * u128::from(self.random >> 32)) >> 32) as u64))
    }
}

/// What `pthread_create` wants a thread's main to look like.
pub(crate) type ThreadMain = extern "C" fn(*mut c_void) -> *mut c_void;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lockfree::doorbell::Doorbell;
    use crate::os::fake::FakeOs;

    fn spread_of(seed: u64, time: Nanos) -> impl Iterator<Item = Nanos> {
        let governor = Governor::new(Doorbell::from_word(crate::atomic::AtomicU32::new(0)));
        governor.set_up(&Kernel::new(FakeOs::new()), &Options::new());
        governor.with_memory(|memory| memory.random = seed);
        (0..1000).filter_map(move |_| governor.with_memory(|memory| memory.spread(time)))
    }

    #[test]
    fn waits_are_spread_over_an_eighth_and_differ_from_process_to_process() {
        let time = Nanos(800_000);
        let (least, most) = (Nanos(800_000), Nanos(900_000));
        assert_eq!(spread_of(1, time).count(), 1000);
        assert!(spread_of(1, time).all(|time| time >= least && time < most));
        assert!(spread_of(1, time).min() < Some(Nanos(802_000)) && spread_of(1, time).max() > Some(Nanos(898_000)));
        let together = spread_of(1, time).zip(spread_of(3, time)).filter(|(one, other)| one.0.abs_diff(other.0) < 1000);
        assert!(together.count() < 60, "a fiftieth of them by chance");
        assert!(spread_of(1, Nanos(0)).all(|time| time == Nanos(0)));
    }
}
