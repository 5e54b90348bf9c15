//! Tests of `lockfree::remote_free`.

use std::collections::BTreeSet;
use std::thread;
use std::vec::Vec;

use super::{Numbers, THREADS};
use crate::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::lockfree::remote_free::{Chain, Place, Push, RemoteFree};

const END: usize = usize::MAX;

struct Slab {
    remote: RemoteFree,
    links: Vec<AtomicUsize>,
}

impl Slab {
    fn new(blocks: usize) -> Self {
        let links = (0..blocks).map(|_| AtomicUsize::new(END)).collect();
        Slab { remote: RemoteFree::from_word(AtomicU64::new(0)), links }
    }

    fn free(&self, block: Place) -> Push {
        let link = |next: Option<Place>| self.links[block].store(next.unwrap_or(END), Ordering::Relaxed);
        self.remote.push(Chain { head: block, count: 1 }, link)
    }

    fn take(&self) -> Vec<Place> {
        let Some(chain) = self.remote.take() else { return Vec::new() };
        let mut taken = Vec::new();
        let mut next = chain.head;
        while next != END {
            taken.push(next);
            next = self.links[next].load(Ordering::Relaxed);
        }
        assert_eq!(taken.len(), chain.count as usize);
        taken
    }
}

#[test]
fn blocks_come_back_last_first() {
    let slab = Slab::new(4);
    assert!(slab.remote.is_empty());
    assert_eq!((slab.remote.count(), slab.remote.take()), (0, None));
    for (count, block) in [3, 0, 2].into_iter().enumerate() {
        assert_eq!(slab.free(block), Push::Listed);
        assert_eq!(slab.remote.count(), count as u32 + 1);
    }
    assert!(!slab.remote.is_empty());
    assert_eq!(slab.take(), [2, 0, 3]);
    assert!(slab.remote.is_empty());
}

#[test]
fn a_chain_is_pushed_as_a_whole() {
    let slab = Slab::new(4);
    slab.free(3);
    // 0, 1, 2.
    slab.links[0].store(1, Ordering::Relaxed);
    slab.links[1].store(2, Ordering::Relaxed);
    slab.remote.push(Chain { head: 0, count: 3 }, |next| slab.links[2].store(next.unwrap_or(END), Ordering::Relaxed));
    assert_eq!(slab.remote.count(), 4);
    assert_eq!(slab.take(), [0, 1, 2, 3]);
}

#[test]
fn the_highest_place_and_count_fit() {
    let slab = RemoteFree::from_word(AtomicU64::new(0));
    let chain = Chain { head: (1 << 20) - 2, count: (1 << 20) - 1 };
    slab.pool();
    assert_eq!(slab.push(chain, |next| assert_eq!(next, None)), Push::Pooled(chain.count));
    slab.adopt();
    assert_eq!(slab.take(), Some(chain));
}

#[test]
fn a_slab_with_blocks_on_its_list_is_not_given_up_as_full() {
    let slab = Slab::new(2);
    slab.free(0);
    assert!(!slab.remote.detach());
    assert_eq!(slab.free(1), Push::Listed, "the slab is owned as before");
    assert_eq!(slab.take(), [1, 0]);
    assert!(slab.remote.detach());
}

#[test]
fn the_first_free_to_a_full_slab_adopts_it() {
    let slab = Slab::new(3);
    assert!(slab.remote.detach());
    let link = |_| panic!("the block of who adopts is not put on the list");
    assert_eq!(slab.remote.push(Chain { head: 0, count: 1 }, link), Push::Adopted);
    assert!(slab.remote.is_empty());
    assert_eq!(slab.free(1), Push::Listed);
    assert_eq!(slab.take(), [1]);
}

#[test]
fn a_pooled_slab_keeps_its_list_and_counts_on() {
    let slab = Slab::new(4);
    slab.free(0);
    slab.remote.pool();
    assert_eq!([slab.free(1), slab.free(2)], [Push::Pooled(2), Push::Pooled(3)]);
    slab.remote.adopt();
    assert_eq!(slab.free(3), Push::Listed);
    assert_eq!(slab.take(), [3, 2, 1, 0]);
}

#[test]
fn a_reset_forgets_everything() {
    let slab = Slab::new(2);
    slab.free(0);
    slab.remote.pool();
    slab.remote.reset();
    assert!(slab.remote.is_empty());
    assert_eq!(slab.free(1), Push::Listed);
}

#[test]
fn no_block_is_lost_between_frees_full_slabs_and_pooled_ones() {
    const BLOCKS: usize = 20_000;
    let slab = Slab::new(BLOCKS);
    let found: Vec<Place> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let slab = &slab;
                scope.spawn(move || {
                    let mut found = Vec::new();
                    let mut numbers = Numbers::new(thread as u64);
                    // The first one owns the slab at the start; later whoever adopts it.
                    let mut owner = thread == 0;
                    for block in (thread..BLOCKS).step_by(THREADS) {
                        match slab.free(block) {
                            Push::Listed => {}
                            Push::Pooled(_) => panic!("nobody pools it"),
                            Push::Adopted => {
                                assert!(!owner, "one owner at a time");
                                owner = true;
                                found.push(block);
                            }
                        }
                        if owner && numbers.below(4) == 0 {
                            found.extend(slab.take());
                            owner = !slab.remote.detach();
                        }
                    }
                    if owner {
                        found.extend(slab.take());
                        owner = !slab.remote.detach();
                    }
                    (owner, found)
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap().1).collect()
    });
    let mut found = found;
    // What came after the last look of an owner that could not give the slab up.
    found.extend(slab.take());
    assert_eq!(found.len(), BLOCKS, "none is found twice");
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), BLOCKS, "and none is missing");
}
