//! Touches and frees a lot of memory before anything is measured.
//!
//! The hypervisor of a virtual machine gives it memory at the first touch of each page, which is slow; whichever
//! allocator ran first would pay for all others.

use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

const DEFAULT_MIB: u64 = 6144;
const DEFAULT_PERCENT: u64 = 40;
const PAGE_BYTES: usize = 4096;

/// Touches `wanted_mib` of memory, or the default for a machine with that much available, and gives it back.
///
/// # Errors
/// If that much memory cannot be mapped.
pub fn touch(wanted_mib: Option<u64>, available_kib: u64) -> Result<()> {
    let size_mib = wanted_mib.unwrap_or_else(|| default_mib(available_kib));
    let size_bytes = size_mib.checked_mul(1 << 20).and_then(|bytes| usize::try_from(bytes).ok());
    let Some(size_bytes) = NonZeroUsize::new(size_bytes.context("--prefault-mib is too large")?) else {
        return Ok(());
    };
    let start = Instant::now();
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new private mapping at an address of the kernel's choice touches nobody's memory.
    let area = unsafe { mmap_anonymous(None, size_bytes, protection, MapFlags::MAP_PRIVATE) }
        .with_context(|| format!("cannot map {size_mib} MiB to touch them first"))?;
    for offset in (0..size_bytes.get()).step_by(PAGE_BYTES) {
        // SAFETY: the offset lies inside the mapping just made, which is writable and only ours.
        unsafe { area.cast::<u8>().add(offset).write_volatile(1) };
    }
    // SAFETY: the mapping is exactly this one, and no reference into it exists.
    unsafe { munmap(area, size_bytes.get()) }.context("cannot unmap what was touched")?;
    eprintln!("touched {size_mib} MiB first, in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn default_mib(available_kib: u64) -> u64 {
    DEFAULT_MIB.min(available_kib / 1024 * DEFAULT_PERCENT / 100)
}

#[cfg(test)]
mod tests {
    use super::{default_mib, touch};

    #[test]
    fn default_leaves_most_of_a_small_machine_alone() {
        assert_eq!(default_mib(1000 * 1024), 400);
        assert_eq!(default_mib(64 << 20), 6144);
    }

    #[test]
    fn touching_works_for_none_and_some() {
        touch(Some(0), 0).expect("nothing to do");
        touch(Some(2), 0).expect("two MiB are available");
        assert!(touch(Some(u64::MAX), 0).is_err());
    }
}
