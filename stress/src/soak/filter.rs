//! The seccomp filter: which system calls the kernel hands to the supervisor before it makes them.
//!
//! Installing it needs no privilege, but cannot be undone: it stays for the life of the process and is inherited by its
//! children.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF,
    seccomp_data, sock_filter, sock_fprog,
};

/// The machine as the kernel names it to filters (`linux/audit.h`): numbers of system calls mean something with it
/// only.
#[cfg(target_arch = "x86_64")]
const MACHINE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const MACHINE: u32 = 0xc000_00b7;

/// A system call that an allocator makes and that may fail. `munmap` is not among them: no allocator gets over that,
/// and the kernel refuses it only when a mapping must be split and cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `mmap` of anonymous memory.
    Mmap,
    /// `mprotect`.
    Mprotect,
    /// `madvise`.
    Madvise,
    /// `mremap`.
    Mremap,
    /// `clone` and `clone3`: threads and forks.
    Clone,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Mmap, Self::Mprotect, Self::Madvise, Self::Mremap, Self::Clone];

    /// Which call a number means.
    pub fn of_number(number: libc::c_long) -> Option<Self> {
        Some(match number {
            libc::SYS_mmap => Self::Mmap,
            libc::SYS_mprotect => Self::Mprotect,
            libc::SYS_madvise => Self::Madvise,
            libc::SYS_mremap => Self::Mremap,
            libc::SYS_clone | libc::SYS_clone3 => Self::Clone,
            _ => return None,
        })
    }
}

/// Installs the filter for all threads of the process. Through the descriptor the supervisor hears of the calls.
pub fn install() -> io::Result<OwnedFd> {
    nix::sys::prctl::set_no_new_privs()?;
    let mut program = program();
    let length = program.len() as libc::c_ushort;
    let program = sock_fprog { len: length, filter: program.as_mut_ptr() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        | libc::SECCOMP_FILTER_FLAG_TSYNC
        | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    // SAFETY: the kernel copies the program during the call.
    let listener =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(listener as i32) })
}

const INSTRUCTIONS: usize = 13;
/// The last two instructions: where the others jump to.
const ALLOW: usize = INSTRUCTIONS - 2;
const NOTIFY: usize = INSTRUCTIONS - 1;

fn program() -> [sock_filter; INSTRUCTIONS] {
    let load = |offset: usize| statement(BPF_LD | BPF_W | BPF_ABS, offset as u32);
    // Goes on at `to` if the value that was loaded is this number, and at the next instruction otherwise.
    let is = |at: usize, number: libc::c_long, to: usize| jump(BPF_JEQ, number as u32, to - at - 1, 0);
    // On these machines, which are little-endian, the lower half of an argument comes first.
    let flags_of_mmap = std::mem::offset_of!(seccomp_data, args) + 3 * size_of::<u64>();
    [
        load(std::mem::offset_of!(seccomp_data, arch)),
        jump(BPF_JEQ, MACHINE, 0, ALLOW - 2),
        load(std::mem::offset_of!(seccomp_data, nr)),
        is(3, libc::SYS_mprotect, NOTIFY),
        is(4, libc::SYS_madvise, NOTIFY),
        is(5, libc::SYS_mremap, NOTIFY),
        is(6, libc::SYS_clone, NOTIFY),
        is(7, libc::SYS_clone3, NOTIFY),
        jump(BPF_JEQ, libc::SYS_mmap as u32, 0, ALLOW - 9),
        load(flags_of_mmap),
        // Mappings of files are a loader's, not an allocator's.
        jump(BPF_JSET, libc::MAP_ANONYMOUS as u32, NOTIFY - 11, ALLOW - 11),
        statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        statement(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    ]
}

fn statement(code: u32, operand: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k: operand }
}

/// Skips `then` instructions if the test holds, and `otherwise` instructions if not.
fn jump(test: u32, operand: u32, then: usize, otherwise: usize) -> sock_filter {
    let code = (BPF_JMP | test | BPF_K) as u16;
    sock_filter { code, jt: then as u8, jf: otherwise as u8, k: operand }
}
