//! Files by bare system calls: no buffer, no allocation. Called by `linux`.
//!
//! Invariant: every descriptor is close-on-exec from the moment it exists, and a signal never ends a call early. What
//! threads of the program call here is no cancellation point, as the C library's functions of these names are: a thread
//! that is cancelled must not leave the allocator half-way.

use core::ffi::CStr;

use super::linux::{from_number, last_error};
use super::{Os, OsError};

/// Repeats `call` while signals interrupt it.
fn retried<T: PartialOrd + From<i8>>(call: impl Fn() -> T) -> Result<T, OsError> {
    loop {
        let result = call();
        if result >= T::from(0) {
            return Ok(result);
        }
        let error = last_error();
        if error.0.get() != libc::EINTR {
            return Err(error);
        }
    }
}

/// open(2).
pub(super) fn open(path: &CStr, flags: i32) -> Result<i32, OsError> {
    // SAFETY: the path is a live C string.
    let opened =
        retried(|| unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC) });
    opened.map(|fd| fd as i32)
}

/// read(2).
pub(super) fn read(fd: i32, buffer: &mut [u8]) -> Result<usize, OsError> {
    let (start, bytes) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the buffer is live and ours to write for so many bytes.
    let result = retried(|| unsafe { libc::syscall(libc::SYS_read, fd, start, bytes) });
    result.map(|count| count.unsigned_abs() as usize)
}

/// One word of a file of words, by pread(2).
pub(super) fn read_word(fd: i32, index: u64) -> Result<u64, OsError> {
    let mut word = 0_u64;
    let place = &raw mut word;
    // SAFETY: the word is live and ours to write.
    let read = retried(|| unsafe { libc::syscall(libc::SYS_pread64, fd, place, 8, index * 8) })?;
    if read == 8 { Ok(word) } else { Err(from_number(libc::EIO)) }
}

/// Reads until the end of the file or of the buffer; gives the count of bytes.
pub(super) fn fill<O: Os + ?Sized>(os: &O, fd: i32, buffer: &mut [u8]) -> Result<usize, OsError> {
    let mut filled = 0;
    loop {
        let space = buffer.get_mut(filled..).unwrap_or_default();
        if space.is_empty() {
            return Ok(filled);
        }
        match os.read(fd, space)? {
            0 => return Ok(filled),
            bytes => filled += bytes,
        }
    }
}

/// close(2). Linux has closed it whatever it says.
pub(super) fn close(fd: i32) {
    // SAFETY: the descriptor is ours, by the caller's promise; nothing refers to it any more.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// See [`Os::open_trigger`].
pub(super) fn open_trigger(path: &CStr, text: &[u8]) -> Result<i32, OsError> {
    let fd = open(path, libc::O_RDWR | libc::O_NONBLOCK)?;
    // SAFETY: writes a live buffer to a descriptor of ours.
    match retried(|| unsafe { libc::syscall(libc::SYS_write, fd, text.as_ptr(), text.len()) }) {
        Ok(_) => Ok(fd),
        Err(error) => {
            close(fd);
            Err(error)
        }
    }
}

/// Whether the descriptor has an event of priority (`POLLPRI`); does not wait.
pub(super) fn has_priority_event(fd: i32) -> Result<bool, OsError> {
    let mut entry = libc::pollfd { fd, events: libc::POLLPRI, revents: 0 };
    let place = &raw mut entry;
    let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let (time, no_mask) = (&raw const no_time, core::ptr::null::<libc::sigset_t>());
    // SAFETY: ppoll(2) writes the one live entry, reads the live time and returns at once.
    retried(|| unsafe { libc::syscall(libc::SYS_ppoll, place, 1, time, no_mask, 0_usize) })?;
    match entry.revents {
        gone if gone & libc::POLLNVAL != 0 => Err(from_number(libc::EBADF)),
        broken if broken & libc::POLLERR != 0 => Err(from_number(libc::ENODEV)),
        events => Ok(events & libc::POLLPRI != 0),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::ffi::CString;
    use std::string::String;

    use test_support::skip;

    use super::*;
    use crate::os::Linux;

    #[test]
    fn a_file_is_read_from_its_start_as_far_as_it_fits() {
        let path = std::env::temp_dir().join(std::format!("antifreeze-files-{}", std::process::id()));
        std::fs::write(&path, "0123456789").unwrap();
        let name = CString::new(path.to_str().unwrap()).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(Linux.read_file(&name, &mut buffer), Ok(&b"0123456789"[..]));
        assert_eq!(Linux.read_file(&name, &mut buffer[..4]), Ok(&b"0123"[..]));
        assert_eq!(Linux.read_file(&name, &mut []), Ok(&b""[..]));
        std::fs::remove_file(&path).unwrap();
        let missing = Linux.read_file(&name, &mut buffer).unwrap_err();
        assert_eq!(missing.0.get(), libc::ENOENT);
    }

    #[test]
    fn descriptors_are_close_on_exec() {
        let fd = Linux.open(c"/proc/self/stat").unwrap();
        // SAFETY: reads the flags of an open descriptor.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) } & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        Linux.close(fd);
    }

    #[test]
    fn a_prepared_thread_shares_no_descriptor_with_the_others() {
        let shared = std::fs::File::open("/proc/self/stat").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&shared);
        let prepared = std::thread::spawn(move || {
            let own_table = Linux.prepare_thread();
            let fd = Linux.open(c"/proc/self/stat").unwrap();
            (own_table, fd, Linux.read(number, &mut [0; 8]).map_err(|error| error.0.get()))
        });
        let (own_table, fd, read) = prepared.join().unwrap();
        if !own_table {
            skip("the kernel gives a thread no table of its own");
            return;
        }
        // Its first descriptor may be the very number of the other.
        assert!(fd == 0 && (number == 0 || read == Err(libc::EBADF)), "{fd} {read:?}");
        assert!(Linux.read(number, &mut [0; 8]).is_ok(), "the others keep theirs");
    }

    #[test]
    fn what_is_no_trigger_is_an_error() {
        assert_eq!(Linux.trigger_fired(i32::MAX).unwrap_err().0.get(), libc::EBADF);
        let missing = Linux.open_trigger(c"/proc/pressure/nothing", b"some 100000 1000000\0").unwrap_err();
        assert!([libc::ENOENT, libc::ENOTDIR].contains(&missing.0.get()), "{missing:?}");
        let Ok(fd) = Linux.open(c"/proc/pressure/memory") else {
            skip("the kernel does not measure pressure");
            return;
        };
        let fired = Linux.trigger_fired(fd);
        Linux.close(fd);
        assert_eq!(fired.unwrap_err().0.get(), libc::ENODEV, "a pressure file without a trigger");
    }

    #[test]
    fn a_trigger_is_quiet_and_close_on_exec() {
        // Windows of two seconds need no privilege on newer kernels.
        let fd = match Linux.open_trigger(c"/proc/pressure/memory", b"some 1900000 2000000\0") {
            Ok(fd) => fd,
            Err(error) => {
                skip(format_args!("triggers are refused: {error:?}"));
                return;
            }
        };
        assert_eq!(Linux.trigger_fired(fd), Ok(false));
        // SAFETY: reads the flags of an open descriptor.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) } & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        Linux.close(fd);
    }

    #[test]
    fn the_kernel_tells_its_release_and_limits() {
        let mut buffer = [0; crate::os::RELEASE_BYTES];
        let release = Linux.kernel_release(&mut buffer);
        let known = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(String::from_utf8_lossy(release), known.trim());
        let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK).unwrap();
        assert!(Linux.limit(crate::os::Limit::Locked).is_none_or(|bytes| bytes <= hard));
    }
}
