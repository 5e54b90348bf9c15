//! The memory through which the kernel hands over records: one ring for each processor, that the collector reads.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use perf_event_open_sys::bindings::perf_event_mmap_page;

use crate::kernel::perf::Perf;

/// A record's header: type, misc and size.
const HEADER_BYTES: usize = 8;
/// Up to where the kernel has written.
const HEAD: usize = offset_of!(perf_event_mmap_page, data_head);
/// Up to where this program has read.
const TAIL: usize = offset_of!(perf_event_mmap_page, data_tail);

/// An event with a ring of its own.
pub(crate) struct Ring {
    pub(crate) perf: Perf,
    map: MmapRaw,
    page_bytes: usize,
    data_bytes: usize,
    /// Holds a record that lies across the end of the ring.
    joined: Vec<u8>,
}

impl Ring {
    /// `bytes` is a power of two of pages.
    pub(crate) fn new(perf: Perf, bytes: usize) -> io::Result<Ring> {
        let page_bytes = page_bytes();
        let map = MmapOptions::new().len(page_bytes + bytes).map_raw(perf.as_fd().as_raw_fd())?;
        Ok(Ring { perf, map, page_bytes, data_bytes: bytes, joined: Vec::new() })
    }

    /// Gives each record that is in the ring now to `take`, and then their room back to the kernel.
    pub(crate) fn read(&mut self, mut take: impl FnMut(&[u8])) {
        // Acquire: pairs with the kernel's barrier before it stores the head, so the records below it are whole.
        let head = self.position(HEAD).load(Ordering::Acquire);
        // Relaxed: only this thread stores the tail.
        let mut tail = self.position(TAIL).load(Ordering::Relaxed);
        while tail < head {
            let at = tail as usize & (self.data_bytes - 1);
            let bytes = usize::from(self.record_bytes(at));
            if bytes < HEADER_BYTES {
                // No record is that short. What follows cannot be found, and is skipped.
                tail = head;
                break;
            }
            let first = bytes.min(self.data_bytes - at);
            if first == bytes {
                take(self.data(at, bytes));
            } else {
                let mut joined = std::mem::take(&mut self.joined);
                joined.clear();
                joined.extend_from_slice(self.data(at, first));
                joined.extend_from_slice(self.data(0, bytes - first));
                take(&joined);
                self.joined = joined;
            }
            tail += bytes as u64;
        }
        // Release: pairs with the kernel's load of the tail, which comes before it writes over what was read here.
        self.position(TAIL).store(tail, Ordering::Release);
    }

    /// A position in the first page, which is shared with the kernel.
    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the mapping begins with a `perf_event_mmap_page`, so the place is inside of it and aligned; it lives
        // as long as `self`, and this program accesses it as an atomic only.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    /// The size that the header of the record at this place tells. Headers do not lie across the end, for all sizes
    /// are multiples of 8.
    fn record_bytes(&self, at: usize) -> u16 {
        let header = self.data(at, HEADER_BYTES);
        u16::from_ne_bytes([header[6], header[7]])
    }

    /// A part of the ring below the head.
    fn data(&self, at: usize, bytes: usize) -> &[u8] {
        assert!(at + bytes <= self.data_bytes, "the part is inside of the ring");
        // SAFETY: it is inside of the mapping, by the assertion, and the kernel does not write between tail and head.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.page_bytes + at), bytes) }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.perf.as_fd()
    }
}

/// The size of a page of this machine.
pub(crate) fn page_bytes() -> usize {
    let bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    bytes.ok().flatten().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(4096)
}

/// The size of a ring that holds at least so many bytes.
pub(crate) fn ring_bytes(wanted_bytes: usize) -> usize {
    wanted_bytes.clamp(page_bytes(), 1 << 30).next_power_of_two()
}
