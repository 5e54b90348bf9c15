//! A made-up report of eight allocators for the tests of the page: always the same, and of the size of a real one.
//!
//! Canaries are simulated against stalls that each allocator's profile gives, and recorded with the [`Recorder`] of the
//! real ones; nothing here is measured.

use lock_trace::{Activity, Blame, Interval, IntervalKind, Losses, Mode, Row, Tally, Trace};
use stress::harness::Run;
use stress::hooks::GivingBack;
use stress::latency::Recorder;
use stress::machine::Machine;
use stress::phase::{Phase, PhaseCell};
use stress::record::{CanaryRecord, Figure, PhaseLatency, Record, RssSample, Span, Unit};
use stress::report::{Circumstances, Report};
use stress::scenario::Plan;
use stress::scenario::replay::Replay;
use stress::table::Size;

const MS: u64 = 1_000_000;
const PERIOD_NS: u64 = 2 * MS;
const KINDS: [&str; 5] = ["map", "fault", "block", "thread", "request"];
const PHASES: &[Phase] = &[
    Phase::busy("fill"),
    Phase::quiet("control"),
    Phase::busy("doubling"),
    Phase::quiet("after doubling"),
    Phase::busy("drop"),
    Phase::quiet("idle after"),
];
/// How an allocator behaves.
#[derive(Clone, Copy)]
pub struct Profile {
    name: &'static str,
    doubling_ms: u64,
    drop_ms: u64,
    /// The longest stall that another thread may see while the map doubles, and after it was dropped, in microseconds.
    stall_us: u64,
    after_us: u64,
    /// Resident memory some seconds after the drop, in MiB.
    left_mib: u64,
    /// How long each call that gives memory back holds the lock, in microseconds, and whether it holds it for writing.
    hold_us: u64,
    is_write: bool,
}

const fn profile(
    name: &'static str,
    times_ms: [u64; 2],
    stalls_us: [u64; 2],
    left_mib: u64,
    hold: (u64, bool),
) -> Profile {
    let ([doubling_ms, drop_ms], [stall_us, after_us]) = (times_ms, stalls_us);
    Profile { name, doubling_ms, drop_ms, stall_us, after_us, left_mib, hold_us: hold.0, is_write: hold.1 }
}

/// The allocators of the report.
pub const PROFILES: [Profile; 8] = [
    profile("antifreeze", [859, 1], [4_100, 90], 160, (210, false)),
    profile("antifreeze-prewarmed", [368, 1], [92, 60], 160, (220, false)),
    profile("mimalloc", [1197, 11], [17_000, 1_000], 180, (9_800, true)),
    profile("jemalloc", [1900, 3], [23_000, 6_000], 5_900, (2_300, true)),
    profile("snmalloc", [2000, 880], [12_000, 310_000], 240, (64_000, false)),
    profile("tcmalloc", [1210, 12], [9_000, 3_000], 3_800, (11_000, false)),
    profile("system", [1616, 295], [150_000, 1_700], 140, (184_000, true)),
    profile("limit", [355, 1], [70, 60], 7_000, (0, false)),
];

/// A generator of numbers that look random and are the same each time (splitmix64).
pub struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }

    /// Mostly near `typical`, seldom several times that.
    fn skewed(&mut self, typical: u64) -> u64 {
        let tail = if self.below(500) == 0 { 24 } else { 1 };
        typical / 2 + self.below(typical) + typical * self.below(tail) / 4
    }
}

/// The whole report: two rounds, traced.
pub fn report() -> Report {
    report_of(&PROFILES, true)
}

/// A report of these allocators.
pub fn report_of(profiles: &[Profile], is_traced: bool) -> Report {
    let runs = (1..=2).flat_map(|round| profiles.iter().map(move |profile| run(*profile, round, is_traced)));
    let untraced = (!is_traced).then(|| "perf events need CAP_PERFMON; run as root".to_owned());
    finish(runs.collect(), untraced)
}

/// The report of these runs.
pub fn finish(runs: Vec<Run>, untraced: Option<String>) -> Report {
    let machine = Machine {
        kernel: "6.18.0".to_owned(),
        cpu_model: "AMD EPYC 9B45".to_owned(),
        cpu_count: 2,
        thp_mode: "madvise".to_owned(),
        thp_defrag: "madvise".to_owned(),
        c_library: "glibc 2.36".to_owned(),
        rustc: "rustc 1.95.0".to_owned(),
        memory_kib: 16 << 20,
        available_kib: 14 << 20,
    };
    let circumstances = Circumstances { began_s: 1_795_762_620, machine, rounds: 2, cold: false, untraced };
    Report::new(circumstances, plan(), runs)
}

fn plan() -> Plan {
    Plan::Replay(Replay::new(Size::INCIDENT))
}

/// The times of the phases.
fn spans(profile: Profile, round: u64) -> Vec<Span> {
    let doubling_ms = profile.doubling_ms * (97 + 6 * round) / 100;
    let begins_ms = [0, 2_000, 5_000, 5_000 + doubling_ms, 8_500, 8_500 + profile.drop_ms];
    let ends_ms = [1_900, 5_000, 5_000 + doubling_ms, 8_400, 8_500 + profile.drop_ms, 20_000];
    let span = |(index, phase): (usize, &Phase)| Span {
        phase: phase.name.to_owned(),
        is_busy: phase.is_busy,
        start_ns: begins_ms[index] * MS,
        end_ns: ends_ms[index] * MS,
    };
    PHASES.iter().enumerate().map(span).collect()
}

/// One child.
pub fn run(profile: Profile, round: u32, is_traced: bool) -> Run {
    let mut dice = Dice(u64::from(round) * 1000 + profile.name.len() as u64 * 7 + profile.doubling_ms);
    let spans = spans(profile, u64::from(round));
    let figure = |name: &str, value, unit| Figure { name: name.to_owned(), value, unit };
    let start_ns = 40_000 * MS;
    let doubling_ns = spans[2].end_ns - spans[2].start_ns;
    let locks = is_traced.then(|| trace(profile, &spans, start_ns, &mut dice));
    let record = Record {
        allocator: profile.name.to_owned(),
        version: "3.1.4".to_owned(),
        start_ns,
        figures: vec![
            figure("doubling", Some(doubling_ns), Unit::Ns),
            figure("drop", Some(profile.drop_ms * MS * 9 / 10 + dice.below(MS / 5) - MS / 10 * 8), Unit::Ns),
            figure("resident at the end", Some(profile.left_mib * 1024 + dice.below(4000)), Unit::Kib),
            figure("memory back after", (profile.left_mib < 1000).then(|| 400 * MS + dice.below(4000) * MS), Unit::Ns),
            figure("requests", Some(9_000 - profile.stall_us / 30 + dice.below(200)), Unit::PerSecond),
        ],
        canaries: KINDS.iter().map(|kind| canary(kind, profile, &spans, &mut dice)).collect(),
        idle: Vec::new(),
        giving_back: profile.name.starts_with("antifreeze").then_some(GivingBack {
            decay_ns: Some(5_000 * MS),
            rate: Some(1 << 30),
            hold_budget_ns: 300_000,
        }),
        write_lock_calls: profile.name.starts_with("antifreeze").then_some(4),
        notes: vec!["the map was right after every step".to_owned()],
        spans,
    };
    Run { round, fault_ns: 180_000 + dice.below(90_000), rss: rss(profile, &record.spans), record, locks }
}

fn canary(kind: &str, profile: Profile, spans: &[Span], dice: &mut Dice) -> CanaryRecord {
    let typical_ns = match kind {
        "map" => 9_000,
        "fault" => 2_500,
        "block" => 700,
        "thread" => 38_000,
        _ => 21_000,
    };
    let sensitivity = if kind == "block" { 9 } else { 1 };
    let mut recorder = Recorder::new(PHASES, PERIOD_NS).unwrap();
    let cell = PhaseCell::new();
    let between = cell.get();
    let enter = |index| {
        cell.set(index);
        cell.get()
    };
    let moments: Vec<_> = (0..spans.len()).map(enter).collect();
    let mut now_ns = spans[0].start_ns;
    while now_ns < spans[5].end_ns {
        let stall_us = match spans.iter().position(|span| (span.start_ns..span.end_ns).contains(&now_ns)) {
            Some(2) => profile.stall_us,
            Some(4 | 5) if now_ns < spans[4].start_ns + 4_000 * MS => profile.after_us,
            _ => 0,
        };
        let hit = if dice.below(40) == 0 { stall_us * 1000 / sensitivity } else { 0 };
        let latency_ns = dice.skewed(typical_ns) + dice.below(hit + 1);
        let moment = |at_ns| {
            let index = spans.iter().position(|span| (span.start_ns..span.end_ns).contains(&at_ns));
            index.map_or(between, |index| moments[index])
        };
        let end_ns = now_ns + latency_ns;
        recorder.record(moment(now_ns), moment(end_ns), now_ns..end_ns);
        now_ns += PERIOD_NS + latency_ns;
    }
    recorder.settle(spans);
    let told = |(index, phase): (usize, &Phase)| {
        let latency = recorder.latency(index)?;
        Some(PhaseLatency { phase: phase.name.to_owned(), latency })
    };
    let phases = PHASES.iter().enumerate().filter_map(told).collect();
    CanaryRecord { kind: kind.to_owned(), phases, timeline: recorder.into_timeline() }
}

fn rss(profile: Profile, spans: &[Span]) -> Vec<RssSample> {
    let table_kib = 1_750 * 1024;
    let at = |index: u64| {
        let at_ns = index * 20 * MS;
        let doubled = at_ns.saturating_sub(spans[2].start_ns).min(profile.doubling_ms * MS) as f64;
        let growth = doubled / (profile.doubling_ms * MS) as f64;
        let since_drop_ms = at_ns.saturating_sub(spans[4].end_ns) / MS;
        let kept = if profile.left_mib > 1000 { 1.0 } else { (1.0 - since_drop_ms as f64 / 4_500.0).max(0.0) };
        let live = f64::from(table_kib) * (1.0 + 2.0 * growth);
        let least = (profile.left_mib * 1024) as f64;
        let rss_kib = if profile.name == "limit" { least } else { (live * kept).max(least.min(live)) };
        RssSample { at_ns, rss_kib: rss_kib as u64 }
    };
    (100..1000).map(at).collect()
}

/// Holds of the canaries all the time, and of the main thread or a background thread in and after the busy phases.
fn trace(profile: Profile, spans: &[Span], start_ns: u64, dice: &mut Dice) -> Trace {
    let mut kept = Vec::new();
    for number in 0..2_000 {
        let at_ns = spans[0].start_ns + number * 9 * MS + dice.below(MS);
        let duration_ns = dice.skewed(3_000);
        kept.push(interval(IntervalKind::Hold, Mode::Write, (12, "canary-map"), munmap(4096), at_ns, duration_ns));
    }
    let giver = if profile.name.starts_with("antifreeze") { "antifreeze-gov" } else { "giver-back" };
    let gives_back = if profile.hold_us == 0 { 0 } else { 4_000_000 / profile.hold_us.max(20_000) };
    for number in 0..gives_back {
        let at_ns = spans[4].start_ns + 300_000 + number * 3_500 * MS / gives_back;
        let duration_ns = profile.hold_us * 800 + dice.below(profile.hold_us * 400 + 1);
        let (mode, call) =
            if profile.is_write { (Mode::Write, munmap(1_750 << 20)) } else { (Mode::Read, madvise(64 << 20)) };
        kept.push(interval(IntervalKind::Hold, mode, (11, giver), call, at_ns, duration_ns));
        if profile.is_write {
            let wait_ns = duration_ns * 9 / 10;
            let mut wait = interval(
                IntervalKind::Wait,
                Mode::Read,
                (13, "canary-fault"),
                Activity::Fault,
                at_ns + duration_ns / 20,
                wait_ns,
            );
            wait.blame = vec![Blame { tid: 11, thread: giver.to_owned(), activity: call, mode, overlap_ns: wait_ns }];
            kept.push(wait);
        }
    }
    for interval in &mut kept {
        interval.start_ns += start_ns;
    }
    let row = |tid: i32, thread: &str, mode, activity: &str| {
        let lengths = |kind| {
            let is_of = move |interval: &&Interval| (interval.tid, interval.mode, interval.kind) == (tid, mode, kind);
            tally(kept.iter().filter(is_of).map(|interval| interval.duration_ns))
        };
        Row {
            tid,
            thread: thread.to_owned(),
            outsider: false,
            activity: activity.to_owned(),
            mode,
            holds: lengths(IntervalKind::Hold),
            waits: lengths(IntervalKind::Wait),
        }
    };
    let rows = vec![
        row(11, giver, Mode::Read, "madvise"),
        row(11, giver, Mode::Write, "munmap"),
        row(12, "canary-map", Mode::Write, "munmap"),
        row(13, "canary-fault", Mode::Read, "fault"),
    ];
    Trace {
        pid: 10,
        start_ns,
        end_ns: start_ns + 20_000 * MS,
        gone_ns: None,
        rows,
        kept,
        kept_dropped: 0,
        calls: Vec::new(),
        lost: Losses::default(),
    }
}

fn interval(
    kind: IntervalKind,
    mode: Mode,
    thread: (i32, &str),
    activity: Activity,
    start_ns: u64,
    duration_ns: u64,
) -> Interval {
    Interval {
        kind,
        mode,
        tid: thread.0,
        thread: thread.1.to_owned(),
        start_ns,
        duration_ns,
        activity,
        outsider: false,
        unfinished: false,
        blame: Vec::new(),
    }
}

fn munmap(bytes: u64) -> Activity {
    Activity::Call { number: libc::SYS_munmap, bytes: Some(bytes) }
}

fn madvise(bytes: u64) -> Activity {
    Activity::Call { number: libc::SYS_madvise, bytes: Some(bytes) }
}

fn tally(lengths_ns: impl Iterator<Item = u64>) -> Tally {
    let mut tally = Tally::default();
    lengths_ns.for_each(|length_ns| tally.add(length_ns));
    tally
}
