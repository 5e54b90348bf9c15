//! Aim: the background thread has nothing to do with the program's descriptors: it takes none of their numbers, closes
//! none, releases no lock on a file, and does not mind what the program closes.
//!
//! Method: a child has memory that waits to be given back, so that the thread reads its files ten times a second, and
//! does meanwhile what programs do that count on descriptors. Once with the kernel's call for a table of one's own, and
//! once without it, by a filter of system calls.

mod common;

use std::fs;
use std::hint::black_box;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use common::{DEADLINE, Test, eventually};
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use test_support::skip;

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

const MIB: usize = 1 << 20;

/// What a child does; the second of each pair under the filter.
const JOBS: [(&str, fn()); 4] = [
    ("the_lowest_number_stays_the_programs", lowest_number),
    ("standard_input_can_be_replaced", replace_standard_input),
    ("all_descriptors_can_be_closed", close_all),
    ("locks_on_files_stay", locks_stay),
];

fn main() {
    common::run(&[
        Test::Here("with_a_table_of_its_own_the_thread_leaves_descriptors_alone", || each_job("own")),
        Test::Here("without_one_the_thread_opens_nothing", || each_job("none")),
        Test::Here("the_thread_keeps_nothing_open_but_its_trigger", || {
            common::expect_success(&mut common::job("own_table", &[]), DEADLINE);
        }),
        Test::Job("job", |arguments| {
            if arguments[1] == "none" {
                forbid_close_range();
            }
            let (_, body) = JOBS.iter().find(|(name, _)| *name == arguments[0]).expect("the parent passes a name");
            body();
            still_works();
        }),
        Test::Job("own_table", |_| own_table()),
    ]);
}

fn each_job(table: &str) {
    for (name, _) in JOBS {
        println!("{name}");
        let mut child = common::job("job", &[name, table]);
        common::expect_success(child.env("ANTIFREEZE_DECAY", "10s").env("ANTIFREEZE_LINGER", "10s"), DEADLINE);
    }
}

/// Has the kernel say that it has no `close_range`, as before Linux 5.9.
fn forbid_close_range() {
    let rule = |code, jump_true, jump_false, k| libc::sock_filter { code, jt: jump_true, jf: jump_false, k };
    let mut rules = [
        // Loads the number of the call, the first field of what the kernel passes.
        rule((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
        rule((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, 1, libc::SYS_close_range as u32),
        rule((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        rule((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: rules.len() as u16, filter: rules.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which is live; it forbids one call that nothing here depends on.
    let forbidden = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
            && libc::syscall(libc::SYS_close_range, 0, 0, libc::CLOSE_RANGE_UNSHARE) == -1
    };
    assert!(forbidden, "calls can be filtered");
}

/// Retires memory, so that the background thread looks for pressure until it is old enough.
fn retire() {
    let mut block: Vec<u8> = Vec::with_capacity(64 * MIB);
    block.resize(64 * MIB, 1);
    drop(black_box(block));
    assert!(eventually(DEADLINE, || governor().is_some()), "no background thread");
}

/// The background thread.
fn governor() -> Option<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("threads can be listed").flatten();
    let mut paths = tasks.map(|task| task.path().display().to_string());
    paths.find(|path| fs::read_to_string(format!("{path}/comm")).is_ok_and(|name| name == "antifreeze-gov\n"))
}

/// Memory is given back, whatever was done to descriptors.
fn still_works() {
    antifreeze::purge(usize::MAX);
    let purged = eventually(DEADLINE / 2, || antifreeze::counters().purge.bytes() >= 60 * MIB as u64);
    assert!(purged, "memory stays: {:?}", antifreeze::counters().governor);
}

/// Opens and closes a file for some time; always at the same number.
fn open_over_and_over(time: Duration) {
    let open_one = || open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).expect("a device");
    let first = open_one().as_raw_fd();
    let end = Instant::now() + time;
    let mut count = 0_u64;
    while Instant::now() < end {
        for _ in 0..100 {
            assert_eq!(open_one().as_raw_fd(), first, "after {count} times");
            count += 1;
        }
    }
    assert!(count > 1000);
}

fn lowest_number() {
    retire();
    let wakeups = antifreeze::counters().governor.wakeups;
    open_over_and_over(Duration::from_secs(2));
    assert!(antifreeze::counters().governor.wakeups >= wakeups + 5, "the thread has not looked");
}

fn replace_standard_input() {
    retire();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        // SAFETY: nobody reads standard input here.
        let number = unsafe {
            libc::close(0);
            libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY)
        };
        assert_eq!(number, 0);
    }
}

fn close_all() {
    retire();
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..1000 {
        // As daemons do; the three first are kept to be heard.
        for fd in 3..256 {
            // SAFETY: nothing here keeps a descriptor.
            unsafe { libc::close(fd) };
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    open_over_and_over(Duration::from_millis(300));
}

fn locks_stay() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lock-{}", std::process::id()));
    let mut file = fs::File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
    fs::remove_file(&path).expect("our own file");
    file.write_all(b"x").and_then(|()| file.seek(SeekFrom::Start(0))).expect("the disk works");
    // SAFETY: a struct of numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    fcntl(&file, FcntlArg::F_SETLK(&lock)).expect("nobody else has it");
    retire();
    std::thread::sleep(Duration::from_millis(500));
    still_works();
    // A child is another owner, and is told who has it.
    // SAFETY: the child asks once and ends.
    match unsafe { fork() }.expect("the system can fork") {
        ForkResult::Child => {
            let asked = fcntl(&file, FcntlArg::F_GETLK(&mut lock));
            let kept = asked.is_ok() && lock.l_pid == nix::unistd::getppid().as_raw();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(i32::from(!kept)) };
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)), "the lock is gone");
        }
    }
}

fn own_table() {
    // SAFETY: a thread of its own gives up what it shares, and ends.
    let unshare = || unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if std::thread::spawn(unshare).join().expect("the thread does not panic") != 0 {
        return skip("the kernel gives a thread no table of its own");
    }
    retire();
    let directory = format!("{}/fd", governor().expect("it was there"));
    let mut quiet = 0;
    for _ in 0..400 {
        let entries = fs::read_dir(&directory).expect("descriptors can be listed").flatten();
        let open = entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect::<Vec<_>>();
        // For the moment of reading others are open.
        let foreign = open.iter().find(|path| !path.starts_with("/proc") && !path.starts_with("/sys"));
        assert!(foreign.is_none(), "{open:?}");
        quiet += u32::from(open.iter().all(|path| path.to_string_lossy().contains("pressure")) && open.len() <= 1);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(quiet >= 300, "open most of the time: {quiet} of 400");
}
