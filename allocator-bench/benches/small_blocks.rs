//! One allocation and its free, for each size class: `cargo bench -p allocator-bench --bench small_blocks`.
//!
//! antifreeze is the global allocator; the system's malloc is called directly beside it.

mod common;

use std::alloc::System;

use antifreeze::Antifreeze;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

#[global_allocator]
static ANTIFREEZE: Antifreeze = Antifreeze::new();

const SIZE_BYTES_MAX: usize = 32 << 10;

fn compare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("small_blocks");
    for size_bytes in common::size_classes(&ANTIFREEZE, SIZE_BYTES_MAX) {
        let layout = common::layout(size_bytes);
        group.bench_function(BenchmarkId::new("antifreeze", size_bytes), |bencher| {
            bencher.iter(|| common::pair(&ANTIFREEZE, layout));
        });
        group.bench_function(BenchmarkId::new("system", size_bytes), |bencher| {
            bencher.iter(|| common::pair(&System, layout));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = compare }
criterion_main!(benches);
