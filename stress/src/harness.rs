//! Running children: taking turns, answering what they ask, and judging what they report.
//!
//! `main.rs` and the integration tests call this; nothing here prints.

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lock_trace::Trace;
use serde::{Deserialize, Serialize};

use crate::ballast::{self, Ballast};
use crate::candidates::{Candidate, LIMIT};
use crate::child::Arguments;
use crate::clients::Clients;
use crate::killed::Heard;
use crate::observer::{Observer, Seen};
use crate::process::{Ended, Running};
use crate::record::{Record, RssSample};
use crate::scenario::Plan;
use crate::service::load_report::LoadReport;
use crate::setting::Surroundings;
use crate::talk::Line;

/// How much of a child's messages an error repeats.
const MESSAGE_CHARS: usize = 2000;

/// What came of one child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The round, from 1.
    pub round: u32,
    /// How long a fault of one hugepage took right before the child last touched much memory.
    pub fault_ns: u64,
    /// The child's report.
    pub record: Record,
    /// Its resident memory over time; times count from the record's start, and what was before it is left out.
    pub rss: Vec<RssSample>,
    /// Who held and who waited for its `mmap_lock`, if that was traced; times are of `CLOCK_MONOTONIC`.
    pub locks: Option<Trace>,
}

/// How the children are run.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The scenario.
    pub plan: Plan,
    /// How often each allocator runs.
    pub rounds: u32,
    /// Whether they run without memory that the host was made to back.
    pub cold: bool,
    /// Whether `mmap_lock` is traced.
    pub traces: bool,
}

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Memory is taken for the next child.
    Preparing {
        /// The round, from 1.
        round: u32,
        /// The allocator.
        allocator: &'a str,
    },
    /// A child enters a phase.
    Phase {
        /// The phase.
        name: &'a str,
    },
    /// A child is done.
    Done,
}

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A child's binary is not there.
    #[error("{program} is missing; build it with: {command}", program = .program.display())]
    Missing {
        /// Where it was looked for.
        program: PathBuf,
        /// What builds it.
        command: String,
    },
    /// A program could not be started or watched.
    #[error("{program} could not be run: {source}", program = .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What the scenario needs around its children could not be made.
    #[error("{0}")]
    Setting(String),
    /// The memory that is held for the children could not be had.
    #[error("touching memory for the children: {0}")]
    Memory(io::Error),
    /// Building the children failed; the compiler's messages are on standard error.
    #[error("building the children's binaries failed ({status}): {command}")]
    Build {
        /// How the build ended.
        status: ExitStatus,
        /// What was run.
        command: String,
    },
    /// A child failed, or reported what cannot be.
    #[error("round {round}, allocator {allocator}: {reason}")]
    Child {
        /// The allocator.
        allocator: String,
        /// The round, from 1.
        round: u32,
        /// What went wrong.
        reason: String,
    },
}

/// The candidates that can take part in the scenario.
pub fn contenders(candidates: Vec<Candidate>, plan: &Plan) -> Vec<Candidate> {
    let scenario = plan.scenario();
    let has_limit = scenario.limit_bytes().is_some();
    let takes =
        |candidate: &Candidate| (has_limit || candidate.allocator != LIMIT) && scenario.takes(&candidate.allocator);
    candidates.into_iter().filter(takes).collect()
}

/// Runs every candidate `rounds` times, in turns, each round beginning with the next one, so that none has always the
/// same neighbour before it.
///
/// Unless the run is `cold` or hugepages are to be scarce, as much memory as a child uses is taken before each child so
/// that the host backs it, and let go of as the child asks for it.
pub fn run_rounds(
    candidates: &[Candidate],
    orders: &Orders,
    interrupted: &AtomicBool,
    mut on_event: impl FnMut(Event<'_>),
) -> Result<Vec<Run>, HarnessError> {
    let mut ballast = Ballast::default();
    let mut runs = Vec::new();
    for round in 1..=orders.rounds {
        let first = (round as usize - 1) % candidates.len().max(1);
        for candidate in candidates.iter().cycle().skip(first).take(candidates.len()) {
            on_event(Event::Preparing { round, allocator: &candidate.allocator });
            if orders.holds_memory() {
                // Twice: the second time takes what the kernel gives out next when as much has just become free, as the
                // child will find it. Most of that has been touched, and then all of it has.
                for _ in 0..2 {
                    ballast.let_go(u64::MAX);
                    let bytes = orders.plan.scenario().peak_bytes();
                    ballast.take(bytes, interrupted).map_err(|error| HarnessError::Memory(error.into()))?;
                }
            }
            runs.push(run_child(candidate, orders, round, &mut ballast, interrupted, &mut on_event)?);
            on_event(Event::Done);
        }
    }
    Ok(runs)
}

/// The harness's side of the talk with one child.
struct Partner<'a> {
    orders: &'a Orders,
    round: u32,
    ballast: &'a mut Ballast,
    interrupted: &'a AtomicBool,
    input: Option<ChildStdin>,
    observer: Observer,
    fault_ns: u64,
    heard: Heard,
    report: Option<(Box<Record>, Seen)>,
    /// The program that plays clients, if the scenario has any.
    clients_program: PathBuf,
    clients: Option<Clients>,
    load: Option<LoadReport>,
    /// What the child wrote and should not have written.
    stray: Vec<String>,
    /// What a reader of the record should know and the child does not.
    notes: Vec<String>,
}

impl Orders {
    /// Whether memory that the host backs is held for the children.
    fn holds_memory(&self) -> bool {
        !self.cold && self.plan.scenario().setting().is_backed()
    }
}

impl Partner<'_> {
    /// Hears one line of the child and does what it asks for.
    fn hear(&mut self, line: &str, on_event: &mut impl FnMut(Event<'_>)) -> Result<(), String> {
        match serde_json::from_str(line) {
            Ok(Line::Ready) => {
                if self.orders.traces
                    && let Err(why) = self.observer.trace()
                {
                    self.notes.push(format!("mmap_lock was not traced in round {}: {why}", self.round));
                }
                self.heard.begin();
                self.answer();
            }
            Ok(Line::Phase { name }) => {
                self.heard.enter(&name, self.orders.plan.scenario());
                on_event(Event::Phase { name: &name });
            }
            Ok(Line::About { bytes }) => {
                if self.orders.holds_memory() {
                    self.ballast.refill(bytes, self.interrupted).map_err(|error| format!("memory to hold: {error}"))?;
                }
                self.ballast.let_go(bytes);
                // A probe takes hugepages, and leaves them free.
                if self.orders.plan.scenario().setting().is_backed() {
                    self.fault_ns = ballast::probe_fault_ns().map_err(|error| format!("a probe of memory: {error}"))?;
                }
                self.answer();
            }
            Ok(Line::Listening { address }) => self.start_clients(&address)?,
            Ok(Line::Over) => {
                self.observer.end_trace()?;
                self.answer();
            }
            Ok(Line::Report(record)) => {
                self.report = Some((record, self.observer.end()?));
                self.answer();
            }
            Err(_) => self.stray.push(line.to_owned()),
        }
        Ok(())
    }

    /// Hears a line that was left when the child was gone: nobody waits for an answer, or for what only an answer would
    /// have begun.
    fn hear_late(&mut self, line: &str, on_event: &mut impl FnMut(Event<'_>)) -> Result<(), String> {
        match serde_json::from_str(line) {
            Ok(Line::Ready | Line::About { .. } | Line::Listening { .. } | Line::Over) => Ok(()),
            Ok(Line::Phase { .. } | Line::Report(_)) | Err(_) => self.hear(line, on_event),
        }
    }

    /// Starts the clients of a child that serves requests at `address`.
    fn start_clients(&mut self, address: &str) -> Result<(), String> {
        let scenario = self.orders.plan.scenario();
        let address = address.parse().map_err(|error| format!("the child's address {address}: {error}"))?;
        let plan = scenario.load_plan(address).ok_or("the child serves requests, which its scenario does not")?;
        self.clients = Some(Clients::start(&self.clients_program, &plan, scenario.time_limit())?);
        Ok(())
    }

    /// Answers the child when the clients are done.
    fn look_after_clients(&mut self) -> Result<(), String> {
        if let Some(report) = self.clients.as_mut().and_then(Clients::report) {
            self.load = Some(report?);
            self.answer();
        }
        Ok(())
    }

    fn answer(&mut self) {
        // A child that is gone meanwhile says by its exit why.
        let _ = self.input.as_mut().map(|input| input.write_all(b"\n"));
    }
}

/// Runs one child to its end and checks its report; lets go of `ballast` as the child asks for memory. When
/// `interrupted` is set, the child is killed and reaped first.
pub fn run_child(
    candidate: &Candidate,
    orders: &Orders,
    round: u32,
    ballast: &mut Ballast,
    interrupted: &AtomicBool,
    on_event: &mut impl FnMut(Event<'_>),
) -> Result<Run, HarnessError> {
    let failed = |reason| HarnessError::Child { allocator: candidate.allocator.clone(), round, reason };
    let start_error = |source| HarnessError::Start { program: candidate.program.clone(), source };
    let scenario = orders.plan.scenario();
    let arguments = Arguments { plan: orders.plan.clone(), parent: i32::try_from(std::process::id()).ok() };
    let arguments = arguments.to_line().map_err(|error| failed(format!("the plan cannot be written: {error}")))?;
    // Dropped after the child, which is in them.
    let surroundings = Surroundings::make(scenario.setting(), interrupted).map_err(HarnessError::Setting)?;
    let mut command = Command::new(&candidate.program);
    surroundings.hold(&mut command).map_err(HarnessError::Setting)?;
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running::start(&mut command).map_err(start_error)?;
    let (lines, messages) = (child.lines(), child.messages());
    let (input, observer) = (child.input(), Observer::new(child.pid()));
    let mut partner = Partner {
        orders,
        round,
        ballast,
        interrupted,
        input,
        observer,
        fault_ns: 0,
        heard: Heard::default(),
        report: None,
        clients_program: Clients::program_beside(&candidate.program),
        clients: None,
        load: None,
        stray: Vec::new(),
        notes: Vec::new(),
    };
    let mut trouble = None;
    let ended = child.wait_busily(interrupted, scenario.time_limit(), |time| {
        partner.observer.look();
        let heard = next_line(&lines, time).map_or(Ok(()), |line| partner.hear(&line, on_event));
        if let Err(reason) = heard.and_then(|()| partner.look_after_clients()) {
            trouble.get_or_insert(reason);
            // Without answers the child ends.
            partner.input = None;
        }
        Ok(())
    });
    let ended = ended.map_err(start_error)?;
    if matches!(ended, Ended::Interrupted) {
        return Err(HarnessError::Interrupted);
    }
    for line in lines.iter() {
        if let Err(reason) = partner.hear_late(&line, on_event) {
            trouble.get_or_insert(reason);
        }
    }
    if let Some(reason) = trouble {
        return Err(failed(reason));
    }
    let (mut record, seen) = if surroundings.has_killed() && is_killed(&ended) {
        (partner.heard.record(&candidate.allocator, scenario), partner.observer.end().map_err(failed)?)
    } else {
        succeeded(ended, messages, scenario.time_limit())
            .map_err(|reason| reason.map_or(HarnessError::Interrupted, failed))?;
        if let [first, ..] = &partner.stray[..] {
            return Err(failed(format!("the child wrote what is not understood: {}", tail(first))));
        }
        let report = partner.report.ok_or_else(|| failed("the child left without a report".to_owned()))?;
        (*report.0, report.1)
    };
    if record.allocator != candidate.allocator {
        return Err(failed(format!("the child ran under {} instead", record.allocator)));
    }
    if let Some(load) = &partner.load {
        scenario.add_load(&mut record, load).map_err(failed)?;
    }
    record.figures.extend(surroundings.figures());
    record.notes.append(&mut partner.notes);
    let start_ns = record.start_ns;
    let since_start = |sample: RssSample| Some(RssSample { at_ns: sample.at_ns.checked_sub(start_ns)?, ..sample });
    let rss = seen.rss.into_iter().filter_map(since_start).collect();
    Ok(Run { round, fault_ns: partner.fault_ns, record, rss, locks: seen.trace })
}

/// Whether the child was killed by a signal that it cannot catch, and not from here.
fn is_killed(ended: &Ended) -> bool {
    matches!(ended, Ended::Exited(status) if status.signal() == Some(libc::SIGKILL))
}

/// The next line of a child, if it comes within `time`.
fn next_line(lines: &Receiver<String>, time: Duration) -> Option<String> {
    match lines.recv_timeout(time) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => {
            thread::sleep(time);
            None
        }
    }
}

/// Whether the child ended well; if not, why, or `None` if it was interrupted.
fn succeeded(ended: Ended, messages: JoinHandle<String>, limit: Duration) -> Result<(), Option<String>> {
    let messages = messages.join().unwrap_or_default();
    let status = match ended {
        Ended::Exited(status) => status,
        Ended::Interrupted => return Err(None),
        Ended::TimedOut => {
            return Err(Some(format!("no end after {} s; killed. {}", limit.as_secs(), tail(&messages))));
        }
    };
    if status.success() {
        return Ok(());
    }
    let how = match status.signal() {
        Some(9) => format!("{status} (did the machine run out of memory?)"),
        _ => status.to_string(),
    };
    Err(Some(format!("the child failed, {how}: {}", tail(&messages))))
}

/// The end of a child's messages, which names the cause.
fn tail(messages: &str) -> String {
    let messages = messages.trim();
    if messages.is_empty() {
        return "it left no message".to_owned();
    }
    let skipped = messages.chars().count().saturating_sub(MESSAGE_CHARS);
    messages.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::replay::Replay;
    use crate::table::Size;

    static NOT_INTERRUPTED: AtomicBool = AtomicBool::new(false);

    fn partner<'a>(orders: &'a Orders, ballast: &'a mut Ballast) -> Partner<'a> {
        Partner {
            orders,
            round: 1,
            interrupted: &NOT_INTERRUPTED,
            ballast,
            input: None,
            observer: Observer::new(u32::MAX),
            fault_ns: 0,
            heard: Heard::default(),
            report: None,
            clients_program: PathBuf::from("/nowhere/stress-load"),
            clients: None,
            load: None,
            stray: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn what_a_child_that_is_gone_asked_for_is_not_done() {
        let plan = Plan::Replay(Replay::new(Size::SMALLEST));
        let orders = Orders { plan, rounds: 1, cold: true, traces: true };
        let mut ballast = Ballast::default();
        let mut partner = partner(&orders, &mut ballast);
        let listening = Line::Listening { address: "127.0.0.1:1".to_owned() };
        for line in [Line::Ready, listening, Line::Phase { name: "fill".to_owned() }] {
            let line = serde_json::to_string(&line).unwrap();
            assert_eq!(partner.hear_late(&line, &mut |_| ()), Ok(()), "{line}");
        }
        assert!(partner.notes.is_empty() && partner.hear_late("words", &mut |_| ()).is_ok());
        assert_eq!(partner.stray, ["words"]);
    }

    #[test]
    fn a_child_that_cannot_be_traced_goes_on_with_a_note() {
        let plan = Plan::Replay(Replay::new(Size::SMALLEST));
        let orders = Orders { plan, rounds: 1, cold: true, traces: true };
        let mut ballast = Ballast::default();
        let mut partner = partner(&orders, &mut ballast);
        let line = serde_json::to_string(&Line::Ready).unwrap();
        assert_eq!(partner.hear(&line, &mut |_| ()), Ok(()));
        assert!(partner.notes[0].starts_with("mmap_lock was not traced in round 1: "), "{:?}", partner.notes);
    }

    fn run(program: &str, interrupted: bool) -> HarnessError {
        let candidate = Candidate { allocator: "some".to_owned(), program: PathBuf::from(program) };
        let plan = Plan::Replay(Replay::new(Size::SMALLEST));
        let orders = Orders { plan, rounds: 1, cold: true, traces: false };
        let interrupted = AtomicBool::new(interrupted);
        run_child(&candidate, &orders, 2, &mut Ballast::default(), &interrupted, &mut |_| ()).unwrap_err()
    }

    #[test]
    fn failures_name_the_allocator_and_the_cause() {
        let error = run("/bin/false", false).to_string();
        assert!(error.starts_with("round 2, allocator some: the child failed, exit status: 1"), "{error}");
        let error = run("/bin/echo", false).to_string();
        assert!(error.contains("what is not understood") && error.contains("--plan"), "{error}");
        assert!(run("/bin/true", false).to_string().ends_with("the child left without a report"));
        assert!(matches!(run("/nowhere/stress-some", false), HarnessError::Start { .. }));
    }

    #[test]
    fn an_interrupted_run_kills_its_child() {
        assert!(matches!(run("/bin/cat", true), HarnessError::Interrupted));
    }

    #[test]
    fn only_the_end_of_long_messages_is_repeated() {
        let long = format!("{}end", "x".repeat(5000));
        assert_eq!(tail(&long).len(), MESSAGE_CHARS);
        assert!(tail(&long).ends_with("end"));
        assert_eq!(tail(" \n"), "it left no message");
    }
}
