//! The clients of the service scenario; started by the harness. It has the ordinary allocator, in a process of its own,
//! so that it stays awake when the service freezes.

use std::process::ExitCode;

fn main() -> ExitCode {
    stress::service::load::main()
}
