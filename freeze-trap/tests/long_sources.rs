//! Aim: the memory of sources, of what they know of stacks, and of probes does not grow, however many processes come
//! and go.
//!
//! Method: many processes are watched by each source, one after the other, while probes are asked without a
//! pause, and the allocator of this program counts what is in use. The same with a leak in each round has to be
//! noticed. Sources that are not permitted are skipped with a line.

#[path = "long_run/counting.rs"]
mod counting;
#[path = "trap/port.rs"]
mod port;

use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use counting::in_use_bytes;
use freeze_trap::clock::now_ns;
use freeze_trap::probe::Board;
use freeze_trap::source::choose::{Wanted, choose};
use freeze_trap::source::{Bounds, Source};
use freeze_trap::stack::Stacks;
use freeze_trap::symbols::MapsCache;
use port::port;
use test_support::skip;

/// Rounds until all is as full as it gets, and those that are compared with the ones after them.
const WARM: usize = 40;
const COMPARED: usize = 60;
/// Between a buffer that happens to double once, some 0.8 MiB, and a leak of 64 KiB with each process, which comes to
/// 3.7 MiB.
const GROWTH_MAX: usize = 2 << 20;
const LEAK_BYTES: usize = 64 << 10;

/// A process that sleeps and wakes up; it ends with this.
struct Mayfly(Child);

impl Mayfly {
    fn start() -> Mayfly {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freeze-target"));
        command.args(["nothing", "--every", "0.002"]).stdin(Stdio::null()).stdout(Stdio::null());
        Mayfly(command.spawn().expect("the process starts"))
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Mayfly {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is watched with.
struct Watch {
    source: Box<dyn Source>,
    board: Board,
    maps: MapsCache,
    intervals: usize,
    answers: usize,
}

impl Watch {
    /// A process comes, is watched, and goes.
    fn round(&mut self) {
        let mayfly = Mayfly::start();
        let pids = [mayfly.pid(), std::process::id().cast_signed()];
        self.source.watch(&pids).unwrap();
        self.board.watch(&pids);
        for pause_ms in [5, 10] {
            thread::sleep(Duration::from_millis(pause_ms));
            // It may be in the middle of its start.
            let _ = self.maps.read(pids[0]);
            self.source.learn(&self.maps);
            let mut stacks = Stacks::new();
            let (source, count) = (&mut self.source, &mut self.intervals);
            source.take(&mut stacks, &mut |_| *count += 1).unwrap();
            source.unfinished(&mut stacks, &mut |_| *count += 1).unwrap();
        }
        self.board.take(now_ns(), |_, _| self.answers += 1);
        self.maps.forget_all_but(&[]);
        self.source.learn(&self.maps);
    }

    /// The most that was in use at the end of a round.
    fn peak(&mut self, rounds: Range<usize>, leak: &mut Vec<Vec<u8>>, leak_bytes: usize) -> usize {
        let each = |_| {
            self.round();
            if leak_bytes > 0 {
                leak.push(vec![0; leak_bytes]);
            }
            in_use_bytes()
        };
        rounds.map(each).max().unwrap_or(0)
    }
}

/// By how much the second half of the rounds needs more than the first; `None` if the source is not permitted.
fn growth(wanted: Wanted, leak_bytes: usize) -> Option<usize> {
    let bounds = Bounds { off_cpu: Duration::ZERO, lock: Duration::ZERO };
    let source = match choose(wanted, &bounds, 1024) {
        Ok(chosen) => chosen.source,
        Err(why) => {
            skip(format_args!("{why:#}"));
            return None;
        }
    };
    let refused = format!("tcp:127.0.0.1:{}", port());
    let specs = [&refused, "stalled-threads", "command:true", "psi:cpu", "lock-wait"].map(|spec| spec.parse().unwrap());
    let board = Board::start(specs.into(), Duration::from_millis(2)).unwrap();
    let mut watch = Watch { source, board, maps: MapsCache::new(), intervals: 0, answers: 0 };
    let mut leak = Vec::with_capacity(WARM + 2 * COMPARED);
    let ends = [0, WARM, WARM + COMPARED, WARM + 2 * COMPARED];
    let peaks = [0, 1, 2].map(|part| watch.peak(ends[part]..ends[part + 1], &mut leak, leak_bytes));
    println!(
        "{wanted:?}, {leak_bytes} bytes leaked in a round: {} intervals, {} answers, at most {peaks:?} bytes in use",
        watch.intervals, watch.answers
    );
    assert!(watch.intervals > WARM && watch.answers > WARM, "next to nothing was seen");
    Some(peaks[2].saturating_sub(peaks[1]))
}

// One test, as all count what is in use.
#[test]
fn memory_does_not_grow_and_a_leak_would_be_noticed() {
    for wanted in [Wanted::Bpf, Wanted::Perf, Wanted::Sampling] {
        if let Some(bytes) = growth(wanted, 0) {
            assert!(bytes < GROWTH_MAX, "{wanted:?}: {bytes} bytes more");
        }
    }
    let with_leak_bytes = growth(Wanted::Sampling, LEAK_BYTES).expect("samples are permitted");
    assert!(with_leak_bytes >= GROWTH_MAX, "a leak is not seen: only {with_leak_bytes} bytes more");
}
