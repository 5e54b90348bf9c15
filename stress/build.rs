//! Notes which compiler builds the programs, for the report.

use std::env;
use std::process::Command;

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version =
        Command::new(rustc).arg("--version").output().ok().and_then(|output| String::from_utf8(output.stdout).ok());
    println!("cargo::rustc-env=STRESS_RUSTC={}", version.as_deref().map_or("an unknown compiler", str::trim));
    println!("cargo::rerun-if-changed=build.rs");
}
