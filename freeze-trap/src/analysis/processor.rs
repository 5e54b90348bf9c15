//! Sentences about processors: a quota that is used up, too few of them, a thread that keeps one to itself; each with
//! the threads that had them, where their processor time was measured, and the functions in which they lost them.

use super::Running;
use super::sentence::{Answer, how_long, share};
use super::text;
use super::verdict::Tally;
use crate::event::{Kind, Sleep, Thread};
use crate::quantity;

/// Threads are told that had this part of what the one with the most had, in hundredths.
const USERS_MIN_PERCENT: u128 = 50;
/// The longest period of a quota.
const PERIOD_MAX_NS: u64 = 1_000_000_000;

impl Answer<'_> {
    pub(super) fn throttled(&self, tally: &Tally) -> String {
        let (refused_ns, frozen_ns) = (self.case.observed.throttled_ns.unwrap_or(0), self.case.frozen_ns());
        // The kernel counts when it lets threads run again, so that time before the freeze may be in it.
        let is_possible = u128::from(refused_ns) <= u128::from(frozen_ns) * self.case.observed.cpus as u128;
        let [refused, frozen] = [refused_ns, frozen_ns].map(quantity::time);
        let refused = format!(" ({refused} of processor time refused in {frozen})");
        let refused = if is_possible { refused } else { String::new() };
        let who = self.who(tally, None);
        let uses = self.uses_of_quota();
        let users = match &most(&uses)[..] {
            [] => self.running_in(|_| true),
            threads => {
                let of_them = uses.iter().filter(|one| threads.contains(&one.0));
                let [users_ns, all_ns] = [of_them.map(|one| one.1).sum(), uses.iter().map(|one| one.1).sum()];
                match self.running_in(|thread| threads.iter().any(|one| is_same(one, thread))) {
                    // Where nothing was seen of what they did, it was not seen well enough who they were.
                    within if within.is_empty() => within,
                    within => format!(", {} of it by {}{within}", share(users_ns, all_ns), text::threads(threads)),
                }
            }
        };
        let time = how_long(tally);
        format!("{who} waited {time} for a processor, as the quota of the cgroup was used up{refused}{users}")
    }

    pub(super) fn starved(&self, tally: &Tally) -> String {
        let observed = self.case.observed;
        let processors = match observed.cpus {
            1 => "the processor".to_owned(),
            count => format!("the {count} processors"),
        };
        let (who, time) = (self.who(tally, None), how_long(tally));
        let uses = self.uses();
        let ran_ns: u64 = uses.iter().map(|one| one.1).sum();
        let others = if uses.is_empty() {
            "others".to_owned()
        } else if u128::from(ran_ns) * 2 < u128::from(self.case.frozen_ns()) * observed.cpus as u128 {
            "other processes".to_owned()
        } else {
            let threads = most(&uses);
            let within = self.running_in(|thread| threads.iter().any(|one| is_same(one, thread)));
            format!("{}{within}", text::threads(&threads))
        };
        format!("{who} wanted to run for {time}; {processors} went to {others}")
    }

    pub(super) fn busy(&self) -> String {
        let (busy, causes) = (&self.verdict.busy, &self.verdict.causes);
        let who = text::threads(busy);
        let verb = if busy.len() == 1 { "was on a processor" } else { "were on processors" };
        let blocked = match causes.iter().map(|tally| tally.longest.1).max() {
            None => "no thread was blocked".to_owned(),
            Some(ns) => format!("no thread was blocked for more than {}", quantity::time(ns)),
        };
        let within = self.running_in(|thread| busy.iter().any(|one| is_same(one, thread)));
        format!("{blocked}: {who} {verb} all the time{within}")
    }

    /// How long each thread was on a processor in the frozen time and around it: when a quota is used up, nobody runs
    /// any more, those neither that used it. What was measured in the frozen time says nothing of that.
    fn uses_of_quota(&self) -> Vec<(&Thread, u64)> {
        let case = self.case;
        let around_ns = case.frozen_ns().max(PERIOD_MAX_NS);
        let time = (case.frozen.0.saturating_sub(around_ns), case.frozen.1.saturating_add(around_ns));
        let uses = case.threads.iter().map(|thread| (thread, case.seen_running_ns(thread, time)));
        uses.filter(|one| one.1 > 0).collect()
    }

    /// How long each thread of the target was on a processor in the frozen time. Of those that were measured, the
    /// measured part stands for the whole; those that were born or ended meanwhile were not, and get what is left of
    /// their time between the first and the last that was seen of them. Empty if none was measured.
    fn uses(&self) -> Vec<(&Thread, u64)> {
        let case = self.case;
        let running = case.observed.running;
        if running.is_empty() {
            return Vec::new();
        }
        let whole =
            |one: &Running| u128::from(one.cpu_ns) * u128::from(case.frozen_ns()) / u128::from(one.over_ns.max(1));
        let measured =
            running.iter().map(|one| (case.known(&one.thread), u64::try_from(whole(one)).unwrap_or(u64::MAX)));
        let is_measured = |thread: &&Thread| running.iter().any(|one| is_same(&one.thread, thread));
        let others = case.threads.iter().filter(|thread| !is_measured(thread));
        measured.chain(others.map(|thread| (thread, case.seen_running_ns(thread, case.frozen)))).collect()
    }

    /// The functions in which threads were when the processor was taken from them.
    fn running_in(&self, of: impl Fn(&Thread) -> bool) -> String {
        let functions = self.case.functions(|piece| {
            let is_taken = matches!(self.case.interval(piece).kind, Kind::OffCpu { sleep: Sleep::Runnable, .. });
            is_taken && of(self.case.thread(piece))
        });
        if functions.is_empty() { String::new() } else { format!(", in {}", functions.join(" and ")) }
    }
}

/// The threads that had the most.
fn most<'a>(uses: &[(&'a Thread, u64)]) -> Vec<&'a Thread> {
    let most_ns = uses.iter().map(|one| u128::from(one.1)).max().unwrap_or(0);
    let is_much = |ns: u64| ns > 0 && u128::from(ns) * 100 >= most_ns * USERS_MIN_PERCENT;
    uses.iter().filter(|one| is_much(one.1)).map(|one| one.0).collect()
}

fn is_same(one: &Thread, other: &Thread) -> bool {
    (one.pid, one.tid) == (other.pid, other.tid)
}
