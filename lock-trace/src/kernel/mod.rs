//! The kernel as source of events: perf events on its tracepoints, whose records a thread of this process collects and
//! gives to an [`Assembler`](crate::Assembler). [`Tracer`] is what callers see of it, and [`counter`] for those that
//! only want to know how often.

pub(crate) mod address_space;
mod collector;
pub(crate) mod counter;
pub(crate) mod format;
pub(crate) mod merge;
pub(crate) mod perf;
pub(crate) mod process;
pub(crate) mod record;
mod registers;
mod ring;
pub(crate) mod rings;
pub(crate) mod sample;
mod setup;
pub(crate) mod tracefs;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::event::Event;
use crate::kernel::collector::Collector;
use crate::options::Options;
use crate::trace::Trace;
use crate::unavailable::{Missing, Unavailable};

/// Recording is over, but there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The collecting thread is gone.
    #[error("the thread that collects events panicked; its message is on standard error")]
    Collector,
}

/// The value of the end's time while recording goes on.
const GOING_ON: u64 = u64::MAX;

/// Records what happens to mmap_lock of one process. Dropping it ends the recording without a result.
#[derive(Debug)]
pub struct Tracer {
    end_ns: Arc<AtomicU64>,
    collector: Option<JoinHandle<Trace>>,
}

impl Tracer {
    /// Begins to record; when it returns, recording is on.
    ///
    /// Until [`stop`](Self::stop), do not read `maps`, `smaps`, `cmdline`, `environ` or `mem` of the process: they take
    /// its lock, and you would find yourself in the trace.
    ///
    /// # Errors
    /// If something is missing, all that is known to be missing is told.
    pub fn attach(pid: u32, options: &Options) -> Result<Tracer, Unavailable> {
        Self::attach_and_show(pid, options, |_| {})
    }

    /// The same, and shows each event to `see` before it is worked on, in order of time: to record them, for example.
    /// `see` runs on the collecting thread, whose rings fill up meanwhile.
    ///
    /// # Errors
    /// As for [`attach`](Self::attach).
    pub fn attach_and_show(
        pid: u32,
        options: &Options,
        see: impl FnMut(&Event) + Send + 'static,
    ) -> Result<Tracer, Unavailable> {
        let session = setup::begin(pid, options)?;
        let end_ns = Arc::new(AtomicU64::new(GOING_ON));
        let collector = Collector::new(session, options, Arc::clone(&end_ns), see);
        let thread = std::thread::Builder::new().name(String::from("lock-trace"));
        let collector = thread.spawn(move || collector.run()).map_err(|error| Missing::Step {
            step: String::from("starting the thread that collects events"),
            why: error.to_string(),
        })?;
        Ok(Tracer { end_ns, collector: Some(collector) })
    }

    /// Ends the recording, and gives what was seen until now.
    ///
    /// # Errors
    /// Only if the collecting thread panicked.
    pub fn stop(mut self) -> Result<Trace, Error> {
        self.end();
        let collector = self.collector.take().ok_or(Error::Collector)?;
        collector.join().map_err(|_| Error::Collector)
    }

    fn end(&self) {
        // Relaxed: the time is all that is handed over. The first end counts.
        let _ = self.end_ns.compare_exchange(GOING_ON, now_ns(), Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.end();
        if let Some(collector) = self.collector.take() {
            // A panic has been reported on standard error; there is nobody to give a result to.
            let _ = collector.join();
        }
    }
}

/// CLOCK_MONOTONIC, the clock of the events.
fn now_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let now = now.expect("every Linux has CLOCK_MONOTONIC");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}
