//! Many blocks allocated, then freed: newest first, oldest first, and in an order without order:
//! `cargo bench -p allocator-bench --bench batches`.
//!
//! antifreeze is the global allocator; the system's malloc is called directly beside it.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

use allocator_bench::rng::Rng;
use antifreeze::Antifreeze;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ANTIFREEZE: Antifreeze = Antifreeze::new();

const SIZES_BYTES: [usize; 4] = [16, 64, 512, 4096];
const COUNTS: [usize; 2] = [100, 10_000];

/// Allocates a block for each place, writes to it, and frees them in the order given.
fn batch(allocator: &impl GlobalAlloc, layout: Layout, blocks: &mut [*mut u8], order: &[usize]) {
    // SAFETY: the layout has a size above zero and the blocks are written within it; the order names each place once,
    // so that each block is freed once, with its layout.
    unsafe {
        for block in blocks.iter_mut() {
            *block = black_box(allocator.alloc(layout));
            block.write(1);
        }
        for &place in order {
            allocator.dealloc(blocks[place], layout);
        }
    }
}

fn orders(count: usize) -> [(&'static str, Vec<usize>); 3] {
    let mut shuffled: Vec<usize> = (0..count).collect();
    let mut rng = Rng::new(0xBA7C);
    for place in (1..count).rev() {
        shuffled.swap(place, rng.below(place + 1));
    }
    [("newest_first", (0..count).rev().collect()), ("oldest_first", (0..count).collect()), ("shuffled", shuffled)]
}

fn compare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batches");
    for count in COUNTS {
        group.throughput(Throughput::Elements(count as u64));
        let mut blocks = vec![std::ptr::null_mut(); count];
        for (name, order) in orders(count) {
            for size_bytes in SIZES_BYTES {
                let layout = common::layout(size_bytes);
                let id = |allocator: &str| BenchmarkId::new(format!("{name}/{count}/{allocator}"), size_bytes);
                group.bench_function(id("antifreeze"), |bencher| {
                    bencher.iter(|| batch(&ANTIFREEZE, layout, &mut blocks, &order));
                });
                group.bench_function(id("system"), |bencher| {
                    bencher.iter(|| batch(&System, layout, &mut blocks, &order));
                });
            }
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = compare }
criterion_main!(benches);
