//! What the threads of a soak share.

use std::alloc::{GlobalAlloc, Layout};
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::client::Client;
use super::faults::Faults;
use super::mailbox::Mailbox;
use super::pages::Pages;
use super::plan::SoakPlan;
use super::shadow::Shadow;
use super::tally::{Counts, Tally};
use super::verdict::Verdict;
use super::violation::{Defect, DefectKind, Violation};
use crate::memory;

/// What the threads share.
#[derive(Debug)]
pub struct World<A: 'static> {
    /// The allocator under test.
    pub allocator: &'static A,
    /// What was asked for.
    pub plan: SoakPlan,
    /// The addresses of live blocks.
    pub shadow: Shadow,
    /// What went wrong.
    pub verdict: Verdict,
    /// The faults, if they are injected.
    pub faults: Option<Faults>,
    /// One desk for each script.
    pub desks: Pages<Desk>,
    stop: AtomicBool,
    recovering: AtomicBool,
}

/// What is known of the threads that follow one script.
#[derive(Debug)]
pub struct Desk {
    /// What others have sent.
    pub mailbox: Mailbox,
    /// What was done.
    pub tally: Tally,
    /// Whether the script is at its end.
    arrived: AtomicBool,
    /// Whether the last of the threads has nothing more to do.
    finished: AtomicBool,
    /// The last of the threads; zero if there was none.
    last_thread: AtomicU64,
}

impl Desk {
    /// Says that the script is at its end.
    pub fn arrive(&self) {
        self.arrived.store(true, Ordering::Relaxed);
    }

    /// Whether the script is at its end.
    pub fn has_arrived(&self) -> bool {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Says that all is done and which thread is to be waited for.
    pub fn finish(&self, thread: libc::pthread_t) {
        self.last_thread.store(thread, Ordering::Relaxed);
        // Release pairs with the load in `finished`, for all that the threads have written.
        self.finished.store(true, Ordering::Release);
    }

    /// Says that no thread will come.
    pub fn cancel(&self) {
        self.arrive();
        self.finish(0);
    }

    /// Whether all is done, and then the thread to wait for, if there was one.
    pub fn finished(&self) -> Option<Option<libc::pthread_t>> {
        // Acquire pairs with the store in `finish`.
        let thread = || Some(self.last_thread.load(Ordering::Relaxed)).filter(|thread| *thread != 0);
        self.finished.load(Ordering::Acquire).then(thread)
    }
}

impl<A: GlobalAlloc> World<A> {
    /// A world without blocks.
    pub fn new(allocator: &'static A, plan: SoakPlan, faults: Option<Faults>) -> io::Result<Self> {
        let desk = |_| {
            let mailbox = Mailbox::new(plan.mail_bytes_most())?;
            Ok(Desk {
                mailbox,
                tally: Tally::default(),
                arrived: AtomicBool::new(false),
                finished: AtomicBool::new(false),
                last_thread: AtomicU64::new(0),
            })
        };
        Ok(Self {
            allocator,
            plan,
            shadow: Shadow::new(plan.blocks_most(), plan.bytes_most)?,
            verdict: Verdict::new()?,
            faults,
            desks: Pages::from_fn(plan.threads, desk)?,
            stop: AtomicBool::new(false),
            recovering: AtomicBool::new(false),
        })
    }

    /// The allocator, with every block noted.
    pub fn client(&self) -> Client<'_, A> {
        Client::new(self.allocator, Some(&self.shadow))
    }

    /// Has all threads end after the step that they are at.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether a thread that has made so many steps should end.
    pub fn is_over(&self, steps: u64) -> bool {
        self.plan.steps_most().is_some_and(|most| steps >= most)
            || self.stop.load(Ordering::Relaxed)
            || self.verdict.is_told()
    }

    /// Has all threads that are at the end of their scripts ask for memory once more.
    pub fn recover(&self) {
        self.recovering.store(true, Ordering::Relaxed);
    }

    /// Whether they should.
    pub fn is_recovering(&self) -> bool {
        self.recovering.load(Ordering::Relaxed)
    }

    /// Whether a request, begun then, may have been refused: a defect if not. A forked child asks as well.
    pub fn judge_refusal(&self, layout: Layout, began: Instant) -> Result<(), Defect> {
        let (bytes, align) = (layout.size(), layout.align());
        if self.faults.as_ref().is_some_and(|faults| faults.explain(began)) || is_memory_short(bytes.max(align)) {
            return Ok(());
        }
        Err(Defect { address: 0, bytes, align, kind: DefectKind::Refused })
    }

    /// Tells what a thread, or a child of it, has found.
    pub fn tell(&self, thread: usize, step: u64, in_child: bool, defect: Defect) {
        self.verdict.tell(Violation { seed: self.plan.seed, thread, step, in_child, defect });
    }

    /// What all threads have done.
    pub fn counts(&self) -> Counts {
        self.desks.iter().fold(Counts::default(), |counts, desk| counts.plus(desk.tally.counts()))
    }
}

/// Whether the machine has less memory than twice what is wanted. Asked without an allocation: there may be no memory
/// to ask with.
fn is_memory_short(bytes: usize) -> bool {
    // The line is the third.
    let mut text = [0; 256];
    let read = File::open("/proc/meminfo").and_then(|mut file| file.read(&mut text));
    let text = read.ok().and_then(|length| std::str::from_utf8(&text[..length]).ok());
    let available_kib = text.and_then(|text| memory::field_kib(text, "MemAvailable"));
    available_kib.is_some_and(|kib| kib.saturating_mul(1024) / 2 < bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_of_more_than_there_is() {
        let available = usize::try_from(memory::available_bytes().unwrap()).unwrap();
        assert!(!is_memory_short(available / 8));
        assert!(is_memory_short(usize::MAX));
    }
}
