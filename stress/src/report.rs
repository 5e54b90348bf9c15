//! From the children's reports to what a person reads: tables, JSON and some lines in plain words.
//!
//! `main.rs` makes one [`Report`] of a run and prints or writes it; every other form of output can start from it too.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

use crate::child::Plan;
use crate::harness::Run;
use crate::machine::Machine;
use crate::phase::Phase;
use crate::summary::{LatencySummary, Summary};
use crate::targets::{self, Target};

/// A run is marked if a hugepage fault before it took so many times the best: its memory was not backed.
const SLOW_FAULT_FACTOR: u64 = 3;

/// A whole run: what it was measured on, what was run, and what came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// What each child was told.
    pub plan: Plan,
    /// How often each allocator ran.
    pub rounds: u32,
    /// Whether the children ran without memory that the host was made to back.
    pub cold: bool,
    /// One summary for each allocator, in the order of the first round.
    pub summaries: Vec<Summary>,
    /// What is to be reached, and who did.
    pub targets: Vec<Target>,
    /// What came of each child, in the order in which they ran.
    pub runs: Vec<Run>,
}

impl Report {
    /// Summarises the children's reports.
    pub fn new(machine: Machine, plan: Plan, rounds: u32, cold: bool, runs: Vec<Run>) -> Self {
        let mut allocators: Vec<&str> = Vec::new();
        for run in &runs {
            if !allocators.contains(&run.report.allocator.as_str()) {
                allocators.push(&run.report.allocator);
            }
        }
        let summarise = |allocator: &&str| {
            let own: Vec<_> = runs.iter().filter(|run| run.report.allocator == *allocator).collect();
            Summary::of(allocator, &own)
        };
        let summaries: Vec<_> = allocators.iter().map(summarise).collect();
        let targets = targets::judge(&summaries, plan.settle_ms);
        Self { machine, plan, rounds, cold, summaries, targets, runs }
    }

    /// The tables, the machine and the reading, as printed on a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n{}\n\n", self.map_table(), self.wait_table());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Medians of {} round(s). Machine: {}.", self.rounds, self.machine);
        if self.cold {
            let _ = writeln!(text, "Cold run: some may have paid for memory the host had not backed.");
        }
        let _ = writeln!(text, "{}", self.reading_of_faults());
        let _ = write!(text, "\n{}\n{}\n", self.reading_of_waits(), self.reading_of_memory());
        let _ = writeln!(text, "\nTargets:");
        for target in &self.targets {
            let _ = writeln!(text, "- {target}");
        }
        text
    }

    fn map_table(&self) -> Table {
        let settled = format!("RSS {}\nlater\n(MiB)", self.settle_time());
        let mut table = table([
            "Allocator",
            "Fill\n(s)",
            "Prewarm\n(s)",
            "Doubling\n(ms)",
            "Drop\n(ms)",
            "RSS\nlive\n(MiB)",
            "RSS\nbefore\n(MiB)",
            "RSS\npeak\n(MiB)",
            "RSS\ndropped\n(MiB)",
            &settled,
            "Back\nafter\n(s)",
            "mmap_lock\nwrites\n(calls)",
        ]);
        for summary in &self.summaries {
            table.add_row([
                summary.allocator.clone(),
                seconds(summary.fill_ns),
                summary.prewarm_ns.map_or_else(|| "-".to_owned(), seconds),
                millis(summary.doubling_ns),
                millis(summary.drop_ns),
                mebis(summary.rss_live_kib),
                mebis(summary.rss_before_kib),
                mebis(summary.rss_peak_kib),
                mebis(summary.rss_dropped_kib),
                mebis(summary.rss_settled_kib),
                summary.back_after_ns.map_or_else(|| "not yet".to_owned(), seconds),
                summary.write_lock_calls.map_or_else(|| "not counted".to_owned(), |calls| calls.to_string()),
            ]);
        }
        table
    }

    fn wait_table(&self) -> Table {
        let mut table = table([
            "Phase",
            "Allocator",
            "Page\np99.9\n(ms)",
            "Page\nworst\n(ms)",
            "Page worst,\nany round\n(ms)",
            "Block\np99.9\n(ms)",
            "Block\nworst\n(ms)",
            "Block worst,\nany round\n(ms)",
        ]);
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Left);
        }
        for phase in Phase::ALL {
            for summary in &self.summaries {
                let Some(entry) = summary.phases.iter().find(|entry| entry.phase == phase) else { continue };
                if phase == Phase::Prewarm && entry.page.is_none() && entry.block.is_none() {
                    continue;
                }
                let cells = [entry.page, entry.block].into_iter().flat_map(|latency| {
                    let cell = |field: fn(LatencySummary) -> u64| {
                        latency.map_or_else(|| "too short".to_owned(), |latency| millis(field(latency)))
                    };
                    [cell(|l| l.p999_ns), cell(|l| l.worst_ns), cell(|l| l.worst_any_round_ns)]
                });
                table.add_row([phase.to_string(), summary.allocator.clone()].into_iter().chain(cells));
            }
        }
        table
    }

    /// How fast memory could be had right before each child, and for whom it was not.
    fn reading_of_faults(&self) -> String {
        let best_ns = self.runs.iter().map(|run| run.fault_ns).min().unwrap_or(0);
        let worst_ns = self.runs.iter().map(|run| run.fault_ns).max().unwrap_or(0);
        let slow: Vec<_> = self
            .runs
            .iter()
            .filter(|run| run.fault_ns > best_ns.saturating_mul(SLOW_FAULT_FACTOR))
            .map(|run| format!("{} in round {} ({})", run.report.allocator, run.round, time(run.fault_ns)))
            .collect();
        let marked = if slow.is_empty() {
            format!("none took more than {SLOW_FAULT_FACTOR} times the best")
        } else {
            format!("not comparable, as it took more than {SLOW_FAULT_FACTOR} times the best: {}", slow.join(", "))
        };
        format!("A fault of 2 MiB right before each child took {} to {}; {marked}.", time(best_ns), time(worst_ns))
    }

    /// The longest wait while the map doubled or was dropped, and whether the quiet control explains it.
    fn reading_of_waits(&self) -> String {
        let wait = |summary: &Summary| {
            [Phase::Doubling, Phase::Drop].into_iter().filter_map(|phase| Some(summary.page(phase)?.worst_ns)).max()
        };
        let noise_ns = self
            .summaries
            .iter()
            .filter_map(|summary| Some(summary.page(Phase::Control)?.worst_any_round_ns))
            .max()
            .unwrap_or(0);
        let waits = self.list(|summary| wait(summary).map_or_else(|| "too short to see".to_owned(), time));
        let above: Vec<_> = self
            .summaries
            .iter()
            .filter(|summary| wait(summary).is_some_and(|wait_ns| wait_ns > 2 * noise_ns))
            .map(|summary| summary.allocator.as_str())
            .collect();
        let verdict = if above.is_empty() {
            "no wait stands out from that".to_owned()
        } else if above.len() == self.summaries.len() {
            "all stand out from that".to_owned()
        } else {
            format!("only {} stands out from that", above.join(", "))
        };
        format!(
            "While the map doubled and was dropped, another thread waited for one page at most: {waits}; \
             with nothing going on, this machine made it wait up to {}: {verdict}.",
            time(noise_ns)
        )
    }

    fn reading_of_memory(&self) -> String {
        let mut reading = format!(
            "The insert that doubled {} entries took: {}; {} after the drop there stayed resident: {}",
            self.runs.first().map_or_else(String::new, |run| HumanCount(run.report.entries).to_string()),
            self.list(|summary| time(summary.doubling_ns)),
            self.settle_time(),
            self.list(|summary| format!("{} MiB", mebis(summary.rss_settled_kib)))
        );
        for run in &self.runs {
            let Some(prewarmed) = &run.report.prewarmed else { continue };
            let _ = write!(
                reading,
                "; prewarming in round {} ended as {} after {}, with {} of {} MiB warm and {} in hugepages",
                run.round,
                prewarmed.state,
                time(prewarmed.time_ns),
                prewarmed.warm_bytes >> 20,
                prewarmed.wanted_bytes >> 20,
                prewarmed.hugepage_bytes >> 20
            );
        }
        for summary in &self.summaries {
            if let Some(calls) = summary.write_lock_calls {
                let _ = write!(reading, "; calls of {} that took mmap_lock for writing: {calls}", summary.allocator);
            }
        }
        reading + "."
    }

    fn list(&self, value: impl Fn(&Summary) -> String) -> String {
        let items: Vec<_> =
            self.summaries.iter().map(|summary| format!("{} {}", summary.allocator, value(summary))).collect();
        items.join(", ")
    }

    fn settle_time(&self) -> String {
        format!("{} s", self.plan.settle_ms as f64 / 1e3)
    }
}

fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(headings);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Milliseconds with about three digits, as the values span six orders of magnitude.
fn millis(ns: u64) -> String {
    let ms = ns as f64 / 1e6;
    let decimals = if ms < 10.0 { 3 } else { usize::from(ms < 1000.0) };
    format!("{ms:.decimals$}")
}

fn seconds(ns: u64) -> String {
    format!("{:.2}", ns as f64 / 1e9)
}

fn mebis(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

/// A time in the unit a person would say it in.
pub(crate) fn time(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{} µs", ns / 1000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::canary::Latency;
    use crate::child::{ChildReport, PhaseLatency, RssSample};
    use crate::hooks::Prewarmed;
    use crate::table::Size;

    pub(crate) fn run(round: u32, report: ChildReport) -> Run {
        Run { round, fault_ns: 100_000, report }
    }

    pub(crate) fn child(allocator: &str, worst_ns: u64, write_lock_calls: Option<u64>) -> ChildReport {
        let latency = |worst_ns| Some(Latency { samples: 10, p999_ns: worst_ns / 2, worst_ns });
        ChildReport {
            allocator: allocator.to_owned(),
            buckets: 65_536,
            entries: 57_344,
            fill_ns: 2_500_000_000,
            doubling_ns: worst_ns,
            drop_ns: 1_500_000,
            prewarmed: None,
            rss_live_kib: 1000,
            rss_before_kib: 2048,
            rss_peak_kib: 6144,
            rss_dropped_kib: 1536,
            rss_settled_kib: 1024,
            rss_samples: vec![RssSample { after_ns: 2_000_000_000, rss_kib: 1024, backlog_bytes: None }],
            giving_back: None,
            write_lock_calls,
            phases: Phase::ALL
                .map(|phase| PhaseLatency {
                    phase,
                    page: match phase {
                        Phase::Doubling => latency(worst_ns),
                        Phase::Drop => None,
                        _ => latency(100_000),
                    },
                    block: latency(50_000),
                })
                .to_vec(),
        }
    }

    fn report(system_ns: u64) -> Report {
        let machine = Machine {
            kernel: "6.1".to_owned(),
            cpu_model: "Some CPU".to_owned(),
            cpu_count: 2,
            thp_mode: "madvise".to_owned(),
            memory_kib: 8 << 20,
            available_kib: 4 << 20,
        };
        let plan = Plan { settle_ms: 2000, ..Plan::new(Size::SMALLEST) };
        let runs = vec![
            run(1, child("antifreeze", 150_000, Some(0))),
            run(1, child("system", system_ns, None)),
            run(2, child("antifreeze", 130_000, Some(2))),
            run(2, child("system", system_ns * 3, None)),
        ];
        Report::new(machine, plan, 2, false, runs)
    }

    #[test]
    fn summaries_keep_the_order_and_the_worst() {
        let report = report(1_000_000_000);
        let names: Vec<_> = report.summaries.iter().map(|summary| summary.allocator.as_str()).collect();
        assert_eq!(names, ["antifreeze", "system"]);
        let system = &report.summaries[1];
        assert_eq!((system.doubling_ns, system.write_lock_calls), (2_000_000_000, None));
        let wait = system.page(Phase::Doubling).unwrap();
        assert_eq!(
            (wait.p999_ns, wait.worst_ns, wait.worst_any_round_ns),
            (1_000_000_000, 2_000_000_000, 3_000_000_000)
        );
        assert_eq!(system.page(Phase::Drop), None);
        assert_eq!(report.summaries[0].write_lock_calls, Some(2));
    }

    #[test]
    fn the_text_has_units_numbers_the_machine_and_a_reading() {
        let text = report(1_000_000_000).text();
        for part in [
            "Doubling",
            "(ms)",
            "(MiB)",
            "RSS 2 s",
            "not counted",
            "too short",
            "idle before (control)",
            "2.50",
            "Linux 6.1, 2 x Some CPU, transparent huge pages: madvise, memory 8192 MiB (4096 MiB available)",
            "at most: antifreeze 140 µs, system 2.00 s; with nothing going on, this machine made it wait up to 100 µs: \
             only system stands out from that.",
            "doubled 57,344 entries took: antifreeze 140 µs, system 2.00 s; 2 s after the drop there stayed resident: \
             antifreeze 1.0 MiB, system 1.0 MiB; calls of antifreeze that took mmap_lock for \
             writing: 2.",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("Cold run"));
    }

    #[test]
    fn a_run_on_memory_that_was_slow_to_get_is_marked() {
        let mut report = report(1_000_000_000);
        assert!(report.text().contains("took 100 µs to 100 µs; none took more than 3 times the best."));
        report.runs[1].fault_ns = 300_000;
        report.runs[3].fault_ns = 300_001;
        let text = report.text();
        assert!(text.contains("more than 3 times the best: system in round 2 (300 µs)."), "{text}");
    }

    #[test]
    fn prewarming_is_told_with_its_state() {
        let mut report = report(1_000_000_000);
        let text = report.text();
        assert!(!text.contains("prewarming in"), "{text}");
        let state = "Ready".to_owned();
        let wanted_bytes = 64 << 20;
        report.runs[2].report.prewarmed = Some(Prewarmed {
            state,
            time_ns: 5_000_000,
            wanted_bytes,
            warm_bytes: wanted_bytes,
            hugepage_bytes: 32 << 20,
        });
        let text = report.text();
        let part = "in round 2 ended as Ready after 5.0 ms, with 64 of 64 MiB warm and 32 in hugepages";
        assert!(text.contains(part), "{text}");
    }

    #[test]
    fn a_wait_the_control_explains_is_not_blamed_on_an_allocator() {
        assert!(report(90_000).text().contains("no wait stands out from that."));
        let cold = Report { cold: true, ..report(90_000) };
        assert!(cold.text().contains("Cold run"));
    }

    #[test]
    fn the_json_is_the_same_data() {
        let report = report(1_000_000);
        let json = serde_json::to_string_pretty(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert!(json.contains("\"after_doubling\"") && json.contains("\"worst_any_round_ns\""));
    }

    #[test]
    fn times_have_readable_units() {
        assert_eq!(
            [time(999), time(45_600), time(45_600_000), time(4_560_000_000)],
            ["0 µs", "45 µs", "45.6 ms", "4.56 s"]
        );
        assert_eq!([millis(4_500), millis(45_600_000), millis(4_560_000_000)], ["0.004", "45.6", "4560"]);
    }
}
