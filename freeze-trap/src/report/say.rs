//! How threads, causes and sleeps are said, the same in every output; durations and sizes as in the sentence.

use std::borrow::Cow;

use lock_trace::Mode;

use crate::event::{Sleep, Thread};
use crate::freeze::{Cause, Frame, SpanKind};

pub(super) use crate::quantity::{size as bytes, time as duration};

/// A moment in seconds from another one, with its sign.
pub(super) fn moment(at_ns: u64, from_ns: u64) -> String {
    format!("{:+.3} s", (at_ns as f64 - from_ns as f64) / 1e9)
}

/// So many of something: `1 thread`, `3 threads`.
pub(super) fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// How many of a list are not shown, or how many at least.
pub(super) fn more(count: u64, one: &str, at_least: bool) -> String {
    format!("and {}{} more", if at_least { "at least " } else { "" }, counted(count, one))
}

/// A share in per cent; 0 of nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// A thread's number and name; the process of an outsider, as its thread's number says nothing.
pub(super) fn thread(thread: &Thread, outsider: bool) -> String {
    if outsider {
        format!("{} ({}, another process)", thread.pid, thread.name)
    } else {
        format!("{} ({})", thread.tid, thread.name)
    }
}

/// What was waited for.
pub(super) fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::MmapLock => "mmap_lock",
        Cause::UserLock => "lock in user space",
        Cause::Disk => "disk",
        Cause::Throttled => "processor quota",
        Cause::Starved => "free processor",
        Cause::Kernel => "kernel",
        Cause::Busy => "busy",
        Cause::Idle => "idle",
        Cause::Unknown => "unknown",
    }
}

/// What was waited for, and how the holder held it.
pub(super) fn held(on: Cause, mode: Option<Mode>) -> String {
    match mode {
        Some(mode) => format!("{} for {}", cause(on), self::mode(mode)),
        None => cause(on).to_owned(),
    }
}

/// How a lock is taken.
pub(super) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Read => "reading",
        Mode::Write => "writing",
    }
}

/// Why a thread was off the processor.
pub(super) fn sleep(sleep: Sleep) -> &'static str {
    match sleep {
        Sleep::Runnable => "wanted to run",
        Sleep::Interruptible => "slept",
        Sleep::Uninterruptible => "slept, uninterruptible",
        Sleep::Other => "stopped or ended",
    }
}

/// What an interval is.
pub(super) fn span(kind: SpanKind) -> String {
    match kind {
        SpanKind::Hold(mode) => format!("held mmap_lock for {}", self::mode(mode)),
        SpanKind::Wait(mode) => format!("waited for mmap_lock for {}", self::mode(mode)),
        SpanKind::OffCpu(sleep) => format!("off the processor: {}", self::sleep(sleep)),
    }
}

/// Where a function is: its place in the source and the file that it was loaded from, as far as they are known.
pub(super) fn place(frame: &Frame) -> String {
    let known = [frame.place.as_deref().map_or("", short_path), &frame.module];
    known.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// A path in the source without what says nothing: where the compiler's own library was, and where the registry is.
fn short_path(path: &str) -> &str {
    let after = |start: &str| path.split_once(start).map(|(_, rest)| rest);
    let of_compiler = path.strip_prefix("/rustc/").and_then(|rest| Some(rest.split_once('/')?.1));
    let of_registry = || after("/registry/src/").and_then(|rest| Some(rest.split_once('/')?.1));
    let of_its_crates = || path.strip_prefix("/rust/deps/");
    of_compiler.or_else(of_registry).or_else(of_its_crates).unwrap_or_else(|| path.trim_start_matches("./"))
}

/// A time of day without digits that nobody reads: `2026-11-27T06:57:01.200Z`.
pub(super) fn wall(time: &str) -> String {
    let Some((seconds, rest)) = time.split_once('.') else { return time.to_owned() };
    let digits = rest.find(|one: char| !one.is_ascii_digit()).unwrap_or(rest.len());
    format!("{seconds}.{}{}", &rest[..digits.min(3)], &rest[digits..])
}

/// A text without characters that are no text: a terminal would obey them, and XML may not contain them.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    let is_odd = |one: char| one.is_control() || matches!(one, '\u{fffe}' | '\u{ffff}');
    if text.contains(is_odd) { text.replace(is_odd, "\u{fffd}").into() } else { text.into() }
}

/// The same for a document, whose own line ends stay.
pub(super) fn plain_document(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_numbers_are_said_briefly() {
        assert_eq!([(1, 4), (0, 0)].map(|(part, whole)| percent(part, whole)), ["25.0 %", "0.0 %"]);
        assert_eq!([1, 0].map(|count| counted(count, "time")), ["1 time", "0 times"]);
        let more = [(1, false), (2, true)].map(|(count, at_least)| more(count, "pair", at_least));
        assert_eq!(more, ["and 1 pair more", "and at least 2 pairs more"]);
    }

    #[test]
    fn paths_and_times_are_said_without_noise() {
        let cases = [
            ("/rustc/0a1b/library/std/src/io.rs:12", "library/std/src/io.rs:12"),
            ("/home/me/.cargo/registry/src/index-1a/nix-0.31.0/src/sys.rs:9", "nix-0.31.0/src/sys.rs:9"),
            ("/rust/deps/hashbrown-0.16.1/src/map.rs:9", "hashbrown-0.16.1/src/map.rs:9"),
            ("./nptl/futex.c:57", "nptl/futex.c:57"),
            ("/srv/app/src/main.rs", "/srv/app/src/main.rs"),
        ];
        for (path, said) in cases {
            assert_eq!(short_path(path), said);
        }
        let times = ["2026-11-27T23:13:10.871613106Z", "2026-11-27T23:13:10Z", "", "1.2+01:00"];
        assert_eq!(times.map(wall), ["2026-11-27T23:13:10.871Z", "2026-11-27T23:13:10Z", "", "1.2+01:00"]);
    }

    #[test]
    fn orders_to_a_terminal_are_no_text() {
        assert_eq!(plain("a\u{1b}[31m\r\nb"), "a\u{fffd}[31m\u{fffd}\u{fffd}b");
        assert_eq!(plain("ä → ∀<T>"), "ä → ∀<T>");
        assert_eq!(plain_document("a\nb\u{7}"), "a\nb\u{fffd}");
    }
}
