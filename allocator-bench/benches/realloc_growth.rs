//! One block grown step by step: `cargo bench -p allocator-bench --bench realloc_growth`.
//!
//! antifreeze is the global allocator; the system's malloc is called directly beside it.

mod common;

use std::alloc::{GlobalAlloc, System};
use std::hint::black_box;

use antifreeze::Antifreeze;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

#[global_allocator]
static ANTIFREEZE: Antifreeze = Antifreeze::new();

const FIRST_BYTES: usize = 16;
const FULL_BYTES: [usize; 3] = [4 << 10, 64 << 10, 16 << 20];

/// Grows a block from 16 bytes to `full_bytes`, each time to the next size that `next_bytes` gives, writing the last
/// byte of every size.
fn grow(allocator: &impl GlobalAlloc, full_bytes: usize, next_bytes: impl Fn(usize) -> usize) {
    let mut size_bytes = FIRST_BYTES;
    // SAFETY: every size is above zero; the block is always resized and freed with the layout it has, and written
    // within its size.
    unsafe {
        let mut block = allocator.alloc(common::layout(size_bytes));
        while size_bytes < full_bytes {
            let new_bytes = next_bytes(size_bytes).min(full_bytes);
            block = black_box(allocator.realloc(block, common::layout(size_bytes), new_bytes));
            block.add(new_bytes - 1).write(1);
            size_bytes = new_bytes;
        }
        allocator.dealloc(block, common::layout(size_bytes));
    }
}

fn compare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("realloc_growth");
    for full_bytes in FULL_BYTES {
        group.bench_function(BenchmarkId::new("doubling/antifreeze", full_bytes), |bencher| {
            bencher.iter(|| grow(&ANTIFREEZE, full_bytes, |size_bytes| 2 * size_bytes));
        });
        group.bench_function(BenchmarkId::new("doubling/system", full_bytes), |bencher| {
            bencher.iter(|| grow(&System, full_bytes, |size_bytes| 2 * size_bytes));
        });
        let step_bytes = full_bytes / 64;
        group.bench_function(BenchmarkId::new("steps/antifreeze", full_bytes), |bencher| {
            bencher.iter(|| grow(&ANTIFREEZE, full_bytes, |size_bytes| size_bytes + step_bytes));
        });
        group.bench_function(BenchmarkId::new("steps/system", full_bytes), |bencher| {
            bencher.iter(|| grow(&System, full_bytes, |size_bytes| size_bytes + step_bytes));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = compare }
criterion_main!(benches);
