//! Reads the kernel's counters, which the runner has opened and the child has inherited, around a workload.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use super::ChildError;
use crate::counts::{COUNTERS, Counts};

/// What is wrong with other arguments in their place.
pub(super) const WRONG_DESCRIPTORS: &str = "further arguments are not the descriptors of the kernel's counters";

/// The open counters, in the order of [`Counts::from_counters`].
pub(super) struct Counters {
    files: [File; COUNTERS],
}

impl Counters {
    /// Takes over descriptors that this process was started with.
    pub(super) fn inherit(descriptors: [RawFd; COUNTERS]) -> Result<Self, &'static str> {
        let is_open = |descriptor: RawFd| Path::new(&format!("/proc/self/fd/{descriptor}")).is_symlink();
        let valid = |(index, &descriptor): (usize, &RawFd)| {
            descriptor > 2 && !descriptors[..index].contains(&descriptor) && is_open(descriptor)
        };
        if !descriptors.iter().enumerate().all(valid) {
            return Err(WRONG_DESCRIPTORS);
        }
        // SAFETY: they are open and distinct, and nothing else in this process uses them: the runner opened them for
        // this.
        let files = descriptors.map(|descriptor| File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }));
        Ok(Self { files })
    }

    /// Runs `work`, and gives what it returned with what the counters went up by.
    pub(super) fn count<T>(&mut self, work: impl FnOnce() -> T) -> Result<(T, Counts), ChildError> {
        let (mut before, mut after) = ([0; COUNTERS], [0; COUNTERS]);
        // The count of all calls is read last before the work and first after it, so that of these readings it sees
        // only its own last one.
        const ALL_CALLS: usize = COUNTERS - 2;
        let others = (0..COUNTERS).filter(|&index| index != ALL_CALLS);
        for index in others.clone().chain([ALL_CALLS]) {
            before[index] = value(&mut self.files[index]).map_err(ChildError::Counters)?;
        }
        let result = work();
        for index in [ALL_CALLS].into_iter().chain(others) {
            after[index] = value(&mut self.files[index]).map_err(ChildError::Counters)?;
        }
        let mut increase = [0; COUNTERS];
        for ((increase, after), before) in increase.iter_mut().zip(after).zip(before) {
            *increase = after.saturating_sub(before);
        }
        Ok((result, Counts::from_counters(&increase)))
    }
}

fn value(counter: &mut File) -> io::Result<u64> {
    let mut word = [0; 8];
    counter.read_exact(&mut word)?;
    Ok(u64::from_ne_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::Counters;

    #[test]
    fn standard_streams_repetitions_and_closed_descriptors_are_refused() {
        assert!(Counters::inherit([1; 10]).is_err());
        assert!(Counters::inherit([700, 701, 702, 703, 704, 705, 706, 707, 708, 709]).is_err());
        assert!(Counters::inherit([700, 701, 702, 703, 704, 705, 706, 707, 708, 700]).is_err());
    }
}
