//! Aim: the right cause and a sentence that names the culprit, for each kind of freeze and for those that mislead.
//!
//! Method: hand-made intervals and stacks, and the sentence word for word.

mod cause;
mod idle;
mod kernel;
mod mmap_lock;
mod processor;
mod user_lock;
mod window;

use lock_trace::Mode;

use super::samples::{MS, Sample, call};
use super::*;
use crate::event::{Kind, Sleep, Waker};
use crate::stack::StackPair;

pub(super) const MUTEX: &str =
    "syscall@libc.so.6; std::sys::sync::mutex::futex::Mutex::lock_contended@app; app::look_up@app";
pub(super) const CONDVAR: &str =
    "syscall@libc.so.6; std::sys::sync::condvar::futex::Condvar::wait@app; app::pool::run@app";
pub(super) const FUTEX: &str = "__schedule; schedule; futex_wait_queue; futex_wait; do_futex";
pub(super) const WAKE: &str = "try_to_wake_up; wake_up_q; futex_wake; do_futex";
pub(super) const WRITER: &str = "__schedule; schedule; rwsem_down_write_slowpath; down_write; vm_mmap_pgoff";
pub(super) const READER: &str =
    "__schedule; schedule; rwsem_down_read_slowpath; down_read; lock_mm_and_find_vma; exc_page_fault";
const GROW: &str = "munmap@libc.so.6; index::grow@app; app::run@app";
pub(super) const NAP: &str = "__schedule; schedule; do_nanosleep; hrtimer_nanosleep";
pub(super) const POLL: &str = "__schedule; schedule; schedule_hrtimeout_range; ep_poll; do_epoll_wait";

fn told(sample: &Sample) -> (Cause, String) {
    let Findings { cause, sentence, .. } = find(&sample.observed());
    (cause, sentence)
}

/// A thread that takes requests from a socket, before the freeze and in it.
fn idle(sample: &mut Sample, tid: i32) {
    let poll = sample.stack(POLL, "epoll_wait@libc.so.6; mio::poll@app; app::serve@app");
    sample.sleep(tid, Sleep::Interruptible, (0, 13_000), poll);
}

/// Workers that wait for mmap_lock, off the processor meanwhile, in milliseconds of the freeze.
fn waiters(sample: &mut Sample, tids: std::ops::RangeInclusive<i32>, mode: Mode, ms: (u64, u64)) {
    let slow = sample.stack(if mode == Mode::Write { WRITER } else { READER }, "mmap@libc.so.6; app::look_up@app");
    for tid in tids {
        sample.sleep(tid, Sleep::Uninterruptible, (ms.0 + 1, ms.1 - 1), slow);
        sample.wait(tid, mode, ms, slow).call = call(libc::SYS_mmap, &[0, 65_536]);
    }
}

fn munmap(sample: &mut Sample, tid: i32, mode: Mode, ms: (u64, u64)) {
    let stack = sample.stack("up_write; __vm_munmap; __x64_sys_munmap", GROW);
    sample.hold(tid, mode, ms, stack).call = call(libc::SYS_munmap, &[0, 1_700_000_000]);
}
