//! What `ANTIFREEZE_EXPLAIN` and `ANTIFREEZE_STATS` make a program print, and that nothing else changes.
//!
//! The programs are `cat`, which closes its standard error before the handlers of `atexit` that were there first, and
//! two small ones in C.

#![cfg(target_os = "linux")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use test_support::skip;

use common::{directory, finish, has, output, plain, preloaded, printed, text};

const EXPLAIN: &str = "ANTIFREEZE_EXPLAIN";
const STATS: &str = "ANTIFREEZE_STATS";
/// The last line of the statistics.
const LAST: &str = "cold_claimed_bytes_total: ";

/// `cat` of a line, with variables set; gives what it wrote to standard error, and its process number. Standard output
/// and exit status must be as ever.
fn cat(variables: &[(&str, &str)]) -> (String, u32) {
    let mut command = preloaded("cat");
    command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("cat starts");
    let process = child.id();
    child.stdin.take().expect("a pipe").write_all(b"a line\n").expect("cat reads");
    let output = finish(child);
    assert!(output.status.success(), "{:?}: {}", variables, output.status);
    assert_eq!(text(&output.stdout), "a line\n");
    (text(&output.stderr), process)
}

fn head(process: u32, name: &str, what: &str) -> String {
    format!("antifreeze: {} in process {process} ({name}): {what}\n", env!("CARGO_PKG_VERSION"))
}

#[test]
fn explain_is_printed_at_start() {
    let (errors, process) = cat(&[(EXPLAIN, "1")]);
    assert!(errors.starts_with(&head(process, "cat", "explain")), "{errors}");
    assert_eq!(errors.matches("antifreeze: ").count(), 1, "once, and no warning: {errors}");
    for promise in ["P1", "P2", "P3", "P4", "P5", "P6"] {
        assert!(errors.contains(&format!("\n{promise} ")), "{promise}: {errors}");
    }
    assert!(errors.contains("state = started"), "{errors}");
}

#[test]
fn nothing_is_printed_unasked() {
    for variables in [&[][..], &[(EXPLAIN, "0"), (STATS, "")], &[(EXPLAIN, "")]] {
        assert_eq!(cat(variables).0, "", "{variables:?}");
    }
}

#[test]
fn statistics_are_printed_at_exit_even_if_standard_error_was_closed() {
    let (errors, process) = cat(&[(STATS, "exit")]);
    assert!(errors.starts_with(&head(process, "cat", "statistics")), "{errors}");
    assert_eq!(errors.matches(LAST).count(), 1, "{errors}");
}

/// The program has a file of its own where the library keeps standard error: nothing may be written to that.
#[test]
fn statistics_at_exit_go_to_no_other_file() {
    if !has("cc") {
        return;
    }
    let program = compiled("reuses_descriptor");
    let file = program.with_extension("written");
    let output = output(plain(&program).arg(&file).env(STATS, "exit"));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("the file was made"), "");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn statistics_are_printed_on_the_signal_and_the_program_goes_on() {
    for (when, at_exit) in [("SIGUSR2", 0), ("exit,SIGUSR2", 1), ("SIGUSR2,exit", 1)] {
        let mut command = preloaded("cat");
        command.env(STATS, when).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("cat starts");
        let process = child.id();
        let mut input = child.stdin.take().expect("a pipe");
        let mut echo = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
        for round in ["first", "second"] {
            // Once it has answered it runs, and the handler is there.
            writeln!(input, "{round}").expect("cat reads");
            let mut line = String::new();
            echo.read_line(&mut line).expect("cat writes");
            assert_eq!(line.trim_end(), round);
            // SAFETY: the child is ours and was not waited for.
            assert_eq!(unsafe { libc::kill(i32::try_from(process).expect("a number"), libc::SIGUSR2) }, 0);
            let mut seen = String::new();
            while !seen.contains(LAST) {
                assert_ne!(errors.read_line(&mut seen).expect("cat's errors"), 0, "{when}: ended after {seen}");
            }
            assert!(seen.starts_with(&head(process, "cat", "statistics")), "{when}: {seen}");
        }
        drop(input);
        let mut rest = String::new();
        errors.read_to_string(&mut rest).expect("cat's errors");
        assert_eq!(rest.matches(LAST).count(), at_exit, "{when}: {rest}");
        assert!(finish(child).status.success(), "{when}");
    }
}

#[test]
fn an_ignored_signal_stays_ignored_and_that_is_said() {
    let script = "trap '' USR2; kill -USR2 $$; exec cat";
    let output = output(plain("sh").args(["-c", script]).env("LD_PRELOAD", common::library()).env(STATS, "SIGUSR2"));
    assert!(output.status.success(), "{output:?}");
    let errors = text(&output.stderr);
    let line = "antifreeze: ANTIFREEZE_STATS: SIGUSR2 is ignored in this process, and left so: no statistics on it\n";
    assert!(errors.ends_with(line), "{errors}");
}

#[test]
fn a_value_that_is_not_understood_gets_one_line() {
    let line = |part: &str| {
        let wanted = "want exit, SIGUSR2, or exit,SIGUSR2; it is left out";
        format!("antifreeze: ANTIFREEZE_STATS=\"{part}\" is not understood: {wanted}\n")
    };
    for value in ["1", "Exit", "exit ", "SIGUSR1"] {
        assert_eq!(cat(&[(STATS, value)]).0, line(value));
    }
    assert_eq!(cat(&[(STATS, &"x".repeat(5000))]).0, line(&"x".repeat(64)), "a long one is cut");
    let (errors, process) = cat(&[(STATS, "at_end,exit")]);
    let all = line("at_end") + &head(process, "cat", "statistics");
    assert!(errors.starts_with(&all), "what is understood holds: {errors}");
}

/// Compiles a program of this test, linked with the static library.
fn compiled(name: &str) -> PathBuf {
    let program = directory(name).join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/variables").join(name).with_extension("c");
    let flags = ["-Wall", "-Wextra", "-Werror", "-pthread", "-ldl", "-lm"];
    let library = common::built().join("libantifreeze.a");
    printed(Command::new("cc").arg("-o").args([&program, &source, &library]).args(flags));
    program
}

#[test]
fn the_signal_needs_little_of_a_small_stack() {
    if has("cc") {
        let output = output(plain(compiled("small_stack")).env(STATS, "SIGUSR2"));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output.stderr).matches(LAST).count(), 2, "{output:?}");
    }
}

/// Both variables, and an option: a program that others have given more rights listens to none.
#[test]
fn a_set_user_id_program_reads_none() {
    if !has("cc") {
        return;
    }
    let program = compiled("secure");
    let mut command = plain(&program);
    command.env(EXPLAIN, "1").env(STATS, "exit,nonsense").env("ANTIFREEZE_DECAY", "nonsense");
    let before = output(&mut command);
    assert_eq!(text(&before.stdout), "secure: 0\n");
    assert!(text(&before.stderr).contains("explain\n"), "without the bit it does: {before:?}");

    // SAFETY: reads a number.
    if unsafe { libc::geteuid() } != 0 {
        skip("only root can give a program to another user");
        return;
    }
    std::os::unix::fs::chown(&program, Some(65534), None).expect("the program changes hands");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).expect("the bit");
    let after = output(&mut command);
    assert!(after.status.success(), "{after:?}");
    if text(&after.stdout) == "secure: 0\n" {
        skip("the bit has no effect here (nosuid, or no new privileges)");
        return;
    }
    assert_eq!(text(&after.stdout), "secure: 1\n");
    assert_eq!(text(&after.stderr), "");
}
