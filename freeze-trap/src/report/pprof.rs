//! A pprof profile of the time off the processor in the frozen time.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::profile::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use super::{say, tally};
use crate::freeze::{Frame, Freeze, Stack, Window};

/// What the kernel's frames are loaded from.
const KERNEL: &str = "[kernel]";

/// Things that got a number when they came first.
struct Numbered<T> {
    numbers: HashMap<T, u64>,
    first: u64,
}

impl<T: Hash + Eq> Numbered<T> {
    fn from(first: u64) -> Self {
        Numbered { numbers: HashMap::new(), first }
    }

    /// Its number, and whether it is new.
    fn number(&mut self, one: T) -> (u64, bool) {
        let next = self.first + self.numbers.len() as u64;
        let number = *self.numbers.entry(one).or_insert(next);
        (number, number == next)
    }
}

struct Builder<'a> {
    profile: Profile,
    texts: Numbered<String>,
    mappings: Numbered<&'a str>,
    functions: Numbered<(&'a str, &'a str)>,
    locations: Numbered<(bool, &'a [Frame])>,
}

/// The profile, compressed with gzip: samples have a count and a time in nanoseconds, and labels with the thread's
/// name, how it slept, and on what.
///
/// # Panics
/// Never: writing into memory does not fail.
#[must_use]
pub fn pprof(freeze: &Freeze) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&profile(freeze).encode_to_vec()).expect("writing into memory does not fail");
    encoder.finish().expect("writing into memory does not fail")
}

fn profile(freeze: &Freeze) -> Profile {
    let mut builder = Builder {
        profile: Profile::default(),
        texts: Numbered::from(0),
        mappings: Numbered::from(1),
        functions: Numbered::from(1),
        locations: Numbered::from(1),
    };
    builder.text("");
    let types = [("samples", "count"), ("off-cpu", "nanoseconds")];
    builder.profile.sample_type =
        types.map(|(name, unit)| ValueType { r#type: builder.text(name), unit: builder.text(unit) }).into();
    builder.profile.default_sample_type = builder.text("off-cpu");
    builder.profile.comment = vec![builder.text(&freeze.sentence)];
    builder.profile.time_nanos = began_ns(&freeze.window);
    let frozen_ns = freeze.window.frozen_end_ns().saturating_sub(freeze.window.frozen_ns);
    builder.profile.duration_nanos = signed(frozen_ns);
    if let Some(program) = main_program(freeze) {
        builder.mapping(program);
    }
    for sample in tally::samples(freeze) {
        let place = &freeze.off_cpu[sample.index];
        let labels = [("thread", sample.thread), ("on", say::cause(place.on)), ("sleep", say::sleep(place.sleep))];
        let label = labels.map(|(key, text)| Label { key: builder.text(key), str: builder.text(text) }).into();
        let location_id = builder.locations(sample.stack);
        let value = vec![signed(sample.count), signed(sample.ns)];
        builder.profile.sample.push(Sample { location_id, value, label });
    }
    builder.profile
}

impl<'a> Builder<'a> {
    fn text(&mut self, text: &str) -> i64 {
        let text = say::plain(text).into_owned();
        let (number, is_new) = self.texts.number(text.clone());
        if is_new {
            self.profile.string_table.push(text);
        }
        signed(number)
    }

    /// The places of a stack, the leaf first: the kernel's, then the program's.
    fn locations(&mut self, stack: &'a Stack) -> Vec<u64> {
        let frames = |frames: &'a [Frame]| frames.split_inclusive(|frame| !frame.inlined);
        frames(&stack.kernel)
            .map(|place| (place, true))
            .chain(frames(&stack.user).map(|place| (place, false)))
            .map(|(place, is_kernel)| self.location(place, is_kernel))
            .collect()
    }

    /// The place of a function and of those that are inlined into it.
    fn location(&mut self, frames: &'a [Frame], is_kernel: bool) -> u64 {
        let (id, is_new) = self.locations.number((is_kernel, frames));
        if is_new {
            let module = frames.last().map_or("", |frame| frame.module.as_str());
            let mapping_id = self.mapping(if is_kernel { KERNEL } else { module });
            let line = frames.iter().map(|frame| self.line(frame)).collect();
            self.profile.location.push(Location { id, mapping_id, line });
        }
        id
    }

    fn mapping(&mut self, file: &'a str) -> u64 {
        let (id, is_new) = self.mappings.number(file);
        if is_new {
            let filename = self.text(file);
            let (has_functions, has_filenames, has_line_numbers, has_inline_frames) = (true, true, true, true);
            let mapping = Mapping { id, filename, has_functions, has_filenames, has_line_numbers, has_inline_frames };
            self.profile.mapping.push(mapping);
        }
        id
    }

    fn line(&mut self, frame: &'a Frame) -> Line {
        let place = frame.place.as_deref().unwrap_or("");
        let numbered = place.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)));
        let (file, line) = numbered.unwrap_or((place, 0));
        let (function_id, is_new) = self.functions.number((frame.function.as_str(), file));
        if is_new {
            let function = Function { id: function_id, name: self.text(&frame.function), filename: self.text(file) };
            self.profile.function.push(function);
        }
        Line { function_id, line }
    }
}

/// The program or library that most frames are of: a profile is taken to be of the first that it names.
fn main_program(freeze: &Freeze) -> Option<&str> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for frame in freeze.off_cpu.iter().flat_map(|place| &place.stack.user) {
        *counts.entry(&frame.module).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(module, _)| module)
}

/// The format has signed numbers only.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// When the frozen time began, in nanoseconds from 1970; 0 if the clock's time cannot be read.
fn began_ns(window: &Window) -> i64 {
    let Ok(trigger) = OffsetDateTime::parse(&window.trigger_wall, &Rfc3339) else { return 0 };
    let before_ns = i128::from(window.trigger_ns.saturating_sub(window.frozen_ns));
    i64::try_from(trigger.unix_timestamp_nanos() - before_ns).unwrap_or(0)
}
