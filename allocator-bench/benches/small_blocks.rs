//! One allocation and its free, by size: `cargo bench -p allocator-bench --bench small_blocks`.
//!
//! antifreeze is the global allocator; the system's malloc is called directly beside it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

use antifreeze::Antifreeze;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

#[global_allocator]
static ANTIFREEZE: Antifreeze = Antifreeze::new();

const SIZES_BYTES: [usize; 10] = [8, 16, 32, 48, 64, 128, 256, 512, 1024, 4096];
const WINDOW: usize = 100;

/// Allocates and frees one block.
fn pair(allocator: &impl GlobalAlloc, layout: Layout) {
    // SAFETY: the layout has a size above zero; the block is written within its size and freed once, with its layout.
    unsafe {
        let block = black_box(allocator.alloc(layout));
        block.write(1);
        allocator.dealloc(block, layout);
    }
}

/// Allocates a hundred blocks, then frees them newest first.
fn window(allocator: &impl GlobalAlloc, layout: Layout, blocks: &mut Vec<*mut u8>) {
    for _ in 0..WINDOW {
        // SAFETY: the layout has a size above zero, and the block is written within its size.
        unsafe {
            let block = black_box(allocator.alloc(layout));
            block.write(1);
            blocks.push(block);
        }
    }
    while let Some(block) = blocks.pop() {
        // SAFETY: the block came from this allocator with this layout, and is popped only once.
        unsafe { allocator.dealloc(block, layout) };
    }
}

fn compare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("small_blocks");
    let mut blocks = Vec::with_capacity(WINDOW);
    for size_bytes in SIZES_BYTES {
        let layout = Layout::from_size_align(size_bytes, 8).expect("a valid layout");
        group.bench_function(BenchmarkId::new("pair/antifreeze", size_bytes), |bencher| {
            bencher.iter(|| pair(&ANTIFREEZE, layout));
        });
        group.bench_function(BenchmarkId::new("pair/system", size_bytes), |bencher| {
            bencher.iter(|| pair(&System, layout));
        });
        group.bench_function(BenchmarkId::new("window/antifreeze", size_bytes), |bencher| {
            bencher.iter(|| window(&ANTIFREEZE, layout, &mut blocks));
        });
        group.bench_function(BenchmarkId::new("window/system", size_bytes), |bencher| {
            bencher.iter(|| window(&System, layout, &mut blocks));
        });
    }
    group.finish();
}

criterion_group!(benches, compare);
criterion_main!(benches);
