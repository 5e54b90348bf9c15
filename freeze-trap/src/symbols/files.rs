//! Files that the watched processes name: those with their code, and the names of code that they make. Whoever is
//! watched decides what is at such a path. Called by `maps`, `tables`, `perf_map` and `symbols`.
//!
//! Invariant: nothing but a regular file is opened for reading, so that no pipe and no device is waited for or touched.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Whether the last part of a path may be a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    Followed,
    Refused,
}

/// A handle on the regular file at a path, which is not open for reading. It outlives the path.
/// # Errors
/// There is none, or something else is there (`InvalidInput`).
pub(super) fn find(path: &Path, links: Links) -> io::Result<File> {
    let link_flag = if links == Links::Refused { libc::O_NOFOLLOW } else { 0 };
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | link_flag).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok(file)
}

/// Where the file of a handle is found as long as the handle lives, whatever is at its path by then.
pub(super) fn path_of(handle: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// Opens what a handle is on, for reading.
/// # Errors
/// It may not be read.
pub(super) fn open(handle: &File) -> io::Result<File> {
    // Not even a lease that somebody has on the file is waited for.
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path_of(handle))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn only_regular_files_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, pipe) = (dir.path().join("file"), dir.path().join("link"), dir.path().join("pipe"));
        std::fs::write(&file, "text").unwrap();
        symlink(&file, &link).unwrap();
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        assert!(find(&file, Links::Refused).is_ok() && find(&link, Links::Followed).is_ok());
        for (path, links) in
            [(&link, Links::Refused), (&pipe, Links::Followed), (&PathBuf::from("/dev/null"), Links::Followed)]
        {
            assert_eq!(find(path, links).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{}", path.display());
        }
        assert_eq!(find(&dir.path().join("none"), Links::Followed).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_handle_outlives_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "before").unwrap();
        let handle = find(&path, Links::Followed).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "after").unwrap();
        let mut text = String::new();
        open(&handle).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "before");
    }
}
