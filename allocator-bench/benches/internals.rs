//! Inner steps of antifreeze: `cargo bench -p allocator-bench --features bench-internals --bench internals`.

mod common;

use std::hint::black_box;

use antifreeze::internals;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ANTIFREEZE: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

/// Sizes found in the table, by arithmetic, and by alignment.
const REQUESTS_BYTES: [(usize, usize); 4] = [(24, 8), (1000, 8), (20_000, 8), (200, 64)];

const CHUNK_BYTES: usize = 2 << 20;

fn size_classes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("size_class");
    for (size_bytes, align_bytes) in REQUESTS_BYTES {
        group.bench_function(BenchmarkId::new(format!("align_{align_bytes}"), size_bytes), |bencher| {
            bencher.iter(|| internals::block_bytes(black_box(size_bytes), black_box(align_bytes)));
        });
    }
    group.finish();
}

fn purge_batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("purge_calls");
    for count in [8, 64] {
        // Every third chunk has no neighbour.
        let addresses: Vec<usize> = (1..=count).map(|place| (place + place / 3) * CHUNK_BYTES).rev().collect();
        assert!((1..=count).contains(&internals::purge_calls(&addresses, CHUNK_BYTES)));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| internals::purge_calls(black_box(&addresses), CHUNK_BYTES));
        });
    }
    group.finish();
}

/// The governor's work for gigabytes that are given back or made warm, without what the kernel takes for it.
fn governor_steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("governor");
    let pretended = internals::Pretended::start().expect("there is address space");
    for chunks in [16, 128] {
        group.throughput(Throughput::Bytes((chunks * CHUNK_BYTES) as u64));
        group.bench_function(BenchmarkId::new("give_back", chunks), |bencher| {
            bencher.iter(|| pretended.give_back(black_box(chunks)).expect("all comes back"));
        });
        group.bench_function(BenchmarkId::new("warm", chunks), |bencher| {
            bencher.iter(|| pretended.warm(black_box((chunks * CHUNK_BYTES) as u64)).expect("all becomes warm"));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = size_classes, purge_batches, governor_steps
}
criterion_main!(benches);
