//! The arena: all reservations of the process, and the way from a request to a run of slices or a room, and from an
//! address back to its owner. Called by `span` and `front`.
//!
//! Invariant: reservations are only ever added; the first is set up once at start. A request looks at each of them
//! before the process grows by another.

use core::ptr::{NonNull, null_mut};

use super::doublings::Doublings;
use super::layout::Layout;
use super::refusal::Refusal;
use super::reservation::{Missing, Reservation};
use super::retired::{RetiredQueue, Sink};
use super::rooms::{Claimed, RoomIndex};
use super::space::{HEADER_BYTES, Run};
use super::standing::{Commitment, Standing, WhyStepped};
use super::starting::Starting;
use crate::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use crate::governor::Governor;
use crate::limits::{
    CHUNK_BYTES, RESERVATION_BYTES_FLOOR, RESERVATION_BYTES_MAX, RESERVATION_BYTES_MIN, RESERVATION_COUNT_MAX,
    RESERVATION_PER_MEMORY, RESERVE_AFTER_CHUNKS, SLICE_BYTES, SLICE_SHIFT,
};
use crate::lockfree::doorbell::Doorbell;
use crate::number::Number;
use crate::options::{self, Commit, Options};
use crate::os::{Kernel, Limit, Os};
use crate::units::{Chunks, Nanos, SliceIndex, Slices};

/// The first reservation's block space as numbers, for the paths that must be fast. All zero: no space.
#[derive(Clone, Copy)]
pub(crate) struct BlockSpace {
    base: usize,
    /// Bytes whose slices have committed headers.
    bytes: usize,
    headers: usize,
}

impl BlockSpace {
    /// No space, which holds no address.
    pub(crate) const NONE: Self = BlockSpace { base: 0, bytes: 0, headers: 0 };

    /// Where the header of the slice that holds `address` lies, if the space holds it.
    #[inline(always)]
    pub(crate) fn header_of(&self, address: usize) -> Option<usize> {
        let offset = address.wrapping_sub(self.base);
        if offset >= self.bytes {
            return None;
        }
        let shift = SLICE_SHIFT - HEADER_BYTES.ilog2();
        Some(self.headers + ((offset >> shift) & !(HEADER_BYTES - 1)))
    }
}

/// The same as it is known to all threads: one cache line.
#[repr(align(64))]
struct Primary {
    base: AtomicUsize,
    bytes: AtomicUsize,
    headers: AtomicUsize,
}

/// Who holds an address.
#[derive(Clone, Copy)]
pub(crate) enum Found {
    /// A slice of a block space.
    Slice(&'static Reservation, SliceIndex),
    /// A room, at this offset from its start.
    Room(&'static Reservation, RoomIndex, usize),
}

/// All address space of the allocator.
pub(crate) struct Arena<O> {
    kernel: Kernel<O>,
    primary: Primary,
    table: [AtomicPtr<Reservation>; RESERVATION_COUNT_MAX],
    count: AtomicUsize,
    /// 0 unknown, 1 ready, 2 stepped. Set once.
    mode: AtomicUsize,
    /// What was wanted of the first reservation, and why it is stepped if it is. Set once.
    wanted_bytes: AtomicUsize,
    why_stepped: AtomicUsize,
    /// Size of the last reservation that worked, where the next try starts. Any thread; a hint.
    last_bytes: AtomicUsize,
    /// Sizes of reservations that the kernel has lately refused.
    refusal: Refusal,
    /// Requests that have lately met no memory.
    shortage: Refusal,
    retired: RetiredQueue,
    governor: Governor,
    pub(super) starting: Starting,
    /// Whether claims of cold memory ring for the governor. Set once.
    grows_warm: AtomicBool,
    pub(crate) doublings: Doublings,
    /// When the governor was last rung for a step. Any thread, the last one wins.
    step_rung_ns: Number,
}

/// How long a request waits for the governor at most before it does without, in nanoseconds: a hundred pieces. What it
/// does instead, copying a huge block or failing, is far worse than that.
const WAIT_NS_MAX: u64 = 20_000_000;
/// How often it gives way meanwhile at most.
const YIELDS_MAX: u32 = 10_000;
/// Time between two rings for the same step, in nanoseconds.
const STEP_RING_NS: u64 = 4_000_000;

const READY: usize = 1;
const STEPPED: usize = 2;

impl<O: Os> Arena<O> {
    /// Nothing reserved yet.
    pub(crate) const fn new(os: O) -> Self {
        Arena {
            kernel: Kernel::new(os),
            primary: Primary { base: AtomicUsize::new(0), bytes: AtomicUsize::new(0), headers: AtomicUsize::new(0) },
            table: [const { AtomicPtr::new(null_mut()) }; RESERVATION_COUNT_MAX],
            count: AtomicUsize::new(0),
            mode: AtomicUsize::new(0),
            wanted_bytes: AtomicUsize::new(0),
            why_stepped: AtomicUsize::new(0),
            last_bytes: AtomicUsize::new(0),
            refusal: Refusal::new(),
            shortage: Refusal::new(),
            retired: RetiredQueue::new(),
            governor: Governor::new(Doorbell::from_word(AtomicU32::new(0))),
            starting: Starting::new(),
            grows_warm: AtomicBool::new(false),
            doublings: Doublings::new(),
            step_rung_ns: Number::new(0),
        }
    }

    /// The kernel and its counters.
    pub(crate) fn kernel(&self) -> &Kernel<O> {
        &self.kernel
    }

    /// The first reservation's block space as it is now; it only ever gets longer.
    #[inline(always)]
    pub(crate) fn block_space(&self) -> BlockSpace {
        // Relaxed: written before any pointer into the space was given out; until then `bytes` is 0.
        BlockSpace {
            base: self.primary.base.load(Ordering::Relaxed),
            bytes: self.primary.bytes.load(Ordering::Relaxed),
            headers: self.primary.headers.load(Ordering::Relaxed),
        }
    }

    /// The queue of retired ranges.
    pub(crate) fn retired(&self) -> &RetiredQueue {
        &self.retired
    }

    /// The governor.
    pub(crate) fn governor(&self) -> &Governor {
        &self.governor
    }

    /// Whether memory is committed in steps.
    pub(crate) fn is_stepped(&self) -> bool {
        // Relaxed: set once, before the first block.
        self.mode.load(Ordering::Relaxed) == STEPPED
    }

    /// What has come of the start, and of growth since. Cost: a look at each room that was ever used.
    pub(crate) fn standing(&self) -> Standing {
        // Relaxed, here and below: numbers for people.
        let commitment = match self.mode.load(Ordering::Relaxed) {
            READY => Some(Commitment::Ready),
            STEPPED => Some(Commitment::Stepped(WhyStepped::of(self.why_stepped.load(Ordering::Relaxed)))),
            _ => None,
        };
        let mut standing = Standing::new(commitment, self.wanted_bytes.load(Ordering::Relaxed));
        self.reservations().for_each(|reservation| standing.add(reservation));
        standing.thread_refused = self.starting.is_refused();
        standing
    }

    /// The reservation of this number.
    pub(crate) fn reservation(&self, number: usize) -> Option<&'static Reservation> {
        // Acquire: pairs with the Release in `publish`.
        let reservation = self.table.get(number)?.load(Ordering::Acquire);
        // SAFETY: entries are null or point to reservations, which live for ever.
        unsafe { reservation.as_ref() }
    }

    /// The reservations, oldest first.
    pub(crate) fn reservations(&self) -> impl Iterator<Item = &'static Reservation> {
        // Relaxed: an entry that is not yet there is skipped.
        (0..self.count.load(Ordering::Relaxed)).filter_map(|number| self.reservation(number))
    }

    /// Takes the first reservation: 32 times the machine's memory, halved until the kernel agrees and half of a limit
    /// of address space is left to others. `false` if the kernel does not agree even at 32 MiB; nothing stays behind
    /// then. Called once at a time.
    pub(crate) fn start(&self, options: &Options) -> bool {
        let facts = self.kernel.os().facts();
        if facts.page_bytes > SLICE_BYTES {
            // Slices are whole pages everywhere but on kernels built for larger ones, which no distribution ships.
            return false;
        }
        let usual = facts.memory_bytes.next_power_of_two().saturating_mul(RESERVATION_PER_MEMORY);
        let wanted = options.reservation.unwrap_or(usual.clamp(RESERVATION_BYTES_MIN, RESERVATION_BYTES_MAX));
        // A process that may lock this much would fault in all of a ready reservation by mlockall.
        let lockable = facts.lockable_bytes >= wanted;
        let (modes, why_stepped): (&[usize], _) = match options.commit {
            Commit::Ready => (&[READY, STEPPED], WhyStepped::Refused),
            Commit::Auto if !lockable => (&[READY, STEPPED], WhyStepped::Refused),
            Commit::Auto => (&[STEPPED], WhyStepped::Lockable),
            Commit::Stepped => (&[STEPPED], WhyStepped::Asked),
        };
        // Relaxed: for people, after the start.
        self.wanted_bytes.store(wanted, Ordering::Relaxed);
        self.why_stepped.store(why_stepped as usize, Ordering::Relaxed);
        let mut bytes = wanted;
        // A limit is for thread stacks and the program's own mappings as well: half of it at first, more when that is
        // used. An option is taken at its word.
        let limit = self.kernel.os().limit(Limit::AddressSpace).filter(|_| options.reservation.is_none());
        while bytes > RESERVATION_BYTES_FLOOR && limit.is_some_and(|limit| bytes as u64 > limit / 2) {
            bytes /= 2;
        }
        while bytes >= RESERVATION_BYTES_FLOOR {
            for mode in modes {
                if let Ok(reservation) = Reservation::create(&self.kernel, bytes, true, *mode == READY) {
                    // Relaxed throughout: `start` runs before any other thread gets past the engine's `Once`.
                    self.mode.store(*mode, Ordering::Relaxed);
                    self.last_bytes.store(bytes, Ordering::Relaxed);
                    self.primary.base.store(reservation.space.base().addr().get(), Ordering::Relaxed);
                    self.primary.headers.store(reservation.space.headers().addr().get(), Ordering::Relaxed);
                    self.publish(reservation);
                    self.note_reached(reservation);
                    self.take_pool(options.hugetlb.unwrap_or(0));
                    self.note_process();
                    self.starting.set_lent(options.governor == options::Governor::Tick);
                    self.grows_warm.store(options.warm_reserve.is_some(), Ordering::Relaxed);
                    self.doublings.set_up(options.forecast);
                    self.governor.set_up(&self.kernel, options);
                    self.kernel.counters().set_hold_budget(options.hold_budget);
                    self.kernel.counters().end_startup();
                    return true;
                }
            }
            bytes /= 2;
        }
        false
    }

    /// Adds a reservation to the table; `false` if it is full.
    pub(super) fn publish(&self, reservation: &'static Reservation) -> bool {
        // Relaxed: claims a place in the table; the entry itself publishes.
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let Some(entry) = self.table.get(number) else {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return false;
        };
        reservation.number.store(number, Ordering::Relaxed);
        // Release: pairs with the Acquire in `reservations`.
        entry.store(core::ptr::from_ref(reservation).cast_mut(), Ordering::Release);
        true
    }

    /// Grows by a reservation that can serve `bytes`. `None` if the kernel refuses or the table is full.
    ///
    /// Every try takes mmap_lock for writing, so sizes that were refused are not tried again for a while.
    fn grow(&self, bytes: usize) -> Option<()> {
        // Relaxed, here and below: hints.
        if self.count.load(Ordering::Relaxed) >= RESERVATION_COUNT_MAX {
            return None;
        }
        let ready = !self.is_stepped();
        let serves =
            |bytes_in_all| Layout::new(bytes_in_all, false).is_some_and(|layout| layout.largest_block_bytes() >= bytes);
        // An eighth of a wide reservation is one range of blocks, see `Layout`.
        let ample = bytes.checked_mul(8)?.checked_next_power_of_two()?;
        let mut try_bytes = self.last_bytes.load(Ordering::Relaxed).max(ample);
        let now = self.kernel.os().coarse_now();
        if let Some(refused_bytes) = self.refusal.bytes(now) {
            try_bytes = try_bytes.min(refused_bytes / 2);
        }
        while try_bytes >= RESERVATION_BYTES_FLOOR && serves(try_bytes) {
            match Reservation::create(&self.kernel, try_bytes, false, ready) {
                Ok(reservation) => {
                    // Relaxed: a hint.
                    self.last_bytes.store(try_bytes, Ordering::Relaxed);
                    return self.publish(reservation).then_some(());
                }
                // In steps a smaller one takes as much memory to begin with.
                Err(Missing::Memory) if !ready => try_bytes = RESERVATION_BYTES_FLOOR,
                Err(_) => {}
            }
            self.refusal.note(now, try_bytes);
            try_bytes /= 2;
        }
        None
    }

    /// Tries `attempt` on each reservation, then on a new one of at least `bytes`, then once more on all: another
    /// thread may have grown or freed meanwhile. Before that last try the governor is told, and its round waited for.
    fn on_some<T>(&self, bytes: usize, attempt: impl Fn(&'static Reservation) -> Option<T>) -> Option<T> {
        if let Some(found) = self.reservations().find_map(&attempt) {
            return Some(found);
        }
        if self.grow(bytes).is_none() {
            self.note_shortage(bytes);
            self.wait_for_governor();
        }
        self.reservations().find_map(&attempt)
    }

    /// Before a request fails: waits until the governor has given back what it has in its hands, a batch at most, which
    /// may be just what is missing. The alternative is to end the program for a lack that lasts a fraction of a
    /// millisecond.
    fn wait_for_governor(&self) {
        self.yield_while(|| self.governor.is_busy());
    }

    /// Gives way while the governor has something in its hands, for a limited time: a thread that the machine has
    /// stopped in the middle of its work is not waited for for ever.
    fn yield_while(&self, goes_on: impl Fn() -> bool) {
        let os = self.kernel.os();
        let start = os.now();
        for _ in 0..YIELDS_MAX {
            if !goes_on() || os.now().since(start) > Nanos(WAIT_NS_MAX) {
                return;
            }
            os.yield_now();
        }
    }

    /// Whether a request has met no memory within the last second. Two loads if none ever has.
    pub(crate) fn is_short(&self) -> bool {
        self.shortage.stands() && self.shortage.covers(self.kernel.os().coarse_now(), 1)
    }

    /// Tells the governor that there is no memory for a request of `bytes`, so that it gives up what it keeps ahead of
    /// need: once in a while, and not for requests that no machine like this could serve.
    fn note_shortage(&self, bytes: usize) {
        let now = self.kernel.os().coarse_now();
        if !self.shortage.covers(now, 1) && bytes <= self.kernel.os().facts().memory_bytes {
            self.shortage.note(now, 1);
            self.governor.note_shortage();
            self.notify_governor(true);
        }
    }

    /// Claims a run of `count` slices at a multiple of `align_bytes`; for one of several chunks that must be `zeroed`,
    /// chunks that hold no old data are taken first.
    pub(crate) fn allocate_run(
        &self,
        count: Slices,
        align_bytes: usize,
        zeroed: bool,
    ) -> Option<(&'static Reservation, Run)> {
        let bytes = count.in_bytes().checked_add(align_bytes)?;
        self.on_some(bytes, |reservation| {
            if reservation.space.is_pool() {
                return None;
            }
            let sink = Sink { arena: self, reservation };
            let cold_before = reservation.space.cold_claims();
            let run = reservation.space.allocate(&self.kernel, count, align_bytes, zeroed, &sink)?;
            self.note_reached(reservation);
            if reservation.space.cold_claims() != cold_before {
                self.note_growth(reservation);
            }
            self.note_step(|| reservation.space.frontier().wants_commit());
            Some((reservation, run))
        })
    }

    /// Claims these slices, which were in use once. `None` if some are taken, or if it would put a free chunk in use.
    pub(crate) fn claim_run_again(
        &self,
        reservation: &'static Reservation,
        start: SliceIndex,
        count: Slices,
    ) -> Option<Run> {
        reservation.space.claim_again(start, count, &Sink { arena: self, reservation })
    }

    /// After cold memory was taken: has the governor warm more ahead of need, or commit the next step.
    fn note_growth(&self, reservation: &Reservation) {
        // A small program needs no reserve, and no thread that keeps one. Relaxed: set once, at start.
        let grows_warm =
            self.grows_warm.load(Ordering::Relaxed) && reservation.space.cold_claims() >= RESERVE_AFTER_CHUNKS;
        if grows_warm {
            self.notify_governor(false);
        }
        self.note_size();
    }

    /// After hugepages were taken: where the governor can only be started by requests for memory, it is started now, as
    /// a program of some size may free all that and never ask for any again.
    fn note_size(&self) {
        if self.starting.is_late() && self.governor.is_unheard_of() {
            self.notify_governor(false);
        }
    }

    /// Stepped mode: has the governor take a step that is due soon, at once: what is left may be used up within
    /// milliseconds. Not again for a while if it does not, as the kernel may refuse.
    fn note_step(&self, is_wanted: impl FnOnce() -> bool) {
        if !self.is_stepped() || !is_wanted() {
            return;
        }
        let now_ns = self.kernel.os().coarse_now().0;
        if now_ns.wrapping_sub(self.step_rung_ns.get()) >= STEP_RING_NS {
            self.step_rung_ns.set(now_ns);
            self.notify_governor(true);
        }
    }

    /// Bytes of cold memory that the program has taken so far in the chunks that hugepages back.
    pub(crate) fn cold_claimed_bytes(&self) -> u64 {
        self.reservations().map(|reservation| reservation.space.cold_claims() * CHUNK_BYTES as u64).sum()
    }

    /// Bytes of cold memory that the program has taken so far, for blocks of every size.
    pub(crate) fn all_cold_claimed_bytes(&self) -> u64 {
        let rooms: u64 = self.reservations().map(|reservation| reservation.rooms.cold_claims()).sum();
        self.cold_claimed_bytes() + rooms * CHUNK_BYTES as u64
    }

    /// Governor, stepped mode: commits the next step of a region of which three quarters are used. Says whether it made
    /// a call.
    pub(crate) fn commit_ahead(&self) -> bool {
        self.is_stepped()
            && self.reservations().any(|reservation| {
                let stepped = reservation.space.frontier().commit_ahead(&self.kernel)
                    || reservation.rooms.commit_ahead(&self.kernel);
                if stepped {
                    self.note_reached(reservation);
                }
                stepped
            })
    }

    /// Lets the fast paths see the headers that a step has committed.
    fn note_reached(&self, reservation: &Reservation) {
        let reached = reservation.space.reached_bytes();
        // Relaxed: set before a block from there is given out.
        if reservation.number.load(Ordering::Relaxed) == 0 && self.primary.bytes.load(Ordering::Relaxed) < reached {
            self.primary.bytes.fetch_max(reached, Ordering::Relaxed);
        }
    }

    /// Makes the run that ends before `start` longer by `count` slices. Says whether they read as zeroes.
    pub(crate) fn extend_run(&self, reservation: &Reservation, start: SliceIndex, count: Slices) -> Option<bool> {
        let extended = reservation.space.extend(&self.kernel, start, count, &Sink { arena: self, reservation });
        self.note_reached(reservation);
        extended
    }

    /// Gives a run back. `false` if some of it was not in use.
    pub(crate) fn free_run(&self, reservation: &Reservation, start: SliceIndex, count: Slices) -> bool {
        reservation.space.free(start, count, &Sink { arena: self, reservation })
    }

    /// Claims a room for `chunks`; a cold one if the block must be `zeroed`. Does not grow the process: the caller can
    /// fall back on a run.
    pub(crate) fn allocate_room(&self, chunks: Chunks, align_bytes: usize, zeroed: bool) -> Option<Claimed> {
        self.yield_while(|| self.reservations().any(|reservation| reservation.rooms.is_being_warmed_for(chunks)));
        self.reservations().find_map(|reservation| {
            let claimed = reservation.rooms.allocate(&self.kernel, chunks, align_bytes, zeroed)?;
            if claimed.leaves_kept {
                self.retire_room(reservation, claimed.room);
            }
            self.doublings.note_claim(self.kernel.os().coarse_now(), chunks);
            self.note_size();
            Some(claimed)
        })
    }

    /// Changes the size of the block in a room in place; retires what it no longer covers. `false` if it cannot: the
    /// block is as before.
    ///
    /// A block that grows while a purge runs above it waits for the end of that one piece: 8 MiB, some tens of µs. The
    /// alternative is to copy the block, which takes longer from 2 MiB on and may take seconds.
    pub(crate) fn resize_room(&self, reservation: &Reservation, room: RoomIndex, chunks: Chunks) -> bool {
        if !reservation.rooms.fits(room, chunks) {
            return false;
        }
        let is_busy = || reservation.rooms.state(room).is_some_and(|state| state.is_busy());
        let mut resized = reservation.rooms.resize(&self.kernel, room, chunks);
        if resized.is_none() && is_busy() {
            // So that this is the last piece for now.
            self.keep_room_warm(reservation, room);
            self.yield_while(is_busy);
        }
        if resized.is_none() {
            // Refused, unless the governor's work was in the way and has ended.
            resized = reservation.rooms.resize(&self.kernel, room, chunks);
        }
        match resized {
            Some(true) => self.retire_room(reservation, room),
            Some(false) => self.note_step(|| reservation.rooms.wants_commit()),
            None => {}
        }
        resized.is_some()
    }

    /// Gives a room back. `false` if it was not in use.
    pub(crate) fn free_room(&self, reservation: &Reservation, room: RoomIndex) -> bool {
        let chunks = Chunks(reservation.rooms.state(room).map_or(0, |state| state.live()));
        match reservation.rooms.release(room) {
            Some(warm) => {
                if self.doublings.note_release(self.kernel.os().coarse_now(), chunks) {
                    self.notify_governor(true);
                }
                if warm {
                    self.retire_room(reservation, room);
                }
                true
            }
            None => false,
        }
    }

    /// Who holds `address`; `None` for memory that is not ours, or that was never used.
    pub(crate) fn find(&self, address: usize) -> Option<Found> {
        self.reservations().find_map(|reservation| {
            let space_offset = address.wrapping_sub(reservation.space.base().addr().get());
            if space_offset < reservation.space.reached_bytes() {
                return Some(Found::Slice(reservation, SliceIndex::of_offset(space_offset)));
            }
            let room_offset = address.wrapping_sub(reservation.rooms.base().addr().get());
            if room_offset < reservation.rooms.bytes() {
                let (room, inside) = reservation.rooms.at_offset(room_offset)?;
                return Some(Found::Room(reservation, room, inside));
            }
            None
        })
    }

    /// Zeroed memory for a record of the allocator, for ever: `bytes` and its address are multiples of 4096.
    pub(crate) fn allocate_record(&self, bytes: usize) -> Option<NonNull<u8>> {
        self.on_some(CHUNK_BYTES, |reservation| reservation.allocate_record(&self.kernel, bytes))
    }
}
