//! Aim: addresses get the names that the program's own files and the kernel have for them.
//!
//! Method: stacks made by hand of addresses in this test, in its C library, in a process that has ended, and in the
//! kernel.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use freeze_trap::freeze::Frame;
use freeze_trap::stack::{StackPair, Stacks};
use freeze_trap::symbols::{MapsCache, Namer};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, mkfifo, pivot_root};
use tempfile::TempDir;
use test_support::skip;

/// After so long a test is taken to hang.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where the callers of this function go on, the innermost first.
#[inline(always)]
fn inlined_walk() -> Vec<u64> {
    let mut buffer = [std::ptr::null_mut(); 32];
    // SAFETY: the buffer has as many entries as it is said to have.
    let count = unsafe { libc::backtrace(buffer.as_mut_ptr(), 32) };
    buffer[..count as usize].iter().map(|address| address.addr() as u64).collect()
}

#[inline(never)]
fn walk_from_here() -> Vec<u64> {
    let mut walked = inlined_walk();
    black_box(&mut walked);
    walked
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

/// The frames of a user stack of a process.
fn named(maps: &MapsCache, pid: i32, addresses: &[u64], top_word: u64) -> Vec<Frame> {
    let mut stacks = Stacks::new();
    let user = stacks.intern(pid, addresses, top_word);
    let named = Namer::new().name(&stacks, user, maps);
    named.user(StackPair { kernel: None, user }).to_vec()
}

fn own_maps() -> MapsCache {
    let mut maps = MapsCache::new();
    maps.read(own_pid()).unwrap();
    maps
}

#[test]
fn functions_have_names_places_and_inlined_callees() {
    let walked = walk_from_here();
    let frames = named(&own_maps(), own_pid(), &[&walked[..1], &walked].concat(), 0);
    let inlined = frames.iter().position(|frame| frame.inlined && frame.function.ends_with("inlined_walk"));
    let inlined = inlined.unwrap_or_else(|| panic!("{frames:#?}"));
    let (inner, outer) = (&frames[inlined], &frames[inlined + 1]);
    assert!(!outer.inlined && outer.function.ends_with("walk_from_here"), "{frames:#?}");
    assert!(inner.place.as_ref().is_some_and(|place| place.contains("symbols.rs:")), "{inner:?}");
    let own = std::env::current_exe().unwrap();
    assert_eq!(Some(outer.module.as_str()), own.file_name().and_then(|name| name.to_str()));
    let caller = frames.iter().find(|frame| frame.function.contains("functions_have_names_places_and_inlined_callees"));
    assert!(caller.is_some(), "{frames:#?}");
}

#[test]
fn the_caller_of_a_stub_is_put_back_if_a_call_is_before_it() {
    if !cfg!(target_arch = "x86_64") {
        skip("stubs leave no address on the stack here");
        return;
    }
    let walked = walk_from_here();
    let stub = libc::munmap as *const () as usize as u64;
    let maps = own_maps();
    let frames = named(&maps, own_pid(), &[stub, walked[1]], walked[0]);
    assert!(frames[0].module.starts_with("libc") && frames[0].function.contains("munmap"), "{frames:#?}");
    assert!(frames[1..].iter().any(|frame| frame.function.ends_with("walk_from_here")), "{frames:#?}");
    // Any other word that points into code, but not behind a call.
    let start = walk_from_here as *const () as usize as u64;
    let frames = named(&maps, own_pid(), &[stub, walked[1]], start);
    assert!(!frames.iter().any(|frame| frame.function.ends_with("walk_from_here")), "{frames:#?}");
}

/// Copies a program, by another process: a child that another test just starts would have our file open for writing for
/// a moment, and the copy could not be executed.
fn copy(program: impl AsRef<Path>, to: &Path) {
    let copied = Command::new("cp").arg(program.as_ref()).arg(to).status();
    assert!(copied.is_ok_and(|copied| copied.success()), "{} cannot be copied", program.as_ref().display());
}

/// A program that waits for its input; it ends with this.
struct Waiting(Child);

impl Waiting {
    /// Starts it, and waits until it has said something.
    fn start(command: &mut Command) -> Waiting {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let waiting = Waiting(child);
        assert!(BufReader::new(output).read_line(&mut String::new()).unwrap() > 0);
        waiting
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Where its first instruction is: the start of the first mapping is that of the file, whose header says it.
    fn entry(&self, program: &Path) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap();
        let name = program.file_name().unwrap().to_str().unwrap();
        let is_its = |line: &&str| line.trim_end_matches(" (deleted)").ends_with(&format!("/{name}"));
        let first = text.lines().find(is_its).expect("the program is mapped");
        let base = u64::from_str_radix(first.split_once('-').unwrap().0, 16).unwrap();
        let header = fs::read(program).unwrap();
        let entry = u64::from_le_bytes(header[24..32].try_into().unwrap());
        // Of a program for fixed addresses it is the address.
        if header[16] == 2 { entry } else { base + entry }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const TARGET: &str = env!("CARGO_BIN_EXE_freeze-target");

#[test]
fn a_process_that_has_ended_keeps_its_names() {
    let child = Waiting::start(Command::new(TARGET).arg("nothing"));
    let (pid, entry) = (child.pid(), child.entry(Path::new(TARGET)));
    let mut maps = MapsCache::new();
    maps.read(pid).unwrap();
    drop(child);
    let frames = named(&maps, pid, &[entry], 0);
    assert_eq!((frames[0].function.as_str(), frames[0].module.as_str()), ("_start", "freeze-target"));
}

#[test]
fn a_program_whose_file_was_deleted_has_names() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("deleted-target");
    copy(TARGET, &program);
    let child = Waiting::start(Command::new(&program).arg("nothing"));
    let entry = child.entry(&program);
    fs::remove_file(&program).unwrap();
    let mut maps = MapsCache::new();
    maps.read(child.pid()).unwrap();
    let frames = named(&maps, child.pid(), &[entry], 0);
    assert_eq!((frames[0].function.as_str(), frames[0].module.as_str()), ("_start", "deleted-target"));
}

/// A program that runs in another root: it, where its file is, and the directory that `change` made the root of.
fn in_another_root(change: fn(&Path) -> nix::Result<()>) -> Option<(Waiting, PathBuf, TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("only-there");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/grow.c");
    let built = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(source).output();
    if !nix::unistd::geteuid().is_root() || !built.is_ok_and(|built| built.status.success()) {
        skip("only root can change the root, and it takes a C compiler");
        return None;
    }
    let mut command = Command::new("/only-there");
    let root = dir.path().to_owned();
    // SAFETY: system calls, with memory that was allocated before.
    unsafe { command.pre_exec(move || Ok(change(&root)?)) };
    Some((Waiting::start(&mut command), program, dir))
}

/// It has a name though its file is not where the trap would look.
fn has_a_name_in_another_root(change: fn(&Path) -> nix::Result<()>) {
    let Some((child, program, _dir)) = in_another_root(change) else { return };
    let mut maps = MapsCache::new();
    maps.read(child.pid()).unwrap();
    let frames = named(&maps, child.pid(), &[child.entry(&program)], 0);
    assert_eq!((frames[0].function.as_str(), frames[0].module.as_str()), ("_start", "only-there"));
}

/// Mounts of its own, which others do not see.
fn leave_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// Makes a directory the root of all that is mounted, as containers do.
fn enter_container(root: &Path) -> nix::Result<()> {
    leave_mounts()?;
    mount(Some(root), root, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    chdir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)
}

#[test]
fn a_program_in_a_container_has_names_of_its_own_files() {
    has_a_name_in_another_root(enter_container);
}

#[test]
fn a_program_that_has_changed_its_root_has_names_of_its_own_files() {
    has_a_name_in_another_root(chroot);
    has_a_name_in_another_root(|root| {
        leave_mounts()?;
        chroot(root)
    });
}

#[test]
fn code_that_a_program_has_made_has_the_names_of_its_perf_map() {
    let bytes = NonZeroUsize::new(8192).unwrap();
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
    // SAFETY: a fresh mapping, which stays.
    let code = unsafe { mmap_anonymous(None, bytes, access, MapFlags::MAP_PRIVATE) }.unwrap();
    let start = code.as_ptr().addr() as u64;
    let path = format!("/tmp/perf-{}.map", own_pid());
    fs::write(&path, format!("{start:x} 100 Lindex;::grow\n{:x} 20 Lindex;::shrink\n", start + 0x100)).unwrap();
    let frames = named(&own_maps(), own_pid(), &[start + 0x10, start + 0x101, start + 0x1000], 0);
    fs::remove_file(&path).unwrap();
    let functions: Vec<&str> = frames.iter().map(|frame| frame.function.as_str()).collect();
    let unknown = format!("{:#x}", start + 0x1000);
    assert_eq!(functions, ["Lindex;::grow", "Lindex;::shrink", unknown.as_str()]);
    assert_eq!(frames[0].module, "[memory]");
}

#[test]
fn a_stack_of_names_keeps_them() {
    let mut stacks = Stacks::new();
    let kernel = stacks.intern_names(&["rwsem_down_write_slowpath", "__vm_munmap"].map(String::from));
    let named = Namer::new().name(&stacks, kernel, &MapsCache::new());
    let frames = named.kernel(StackPair { kernel, user: None });
    let functions: Vec<&str> = frames.iter().map(|frame| frame.function.as_str()).collect();
    assert_eq!(functions, ["rwsem_down_write_slowpath", "__vm_munmap"]);
    assert_eq!(named.unknown_frames(), (0, 2));
}

#[test]
fn what_is_not_known_has_its_address_for_a_name() {
    let mut stacks = Stacks::new();
    let user = stacks.intern(own_pid(), &[0x10, 0x20], 0);
    let stranger = stacks.intern(-5, &[0x30], 0);
    let named = Namer::new().name(&stacks, [user, stranger].into_iter().flatten(), &own_maps());
    let functions = |user| {
        let frames = named.user(StackPair { kernel: None, user });
        frames.iter().map(|frame| frame.function.clone()).collect::<Vec<_>>()
    };
    assert_eq!(functions(user), ["0x10", "0x20"]);
    assert_eq!(functions(stranger), ["0x30"]);
    assert_eq!(named.unknown_frames(), (3, 3));
}

#[test]
fn a_file_that_was_replaced_gives_no_wrong_names() {
    let dir = std::env::temp_dir().join(format!("freeze-trap-symbols-{}", own_pid()));
    fs::create_dir_all(&dir).unwrap();
    let program = dir.join("sleeper");
    copy("/bin/sleep", &program);
    let mut child = Command::new(&program).arg("1000").spawn().unwrap();
    let pid = child.id() as i32;
    let mut maps = MapsCache::new();
    let mapping =
        |text: &str| text.lines().find(|line| line.contains("r-xp") && line.ends_with("sleeper")).map(str::to_owned);
    let code = loop {
        if let Some(code) = mapping(&fs::read_to_string(format!("/proc/{pid}/maps")).unwrap()) {
            break code;
        }
        std::thread::yield_now();
    };
    maps.read(pid).unwrap();
    fs::remove_file(&program).unwrap();
    copy("/bin/cat", &program);
    let start = u64::from_str_radix(code.split_once('-').unwrap().0, 16).unwrap();
    let frames = named(&maps, pid, &[start + 0x100], 0);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert!(frames[0].function.starts_with("0x") && frames[0].module == "sleeper", "{frames:?}");
}

#[test]
fn the_kernels_functions_have_names_without_the_tracepoints() {
    let address = |name: &str| {
        let all = fs::read_to_string("/proc/kallsyms").ok()?;
        let line = all.lines().find(|line| line.split_whitespace().nth(2) == Some(name))?;
        u64::from_str_radix(line.split_whitespace().next()?, 16).ok().filter(|address| *address != 0)
    };
    let (Some(schedule), Some(trace)) = (address("schedule"), address("__traceiter_sched_switch")) else {
        skip(format_args!("{} shows no addresses (root or CAP_SYSLOG needed)", Path::new("/proc/kallsyms").display()));
        return;
    };
    let mut stacks = Stacks::new();
    let kernel = stacks.intern(0, &[trace + 1, schedule + 9, schedule + 10], 0);
    let named = Namer::new().name(&stacks, kernel, &MapsCache::new());
    let frames = named.kernel(StackPair { kernel, user: None });
    assert_eq!(frames.iter().map(|frame| frame.function.as_str()).collect::<Vec<_>>(), ["schedule", "schedule"]);
    assert_eq!(named.unknown_frames(), (0, 2));
}

/// What comes out of work that must not hang.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    // Its end is what is waited for.
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{what} hangs"))
}

#[test]
fn a_pipe_where_a_file_of_code_should_be_holds_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("library");
    fs::copy(TARGET, &library).unwrap();
    let file = fs::File::open(&library).unwrap();
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
    let bytes = NonZeroUsize::new(4096).unwrap();
    // SAFETY: a fresh mapping, which stays.
    let code = unsafe { nix::sys::mman::mmap(None, bytes, access, MapFlags::MAP_PRIVATE, &file, 0) }.unwrap();
    fs::remove_file(&library).unwrap();
    // The path that the kernel tells of a file that was deleted.
    mkfifo(&dir.path().join("library (deleted)"), Mode::S_IRWXU).unwrap();
    let address = code.as_ptr().addr() as u64;
    let frames = in_time("naming", move || named(&own_maps(), own_pid(), &[address], 0));
    assert_eq!((frames[0].function.as_str(), frames[0].module.as_str()), (&*format!("{address:#x}"), "library"));
}

/// A program without symbols, whose debug information is in a file beside it. `None` without a compiler and objcopy.
fn with_debug_file(dir: &Path) -> Option<std::path::PathBuf> {
    let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let (program, debug) = (dir.join("program"), dir.join("program.debug"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/grow.c");
    let is_built = run(Command::new("cc").args(["-g", "-O2", "-static", "-o"]).arg(&program).arg(source))
        && run(Command::new("objcopy").arg("--only-keep-debug").args([&program, &debug]))
        && run(Command::new("objcopy").arg("--strip-all").arg(&program))
        && run(Command::new("objcopy").arg(format!("--add-gnu-debuglink={}", debug.display())).arg(&program));
    if !is_built {
        skip("it takes a C compiler and objcopy");
    }
    is_built.then_some(program)
}

#[test]
fn debug_information_in_another_file_is_used_but_no_pipe_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = with_debug_file(dir.path()) else { return };
    let debug = dir.path().join("program.debug");
    for is_pipe in [false, true] {
        if is_pipe {
            fs::remove_file(&debug).unwrap();
            mkfifo(&debug, Mode::S_IRWXU).unwrap();
        }
        let child = Waiting::start(&mut Command::new(&program));
        let (pid, entry) = (child.pid(), child.entry(&program));
        let mut maps = MapsCache::new();
        maps.read(pid).unwrap();
        let frames = in_time("naming", move || named(&maps, pid, &[entry], 0));
        let expected = if is_pipe { format!("{entry:#x}") } else { "_start".to_owned() };
        assert_eq!(frames[0].function, expected);
    }
}

#[test]
fn a_program_in_a_container_has_names_when_it_has_ended() {
    let Some((child, program, _dir)) = in_another_root(enter_container) else { return };
    let (pid, entry) = (child.pid(), child.entry(&program));
    let mut maps = MapsCache::new();
    maps.read(pid).unwrap();
    drop(child);
    // As its path is in a root that is gone with it.
    fs::remove_file(&program).unwrap();
    let frames = named(&maps, pid, &[entry], 0);
    assert_eq!((frames[0].function.as_str(), frames[0].module.as_str()), ("_start", "only-there"));
}
