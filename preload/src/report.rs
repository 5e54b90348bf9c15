//! What is said on standard error, in one call and without allocation, and `errno`.

use core::ffi::{CStr, c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

/// Lines about pointers of others that a process gets at most: the first ones tell enough.
const FOREIGN_LINES_MAX: u32 = 16;

/// A line that is put together on the stack. What does not fit is left out.
pub(crate) struct Line {
    bytes: [u8; 256],
    used: usize,
}

impl Line {
    /// A line that begins as all of ours do.
    pub(crate) fn new() -> Self {
        let mut line = Line { bytes: [0; 256], used: 0 };
        line.put(b"antifreeze: ");
        line
    }

    /// Adds text.
    pub(crate) fn put(&mut self, text: &[u8]) {
        // The last byte is for the end of the line.
        let room = self.bytes.len() - 1 - self.used;
        for (place, byte) in self.bytes.iter_mut().skip(self.used).zip(text.iter().take(room)) {
            *place = *byte;
        }
        self.used += text.len().min(room);
    }

    /// Adds an address.
    pub(crate) fn put_address(&mut self, address: usize) {
        self.put(b"0x");
        let digits = (address.checked_ilog2().unwrap_or(0) / 4).min(15);
        for digit in (0..=digits).rev() {
            let nibble = (address >> (digit * 4)) & 0xf;
            self.put(&[b"0123456789abcdef".get(nibble).copied().unwrap_or(b'?')]);
        }
    }

    /// Adds a number.
    pub(crate) fn put_number(&mut self, number: u32) {
        let mut digits = [b'0'; 10];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        let first = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len() - 1);
        self.put(digits.get(first..).unwrap_or(&digits));
    }

    /// The line, with its end.
    pub(crate) fn text(&mut self) -> &[u8] {
        if let Some(end) = self.bytes.get_mut(self.used) {
            *end = b'\n';
        }
        self.bytes.get(..=self.used).unwrap_or(&self.bytes)
    }

    /// Writes it to standard error.
    pub(crate) fn show(mut self) {
        show(self.text());
    }
}

/// Writes text to standard error, in one call; keeps `errno`.
pub(crate) fn show(text: &[u8]) {
    // A failed write loses the text and nothing else.
    let _ = write(libc::STDERR_FILENO, text);
}

/// Writes text to a descriptor, in one call; keeps `errno`, and gives that of the call if it fails.
pub(crate) fn write(descriptor: c_int, text: &[u8]) -> Result<(), c_int> {
    let before = errno();
    // By number: the function of that name is a cancellation point, which `free` and its like must not be.
    // SAFETY: writes a live buffer.
    let written = unsafe { libc::syscall(libc::SYS_write, descriptor, text.as_ptr(), text.len()) };
    let error = errno();
    set_errno(before);
    if written < 0 { Err(error) } else { Ok(()) }
}

/// Reports a pointer that is not of this allocator, and is left alone: it may well be another allocator's, as of a
/// library that brings its own and mixes the two up. The first few of a process.
#[cold]
#[inline(never)]
pub(crate) fn foreign(function: &CStr, pointer: *const c_void) {
    static LINES: AtomicU32 = AtomicU32::new(0);
    // Relaxed: a count.
    if LINES.fetch_add(1, Ordering::Relaxed) >= FOREIGN_LINES_MAX {
        return;
    }
    let mut line = Line::new();
    line.put(function.to_bytes());
    line.put(b": pointer is not of this allocator, and is left alone: ");
    line.put_address(pointer.addr());
    line.show();
}

/// The calling thread's `errno`.
pub(crate) fn errno() -> c_int {
    // SAFETY: the C library gives the address of the thread's own variable.
    unsafe { *libc::__errno_location() }
}

/// Sets the calling thread's `errno`.
pub(crate) fn set_errno(number: c_int) {
    // SAFETY: the C library gives the address of the thread's own variable.
    unsafe { *libc::__errno_location() = number };
}
