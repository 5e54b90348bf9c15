//! Aim: the memory of threads that ended, and of threads that sit idle, is used again and comes back to the system.
//!
//! Method: each test is a process of its own, so that its resident memory is the test's. Memory must be back before a
//! generous deadline; how long it takes is not judged.

mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use common::{Random, Test, resident_bytes};

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

fn main() {
    common::run(&[
        Test::InEachMode("what_2000_threads_left_comes_back_when_the_main_thread_frees_it", threads_leave_blocks),
        Test::InEachMode("generations_of_threads_use_the_same_addresses", generations_share_addresses),
        Test::InEachMode(
            "blocks_that_idle_threads_allocated_come_back_when_another_thread_frees_them",
            freed_by_another,
        ),
        Test::InEachMode("blocks_come_back_when_an_idle_thread_freed_its_own", freed_by_the_same),
        Test::InEachMode("blocks_come_back_that_the_main_thread_freed_and_forgot", freed_by_main),
        Test::InEachMode("thread_local_destructors_allocate_and_free", thread_local_destructors),
        Test::InEachMode("destructors_of_thread_keys_allocate_after_the_heap_was_given_up", key_destructors),
        Test::InEachMode("a_thread_may_begin_with_a_free", first_operation_is_a_free),
        Test::InEachMode("a_thread_may_only_reallocate", only_reallocates),
        Test::InEachMode("threads_that_end_at_once_leave_nothing_behind", threads_that_end_at_once),
    ]);
}

const MIB: usize = 1 << 20;
/// How long memory may take to come back: many times what it does take.
const COMES_BACK: Duration = Duration::from_secs(15);
/// What may stay where threads have ended: some chunks that are in use in part.
const FEW_BYTES: usize = 8 * MIB;
/// What may stay where threads are idle: each heap keeps one slab of each size that it has used, and with it, at worst,
/// a hugepage.
const IDLE_STAYS_BYTES: usize = 24 * MIB;

/// A block on its way from one thread to another.
struct Sent {
    base: *mut u8,
    layout: Layout,
}

// SAFETY: whoever holds the record owns the block.
unsafe impl Send for Sent {}

impl Sent {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, 8).expect("small sizes make a layout");
        // SAFETY: the size is not zero.
        let base = unsafe { GLOBAL.alloc(layout) };
        assert!(!base.is_null());
        // SAFETY: the block holds `bytes`. It is written whole, so that all of its memory is resident.
        unsafe { base.write_bytes(bytes as u8, bytes) };
        Sent { base, layout }
    }

    fn free(self) {
        // SAFETY: the block is ours and was written whole.
        let [first, last] = unsafe { [self.base.read(), self.base.add(self.layout.size() - 1).read()] };
        assert_eq!([first, last], [self.layout.size() as u8; 2], "{:p} has lost its contents", self.base);
        // SAFETY: the block is ours, with this layout, and is not used again.
        unsafe { GLOBAL.dealloc(self.base, self.layout) };
    }
}

/// Waits until at most `stays` bytes more than `start` are resident.
fn comes_back(start: usize, stays: usize) {
    let mut now = 0;
    let back = common::eventually(COMES_BACK, || {
        now = resident_bytes();
        now <= start + stays
    });
    println!("thread_exit: {} MiB at the start, {} MiB at the end", start / MIB, now / MIB);
    assert!(back, "{} MiB at the start, {} MiB at the end; {:?}", start / MIB, now / MIB, antifreeze::stats());
}

fn threads_leave_blocks() {
    let start = resident_bytes();
    let (sender, receiver) = channel();
    let mut most = 0;
    for number in 0..2000_u64 {
        let sender = sender.clone();
        let thread = std::thread::spawn(move || {
            let mut random = Random::new(number);
            for _ in 0..40 {
                let sent = Sent::new(random.log_uniform(16..=32 << 10));
                // Some are freed by the thread itself.
                if random.one_in(3) { sent.free() } else { sender.send(sent).expect("the main thread lives") }
            }
        });
        thread.join().expect("the thread does not panic");
        if number % 100 == 99 {
            most = most.max(resident_bytes());
        }
    }
    drop(sender);
    assert!(most > start + 4 * FEW_BYTES, "the threads left too little to tell anything: {most}");
    receiver.into_iter().for_each(Sent::free);
    comes_back(start, FEW_BYTES);
}

fn generations_share_addresses() {
    let mut chunks = BTreeSet::new();
    let mut after_the_first = 0;
    for generation in 0..30 {
        let (sender, receiver) = channel();
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let sender: Sender<Sent> = sender.clone();
                std::thread::spawn(move || {
                    let mut random = Random::new(number);
                    for _ in 0..2000 {
                        sender.send(Sent::new(random.log_uniform(16..=4096))).expect("the main thread lives");
                    }
                })
            })
            .collect();
        drop(sender);
        let blocks: Vec<Sent> = receiver.into_iter().collect();
        for thread in threads {
            thread.join().expect("the thread does not panic");
        }
        chunks.extend(blocks.iter().map(|block| block.base.addr() >> 21));
        blocks.into_iter().for_each(Sent::free);
        if generation == 2 {
            after_the_first = chunks.len();
        }
    }
    println!("thread_exit: {after_the_first} chunks after 3 generations, {} after 30", chunks.len());
    assert!(chunks.len() <= after_the_first * 3 / 2 + 2, "{after_the_first} chunks at first, {} later", chunks.len());
}

const IDLE_BYTES: usize = 300 * MIB;

/// Allocates 300 MiB of small blocks on a thread. It frees them, or a second thread does; then both sit idle, as a
/// server's threads wait for work, and the memory must come back.
fn with_idle_threads(frees_itself: bool) {
    let start = resident_bytes();
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let (freed, all_freed) = channel();
        let end: [(Sender<()>, Receiver<()>); 2] = [channel(), channel()];
        let [(end_first, first_idle), (end_second, second_idle)] = end;
        let first_freed = freed.clone();
        scope.spawn(move || {
            let mut random = Random::new(7);
            let mut bytes = 0;
            let mut blocks = Vec::with_capacity(IDLE_BYTES / 64);
            while bytes < IDLE_BYTES {
                let block = Sent::new(64 + random.below(449));
                bytes += block.layout.size();
                blocks.push(block);
            }
            assert!(resident_bytes() > start + IDLE_BYTES, "the blocks are not resident");
            if frees_itself {
                blocks.into_iter().for_each(Sent::free);
                first_freed.send(()).expect("the main thread lives");
            } else {
                sender.send(blocks).expect("the second thread lives");
            }
            first_idle.recv().expect_err("nothing is ever sent");
        });
        scope.spawn(move || {
            if !frees_itself {
                let blocks: Vec<Sent> = receiver.recv().expect("the first thread lives");
                blocks.into_iter().for_each(Sent::free);
                freed.send(()).expect("the main thread lives");
            }
            second_idle.recv().expect_err("nothing is ever sent");
        });
        all_freed.recv().expect("the threads live");
        comes_back(start, IDLE_STAYS_BYTES);
        drop((end_first, end_second));
    });
}

fn freed_by_another() {
    with_idle_threads(false);
}

fn freed_by_the_same() {
    with_idle_threads(true);
}

fn freed_by_main() {
    let start = resident_bytes();
    let blocks: Vec<Sent> = (0..IDLE_BYTES / 300).map(|_| Sent::new(300)).collect();
    assert!(resident_bytes() > start + IDLE_BYTES);
    blocks.into_iter().for_each(Sent::free);
    comes_back(start, FEW_BYTES);
}

/// Allocates and frees when its thread ends, and leaves one block to whoever listens.
struct AtExit {
    listener: Option<Sender<Sent>>,
    text: String,
}

impl Drop for AtExit {
    fn drop(&mut self) {
        let words: Vec<String> = (0..50).map(|n| format!("{} {n}", self.text)).collect();
        assert_eq!(words.last().map(String::as_str), Some("left 49"));
        drop(vec![1_u8; 2 * MIB]);
        if let Some(listener) = self.listener.take() {
            listener.send(Sent::new(1000)).expect("the main thread lives");
        }
    }
}

thread_local! {
    static FIRST: RefCell<Option<AtExit>> = const { RefCell::new(None) };
    static SECOND: RefCell<Option<AtExit>> = const { RefCell::new(None) };
}

fn thread_local_destructors() {
    let (sender, receiver) = channel();
    for number in 0..300 {
        let listener = Some(sender.clone());
        let thread = std::thread::spawn(move || {
            let at_exit = AtExit { listener, text: "left".to_owned() };
            // One place is filled before the thread has allocated anything else, the other after it.
            if number % 2 == 0 {
                FIRST.set(Some(at_exit));
            } else {
                drop(vec![number; 1000]);
                SECOND.set(Some(at_exit));
            }
        });
        thread.join().expect("the thread does not panic");
    }
    drop(sender);
    assert_eq!(receiver.into_iter().map(Sent::free).count(), 300);
}

/// What a destructor of a thread key does: it allocates, frees a block of the thread's life, and arms itself once more.
unsafe extern "C" fn key_destructor(value: *mut c_void) {
    // SAFETY: the value is the one that `arm` has made, and this is its only use.
    let (key, rounds, text) = *unsafe { Box::from_raw(value.cast::<(libc::pthread_key_t, u32, String)>()) };
    let words: Vec<String> = (0..50).map(|n| format!("{text} {n}")).collect();
    assert_eq!(words.last().map(String::as_str), Some("left 49"));
    if rounds > 0 {
        arm(key, rounds - 1, text);
    }
}

fn arm(key: libc::pthread_key_t, rounds: u32, text: String) {
    let value = Box::into_raw(Box::new((key, rounds, text)));
    // SAFETY: the key was created and is never deleted; the destructor expects such a value.
    assert_eq!(unsafe { libc::pthread_setspecific(key, value.cast()) }, 0);
}

fn key_destructors() {
    // The allocator has its key since the first allocation, long ago: it runs before these. Each round of destructors
    // makes the thread allocate again after its heap was given up; nobody is told of the end after the last one.
    let mut keys = [0; 2];
    for key in &mut keys {
        // SAFETY: `key` is live, and the destructor fits its values.
        assert_eq!(unsafe { libc::pthread_key_create(key, Some(key_destructor)) }, 0);
    }
    let start = resident_bytes();
    for _ in 0..2000 {
        let work = move || keys.into_iter().for_each(|key| arm(key, 3, "left".to_owned()));
        std::thread::spawn(work).join().expect("the thread does not panic");
    }
    comes_back(start, FEW_BYTES);
}

/// Runs `main(argument)` on a bare thread: Rust's own threads allocate before their closure runs.
fn on_bare_thread(main: extern "C" fn(*mut c_void) -> *mut c_void, argument: *mut c_void) -> *mut c_void {
    let mut thread = 0;
    let mut result = null_mut();
    // SAFETY: the thread is joined before this returns, so that all it uses lives long enough.
    unsafe {
        assert_eq!(libc::pthread_create(&raw mut thread, null(), main, argument), 0);
        assert_eq!(libc::pthread_join(thread, &raw mut result), 0);
    }
    result
}

const BARE_SIZES: [usize; 7] = [16, 200, 5000, 100_000, 500_000, MIB, 40 * MIB];

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).expect("small sizes make a layout")
}

extern "C" fn frees_all(blocks: *mut c_void) -> *mut c_void {
    let blocks = blocks.cast::<[*mut u8; BARE_SIZES.len()]>();
    // SAFETY: the caller waits and passes live blocks, which are not used again.
    unsafe { BARE_SIZES.iter().zip(*blocks).for_each(|(bytes, block)| GLOBAL.dealloc(block, layout(*bytes))) };
    null_mut()
}

fn first_operation_is_a_free() {
    for _ in 0..200 {
        // SAFETY: no size is zero.
        let mut blocks = BARE_SIZES.map(|bytes| unsafe { GLOBAL.alloc(layout(bytes)) });
        assert!(blocks.iter().all(|block| !block.is_null()));
        on_bare_thread(frees_all, (&raw mut blocks).cast());
    }
    // Blocks of full slabs, which belong to nobody: the thread that frees the first one would adopt the slab.
    let start = resident_bytes();
    let blocks: Vec<Sent> = (0..64 * MIB / 512).map(|_| Sent::new(512)).collect();
    let boxed = Box::into_raw(Box::new(blocks));
    on_bare_thread(frees_vector, boxed.cast());
    comes_back(start, FEW_BYTES);
}

extern "C" fn frees_vector(blocks: *mut c_void) -> *mut c_void {
    // SAFETY: the caller passes a box and does not use it again.
    let blocks = *unsafe { Box::from_raw(blocks.cast::<Vec<Sent>>()) };
    blocks.into_iter().for_each(Sent::free);
    null_mut()
}

extern "C" fn reallocates(block: *mut c_void) -> *mut c_void {
    // SAFETY: the caller waits and passes a live block of `BARE_SIZES[0]` bytes that holds 7 everywhere.
    unsafe {
        let mut block = block.cast::<u8>();
        for sizes in BARE_SIZES.windows(2) {
            block = GLOBAL.realloc(block, layout(sizes[0]), sizes[1]);
            assert!(!block.is_null() && block.read() == 7 && block.add(BARE_SIZES[0] - 1).read() == 7);
        }
        block = GLOBAL.realloc(block, layout(40 * MIB), BARE_SIZES[0]);
        block.cast()
    }
}

fn only_reallocates() {
    let start = resident_bytes();
    // SAFETY: the size is not zero, and the block holds that many bytes.
    let mut block = unsafe {
        let block = GLOBAL.alloc(layout(BARE_SIZES[0]));
        block.write_bytes(7, BARE_SIZES[0]);
        block
    };
    for _ in 0..500 {
        block = on_bare_thread(reallocates, block.cast()).cast();
        assert!(!block.is_null());
    }
    // SAFETY: the block is live with this layout.
    unsafe { GLOBAL.dealloc(block, layout(BARE_SIZES[0])) };
    comes_back(start, FEW_BYTES);
}

fn threads_that_end_at_once() {
    let start = resident_bytes();
    let address = Sent::new(64).base.addr() >> 30;
    for _ in 0..100 {
        let threads: Vec<_> = (0..20).map(|n| std::thread::spawn(move || Sent::new(64 + n).free())).collect();
        for thread in threads {
            thread.join().expect("the thread does not panic");
        }
    }
    comes_back(start, FEW_BYTES);
    assert!(Sent::new(64).base.addr() >> 30 <= address + 1, "addresses have wandered off");
}
