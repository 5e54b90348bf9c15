//! Which of the calls that the supervisor sees are refused, and how: windows in which one call of so many fails, and
//! peace between them. Windows are counted in calls, not in time, so that an allocator that seldom calls the kernel is
//! not spared.

use std::ops::Range;

use fastrand::Rng;

use super::filter::Call;

/// One call in so many fails in a window, and how many calls the window lasts. When all fail, for less long.
const WINDOWS: [(u32, Range<u32>); 4] = [(1, 4..40), (2, 10..80), (8, 20..150), (50, 100..400)];
const PEACE_CALLS: Range<u32> = 10..150;

/// The schedule of a soak.
#[derive(Debug)]
pub struct Schedule {
    random: Rng,
    calls_left: u32,
    /// `None` in peace.
    one_in: Option<u32>,
}

impl Schedule {
    /// The schedule that follows from a seed.
    pub fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed), calls_left: 0, one_in: None }
    }

    /// The error with which the next call fails, if it is to fail.
    pub fn next(&mut self, call: Call) -> Option<i32> {
        if self.calls_left == 0 {
            let (one_in, calls) = match self.one_in {
                Some(_) => (None, PEACE_CALLS),
                None => {
                    let (one_in, calls) = WINDOWS[self.random.usize(..WINDOWS.len())].clone();
                    (Some(one_in), calls)
                }
            };
            (self.one_in, self.calls_left) = (one_in, self.random.u32(calls));
        }
        self.calls_left -= 1;
        (self.random.u32(..self.one_in?) == 0).then(|| self.error(call))
    }

    /// An error that the kernel documents for the call, for want of memory or of anything else for now.
    fn error(&mut self, call: Call) -> i32 {
        match call {
            Call::Mprotect => libc::ENOMEM,
            Call::Mmap | Call::Madvise | Call::Mremap | Call::Clone => {
                if self.random.bool() {
                    libc::ENOMEM
                } else {
                    libc::EAGAIN
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_peace_follow_from_the_seed() {
        let errors = |seed| {
            let mut schedule = Schedule::new(seed);
            (0..20_000).map(|_| schedule.next(Call::Mmap)).collect::<Vec<_>>()
        };
        assert_eq!(errors(1), errors(1));
        assert_ne!(errors(1), errors(2));
        let errors = errors(1);
        assert!(errors.contains(&Some(libc::ENOMEM)) && errors.contains(&Some(libc::EAGAIN)));
        assert!(errors.windows(4).any(|four| four.iter().all(Option::is_some)), "at times all fail");
        assert!(errors.windows(140).any(|many| many.iter().all(Option::is_none)), "at times none fails");
    }
}
