//! Waiting for what comes soon.

use std::thread;
use std::time::{Duration, Instant};

/// Catches a hang; nothing is measured.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// Waits until something is there.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
