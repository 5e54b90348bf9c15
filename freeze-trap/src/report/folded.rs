//! Folded stacks, as the tools for flame graphs read them: a line for each stack, the root first, the frames parted by
//! semicolons, then a space and the time.

use std::collections::BTreeMap;

use super::{say, tally};
use crate::freeze::{Frame, Freeze, Stack};

/// The time off the processor in the frozen time, in microseconds: the thread's name, the program's frames, inlined
/// ones with `_[i]`, the kernel's frames with `_[k]`. In the order of the alphabet.
#[must_use]
pub fn folded(freeze: &Freeze) -> String {
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for sample in tally::samples(freeze) {
        let ns = lines.entry(line(sample.thread, sample.stack)).or_default();
        *ns = ns.saturating_add(sample.ns);
    }
    let in_us = lines.into_iter().map(|(line, ns)| (line, ns.saturating_add(500) / 1000)).filter(|(_, us)| *us > 0);
    in_us.map(|(line, us)| format!("{line} {us}\n")).collect()
}

fn line(thread: &str, stack: &Stack) -> String {
    let user = stack.user.iter().rev().map(|frame| part(&frame.function, if frame.inlined { "_[i]" } else { "" }));
    let kernel = stack.kernel.iter().rev().map(|frame: &Frame| part(&frame.function, "_[k]"));
    [part(thread, "")].into_iter().chain(user).chain(kernel).collect::<Vec<_>>().join(";")
}

/// One name. Semicolons would part it, and occur in the names of array types: `[u8; 4]`.
fn part(name: &str, suffix: &str) -> String {
    format!("{}{suffix}", say::plain(name).replace(';', ":"))
}
