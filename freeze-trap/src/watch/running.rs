//! Processor time of the watched threads, from `/proc/PID/task/TID/schedstat`, which takes no mmap_lock. Read when the
//! trap goes off, and when the service has recovered.

use std::collections::HashMap;

use crate::analysis::Running;
use crate::event::Thread;
use crate::target::process;

/// Threads that are looked at: some ten microseconds each.
const THREADS_MAX: usize = 4096;

/// What the threads had run by a time.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    at_ns: u64,
    /// By process and thread, in nanoseconds.
    run_ns: HashMap<(i32, i32), u64>,
}

impl Runs {
    /// Reads it for the threads of these processes.
    #[must_use]
    pub fn read(pids: &[i32], at_ns: u64) -> Runs {
        let threads = pids.iter().flat_map(|&pid| {
            let tids = process::threads(pid).unwrap_or_default();
            tids.into_iter().map(move |tid| (pid, tid))
        });
        let run = |(pid, tid)| Some(((pid, tid), process::thread_runs(pid, tid).ok()?[0]));
        Runs { at_ns, run_ns: threads.take(THREADS_MAX).filter_map(run).collect() }
    }

    /// What the threads ran from then until `later`; those that were born or ended meanwhile are left out.
    #[must_use]
    pub fn until(&self, later: &Runs) -> Vec<Running> {
        let over_ns = later.at_ns.saturating_sub(self.at_ns);
        let mut running: Vec<Running> = self
            .run_ns
            .iter()
            .filter_map(|(&(pid, tid), before_ns)| {
                let cpu_ns = later.run_ns.get(&(pid, tid))?.saturating_sub(*before_ns);
                // A thread that has ended since may be known by other means.
                let name = process::thread_stat(pid, tid).map_or_else(|_| String::new(), |stat| stat.name);
                Some(Running { thread: Thread { pid, tid, name }, cpu_ns, over_ns })
            })
            .collect();
        running.sort_by_key(|one| (one.thread.pid, one.thread.tid));
        running
    }
}

#[cfg(test)]
mod tests {
    use test_support::skip;

    use super::*;
    use crate::clock::now_ns;

    #[test]
    fn a_thread_that_computes_has_run() {
        let pid = std::process::id().cast_signed();
        let before = Runs::read(&[pid], now_ns());
        let own = nix::unistd::gettid().as_raw();
        if before.run_ns.get(&(pid, own)) == Some(&0) {
            skip("this kernel does not count (CONFIG_SCHED_INFO)");
            return;
        }
        let mut running = Vec::new();
        // The deadline only catches a hang.
        let deadline = now_ns() + 60_000_000_000;
        while running.iter().all(|one: &Running| one.thread.tid != own || one.cpu_ns == 0) {
            assert!(now_ns() < deadline, "{running:?}");
            running = before.until(&Runs::read(&[pid], now_ns()));
        }
        assert!(running.iter().all(|one| one.over_ns > 0 && !one.thread.name.is_empty()), "{running:?}");
    }
}
