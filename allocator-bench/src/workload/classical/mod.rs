//! Classical workloads: the benchmarks that papers and releases of allocators report, most of them collected in
//! mimalloc-bench. Each is written anew from what it is said to do, with the parameters it is usually run with; what is
//! different here stands in its file. Sizes below 8 bytes become 8, which is the smallest block that holds a mark.

mod alloc_test;
mod cache_scratch;
mod cache_thrash;
mod glibc_simple;
mod glibc_thread;
mod larson;
mod larson_sized;
mod mailbox;
mod malloc_large;
mod mleak;
mod mstress;
mod ring;
mod rptest;
mod sh6;
mod sh8;
mod xmalloc;

use super::Workload;

const fn row(name: &'static str, description: &'static str, run: fn(usize, f64) -> u64) -> Workload {
    Workload::new("classical", name, description, run)
}

pub(super) const ROWS: [Workload; 14] = [
    row("larson", "5000 blocks of 8 to 1000 B handed down through generations of threads", larson::run),
    row("larson_sized", "larson with objects whose layouts the compiler knows", larson_sized::run),
    Workload {
        threads_each: 2,
        ..row("xmalloc", "threads allocate 120 blocks at a time, any other thread frees them", xmalloc::run)
    },
    row(
        "cache_scratch",
        "writes to 8 B objects that one thread allocated for all: passive false sharing",
        cache_scratch::run,
    ),
    row("cache_thrash", "writes to 8 B objects of every thread's own: active false sharing", cache_thrash::run),
    row("sh6", "blocks of many sizes, half freed oldest first, half newest first, a fifth kept", sh6::run),
    row("sh8", "mostly 8 to 48 B blocks freed as in sh6, others freed by another thread", sh8::run),
    row("mstress", "rounds of threads that keep, swap and free objects of random lifetime", mstress::run),
    row("rptest", "blocks of 8 to 16000 B replaced in turn, every second loop some freed elsewhere", rptest::run),
    row("alloc_test", "256k slots, chosen 80/20, filled and emptied with blocks of up to 1 KiB", alloc_test::run),
    row("glibc_simple", "25 to 1600 blocks of 16, 32 or 64 B freed oldest first", glibc_simple::run),
    row("glibc_thread", "replacement among 1024 blocks of 8 B to 32 KiB, most of them small", glibc_thread::run),
    row("mleak", "20k short threads, ten at a time, that leave one block each behind", mleak::run),
    row("malloc_large", "random replacement among 20 blocks of 5 to 25 MiB", malloc_large::run),
];
