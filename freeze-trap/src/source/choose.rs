//! Which source is used: the best that this machine permits, or the one that was asked for; and why each better one is
//! not, with what would help.

use std::io;

use anyhow::{Context, Error, Result};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::bpf::Bpf;
use super::perf::{Perf, Switches};
use super::permits::{has, is_filtered};
use super::sampling::Sampling;
use super::{Bounds, Source};

/// Which source is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    /// The best that is permitted
    #[default]
    Auto,
    /// BPF programs on tracepoints
    Bpf,
    /// Perf events on tracepoints
    Perf,
    /// Samples of /proc
    Sampling,
}

/// A source at work.
pub struct Chosen {
    /// The source.
    pub source: Box<dyn Source>,
    /// Why each better one is not used, and what this one does not see: a line each, with what would help.
    pub missing: Vec<String>,
}

/// Arms the best source that is permitted, or the one that is wanted. Takes up to a second.
/// # Errors
/// The one that is wanted cannot be had; or none, if `/proc` cannot be read.
pub fn choose(wanted: Wanted, bounds: &Bounds, threads_max: u32) -> Result<Chosen> {
    if wanted != Wanted::Auto {
        return arm(wanted, bounds, threads_max).with_context(|| format!("{} cannot be used", name(wanted)));
    }
    let mut missing = Vec::new();
    for better in [Wanted::Bpf, Wanted::Perf] {
        match arm(better, bounds, threads_max) {
            Ok(chosen) => return Ok(chosen.after(missing)),
            Err(error) => missing.push(why_not(better, &error)),
        }
    }
    Ok(arm(Wanted::Sampling, bounds, threads_max)?.after(missing))
}

impl Chosen {
    /// Says first why others were not chosen.
    fn after(self, mut missing: Vec<String>) -> Self {
        missing.extend(self.missing);
        Chosen { source: self.source, missing }
    }
}

/// What became of a source that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// What it is called.
    pub name: String,
    /// Whether it can be used.
    pub works: bool,
    /// Why not; or what it does not see. With what would help.
    pub notes: Vec<String>,
}

/// As many threads are watched where a source is only tried.
const THREADS_TRIED: u32 = 64;

/// Arms each source for a moment, the best first. Takes up to a second.
#[must_use]
pub fn try_each() -> Vec<Tried> {
    let (bounds, threads) = (Bounds::default(), THREADS_TRIED as usize);
    let tracepoints = Perf::arm(&bounds, threads).map(|perf| perf.missing());
    let switches = Switches::arm(&bounds, threads).map(|switches| switches.missing());
    vec![
        tried("BPF on tracepoints", arm(Wanted::Bpf, &bounds, THREADS_TRIED).map(|chosen| chosen.missing)),
        tried("perf events on tracepoints", tracepoints),
        tried("perf events on switches", switches),
        tried("samples of /proc", arm(Wanted::Sampling, &bounds, THREADS_TRIED).map(|chosen| chosen.missing)),
    ]
}

fn tried(name: &str, outcome: Result<Vec<String>>) -> Tried {
    let name = name.to_owned();
    match outcome {
        Ok(notes) => Tried { name, works: true, notes },
        Err(error) => Tried { name, works: false, notes: vec![one_line(&error)] },
    }
}

/// How many lines of an error are told.
const LINES_MAX: usize = 6;

fn name(one: Wanted) -> &'static str {
    match one {
        Wanted::Auto => "the best source",
        Wanted::Bpf => "BPF",
        Wanted::Perf => "perf events",
        Wanted::Sampling => "samples of /proc",
    }
}

fn arm(one: Wanted, bounds: &Bounds, threads_max: u32) -> Result<Chosen> {
    let threads = threads_max as usize;
    match one {
        Wanted::Auto | Wanted::Bpf => {
            let bpf = Bpf::arm(bounds, threads_max).map_err(|error| match rights_for_bpf(&error) {
                Some(help) => error.context(help),
                None => error,
            })?;
            Ok(Chosen { source: Box::new(bpf), missing: Vec::new() })
        }
        Wanted::Perf => {
            let error = match Perf::arm(bounds, threads) {
                Ok(perf) => {
                    let missing = perf.missing();
                    return Ok(Chosen { source: Box::new(perf), missing });
                }
                Err(error) => error,
            };
            let Ok(switches) = Switches::arm(bounds, threads) else { return Err(error) };
            let chosen = Chosen { missing: switches.missing(), source: Box::new(switches) };
            Ok(chosen.after(vec![format!("perf events on tracepoints cannot be used: {}", one_line(&error))]))
        }
        Wanted::Sampling => {
            let sampling = Sampling::arm(bounds, threads)?;
            Ok(Chosen { source: Box::new(sampling), missing: Sampling::missing() })
        }
    }
}

/// Whether the kernel refused a call, rather than what was asked of it.
fn is_refusal(error: &Error) -> bool {
    let codes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    codes.map(Errno::from_raw).any(|code| matches!(code, Errno::EPERM | Errno::ENOSYS))
}

/// What BPF takes and this process has not, where it failed with this.
fn rights_for_bpf(error: &Error) -> Option<&'static str> {
    if has("CAP_SYS_ADMIN") {
        return None;
    }
    match (has("CAP_BPF"), has("CAP_PERFMON")) {
        (true, true) if is_filtered() && is_refusal(error) => {
            Some("where the filter of system calls (seccomp) of the container or unit refuses bpf, let it permit that")
        }
        (true, true) => None,
        (true, false) => Some("it takes CAP_PERFMON besides CAP_BPF"),
        (false, true) => Some("it takes CAP_BPF besides CAP_PERFMON"),
        (false, false) => Some("it takes CAP_BPF and CAP_PERFMON"),
    }
}

fn why_not(better: Wanted, error: &Error) -> String {
    format!("{} cannot be used: {}", name(better), one_line(error))
}

/// The causes of an error, which may have several lines: of hundreds that the kernel's verifier writes, the first and
/// the last few, which say what it does not like.
fn one_line(error: &Error) -> String {
    let causes = format!("{error:#}");
    let lines: Vec<&str> = causes.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [first, .., _] if lines.len() > LINES_MAX => {
            format!("{first}; ...; {}", lines[lines.len() - LINES_MAX..].join("; "))
        }
        _ => lines.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_always_permitted_and_say_what_they_lack() {
        let chosen = choose(Wanted::Sampling, &Bounds::default(), 100).unwrap();
        assert_eq!(chosen.source.name(), "samples of /proc");
        assert!(chosen.missing.iter().any(|line| line.contains("CAP_BPF")), "{:?}", chosen.missing);
    }

    #[test]
    fn a_filter_is_blamed_for_what_the_kernel_refused_only() {
        let error = |code| Error::from(io::Error::from_raw_os_error(code)).context("the programs cannot be loaded");
        let refusals = [libc::EPERM, libc::ENOSYS, libc::EINVAL].map(|code| is_refusal(&error(code)));
        assert_eq!(refusals, [true, true, false]);
        assert!(!is_refusal(&Error::msg("the kernel has no type information")));
    }

    #[test]
    fn why_not_is_one_line() {
        let error = Error::msg("refused\n  at 3\n").context("the programs cannot be loaded");
        assert_eq!(why_not(Wanted::Bpf, &error), "BPF cannot be used: the programs cannot be loaded: refused; at 3");
        let long: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(one_line(&Error::msg(long.join("\n"))), "0; ...; 94; 95; 96; 97; 98; 99");
    }
}
