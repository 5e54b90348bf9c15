//! Shells, version control and what stands in pipelines: many short processes.

use crate::harness::{Place, same_answers};

#[test]
fn bash_expands_forks_and_pipes() {
    same_answers("bash", &["bash"], |place| {
        place.write("script.sh", include_str!("work/script.sh"));
        place.run_with_stats("bash", ["script.sh"])
    });
}

/// Files of different sizes in some directories: the text of each is told by its number.
fn write_files(place: &Place, count: u32) {
    for number in 0..count {
        let lines = (0..number % 97).map(|line| format!("line {line} of file {number}: {}\n", line * number % 1009));
        place.write(&format!("tree/{}/file{number}.txt", number % 7), lines.collect::<String>());
    }
}

#[test]
fn coreutils_work_in_a_pipeline() {
    same_answers("coreutils", &["bash", "find", "sort", "tar", "gzip", "xz", "awk", "sha256sum"], |place| {
        write_files(place, 600);
        // Bash says how it went: coreutils close standard error before statistics are printed.
        place.run_with_stats("bash", ["-euc", include_str!("work/pipeline.sh")])
    });
}

#[test]
fn git_commits_clones_and_collects_garbage() {
    same_answers("git", &["bash", "git"], |place| {
        write_files(place, 400);
        place.write("script.sh", include_str!("work/git.sh"));
        place.run_with_stats("bash", ["-eu", "script.sh"])
    });
}
