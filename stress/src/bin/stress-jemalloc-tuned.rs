//! Plays a scenario with jemalloc as the global allocator, told to give memory back on threads of its own and to treat
//! huge blocks like others: what is usually advised against stalls. Started by the harness.

use std::process::ExitCode;

use stress::hooks::Peer;

#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A pointer to text that other threads only read.
#[repr(transparent)]
pub struct Options(*const u8);

// SAFETY: it points to a constant.
unsafe impl Sync for Options {}

/// Where jemalloc looks for its options before it starts; a C string.
// SAFETY: the name is jemalloc's own for this, weak there and defined nowhere else; it expects a `const char *`.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static OPTIONS: Options = Options(c"background_thread:true,oversize_threshold:0".as_ptr().cast());

fn main() -> ExitCode {
    stress::child::main(&Peer { name: "jemalloc-tuned", crate_name: "tikv-jemalloc-sys" })
}
