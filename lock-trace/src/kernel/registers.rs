//! What a thread's user registers tell about how it came into the kernel. `perf` asks for them, `record` reads them.
//!
//! On x86-64 the saved RAX is -ENOSYS from the entry of a system call until its result is stored, and what the program
//! left there in a fault. A program that faults with just this number in RAX is taken to be in a system call; the
//! number is only there right after a system call that does not exist.

use crate::event::Context;

/// The registers that are asked for; none where no register tells.
#[cfg(target_arch = "x86_64")]
pub(crate) const MASK: u64 = 1 << AX;
/// The registers that are asked for; none where no register tells.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const MASK: u64 = 0;

/// PERF_REG_X86_AX of asm/perf_regs.h.
#[cfg(target_arch = "x86_64")]
const AX: u32 = 0;

/// What the register says; `None` is a thread that has no user registers.
pub(crate) fn context(register: Option<u64>) -> Context {
    match register {
        None => Context::Kernel,
        Some(value) if value as i64 == -i64::from(libc::ENOSYS) => Context::Call,
        Some(_) => Context::Fault,
    }
}
