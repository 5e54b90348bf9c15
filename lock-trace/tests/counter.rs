//! The counters of tracepoints, on programs whose system calls are known.

use std::process::{Command, Stdio};

use lock_trace::{Counter, Missing, Point};
use test_support::skip;

const WRITES: Point<'_> = Point { name: "syscalls/sys_enter_write", filter: None };

/// Opens counters, or says why this is not permitted here.
fn counters(points: &[Point<'_>]) -> Option<Vec<Counter>> {
    match Counter::for_next_program(points) {
        Ok(counters) => Some(counters),
        Err(why) => {
            skip(why);
            None
        }
    }
}

fn values(counters: &[Counter]) -> Vec<u64> {
    counters.iter().map(|counter| counter.read().expect("it is open")).collect()
}

#[test]
fn the_program_is_counted_and_its_starter_is_not() {
    // Again and again, because the kernel may or may not switch between the two before the program begins.
    for blocks in 1..50 {
        let to_null = Point { filter: Some("fd==1&&count==512"), ..WRITES };
        let Some(counters) = counters(&[WRITES, to_null]) else { return };
        std::fs::write("/dev/null", "a write of the starting thread").expect("everyone may write there");
        assert_eq!(values(&counters), [0, 0]);
        let count = format!("count={blocks}");
        // It makes one write for each block.
        let dd = Command::new("dd").args(["if=/dev/zero", "of=/dev/null", "bs=512", "status=none", &count]).status();
        assert!(dd.expect("dd can be started").success());
        std::fs::write("/dev/null", "another").expect("everyone may write there");
        assert_eq!(values(&counters), [blocks, blocks]);
    }
}

#[test]
fn threads_and_children_of_the_program_are_counted() {
    let Some(counters) = counters(&[WRITES]) else { return };
    let script = "echo a; (echo b; sh -c 'echo c' & wait)";
    let status = Command::new("sh").args(["-c", script]).stdout(Stdio::null()).status();
    assert!(status.expect("sh can be started").success());
    assert_eq!(values(&counters), [3]);
}

#[test]
fn what_is_missing_is_told() {
    if counters(&[WRITES]).is_none() {
        return;
    }
    let unknown = Point { name: "syscalls/sys_enter_nothing", filter: None };
    let error = Counter::for_next_program(&[WRITES, unknown]).expect_err("there is no such call");
    assert!(matches!(&error.missing[..], [Missing::Tracepoint { name, .. }] if name == unknown.name), "{error}");
    let error =
        Counter::for_next_program(&[Point { filter: Some("nothing==1"), ..WRITES }]).expect_err("no such field");
    assert!(error.to_string().contains("nothing==1"), "{error}");
}
