//! Blocks allocated here and freed by another thread: `cargo bench -p allocator-bench --bench remote_free`.
//!
//! antifreeze is the global allocator; the system's malloc is called directly beside it. A batch goes to the other
//! thread and its empty list comes back, so that both threads take turns and the allocating one sees its blocks again.

mod common;

use std::alloc::{GlobalAlloc, System};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::mpsc::sync_channel;

use antifreeze::Antifreeze;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ANTIFREEZE: Antifreeze = Antifreeze::new();

const BATCH: usize = 256;
const SIZES_BYTES: [usize; 4] = [16, 64, 512, 4096];

/// A block on its way to the thread that frees it.
struct Sent(NonNull<u8>);

// SAFETY: the block is owned by whoever holds this, and may be freed by any thread.
unsafe impl Send for Sent {}

fn bench_one<A: GlobalAlloc + Sync>(criterion: &mut Criterion, name: &str, allocator: &A, size_bytes: usize) {
    let layout = common::layout(size_bytes);
    let mut group = criterion.benchmark_group("remote_free");
    group.throughput(Throughput::Elements(BATCH as u64));
    std::thread::scope(|scope| {
        let (to_other, from_here) = sync_channel::<Vec<Sent>>(1);
        let (to_here, from_other) = sync_channel::<Vec<Sent>>(1);
        scope.spawn(move || {
            for mut batch in from_here {
                for block in batch.drain(..) {
                    // SAFETY: the block came from this allocator with this layout, and is freed here alone.
                    unsafe { allocator.dealloc(block.0.as_ptr(), layout) };
                }
                if to_here.send(batch).is_err() {
                    return;
                }
            }
        });
        let mut spare = Some(Vec::with_capacity(BATCH));
        group.bench_function(BenchmarkId::new(name, size_bytes), |bencher| {
            bencher.iter(|| {
                let mut batch = spare.take().expect("it came back after the last batch");
                for _ in 0..BATCH {
                    // SAFETY: the layout has a size above zero, and the block is written within its size.
                    let block = unsafe {
                        let block = black_box(allocator.alloc(layout));
                        block.write(1);
                        NonNull::new(block).expect("memory for a small block")
                    };
                    batch.push(Sent(block));
                }
                to_other.send(batch).expect("the other thread receives until the channel closes");
                spare = from_other.recv().ok();
            });
        });
        drop(to_other);
    });
    group.finish();
}

fn compare(criterion: &mut Criterion) {
    for size_bytes in SIZES_BYTES {
        bench_one(criterion, "antifreeze", &ANTIFREEZE, size_bytes);
        bench_one(criterion, "system", &System, size_bytes);
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = compare }
criterion_main!(benches);
