//! Application-like workloads: pieces of programs on the collections and crates that they use. Much of their time is
//! the program's own; what they show is whether an allocator's gain is still seen there.

mod arena;
mod btree_small;
mod compiler;
mod entries;
mod hash_small;
mod interner;
mod json;
mod lru;
mod mpsc;

use super::Workload;

const fn row(name: &'static str, description: &'static str, run: fn(usize, f64) -> u64) -> Workload {
    Workload::new("application", name, description, run)
}

pub(super) const ROWS: [Workload; 8] = [
    row("compiler", "syntax trees and names kept, tables grown, code vectors dropped, then all", compiler::run),
    row("json", "a document of some MB built, printed and parsed back", json::run),
    row("interner", "strings looked up and kept once, table grown from nothing", interner::run),
    row("btree_small", "100k small boxes in a B-tree, replaced at random", btree_small::run),
    row("hash_small", "100k small boxes in a hash map, replaced at random", hash_small::run),
    row("lru", "a cache of 1000 values of 1 to 64 KiB, the least recently used evicted", lru::run),
    row("mpsc", "16 KiB messages of four tasks to one, on a runtime with that many threads", mpsc::run),
    row("arena", "requests that allocate 30 to 3000 objects in an arena and drop it", arena::run),
];
