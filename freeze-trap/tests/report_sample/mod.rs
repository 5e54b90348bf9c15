//! Freezes as the trap would find them, one for each cause, for the tests of the outputs. Nothing here is measured.

#![allow(dead_code, reason = "each test program uses a part of this")]

use freeze_trap::event::{Sleep, Thread};
use freeze_trap::freeze::{
    Blocked, Cause, Frame, Freeze, LockTimes, Machine, MemoryPoint, OffCpuStack, Pair, ProbeLine, Seen, Span, SpanKind,
    Stack, Target, Trigger, Window,
};
use freeze_trap::source::Losses;
use lock_trace::Mode;

/// All causes.
pub const CAUSES: [Cause; 9] = [
    Cause::MmapLock,
    Cause::UserLock,
    Cause::Disk,
    Cause::Throttled,
    Cause::Starved,
    Cause::Kernel,
    Cause::Busy,
    Cause::Idle,
    Cause::Unknown,
];

const MS: u64 = 1_000_000;
const START_NS: u64 = 100_000 * MS;
const FROZEN_NS: u64 = 130_000 * MS;
const TRIGGER_NS: u64 = 131_200 * MS;
const RECOVERED_NS: u64 = 132_300 * MS;
const END_NS: u64 = 146_200 * MS;
const PID: i32 = 4100;
const WORKERS: i32 = 8;

/// Frames as `module|function|place`, the leaf first; a plus before the function: it is inlined.
type Frames = [&'static str];

/// What is told of a cause.
struct Story {
    sentence: &'static str,
    sleep: Sleep,
    kernel: &'static Frames,
    user: &'static Frames,
    holder: Option<Holder>,
}

/// Who is to blame, and what for.
struct Holder {
    doing: &'static str,
    called_from: &'static str,
    kernel: &'static Frames,
    user: &'static Frames,
}

impl Story {
    fn new(sentence: &'static str, sleep: Sleep, kernel: &'static Frames, user: &'static Frames) -> Story {
        Story { sentence, sleep, kernel, user, holder: None }
    }

    fn by(
        self,
        doing: &'static str,
        called_from: &'static str,
        kernel: &'static Frames,
        user: &'static Frames,
    ) -> Story {
        Story { holder: Some(Holder { doing, called_from, kernel, user }), ..self }
    }
}

const LOOK_UP: &Frames = &[
    "index-server|+<index::Map<K, V> as index::Lookup>::get|src/index.rs:88",
    "index-server|index::serve::<impl Fn(&Request) -> [u8; 4]>|src/serve.rs:41",
    "index-server|std::sys::thread::Thread::new::thread_start|",
    "libc.so.6|start_thread|",
];
const GROW: &Frames = &[
    "libc.so.6|__munmap|",
    "index-server|+alloc::alloc::dealloc|library/alloc/src/alloc.rs:130",
    "index-server|+hashbrown::raw::RawTable<T, A>::free_buckets|src/raw.rs:600",
    "index-server|index::grow|src/index.rs:130",
    "index-server|index::insert|src/index.rs:101",
    "libc.so.6|start_thread|",
];
const RELOAD: &Frames = &["libc.so.6|clock_nanosleep|", "index-server|app::reload|src/app.rs:12"];

const RWSEM: &Frames = &["|schedule|", "|rwsem_down_read_slowpath|", "|down_read_killable|", "|do_user_addr_fault|"];
const FUTEX: &Frames = &["|schedule|", "|futex_wait_queue|", "|futex_wait|"];

fn story(cause: Cause) -> Story {
    match cause {
        Cause::MmapLock => Story::new(
            "threads 4110 to 4117 waited up to 2.3 s for mmap_lock, held for writing by thread 4107 (rebuild) in \
             munmap of 1.7 GB, called from index::grow",
            Sleep::Uninterruptible,
            RWSEM,
            LOOK_UP,
        )
        .by("munmap of 1.7 GB", "index::grow", &["|unmap_page_range|", "|__vm_munmap|"], GROW),
        Cause::UserLock => Story::new(
            "8 threads waited up to 2.3 s for a lock that thread 4107 (rebuild) held while it slept in nanosleep, \
             called from app::reload",
            Sleep::Interruptible,
            FUTEX,
            LOOK_UP,
        )
        .by("nanosleep", "app::reload", &["|schedule|", "|do_nanosleep|"], RELOAD),
        Cause::Disk => Story::new(
            "8 threads slept up to 2.3 s in D state in fdatasync on a disk, called from app::persist",
            Sleep::Uninterruptible,
            &["|io_schedule|", "|folio_wait_bit|", "|ext4_sync_file|"],
            &["libc.so.6|fdatasync|", "index-server|app::persist|src/app.rs:70"],
        ),
        Cause::Throttled => Story::new(
            "the cgroup was refused 1.9 s of processor time in 2.3 s: 8 threads wanted to run",
            Sleep::Runnable,
            &[],
            LOOK_UP,
        ),
        Cause::Starved => Story::new(
            "8 threads wanted to run for up to 2.3 s: others had the processors",
            Sleep::Runnable,
            &[],
            LOOK_UP,
        ),
        Cause::Kernel => Story::new(
            "8 threads slept up to 2.3 s in the kernel in unlink",
            Sleep::Uninterruptible,
            &["|schedule|", "|rwsem_down_write_slowpath|", "|do_unlinkat|"],
            &["libc.so.6|unlink|", "index-server|app::clean|src/app.rs:99"],
        ),
        Cause::Busy => Story::new(
            "no thread was blocked: thread 4107 (rebuild) was on a processor all the time",
            Sleep::Other,
            &[],
            &[],
        ),
        Cause::Idle => Story::new(
            "no thread had anything to do: the requests did not reach the service",
            Sleep::Interruptible,
            &["|schedule|", "|ep_poll|"],
            &["libc.so.6|epoll_wait|", "index-server|serve::accept|src/serve.rs:9"],
        ),
        Cause::Unknown => {
            Story::new("nothing was seen of what the threads did", Sleep::Other, &[], &["|0x7f00deadbeef|"])
        }
    }
}

fn frames(told: &Frames) -> Vec<Frame> {
    let frame = |told: &&str| {
        let parts: Vec<&str> = told.split('|').collect();
        let inlined = parts[1].starts_with('+');
        let function = parts[1].trim_start_matches('+').to_owned();
        let place = Some(parts[2].to_owned()).filter(|place| !place.is_empty());
        Frame { function, place, module: parts[0].to_owned(), inlined }
    };
    told.iter().map(frame).collect()
}

/// A thread of the watched process.
pub fn thread(tid: i32, name: &str) -> Thread {
    Thread { pid: PID, tid, name: name.to_owned() }
}

fn span(thread: &Thread, what: SpanKind, start_ns: u64, end_ns: u64, doing: &str) -> Span {
    let (thread, doing, outsider) = (thread.clone(), doing.to_owned(), thread.pid != PID);
    Span { thread, outsider, what, start_ns, end_ns, doing, unfinished: end_ns >= END_NS }
}

/// A freeze of that cause.
pub fn freeze(cause: Cause) -> Freeze {
    let story = story(cause);
    let culprit = thread(4107, "rebuild");
    let workers: Vec<Thread> = (0..WORKERS).map(|number| thread(4110 + number, &format!("worker-{number}"))).collect();
    let workers = if cause == Cause::Busy { &[] } else { &workers[..] };
    let stack = Stack { kernel: frames(story.kernel), user: frames(story.user) };
    // Each begins to wait a little later, and all get what they want at nearly the same time.
    let times = |number: usize| (FROZEN_NS + (10 + 7 * number as u64) * MS, RECOVERED_NS - (20 - number as u64) * MS);
    let length_ns = |number| times(number).1 - times(number).0;
    let on_lock = cause == Cause::MmapLock;

    let mut blocked = Vec::new();
    let mut pairs = Vec::new();
    let mut intervals = Vec::new();
    for (number, worker) in workers.iter().enumerate() {
        let (start_ns, end_ns) = times(number);
        let total_ns = end_ns - start_ns;
        intervals.push(span(worker, SpanKind::OffCpu(story.sleep), start_ns, end_ns, ""));
        if on_lock {
            intervals.push(span(worker, SpanKind::Wait(Mode::Read), start_ns, end_ns, "page fault"));
        }
        if !matches!(cause, Cause::Idle | Cause::Unknown) {
            let (thread, stack) = (worker.clone(), stack.clone());
            blocked.push(Blocked { thread, on: cause, total_ns, longest_ns: total_ns, unfinished: false, stack });
        }
        if let Some(holder) = &story.holder {
            pairs.push(Pair {
                holder: culprit.clone(),
                outsider: false,
                waiter: worker.clone(),
                on: cause,
                mode: on_lock.then_some(Mode::Write),
                doing: holder.doing.to_owned(),
                called_from: Some(holder.called_from.to_owned()),
                overlap_ns: total_ns,
                stack: Stack { kernel: frames(holder.kernel), user: frames(holder.user) },
            });
        }
    }
    if on_lock {
        let held = SpanKind::Hold(Mode::Write);
        intervals.push(span(&culprit, held, FROZEN_NS, RECOVERED_NS - 20 * MS, "munmap of 1.7 GB"));
        let monitor = Thread { pid: 900, tid: 900, name: "node_exporter".into() };
        let doing = "read of /proc/4100/smaps";
        intervals.push(span(&monitor, SpanKind::Hold(Mode::Read), RECOVERED_NS, RECOVERED_NS + 74 * MS, doing));
        pairs.push(Pair {
            holder: monitor,
            outsider: true,
            waiter: culprit.clone(),
            on: cause,
            mode: Some(Mode::Read),
            doing: doing.to_owned(),
            called_from: None,
            overlap_ns: 61 * MS,
            stack: Stack { kernel: frames(&["|smaps_rollup|", "|show_smap|"]), user: Vec::new() },
        });
    }
    intervals.sort_by_key(|span| span.start_ns);

    let frozen_ns = (0..workers.len()).map(length_ns).sum();
    let threads = workers.iter().enumerate().map(|(number, worker)| (worker.name.clone(), length_ns(number)));
    let place = OffCpuStack {
        stack,
        sleep: story.sleep,
        on: cause,
        frozen_ns,
        total_ns: frozen_ns + 400 * MS,
        count: 2 * workers.len() as u64,
        threads: threads.collect(),
    };
    let accept = frames(&["libc.so.6|accept4|", "index-server|main|src/main.rs:3"]);
    let idle = OffCpuStack {
        stack: Stack { kernel: frames(&["|schedule|", "|inet_csk_accept|"]), user: accept },
        sleep: Sleep::Interruptible,
        on: Cause::Idle,
        frozen_ns: 2_300 * MS,
        total_ns: 46_000 * MS,
        count: 1,
        threads: vec![("index-server".to_owned(), 46_000 * MS)],
    };
    Freeze {
        sentence: story.sentence.to_owned(),
        cause,
        target: Target { name: "unit index.service".into(), processes: vec![(PID, "index-server".into())] },
        trigger: Trigger {
            probe: "http://127.0.0.1:8080/health".into(),
            found: "no answer within 500 ms: waiting for the answer".into(),
            failures: 2,
        },
        window: Window {
            start_ns: START_NS,
            frozen_ns: FROZEN_NS,
            trigger_ns: TRIGGER_NS,
            recovered_ns: Some(RECOVERED_NS),
            end_ns: END_NS,
            trigger_wall: "2026-11-27T06:57:01.200Z".into(),
        },
        blocked,
        pairs,
        holders: Vec::new(),
        left_out: freeze_trap::freeze::LeftOut::default(),
        lock: Some(lock_times()),
        off_cpu: if workers.is_empty() { vec![idle] } else { vec![place, idle] },
        intervals,
        memory: vec![memory(TRIGGER_NS, 5_200_000_000), memory(END_NS, 3_400_000_000)],
        throttled_ns: (cause == Cause::Throttled).then_some(1_900 * MS),
        probes: probes(),
        seen: Seen {
            source: "BPF on tracepoints".into(),
            losses: Losses::default(),
            dropped: 12,
            unknown_frames: (1, 210),
            own_cpu_ns: 48 * MS,
            missing: vec!["names of the kernel's functions: give CAP_SYSLOG".into()],
        },
        machine: Machine {
            host: "shop-3".into(),
            kernel: "6.18.44".into(),
            cpu: "AMD EPYC 9B45".into(),
            cpus: 2,
            memory_bytes: 16_000_000_000,
            version: "0.1.0".into(),
        },
    }
}

fn lock_times() -> LockTimes {
    let buckets = |told: &[(usize, u64)]| {
        let mut buckets = vec![0; 48];
        told.iter().for_each(|(power, count)| buckets[*power] = *count);
        buckets
    };
    LockTimes {
        read_holds: buckets(&[(9, 40_000), (10, 21_000), (12, 300), (26, 1)]),
        write_holds: buckets(&[(11, 9_000), (12, 1_200), (14, 7), (31, 1)]),
        read_waits: buckets(&[(8, 60_000), (12, 14), (31, 8)]),
        write_waits: buckets(&[(8, 10_000), (25, 1)]),
    }
}

fn memory(at_ns: u64, resident_bytes: u64) -> MemoryPoint {
    MemoryPoint { at_ns, resident_bytes, virtual_bytes: 9_100_000_000, faults: [1_300_412, 17], threads: 12 }
}

/// One that is asked each second and notices, and one that does not.
fn probes() -> Vec<ProbeLine> {
    let seconds = || (START_NS..END_NS).step_by(1_000 * MS as usize);
    let http = seconds().map(|at_ns| match (FROZEN_NS..RECOVERED_NS).contains(&at_ns) {
        true => (at_ns, 500 * MS, Some("no answer within 500 ms: waiting for the answer".to_owned())),
        false => (at_ns, 2 * MS + at_ns % 7 * 400_000, None),
    });
    let tcp = seconds().map(|at_ns| (at_ns, 90_000 + at_ns / MS % 9 * 10_000, None));
    vec![
        ProbeLine { name: "http://127.0.0.1:8080/health".into(), points: http.collect() },
        ProbeLine { name: "tcp:127.0.0.1:8080".into(), points: tcp.collect() },
    ]
}

/// A text that is only harmless where it is shown as it is: markup, an order to a terminal, ends of lines.
pub const NASTY: &str = "<b onclick=\"x\">&amp;'\u{1b}[31m]]>\n;Map<K, [u8; 4]> 7";

/// A freeze whose every text from outside is nasty.
pub fn nasty() -> Freeze {
    let mut freeze = freeze(Cause::MmapLock);
    let own = || NASTY.to_owned();
    (freeze.sentence, freeze.target.name, freeze.trigger.found, freeze.trigger.probe) = (own(), own(), own(), own());
    (freeze.window.trigger_wall, freeze.machine.host, freeze.seen.missing) = (own(), own(), vec![own()]);
    freeze.target.processes[0].1 = own();
    for pair in &mut freeze.pairs {
        (pair.holder.name, pair.waiter.name, pair.doing, pair.called_from) = (own(), own(), own(), Some(own()));
    }
    for span in &mut freeze.intervals {
        (span.thread.name, span.doing) = (own(), own());
    }
    for blocked in &mut freeze.blocked {
        blocked.thread.name = own();
    }
    for probe in &mut freeze.probes {
        probe.name = own();
        probe.points[0].2 = Some(own());
    }
    let pairs = freeze.pairs.iter_mut().map(|pair| &mut pair.stack);
    let blocked = freeze.blocked.iter_mut().map(|blocked| &mut blocked.stack);
    for stack in freeze.off_cpu.iter_mut().map(|place| &mut place.stack).chain(pairs).chain(blocked) {
        for frame in stack.kernel.iter_mut().chain(&mut stack.user) {
            (frame.function, frame.module, frame.place) = (own(), own(), Some(own()));
        }
    }
    for place in &mut freeze.off_cpu {
        place.threads.iter_mut().for_each(|(name, _)| *name = own());
    }
    freeze
}
