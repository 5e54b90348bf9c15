//! Memory made warm ahead of need, on request. Called by programs.

use core::time::Duration;

use super::global::{self, ENGINE};
use crate::governor::{Purpose, Ticket};
use crate::limits::{CHUNK_BYTES, HUGE_BYTES_MIN};
use crate::os::{Linux, Os};
use crate::stats::PrewarmProgress;
use crate::units::Nanos;

/// A request for warm memory that is under way or done. Dropping it takes nothing back: the memory stays warm as
/// [`Prewarm::cancel`] says.
#[derive(Debug)]
pub struct Prewarm {
    /// `None` if too many requests were under way.
    ticket: Option<Ticket>,
    wanted_bytes: u64,
}

/// Asks for memory to be made warm for **one block of `bytes`** that the program is about to allocate: a table that
/// will double, a buffer, an index. Returns at once; a background thread faults the memory in, piece by piece, from
/// hugepages where the machine has them, and keeps it for the first block of at least half that size.
///
/// A table that doubles needs a block of twice its present size, and copies into it: prewarm that much before it is
/// full. Less than 32 MiB is warmed as by [`prewarm_blocks`].
///
/// Memory that nobody uses is given back after the time that the option `prewarm_hold` gives, when the request is
/// cancelled, and at once when memory gets short. At most 16 requests are under way, keep memory or have a handle at a
/// time; a further one is [`Refused`](crate::PrewarmState::Refused). So is one that is made before the program has
/// allocated anything by this allocator.
///
/// Cost: no lock, no memory; at most one system call to wake the background thread. With `governor = tick` the memory
/// is warmed by the program's own calls of [`tick`](crate::tick()).
///
/// ```
/// # #[global_allocator]
/// # static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();
/// use std::time::Duration;
///
/// let request = antifreeze::prewarm(64 << 20);
/// let progress = request.wait(Duration::from_secs(10));
/// println!("{} of {} bytes are warm: {:?}", progress.warm_bytes, progress.wanted_bytes, progress.state);
/// let table: Vec<u64> = Vec::with_capacity(8 << 20);
/// # drop(table);
/// ```
pub fn prewarm(bytes: usize) -> Prewarm {
    let purpose = if bytes >= HUGE_BYTES_MIN { Purpose::OneBlock } else { Purpose::ManyBlocks };
    ask(bytes, purpose)
}

/// Asks for memory to be made warm for **many blocks, of up to 32 MiB each** and `bytes` together: what a service will
/// need when its load arrives. As [`prewarm`] otherwise. What is warm and free already counts.
pub fn prewarm_blocks(bytes: usize) -> Prewarm {
    ask(bytes, Purpose::ManyBlocks)
}

fn ask(bytes: usize, purpose: Purpose) -> Prewarm {
    let wanted_bytes = bytes.div_ceil(CHUNK_BYTES).saturating_mul(CHUNK_BYTES) as u64;
    if !global::is_started() {
        return Prewarm { ticket: None, wanted_bytes };
    }
    let ticket = ENGINE.arena().governor().requests().make(purpose, wanted_bytes);
    ENGINE.arena().kernel().counters().governor().prewarm_requests.add(1);
    if ticket.is_some() {
        ENGINE.arena().notify_governor(true);
    }
    Prewarm { ticket, wanted_bytes }
}

impl Prewarm {
    /// How far it has come. Cost: some loads.
    pub fn progress(&self) -> PrewarmProgress {
        self.ticket
            .and_then(|ticket| ENGINE.arena().governor().requests().progress(ticket))
            .unwrap_or(PrewarmProgress::refused(self.wanted_bytes))
    }

    /// Waits until all of it is warm or nothing more will be, for at most `time`; how far it has come then. The calling
    /// thread sleeps. A state of [`Warming`](crate::PrewarmState::Warming) means that the time was over first.
    pub fn wait(&self, time: Duration) -> PrewarmProgress {
        if let Some(ticket) = self.ticket {
            let deadline = Nanos(Linux.now().0.saturating_add(Nanos::from_duration(time).0));
            ENGINE.arena().governor().requests().wait(&Linux, ticket, deadline);
        }
        self.progress()
    }

    /// Takes the request back: nothing more is warmed for it, and what is warm and not used yet is given back like
    /// freed memory. Does nothing once a block has taken the memory.
    pub fn cancel(&self) {
        if let Some(ticket) = self.ticket
            && ENGINE.arena().governor().requests().cancel(ticket)
        {
            ENGINE.arena().notify_governor(true);
        }
    }
}

impl Drop for Prewarm {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            ENGINE.arena().governor().requests().let_go(ticket);
        }
    }
}
