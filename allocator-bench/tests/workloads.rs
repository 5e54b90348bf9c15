//! Every workload at a tiny scale: in this process under its own allocator, and in each child under that child's. The
//! results are checked, never the times.

mod common;

use std::path::PathBuf;

use allocator_bench::contender::Contender;
use allocator_bench::sample::Sample;
use allocator_bench::workload::{self, Workload};
use common::{directory, run};

const TINY_SCALE: f64 = 0.002;

/// The children that this set of features builds.
fn children() -> impl Iterator<Item = PathBuf> {
    Contender::built().map(|contender| contender.bench_in(directory()))
}

fn thread_counts(workload: &Workload) -> impl Iterator<Item = usize> {
    [1, 2].into_iter().filter(|&threads| threads <= workload.max_threads)
}

#[test]
fn every_workload_plays_in_process() {
    for workload in &workload::ALL {
        for threads in thread_counts(workload) {
            let checksum = (workload.run)(threads, TINY_SCALE);
            assert_ne!(checksum, 0, "{} on {threads} threads did nothing", workload.name);
        }
    }
}

#[test]
fn every_child_computes_the_same() {
    for workload in &workload::ALL {
        for threads in thread_counts(workload) {
            let expected = (workload.run)(threads, TINY_SCALE);
            for binary in children() {
                let output = run(&binary, &[workload.name, &threads.to_string(), &TINY_SCALE.to_string()]);
                let report = String::from_utf8(output.stdout).expect("a report is text");
                assert!(output.status.success(), "{} failed on {}", binary.display(), workload.name);
                let sample: Sample = report.parse().expect("a report is a sample");
                assert!(sample.final_rss_kib > 0 && sample.peak_rss_kib >= sample.final_rss_kib, "{sample:?}");
                assert_eq!(
                    sample.checksum,
                    expected,
                    "{} on {} with {threads} threads",
                    binary.display(),
                    workload.name
                );
            }
        }
    }
}

#[test]
fn empty_children_return_at_once() {
    for binary in children() {
        let empty = run(&binary, &["--empty"]);
        assert!(empty.status.success() && empty.stdout.is_empty(), "{} --empty", binary.display());
        let rss = run(&binary, &["--rss"]);
        let peak_kib: u64 = String::from_utf8_lossy(&rss.stdout).trim().parse().expect("--rss prints a number");
        assert!(peak_kib > 0, "{} --rss", binary.display());
    }
}

#[test]
fn children_refuse_bad_arguments() {
    for args in [&[] as &[&str], &["nothing", "1", "1"], &["churn", "0", "1"], &["churn", "1", "-1"]] {
        let output = run(&Contender::System.bench_in(directory()), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage"), "{args:?}");
    }
}
