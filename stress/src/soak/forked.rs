//! What a forked child does with the blocks that it inherited from the thread that forked it, and with new ones.
//!
//! Other threads of the parent may have been in the midst of anything, so their blocks are left alone, and no lock of
//! the soak is taken: its holder may be one of them.

use std::alloc::{GlobalAlloc, Layout};
use std::io;
use std::time::Instant;

use fastrand::Rng;
use nix::sys::prctl;
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use super::block::{Block, resized};
use super::client::Client;
use super::limits;
use super::place::Place;
use super::script::SLOTS;
use super::tally::Event;
use super::violation::{Defect, DefectKind, When};
use super::world::World;

/// A child that takes longer has hung: far above what it needs, also on a busy machine.
const CHILD_SECONDS_MOST: u32 = 30;
/// New blocks in a child.
const NEW_BLOCKS: usize = 64;
const NEW_BYTES_MOST: usize = 64 << 10;
/// One of these is larger.
const LARGE_BYTES: usize = 5 << 20;
/// Inherited blocks up to this size are made larger: a child should not write much of what it shares.
const CHANGED_BYTES_MOST: usize = 64 << 10;
/// A child's tags have a bit that its parent's have not.
const CHILD_TAG: u64 = 1 << 47;

/// Forks a child, which does all this and ends, and waits for it.
pub fn fork_child<A: GlobalAlloc + Sync>(place: &mut Place<A>, seed: u64) -> Result<(), Defect> {
    let parent = getpid();
    // SAFETY: that a child of a process with threads may allocate is what is tested. Besides that it makes system calls
    // only.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            die_with(parent);
            // SAFETY: a system call; the signal ends the process.
            unsafe { libc::alarm(CHILD_SECONDS_MOST) };
            let used = use_inherited(place, seed);
            if let Err(defect) = used {
                place.world().tell(place.number, place.steps, true, defect);
            }
            // SAFETY: ends the process without the exit handlers of the parent's libraries.
            unsafe { libc::_exit(i32::from(used.is_err())) }
        }
        Ok(ForkResult::Parent { child }) => {
            place.desk().tally.count(Event::Fork);
            let status = wait(child.as_raw());
            if status == 0 || place.world().verdict.is_told() {
                return Ok(());
            }
            Err(Defect { address: 0, bytes: 0, align: 1, kind: DefectKind::ChildDied(status) })
        }
        Err(_) => {
            place.desk().tally.count(Event::StartRefusal);
            Ok(())
        }
    }
}

/// Has the kernel kill this child when the thread that forked it ends, however that happens: one that hangs would keep
/// open what the parent's parent waits to see closed.
fn die_with(parent: Pid) {
    // Where the kernel cannot, the alarm ends the child.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    // The parent may have ended before; then nobody would send the signal.
    if getppid() != parent {
        // SAFETY: ends the process without the exit handlers of the parent's libraries.
        unsafe { libc::_exit(1) }
    }
}

/// Waits for the end of a child and gives its status, as the kernel puts it.
fn wait(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: the child is ours, and nobody else waits for it.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return 0;
        }
    }
    status
}

fn use_inherited<A: GlobalAlloc + Sync>(place: &mut Place<A>, seed: u64) -> Result<(), Defect> {
    let world = place.world();
    if world.faults.is_some() {
        for resource in [Resource::RLIMIT_AS, Resource::RLIMIT_DATA] {
            // A limit that cannot be read was not lowered either.
            let _ = limits::raise(resource);
        }
    }
    let mut child = Child {
        world,
        client: Client::new(world.allocator, None),
        random: Rng::with_seed(seed),
        blocks: [None; SLOTS + NEW_BLOCKS],
    };
    child.blocks[..SLOTS].copy_from_slice(&place.slots);
    child.check_all()?;
    child.change_some()?;
    child.free_each(2)?;
    child.allocate_new(((place.number as u64) << 48) | CHILD_TAG)?;
    child.check_all()?;
    child.free_each(1)
}

struct Child<'a, A: 'static> {
    world: &'a World<A>,
    client: Client<'a, A>,
    random: Rng,
    blocks: [Option<Block>; SLOTS + NEW_BLOCKS],
}

impl<A: GlobalAlloc + Sync> Child<'_, A> {
    fn check_all(&self) -> Result<(), Defect> {
        self.blocks.iter().flatten().try_for_each(|block| self.client.check(block, When::Live))
    }

    fn change_some(&mut self) -> Result<(), Defect> {
        for slot in (0..SLOTS).step_by(8) {
            let Some(block) = self.blocks[slot] else { continue };
            let old = block.layout.size();
            if old <= CHANGED_BYTES_MOST {
                let bytes = self.random.usize(1..=2 * old);
                let began = Instant::now();
                let changed = self.client.reallocate(block, bytes)?;
                if changed.is_none() {
                    self.refused(resized(block.layout, bytes), began)?;
                }
                self.put(slot, changed.or(Some(block)))?;
            }
        }
        Ok(())
    }

    fn free_each(&mut self, stride: usize) -> Result<(), Defect> {
        let client = &self.client;
        self.blocks.iter_mut().step_by(stride).filter_map(Option::take).try_for_each(|block| client.free(block))
    }

    fn allocate_new(&mut self, tags: u64) -> Result<(), Defect> {
        for number in 0..NEW_BLOCKS {
            let most = NEW_BYTES_MOST >> self.random.u32(..16);
            let small = self.random.usize(1..=most);
            let bytes = if number == NEW_BLOCKS / 2 { LARGE_BYTES } else { small };
            let layout = Layout::from_size_align(bytes, 1 << self.random.u32(..7)).expect("small sizes make layouts");
            let began = Instant::now();
            let block = self.client.allocate(layout, number % 2 == 0, tags | number as u64)?;
            if block.is_none() {
                self.refused(layout, began)?;
            }
            self.put(SLOTS + number, block)?;
        }
        Ok(())
    }

    /// Notes a block, which must not overlap the others.
    fn put(&mut self, slot: usize, block: Option<Block>) -> Result<(), Defect> {
        self.blocks[slot] = None;
        if let Some(block) = block {
            let overlaps = |other: &&Block| other.start() < block.end() && block.start() < other.end();
            if let Some(other) = self.blocks.iter().flatten().find(overlaps) {
                let kind = DefectKind::Overlap { other: (other.start(), other.end()) };
                return Err(Defect::of(&block, kind));
            }
        }
        self.blocks[slot] = block;
        Ok(())
    }

    fn refused(&self, layout: Layout, began: Instant) -> Result<(), Defect> {
        self.world.judge_refusal(layout, began)
    }
}
