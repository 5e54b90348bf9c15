//! Whether the trap sees the numbers of processes that the kernel's events carry: those of the initial pid namespace.

use std::fs;

use anyhow::{Context, Result, bail};

/// The inode of the initial pid namespace (include/uapi/linux/nsfs.h: PID_NS_INIT_INO).
const INITIAL: &str = "pid:[4026531836]";

/// Checks that the trap runs in the initial pid namespace, as sources need that tell numbers by BPF.
/// # Errors
/// It does not, or cannot tell.
pub fn require_initial() -> Result<()> {
    let own = fs::read_link("/proc/self/ns/pid").context("/proc/self/ns/pid cannot be read")?;
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status cannot be read")?;
    judge(&own.to_string_lossy(), &status)
}

fn judge(own: &str, status: &str) -> Result<()> {
    // With the host's `/proc`, the trap has a number for each namespace from there down to its own.
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or("");
    if own == INITIAL && numbers.split_whitespace().count() <= 1 {
        return Ok(());
    }
    bail!(
        "the trap runs in a pid namespace of its own ({own}), as in a container, but the kernel's events carry the \
         numbers of the host, so that no process would be recognised; start the trap on the host, or give the container \
         the host's namespace (docker run --pid=host; hostPID: true in Kubernetes)"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_initial_namespace_will_do() {
        assert!(judge(INITIAL, "Name:\ta\nNSpid:\t17\n").is_ok());
        assert!(judge(INITIAL, "Name:\told kernel\n").is_ok());
        for (own, status) in [("pid:[4026532001]", "NSpid:\t17\n"), (INITIAL, "NSpid:\t17\t1\n")] {
            let error = judge(own, status).unwrap_err().to_string();
            assert!(error.contains(own) && error.contains("hostPID: true"), "{error}");
        }
    }
}
