//! When faults are injected: storms, in which calls are refused and limits lowered, and calms, in which none are. A
//! calm lasts longer than a fault explains a refusal, so that an allocator must get over what it was refused.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::sys::resource::Resource;

use super::faults::Faults;

/// How long the watch sleeps at once.
pub const POLL: Duration = Duration::from_millis(10);
/// In a storm, one poll in so many is a time in which a limit is low.
const LIMIT_POLLS: u32 = 8;
const LIMIT_MS_MOST: u64 = 20;
const STORM_MS: Range<u64> = 300..1200;
const CALM_MS: Range<u64> = 300..700;

/// The storms and calms of one soak.
#[derive(Debug)]
pub struct Weather {
    random: Rng,
    is_calm: bool,
    ends: Instant,
}

impl Weather {
    /// The weather that follows from a seed. The first poll begins a storm.
    pub fn new(seed: u64, now: Instant) -> Self {
        Self { random: Rng::with_seed(seed), is_calm: true, ends: now }
    }

    /// Lets one poll pass.
    pub fn pass(&mut self, faults: &Faults) {
        if Instant::now() >= self.ends {
            let time = self.turn();
            self.ends = Instant::now() + time;
            if self.is_calm { faults.close() } else { faults.open() }
        }
        if !self.is_calm && self.random.u32(..LIMIT_POLLS) == 0 {
            let resource = if self.random.bool() { Resource::RLIMIT_AS } else { Resource::RLIMIT_DATA };
            faults.lower_for(resource, Duration::from_millis(self.random.u64(1..=LIMIT_MS_MOST)));
        } else {
            thread::sleep(POLL);
        }
    }

    /// Turns from one to the other, and gives how long that lasts.
    fn turn(&mut self) -> Duration {
        self.is_calm = !self.is_calm;
        Duration::from_millis(self.random.u64(if self.is_calm { CALM_MS } else { STORM_MS }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::GRACE;
    use super::*;

    #[test]
    fn every_other_time_is_a_calm_that_outlasts_all_faults() {
        let mut weather = Weather::new(1, Instant::now());
        for number in 0..1000 {
            let time = weather.turn();
            assert_eq!(weather.is_calm, number % 2 == 1);
            assert!(!weather.is_calm || time >= 3 * GRACE, "{time:?}");
        }
    }
}
