//! Models of `lockfree::remote_free`: up to three threads free blocks of one slab while its owner takes the list, gives
//! the slab up as full, or pools it.
//!
//! Blocks are memory that only their user or the list's owner may touch: a block is written by who frees it, by its
//! link, and by who took it. Fields are what only a slab's owner may touch. In every interleaving no block is lost or
//! given out twice, each link is visible to the taker, and each owner sees the fields as the one before left them.

use std::sync::Arc;

use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::explore::{Memory, explore, explore_bounded, join, spawn};

#[allow(dead_code, reason = "models call what threads call at the same time")]
#[path = "../../src/lockfree/remote_free.rs"]
mod subject;
use subject::{Chain, Place, Push, RemoteFree};

struct Slab {
    remote: RemoteFree,
    /// Owner-only: how often the slab has changed hands.
    fields: Memory<u32>,
    /// How many blocks were used when the slab was pooled. Until then what an earlier time has left.
    pooled_used: AtomicU32,
    /// The links in the free blocks.
    blocks: [Memory<Option<Place>>; 3],
}

impl Slab {
    fn new() -> Arc<Self> {
        Arc::new(Slab {
            remote: RemoteFree::from_word(AtomicU64::new(0)),
            fields: Memory::new(0),
            pooled_used: AtomicU32::new(9),
            blocks: std::array::from_fn(|_| Memory::new(None)),
        })
    }

    fn free(&self, block: Place) -> Push {
        self.remote.push(Chain { head: block, count: 1 }, |next| self.blocks[block].set(next))
    }

    /// The blocks on the list, in its order; they are the caller's then, and written to.
    fn take(&self) -> Vec<Place> {
        let Some(chain) = self.remote.take() else { return Vec::new() };
        let mut taken = Vec::new();
        let mut next = Some(chain.head);
        while let Some(block) = next {
            next = self.blocks[block].get();
            self.blocks[block].set(None);
            taken.push(block);
        }
        assert_eq!(taken.len(), chain.count as usize, "the count is that of the list");
        taken
    }

    /// A new owner finds what the last one wrote.
    fn change_hands(&self, seen: u32) {
        assert_eq!(self.fields.get(), seen);
        self.fields.set(seen + 1);
    }
}

fn sorted(mut blocks: Vec<Place>) -> Vec<Place> {
    blocks.sort_unstable();
    blocks
}

#[test]
fn blocks_freed_by_two_threads_reach_the_owner_once() {
    explore(|| {
        let slab = Slab::new();
        let one = spawn(&slab, |slab| {
            // A chain of two blocks, as a thread that frees many would push.
            slab.blocks[0].set(Some(1));
            let push = slab.remote.push(Chain { head: 0, count: 2 }, |next| slab.blocks[1].set(next));
            assert_eq!(push, Push::Listed);
        });
        let other = spawn(&slab, |slab| assert_eq!(slab.free(2), Push::Listed));
        let mut taken = slab.take();
        join([one, other]);
        taken.extend(slab.take());
        assert_eq!(sorted(taken), [0, 1, 2]);
    });
}

#[test]
fn a_full_slab_is_adopted_by_exactly_one_thread() {
    explore(|| {
        let slab = Slab::new();
        let free = |block| {
            spawn(&slab, move |slab| match slab.free(block) {
                Push::Listed => Vec::new(),
                Push::Pooled(_) => panic!("nobody pooled it"),
                Push::Adopted => {
                    slab.change_hands(1);
                    let mut mine = slab.take();
                    mine.push(block);
                    mine
                }
            })
        };
        let threads = [free(0), free(1)];
        slab.change_hands(0);
        let mut found = Vec::new();
        let given_up = loop {
            if slab.remote.detach() {
                break true;
            }
            let taken = slab.take();
            assert!(!taken.is_empty(), "only blocks that came back keep the owner");
            found.extend(taken);
            if found.len() == 2 {
                break false;
            }
        };
        found.extend(join(threads).concat());
        // The slab's owner, whoever it is now, takes what came after its last look.
        found.extend(slab.take());
        assert_eq!(sorted(found), [0, 1]);
        // A block was out when the slab was given up, so it was adopted, and once.
        assert_eq!(slab.fields.get(), 1 + u32::from(given_up));
    });
}

#[test]
fn a_pooled_slab_goes_to_its_next_owner_as_the_last_one_left_it() {
    explore(|| {
        let slab = Slab::new();
        // Stands for the stack of slabs without owner. Relaxed: the word alone must carry the fields over.
        let pooled = Arc::new(AtomicBool::new(false));
        let user = spawn(&slab, |slab| slab.free(0));
        let adopter = spawn(&slab, {
            let pooled = pooled.clone();
            move |slab| {
                if !pooled.load(Ordering::Relaxed) {
                    return (false, Vec::new());
                }
                slab.remote.adopt();
                slab.change_hands(1);
                (true, slab.take())
            }
        });
        slab.change_hands(0);
        slab.remote.pool();
        pooled.store(true, Ordering::Relaxed);
        let push = user.join().unwrap();
        let (adopted, mut found) = adopter.join().unwrap();
        assert!(matches!(push, Push::Listed | Push::Pooled(1)));
        if !adopted {
            slab.remote.adopt();
            slab.change_hands(1);
        }
        found.extend(slab.take());
        assert_eq!(found, [0]);
        assert_eq!(slab.free(1), Push::Listed, "the slab is owned again");
    });
}

#[test]
fn a_free_to_a_pooled_slab_learns_how_many_blocks_wait() {
    explore(|| {
        let slab = Slab::new();
        slab.remote.pool();
        let threads = [0, 1].map(|block| spawn(&slab, move |slab| slab.free(block)));
        let mut counts = join(threads).map(|push| match push {
            Push::Pooled(count) => count,
            other => panic!("{other:?}"),
        });
        counts.sort_unstable();
        assert_eq!(counts, [1, 2], "the last of them sees them all");
    });
}

#[test]
fn a_pooled_slab_whose_blocks_have_all_come_back_is_noticed() {
    explore_bounded(4, || {
        let slab = Slab::new();
        // Relaxed: the word must carry it over.
        let users = [0, 1].map(|block| {
            spawn(&slab, move |slab| match slab.free(block) {
                Push::Pooled(count) => count >= slab.pooled_used.load(Ordering::Relaxed),
                Push::Listed => false,
                Push::Adopted => panic!("the slab was not full"),
            })
        });
        slab.pooled_used.store(2, Ordering::Relaxed);
        slab.remote.pool();
        let noticed = slab.remote.count() >= 2;
        assert!(noticed | join(users).contains(&true));
    });
}

#[test]
fn an_owner_that_counts_all_blocks_may_give_their_memory_away() {
    explore(|| {
        let slab = Slab::new();
        let threads = [0, 1].map(|block| spawn(&slab, move |slab| slab.free(block)));
        if slab.remote.count() == 2 {
            // Without taking the list.
            slab.blocks[0].set(None);
            slab.blocks[1].set(None);
        }
        join(threads);
        assert_eq!(slab.remote.count(), 2);
    });
}
