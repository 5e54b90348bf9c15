//! Signals as something to read. Held by the main loop, which looks here in every turn.
//!
//! Invariant: they are caught, and not blocked: what is blocked would stay so in commands that the trap starts. What
//! was ignored when the trap was started stays ignored, by it and by its command, as whoever used nohup(1) expects.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithRawSiginfo;

use crate::source::permits::own_mask;

/// Those that end the trap.
pub const ENDS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
/// Those that are of no interest to the trap, and passed on to a command.
const OTHERS: [Signal; 2] = [Signal::SIGUSR1, Signal::SIGUSR2];

/// `si_code` of what the kernel sends by itself, as for a key: the command gets that as well.
const SI_KERNEL: i32 = 128;

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// Which.
    pub signal: Signal,
    /// A process sent it, not the terminal.
    pub from_process: bool,
}

/// Signals that wait to be read.
pub struct Signals {
    caught: SignalsInfo<WithRawSiginfo>,
}

impl Signals {
    /// Takes the signals that end the trap, and with a command the others that are passed on to it.
    /// # Errors
    /// The kernel refuses.
    pub fn take(with_command: bool) -> Result<Self> {
        let others: &[Signal] = if with_command { &OTHERS } else { &[] };
        let ignored = own_mask("SigIgn:").unwrap_or(0);
        let all = ENDS.iter().chain(others).map(|signal| *signal as i32);
        let all = all.filter(|number| ignored >> (number - 1) & 1 == 0);
        Ok(Signals { caught: SignalsInfo::new(all).context("signals cannot be caught")? })
    }

    /// Those that came since the last call.
    pub fn came(&mut self) -> Vec<Came> {
        let came = self.caught.pending().filter_map(|info| {
            let signal = Signal::try_from(info.si_signo).ok()?;
            Some(Came { signal, from_process: info.si_code != SI_KERNEL })
        });
        came.collect()
    }
}
