//! Samples of tracepoints, taken apart. `perf` asks the kernel for what they hold, `record` and other readers of the
//! rings take it out again.

use perf_event_open_sys::bindings;

/// What a sample holds besides who, when and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The fields of the tracepoint, if it is of one.
    pub fields: bool,
    /// The kernel's frames and the program's, by frame pointers. Costs some 10 µs for each sample.
    pub callchain: bool,
    /// The program's registers: a bit for each of those that `asm/perf_regs.h` counts.
    pub registers: u64,
    /// So many bytes from the top of the program's stack; a multiple of 8.
    pub stack_bytes: u32,
}

impl Default for Contents {
    /// The fields of a tracepoint, and nothing else.
    fn default() -> Contents {
        Contents { fields: true, callchain: false, registers: 0, stack_bytes: 0 }
    }
}

/// A sample, most often of a tracepoint.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The number of the event, see [`Rings::watch`](crate::events::Rings::watch).
    pub id: u64,
    /// The process of the thread that ran.
    pub pid: i32,
    /// The thread that ran.
    pub tid: i32,
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// The processor.
    pub cpu: u32,
    /// The tracepoint's own fields, as [`Field`](crate::events::Field) reads them.
    pub raw: &'a [u8],
    callchain: &'a [u8],
    registers: Option<&'a [u8]>,
    stack: &'a [u8],
}

impl<'a> Sample<'a> {
    /// Takes a record apart. `contents` says what those of the event with this number hold; `None` there, and a record
    /// that is no whole sample, give `None`.
    pub fn parse(record: &'a [u8], contents: impl FnOnce(u64) -> Option<Contents>) -> Option<Sample<'a>> {
        let mut cursor = Cursor(record);
        if cursor.u32()? != bindings::PERF_RECORD_SAMPLE {
            return None;
        }
        cursor.u32()?;
        let id = cursor.u64()?;
        let contents = contents(id)?;
        let (pid, tid, time_ns, cpu) = (cursor.i32()?, cursor.i32()?, cursor.u64()?, cursor.u32()?);
        cursor.u32()?;
        let callchain = if contents.callchain { cursor.words()? } else { &[] };
        let raw_bytes = if contents.fields { cursor.u32()? as usize } else { 0 };
        let raw = cursor.take(raw_bytes)?;
        let registers = if contents.registers == 0 { None } else { registers(&mut cursor, contents.registers)? };
        let stack = if contents.stack_bytes == 0 { &[] } else { stack(&mut cursor)? };
        Some(Sample { id, pid, tid, time_ns, cpu, raw, callchain, registers, stack })
    }

    /// The frames, the innermost first, those of the kernel before those of the program. Values from -4095 on are not
    /// addresses; they tell of which the next ones are, see [`USER_FRAMES`].
    pub fn callchain(&self) -> impl Iterator<Item = u64> + use<'a> {
        words(self.callchain)
    }

    /// The registers that were asked for, in the order of their bits; `None` for a thread that has none.
    pub fn registers(&self) -> Option<impl Iterator<Item = u64> + use<'a>> {
        self.registers.map(words)
    }

    /// The words from the top of the program's stack; none where they cannot be read.
    pub fn stack(&self) -> impl Iterator<Item = u64> + use<'a> {
        words(self.stack)
    }
}

/// Stands before the frames of the program in a callchain.
pub const USER_FRAMES: u64 = bindings::PERF_CONTEXT_USER;
/// Callchains have no addresses from here on.
pub const NO_FRAMES: u64 = bindings::PERF_CONTEXT_MAX;

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + use<'_> {
    bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word))
}

/// `Some(None)` for a thread without registers.
fn registers<'a>(cursor: &mut Cursor<'a>, mask: u64) -> Option<Option<&'a [u8]>> {
    if cursor.u64()? == u64::from(bindings::PERF_SAMPLE_REGS_ABI_NONE) {
        return Some(None);
    }
    Some(Some(cursor.take(mask.count_ones() as usize * 8)?))
}

fn stack<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let bytes = usize::try_from(cursor.u64()?).ok()?;
    if bytes == 0 {
        return Some(&[]);
    }
    let stack = cursor.take(bytes)?;
    // How many of them the kernel could read.
    stack.get(..usize::try_from(cursor.u64()?).ok()?)
}

/// Bytes that are still to be read.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_ne_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.u32().map(u32::cast_signed)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A number of words, and as many words.
    fn words(&mut self) -> Option<&'a [u8]> {
        let count = usize::try_from(self.u64()?).ok()?;
        self.take(count.checked_mul(8)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample with two frames, 12 bytes of fields, two registers, and 16 bytes of stack of which 8 could be read.
    fn record() -> Vec<u8> {
        let mut record = Vec::new();
        let word = |record: &mut Vec<u8>, word: u64| record.extend(word.to_ne_bytes());
        let half = |record: &mut Vec<u8>, half: u32| record.extend(half.to_ne_bytes());
        half(&mut record, bindings::PERF_RECORD_SAMPLE);
        half(&mut record, 0);
        word(&mut record, 77);
        [5, 6].into_iter().for_each(|number| half(&mut record, number));
        word(&mut record, 1_000_000);
        [1, 0].into_iter().for_each(|number| half(&mut record, number));
        [2, 0xffff_ffff_8100_0000, USER_FRAMES].into_iter().for_each(|frame| word(&mut record, frame));
        half(&mut record, 12);
        record.extend([9; 12]);
        [2, 30, 31].into_iter().for_each(|value| word(&mut record, value));
        [16, 40, 41, 8].into_iter().for_each(|value| word(&mut record, value));
        record
    }

    fn contents(_: u64) -> Option<Contents> {
        Some(Contents { fields: true, callchain: true, registers: 0b101, stack_bytes: 16 })
    }

    #[test]
    fn all_parts_are_found() {
        let record = record();
        let sample = Sample::parse(&record, contents).expect("a sample");
        assert_eq!((sample.id, sample.pid, sample.tid, sample.time_ns, sample.cpu), (77, 5, 6, 1_000_000, 1));
        assert_eq!(sample.raw, [9; 12]);
        assert_eq!(sample.callchain().collect::<Vec<_>>(), [0xffff_ffff_8100_0000, USER_FRAMES]);
        assert_eq!(sample.registers().expect("registers").collect::<Vec<_>>(), [30, 31]);
        assert_eq!(sample.stack().collect::<Vec<_>>(), [40]);
        assert!(Sample::parse(&record, |_| None).is_none());
    }

    #[test]
    fn a_record_that_is_cut_off_is_no_sample() {
        let record = record();
        for bytes in 0..record.len() {
            assert!(Sample::parse(&record[..bytes], contents).is_none(), "{bytes} bytes");
        }
    }
}
