//! The block canary under the limit as the global allocator. Without libtest, as its threads would allocate meanwhile.

use stress::canary::Kind;
use stress::limit::Limit;

#[global_allocator]
static GLOBAL: Limit = Limit::new();

fn main() {
    let mut turn = Kind::Block.action().unwrap();
    // If only one of its two blocks were taken back, the other ones would be more than the early room.
    for _ in 0..200_000 {
        turn().unwrap();
    }
}
