//! Counts how often a program passes a tracepoint. The kernel counts, so that the program is hardly slowed down and
//! nothing can be lost. Programs that compare others call it, such as `allocator-bench`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::kernel::perf::{Kind, Perf, Scope};
use crate::kernel::setup::refusal;
use crate::kernel::tracefs::Tracefs;
use crate::unavailable::{Missing, Unavailable};

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// Group and name of a tracepoint, such as `syscalls/sys_enter_mmap`.
    pub name: &'a str,
    /// An expression over its fields, such as `write==1`; only what fulfils it is counted.
    pub filter: Option<&'a str>,
}

/// A counter of one tracepoint in a program.
///
/// It counts in the next program that the thread which opened it starts, from its execve(2) on, in all its threads and
/// children. It takes a new one for each program: when the kernel switches between the two processes before the
/// execve(2), it may exchange their counters, and then that of the starting thread begins to count no second time. The
/// descriptor can be left open to the program, which then reads the counter itself by read(2): a number of 64 bits.
pub struct Counter {
    perf: Perf,
}

impl Counter {
    /// Opens a counter for each of the points, in their order.
    ///
    /// # Errors
    /// If something is missing, all that is known to be missing is told.
    pub fn for_next_program(points: &[Point<'_>]) -> Result<Vec<Counter>, Unavailable> {
        let tracefs = Tracefs::open()?;
        let mut missing: Vec<Missing> = Vec::new();
        let mut counters = Vec::new();
        for point in points {
            match Self::open(&tracefs, point) {
                Ok(counter) => counters.push(counter),
                Err(this) if missing.contains(&this) => {}
                Err(this) => missing.push(this),
            }
        }
        if missing.is_empty() { Ok(counters) } else { Err(Unavailable { missing }) }
    }

    fn open(tracefs: &Tracefs, point: &Point<'_>) -> Result<Counter, Missing> {
        let id = tracefs.format(point.name)?.id;
        let scope = Scope { tid: 0, cpu: -1 };
        let perf = Perf::open(Kind::CountInProgram { id }, scope, 0).map_err(|error| refusal(&error))?;
        if let Some(filter) = point.filter {
            let step = |error: io::Error| Missing::Step {
                step: format!("the filter {filter} on {}", point.name),
                why: error.to_string(),
            };
            perf.set_filter(filter).map_err(step)?;
        }
        Ok(Counter { perf })
    }

    /// How often the point was passed so far.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self) -> io::Result<u64> {
        self.perf.count()
    }
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Counter").field("id", &self.perf.id).finish_non_exhaustive()
    }
}

impl AsFd for Counter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.perf.as_fd()
    }
}
