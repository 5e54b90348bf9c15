//! The structs that the BPF programs and this process share. Must be as in `bpf/freeze_trap.bpf.c`; a test compares the
//! sizes with the types that the object names.

use crate::event::{Call, Interval, Kind, Sleep, Thread, Waker};
use crate::stack::{StackId, StackPair, Stacks};
use crate::symbols::unwind::{Top, Unwinder};
use lock_trace::Mode;

const KERNEL_FRAMES: usize = 32;
const USER_FRAMES: usize = 64;
const WAKER_KERNEL_FRAMES: usize = 16;
const WAKER_USER_FRAMES: usize = 32;
const COMM_BYTES: usize = 16;
const WORDS: usize = 128;
pub(super) const BUCKETS: usize = 48;

const KIND_OFF_CPU: u32 = 1;
const KIND_HOLD: u32 = 2;
const KIND_WAIT: u32 = 3;
const FLAG_WRITE: u32 = 1;
/// The call of a thread that is in none.
const NO_CALL: u64 = u64::MAX;

/// `struct top`.
#[derive(Clone, Copy)]
#[repr(C)]
struct WireTop {
    ip: u64,
    sp: u64,
    bp: u64,
    words_bytes: u64,
    words: [u64; WORDS],
}

/// `struct moment`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Moment {
    kind: u32,
    flags: u32,
    pid: u32,
    tid: u32,
    owner: u32,
    state: u32,
    pub(super) start_ns: u64,
    end_ns: u64,
    call: u64,
    arguments: [u64; 6],
    comm: [u8; COMM_BYTES],
    kernel_bytes: u32,
    user_bytes: u32,
    kernel: [u64; KERNEL_FRAMES],
    user: [u64; USER_FRAMES],
    top: WireTop,
}

/// `struct waker`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct WireWaker {
    pid: u32,
    tid: u32,
    at_ns: u64,
    comm: [u8; COMM_BYTES],
    kernel_bytes: u32,
    user_bytes: u32,
    kernel: [u64; WAKER_KERNEL_FRAMES],
    user: [u64; WAKER_USER_FRAMES],
    top: WireTop,
}

/// `struct off_cpu`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct OffCpu {
    pub(super) moment: Moment,
    waker: WireWaker,
}

/// `struct target`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Target {
    space: u64,
    over: u64,
}

/// `struct lock`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Lock {
    wait_ns: u64,
    hold_ns: u64,
    wait_write: u32,
    hold_write: u32,
    owner: u32,
    pid: u32,
    comm: [u8; COMM_BYTES],
}

/// `struct lock_key`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub(super) struct LockKey {
    space: u64,
    tid: u64,
}

/// `struct counts`.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug, PartialEq))]
#[repr(C)]
pub(super) struct Counts {
    pub(super) holds: [[u64; BUCKETS]; 2],
    pub(super) waits: [[u64; BUCKETS]; 2],
    pub(super) hold_ns: [u64; 2],
    pub(super) wait_ns: [u64; 2],
    pub(super) switches: u64,
    pub(super) off_cpu_ns: [u64; 4],
    pub(super) lost_records: u64,
    pub(super) lost_threads: u64,
}

// SAFETY: all are plain numbers in the C layout without padding, so that any bytes are a value.
unsafe impl aya::Pod for OffCpu {}
// SAFETY: as above.
unsafe impl aya::Pod for Target {}
// SAFETY: as above.
unsafe impl aya::Pod for Lock {}
// SAFETY: as above.
unsafe impl aya::Pod for LockKey {}
// SAFETY: as above.
unsafe impl aya::Pod for Counts {}

fn name(comm: &[u8; COMM_BYTES]) -> String {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(COMM_BYTES);
    String::from_utf8_lossy(&comm[..end]).into_owned()
}

/// The addresses of which the kernel wrote so many bytes.
fn frames(addresses: &[u64], bytes: u32) -> &[u64] {
    &addresses[..(bytes as usize / size_of::<u64>()).min(addresses.len())]
}

/// Why a thread is off the processor whose state the scheduler gives so.
pub(super) fn sleep_of(state: u32) -> Sleep {
    match state {
        0 => Sleep::Runnable,
        state if state & 1 != 0 => Sleep::Interruptible,
        state if state & 2 != 0 => Sleep::Uninterruptible,
        _ => Sleep::Other,
    }
}

/// What is needed to understand a record.
pub(super) struct Reader<'a> {
    pub(super) stacks: &'a mut Stacks,
    pub(super) unwinder: &'a mut Unwinder,
}

impl Reader<'_> {
    fn user(&mut self, pid: i32, by_frame_pointer: &[u64], top: &WireTop) -> Option<StackId> {
        let words = frames(&top.words, top.words_bytes as u32);
        let chain = self.unwinder.walk(pid, &Top { ip: top.ip, sp: top.sp, bp: top.bp, words }, by_frame_pointer);
        match chain {
            Some(chain) => self.stacks.intern(pid, chain, 0),
            None => self.stacks.intern(pid, by_frame_pointer, words.first().copied().unwrap_or(0)),
        }
    }
}

/// One record of the ring; `None` for one that is not as long as any should be.
pub(super) fn interval(record: &[u8], reader: &mut Reader) -> Option<Interval> {
    if record.len() == size_of::<OffCpu>() {
        // SAFETY: as long as the struct, for which any bytes are a value.
        let off_cpu: OffCpu = unsafe { record.as_ptr().cast::<OffCpu>().read_unaligned() };
        return Some(off_cpu.interval(reader));
    }
    if record.len() == size_of::<Moment>() {
        // SAFETY: as above.
        let moment: Moment = unsafe { record.as_ptr().cast::<Moment>().read_unaligned() };
        let mode = if moment.flags & FLAG_WRITE != 0 { Mode::Write } else { Mode::Read };
        let kind = match moment.kind {
            KIND_OFF_CPU => Kind::OffCpu { sleep: sleep_of(moment.state), waker: None },
            KIND_HOLD => Kind::Hold { mode },
            KIND_WAIT => Kind::Wait { mode },
            _ => return None,
        };
        return Some(moment.interval(kind, reader));
    }
    None
}

impl Moment {
    fn interval(&self, kind: Kind, reader: &mut Reader) -> Interval {
        let pid = self.pid as i32;
        let stack = StackPair {
            kernel: reader.stacks.intern(0, frames(&self.kernel, self.kernel_bytes), 0),
            user: reader.user(pid, frames(&self.user, self.user_bytes), &self.top),
        };
        let call = (self.call != NO_CALL).then_some(Call { number: self.call, arguments: self.arguments });
        Interval {
            kind,
            thread: Thread { pid, tid: self.tid as i32, name: name(&self.comm) },
            owner_pid: self.owner as i32,
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            unfinished: false,
            call,
            stack,
        }
    }
}

impl OffCpu {
    pub(super) fn pid(&self) -> u32 {
        self.moment.pid
    }

    fn interval(&self, reader: &mut Reader) -> Interval {
        let waker = (self.waker.at_ns != 0).then(|| self.waker.told(reader));
        let kind = Kind::OffCpu { sleep: sleep_of(self.moment.state), waker };
        self.moment.interval(kind, reader)
    }

    /// The same of one that is not over at `now_ns`; `None` if the thread is on a processor.
    pub(super) fn unfinished(&self, now_ns: u64, reader: &mut Reader) -> Option<Interval> {
        let is_off = self.moment.kind == KIND_OFF_CPU && self.moment.start_ns != 0;
        is_off.then(|| Interval { end_ns: now_ns, unfinished: true, ..self.interval(reader) })
    }
}

impl WireWaker {
    fn told(&self, reader: &mut Reader) -> Waker {
        let pid = self.pid as i32;
        Waker {
            thread: Thread { pid, tid: self.tid as i32, name: name(&self.comm) },
            at_ns: self.at_ns,
            stack: StackPair {
                kernel: reader.stacks.intern(0, frames(&self.kernel, self.kernel_bytes), 0),
                user: reader.user(pid, frames(&self.user, self.user_bytes), &self.top),
            },
        }
    }
}

impl LockKey {
    pub(super) fn tid(&self) -> u32 {
        self.tid as u32
    }
}

impl Target {
    pub(super) fn is_over(&self) -> bool {
        self.over != 0
    }
}

impl Counts {
    /// Nothing.
    pub(super) const ZERO: Counts = Counts {
        holds: [[0; BUCKETS]; 2],
        waits: [[0; BUCKETS]; 2],
        hold_ns: [0; 2],
        wait_ns: [0; 2],
        switches: 0,
        off_cpu_ns: [0; 4],
        lost_records: 0,
        lost_threads: 0,
    };

    /// Adds what another processor has counted.
    pub(super) fn add(&mut self, other: &Counts) {
        let pairs = [(&mut self.holds, &other.holds), (&mut self.waits, &other.waits)];
        for (sum, count) in pairs.into_iter().flat_map(|(sums, counts)| sums.iter_mut().zip(counts)) {
            add(sum, count);
        }
        add(&mut self.hold_ns, &other.hold_ns);
        add(&mut self.wait_ns, &other.wait_ns);
        add(&mut self.off_cpu_ns, &other.off_cpu_ns);
        self.switches += other.switches;
        self.lost_records += other.lost_records;
        self.lost_threads += other.lost_threads;
    }
}

fn add(sums: &mut [u64], counts: &[u64]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

impl Lock {
    pub(super) fn owner(&self) -> u32 {
        self.owner
    }

    /// What the thread is doing to the lock at `now_ns`: a hold, a wait, or both, for another lock than it holds. The
    /// stack is where the thread last left the processor, if that is known.
    pub(super) fn unfinished(
        &self,
        tid: u32,
        now_ns: u64,
        off_cpu: Option<&Interval>,
    ) -> impl Iterator<Item = Interval> {
        let mode = |write: u32| if write & 1 != 0 { Mode::Write } else { Mode::Read };
        let thread = Thread { pid: self.pid as i32, tid: tid as i32, name: name(&self.comm) };
        let (call, stack) = off_cpu.map_or((None, StackPair::default()), |off| (off.call, off.stack));
        let owner_pid = self.owner as i32;
        let one = move |kind, start_ns| Interval {
            kind,
            thread: thread.clone(),
            owner_pid,
            start_ns,
            end_ns: now_ns,
            unfinished: true,
            call,
            stack,
        };
        let hold = (self.hold_ns != 0).then(|| one(Kind::Hold { mode: mode(self.hold_write) }, self.hold_ns));
        let wait = (self.wait_ns != 0).then(|| one(Kind::Wait { mode: mode(self.wait_write) }, self.wait_ns));
        hold.into_iter().chain(wait)
    }
}
