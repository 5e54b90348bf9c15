//! What the trap costs a busy target: rounds of a child's work, in turns without a trap and with each source that is
//! permitted armed on it. Prints the time of one operation, in the middle round and in the best one, how much more that
//! is than in the rounds without, and the processor time that the trap took itself. Where the machine has other work to
//! do, the best rounds tell more.
//!
//!     cargo run --release -p freeze-trap --example overhead -- --rounds 25
//!
//! The child works on the last processor, the trap on the others. Nothing it does is long enough to be told, as in a
//! service that is well: what is measured is the watching.

use std::io::{BufRead, BufReader, Read, Write, stdin};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use freeze_trap::source::choose::{Wanted, choose};
use freeze_trap::source::perf::Switches;
use freeze_trap::source::{Bounds, Source};
use freeze_trap::stack::Stacks;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{Pid, pipe, read, write};

/// How often the source is emptied, as the trap does.
const TURN_MS: u8 = 20;
/// Between arming and a round, and after it: the kernel changes its code, and gives memory back, a little later.
const REST: Duration = Duration::from_millis(80);
/// So many threads have room.
const THREADS: u32 = 4096;
const PAGE_BYTES: usize = 4096;
const PAGES: usize = 512;

/// What the child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Two threads hand a byte to and fro: two switches for each operation.
    Switches,
    /// Pages are touched that were given back: a fault for each operation.
    Faults,
    /// A page is mapped and unmapped: two holds of mmap_lock for writing for each operation.
    Locks,
}

/// What the trap costs a busy target
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of each kind
    #[arg(long, default_value_t = 25)]
    rounds: usize,
    /// How long a round is, in milliseconds
    #[arg(long, default_value_t = 60)]
    millis: u64,
    /// Be the child
    #[arg(long, hide = true)]
    child: Option<Work>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let time = Duration::from_millis(arguments.millis);
    match arguments.child {
        Some(work) => be_child(work, time),
        None => compare(&arguments),
    }
}

// The child.

fn be_child(work: Work, time: Duration) -> Result<()> {
    println!("ready");
    let (mut line, mut done) = (String::new(), 0_u64);
    while stdin().read_line(&mut line)? > 0 {
        let begun = Instant::now();
        let count = match work {
            Work::Switches => switch(begun + time)?,
            Work::Faults => fault(begun + time)?,
            Work::Locks => lock(begun + time)?,
        };
        done += count;
        println!("{}", begun.elapsed().as_nanos() as f64 / count.max(1) as f64);
        line.clear();
    }
    if done == 0 {
        bail!("nothing was done");
    }
    Ok(())
}

fn switch(until: Instant) -> Result<u64> {
    let ((from_me, to_other), (from_other, to_me)) = (pipe()?, pipe()?);
    let other = thread::spawn(move || {
        let mut byte = [0];
        while read(&from_me, &mut byte).is_ok_and(|count| count == 1) && write(&to_me, &byte).is_ok() {}
    });
    let (mut count, mut byte) = (0, [0]);
    while Instant::now() < until {
        for _ in 0..64 {
            write(&to_other, &byte)?;
            read(&from_other, &mut byte)?;
            count += 1;
        }
    }
    drop(to_other);
    other.join().map_err(|_| anyhow::anyhow!("the other thread panicked"))?;
    Ok(count)
}

fn map(bytes: usize) -> Result<*mut u8> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping, which nobody else knows.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(Errno::last().into());
    }
    Ok(base.cast())
}

fn unmap(base: *mut u8, bytes: usize) -> Result<()> {
    // SAFETY: what `map` gave, with its length; nobody uses it any more.
    Errno::result(unsafe { libc::munmap(base.cast(), bytes) })?;
    Ok(())
}

fn fault(until: Instant) -> Result<u64> {
    let bytes = PAGES * PAGE_BYTES;
    let base = map(bytes)?;
    // SAFETY: what was mapped, with its length.
    Errno::result(unsafe { libc::madvise(base.cast(), bytes, libc::MADV_NOHUGEPAGE) })?;
    let mut count = 0;
    while Instant::now() < until {
        for page in 0..PAGES {
            // SAFETY: within the mapping, which may be written to.
            unsafe { base.add(page * PAGE_BYTES).write_volatile(1) };
        }
        count += PAGES as u64;
        // SAFETY: as above.
        Errno::result(unsafe { libc::madvise(base.cast(), bytes, libc::MADV_DONTNEED) })?;
    }
    unmap(base, bytes)?;
    Ok(count)
}

fn lock(until: Instant) -> Result<u64> {
    let mut count = 0;
    while Instant::now() < until {
        for _ in 0..64 {
            unmap(map(PAGE_BYTES)?, PAGE_BYTES)?;
            count += 1;
        }
    }
    Ok(count)
}

// The trap.

struct Target {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Target {
    fn start(work: Work, millis: u64, processor: usize) -> Result<Target> {
        let name = work.to_possible_value().context("it has a name")?.get_name().to_owned();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--child", &name, "--millis", &millis.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("it is piped")?;
        let output = BufReader::new(child.stdout.take().context("it is piped")?);
        let mut target = Target { child, input, output };
        target.line()?;
        sched_setaffinity(target.pid(), &only([processor])?)?;
        Ok(target)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }

    /// A round, during which the source is emptied; the nanoseconds of an operation.
    fn round(&mut self, source: &mut Option<Box<dyn Source>>) -> Result<f64> {
        let mut stacks = Stacks::new();
        writeln!(self.input, "go")?;
        let turn = PollTimeout::from(TURN_MS);
        while poll(&mut [PollFd::new(self.output.get_ref().as_fd(), PollFlags::POLLIN)], turn)? == 0 {
            if let Some(source) = source {
                source.take(&mut stacks, &mut |_| {})?;
            }
        }
        Ok(self.line()?.trim().parse()?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.output.read_to_end(&mut Vec::new());
    }
}

fn only(processors: impl IntoIterator<Item = usize>) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    processors.into_iter().try_for_each(|one| set.set(one))?;
    Ok(set)
}

/// How the trap is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    Not,
    /// BPF, on nobody.
    Idle,
    By(Wanted),
    /// Perf events without tracefs.
    Switches,
}

const ALL: [Armed; 6] = [
    Armed::Not,
    Armed::Idle,
    Armed::By(Wanted::Bpf),
    Armed::By(Wanted::Perf),
    Armed::Switches,
    Armed::By(Wanted::Sampling),
];

impl Armed {
    fn name(self) -> &'static str {
        match self {
            Armed::Not => "none",
            Armed::Idle => "BPF, watching others",
            Armed::By(Wanted::Perf) => "perf events on tracepoints",
            Armed::By(Wanted::Sampling) => "samples of /proc",
            Armed::By(_) => "BPF on tracepoints",
            Armed::Switches => "perf events on switches",
        }
    }

    /// `None` for no trap.
    fn source(self) -> Result<Option<Box<dyn Source>>> {
        let bounds = Bounds::default();
        Ok(match self {
            Armed::Not => None,
            Armed::Idle => Some(choose(Wanted::Bpf, &bounds, THREADS)?.source),
            Armed::By(wanted) => Some(choose(wanted, &bounds, THREADS)?.source),
            Armed::Switches => Some(Box::new(Switches::arm(&bounds, THREADS as usize)?)),
        })
    }
}

/// One round; the nanoseconds of an operation, and the processor time that the trap took, in seconds.
fn round(armed: Armed, target: &mut Target) -> Result<(f64, f64)> {
    let mut source = armed.source()?;
    if let Some(source) = &mut source
        && armed != Armed::Idle
    {
        source.watch(&[target.pid().as_raw()])?;
    }
    thread::sleep(REST);
    let before = own_seconds()?;
    let ns = target.round(&mut source)?;
    Ok((ns, own_seconds()? - before))
}

/// Processor time of this process so far, in seconds.
fn own_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// The middle of the values, and the least.
fn middle_and_least(values: &mut [f64]) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [values.len() / 2, 0].map(|at| values.get(at).copied().unwrap_or(f64::NAN))
}

fn compare(arguments: &Arguments) -> Result<()> {
    let processors = thread::available_parallelism()?.get();
    if processors < 2 {
        bail!("it takes two processors: one for the target, one for the trap");
    }
    sched_setaffinity(Pid::this(), &only(0..processors - 1)?)?;
    println!("{} rounds of {} ms each; nanoseconds of one operation", arguments.rounds, arguments.millis);
    let heads = ["median", "more", "best", "more"];
    println!(
        "{:10}{:28}{:>8}{:>8}{:>8}{:>8}{:>9}",
        "work", "source", heads[0], heads[1], heads[2], heads[3], "own CPU"
    );
    for work in Work::value_variants() {
        let mut target = Target::start(*work, arguments.millis, processors - 1)?;
        let permitted: Vec<Armed> = ALL.into_iter().filter(|armed| armed.source().is_ok()).collect();
        let (mut times, mut own) = (vec![Vec::new(); permitted.len()], vec![0.0; permitted.len()]);
        target.round(&mut None)?;
        for _ in 0..arguments.rounds {
            for (at, armed) in permitted.iter().enumerate() {
                let (ns, seconds) = round(*armed, &mut target)?;
                times[at].push(ns);
                own[at] += seconds;
                thread::sleep(REST);
            }
        }
        let times: Vec<[f64; 2]> = times.iter_mut().map(|times| middle_and_least(times)).collect();
        let label = work.to_possible_value().context("it has a name")?.get_name().to_owned();
        let whole = arguments.rounds as f64 * arguments.millis as f64 / 1e3;
        for ((armed, [middle, least]), own) in permitted.iter().zip(&times).zip(&own) {
            let (name, share) = (armed.name(), 100.0 * own / whole);
            let more = [middle - times[0][0], least - times[0][1]];
            println!("{label:10}{name:28}{middle:8.0}{:+8.0}{least:8.0}{:+8.0}{share:8.1}%", more[0], more[1]);
        }
    }
    Ok(())
}
