//! A map that is about to double, with its memory made warm before: `cargo run --release --example prewarm [ENTRIES]`.
//!
//! When a `HashMap` is full, one insert allocates a table of twice the size and moves every entry. The moving is the
//! map's work; faulting in the memory is not, and can be done beforehand by a thread that nobody waits for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use antifreeze::PrewarmState;

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

/// Bytes of a table of hashbrown for each entry: the entry and a byte of control, and one place in eight stays free.
const ENTRY_BYTES: usize = size_of::<(u64, [u64; 2])>() + 1;

/// Fills a map to its last free place.
fn full_map(entries: usize) -> HashMap<u64, [u64; 2]> {
    let mut map = HashMap::with_capacity(entries);
    for key in 0..map.capacity() as u64 {
        map.insert(key, [key; 2]);
    }
    map
}

/// Inserts once more; how long that took.
fn double(map: &mut HashMap<u64, [u64; 2]>) -> Duration {
    let start = Instant::now();
    map.insert(u64::MAX, [0; 2]);
    start.elapsed()
}

/// Has freed memory given back, so that the second map finds nothing that the first has left warm.
fn give_back() {
    antifreeze::purge(usize::MAX);
    let end = Instant::now() + Duration::from_secs(5);
    while antifreeze::stats().memory.warm > 64 << 20 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn main() {
    let entries = std::env::args().nth(1).and_then(|number| number.parse().ok()).unwrap_or(2_000_000);

    let mut map = full_map(entries);
    let places = map.capacity() / 7 * 8;
    println!("{} entries; the next one needs a table of {} MiB", map.len(), (2 * places * ENTRY_BYTES) >> 20);
    println!("doubled without prewarm: {:?}", double(&mut map));
    drop(map);
    give_back();

    // A real service would ask when the map is, say, three quarters full, and look at the answer before the insert that
    // doubles it; here nothing else is to be done meanwhile.
    let mut map = full_map(entries);
    let request = antifreeze::prewarm(2 * places * ENTRY_BYTES);
    let progress = request.wait(Duration::from_secs(20));
    let warm = format!("{} of {} MiB are warm", progress.warm_bytes >> 20, progress.wanted_bytes >> 20);
    match progress.state {
        PrewarmState::Ready => println!("{warm}, {} MiB of them by hugepages", progress.hugepage_bytes >> 20),
        // Not in time: what is warm helps; the rest is faulted by the insert. Or put the insert off and wait on.
        PrewarmState::Warming => println!("{warm}; the time is over"),
        // There is no more memory to be had without hurting others. A service would rather shed load or split the map
        // now than run into the limit in the middle of the doubling.
        PrewarmState::NoHeadRoom | PrewarmState::Pressure => println!("{warm}; memory is short: {:?}", progress.state),
        // More would come in small pages, after the kernel has looked for larger ones.
        PrewarmState::HugepagesScarce => println!("{warm}; hugepages have run out"),
        // The block would have no place of its own: explain() says why (a narrow reservation, or all rooms are taken).
        PrewarmState::Refused => println!("refused; the insert faults its memory itself"),
        state => println!("{warm}: {state:?}"),
    }
    println!("doubled: {:?}", double(&mut map));
    // What nobody took would be given back after `prewarm_hold`; better say so when it is known.
    request.cancel();

    let stats = antifreeze::counters();
    println!("{} calls took mmap_lock for writing since start-up", stats.write_lock_calls);
}
