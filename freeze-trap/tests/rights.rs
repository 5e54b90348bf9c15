//! Aim: what each capability gives is what the documents say: CAP_BPF and CAP_PERFMON the programs, CAP_SYSLOG the
//! kernel's names, CAP_SYS_PTRACE the functions of other users' programs (since Linux 6.15 only of those in
//! containers). None of them needs root.
//!
//! Method: as root, a test of this file is run by `setpriv` as another user who has just these capabilities; what it
//! sees of a program that freezes by itself, its own or root's, is read from what it prints.

mod another_user;

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use freeze_trap::event::{Call, Interval, Kind};
use freeze_trap::freeze::Frame;
use freeze_trap::rights;
use freeze_trap::source::bpf::Bpf;
use freeze_trap::source::choose::{Wanted, choose};
use freeze_trap::source::{Bounds, Source};
use freeze_trap::stack::Stacks;
use freeze_trap::symbols::{MapsCache, Namer};
use lock_trace::Mode;
use test_support::skip;

/// After so long a test is taken to hang.
const DEADLINE: Duration = Duration::from_secs(60);
/// Names the process to be watched; without it, a child of the same user is.
const PID: &str = "FREEZE_TRAP_TEST_PID";

/// What it maps again and again.
const MIB: u64 = 64;

/// A program that freezes on mmap_lock again and again; it ends with this.
struct Target(Child);

impl Target {
    fn start() -> Target {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freeze-target"));
        command.args(["mmap-lock", "--mib", &MIB.to_string(), "--every", "0.1", "--lasts", "0.2"]);
        let mut target = Target(command.stdout(Stdio::piped()).spawn().expect("the target starts"));
        let mut line = String::new();
        BufReader::new(target.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        target
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn functions(frames: &[Frame]) -> String {
    frames.iter().map(|frame| frame.function.as_str()).collect::<Vec<_>>().join("; ")
}

/// Prints what is seen of a hold of the culprit; for runs with other rights.
#[test]
fn a_hold_is_seen() {
    rights::take_up();
    let mut bpf = match Bpf::arm(&Bounds::default(), 1024) {
        Ok(bpf) => bpf,
        Err(_) => {
            let why = choose(Wanted::Bpf, &Bounds::default(), 1024).err();
            skip(format_args!("{:#}", why.expect("it is refused again")));
            return;
        }
    };
    let other = std::env::var(PID).ok().map(|pid| pid.parse::<i32>().unwrap());
    let own = other.is_none().then(Target::start);
    let pid = other.or(own.as_ref().map(|own| own.0.id() as i32)).unwrap();
    let mut maps = MapsCache::new();
    println!("\nmaps: {:?}", maps.read(pid).map_err(|error| error.kind()));
    bpf.learn(&maps);
    bpf.watch(&[pid]).unwrap();
    let (mut stacks, mut told) = (Stacks::new(), Vec::new());
    let end = Instant::now() + DEADLINE;
    // Of the culprit: others may hold it as long, when they lose their processor.
    let is_hold = |one: &&Interval| {
        let is_call = |call: Call| call.number == libc::SYS_mmap.cast_unsigned() && call.arguments[1] == MIB << 20;
        one.kind == Kind::Hold { mode: Mode::Write } && one.thread.pid == pid && one.call.is_some_and(is_call)
    };
    let hold = loop {
        bpf.take(&mut stacks, &mut |interval| told.push(interval)).unwrap();
        if let Some(hold) = told.iter().find(is_hold) {
            break hold;
        }
        assert!(Instant::now() < end, "no hold is told");
        std::thread::sleep(Duration::from_millis(5));
    };
    let named = Namer::new().name(&stacks, [hold.stack.kernel, hold.stack.user].into_iter().flatten(), &maps);
    println!("thread: {}", hold.thread.name);
    println!("kernel: {}", functions(named.kernel(hold.stack)));
    println!("user: {}", functions(named.user(hold.stack)));
}

/// What it printed as another user who has these capabilities; `None`, with a line, where that cannot be.
fn seen_with(capabilities: &str, target: Option<&Target>) -> Option<String> {
    another_user::run("a_hold_is_seen", capabilities, target.map(|target| (PID, target.0.id().to_string())))
}

/// Whether BPF is refused to root as well, which no right would change.
fn is_refused_anyway() -> bool {
    let refused = Bpf::arm(&Bounds::default(), 64).err();
    refused.iter().for_each(|why| skip(format_args!("{why:#}")));
    refused.is_some()
}

/// What follows a word on a line.
fn line<'a>(text: &'a str, word: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {word}: {text}"))
}

/// Whether the kernel tells its addresses to those who may watch its events.
fn are_addresses_hidden() -> bool {
    let setting = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    let level = |name: &str| setting(name).trim().parse::<i64>().unwrap_or(i64::MAX);
    level("kptr_restrict") > 0 || level("perf_event_paranoid") > 1
}

const GROWN: &str = "freeze_target::index::grow";

#[test]
fn one_of_the_two_capabilities_is_not_enough() {
    if is_refused_anyway() {
        return;
    }
    for one in ["+bpf", "+perfmon"] {
        let Some(text) = seen_with(one, None) else { return };
        assert!(text.contains("skipped: ") && text.contains("Operation not permitted"), "{one}: {text}");
    }
}

#[test]
fn ones_own_programs_take_bpf_and_perfmon() {
    if is_refused_anyway() {
        return;
    }
    let Some(text) = seen_with("+bpf,+perfmon", None) else { return };
    assert_eq!((line(&text, "maps"), line(&text, "thread")), ("Ok(())", "culprit"));
    assert!(line(&text, "user").contains(GROWN), "{text}");
    if are_addresses_hidden() {
        assert!(line(&text, "kernel").split("; ").all(|function| function.starts_with("0x")), "{text}");
    }
}

#[test]
fn the_kernels_names_take_syslog() {
    if is_refused_anyway() {
        return;
    }
    let Some(text) = seen_with("+bpf,+perfmon,+syslog", None) else { return };
    assert!(line(&text, "kernel").contains("mmap") && !line(&text, "kernel").contains("0x"), "{text}");
}

/// Linux 6.15 and later let CAP_PERFMON read the maps of all.
fn may_perfmon_read_maps() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|digit: char| !digit.is_ascii_digit()).map_while(|number| number.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(6_u32), Some(15_u32))
}

#[test]
fn programs_of_others_are_seen_with_their_names_since_linux_6_15() {
    if is_refused_anyway() {
        return;
    }
    let target = Target::start();
    let Some(text) = seen_with("+bpf,+perfmon,+syslog", Some(&target)) else { return };
    let maps = if may_perfmon_read_maps() { "Ok(())" } else { "Err(PermissionDenied)" };
    assert_eq!((line(&text, "maps"), line(&text, "thread")), (maps, "culprit"));
    assert!(line(&text, "kernel").contains("mmap"), "{text}");
    assert_eq!(line(&text, "user").contains(GROWN), may_perfmon_read_maps(), "{text}");
}

#[test]
fn the_names_of_others_take_ptrace() {
    if is_refused_anyway() {
        return;
    }
    let target = Target::start();
    let Some(text) = seen_with("+bpf,+perfmon,+syslog,+sys_ptrace", Some(&target)) else { return };
    assert_eq!(line(&text, "maps"), "Ok(())");
    assert!(line(&text, "user").contains(GROWN), "{text}");
}

/// As a container does it: the file has the capabilities, and the process could get no others. Another user's program
/// has its names then, too. Where the container has fewer, the trap is started all the same, and says what is missing.
#[test]
fn a_file_with_the_capabilities_gives_them_to_any_user() {
    if !nix::unistd::geteuid().is_root() || is_refused_anyway() {
        skip("only root can give capabilities to a file");
        return;
    }
    let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
    let program = dir.path().join("rights");
    // By another process: a child that another test just starts would have our file open for writing for a moment, and
    // the program could not be executed.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.is_ok_and(|copied| copied.success()), "the program cannot be copied");
    let given = Command::new("setcap").arg("cap_bpf,cap_perfmon,cap_syslog,cap_sys_ptrace=p").arg(&program).output();
    if !given.as_ref().is_ok_and(|given| given.status.success()) {
        skip(format_args!("the file cannot be given capabilities: {given:?}"));
        return;
    }
    let target = Target::start();
    let run = |container: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(format!("--bounding-set=-all,{container}"));
        command.env(PID, target.0.id().to_string()).arg(&program).args(["a_hold_is_seen", "--exact", "--nocapture"]);
        let output = command.output().expect("setpriv is there where setcap is");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}");
        text
    };
    let fewer = run("+bpf,+syslog");
    assert!(fewer.contains("it takes CAP_PERFMON besides CAP_BPF"), "{fewer}");
    let text = run("+bpf,+perfmon,+syslog,+sys_ptrace");
    assert!(line(&text, "user").contains(GROWN) && line(&text, "kernel").contains("mmap"), "{text}");
}
