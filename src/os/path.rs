//! A path put together piece by piece in a fixed buffer. Called by `cgroup` and by those who read a cgroup's files.

use core::ffi::CStr;

/// Bytes of the longest path with its NUL. Container paths of Kubernetes take 200 to 250; in nested ones twice that.
const PATH_BYTES_MAX: usize = 1024;

/// A path of at most [`PATH_BYTES_MAX`] - 1 bytes. Invariant: all bytes from `length` on are zero.
pub(crate) struct PathBuffer {
    bytes: [u8; PATH_BYTES_MAX],
    length: usize,
}

impl PathBuffer {
    /// The empty path.
    pub(crate) const fn new() -> Self {
        PathBuffer { bytes: [0; PATH_BYTES_MAX], length: 0 }
    }

    /// A path of these pieces; `None` if it is too long.
    pub(crate) fn of(pieces: &[&[u8]]) -> Option<Self> {
        let mut path = Self::new();
        pieces.iter().try_for_each(|piece| path.push(piece.iter().copied()))?;
        Some(path)
    }

    /// Puts `piece` at the end; `None` if it does not fit or has a NUL, and then a part of it may be there.
    pub(crate) fn push(&mut self, piece: impl IntoIterator<Item = u8>) -> Option<()> {
        for byte in piece {
            // The last byte stays zero.
            let place = self.bytes.get_mut(self.length).filter(|_| self.length + 1 < PATH_BYTES_MAX && byte != 0)?;
            *place = byte;
            self.length += 1;
        }
        Some(())
    }

    /// Cuts the path to its first `length` bytes.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
        self.bytes.iter_mut().skip(self.length).for_each(|byte| *byte = 0);
    }

    /// The path.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The path, for the kernel.
    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_and_a_cut_leaves_nothing_behind() {
        let mut path = PathBuffer::of(&[b"/sys", b"/fs/cgroup"]).unwrap();
        assert_eq!(path.as_c_str(), c"/sys/fs/cgroup");
        path.truncate(100);
        path.truncate(7);
        assert_eq!((path.as_bytes(), path.as_c_str()), (&b"/sys/fs"[..], c"/sys/fs"));
        path.push(*b"/x").unwrap();
        assert_eq!(path.as_c_str(), c"/sys/fs/x");
        assert_eq!(PathBuffer::new().as_c_str(), c"");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = [b'a'; PATH_BYTES_MAX];
        assert!(PathBuffer::of(&[&long]).is_none());
        let most = PathBuffer::of(&[&long[1..]]).unwrap();
        assert_eq!(most.as_c_str().to_bytes().len(), PATH_BYTES_MAX - 1);
        assert!(PathBuffer::of(&[b"a\0b"]).is_none());
    }
}
