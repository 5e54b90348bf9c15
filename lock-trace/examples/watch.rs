//! Watches mmap_lock of a process for some seconds, and prints who held it and who waited.
//!
//! `cargo run -p lock-trace --example watch -- --pid 1234 --seconds 10 [--json] [--events FILE]`

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lock_trace::{Event, Options, Tracer, Unavailable};

/// Watches mmap_lock of a process.
#[derive(Parser)]
struct Arguments {
    /// The process.
    #[arg(long)]
    pid: u32,
    /// How long to watch.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Holds and waits from so many microseconds on are listed one by one.
    #[arg(long, default_value_t = 20)]
    keep_over_us: u64,
    /// Size of the ring for the kernel's events, for each processor.
    #[arg(long, default_value_t = 4096)]
    ring_kib: usize,
    /// Prints the whole trace as JSON instead of a summary.
    #[arg(long)]
    json: bool,
    /// Also writes each event, a line of JSON, to this file.
    #[arg(long)]
    events: Option<PathBuf>,
}

fn main() -> ExitCode {
    match watch(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn watch(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let options = Options {
        ring_bytes: arguments.ring_kib.saturating_mul(1024),
        keep_over_ns: arguments.keep_over_us.saturating_mul(1000),
        ..Options::default()
    };
    let tracer = attach(arguments, &options)?;
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let trace = tracer.stop()?;
    let mut output = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut output, &trace)?;
        writeln!(output)?;
    } else {
        write!(output, "{trace}")?;
    }
    Ok(())
}

fn attach(arguments: &Arguments, options: &Options) -> Result<Tracer, Box<dyn std::error::Error>> {
    let tracer = match &arguments.events {
        Some(path) => recording(arguments.pid, options, path)?,
        None => Tracer::attach(arguments.pid, options),
    };
    Ok(tracer?)
}

fn recording(pid: u32, options: &Options, path: &Path) -> std::io::Result<Result<Tracer, Unavailable>> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut failed = false;
    let see = move |event: &Event| {
        let written = serde_json::to_writer(&mut file, event).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|()| file.write_all(b"\n")) {
            if !failed {
                eprintln!("watch: events are not written any more: {error}");
            }
            failed = true;
        }
    };
    Ok(Tracer::attach_and_show(pid, options, see))
}
