//! The end of the process when memory is corrupt or the program misused the allocator: fixed text, one number, abort.
//! Called by every layer. Never formats, never allocates, never returns.

/// Text that opens every fatal line, so that a log search finds them all.
const PREFIX: &[u8] = b"antifreeze: fatal: ";

/// Writes `antifreeze: fatal: <message>: 0x<address>` to standard error in one call and aborts.
///
/// `message` is fixed text that says what was called and what was wrong; `address` is the pointer it is about.
#[cold]
#[inline(never)]
pub(crate) fn fatal(message: &'static str, address: usize) -> ! {
    let mut line = [0_u8; 192];
    let mut used = 0;
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            if let Some(place) = line.get_mut(used) {
                *place = *byte;
                used += 1;
            }
        }
    };
    put(PREFIX);
    put(message.as_bytes());
    put(b": 0x");
    for digit in (0..usize::BITS / 4).rev() {
        let nibble = (address >> (digit * 4)) & 0xf;
        put(&[b"0123456789abcdef".get(nibble).copied().unwrap_or(b'?')]);
    }
    put(b"\n");
    // SAFETY: the buffer is live and `used` never passes its length; a short or failed write is ignored, as the process
    // ends in the next line.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), used);
        libc::abort()
    }
}
