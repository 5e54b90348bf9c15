//! The messages of a pprof profile, as far as they are written: field by field as in the `profile.proto` that pprof
//! publishes. Numbers that name a text are places in [`Profile::string_table`]; ids count from 1.

use prost::Message;

/// A profile.
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    /// What each value of a sample is.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// The samples.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Programs and libraries; the first is the main program.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Places in them.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions that the places are in.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All texts, the first of which is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// When it began, in nanoseconds from 1970.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// How long it took.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// Remarks, as texts.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// The value that is shown first, as a text.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ValueType {
    /// Its name, as a text.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// Its unit, as a text.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// What was seen at one stack.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    /// The stack, the leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// A value for each of the profile's types.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// More about it.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A name and a value of a sample.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Label {
    /// The name, as a text.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// The value, as a text.
    #[prost(int64, tag = "2")]
    pub str: i64,
}

/// A program, a library or the kernel.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Mapping {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its file, as a text.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Its functions are named: nobody has to look for them.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// So are their files.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// So are their lines.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// So are those that are inlined.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// A place in a program.
#[derive(Clone, PartialEq, Message)]
pub struct Location {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Where it is loaded from.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// Its function, after those that are inlined into it, the innermost first.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A line of a function.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Line {
    /// The function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// The line in its file; 0 for unknown.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Function {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name, as a text.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Its file, as a text.
    #[prost(int64, tag = "4")]
    pub filename: i64,
}
