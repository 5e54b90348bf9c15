//! `install.sh`: what it installs can be preloaded and linked with, by way of pkg-config, and goes again.

#![cfg(target_os = "linux")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use test_support::skip;

use common::{built, directory, has, output, plain, printed, text};

/// What every file of it is called, below the prefix, but for the links of the shared library.
const FILES: [&str; 4] =
    ["include/antifreeze.h", "lib/libantifreeze.a", "lib/libantifreeze.so.VERSION", "lib/pkgconfig/antifreeze.pc"];
const LINKS: [&str; 2] = ["lib/libantifreeze.so", "lib/libantifreeze.so.MAJOR"];

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn script(arguments: &[&str]) -> Output {
    output(plain("bash").arg(package().join("install.sh")).args(arguments))
}

/// Runs the script, which must succeed and must not write to standard error.
fn script_succeeds(arguments: &[&str]) -> String {
    let output = script(arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    text(&output.stdout)
}

fn string(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// All that is not a directory below one, by its path from there, in order.
fn files(below: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![below.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("its type").is_dir() {
                directories.push(entry.path());
            } else {
                found.push(string(entry.path().strip_prefix(below).expect("below it")).to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The files and links that there should be.
fn expected(with_static: bool) -> Vec<String> {
    let name = |name: &&str| {
        name.replace("VERSION", env!("CARGO_PKG_VERSION")).replace("MAJOR", env!("CARGO_PKG_VERSION_MAJOR"))
    };
    let mut names: Vec<String> = FILES.iter().chain(&LINKS).map(name).collect();
    names.retain(|name| with_static || !name.ends_with(".a"));
    names.sort();
    names
}

#[test]
fn what_is_installed_goes_again() {
    let prefix = directory("install-and-remove");
    for options in [&["--static"][..], &[]] {
        let mut arguments = vec!["--prefix", string(&prefix), "--built", string(built())];
        arguments.extend(options);
        for _again in 0..2 {
            let said = script_succeeds(&arguments);
            assert!(said.contains(&format!("LD_PRELOAD={}/lib/libantifreeze.so.0 ", prefix.display())), "{said}");
            assert_eq!(files(&prefix), expected(!options.is_empty()));
        }
        std::fs::write(prefix.join("lib/another"), "").expect("a file of others");
        script_succeeds(&["--uninstall", "--prefix", string(&prefix)]);
        assert_eq!(files(&prefix), ["lib/another"]);
        std::fs::remove_file(prefix.join("lib/another")).expect("it goes");
    }
}

#[test]
fn a_package_does_not_name_the_place_where_it_was_made() {
    let root = directory("install-package");
    script_succeeds(&["--destdir", string(&root), "--prefix=/usr", "--built", string(built())]);
    assert_eq!(files(&root.join("usr")), expected(false));
    let told = std::fs::read_to_string(root.join("usr/lib/pkgconfig/antifreeze.pc")).expect("the file for pkg-config");
    assert!(told.starts_with("prefix=/usr\n") && !told.contains(string(&root)), "{told}");
    let link = std::fs::read_link(root.join("usr/lib/libantifreeze.so")).expect("a link");
    assert_eq!(link, Path::new("libantifreeze.so.0"));
    script_succeeds(&["--uninstall", "--destdir", string(&root), "--prefix", "/usr"]);
    assert_eq!(files(&root), [""; 0]);
}

#[test]
fn what_is_wrong_is_said_with_what_is_accepted() {
    let empty = directory("install-nothing");
    let inside = format!("{} has no libantifreeze.so: want a directory in which cargo has built", empty.display());
    let built = string(built());
    for (arguments, status, words) in [
        (&["--perfix", "/usr"][..], 2, "\"--perfix\" is not understood\nusage: "),
        (&["--prefix"], 2, "--prefix wants a directory\nusage: "),
        (&["--prefix", ""], 2, "--prefix wants a directory\nusage: "),
        (&["--prefix", "here", "--built", built], 2, "--prefix wants an absolute directory, not \"here\"\nusage: "),
        (
            &["--prefix", "/a b", "--built", built],
            2,
            "--prefix wants a directory without spaces, not \"/a b\"\nusage: ",
        ),
        (&["--destdir", string(&empty), "--built", string(&empty)], 1, &inside),
    ] {
        let output = script(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).starts_with(&format!("install.sh: {words}")), "{output:?}");
    }
    assert_eq!(files(&empty), [""; 0]);
    assert!(script_succeeds(&["--help"]).starts_with("usage: "));
}

/// The example, compiled with the flags that pkg-config tells, between others.
fn example(prefix: &Path, name: &str, pkg_config: &[&str], before: &[&str], after: &[&str]) -> PathBuf {
    let mut question = plain("pkg-config");
    question.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(pkg_config).args(["--cflags", "--libs"]);
    let flags = printed(question.arg("antifreeze"));
    let program = prefix.join(name);
    let mut compile = Command::new("cc");
    compile.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o"]).arg(&program);
    compile.arg(package().join("examples/prewarm.c")).args(before).args(flags.split_whitespace()).args(after);
    printed(&mut compile);
    program
}

/// Runs the example with the variable for statistics, so that the library tells who it is and how often it is there.
fn runs(command: &mut Command) {
    let output = output(command.env("ANTIFREEZE_STATS", "exit"));
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{output:?}");
    assert!(said.starts_with(&format!("antifreeze {}\n", env!("CARGO_PKG_VERSION"))), "{said}");
    for words in ["\nprewarm: ", " of 256 MiB are warm", "\nwith the block: 256 MiB in use", "\nwakeups_total: "] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(errors.matches(": statistics\n").count(), 1, "{errors}");
    assert_eq!(errors.matches("antifreeze: ").count(), 1, "{errors}");
}

#[test]
fn the_example_runs_linked_in_every_way() {
    if !has("cc") || !has("pkg-config") {
        return;
    }
    let prefix = directory("install-example");
    script_succeeds(&["--prefix", string(&prefix), "--static", "--built", string(built())]);
    let rpath = format!("-Wl,-rpath,{}/lib", prefix.display());

    let shared = example(&prefix, "shared", &[], &[], &[&rpath]);
    runs(&mut plain(&shared));
    // Asked for twice it is there once, as both are asked for by the same name.
    runs(plain(&shared).env("LD_PRELOAD", prefix.join("lib/libantifreeze.so.0")));

    let half = example(&prefix, "half-static", &[], &["-Wl,-Bstatic"], &["-Wl,-Bdynamic"]);
    // Not there any more, and not missed.
    std::fs::remove_file(prefix.join("lib/libantifreeze.so.0")).expect("the link goes");
    runs(&mut plain(half));
    assert!(!output(&mut plain(shared)).status.success(), "the other one misses it");

    let nothing = prefix.join("nothing.c");
    std::fs::write(&nothing, "int main(void) { return 0; }\n").expect("a file");
    let attempt = output(Command::new("cc").arg("-static").arg(&nothing).arg("-o").arg(prefix.join("nothing")));
    if !attempt.status.success() {
        skip("the C library is not there for static linking");
        return;
    }
    runs(&mut plain(example(&prefix, "static", &["--static"], &["-static"], &[])));
}
