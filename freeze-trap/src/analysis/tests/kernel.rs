//! Sleeps in the kernel: disks, the network, other locks, signals.

use super::*;

#[test]
fn of_many_short_sleeps_the_sum_is_told_and_functions_that_are_new_come_first() {
    let mut sample = Sample::new();
    let sync = "io_schedule; folio_wait_bit; ext4_sync_file";
    let (usual, new) =
        (sample.stack(sync, "fsync@libc.so.6; app::log@app"), sample.stack(sync, "fsync@libc.so.6; app::dump@app"));
    for start in (0..13_000).step_by(100) {
        let longer = if start < 10_000 { 10 } else { 50 };
        sample.sleep(2, Sleep::Uninterruptible, (start, start + longer), usual).call = call(libc::SYS_fsync, &[3]);
        if start >= 10_000 {
            sample.sleep(3, Sleep::Uninterruptible, (start, start + 20), new).call = call(libc::SYS_fsync, &[3]);
        }
    }
    let sentence = "threads 2 and 3 slept up to 50 ms at a time and 1.5 s in all in D state in fsync on a disk, called \
                    from app::dump and app::log";
    assert_eq!(told(&sample), (Cause::Disk, sentence.to_owned()));
}

#[test]
fn a_disk() {
    let mut sample = Sample::new();
    let sync = sample.stack("io_schedule; folio_wait_bit; ext4_sync_file", "fdatasync@libc.so.6; app::persist@app");
    for tid in [3, 5, 8] {
        sample.sleep(tid, Sleep::Uninterruptible, (10_500, 11_700), sync).call = call(libc::SYS_fdatasync, &[3]);
    }
    idle(&mut sample, 2);
    let sentence = "threads 3, 5 and 8 slept up to 1.2 s in D state in fdatasync on a disk, called from app::persist";
    assert_eq!(told(&sample), (Cause::Disk, sentence.to_owned()));
}

#[test]
fn a_page_that_has_to_be_read_from_a_network() {
    let mut sample = Sample::new();
    let fault = sample.stack("rpc_wait_bit_killable; nfs_readpage; filemap_fault; exc_page_fault", "app::scan@app");
    sample.sleep(3, Sleep::Uninterruptible, (10_500, 11_700), fault);
    let sentence = "thread 3 (worker) slept up to 1.2 s in D state in a page fault on a network file system, called \
                    from app::scan";
    assert_eq!(told(&sample), (Cause::Disk, sentence.to_owned()));
}

#[test]
fn another_lock_of_the_kernel() {
    let mut sample = Sample::new();
    let grace =
        sample.stack("__schedule; schedule; wait_for_completion; synchronize_rcu", "syscall@libc.so.6; app::f@app");
    sample.sleep(3, Sleep::Uninterruptible, (10_000, 11_000), grace).call = call(libc::SYS_membarrier, &[]);
    let sentence =
        "thread 3 (worker) waited up to 1.0 s in the kernel in membarrier (synchronize_rcu), called from app::f";
    assert_eq!(told(&sample), (Cause::Kernel, sentence.to_owned()));
}

#[test]
fn a_process_that_was_stopped() {
    let mut sample = Sample::new();
    let stop = sample.stack("schedule; do_signal_stop; get_signal", "app::run@app");
    for tid in 2..=4 {
        sample.sleep(tid, Sleep::Other, (10_000, 12_000), stop);
    }
    let sentence = "threads 2 to 4 were stopped for up to 2.0 s by a signal, a debugger or the freezer of the cgroup";
    assert_eq!(told(&sample), (Cause::Kernel, sentence.to_owned()));
}
