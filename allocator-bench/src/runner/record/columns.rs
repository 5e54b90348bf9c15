//! The columns of a record, and one line of it: a run, or a child's failure.

use std::str::FromStr;
use std::time::Duration;

use allocator_bench::contender::Contender;
use allocator_bench::counts::Counts;
use allocator_bench::figures::Figures;
use allocator_bench::latency::{Call, Latencies, Latency};
use allocator_bench::sample::Sample;
use anyhow::{Context, Result, bail, ensure};

use crate::runner::cell::{Run, Timed};
use crate::runner::distance::Distance;
use crate::runner::launch::Failure;
use crate::runner::schedule::Round;

/// What tells one run from another; the figures follow, and at the end the failure.
const KEYS: [&str; 5] = ["workload", "threads", "scale", "allocator", "round"];
const FAILURE: &str = "failure";

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) workload: String,
    pub(super) threads: usize,
    pub(super) scale: f64,
    pub(super) contender: Contender,
    pub(super) round: Round,
    pub(super) outcome: Result<Run, Failure>,
}

/// All columns, in their order.
pub(super) fn names() -> Vec<String> {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let latencies = Call::ALL.into_iter().flat_map(latency_names);
    let figures = [owned(&KEYS), owned(Sample::NAMES), owned(Distance::NAMES), owned(Counts::NAMES)].concat();
    figures.into_iter().chain(latencies).chain([FAILURE.to_owned()]).collect()
}

fn latency_names(call: Call) -> impl Iterator<Item = String> {
    Latency::NAMES.iter().map(move |name| format!("{call}_{name}"))
}

impl Line {
    /// The fields, in the order of [`names`].
    pub(super) fn fields(&self) -> Vec<String> {
        let mut fields = vec![
            self.workload.clone(),
            self.threads.to_string(),
            self.scale.to_string(),
            self.contender.to_string(),
            round_name(self.round),
        ];
        let (mut timed, mut counts, mut latencies) = (None, None, None);
        match self.outcome {
            Ok(Run::Timed(run)) => timed = Some(run),
            Ok(Run::Counted(counted)) => counts = Some(counted),
            Ok(Run::Probed(probed)) => latencies = Some(probed),
            Err(_) => {}
        }
        fields.extend(figures(timed.map(|timed| timed.sample)));
        fields.extend(figures(timed.and_then(|timed| timed.distance)));
        fields.extend(figures(counts));
        for call in Call::ALL {
            fields.extend(figures(latencies.map(|latencies| latencies[call as usize])));
        }
        fields.push(self.outcome.as_ref().err().map(failure_text).unwrap_or_default());
        fields
    }

    /// Reads a line whose fields have these names.
    pub(super) fn parse(names: &[String], fields: &csv::StringRecord) -> Result<Self> {
        let field = |name: &str| -> Result<&str> {
            let index = names.iter().position(|known| known == name);
            index.and_then(|index| fields.get(index)).with_context(|| format!("there is no column {name}"))
        };
        let round = parse_round(field("round")?)?;
        Ok(Self {
            workload: field("workload")?.to_owned(),
            threads: number("threads", field("threads")?)?,
            scale: number("scale", field("scale")?)?,
            contender: field("allocator")?.parse()?,
            round,
            outcome: match field(FAILURE)? {
                "" => Ok(parse_run(round, field)?),
                text => Err(parse_failure(text)),
            },
        })
    }
}

fn figures<F: Figures>(set: Option<F>) -> Vec<String> {
    match set {
        Some(set) => set.values().iter().map(u64::to_string).collect(),
        None => vec![String::new(); F::NAMES.len()],
    }
}

fn number<T: FromStr>(name: &str, field: &str) -> Result<T> {
    field.parse().ok().with_context(|| format!("{name} is `{field}`, which is not such a number"))
}

fn parse_run<'a>(round: Round, field: impl Fn(&str) -> Result<&'a str>) -> Result<Run> {
    let figure = |name: &str| number::<u64>(name, field(name)?);
    Ok(match round {
        Round::Timed(_) => {
            // Empty where it is not known; records of before it was measured do not have it.
            let is_known = Distance::NAMES.iter().any(|name| field(name).is_ok_and(|text| !text.is_empty()));
            let distance = is_known.then(|| Distance::try_from_names(figure)).transpose()?;
            Run::Timed(Timed { sample: Sample::try_from_names(figure)?, distance })
        }
        Round::Counted => Run::Counted(Counts::try_from_names(figure)?),
        Round::Probed => {
            let mut latencies = Latencies::default();
            for call in Call::ALL {
                latencies[call as usize] = Latency::try_from_names(|name| figure(&format!("{call}_{name}")))?;
            }
            Run::Probed(latencies)
        }
        Round::WarmUp => bail!("a run of the warm-up round is no result"),
    })
}

fn round_name(round: Round) -> String {
    match round {
        Round::WarmUp => "warm-up".to_owned(),
        Round::Counted => "counted".to_owned(),
        Round::Timed(number) => number.to_string(),
        Round::Probed => "probed".to_owned(),
    }
}

fn parse_round(text: &str) -> Result<Round> {
    Ok(match text {
        "warm-up" => Round::WarmUp,
        "counted" => Round::Counted,
        "probed" => Round::Probed,
        _ => Round::Timed(number("round", text)?),
    })
}

fn failure_text(failure: &Failure) -> String {
    match failure {
        Failure::Hung { after } => format!("hung {}", after.as_secs_f64()),
        Failure::Failed(why) => format!("failed {}", why.replace('\n', " ")),
    }
}

fn parse_failure(text: &str) -> Failure {
    let after = text.strip_prefix("hung ").and_then(|seconds| seconds.parse().ok());
    match after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(after) => Failure::Hung { after },
        None => Failure::Failed(text.strip_prefix("failed ").unwrap_or(text).to_owned()),
    }
}

/// Refuses the header of another kind of file.
pub(super) fn check_names(found: &[String]) -> Result<()> {
    for name in names().into_iter().filter(|name| !Distance::NAMES.contains(&name.as_str())) {
        ensure!(found.contains(&name), "there is no column {name}; is it a record of allocator-bench?");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Call, Contender, Counts, Distance, Duration, Failure, Figures, Latency, Line};
    use super::{Round, Run, Sample, Timed, check_names, names};

    fn line(round: Round, outcome: Result<Run, Failure>) -> Line {
        Line { workload: "churn".to_owned(), threads: 2, scale: 0.25, contender: Contender::Jemalloc, round, outcome }
    }

    #[test]
    fn every_kind_of_line_reads_back() {
        let latency = Latency { count: 9, p50_ns: 1, p99_ns: 2, p999_ns: 3, max_ns: 4 };
        let known = Timed {
            sample: Sample { wall_ns: 7, checksum: u64::MAX, ..Sample::default() },
            distance: Some(Distance { line_before_ns: 55, line_after_ns: 333 }),
        };
        for line in [
            line(Round::Timed(3), Ok(Run::Timed(known))),
            line(Round::Timed(3), Ok(Run::Timed(Timed { distance: None, ..known }))),
            line(Round::Counted, Ok(Run::Counted(Counts { mmap_calls: 1, lock_writes: 2, ..Counts::default() }))),
            line(Round::Probed, Ok(Run::Probed([latency; Call::ALL.len()]))),
            line(Round::WarmUp, Err(Failure::Hung { after: Duration::from_secs(9) })),
            line(Round::Timed(1), Err(Failure::Failed("it broke, \"so\" it did".to_owned()))),
        ] {
            let fields = line.fields();
            assert_eq!(fields.len(), names().len());
            assert_eq!(Line::parse(&names(), &fields.into()).expect("it was just written"), line);
        }
    }

    #[test]
    fn records_without_distances_are_read() {
        let run = Run::Timed(Sample { wall_ns: 7, ..Sample::default() }.into());
        let line = line(Round::Timed(3), Ok(run));
        let old = |(name, _): &(String, String)| !Distance::NAMES.contains(&name.as_str());
        let (names, fields): (Vec<_>, Vec<_>) = names().into_iter().zip(line.fields()).filter(old).unzip();
        check_names(&names).expect("nothing else is missing");
        assert_eq!(Line::parse(&names, &fields.into()).expect("distances may be missing"), line);
    }

    #[test]
    fn units_are_last_in_the_names() {
        let names = names();
        let some = ["wall_ns", "peak_rss_kib", "line_after_ns", "madvise_calls", "lock_writes", "alloc_zeroed_p999_ns"];
        for name in some.into_iter().chain(["failure"]) {
            assert!(names.iter().any(|known| known == name), "{name} is missing: {names:?}");
        }
    }

    #[test]
    fn broken_fields_are_named() {
        let good = line(Round::Counted, Ok(Run::Counted(Counts::default()))).fields();
        for (index, text, reason) in
            [(1, "x", "threads is `x`"), (3, "none", "no allocator is called"), (4, "", "round")]
        {
            let mut fields = good.clone();
            fields[index] = text.to_owned();
            let error = Line::parse(&names(), &fields.into()).expect_err("it is broken").to_string();
            assert!(error.contains(reason), "{error}");
        }
        let measured = Timed { distance: Some(Distance { line_before_ns: 1, line_after_ns: 2 }), ..Timed::default() };
        let mut fields = line(Round::Timed(1), Ok(Run::Timed(measured))).fields();
        let index = names().iter().position(|name| name == Distance::NAMES[1]).expect("it is a column");
        fields[index].clear();
        let error = Line::parse(&names(), &fields.into()).expect_err("half a distance is none").to_string();
        assert!(error.contains("line_after_ns is ``"), "{error}");
        let error = Line::parse(&names()[1..], &good.into()).expect_err("a column is missing").to_string();
        assert!(error.contains("no column workload") || error.contains("is `"), "{error}");
    }
}
