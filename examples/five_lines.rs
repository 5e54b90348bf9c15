//! The shortest program that runs on antifreeze: `cargo run --example five_lines`.

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

fn main() {
    let mut squares: Vec<u64> = (0..1_000_000).map(|n| n * n).collect();
    squares.retain(|square| square % 3 == 1);
    println!(
        "{} squares; {} calls took mmap_lock for writing since start-up",
        squares.len(),
        antifreeze::stats().write_lock_calls
    );
}
