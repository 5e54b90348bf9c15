//! The answer in one sentence: who waited for how long, for what, who had it, what that one was doing, and which
//! function of the program asked for it.

use std::collections::{HashMap, HashSet};

use lock_trace::Mode;

use super::case::Case;
use super::class::{Class, Futex};
use super::doing::{has, with_article};
use super::mmap_lock::Blames;
use super::pieces::{Piece, What};
use super::places::PlaceId;
use super::text;
use super::user_lock::{Activity, Holders};
use super::verdict::{Tally, Verdict};
use crate::event::{Sleep, Thread};
use crate::freeze::{Cause, Frame, Pair};
use crate::quantity;
use crate::symbols::is_unknown;

/// A second cause is told of if it blocked threads for so many hundredths of what the first one did.
const ALSO_MIN_PERCENT: u128 = 50;
/// Functions of network file systems begin so.
const NETWORK: [&str; 8] = ["nfs", "rpc_wait", "ceph_", "cifs_", "smb2_", "p9_client", "v9fs_", "afs_"];
/// Functions of the kernel that every sleep, or every sleep for a lock, goes through begin so.
const SCHEDULER: [&str; 16] = [
    "__schedule",
    "schedule",
    "preempt_schedule",
    "__cond_resched",
    "io_schedule",
    "bit_wait",
    "__wait_on_bit",
    "out_of_line_wait",
    "wait_for_common",
    "wait_for_completion",
    "rwsem_",
    "down_",
    "__down",
    "mutex_lock",
    "__mutex_lock",
    "ww_mutex_lock",
];

/// All that the sentence is made from.
pub(super) struct Answer<'a> {
    pub(super) case: &'a Case<'a>,
    pub(super) verdict: &'a Verdict<'a>,
    pub(super) blames: &'a Blames,
    pub(super) held: &'a Holders,
}

impl Answer<'_> {
    /// The cause, and the sentence.
    pub(super) fn tell(&self) -> (Cause, String) {
        let causes = &self.verdict.causes;
        if self.verdict.is_busy {
            return (Cause::Busy, self.busy());
        }
        let Some(first) = causes.first() else { return self.nothing() };
        let mut sentence = self.clause(first);
        if first.is_usual {
            sentence += "; but it was much the same before the freeze";
        }
        let is_much = |next: &&Tally| {
            let is_one =
                next.is_usual == first.is_usual && !(first.cause == Cause::MmapLock && self.is_of_culprit(next));
            is_one && u128::from(next.weight_ns) * 100 > u128::from(first.weight_ns) * ALSO_MIN_PERCENT
        };
        if let Some(second) = causes.get(1).filter(is_much) {
            sentence += &format!("; also {}", self.clause(second));
        }
        (first.cause, sentence)
    }

    /// Whether a cause kept nobody but the thread that held mmap_lock, of which that is told already.
    fn is_of_culprit(&self, tally: &Tally) -> bool {
        let threads = self.case.threads_of(&tally.threads);
        threads.iter().all(|thread| Some(thread.key()) == self.blames.culprit)
    }

    fn clause(&self, tally: &Tally) -> String {
        match tally.cause {
            Cause::MmapLock => self.mmap_lock(tally),
            Cause::UserLock => self.user_lock(tally),
            Cause::Disk => self.disk(tally),
            Cause::Throttled => self.throttled(tally),
            Cause::Starved => self.starved(tally),
            _ => self.kernel(tally),
        }
    }

    /// `threads 12 to 31`, without one that is told of otherwise.
    pub(super) fn who(&self, tally: &Tally, except: Option<&Thread>) -> String {
        let threads = self.case.threads_of(&tally.threads);
        let others: Vec<&Thread> = threads.iter().copied().filter(|thread| Some(*thread) != except).collect();
        text::threads(if others.is_empty() { &threads } else { &others })
    }

    fn mmap_lock(&self, tally: &Tally) -> String {
        let is_culprit = |holder: &Thread| Some(holder.key()) == self.blames.culprit;
        let of_holder = self.blames.all.iter().filter(|blame| is_culprit(&blame.pair.holder));
        let time = how_long(tally);
        let Some(blame) = of_holder.clone().next() else {
            return format!("{} waited {time} for mmap_lock; who held it was not seen", self.who(tally, None));
        };
        let person = text::person(&blame.pair.holder, blame.pair.outsider);
        if self.blames.culprit_ns < self.blames.waited_ns / 2 {
            let (who, share) = (self.who(tally, None), share(self.blames.culprit_ns, self.blames.waited_ns));
            let held = format!("{person}, for {} in {}", mode(&blame.pair), work(&blame.pair));
            return match self.blames.holders {
                count if count > 1 && self.blames.held_ns >= self.blames.waited_ns / 2 => format!(
                    "{who} waited {time} for mmap_lock, which {count} threads held in turn, the most ({share}) {held}"
                ),
                _ => format!(
                    "{who} waited {time} for mmap_lock; who held it for most of that time was not seen; for {share} \
                     of it that was {held}"
                ),
            };
        }
        let behind = of_holder.filter_map(|blame| blame.behind.as_ref().map(|queued| (blame.pair.overlap_ns, queued)));
        let behind = behind.max_by_key(|(overlap_ns, _)| *overlap_ns);
        let answer = match behind {
            Some((overlap_ns, queued)) if overlap_ns >= blame.pair.overlap_ns / 2 => format!(
                "{} waited {time} for mmap_lock behind {}, which wanted it for writing in {} while {person} held it \
                 for {} in {}",
                self.who(tally, Some(&queued.thread)),
                text::person(&queued.thread, false),
                with_article(&queued.doing),
                mode(&blame.pair),
                work(&blame.pair)
            ),
            _ => format!("{} waited {time} for mmap_lock, {}", self.who(tally, None), held_by(&blame.pair)),
        };
        answer + &self.meanwhile(&blame.pair.holder, blame.held)
    }

    /// Why a holder that was off the processor did not come to let go of what it held, and for how long.
    fn meanwhile(&self, holder: &Thread, time: (u64, u64)) -> String {
        let Some(piece) = self.case.mostly(holder, time) else { return String::new() };
        let alike = self.case.pieces_of(holder).iter().filter(|own| own.class == piece.class);
        let lasting = quantity::time(alike.map(|own| own.overlap_ns(time)).sum());
        let kernel = self.case.places.kernel(piece.place);
        let what = match piece.class {
            Class::Runnable if self.case.is_throttled() => {
                format!("had no processor for {lasting}, as the quota of its cgroup was used up")
            }
            Class::Runnable => format!("wanted to run for {lasting}, and others had the processors"),
            Class::Disk => format!("slept for {lasting} on {}", disk(kernel)),
            Class::Stopped => format!("was stopped for {lasting}"),
            Class::Ended | Class::MmapLock => return String::new(),
            Class::Kernel | Class::Futex(_) | Class::Event | Class::Unclear => {
                let function = telling(kernel).map_or_else(String::new, |function| format!(" ({function})"));
                format!("slept for {lasting} in the kernel{function}")
            }
        };
        format!("; meanwhile that one {what}")
    }

    fn user_lock(&self, tally: &Tally) -> String {
        let (who, time) = (self.who(tally, None), how_long(tally));
        let longest = self.held.longest();
        let is_longest = |holder: &Thread| longest.is_some_and(|(longest, _)| holder.key() == longest);
        let Some(held) = self.held.all.iter().find(|held| is_longest(&held.pair.holder)) else {
            let waited = format!("{who} waited {time} for a lock; who had it was not seen");
            return match self.newcomer() {
                Some(newcomer) => format!("{waited}; meanwhile {newcomer}"),
                None => waited,
            };
        };
        let pair = &held.pair;
        let (holder, called) = (text::person(&pair.holder, pair.outsider), called(pair));
        let within = pair.called_from.as_ref().map_or_else(String::new, |function| format!(", in {function}"));
        let what = match held.activity {
            Activity::Slept => format!("slept in {}{called}", with_article(&pair.doing)),
            Activity::Wanted => format!("wanted to run{within}"),
            Activity::Ran => format!("was on a processor{within}"),
            Activity::WaitedForMmapLock => {
                let blame = self.blames.all.iter().find(|blame| blame.pair.waiter.key() == pair.holder.key());
                let why = blame.map_or(called, |blame| format!(", {}", held_by(&blame.pair)));
                format!("waited for mmap_lock{why}")
            }
        };
        let held_ns = longest.map_or(0, |(_, ns)| ns);
        if held_ns < tally.total_ns / 2 {
            let share = share(held_ns, tally.total_ns);
            return match self.holders_in_turn(tally, held_ns) {
                Some(count) => format!(
                    "{who} waited {time} for a lock that {count} threads held in turn, the most ({share}) {holder}, \
                     which {what}"
                ),
                None => format!(
                    "{who} waited {time} for a lock; who had it for most of that time was not seen; for {share} of it \
                     that was {holder}, which {what}"
                ),
            };
        }
        match held.wanted {
            Futex::Lock => format!("{who} waited {time} for a lock that {holder} held while it {what}"),
            Futex::Wait | Futex::Join => format!("{who} waited {time} for {holder}, which {what}"),
            Futex::Unknown => format!("{who} waited {time} in futex until {holder} woke them, which meanwhile {what}"),
        }
    }

    /// How many threads had what others waited for at least for a tenth of a time, if they had it for most of it.
    fn holders_in_turn(&self, tally: &Tally, most_ns: u64) -> Option<usize> {
        let totals = &self.held.totals;
        let all_ns = totals.values().fold(0, |sum: u64, ns| sum.saturating_add(*ns));
        let count = totals.values().filter(|ns| **ns >= most_ns / 10).count();
        (count > 1 && all_ns >= tally.total_ns / 2).then_some(count)
    }

    fn disk(&self, tally: &Tally) -> String {
        let (case, piece) = (self.case, tally.longest.0);
        let kernel = case.places.kernel(piece.place);
        let state = if piece.what == What::Off(Sleep::Uninterruptible) { " in D state" } else { "" };
        let place = disk(kernel);
        let doing = with_article(&case.doing(piece));
        let who = self.who(tally, None);
        format!("{who} slept {}{state} in {doing} on {place}{}", how_long(tally), self.called(Cause::Disk))
    }

    fn kernel(&self, tally: &Tally) -> String {
        let (who, time, piece) = (self.who(tally, None), how_long(tally), tally.longest.0);
        if piece.class == Class::Stopped {
            let verb = if tally.threads.len() == 1 { "was" } else { "were" };
            return format!("{who} {verb} stopped for {time} by a signal, a debugger or the freezer of the cgroup");
        }
        let doing = with_article(&self.case.doing(piece));
        let function = telling(self.case.places.kernel(piece.place));
        let within = function.map_or_else(String::new, |function| format!(" ({function})"));
        format!("{who} waited {time} in the kernel in {doing}{within}{}", self.called(Cause::Kernel))
    }

    fn nothing(&self) -> (Cause, String) {
        let frozen = quantity::time(self.case.frozen_ns());
        let is_idle = |piece: &Piece| piece.cause == Cause::Idle && piece.class != Class::Ended;
        let idle = self.case.frozen_pieces().filter(|(piece, _)| is_idle(piece));
        let idle: HashSet<usize> = idle.map(|(piece, _)| piece.thread).collect();
        if idle.is_empty() {
            return (
                Cause::Unknown,
                format!("nothing was seen of the service's threads in the {frozen} of the freeze"),
            );
        }
        let who = text::threads(&self.case.threads_of(&idle));
        let sentence = match self.newcomer() {
            Some(newcomer) => format!("no thread was blocked by another one, but {newcomer}"),
            None => format!(
                "no thread was blocked: {who} slept as they do when nothing is to be done, as if no request reached \
                 them"
            ),
        };
        (Cause::Idle, sentence)
    }

    /// The sleep of threads that is the longest of those that were not there before the freeze, if the program's own
    /// function is known that asked for it.
    fn newcomer(&self) -> Option<String> {
        let case = self.case;
        let mut places: HashMap<PlaceId, Newcomer> = HashMap::new();
        for (piece, ns) in case.frozen_pieces() {
            let is_sleep = matches!(piece.what, What::Off(Sleep::Interruptible | Sleep::Uninterruptible));
            if !is_sleep || piece.cause == Cause::UserLock {
                continue;
            }
            let place = Newcomer { total_ns: 0, threads: HashSet::new(), longest: (piece, ns) };
            let place = places.entry(piece.place).or_insert(place);
            place.total_ns = place.total_ns.saturating_add(ns);
            place.threads.insert(piece.thread);
            if ns > place.longest.1 {
                place.longest = (piece, ns);
            }
        }
        let is_one = |(piece, ns): (&Piece, u64)| ns >= case.frozen_ns() / 2 && case.is_new(piece);
        let known = places.values().filter(|place| is_one(place.longest));
        let known = known.filter_map(|place| Some((place, case.called_from(place.longest.0)?)));
        let (place, function) = known.max_by_key(|(place, function)| (place.total_ns, *function))?;
        let who = text::threads(&case.threads_of(&place.threads));
        let doing = with_article(&case.doing(place.longest.0));
        let time = how_long_piece(place.longest.0, place.longest.1);
        Some(format!("{who} slept {time} in {doing}, called from {function}, unlike before"))
    }

    fn called(&self, cause: Cause) -> String {
        let functions = self.case.functions(|piece| piece.cause == cause);
        if functions.is_empty() { String::new() } else { format!(", called from {}", functions.join(" and ")) }
    }
}

/// A place where threads slept.
struct Newcomer<'a> {
    total_ns: u64,
    threads: HashSet<usize>,
    longest: (&'a Piece, u64),
}

fn disk(kernel: &[Frame]) -> &'static str {
    if NETWORK.iter().any(|start| has(kernel, start)) { "a network file system" } else { "a disk" }
}

/// In whole hundredths.
pub(super) fn share(part_ns: u64, all_ns: u64) -> String {
    format!("{} %", u128::from(part_ns) * 100 / u128::from(all_ns.max(1)))
}

fn mode(pair: &Pair) -> &'static str {
    if pair.mode == Some(Mode::Write) { "writing" } else { "reading" }
}

fn called(pair: &Pair) -> String {
    pair.called_from.as_ref().map_or_else(String::new, |function| format!(", called from {function}"))
}

/// `munmap of 1.7 GB, called from index::grow`.
fn work(pair: &Pair) -> String {
    format!("{}{}", with_article(&pair.doing), called(pair))
}

fn held_by(pair: &Pair) -> String {
    format!("held for {} by {} in {}", mode(pair), text::person(&pair.holder, pair.outsider), work(pair))
}

/// `up to 2.3 s`; of many short times also how long they are for one thread in all.
pub(super) fn how_long(tally: &Tally) -> String {
    let (piece, longest_ns) = tally.longest;
    let longest = how_long_piece(piece, longest_ns);
    if tally.worst_ns / 2 < longest_ns {
        return longest;
    }
    format!("{longest} at a time and {} in all", quantity::time(tally.worst_ns))
}

/// Until when it would have gone on is not known of what was not over.
fn how_long_piece(piece: &Piece, ns: u64) -> String {
    format!("{} {}", if piece.unfinished { "at least" } else { "up to" }, quantity::time(ns))
}

/// The first function that says more than that the thread sleeps.
fn telling(kernel: &[Frame]) -> Option<&str> {
    let says_more =
        |frame: &&Frame| !is_unknown(frame) && !SCHEDULER.iter().any(|start| frame.function.starts_with(start));
    kernel.iter().find(says_more).map(|frame| frame.function.as_str())
}
