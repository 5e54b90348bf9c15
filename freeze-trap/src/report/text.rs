//! A freeze on a terminal: the sentence, then what it is made from. Reads the same without colours.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use textwrap::Options;
use textwrap::core::display_width;

use super::{say, tally};
use crate::analysis::library_part;
use crate::freeze::{Frame, Freeze, OffCpuStack, ProbeLine, Window};

/// Less is not readable, and taken to be this.
const WIDTH_MIN: usize = 40;
/// Rows of a table.
const ROWS_MAX: usize = 10;
/// Stacks, and frames of each: of the kernel, and of the program.
const STACKS_MAX: usize = 5;
const KERNEL_FRAMES_MAX: usize = 8;
const USER_FRAMES_MAX: usize = 16;
/// Of libraries that are called by the program so many are shown, the innermost, and the one that it calls.
const LIBRARY_FRAMES_MAX: usize = 4;
/// Threads that a stack names, and processes of the target.
const NAMES_MAX: usize = 4;
/// A probe's line has a column for each time that it was asked, if there is room, and at least so many.
const PROBE_COLUMNS_MIN: usize = 20;
/// An answer is drawn with the first sign whose time it does not exceed; a longer one with the last.
const SIGNS: [(u64, char); 3] = [(10_000_000, '.'), (100_000_000, '-'), (1_000_000_000, '+')];
const LONGEST_SIGN: char = '#';
const FAILED_SIGN: char = '!';

const HEADLINE: Style = Style::new().bold();
const HEADING: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));
const MARK: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
const PLAIN: Style = Style::new();

struct Paper {
    text: String,
    width: usize,
    colour: bool,
}

/// The freeze for people, in lines of at most so many columns, with or without colours.
#[must_use]
pub fn text(freeze: &Freeze, width: usize, colour: bool) -> String {
    let mut paper = Paper { text: String::new(), width: width.max(WIDTH_MIN), colour };
    paper.paragraph(HEADLINE, "", "", &freeze.sentence);
    paper.end();
    facts(&mut paper, freeze);
    holders(&mut paper, freeze);
    blocked(&mut paper, freeze);
    pairs(&mut paper, freeze);
    off_cpu(&mut paper, freeze);
    outsiders(&mut paper, freeze);
    lock(&mut paper, freeze);
    memory(&mut paper, freeze);
    probes(&mut paper, freeze);
    seen(&mut paper, freeze);
    paper.text
}

impl Paper {
    fn end(&mut self) {
        self.text.push('\n');
    }

    fn heading(&mut self, text: &str) {
        self.end();
        self.paragraph(HEADING, "", "  ", text);
    }

    /// A text in as many lines as it needs, the first and the others indented so.
    fn paragraph(&mut self, style: Style, first: &str, others: &str, text: &str) {
        let options = Options::new(self.width).initial_indent(first).subsequent_indent(others);
        let lines: Vec<_> = textwrap::wrap(&say::plain(text), options).iter().map(|line| line.to_string()).collect();
        for line in lines {
            self.line(style, &line);
        }
    }

    /// A text in one line, cut where the line ends.
    fn line(&mut self, style: Style, text: &str) {
        let text = cut(say::plain(text).trim_end(), self.width);
        // Writing into a String does not fail.
        let _ = match style == PLAIN || !self.colour {
            true => writeln!(self.text, "{text}"),
            false => writeln!(self.text, "{style}{text}{style:#}"),
        };
    }

    fn item(&mut self, text: &str) {
        self.paragraph(PLAIN, "  ", "    ", text);
    }

    /// A fact under a short name.
    fn fact(&mut self, name: &str, text: &str) {
        self.paragraph(PLAIN, &format!("{name:<9}"), "         ", text);
    }

    /// How many of a list there was no room for.
    fn more(&mut self, all: usize, shown: usize, what: &str) {
        self.more_or_at_least(all, shown, what, false);
    }

    fn more_or_at_least(&mut self, all: usize, shown: usize, what: &str, at_least: bool) {
        if all > shown {
            self.line(PLAIN, &format!("  {}", say::more((all - shown) as u64, what, at_least)));
        }
    }

    /// A table whose first columns are of words and the others of numbers.
    fn table(&mut self, headings: &[&str], words: usize, rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        let width = u16::try_from(self.width - 1).unwrap_or(u16::MAX);
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        table.set_header(headings.iter().copied());
        for row in rows {
            table.add_row(row.iter().map(|cell| say::plain(cell).into_owned()));
        }
        for column in table.column_iter_mut().skip(words) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for line in table.lines().collect::<Vec<_>>() {
            self.line(PLAIN, &format!(" {}", line.trim_end()));
        }
    }
}

/// At most so many columns of a text; an ellipsis stands for what is cut off.
fn cut(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for one in text.chars() {
        if display_width(&short) + display_width(one.encode_utf8(&mut [0; 4])) + 1 > width {
            break;
        }
        short.push(one);
    }
    short.push('…');
    short
}

fn facts(paper: &mut Paper, freeze: &Freeze) {
    let window = &freeze.window;
    let frozen_ns = window.frozen_end_ns().saturating_sub(window.frozen_ns);
    let length = match window.recovered_ns {
        Some(_) => format!("frozen for {}", say::duration(frozen_ns)),
        None => format!("frozen for {} and not recovered when the window ended", say::duration(frozen_ns)),
    };
    paper.fact("when", &format!("{}, {length}", say::wall(&window.trigger_wall)));
    paper.fact("target", &format!("{} ({})", freeze.target.name, tally::processes(freeze, NAMES_MAX)));
    let trigger = &freeze.trigger;
    let failures = say::counted(u64::from(trigger.failures), "failure");
    paper.fact("trigger", &format!("{}: {}, {failures} in a row", trigger.probe, trigger.found));
    if let Some(throttled_ns) = freeze.throttled_ns {
        paper.fact("quota", &format!("the cgroup was refused {} of processor time", say::duration(throttled_ns)));
    }
}

fn holders(paper: &mut Paper, freeze: &Freeze) {
    let holders = tally::holders(freeze);
    if holders.is_empty() {
        return;
    }
    paper.heading("Who held what others wanted");
    for holder in holders.iter().take(ROWS_MAX) {
        let pair = holder.pair;
        let called = pair.called_from.as_ref().map_or(String::new(), |name| format!(", called from {name}"));
        let at_least = if holder.at_least { "at least " } else { "" };
        paper.item(&format!(
            "thread {}: {}, {}{called}; {at_least}{} waited, {at_least}{} in all, up to {}",
            say::thread(&pair.holder, pair.outsider),
            say::held(pair.on, pair.mode),
            pair.doing,
            say::counted(holder.waiters, "thread"),
            say::duration(holder.overlap_ns),
            say::duration(holder.longest_ns),
        ));
    }
    paper.more(holders.len() + freeze.left_out.holders as usize, ROWS_MAX, "holder");
}

fn blocked(paper: &mut Paper, freeze: &Freeze) {
    paper.heading("Who was blocked in the frozen time");
    if freeze.blocked.is_empty() {
        return paper.item("no thread");
    }
    let row = |blocked: &crate::freeze::Blocked| {
        let still = if blocked.unfinished { "still blocked" } else { "" };
        let (total, longest) = (say::duration(blocked.total_ns), say::duration(blocked.longest_ns));
        vec![say::thread(&blocked.thread, false), say::cause(blocked.on).to_owned(), still.to_owned(), total, longest]
    };
    let rows = freeze.blocked.iter().take(ROWS_MAX).map(row).collect();
    paper.table(&["thread", "on", "", "in all", "longest"], 3, rows);
    paper.more(freeze.blocked.len() + freeze.left_out.blocked as usize, ROWS_MAX, "row");
}

fn pairs(paper: &mut Paper, freeze: &Freeze) {
    if freeze.pairs.is_empty() {
        return;
    }
    paper.heading("Who waited for whom");
    let row = |pair: &crate::freeze::Pair| {
        let (waiter, holder) = (say::thread(&pair.waiter, false), say::thread(&pair.holder, pair.outsider));
        vec![waiter, holder, say::held(pair.on, pair.mode), say::duration(pair.overlap_ns)]
    };
    let rows = freeze.pairs.iter().take(ROWS_MAX).map(row).collect();
    paper.table(&["thread", "waited for", "which had", "time"], 3, rows);
    let all = freeze.pairs.len() + freeze.left_out.pairs as usize;
    paper.more_or_at_least(all, ROWS_MAX, "pair", tally::has_more_pairs(freeze));
}

fn off_cpu(paper: &mut Paper, freeze: &Freeze) {
    paper.heading("Where threads were off the processor in the frozen time");
    let stacks: Vec<_> = freeze.off_cpu.iter().filter(|place| place.frozen_ns > 0).collect();
    if stacks.is_empty() {
        return paper.item("nowhere that was seen");
    }
    paper.line(PLAIN, "  Innermost first; k: in the kernel, i: inlined into the function below it.");
    for (number, place) in stacks.iter().take(STACKS_MAX).enumerate() {
        stack(paper, number + 1, place);
    }
    paper.more(stacks.len(), STACKS_MAX, "stack");
}

fn stack(paper: &mut Paper, number: usize, place: &OffCpuStack) {
    let times = say::counted(place.count, "time");
    let (time, sleep, on) = (say::duration(place.frozen_ns), say::sleep(place.sleep), say::cause(place.on));
    paper.item(&format!("{number}. {time}, {times}: {sleep} ({on})"));
    let names = tally::names(place).into_iter().take(NAMES_MAX);
    let named = names.map(|(name, ns)| format!("{name} {}", say::duration(ns)));
    let mut named = named.collect::<Vec<_>>().join(", ");
    if place.threads.len() > NAMES_MAX {
        // Writing into a String does not fail.
        let _ = write!(named, ", and {} more", place.threads.len() - NAMES_MAX);
    }
    if !named.is_empty() {
        paper.paragraph(PLAIN, "     ", "     ", &named);
    }
    frames(paper, 'k', &place.stack.kernel, KERNEL_FRAMES_MAX);
    let user = &place.stack.user[..];
    let libraries = library_part(user).len();
    if libraries <= LIBRARY_FRAMES_MAX || libraries == user.len() {
        return frames(paper, ' ', user, USER_FRAMES_MAX);
    }
    let (inner, rest) = user.split_at(LIBRARY_FRAMES_MAX - 1);
    inner.iter().for_each(|frame| one_frame(paper, ' ', frame));
    let left_out = libraries - LIBRARY_FRAMES_MAX;
    if left_out > 0 {
        paper.line(PLAIN, &format!("       {} of libraries", say::counted(left_out as u64, "frame")));
    }
    frames(paper, ' ', &rest[left_out..], USER_FRAMES_MAX - LIBRARY_FRAMES_MAX);
}

fn one_frame(paper: &mut Paper, sign: char, frame: &Frame) {
    let place = say::place(frame);
    let place = if place.is_empty() { place } else { format!(" ({place})") };
    let sign = if frame.inlined { 'i' } else { sign };
    paper.line(PLAIN, &format!("     {sign} {}{place}", frame.function));
}

fn frames(paper: &mut Paper, sign: char, frames: &[Frame], most: usize) {
    frames.iter().take(most).for_each(|frame| one_frame(paper, sign, frame));
    if frames.len() > most {
        paper.line(PLAIN, &format!("       and {} more", say::counted((frames.len() - most) as u64, "frame")));
    }
}

fn outsiders(paper: &mut Paper, freeze: &Freeze) {
    let outsiders = tally::outsiders(freeze);
    if outsiders.is_empty() {
        return;
    }
    paper.heading("Other processes that took the target's mmap_lock");
    for (thread, times, longest_ns, doing) in outsiders.iter().take(ROWS_MAX) {
        let times = if *times > 0 { format!("{}, ", say::counted(*times, "hold")) } else { String::new() };
        let longest = say::duration(*longest_ns);
        paper.item(&format!("{} (process {}): {times}up to {longest}, {doing}", thread.name, thread.pid));
    }
    paper.more(outsiders.len(), ROWS_MAX, "process");
}

fn lock(paper: &mut Paper, freeze: &Freeze) {
    let Some(lock) = &freeze.lock else { return };
    paper.heading("mmap_lock in the window");
    let kinds = [
        ("holds for writing", &lock.write_holds),
        ("holds for reading", &lock.read_holds),
        ("waits for writing", &lock.write_waits),
        ("waits for reading", &lock.read_waits),
    ];
    let rows = kinds.map(|(name, buckets)| {
        let longest = buckets.iter().rposition(|count| *count > 0);
        let below = longest.map_or("-".to_owned(), |power| crate::quantity::below(tally::bucket_end_ns(power)));
        vec![name.to_owned(), tally::counted(buckets).to_string(), below]
    });
    paper.table(&["", "how many", "all below"], 1, rows.into());
}

fn memory(paper: &mut Paper, freeze: &Freeze) {
    let Some((before, after)) = tally::memory(freeze) else { return };
    paper.heading("Memory at the trigger and at the end");
    let row = |name: &str, values: [String; 2]| [name.to_owned()].into_iter().chain(values).collect();
    let rows = vec![
        row("resident", [before, after].map(|point| say::bytes(point.resident_bytes))),
        row("address space", [before, after].map(|point| say::bytes(point.virtual_bytes))),
        row("page faults", [before, after].map(|point| point.faults[0].to_string())),
        row("page faults from disk", [before, after].map(|point| point.faults[1].to_string())),
        row("threads", [before, after].map(|point| point.threads.to_string())),
    ];
    paper.table(&["", "trigger", "end"], 1, rows);
}

fn probes(paper: &mut Paper, freeze: &Freeze) {
    if freeze.probes.is_empty() {
        return;
    }
    paper.heading("What the probes saw");
    let asked = freeze.probes.iter().map(|probe| probe.points.len()).max().unwrap_or(0);
    let columns = asked.clamp(PROBE_COLUMNS_MIN, paper.width - 4);
    for probe in &freeze.probes {
        let failures: Vec<_> = probe.points.iter().filter_map(|(_, _, failure)| failure.as_deref()).collect();
        let first = failures.first().map_or(String::new(), |first| format!(", the first: {first}"));
        let asked = say::counted(probe.points.len() as u64, "time");
        paper.item(&format!("{}: asked {asked}, {} failed{first}", probe.name, failures.len()));
        let style = if failures.is_empty() { PLAIN } else { MARK };
        paper.line(style, &format!("  {}", drawn(probe, &freeze.window, columns)));
    }
    paper.line(PLAIN, &format!("  {}", marks(&freeze.window, columns)));
    let window = &freeze.window;
    let ends = [window.start_ns, window.end_ns].map(|at_ns| say::moment(at_ns, window.trigger_ns));
    paper.paragraph(
        PLAIN,
        "  ",
        "  ",
        &format!(
            "from {} to {} of the trigger; F frozen, T trigger, R recovered; answered within \
             10 ms '.', 100 ms '-', 1 s '+', later '#'; failed '!'",
            ends[0], ends[1]
        ),
    );
}

/// The column of a moment.
fn column(window: &Window, at_ns: u64, columns: usize) -> usize {
    let length_ns = u128::from(window.end_ns.saturating_sub(window.start_ns).max(1));
    let from_start_ns = u128::from(at_ns.saturating_sub(window.start_ns));
    ((from_start_ns * columns as u128 / length_ns) as usize).min(columns - 1)
}

/// A probe's answers: in each column the worst.
fn drawn(probe: &ProbeLine, window: &Window, columns: usize) -> String {
    let order = [' '].into_iter().chain(SIGNS.map(|sign| sign.1)).chain([LONGEST_SIGN, FAILED_SIGN]);
    let order: Vec<char> = order.collect();
    let mut worst = vec![0; columns];
    for (at_ns, took_ns, failure) in &probe.points {
        let fits = SIGNS.iter().position(|(most_ns, _)| took_ns <= most_ns).unwrap_or(SIGNS.len());
        let rank = if failure.is_some() { order.len() - 1 } else { fits + 1 };
        let place = &mut worst[column(window, *at_ns, columns)];
        *place = rank.max(*place);
    }
    worst.into_iter().map(|rank| order[rank]).collect()
}

/// The letters of the moments, each at its column or the next that is free.
fn marks(window: &Window, columns: usize) -> String {
    let mut line = vec![' '; columns + 2];
    let moments = [('F', Some(window.frozen_ns)), ('T', Some(window.trigger_ns)), ('R', window.recovered_ns)];
    for (letter, at_ns) in moments {
        let Some(at_ns) = at_ns else { continue };
        let from = column(window, at_ns, columns);
        if let Some(place) = line[from..].iter_mut().find(|place| **place == ' ') {
            *place = letter;
        }
    }
    line.into_iter().collect::<String>().trim_end().to_owned()
}

fn seen(paper: &mut Paper, freeze: &Freeze) {
    let seen = &freeze.seen;
    paper.heading("How it was seen");
    let (unknown, all) = seen.unknown_frames;
    paper.item(&format!(
        "by {}; lost: {} and {}; dropped by the recorder: {}; without a name: {unknown} of {}; \
         processor time of the trap itself: {}",
        seen.source,
        say::counted(seen.losses.intervals, "interval"),
        say::counted(seen.losses.threads, "thread"),
        say::counted(seen.dropped, "interval"),
        say::counted(all, "frame"),
        say::duration(seen.own_cpu_ns),
    ));
    for line in &seen.missing {
        paper.item(&format!("not seen: {line}"));
    }
    let machine = &freeze.machine;
    paper.item(&format!(
        "on {}: Linux {}, {} x {}, {} of memory; freeze-trap {}",
        machine.host,
        machine.kernel,
        machine.cpus,
        machine.cpu,
        say::bytes(machine.memory_bytes),
        machine.version,
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!([cut("abc", 3), cut("abcd", 3), cut("日本語", 4)], ["abc", "ab…", "日…"]);
    }

    #[test]
    fn the_programs_own_function_is_shown_however_deep_libraries_are() {
        let frame =
            |function: String, module: &str| Frame { function, place: None, module: module.into(), inlined: false };
        let library = (0..30).map(|number| frame(format!("hashbrown::f{number}"), "app"));
        let own = ["app::double", "app::main"].map(|name| frame(name.into(), "app"));
        let user = [frame("munmap".into(), "libc.so.6")].into_iter().chain(library).chain(own).collect();
        let place = OffCpuStack {
            stack: crate::freeze::Stack { kernel: Vec::new(), user },
            sleep: crate::event::Sleep::Runnable,
            on: crate::freeze::Cause::Starved,
            frozen_ns: 1,
            total_ns: 1,
            count: 1,
            threads: Vec::new(),
        };
        let mut paper = Paper { text: String::new(), width: 80, colour: false };
        stack(&mut paper, 1, &place);
        let lines: Vec<&str> = paper.text.lines().skip(1).map(str::trim).collect();
        let expected = [
            "munmap (libc.so.6)",
            "hashbrown::f0 (app)",
            "hashbrown::f1 (app)",
            "27 frames of libraries",
            "hashbrown::f29 (app)",
            "app::double (app)",
            "app::main (app)",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn moments_in_one_column_stay_apart() {
        let window = Window {
            start_ns: 0,
            frozen_ns: 98,
            trigger_ns: 99,
            recovered_ns: Some(100),
            end_ns: 100,
            trigger_wall: String::new(),
        };
        assert_eq!(marks(&window, 10), "         FTR");
        let points = vec![(0, 1, None), (1, 2_000_000_000, None), (50, 50_000_000, None), (51, 9, Some("x".into()))];
        let probe = ProbeLine { name: String::new(), points };
        assert_eq!(drawn(&probe, &window, 10), "#    !    ");
    }
}
