//! Makes memory warm ahead of need: what was asked for, what the forecast expects, the reserve. Called by
//! `governor::worker`, one piece at a time.
//!
//! Invariant: nothing is warmed under pressure, beyond the head-room, or while the machine has trouble finding
//! hugepages; what is kept for a request is given back when its time is over, when it is cancelled, and first of all
//! under pressure. Memory is touched, page by page, while the governor owns it: that takes the lock of the one mapping
//! for the length of one page fault, where one `MADV_POPULATE_WRITE` would hold mmap_lock for the whole of it.

use super::batch::Piece;
use super::requests::{Purpose, Request, Requests};
use super::reserve::Reserve;
use super::site::Site;
use super::source::{Retired, Source};
use super::step::Step;
use super::watch::Watch;
use crate::limits::{CHUNK_BYTES, SMALL_PAGES_PER_PIECE, WARM_PIECE_BYTES_MAX};
use crate::options::Options;
use crate::os::Os;
use crate::os::vmstat::HugepageTrouble;
use crate::stats::PrewarmState;
use crate::units::Nanos;

/// Bytes that are warmed between two looks at the machine.
const LOOK_BYTES: u64 = 64 << 20;
/// Longest time between two looks at the machine while memory is being warmed, in nanoseconds.
const LOOK_NS: u64 = 50_000_000;
/// How often a machine may have had trouble with hugepages between two looks before warming stops.
const TROUBLE_MAX: u64 = 8;
/// For how long the reserve is not refilled after that, in nanoseconds.
const SCARCE_NS: u64 = 10_000_000_000;

/// What stands against making more memory warm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Obstacle {
    NoHeadRoom,
    HugepagesScarce,
}

/// The part of the governor that warms.
pub(crate) struct Warmer {
    step: Step,
    reserve: Reserve,
    /// Whether the reserve is being filled up to its high watermark.
    refilling: bool,
    looked_at: Nanos,
    since_look: u64,
    head_room: u64,
    trouble: Option<HugepageTrouble>,
    scarce_until: Nanos,
}

impl Warmer {
    /// Nothing warmed yet; `budget` is the longest that one call should take.
    pub(crate) const fn new(options: &Options, budget: Nanos) -> Self {
        let reserve_max = match options.warm_reserve {
            Some(bytes) => bytes,
            None => 0,
        };
        Warmer {
            step: Step::new(WARM_PIECE_BYTES_MAX, budget),
            reserve: Reserve::new(reserve_max),
            refilling: false,
            looked_at: Nanos(0),
            since_look: 0,
            head_room: 0,
            trouble: None,
            scarce_until: Nanos(0),
        }
    }

    /// Learns how much cold memory the program has taken.
    pub(crate) fn observe(&mut self, now: Nanos, cold_claimed: u64) {
        self.reserve.observe(now, cold_claimed);
    }

    /// What the reserve aims at, in bytes.
    pub(crate) fn reserve_bytes(&self) -> usize {
        self.reserve.high_bytes()
    }

    /// Bytes of small blocks' warm memory that are kept, of `retired`.
    pub(crate) fn kept_bytes(&self, requests: &Requests, retired: Retired) -> u64 {
        let kept = |request: &Request| request.kept_bytes.get();
        let asked: u64 = requests.all().iter().map(kept).sum();
        retired.blocks.min(asked.saturating_add(self.reserve.high_bytes() as u64))
    }

    /// Nothing is kept for the reserve until the program grows again.
    pub(crate) fn give_up_reserve(&mut self) {
        self.reserve.give_up();
        self.refilling = false;
    }

    /// Pressure: nothing is kept any more, neither for the reserve nor for requests.
    pub(crate) fn give_up<O: Os, S: Source>(&mut self, site: &Site<'_, O, S>) {
        self.give_up_reserve();
        for request in site.requests.all() {
            let slot = request.slot();
            if !slot.is_queued() && !slot.is_kept() {
                continue;
            }
            // The name of the room stays, so that it is purged before all other memory; for requests it is a room like
            // any other.
            request.kept_bytes.set(0);
            let room = request.room.get();
            if room != 0 {
                site.source.drop_room(room);
            }
            if slot.is_queued() {
                site.counters().prewarm_stopped.add(1);
                request.end(site.kernel.os(), PrewarmState::Pressure);
            } else {
                if request.state() == PrewarmState::Ready {
                    request.set_state(PrewarmState::Pressure);
                }
                request.settle();
            }
        }
    }

    /// Under pressure: a piece of the memory that was kept for requests, to be purged before all other.
    pub(crate) fn take_kept<O: Os, S: Source>(site: &Site<'_, O, S>, bytes_max: usize) -> Option<Piece> {
        site.requests.all().iter().find_map(|request| {
            let room = request.room.get();
            if room == 0 || !request.slot().is_kept() {
                return None;
            }
            let piece = site.source.take_warm_in_room(room, bytes_max);
            if piece.is_none() {
                site.release(request);
                request.settle();
            }
            piece
        })
    }

    /// Looks after requests and the reserve, and warms one piece if there is cause to. Says whether it did.
    pub(crate) fn advance<O: Os, S: Source>(
        &mut self,
        site: &Site<'_, O, S>,
        watch: &mut Watch,
        now: Nanos,
        retired: Retired,
    ) -> bool {
        let mut free = retired.blocks;
        // First what is kept, so that no new request takes it for its own, nor counts a forecast that came true as
        // wrong.
        for request in site.requests.all() {
            if request.slot().is_kept() {
                site.look_after(request, now, &mut free);
            }
        }
        if let Some(bytes) = site.source.forecast_bytes() {
            site.forecast(bytes);
        }
        for request in site.requests.all() {
            let slot = request.slot();
            if slot.is_queued() {
                if slot.is_cancelled() {
                    site.stop(request, PrewarmState::Cancelled);
                } else if let Some(piece) = self.next_piece(site, watch, now, request, &mut free) {
                    self.warm(site, piece, Some(request));
                    return true;
                }
            }
        }
        self.refill(site, watch, now, free)
    }

    /// The next piece for a queued request; if there is none it has ended.
    fn next_piece<O: Os, S: Source>(
        &mut self,
        site: &Site<'_, O, S>,
        watch: &mut Watch,
        now: Nanos,
        request: &Request,
        free: &mut u64,
    ) -> Option<Piece> {
        let wanted = request.wanted_bytes();
        let one_block = request.purpose() != Purpose::ManyBlocks;
        let mut room = request.room.get();
        if one_block && room == 0 {
            let Some(name) = site.source.keep_room(wanted) else {
                site.stop(request, PrewarmState::Refused);
                return None;
            };
            site.lose_room(name);
            room = name;
            request.room.set(name);
        }
        let warm = if one_block {
            let kept = site.source.kept_room(room);
            if !kept.is_kept {
                site.taken(request);
                request.end(site.kernel.os(), PrewarmState::Taken);
                return None;
            }
            kept.warm_bytes.min(wanted)
        } else {
            let own = wanted.min(*free);
            *free -= own;
            request.kept_bytes.set(own);
            // What the program has taken since is not made up for: that might go on for ever.
            own.max(request.warm_bytes.get())
        };
        request.warm_bytes.set(warm);
        if warm >= wanted {
            request.ready_ns.set(now.0);
            let is_left = request.keeps() || wanted == 0;
            request.end(site.kernel.os(), if is_left { PrewarmState::Ready } else { PrewarmState::Taken });
            return None;
        }
        let stopped = match self.obstacle(site, watch, now) {
            Some(Obstacle::NoHeadRoom) => Some(PrewarmState::NoHeadRoom),
            Some(Obstacle::HugepagesScarce) => Some(PrewarmState::HugepagesScarce),
            None => None,
        };
        if let Some(state) = stopped {
            // What is warm stays for who asked for it.
            site.counters().prewarm_stopped.add(1);
            request.ready_ns.set(now.0);
            request.end(site.kernel.os(), state);
            return None;
        }
        let piece = if one_block {
            site.source.take_cold_in_room(room, self.step.bytes().min((wanted - warm) as usize))
        } else {
            site.source.take_cold_chunk()
        };
        if piece.is_none() && !one_block {
            site.stop(request, PrewarmState::Refused);
        }
        piece
    }

    /// Warms a chunk for the reserve if it is below its watermark. Says whether it did.
    fn refill<O: Os, S: Source>(&mut self, site: &Site<'_, O, S>, watch: &mut Watch, now: Nanos, free: u64) -> bool {
        let [low, high] = [self.reserve.low_bytes(), self.reserve.high_bytes()].map(|bytes| bytes as u64);
        self.refilling = if self.refilling { free < high } else { free < low };
        if !self.refilling || now < self.scarce_until {
            return false;
        }
        if self.obstacle(site, watch, now).is_some() {
            self.scarce_until = Nanos(now.0 + SCARCE_NS);
            return false;
        }
        let Some(piece) = site.source.take_cold_chunk() else { return false };
        self.warm(site, piece, None);
        true
    }

    /// What stands against warming more; looks at the machine once in a while.
    fn obstacle<O: Os, S: Source>(&mut self, site: &Site<'_, O, S>, watch: &mut Watch, now: Nanos) -> Option<Obstacle> {
        let os = site.kernel.os();
        if self.since_look >= LOOK_BYTES || now.since(self.looked_at) >= Nanos(LOOK_NS) {
            let rested = now.since(self.looked_at) >= Nanos(20 * LOOK_NS);
            let trouble = watch.hugepage_trouble(os);
            // After a rest it is not known when the trouble was.
            let before = self.trouble.replace(trouble).filter(|_| !rested).unwrap_or(trouble);
            self.head_room = watch.bytes_to_warm(os, now);
            self.looked_at = now;
            self.since_look = 0;
            let grown = |now: u64, then: u64| now.saturating_sub(then) >= TROUBLE_MAX;
            if grown(trouble.fault_fallback, before.fault_fallback)
                || grown(trouble.compact_stall, before.compact_stall)
            {
                return Some(Obstacle::HugepagesScarce);
            }
        }
        let next = self.since_look.saturating_add(self.step.bytes() as u64);
        (next > self.head_room).then_some(Obstacle::NoHeadRoom)
    }

    /// Makes a piece warm and gives it back to its source.
    fn warm<O: Os, S: Source>(&mut self, site: &Site<'_, O, S>, piece: Piece, request: Option<&Request>) {
        let mut hugepage_bytes = 0;
        let mut slowest = Nanos(0);
        for offset in (0..piece.bytes).step_by(CHUNK_BYTES) {
            // SAFETY: the chunk lies in the piece, which is committed, zero, and the governor's alone until `finish`.
            let (huge, time) = unsafe { touch_chunk(site, piece.base.byte_add(offset)) };
            hugepage_bytes += if huge { CHUNK_BYTES as u64 } else { 0 };
            slowest = slowest.max(time);
        }
        let chunks = (piece.bytes / CHUNK_BYTES).max(1) as u64;
        self.step.learn(piece.bytes, Nanos(slowest.0 * chunks));
        self.since_look += piece.bytes as u64;
        site.source.finish(piece.slot, true);
        let bytes = piece.bytes as u64;
        site.counters().prewarm_bytes.add(bytes);
        site.counters().prewarm_hugepage_bytes.add(hugepage_bytes);
        if let Some(request) = request {
            request.warm_bytes.add(bytes);
            request.faulted_bytes.add(bytes);
            request.hugepage_bytes.add(hugepage_bytes);
        }
    }
}

/// Touches every page of a chunk. Says whether one hugepage backs it, and how long the slowest call took.
///
/// The first and the last byte tell: one page fault for both is a hugepage, more are smaller pages, of which all are
/// touched then, with pauses.
/// # Safety
/// The chunk is committed, zero, and nobody else's.
unsafe fn touch_chunk<O: Os, S: Source>(site: &Site<'_, O, S>, base: core::ptr::NonNull<u8>) -> (bool, Nanos) {
    let (kernel, page_bytes) = (site.kernel, site.kernel.os().page_bytes());
    // SAFETY: the caller's promise.
    let (faults, mut slowest) = unsafe { kernel.warm(base, CHUNK_BYTES, CHUNK_BYTES - page_bytes) };
    if faults <= 1 {
        return (faults == 1, slowest);
    }
    let piece_bytes = page_bytes * SMALL_PAGES_PER_PIECE;
    let mut unpaused = slowest;
    for offset in (0..CHUNK_BYTES).step_by(piece_bytes) {
        if unpaused.0 + slowest.0 > site.options.hold_budget.0 {
            kernel.os().sleep(site.options.pause);
            unpaused = Nanos(0);
        }
        let bytes = piece_bytes.min(CHUNK_BYTES - offset);
        // SAFETY: the caller's promise; the piece lies in the chunk.
        let (_, time) = unsafe { kernel.warm(base.byte_add(offset), bytes, page_bytes) };
        unpaused.0 += time.0;
        slowest = slowest.max(time);
    }
    (false, slowest)
}
