//! Aim: whatever source tells of a freeze, it tells the same as far as it can see.
//!
//! Method: the same freezes of a child are shown to each source, and what each must see of them is looked for. Those
//! that are not permitted here are skipped with a line; as root, the tests are also run as another user with chosen
//! capabilities.

mod another_user;
mod target;

use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use freeze_trap::clock::now_ns;
use freeze_trap::event::{Interval, Kind, Sleep};
use freeze_trap::source::choose::{Chosen, Wanted, choose};
use freeze_trap::source::perf::Switches;
use freeze_trap::source::{Bounds, Losses, Source};
use freeze_trap::stack::{RawStack, Stacks};
use lock_trace::Mode;
use target::{DEADLINE, Target};
use test_support::skip;

/// So long a source may take to tell what has ended.
const DELAY: Duration = Duration::from_millis(200);

fn armed(wanted: Wanted, bounds: &Bounds) -> Option<Box<dyn Source>> {
    match choose(wanted, bounds, 4096) {
        Ok(Chosen { source, .. }) => Some(source),
        Err(why) => {
            let why = format!("{why:#}");
            // That is no matter of rights.
            assert!(!why.contains("is refused by the kernel") || !nix::unistd::geteuid().is_root(), "{why}");
            skip(why);
            None
        }
    }
}

/// A source, and what it has told.
struct Watch {
    source: Box<dyn Source>,
    stacks: Stacks,
    told: Vec<Interval>,
    /// What it told that was not over at some time.
    open: Vec<Interval>,
}

impl Watch {
    fn new(source: Box<dyn Source>) -> Watch {
        Watch { source, stacks: Stacks::new(), told: Vec::new(), open: Vec::new() }
    }

    fn take(&mut self) {
        let told = &mut self.told;
        self.source.take(&mut self.stacks, &mut |one| told.push(one)).unwrap();
    }

    fn take_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.take();
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Watches a whole freeze.
    fn freeze(&mut self, target: &mut Target) {
        self.source.watch(&[target.pid()]).unwrap();
        // So that the address space is known, and each thread was looked at.
        self.take_for(DELAY);
        target.freeze(|| {
            self.take();
            let open = &mut self.open;
            self.source.unfinished(&mut self.stacks, &mut |one| open.push(one)).unwrap();
        });
        self.take_for(DELAY);
        let losses = self.source.losses().unwrap();
        if self.source.name() == "BPF on tracepoints" {
            assert_eq!(losses, Losses::default());
        } else if losses != Losses::default() {
            // The kernel's rings of a processor fill up while this thread gets none; that they are counted is enough.
            println!("{}: {losses:?}", self.source.name());
        }
    }

    fn kernel(&self, one: &Interval) -> &RawStack {
        self.stacks.get(one.stack.kernel.expect("there is a stack of the kernel")).expect("the stack is known")
    }

    fn user(&self, one: &Interval) -> &RawStack {
        self.stacks.get(one.stack.user.expect("there is a stack of the program")).expect("the stack is known")
    }
}

fn is_worker(one: &Interval) -> bool {
    one.thread.name.starts_with("worker-")
}

fn number(one: &Interval) -> Option<i64> {
    one.call.map(|call| call.number as i64)
}

fn mmap_lock(wanted: Wanted) {
    let Some(source) = armed(wanted, &Bounds::default()) else { return };
    let mut watch = Watch::new(source);
    let mut target = Target::start(&["mmap-lock", "--mib", "512", "--lasts", "2.5"]);
    watch.freeze(&mut target);
    // A worker maps, and unmaps what it has mapped; the C library has other reasons. A wait may also pass without a
    // sleep, as long as whoever has the lock is on a processor.
    let is_meant = |one: &&Interval| {
        let is_call = [libc::SYS_mmap, libc::SYS_munmap].map(Some).contains(&number(one));
        is_worker(one) && one.kind == Kind::Wait { mode: Mode::Write } && (is_call || wanted == Wanted::Sampling)
    };
    let is_slept = |wait: &&Interval| {
        watch.told.iter().any(|one| {
            let is_sleep = matches!(one.kind, Kind::OffCpu { sleep: Sleep::Uninterruptible, .. });
            is_sleep && one.thread == wait.thread && one.overlap_ns(wait.start_ns, wait.end_ns) > 0
        })
    };
    let waits = watch.told.iter().filter(is_meant).filter(is_slept);
    let wait = waits.max_by_key(|one| one.duration_ns()).expect("a worker waits for the lock, and sleeps meanwhile");
    assert_eq!((wait.thread.pid, wait.owner_pid), (target.pid(), target.pid()));
    assert!(wait.end_ns > wait.start_ns && !wait.unfinished);
    if wanted == Wanted::Sampling {
        assert!(watch.kernel(wait).addresses.is_empty() && !watch.kernel(wait).names.is_empty());
        assert!(!watch.told.iter().any(|one| matches!(one.kind, Kind::Hold { .. })));
        return;
    }
    // A worker that loses its processor with the lock may hold it for longer.
    let holds = watch.told.iter().filter(|one| {
        let is_call =
            number(one) == Some(libc::SYS_mmap) && one.call.is_some_and(|call| call.arguments[1] == 512 << 20);
        one.kind == Kind::Hold { mode: Mode::Write } && one.thread.name == "culprit" && is_call
    });
    let hold = holds.max_by_key(|one| one.duration_ns()).expect("the culprit holds the lock");
    assert_eq!((hold.thread.pid, hold.is_outsider()), (target.pid(), false));
    assert!(watch.kernel(hold).addresses.len() >= 2 && !watch.user(hold).addresses.is_empty());
    assert!(watch.user(hold).top_word != 0 && watch.user(hold).pid == target.pid());
    assert!(hold.overlap_ns(wait.start_ns, wait.end_ns) > 0 || wait.duration_ns() > 0);
    let totals = watch.source.totals().unwrap().expect("it counts");
    assert!(totals.hold_ns[1] >= hold.duration_ns() && totals.wait_ns[1] >= wait.duration_ns());
    assert!(totals.switches > 0 && totals.off_cpu_ns.iter().sum::<u64>() > 0);
}

fn user_lock(wanted: Wanted) {
    if let Some(source) = armed(wanted, &Bounds::default()) {
        waits_for_a_mutex_are_told(source, wanted != Wanted::Sampling);
    }
}

fn waits_for_a_mutex_are_told(source: Box<dyn Source>, has_addresses: bool) {
    let mut watch = Watch::new(source);
    let mut target = Target::start(&["user-lock", "--lasts", "3"]);
    watch.freeze(&mut target);
    let waits_for_the_mutex = |one: &&Interval| {
        let is_sleep = matches!(one.kind, Kind::OffCpu { sleep: Sleep::Interruptible, .. });
        is_sleep && is_worker(one) && number(one) == Some(libc::SYS_futex)
    };
    let longest = |told: &[Interval]| told.iter().filter(waits_for_the_mutex).map(Interval::duration_ns).max();
    assert!(longest(&watch.told) >= Some(300_000_000), "{:?}", longest(&watch.told));
    assert!(longest(&watch.open) >= Some(300_000_000), "{:?}", longest(&watch.open));
    let slept = watch.told.iter().filter(waits_for_the_mutex).max_by_key(|one| one.duration_ns()).unwrap();
    assert_eq!(watch.user(slept).pid, target.pid());
    if has_addresses {
        assert!(watch.kernel(slept).addresses.len() >= 2);
    }
}

#[test]
fn user_lock_by_switches() {
    match Switches::arm(&Bounds::default(), 4096) {
        Ok(switches) => waits_for_a_mutex_are_told(Box::new(switches), true),
        Err(why) => skip(format_args!("{why:#}")),
    }
}

fn nothing_is_told_of_what_is_not_watched(wanted: Wanted) {
    let Some(source) = armed(wanted, &Bounds::default()) else { return };
    let mut watch = Watch::new(source);
    let mut target = Target::start(&["mmap-lock", "--mib", "64", "--lasts", "0.3"]);
    let other = Target::start(&["nothing"]);
    watch.source.watch(&[target.pid()]).unwrap();
    watch.take_for(DELAY);
    watch.source.watch(&[other.pid()]).unwrap();
    let since_ns = now_ns();
    target.freeze(|| watch.take());
    watch.take_for(DELAY);
    // What had begun before may still be told.
    let told = watch.told.iter().find(|one| one.owner_pid == target.pid() && one.start_ns > since_ns);
    assert_eq!(told, None);
    watch.source.watch(&[]).unwrap();
    watch.take_for(DELAY);
}

fn outsiders(wanted: Wanted) {
    let all = Bounds { lock: Duration::ZERO, ..Bounds::default() };
    let Some(source) = armed(wanted, &all) else { return };
    let mut watch = Watch::new(source);
    let target = Target::start(&["nothing", "--every", "0.02"]);
    watch.source.watch(&[target.pid()]).unwrap();
    watch.take_for(DELAY);
    let memory = std::fs::File::open(format!("/proc/{}/mem", target.pid())).unwrap();
    let own = std::process::id() as i32;
    let end = Instant::now() + DEADLINE;
    loop {
        // There need not be anything at the address.
        let _ = memory.read_at(&mut [0], 4096);
        watch.take_for(Duration::from_millis(20));
        let hold = watch.told.iter().find(|one| one.is_outsider() && one.thread.pid == own);
        if let Some(hold) = hold {
            assert_eq!((hold.owner_pid, hold.thread.name.is_empty()), (target.pid(), false));
            return;
        }
        assert!(Instant::now() < end, "no outsider was told");
    }
}

fn a_program_that_is_executed_later(wanted: Wanted) {
    let Some(source) = armed(wanted, &Bounds::default()) else { return };
    let mut watch = Watch::new(source);
    let mut target = Target::shell(&["mmap-lock", "--mib", "256", "--lasts", "2.5"]);
    watch.source.watch(&[target.pid()]).unwrap();
    watch.take_for(DELAY);
    target.become_target();
    watch.freeze(&mut target);
    let waits = |one: &Interval| is_worker(one) && one.kind == Kind::Wait { mode: Mode::Write };
    assert!(watch.told.iter().any(waits), "nothing is told of the new address space");
}

/// Each kind of test, for each source.
macro_rules! tests {
    ($($name:ident: $body:ident($wanted:ident);)*) => {
        $(
            #[test]
            fn $name() {
                $body(Wanted::$wanted);
            }
        )*
    };
}

tests! {
    mmap_lock_by_bpf: mmap_lock(Bpf);
    mmap_lock_by_perf: mmap_lock(Perf);
    mmap_lock_by_sampling: mmap_lock(Sampling);
    user_lock_by_bpf: user_lock(Bpf);
    user_lock_by_perf: user_lock(Perf);
    user_lock_by_sampling: user_lock(Sampling);
    others_by_bpf: nothing_is_told_of_what_is_not_watched(Bpf);
    others_by_perf: nothing_is_told_of_what_is_not_watched(Perf);
    others_by_sampling: nothing_is_told_of_what_is_not_watched(Sampling);
    executed_by_bpf: a_program_that_is_executed_later(Bpf);
    executed_by_perf: a_program_that_is_executed_later(Perf);
    executed_by_sampling: a_program_that_is_executed_later(Sampling);
    outsiders_by_bpf: outsiders(Bpf);
    outsiders_by_perf: outsiders(Perf);
}

/// Prints which source is chosen, and why; for a run with other rights.
#[test]
fn the_best_source_is_chosen() {
    let chosen = choose(Wanted::Auto, &Bounds::default(), 4096).unwrap();
    println!("\nchosen: {}", chosen.source.name());
    chosen.missing.iter().for_each(|line| println!("missing: {line}"));
    assert!(chosen.missing.iter().all(|line| !line.contains('\n')));
    assert!(chosen.source.name() == "BPF on tracepoints" || !chosen.missing.is_empty());
}

/// Runs one of these tests as another user, who has these capabilities. What it printed; `None` where that cannot be.
fn as_another_user(test: &str, capabilities: &str) -> Option<String> {
    another_user::run(test, capabilities, None)
}

#[test]
fn without_rights_it_is_said_which_would_give_more() {
    let Some(text) = as_another_user("the_best_source_is_chosen", "") else { return };
    assert!(text.contains("chosen: samples of /proc"), "{text}");
    for wanted in ["BPF cannot be used: it takes CAP_BPF and CAP_PERFMON", "perf events cannot be used: ", "tracefs"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn two_capabilities_are_enough_for_bpf() {
    if armed(Wanted::Bpf, &Bounds::default()).is_none() {
        return;
    }
    let Some(text) = as_another_user("the_best_source_is_chosen", "+bpf,+perfmon") else { return };
    assert!(text.contains("chosen: BPF on tracepoints"), "{text}");
    as_another_user("mmap_lock_by_bpf", "+bpf,+perfmon");
}

#[test]
fn without_tracefs_perf_events_see_switches() {
    if Switches::arm(&Bounds::default(), 4096).is_err() {
        return;
    }
    let Some(text) = as_another_user("the_best_source_is_chosen", "+perfmon") else { return };
    if text.contains("chosen: perf events on tracepoints") {
        skip("other users may read tracefs here");
        return;
    }
    assert!(text.contains("chosen: perf events on switches"), "{text}");
    as_another_user("user_lock_by_switches", "+perfmon,+syslog");
}

#[test]
fn samples_of_ones_own_programs_need_no_rights() {
    as_another_user("mmap_lock_by_sampling", "");
    as_another_user("user_lock_by_sampling", "");
}

/// The size that the kernel has for each ring of BPF that this process has.
fn ring_sizes() -> Vec<u64> {
    /// BPF_MAP_TYPE_RINGBUF.
    const RING: &str = "27";
    let infos = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let infos = infos.filter_map(|info| std::fs::read_to_string(info.path()).ok());
    let field = |info: &str, name: &str| info.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
    let rings = infos.filter(|info| field(info, "map_type:").as_deref() == Some(RING));
    rings.filter_map(|ring| field(&ring, "max_entries:")?.parse().ok()).collect()
}

#[test]
fn the_ring_of_bpf_grows_with_the_number_of_threads() {
    // As no other test here.
    let threads_max = 5000;
    match choose(Wanted::Bpf, &Bounds::default(), threads_max) {
        Ok(_chosen) => assert!(ring_sizes().contains(&(32 << 20)), "{:?}", ring_sizes()),
        Err(why) => skip(format_args!("{why:#}")),
    }
}

#[test]
fn processes_that_bpf_has_no_room_for_are_counted_and_the_others_are_watched() {
    let Some(mut source) = armed(Wanted::Bpf, &Bounds::default()) else { return };
    let (first, last) = (Target::start(&["nothing"]), Target::start(&["nothing"]));
    // No process has such a number: it is above PID_MAX_LIMIT.
    let strangers = (1 << 22) + 1..(1 << 22) + 1024;
    let mut pids: Vec<i32> = std::iter::once(first.pid()).chain(strangers).collect();
    source.watch(&pids).unwrap();
    assert_eq!(source.unwatched_threads(), 0);
    pids.push(last.pid());
    for _ in 0..2 {
        let error = source.watch(&pids).unwrap_err().to_string();
        assert!(error.contains("1025 processes") && error.contains("(1024)"), "{error}");
    }
    // How many threads it has by then is its own affair.
    assert!(source.unwatched_threads() > 0);
    // Where one leaves, the other has room, and is looked at although there are too many again.
    pids.retain(|pid| *pid != first.pid());
    pids.push((1 << 22) + 2000);
    assert!(source.watch(&pids).is_err());
    assert_eq!(source.unwatched_threads(), 0, "the stranger has none");
    let (mut stacks, mut told) = (Stacks::new(), Vec::new());
    source.unfinished(&mut stacks, &mut |one| told.push(one.thread.pid)).unwrap();
    assert!(told.contains(&last.pid()) && !told.contains(&first.pid()), "{told:?}");
}
