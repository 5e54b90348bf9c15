//! The usual path of `malloc` and `free` costs a C program no more than `GlobalAlloc` costs one in Rust: counted in
//! instructions, which repeat exactly, by valgrind's callgrind. With a number of rounds as its argument this is itself
//! the program in Rust.

mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

#[global_allocator]
static GLOBAL: allocator::Antifreeze = allocator::Antifreeze::new();

/// The most instructions that a pair may take, in hundredths of those through `GlobalAlloc`.
const PERCENT_MAX: u64 = 105;

/// Does what `fast_path/pairs.c` does.
fn make_pairs(rounds: u64) {
    // As in C, functions are called, with a size that they learn then: what the compiler saves where it puts `alloc`
    // into its caller no call of C can save.
    let (allocator, layout): (&dyn GlobalAlloc, _) = black_box((&GLOBAL, Layout::new::<[u64; 8]>()));
    let mut blocks = [std::ptr::null_mut(); 64];
    for _ in 0..rounds {
        // SAFETY: the layout has a size; each block is freed once.
        unsafe {
            blocks.iter_mut().for_each(|block| *block = allocator.alloc(layout));
            black_box(&mut blocks);
            blocks.iter().for_each(|block| allocator.dealloc(*block, layout));
        }
    }
}

/// Instructions that a program takes for so many rounds.
fn instructions(command: &mut Command, program: &Path, rounds: u64) -> u64 {
    let command = command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let output = command.arg(rounds.to_string()).output().expect("valgrind runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")).expect("a count of instructions");
    collected.1.trim().parse().expect("a number")
}

/// Instructions for a pair of calls.
fn instructions_per_pair(valgrind: impl Fn() -> Command, program: &Path) -> u64 {
    const ROUNDS: u64 = 1000;
    let [few, many] = [1, 1 + ROUNDS].map(|rounds| instructions(&mut valgrind(), program, rounds));
    (many - few) / (ROUNDS * 64)
}

fn a_pair_takes_a_c_program_no_more_than_one_in_rust() {
    if !["valgrind", "cc"].into_iter().all(common::has) {
        return;
    }
    let in_rust = std::env::current_exe().expect("the path of this test");
    let in_c = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pairs");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fast_path/pairs.c");
    let compiled = Command::new("cc").args(["-O2", "-fno-builtin", "-o"]).arg(&in_c).arg(source).status();
    assert!(compiled.is_ok_and(|status| status.success()));
    let rust = instructions_per_pair(|| Command::new("valgrind"), &in_rust);
    let preload = common::library();
    let preloaded = || {
        let mut command = Command::new("valgrind");
        command.env("LD_PRELOAD", &preload);
        command
    };
    let c = instructions_per_pair(preloaded, &in_c);
    println!("instructions for a pair: {c} in C, {rust} in Rust");
    assert!(c * 100 <= rust * PERCENT_MAX, "a pair takes {c} instructions in C, {rust} in Rust");
    let system = instructions_per_pair(|| Command::new("valgrind"), &in_c);
    assert_ne!(system, c, "the library was not used");
}

/// Runs this test again as users build the library: without optimisation over the whole program the counts mean little.
fn run_optimised() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--release", "--package", env!("CARGO_PKG_NAME"), "--test", "fast_path", "--target-dir"]);
    let status = cargo.arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("optimised")).status();
    assert!(status.expect("cargo runs").success());
}

fn main() {
    match std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()) {
        Some(rounds) => make_pairs(rounds),
        None if cfg!(debug_assertions) => run_optimised(),
        None => a_pair_takes_a_c_program_no_more_than_one_in_rust(),
    }
}
