//! Forks of a process with a large heap, as for a snapshot: the child uses what it inherited, and meanwhile the parent
//! writes to all of it, so that each page is copied.
//!
//! A fork takes `mmap_lock` of the parent for writing as long as the page tables are copied, whatever the allocator:
//! larger pages make that shorter, and no allocator can avoid it.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::candidates::PREWARMED;
use crate::memory::HUGEPAGE_BYTES;
use crate::phase::Phase;
use crate::record::{Unit, counted, time};
use crate::scenario::{CONTROL, IDLE, Scenario, patience};
use crate::sizes::{self, SizeError, said};
use crate::stage::Stage;
use crate::summary::{Summary, median};
use crate::table::BESIDE_BYTES;
use crate::targets::Target;

/// The heap is made of blocks of this size.
const BLOCK_BYTES: usize = 8 << 20;
/// What a child allocates, checks and frees.
const CHILD_BLOCKS: [usize; 6] = [24, 700, 30_000, 1 << 20, 5 << 20, 40 << 20];
/// How long a child may take; one that takes longer hangs.
const CHILD_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether a child has ended.
const CHILD_PERIOD: Duration = Duration::from_millis(1);
const USUAL_BYTES: u64 = 1 << 30;
/// What the child writes; the parent's marks are below it.
const CHILD_MARK: u8 = 0xcd;

const FILL: &str = "fill";
const WRITE: &str = "write alone";
const FORK: &str = "fork";
const COPY: &str = "write beside child";
const REAP: &str = "reap";

/// What can be chosen.
#[derive(Clone, Copy, Debug, Args)]
pub struct Options {
    /// Size of the heap, as 1GiB or 100000000, rounded up to 8 MiB; by default 1 GiB or a quarter of what is available
    #[arg(long, value_parser = sizes::parse)]
    pub bytes: Option<u64>,

    /// How often the process forks
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub forks: u32,
}

/// The scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forking {
    /// The size of the heap.
    pub bytes: u64,
    /// How often the process forks, at most 100 times.
    pub forks: u32,
    /// Quiet time before the first fork.
    pub control_ms: u64,
    /// Quiet time after the last.
    pub idle_ms: u64,
}

impl Options {
    /// The scenario for a machine on which so much memory is available.
    pub fn choose(&self, available_bytes: u64) -> Result<Forking, SizeError> {
        let usual_bytes = USUAL_BYTES.min(available_bytes / 4);
        let bytes = sizes::choose(self.bytes, usual_bytes, BLOCK_BYTES as u64, available_bytes, peak_bytes)?;
        Ok(Forking { bytes, forks: self.forks, control_ms: 3000, idle_ms: 1000 })
    }
}

/// The heap twice: the parent writes to all of what the child has as well.
fn peak_bytes(bytes: u64) -> u64 {
    bytes.saturating_mul(2).saturating_add(BESIDE_BYTES)
}

/// The work of a child, from the fork to the exit status that [`reap`] knows. It must not use what another thread may
/// have had locked when the process forked, and so says nothing.
fn child(heap: &mut [Block], mark: u8, mut parent: PipeReader) -> i32 {
    // A parent that is gone already has closed its end of the pipe.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    if !heap.iter().all(|block| block.has(mark)) {
        return 1;
    }
    heap.iter_mut().for_each(|block| block.write_every(HUGEPAGE_BYTES, CHILD_MARK));
    for bytes in CHILD_BLOCKS {
        match Block::touched(bytes, CHILD_MARK) {
            Some(block) if block.has(CHILD_MARK) => drop(block),
            Some(_) => return 1,
            None => return 2,
        }
    }
    // Until the parent has written and closed its end.
    let _ = parent.read(&mut [0]);
    let expected = |place: usize, found| found == mark || place.is_multiple_of(HUGEPAGE_BYTES) && found == CHILD_MARK;
    if heap.iter().all(|block| block.is(expected)) { 0 } else { 3 }
}

/// Waits for the child and says what is wrong with it.
fn reap(child: Pid) -> Result<(), String> {
    let started = Instant::now();
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG))
            .map_err(|error| format!("waiting for the forked child: {error}"))?
        {
            WaitStatus::StillAlive if started.elapsed() > CHILD_LIMIT => {
                // Both fail only if it is gone.
                let _ = kill(child, Signal::SIGKILL).and_then(|()| waitpid(child, None));
                return Err(format!("the forked child hung for {} s and was killed", CHILD_LIMIT.as_secs()));
            }
            WaitStatus::StillAlive => std::thread::sleep(CHILD_PERIOD),
            WaitStatus::Exited(_, 0) => return Ok(()),
            WaitStatus::Exited(_, 1) => return Err("the forked child found wrong contents in its heap".to_owned()),
            WaitStatus::Exited(_, 2) => return Err("the allocator had no memory in the forked child".to_owned()),
            WaitStatus::Exited(_, 3) => {
                return Err("the forked child saw what its parent wrote after the fork".to_owned());
            }
            ended => return Err(format!("the forked child ended with {ended:?}")),
        }
    }
}

/// Forks; gives the child, and what keeps it alive until it is dropped.
fn fork_child(heap: &mut [Block], mark: u8) -> Result<(Pid, PipeWriter), String> {
    let (reader, writer) = io::pipe().map_err(|error| format!("a pipe: {error}"))?;
    // SAFETY: the child uses the allocator, which is what the scenario is there to try, and else only calls that take
    // no lock; it ends without running anything of the parent's.
    match unsafe { fork() }.map_err(|error| format!("fork: {error}"))? {
        ForkResult::Parent { child } => Ok((child, writer)),
        ForkResult::Child => {
            drop(writer);
            let status = child(heap, mark, reader);
            // SAFETY: ends the process; what is registered to run at an exit is the parent's.
            unsafe { libc::_exit(status) }
        }
    }
}

fn write_all(heap: &mut [Block], mark: u8) {
    heap.iter_mut().for_each(|block| block.write(mark));
}

impl Scenario for Forking {
    fn name(&self) -> &'static str {
        "fork"
    }

    fn headline(&self) -> String {
        format!(
            "{} of a process with a heap of {}, which the parent writes to while the child uses it.",
            counted(u64::from(self.forks), "fork"),
            said(self.bytes)
        )
    }

    fn phases(&self) -> &'static [Phase] {
        const {
            &[
                Phase::busy(FILL),
                Phase::quiet(CONTROL),
                Phase::busy(WRITE),
                Phase::busy(FORK),
                Phase::busy(COPY),
                Phase::busy(REAP),
                Phase::quiet(IDLE),
            ]
        }
    }

    fn peak_bytes(&self) -> u64 {
        peak_bytes(self.bytes)
    }

    fn time_limit(&self) -> Duration {
        // A child that hangs is told as such, which takes a while.
        patience(CHILD_LIMIT, self.peak_bytes().saturating_mul(self.forks.into()))
    }

    // What it shows is the kernel's work on the program's pages, and they are the same under it as under another.
    fn limit_bytes(&self) -> Option<u64> {
        None
    }

    fn takes(&self, allocator: &str) -> bool {
        allocator != PREWARMED
    }

    fn run(&self, stage: &mut Stage<'_>) -> Result<(), String> {
        stage.begin()?;
        stage.about_to_touch(self.bytes)?;
        let blocks = self.bytes.div_ceil(BLOCK_BYTES as u64);
        let fill = |_: &mut Stage<'_>| (0..blocks).map(|_| Block::touched(BLOCK_BYTES, 0)).collect::<Option<Vec<_>>>();
        let mut heap = stage.play(FILL, fill)?.0.ok_or("the allocator has no memory for the heap")?;
        stage.rss_figure("RSS heap")?;
        stage.rest(CONTROL, Duration::from_millis(self.control_ms))?;
        stage.time(WRITE, |_| write_all(&mut heap, 1))?;
        stage.about_to_touch(self.bytes)?;
        let (mut forks_ns, mut copies_ns) = (Vec::new(), Vec::new());
        for mark in (1..CHILD_MARK).take(self.forks as usize) {
            let (forked, fork_ns) = stage.play(FORK, |_| fork_child(&mut heap, mark))?;
            let (child, writer) = forked?;
            let ((), copy_ns) = stage.play(COPY, |_| write_all(&mut heap, mark + 1))?;
            drop(writer);
            stage.play(REAP, |_| reap(child))?.0?;
            if !heap.iter().all(|block| block.has(mark + 1)) {
                return Err("the parent's heap has changed after a fork".to_owned());
            }
            forks_ns.push(fork_ns);
            copies_ns.push(copy_ns);
        }
        stage.figure("first fork", forks_ns.first().copied(), Unit::Ns);
        stage.figure("longest fork", forks_ns.iter().max().copied(), Unit::Ns);
        stage.figure(FORK, median(forks_ns), Unit::Ns);
        stage.figure(COPY, median(copies_ns), Unit::Ns);
        stage.peak_rss_figure("RSS peak")?;
        drop(heap);
        stage.rest(IDLE, Duration::from_millis(self.idle_ms)).map(drop)
    }

    fn targets(&self, summaries: &[Summary]) -> Vec<Target> {
        let goal = "Every child could use the heap and allocate (else the run would have failed); the median fork, and \
                    the parent's writes beside the child, for comparison";
        let forks = Target::of(goal, summaries, |summary| {
            let (fork_ns, copy_ns) = (summary.median(FORK)?, summary.median(COPY)?);
            Some((format!("{} and {}", time(fork_ns), time(copy_ns)), None))
        });
        vec![forks]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child;
    use crate::hooks::Peer;
    use crate::scenario::Plan;

    #[test]
    fn each_fork_is_timed_and_its_child_is_checked() {
        let plan = Plan::Fork(Forking { bytes: 30 << 20, forks: 2, control_ms: 5, idle_ms: 5 });
        let record = child::play(&plan, &Peer { name: "some", crate_name: "none" }, false).unwrap();
        let phases: Vec<_> = record.spans.iter().map(|span| span.phase.as_str()).collect();
        assert_eq!(phases, [FILL, CONTROL, WRITE, FORK, COPY, REAP, FORK, COPY, REAP, IDLE]);
        for name in ["first fork", "longest fork", FORK, WRITE, COPY, "RSS heap", "RSS peak"] {
            assert!(record.figure(name).is_some_and(|value| value > 0), "{name}: {record:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_child_is_said() {
        let mut heap = vec![Block::touched(BLOCK_BYTES, 1).unwrap()];
        let outcome = |heap: &mut [Block], mark| {
            let (child, writer) = fork_child(heap, mark).unwrap();
            drop(writer);
            reap(child)
        };
        assert_eq!(outcome(&mut heap, 1), Ok(()));
        assert!(outcome(&mut heap, 2).unwrap_err().contains("wrong contents"));
        let (child, writer) = fork_child(&mut heap, 1).unwrap();
        kill(child, Signal::SIGKILL).unwrap();
        assert!(reap(child).unwrap_err().contains("SIGKILL"));
        drop(writer);
    }

    #[test]
    fn the_heap_must_fit_twice() {
        let options = |bytes| Options { bytes, forks: 1 };
        assert_eq!(options(None).choose(20 << 30).map(|forking| forking.bytes), Ok(1 << 30));
        let error = options(Some(1 << 30)).choose(2 << 30).unwrap_err().to_string();
        assert!(error.starts_with("--bytes 1024MiB needs 2.4 GiB"), "{error}");
    }
}
