//! Aim: in a memory cgroup with a limit, freed memory is given back before the limit is felt, whatever the decay time;
//! memory is made warm no further than the limit lets; and file cache is not taken for a shortage (promise P4).
//!
//! Method: a cgroup of our own is made next to where we are, and a child runs in it from its first instruction. The
//! kernel is the judge: it kills a child that is given no memory back, and counts how often the limit was hit.

mod common;

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use antifreeze::PrewarmState;
use common::{DEADLINE, Test};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use test_support::skip;

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

const MIB: usize = 1 << 20;
const LIMIT_BYTES: usize = 256 * MIB;

fn main() {
    common::run(&[
        Test::Here("retired_rooms_are_given_back_when_blocks_need_the_memory", || given_back("rooms", "off")),
        Test::Here("retired_blocks_are_given_back_when_rooms_need_the_memory", || given_back("blocks", "1h")),
        Test::Here("without_a_limit_the_same_program_keeps_its_memory", keeps_without_limit),
        Test::Here("warming_ends_before_the_limit", || in_cgroup(&["warm_too_much"], "5s")),
        Test::Here("reading_and_writing_files_is_no_pressure", files_are_no_pressure),
        Test::Job("rooms", |arguments| retire_then_grow(arguments, 160 * MIB, 100_000)),
        Test::Job("blocks", |arguments| retire_then_grow(arguments, MIB, 40 * MIB)),
        Test::Job("warm_too_much", warm_too_much),
        Test::Job("fill_file_cache", fill_file_cache),
    ]);
}

/// A memory cgroup that is removed at the end.
struct Cgroup {
    path: PathBuf,
    is_v1: bool,
}

impl Cgroup {
    /// Below our own in version 1; beside it in version 2, where a cgroup with processes has none below that share out
    /// memory. `Err` says why there is none.
    fn new() -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let named = |line: &str| {
            let mut fields = line.splitn(3, ':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let is_v1 = controllers.split(',').any(|controller| controller == "memory");
            (is_v1 || number == "0").then(|| (is_v1, path.trim_start_matches('/').to_owned()))
        };
        let (is_v1, inside) = own.lines().filter_map(named).max().ok_or("no cgroup has memory")?;
        let mount = Path::new(if is_v1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" });
        let own = mount.join(&inside);
        let parent = if is_v1 || inside.is_empty() { own } else { own.join("..") };
        let path = parent.join(format!("antifreeze-test-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let cgroup = Cgroup { path, is_v1 };
        let limit = cgroup.pick("memory.limit_in_bytes", "memory.max");
        fs::write(&limit, LIMIT_BYTES.to_string()).map_err(|error| format!("{}: {error}", limit.display()))?;
        Ok(cgroup)
    }

    fn pick(&self, v1: &str, v2: &str) -> PathBuf {
        self.path.join(if self.is_v1 { v1 } else { v2 })
    }

    /// Has a child begin its life in this cgroup.
    fn hold(&self, command: &mut Command) {
        let processes = self.path.join("cgroup.procs");
        // SAFETY: between fork and exec a file is written; our process has one thread, so that no lock is held.
        unsafe { command.pre_exec(move || fs::write(&processes, "0")) };
    }

    /// The files that say what is used, and how often the limit was hit.
    fn files(&self) -> [PathBuf; 2] {
        [self.pick("memory.usage_in_bytes", "memory.current"), self.pick("memory.failcnt", "memory.events")]
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel may still be busy with the last process.
        if !common::eventually(Duration::from_secs(10), || fs::remove_dir(&self.path).is_ok()) {
            eprintln!("{} is left behind", self.path.display());
        }
    }
}

/// Runs a job in a cgroup; its further arguments are the files of [`Cgroup::files`].
fn in_cgroup(job: &[&str], decay: &str) {
    let cgroup = match Cgroup::new() {
        Ok(cgroup) => cgroup,
        Err(why) => return skip(format_args!("no cgroup of our own can be made: {why}")),
    };
    for mode in common::MODES {
        let files = cgroup.files();
        let mut child = common::job(job[0], &job[1..]);
        child.args(files).env("ANTIFREEZE_COMMIT", mode).env("ANTIFREEZE_DECAY", decay);
        cgroup.hold(&mut child);
        common::expect_success(&mut child, DEADLINE);
    }
}

fn given_back(job: &str, decay: &str) {
    in_cgroup(&[job, "limited"], decay);
}

fn keeps_without_limit() {
    if common::available_bytes() < 2048 * MIB {
        return skip("the machine is short of memory itself");
    }
    let mut child = common::job("rooms", &["free"]);
    common::expect_success(child.env("ANTIFREEZE_DECAY", "off"), DEADLINE);
}

/// A block of so many bytes, each page of it written.
fn block(bytes: usize) -> Vec<u8> {
    let mut block = Vec::with_capacity(bytes);
    block.resize(bytes, 1);
    block
}

/// Fills most of the limit with blocks of one size, frees nearly all of it, and fills it with blocks of another size.
fn retire_then_grow(arguments: &[String], first_bytes: usize, second_bytes: usize) {
    let first: Vec<Vec<u8>> = (0..160 * MIB / first_bytes).map(|_| block(first_bytes)).collect();
    drop(first);
    let mut held: Vec<Vec<u8>> = Vec::with_capacity(10_000);
    let mut bytes = 0;
    while bytes < 200 * MIB {
        let mut block: Vec<u8> = Vec::with_capacity(second_bytes);
        while block.len() < second_bytes {
            let part = (4 * MIB).min(second_bytes - block.len());
            block.resize(block.len() + part, 1);
            bytes += part;
            // Some hundred MiB per second: what is taken in one go is less than the kernel leaves before the limit.
            if bytes % (4 * MIB) < part || part == 4 * MIB {
                std::thread::sleep(Duration::from_millis(15));
            }
        }
        held.push(block);
    }
    let stats = antifreeze::stats();
    let purged = stats.purge.governor;
    if arguments[0] == "free" {
        assert_eq!((purged.bytes, stats.governor.pressure_events), (0, 0), "nobody wanted it back");
        return;
    }
    println!("{} MiB given back in {} calls", purged.bytes >> 20, purged.calls);
    assert!(purged.bytes >= 100 * MIB as u64, "{:?}", stats.governor);
    // Some may be slow for reasons of the machine.
    assert!(purged.time.quantile_ns(500) <= 250_000, "{:?}", purged.time);
    assert!(purged.bytes <= purged.calls * 64 * MIB as u64, "{} bytes in {} calls", purged.bytes, purged.calls);
}

fn number(path: &str) -> usize {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().parse().expect("a number")
}

/// How often the limit was hit.
fn hits(path: &str) -> usize {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let v2 = text.lines().find_map(|line| line.strip_prefix("max "));
    v2.unwrap_or(text.trim()).parse().expect("a number")
}

fn warm_too_much(arguments: &[String]) {
    let [usage, failures] = [&arguments[0], &arguments[1]];
    let hits_before = hits(failures);
    drop(block(100));
    let request = antifreeze::prewarm(1024 * MIB);
    let progress = request.wait(DEADLINE / 2);
    println!("{progress:?}, {} MiB in use", number(usage) / MIB);
    assert_eq!(progress.state, PrewarmState::NoHeadRoom);
    assert!((100 * MIB as u64..LIMIT_BYTES as u64 / 16 * 15).contains(&progress.faulted_bytes), "{progress:?}");
    assert!(number(usage) < LIMIT_BYTES / 16 * 15);
    assert_eq!(hits(failures), hits_before, "the limit was hit");
    // What is warm stays for who asked: a block of more than half of it, of which as much is used.
    let mut table: Vec<u8> = Vec::with_capacity(600 * MIB);
    table.resize(200 * MIB, 1);
    assert!(number(usage) < LIMIT_BYTES / 16 * 15);
}

fn files_are_no_pressure() {
    let directory = env!("CARGO_TARGET_TMPDIR");
    if statfs(directory).is_ok_and(|system| system.filesystem_type() == TMPFS_MAGIC) {
        return skip("files of the build are in memory, which is no cache");
    }
    in_cgroup(&["fill_file_cache", directory], "off");
}

fn fill_file_cache(arguments: &[String]) {
    let [directory, usage, failures] = [0, 1, 2].map(|number| &arguments[number]);
    let path = Path::new(directory).join(format!("antifreeze-cache-{}", std::process::id()));
    let mut file = fs::File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
    // The kernel keeps it until it is closed.
    fs::remove_file(&path).expect("our own file");
    let hits_before = hits(failures);
    // Something that could be given back, so that the governor looks for pressure.
    drop(block(64 * MIB));
    let mut piece = block(MIB);
    for _ in 0..600 {
        file.write_all(&piece).expect("there is room on the disk");
    }
    file.sync_all().expect("the disk works");
    file.rewind().expect("a file can be read again");
    while file.read(&mut piece).expect("the disk works") > 0 {}
    // Two looks at least.
    std::thread::sleep(Duration::from_millis(300));
    let stats = antifreeze::stats();
    println!("{} MiB in use, limit hit {} times", number(usage) / MIB, hits(failures) - hits_before);
    assert!(number(usage) > LIMIT_BYTES / 16 * 15, "the cache is not full");
    assert!(hits(failures) > hits_before, "the limit was not hit");
    assert_eq!((stats.governor.pressure_events, stats.purge.bytes()), (0, 0), "{:?}", stats.governor);
    let request = antifreeze::prewarm(100 * MIB);
    assert_eq!(request.wait(DEADLINE / 2).state, PrewarmState::Ready, "cache is room: {:?}", request.progress());
}
