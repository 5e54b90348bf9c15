//! Options of the linker for `libantifreeze.so`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Its name for the loader: programs that are linked with it ask for that, and the number changes when they could no
    // longer run with a later library.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libantifreeze.so.{}", env!("CARGO_PKG_VERSION_MAJOR"));
    // Once it has handed out a block, its threads, thread keys and handlers of fork are the process's: dlclose(3) must
    // leave it where it is.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
