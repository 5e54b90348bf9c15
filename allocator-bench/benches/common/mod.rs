//! What the benches share: how long they take, and the allocators side by side.

#![allow(dead_code, reason = "no bench uses all of it")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::ptr::NonNull;
use std::time::Duration;

use antifreeze::Antifreeze;
use criterion::Criterion;

/// Shorter than criterion's own, because there are many benches; the options of its command line go before.
pub fn criterion() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}

/// A layout with the least alignment that matters.
pub fn layout(size_bytes: usize) -> Layout {
    Layout::from_size_align(size_bytes, 8).expect("a valid layout")
}

/// The sizes of blocks that antifreeze serves small requests with, found by asking it, up to `most_bytes`.
pub fn size_classes(allocator: &Antifreeze, most_bytes: usize) -> Vec<usize> {
    let mut classes = Vec::new();
    let mut size_bytes = 1;
    while size_bytes <= most_bytes {
        // SAFETY: the layout has a size above zero; the block is live while it is asked about, and freed once.
        let usable_bytes = unsafe {
            let block = allocator.alloc(layout(size_bytes));
            let usable_bytes = NonNull::new(block).map_or(size_bytes, |block| antifreeze::usable_size(block));
            allocator.dealloc(block, layout(size_bytes));
            usable_bytes
        };
        classes.push(usable_bytes);
        size_bytes = usable_bytes + 1;
    }
    classes
}

/// Allocates and frees one block, writing to it.
pub fn pair(allocator: &impl GlobalAlloc, layout: Layout) {
    // SAFETY: the layout has a size above zero; the block is written within its size and freed once, with its layout.
    unsafe {
        let block = black_box(allocator.alloc(layout));
        block.write(1);
        allocator.dealloc(block, layout);
    }
}
