//! `vec_grow`: one vector that starts with room for 1 MiB and is filled up to 4 GiB at full scale, one page at a time.
//! What counts here is whether `realloc` copies gigabytes or grows in place; filling it copies every page once.

use crate::block::PAGE_BYTES;
use crate::workload::scaled;

const FULL_PAGES: usize = (4 << 30) / PAGE_BYTES;
const FIRST_CAPACITY_BYTES: usize = 1 << 20;
const CHECKED_EVERY_PAGES: usize = 16;

/// Plays the workload, always on the calling thread alone.
pub(super) fn run(_threads: usize, scale: f64) -> u64 {
    let pages = scaled(FULL_PAGES, scale);
    let mut page = [0x5A_u8; PAGE_BYTES];
    let mut grown: Vec<u8> = Vec::with_capacity(FIRST_CAPACITY_BYTES);
    for number in 0..pages as u64 {
        page[..size_of::<u64>()].copy_from_slice(&number.to_le_bytes());
        grown.extend_from_slice(&page);
    }
    assert_eq!(grown.len(), pages * PAGE_BYTES);
    let mut checksum = grown.len() as u64;
    for (number, page) in grown.chunks_exact(PAGE_BYTES).enumerate().step_by(CHECKED_EVERY_PAGES) {
        let (head, _) = page.split_first_chunk().expect("a page is longer than a word");
        let found = u64::from_le_bytes(*head);
        assert_eq!((found, page[PAGE_BYTES - 1]), (number as u64, 0x5A), "a page was lost while growing");
        checksum += found;
    }
    checksum
}
