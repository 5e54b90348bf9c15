//! Aim: in a process that may have only so much memory, a program starts, gets most of it, then null and nothing worse,
//! and after it has freed everything it gets as much again: nothing is lost at the limit.
//!
//! Method: children with a limit on address space (`RLIMIT_AS`) or on data (`RLIMIT_DATA`) from their first
//! instruction. The blocks of a round are linked through their own first words, so that counting them takes no
//! memory.

mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;
use std::time::Duration;

use common::{DEADLINE, Test};
use nix::sys::resource::Resource;
use test_support::skip;

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

const MIB: usize = 1 << 20;

fn main() {
    common::run(&[
        Test::Here("blocks_of_one_size_can_be_had_again_under_512_mib_of_address_space", || {
            in_limit(Resource::RLIMIT_AS, 512, &["same 1048576", "same 65536", "same 100", "same 40000000"]);
        }),
        Test::Here("blocks_of_one_size_can_be_had_again_under_1_gib_of_address_space", || {
            in_limit(Resource::RLIMIT_AS, 1024, &["same 1048576", "same 65536", "same 100"]);
        }),
        Test::Here("blocks_of_one_size_can_be_had_again_under_4_gib_of_address_space", || {
            in_limit(Resource::RLIMIT_AS, 4096, &["same 1048576", "same 40000000"]);
        }),
        Test::Here("blocks_of_one_size_can_be_had_again_under_a_limit_on_data", || {
            in_limit(Resource::RLIMIT_DATA, 512, &["same 1048576", "same 65536", "same 100", "same 40000000"]);
        }),
        Test::Here("blocks_of_doubling_sizes_can_be_had_again", || {
            for mib in [512, 1024, 4096] {
                in_limit(Resource::RLIMIT_AS, mib, &["doubling 65536"]);
            }
            in_limit(Resource::RLIMIT_DATA, 512, &["doubling 65536"]);
        }),
        Test::Here("blocks_of_mixed_sizes_can_be_had_again", || {
            in_limit(Resource::RLIMIT_AS, 512, &["mixed 0"]);
            in_limit(Resource::RLIMIT_DATA, 512, &["mixed 0"]);
        }),
        Test::Here("a_vector_that_cannot_grow_says_so_and_keeps_its_elements", || {
            in_limit(Resource::RLIMIT_AS, 512, &["vector 0"]);
            in_limit(Resource::RLIMIT_DATA, 512, &["vector 0"]);
        }),
        Test::Here("threads_start_and_allocate_next_to_a_full_heap", || {
            in_limit(Resource::RLIMIT_AS, 1024, &["threads 0"]);
        }),
        Test::Job("in_limit", |arguments| {
            let limit: usize = arguments[0].parse().expect("the parent passes a number");
            let (what, bytes) = arguments[1].split_once(' ').expect("the parent passes two words");
            let bytes = bytes.parse().expect("the parent passes a number");
            match what {
                "same" => rounds(limit, bytes, |_| bytes),
                "doubling" => rounds(limit, bytes, |number| bytes << number.min(20)),
                "mixed" => rounds(limit, 64 << 10, |number| [100_000, 70_000, 3 * MIB, 700_000, 40 * MIB][number % 5]),
                "vector" => vector(limit),
                "threads" => threads(limit),
                _ => panic!("no work is named {what}"),
            }
        }),
    ]);
}

/// Runs children with `mib` MiB of what is limited.
fn in_limit(resource: Resource, mib: usize, works: &[&str]) {
    if common::available_bytes() < mib * MIB + mib * MIB / 4 {
        return skip(format_args!("less than {mib} MiB of memory is available"));
    }
    for work in works {
        println!("oom: {resource:?} {mib} MiB, {work}");
        let mut child = common::job("in_limit", &[&(mib * MIB).to_string(), work]);
        common::expect_success(common::limit(&mut child, resource, (mib * MIB) as u64), DEADLINE);
    }
}

/// Live blocks, each with the address of the one before and its size in its first words.
struct Pile {
    top: *mut [usize; 2],
    count: usize,
    bytes: usize,
}

impl Pile {
    const fn new() -> Self {
        Pile { top: null_mut(), count: 0, bytes: 0 }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 8).expect("small sizes make a layout")
    }

    /// Puts one more block on the pile; `false` if there is none to be had.
    fn grow(&mut self, bytes: usize) -> bool {
        // SAFETY: the size is not zero.
        let block = unsafe { GLOBAL.alloc(Self::layout(bytes)) }.cast::<[usize; 2]>();
        if block.is_null() {
            return false;
        }
        // SAFETY: the block is ours, aligned to 8 and of 16 bytes at least.
        unsafe { block.write([self.top.expose_provenance(), bytes]) };
        self.top = block;
        self.count += 1;
        self.bytes += bytes;
        true
    }

    /// Frees all. Every block must be as it was left.
    fn free(&mut self) {
        while !self.top.is_null() {
            let block = self.top;
            // SAFETY: the block is on the pile, so it is live and holds what `grow` wrote.
            let [next, bytes] = unsafe { block.read() };
            // SAFETY: the block came from `grow` with this layout and is not used again.
            unsafe { GLOBAL.dealloc(block.cast(), Self::layout(bytes)) };
            self.top = std::ptr::with_exposed_provenance_mut(next);
            self.count -= 1;
            self.bytes -= bytes;
        }
        assert_eq!((self.count, self.bytes), (0, 0), "the pile is damaged");
    }
}

/// Takes all memory and frees it, several times over; asks for `size(n)` bytes the `n`th time, and when that is not
/// to be had for half as much, and so on down to `least`.
fn rounds(limit: usize, least: usize, size: impl Fn(usize) -> usize) {
    println!("oom: the program has started: {}", std::env::args().count());
    // The background thread has a stack; it starts when something is freed.
    let mut pile = Pile::new();
    assert!(pile.grow(8 * MIB));
    pile.free();
    let mut first = None;
    for round in 0..3 {
        let mut number = 0;
        loop {
            let mut bytes = size(number);
            while bytes >= least && !pile.grow(bytes) {
                bytes /= 2;
            }
            if bytes < least {
                break;
            }
            number += 1;
        }
        let (count, bytes) = (pile.count, pile.bytes);
        let reserved = antifreeze::stats().reserve.bytes() >> 20;
        println!("oom: round {round}: {count} blocks, {} MiB of {reserved} MiB reserved", bytes / MIB);
        assert!(bytes >= limit / 2, "only {bytes} bytes of {limit} could be used");
        pile.free();
        let (first_count, first_bytes) = *first.get_or_insert((count, bytes));
        assert!(bytes >= first_bytes - first_bytes / 100, "lost memory: {first_bytes} bytes at first, then {bytes}");
        if size(0) == size(1) {
            assert!(count >= first_count - first_count / 100, "lost blocks: {first_count} at first, then {count}");
        }
    }
}

fn vector(limit: usize) {
    let mut vector: Vec<u64> = (0..100_000).collect();
    assert!(vector.try_reserve_exact(limit / 8).is_err(), "more than the limit");
    assert!(vector.try_reserve_exact(usize::MAX / 16).is_err(), "more than there are addresses");
    let mut pile = Pile::new();
    while pile.grow(MIB) {}
    while pile.grow(1000) {}
    assert!(vector.try_reserve(8_000_000).is_err(), "a full heap");
    assert!(vector.iter().copied().eq(0..100_000), "a failed growth keeps what is there");
    pile.free();
    assert!(vector.try_reserve(8_000_000).is_ok(), "there is memory again");
    assert!(vector.iter().copied().eq(0..100_000), "growth keeps what is there");
}

fn threads(limit: usize) {
    let mut pile = Pile::new();
    while pile.bytes < limit / 3 {
        assert!(pile.grow(MIB));
    }
    for round in 0..50_u32 {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let builder = std::thread::Builder::new().stack_size(128 << 10);
                let work = move || {
                    let blocks: Vec<Box<[u32]>> = (0..200).map(|n| vec![round; n * 10].into_boxed_slice()).collect();
                    assert!(blocks.iter().all(|block| block.iter().all(|word| *word == round)));
                };
                builder.spawn_scoped(scope, work).expect("there is memory for a stack");
            }
        });
    }
    pile.free();
    // What the background thread gives back does not count against the limit, so that all that is left to see is that
    // it goes on working.
    assert!(common::eventually(Duration::from_secs(20), || antifreeze::stats().purge.bytes() > limit as u64 / 8));
}
