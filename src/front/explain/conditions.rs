//! What weakens each promise, and what to do about it: the one table of names and texts. Read by `promises`.
//!
//! Invariant: each text of a reason says what can be done; a fact that is not known weakens.

use Part::{Bytes, Number, Time, Words};

use super::promises::{Condition, Part, Promise, Weight};
use super::situation::Situation;
use crate::arena::{Availability, Commitment, WhyStepped};
use crate::os::cgroup::Kind;
use crate::os::machine::{Overcommit, ThpDefrag, ThpMode};

/// Seconds of the purge rate that may be due before the rate counts as too low.
const BACKLOG_SECONDS: u64 = 60;
/// Bytes that were made warm before it says something how many of them got hugepages.
pub(super) const WARMED_BYTES_MIN: u64 = 64 << 20;

const fn weakens(holds: fn(&Situation) -> bool, text: &'static [Part]) -> Condition {
    Condition { weight: Weight::Weakens, holds, text }
}

/// Worth saying, and no more.
const fn note(holds: fn(&Situation) -> bool, text: &'static [Part]) -> Condition {
    Condition { weight: Weight::Note, holds, text }
}

/// All promises.
pub(super) const PROMISES: [Promise; 6] = [
    Promise {
        name: "P1 no write lock",
        conditions: &[
            weakens(
                |it| it.standing.commitment == Some(Commitment::Stepped(WhyStepped::Asked)),
                &[Words(
                    "memory is committed in steps, as the option commit says; choose ready if nothing in the \
                     program calls mlockall",
                )],
            ),
            weakens(
                |it| it.standing.commitment == Some(Commitment::Stepped(WhyStepped::Lockable)),
                &[Words(
                    "memory is committed in steps, because this process may lock all of it (CAP_IPC_LOCK, or a \
                     large RLIMIT_MEMLOCK); choose commit = ready if nothing in the program calls mlockall",
                )],
            ),
            weakens(
                |it| it.standing.commitment == Some(Commitment::Stepped(WhyStepped::Refused)),
                &[Words(
                    "memory is committed in steps, because the kernel did not commit all of it at once; lift \
                     RLIMIT_DATA, or set vm.overcommit_memory to 0 or 1",
                )],
            ),
            weakens(
                Situation::is_stepped,
                &[
                    Words("calls for writing since start-up: "),
                    Number(|it| it.stats.write_lock_calls),
                    Words(", of these on threads of the program: "),
                    Number(Situation::application_write_calls),
                    Words("; the longest mprotect took "),
                    Time(|it| it.stats.commit.application.time.max_ns.max(it.stats.commit.governor.time.max_ns)),
                ],
            ),
            weakens(
                |it| it.standing.count > 1 || !it.is_stepped() && it.stats.write_lock_calls > 0,
                &[
                    Words("the first reservation was outgrown; further ones: "),
                    Number(|it| (it.standing.count as u64).saturating_sub(1)),
                    Words(", calls for writing since start-up: "),
                    Number(|it| it.stats.write_lock_calls),
                    Words("; choose a larger reservation"),
                ],
            ),
            weakens(
                Situation::is_narrowed,
                &[
                    Words("the kernel gave "),
                    Bytes(|it| it.standing.first_bytes as u64),
                    Words(" of address space where "),
                    Bytes(|it| it.standing.wanted_bytes as u64),
                    Words(
                        " were wanted, and more is taken when that is used up; lift RLIMIT_AS, or leave the sandbox \
                         that allows no more",
                    ),
                ],
            ),
        ],
    },
    Promise {
        name: "P2 bounded calls",
        conditions: &[
            weakens(
                |it| it.machine.kernel == (0, 0),
                &[Words(
                    "the release of the kernel is not known, and it is taken for an old one: calls get half of \
                     hold_budget",
                )],
            ),
            weakens(
                |it| it.machine.kernel != (0, 0) && !it.machine.purges_without_mmap_lock(),
                &[Words(
                    "before Linux 6.17 giving memory back holds mmap_lock for reading; calls get half of \
                     hold_budget; a newer kernel locks one mapping only",
                )],
            ),
            weakens(
                |it| it.machine.kernel != (0, 0) && !it.machine.faults_without_mmap_lock(),
                &[Words(
                    "before Linux 6.4 every page fault holds mmap_lock for reading, and waits while others hold \
                     or want it for writing; a newer kernel locks one mapping only",
                )],
            ),
            weakens(
                |it| it.stats.over_budget_calls > 0,
                &[
                    Number(|it| it.stats.over_budget_calls),
                    Words(" of "),
                    Number(|it| it.budgeted().0),
                    Words(" calls took longer than hold_budget, the longest "),
                    Time(|it| it.budgeted().1),
                    Words(
                        "; a few mean that the processor was taken away in the middle; if there are many, give the \
                         process more processor time or raise hold_budget",
                    ),
                ],
            ),
        ],
    },
    Promise {
        name: "P3 no purge on your thread",
        conditions: &[
            weakens(
                Situation::ticks,
                &[Words(
                    "governor = tick: memory is given back and warmed on the threads that call tick(); call it \
                     where nobody waits, or choose thread",
                )],
            ),
            weakens(
                |it| it.stats.purge.application.calls > 0,
                &[
                    Number(|it| it.stats.purge.application.calls),
                    Words(
                        " calls gave memory back within requests of the program: a fault of the allocator; report it",
                    ),
                ],
            ),
        ],
    },
    Promise {
        name: "P4 memory does come back",
        conditions: &[
            weakens(
                Situation::ticks,
                &[
                    Words(
                        "governor = tick: memory comes back only while the program calls tick(); calls that did work: ",
                    ),
                    Number(|it| it.stats.governor.batches),
                ],
            ),
            weakens(
                |it| it.options.decay.is_none(),
                &[Words("decay = off: freed memory stays until purge() or pressure takes it; choose a time")],
            ),
            weakens(
                |it| !it.options.pressure,
                &[Words(
                    "pressure = off: memory comes back no faster when the cgroup or the machine runs short of it; \
                     choose on",
                )],
            ),
            weakens(
                |it| it.options.pressure && it.group.kind == Kind::None,
                &[Words(
                    "no memory cgroup of this process can be read: a limit that it has is not seen before it is \
                     reached; make /proc/self/cgroup and /sys/fs/cgroup readable",
                )],
            ),
            weakens(
                |it| {
                    let old = it.machine.kernel != (0, 0) && it.machine.kernel < (5, 9);
                    it.options.pressure && old && !it.ticks()
                },
                &[Words(
                    "before Linux 5.9 the background thread cannot have descriptors of its own, so that it opens \
                     no files: neither pressure nor head-room is seen; a newer kernel allows it",
                )],
            ),
            weakens(
                |it| it.standing.thread_refused,
                &[Words(
                    "the background thread could not be started, so that freed memory stays; raise RLIMIT_NPROC or \
                     pids.max, or choose governor = tick and call tick()",
                )],
            ),
            weakens(
                |it| it.stats.purge.errors() > 0,
                &[
                    Words("the kernel refused "),
                    Number(|it| it.stats.purge.errors()),
                    Words(" of "),
                    Number(|it| it.stats.purge.calls()),
                    Words(
                        " calls that give memory back, and they are repeated ever more rarely; memory that is locked \
                         can be given back since Linux 5.18",
                    ),
                ],
            ),
            weakens(
                |it| {
                    let rate = it.options.purge_rate.unwrap_or(u64::MAX);
                    it.stats.governor.backlog / BACKLOG_SECONDS > rate
                },
                &[
                    Bytes(|it| it.stats.governor.backlog),
                    Words(
                        " should be given back by now, more than a minute's worth of purge_rate; choose a higher one",
                    ),
                ],
            ),
            weakens(
                |it| it.machine.overcommit == Overcommit::Strict,
                &[Words(
                    "vm.overcommit_memory is 2: what is given back stays charged to the commit limit of the \
                     machine; choose 0 or 1",
                )],
            ),
        ],
    },
    Promise {
        name: "P5 growth without copying",
        conditions: &[
            weakens(
                |it| it.machine.thp == ThpMode::Never,
                &[Words(
                    "transparent hugepages are off: memory comes in small pages, and faulting and giving it back \
                     take longer; set /sys/kernel/mm/transparent_hugepage/enabled to madvise",
                )],
            ),
            weakens(
                |it| it.machine.thp != ThpMode::Never && it.stats.advise.errors() > 0,
                &[Words(
                    "the kernel refused hugepages for the reservation: memory comes in small pages, and faulting \
                     and giving it back take longer; use a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
                )],
            ),
            weakens(
                |it| {
                    let direct = matches!(
                        it.machine.thp_defrag,
                        ThpDefrag::Always | ThpDefrag::DeferMadvise | ThpDefrag::Madvise
                    );
                    direct && it.machine.thp != ThpMode::Never
                },
                &[Words(
                    "by transparent_hugepage/defrag a page fault that finds no free hugepage makes one first, \
                     however long that takes: the background thread pays for memory that it warms, your threads \
                     for the rest; prewarm what must be fast, or set defrag to defer",
                )],
            ),
            weakens(
                |it| {
                    let warmed = it.stats.governor.prewarm_bytes;
                    let few = it.stats.governor.prewarm_hugepage_bytes < warmed / 2;
                    it.machine.thp != ThpMode::Never && warmed >= WARMED_BYTES_MIN && few
                },
                &[
                    Words("hugepages back only "),
                    Bytes(|it| it.stats.governor.prewarm_hugepage_bytes),
                    Words(" of "),
                    Bytes(|it| it.stats.governor.prewarm_bytes),
                    Words(
                        " that were made warm: memory is fragmented, or this process may have none \
                         (PR_SET_THP_DISABLE); compact it (vm.compact_memory), or set a pool aside (hugetlb)",
                    ),
                ],
            ),
            weakens(
                |it| it.standing.rooms == Availability::None,
                &[Words(
                    "the reservation is too narrow to leave head-room above huge blocks: they grow in place only \
                     while what lies behind them is free, and prewarm() of one block is refused; choose a \
                     reservation of 64GiB or more",
                )],
            ),
            weakens(
                |it| it.standing.rooms == Availability::Exhausted && it.is_stepped(),
                &[Words(
                    "the four rooms that stepped mode uses are taken: further huge blocks grow in place only while \
                     what lies behind them is free; ready mode has more",
                )],
            ),
            weakens(
                |it| it.standing.rooms == Availability::Exhausted && !it.is_stepped(),
                &[Words(
                    "all rooms are taken: further huge blocks grow in place only while what lies behind them is \
                     free; choose a larger reservation",
                )],
            ),
            weakens(
                |it| it.options.hugetlb.is_some_and(|asked| it.pool_bytes < asked as u64),
                &[
                    Bytes(|it| it.pool_bytes),
                    Words(" of the "),
                    Bytes(|it| it.options.hugetlb.unwrap_or(0) as u64),
                    Words(" that hugetlb asks for came from the pool at start; "),
                    Number(|it| it.machine.hugetlb_free_pages),
                    Words(" pages of 2MiB are free in it now; raise vm.nr_hugepages before the start"),
                ],
            ),
            note(
                |it| it.options.warm_reserve.is_none(),
                &[Words("warm_reserve = off: only what prewarm() or the forecast asks for is warm ahead of need")],
            ),
            note(
                |it| it.options.forecast.is_none(),
                &[Words("forecast = off: a table that doubles finds warm memory only if prewarm() asked for it")],
            ),
        ],
    },
    Promise {
        name: "P6 nothing hidden",
        conditions: &[
            weakens(
                |it| it.machine.thp == ThpMode::Unknown || it.machine.thp_defrag == ThpDefrag::Unknown,
                &[Words(
                    "/sys/kernel/mm/transparent_hugepage cannot be read: whether hugepages back memory is not \
                     known; compare prewarm_hugepage_bytes with prewarm_bytes in the stats",
                )],
            ),
            weakens(
                |it| it.machine.overcommit == Overcommit::Unknown,
                &[Words(
                    "/proc/sys/vm/overcommit_memory cannot be read: whether memory is promised strictly is not \
                     known; make /proc readable",
                )],
            ),
            note(
                |it| it.machine.dumps && it.standing.commitment == Some(Commitment::Ready),
                &[Words(
                    "a core dump spans the reservation, for which the kernel may take most of a minute; choose \
                     commit = stepped where dumps are made",
                )],
            ),
            note(
                |it| it.environment_ignored,
                &[Words(
                    "variables ANTIFREEZE_* are not read, because this program runs set-user-ID or with \
                     capabilities of its file; choose options in code",
                )],
            ),
        ],
    },
];
