//! One allocation with an alignment and its free: `cargo bench -p allocator-bench --bench aligned_blocks`.
//!
//! antifreeze is the global allocator; the system's malloc is called directly beside it.

mod common;

use std::alloc::{Layout, System};

use antifreeze::Antifreeze;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

#[global_allocator]
static ANTIFREEZE: Antifreeze = Antifreeze::new();

/// Size and alignment: cache lines, pages, a hugepage.
const LAYOUTS_BYTES: [(usize, usize); 6] =
    [(24, 32), (64, 64), (200, 64), (4096, 4096), (10_000, 4096), (2 << 20, 2 << 20)];

fn compare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("aligned_blocks");
    for (size_bytes, align_bytes) in LAYOUTS_BYTES {
        let layout = Layout::from_size_align(size_bytes, align_bytes).expect("a valid layout");
        let id = |allocator: &str| BenchmarkId::new(allocator, format!("{size_bytes}_by_{align_bytes}"));
        group.bench_function(id("antifreeze"), |bencher| bencher.iter(|| common::pair(&ANTIFREEZE, layout)));
        group.bench_function(id("system"), |bencher| bencher.iter(|| common::pair(&System, layout)));
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = compare }
criterion_main!(benches);
