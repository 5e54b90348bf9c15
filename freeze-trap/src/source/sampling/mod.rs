//! The last resort: samples of `/proc`. Each thread of the watched processes is looked at every 20 ms; as long as it is
//! in the same state and was not switched, it is taken to be in one interval, which is told from the first sample to
//! the last: never more than was seen, and up to 40 ms less. That a thread waits for mmap_lock is inferred from the
//! kernel function that it sleeps in; who holds the lock is not seen.
//!
//! Needs nothing but the right to read `/proc/PID/task`; the kernel's stack takes root. Only files are read that do not
//! take mmap_lock: `status`, `stat`, `wchan`, `stack`, `syscall`.
//!
//! A round ends after a millisecond of processor time, and the next one goes on where it ended: of a thousand threads
//! each is looked at every half second or so, and a twentieth of a processor is the most that it takes. Of more threads
//! some are looked at, always the same ones: two looks at each within a freeze tell more than one look at all.

mod lock;
mod sample;

use std::collections::{HashMap, HashSet};
use std::fs;

use anyhow::{Context, Result};
use lock_trace::events::threads;
use nix::time::{ClockId, clock_gettime};

use self::sample::{Place, Sample};
use super::{Bounds, Losses, Source, Totals};
use crate::clock::now_ns;
use crate::event::{Interval, Kind, Sleep, Thread};
use crate::stack::{StackPair, Stacks};

/// How often there is a round; and a thread is not looked at more often.
const ROUND_NS: u64 = 20_000_000;
/// How much processor time a round takes at most.
const ROUND_MAX_NS: u64 = 1_000_000;
/// So many threads are looked at, or twice as many: with more, a freeze of a second would be over before the second
/// look.
const THREADS_PER_LAP: usize = 1000;

/// The samples so far.
pub struct Sampling {
    off_cpu_ns: u64,
    lock_ns: u64,
    threads_max: usize,
    pids: Vec<i32>,
    /// By number of the thread.
    seen: HashMap<i32, Seen>,
    /// Those that are still to be looked at before the list of threads is made again: process and thread.
    lap: Vec<(i32, i32)>,
    next_round_ns: u64,
    /// Those that there is no time or room for, of all in the last list.
    unwatched_threads: usize,
}

/// A thread, as it was in all samples since the first.
struct Seen {
    pid: i32,
    sample: Sample,
    /// Looked up with the second sample.
    place: Option<Place>,
    first_ns: u64,
    last_ns: u64,
}

impl Seen {
    fn new(pid: i32, sample: Sample, now_ns: u64) -> Self {
        Seen { pid, sample, place: None, first_ns: now_ns, last_ns: now_ns }
    }

    /// What it tells, for an interval that ends then: time off the processor, and a wait for mmap_lock if it was one.
    fn tell(
        &self,
        tid: i32,
        end_ns: u64,
        unfinished: bool,
        stacks: &mut Stacks,
    ) -> impl Iterator<Item = Interval> + use<> {
        let place = self.place.as_ref();
        let stack = StackPair {
            kernel: place.and_then(|place| stacks.intern_names(&place.kernel)),
            user: place.and_then(|place| stacks.intern(self.pid, place.user.as_slice(), 0)),
        };
        let off = Interval {
            kind: Kind::OffCpu { sleep: self.sample.sleep, waker: None },
            thread: Thread { pid: self.pid, tid, name: self.sample.name.clone() },
            owner_pid: self.pid,
            start_ns: self.first_ns,
            end_ns,
            unfinished,
            call: place.and_then(|place| place.call),
            stack,
        };
        let is_uninterruptible = self.sample.sleep == Sleep::Uninterruptible;
        let mode = place.filter(|_| is_uninterruptible).and_then(|place| lock::wanted(&place.kernel));
        let wait = mode.map(|mode| Interval { kind: Kind::Wait { mode }, ..off.clone() });
        [Some(off), wait].into_iter().flatten()
    }
}

/// In which state a thread is now; `None` for one that is gone.
pub(super) fn sleep_of(pid: i32, tid: i32) -> Option<Sleep> {
    Sample::of(pid, tid).map(|sample| sample.sleep)
}

impl Sampling {
    /// Begins to look. Memory: some hundred bytes for each of at most `threads_max` threads.
    /// # Errors
    /// There is no `/proc`.
    pub fn arm(bounds: &Bounds, threads_max: usize) -> Result<Self> {
        fs::read_dir("/proc/self/task").context("/proc cannot be read: mount it (mount -t proc proc /proc)")?;
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Ok(Sampling {
            off_cpu_ns: nanos(bounds.off_cpu),
            lock_ns: nanos(bounds.lock),
            threads_max,
            pids: Vec::new(),
            seen: HashMap::new(),
            lap: Vec::new(),
            next_round_ns: 0,
            unwatched_threads: 0,
        })
    }

    /// What it cannot see, a line each with what would help.
    #[must_use]
    pub fn missing() -> Vec<String> {
        let mut missing = vec![String::from(
            "samples of /proc do not tell who holds mmap_lock, who ended a sleep, and what is shorter than 40 ms: BPF \
             (CAP_BPF and CAP_PERFMON) or perf events (CAP_PERFMON) do",
        )];
        if fs::read("/proc/self/stack").is_err() {
            let stacks = "only the innermost function of the kernel is told, and no stack: run as root (CAP_SYS_ADMIN)";
            missing.push(String::from(stacks));
        }
        missing
    }

    /// All threads, for another lap. Those that are not in it are told and forgotten without a look: they are no more,
    /// or there are more threads now and each lap has time for fewer of them. They would be in every lap otherwise.
    fn list(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) {
        let of_process = |pid: &i32| {
            let pid = *pid;
            threads(pid.cast_unsigned()).into_iter().map(move |tid| (pid, tid))
        };
        self.lap = self.pids.iter().flat_map(of_process).collect();
        let count = self.lap.len();
        thin_out(&mut self.lap);
        self.lap.truncate(self.threads_max);
        self.unwatched_threads = count - self.lap.len();
        let listed: HashSet<i32> = self.lap.iter().map(|(_, tid)| *tid).collect();
        let others: Vec<(i32, Seen)> = self.seen.extract_if(|tid, _| !listed.contains(tid)).collect();
        others.iter().for_each(|(tid, seen)| self.end(seen, *tid, stacks, each));
    }

    /// Looks at one thread; what was before it is told if it is over.
    fn look(&mut self, pid: i32, tid: i32, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) {
        let sample = Sample::of(pid, tid);
        let now_ns = now_ns();
        let ended = match sample {
            None => self.seen.remove(&tid),
            Some(sample) => match self.seen.get_mut(&tid).filter(|seen| seen.sample == sample) {
                None => self.seen.insert(tid, Seen::new(pid, sample, now_ns)),
                Some(seen) => {
                    if seen.place.is_none() && sample.sleep != Sleep::Runnable {
                        seen.place = Place::of(pid, tid);
                    }
                    seen.last_ns = now_ns;
                    None
                }
            },
        };
        if let Some(seen) = ended {
            self.end(&seen, tid, stacks, each);
        }
    }

    fn end(&self, seen: &Seen, tid: i32, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) {
        let least_ns = |one: &Interval| match one.kind {
            Kind::OffCpu { .. } => self.off_cpu_ns,
            Kind::Hold { .. } | Kind::Wait { .. } => self.lock_ns,
        };
        let told = seen.tell(tid, seen.last_ns, false, stacks);
        told.filter(|one| one.duration_ns() > 0 && one.duration_ns() >= least_ns(one)).for_each(each);
    }
}

/// Leaves as many threads as a lap has time for: the first of each process, and of the others every second, fourth and
/// so on by its mixed number, so that they are the same in the next lap, however many come and go.
fn thin_out(threads: &mut Vec<(i32, i32)>) {
    let mut bound = 1 << u32::BITS;
    let is_below = |tid: i32, bound: u64| u64::from(mixed(tid)) < bound;
    while threads.iter().filter(|(_, tid)| is_below(*tid, bound)).count() > 2 * THREADS_PER_LAP {
        bound /= 2;
    }
    threads.retain(|(pid, tid)| pid == tid || is_below(*tid, bound));
}

/// A number of a thread, spread over all 32 bits (Fibonacci hashing: 2^32 by the golden ratio). Threads that do the
/// same may have numbers in a pattern, such as every second one, so that the number itself would leave none of them, or
/// all.
fn mixed(tid: i32) -> u32 {
    tid.cast_unsigned().wrapping_mul(0x9E37_79B9)
}

/// Processor time of this thread, in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

impl Source for Sampling {
    fn name(&self) -> &'static str {
        "samples of /proc"
    }

    fn watch(&mut self, pids: &[i32]) -> Result<()> {
        self.pids = pids.to_vec();
        self.lap.retain(|(pid, _)| pids.contains(pid));
        self.seen.retain(|_, seen| pids.contains(&seen.pid));
        Ok(())
    }

    /// Has to be called every 20 ms or oftener: there is no other thread that would look meanwhile.
    fn take(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) -> Result<()> {
        let begun_ns = now_ns();
        if begun_ns < self.next_round_ns {
            return Ok(());
        }
        self.next_round_ns = begun_ns + ROUND_NS;
        if self.lap.is_empty() {
            self.list(stacks, each);
        }
        let begun_cpu_ns = thread_cpu_ns();
        while let Some((pid, tid)) = self.lap.pop() {
            self.look(pid, tid, stacks, each);
            if thread_cpu_ns() - begun_cpu_ns >= ROUND_MAX_NS {
                break;
            }
        }
        Ok(())
    }

    fn unfinished(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) -> Result<()> {
        let now_ns = now_ns();
        for (tid, seen) in self.seen.iter().filter(|(_, seen)| seen.last_ns > seen.first_ns) {
            seen.tell(*tid, now_ns, true, stacks).for_each(&mut *each);
        }
        Ok(())
    }

    fn totals(&mut self) -> Result<Option<Totals>> {
        Ok(None)
    }

    fn losses(&mut self) -> Result<Losses> {
        Ok(Losses::default())
    }

    fn unwatched_threads(&mut self) -> u64 {
        self.unwatched_threads as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_mmap_lock_is_told_beside_the_time_off_the_processor() {
        let mut stacks = Stacks::new();
        let sample = Sample { name: "worker".into(), sleep: Sleep::Uninterruptible, switches: 3, ticks: 0 };
        let mut seen = Seen::new(10, sample, 1_000);
        seen.last_ns = 50_000;
        seen.place =
            Some(Place { kernel: vec!["vm_mmap_pgoff".into(), "do_syscall_64".into()], user: vec![7], call: None });
        let told: Vec<Interval> = seen.tell(11, seen.last_ns, false, &mut stacks).collect();
        assert_eq!(told.len(), 2);
        assert_eq!(told[1].kind, Kind::Wait { mode: lock_trace::Mode::Write });
        assert!(told.iter().all(|one| (one.start_ns, one.end_ns, one.thread.tid) == (1_000, 50_000, 11)));
        let kernel = stacks.get(told[0].stack.kernel.unwrap()).unwrap();
        assert_eq!((kernel.names.len(), kernel.addresses.len()), (2, 0));
        seen.sample.sleep = Sleep::Interruptible;
        assert_eq!(seen.tell(11, seen.last_ns, false, &mut stacks).count(), 1);
    }

    #[test]
    fn of_very_many_threads_the_same_ones_are_looked_at_in_each_lap() {
        let lap = |tids: std::ops::Range<i32>| {
            let mut lap: Vec<(i32, i32)> = tids.map(|tid| (301, tid)).collect();
            thin_out(&mut lap);
            lap
        };
        assert_eq!(lap(301..2301).len(), 2000, "not too many");
        let before = lap(301..10_301);
        assert!((THREADS_PER_LAP..=2 * THREADS_PER_LAP).contains(&before.len()), "{}", before.len());
        assert!(before.contains(&(301, 301)), "the first thread is there");
        let later = lap(301..10_801);
        assert!(before.iter().all(|one| later.contains(one)));
    }

    #[test]
    fn threads_whose_numbers_have_a_pattern_are_looked_at_like_any_others() {
        for (first, step) in [(1002, 2), (1001, 2), (1000, 3), (1004, 8), (1001, 8), (1024, 64), (1024, 1024)] {
            let mut lap: Vec<(i32, i32)> = (0..10_000).map(|number| (301, first + number * step)).collect();
            thin_out(&mut lap);
            let count = lap.len();
            assert!((THREADS_PER_LAP..=2 * THREADS_PER_LAP).contains(&count), "from {first} by {step}: {count}");
        }
        // Workers have odd numbers, their helpers even ones: there are some of both.
        let mut lap: Vec<(i32, i32)> = (301..10_301).map(|tid| (301, tid)).collect();
        thin_out(&mut lap);
        let odd = lap.iter().filter(|(_, tid)| tid % 2 == 1).count();
        assert!((lap.len() / 3..=2 * lap.len() / 3).contains(&odd), "{odd} of {}", lap.len());
    }

    /// A thread as it was in samples until then.
    fn seen_until(last_ns: u64) -> Seen {
        let sample = Sample { name: "worker".into(), sleep: Sleep::Interruptible, switches: 1, ticks: 0 };
        Seen { last_ns, ..Seen::new(std::process::id() as i32, sample, 1) }
    }

    /// What a thread of this process that is seen, and not in the lap that follows, is told to have done: it is looked
    /// at no more, whether it lives or not.
    fn is_told_and_forgotten(tid: i32) {
        let mut sampling = Sampling::arm(&Bounds::default(), 1).unwrap();
        sampling.watch(&[std::process::id() as i32]).unwrap();
        sampling.seen.insert(tid, seen_until(90_000_000));
        let mut told = Vec::new();
        sampling.take(&mut Stacks::new(), &mut |one| told.push(one)).unwrap();
        assert!(told.iter().any(|one| one.thread.tid == tid && one.end_ns == 90_000_000 && !one.unfinished));
        assert!(!sampling.seen.contains_key(&tid) && sampling.lap.len() <= 1);
    }

    #[test]
    fn as_many_threads_are_unwatched_as_were_left_out_of_the_last_list() {
        let mut sampling = Sampling::arm(&Bounds::default(), 1).unwrap();
        sampling.watch(&[std::process::id() as i32]).unwrap();
        let mut list = |pids: &[i32]| {
            sampling.watch(pids).unwrap();
            sampling.list(&mut Stacks::new(), &mut |_| ());
            sampling.unwatched_threads()
        };
        let own = [std::process::id() as i32];
        // There are the first thread of the process, and at least this one.
        assert!(std::thread::scope(|scope| scope.spawn(|| list(&own)).join().unwrap()) > 0);
        assert_eq!(list(&[]), 0);
    }

    #[test]
    fn a_thread_that_is_gone_is_forgotten() {
        is_told_and_forgotten(i32::MAX);
    }

    #[test]
    fn a_thread_that_is_left_out_of_laps_is_forgotten_though_it_lives() {
        // The first thread of the process is listed, and there is no room for this one.
        std::thread::spawn(|| is_told_and_forgotten(nix::unistd::gettid().as_raw())).join().unwrap();
    }
}
