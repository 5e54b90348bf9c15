//! The workloads, one file each, and the table in which the children and the runner find them.
//!
//! Every workload does a fixed amount of work from a fixed seed, checks what the allocator gave it, and returns a
//! checksum that depends on the number of threads and the scale only: the runner compares it across allocators. Where
//! threads race for blocks, what they sum up does not depend on who wins.
//!
//! * `micro`: one habit of programs each, with nothing else around it.
//! * `classical`: the benchmarks of the field, written anew from their descriptions, with a fixed count of operations
//!   in place of a fixed time.
//! * `application`: pieces of programs, on the collections and crates that they use.

mod application;
mod classical;
mod micro;

/// One workload of the table.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The name on the command line and in the results.
    pub name: &'static str,
    /// The group under which a report lists it: workloads of one group stand together in the table.
    pub group: &'static str,
    /// What it does, in one line.
    pub description: &'static str,
    /// The highest number of threads that makes sense.
    pub max_threads: usize,
    /// How many run for each thread asked for: 2 if those are pairs.
    pub threads_each: usize,
    /// The scale of the quick mode.
    pub quick_scale: f64,
    /// Memory that a run at scale 1 may need beyond a few hundred MiB, growing with the scale; zero for most.
    pub growing_mib: u64,
    /// Plays it on that many threads (or pairs of threads) at that scale, 1 being the full length, and gives a
    /// checksum.
    pub run: fn(threads: usize, scale: f64) -> u64,
}

impl Workload {
    /// A row of the table with what most rows have.
    const fn new(
        group: &'static str,
        name: &'static str,
        description: &'static str,
        run: fn(usize, f64) -> u64,
    ) -> Workload {
        Workload {
            name,
            group,
            description,
            max_threads: usize::MAX,
            threads_each: 1,
            quick_scale: 0.15,
            growing_mib: 0,
            run,
        }
    }
}

const COUNT: usize = micro::ROWS.len() + classical::ROWS.len() + application::ROWS.len();

/// Every workload, in the order of the report.
pub static ALL: [Workload; COUNT] = all();

const fn all() -> [Workload; COUNT] {
    let mut rows = [micro::ROWS[0]; COUNT];
    let groups: [&[Workload]; 3] = [&micro::ROWS, &classical::ROWS, &application::ROWS];
    let (mut row, mut group) = (0, 0);
    while group < groups.len() {
        let mut index = 0;
        while index < groups[group].len() {
            rows[row] = groups[group][index];
            row += 1;
            index += 1;
        }
        group += 1;
    }
    rows
}

/// The workload of that name.
pub fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

/// `full` scaled down (or up), but at least 1.
fn scaled(full: usize, scale: f64) -> usize {
    ((full as f64 * scale) as usize).max(1)
}

/// The part of `total` that thread `index` of `threads` does; at least 1.
fn share(total: usize, threads: usize, index: u64) -> usize {
    let whole = total / threads;
    (whole + usize::from((index as usize) < total % threads)).max(1)
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
    use std::collections::HashSet;

    use super::{ALL, find, on_threads, scaled, share};

    #[test]
    fn names_are_unique_and_found() {
        for workload in &ALL {
            assert!(std::ptr::eq(find(workload.name).expect("listed"), workload), "{} is listed twice", workload.name);
        }
        assert!(find("nothing").is_none());
    }

    #[test]
    fn groups_stand_together() {
        let groups: HashSet<_> = ALL.iter().map(|workload| workload.group).collect();
        let changes = ALL.windows(2).filter(|pair| pair[0].group != pair[1].group).count();
        assert_eq!(changes + 1, groups.len());
    }

    #[test]
    fn checksum_is_the_same_in_every_run() {
        for workload in &ALL {
            for threads in [1, 2, 5].into_iter().filter(|&threads| threads <= workload.max_threads) {
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
    fn shares_add_up() {
        assert_eq!([0, 1, 2].map(|index| share(11, 3, index)), [4, 4, 3]);
        assert_eq!(share(1, 3, 2), 1);
    }

    #[test]
    fn every_thread_gets_its_index() {
        assert_eq!(on_threads(4, |index| 1 << (8 * index)), 0x0101_0101);
    }
}
