//! A little service that freezes on purpose, each time that it is told to on its standard input, or every few seconds;
//! for trying the trap, and for its tests. `GET` of any path answers `200` when the service is well: each answer needs
//! what the freeze holds.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use nix::errno::Errno;

const WORKERS: usize = 4;
const STEP_BYTES: usize = 64 << 10;
/// Of each thread of the crowd: there may be many, and they do little.
const CROWD_STACK_BYTES: usize = 64 << 10;

/// What the service freezes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum On {
    /// One thread replaces a large populated mapping, time and again; the workers map and unmap a little.
    MmapLock,
    /// One thread unmaps a large populated mapping, time and again; the workers map and unmap a little.
    Evict,
    /// One thread sleeps with a mutex that the workers need.
    UserLock,
    /// One thread writes a large file and waits for the disk; the workers wait for it as well.
    Disk,
    /// All threads compute; a cgroup with a quota, set from outside, makes them wait.
    Cpu,
    /// Nothing: the workers sleep until a request comes.
    Nothing,
}

/// A service that freezes on purpose
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What it freezes on
    on: On,
    /// Freeze by itself every so many seconds; without it, for each line on standard input
    #[arg(long, value_name = "SECONDS")]
    every: Option<f64>,
    /// How long a freeze lasts, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    lasts: f64,
    /// Memory that is mapped and replaced, or bytes that are written, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    mib: usize,
    /// Where files are written
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// So many more threads, each of which needs what the freeze holds once a second
    #[arg(long, value_name = "THREADS", default_value_t = 0)]
    crowd: usize,
    /// Answer on this address; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: String,
}

/// What the workers need for each answer.
struct Shared {
    on: On,
    index: Mutex<u64>,
    journal: Option<File>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if !(arguments.lasts > 0.0 && arguments.lasts < 600.0) {
        bail!("--lasts {}: give seconds above 0 and below 600", arguments.lasts);
    }
    let listener = TcpListener::bind(&arguments.listen).with_context(|| format!("--listen {}", arguments.listen))?;
    println!("{}", listener.local_addr()?);
    let journal = (arguments.on == On::Disk).then(|| open(&arguments.dir, "freeze-target.journal")).transpose()?;
    let shared: &Shared = Box::leak(Box::new(Shared { on: arguments.on, index: Mutex::new(0), journal }));
    for number in 0..WORKERS {
        let listener = listener.try_clone()?;
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || serve(&listener, shared))?;
    }
    for number in 0..arguments.crowd {
        let builder = thread::Builder::new().name(format!("crowd-{number}")).stack_size(CROWD_STACK_BYTES);
        builder.spawn(move || wander(shared)).with_context(|| format!("--crowd {}", arguments.crowd))?;
    }
    if let Some(seconds) = arguments.every {
        loop {
            thread::sleep(Duration::from_secs_f64(seconds));
            freeze(&arguments, shared)?;
        }
    }
    for line in std::io::stdin().lock().lines() {
        line?;
        freeze(&arguments, shared)?;
        println!("thawed");
    }
    Ok(())
}

fn open(dir: &Path, name: &str) -> Result<File> {
    let path = dir.join(name);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = opened.with_context(|| path.display().to_string())?;
    // Nobody needs it afterwards.
    let _ = std::fs::remove_file(&path);
    Ok(file)
}

fn serve(listener: &TcpListener, shared: &'static Shared) {
    for stream in listener.incoming().flatten() {
        // A client that has gone away is no matter.
        let _ = answer(stream, shared);
    }
}

/// Has something to do every now and then.
fn wander(shared: &Shared) {
    loop {
        thread::sleep(Duration::from_secs(1));
        // What is refused now is tried again.
        let _ = look_up(shared);
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    let mut line = String::new();
    BufReader::new(Read::by_ref(&mut stream).take(8192)).read_line(&mut line)?;
    look_up(shared)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")?;
    Ok(())
}

/// What a request needs of the service.
#[inline(never)]
fn look_up(shared: &Shared) -> Result<()> {
    match shared.on {
        On::MmapLock | On::Evict => {
            // SAFETY: a fresh mapping, unmapped again by its own address and length.
            let result = unsafe {
                let base = libc::mmap(std::ptr::null_mut(), STEP_BYTES, libc::PROT_READ, PRIVATE, -1, 0);
                if base == libc::MAP_FAILED { -1 } else { libc::munmap(base, STEP_BYTES) }
            };
            Errno::result(result)?;
        }
        On::UserLock => *shared.index.lock().map_err(|_| anyhow::anyhow!("poisoned"))? += 1,
        On::Disk => {
            if let Some(journal) = &shared.journal {
                journal.write_all_at(b"request\n", 0)?;
                journal.sync_data()?;
            }
        }
        On::Cpu => pages::render(Duration::from_millis(1)),
        On::Nothing => {}
    }
    Ok(())
}

#[inline(never)]
fn freeze(arguments: &Arguments, shared: &'static Shared) -> Result<()> {
    let lasts = Duration::from_secs_f64(arguments.lasts);
    let worker = thread::Builder::new().name("culprit".into());
    let bytes = arguments.mib << 20;
    let dir = arguments.dir.clone();
    let on = arguments.on;
    let culprit = worker.spawn(move || match on {
        On::MmapLock => index::grow(bytes, lasts),
        On::Evict => cache::evict(bytes, lasts),
        On::UserLock => index::reload(&shared.index, lasts),
        On::Disk => journal::persist(&dir, bytes, lasts),
        On::Cpu => {
            pages::render(lasts);
            Ok(())
        }
        On::Nothing => Ok(()),
    })?;
    culprit.join().map_err(|_| anyhow::anyhow!("the culprit panicked"))?
}

/// Mappings of nobody else.
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// Populates fresh memory, all of it with small pages. To be unmapped by whoever gets it.
#[inline(never)]
fn populate(bytes: usize) -> Result<*mut libc::c_void> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping, which nobody else knows; advised on by its own address and length.
    unsafe {
        let base = libc::mmap(std::ptr::null_mut(), bytes, access, PRIVATE, -1, 0);
        if base == libc::MAP_FAILED {
            return Err(Errno::last()).with_context(|| format!("--mib {}", bytes >> 20));
        }
        Errno::result(libc::madvise(base, bytes, libc::MADV_NOHUGEPAGE))?;
        Errno::result(libc::madvise(base, bytes, libc::MADV_POPULATE_WRITE))?;
        Ok(base)
    }
}

// The culprits: each asks the kernel itself, so that it is the caller of what the threads wait for. The time begins
// when it does, however late its thread got a processor, and what it does it does at least once.

mod index {
    use super::{Duration, Errno, Instant, Mutex, PRIVATE, Result, populate};

    /// Maps memory over populated memory, again and again: each time the kernel frees it with mmap_lock held for
    /// writing.
    #[inline(never)]
    pub fn grow(bytes: usize, lasts: Duration) -> Result<()> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let until = Instant::now() + lasts;
        loop {
            let base = populate(bytes)?;
            // SAFETY: replaces, and then unmaps, what was mapped at that address with that length.
            unsafe {
                let fresh = libc::mmap(base, bytes, access, PRIVATE | libc::MAP_FIXED, -1, 0);
                Errno::result(if fresh == libc::MAP_FAILED { -1 } else { libc::munmap(base, bytes) })?;
            }
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// Sleeps with the mutex that every answer needs.
    #[inline(never)]
    pub fn reload(index: &Mutex<u64>, lasts: Duration) -> Result<()> {
        let mut index = index.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
        let until = Instant::now() + lasts;
        let mut rest = lasts;
        while !rest.is_zero() {
            let time = libc::timespec { tv_sec: rest.as_secs() as _, tv_nsec: rest.subsec_nanos().into() };
            // SAFETY: reads the time to sleep, and writes nothing. An interruption is no matter: the loop goes on.
            unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
            *index += 1;
            rest = until.saturating_duration_since(Instant::now());
        }
        Ok(())
    }
}

mod cache {
    use super::{Duration, Errno, Instant, Result, populate};

    /// Unmaps populated memory, again and again: the kernel frees it with mmap_lock held for reading, and whoever wants
    /// it for writing waits.
    #[inline(never)]
    pub fn evict(bytes: usize, lasts: Duration) -> Result<()> {
        let until = Instant::now() + lasts;
        loop {
            let base = populate(bytes)?;
            // SAFETY: what was mapped at that address with that length.
            Errno::result(unsafe { libc::munmap(base, bytes) })?;
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }
}

mod journal {
    use super::{AsRawFd, Duration, Errno, Instant, Path, Result, Write, open};

    /// Writes a large file, and has the disk take it in.
    #[inline(never)]
    pub fn persist(dir: &Path, bytes: usize, lasts: Duration) -> Result<()> {
        let mut file = open(dir, "freeze-target.index")?;
        let block = vec![0x5a; 1 << 20];
        let until = Instant::now() + lasts;
        loop {
            for _ in 0..bytes >> 20 {
                file.write_all(&block)?;
            }
            // SAFETY: the descriptor is open as long as the file.
            Errno::result(unsafe { libc::fdatasync(file.as_raw_fd()) })?;
            file.set_len(0)?;
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }
}

mod pages {
    use super::{Duration, Instant};

    /// Keeps a processor busy.
    #[inline(never)]
    pub fn render(time: Duration) {
        let end = Instant::now() + time;
        let mut sum = 0_u64;
        while Instant::now() < end {
            for number in 0..1000_u64 {
                sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(number));
            }
        }
    }
}
