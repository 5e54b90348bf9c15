//! Which request is due when. The [`sender`](super::sender) sends by it, the [`receiver`](super::receiver) knows from
//! it what each reply must say, and the [`load_report`](super::load_report) counts latencies from it.
//!
//! A request and the time it is due follow from its number alone, so nobody has to remember what is under way, and the
//! service cannot slow the schedule down.

use super::protocol::{Op, Request, Status, Value, value_of};
use super::{NS_PER_S, mixed};

/// One request in so many is a put of a key that exists.
const PUT_EVERY: u64 = 20;

/// The requests of a load, numbered from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// When request zero is due, by `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Requests of a second.
    pub rate_per_s: u64,
    /// Connections, which take turns.
    pub connections: usize,
    /// The keys from 0 to this, itself not included, exist.
    pub keys: u64,
    /// The seed of the random choices.
    pub seed: u64,
    /// The number of the put that makes the index grow.
    pub trigger: u64,
    /// Its key, which does not exist before.
    pub put_key: u64,
}

impl Schedule {
    /// How many requests are due in `span_ns`.
    pub fn due_within(rate_per_s: u64, span_ns: u64) -> u64 {
        saturating(u128::from(span_ns) * u128::from(rate_per_s) / u128::from(NS_PER_S))
    }

    /// When a request is due.
    pub fn due_ns(&self, number: u64) -> u64 {
        let after_ns = u128::from(number) * u128::from(NS_PER_S) / u128::from(self.rate_per_s);
        self.start_ns.saturating_add(saturating(after_ns))
    }

    /// When the put that makes the index grow is due.
    pub fn trigger_due_ns(&self) -> u64 {
        self.due_ns(self.trigger)
    }

    /// The connection that a request is sent on.
    pub const fn connection(&self, number: u64) -> usize {
        (number % self.connections as u64) as usize
    }

    /// How many requests of its connection are due before a request.
    pub const fn position(&self, number: u64) -> u64 {
        number / self.connections as u64
    }

    /// The request at a position of a connection.
    pub const fn number(&self, connection: usize, position: u64) -> u64 {
        position * self.connections as u64 + connection as u64
    }

    /// A request.
    pub fn request(&self, number: u64) -> Request {
        let (op, key) = self.choice(number);
        let value = if op == Op::Put { value_of(key) } else { Value::default() };
        Request { op, id: number, key, value }
    }

    /// What the reply to a request must say.
    pub fn expected(&self, number: u64) -> (Status, Value) {
        if number == self.trigger {
            return (Status::Absent, Value::default());
        }
        // A put replaces what the key had, which is the same value again.
        (Status::Found, value_of(self.choice(number).1))
    }

    fn choice(&self, number: u64) -> (Op, u64) {
        if number == self.trigger {
            return (Op::Put, self.put_key);
        }
        let op = if mixed([self.seed, number, 0]).is_multiple_of(PUT_EVERY) { Op::Put } else { Op::Get };
        (op, mixed([self.seed, number, 1]) % self.keys)
    }
}

fn saturating(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule =
        Schedule { start_ns: 5_000, rate_per_s: 3, connections: 4, keys: 1000, seed: 7, trigger: 4_000, put_key: 1000 };

    #[test]
    fn the_rate_is_kept_without_drift() {
        assert_eq!(SCHEDULE.due_ns(0), 5_000);
        assert_eq!(SCHEDULE.due_ns(3), 1_000_005_000);
        assert_eq!(SCHEDULE.due_ns(3_000_000_000), 1_000_000_000_000_005_000);
        assert_eq!(Schedule::due_within(2000, 300_000_000), 600);
    }

    #[test]
    fn connections_take_turns() {
        for number in 0..100 {
            let (connection, position) = (SCHEDULE.connection(number), SCHEDULE.position(number));
            assert_eq!(SCHEDULE.number(connection, position), number);
        }
        assert_eq!((SCHEDULE.connection(6), SCHEDULE.position(6)), (2, 1));
    }

    #[test]
    fn one_in_twenty_puts_and_only_the_trigger_adds_a_key() {
        let mut puts = 0;
        for number in 0..20_000 {
            let request = SCHEDULE.request(number);
            assert_eq!(request.id, number);
            if number == SCHEDULE.trigger {
                assert_eq!((request.op, request.key, request.value), (Op::Put, 1000, value_of(1000)));
                assert_eq!(SCHEDULE.expected(number).0, Status::Absent);
            } else {
                assert!(request.key < 1000);
                assert_eq!(SCHEDULE.expected(number), (Status::Found, value_of(request.key)));
                puts += u64::from(request.op == Op::Put);
            }
        }
        assert!((800..1200).contains(&puts), "{puts} of 20000");
    }

    #[test]
    fn another_seed_is_another_load() {
        let other = Schedule { seed: 8, ..SCHEDULE };
        assert!((0..100).any(|number| other.request(number) != SCHEDULE.request(number)));
    }
}
