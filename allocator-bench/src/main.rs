//! Compares antifreeze with other allocators on whole workloads: `cargo run --release -p allocator-bench`.
//!
//! Every run is a process of its own (a `bench-*` binary with its own global allocator), started in turn: round by
//! round, workload by workload, one allocator after the other. See `--help` for the options.

mod runner;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match runner::run(&runner::Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("allocator-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
