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
    end(&[message], address)
}

/// The same for what several functions find out: `antifreeze: fatal: <call>: <message>: 0x<address>`.
#[cold]
#[inline(never)]
pub(crate) fn misused(call: &'static str, message: &'static str, address: usize) -> ! {
    end(&[call, ": ", message], address)
}

fn end(message: &[&'static str], address: usize) -> ! {
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
    message.iter().for_each(|part| put(part.as_bytes()));
    put(b": 0x");
    for digit in (0..usize::BITS / 4).rev() {
        let nibble = (address >> (digit * 4)) & 0xf;
        put(&[b"0123456789abcdef".get(nibble).copied().unwrap_or(b'?')]);
    }
    put(b"\n");
    // SAFETY: the buffer is live and `used` never passes its length; a short or failed write is ignored, as the process
    // ends right after.
    unsafe {
        let written = libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), used);
        if written < 0 && *libc::__errno_location() == libc::EBADF {
            // The governor's thread has a table of descriptors of its own.
            libc::write(standard_error_of_process(), line.as_ptr().cast(), used);
        }
        libc::abort()
    }
}

/// A descriptor for the standard error of the process's first thread; negative if there is none.
fn standard_error_of_process() -> libc::c_int {
    // SAFETY: system calls on numbers and a live path; what they open is closed by the end of the process.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
        let copy = libc::syscall(libc::SYS_pidfd_getfd, process, libc::STDERR_FILENO, 0) as libc::c_int;
        // Sandboxes forbid that at times. A path does as well, but for sockets; appending loses nothing of a log file.
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_NOCTTY | libc::O_NONBLOCK;
        if copy >= 0 { copy } else { libc::open(c"/proc/self/fd/2".as_ptr(), flags) }
    }
}
