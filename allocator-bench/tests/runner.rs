//! The runner as a whole, on ready-made children and at a tiny scale: what it prints and how it ends.

use std::process::{Command, Output};

fn runner(args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_allocator-bench"))
        .args(args.split_whitespace())
        .output()
        .expect("the runner can be started")
}

#[test]
fn report_has_a_line_for_each_row_and_allocator() {
    let csv = std::env::temp_dir().join(format!("allocator-bench-runner-{}.csv", std::process::id()));
    let output = runner(&format!(
        "--no-build --rounds 2 --scale 0.001 --prefault-mib 8 --workload churn --workload vec_grow --csv {}",
        csv.display()
    ));
    let rows = std::fs::read_to_string(&csv).expect("the runner writes the file").lines().count() - 1;
    std::fs::remove_file(&csv).expect("the file is ours");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("| churn ") && text.contains("| vec_grow "), "{text}");
    assert!(text.contains("antifreeze ms") && text.contains("vs best peer"), "{text}");
    assert!(!text.contains("start-up"), "{text}");
    let allocators = 2 + usize::from(cfg!(feature = "mimalloc")) + usize::from(cfg!(feature = "snmalloc"));
    // Two rounds of churn on one and on two threads, and of vec_grow on one.
    assert_eq!(rows, allocators * 2 * 3);
}

#[test]
fn startup_alone_prints_differences_to_the_system() {
    let output = runner("--no-build --quick --workload startup --allocator antifreeze --allocator system");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("vs system us") && text.contains("median of 120 runs"), "{text}");
}

#[test]
fn bad_input_gets_a_clear_error() {
    for (args, reason) in [
        ("--workload nothing", "nothing"),
        ("--allocator none", "antifreeze, system, mimalloc, snmalloc"),
        ("--threads 0", "0 is not in 1..=1024"),
        ("--scale x", "expected a number above 0"),
        ("--no-build --csv /", "cannot open /"),
    ] {
        let output = runner(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args}: {text}");
        assert!(text.contains(reason), "{args}: {text}");
    }
}
