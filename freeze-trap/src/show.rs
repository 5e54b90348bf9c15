//! `freeze-trap report`: a stored capture in any of the forms that a report has. Called by `main`.

use std::fs;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use freeze_trap::freeze::Freeze;
use freeze_trap::report::{self, Kind};
use freeze_trap::watch::disk::{FREEZE, captures};
use freeze_trap::watch::options::usual_directory;

/// Columns of a text that does not go to a terminal.
const WIDTH: u16 = 120;

/// The forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people, on a terminal
    Text,
    /// For programs: all that is known
    Json,
    /// Time off the processor by stack, a line each, as flame graph tools read it
    Folded,
    /// Time off the processor as a profile of pprof, compressed
    Pprof,
    /// Time off the processor as a flame graph, in SVG
    Flame,
    /// Time that others waited, by the stack of who held them up, likewise
    Wait,
    /// Everything in one page of HTML
    Page,
}

/// The options of `report`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// A freeze.json, the directory of a capture, or a directory of captures, of which the newest is taken [default:
    /// where `watch` puts them]
    path: Option<PathBuf>,
    /// The form
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// List the captures of a directory, the oldest first, instead
    #[arg(long, conflicts_with_all = ["format", "output"])]
    list: bool,
}

/// Prints a report, or a list of captures.
/// # Errors
/// There is no capture, it cannot be read, or the report cannot be written.
pub fn show(options: &Options) -> Result<ExitCode> {
    let path = options.path.clone().map_or_else(usual_directory, Ok)?;
    if options.list {
        list(&path)?;
        return Ok(ExitCode::SUCCESS);
    }
    let freeze = read(&file(&path)?)?;
    let terminal = options.output.is_none() && io::stdout().is_terminal();
    if terminal && options.format == Format::Pprof {
        bail!("a profile is no text for a terminal: give -o FILE");
    }
    let content = content(&freeze, options.format, terminal);
    match &options.output {
        Some(output) => fs::write(output, content).with_context(|| output.display().to_string())?,
        None => print(&content)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output. Whoever has read enough of it may close it.
fn print(content: &[u8]) -> Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(content).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output"),
    }
}

fn content(freeze: &Freeze, format: Format, terminal: bool) -> Vec<u8> {
    match format {
        Format::Text => {
            let width = terminal_size::terminal_size().filter(|_| terminal).map_or(WIDTH, |(width, _)| width.0);
            let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            report::text(freeze, usize::from(width), colour).into_bytes()
        }
        Format::Json => report::json(freeze).into_bytes(),
        Format::Folded => report::folded(freeze).into_bytes(),
        Format::Pprof => report::pprof(freeze),
        Format::Flame => report::flame(freeze, Kind::OffCpu).into_bytes(),
        Format::Wait => report::flame(freeze, Kind::LockWait).into_bytes(),
        Format::Page => report::page(freeze).into_bytes(),
    }
}

/// The file of the capture that a path means.
fn file(path: &Path) -> Result<PathBuf> {
    let below = path.join(FREEZE);
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    if below.is_file() {
        return Ok(below);
    }
    let captures = captures(path).with_context(|| path.display().to_string())?;
    let newest = captures.last().with_context(|| format!("{} has no capture", path.display()))?;
    Ok(newest.join(FREEZE))
}

fn read(path: &Path) -> Result<Freeze> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    report::read_json(&text).with_context(|| path.display().to_string())
}

fn list(path: &Path) -> Result<()> {
    let captures = captures(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut lines = String::new();
    for capture in captures {
        let sentence = read(&capture.join(FREEZE)).map_or_else(|error| format!("{error:#}"), |freeze| freeze.sentence);
        // Names of threads and functions are in it, and may be anything.
        let sentence: String = sentence.chars().map(|one| if one.is_control() { '\u{fffd}' } else { one }).collect();
        lines += &format!("{}  {sentence}\n", capture.display());
    }
    print(lines.as_bytes())
}
