//! The binaries of every allocator of this build: each probe times what is called, and wrong arguments are refused.
//! That each plays every workload is the matter of `workloads`.

mod common;

use std::process::Output;

use allocator_bench::contender::Contender;
use allocator_bench::latency::{Call, Latencies, parse_latencies};
use common::{directory, run};

const SCALE: f64 = 0.002;

fn report(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("a report is text")
}

fn probed(contender: Contender, workload: &str) -> Latencies {
    let output = run(&contender.probe_in(directory()), &[workload, "2", &SCALE.to_string()]);
    parse_latencies(&report(&output)).expect("a line for each kind of call")
}

#[test]
fn every_probe_sees_the_calls_of_a_workload() {
    for (workload, call) in [
        ("churn", Call::Alloc),
        ("churn", Call::Dealloc),
        ("zeroed", Call::AllocZeroed),
        ("realloc_steps", Call::Realloc),
    ] {
        let counts: Vec<u64> =
            Contender::built().map(|contender| probed(contender, workload)[call as usize].count).collect();
        // Starting threads takes some calls more or less.
        let (least, most) = (counts.iter().min().expect("some"), counts.iter().max().expect("some"));
        assert!(*least > 0 && most - least < 100, "{workload}, {call}: {counts:?}");
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let operation = ["--operation", "pair-17", "3"];
    let closed = ["churn", "1", "0.001", "700", "701", "702", "703", "704", "705", "706", "707", "708", "709"];
    for (args, reason) in [
        (&operation[..], "no such operation"),
        (&operation[..2], "an operation and its rounds are needed"),
        (&closed[..5], "not the descriptors of the kernel's counters"),
        (&closed[..], "not the descriptors of the kernel's counters"),
    ] {
        let output = run(&Contender::System.bench_in(directory()), args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(reason), "{args:?}: {said}");
    }
}
