//! Questions about the allocator, and the governor's strings in the program's hand. Called by programs.

use core::ffi::c_int;
use core::ptr::null_mut;
use core::time::Duration;

use super::global::{self, ENGINE};
use crate::governor::After;
use crate::limits::LONGEST_PLAIN_SLEEP_NS;
use crate::options::{self, Options};
use crate::span::census;
use crate::stats::{BufferTooSmall, Stats};
use crate::text::Text;
use crate::units::Nanos;

/// What the allocator has done so far, and where memory is.
///
/// Allocates nothing, takes no lock and makes no system call: safe to call from anywhere, also from a signal handler.
/// Cost: a look at every chunk that was ever used and every slice that is in use, about a millisecond for each GiB of
/// small blocks; [`counters`] leaves that out.
pub fn stats() -> Stats {
    let mut stats = Stats::default();
    read_stats(&mut stats);
    stats
}

/// Puts in `stats` what [`stats`](stats()) gives.
pub(super) fn read_stats(stats: &mut Stats) {
    read_counters(stats);
    if global::is_started() {
        stats.memory = census::take(ENGINE.arena());
    }
}

/// Like [`stats`] without `memory`, which stays zero. Cost: some loads.
pub fn counters() -> Stats {
    let mut stats = Stats::default();
    read_counters(&mut stats);
    stats
}

fn read_counters(stats: &mut Stats) {
    ENGINE.arena().kernel().counters().read(stats);
    stats.governor.cold_claimed = ENGINE.arena().all_cold_claimed_bytes();
}

/// Asks for up to `bytes` of freed memory to be given back to the kernel soon, the longest free first, whatever its age
/// and whatever the rate; each call stays as short as ever. `usize::MAX` asks for all. Returns at once: the background
/// thread does it, or the program's next calls of [`tick`].
///
/// Cost: at most one system call to wake that thread.
pub fn purge(bytes: usize) {
    if global::is_started() {
        ENGINE.arena().governor().ask(bytes as u64);
        ENGINE.arena().notify_governor(true);
    }
}

/// With the option `governor = tick`: does what is due, at most one piece of work, and says after how long there is
/// more, if nothing else happens; `None` if there is nothing to do until memory is freed. Meant for a timer, or for a
/// thread of low priority of the program's own:
///
/// ```
/// # fn idle(_: std::time::Duration) {}
/// // On the program's timer:
/// let next = antifreeze::tick().unwrap_or(std::time::Duration::from_millis(100));
/// idle(next);
/// ```
///
/// Without that option the background thread does all this; then nothing happens here, and the answer is `None`. Not
/// for threads that must answer: it may take as long as one kernel call, and sleeps between the parts of some. It opens
/// files of `/proc` and `/sys` for the moment of reading, one at a time, among the program's own descriptors, to learn
/// of pressure and before it warms memory; the background thread has a table of descriptors of its own.
pub fn tick() -> Option<Duration> {
    if !global::is_started() || ENGINE.options().is_none_or(|options| options.governor != options::Governor::Tick) {
        return None;
    }
    // A thread that is cancelled in the middle of a round would leave the governor without hands.
    let round = without_cancellation(|| ENGINE.governor_round());
    let wait = match round {
        Some(After::Pause(time) | After::Doze(time)) => time,
        Some(After::Sleep) => return None,
        None => Nanos(LONGEST_PLAIN_SLEEP_NS),
    };
    Some(Duration::from_nanos(wait.0))
}

unsafe extern "C" {
    /// Sets whether the calling thread can be cancelled, and gives what held before (pthread_setcancelstate(3)).
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// `PTHREAD_CANCEL_DISABLE` of glibc and musl.
const CANCEL_DISABLE: c_int = 1;

fn without_cancellation<T>(act: impl FnOnce() -> T) -> T {
    let mut before = 0;
    // SAFETY: changes a flag of this thread; `before` is live.
    unsafe { pthread_setcancelstate(CANCEL_DISABLE, &raw mut before) };
    let result = act();
    // SAFETY: puts back what was there.
    unsafe { pthread_setcancelstate(before, null_mut()) };
    result
}

/// Writes the options in force into `buffer`, a line each: `key = value (where it came from)`. Before the first
/// allocation these are the defaults.
///
/// # Errors
/// The buffer is too small; 1 KiB is enough.
pub fn options(buffer: &mut [u8]) -> Result<&str, BufferTooSmall> {
    let mut text = Text::new(buffer);
    options_in_force().print(&mut text);
    text.finish().map_err(|bytes_needed| BufferTooSmall { bytes_needed })
}

/// The options; the defaults until the engine has started, as another thread may just be writing them.
pub(super) fn options_in_force() -> Options {
    let started = global::is_started().then(|| ENGINE.options().copied());
    started.flatten().unwrap_or_default()
}
