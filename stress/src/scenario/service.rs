//! The incident as its users felt it: a service keeps a map behind a lock, the map doubles in one put, and clients in
//! another process go on asking meanwhile.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

use crate::candidates::LIMIT;
use crate::latency::Timeline;
use crate::phase::Phase;
use crate::record::{CanaryRecord, Figure, PhaseLatency, Record, Unit, time};
use crate::scenario::{CONTROL, PREWARM, Scenario};
use crate::service::index::{self, Index, IndexKind, Put};
use crate::service::load::LoadPlan;
use crate::service::load_report::{LoadPhase, LoadReport};
use crate::service::protocol::Value;
use crate::service::serving::Serving;
use crate::service::visit::{Visit, Waiting};
use crate::stage::Stage;
use crate::summary::Summary;
use crate::table::{Size, SizeError};
use crate::targets::{self, Target, Verdict};

const FILL: &str = "fill";
const DOUBLING: &str = "doubling";
const AFTER: &str = "after doubling";

/// What the requests are called beside the canaries.
const REQUEST: &str = "request";
/// How late the clients themselves sent, at the 99.9th percentile.
const LATE: &str = "sent late p99.9";
/// The most that the longest request during a prewarmed doubling may take, in hundredths of the limit's.
const WORST_PERCENT_MAX: u64 = 110;
/// How much longer than before requests may take afterwards, at the 99.9th percentile.
const AFTER_EXCESS_NS_MAX: u64 = 1_000_000;
/// More than a request allocates, for an allocator that never takes memory back.
const REQUEST_BYTES: u64 = 4096;

/// What can be chosen.
#[derive(Clone, Copy, Debug, Args)]
#[group(skip)]
pub struct Options {
    /// Entries of the map before it doubles, rounded up to a full table (7/8 of a power of two); by default the most
    /// that leaves half of the available memory free, up to the incident's 58720256
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: Option<u64>,

    /// The map: one that moves all entries when it doubles, or one that moves a few with each later put
    #[arg(long, value_enum, default_value_t = IndexKind::Whole)]
    pub map: IndexKind,

    /// Requests of a second
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate_per_s: u64,

    /// Threads that serve
    #[arg(long, default_value_t = 2, value_parser = RangedU64ValueParser::<u32>::new().range(1..=1024))]
    pub workers: u32,

    /// Connections of the clients
    #[arg(long, default_value_t = 8, value_parser = RangedU64ValueParser::<u32>::new().range(1..=1000))]
    pub connections: u32,
}

/// The scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Buckets of the map before it doubles: a power of two, at least 65536.
    pub buckets: u64,
    /// Which map.
    pub map: IndexKind,
    /// Threads that serve.
    pub workers: u32,
    /// Connections of the clients.
    pub connections: u32,
    /// Requests of a second.
    pub rate_per_s: u64,
    /// Traffic that is not measured.
    pub warm_up_ms: u64,
    /// Traffic before the doubling, the control. Memory for the doubling is free from shortly before on, and must not
    /// be for long: a guest reports free pages to its host two seconds after it has noticed them, and then they have to
    /// be backed anew, which would be charged to whoever has not touched them before.
    pub before_ms: u64,
    /// Traffic after it.
    pub after_ms: u64,
}

impl Options {
    /// The scenario for a machine on which so much memory is available.
    pub fn choose(&self, available_bytes: u64) -> Result<Service, SizeError> {
        let usual = Service::new(Size::choose(self.keys, available_bytes)?, self.map);
        let Self { rate_per_s, workers, connections, .. } = *self;
        Ok(Service { rate_per_s, workers, connections, ..usual })
    }
}

impl Service {
    /// The scenario for a map of this size with the usual traffic.
    pub const fn new(size: Size, map: IndexKind) -> Self {
        Self {
            buckets: size.buckets(),
            map,
            workers: 2,
            connections: 8,
            rate_per_s: 5000,
            warm_up_ms: 1000,
            before_ms: 1000,
            after_ms: 3000,
        }
    }

    fn size(&self) -> Size {
        Size::with_buckets(self.buckets).unwrap_or(Size::SMALLEST)
    }

    /// What the clients of a server at `address` do.
    fn clients_of(&self, address: SocketAddr) -> LoadPlan {
        let keys = self.size().entries();
        LoadPlan {
            address,
            connections: self.connections,
            rate_per_s: self.rate_per_s,
            warm_up_ms: self.warm_up_ms,
            before_ms: self.before_ms,
            after_ms: self.after_ms,
            put_key: keys,
            keys,
            seed: 1,
            patience_ms: 120_000,
        }
    }
}

/// The time line as it looks from an earlier start.
fn later(timeline: &Timeline, by_ns: u64) -> Timeline {
    let before = usize::try_from(by_ns / timeline.point_ns).unwrap_or(0);
    let worst_ns = std::iter::repeat_n(0, before).chain(timeline.worst_ns.iter().copied()).collect();
    Timeline { point_ns: timeline.point_ns, worst_ns }
}

/// What the main thread waits for.
enum News {
    /// The put that does not fit begins.
    Growing,
    /// It is done.
    Grown,
    /// The clients are done; with their report if they ran in this process.
    Over(Result<Option<Box<LoadReport>>, String>),
}

/// An index that is filled after the server's threads have started, and tells when it grows.
struct Announcing {
    index: OnceLock<Arc<dyn Index>>,
    news: Sender<News>,
    /// The first key that is new.
    keys: u64,
}

impl Announcing {
    /// # Panics
    ///
    /// If a request comes before the index is filled: no client knows the address before.
    fn inner(&self) -> &dyn Index {
        &**self.index.get().expect("the address is told when the index is filled")
    }
}

impl Index for Announcing {
    fn get(&self, key: u64) -> Option<Value> {
        self.inner().get(key)
    }

    fn put(&self, key: u64, value: Value) -> Put {
        if key < self.keys {
            return self.inner().put(key, value);
        }
        // The main thread may have given up meanwhile; then nobody wants to know.
        let _ = self.news.send(News::Growing);
        let put = self.inner().put(key, value);
        let _ = self.news.send(News::Grown);
        put
    }

    fn len(&self) -> u64 {
        self.inner().len()
    }

    fn room(&self) -> u64 {
        self.inner().room()
    }
}

impl Scenario for Service {
    fn name(&self) -> &'static str {
        "service"
    }

    fn headline(&self) -> String {
        format!(
            "A service on {} threads with an index of {} entries ({} map) that doubles while clients send {} requests \
             a second; {} MiB at the peak.",
            self.workers,
            HumanCount(self.size().entries()),
            self.map,
            HumanCount(self.rate_per_s),
            self.peak_bytes() >> 20
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
            ]
        }
    }

    fn peak_bytes(&self) -> u64 {
        self.size().replay_bytes()
    }

    fn limit_bytes(&self) -> Option<u64> {
        let traffic_ms = self.warm_up_ms + self.before_ms + self.after_ms + 10_000;
        Some(self.size().replay_bytes() + self.rate_per_s.saturating_mul(traffic_ms) / 1000 * REQUEST_BYTES)
    }

    fn load_plan(&self, address: SocketAddr) -> Option<LoadPlan> {
        Some(self.clients_of(address))
    }

    fn add_load(&self, record: &mut Record, load: &LoadReport) -> Result<(), String> {
        let errors = load.errors;
        if errors.wrong + errors.refused + errors.unanswered > 0 {
            return Err(format!(
                "of {} requests {} got a wrong reply, {} were refused and {} got none",
                load.sent, errors.wrong, errors.refused, errors.unanswered
            ));
        }
        let phases = load.phases.iter().filter_map(|entry| {
            let phase = match entry.name {
                LoadPhase::Before => CONTROL,
                LoadPhase::Doubling => DOUBLING,
                LoadPhase::After => AFTER,
            };
            Some(PhaseLatency { phase: phase.to_owned(), latency: entry.latency.clone()? })
        });
        let timeline = later(&load.timeline, load.start_ns.saturating_sub(record.start_ns));
        record.canaries.insert(0, CanaryRecord { kind: REQUEST.to_owned(), phases: phases.collect(), timeline });
        let figure = |name: &str, value, unit| Figure { name: name.to_owned(), value, unit };
        let late_ns = load.late.as_ref().map(|late| late.p999_ns);
        record.figures.push(figure("requests", Some(load.answered), Unit::Count));
        record.figures.push(figure("put as felt", load.trigger_latency_ns, Unit::Ns));
        record.figures.push(figure(LATE, late_ns, Unit::Ns));
        Ok(())
    }

    fn run(&self, stage: &mut Stage<'_>) -> Result<(), String> {
        let size = Size::of_buckets(self.buckets)?;
        let hooks = stage.hooks();
        let (sender, news) = mpsc::channel();
        let announcing = Arc::new(Announcing { index: OnceLock::new(), news: sender.clone(), keys: size.entries() });
        let serving = Serving::start(Arc::clone(&announcing) as Arc<dyn Index>, self.workers)?;
        let rest_bytes = size.replay_bytes() - size.table_bytes();
        let faults_in = hooks.faults_in();
        let visit = Visit {
            plan: self.clients_of(serving.address),
            touches_bytes: (!faults_in && !hooks.prewarms()).then_some(rest_bytes),
            is_watched: stage.is_watched(),
        };
        let clients = Waiting::start(visit, move |load| {
            // The main thread may have given up meanwhile; then nobody wants the news.
            let _ = sender.send(News::Over(load));
        })?;

        stage.begin()?;
        stage.about_to_touch(if faults_in { size.replay_bytes() } else { size.table_bytes() })?;
        hooks.fault_in(self.limit_bytes().unwrap_or_default())?;
        let index = stage.time(FILL, |_| index::filled(self.map, size))??;
        let _ = announcing.index.set(Arc::clone(&index));
        stage.prewarm(rest_bytes, size.doubled_bytes())?;
        stage.rss_figure("RSS before")?;

        clients.go();
        let load = play_phases(stage, &news)?;
        // Threads that end give their stacks back.
        stage.over()?;
        let server = clients.end().and(serving.stop())?;
        stage.peak_rss_figure("RSS peak")?;
        stage.figure("put", Some(server.worst_put_ns), Unit::Ns);
        if server.errors > 0 {
            return Err(format!("{} connections broke", server.errors));
        }
        load.into_iter().for_each(|load| stage.note(format!("{} requests came from this process.", load.answered)));
        index::check(&*index, size.entries() + 1)
    }

    fn targets(&self, summaries: &[Summary]) -> Vec<Target> {
        vec![worst_request(summaries), requests_after(summaries)]
    }
}

/// Goes through the phases of the traffic as the news come.
fn play_phases(stage: &mut Stage<'_>, news: &Receiver<News>) -> Result<Option<Box<LoadReport>>, String> {
    let next = || news.recv().map_err(|_| "the service is gone".to_owned());
    let early = |news: News| match news {
        News::Over(Err(error)) => error,
        _ => "the clients ended without the put that makes the index grow".to_owned(),
    };
    match stage.play(CONTROL, |_| next())?.0? {
        News::Growing => {}
        other => return Err(early(other)),
    }
    match stage.time(DOUBLING, |_| next())?? {
        News::Grown => {}
        other => return Err(early(other)),
    }
    match stage.play(AFTER, |_| next())?.0? {
        News::Over(result) => result,
        News::Growing | News::Grown => Err("the index grew twice".to_owned()),
    }
}

/// Why requests cannot be judged: the clients themselves were late, for want of a processor.
fn late_clients(summary: &Summary) -> Option<Verdict> {
    let late_ns = summary.figure(LATE).and_then(|figure| figure.highest)?;
    let why = || format!("the clients themselves were late by {} at p99.9", time(late_ns));
    (late_ns > AFTER_EXCESS_NS_MAX).then(|| Verdict::Unjudged(why()))
}

fn worst_request(summaries: &[Summary]) -> Target {
    let worst_ns = |summary: &Summary| Some(summary.wait(REQUEST, DOUBLING)?.worst_ns);
    let limit_ns = targets::limit(summaries).and_then(worst_ns);
    let of_limit = targets::of_limit(limit_ns);
    let factor = WORST_PERCENT_MAX as f64 / 100.0;
    let goal = format!(
        "The longest request around a prewarmed doubling takes at most {factor} x {of_limit}; the others for comparison"
    );
    Target::of(goal, summaries, |summary| {
        let own_ns = worst_ns(summary).filter(|_| summary.allocator != LIMIT)?;
        let verdict = match limit_ns {
            _ if summary.median(PREWARM).is_none() => Verdict::Shown,
            None => Verdict::without_limit(),
            Some(limit_ns) => late_clients(summary).unwrap_or_else(|| {
                Verdict::from(own_ns.saturating_mul(100) <= limit_ns.saturating_mul(WORST_PERCENT_MAX))
            }),
        };
        Some((time(own_ns), verdict))
    })
}

fn requests_after(summaries: &[Summary]) -> Target {
    let goal = format!(
        "In the phase \"{AFTER}\" a request takes at p99.9 at most {} more than in \"{CONTROL}\"",
        time(AFTER_EXCESS_NS_MAX)
    );
    Target::of(goal, summaries, |summary| {
        let p999_ns = |phase| Some(summary.wait(REQUEST, phase)?.p999_ns);
        let excess_ns = p999_ns(AFTER)?.saturating_sub(p999_ns(CONTROL)?);
        let verdict = late_clients(summary).unwrap_or_else(|| Verdict::from(excess_ns <= AFTER_EXCESS_NS_MAX));
        Some((format!("{} more", time(excess_ns)), verdict))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child;
    use crate::hooks::Peer;
    use crate::report::samples;
    use crate::scenario::Plan;
    use crate::service::load_report::Errors;
    use crate::service::visit::LETTING_GO_MS;

    const PEER: Peer = Peer { name: "some", crate_name: "stress" };

    fn small(map: IndexKind) -> Service {
        let usual = Service::new(Size::SMALLEST, map);
        Service { rate_per_s: 2000, warm_up_ms: 20, before_ms: 100, after_ms: 100, ..usual }
    }

    #[test]
    fn a_service_in_this_process_goes_through_its_phases() {
        for map in [IndexKind::Whole, IndexKind::Incremental] {
            let record = child::play(&Plan::Service(small(map)), &PEER, false).unwrap();
            let phases: Vec<_> = record.spans.iter().map(|span| span.phase.as_str()).collect();
            assert_eq!(phases, [FILL, CONTROL, DOUBLING, AFTER], "{map}");
            for figure in [FILL, DOUBLING, "put", "RSS before", "RSS peak"] {
                assert!(record.figure(figure).is_some_and(|value| value > 0), "{figure}: {record:?}");
            }
            assert!(record.notes[0].ends_with("requests came from this process."), "{:?}", record.notes);
        }
    }

    fn load() -> LoadReport {
        LoadReport {
            start_ns: 20_000_000,
            phases: Vec::new(),
            timeline: Timeline { point_ns: 5_000_000, worst_ns: vec![7] },
            sent: 10,
            answered: 10,
            errors: Errors::default(),
            trigger_latency_ns: Some(9),
            late: None,
        }
    }

    #[test]
    fn what_clients_found_is_added_on_the_clock_of_the_record() {
        let mut record = Record { start_ns: 10_000_000, ..samples::record("some", 5) };
        small(IndexKind::Whole).add_load(&mut record, &load()).unwrap();
        assert_eq!((record.figure("requests"), record.figure("put as felt")), (Some(10), Some(9)));
        assert_eq!(
            (record.canaries[0].kind.as_str(), &record.canaries[0].timeline.worst_ns[..]),
            ("request", &[0, 0, 7][..])
        );
    }

    #[test]
    fn a_request_that_failed_fails_the_run() {
        for errors in [
            Errors { wrong: 1, ..Errors::default() },
            Errors { refused: 1, ..Errors::default() },
            Errors { unanswered: 1, ..Errors::default() },
        ] {
            let mut record = samples::record("some", 5);
            let error = small(IndexKind::Whole).add_load(&mut record, &LoadReport { errors, ..load() }).unwrap_err();
            assert!(error.starts_with("of 10 requests "), "{error}");
        }
    }

    #[test]
    fn memory_for_the_doubling_is_not_free_for_as_long_as_a_guest_takes_to_report_it() {
        let usual = Service::new(Size::SMALLEST, IndexKind::Whole);
        assert!(LETTING_GO_MS + usual.before_ms < 2000, "{usual:?}");
        assert!(LETTING_GO_MS < usual.warm_up_ms, "what is measured is not disturbed");
    }

    #[test]
    fn a_wrong_bucket_count_is_refused() {
        let plan = Plan::Service(Service { buckets: 1000, ..small(IndexKind::Whole) });
        assert!(child::play(&plan, &PEER, false).unwrap_err().contains("1000 buckets"));
    }
}
