//! A test that is run again as another user, by setpriv(1), with chosen capabilities.

use std::process::Command;

use test_support::skip;

/// Runs the test of this file as a user without rights but for these capabilities (`+bpf,+perfmon`, or none), with a
/// variable. What it printed; `None`, with a line, where that cannot be.
pub fn run(test: &str, capabilities: &str, variable: Option<(&str, String)>) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        skip("only root can take the rights of others");
        return None;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    if !capabilities.is_empty() {
        command.args([format!("--inh-caps={capabilities}"), format!("--ambient-caps={capabilities}")]);
    }
    command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture", "--test-threads=1"]);
    let output = match command.envs(variable).output() {
        Ok(output) => output,
        Err(error) => {
            skip(format_args!("setpriv cannot be run: {error}"));
            return None;
        }
    };
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if text.contains("setpriv: ") {
        skip(text);
        return None;
    }
    assert!(output.status.success() && text.contains("1 passed"), "{test} with {capabilities}: {text}");
    Some(text)
}
