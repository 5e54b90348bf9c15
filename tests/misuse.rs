//! Aim: a free of a wrong pointer ends the process at once, and says which pointer it was.
//!
//! Method: each misuse is a job for a child. The child prints the pointer that it is going to misuse; it must then
//! die of SIGABRT and leave exactly one line on standard error that names this pointer.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use common::{DEADLINE, MODES, Test};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

/// What opens every fatal line about a free.
const LINE: &str = "antifreeze: fatal: free: ";

/// One misuse: its name, and what it does with each size of block. It must not come back.
type Misuse = (&'static str, &'static [usize], fn(usize));

const SMALL: &[usize] = &[1, 16, 100, 1024, 4096];
const MEDIUM: &[usize] = &[40_000, 100 << 10, 512 << 10];
const LARGE: &[usize] = &[(512 << 10) + 1, 1 << 20, 5 << 20];
const HUGE: &[usize] = &[32 << 20, 64 << 20];
const IN_SLABS: &[usize] = &[1, 16, 100, 1024, 4096, 40_000, 100 << 10, 512 << 10];
const EVERY: &[usize] = &[16, 100, 4096, 100 << 10, 1 << 20, 64 << 20];
const NO_BLOCK: &[usize] = &[0];

const MISUSES: &[Misuse] = &[
    ("double_free_at_once", EVERY, double_free_at_once),
    ("double_free_after_other_frees", IN_SLABS, double_free_after_other_frees),
    ("double_free_after_the_block_lay_deep_in_the_list", SMALL, double_free_deep_in_the_list),
    ("double_free_of_a_block_that_waits_to_be_handed_out_first", SMALL, double_free_at_the_front_of_the_list),
    ("second_free_by_another_thread", EVERY, second_free_by_another_thread),
    ("first_free_by_another_thread", EVERY, first_free_by_another_thread),
    ("both_frees_by_another_thread", EVERY, both_frees_by_another_thread),
    ("double_free_after_the_allocating_thread_ended", EVERY, double_free_after_the_allocating_thread_ended),
    ("double_free_of_a_block_whose_slab_was_released", &[16, 1024, 40_000], double_free_in_a_released_slab),
    ("free_inside_a_small_block", SMALL, free_inside),
    ("free_inside_a_medium_block", MEDIUM, free_inside),
    ("free_inside_a_large_block", LARGE, free_inside),
    ("free_inside_a_huge_block", HUGE, free_inside),
    ("free_far_inside_a_block", &[40_000, 512 << 10, 1 << 20, 64 << 20], free_far_inside),
    ("free_inside_a_block_by_another_thread", EVERY, free_inside_by_another_thread),
    ("free_of_a_stack_pointer", NO_BLOCK, free_of_a_stack_pointer),
    ("free_of_a_static", NO_BLOCK, free_of_a_static),
    ("free_of_a_block_of_the_system", &[16, 1 << 20], free_of_a_block_of_the_system),
    ("free_of_a_block_never_handed_out", &[100, 4096], free_of_a_block_never_handed_out),
    ("free_in_unused_space_of_blocks", &[1 << 20, 1 << 30, 5 << 30], free_in_unused_space_of_blocks),
    ("free_in_unused_space_of_rooms", &[1 << 30, 1 << 35, 1 << 36], free_in_unused_space_of_rooms),
    ("free_of_an_address_nobody_owns", &[16, 0x1000, 0x7fff_ffff_f000, usize::MAX - 15], free_at_address),
];

fn main() {
    common::run(&[
        Test::Here("every_misuse_of_free_ends_the_process_with_one_line_that_names_the_pointer", every_misuse),
        Test::Here("a_thread_without_descriptors_says_it_on_the_standard_error_of_the_program", without_descriptors),
        Test::Here("the_jobs_end_well_without_the_misuse", sound_use),
        Test::Job("misuse", |arguments| {
            setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("limits can be lowered");
            let (name, bytes) = (&arguments[0], arguments[1].parse().expect("the parent passes a number"));
            let (_, _, body) = MISUSES.iter().find(|(known, ..)| known == name).expect("the parent passes a name");
            body(bytes);
        }),
        Test::Job("misuse_without_descriptors", |_| {
            setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("limits can be lowered");
            let block = Sent(allocate(64 << 20));
            announce(block.0);
            elsewhere(move || {
                // SAFETY: this thread gets a table of descriptors of its own, without any.
                unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
                block.free();
                block.free();
            });
        }),
        Test::Job("sound_use", |_| {
            for bytes in EVERY {
                let block = allocate(*bytes);
                announce(block);
                free(block);
            }
        }),
    ]);
}

fn every_misuse() {
    let mut failures = Vec::new();
    for mode in MODES {
        for (name, sizes, _) in MISUSES {
            for bytes in *sizes {
                if let Err(why) = dies_as_promised(mode, name, *bytes) {
                    failures.push(format!("{name} of {bytes} bytes, {mode}: {why}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} misuses are not caught:\n{}", failures.len(), failures.join("\n"));
}

fn dies_as_promised(mode: &str, name: &str, bytes: usize) -> Result<(), String> {
    let mut child = common::job("misuse", &[name, &bytes.to_string()]);
    let ended = common::output_of(child.env("ANTIFREEZE_COMMIT", mode), DEADLINE);
    let tell = |what: &str| format!("{what}: {}, out {:?}, err {:?}", ended.status, ended.stdout, ended.stderr);
    if ended.status.signal() != Some(Signal::SIGABRT as i32) {
        return Err(tell("did not die of SIGABRT"));
    }
    let Some(pointer) = ended.stdout.lines().last() else { return Err(tell("died too early")) };
    let line = ended.stderr.strip_prefix(LINE).and_then(|rest| rest.strip_suffix(&format!(": {pointer}\n")));
    match line {
        Some(text) if !text.is_empty() && !text.contains('\n') => Ok(()),
        _ => Err(tell("did not say one line with the pointer")),
    }
}

/// As the governor's thread would. Standard error may be a pipe, a file or a socket.
fn without_descriptors() {
    let socket = UnixStream::pair().expect("sockets can be had");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("misuse-{}", std::process::id()));
    fs::write(&path, "before\n").expect("the directory can be written");
    let file = fs::File::options().append(true).open(&path).expect("our own file");
    let kinds = [("pipe", Stdio::piped()), ("file", file.into()), ("socket", OwnedFd::from(socket.0).into())];
    let mut texts = Vec::new();
    for (kind, standard_error) in kinds {
        let mut command = common::job("misuse_without_descriptors", &[]);
        command.stdout(Stdio::piped()).stderr(standard_error);
        let child = command.spawn().expect("a child starts");
        // It keeps the other end of the socket open otherwise.
        drop(command);
        let output = child.wait_with_output().expect("the child is ours");
        assert_eq!(output.status.signal(), Some(Signal::SIGABRT as i32), "{kind}");
        texts.push((kind, output.stdout, output.stderr));
    }
    texts[1].2 = fs::read(&path).expect("our own file").strip_prefix(b"before\n").expect("nothing is lost").to_vec();
    fs::remove_file(&path).expect("our own file");
    (&socket.1).read_to_end(&mut texts[2].2).expect("the child has ended");
    for (kind, stdout, stderr) in texts {
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(stderr.starts_with(LINE) && stderr.ends_with(&format!(": {}", stdout)), "{kind}: {stderr:?}");
    }
}

fn sound_use() {
    let ended = common::output_of(&mut common::job("sound_use", &[]), DEADLINE);
    assert!(ended.status.success() && ended.stderr.is_empty(), "{} {:?}", ended.status, ended.stderr);
}

/// The pointer that the next call will misuse, to be printed before.
fn announce(pointer: *mut u8) {
    println!("0x{:016x}", pointer.addr());
    std::io::stdout().flush().expect("the parent reads");
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 1).expect("small sizes make a layout")
}

fn allocate(bytes: usize) -> *mut u8 {
    // SAFETY: no test asks for zero bytes.
    let block = unsafe { GLOBAL.alloc(layout(bytes)) };
    assert!(!block.is_null());
    // SAFETY: the block holds a byte at least. What was never written would prove little.
    unsafe { block.write_bytes(0xa5, bytes.min(4096)) };
    block
}

/// Frees what may not be freed; the allocator does not look at the layout.
fn free(pointer: *mut u8) {
    // SAFETY: none: that the allocator finds out is what is tested. It is the last thing that the child does.
    unsafe { GLOBAL.dealloc(pointer, layout(1)) };
}

/// Runs `work` on a thread of its own.
fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().expect("the thread does not panic"))
}

/// A pointer that may go to another thread.
struct Sent(*mut u8);
// SAFETY: only its address is used, one thread at a time.
unsafe impl Send for Sent {}

impl Sent {
    fn free(&self) {
        free(self.0);
    }
}

fn double_free_at_once(bytes: usize) {
    let block = allocate(bytes);
    announce(block);
    free(block);
    free(block);
}

fn double_free_after_other_frees(bytes: usize) {
    let block = allocate(bytes);
    let others: Vec<_> = (0..50).map(|_| allocate(bytes)).collect();
    announce(block);
    free(block);
    others.into_iter().for_each(free);
    free(block);
}

fn double_free_deep_in_the_list(bytes: usize) {
    let mut others: Vec<_> = (0..200).map(|_| allocate(bytes)).collect();
    let block = others.swap_remove(100);
    announce(block);
    free(block);
    others.into_iter().for_each(free);
    for _ in 0..3 {
        // If the block were handed out again, no allocator could tell.
        assert_ne!(allocate(bytes), block);
    }
    free(block);
}

fn double_free_at_the_front_of_the_list(bytes: usize) {
    let first: Vec<_> = (0..300).map(|_| allocate(bytes)).collect();
    first.into_iter().for_each(free);
    let mut again: Vec<_> = (0..300).map(|_| allocate(bytes)).collect();
    // A list that is long, or of memory never used, takes nothing back.
    let mut takes_back = || {
        let block = allocate(bytes);
        free(block);
        let next = allocate(bytes);
        again.push(next);
        next == block
    };
    assert!((0..10_000).any(|_| takes_back()), "what was freed last never comes back first");
    let (block, other) = (allocate(bytes), allocate(bytes));
    announce(block);
    free(block);
    // Under another one for a while, then at the front again.
    free(other);
    assert_eq!(allocate(bytes), other);
    free(block);
}

fn second_free_by_another_thread(bytes: usize) {
    let block = Sent(allocate(bytes));
    let keeper = allocate(bytes);
    announce(block.0);
    block.free();
    elsewhere(move || block.free());
    free(keeper);
}

fn first_free_by_another_thread(bytes: usize) {
    let block = allocate(bytes);
    let keeper = allocate(bytes);
    announce(block);
    let sent = Sent(block);
    elsewhere(move || sent.free());
    free(block);
    free(keeper);
}

fn both_frees_by_another_thread(bytes: usize) {
    let block = Sent(allocate(bytes));
    let keeper = allocate(bytes);
    announce(block.0);
    elsewhere(move || {
        block.free();
        block.free();
    });
    free(keeper);
}

fn double_free_after_the_allocating_thread_ended(bytes: usize) {
    let (block, _keeper) = elsewhere(move || (Sent(allocate(bytes)), Sent(allocate(bytes))));
    announce(block.0);
    block.free();
    block.free();
}

fn double_free_in_a_released_slab(bytes: usize) {
    let blocks: Vec<_> = (0..(4 << 20) / bytes).map(|_| allocate(bytes)).collect();
    let block = blocks[0];
    announce(block);
    blocks.into_iter().for_each(free);
    free(block);
}

fn free_inside(bytes: usize) {
    let block = allocate(bytes);
    let pointer = block.wrapping_add(if bytes > 16 { 16 } else { 1 });
    announce(pointer);
    free(pointer);
}

fn free_far_inside(bytes: usize) {
    let pointer = allocate(bytes).wrapping_add((bytes / 2) & !0xfff);
    announce(pointer);
    free(pointer);
}

fn free_inside_by_another_thread(bytes: usize) {
    let pointer = Sent(allocate(bytes).wrapping_add(8));
    announce(pointer.0);
    elsewhere(move || pointer.free());
}

fn free_of_a_stack_pointer(_: usize) {
    let mut place = [0_u8; 64];
    announce(place.as_mut_ptr());
    free(place.as_mut_ptr());
}

fn free_of_a_static(_: usize) {
    static PLACE: [u8; 64] = [1; 64];
    let place = PLACE.as_ptr().cast_mut();
    announce(place);
    free(place);
}

fn free_of_a_block_of_the_system(bytes: usize) {
    // SAFETY: the size is not zero.
    let block = unsafe { System.alloc(layout(bytes)) };
    announce(block);
    free(block);
}

fn free_of_a_block_never_handed_out(bytes: usize) {
    // The last block of a slab that has only just been begun: blocks are cut as they are needed.
    let block = allocate(bytes);
    let slab_end = (block.addr() | 0xffff) + 1;
    let pointer =
        block.wrapping_add((slab_end - block.addr()) / bytes.next_multiple_of(16) * bytes.next_multiple_of(16));
    let pointer = pointer.wrapping_sub(bytes.next_multiple_of(16));
    announce(pointer);
    free(pointer);
}

fn free_in_unused_space_of_blocks(distance: usize) {
    let pointer = allocate(1 << 20).wrapping_add(distance + (1 << 22));
    announce(pointer);
    free(pointer);
}

fn free_in_unused_space_of_rooms(distance: usize) {
    let pointer = allocate(64 << 20).wrapping_add(distance);
    announce(pointer);
    free(pointer);
}

fn free_at_address(address: usize) {
    announce(std::ptr::without_provenance_mut(address));
    free(std::ptr::without_provenance_mut(address));
}
