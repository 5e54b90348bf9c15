//! What `include/antifreeze.h` declares: statistics, warm memory, giving back, and what holds on this machine. The
//! header tells of each function; here is only how.

use core::ffi::{CStr, c_char, c_int};
use core::mem::ManuallyDrop;
use core::time::Duration;

use allocator::{BufferTooSmall, Prewarm, PrewarmState, c_abi};

use crate::report::set_errno;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// `antifreeze_numbers` of the header: it only ever grows at its end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    allocated_bytes: u64,
    active_bytes: u64,
    resident_bytes: u64,
    warm_bytes: u64,
    metadata_bytes: u64,
    reserved_bytes: u64,
    write_lock_calls: u64,
    over_budget_calls: u64,
    purge_calls: u64,
    purged_bytes: u64,
    backlog_bytes: u64,
}

/// `antifreeze_progress` of the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    state: c_int,
    wanted_bytes: u64,
    warm_bytes: u64,
    faulted_bytes: u64,
    hugepage_bytes: u64,
}

/// The library's version.
#[unsafe(no_mangle)]
pub extern "C" fn antifreeze_version() -> *const c_char {
    VERSION.as_ptr()
}

fn numbers() -> Numbers {
    let stats = allocator::stats();
    Numbers {
        allocated_bytes: stats.memory.allocated,
        active_bytes: stats.memory.active,
        resident_bytes: stats.memory.resident,
        warm_bytes: stats.memory.warm,
        metadata_bytes: stats.memory.metadata,
        reserved_bytes: stats.memory.reserved,
        write_lock_calls: stats.write_lock_calls,
        over_budget_calls: stats.over_budget_calls,
        purge_calls: stats.purge.calls(),
        purged_bytes: stats.purge.bytes(),
        backlog_bytes: stats.governor.backlog,
    }
}

/// # Safety
/// `numbers` points to `bytes` bytes that can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn antifreeze_get_numbers(place: *mut Numbers, bytes: usize) -> c_int {
    if place.is_null() || bytes < size_of::<u64>() {
        set_errno(libc::EINVAL);
        return -1;
    }
    let now = numbers();
    let known_bytes = size_of::<Numbers>().min(bytes);
    // SAFETY: 1. The caller's promise; both are as large as what is copied.
    //         2. A program of a later header gets zeroes for what this library does not know.
    unsafe {
        place.cast::<u8>().write_bytes(0, bytes);
        place.cast::<u8>().copy_from_nonoverlapping((&raw const now).cast::<u8>(), known_bytes);
    }
    0
}

/// Ends a text that was printed into the buffer, and gives its length; the length that it takes if the buffer is too
/// small, which then holds an empty text if it holds anything.
fn printed(buffer: &mut [u8], print: impl Fn(&mut [u8]) -> Result<usize, BufferTooSmall>) -> usize {
    let Some((last, text)) = buffer.split_last_mut() else {
        return print(&mut []).unwrap_or_else(|small| small.bytes_needed);
    };
    let length = match print(text) {
        Ok(length) => length,
        Err(small) => {
            if let Some(first) = text.first_mut() {
                *first = 0;
            }
            *last = 0;
            return small.bytes_needed;
        }
    };
    match text.get_mut(length) {
        Some(end) => *end = 0,
        None => *last = 0,
    }
    length
}

/// The caller's buffer; empty where there is none.
/// # Safety
/// `buffer` is null or points to `bytes` bytes that can be written, for as long as the result is used.
unsafe fn buffer_of<'a>(buffer: *mut c_char, bytes: usize) -> &'a mut [u8] {
    if buffer.is_null() || bytes == 0 {
        return &mut [];
    }
    // SAFETY: 1. The caller's promise.
    //         2. They are initialised here.
    unsafe {
        buffer.cast::<u8>().write_bytes(0, bytes);
        core::slice::from_raw_parts_mut(buffer.cast(), bytes)
    }
}

/// Defines a function that prints a text as `snprintf` does.
macro_rules! texts {
    ($($name:ident: $print:expr;)*) => {$(
        /// # Safety
        /// `buffer` is null or points to `bytes` bytes that can be written.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(buffer: *mut c_char, bytes: usize) -> usize {
            let print: fn(&mut [u8]) -> Result<usize, BufferTooSmall> = $print;
            // SAFETY: the caller's promise.
            printed(unsafe { buffer_of(buffer, bytes) }, print)
        }
    )*};
}

texts! {
    antifreeze_stats_text: |buffer| allocator::stats().text(buffer).map(str::len);
    antifreeze_stats_json: |buffer| allocator::stats().json(buffer).map(str::len);
    antifreeze_stats_prometheus: |buffer| allocator::stats().prometheus(buffer).map(str::len);
    antifreeze_explain: |buffer| allocator::explain(buffer).map(|text| text.len());
    antifreeze_options: |buffer| allocator::options(buffer).map(|text| text.len());
}

/// Asks for freed memory to be given back.
#[unsafe(no_mangle)]
pub extern "C" fn antifreeze_purge(bytes: usize) {
    allocator::purge(bytes);
    c_abi::start_governor_if_due();
}

/// Lends the governor this thread.
#[unsafe(no_mangle)]
pub extern "C" fn antifreeze_tick() -> i64 {
    let next = allocator::tick();
    next.map_or(-1, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
}

/// A request for warm memory, in memory of its own. That is taken first: it starts the allocator, without which any
/// request is refused, if the program has not asked for memory before.
fn boxed(make: impl FnOnce() -> Prewarm) -> *mut Prewarm {
    let place = crate::family::block_of(size_of::<Prewarm>()).cast::<Prewarm>();
    if !place.is_null() {
        // SAFETY: a new block, large and aligned enough for any type of the language.
        unsafe { place.write(make()) };
    }
    c_abi::start_governor_if_due();
    place
}

/// Makes memory warm for one block.
#[unsafe(no_mangle)]
pub extern "C" fn antifreeze_prewarm(bytes: usize) -> *mut Prewarm {
    boxed(|| allocator::prewarm(bytes))
}

/// Makes memory warm for many blocks.
#[unsafe(no_mangle)]
pub extern "C" fn antifreeze_prewarm_blocks(bytes: usize) -> *mut Prewarm {
    boxed(|| allocator::prewarm_blocks(bytes))
}

/// How far a request has come, after waiting for at most `wait_ns`.
/// # Safety
/// `request` is null or comes from one of the two functions above and was not let go of; `progress` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn antifreeze_prewarm_progress(
    request: *const Prewarm,
    wait_ns: u64,
    progress: *mut Progress,
) -> c_int {
    // SAFETY: the caller's promise.
    let Some(request) = (unsafe { request.as_ref() }).filter(|_| !progress.is_null()) else {
        set_errno(libc::EINVAL);
        return -1;
    };
    let now = if wait_ns == 0 { request.progress() } else { request.wait(Duration::from_nanos(wait_ns)) };
    let state = match now.state {
        PrewarmState::Warming => 0,
        PrewarmState::Ready => 1,
        PrewarmState::Taken => 2,
        PrewarmState::Cancelled => 3,
        PrewarmState::Expired => 4,
        PrewarmState::Pressure => 5,
        PrewarmState::NoHeadRoom => 6,
        PrewarmState::HugepagesScarce => 7,
        _ => 8,
    };
    let now = Progress {
        state,
        wanted_bytes: now.wanted_bytes,
        warm_bytes: now.warm_bytes,
        faulted_bytes: now.faulted_bytes,
        hugepage_bytes: now.hugepage_bytes,
    };
    // SAFETY: the caller's promise.
    unsafe { progress.write(now) };
    0
}

/// Takes a request back.
/// # Safety
/// As for [`antifreeze_prewarm_progress`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn antifreeze_prewarm_cancel(request: *const Prewarm) {
    // SAFETY: the caller's promise.
    if let Some(request) = unsafe { request.as_ref() } {
        request.cancel();
        c_abi::start_governor_if_due();
    }
}

/// Lets go of a request: what is warm stays so.
/// # Safety
/// As for [`antifreeze_prewarm_progress`]; it is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn antifreeze_prewarm_free(request: *mut Prewarm) {
    if !request.is_null() {
        // SAFETY: the caller's promise; the block goes after what was in it.
        unsafe {
            drop(ManuallyDrop::into_inner(request.cast::<ManuallyDrop<Prewarm>>().read()));
            crate::family::give_up(request.cast());
        }
    }
}
