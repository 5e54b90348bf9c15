//! The runner as a whole, on ready-made children and at a tiny scale: what it prints and records, and how it ends.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use allocator_bench::contender::Contender;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use test_support::skip;

const RUNNER: &str = env!("CARGO_BIN_EXE_allocator-bench");

fn run(runner: &Path, args: &str) -> Output {
    Command::new(runner).args(args.split_whitespace()).output().expect("the runner can be started")
}

fn runner(args: &str) -> Output {
    run(Path::new(RUNNER), args)
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The one record below a directory.
fn record_below(directory: &Path) -> PathBuf {
    let entries = |path: &Path| fs::read_dir(path).expect("a directory").flatten().map(|entry| entry.path());
    let machines: Vec<PathBuf> = entries(directory).collect();
    assert_eq!(machines.len(), 1, "{machines:?}");
    let mut records = entries(&machines[0]).filter(|path| path.extension().is_some_and(|end| end == "csv"));
    records.next().expect("a record was written")
}

/// A line of a record, by the names of its columns.
type Line = HashMap<String, String>;

/// The lines of a record with that text in a column. None of the fields at hand is quoted.
fn lines_of(record: &str, column: &str, wanted: &str) -> Vec<Line> {
    let mut lines = record.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(',').map(str::to_owned));
    let names: Vec<String> = lines.next().expect("a header").collect();
    let lines = lines.map(|fields| names.iter().cloned().zip(fields).collect::<Line>());
    lines.filter(|line| line[column] == wanted).collect()
}

/// A directory with a runner, which looks for children beside itself. Not a copy: while another test's child is being
/// started, it might count as open for writing, and could not be.
fn directory_of_runner() -> tempfile::TempDir {
    let built = Path::new(RUNNER).parent().expect("it is in a directory");
    let directory = tempfile::tempdir_in(built).expect("a directory");
    fs::hard_link(RUNNER, directory.path().join("allocator-bench")).expect("one more name on the same file system");
    directory
}

/// Makes `commands` a script that stands in for a child.
fn write_script(path: &Path, commands: &str) {
    fs::write(path, format!("#!/bin/sh\n{commands}\n")).expect("a new file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

#[test]
fn a_comparison_is_reported_and_recorded() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = runner(&format!(
        "--no-build --rounds 2 --rounds-max 2 --scale 0.001 --prefault-mib 8 --workload churn --workload vec_grow \
         --record {}",
        directory.path().display()
    ));
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("| churn ") && said.contains("| vec_grow "), "{said}");
    assert!(said.contains("antifreeze ms") && said.contains("vs best peer"), "{said}");
    assert!(said.contains("alloc, nanoseconds, p50 / p99 / p99.9 / max:"), "{said}");
    assert!(!said.contains("start-up"), "{said}");

    let path = record_below(directory.path());
    let record = fs::read_to_string(&path).expect("the record is readable");
    // Churn on one and on two threads, vec_grow on one.
    let rows = 3 * Contender::built().count();
    assert_eq!(["1", "2", "probed"].map(|round| lines_of(&record, "round", round).len()), [rows; 3], "{record}");
    // Only rows of several threads depend on how far the processors are from each other.
    let distances = |threads: &str| -> Vec<bool> {
        let lines = lines_of(&record, "round", "1").into_iter().filter(|line| line["threads"] == threads);
        lines.map(|line| !line["line_before_ns"].is_empty() && !line["line_after_ns"].is_empty()).collect()
    };
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("a process may ask what it is bound to");
    let processors = (0..CpuSet::count()).filter(|&index| allowed.is_set(index) == Ok(true)).count();
    assert!(distances("1").iter().all(|known| !known), "{record}");
    assert_eq!(distances("2").contains(&true), processors == 2, "{processors} processors: {record}");
    let counted = lines_of(&record, "round", "counted");
    if said.contains("system calls are not counted") {
        skip(format_args!("the kernel may not count here: {said}"));
        assert_eq!(counted.len(), 0);
    } else {
        assert_eq!(counted.len(), rows);
        assert!(said.contains("All system calls / mmap_lock taken for writing"), "{said}");
        // glibc grows a large block by mremap, which takes the lock for writing.
        let grows = |line: &&Line| line["workload"] == "vec_grow" && line["allocator"] == "system";
        let number = |name: &str| counted.iter().find(grows).and_then(|line| line[name].parse::<u64>().ok());
        assert!(number("mremap_calls") > Some(0), "{record}");
        assert!(number("lock_writes") >= number("mremap_calls"), "{record}");
        assert_eq!(number("sched_yield_calls"), Some(0), "{record}");
    }
    for plot in ["time", "memory", "latency"] {
        let stem = path.file_stem().expect("it has a name").to_string_lossy();
        let text = fs::read_to_string(path.with_file_name(format!("{stem}-{plot}.svg"))).expect("a plot is beside it");
        assert!(roxmltree::Document::parse(&text).is_ok(), "{plot}: {text}");
    }

    let table = runner(&format!("table {}", path.display()));
    let said = text(&table);
    assert!(table.status.success() && said.contains("| milliseconds, on 1 / 2 threads | antifreeze |"), "{said}");
    assert!(runner(&format!("plots {}", path.display())).status.success());
}

#[test]
fn rows_whose_rounds_disagree_are_played_more_often() {
    let directory = directory_of_runner();
    let place = |name: &str| directory.path().join(name);
    let figures = "user_ns=1 system_ns=1 peak_rss_kib=1 final_rss_kib=1 minor_faults=1 major_faults=1 \
                   voluntary_switches=1 involuntary_switches=1 checksum=1";
    // Stands in for antifreeze: loses every run of `churn`, every second one of `larson`, and the first two of `sh6`.
    // The first run of each is thrown away.
    let own = "echo >> $0.$1; run=$(wc -l < $0.$1); wall_ns=100; \
               case $1 in churn) wall_ns=200;; larson) [ $((run % 2)) = 1 ] && wall_ns=200;; \
               sh6) [ $run -le 2 ] && wall_ns=200;; esac";
    for (name, walls) in [("antifreeze", own), ("system", "wall_ns=100")] {
        write_script(&place(&format!("bench-{name}")), &format!("{walls}\necho wall_ns=$wall_ns {figures}"));
    }
    let output = run(
        &place("allocator-bench"),
        &format!(
            "--no-build --times-only --rounds 2 --rounds-max 5 --prefault-mib 0 --threads 1 --workload churn \
             --workload larson --workload sh6 --allocator antifreeze --allocator system --record {}",
            place("results").display()
        ),
    );
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let record = fs::read_to_string(record_below(&place("results"))).expect("the record is readable");
    let played = |round: &str| -> Vec<String> {
        let lines = lines_of(&record, "round", round);
        let own = lines.iter().filter(|line| line["allocator"] == "antifreeze");
        own.map(|line| format!("{} {}", line["workload"], line["wall_ns"])).collect()
    };
    let rounds = ["1", "2", "3", "4", "5", "6"].map(played).map(|mut lines| {
        lines.sort_unstable();
        lines.join(", ")
    });
    let expected = [
        "churn 200, larson 100, sh6 200",
        "churn 200, larson 200, sh6 100",
        "larson 100, sh6 100",
        "larson 200, sh6 100",
        "larson 100",
        "",
    ];
    assert_eq!(rounds, expected, "{said}");
    // Three of five under the limit do not decide it, three of four do.
    let table = text(&runner(&format!("table {}", record_below(&place("results")).display())));
    let ends = |workload: &str, ratio: &str| {
        let mut lines = table.lines().filter(|line| line.starts_with(&format!("| {workload} |")));
        lines.any(|line| line.ends_with(&format!("| {ratio} |")))
    };
    assert!(ends("churn", "**2.00**") && ends("larson", "1.00 ?") && ends("sh6", "1.00"), "{table}");
    assert!(table.contains("Medians of 2 to 5 rounds"), "{table}");
    assert!(said.contains("? the rounds disagree"), "{said}");
}

#[test]
fn there_may_be_more_threads_than_processors() {
    let output = runner(
        "--no-build --times-only --rounds 1 --scale 0.001 --prefault-mib 0 --threads 8,32 --workload churn \
         --workload vec_grow --allocator antifreeze --allocator system",
    );
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let threads = |name: &str| {
        let line = |line: &str| Some(line.strip_prefix(&format!("| {name} "))?.split('|').nth(1)?.trim().to_owned());
        said.lines().filter_map(line).take(2).collect::<Vec<_>>()
    };
    assert_eq!(threads("churn"), ["8", "32"], "{said}");
    assert_eq!(threads("vec_grow")[0], "1", "{said}");
    assert!(!said.contains("nanoseconds") && !said.contains("system calls"), "{said}");
}

#[test]
fn startup_alone_prints_differences_to_the_system() {
    let output = runner("--no-build --quick --workload startup --allocator antifreeze --allocator system");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("vs system us") && said.contains("median of 60 runs"), "{said}");
}

#[test]
fn a_child_that_hangs_or_crashes_is_reported_and_the_others_go_on() {
    let directory = directory_of_runner();
    let place = |name: &str| directory.path().join(name);
    let built = Path::new(RUNNER).parent().expect("it is in a directory");
    symlink(built.join("bench-antifreeze"), place("bench-antifreeze")).expect("a new name");
    symlink(built.join("bench-system"), place("real-system")).expect("a new name");
    let scripts = [
        // Hangs on one workload only.
        ("bench-system", "[ $1 = larson ] && exec sleep 1000\nexec $(dirname $0)/real-system \"$@\""),
        ("bench-mimalloc", "kill -SEGV $$"),
    ];
    for (name, script) in scripts {
        write_script(&place(name), script);
    }
    let mimalloc = if cfg!(feature = "mimalloc") { "--allocator mimalloc" } else { "" };
    let output = run(
        &place("allocator-bench"),
        &format!(
            "--no-build --times-only --rounds 2 --scale 0.001 --prefault-mib 0 --threads 1 --deadline 2 \
             --workload churn --workload larson --allocator antifreeze --allocator system {mimalloc} --record {}",
            place("results").display()
        ),
    );
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("system on larson, 1 thread: the child hung and was killed after 2 s"), "{said}");
    let larson = said.lines().find(|line| line.starts_with("| larson ")).expect("its line is there");
    assert_eq!(larson.matches("HUNG").count(), 1, "{said}");
    let churn = said.lines().find(|line| line.starts_with("| churn ")).expect("its line is there");
    assert!(!churn.contains("HUNG") && churn.contains('x'), "{said}");
    if cfg!(feature = "mimalloc") {
        assert!(said.contains("mimalloc on churn, 1 thread: the child ended with signal: 11 (SIGSEGV)"), "{said}");
        assert!(churn.contains("FAILED") && larson.contains("FAILED"), "{said}");
    }
    let record = fs::read_to_string(record_below(&place("results"))).expect("the record is readable");
    assert!(record.contains("hung 2"), "{record}");
    let table = text(&runner(&format!("table {}", record_below(&place("results")).display())));
    assert!(table.lines().any(|line| line.starts_with("| larson | ") && line.contains("HUNG")), "{table}");
}

#[test]
fn instructions_repeat_exactly() {
    let count = || {
        let output = runner("instructions --no-build --allocator system");
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        said
    };
    let first = count();
    if let Some((_, why)) = first.split_once("skipped: ") {
        skip(why);
        return;
    }
    let pair = |said: &str| {
        let line = said.lines().find(|line| line.starts_with("| pair-64 ")).expect("a line for each operation");
        line.split('|').nth(2).and_then(|cell| cell.trim().parse::<f64>().ok()).expect("a number")
    };
    assert!(pair(&first) > 1.0, "{first}");
    assert_eq!(pair(&first), pair(&count()));
}

#[test]
fn bad_input_gets_a_clear_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let no_record = directory.path().join("a.csv");
    fs::write(&no_record, "a,b\n1,2\n").expect("a new file");
    let table = format!("table {}", no_record.display());
    for (args, reason) in [
        ("--workload nothing", "nothing"),
        ("--allocator none", "antifreeze, system, jemalloc"),
        ("--threads 0", "0 is not in 1..=1024"),
        ("--rounds 3 --rounds-max 2", "--rounds-max 2 is less than the 3 rounds"),
        ("--scale x", "expected a number above 0"),
        ("--no-build --record /dev/null", "cannot create /dev/null"),
        ("table /no/such/file.csv", "cannot read /no/such/file.csv"),
        (&table, "is not a record: there is no line `# date: ..`"),
    ] {
        let output = runner(args);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{args}: {said}");
        assert!(said.contains(reason), "{args}: {said}");
    }
}
