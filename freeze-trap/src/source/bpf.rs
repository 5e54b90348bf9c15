//! The first choice: BPF programs on tracepoints with type information. They see every thread of the watched processes,
//! also ones born later, whoever else takes their mmap_lock, and who ended a sleep; each event costs a quarter of a
//! microsecond to one (the stack of a thread that leaves the processor).
//!
//! What began before a process was watched is taken to begin then: sleeps, and a hold for writing. Holds for reading
//! that began before are not seen: the kernel does not say whose they are.
//!
//! Needs Linux 5.15 with `CONFIG_DEBUG_INFO_BTF`, and root, or CAP_BPF and CAP_PERFMON.

use std::collections::HashMap as Entries;
use std::fmt::Display;
use std::fs;
use std::hash::Hash;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, Iter};
use aya::{Btf, Ebpf, EbpfLoader, Pod, include_bytes_aligned};

use super::btf::KernelTypes;
use super::permits::{HELPER, HELPER_SINCE};
use super::wire::{self, Counts, Lock, LockKey, Moment, OffCpu, Reader, Target};
use super::{Bounds, Losses, Source, Totals};
use crate::clock::now_ns;
use crate::event::Interval;
use crate::stack::Stacks;
use crate::symbols::MapsCache;
use crate::symbols::unwind::Unwinder;

/// The programs, compiled by `bpf/build.sh`.
static OBJECT: &[u8] = include_bytes_aligned!("../bpf/freeze_trap.bpf.o");

/// Program and tracepoint.
const PROGRAMS: [(&str, &str); 7] = [
    ("on_switch", "sched_switch"),
    ("on_waking", "sched_waking"),
    ("on_exit", "sched_process_exit"),
    ("on_exec", "sched_process_exec"),
    ("on_start_locking", "mmap_lock_start_locking"),
    ("on_acquired", "mmap_lock_acquire_returned"),
    ("on_released", "mmap_lock_released"),
];

/// The iterator that looks at processes when they come to be watched, and at what is not over.
const SCAN: &str = "on_scan";

/// No ring is smaller: a few threads can have a lot to tell.
const RING_BYTES_MIN: u32 = 16 << 20;
/// Nor larger.
const RING_BYTES_MAX: u32 = 1 << 30;
/// What the kernel puts before each record.
const RECORD_HEADER_BYTES: usize = 8;

/// As many processes are watched at most.
const TARGETS_MAX: usize = 1024;

/// Arguments of `mmap_lock_released` before Linux 6.14: the address space, a path, the mode.
const ARGUMENTS_WITH_PATH: usize = 3;

/// The programs at work.
pub struct Bpf {
    // Dropped last: the programs run as long as this lives.
    targets: HashMap<MapData, u32, Target>,
    spaces: HashMap<MapData, u64, u32>,
    off: HashMap<MapData, u32, OffCpu>,
    locks: HashMap<MapData, LockKey, Lock>,
    totals: PerCpuArray<MapData, Counts>,
    ring: RingBuf<MapData>,
    watched: Vec<u32>,
    /// For which there was no room.
    unwatched: Vec<u32>,
    threads_max: usize,
    /// So many records are taken at once, more than the ring has room for: a target may be faster than whoever takes
    /// them.
    records_max: usize,
    unwinder: Unwinder,
    programs: Ebpf,
}

fn map<T>(programs: &mut Ebpf, name: &str) -> Result<T>
where
    T: TryFrom<aya::maps::Map, Error: Display>,
{
    let map = programs.take_map(name).ok_or_else(|| anyhow!("the BPF object has no map {name}"))?;
    T::try_from(map).map_err(|error| anyhow!("map {name} of the BPF object: {error}"))
}

impl Bpf {
    /// Loads the programs and hangs them on their tracepoints. Takes a tenth of a second to half of one, and memory for
    /// `threads_max` threads, 3.5 KiB each, and as much again for the ring, rounded up to a power of two, 16 MiB at
    /// least.
    /// # Errors
    /// The kernel is too old, has no type information, or does not permit it; the message says which.
    pub fn arm(bounds: &Bounds, threads_max: u32) -> Result<Self> {
        let types = KernelTypes::read().context("the kernel has no type information (CONFIG_DEBUG_INFO_BTF)")?;
        let arguments = types.tracepoint_arguments("mmap_lock_released");
        let arguments = arguments.context("the kernel has no tracepoint mmap_lock_released (Linux 5.11)")?;
        let lacks_helper = !types.has_helper(HELPER);
        drop(types);
        let btf = Btf::from_sys_fs().context("the kernel's type information cannot be read")?;
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut programs = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global("off_cpu_min_ns", &nanos(bounds.off_cpu), true)
            .override_global("lock_min_ns", &nanos(bounds.lock), true)
            .override_global("has_path", &u32::from(arguments >= ARGUMENTS_WITH_PATH), true)
            .map_max_entries("off", threads_max)
            .map_max_entries("locks", threads_max)
            .map_max_entries("ring", ring_bytes(threads_max))
            .load(OBJECT)
            .context("the BPF programs cannot be loaded")?;
        for (program, tracepoint) in PROGRAMS {
            let found = programs.program_mut(program).with_context(|| format!("the BPF object has no {program}"))?;
            let attached: &mut BtfTracePoint = found.try_into()?;
            attached.load(tracepoint, &btf).map_err(|error| {
                let error = anyhow!(error).context(format!("{program} is refused by the kernel"));
                if !lacks_helper {
                    return error;
                }
                error.context(format!("the kernel has no bpf_{HELPER} ({HELPER_SINCE})"))
            })?;
            attached.attach().with_context(|| format!("{program} cannot be attached to {tracepoint}"))?;
        }
        let found = programs.program_mut(SCAN).with_context(|| format!("the BPF object has no {SCAN}"))?;
        let scan: &mut Iter = found.try_into()?;
        scan.load("task", &btf).with_context(|| format!("{SCAN} is refused by the kernel"))?;
        Ok(Bpf {
            targets: map(&mut programs, "targets")?,
            spaces: map(&mut programs, "spaces")?,
            off: map(&mut programs, "off")?,
            locks: map(&mut programs, "locks")?,
            totals: map(&mut programs, "totals")?,
            ring: map(&mut programs, "ring")?,
            watched: Vec::new(),
            unwatched: Vec::new(),
            threads_max: threads_max as usize,
            records_max: ring_bytes(threads_max) as usize / size_of::<Moment>(),
            unwinder: Unwinder::default(),
            programs,
        })
    }

    fn counts(&self) -> Result<Counts> {
        let each = self.totals.get(&0, 0).context("the BPF programs' counts cannot be read")?;
        let mut sum = Counts::ZERO;
        each.iter().for_each(|one| sum.add(one));
        Ok(sum)
    }

    /// Looks at all threads of the watched processes that are not known yet, and where those that sleep are in the
    /// kernel. Takes a microsecond for each thread of the machine, or less, and touches none.
    fn scan(&mut self) -> Result<()> {
        let scan: &mut Iter = self.programs.program_mut(SCAN).context("it was loaded")?.try_into()?;
        let link = scan.attach().context("the BPF iterator cannot be attached")?;
        let mut file = scan.take_link(link)?.into_file().context("the BPF iterator cannot be run")?;
        file.read_to_end(&mut Vec::new()).context("the BPF iterator fails")?;
        Ok(())
    }

    /// Forgets what the maps hold of processes that are not watched any more. A thread that goes at the same moment may
    /// leave something: it is taken away when it comes back.
    fn forget(&mut self) {
        let is_stale = |pid: u32| !self.watched.contains(&pid);
        // What is not there any more was taken away by the programs meanwhile.
        for (space, _) in entries(&self.spaces, TARGETS_MAX).iter().filter(|(_, pid)| is_stale(**pid)) {
            let _ = self.spaces.remove(space);
        }
        for (tid, _) in entries(&self.off, self.threads_max).iter().filter(|(_, off)| is_stale(off.pid())) {
            let _ = self.off.remove(tid);
        }
        for (key, _) in entries(&self.locks, self.threads_max).iter().filter(|(_, lock)| is_stale(lock.owner())) {
            let _ = self.locks.remove(key);
        }
    }
}

/// Room for a sleep of each thread, so that all may wake up at once, as they do when a freeze is over. The kernel wants
/// a power of two.
fn ring_bytes(threads_max: u32) -> u32 {
    let bytes = u64::from(threads_max) * (size_of::<OffCpu>() + RECORD_HEADER_BYTES) as u64;
    let bytes = bytes.clamp(RING_BYTES_MIN.into(), RING_BYTES_MAX.into()).next_power_of_two();
    u32::try_from(bytes).unwrap_or(RING_BYTES_MAX)
}

/// How many threads a process has; none if it is gone.
fn threads_of(pid: u32) -> u64 {
    // The directory has a link for each, and the two that any directory has.
    fs::metadata(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.nlink().saturating_sub(2))
}

/// All entries. They come and go while the map is walked: what cannot be read is over; and where the walk has come to
/// goes away, it begins again, so that it is bounded, and each entry is taken once.
fn entries<K: Pod + Eq + Hash, V: Pod>(map: &HashMap<MapData, K, V>, entries_max: usize) -> Entries<K, V> {
    map.iter().take(2 * entries_max).filter_map(Result::ok).collect()
}

impl Source for Bpf {
    fn name(&self) -> &'static str {
        "BPF on tracepoints"
    }

    fn watch(&mut self, pids: &[i32]) -> Result<()> {
        let wanted: Vec<u32> = pids.iter().map(|pid| pid.cast_unsigned()).collect();
        let gone: Vec<u32> = self.watched.iter().filter(|pid| !wanted.contains(pid)).copied().collect();
        // The number of a process that has ended may be another's now.
        let is_known =
            |pid: &&u32| self.watched.contains(pid) && self.targets.get(pid, 0).is_ok_and(|one| !one.is_over());
        let fresh: Vec<u32> = wanted.iter().filter(|pid| !is_known(pid)).copied().collect();
        for pid in &gone {
            self.targets.remove(pid).context("a BPF map cannot be changed")?;
        }
        self.watched = wanted;
        if !gone.is_empty() {
            self.forget();
        }
        let has_room = |pid: &u32| self.targets.insert(*pid, Target::default(), 0).is_ok();
        let (fresh, left): (Vec<u32>, Vec<u32>) = fresh.into_iter().partition(has_room);
        let count = self.watched.len();
        self.watched.retain(|pid| !left.contains(pid));
        self.unwatched = left;
        if !fresh.is_empty() {
            self.scan()?;
        }
        if !self.unwatched.is_empty() {
            bail!("{count} processes are more than can be watched at once ({TARGETS_MAX})");
        }
        Ok(())
    }

    fn learn(&mut self, maps: &MapsCache) {
        self.unwinder.learn(maps);
    }

    fn take(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) -> Result<()> {
        let mut reader = Reader { stacks, unwinder: &mut self.unwinder };
        for _ in 0..self.records_max {
            let Some(record) = self.ring.next() else { break };
            if let Some(interval) = wire::interval(&record, &mut reader) {
                each(interval);
            }
        }
        Ok(())
    }

    fn unfinished(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) -> Result<()> {
        self.scan()?;
        let now_ns = now_ns();
        let mut reader = Reader { stacks, unwinder: &mut self.unwinder };
        let off = entries(&self.off, self.threads_max);
        off.values().filter_map(|entry| entry.unfinished(now_ns, &mut reader)).for_each(&mut *each);
        for (key, lock) in entries(&self.locks, self.threads_max) {
            let off = off.get(&key.tid()).and_then(|off| off.unfinished(now_ns, &mut reader));
            lock.unfinished(key.tid(), now_ns, off.as_ref()).for_each(&mut *each);
        }
        Ok(())
    }

    fn totals(&mut self) -> Result<Option<Totals>> {
        let counts = self.counts()?;
        let rows = |rows: [[u64; wire::BUCKETS]; 2]| rows.map(|row| row.to_vec());
        Ok(Some(Totals {
            holds: rows(counts.holds),
            waits: rows(counts.waits),
            hold_ns: counts.hold_ns,
            wait_ns: counts.wait_ns,
            switches: counts.switches,
            off_cpu_ns: counts.off_cpu_ns,
        }))
    }

    fn losses(&mut self) -> Result<Losses> {
        let counts = self.counts()?;
        Ok(Losses { intervals: counts.lost_records, threads: counts.lost_threads })
    }

    fn unwatched_threads(&mut self) -> u64 {
        self.unwatched.iter().map(|pid| threads_of(*pid)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_has_room_for_a_sleep_of_each_thread() {
        let record_bytes = size_of::<OffCpu>() as u64 + 8;
        for threads_max in [1, 4096, 8192, 100_000] {
            let bytes = ring_bytes(threads_max);
            assert!(bytes.is_power_of_two() && bytes >= RING_BYTES_MIN, "{bytes}");
            assert!(u64::from(bytes) >= u64::from(threads_max) * record_bytes, "{threads_max}: {bytes}");
        }
        assert_eq!((ring_bytes(8192), ring_bytes(u32::MAX)), (32 << 20, RING_BYTES_MAX));
    }

    #[test]
    fn threads_are_counted() {
        let own = std::process::id();
        let tasks = || fs::read_dir("/proc/self/task").unwrap().count() as u64;
        // Other tests start and end threads meanwhile.
        while threads_of(own) != tasks() {
            std::thread::yield_now();
        }
        assert_eq!(threads_of(u32::MAX), 0);
    }
}
