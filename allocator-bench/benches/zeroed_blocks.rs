//! One zeroed allocation and its free, by size: `cargo bench -p allocator-bench --bench zeroed_blocks`. The block is
//! written over before it is freed, so that the next one has to be cleared unless its memory is fresh.
//!
//! antifreeze is the global allocator; the system's malloc is called directly beside it.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

use antifreeze::Antifreeze;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ANTIFREEZE: Antifreeze = Antifreeze::new();

const SIZES_BYTES: [usize; 6] = [16, 64, 1 << 10, 16 << 10, 256 << 10, 4 << 20];

fn zeroed_pair(allocator: &impl GlobalAlloc, layout: Layout) {
    // SAFETY: the layout has a size above zero; the block is written within its size and freed once, with its layout.
    unsafe {
        let block = black_box(allocator.alloc_zeroed(layout));
        block.write_bytes(1, layout.size());
        allocator.dealloc(block, layout);
    }
}

fn compare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("zeroed_blocks");
    for size_bytes in SIZES_BYTES {
        let layout = common::layout(size_bytes);
        group.throughput(Throughput::Bytes(size_bytes as u64));
        group.bench_function(BenchmarkId::new("antifreeze", size_bytes), |bencher| {
            bencher.iter(|| zeroed_pair(&ANTIFREEZE, layout));
        });
        group.bench_function(BenchmarkId::new("system", size_bytes), |bencher| {
            bencher.iter(|| zeroed_pair(&System, layout));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = compare }
criterion_main!(benches);
