//! The outputs in lines and bytes: that each shows what it must, for every cause.

mod report_sample;

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use flate2::read::GzDecoder;
use freeze_trap::freeze::{Cause, Freeze, Holder};
use freeze_trap::report;
use freeze_trap::report::Kind;
use freeze_trap::report::profile::Profile;
use proptest::prelude::*;
use prost::Message;
use report_sample::{CAUSES, NASTY, freeze, nasty};
use test_support::skip;

/// Compares with a file of `tests/data`; what was made instead is left in the folder for tests.
fn compare(name: &str, made: &str) {
    let noted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let noted = fs::read_to_string(&noted).unwrap_or_default();
    let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&beside, made).unwrap();
    assert!(noted == made, "{name} is another now: read {} and copy it to tests/data\n{made}", beside.display());
}

/// No control character but the ends of lines.
fn is_plain(text: &str) -> bool {
    text.chars().all(|one| one == '\n' || !one.is_control())
}

/// The time off the processor in the frozen time.
fn frozen_ns(freeze: &Freeze) -> u64 {
    freeze.off_cpu.iter().map(|place| place.frozen_ns).sum()
}

#[test]
fn the_text_is_as_it_was() {
    compare("mmap_lock.txt", &report::text(&freeze(Cause::MmapLock), 80, false));
    compare("disk.txt", &report::text(&freeze(Cause::Disk), 80, false));
}

#[test]
fn the_text_begins_with_the_sentence_and_fits_its_columns() {
    for freeze in CAUSES.map(freeze).into_iter().chain([nasty()]) {
        for width in [40, 80, 132] {
            let text = report::text(&freeze, width, false);
            let wide = text.lines().find(|line| textwrap::core::display_width(line) > width);
            assert_eq!(wide, None, "at {width} columns");
            assert!(is_plain(&text), "{text:?}");
        }
        let words: Vec<&str> = freeze.sentence.split_whitespace().take(5).collect();
        assert!(freeze.sentence == NASTY || report::text(&freeze, 80, false).starts_with(&words.join(" ")));
    }
}

#[test]
fn colours_are_all_that_is_added() {
    for freeze in CAUSES.map(freeze) {
        let (plain, coloured) = (report::text(&freeze, 80, false), report::text(&freeze, 80, true));
        assert_ne!(plain, coloured);
        let mut parts = coloured.split('\u{1b}');
        let first = parts.next().unwrap().to_owned();
        let rest = parts.map(|part| part.split_once('m').expect("only colours are ordered").1);
        assert_eq!(first + &rest.collect::<String>(), plain);
    }
}

#[test]
fn the_text_says_who_what_and_what_is_missing() {
    let mut told = freeze(Cause::MmapLock);
    told.window.recovered_ns = None;
    told.blocked[0].unfinished = true;
    let text = report::text(&told, 200, false);
    for part in [
        "not recovered when the window ended",
        "thread 4107 (rebuild): mmap_lock for writing, munmap of 1.7 GB, called from index::grow; 8 threads waited",
        "still blocked",
        "k rwsem_down_read_slowpath",
        "i <index::Map<K, V> as index::Lookup>::get (src/index.rs:88, index-server)",
        "node_exporter (process 900): 1 hold, up to 74 ms, read of /proc/4100/smaps",
        "not seen: names of the kernel's functions: give CAP_SYSLOG",
        "5.2 GB",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    told.target.processes = (0..9).map(|pid| (pid, "pool".to_owned())).collect();
    assert!(report::text(&told, 200, false).contains("(pool 0, pool 1, pool 2, pool 3, and 5 more)"));
    told.target.processes.clear();
    assert!(report::text(&told, 200, false).contains("unit index.service (no process)"));
    let throttled = report::text(&freeze(Cause::Throttled), 80, false);
    assert!(throttled.contains("the cgroup was refused 1.9 s of processor time"));
}

/// A thread for which far more waited than there are pairs of it, and one of which not all is known.
fn with_holders() -> Freeze {
    let mut told = freeze(Cause::MmapLock);
    let (culprit, monitor) = (told.pairs[0].clone(), told.pairs.last().unwrap().clone());
    let holder = |longest, waiters, overlap_ns, at_least| Holder { longest, waiters, overlap_ns, at_least };
    told.holders = vec![holder(culprit, 1_000, 2_000_000_000_000, false), holder(monitor, 700, 42_000_000_000, true)];
    told.left_out.holders = 3;
    told
}

#[test]
fn holders_are_told_with_all_that_waited_for_them() {
    let told = with_holders();
    let text = report::text(&told, 200, false);
    for part in ["; 1000 threads waited, 2000 s in all, up to", "; at least 700 threads waited, at least 42 s in all"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let page = report::page(&told);
    for part in [">1000</td>", ">2000 s</td>", ">≥ 700</td>", ">≥ 42 s</td>", "and 3 rows more"] {
        assert!(page.contains(part), "{part:?} is not in the page");
    }
    let svg = report::flame(&told, Kind::LockWait);
    assert!(svg.contains("others waited") && svg.contains("2000 s in all"), "{svg}");
    assert_eq!(report::read_json(&report::json(&told)).unwrap(), told);
}

/// Not all waits are looked at one by one.
#[test]
fn pairs_that_are_left_out_are_told_as_so_many_at_least() {
    let mut told = freeze(Cause::MmapLock);
    told.left_out.pairs = 500;
    let left_out = told.pairs.len() + 500 - 10;
    let text = report::text(&told, 80, false);
    assert!(text.contains(&format!("\n  and at least {left_out} pairs more\n")), "{text}");
    assert!(report::page(&told).contains("and at least 500 rows more"));
}

/// What an earlier version wrote says of each holder only what its pairs do.
#[test]
fn without_holders_the_pairs_are_counted() {
    let mut old = freeze(Cause::MmapLock);
    old.left_out.pairs = 9;
    let json = report::json(&old).replacen("  \"holders\": [],\n", "", 1).replacen(",\n    \"holders\": 0", "", 1);
    assert!(!json.contains("\"holders\""), "{json}");
    let read = report::read_json(&json).unwrap();
    assert_eq!(read, old);
    assert!(report::text(&read, 200, false).contains("; at least 8 threads waited, at least 18 s in all"));
}

#[test]
fn nothing_seen_is_said_in_every_output() {
    let mut empty = freeze(Cause::Unknown);
    (empty.blocked, empty.pairs, empty.off_cpu, empty.intervals) = (vec![], vec![], vec![], vec![]);
    (empty.memory, empty.probes, empty.lock) = (vec![], vec![], None);
    assert!(report::text(&empty, 80, false).contains("nowhere that was seen"));
    assert_eq!(report::folded(&empty), "");
    assert_eq!(decoded(&empty).sample, []);
    assert_eq!(report::read_json(&report::json(&empty)).unwrap(), empty);
}

#[test]
fn json_is_read_back_as_it_was() {
    for freeze in CAUSES.map(freeze).into_iter().chain([nasty()]) {
        let json = report::json(&freeze);
        assert!(json.starts_with("{\n  \"schema\": 1,\n  \"sentence\": "));
        assert_eq!(report::read_json(&json).unwrap(), freeze);
    }
}

#[test]
fn json_of_others_is_refused_with_the_reason() {
    let other = report::json(&freeze(Cause::Disk)).replacen("\"schema\": 1", "\"schema\": 7", 1);
    let refused = |text: &str| report::read_json(text).unwrap_err().to_string();
    assert_eq!(refused(&other), "it has the layout of version 7; this program reads version 1");
    for text in ["", "{}", "[1]", "{\"schema\": 1}", "{\"schema\": 1, \"sentence\": 3}"] {
        assert!(refused(text).starts_with("this is not a freeze as `freeze-trap` writes it: "), "{text}");
    }
}

#[test]
fn folded_stacks_are_as_they_were() {
    compare("mmap_lock.folded", &report::folded(&freeze(Cause::MmapLock)));
}

#[test]
fn folded_stacks_are_lines_that_sum_up() {
    for freeze in CAUSES.map(freeze).into_iter().chain([nasty()]) {
        let folded = report::folded(&freeze);
        assert!(is_plain(&folded), "{folded:?}");
        let mut sum_us = 0;
        for line in folded.lines() {
            let (stack, us) = line.rsplit_once(' ').expect("a stack and a time");
            sum_us += us.parse::<u64>().unwrap();
            assert!(stack.split(';').all(|frame| !frame.is_empty()), "{line}");
            let parts = stack.split(';').count();
            let depths = freeze.off_cpu.iter().map(|place| 1 + place.stack.kernel.len() + place.stack.user.len());
            assert!(depths.into_iter().any(|depth| depth == parts), "{line}");
        }
        let lines = folded.lines().count() as u64;
        assert!(sum_us.abs_diff(frozen_ns(&freeze) / 1000) <= lines, "each line is rounded by itself");
    }
}

fn decoded(freeze: &Freeze) -> Profile {
    let mut bytes = Vec::new();
    GzDecoder::new(&report::pprof(freeze)[..]).read_to_end(&mut bytes).unwrap();
    Profile::decode(&bytes[..]).unwrap()
}

#[test]
fn a_profile_has_every_stack_with_its_time() {
    for freeze in CAUSES.map(freeze).into_iter().chain([nasty()]) {
        let profile = decoded(&freeze);
        let text = |number: i64| profile.string_table[usize::try_from(number).unwrap()].as_str();
        assert_eq!(text(0), "");
        let types: Vec<_> = profile.sample_type.iter().map(|one| (text(one.r#type), text(one.unit))).collect();
        assert_eq!(types, [("samples", "count"), ("off-cpu", "nanoseconds")]);
        assert_eq!(text(profile.default_sample_type), "off-cpu");
        let sum = |value: usize| profile.sample.iter().map(|sample| sample.value[value] as u64).sum::<u64>();
        assert_eq!(sum(1), frozen_ns(&freeze));
        assert_eq!(sum(0), freeze.off_cpu.iter().map(|place| place.count).sum::<u64>());
        let mappings: HashMap<u64, &str> = profile.mapping.iter().map(|one| (one.id, text(one.filename))).collect();
        let functions: HashMap<u64, &str> = profile.function.iter().map(|one| (one.id, text(one.name))).collect();
        assert!(!mappings.contains_key(&0) && !functions.contains_key(&0), "0 means none");
        let locations: HashMap<u64, _> = profile.location.iter().map(|one| (one.id, one)).collect();
        assert_eq!(locations.len(), profile.location.len());
        for sample in &profile.sample {
            let of_sample = || sample.location_id.iter().map(|id| locations[id]);
            assert!(of_sample().all(|location| mappings.contains_key(&location.mapping_id)));
            let lines = of_sample().flat_map(|location| &location.line);
            let names: Vec<&str> = lines.map(|line| functions[&line.function_id]).collect();
            let is_it = |place: &freeze_trap::freeze::OffCpuStack| {
                let frames = place.stack.kernel.iter().chain(&place.stack.user);
                frames.map(|frame| frame.function.as_str()).eq(names.iter().copied())
            };
            assert!(freeze.sentence == NASTY || freeze.off_cpu.iter().any(is_it), "{names:?}");
        }
    }
}

#[test]
fn a_profile_knows_lines_inlined_functions_and_its_time() {
    let profile = decoded(&freeze(Cause::MmapLock));
    let text = |number: i64| profile.string_table[usize::try_from(number).unwrap()].as_str();
    assert_eq!(text(profile.mapping[0].filename), "index-server", "the main program is the first");
    let inlined =
        profile.location.iter().find(|location| location.line.len() == 2).expect("there is an inlined function");
    let function = |id: u64| profile.function.iter().find(|one| one.id == id).unwrap();
    let told = inlined.line.iter().map(|line| {
        let function = function(line.function_id);
        (text(function.name), text(function.filename), line.line)
    });
    let wanted = [
        ("<index::Map<K, V> as index::Lookup>::get", "src/index.rs", 88),
        ("index::serve::<impl Fn(&Request) -> [u8; 4]>", "src/serve.rs", 41),
    ];
    assert_eq!(told.collect::<Vec<_>>(), wanted, "the innermost first");
    // 2026-11-27 06:57:01.2 UTC, less the 1.2 seconds from the first failure to the trigger.
    assert_eq!(profile.time_nanos, 1_795_762_620_000_000_000);
    assert_eq!(profile.duration_nanos, 2_300_000_000);
    let labels: Vec<_> = profile.sample[1].label.iter().map(|label| (text(label.key), text(label.str))).collect();
    assert_eq!(labels, [("thread", "worker-1"), ("on", "mmap_lock"), ("sleep", "slept, uninterruptible")]);
}

#[test]
fn pprof_itself_reads_a_profile() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("freeze.pprof.gz");
    fs::write(&file, report::pprof(&freeze(Cause::MmapLock))).unwrap();
    let told = [("go", &["tool", "pprof"][..]), ("pprof", &[])].into_iter().find_map(|(program, arguments)| {
        let output = Command::new(program).args(arguments).args(["-top", "-nodecount=9"]).arg(&file).output().ok()?;
        Some(output)
    });
    let Some(output) = told else {
        skip("neither `go tool pprof` nor `pprof` is installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Type: off-cpu") && text.contains("schedule"), "{text}");
}

/// A time or a number, near the ends of what there is or not.
fn any_ns() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..5_u64, u64::MAX - 5..=u64::MAX, 129_000_000_000..133_000_000_000_u64]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    /// What a file says may be wrong, and is shown all the same.
    #[test]
    fn no_numbers_stop_an_output(numbers in prop::collection::vec(any_ns(), 64), recovers: bool) {
        let mut freeze = freeze(Cause::MmapLock);
        let mut numbers = numbers.into_iter().cycle();
        let mut next = || numbers.next().unwrap();
        let window = &mut freeze.window;
        (window.start_ns, window.frozen_ns, window.trigger_ns, window.end_ns) = (next(), next(), next(), next());
        window.recovered_ns = recovers.then(&mut next);
        for span in &mut freeze.intervals {
            (span.start_ns, span.end_ns) = (next(), next());
        }
        for place in &mut freeze.off_cpu {
            (place.frozen_ns, place.total_ns, place.count) = (next(), next(), next());
            place.threads.iter_mut().for_each(|(_, ns)| *ns = next());
        }
        for pair in &mut freeze.pairs {
            pair.overlap_ns = next();
        }
        for point in freeze.probes.iter_mut().flat_map(|probe| &mut probe.points) {
            (point.0, point.1) = (next(), next());
        }
        for count in freeze.lock.iter_mut().flat_map(|lock| &mut lock.write_holds) {
            *count = next();
        }
        freeze.lock.as_mut().unwrap().read_waits.resize(70, 1);
        prop_assert!(!report::text(&freeze, 80, true).is_empty());
        prop_assert!(!report::folded(&freeze).contains("NaN"));
        prop_assert_eq!(decoded(&freeze).sample_type.len(), 2);
        let drawn = [report::Kind::OffCpu, report::Kind::LockWait].map(|kind| report::flame(&freeze, kind));
        for text in drawn.iter().chain([&report::page(&freeze)]) {
            let broken = ["NaN", "inf\"", "=\"-"].into_iter().find(|broken| text.contains(broken));
            prop_assert_eq!(broken, None);
        }
        prop_assert_eq!(report::read_json(&report::json(&freeze)).unwrap(), freeze);
    }
}
