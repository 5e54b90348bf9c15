//! What a report shows in tables and on the time line: blocked threads, time off the processor by place, the longest
//! intervals, mmap_lock's histograms. Bounded, the longest first.

use std::collections::{HashMap, HashSet};

use super::case::Case;
use super::class::Class;
use super::doing;
use super::pieces::{Piece, What};
use super::places::PlaceId;
use crate::event::{Interval, Kind, Sleep, Thread, ThreadKey};
use crate::freeze::{Blocked, Cause, LockTimes, OffCpuStack, Span, SpanKind, Stack};
use crate::source::Totals;

/// Rows of threads.
const BLOCKED_MAX: usize = 500;
/// Threads that were blocked for less than this part of the frozen time are left out, in hundredths.
const BLOCKED_MIN_PERCENT: u64 = 1;
/// Rows of places.
const PLACES_MAX: usize = 200;
/// Names of threads at one place.
const NAMES_MAX: usize = 20;
/// Intervals on the time line.
const SPANS_MAX: usize = 500;

/// The threads that were blocked, one row for each thing that one was blocked on; and how many rows are left out.
pub(super) fn blocked(case: &Case) -> (Vec<Blocked>, u64) {
    struct Row<'a> {
        total_ns: u64,
        longest: (u64, &'a Piece),
        unfinished: bool,
    }
    let mut rows: HashMap<(usize, Cause), Row> = HashMap::new();
    for (piece, ns) in case.frozen_pieces().filter(|(piece, _)| is_blocked(piece.cause)) {
        let row = rows.entry((piece.thread, piece.cause));
        let row = row.or_insert(Row { total_ns: 0, longest: (0, piece), unfinished: false });
        row.total_ns += ns;
        row.unfinished |= piece.unfinished;
        if ns > row.longest.0 {
            row.longest = (ns, piece);
        }
    }
    let least_ns = case.frozen_ns() / 100 * BLOCKED_MIN_PERCENT;
    let mut rows: Vec<_> = rows.into_iter().filter(|(_, row)| row.total_ns >= least_ns).collect();
    rows.sort_by_key(|((thread, cause), row)| (std::cmp::Reverse(row.total_ns), *thread, *cause as usize));
    let left_out = rows.len().saturating_sub(BLOCKED_MAX) as u64;
    rows.truncate(BLOCKED_MAX);
    let told = |((thread, on), row): ((usize, Cause), Row)| Blocked {
        thread: case.threads[thread].clone(),
        on,
        total_ns: row.total_ns,
        longest_ns: row.longest.0,
        unfinished: row.unfinished,
        stack: stack_of(case, row.longest.1),
    };
    (rows.into_iter().map(told).collect(), left_out)
}

/// Whether a thread that is off the processor for this could not go on.
pub(super) fn is_blocked(cause: Cause) -> bool {
    !matches!(cause, Cause::Idle | Cause::Busy | Cause::Unknown)
}

/// Where a thread was. A source may have no stack for a wait; that of the sleep in it is the same.
fn stack_of(case: &Case, piece: &Piece) -> Stack {
    let own = case.places.stack(piece.place);
    if piece.what != What::Lock || !own.kernel.is_empty() || !own.user.is_empty() {
        return own;
    }
    let key = |interval: &Interval| interval.thread.key();
    let wait = case.interval(piece);
    let is_off = |one: &&Interval| matches!(one.kind, Kind::OffCpu { .. }) && key(one) == key(wait);
    let off = case.observed.intervals.iter().filter(is_off);
    let longest = off.max_by_key(|off| off.overlap_ns(piece.start_ns, piece.end_ns));
    let inside = longest.filter(|off| off.overlap_ns(piece.start_ns, piece.end_ns) > 0);
    inside.map_or(own, |off| case.observed.stacks.stack(off.stack))
}

/// Time off the processor by place: those where threads were blocked come first.
pub(super) fn off_cpu(case: &Case) -> Vec<OffCpuStack> {
    #[derive(Default)]
    struct Row {
        frozen_ns: u64,
        total_ns: u64,
        count: u64,
        threads: HashMap<usize, u64>,
        causes: HashMap<Cause, u64>,
    }
    let mut rows: HashMap<(PlaceId, Sleep), Row> = HashMap::new();
    for piece in case.pieces.iter().filter(|piece| piece.class != Class::Ended) {
        let told = match case.interval(piece).kind {
            Kind::OffCpu { sleep, .. } => sleep,
            // Whoever waits for mmap_lock sleeps like that, but for the first microseconds.
            Kind::Wait { .. } => Sleep::Uninterruptible,
            Kind::Hold { .. } => continue,
        };
        let sleep = if let What::Off(sleep) = piece.what { sleep } else { told };
        let row = rows.entry((piece.place, sleep)).or_default();
        let ns = piece.end_ns - piece.start_ns;
        row.frozen_ns = row.frozen_ns.saturating_add(piece.overlap_ns(case.frozen));
        row.total_ns = row.total_ns.saturating_add(ns);
        row.count += 1;
        *row.threads.entry(piece.thread).or_default() += ns;
        let of_cause = row.causes.entry(piece.cause).or_default();
        *of_cause = of_cause.saturating_add(ns);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    let is_idle =
        |row: &Row| row.causes.iter().max_by_key(|(_, ns)| **ns).is_some_and(|(cause, _)| !is_blocked(*cause));
    rows.sort_by_cached_key(|((place, sleep), row)| {
        (is_idle(row), std::cmp::Reverse((row.frozen_ns, row.total_ns)), *place, *sleep)
    });
    rows.truncate(PLACES_MAX);
    let told = |((place, sleep), row): ((PlaceId, Sleep), Row)| {
        let mut names: HashMap<&str, u64> = HashMap::new();
        for (thread, ns) in row.threads {
            let of_name = names.entry(case.threads[thread].name.as_str()).or_default();
            *of_name = of_name.saturating_add(ns);
        }
        let mut threads: Vec<(String, u64)> = names.into_iter().map(|(name, ns)| (name.to_owned(), ns)).collect();
        threads.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        threads.truncate(NAMES_MAX);
        let on = row.causes.into_iter().max_by_key(|(cause, ns)| (*ns, *cause as usize));
        OffCpuStack {
            stack: case.places.stack(place),
            sleep,
            on: on.map_or(Cause::Unknown, |(cause, _)| cause),
            frozen_ns: row.frozen_ns,
            total_ns: row.total_ns,
            count: row.count,
            threads,
        }
    };
    rows.into_iter().map(told).collect()
}

/// The longest intervals of the window; those of threads that were blocked or in the way come first.
pub(super) fn spans<'a>(case: &Case, blocked: &[Blocked], holders: impl Iterator<Item = &'a Thread>) -> Vec<Span> {
    let window = case.observed.window;
    let involved = blocked.iter().map(|row| row.thread.key()).chain(holders.map(Thread::key));
    let involved: HashSet<ThreadKey> = involved.collect();
    let key = |interval: &Interval| {
        let is_involved = involved.contains(&interval.thread.key());
        (is_involved, interval.overlap_ns(window.start_ns, window.end_ns))
    };
    let has_ended = |interval: &Interval| {
        let is_other = matches!(interval.kind, Kind::OffCpu { sleep: Sleep::Other, .. });
        is_other && doing::has(case.observed.stacks.kernel(interval.stack), "do_task_dead")
    };
    let all = case.observed.intervals.iter();
    let mut chosen: Vec<&Interval> = all.filter(|interval| key(interval).1 > 0 && !has_ended(interval)).collect();
    chosen.sort_by_cached_key(|interval| (std::cmp::Reverse(key(interval)), interval.start_ns, interval.thread.tid));
    chosen.truncate(SPANS_MAX);
    chosen.sort_by_key(|interval| (interval.start_ns, interval.thread.tid));
    let told = |interval: &Interval| Span {
        thread: interval.thread.clone(),
        outsider: interval.is_outsider(),
        what: match interval.kind {
            Kind::OffCpu { sleep, .. } => SpanKind::OffCpu(sleep),
            Kind::Hold { mode } => SpanKind::Hold(mode),
            Kind::Wait { mode } => SpanKind::Wait(mode),
        },
        start_ns: interval.start_ns.max(window.start_ns),
        end_ns: interval.end_ns.min(window.end_ns),
        doing: match interval.kind {
            Kind::OffCpu { sleep: Sleep::Runnable, .. } => "wait for a processor".to_owned(),
            _ => doing::doing(interval, case.observed.stacks.kernel(interval.stack)),
        },
        unfinished: interval.unfinished,
    };
    chosen.into_iter().map(told).collect()
}

/// What was counted between two readings.
pub(super) fn lock_times(start: &Totals, end: &Totals) -> LockTimes {
    let more = |end: &[u64], start: &[u64]| -> Vec<u64> {
        let start = start.iter().copied().chain(std::iter::repeat(0));
        end.iter().zip(start).map(|(end, start)| end.saturating_sub(start)).collect()
    };
    LockTimes {
        read_holds: more(&end.holds[0], &start.holds[0]),
        write_holds: more(&end.holds[1], &start.holds[1]),
        read_waits: more(&end.waits[0], &start.waits[0]),
        write_waits: more(&end.waits[1], &start.waits[1]),
    }
}

#[cfg(test)]
mod tests {
    use lock_trace::Mode;

    use super::super::samples::{MS, Sample};
    use super::*;
    use crate::stack::StackPair;

    #[test]
    fn a_wait_without_a_stack_is_shown_with_that_of_the_sleep_in_it() {
        let mut sample = Sample::new();
        let slow = sample.stack("rwsem_down_write_slowpath", "app::grow@app");
        sample.sleep(2, Sleep::Uninterruptible, (10_100, 11_000), slow);
        sample.wait(2, Mode::Write, (10_000, 11_000), StackPair::default());
        let observed = sample.observed();
        let (rows, _) = blocked(&Case::new(&observed));
        assert_eq!((rows.len(), rows[0].total_ns, rows[0].on), (1, 1000 * MS, Cause::MmapLock));
        assert_eq!(rows[0].stack, sample.stacks.stack(slow));
    }

    #[test]
    fn times_at_one_place_add_up() {
        let mut sample = Sample::new();
        let read = ["ep_poll", "ep_poll"].map(|kernel| sample.stack(kernel, "app::serve@app"));
        sample.sleep(2, Sleep::Interruptible, (1_000, 2_000), read[0]);
        sample.sleep(3, Sleep::Interruptible, (9_000, 11_000), read[1]);
        let observed = sample.observed();
        let rows = off_cpu(&Case::new(&observed));
        let row = &rows[0];
        assert_eq!((rows.len(), row.count, row.total_ns, row.frozen_ns), (1, 2, 3000 * MS, 1000 * MS));
        assert_eq!((row.on, &row.threads[..]), (Cause::Idle, &[("worker".to_owned(), 3000 * MS)][..]));
    }

    #[test]
    fn waits_for_mmap_lock_are_time_off_the_processor() {
        let mut sample = Sample::new();
        let slow = sample.stack("rwsem_down_write_slowpath", "app::grow@app");
        sample.sleep(2, Sleep::Uninterruptible, (10_100, 10_900), slow);
        sample.wait(2, Mode::Write, (10_000, 11_000), slow);
        let observed = sample.observed();
        let rows = off_cpu(&Case::new(&observed));
        assert_eq!((rows.len(), rows[0].frozen_ns, rows[0].on), (1, 1000 * MS, Cause::MmapLock));
    }

    #[test]
    fn places_where_threads_were_blocked_come_first() {
        let mut sample = Sample::new();
        let [poll, sync] =
            ["ep_poll", "io_schedule; ext4_sync_file"].map(|kernel| sample.stack(kernel, "app::run@app"));
        sample.sleep(2, Sleep::Interruptible, (1_000, 13_000), poll);
        sample.sleep(3, Sleep::Uninterruptible, (10_000, 11_000), sync);
        let observed = sample.observed();
        let causes: Vec<Cause> = off_cpu(&Case::new(&observed)).iter().map(|row| row.on).collect();
        assert_eq!(causes, [Cause::Disk, Cause::Idle]);
    }

    #[test]
    fn the_time_line_prefers_threads_that_matter() {
        let mut sample = Sample::new();
        for _ in 0..2 * SPANS_MAX as u64 {
            sample.sleep(5, Sleep::Interruptible, (0, 20_000), StackPair::default());
        }
        sample.sleep(3, Sleep::Uninterruptible, (10_000, 10_400), StackPair::default());
        let observed = sample.observed();
        let case = Case::new(&observed);
        let spans = spans(&case, &blocked(&case).0, std::iter::empty());
        assert_eq!(spans.len(), SPANS_MAX);
        assert_eq!(spans.iter().filter(|span| span.thread.tid == 3).count(), 1);
        assert!(spans.is_sorted_by_key(|span| span.start_ns));
    }

    #[test]
    fn histograms_are_what_was_added() {
        let of = |counts: &[u64]| Totals { holds: [counts.to_vec(), vec![]], ..Totals::default() };
        let times = lock_times(&of(&[1, 5]), &of(&[4, 5, 2]));
        assert_eq!((times.read_holds, times.write_holds), (vec![3, 0, 2], vec![]));
    }
}
