//! Says what the allocator found, what it made of it, and which promises hold: [`explain`]. Called by programs.
//!
//! Invariant: allocates nothing and changes nothing; safe before the first allocation.

mod amount;
mod conditions;
mod promises;
mod situation;
#[cfg(test)]
mod tests;

use super::global::{self, ENGINE};
use super::introspect::options_in_force;
use crate::arena::{Commitment, WhyStepped};
use crate::os::cgroup::{Cgroup, Kind};
use crate::os::machine::{Overcommit, ThpDefrag, ThpMode};
use crate::os::{Linux, Os, RELEASE_BYTES};
use crate::stats::BufferTooSmall;
use crate::text::Text;
use situation::Situation;

/// Writes into `buffer` what the allocator found on this machine and what it made of it, as plain text in four parts:
///
/// - `options:` what is in force, with where it came from, as [`options`](crate::options());
/// - `machine:` the kernel, hugepages, limits, the memory cgroup;
/// - `layout:` address space, and whether memory is committed at once or in steps, and why;
/// - `promises:` for each of P1 to P6 a line `P1 no write lock: kept`, or one line `P1 no write lock: weakened: ...`
///   for each reason, which says what can be done. A line `note:` tells what is left undone by choice.
///
/// Meant for the log, once after start-up and when something is odd; the words may change from version to version, the
/// beginnings `P1` to `P6` and the words `kept` and `weakened` do not. Before the first allocation it says that nothing
/// has started.
///
/// Allocates nothing. Cost: some 75 system calls, most of them to open, read and close small files of `/proc` and
/// `/sys`, and 32 KiB of the calling thread's stack; 0.13 ms on a virtual machine with two processors, Linux 6.18. Not
/// for a thread that must answer.
///
/// ```
/// let mut buffer = vec![0; 8192];
/// match antifreeze::explain(&mut buffer) {
///     Ok(text) => println!("{text}"),
///     Err(small) => println!("it takes {} bytes", small.bytes_needed),
/// }
/// ```
/// # Errors
/// The buffer is too small; 8 KiB are enough unless the cgroup has a very long name.
pub fn explain(buffer: &mut [u8]) -> Result<&str, BufferTooSmall> {
    let mut text = Text::new(buffer);
    let mut cgroup = Cgroup::new();
    let situation = Situation::read(&ENGINE, global::is_started(), options_in_force(), &mut cgroup);
    let mut release = [0; RELEASE_BYTES];
    print(&mut text, &situation, Linux.kernel_release(&mut release), cgroup.directory());
    text.finish().map_err(|bytes_needed| BufferTooSmall { bytes_needed })
}

/// All parts.
fn print(out: &mut Text, situation: &Situation, release: &[u8], cgroup: &[u8]) {
    out.str("options:\n");
    situation.options.print(out);
    out.str("\nmachine:\n");
    print_machine(out, situation, release);
    print_cgroup(out, situation, cgroup);
    out.str("\nlayout:\n");
    print_layout(out, situation);
    out.str("\npromises:\n");
    promises::print(out, situation);
}

/// A line `name = value`.
fn line(out: &mut Text, name: &str, value: impl FnOnce(&mut Text)) {
    out.str(name);
    out.str(" = ");
    value(out);
    out.str("\n");
}

fn words(out: &mut Text, name: &str, value: &str) {
    line(out, name, |out| out.str(value));
}

fn bytes(out: &mut Text, name: &str, value: u64) {
    line(out, name, |out| amount::bytes(out, value));
}

/// A limit in bytes, of which there may be none.
fn limit(out: &mut Text, name: &str, value: Option<u64>) {
    match value {
        Some(value) => bytes(out, name, value),
        None => words(out, name, "none"),
    }
}

fn print_machine(out: &mut Text, situation: &Situation, release: &[u8]) {
    let machine = &situation.machine;
    line(out, "kernel", |out| if release.is_empty() { out.str("unknown") } else { out.foreign(release) });
    bytes(out, "page", machine.page_bytes as u64);
    bytes(out, "memory", machine.memory_bytes as u64);
    words(out, "thp", thp(machine.thp));
    words(out, "thp_defrag", defrag(machine.thp_defrag));
    words(out, "khugepaged_defrag", machine.khugepaged_defrag.map_or("unknown", |on| if on { "on" } else { "off" }));
    line(out, "hugetlb_pool", |out| {
        out.number(machine.hugetlb_free_pages);
        out.str(" of ");
        out.number(machine.hugetlb_total_pages);
        out.str(" pages of 2MiB are free");
    });
    words(out, "overcommit", overcommit(machine.overcommit));
    limit(out, "limit_address_space", machine.limit_as);
    limit(out, "limit_data", machine.limit_data);
    limit(out, "limit_locked", machine.limit_memlock);
    words(out, "stalls", stalls(situation));
    let lock = |free, before| match free {
        true => "lock one mapping",
        false if machine.kernel == (0, 0) => "unknown; taken to hold mmap_lock for reading",
        false => before,
    };
    let [faults, purges] = [machine.faults_without_mmap_lock(), machine.purges_without_mmap_lock()];
    words(out, "faults", lock(faults, "hold mmap_lock for reading, before Linux 6.4"));
    words(out, "purges", lock(purges, "hold mmap_lock for reading, before Linux 6.17"));
    words(out, "scattered_purges", if situation.scatters { "one call (process_madvise)" } else { "a call for each" });
}

fn thp(mode: ThpMode) -> &'static str {
    match mode {
        ThpMode::Always => "always",
        ThpMode::Madvise => "madvise",
        ThpMode::Never => "never",
        ThpMode::Unknown => "unknown",
    }
}

fn defrag(mode: ThpDefrag) -> &'static str {
    match mode {
        ThpDefrag::Always => "always",
        ThpDefrag::Defer => "defer",
        ThpDefrag::DeferMadvise => "defer+madvise",
        ThpDefrag::Madvise => "madvise",
        ThpDefrag::Never => "never",
        ThpDefrag::Unknown => "unknown",
    }
}

fn overcommit(mode: Overcommit) -> &'static str {
    match mode {
        Overcommit::Heuristic => "0, refuses what is obviously too much",
        Overcommit::Always => "1, refuses nothing",
        Overcommit::Strict => "2, strict",
        Overcommit::Unknown => "unknown",
    }
}

fn stalls(situation: &Situation) -> &'static str {
    match (situation.group.stalls, situation.machine.psi) {
        (true, _) => "told for the cgroup (PSI)",
        (false, true) => "told for the machine (PSI)",
        (false, false) => "not told (no PSI)",
    }
}

fn print_cgroup(out: &mut Text, situation: &Situation, directory: &[u8]) {
    let group = &situation.group;
    line(out, "cgroup", |out| {
        out.str(match group.kind {
            Kind::None => "none that can be read",
            Kind::V1 => "version 1, ",
            Kind::V2 => "version 2, ",
        });
        out.foreign(directory);
    });
    if let Some(usage) = group.own {
        limit(out, "cgroup_max", usage.max_bytes);
        limit(out, "cgroup_high", usage.high_bytes);
        bytes(out, "cgroup_usage", usage.usage_bytes);
        limit(out, "cgroup_head_room", group.head_room_bytes);
    }
}

fn print_layout(out: &mut Text, situation: &Situation) {
    let standing = &situation.standing;
    let Some(commitment) = standing.commitment.filter(|_| situation.started) else {
        words(
            out,
            "state",
            if situation.pages_too_large() {
                "cannot start: pages are larger than 64KiB; every request gets null"
            } else {
                "not started: nothing was allocated yet, or the kernel gave no address space"
            },
        );
        return;
    };
    words(out, "state", "started");
    words(out, "mode", mode(commitment));
    bytes(out, "first_reservation", standing.first_bytes as u64);
    bytes(out, "first_reservation_wanted", standing.wanted_bytes as u64);
    line(out, "reservations", |out| out.number(standing.count as u64));
    bytes(out, "reserved", standing.reserved_bytes as u64);
    bytes(out, "committed", standing.committed_bytes as u64);
    bytes(out, "hugetlb_taken", situation.pool_bytes);
}

fn mode(commitment: Commitment) -> &'static str {
    match commitment {
        Commitment::Ready => "ready: all at start",
        Commitment::Stepped(WhyStepped::Asked) => "stepped: the option says so",
        Commitment::Stepped(WhyStepped::Lockable) => "stepped: this process may lock all its memory",
        Commitment::Stepped(WhyStepped::Refused) => "stepped: the kernel did not commit all at once",
    }
}
