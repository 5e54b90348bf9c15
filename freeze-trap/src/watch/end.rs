//! Why a watch ends, and the exit status that this makes.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use nix::sys::signal::Signal;

use crate::target::Ended;

/// Why the watch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A signal asked for it.
    Signal(Signal),
    /// The time of `--for` is over.
    Time,
    /// The capture of `--once` is made, or could not be written.
    Once,
    /// The target is gone for good.
    Target(Ended),
}

/// The exit status of a watch that ends, and has so many captures: see [`super::STATUSES`].
pub fn status(end: Option<End>, once: bool, captured: u64) -> ExitCode {
    match end {
        _ if once && captured > 0 => ExitCode::SUCCESS,
        Some(End::Once) => ExitCode::FAILURE,
        _ if once => ExitCode::from(3),
        Some(End::Target(Ended::Command(status))) => {
            let code = status.code().or_else(|| Some(128 + status.signal()?));
            ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        _ => ExitCode::SUCCESS,
    }
}
