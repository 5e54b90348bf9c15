//! What a thread was doing when it asked for mmap_lock. The assembler finds it out from the last system call that the
//! thread entered and from the context of the attempt.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::calls;
use crate::event::Context;

/// What a thread was doing when it asked for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Activity {
    /// One of the traced system calls.
    Call {
        /// Its number on this architecture.
        number: i64,
        /// How many bytes it is about, if its arguments say so.
        bytes: Option<u64>,
    },
    /// Another system call, for example a read(2) from a file of /proc, or one that copies to memory not yet there.
    OtherCall,
    /// A page fault, or another exception.
    Fault,
    /// Work of the kernel itself, for example by khugepaged.
    Kernel,
    /// Not in a traced system call; the source cannot tell more.
    Unknown,
}

impl Activity {
    /// The activity of a thread that is in the system call of this number with these arguments.
    #[must_use]
    pub fn of_call(number: i64, args: &[u64; 6]) -> Activity {
        let traced = calls::find(number);
        traced.map_or(Activity::OtherCall, |call| Activity::Call { number, bytes: call.bytes(args) })
    }

    /// The activity without the size, as rows are counted by it.
    #[must_use]
    pub fn key(&self) -> String {
        match self.without_bytes() {
            Activity::Call { number, .. } => calls::name(number),
            Activity::OtherCall => String::from("other call"),
            Activity::Fault => String::from("fault"),
            Activity::Kernel => String::from("kernel"),
            Activity::Unknown => String::from("unknown"),
        }
    }

    pub(crate) fn without_bytes(self) -> Activity {
        match self {
            Activity::Call { number, .. } => Activity::Call { number, bytes: None },
            other => other,
        }
    }
}

impl From<Context> for Activity {
    fn from(context: Context) -> Activity {
        match context {
            Context::Fault => Activity::Fault,
            Context::Call => Activity::OtherCall,
            Context::Kernel => Activity::Kernel,
            Context::Unknown => Activity::Unknown,
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.key())?;
        match self {
            Activity::Call { bytes: Some(bytes), .. } => write!(formatter, " of {}", crate::text::bytes(*bytes)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_with_its_size_if_it_is_traced() {
        let args = [0, 4096, 0, 0, 0, 0];
        assert_eq!(Activity::of_call(libc::SYS_munmap, &args).to_string(), "munmap of 4 KiB");
        assert_eq!(Activity::of_call(libc::SYS_brk, &args).to_string(), "brk");
        assert_eq!(Activity::of_call(libc::SYS_read, &args), Activity::OtherCall);
    }
}
