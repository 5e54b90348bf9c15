//! The threads that note when each reply came and whether it was right, one for each connection. The
//! [`load`](super::load) starts them; the [`sender`](super::sender) learns through the [`Board`] what they saw.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::protocol::{REPLY_BYTES, Reply};
use super::schedule::Schedule;
use crate::clock::now_ns;

/// Room for the replies that one read takes.
const INBOX_BYTES: usize = 16 * 1024;
/// How often a receiver that gets nothing looks whether it should give up.
const LOOK: Duration = Duration::from_millis(20);

/// What sender and receivers tell each other.
///
/// Each number is all that is told: nothing else is published with it, so relaxed is enough.
#[derive(Debug)]
pub struct Board {
    /// When the reply to the trigger came; zero before.
    trigger_answered_ns: AtomicU64,
    /// When receivers stop waiting.
    give_up_ns: AtomicU64,
    /// Which connections bring no more replies.
    gone: Vec<AtomicBool>,
}

impl Board {
    /// A board on which nothing has happened.
    pub fn new(connections: usize) -> Self {
        Self {
            trigger_answered_ns: AtomicU64::new(0),
            give_up_ns: AtomicU64::new(u64::MAX),
            gone: (0..connections).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// When the reply to the trigger came.
    pub fn trigger_answered_ns(&self) -> Option<u64> {
        Some(self.trigger_answered_ns.load(Ordering::Relaxed)).filter(|time_ns| *time_ns > 0)
    }

    /// Whether a connection brings no more replies.
    pub fn is_gone(&self, connection: usize) -> bool {
        self.gone[connection].load(Ordering::Relaxed)
    }

    /// Whether no connection brings replies.
    pub fn all_gone(&self) -> bool {
        (0..self.gone.len()).all(|connection| self.is_gone(connection))
    }

    /// Notes that a connection is of no use any more.
    pub fn set_gone(&self, connection: usize) {
        self.gone[connection].store(true, Ordering::Relaxed);
    }

    /// Has receivers stop waiting at `time_ns`.
    pub fn give_up_at(&self, time_ns: u64) {
        self.give_up_ns.store(time_ns, Ordering::Relaxed);
    }
}

/// The replies of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// When each came, in the order of the requests.
    pub at_ns: Vec<u64>,
    /// How many did not say what they had to. One that cannot be matched to its request is the last.
    pub wrong: u64,
}

impl Answers {
    /// Takes one reply; tells whether the connection can still be trusted.
    fn take(&mut self, frame: &[u8; REPLY_BYTES], connection: usize, now_ns: u64, schedule: &Schedule) -> bool {
        let number = schedule.number(connection, self.at_ns.len() as u64);
        match Reply::decode(frame) {
            Ok(reply) if reply.id == number => {
                self.at_ns.push(now_ns);
                self.wrong += u64::from((reply.status, reply.value) != schedule.expected(number));
                true
            }
            _ => {
                self.wrong += 1;
                false
            }
        }
    }
}

/// Takes replies until the connection ends or the board says to give up.
///
/// # Errors
///
/// If the kernel refuses the time limit that makes giving up possible.
pub fn receive(
    mut stream: TcpStream,
    connection: usize,
    schedule: &Schedule,
    board: &Board,
) -> Result<Answers, String> {
    stream.set_read_timeout(Some(LOOK)).map_err(|error| format!("the time limit of a connection: {error}"))?;
    let mut answers = Answers::default();
    let mut inbox = [0; INBOX_BYTES];
    let mut filled = 0;
    while now_ns() < board.give_up_ns.load(Ordering::Relaxed) {
        match stream.read(&mut inbox[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        }
        let now_ns = now_ns();
        let (frames, rest) = inbox[..filled].as_chunks::<REPLY_BYTES>();
        let (rest, taken) = (rest.len(), filled - rest.len());
        let trusted = frames.iter().all(|frame| answers.take(frame, connection, now_ns, schedule));
        if connection == schedule.connection(schedule.trigger) {
            let answered =
                answers.at_ns.get(usize::try_from(schedule.position(schedule.trigger)).unwrap_or(usize::MAX));
            board.trigger_answered_ns.store(answered.copied().unwrap_or(0), Ordering::Relaxed);
        }
        if !trusted {
            break;
        }
        inbox.copy_within(taken..filled, 0);
        filled = rest;
    }
    board.set_gone(connection);
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::protocol::Status;

    const SCHEDULE: Schedule =
        Schedule { start_ns: 0, rate_per_s: 10, connections: 2, keys: 9, seed: 1, trigger: 5, put_key: 9 };

    fn right(number: u64) -> Reply {
        let (status, value) = SCHEDULE.expected(number);
        Reply { id: number, status, value }
    }

    #[test]
    fn right_replies_are_taken_in_order() {
        let mut answers = Answers::default();
        for (number, now_ns) in [(1, 10), (3, 20), (5, 30)] {
            assert!(answers.take(&right(number).encode(), 1, now_ns, &SCHEDULE));
        }
        assert_eq!(answers, Answers { at_ns: vec![10, 20, 30], wrong: 0 });
    }

    #[test]
    fn wrong_replies_are_counted() {
        let mut answers = Answers::default();
        let absent = Reply { status: Status::Absent, ..right(0) };
        assert!(answers.take(&absent.encode(), 0, 10, &SCHEDULE), "its request is known");
        let other_value = Reply { value: [1; 16], ..right(2) };
        assert!(answers.take(&other_value.encode(), 0, 10, &SCHEDULE));
        assert_eq!((answers.at_ns.len(), answers.wrong), (2, 2));
        assert!(!answers.take(&right(6).encode(), 0, 10, &SCHEDULE), "4 is missing");
        assert_eq!((answers.at_ns.len(), answers.wrong), (2, 3));
    }

    #[test]
    fn the_board_tells_when_all_are_gone() {
        let board = Board::new(2);
        assert!(!board.all_gone());
        board.set_gone(0);
        assert!(board.is_gone(0) && !board.is_gone(1) && !board.all_gone());
        board.set_gone(1);
        assert!(board.all_gone());
        assert_eq!(board.trigger_answered_ns(), None);
    }
}
