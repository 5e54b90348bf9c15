//! Where a thread was: the stacks and the system call that a sample tells of. Samples are kept as they are, and read
//! when they turn out to belong to something that is told.

use lock_trace::events::{Contents, NO_FRAMES, Sample, USER_FRAMES};

use super::calls::KernelCalls;
use crate::event::Call;

/// What samples of tracepoints hold that tell a place.
pub(super) const CONTENTS: Contents = Contents { fields: true, callchain: true, registers: ARGUMENTS, stack_bytes: 8 };
/// The same of others.
pub(super) const CONTENTS_ONLY: Contents = Contents { fields: false, ..CONTENTS };

/// The registers of a system call's arguments, of asm/perf_regs.h: DX, SI, DI, R8, R9, R10.
#[cfg(target_arch = "x86_64")]
const ARGUMENTS: u64 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 17 | 1 << 18;
/// In the order of the arguments.
#[cfg(target_arch = "x86_64")]
const ORDER: [usize; 6] = [2, 1, 0, 5, 3, 4];

/// The registers of a system call's arguments, of asm/perf_regs.h: X0 to X5.
#[cfg(target_arch = "aarch64")]
const ARGUMENTS: u64 = 0x3f;
/// In the order of the arguments.
#[cfg(target_arch = "aarch64")]
const ORDER: [usize; 6] = [0, 1, 2, 3, 4, 5];

/// Where a thread was.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    pub(super) call: Option<Call>,
    pub(super) kernel: Vec<u64>,
    pub(super) user: Vec<u64>,
    pub(super) top_word: u64,
}

/// What a sample with one of these contents tells.
pub(super) fn read(record: &[u8], contents: Contents, calls: &KernelCalls) -> Option<Place> {
    let sample = Sample::parse(record, |_| Some(contents))?;
    let (mut kernel, mut user, mut in_program) = (Vec::new(), Vec::new(), false);
    for frame in sample.callchain() {
        if frame >= NO_FRAMES {
            in_program = frame == USER_FRAMES;
        } else if in_program {
            user.push(frame);
        } else {
            kernel.push(frame);
        }
    }
    let registers: Option<Vec<u64>> = sample.registers().map(Iterator::collect);
    let arguments = registers.filter(|registers| registers.len() == ORDER.len());
    let arguments = arguments.map(|registers| ORDER.map(|at| registers[at]));
    let call = calls.of(&kernel).zip(arguments).map(|(number, arguments)| Call { number, arguments });
    Some(Place { call, kernel, user, top_word: sample.stack().next().unwrap_or(0) })
}
