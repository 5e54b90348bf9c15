//! The workloads, one file each, and the table in which the children and the runner find them.
//!
//! Every workload does a fixed amount of work from a fixed seed, checks what the allocator gave it, and returns a
//! checksum that depends on the number of threads and the scale only: the runner compares it across allocators.

mod churn;
mod churn_medium;
mod large;
mod larson;
mod realloc_steps;
mod remote;
mod remote_shallow;
mod small_batch;
mod small_pairs;
mod string_map;
mod vec_grow;
mod xmalloc;
mod zeroed;

/// One workload of the table.
#[derive(Debug)]
pub struct Workload {
    /// The name on the command line and in the results.
    pub name: &'static str,
    /// What it does, in one line.
    pub description: &'static str,
    /// The highest number of threads that makes sense.
    pub max_threads: usize,
    /// The scale of the quick mode.
    pub quick_scale: f64,
    /// Memory that a run at scale 1 may need beyond a few hundred MiB, growing with the scale; zero for most.
    pub growing_mib: u64,
    /// Plays it on that many threads (or pairs of threads) at that scale, 1 being the full length, and gives a
    /// checksum.
    pub run: fn(threads: usize, scale: f64) -> u64,
}

const fn workload(name: &'static str, description: &'static str, run: fn(usize, f64) -> u64) -> Workload {
    Workload { name, description, max_threads: usize::MAX, quick_scale: 0.15, growing_mib: 0, run }
}

/// Every workload, in the order of the report.
pub static ALL: [Workload; 13] = [
    workload("small_pairs", "malloc/free pairs of one size, 8 B to 1 KiB, 1 and 100 blocks deep", small_pairs::run),
    workload("small_batch", "10k blocks of 16 to 256 B freed oldest first, newest first, shuffled", small_batch::run),
    workload("churn", "random replacement among 20k blocks of 8 B to 4 KiB", churn::run),
    workload("churn_medium", "random replacement among 500 blocks of 1 to 256 KiB", churn_medium::run),
    workload("large", "random replacement among 20 blocks of 1 to 25 MiB", large::run),
    workload("remote", "batches of 16 to 512 B blocks freed by another thread", remote::run),
    workload("remote_shallow", "single 64 B to 1 KiB blocks freed soon by another thread", remote_shallow::run),
    workload("xmalloc", "threads allocate 120 blocks at a time, any other thread frees them", xmalloc::run),
    workload("larson", "1000 blocks of 8 to 1000 B handed down through generations of threads", larson::run),
    workload("realloc_steps", "strings, vectors and raw blocks grown to 64 KiB and shrunk", realloc_steps::run),
    workload("zeroed", "zeroed blocks of 64 B to 64 KiB, 200 alive", zeroed::run),
    Workload {
        name: "vec_grow",
        description: "one vector grown from 1 MiB to 4 GiB (1 GiB in quick mode), on one thread only",
        max_threads: 1,
        quick_scale: 0.25,
        growing_mib: 8192,
        run: vec_grow::run,
    },
    workload("string_map", "100k entries in a hash map of strings and in a B-tree of boxes", string_map::run),
];

/// The workload of that name.
pub fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

/// `full` scaled down (or up), but at least 1.
fn scaled(full: usize, scale: f64) -> usize {
    ((full as f64 * scale) as usize).max(1)
}

/// Runs `work` on that many threads, each given its index, and adds up what they return.
///
/// The calling thread is one of them, so that a run on one thread is a single-threaded process.
fn on_threads(threads: usize, work: impl Fn(u64) -> u64 + Sync) -> u64 {
    let work = &work;
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads as u64).map(|index| scope.spawn(move || work(index))).collect();
        let own = work(0);
        others.into_iter().fold(own, |sum, other| {
            sum.wrapping_add(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{ALL, find, on_threads, scaled};

    #[test]
    fn names_are_unique_and_found() {
        for workload in &ALL {
            assert!(std::ptr::eq(find(workload.name).expect("listed"), workload), "{} is listed twice", workload.name);
        }
        assert!(find("nothing").is_none());
    }

    #[test]
    fn checksum_is_the_same_in_every_run() {
        for workload in &ALL {
            for threads in [1, 2.min(workload.max_threads)] {
                let run = || (workload.run)(threads, 0.001);
                assert_eq!(run(), run(), "{} on {threads} threads", workload.name);
            }
        }
    }

    #[test]
    fn scaling_never_reaches_zero() {
        assert_eq!((scaled(1000, 0.5), scaled(1000, 2.0), scaled(10, 0.001)), (500, 2000, 1));
    }

    #[test]
    fn every_thread_gets_its_index() {
        assert_eq!(on_threads(4, |index| 1 << (8 * index)), 0x0101_0101);
    }
}
