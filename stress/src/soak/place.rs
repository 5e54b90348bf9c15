//! Where one script is worked off: by a thread, and then by another that takes over all blocks when the first ends.
//!
//! Threads are started with `pthread_create`: the standard library ends the process if there is no memory for the
//! bookkeeping of its threads, and here that may be refused at any time.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::thread;
use std::time::{Duration, Instant};

use super::block::Block;
use super::forked;
use super::script::{SLOTS, Script, Step};
use super::tally::Event;
use super::violation::{Defect, When};
use super::world::{Desk, World};

/// Blocks that a thread frees at once when it looks into its mailbox.
const RECEIVED_MOST: usize = 64;
/// How often a thread that is done looks whether all are.
const RECOVERY_PERIOD: Duration = Duration::from_millis(1);
/// The largest block that is asked for at the end.
const RECOVERY_BYTES_MOST: usize = 64 << 20;
/// Blocks up to this size are kept while the larger ones are asked for.
const KEPT_BYTES_MOST: usize = 64 << 10;
/// How often a thread that idles looks whether all is over.
const IDLE_SLICE_MS: u64 = 20;
/// The bits of a tag that say in which step the block was allocated; above these is the number of the thread.
const STEP_BITS: u32 = 47;

/// The state that one thread hands to the next.
#[derive(Debug)]
pub struct Place<A: 'static> {
    /// Which script this is.
    pub number: usize,
    /// Steps begun.
    pub steps: u64,
    /// The blocks.
    pub slots: [Option<Block>; SLOTS],
    world: *const World<A>,
    script: Script,
    /// The thread before, which has ended or is about to.
    predecessor: Option<libc::pthread_t>,
}

/// The sizes that are asked for at the end, up to `bytes_most` or [`RECOVERY_BYTES_MOST`]: four for each power of two,
/// as size classes are cut.
fn class_sizes(bytes_most: u64) -> impl Iterator<Item = usize> {
    let most = usize::try_from(bytes_most).unwrap_or(usize::MAX).min(RECOVERY_BYTES_MOST);
    let quarters = |power: u32| (4..8).map(move |quarter| (quarter << power) / 4);
    (0..usize::BITS - 3).flat_map(quarters).take_while(move |bytes| *bytes <= most)
}

/// How a thread goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Step,
    Succeed,
    End,
}

impl<A: GlobalAlloc + Sync> Place<A> {
    /// The beginning of script `number`.
    ///
    /// # Safety
    ///
    /// The world outlives all use of the place.
    pub unsafe fn new(world: &World<A>, number: usize) -> Self {
        let script = Script::new(world.plan.seed, number, world.plan.held_bytes_most());
        Self { number, steps: 0, slots: [None; SLOTS], world, script, predecessor: None }
    }

    /// What all threads share.
    pub fn world(&self) -> &World<A> {
        // SAFETY: by the promise in `new`.
        unsafe { &*self.world }
    }

    /// What is known of this place.
    pub fn desk(&self) -> &Desk {
        &self.world().desks[self.number]
    }

    /// A number that differs if any step was different.
    pub fn digest(&self) -> u64 {
        self.script.digest()
    }

    /// Frees all that is left here and in the mailbox, when no thread works any more.
    pub fn clear(&mut self) -> Result<(), Defect> {
        for slot in 0..SLOTS {
            self.free(slot)?;
        }
        while let Some(block) = self.desk().mailbox.receive() {
            self.release(block)?;
        }
        Ok(())
    }

    fn advance(&mut self) -> Next {
        if self.world().is_over(self.steps) {
            return Next::End;
        }
        self.steps += 1;
        self.desk().tally.count(Event::Step);
        let step = self.script.step();
        if step == Step::Succeed {
            return Next::Succeed;
        }
        if let Err(defect) = self.take(step) {
            self.world().tell(self.number, self.steps, false, defect);
            return Next::End;
        }
        Next::Step
    }

    fn take(&mut self, step: Step) -> Result<(), Defect> {
        match step {
            Step::Allocate { slot, bytes, align, zeroed } => {
                let layout = Layout::from_size_align(bytes, align).expect("a script's sizes make layouts");
                self.allocate(slot, layout, zeroed, self.steps)
            }
            Step::Reallocate { slot, bytes } => self.reallocate(slot, bytes),
            Step::Free { slot } => self.free(slot),
            Step::Check { slot } => {
                self.slots[slot].map_or(Ok(()), |block| self.world().client().check(&block, When::Live))
            }
            Step::Pass { slot, to } => self.pass(slot, (to % self.world().plan.threads as u64) as usize),
            Step::Receive => self.receive(),
            Step::Fork { seed } if self.world().plan.forks => forked::fork_child(self, seed),
            Step::Idle { ms } => {
                self.idle(ms);
                Ok(())
            }
            Step::Fork { .. } | Step::Succeed => Ok(()),
        }
    }

    fn allocate(&mut self, slot: usize, layout: Layout, zeroed: bool, step: u64) -> Result<(), Defect> {
        let began = Instant::now();
        let tag = ((self.number as u64) << (STEP_BITS + 1)) | step;
        self.slots[slot] = self.world().client().allocate(layout, zeroed, tag)?;
        if self.slots[slot].is_none() {
            return self.refused(layout, began);
        }
        self.desk().tally.count(Event::Allocation);
        Ok(())
    }

    fn reallocate(&mut self, slot: usize, bytes: usize) -> Result<(), Defect> {
        let Some(block) = self.slots[slot] else { return Ok(()) };
        let began = Instant::now();
        match self.world().client().reallocate(block, bytes)? {
            Some(changed) => {
                self.slots[slot] = Some(changed);
                self.desk().tally.count(Event::Realloc);
                Ok(())
            }
            None => self.refused(super::block::resized(block.layout, bytes), began),
        }
    }

    fn refused(&self, layout: Layout, began: Instant) -> Result<(), Defect> {
        self.desk().tally.count(Event::Refusal);
        self.world().judge_refusal(layout, began)
    }

    /// When all threads have come to the end of their scripts and no fault is left to explain a null: a block of every
    /// size class. The small ones stay, beside what the script has left, so that not all come from the same memory.
    fn recover(&mut self) -> Result<(), Defect> {
        self.desk().arrive();
        while !self.world().is_recovering() {
            if self.world().verdict.is_told() {
                return Ok(());
            }
            thread::sleep(RECOVERY_PERIOD);
        }
        for (slot, bytes) in class_sizes(self.world().plan.mail_bytes_most() / 2).enumerate() {
            self.free(slot)?;
            let layout = Layout::from_size_align(bytes, 1).expect("small sizes make layouts");
            self.allocate(slot, layout, slot.is_multiple_of(2), self.steps + 1 + slot as u64)?;
            if bytes > KEPT_BYTES_MOST {
                self.free(slot)?;
            }
        }
        Ok(())
    }

    fn free(&mut self, slot: usize) -> Result<(), Defect> {
        self.slots[slot].take().map_or(Ok(()), |block| self.release(block))
    }

    fn release(&self, block: Block) -> Result<(), Defect> {
        self.world().client().free(block)?;
        self.desk().tally.count(Event::Free);
        Ok(())
    }

    fn pass(&mut self, slot: usize, to: usize) -> Result<(), Defect> {
        let Some(block) = self.slots[slot].take() else { return Ok(()) };
        match self.world().desks[to].mailbox.send(block) {
            Ok(()) => Ok(()),
            Err(block) => self.release(block),
        }
    }

    fn receive(&self) -> Result<(), Defect> {
        for _ in 0..RECEIVED_MOST {
            let Some(block) = self.desk().mailbox.receive() else { break };
            self.release(block)?;
            self.desk().tally.count(Event::RemoteFree);
        }
        Ok(())
    }

    fn idle(&self, ms: u64) {
        for slice in 0..ms.div_ceil(IDLE_SLICE_MS) {
            if self.world().is_over(self.steps) {
                break;
            }
            thread::sleep(Duration::from_millis(IDLE_SLICE_MS.min(ms - slice * IDLE_SLICE_MS)));
        }
    }

    fn join_predecessor(&mut self) {
        if let Some(thread) = self.predecessor.take() {
            join(thread);
        }
    }
}

/// Waits for the end of a thread.
pub fn join(thread: libc::pthread_t) {
    // SAFETY: each thread is joined once: by the one that came after it, or by the main thread.
    let error = unsafe { libc::pthread_join(thread, null_mut()) };
    debug_assert_eq!(error, 0, "a thread that can be joined is there");
}

/// Starts a thread that goes on with the place.
///
/// # Safety
///
/// The place belongs to the new thread from now on, until its desk says that it has finished; unless this fails.
pub unsafe fn start<A: GlobalAlloc + Sync>(place: *mut Place<A>) -> io::Result<()> {
    let mut thread = MaybeUninit::uninit();
    // SAFETY: the attributes may be null; the thread gets what it expects, by the caller's promise.
    let error = unsafe { libc::pthread_create(thread.as_mut_ptr(), std::ptr::null(), live::<A>, place.cast()) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// The life of a thread.
extern "C" fn live<A: GlobalAlloc + Sync + 'static>(argument: *mut c_void) -> *mut c_void {
    let place: *mut Place<A> = argument.cast();
    // SAFETY: `start` gave the place to this thread. It is used through the pointer, since it goes to another thread
    // before this one ends.
    unsafe { (*place).desk().tally.count(Event::Thread) };
    loop {
        // SAFETY: as above.
        match unsafe { (*place).advance() } {
            Next::Step => {}
            // SAFETY: as above; after success the place is not touched.
            Next::Succeed => unsafe {
                (*place).join_predecessor();
                (*place).predecessor = Some(libc::pthread_self());
                if start(place).is_ok() {
                    return null_mut();
                }
                (*place).predecessor = None;
                (*place).desk().tally.count(Event::StartRefusal);
            },
            // SAFETY: as above; after `finish` the place is not touched.
            Next::End => unsafe {
                (*place).join_predecessor();
                if let Err(defect) = (*place).recover() {
                    (*place).world().tell((*place).number, (*place).steps, false, defect);
                }
                (*place).desk().finish(libc::pthread_self());
                return null_mut();
            },
        }
    }
}
