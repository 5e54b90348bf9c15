//! The tables in README.md that say which record they were made from are what `allocator-bench table` prints for it.

use std::path::Path;
use std::process::Command;

const BEGIN: &str = "<!-- allocator-bench table ";
const END: &str = "<!-- end of table -->";

/// Checks all tables of a document whose records are named relative to `root`; gives how many there are.
fn check(document: &str, root: &Path) -> Result<usize, String> {
    let (mut rest, mut count) = (document, 0);
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let (record, after) = after.split_once(" -->\n").ok_or("a marker has no end")?;
        let (table, after) = after.split_once(END).ok_or_else(|| format!("the table of {record} has no end"))?;
        let output = Command::new(env!("CARGO_BIN_EXE_allocator-bench")).arg("table").arg(root.join(record)).output();
        let output = output.expect("the runner can be started");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        if printed.trim() != table.trim() {
            return Err(format!("the table of {record} should be\n{printed}\nbut is\n{table}"));
        }
        (rest, count) = (after, count + 1);
    }
    if rest.contains(END) { Err("a table has no beginning".to_owned()) } else { Ok(count) }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_table_that_was_changed_is_found() {
    let table = Command::new(env!("CARGO_BIN_EXE_allocator-bench"))
        .args(["table", "tests/data/record.csv"])
        .current_dir(package())
        .output()
        .expect("the runner can be started");
    let table = String::from_utf8(table.stdout).expect("a table is text");
    let document = format!("# Title\n\n{BEGIN}tests/data/record.csv -->\n{table}{END}\n\nText\n");
    assert_eq!(check(&document, package()), Ok(1));
    assert_eq!(check("# Title\n", package()), Ok(0));
    for (broken, reason) in [
        (document.replace("20.0", "19.0"), "should be"),
        (document.replace(END, ""), "has no end"),
        (document.replace(BEGIN, "<!-- "), "has no beginning"),
        (document.replace("data/record.csv", "data/nothing.csv"), "cannot read"),
    ] {
        let error = check(&broken, package()).expect_err(reason);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn tables_of_the_readme_are_those_of_their_records() {
    let root = package().parent().expect("the package lies in the repository");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("there is a README");
    if let Err(error) = check(&readme, root) {
        panic!("README.md: {error}");
    }
}
