//! Does the model find what it is for? Allocators that lie once, each in one way, under a whole soak.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::plan::{Length, SoakPlan};
use super::report::SoakFailure;
use super::run::soak_with;
use super::violation::{DefectKind, When};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    Overlap,
    HandOutTwice,
    Misalign,
    ChangeByte,
    LeaveDirt,
    LoseContents,
    LoseTail,
    ChangeAndRefuse,
    Refuse,
    RefuseLarge,
    /// No lie: a child that is forked gets no memory unless it ends with its parent.
    RefuseOrphans,
}

/// Calls before the lie.
const HONEST_CALLS: usize = 300;
const VICTIM_BYTES: usize = 128;

/// The system's allocator, with a lie. One thread uses it.
struct Liar {
    lie: Lie,
    process: u32,
    calls: AtomicUsize,
    /// A live block of at least `VICTIM_BYTES`, aligned to 16.
    victim: AtomicPtr<u8>,
}

impl Liar {
    fn new(lie: Lie) -> &'static Self {
        Box::leak(Box::new(Self {
            lie,
            process: std::process::id(),
            calls: AtomicUsize::new(0),
            victim: AtomicPtr::new(null_mut()),
        }))
    }

    fn lies(&self, lie: Lie) -> bool {
        self.lie == lie && self.calls.fetch_add(1, Ordering::Relaxed) > HONEST_CALLS
    }

    fn refuses(&self) -> bool {
        let is_orphan = || std::process::id() != self.process && prctl::get_pdeathsig() != Ok(Some(Signal::SIGKILL));
        self.lies(Lie::Refuse) || self.lie == Lie::RefuseOrphans && is_orphan()
    }

    fn note(&self, base: *mut u8, bytes: usize) -> *mut u8 {
        if bytes >= VICTIM_BYTES && base.addr().is_multiple_of(16) {
            self.victim.store(base, Ordering::Relaxed);
        }
        base
    }

    fn forget(&self, base: *mut u8) {
        let _ = self.victim.compare_exchange(base, null_mut(), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn victim(&self) -> Option<*mut u8> {
        Some(self.victim.load(Ordering::Relaxed)).filter(|victim| !victim.is_null())
    }
}

// SAFETY: it does not keep the trait's promises: that is what it is for. No memory but the soak's own blocks suffers.
unsafe impl GlobalAlloc for Liar {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let fits = layout.size() <= 16 && layout.align() <= 16;
        if fits && self.lies(Lie::HandOutTwice) {
            return self.victim().unwrap_or_default();
        }
        if fits && self.lies(Lie::Overlap) {
            // SAFETY: the victim is larger.
            return self.victim().map_or(null_mut(), |victim| unsafe { victim.add(VICTIM_BYTES - 16) });
        }
        if self.refuses() || self.lie == Lie::RefuseLarge && layout.size() > 1 << 20 {
            return null_mut();
        }
        if self.lies(Lie::ChangeByte)
            && let Some(victim) = self.victim()
        {
            // SAFETY: the victim is live and has this byte.
            unsafe { *victim.add(7) ^= 0x40 };
        }
        if layout.align() >= 16 && self.lies(Lie::Misalign) {
            let larger = Layout::from_size_align(layout.size() + 16, layout.align()).unwrap();
            // SAFETY: the size is not zero, and the block is larger than what is handed out.
            return unsafe { System.alloc(larger).add(8) };
        }
        // SAFETY: the caller's promise is the same.
        self.note(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, base: *mut u8, layout: Layout) {
        self.forget(base);
        // SAFETY: the caller's promise is the same: after a lie that hands out nonsense, nothing is freed.
        unsafe { System.dealloc(base, layout) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        let base = unsafe { System.alloc_zeroed(layout) };
        if self.lies(Lie::LeaveDirt) {
            // SAFETY: the block has at least one byte.
            unsafe { base.add(layout.size() - 1).write(1) };
        }
        self.note(base, layout.size())
    }

    unsafe fn realloc(&self, base: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if self.lies(Lie::ChangeAndRefuse) {
            // SAFETY: the block is live.
            unsafe { *base ^= 1 };
            return null_mut();
        }
        self.forget(base);
        // SAFETY: the caller's promise is the same.
        let changed = unsafe { System.realloc(base, layout, bytes) };
        if self.lies(Lie::LoseContents) {
            // SAFETY: the block has at least one byte.
            unsafe { *changed ^= 1 };
        }
        if self.lies(Lie::LoseTail) {
            // SAFETY: the block has at least so many bytes.
            unsafe { *changed.add(layout.size().min(bytes) - 1) ^= 1 };
        }
        self.note(changed, bytes)
    }
}

const PLAN: SoakPlan =
    SoakPlan { seed: 5, length: Length::Steps(6000), threads: 1, bytes_most: 256 << 20, faults: false, forks: false };

/// What a soak finds under an allocator with this lie.
fn found(lie: Lie) -> DefectKind {
    found_within(lie, PLAN.length)
}

fn found_within(lie: Lie, length: Length) -> DefectKind {
    match soak_with(Liar::new(lie), &SoakPlan { length, ..PLAN }, |_| {}) {
        Err(SoakFailure::Violation { violation, .. }) => {
            assert!(violation.seed == 5 && violation.thread == 0 && violation.step > 0, "{violation}");
            violation.defect.kind
        }
        other => panic!("{lie:?}: {other:?}"),
    }
}

#[test]
fn an_overlap_is_found() {
    assert!(matches!(found(Lie::Overlap), DefectKind::Overlap { .. }));
}

#[test]
fn a_block_handed_out_twice_is_found() {
    assert_eq!(found(Lie::HandOutTwice), DefectKind::HandedOutTwice);
}

#[test]
fn a_wrong_alignment_is_found() {
    assert_eq!(found(Lie::Misalign), DefectKind::Misaligned);
}

#[test]
fn a_changed_byte_is_found() {
    let kind = found(Lie::ChangeByte);
    assert!(matches!(kind, DefectKind::Changed(When::Live | When::BeforeFree | When::BeforeRealloc, _)), "{kind:?}");
}

#[test]
fn dirt_in_zeroed_memory_is_found() {
    assert!(matches!(found(Lie::LeaveDirt), DefectKind::NotZeroed(_)));
}

#[test]
fn contents_lost_by_realloc_are_found() {
    for lie in [Lie::LoseContents, Lie::LoseTail] {
        let kind = found(lie);
        assert!(matches!(kind, DefectKind::Changed(When::AfterRealloc, _)), "{lie:?}: {kind:?}");
    }
}

#[test]
fn contents_lost_by_a_refused_realloc_are_found() {
    assert!(matches!(found(Lie::ChangeAndRefuse), DefectKind::Changed(When::AfterRefusal, _)));
}

#[test]
fn a_refusal_without_reason_is_found() {
    assert_eq!(found(Lie::Refuse), DefectKind::Refused);
}

#[test]
fn a_forked_child_ends_with_its_parent() {
    let report = soak_with(Liar::new(Lie::RefuseOrphans), &SoakPlan { forks: true, ..PLAN }, |_| {}).unwrap();
    assert!(report.counts.forks > 0 && report.counts.refusals == 0, "{report:?}");
}

#[test]
fn memory_of_every_size_is_asked_for_at_the_end() {
    assert_eq!(found_within(Lie::RefuseLarge, Length::Steps(1)), DefectKind::Refused);
}
