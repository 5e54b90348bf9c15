//! Tests of the tests: that no structure goes without models and mutants, that the document names them all, and that
//! `crate::atomic` makes up for the interleavings that loom alone would skip.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::atomic::{AtomicU32, Ordering};
use crate::explore::{alone, explore, spawn};
use crate::table::MUTANTS;

fn path(in_project: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(in_project)
}

fn read(in_project: &str) -> String {
    fs::read_to_string(path(in_project)).unwrap_or_else(|error| panic!("{in_project}: {error}"))
}

/// The names of the mutants, by structure.
fn mutants() -> BTreeMap<String, BTreeSet<String>> {
    let mut mutants: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for mutant in MUTANTS {
        mutants.entry(mutant.structure.to_owned()).or_default().insert(mutant.name.to_owned());
    }
    mutants
}

#[test]
fn every_structure_has_a_model_and_two_mutants() {
    let mutants = mutants();
    let mounts = read("loom-tests/src/lib.rs");
    let files = fs::read_dir(path("src/lockfree")).unwrap().map(|entry| entry.unwrap().path());
    let structures: BTreeSet<String> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "mod")
        .collect();
    assert!(structures.contains("remote_free"), "the folder was found");
    for structure in &structures {
        let models = read(&format!("loom-tests/src/{structure}.rs"));
        assert!(mounts.contains(&format!("\nmod {structure};\n")), "{structure} is not part of the crate");
        assert!(models.contains("#[test]\nfn "), "{structure} has no model");
        assert!(mutants.get(structure).is_some_and(|names| names.len() >= 2), "{structure} lacks mutants");
    }
    assert!(mutants.keys().all(|structure| structures.contains(structure)), "a mutant of nothing");
}

#[test]
fn the_document_names_exactly_the_mutants_there_are() {
    let document = read("docs/VERIFICATION.md");
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let section = document.split("### Mutants\n").nth(1).unwrap();
    let section = section.split("\n#").next().unwrap();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        // | `structure` | `mutant`, `mutant` |
        let mut names = row.split('`').skip(1).step_by(2).map(str::to_owned);
        if let Some(structure) = names.next() {
            assert!(named.insert(structure, names.collect()).is_none(), "a structure has two rows");
        }
    }
    assert_eq!(named, mutants());
}

/// What `model` can give. For tests that are [`alone`]: elsewhere, another process would see it.
fn outcomes<T: Ord + Send + 'static>(model: fn() -> T) -> BTreeSet<T> {
    let outcomes = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = outcomes.clone();
    explore(move || {
        let outcome = model();
        seen.lock().unwrap().insert(outcome);
    });
    let outcomes = Arc::into_inner(outcomes).unwrap().into_inner().unwrap();
    assert!(!outcomes.is_empty(), "the model has not run in this process");
    outcomes
}

#[test]
fn a_load_before_a_store_hides_no_interleaving() {
    alone(|| {
        // https://github.com/tokio-rs/loom/issues/392
        let seen = outcomes(|| {
            let flag = Arc::new(AtomicU32::new(0));
            let setter = spawn(&flag, |flag| {
                flag.load(Ordering::Relaxed);
                flag.store(1, Ordering::Relaxed);
            });
            let value = flag.load(Ordering::Relaxed);
            setter.join().unwrap();
            value
        });
        assert_eq!(seen, BTreeSet::from([0, 1]));
    });
}

#[test]
fn a_load_that_nobody_needs_changes_no_outcome() {
    alone(|| {
        // https://github.com/tokio-rs/loom/issues/166
        fn entry(with_load: bool) -> (u32, u32) {
            let entry = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
            let writer = spawn(&entry, move |[key, value]| {
                key.store(1, Ordering::SeqCst);
                value.store(1, Ordering::SeqCst);
                value.store(0, Ordering::SeqCst);
                if with_load {
                    key.load(Ordering::SeqCst);
                }
                key.store(0, Ordering::SeqCst);
            });
            let reader = spawn(&entry, |[key, value]| (value.load(Ordering::SeqCst), key.load(Ordering::SeqCst)));
            writer.join().unwrap();
            reader.join().unwrap()
        }
        assert_eq!(outcomes(|| entry(false)), outcomes(|| entry(true)));
    });
}
