//! The numbers and formats of tracepoints, from tracefs. `mod` asks for them before a trace begins.
//!
//! Where tracefs is not mounted, a mount is made that no path leads to: it is reached through a file descriptor only,
//! is visible to nobody else, and ends with the descriptor, also when the program is killed.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::kernel::format::Format;
use crate::unavailable::Missing;

/// Where tracefs is mounted usually.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// An open tracefs.
#[derive(Debug)]
pub struct Tracefs {
    root: PathBuf,
    /// Keeps a mount of our own.
    _mount: Option<OwnedFd>,
}

impl Tracefs {
    /// Opens it where it is mounted, or makes a mount that nobody else sees.
    ///
    /// # Errors
    /// It may not be read, nor mounted.
    pub fn open() -> Result<Tracefs, Missing> {
        let mut why = None;
        for place in PLACES {
            match fs::read_dir(Path::new(place).join("events")) {
                Ok(_) => return Ok(Tracefs { root: PathBuf::from(place), _mount: None }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => why = Some(format!("{place}: {error}")),
            }
        }
        let mount = mount_detached().map_err(|error| {
            let why = why.unwrap_or_else(|| format!("it is not mounted, and cannot be mounted: {error}"));
            Missing::Tracefs { why }
        })?;
        let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        Ok(Tracefs { root, _mount: Some(mount) })
    }

    /// The format of a tracepoint, such as `mmap_lock/mmap_lock_released`.
    ///
    /// # Errors
    /// The kernel has no such tracepoint, or its format cannot be read.
    pub fn format(&self, name: &str) -> Result<Format, Missing> {
        let missing = |why: String| Missing::Tracepoint { name: name.to_owned(), why };
        let text = fs::read_to_string(self.root.join("events").join(name).join("format"));
        match text {
            Ok(text) => Format::parse(&text).ok_or_else(|| missing(String::from("its format cannot be understood"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(error.to_string())),
            Err(error) => Err(Missing::Tracefs { why: format!("{name}: {error}") }),
        }
    }
}

/// Makes a tracefs mount that is attached to no path.
fn mount_detached() -> io::Result<OwnedFd> {
    const CREATE: libc::c_uint = 6; // FSCONFIG_CMD_CREATE of linux/mount.h
    const CLOSE_ON_EXEC: libc::c_uint = 1; // FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
    let kind: &CStr = c"tracefs";
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: the name is a C string, and fsopen(2) keeps no pointer to it.
    let context = unsafe { owned(libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOSE_ON_EXEC)) }?;
    // SAFETY: this command takes no key and no value.
    let created = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, null, null, 0) };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fsmount(2) takes numbers only.
    unsafe { owned(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOSE_ON_EXEC, 0)) }
}

/// The descriptor that a system call gave, or its error.
///
/// # Safety
/// `result` is that of a call that gives a new descriptor.
unsafe fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = libc::c_int::try_from(result).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
