//! Writes the mutants: for each line of the table in `mutants.rs` a module with the models of a structure over a copy
//! of its shipping file in which one piece of text is replaced.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "mutants.rs"]
mod table;

fn read(path: &Path) -> String {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// Inner doc comments may not stand in the middle of a file.
fn without_inner_docs(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("//!")).flat_map(|line| [line, "\n"]).collect()
}

/// `text` with the one occurrence of `find` replaced. Anything but one occurrence ends the build: the mutant has
/// rotted.
fn replace_once(text: &str, find: &str, replace: &str, what: &str) -> String {
    let count = text.matches(find).count();
    assert!(count == 1, "{what}: expected one occurrence of the text below, found {count}\n{find}");
    text.replacen(find, replace, 1)
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=mutants.rs");
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let mut written = String::new();
    for mutant in table::MUTANTS {
        let table::Mutant { structure, name, find, replace, caught_by, endless } = *mutant;
        let what = format!("mutant {structure}/{name}");
        let shipping = read(&here.join("../src/lockfree").join(structure).with_extension("rs"));
        let subject = replace_once(&without_inner_docs(&shipping), find, replace, &what);
        let models = without_inner_docs(&read(&here.join("src").join(structure).with_extension("rs")));
        let mount = format!("#[path = \"../../src/lockfree/{structure}.rs\"]\nmod subject;\n");
        let models = replace_once(&models, &mount, &format!("mod subject {{\n{subject}}}\n"), &what);
        // The models are tests over the shipping file only.
        let models = models.replace("#[test]\n", "");
        let assertion = if endless { "assert_endless" } else { "assert_caught" };
        writeln!(
            written,
            "#[allow(dead_code, unused, clippy::all)]\nmod {structure}_{name} {{\n{models}\n\
             #[test]\nfn is_caught() {{\n    crate::explore::{assertion}({caught_by});\n}}\n}}\n"
        )
        .expect("a String takes everything");
    }
    fs::write(out.join("mutants.rs"), written).expect("OUT_DIR is writable");
}
