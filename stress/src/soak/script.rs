//! The steps of one thread. They follow from the seed, the thread's number and the memory it may use, never from
//! addresses, from time or from what the allocator answers: that is what makes a failure replayable.

use std::hash::{DefaultHasher, Hash, Hasher};

use fastrand::Rng;

/// Blocks that one thread holds at most.
pub const SLOTS: usize = 512;
/// What usual blocks have at most; now and then a larger one comes, as far as memory allows.
const USUAL_BYTES_MOST: u64 = 64 << 20;
const BURST_BYTES_MOST: u64 = 16 << 10;
const IDLE_MS_MOST: u64 = 1024;
const HUGEPAGE_BYTES: usize = 2 << 20;
/// Sizes up to which the blocks of a phase go, and how often such a phase comes. Phases of small blocks alone bring
/// many of them together; others mix everything.
const PHASES: [(u64, u32); 6] =
    [(64, 15), (1 << 10, 20), (4 << 10, 15), (64 << 10, 20), (1 << 20, 15), (USUAL_BYTES_MOST, 12)];
/// How often the phase is a burst of blocks and then silence, beside the above.
const BURST_WEIGHT: u32 = 10;

/// One step. A slot may be empty against the script's belief, if the allocator refused the block: such a step does
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Allocate into an empty slot.
    Allocate {
        /// Where the block goes.
        slot: usize,
        /// Its size.
        bytes: usize,
        /// Its alignment.
        align: usize,
        /// Whether its memory is to be zero.
        zeroed: bool,
    },
    /// Change the size of the block in a slot.
    Reallocate {
        /// Where the block is.
        slot: usize,
        /// Its new size.
        bytes: usize,
    },
    /// Check the block and free it.
    Free {
        /// Where the block is.
        slot: usize,
    },
    /// Check the block.
    Check {
        /// Where the block is.
        slot: usize,
    },
    /// Send the block to another thread, which frees it.
    Pass {
        /// Where the block is.
        slot: usize,
        /// Which thread gets it, modulo their number.
        to: u64,
    },
    /// Free what other threads have sent.
    Receive,
    /// Let a new thread go on, holding all blocks, and end.
    Succeed,
    /// Fork a child that uses the blocks and ends.
    Fork {
        /// What the child's choices follow from.
        seed: u64,
    },
    /// Do nothing for a while.
    Idle {
        /// How long.
        ms: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Mixed { bytes_most: u64, steps_left: u32 },
    Fill,
    Drain,
}

/// The generator of one thread's steps.
#[derive(Debug)]
pub struct Script {
    random: Rng,
    phase: Phase,
    /// Bytes in each slot, as the script believes; zero where it is empty.
    sizes: [u64; SLOTS],
    held: usize,
    held_bytes: u64,
    held_bytes_most: u64,
    digest: DefaultHasher,
}

impl Script {
    /// The script of thread `number`, whose blocks may have `held_bytes_most` together.
    pub fn new(seed: u64, number: usize, held_bytes_most: u64) -> Self {
        // The generator's own mixing of the seed keeps neighbouring threads apart after the first numbers.
        let mut random = Rng::with_seed(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.u64(..);
        Self {
            random,
            phase: Phase::Mixed { bytes_most: 1 << 10, steps_left: 100 },
            sizes: [0; SLOTS],
            held: 0,
            held_bytes: 0,
            held_bytes_most,
            digest: DefaultHasher::new(),
        }
    }

    /// A number that differs if any step so far was different.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        let step = self.choose();
        step.hash(&mut self.digest);
        step
    }

    fn choose(&mut self) -> Step {
        match &mut self.phase {
            Phase::Fill => match self.allocate(BURST_BYTES_MOST) {
                Some(step) => step,
                None => {
                    self.phase = Phase::Drain;
                    self.choose()
                }
            },
            Phase::Drain => match self.free() {
                Some(step) => step,
                None => {
                    self.phase = self.next_phase();
                    Step::Idle { ms: log_uniform(&mut self.random, IDLE_MS_MOST) }
                }
            },
            Phase::Mixed { steps_left: 0, .. } => {
                self.phase = self.next_phase();
                self.choose()
            }
            Phase::Mixed { bytes_most, steps_left } => {
                *steps_left -= 1;
                let bytes_most = *bytes_most;
                self.mixed(bytes_most)
            }
        }
    }

    fn next_phase(&mut self) -> Phase {
        let mut draw = self.random.u32(..PHASES.iter().map(|phase| phase.1).sum::<u32>() + BURST_WEIGHT);
        for (bytes_most, weight) in PHASES {
            if draw < weight {
                // Steps with large blocks take long.
                let steps_left =
                    if bytes_most > 64 << 10 { self.random.u32(40..160) } else { self.random.u32(100..800) };
                return Phase::Mixed { bytes_most, steps_left };
            }
            draw -= weight;
        }
        Phase::Fill
    }

    fn mixed(&mut self, bytes_most: u64) -> Step {
        let step = match self.random.u32(..2000) {
            0..860 => self.allocate(bytes_most).or_else(|| self.free()),
            860..1200 => self.reallocate(bytes_most),
            1200..1650 => self.free(),
            1650..1750 => self.held_slot().map(|slot| Step::Check { slot }),
            1750..1870 => self.pass(),
            1870..1985 => Some(Step::Receive),
            1985..1998 => Some(Step::Succeed),
            _ => Some(Step::Fork { seed: self.random.u64(..) }),
        };
        step.unwrap_or(Step::Receive)
    }

    fn allocate(&mut self, bytes_most: u64) -> Option<Step> {
        let slot = self.find(|bytes| bytes == 0)?;
        let align = self.alignment();
        let bytes = self.size(bytes_most);
        let zeroed = self.random.u32(..4) == 0;
        if self.held_bytes + cost(bytes, align) > self.held_bytes_most {
            return None;
        }
        self.sizes[slot] = cost(bytes, align);
        self.held += 1;
        self.held_bytes += self.sizes[slot];
        Some(Step::Allocate { slot, bytes: bytes as usize, align, zeroed })
    }

    fn reallocate(&mut self, bytes_most: u64) -> Option<Step> {
        let slot = self.held_slot()?;
        let old = self.sizes[slot];
        let bytes = match self.random.u32(..4) {
            0 => old + old / 2 + 1,
            1 => old / 2 + 1,
            2 => old + self.random.u64(1..64),
            _ => self.size(bytes_most),
        };
        // Both places may be in use while the contents move. What an alignment costs is kept as the size.
        if self.held_bytes + bytes > self.held_bytes_most {
            return None;
        }
        self.sizes[slot] = bytes.max(old.min(HUGEPAGE_BYTES as u64));
        self.held_bytes = self.held_bytes - old + self.sizes[slot];
        Some(Step::Reallocate { slot, bytes: bytes as usize })
    }

    fn free(&mut self) -> Option<Step> {
        self.empty_slot().map(|slot| Step::Free { slot })
    }

    fn pass(&mut self) -> Option<Step> {
        let slot = self.empty_slot()?;
        Some(Step::Pass { slot, to: self.random.u64(..) })
    }

    /// Empties a slot, by what the script believes.
    fn empty_slot(&mut self) -> Option<usize> {
        let slot = self.held_slot()?;
        self.held -= 1;
        self.held_bytes -= std::mem::take(&mut self.sizes[slot]);
        Some(slot)
    }

    fn held_slot(&mut self) -> Option<usize> {
        if self.held == 0 {
            return None;
        }
        self.find(|bytes| bytes != 0)
    }

    /// A slot whose size is as wanted, searched from a random one on.
    fn find(&mut self, wanted: impl Fn(u64) -> bool) -> Option<usize> {
        let start = self.random.usize(..SLOTS);
        (start..SLOTS).chain(0..start).find(|slot| wanted(self.sizes[*slot]))
    }

    fn size(&mut self, bytes_most: u64) -> u64 {
        let larger_most = self.held_bytes_most / 2;
        if bytes_most == USUAL_BYTES_MOST && larger_most > USUAL_BYTES_MOST && self.random.u32(..32) == 0 {
            return self.random.u64(USUAL_BYTES_MOST..=larger_most);
        }
        log_uniform(&mut self.random, bytes_most.min(larger_most))
    }

    fn alignment(&mut self) -> usize {
        match self.random.u32(..512) {
            0 => HUGEPAGE_BYTES,
            1..128 => 1 << self.random.u32(..=12),
            _ => 1 << self.random.u32(..=4),
        }
    }
}

/// What a block counts for.
const fn cost(bytes: u64, align: usize) -> u64 {
    if bytes > align as u64 { bytes } else { align as u64 }
}

/// A number from 1 to `most` whose order of magnitude is uniform.
fn log_uniform(random: &mut Rng, most: u64) -> u64 {
    let low = 1 << random.u32(..=most.ilog2());
    (low + random.u64(..low)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD_BYTES_MOST: u64 = 256 << 20;

    fn digest(seed: u64, number: usize) -> u64 {
        let mut script = Script::new(seed, number, HELD_BYTES_MOST);
        for _ in 0..20_000 {
            script.step();
        }
        script.digest()
    }

    #[test]
    fn a_script_depends_on_seed_and_thread_only() {
        assert_eq!(digest(1, 0), digest(1, 0));
        let others = [digest(1, 0), digest(1, 1), digest(2, 0), digest(2, 1)];
        let different: std::collections::BTreeSet<_> = others.into_iter().collect();
        assert_eq!(different.len(), others.len(), "{others:x?}");
    }

    #[test]
    fn slots_are_used_as_the_steps_say_and_memory_stays_bounded() {
        let mut script = Script::new(7, 3, HELD_BYTES_MOST);
        let mut held = [0_usize; SLOTS];
        let mut kinds = std::collections::BTreeMap::<_, u32>::new();
        let mut sizes = Vec::new();
        for _ in 0..200_000 {
            let step = script.step();
            let kind = format!("{step:?}").split(' ').next().unwrap().to_owned();
            *kinds.entry(kind).or_default() += 1;
            match step {
                Step::Allocate { slot, bytes, align, .. } => {
                    assert!(held[slot] == 0 && bytes > 0 && align.is_power_of_two());
                    held[slot] = bytes;
                    sizes.push(bytes);
                }
                Step::Reallocate { slot, bytes } => {
                    assert!(bytes > 0);
                    assert_ne!(std::mem::replace(&mut held[slot], bytes), 0);
                }
                Step::Free { slot } | Step::Pass { slot, .. } => assert_ne!(std::mem::take(&mut held[slot]), 0),
                Step::Check { slot } => assert_ne!(held[slot], 0),
                Step::Idle { ms } => assert!(ms <= IDLE_MS_MOST),
                Step::Receive | Step::Succeed | Step::Fork { .. } => {}
            }
            assert!(held.iter().sum::<usize>() as u64 <= HELD_BYTES_MOST);
        }
        assert_eq!(kinds.len(), 9, "every kind of step comes: {kinds:?}");
        assert!(sizes.iter().any(|bytes| *bytes as u64 > USUAL_BYTES_MOST));
        assert!(sizes.contains(&1));
    }
}
