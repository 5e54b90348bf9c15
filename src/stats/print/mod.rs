//! Statistics as text, without allocation and without `core::fmt`: for people, as JSON, for Prometheus. All three print
//! the metrics of `stats::table`, in its order, into a buffer of the caller's.

mod json;
mod prometheus;
#[cfg(test)]
pub(crate) mod tests;
mod text;

#[cfg(all(test, feature = "metrics-http"))]
pub(crate) use tests::exposition;

use super::Stats;
use super::table::Unit;
use crate::text::Text;

/// The buffer given is too small for the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferTooSmall {
    /// Bytes that the text takes.
    pub bytes_needed: usize,
}

impl core::fmt::Display for BufferTooSmall {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("the buffer is too small for the statistics")
    }
}

impl core::error::Error for BufferTooSmall {}

impl Stats {
    /// The statistics for people: a line for each number, calls only of those kinds that happened. Takes at most 8 KiB.
    ///
    /// ```
    /// let mut buffer = [0; 8192];
    /// match antifreeze::stats().text(&mut buffer) {
    ///     Ok(text) => println!("{text}"),
    ///     Err(small) => println!("the statistics take {} bytes", small.bytes_needed),
    /// }
    /// ```
    /// # Errors
    /// The buffer is too small; its contents are of no use then.
    pub fn text<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a str, BufferTooSmall> {
        printed(buffer, |out| text::print(self, out))
    }

    /// The statistics as a JSON object: numbers under the names of the metrics without `antifreeze_`, times in seconds,
    /// and an array of objects for what is told by kind of call. Takes at most 32 KiB.
    /// # Errors
    /// The buffer is too small; its contents are of no use then.
    pub fn json<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a str, BufferTooSmall> {
        printed(buffer, |out| json::print(self, out))
    }

    /// The statistics in the text format of Prometheus, version 0.0.4. Takes at most 64 KiB.
    /// # Errors
    /// The buffer is too small; its contents are of no use then.
    pub fn prometheus<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a str, BufferTooSmall> {
        printed(buffer, |out| prometheus::print(self, out))
    }
}

fn printed<'a>(buffer: &'a mut [u8], print: impl FnOnce(&mut Text<'a>)) -> Result<&'a str, BufferTooSmall> {
    let mut out = Text::new(buffer);
    print(&mut out);
    out.finish().map_err(|bytes_needed| BufferTooSmall { bytes_needed })
}

/// Prints a number as people and scrapers want its unit.
fn value(out: &mut Text, unit: Unit, number: u64) {
    match unit {
        Unit::Seconds => seconds(out, number),
        Unit::Bytes | Unit::Calls | Unit::Count | Unit::Level => out.number(number),
    }
}

/// Prints a time as seconds, exactly: nine digits after the point.
fn seconds(out: &mut Text, time_ns: u64) {
    const PER_SECOND: u64 = 1_000_000_000;
    let rest = time_ns % PER_SECOND;
    out.number(time_ns / PER_SECOND);
    out.str(".");
    let mut least = PER_SECOND / 10;
    while least > 1 && rest < least {
        out.str("0");
        least /= 10;
    }
    out.number(rest);
}
