//! Tells a thread that let another one go on, by unlocking or by giving it work, from one that only happened to have
//! the processor when a timer or a device ended the sleep.

use std::ops::RangeInclusive;

use super::case::Case;
use super::doing::has;
use super::program::library_part;
use crate::event::{Interval, Kind, Thread, Waker};
use crate::freeze::Frame;
use crate::symbols::is_unknown;

/// Numbers that a thread can have: the first ones are the kernel's and those of the first start (RESERVED_PIDS and
/// PID_MAX_LIMIT of the kernel).
const TIDS: RangeInclusive<u64> = 300..=4 << 20;

/// Functions that an interrupt begins with, or work that is done at its end. What is below them is what the thread did
/// that happened to be there.
const INTERRUPT: [&str; 12] = [
    "asm_sysvec_",
    "sysvec_",
    "asm_common_interrupt",
    "common_interrupt",
    "asm_exc_nmi",
    "handle_softirqs",
    "__do_softirq",
    "do_softirq",
    "irq_exit",
    "el1h_64_irq",
    "el0t_64_irq",
    "handle_irq",
];

/// Who ended a sleep in futex(2) on purpose.
pub(super) fn of<'a>(interval: &'a Interval, case: &Case) -> Option<&'a Waker> {
    let Kind::OffCpu { waker: Some(waker), .. } = &interval.kind else { return None };
    let (its, own) = (&waker.thread, &interval.thread);
    // 0 is the idle thread of a processor.
    if (its.pid, its.tid) == (own.pid, own.tid) || its.tid == 0 {
        return None;
    }
    if joins(interval, case) {
        return None;
    }
    let stacks = case.observed.stacks;
    let kernel = stacks.kernel(waker.stack);
    let is_named = kernel.iter().any(|frame| !is_unknown(frame));
    let is_on_purpose = if is_named {
        let own = before_interrupt(kernel);
        has(own, "futex_") || has(own, "do_futex")
    } else {
        // Whoever unlocks calls a library for it; an interrupt finds a thread anywhere.
        its.pid == own.pid && !library_part(stacks.user(waker.stack)).is_empty()
    };
    is_on_purpose.then_some(waker)
}

/// The part of a stack that an interrupt put on top of what the thread did; all of it if there was none.
fn before_interrupt(kernel: &[Frame]) -> &[Frame] {
    let is_interrupt = |frame: &Frame| INTERRUPT.iter().any(|start| frame.function.starts_with(start));
    let end = kernel.iter().position(is_interrupt).unwrap_or(kernel.len());
    &kernel[..end]
}

/// Whether a thread only waited for another one's end. Who ends has its number in a futex cleared, and whoever sleeps
/// on that woken, by the kernel, which does not know that the futex is of one process alone.
pub(super) fn joins(interval: &Interval, case: &Case) -> bool {
    if let Kind::OffCpu { waker: Some(waker), .. } = &interval.kind
        && has(case.observed.stacks.kernel(waker.stack), "do_exit")
    {
        return true;
    }
    let Some(call) = interval.call.filter(|call| call.number == libc::SYS_futex as u64) else { return false };
    let [_, operation, value, ..] = call.arguments;
    let is_thread = |one: &Thread| one.pid == interval.thread.pid && u64::try_from(one.tid) == Ok(value);
    // Not every source has seen something of the other thread; locks and semaphores have smaller numbers.
    let is_like_thread = TIDS.contains(&value);
    let is_shared = operation & libc::FUTEX_PRIVATE_FLAG as u64 == 0;
    is_shared && (is_like_thread || case.threads.iter().any(is_thread))
}
