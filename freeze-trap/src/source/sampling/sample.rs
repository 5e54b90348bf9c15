//! What `/proc` shows of one thread at one moment, from files that do not take its mmap_lock.

use std::fs::File;
use std::io::Read;

use crate::event::{Call, Sleep};

/// What has to stay the same while a thread is in one interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) sleep: Sleep,
    /// How often it was switched so far.
    pub(super) switches: u64,
    /// Processor time so far, for one that is runnable; in hundredths of a second.
    pub(super) ticks: u64,
}

/// Where a thread sleeps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// Functions of the kernel, the innermost first.
    pub(super) kernel: Vec<String>,
    /// The address in the program; at most one.
    pub(super) user: Vec<u64>,
    pub(super) call: Option<Call>,
}

/// The files have at most so many bytes, which the kernel gives at once.
const FILE_BYTES: usize = 4096;

/// One read, because this is what a round takes its time for.
fn read(pid: i32, tid: i32, file: &str) -> Option<String> {
    let mut bytes = [0; FILE_BYTES];
    let count = File::open(format!("/proc/{pid}/task/{tid}/{file}")).ok()?.read(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

impl Sample {
    /// `None` for a thread that is gone, or about to go.
    pub(super) fn of(pid: i32, tid: i32) -> Option<Self> {
        let mut sample = Self::parse(&read(pid, tid, "status")?)?;
        if sample.sleep == Sleep::Runnable {
            sample.ticks = ticks(&read(pid, tid, "stat")?)?;
        }
        Some(sample)
    }

    fn parse(status: &str) -> Option<Self> {
        let (mut name, mut sleep, mut switches) = (None, None, None);
        for (key, value) in status.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim_start_matches('\t');
            match key {
                "Name" => name = Some(value.to_owned()),
                "State" => {
                    sleep = match value.chars().next()? {
                        'R' => Some(Sleep::Runnable),
                        'S' => Some(Sleep::Interruptible),
                        'D' => Some(Sleep::Uninterruptible),
                        'Z' | 'X' => return None,
                        _ => Some(Sleep::Other),
                    };
                }
                "voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches" => {
                    switches = Some(switches.unwrap_or(0) + value.parse::<u64>().ok()?);
                }
                _ => {}
            }
        }
        Some(Sample { name: name?, sleep: sleep?, switches: switches?, ticks: 0 })
    }
}

/// Processor time of a `stat`: its 14th and 15th field. The name, in parentheses, may contain anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

impl Place {
    /// As much as may be read. `None` for a thread that is on a processor, or gone.
    pub(super) fn of(pid: i32, tid: i32) -> Option<Self> {
        let stack = read(pid, tid, "stack").map(|text| functions(&text)).unwrap_or_default();
        let kernel = if stack.is_empty() { waits_in(&read(pid, tid, "wchan")?) } else { stack };
        let (call, user) = read(pid, tid, "syscall").and_then(|text| call(&text)).unwrap_or_default();
        Some(Place { kernel, user, call })
    }
}

/// The functions of a `stack`, of lines such as `[<0>] futex_wait+0x10/0x20`.
fn functions(stack: &str) -> Vec<String> {
    let name = |line: &str| Some(line.split_once("] ")?.1.split(['+', ' ']).next()?.to_owned());
    stack.lines().filter_map(name).collect()
}

/// The function of a `wchan`, which is 0 where there is none or none is to be shown.
fn waits_in(wchan: &str) -> Vec<String> {
    let name = wchan.trim();
    if name.is_empty() || name == "0" { Vec::new() } else { vec![name.to_owned()] }
}

/// The call of a `syscall`, and where it was made: `1 0x2 0x3 0x4 0x5 0x6 0x7 SP PC`, or `-1 SP PC` outside of calls,
/// or `running`.
fn call(text: &str) -> Option<(Option<Call>, Vec<u64>)> {
    let mut words = text.split_ascii_whitespace();
    let number = u64::try_from(words.next()?.parse::<i64>().ok()?).ok();
    let hexadecimal = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let numbers = words.map(hexadecimal).collect::<Option<Vec<u64>>>()?;
    let arguments = numbers.first_chunk::<6>().filter(|_| numbers.len() == 8);
    let call = number.zip(arguments).map(|(number, arguments)| Call { number, arguments: *arguments });
    Some((call, vec![*numbers.last()?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tmy: worker\nUmask:\t0022\nState:\tD (disk sleep)\nTgid:\t7\n\
        voluntary_ctxt_switches:\t30\nnonvoluntary_ctxt_switches:\t12\n";

    #[test]
    fn a_status_tells_name_state_and_switches() {
        let sample = Sample { name: "my: worker".into(), sleep: Sleep::Uninterruptible, switches: 42, ticks: 0 };
        assert_eq!(Sample::parse(STATUS), Some(sample));
        assert_eq!(Sample::parse(&STATUS.replace("D (disk", "Z (zombie")), None);
        assert_eq!(Sample::parse("Name:\tx\n"), None);
        assert_eq!(ticks("12 (a) b (c) R 1 1 1 0 -1 4194304 9 0 1 0 20 5 0 0 20 0"), Some(25));
        assert_eq!(ticks("12 (a"), None);
    }

    #[test]
    fn functions_are_found_in_stacks_and_channels() {
        let stack = "[<0>] futex_wait_queue+0x6f/0xa0\n[<0>] nf_hook [nf_tables]\n[<0>] __x64_sys_futex+0x1/0x2\n";
        assert_eq!(functions(stack), ["futex_wait_queue", "nf_hook", "__x64_sys_futex"]);
        assert_eq!(waits_in("ep_poll"), ["ep_poll"]);
        assert!(waits_in("0").is_empty() && waits_in("").is_empty() && functions("").is_empty());
    }

    #[test]
    fn calls_are_told_with_their_arguments_and_faults_without() {
        let (number, arguments) = (9, [1, 0x20, 3, 4, 5, 6]);
        let in_call = call("9 0x1 0x20 0x3 0x4 0x5 0x6 0x7ffe 0x7f05\n");
        assert_eq!(in_call, Some((Some(Call { number, arguments }), vec![0x7f05])));
        assert_eq!(call("-1 0x7ffe 0x401000\n"), Some((None, vec![0x40_1000])));
        assert_eq!(call("running\n"), None);
        assert_eq!(call(""), None);
    }

    #[test]
    fn this_thread_runs_and_a_thread_that_is_not_has_no_sample() {
        let pid = std::process::id() as i32;
        let sample = Sample::of(pid, nix::unistd::gettid().as_raw()).expect("this thread is there");
        assert_eq!(sample.sleep, Sleep::Runnable);
        assert_eq!(Sample::of(pid, i32::MAX), None);
    }
}
