//! Micro workloads: one habit of programs each. The work per thread is constant.

mod churn;
mod churn_medium;
mod pipe;
mod realloc_steps;
mod remote;
mod remote_shallow;
mod small_batch;
mod small_pairs;
mod vec_grow;
mod zeroed;

use super::Workload;

const fn row(name: &'static str, description: &'static str, run: fn(usize, f64) -> u64) -> Workload {
    Workload::new("micro", name, description, run)
}

pub(super) const ROWS: [Workload; 9] = [
    row("small_pairs", "malloc/free pairs of one size, 8 B to 1 KiB, 1 and 100 blocks deep", small_pairs::run),
    row("small_batch", "10k blocks of 16 to 256 B freed oldest first, newest first, shuffled", small_batch::run),
    row("churn", "random replacement among 20k blocks of 8 B to 4 KiB", churn::run),
    row("churn_medium", "random replacement among 500 blocks of 1 to 256 KiB", churn_medium::run),
    Workload { threads_each: 2, ..row("remote", "batches of 16 to 512 B blocks freed by another thread", remote::run) },
    Workload {
        threads_each: 2,
        ..row("remote_shallow", "single 64 B to 1 KiB blocks freed soon by another thread", remote_shallow::run)
    },
    row("realloc_steps", "strings, vectors and raw blocks grown to 64 KiB and shrunk", realloc_steps::run),
    row("zeroed", "zeroed blocks of 64 B to 64 KiB, 200 alive", zeroed::run),
    Workload {
        max_threads: 1,
        quick_scale: 0.125,
        growing_mib: 8192,
        ..row(
            "vec_grow",
            "one vector grown from 1 MiB to 4 GiB (512 MiB in quick mode), on one thread only",
            vec_grow::run,
        )
    },
];
