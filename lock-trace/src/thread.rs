//! What the assembler knows about one thread while it lives: its name, the system call that it is in, its wait, its
//! holds, and what was counted for it.

use std::collections::HashMap;

use crate::activity::Activity;
use crate::event::Context;
use crate::tally::Tally;
use crate::trace::{Blame, Mode};

/// A thread cannot hold the lock more often than this at once; more are remains of releases that were lost.
const HOLDS_MOST: usize = 4;
/// The other threads and activities that are remembered for one wait.
const BLAME_MOST: usize = 16;

/// One thread.
#[derive(Default)]
pub(crate) struct Thread {
    pub(crate) pid: i32,
    pub(crate) name: String,
    /// The traced system call that it is in.
    pub(crate) call: Option<Activity>,
    /// When it entered that.
    pub(crate) entered_ns: u64,
    pub(crate) wait: Option<Wait>,
    /// Holds that have not ended, the latest last.
    pub(crate) holds: Vec<Hold>,
    pub(crate) counts: Counts,
    /// It ends, and lives on in the kernel for a while: the address space is given back after its end was told.
    pub(crate) ended: bool,
}

/// What was counted for one thread, or for several of one name.
#[derive(Default)]
pub(crate) struct Counts {
    /// By activity (without size) and mode: holds, waits.
    pub(crate) times: HashMap<(Activity, Mode), (Tally, Tally)>,
    /// By number of the system call.
    pub(crate) calls: HashMap<i64, CallCount>,
}

/// Entries of one system call.
#[derive(Default)]
pub(crate) struct CallCount {
    pub(crate) count: u64,
    pub(crate) empty: u64,
    pub(crate) bytes: u64,
    pub(crate) time: Tally,
}

/// An attempt to take the lock that is not over.
pub(crate) struct Wait {
    pub(crate) start_ns: u64,
    pub(crate) mode: Mode,
    pub(crate) activity: Activity,
    pub(crate) blame: Vec<Blame>,
}

/// A hold that has not ended.
#[derive(Clone, Copy)]
pub(crate) struct Hold {
    pub(crate) start_ns: u64,
    pub(crate) mode: Mode,
    pub(crate) activity: Activity,
}

impl Thread {
    /// What the thread is doing when it is seen in this context.
    pub(crate) fn activity(&self, context: Context) -> Activity {
        self.call.unwrap_or_else(|| context.into())
    }

    /// Counts how long the call has taken that returns now.
    pub(crate) fn end_call(&mut self, time_ns: u64) {
        if let Some(Activity::Call { number, .. }) = self.call.take() {
            let call = self.counts.calls.entry(number).or_default();
            call.time.add(time_ns.saturating_sub(self.entered_ns));
        }
    }

    /// Begins a hold; gives how many earlier ones had to be given up.
    pub(crate) fn begin_hold(&mut self, hold: Hold) -> u64 {
        // One holds the lock for writing, or several times for reading.
        let stale = |held: &Hold| held.mode == Mode::Write || hold.mode == Mode::Write;
        let before = self.holds.len();
        self.holds.retain(|held| !stale(held));
        if self.holds.len() == HOLDS_MOST {
            self.holds.remove(0);
        }
        let given_up = before - self.holds.len();
        self.holds.push(hold);
        given_up as u64
    }

    /// Takes the latest hold of this mode.
    pub(crate) fn end_hold(&mut self, mode: Mode) -> Option<Hold> {
        let at = self.holds.iter().rposition(|hold| hold.mode == mode)?;
        Some(self.holds.remove(at))
    }

    /// Forgets what cannot be true of a thread that is outside of the kernel; gives how much that was.
    pub(crate) fn is_outside(&mut self) -> u64 {
        let count = self.holds.len() + usize::from(self.wait.is_some());
        self.holds.clear();
        self.wait = None;
        count as u64
    }
}

impl Counts {
    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty() && self.calls.is_empty()
    }

    pub(crate) fn add_hold(&mut self, activity: Activity, mode: Mode, duration_ns: u64) {
        self.times.entry((activity.without_bytes(), mode)).or_default().0.add(duration_ns);
    }

    pub(crate) fn add_wait(&mut self, activity: Activity, mode: Mode, duration_ns: u64) {
        self.times.entry((activity.without_bytes(), mode)).or_default().1.add(duration_ns);
    }

    pub(crate) fn add_call(&mut self, number: i64, bytes: Option<u64>) {
        let call = self.calls.entry(number).or_default();
        call.count += 1;
        call.empty += u64::from(bytes == Some(0));
        call.bytes = call.bytes.saturating_add(bytes.unwrap_or(0));
    }

    pub(crate) fn merge(&mut self, other: Counts) {
        for (key, (holds, waits)) in other.times {
            let own = self.times.entry(key).or_default();
            own.0.merge(&holds);
            own.1.merge(&waits);
        }
        for (number, call) in other.calls {
            let own = self.calls.entry(number).or_default();
            own.count += call.count;
            own.empty += call.empty;
            own.bytes = own.bytes.saturating_add(call.bytes);
            own.time.merge(&call.time);
        }
    }
}

impl Wait {
    /// Notes a hold of another thread that lasted until `end_ns`.
    pub(crate) fn add_blame(&mut self, tid: i32, thread: &str, hold: &Hold, end_ns: u64) {
        let overlap_ns = end_ns.saturating_sub(hold.start_ns.max(self.start_ns));
        if overlap_ns == 0 {
            return;
        }
        let activity = hold.activity;
        let same = |blame: &&mut Blame| {
            blame.tid == tid && blame.mode == hold.mode && blame.activity.without_bytes() == activity.without_bytes()
        };
        if let Some(known) = self.blame.iter_mut().find(same) {
            if overlap_ns > known.overlap_ns {
                known.activity = activity;
            }
            known.overlap_ns += overlap_ns;
            return;
        }
        if self.blame.len() == BLAME_MOST {
            let Some(least) = (0..BLAME_MOST).min_by_key(|at| self.blame[*at].overlap_ns) else { return };
            if self.blame[least].overlap_ns >= overlap_ns {
                return;
            }
            self.blame.swap_remove(least);
        }
        self.blame.push(Blame { tid, thread: thread.to_owned(), activity, mode: hold.mode, overlap_ns });
    }
}
