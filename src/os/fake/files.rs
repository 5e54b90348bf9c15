//! The files of the fake kernel: texts by path, a count of reads, triggers that fire on demand. Called by `fake`.

extern crate std;

use core::ffi::CStr;
use core::num::NonZeroI32;
use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::string::String;
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

use crate::os::OsError;

/// The fake files.
pub(crate) struct FakeFiles {
    state: Mutex<State>,
}

struct State {
    texts: BTreeMap<String, Vec<u8>>,
    open: BTreeMap<i32, Open>,
    fd_next: i32,
    opens: usize,
    /// Most bytes that one read gives.
    read_bytes_max: usize,
    /// Whether pressure files take triggers.
    triggers_permitted: bool,
    /// Whether the triggers have fired since someone looked.
    fired: bool,
}

struct Open {
    text: Vec<u8>,
    position: usize,
    /// Whether it is a trigger whose file is still there.
    trigger: bool,
}

fn error(number: i32) -> OsError {
    OsError(NonZeroI32::new(number).unwrap())
}

impl FakeFiles {
    /// No files, and no triggers permitted.
    pub(super) fn new() -> Self {
        FakeFiles {
            state: Mutex::new(State {
                texts: BTreeMap::new(),
                open: BTreeMap::new(),
                fd_next: 1000,
                opens: 0,
                read_bytes_max: usize::MAX,
                triggers_permitted: false,
                fired: false,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Has the file `path` hold `text` from now on.
    pub(crate) fn set(&self, path: &str, text: impl AsRef<[u8]>) {
        self.state().texts.insert(path.to_owned(), text.as_ref().to_owned());
    }

    /// Removes the files whose path starts with `start`.
    pub(crate) fn remove(&self, start: &str) {
        self.state().texts.retain(|path, _| !path.starts_with(start));
    }

    /// Has each read give at most `bytes`.
    pub(crate) fn read_at_most(&self, bytes: usize) {
        self.state().read_bytes_max = bytes;
    }

    /// How often a file was opened for reading, with and without success.
    pub(crate) fn opens(&self) -> usize {
        self.state().opens
    }

    /// Descriptors that are open.
    pub(crate) fn open_count(&self) -> usize {
        self.state().open.len()
    }

    /// Has pressure files take triggers from now on, or refuse them.
    pub(crate) fn permit_triggers(&self, permitted: bool) {
        self.state().triggers_permitted = permitted;
    }

    /// Has the triggers fire once.
    pub(crate) fn fire(&self) {
        self.state().fired = true;
    }

    /// Has the open triggers fail, as if their cgroup were gone.
    pub(crate) fn break_triggers(&self) {
        self.state().open.values_mut().for_each(|open| open.trigger = false);
    }

    pub(super) fn open(&self, path: &CStr) -> Result<i32, OsError> {
        let mut state = self.state();
        state.opens += 1;
        state.open(path, false)
    }

    pub(super) fn read(&self, fd: i32, buffer: &mut [u8]) -> Result<usize, OsError> {
        let mut state = self.state();
        let most = state.read_bytes_max.min(buffer.len());
        let open = state.open.get_mut(&fd).ok_or(error(libc::EBADF))?;
        let rest = &open.text[open.position..];
        let bytes = rest.len().min(most);
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        open.position += bytes;
        Ok(bytes)
    }

    pub(super) fn close(&self, fd: i32) {
        self.state().open.remove(&fd).expect("only open descriptors are closed");
    }

    pub(super) fn open_trigger(&self, path: &CStr, text: &[u8]) -> Result<i32, OsError> {
        let mut state = self.state();
        if !state.triggers_permitted {
            return Err(error(libc::EPERM));
        }
        assert_eq!(text.last(), Some(&0), "the kernel replaces the last byte by NUL");
        state.open(path, true)
    }

    pub(super) fn trigger_fired(&self, fd: i32) -> Result<bool, OsError> {
        let mut state = self.state();
        let open = state.open.get(&fd).ok_or(error(libc::EBADF))?;
        if !open.trigger {
            return Err(error(libc::ENODEV));
        }
        Ok(core::mem::take(&mut state.fired))
    }
}

impl State {
    fn open(&mut self, path: &CStr, trigger: bool) -> Result<i32, OsError> {
        let path = path.to_str().expect("paths in tests are text");
        let text = self.texts.get(path).ok_or(error(libc::ENOENT))?.clone();
        let fd = self.fd_next;
        self.fd_next += 1;
        self.open.insert(fd, Open { text, position: 0, trigger });
        Ok(fd)
    }
}
