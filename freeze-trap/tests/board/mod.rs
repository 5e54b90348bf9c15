//! The board with one probe, and a main loop that waits for some answer.

use std::thread;
use std::time::{Duration, Instant};

use freeze_trap::clock::now_ns;
use freeze_trap::probe::{Answer, Board, Spec};

/// Catches a hang; nothing is measured.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often a probe is asked that does not say so itself.
pub const EVERY: Duration = Duration::from_millis(20);

/// Starts a probe.
pub fn start(spec: &str) -> Board {
    let spec: Spec = spec.parse().unwrap_or_else(|error| panic!("{error}"));
    Board::start(vec![spec], EVERY).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Fetches answers of the first probe until one will do.
pub fn until(board: &mut Board, enough: impl FnMut(&Answer) -> bool) -> Answer {
    until_every(board, Duration::from_millis(2), enough)
}

/// The same, with a pause of the caller's choice between two looks.
pub fn until_every(board: &mut Board, pause: Duration, mut enough: impl FnMut(&Answer) -> bool) -> Answer {
    let begin = Instant::now();
    let mut found = None;
    while found.is_none() {
        assert!(begin.elapsed() < DEADLINE, "no such answer");
        board.take(now_ns(), |index, answer| {
            if index == 0 && found.is_none() && enough(&answer) {
                found = Some(answer);
            }
        });
        thread::sleep(pause);
    }
    found.expect("it was found")
}
