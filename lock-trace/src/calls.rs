//! The system calls that can take mmap_lock, by number and name, and how many bytes each asks for. `kernel` asks the
//! kernel for these only; the assembler names them.

/// A system call that is traced.
pub(crate) struct Call {
    pub(crate) number: i64,
    pub(crate) name: &'static str,
    size: Size,
}

/// Where the arguments of a call say how much it is about.
enum Size {
    /// They do not.
    Untold,
    /// Bytes, in this argument.
    Bytes(usize),
    /// Bytes, in the larger one of these two arguments.
    Larger(usize, usize),
    /// A number of ranges in this argument; their bytes are in the caller's memory, which a trace does not read.
    Ranges(usize),
}

impl Call {
    /// The bytes that the call is about, if its arguments say so.
    pub(crate) fn bytes(&self, args: &[u64; 6]) -> Option<u64> {
        match self.size {
            Size::Bytes(at) => Some(args[at]),
            Size::Larger(one, other) => Some(args[one].max(args[other])),
            Size::Ranges(at) if args[at] == 0 => Some(0),
            Size::Untold | Size::Ranges(_) => None,
        }
    }
}

/// The traced call with this number.
pub(crate) fn find(number: i64) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.number == number)
}

/// The name of a system call, as in its manual page.
pub(crate) fn name(number: i64) -> String {
    find(number).map_or_else(|| format!("call {number}"), |call| call.name.to_owned())
}

/// Declares the table; the numbers come from libc, which has those of the architecture.
macro_rules! calls {
    ($($(#[$condition:meta])* $name:literal $number:ident $size:expr;)*) => {
        pub(crate) const CALLS: &[Call] = &[
            $($(#[$condition])* Call { number: libc::$number, name: $name, size: $size },)*
        ];
    };
}

calls! {
    "mmap" SYS_mmap Size::Bytes(1);
    "munmap" SYS_munmap Size::Bytes(1);
    "mremap" SYS_mremap Size::Larger(1, 2);
    "mprotect" SYS_mprotect Size::Bytes(1);
    "pkey_mprotect" SYS_pkey_mprotect Size::Bytes(1);
    "madvise" SYS_madvise Size::Bytes(1);
    "process_madvise" SYS_process_madvise Size::Ranges(2);
    "process_mrelease" SYS_process_mrelease Size::Untold;
    "brk" SYS_brk Size::Untold;
    "mlock" SYS_mlock Size::Bytes(1);
    "mlock2" SYS_mlock2 Size::Bytes(1);
    "munlock" SYS_munlock Size::Bytes(1);
    "mlockall" SYS_mlockall Size::Untold;
    "munlockall" SYS_munlockall Size::Untold;
    "msync" SYS_msync Size::Bytes(1);
    "mincore" SYS_mincore Size::Bytes(1);
    "mbind" SYS_mbind Size::Bytes(1);
    "set_mempolicy_home_node" SYS_set_mempolicy_home_node Size::Bytes(1);
    "move_pages" SYS_move_pages Size::Untold;
    "migrate_pages" SYS_migrate_pages Size::Untold;
    "remap_file_pages" SYS_remap_file_pages Size::Bytes(1);
    "shmat" SYS_shmat Size::Untold;
    "shmdt" SYS_shmdt Size::Untold;
    "clone" SYS_clone Size::Untold;
    "clone3" SYS_clone3 Size::Untold;
    #[cfg(target_arch = "x86_64")]
    "fork" SYS_fork Size::Untold;
    #[cfg(target_arch = "x86_64")]
    "vfork" SYS_vfork Size::Untold;
    "execve" SYS_execve Size::Untold;
    "execveat" SYS_execveat Size::Untold;
    "exit" SYS_exit Size::Untold;
    "exit_group" SYS_exit_group Size::Untold;
    "prctl" SYS_prctl Size::Untold;
    "process_vm_readv" SYS_process_vm_readv Size::Ranges(2);
    "process_vm_writev" SYS_process_vm_writev Size::Ranges(2);
    "userfaultfd" SYS_userfaultfd Size::Untold;
    "io_setup" SYS_io_setup Size::Untold;
    "io_destroy" SYS_io_destroy Size::Untold;
    "io_uring_register" SYS_io_uring_register Size::Untold;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: i64, args: [u64; 6]) -> Option<u64> {
        find(number).expect("the call is traced").bytes(&args)
    }

    #[test]
    fn each_call_is_there_once() {
        let mut numbers: Vec<i64> = CALLS.iter().map(|call| call.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), CALLS.len());
    }

    #[test]
    fn bytes_come_from_the_arguments() {
        assert_eq!(bytes(libc::SYS_munmap, [0x1000, 8192, 0, 0, 0, 0]), Some(8192));
        assert_eq!(bytes(libc::SYS_mremap, [0x1000, 8192, 4096, 0, 0, 0]), Some(8192));
        assert_eq!(bytes(libc::SYS_brk, [0x1000, 8192, 0, 0, 0, 0]), None);
        assert_eq!(bytes(libc::SYS_process_madvise, [3, 0x1000, 2, 4, 0, 0]), None);
        assert_eq!(bytes(libc::SYS_process_madvise, [3, 0, 0, 4, 0, 0]), Some(0));
    }

    #[test]
    fn a_call_that_is_not_in_the_table_is_named_by_its_number() {
        assert_eq!(name(libc::SYS_munmap), "munmap");
        assert_eq!(name(100_000), "call 100000");
    }
}
