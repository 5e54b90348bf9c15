//! Aim: every entry point does what POSIX, C, C++ and glibc promise, misuse is told, and blocks can be had at any time
//! of a program's life.
//!
//! Method: a program in C or C++ for each fact, in `tests/c`: it checks itself and ends with 0. This runner compiles
//! it with the system's compiler and runs it with the library preloaded, linked, or put in statically. Programs of
//! `misuse` do one wrong thing, having printed the pointer that it is about; what they must say, and how they must
//! end, stands here.

#![cfg(target_os = "linux")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use test_support::skip;

/// How long a program may take before it counts as hung. Far above what any of them needs.
const DEADLINE: Duration = Duration::from_secs(120);
/// The signal of an abort.
const SIGABRT: i32 = 6;
/// What is linked after a Rust static library: what its standard library uses of the system.
const SYSTEM_LIBRARIES: [&str; 5] = ["-lgcc_s", "-lpthread", "-ldl", "-lm", "-lc"];
/// Options of every compilation.
const OPTIONS: [&str; 9] = [
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-builtin",
    "-pthread",
    "-D_GNU_SOURCE",
    "-fno-omit-frame-pointer",
];

/// How a program gets the library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// It knows nothing of it.
    Preloaded,
    /// It asks for the shared library by name.
    Linked,
    /// It has the static library in it.
    Static,
    /// Not by our doing: it runs on the system's malloc.
    Alone,
}

/// How a misuse must end.
#[derive(Clone, Copy)]
enum End {
    /// By an abort, with this line.
    Dies(&'static str),
    /// Well, with the line that this function writes about pointers that are not of this allocator.
    Reported(&'static str),
}

use End::{Dies, Reported};

/// One test for each program of a directory: `name, what its check needs to know`.
macro_rules! programs {
    ($directory:ident, $check:path: $($name:ident, $fact:expr;)*) => {
        mod $directory {
            use super::*;

            const NAMES: &[&str] = &[$(stringify!($name)),*];

            #[test]
            fn every_program_is_run() {
                super::directory_holds(stringify!($directory), NAMES);
            }

            $(
                #[test]
                fn $name() {
                    $check(stringify!($directory), stringify!($name), $fact);
                }
            )*
        }
    };
}

programs! { family, runs:
    aligned_alloc, [Way::Preloaded, Way::Static];
    antifreeze_header, [Way::Linked, Way::Static];
    antifreeze_numbers, [Way::Linked, Way::Static];
    antifreeze_prewarm, [Way::Linked, Way::Static];
    antifreeze_texts, [Way::Linked, Way::Static];
    antifreeze_tick, [Way::Linked, Way::Static];
    calloc, [Way::Preloaded, Way::Static];
    cfree, [Way::Linked, Way::Static];
    free, [Way::Preloaded, Way::Static];
    free_aligned_sized, [Way::Linked, Way::Static];
    free_sized, [Way::Linked, Way::Static];
    malloc, [Way::Preloaded, Way::Static];
    malloc_info, [Way::Preloaded, Way::Static];
    malloc_stats, [Way::Preloaded, Way::Static];
    malloc_trim, [Way::Preloaded, Way::Static];
    malloc_usable_size, [Way::Preloaded, Way::Static];
    mallinfo, [Way::Preloaded, Way::Static];
    mallinfo2, [Way::Preloaded, Way::Static];
    mallopt, [Way::Preloaded, Way::Static];
    memalign, [Way::Preloaded, Way::Static];
    posix_memalign, [Way::Preloaded, Way::Static];
    pvalloc, [Way::Preloaded, Way::Static];
    realloc, [Way::Preloaded, Way::Static];
    reallocarray, [Way::Preloaded, Way::Static];
    valloc, [Way::Preloaded, Way::Static];
}

programs! { cxx, runs:
    containers, [Way::Preloaded, Way::Static];
    handler, [Way::Preloaded, Way::Static];
    handler_frees, [Way::Preloaded, Way::Static];
    handler_throws, [Way::Preloaded, Way::Static];
    header, [Way::Linked, Way::Static];
    operators, [Way::Preloaded, Way::Static];
    replaced, [Way::Preloaded, Way::Linked];
    throws, [Way::Preloaded, Way::Static];
}

programs! { misuse, is_told:
    double_free_by_other_thread, Dies("free: block is free already");
    double_free_huge, Dies("free: block is free already");
    double_free_large, Dies("free: block is not in use");
    double_free_medium, Dies("free: block is free already");
    double_free_odd_forms, Dies("free: block is free already");
    double_free_small, Dies("free: block is free already");
    free_inside_huge, Dies("free: pointer is not the start of a block");
    free_inside_large, Dies("free: block is not in use");
    free_inside_medium, Dies("free: pointer is not the start of a block");
    free_inside_small, Dies("free: pointer is not the start of a block");
    free_loader, Reported("free");
    free_mapped, Reported("free");
    free_other_allocator, Reported("free");
    free_other_libc, Reported("free");
    free_stack, Reported("free");
    free_static, Reported("free");
    free_unaligned, Reported("free");
    realloc_after_free_huge, Dies("realloc: pointer is not the start of a block in use");
    realloc_after_free_large, Dies("realloc: block is not in use");
    realloc_after_free_medium, Dies("free: block is free already");
    realloc_after_free_small, Dies("free: block is free already");
    realloc_inside_huge, Dies("realloc: pointer is not the start of a block");
    realloc_inside_large, Dies("realloc: block is not in use");
    realloc_inside_medium, Dies("realloc: pointer is not the start of a block in use");
    realloc_inside_small, Dies("realloc: pointer is not the start of a block in use");
    realloc_mapped, Reported("realloc");
    realloc_other_allocator, Reported("realloc");
    realloc_stack, Reported("realloc");
    realloc_static, Reported("realloc");
    realloc_to_nothing_stack, Reported("free");
    usable_size_after_free_huge, Dies("malloc_usable_size: pointer is not the start of a block in use");
    usable_size_inside_large, Dies("malloc_usable_size: pointer is not the start of a block in use");
    usable_size_mapped, Reported("malloc_usable_size");
    usable_size_other_allocator, Reported("malloc_usable_size");
    usable_size_stack, Reported("malloc_usable_size");
    usable_size_static, Reported("malloc_usable_size");
}

programs! { life, runs:
    at_exit, [Way::Preloaded];
    before_main, [Way::Preloaded];
    child_frees_only, [Way::Preloaded];
    ends_of_threads_free_much, [Way::Preloaded];
    fork, [Way::Preloaded];
    gives_back, [Way::Preloaded];
    library_comes_and_goes, [Way::Preloaded];
    loaded_late, [Way::Alone];
    many_fork_handlers, [Way::Preloaded];
    many_threads, [Way::Preloaded];
    never_starts_threads_in_free, [Way::Preloaded];
    no_descriptors, [Way::Preloaded];
    plugin, [Way::Preloaded];
    signals, [Way::Linked];
    thread_ends, [Way::Preloaded];
    thread_keys, [Way::Preloaded];
    thread_locals, [Way::Preloaded];
    tight_limit, [Way::Preloaded];
    vfork, [Way::Preloaded];
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c")
}

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// One of the libraries: `libantifreeze.so` or `libantifreeze.a`.
fn built(name: &str) -> PathBuf {
    common::built().join(name)
}

/// The compiler, unless it is missing, which is said.
fn compiler(name: &'static str) -> Option<&'static str> {
    common::has(name).then_some(name)
}

fn directory_holds(directory: &str, names: &[&str]) {
    let entries = fs::read_dir(self::directory().join(directory)).expect("the directory is there");
    let stem = |path: PathBuf| path.file_stem().and_then(OsStr::to_str).expect("names are text").to_owned();
    let mut found: Vec<_> = entries.map(|entry| stem(entry.expect("it can be read").path())).collect();
    let mut listed = names.to_vec();
    found.sort();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

fn succeed(command: &mut Command) {
    let output = command.output().expect("the compiler starts");
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Compiles a program. `None` if there is no compiler.
fn compile(directory: &str, name: &str, way: Way) -> Option<PathBuf> {
    let is_c = self::directory().join(directory).join(name).with_extension("c").is_file();
    let (compiler, extension) = if is_c { (compiler("cc")?, "c") } else { (compiler("c++")?, "cc") };
    let program = scratch().join(format!("{directory}-{name}-{way:?}"));
    let mut command = Command::new(compiler);
    command.args(OPTIONS).arg(if is_c { "-std=gnu11" } else { "-std=c++17" });
    command.arg("-I").arg(self::directory()).arg("-I").arg(include_directory());
    command.arg(self::directory().join(directory).join(name).with_extension(extension)).arg("-o").arg(&program);
    match way {
        Way::Linked => {
            command.arg(built("libantifreeze.so")).arg(format!("-Wl,-rpath,{}", libraries().display()));
        }
        Way::Static => {
            command.arg(built("libantifreeze.a")).args(SYSTEM_LIBRARIES);
        }
        Way::Preloaded | Way::Alone => {
            command.arg("-ldl");
        }
    }
    succeed(&mut command);
    Some(program)
}

fn include_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

/// Shared libraries that programs of `life` and `misuse` load, by the names of their sources.
fn libraries() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = scratch().join("libraries");
        fs::create_dir_all(&target).expect("the directory is ours");
        // By this name the loader looks for it.
        let link = target.join("libantifreeze.so.0");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(built("libantifreeze.so"), link).expect("the directory is ours");
        for entry in fs::read_dir(directory().join("library")).expect("the directory is there") {
            let source = entry.expect("it can be read").path();
            let library = target.join(source.file_stem().expect("sources have names")).with_extension("so");
            let is_c = source.extension() == Some(OsStr::new("c"));
            let (name, standard) = if is_c { ("cc", "-std=gnu11") } else { ("c++", "-std=c++17") };
            let Some(compiler) = compiler(name) else { continue };
            let mut command = Command::new(compiler);
            command.args(OPTIONS).args(["-shared", "-fPIC", standard, "-I"]).arg(directory());
            succeed(command.arg(source).arg("-o").arg(library));
        }
        target
    })
}

/// Runs a program to its end, or kills it at the deadline.
fn run(program: &Path, way: Way) -> Output {
    let malloc = match way {
        Way::Preloaded => OsStr::new("libantifreeze.so"),
        Way::Linked => OsStr::new("libantifreeze.so.0"),
        Way::Static => program.file_name().expect("programs have names"),
        Way::Alone => OsStr::new("libc.so.6"),
    };
    let library = built("libantifreeze.so");
    let mut command = common::plain(program);
    command.env("TEST_MALLOC", malloc).env("TEST_LIBRARY", &library).env("TEST_LIBRARIES", libraries());
    if way == Way::Preloaded {
        command.env("LD_PRELOAD", &library);
    }
    let output = |end: &str| program.with_extension(end);
    // Files rather than pipes: who fills a pipe that nobody reads yet would hang.
    let stdout = fs::File::create(output("out")).expect("the directory is ours");
    let stderr = fs::File::create(output("err")).expect("the directory is ours");
    let mut child = command.stdout(stdout).stderr(stderr).spawn().expect("what was compiled can be started");
    let start = Instant::now();
    let status = loop {
        match child.try_wait().expect("the child is ours") {
            Some(status) => break status,
            None if start.elapsed() > DEADLINE => {
                child.kill().expect("the child is ours");
                child.wait().expect("the child is ours");
                panic!("{} hangs", program.display());
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let read = |end: &str| fs::read(output(end)).expect("it was made above");
    Output { status, stdout: read("out"), stderr: read("err") }
}

/// What a program said, as text.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// Compiles a program and runs it. `None` if there is no compiler.
fn end_of(directory: &str, name: &str, way: Way) -> Option<Ended> {
    let output = run(&compile(directory, name, way)?, way);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Ended { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// The program ends with 0 and has nothing to say, however it gets the library.
fn runs<const WAYS: usize>(directory: &str, name: &str, ways: [Way; WAYS]) {
    for way in ways {
        let Some(ended) = end_of(directory, name, way) else { return };
        let went_well = ended.status.success() && ended.stderr.is_empty();
        assert!(went_well, "{directory}/{name} {way:?}: {}\n{}{}", ended.status, ended.stdout, ended.stderr);
    }
}

/// The program ends as it must, and says the one line that names the pointer it has announced.
fn is_told(directory: &str, name: &str, end: End) {
    let Some(ended) = end_of(directory, name, Way::Preloaded) else { return };
    let address = ended.stdout.trim_end().strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let Some(address) = address else { panic!("{name} ended too early: {}\n{}", ended.status, ended.stderr) };
    let (signal, line) = match end {
        Dies(what) => (Some(SIGABRT), format!("antifreeze: fatal: {what}: 0x{address:016x}\n")),
        Reported(function) => {
            let what = "pointer is not of this allocator, and is left alone";
            (None, format!("antifreeze: {function}: {what}: 0x{address:x}\n"))
        }
    };
    assert_eq!(ended.stderr, line, "{name}: {}", ended.status);
    assert_eq!(ended.status.signal(), signal, "{name}: {}", ended.status);
    assert_eq!(ended.status.success(), signal.is_none(), "{name}: {}", ended.status);
}

/// Aim: the header can be used by programs that keep strictly to a language. Method: it is compiled alone.
#[test]
fn the_header_is_plain_c11_and_cxx17() {
    let header = include_directory().join("antifreeze.h");
    for (name, options) in [("cc", ["-std=c11", "-xc"]), ("c++", ["-std=c++17", "-xc++"])] {
        let Some(compiler) = compiler(name) else { continue };
        let mut command = Command::new(compiler);
        command.args(["-fsyntax-only", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]);
        succeed(command.args(options).arg(&header));
    }
}

/// What the shared library may define for others to see, besides what begins with `antifreeze_`.
const EXPORTS: [&str; 40] = [
    "_ZdaPv",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdaPvSt11align_val_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvm",
    "_ZdaPvmSt11align_val_t",
    "_ZdlPv",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdlPvm",
    "_ZdlPvmSt11align_val_t",
    "_Znam",
    "_ZnamRKSt9nothrow_t",
    "_ZnamSt11align_val_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    "_Znwm",
    "_ZnwmRKSt9nothrow_t",
    "_ZnwmSt11align_val_t",
    "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "aligned_alloc",
    "calloc",
    "cfree",
    "free",
    "free_aligned_sized",
    "free_sized",
    "mallinfo",
    "mallinfo2",
    "malloc",
    "malloc_info",
    "malloc_stats",
    "malloc_trim",
    "malloc_usable_size",
    "mallopt",
    "memalign",
    "posix_memalign",
    "pvalloc",
    "realloc",
    "reallocarray",
    "valloc",
];

/// Aim: nothing else of ours can be confused with names of the program, and all that the header declares is there.
#[test]
fn the_shared_library_exports_the_family_the_operators_and_the_header() {
    let nm = Command::new("nm").args(["-D", "--defined-only"]).arg(built("libantifreeze.so")).output();
    let Ok(output) = nm else {
        skip("there is no nm");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8(output.stdout).expect("names are text");
    let mut found: Vec<_> = listing.lines().filter_map(|line| line.split_whitespace().last()).collect();

    let header = fs::read_to_string(include_directory().join("antifreeze.h")).expect("the header is there");
    let words = header.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != '(');
    let called = words.filter_map(|word| word.split_once('(')).map(|(name, _)| name);
    let mut wanted: Vec<_> = called.filter(|name| name.starts_with("antifreeze_")).chain(EXPORTS).collect();
    for names in [&mut found, &mut wanted] {
        names.sort_unstable();
        names.dedup();
    }
    assert_eq!(found, wanted);
}
