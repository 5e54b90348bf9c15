//! What an operator can ask for without code: `ANTIFREEZE_EXPLAIN=1` prints `explain()` at start,
//! `ANTIFREEZE_STATS=exit`, `=SIGUSR2` or `=exit,SIGUSR2` prints statistics at exit or on that signal.
//!
//! All on standard error, each text in one write, under a line that names the process. A program that runs set-user-ID
//! is asked nothing. The allocator starts here too, unless something before it has asked for memory.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int};
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, Ordering};

use allocator::{Stats, c_abi};

use crate::report::{Line, errno, set_errno, write};

/// Bytes of the longest text, with the line above it.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// The lowest number of the second descriptor of standard error: out of the way of programs that count on low ones.
const SECOND_DESCRIPTOR_MIN: c_int = 1000;

unsafe extern "C" {
    /// The name by which the program was called, without its directories.
    static program_invocation_short_name: *const c_char;
}

/// Where texts are put together: not on the stack, which may be small where a signal arrives.
struct Workplace {
    is_taken: AtomicBool,
    bytes: UnsafeCell<[u8; TEXT_BYTES_MAX]>,
    stats: UnsafeCell<MaybeUninit<Stats>>,
}

// SAFETY: all else is used by who has set `is_taken`.
unsafe impl Sync for Workplace {}

static WORKPLACE: Workplace = Workplace {
    is_taken: AtomicBool::new(false),
    bytes: UnsafeCell::new([0; TEXT_BYTES_MAX]),
    stats: UnsafeCell::new(MaybeUninit::zeroed()),
};

/// Standard error as it was at start, for programs that close it before they end, as those of coreutils do.
struct SecondDescriptor {
    number: c_int,
    /// Which file it is of: the program may have closed it and opened another by its number.
    file: (libc::dev_t, libc::ino_t),
}

/// Written at start, before there is another thread.
struct Second(UnsafeCell<Option<SecondDescriptor>>);

// SAFETY: it is written before there is another thread.
unsafe impl Sync for Second {}

static SECOND: Second = Second(UnsafeCell::new(None));

/// Runs when the library is loaded, before `main`.
pub(crate) extern "C" fn start() {
    // The first block starts the allocator, and the process that it finds itself in is the one whose memory it gives
    // back: that must not be a child of vfork. Before it, `explain` would only say that nothing has started.
    // SAFETY: a block that nobody uses.
    unsafe { crate::family::give_up(core::hint::black_box(crate::family::block_of(1))) };
    // Not within the first request, which the C library may make with the lock held that this takes.
    c_abi::note_forks();
    if variable(c"ANTIFREEZE_EXPLAIN").is_some_and(|value| !matches!(value.to_bytes(), b"" | b"0")) {
        show_text(b"explain", |buffer, _| allocator::explain(buffer).map_or(0, str::len));
    }
    if let Some(value) = variable(c"ANTIFREEZE_STATS") {
        value.to_bytes().split(|byte| *byte == b',').for_each(ask_for_stats);
    }
}

/// A variable of the environment; none in a program that must not listen to it.
fn variable(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: 1. Nothing else runs in the process yet that could change the environment.
    //         2. What getenv(3) gives is null or a C string.
    unsafe {
        let value = if libc::getauxval(libc::AT_SECURE) == 0 { libc::getenv(name.as_ptr()) } else { null_mut() };
        (!value.is_null()).then(|| CStr::from_ptr(value))
    }
}

fn ask_for_stats(when: &[u8]) {
    match when {
        b"exit" => show_stats_at_exit(),
        b"SIGUSR2" => show_stats_on_signal(),
        b"" => {}
        _ => {
            let mut line = Line::new();
            line.put(b"ANTIFREEZE_STATS=\"");
            line.put(when.get(..64).unwrap_or(when));
            line.put(b"\" is not understood: want exit, SIGUSR2, or exit,SIGUSR2; it is left out");
            line.show();
        }
    }
}

/// Prints what `print` puts in a buffer, giving its length, under a line with the process and `what` it is. Two at a
/// time get one text: the second may be a signal in the middle of the first.
fn show_text(what: &[u8], print: impl Fn(&mut [u8], &mut Stats) -> usize) {
    // Acquire: pairs with the Release below; what the one before did with the bytes is done.
    if WORKPLACE.is_taken.swap(true, Ordering::Acquire) {
        return;
    }
    // SAFETY: 1. Nobody else has them, by the flag.
    //         2. Statistics are numbers, for which zeroes are values.
    let (bytes, stats) = unsafe { (&mut *WORKPLACE.bytes.get(), (*WORKPLACE.stats.get()).assume_init_mut()) };
    let mut line = Line::new();
    put_process(&mut line);
    line.put(what);
    let line = line.text();
    if let Some((head, rest)) = bytes.split_at_mut_checked(line.len()) {
        head.copy_from_slice(line);
        let length = line.len() + print(rest, stats);
        show_even_if_closed(bytes.get(..length).unwrap_or(&[]));
    }
    // Release: pairs with the Acquire above.
    WORKPLACE.is_taken.store(false, Ordering::Release);
}

/// `0.1.0 in process 4711 (name): `.
fn put_process(line: &mut Line) {
    line.put(env!("CARGO_PKG_VERSION").as_bytes());
    line.put(b" in process ");
    // SAFETY: getpid(2) reads a number.
    line.put_number(unsafe { libc::getpid() }.unsigned_abs());
    // SAFETY: the C library has set it to a C string before it runs anything of others.
    let name = unsafe { program_invocation_short_name };
    if !name.is_null() {
        line.put(b" (");
        // SAFETY: a C string.
        let name = unsafe { CStr::from_ptr(name) }.to_bytes();
        line.put(name.get(..64).unwrap_or(name));
        line.put(b")");
    }
    line.put(b": ");
}

fn show_even_if_closed(text: &[u8]) {
    if write(libc::STDERR_FILENO, text) != Err(libc::EBADF) {
        return;
    }
    // SAFETY: it was written before there was another thread.
    if let Some(second) = unsafe { &*SECOND.0.get() }
        && file_of(second.number) == Some(second.file)
    {
        // A failed write loses the text and nothing else.
        let _ = write(second.number, text);
    }
}

/// Prints the statistics; safe in a signal handler.
extern "C" fn show_stats() {
    show_text(b"statistics", |buffer, stats| {
        c_abi::read_stats(stats);
        stats.text(buffer).map_or(0, str::len)
    });
}

fn show_stats_at_exit() {
    // SAFETY: 1. Gives a number, or -1.
    //         2. There is no other thread yet.
    //         3. The handler lives as long as the library, which is never unloaded before it ran.
    unsafe {
        let number = libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, SECOND_DESCRIPTOR_MIN);
        *SECOND.0.get() = file_of(number).map(|file| SecondDescriptor { number, file });
        libc::pthread_atfork(None, None, Some(close_second));
        libc::atexit(show_stats);
    }
}

/// Forked child: gives the second descriptor up. A daemon is one, and who started it may wait for the other end of a
/// pipe that all of its descriptors have to be closed for.
unsafe extern "C" fn close_second() {
    // SAFETY: the child has one thread.
    if let Some(second) = unsafe { (*SECOND.0.get()).take() }
        && file_of(second.number) == Some(second.file)
    {
        // SAFETY: the number is ours, as far as can be told.
        unsafe { libc::close(second.number) };
    }
}

/// What identifies the file of a descriptor; none if that is not open.
fn file_of(descriptor: c_int) -> Option<(libc::dev_t, libc::ino_t)> {
    let before = errno();
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: 1. Fills in the structure, if it gives 0.
    //         2. Then it is filled in.
    let file = unsafe {
        (libc::fstat(descriptor, status.as_mut_ptr()) == 0).then(|| {
            let status = status.assume_init_ref();
            (status.st_dev, status.st_ino)
        })
    };
    set_errno(before);
    file
}

extern "C" fn on_signal(_number: c_int) {
    let before = errno();
    show_stats();
    set_errno(before);
}

/// Has the signal print statistics, unless it means something already: who started the program may have it ignored.
fn show_stats_on_signal() {
    // SAFETY: 1. A zeroed action is one: the default, without flags.
    //         2. The handler does only what is allowed in one.
    let is_free = unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        libc::sigaction(libc::SIGUSR2, core::ptr::null(), &raw mut action);
        let is_free = action.sa_sigaction == libc::SIG_DFL;
        if is_free {
            action.sa_sigaction = on_signal as extern "C" fn(c_int) as libc::sighandler_t;
            // On the stack that the program has given for signals, if any.
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGUSR2, &raw const action, null_mut());
        }
        is_free
    };
    if !is_free {
        let mut line = Line::new();
        line.put(b"ANTIFREEZE_STATS: SIGUSR2 is ignored in this process, and left so: no statistics on it");
        line.show();
    }
}
