//! Whether threads of the watched processes get nothing done: they sleep in the kernel where no signal wakes them, or
//! want to run, and have neither run nor been given a processor since they were looked at. Threads that sleep otherwise
//! are taken to have nothing to do; whether one of them waits for a lock of the program cannot be told from here.
//!
//! Reads `schedstat` of each thread, and `stat` of those that have made no progress; they take no lock that a frozen
//! thread may hold. Invariant: that takes no more than a fiftieth of a processor; with a thousand threads it looks less
//! often.

use std::collections::HashMap;

use super::duration::show;
use super::spec::Share;
use super::step::Step;
use super::{Ask, Failure, Probe};
use crate::clock::{now_ns, thread_cpu_ns};
use crate::target::process;

/// How many threads a failure names.
const NAMES_MAX: usize = 3;

/// After a look, how many times its cost has to go by until the next one.
const REST: u64 = 50;

/// Such a probe.
#[derive(Debug)]
pub(super) struct Stalled {
    lasting_ns: u64,
    share: Share,
    /// By thread.
    seen: HashMap<i32, Seen>,
    /// What the last look found, and when the next one may be.
    found: Result<(), Failure>,
    next_ns: u64,
}

/// A thread.
#[derive(Clone, Debug)]
struct Sample {
    tid: i32,
    /// Nanoseconds that it has run, and turns on a processor; whatever of that grows is progress.
    progress: [u64; 2],
    /// Name, state and ticks, which are progress as well. Not asked for where it is plain that there was progress.
    stat: Option<(String, char, u64)>,
}

/// What a thread was like when it was looked at.
#[derive(Clone, Debug)]
struct Seen {
    /// It slept where no signal wakes it, or wanted to run.
    blocked: bool,
    progress: [u64; 2],
    ticks: Option<u64>,
    /// Since when it is blocked without progress; if it is not, when it was looked at.
    since_ns: u64,
}

/// Sleeps where no signal wakes it, or wants to run.
fn is_blocked(state: char) -> bool {
    matches!(state, 'D' | 'R')
}

impl Stalled {
    pub(super) fn new(lasting_ns: u64, share: Share) -> Self {
        Stalled { lasting_ns, share, seen: HashMap::new(), found: Ok(()), next_ns: 0 }
    }

    fn sample(&self, pid: i32, tid: i32) -> Option<Sample> {
        let runs = || process::thread_runs(pid, tid).unwrap_or_default();
        let progress = runs();
        if self.seen.get(&tid).is_some_and(|before| before.progress != progress) {
            return Some(Sample { tid, progress, stat: None });
        }
        let stat = process::thread_stat(pid, tid).ok()?;
        // Again, in case that it ran between the two and fell asleep just now.
        let progress = if is_blocked(stat.state) { runs() } else { progress };
        Some(Sample { tid, progress, stat: Some((stat.name, stat.state, stat.cpu_ticks)) })
    }

    fn judge(&mut self, now_ns: u64, samples: &[Sample]) -> Result<(), Failure> {
        let mut stalled = Vec::new();
        let mut idle = 0;
        let mut seen = HashMap::with_capacity(samples.len());
        for sample in samples {
            let Some((name, state, ticks)) = &sample.stat else {
                let Sample { tid, progress, .. } = *sample;
                seen.insert(tid, Seen { blocked: false, progress, ticks: None, since_ns: now_ns });
                continue;
            };
            let blocked = is_blocked(*state);
            let unchanged = |before: &&Seen| {
                before.progress == sample.progress && before.ticks.is_none_or(|before| before == *ticks)
            };
            let since_ns = match self.seen.get(&sample.tid).filter(unchanged) {
                Some(before) if before.blocked && blocked => before.since_ns,
                // To fall asleep like that it has to run; so it slept already when it was looked at.
                Some(before) if *state == 'D' => before.since_ns,
                Some(_) => {
                    idle += usize::from(!blocked);
                    now_ns
                }
                None => now_ns,
            };
            if blocked && now_ns - since_ns >= self.lasting_ns {
                stalled.push(Stuck { since_ns, tid: sample.tid, name, state: *state });
            }
            let progress = sample.progress;
            seen.insert(sample.tid, Seen { blocked, progress, ticks: Some(*ticks), since_ns });
        }
        self.seen = seen;
        stalled.sort_by_key(|stuck| stuck.since_ns);
        let busy = samples.len() - idle;
        let needed = match self.share {
            Share::Fraction(share) => (share * busy as f64).ceil() as usize,
            Share::Count(count) => count as usize,
        };
        // The freeze is there since the last of those that it takes has stalled.
        match stalled.get(needed.max(1) - 1) {
            Some(last) => Err(Failure { what: tell(now_ns, &stalled, busy, idle), since_ns: Some(last.since_ns) }),
            None => Ok(()),
        }
    }
}

/// A thread that gets nothing done.
struct Stuck<'a> {
    since_ns: u64,
    tid: i32,
    name: &'a str,
    state: char,
}

fn tell(now_ns: u64, stalled: &[Stuck], busy: usize, idle: usize) -> String {
    let name = |stuck: &Stuck| {
        let lasting = show((now_ns - stuck.since_ns) / 1_000_000 * 1_000_000);
        format!("{} ({}) in {} for {lasting}", stuck.name, stuck.tid, stuck.state)
    };
    let names: Vec<String> = stalled.iter().take(NAMES_MAX).map(name).collect();
    let more = if stalled.len() > NAMES_MAX { ", and others" } else { "" };
    format!("{} of {busy} threads get nothing done: {}{more}; {idle} are idle", stalled.len(), names.join(", "))
}

impl Probe for Stalled {
    fn ask(&mut self, ask: &Ask) -> Result<(), Failure> {
        let now = now_ns();
        if now < self.next_ns {
            return self.found.clone();
        }
        ask.progress.set(Step::Files);
        let begin_ns = thread_cpu_ns();
        let threads = |pid: &i32| {
            let pid = *pid;
            let tids = process::threads(pid).unwrap_or_default();
            tids.into_iter().map(move |tid| (pid, tid))
        };
        let samples = ask.pids.iter().flat_map(threads).filter_map(|(pid, tid)| self.sample(pid, tid));
        let samples: Vec<Sample> = samples.collect();
        self.found = self.judge(now, &samples);
        self.next_ns = now + thread_cpu_ns().saturating_sub(begin_ns) * REST;
        self.found.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tid: i32, state: char, progress: u64) -> Sample {
        Sample { tid, progress: [progress, 1], stat: Some(("worker".into(), state, 0)) }
    }

    /// Looks every 100 at what `threads` makes of the time, and says when it failed first, and since when.
    fn first(share: Share, threads: impl Fn(u64) -> Vec<Sample>) -> Option<(u64, u64)> {
        let mut probe = Stalled::new(500, share);
        (0..20).map(|look| look * 100).find_map(|now_ns| {
            let failure = probe.judge(now_ns, &threads(now_ns)).err()?;
            Some((now_ns, failure.since_ns.unwrap()))
        })
    }

    const ALL: Share = Share::Fraction(1.0);

    #[test]
    fn blocked_threads_that_make_no_progress_stall() {
        assert_eq!(first(ALL, |_| vec![thread(1, 'D', 7), thread(2, 'R', 7)]), Some((500, 0)));
        // The second has worked until 300.
        let late = |now_ns: u64| vec![thread(1, 'D', 7), thread(2, 'D', now_ns.min(300))];
        assert_eq!(first(ALL, late), Some((800, 300)));
        assert_eq!(first(Share::Count(1), late), Some((500, 0)));
        assert_eq!(first(Share::Fraction(0.5), late), Some((500, 0)));
        assert_eq!(first(Share::Count(3), late), None);
    }

    #[test]
    fn idle_threads_neither_stall_nor_keep_others_from_it() {
        assert_eq!(first(ALL, |_| vec![thread(1, 'S', 7), thread(2, 'S', 7)]), None);
        assert_eq!(first(Share::Count(1), |_| vec![thread(1, 'S', 7)]), None);
        assert_eq!(first(ALL, |_| vec![thread(1, 'D', 7), thread(2, 'S', 7)]), Some((500, 0)));
        assert_eq!(first(ALL, |_| vec![]), None);
    }

    #[test]
    fn threads_that_work_do_not_stall_whatever_their_state() {
        for state in ['D', 'R', 'S'] {
            assert_eq!(first(Share::Count(1), |now_ns| vec![thread(1, state, now_ns)]), None);
            let beside = |now_ns: u64| vec![thread(1, state, now_ns), thread(2, 'D', 7)];
            assert_eq!(first(ALL, beside), None, "one works in {state}");
        }
        // Waits in between are no stall, however many there are.
        let waits = |now_ns: u64| vec![thread(1, if now_ns.is_multiple_of(400) { 'S' } else { 'D' }, now_ns / 400)];
        assert_eq!(first(ALL, waits), None);
    }

    #[test]
    fn what_was_not_asked_for_because_there_was_progress_counts_as_work() {
        let plain = |tid, progress| Sample { tid, progress: [progress, 1], stat: None };
        // It slept without progress since the look at which there was some, at 300.
        let falls_asleep =
            |state: char| move |now_ns: u64| vec![if now_ns <= 300 { plain(1, now_ns) } else { thread(1, state, 300) }];
        assert_eq!(first(ALL, falls_asleep('D')), Some((800, 300)));
        // Whoever wants to run may have been woken only after that look.
        assert_eq!(first(ALL, falls_asleep('R')), Some((900, 400)));
        assert_eq!(first(ALL, falls_asleep('S')), None);
        assert_eq!(first(ALL, |now_ns| vec![plain(1, now_ns), thread(2, 'D', 7)]), None);
        // Ticks alone are progress where the kernel counts nothing else.
        let ticking =
            |now_ns: u64| vec![Sample { tid: 1, progress: [0; 2], stat: Some(("worker".into(), 'R', now_ns)) }];
        assert_eq!(first(ALL, ticking), None);
    }

    #[test]
    fn a_failure_names_the_threads() {
        let mut probe = Stalled::new(500_000_000, ALL);
        let threads: Vec<Sample> = (1..6).map(|tid| thread(tid, if tid < 5 { 'D' } else { 'S' }, 1)).collect();
        assert_eq!(probe.judge(0, &threads), Ok(()));
        let failure = probe.judge(700_000_000, &threads).unwrap_err();
        assert_eq!(
            failure.what,
            "4 of 4 threads get nothing done: worker (1) in D for 700 ms, worker (2) in D for 700 ms, worker (3) in D \
             for 700 ms, and others; 1 are idle"
        );
    }
}
