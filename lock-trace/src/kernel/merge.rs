//! Events of several rings in one order of time. Each ring is nearly in order by itself, but they are read one after
//! the other, and an event may enter its ring a little after its time was taken.

/// Events are put in order this long after their time: more than it takes one to get into its ring, even if the host
/// stops a virtual processor in between.
pub const SLACK_NS: u64 = 50_000_000;

/// Events that wait until no earlier one can come any more. There are never more than the rings hold and what comes in
/// until the next pass.
#[derive(Debug)]
pub struct Merge<T> {
    pending: Vec<(u64, T)>,
}

impl<T> Merge<T> {
    /// Takes an event of this time.
    pub fn push(&mut self, time_ns: u64, event: T) {
        self.pending.push((time_ns, event));
    }

    /// Gives all events up to this time to `take`, in order.
    pub fn pop_until(&mut self, time_ns: u64, mut take: impl FnMut(T)) {
        // A stable sort of a few ascending runs, for which it is linear.
        self.pending.sort_by_key(|(time_ns, _)| *time_ns);
        let count = self.pending.partition_point(|(at_ns, _)| *at_ns <= time_ns);
        self.pending.drain(..count).for_each(|(_, event)| take(event));
    }
}

impl<T> Default for Merge<T> {
    fn default() -> Merge<T> {
        Merge { pending: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_in_order_and_not_too_early() {
        let mut merge = Merge::default();
        [10, 30, 50, 20, 40].into_iter().for_each(|time_ns| merge.push(time_ns, time_ns));
        let mut times = Vec::new();
        merge.pop_until(30, |time_ns| times.push(time_ns));
        assert_eq!(times, [10, 20, 30]);
        merge.push(35, 35);
        merge.pop_until(u64::MAX, |time_ns| times.push(time_ns));
        assert_eq!(times, [10, 20, 30, 35, 40, 50]);
    }
}
