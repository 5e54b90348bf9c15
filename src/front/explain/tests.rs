//! What is said of each situation: one fact changed at a time, and whole texts.

use std::boxed::Box;
use std::string::{String, ToString};
use std::vec::Vec;

use super::conditions::{PROMISES, WARMED_BYTES_MIN};
use super::promises::print;
use super::situation::{Group, Situation};
use crate::arena::Standing;
use crate::arena::{Availability, Commitment, WhyStepped};
use crate::options::{Governor, Options};
use crate::os::cgroup::{Cgroup, Kind};
use crate::os::fake::FakeOs;
use crate::os::machine::Machine;
use crate::os::machine::{Overcommit, ThpDefrag, ThpMode};
use crate::stats::Stats;
use crate::text::Text;
use crate::thread::engine::Engine;
use crate::units::Nanos;

const GIB: u64 = 1 << 30;

/// A machine and an allocator on which every promise holds and nothing is worth a note.
fn best() -> Situation {
    let mut options = Options::new();
    options.forecast = Some(1 << 30);
    let mut standing = Standing::new(Some(Commitment::Ready), 1 << 40);
    (standing.first_bytes, standing.count, standing.rooms) = (1 << 40, 1, Availability::Left);
    Situation {
        started: true,
        options,
        environment_ignored: false,
        machine: Machine {
            kernel: (6, 17),
            thp: ThpMode::Madvise,
            thp_defrag: ThpDefrag::Defer,
            khugepaged_defrag: Some(true),
            hugetlb_total_pages: 0,
            hugetlb_free_pages: 0,
            overcommit: Overcommit::Heuristic,
            limit_as: None,
            limit_data: None,
            limit_memlock: None,
            page_bytes: 4096,
            memory_bytes: 32 << 30,
            psi: true,
            dumps: false,
        },
        group: Group { kind: Kind::V2, ..Group::NONE },
        scatters: true,
        standing,
        pool_bytes: 0,
        stats: Stats::default(),
    }
}

fn text_of(print: impl FnOnce(&mut Text)) -> String {
    let mut buffer = [0; 16 << 10];
    let mut text = Text::new(&mut buffer);
    print(&mut text);
    text.finish().unwrap().to_string()
}

fn printed(situation: &Situation) -> String {
    text_of(|out| print(out, situation))
}

/// What the best situation says with `change` made to it: lines that are not `kept`.
fn said(change: fn(&mut Situation)) -> Vec<String> {
    let mut situation = best();
    change(&mut situation);
    let text = printed(&situation);
    let promises = PROMISES.map(|promise| promise.name);
    let all: Vec<&str> = text.lines().collect();
    for promise in promises {
        let lines: Vec<_> = all.iter().filter(|line| line.starts_with(promise)).collect();
        let kept = lines.iter().any(|line| line.ends_with(": kept"));
        let weakened = lines.iter().any(|line| line.contains(": weakened: "));
        assert!(kept != weakened, "{promise}: {lines:?}");
    }
    all.into_iter().filter(|line| !line.ends_with(": kept")).map(String::from).collect()
}

/// One change each, and the beginning of every line that it causes, in order.
type Case = (fn(&mut Situation), &'static [&'static str]);

const CASES: &[Case] = &[
    (|_| {}, &[]),
    (
        |it| it.standing.commitment = Some(Commitment::Stepped(WhyStepped::Asked)),
        &[
            "P1 no write lock: weakened: memory is committed in steps, as the option",
            "P1 no write lock: weakened: calls for writing since start-up: 0,",
        ],
    ),
    (
        |it| {
            it.standing.commitment = Some(Commitment::Stepped(WhyStepped::Lockable));
            it.stats.write_lock_calls = 7;
            it.stats.commit.governor.calls = 4;
            it.stats.commit.governor.time.max_ns = 9_300;
            it.stats.commit.application.time.max_ns = 8_000;
        },
        &[
            "P1 no write lock: weakened: memory is committed in steps, because this process may lock",
            "P1 no write lock: weakened: calls for writing since start-up: 7, of these on threads of the program: 3; \
             the longest mprotect took 9.3us",
        ],
    ),
    (
        |it| it.standing.commitment = Some(Commitment::Stepped(WhyStepped::Refused)),
        &[
            "P1 no write lock: weakened: memory is committed in steps, because the kernel did not",
            "P1 no write lock: weakened: calls for writing",
        ],
    ),
    (
        |it| (it.standing.count, it.stats.write_lock_calls) = (3, 8),
        &["P1 no write lock: weakened: the first reservation was outgrown; further ones: 2, \
              calls for writing since start-up: 8;"],
    ),
    (
        |it| it.stats.write_lock_calls = 1,
        &["P1 no write lock: weakened: the first reservation was outgrown; further ones: 0, \
              calls for writing since start-up: 1;"],
    ),
    (
        |it| it.standing.first_bytes = 1 << 39,
        &["P1 no write lock: weakened: the kernel gave 512GiB of address space where 1TiB were wanted"],
    ),
    // A reservation ends somewhere in its last half.
    (|it| it.standing.first_bytes = (1 << 39) + 1, &[]),
    (|it| it.machine.kernel = (0, 0), &["P2 bounded calls: weakened: the release of the kernel is not known"]),
    (|it| it.machine.kernel = (6, 16), &["P2 bounded calls: weakened: before Linux 6.17 giving memory back"]),
    (|it| it.machine.kernel = (6, 4), &["P2 bounded calls: weakened: before Linux 6.17 giving memory back"]),
    (
        |it| it.machine.kernel = (6, 3),
        &[
            "P2 bounded calls: weakened: before Linux 6.17 giving memory back",
            "P2 bounded calls: weakened: before Linux 6.4 every page fault",
        ],
    ),
    (
        |it| it.machine.kernel = (5, 8),
        &[
            "P2 bounded calls: weakened: before Linux 6.17 giving memory back",
            "P2 bounded calls: weakened: before Linux 6.4 every page fault",
            "P4 memory does come back: weakened: before Linux 5.9 the background thread",
        ],
    ),
    (
        |it| {
            it.stats.over_budget_calls = 2;
            it.stats.purge.governor.calls = 100;
            it.stats.warm.governor.calls = 20;
            it.stats.commit.application.calls = 3;
            it.stats.warm.governor.time.max_ns = 1_250_000;
        },
        &["P2 bounded calls: weakened: 2 of 123 calls took longer than hold_budget, the longest 1.2ms"],
    ),
    (
        |it| (it.options.governor, it.stats.governor.batches) = (Governor::Tick, 5),
        &[
            "P3 no purge on your thread: weakened: governor = tick",
            "P4 memory does come back: weakened: governor = tick: memory comes back only while the program calls \
             tick(); calls that did work: 5",
        ],
    ),
    (
        |it| it.stats.purge.application.calls = 4,
        &["P3 no purge on your thread: weakened: 4 calls gave memory back within requests"],
    ),
    (|it| it.options.decay = None, &["P4 memory does come back: weakened: decay = off"]),
    (|it| it.options.decay = Some(Nanos(0)), &[]),
    (|it| it.options.pressure = false, &["P4 memory does come back: weakened: pressure = off"]),
    (|it| it.group.kind = Kind::None, &["P4 memory does come back: weakened: no memory cgroup"]),
    (|it| it.group.kind = Kind::V1, &[]),
    (
        |it| (it.group.kind, it.options.pressure) = (Kind::None, false),
        &["P4 memory does come back: weakened: pressure = off"],
    ),
    (|it| it.standing.thread_refused = true, &["P4 memory does come back: weakened: the background thread could"]),
    (
        |it| {
            it.stats.purge.governor.errors = 3;
            it.stats.purge.governor.calls = 9;
        },
        &["P4 memory does come back: weakened: the kernel refused 3 of 9 calls"],
    ),
    (
        |it| (it.options.purge_rate, it.stats.governor.backlog) = (Some(GIB / 60), 2 * GIB),
        &["P4 memory does come back: weakened: 2GiB should be given back by now"],
    ),
    (|it| (it.options.purge_rate, it.stats.governor.backlog) = (Some(GIB), 60 * GIB), &[]),
    (|it| (it.options.purge_rate, it.stats.governor.backlog) = (None, u64::MAX), &[]),
    (
        |it| it.machine.overcommit = Overcommit::Strict,
        &["P4 memory does come back: weakened: vm.overcommit_memory is 2"],
    ),
    // Then what page faults do for the sake of hugepages does not matter.
    (
        |it| (it.machine.thp, it.machine.thp_defrag) = (ThpMode::Never, ThpDefrag::Always),
        &["P5 growth without copying: weakened: transparent hugepages are off"],
    ),
    (
        |it| it.stats.advise.application.errors = 1,
        &["P5 growth without copying: weakened: the kernel refused hugepages"],
    ),
    (
        |it| it.machine.thp_defrag = ThpDefrag::Madvise,
        &["P5 growth without copying: weakened: by transparent_hugepage/defrag"],
    ),
    (
        |it| it.machine.thp_defrag = ThpDefrag::DeferMadvise,
        &["P5 growth without copying: weakened: by transparent_hugepage/defrag"],
    ),
    (
        |it| it.machine.thp_defrag = ThpDefrag::Always,
        &["P5 growth without copying: weakened: by transparent_hugepage/defrag"],
    ),
    (|it| it.machine.thp_defrag = ThpDefrag::Never, &[]),
    (
        |it| (it.stats.governor.prewarm_bytes, it.stats.governor.prewarm_hugepage_bytes) = (GIB, GIB / 4),
        &["P5 growth without copying: weakened: hugepages back only 256MiB of 1GiB that were made warm"],
    ),
    (|it| (it.stats.governor.prewarm_bytes, it.stats.governor.prewarm_hugepage_bytes) = (GIB, GIB / 2), &[]),
    (|it| it.stats.governor.prewarm_bytes = WARMED_BYTES_MIN - 1, &[]),
    (
        |it| it.standing.rooms = Availability::None,
        &["P5 growth without copying: weakened: the reservation is too narrow"],
    ),
    (|it| it.standing.rooms = Availability::Exhausted, &["P5 growth without copying: weakened: all rooms are taken"]),
    (
        |it| {
            it.standing.rooms = Availability::Exhausted;
            it.standing.commitment = Some(Commitment::Stepped(WhyStepped::Asked));
        },
        &[
            "P1 no write lock: weakened: memory is committed in steps",
            "P1 no write lock: weakened: calls for writing",
            "P5 growth without copying: weakened: the four rooms that stepped mode uses are taken",
        ],
    ),
    (
        |it| {
            (it.options.hugetlb, it.pool_bytes) = (Some(4 << 30), GIB);
            it.machine.hugetlb_free_pages = 3;
        },
        &["P5 growth without copying: weakened: 1GiB of the 4GiB that hugetlb asks for came from the pool at \
             start; 3 pages"],
    ),
    (|it| (it.options.hugetlb, it.pool_bytes) = (Some(4 << 30), 4 * GIB), &[]),
    (|it| it.options.warm_reserve = None, &["P5 growth without copying: note: warm_reserve = off"]),
    (|it| it.options.forecast = None, &["P5 growth without copying: note: forecast = off"]),
    (|it| it.machine.thp = ThpMode::Unknown, &["P6 nothing hidden: weakened: /sys/kernel/mm"]),
    (|it| it.machine.thp_defrag = ThpDefrag::Unknown, &["P6 nothing hidden: weakened: /sys/kernel/mm"]),
    (|it| it.machine.overcommit = Overcommit::Unknown, &["P6 nothing hidden: weakened: /proc/sys/vm"]),
    (|it| it.machine.dumps = true, &["P6 nothing hidden: note: a core dump spans the reservation"]),
    (|it| it.environment_ignored = true, &["P6 nothing hidden: note: variables ANTIFREEZE_*"]),
];

#[test]
fn each_fact_weakens_its_promises_and_no_other() {
    for (change, beginnings) in CASES {
        let lines = said(*change);
        assert_eq!(lines.len(), beginnings.len(), "{lines:?}, not {beginnings:?}");
        for (line, beginning) in lines.iter().zip(*beginnings) {
            assert!(line.starts_with(beginning), "{line}, not {beginning}");
        }
    }
}

#[test]
fn every_condition_of_the_table_has_a_case() {
    let situations: Vec<Situation> = CASES.iter().map(|(change, _)| (best(), change)).map(changed).collect();
    for promise in &PROMISES {
        for (number, condition) in promise.conditions.iter().enumerate() {
            assert!(situations.iter().any(condition.holds), "{}, number {number}", promise.name);
        }
    }
}

fn changed((mut situation, change): (Situation, &fn(&mut Situation))) -> Situation {
    change(&mut situation);
    situation
}

#[test]
fn nothing_is_promised_before_the_start() {
    let mut situation = best();
    (situation.started, situation.options.decay) = (false, None);
    let text = printed(&situation);
    assert_eq!(text.lines().count(), PROMISES.len());
    assert!(text.lines().all(|line| line.ends_with(": not started")), "{text}");
}

// The whole text, of engines on the fake kernel.

fn all(situation: &Situation, release: &[u8], directory: &[u8]) -> String {
    text_of(|out| super::print(out, situation, release, directory))
}

fn leak(os: FakeOs) -> &'static Engine<FakeOs> {
    Box::leak(Box::new(Engine::new(os)))
}

fn read(engine: &Engine<FakeOs>, started: bool) -> Situation {
    Situation::read(engine, started, Options::new(), &mut Cgroup::new())
}

#[test]
fn before_the_start_it_says_so_and_promises_nothing() {
    let text = all(&read(leak(FakeOs::new()), false), b"6.18", b"");
    assert!(text.contains("\nstate = not started"), "{text}");
    assert!(text.contains("P1 no write lock: not started\n") && !text.contains(": kept"));
    let mut os = FakeOs::new();
    os.facts.page_bytes = 128 << 10;
    let text = all(&read(leak(os), false), b"6.18", b"");
    assert!(text.contains("\nstate = cannot start: pages are larger"), "{text}");
}

#[test]
fn what_cannot_be_read_is_unknown() {
    let engine = leak(FakeOs::new());
    assert!(engine.start(&Options::new()));
    let text = all(&read(engine, true), b"", b"");
    for line in ["kernel = unknown", "thp = unknown", "thp_defrag = unknown", "overcommit = unknown", "cgroup = none"] {
        assert!(text.contains(&std::format!("\n{line}")), "{line}: {text}");
    }
}

#[test]
fn what_comes_from_outside_moves_no_cursor() {
    let text = all(&read(leak(FakeOs::new()), false), b"6.18\x1b[2J", b"/sys/\xff\n/x");
    assert!(text.contains("\nkernel = 6.18?[2J\n") && text.contains("/sys/??/x\n"), "{text}");
}
