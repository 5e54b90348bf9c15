//! Languages with heaps, threads and garbage collectors of their own.

use std::process::Command;

use test_support::skip;

use crate::harness::same_answers;

/// An interpreter that takes all its objects from `malloc`, small ones as well.
fn python<'a>(command: &'a mut Command, arguments: &[&str]) -> &'a mut Command {
    command.args(arguments).env("PYTHONMALLOC", "malloc").env("PYTHONHASHSEED", "1")
}

#[test]
fn python_threads_parse_match_and_fork() {
    same_answers("python", &["python3"], |place| {
        place.write("script.py", include_str!("work/script.py"));
        place.finish_with_stats(python(&mut place.command("python3"), &["script.py"])).stdout
    });
}

/// Python's own tests, where they are installed: what comes of them, not how long they took.
#[test]
fn python_passes_its_own_tests() {
    let installed = Command::new("python3").args(["-c", "import test.test_json, test.test_thread"]).output();
    if !installed.is_ok_and(|answer| answer.status.success()) {
        return skip("python's own tests are not installed");
    }
    same_answers("python-tests", &["python3"], |place| {
        let arguments = ["-m", "test", "-q", "test_json", "test_re", "test_thread"];
        let answer = place.finish(python(&mut place.command("python3"), &arguments));
        place.must_have_library(&answer);
        answer.stdout.lines().filter(|line| line.contains("esult") || line.contains("failed")).collect()
    });
}

#[test]
fn perl_hashes_sorts_matches_and_forks() {
    same_answers("perl", &["perl"], |place| {
        place.write("script.pl", include_str!("work/script.pl"));
        place.finish_with_stats(place.command("perl").arg("script.pl").env("PERL_HASH_SEED", "0")).stdout
    });
}

#[test]
fn node_parses_hashes_and_runs_workers() {
    same_answers("node", &["node"], |place| {
        place.write("script.js", include_str!("work/script.js"));
        place.run_with_stats("node", ["script.js"])
    });
}

#[test]
fn java_compiles_and_runs() {
    same_answers("java", &["java", "javac"], |place| {
        place.write("Work.java", include_str!("work/Work.java"));
        place.run_with_stats("java", ["-XX:-UsePerfData", "-Xmx256m", "Work.java"])
    });
}
