//! The incident: a hash map filled to its last free slot, one more insert, which doubles it, and the drop.

use std::time::Duration;

use clap::Args;
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

use crate::candidates::LIMIT;
use crate::idle::Back;
use crate::phase::Phase;
use crate::record::{Unit, time};
use crate::scenario::{CONTROL, IDLE, PREWARM, Scenario, patience};
use crate::stage::Stage;
use crate::summary::Summary;
use crate::table::{Size, SizeError, Table};
use crate::targets::{self, Target, Verdict};

/// The longest that dropping the table may take the thread that drops it.
const DROP_NS_MAX: u64 = 1_000_000;
/// The most that a prewarmed doubling may take, in hundredths of the limit.
const DOUBLING_PERCENT_MAX: u64 = 110;

const FILL: &str = "fill";
const DOUBLING: &str = "doubling";
const AFTER: &str = "after doubling";
const DROP: &str = "drop";

/// What can be chosen.
#[derive(Clone, Copy, Debug, Args)]
#[group(skip)]
pub struct Options {
    /// Entries of the map before it doubles, rounded up to a full table (7/8 of a power of two); by default the most
    /// that leaves half of the available memory free, up to the incident's 58720256
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: Option<u64>,

    /// For how long memory is watched after the map was dropped, in milliseconds [default: 8000]
    #[arg(long)]
    pub settle_ms: Option<u64>,
}

/// The scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Buckets of the map before it doubles: a power of two, at least 65536.
    pub buckets: u64,
    /// Quiet time before the doubling, the control.
    pub control_ms: u64,
    /// Quiet time after the doubling.
    pub quiet_ms: u64,
    /// Time between the drop and the last look at the memory.
    pub settle_ms: u64,
}

impl Options {
    /// The scenario for a machine on which so much memory is available.
    pub fn choose(&self, available_bytes: u64) -> Result<Replay, SizeError> {
        let size = Size::choose(self.keys, available_bytes)?;
        let usual = Replay::new(size);
        Ok(Replay { settle_ms: self.settle_ms.unwrap_or(usual.settle_ms), ..usual })
    }

    /// Whether anything was chosen.
    pub fn is_given(&self) -> bool {
        self.keys.is_some() || self.settle_ms.is_some()
    }
}

impl Replay {
    /// The scenario for a map of this size with the usual pauses.
    pub const fn new(size: Size) -> Self {
        Self { buckets: size.buckets(), control_ms: 3000, quiet_ms: 1000, settle_ms: 8000 }
    }

    /// All of it; `look` is called between two phases, when the doubled table is still there.
    pub fn run_and_look(
        &self,
        stage: &mut Stage<'_>,
        look: impl FnOnce(&mut Stage<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let size = Size::of_buckets(self.buckets)?;
        let hooks = stage.hooks();
        stage.begin()?;
        let live_kib = stage.rss_figure("RSS live")?;
        // All of the rest before the doubling: an allocator may touch more than the table, and not the table first.
        let rest_bytes = size.replay_bytes() - size.table_bytes();
        let faults_in = hooks.faults_in();
        stage.about_to_touch(if faults_in { size.replay_bytes() } else { size.table_bytes() })?;
        hooks.fault_in(size.replay_bytes())?;

        let mut table = stage.time(FILL, |_| Table::filled(size))??;
        stage.prewarm(rest_bytes, size.doubled_bytes())?;
        stage.rss_figure("RSS before")?;
        stage.rest(CONTROL, Duration::from_millis(self.control_ms))?;
        if !faults_in && !hooks.prewarms() {
            stage.about_to_touch(rest_bytes)?;
        }
        stage.time(DOUBLING, |_| table.double())?;
        let check = |_: &mut Stage<'_>| {
            std::thread::sleep(Duration::from_millis(self.quiet_ms));
            table.check_doubled()
        };
        stage.play(AFTER, check)?.0?;
        stage.peak_rss_figure("RSS peak")?;
        look(stage)?;
        stage.time(DROP, |_| drop(table))?;
        let samples = stage.rest(IDLE, Duration::from_millis(self.settle_ms))?;
        let (first, last) = (samples.first(), samples.last());
        stage.figure("RSS dropped", first.map(|sample| sample.rss_kib), Unit::Kib);
        stage.figure("RSS settled", last.map(|sample| sample.rss_kib), Unit::Kib);
        stage.back_figures(Back::of(&samples, live_kib, hooks.giving_back()));
        Ok(())
    }

    /// The size of the map.
    pub fn size(&self) -> Size {
        Size::with_buckets(self.buckets).unwrap_or(Size::SMALLEST)
    }
}

impl Scenario for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn headline(&self) -> String {
        let size = self.size();
        let incident = if size == Size::INCIDENT { ", the incident's size" } else { "" };
        format!(
            "Replay of the doubling of a hash map with {} entries of 24 bytes (7/8 of 2^{} buckets{incident}); {} MiB at \
             the peak.",
            HumanCount(size.entries()),
            size.buckets_log2(),
            size.peak_bytes() >> 20
        )
    }

    fn phases(&self) -> &'static [Phase] {
        const {
            &[
                Phase::busy(FILL),
                Phase::quiet(PREWARM),
                Phase::quiet(CONTROL),
                Phase::busy(DOUBLING),
                Phase::quiet(AFTER),
                Phase::busy(DROP),
                Phase::quiet(IDLE),
            ]
        }
    }

    fn peak_bytes(&self) -> u64 {
        self.size().replay_bytes()
    }

    fn time_limit(&self) -> Duration {
        let rest_ms = self.control_ms.saturating_add(self.quiet_ms).saturating_add(self.settle_ms);
        patience(Duration::from_millis(rest_ms), self.peak_bytes())
    }

    fn limit_bytes(&self) -> Option<u64> {
        Some(self.size().replay_bytes())
    }

    fn run(&self, stage: &mut Stage<'_>) -> Result<(), String> {
        self.run_and_look(stage, |_| Ok(()))
    }

    fn targets(&self, summaries: &[Summary]) -> Vec<Target> {
        vec![
            drop_time(summaries),
            targets::waits_beside_limit(summaries, self.phases()),
            targets::map_wait(summaries, CONTROL, IDLE),
            targets::memory_back(summaries),
            doubling(summaries),
        ]
    }
}

fn drop_time(summaries: &[Summary]) -> Target {
    let goal = format!("Dropping the doubled table takes the dropping thread less than {}", time(DROP_NS_MAX));
    Target::of(goal, summaries, |summary| {
        let drop_ns = summary.figure(DROP)?.highest?;
        Some((format!("up to {}", time(drop_ns)), drop_ns < DROP_NS_MAX))
    })
}

fn doubling(summaries: &[Summary]) -> Target {
    let limit_ns = targets::limit(summaries).and_then(|limit| limit.median(DOUBLING));
    let of_limit = targets::of_limit(limit_ns);
    let factor = DOUBLING_PERCENT_MAX as f64 / 100.0;
    let goal = format!("A prewarmed doubling takes at most {factor} x {of_limit}; the others for comparison");
    Target::of(goal, summaries, |summary| {
        if summary.allocator == LIMIT {
            return None;
        }
        let own_ns = summary.median(DOUBLING)?;
        let is_judged = summary.median(PREWARM).is_some();
        let Some(limit_ns) = limit_ns else {
            return is_judged.then(|| (time(own_ns), Verdict::without_limit()));
        };
        let percent = own_ns.saturating_mul(100) / limit_ns.max(1);
        let verdict = Verdict::from(is_judged.then_some(percent <= DOUBLING_PERCENT_MAX));
        Some((format!("{:.2} x", percent as f64 / 100.0), verdict))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child;
    use crate::hooks::{Hooks, Prewarmed};
    use crate::report::samples;
    use crate::scenario::Plan;

    /// Hooks that all have an answer.
    struct Talkative;

    impl Hooks for Talkative {
        fn name(&self) -> &'static str {
            "some"
        }

        fn prewarms(&self) -> bool {
            true
        }

        fn prewarm(&self, bytes: u64) -> Option<Prewarmed> {
            std::thread::sleep(Duration::from_millis(5));
            let state = "Ready".to_owned();
            Some(Prewarmed { state, time_ns: 5, wanted_bytes: bytes, warm_bytes: bytes, hugepage_bytes: 0 })
        }

        fn write_lock_calls(&self) -> Option<u64> {
            Some(3)
        }
    }

    const SMALL: Replay = Replay { buckets: 1 << 16, control_ms: 5, quiet_ms: 5, settle_ms: 250 };

    #[test]
    fn a_replay_in_this_process_reports_every_phase() {
        let record = child::play(&Plan::Replay(SMALL), &Talkative, false).unwrap();
        assert_eq!((record.allocator.as_str(), record.write_lock_calls), ("some", Some(0)));
        let phases: Vec<_> = record.spans.iter().map(|span| span.phase.as_str()).collect();
        assert_eq!(phases, SMALL.phases().iter().map(|phase| phase.name).collect::<Vec<_>>());
        assert!(record.notes[0].contains("of 3 MiB warm"), "{:?}", record.notes);
        assert!(record.latency("map", PREWARM).is_some());
        for figure in [FILL, DOUBLING, DROP, "RSS live", "RSS peak", "RSS settled"] {
            assert!(record.figure(figure).is_some_and(|value| value > 0), "{figure}: {record:?}");
        }
    }

    #[test]
    fn a_wrong_bucket_count_is_refused() {
        let plan = Plan::Replay(Replay { buckets: 1000, ..SMALL });
        assert!(child::play(&plan, &Talkative, false).unwrap_err().contains("1000 buckets"));
    }

    #[test]
    fn too_many_keys_are_refused_with_what_fits() {
        let error = Options { keys: Some(1 << 40), settle_ms: None }.choose(1 << 30).unwrap_err().to_string();
        assert!(error.contains("--keys") && error.contains("would fit"), "{error}");
    }

    fn lines(ours_ns: u64, limit_ns: u64) -> Vec<String> {
        let mut ours = samples::record("antifreeze-prewarmed", ours_ns);
        ours.figures.push(crate::record::Figure { name: PREWARM.to_owned(), value: Some(1), unit: Unit::Ns });
        let runs = vec![samples::run(1, ours), samples::run(1, samples::record(LIMIT, limit_ns))];
        SMALL.targets(&samples::report(runs).summaries).iter().map(Target::to_string).collect()
    }

    #[test]
    fn each_target_is_met_up_to_its_bound_and_missed_beyond() {
        let met = lines(999_999, 909_090);
        assert!(met[0].contains("antifreeze-prewarmed up to 999 µs (met)"), "{met:#?}");
        assert!(met[4].ends_with("others for comparison: antifreeze-prewarmed 1.10 x (met)."), "{met:#?}");
        let missed = lines(1_000_000, 900_000);
        assert!(missed[0].contains("antifreeze-prewarmed up to 1.0 ms (missed)"), "{missed:#?}");
        assert!(missed[3].contains("antifreeze-prewarmed not within the time watched (missed)"), "{missed:#?}");
        assert!(missed[4].contains("antifreeze-prewarmed 1.11 x (missed)"), "{missed:#?}");
    }
}
