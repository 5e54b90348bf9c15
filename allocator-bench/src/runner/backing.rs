//! Touches and frees memory before anything is measured, and before each run.
//!
//! The hypervisor of a virtual machine gives it memory at the first touch of each page, which is slow; whichever
//! allocator ran first would pay for all others. Some machines also report free memory to the hypervisor every few
//! seconds, which takes it away again, in pieces of 2 MiB (`page_reporting` in the kernel): then whoever uses hugepages
//! pays in every run, and whoever uses small pages, of which the last run has left plenty, does not. On one such
//! machine zeroing a hugepage took 5 ms, and 0.2 ms where the hypervisor had backed it.

use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

const FIRST_MIB: u64 = 6144;
/// What a run may take beyond the most that one of its row has taken.
const RUN_SPARE_MIB: u64 = 16;
const MAX_PERCENT: u64 = 40;
const PAGE_BYTES: usize = 4096;

/// Which memory is touched.
#[derive(Clone, Copy, Debug)]
pub struct Backing {
    wanted_mib: Option<u64>,
    available_kib: u64,
}

impl Backing {
    /// `wanted_mib` at first, or the default for a machine with that much available; nothing at all for 0.
    pub fn new(wanted_mib: Option<u64>, available_kib: u64) -> Self {
        Self { wanted_mib, available_kib }
    }

    /// Before anything is measured.
    ///
    /// # Errors
    /// If that much memory cannot be mapped.
    pub fn touch_first(self) -> Result<()> {
        let size_mib = self.wanted_mib.unwrap_or_else(|| self.affordable_mib(FIRST_MIB));
        let start = Instant::now();
        touch(size_mib, false)?;
        if size_mib > 0 {
            eprintln!("touched {size_mib} MiB first, in {:.1} s", start.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Before a run, in hugepages where there are any; `peak_kib` is the most that one of its row has taken so far.
    ///
    /// # Errors
    /// If that much memory cannot be mapped.
    pub fn touch_for_run(self, peak_kib: u64) -> Result<()> {
        if self.wanted_mib == Some(0) {
            return Ok(());
        }
        touch(self.affordable_mib(peak_kib / 1024 + RUN_SPARE_MIB), true)
    }

    fn affordable_mib(self, size_mib: u64) -> u64 {
        size_mib.min(self.available_kib / 1024 * MAX_PERCENT / 100)
    }
}

/// Touches so much memory and gives it back.
fn touch(size_mib: u64, huge: bool) -> Result<()> {
    let size_bytes = size_mib.checked_mul(1 << 20).and_then(|bytes| usize::try_from(bytes).ok());
    let Some(size_bytes) = NonZeroUsize::new(size_bytes.context("--prefault-mib is too large")?) else {
        return Ok(());
    };
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new private mapping at an address of the kernel's choice touches nobody's memory.
    let area = unsafe { mmap_anonymous(None, size_bytes, protection, MapFlags::MAP_PRIVATE) }
        .with_context(|| format!("cannot map {size_mib} MiB to touch them first"))?;
    if huge {
        // SAFETY: advice on the mapping just made. A kernel without hugepages refuses: small ones then.
        let _ = unsafe { madvise(area, size_bytes.get(), MmapAdvise::MADV_HUGEPAGE) };
    }
    for offset in (0..size_bytes.get()).step_by(PAGE_BYTES) {
        // SAFETY: the offset lies inside the mapping just made, which is writable and only ours.
        unsafe { area.cast::<u8>().add(offset).write_volatile(1) };
    }
    // SAFETY: the mapping is exactly this one, and no reference into it exists.
    unsafe { munmap(area, size_bytes.get()) }.context("cannot unmap what was touched")
}

#[cfg(test)]
mod tests {
    use super::{Backing, touch};

    #[test]
    fn default_leaves_most_of_a_small_machine_alone() {
        let affordable_mib = |available_kib, mib| Backing::new(None, available_kib).affordable_mib(mib);
        assert_eq!([affordable_mib(1000 * 1024, 6144), affordable_mib(64 << 20, 6144)], [400, 6144]);
    }

    #[test]
    fn touching_works_for_none_and_some() {
        for huge in [false, true] {
            touch(0, huge).expect("nothing to do");
            touch(5, huge).expect("five MiB are available");
            assert!(touch(u64::MAX, huge).is_err());
        }
        let none = Backing::new(Some(0), 0);
        none.touch_first().and(none.touch_for_run(1 << 50)).expect("nothing to do");
        assert!(Backing::new(Some(u64::MAX), 0).touch_first().is_err());
    }
}
