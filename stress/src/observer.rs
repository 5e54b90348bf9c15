//! What the harness sees of a child from outside while it runs: resident memory over time, and `mmap_lock` by the
//! kernel's tracepoints.
//!
//! Nothing read here takes the child's `mmap_lock`.

use std::mem;
use std::time::Duration;

use lock_trace::{Options, Trace, Tracer};

use crate::clock;
use crate::memory;
use crate::record::RssSample;

/// How often resident memory is looked at.
const RSS_PERIOD: Duration = Duration::from_millis(20);
/// Room for events on each processor: on a busy machine the thread that reads them may wait its turn for a second.
const RING_BYTES: usize = 32 << 20;

/// An eye on one child.
#[derive(Debug)]
pub struct Observer {
    pid: u32,
    rss: Vec<RssSample>,
    tracer: Option<Tracer>,
    trace: Option<Trace>,
}

/// What was seen. Times are of `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub struct Seen {
    /// Resident memory over time.
    pub rss: Vec<RssSample>,
    /// The trace of `mmap_lock`, if one was begun.
    pub trace: Option<Trace>,
}

impl Observer {
    /// An eye on the process; it sees memory from now on.
    pub fn new(pid: u32) -> Self {
        Self { pid, rss: Vec::new(), tracer: None, trace: None }
    }

    /// Begins to trace `mmap_lock`; says why that is not possible.
    pub fn trace(&mut self) -> Result<(), String> {
        let tracer = Tracer::attach(self.pid, &Options { ring_bytes: RING_BYTES, ..Options::default() })
            .map_err(|error| error.to_string())?;
        self.tracer = Some(tracer);
        Ok(())
    }

    /// Looks at resident memory, unless it was looked at just now.
    pub fn look(&mut self) {
        let at_ns = clock::now_ns();
        let last_ns = self.rss.last().map_or(0, |sample| sample.at_ns);
        if at_ns.saturating_sub(last_ns) < RSS_PERIOD.as_nanos() as u64 {
            return;
        }
        // A child that is gone has no memory any more.
        self.rss.extend(memory::rss_kib_of(self.pid).map(|rss_kib| RssSample { at_ns, rss_kib }));
    }

    /// Ends the trace, if one was begun and has not ended.
    pub fn end_trace(&mut self) -> Result<(), String> {
        if let Some(tracer) = self.tracer.take() {
            let mut trace = tracer.stop().map_err(|error| format!("the trace of mmap_lock: {error}"))?;
            // A canary has started thousands of threads.
            trace.merge_namesakes();
            self.trace = Some(trace);
        }
        Ok(())
    }

    /// Ends the trace and gives what was seen so far.
    pub fn end(&mut self) -> Result<Seen, String> {
        self.look();
        self.end_trace()?;
        Ok(Seen { rss: mem::take(&mut self.rss), trace: self.trace.take() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_process_is_seen_until_it_is_gone() {
        let mut observer = Observer::new(std::process::id());
        observer.look();
        observer.look();
        let seen = observer.end().unwrap();
        assert!(seen.rss.len() == 1 && seen.rss[0].rss_kib > 100 && seen.trace.is_none(), "{seen:?}");
        let mut nobody = Observer::new(u32::MAX);
        nobody.look();
        assert!(nobody.trace().is_err());
        assert!(nobody.end().unwrap().rss.is_empty());
    }
}
