//! Plays a scenario with tcmalloc as the global allocator; started by the harness.

use std::process::ExitCode;

use stress::hooks::Peer;

#[global_allocator]
static GLOBAL: tcmalloc_better::TCMalloc = tcmalloc_better::TCMalloc;

fn main() -> ExitCode {
    // It gives memory back only on a thread that the program lends it.
    let lent = std::thread::Builder::new()
        .name("tcmalloc-gov".to_owned())
        .spawn(tcmalloc_better::TCMalloc::process_background_actions_thread);
    if let Err(error) = lent {
        eprintln!("stress-tcmalloc: the background thread could not be started: {error}");
        return ExitCode::FAILURE;
    }
    stress::child::main(&Peer { name: "tcmalloc", crate_name: "tcmalloc-better" })
}
