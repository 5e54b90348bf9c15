//! The source that fits where the trap runs: BPF tells the numbers of the initial pid namespace, and is of no use in
//! another one.

use anyhow::{Context, Result};

use super::options::Options;
use crate::source::Bounds;
use crate::source::choose::{Chosen, Wanted, choose};
use crate::target::namespace::require_initial;

/// Arms the source that was asked for, or the best that there is.
/// # Errors
/// The one that was asked for cannot be had here.
pub fn arm(options: &Options) -> Result<Chosen> {
    let bounds = Bounds { off_cpu: options.off_cpu_bound, lock: options.lock_bound };
    let Err(why) = require_initial() else { return choose(options.source, &bounds, options.threads_max) };
    match options.source {
        Wanted::Bpf => Err(why).context("BPF cannot be used"),
        Wanted::Auto => {
            let mut missing = vec![format!("BPF cannot be used: {why:#}")];
            let mut chosen = choose(Wanted::Perf, &bounds, options.threads_max).or_else(|error| {
                missing.push(format!("{error:#}"));
                choose(Wanted::Sampling, &bounds, options.threads_max)
            })?;
            missing.append(&mut chosen.missing);
            chosen.missing = missing;
            Ok(chosen)
        }
        other => choose(other, &bounds, options.threads_max),
    }
}
