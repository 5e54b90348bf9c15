//! Aim: the source tree keeps the rules that no compiler checks: the order of layers, who may call the kernel, comments
//! where they are owed, nothing stray.
//!
//! Method: each rule is a function from the text of a file to the lines that break it. A test runs it over the tree,
//! and the same test shows it a bad sample, because a rule that finds nothing anywhere proves nothing.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A file, its path counted from the root of the crate.
struct Source {
    path: String,
    lines: Vec<Line>,
}

/// One line, taken apart.
struct Line {
    whole: String,
    /// Without comments, and with literals emptied.
    code: String,
    /// The text of comments on it, with their slashes.
    comment: String,
}

/// A place that breaks a rule.
struct Fault {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.what)
    }
}

type Rule = fn(&Source) -> Vec<Fault>;

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let mut lexer = Lexer { state: State::Code };
        Source { path: path.to_owned(), lines: text.lines().map(|line| lexer.line(line)).collect() }
    }

    fn read(path: &Path) -> Source {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let path = path.strip_prefix(root()).expect("the path is below the root");
        Source::new(path.to_str().expect("paths are text"), &text)
    }

    /// The faults at the lines (counted from zero) that `wrong` finds something in.
    fn faults(&self, wrong: impl Fn(usize, &Line) -> Option<String>) -> Vec<Fault> {
        let numbered = self.lines.iter().enumerate();
        let fault = |(number, line)| {
            let what = wrong(number, line)?;
            Some(Fault { path: self.path.clone(), line: number + 1, what })
        };
        numbered.filter_map(fault).collect()
    }

    /// Whether the file is compiled for tests only.
    fn is_for_tests(&self) -> bool {
        ["src/os/fake", "src/lockfree/tests/"].iter().any(|start| self.path.starts_with(start))
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }

    /// The line at which the file's own tests begin, or its length.
    fn tests_begin(&self) -> usize {
        if self.is_for_tests() {
            return 0;
        }
        let marked = |number: &usize| {
            let next = self.lines.get(number + 1).map_or("", |line| line.code.trim());
            let code = self.lines[*number].code.trim();
            let for_tests = code == "#[cfg(test)]" || code.starts_with("#[cfg(all(test, ");
            for_tests && next.starts_with("mod ") && next.ends_with('{')
        };
        (0..self.lines.len()).find(marked).unwrap_or(self.lines.len())
    }
}

/// What a line begins in.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    /// In a comment this deep.
    Comment(u32),
    /// In a string; a raw one ends with so many hash signs.
    Text(Option<usize>),
}

struct Lexer {
    state: State,
}

impl Lexer {
    fn line(&mut self, text: &str) -> Line {
        let characters: Vec<char> = text.chars().collect();
        let at = |place: usize| characters.get(place).copied().unwrap_or('\0');
        let (mut code, mut comment) = (String::new(), String::new());
        let mut place = 0;
        while place < characters.len() {
            let pair = (at(place), at(place + 1));
            let step = match self.state {
                State::Code if pair == ('/', '/') => {
                    comment.extend(&characters[place..]);
                    break;
                }
                State::Code if pair == ('/', '*') => {
                    self.state = State::Comment(1);
                    2
                }
                State::Code => self.code(&characters, place, &mut code),
                State::Comment(depth) if pair == ('*', '/') => {
                    self.state = if depth == 1 { State::Code } else { State::Comment(depth - 1) };
                    2
                }
                State::Comment(depth) if pair == ('/', '*') => {
                    self.state = State::Comment(depth + 1);
                    2
                }
                State::Comment(_) => {
                    comment.push(pair.0);
                    1
                }
                State::Text(None) if pair.0 == '\\' => 2,
                State::Text(hashes) if pair.0 == '"' && closes(&characters[place + 1..], hashes) => {
                    self.state = State::Code;
                    code.push('"');
                    1 + hashes.unwrap_or(0)
                }
                State::Text(_) => 1,
            };
            place += step;
        }
        Line { whole: text.to_owned(), code, comment }
    }

    /// Takes the next piece of code; gives its length.
    fn code(&mut self, characters: &[char], place: usize, code: &mut String) -> usize {
        let rest = &characters[place..];
        let before = place.checked_sub(1).map_or(' ', |before| characters[before]);
        let in_word = before.is_alphanumeric() || before == '_';
        match rest {
            ['"', ..] => {
                self.state = State::Text(None);
                code.push('"');
                1
            }
            ['r', after @ ..] if !in_word && after.iter().find(|character| **character != '#') == Some(&'"') => {
                let hashes = after.iter().take_while(|character| **character == '#').count();
                self.state = State::Text(Some(hashes));
                code.push('"');
                2 + hashes
            }
            // A character; a quote that none closes begins a lifetime.
            ['\'', '\\', _, tail @ ..] => {
                code.push_str("' '");
                3 + tail.iter().take_while(|character| **character != '\'').count() + 1
            }
            ['\'', _, '\'', ..] => {
                code.push_str("' '");
                3
            }
            [first, ..] => {
                code.push(*first);
                1
            }
            [] => 1,
        }
    }
}

fn closes(rest: &[char], hashes: Option<usize>) -> bool {
    let hashes = hashes.unwrap_or(0);
    rest.len() >= hashes && rest[..hashes].iter().all(|character| *character == '#')
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below `directory`, in order.
fn files(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("the tree can be read").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources(directory: &str) -> Vec<Source> {
    files(directory).iter().map(|path| Source::read(path)).collect()
}

/// Runs a rule over the tree; before that, over samples: each is a path, a text, and how many faults it has.
fn keep(rule: Rule, directories: &[&str], samples: &[(&str, &str, usize)]) {
    assert!(samples.iter().any(|(_, _, count)| *count > 0) && samples.iter().any(|(_, _, count)| *count == 0));
    for (path, text, count) in samples {
        let found = rule(&Source::new(path, text));
        assert_eq!(found.len(), *count, "sample {path}:\n{text}\n{}", list(&found));
    }
    let sources: Vec<Source> = directories.iter().flat_map(|directory| sources(directory)).collect();
    assert!(sources.len() > 1, "no files");
    let found: Vec<Fault> = sources.iter().flat_map(rule).collect();
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), list(&found));
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}

/// The words of code that stand on their own.
fn has_word(code: &str, word: &str) -> bool {
    let joins = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(joins) && !code[at + word.len()..].starts_with(joins))
}

// Layers.

/// Modules in layer order.
const LAYERS: [&[&str]; 7] = [
    &["atomic", "choices", "number", "units", "limits", "fatal", "text", "stats"],
    &["lockfree", "os"],
    &["options", "governor"],
    &["arena"],
    &["span"],
    &["thread"],
    &["front"],
];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The module that a path below `src/` belongs to.
fn module_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

/// The modules that follow each `crate::` on a line: one, or those of a group in braces on the same line.
fn modules_named(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut named = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        match rest.strip_prefix('{') {
            None => named.push(word(rest)),
            Some(group) => {
                let mut depth = 0;
                let outer = group.chars().filter(|character| {
                    depth += i32::from(*character == '{') - i32::from(*character == '}');
                    depth == 0
                });
                let outer: String = outer.collect();
                named.extend(outer.split(',').map(|part| word(part.trim())).filter(|part| !part.is_empty()));
            }
        }
    }
    named
}

fn upward_use(source: &Source) -> Vec<Fault> {
    let module = module_of(&source.path);
    if module == "lib" {
        return Vec::new();
    }
    let Some(own) = layer_of(module) else {
        return source.faults(|number, _| (number == 0).then(|| format!("{module} is in no layer")));
    };
    source.faults(|_, line| {
        let wrong =
            modules_named(&line.code).into_iter().find(|named| layer_of(named).is_none_or(|layer| layer > own))?;
        Some(format!("{module} (layer {own}) uses {wrong}"))
    })
}

#[test]
fn no_layer_uses_one_above_it() {
    keep(
        upward_use,
        &["src"],
        &[
            ("src/os/mod.rs", "use crate::arena::Arena;", 1),
            ("src/stats/mod.rs", "use crate::os::Os;", 1),
            ("src/limits.rs", "fn a() { crate::lockfree::once::is_done() }", 1),
            ("src/span/slab.rs", "use crate::{arena::Run, thread::heap::{Heap, EMPTY}};", 1),
            ("src/nowhere.rs", "//! What is this?", 1),
            ("src/arena/space.rs", "use crate::somewhere::X;", 1),
            ("src/front/global.rs", "use crate::thread::tls;\nuse crate::{os::Os, stats::Stats};", 0),
            ("src/os/mod.rs", "// use crate::arena::Arena;\nlet text = \"crate::arena\";", 0),
        ],
    );
}

fn lockfree_imports(source: &Source) -> Vec<Fault> {
    if !source.path.starts_with("src/lockfree/") || source.is_for_tests() || source.path.ends_with("mod.rs") {
        return Vec::new();
    }
    source.faults(|_, line| {
        let code = line.code.trim();
        let foreign = code.strip_prefix("use ").is_some_and(|rest| {
            !["core::", "crate::atomic::", "crate::atomic;"].iter().any(|allowed| rest.starts_with(allowed))
        });
        let other = modules_named(code).iter().any(|named| named != "atomic");
        let outside = ["std", "libc", "super"].iter().any(|word| has_word(code, word));
        (foreign || other || outside).then(|| format!("lockfree may use core and crate::atomic only: {code}"))
    })
}

#[test]
fn lock_free_structures_use_atomics_and_nothing_else() {
    keep(
        lockfree_imports,
        &["src"],
        &[
            ("src/lockfree/once.rs", "use crate::os::Os;", 1),
            ("src/lockfree/once.rs", "use crossbeam_utils::CachePadded;", 1),
            ("src/lockfree/once.rs", "use super::doorbell::Ring;", 1),
            ("src/lockfree/once.rs", "fn wait() { std::thread::yield_now() }", 1),
            ("src/lockfree/once.rs", "use core::cell::Cell;\nuse crate::atomic::{AtomicU32, Ordering};", 0),
            ("src/span/pool.rs", "use crate::os::Os;", 0),
        ],
    );
}

// The kernel.

fn memory_calls(source: &Source) -> Vec<Fault> {
    if source.path == "src/os/linux.rs" {
        return Vec::new();
    }
    let calls =
        ["mmap", "mmap64", "munmap", "mprotect", "mremap", "madvise", "mlock", "brk", "sbrk", "process_madvise"];
    source.faults(|_, line| {
        let calls_it = |call: &&&str| {
            has_word(&line.code, &format!("libc::{call}")) || has_word(&line.code, &format!("libc::SYS_{call}"))
        };
        calls.iter().find(calls_it).map(|call| format!("{call} outside of src/os/linux.rs"))
    })
}

#[test]
fn only_one_file_makes_memory_calls() {
    keep(
        memory_calls,
        &["src"],
        &[
            ("src/arena/space.rs", "unsafe { libc::madvise(base, bytes, libc::MADV_DONTNEED) };", 1),
            ("src/front/global.rs", "let base = libc::mmap(a, b);\nlibc::syscall(libc::SYS_munmap, a);", 2),
            ("src/os/linux.rs", "unsafe { libc::munmap(base, bytes) };", 0),
            ("src/os/mod.rs", "// libc::mmap\nlibc::mmapper();", 0),
        ],
    );
}

fn purges(source: &Source) -> Vec<Fault> {
    if source.path == "src/governor/worker.rs" || source.path.starts_with("src/os/") {
        return Vec::new();
    }
    source.faults(|_, line| line.code.contains(".purge(").then(|| "only the governor's worker purges".to_owned()))
}

#[test]
fn only_the_worker_purges() {
    keep(
        purges,
        &["src"],
        &[
            ("src/arena/space.rs", "kernel.purge(base, bytes);", 1),
            ("src/governor/worker.rs", "kernel.purge(base, bytes);", 0),
            ("src/arena/space.rs", "let purge = stats.purge.calls; // as .purge( does", 0),
        ],
    );
}

fn extern_std(source: &Source) -> Vec<Fault> {
    // The last is behind a feature.
    let may = ["src/thread/tls.rs", "src/front/elsewhere.rs", "src/front/internals.rs", "src/front/metrics_http.rs"];
    let may = may.contains(&source.path.as_str());
    source.faults(|number, line| {
        let above = number.checked_sub(1).map_or("", |above| source.lines[above].code.trim());
        let in_tests = source.path == "src/lib.rs" && above == "#[cfg(test)]";
        let wrong = line.code.contains("extern crate std") && !may && !in_tests && !source.is_for_tests();
        (wrong && number < source.tests_begin()).then(|| "the allocator does without std".to_owned())
    })
}

#[test]
fn std_is_named_where_it_must_be_and_nowhere_else() {
    keep(
        extern_std,
        &["src"],
        &[
            ("src/lib.rs", "extern crate std;", 1),
            ("src/arena/arena.rs", "extern crate std;", 1),
            ("src/lib.rs", "#[cfg(test)]\nextern crate std;", 0),
            ("src/lib.rs", "#[cfg(all(test, unix))]\nmod tests {\n    extern crate std;", 0),
            ("src/lib.rs", "#[cfg(all(unix, not(test)))]\nmod tests {\n    extern crate std;", 1),
            ("src/front/global.rs", "extern crate std;", 1),
            ("src/thread/tls.rs", "    extern crate std;", 0),
            ("src/front/metrics_http.rs", "extern crate std;", 0),
        ],
    );
}

// Comments that are owed.

/// Whether the comment directly above a line, or above the statement that the line goes on with, says `wanted`.
fn said_above(source: &Source, number: usize, wanted: &str) -> bool {
    let mut at = number;
    let mut in_comment = false;
    for _ in 0..24 {
        let Some(above) = at.checked_sub(1) else { return false };
        let line = &source.lines[above];
        let code = line.code.trim();
        if !line.comment.is_empty() && code.is_empty() {
            if line.comment.contains(wanted) {
                return true;
            }
            in_comment = true;
        } else if in_comment || code.ends_with([';', '{', '}', ',']) || (code.is_empty() && line.comment.is_empty()) {
            // A comment without it, or another statement.
            return !in_comment && line.comment.contains(wanted);
        }
        at = above;
    }
    false
}

fn unsafe_without_reason(source: &Source) -> Vec<Fault> {
    source.faults(|number, line| {
        let block =
            line.code.contains("unsafe {") || line.code.contains("unsafe{") || line.code.contains("unsafe impl");
        // What stands on one line shares its comment.
        let told = || said_above(source, number, "SAFETY:") || line.comment.contains("SAFETY:");
        (block && !told()).then(|| "unsafe code without a SAFETY comment above it".to_owned())
    })
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    keep(
        unsafe_without_reason,
        &["src", "tests"],
        &[
            ("src/a.rs", "fn a() {\n    unsafe { b() };\n}", 1),
            ("src/a.rs", "unsafe impl Sync for A {}", 1),
            ("src/a.rs", "// SAFETY: fine.\nlet a = 1;\nunsafe { b() };", 1),
            ("src/a.rs", "// A comment.\nunsafe { b() };", 1),
            ("src/a.rs", "// SAFETY: fine.\n\nunsafe { b() };", 1),
            ("src/a.rs", "// SAFETY: 1. fine.\n//         2. fine.\nunsafe { b() };", 0),
            ("src/a.rs", "// SAFETY: fine.\n#[cfg(test)]\nunsafe impl Sync for A {}", 0),
            ("src/a.rs", "// SAFETY: fine.\nlet a =\n    unsafe { b() };", 0),
            ("src/a.rs", "/// # Safety\n/// None.\nunsafe fn a() {}", 0),
        ],
    );
}

/// Whether a line lies in an `impl Trait for Type`, whose methods are described with the trait.
fn in_trait_impl(source: &Source, number: usize) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = indent(&source.lines[number].whole);
    let outer = source.lines[..number].iter().rev().find(|line| {
        let code = line.code.trim();
        !code.is_empty() && indent(&line.whole) < own && !code.starts_with([')', '}', '#'])
    });
    outer.is_some_and(|line| has_word(&line.code, "impl") && has_word(&line.code, "for"))
}

fn unsafe_fn_without_contract(source: &Source) -> Vec<Fault> {
    source.faults(|number, line| {
        let declares = line.code.split("unsafe ").skip(1).any(|rest| {
            let rest = rest.trim_start_matches("extern ").trim_start_matches("\"\" ");
            let name = rest.strip_prefix("fn ").unwrap_or("");
            name.starts_with(|first: char| first.is_alphabetic() || first == '_')
        });
        // Whoever declares a foreign function only repeats it.
        let owed = declares && !in_trait_impl(source, number) && number < source.tests_begin();
        (owed && !said_above(source, number, "# Safety"))
            .then(|| "an unsafe fn without a `# Safety` section".to_owned())
    })
}

#[test]
fn unsafe_functions_say_what_the_caller_owes() {
    keep(
        unsafe_fn_without_contract,
        &["src"],
        &[
            ("src/a.rs", "pub(crate) unsafe fn a() {}", 1),
            ("src/a.rs", "/// Frees it.\nunsafe fn a() {}", 1),
            ("src/a.rs", "unsafe extern \"C\" fn a() {}", 1),
            ("src/a.rs", "/// Frees it.\n/// # Safety\n/// It is live.\n#[inline]\nunsafe fn a() {}", 0),
            ("src/a.rs", "fn a(exit: unsafe extern \"C\" fn(*mut u8)) {}", 0),
            ("src/a.rs", "unsafe impl GlobalAlloc for A {\n    unsafe fn alloc() {}\n}", 0),
        ],
    );
}

/// How far above an ordering its reason may stand.
const REASON_LINES: usize = 12;

fn orderings_without_reason(source: &Source) -> Vec<Fault> {
    if source.path.starts_with("src/stats/") || source.is_for_tests() {
        return Vec::new();
    }
    let tests_begin = source.tests_begin();
    source.faults(|number, line| {
        let used = |name: &&&str| has_word(&line.code, &format!("Ordering::{name}"));
        let names: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
        let unexplained = names.iter().filter(used).find(|name| {
            let from = number.saturating_sub(REASON_LINES);
            !source.lines[from..=number].iter().any(|line| line.comment.contains(**name))
        })?;
        (number < tests_begin).then(|| format!("no comment says why {unexplained} is enough"))
    })
}

#[test]
fn every_ordering_has_a_reason() {
    let far = format!("// Relaxed: why.\n{}a.load(Ordering::Relaxed);", "b();\n".repeat(REASON_LINES));
    keep(
        orderings_without_reason,
        &["src"],
        &[
            ("src/a.rs", "a.load(Ordering::Acquire);", 1),
            ("src/a.rs", "// Relaxed: a hint.\na.compare_exchange(0, 1, Ordering::Release, Ordering::Relaxed);", 1),
            ("src/a.rs", &far, 1),
            ("src/a.rs", "// Acquire: pairs with the Release in `b`.\na.load(Ordering::Acquire);", 0),
            ("src/stats/counters.rs", "a.load(Ordering::Acquire);", 0),
            ("src/a.rs", "#[cfg(test)]\nmod tests {\n    a.load(Ordering::Acquire);\n}", 0),
        ],
    );
}

// Shape.

/// Where all our code is: the allocator's folders, then the other members of the workspace.
const ALL: [&str; 11] = [
    "src",
    "tests",
    "examples",
    "allocator-bench",
    "freeze-trap",
    "lock-trace",
    "loom-tests",
    "preload",
    "report-page",
    "stress",
    "test-support",
];

#[test]
fn all_members_of_the_workspace_are_held_to_the_rules() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest can be read");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")?.strip_suffix(']'));
    let members: Vec<&str> =
        members.expect("a line of members").split(", ").map(|name| name.trim_matches('"')).collect();
    assert_eq!(members, ALL[3..]);
}

const LINE_CHARACTERS_MAX: usize = 120;

fn too_long(count: usize) -> Option<String> {
    (count > LINE_CHARACTERS_MAX).then(|| format!("{count} characters"))
}

fn long_lines(source: &Source) -> Vec<Fault> {
    source.faults(|_, line| too_long(line.whole.chars().count()))
}

/// The same, less what stands between quotes: programs print lines that are long.
fn long_lines_but_for_texts(source: &Source) -> Vec<Fault> {
    source.faults(|_, line| too_long(line.code.chars().count() + line.comment.chars().count()))
}

#[test]
fn lines_fit_the_page() {
    let [fits, long] = [LINE_CHARACTERS_MAX, LINE_CHARACTERS_MAX + 1].map(|count| "é".repeat(count));
    keep(long_lines, &["src", "tests"], &[("a.rs", &fits, 0), ("a.rs", &long, 1)]);
    let [text, comment] = [format!("a(\"{long}\");"), format!("// {fits}")];
    keep(long_lines_but_for_texts, &ALL, &[("a.rs", &text, 0), ("a.rs", &comment, 1), ("a.rs", &long, 1)]);
}

fn stray_marks(source: &Source) -> Vec<Fault> {
    // This file has to name them.
    if source.path == "tests/tidy.rs" {
        return Vec::new();
    }
    source.faults(|_, line| {
        let macros = ["todo!", "unimplemented!", "dbg!"].into_iter().find(|name| line.code.contains(name));
        let words = ["TODO", "FIXME", "XXX", "HACK"].into_iter().find(|word| has_word(&line.whole, word));
        let text = line.comment.strip_prefix("// ").unwrap_or("");
        let starts = ["let ", "fn ", "use ", "pub ", "unsafe {", "if let ", "} else", "#[", "return ", "assert!("];
        let code = starts.into_iter().find(|start| text.starts_with(start) && line.code.trim().is_empty());
        let ends = text.ends_with(';') && (text.contains("(") || text.contains(" = "));
        let out = code.filter(|_| text.contains(['(', ';', '{', '='])).or(ends.then_some("code"));
        macros.or(words).or(out).map(|what| format!("stray: {what}"))
    })
}

#[test]
fn nothing_stray_is_left() {
    keep(
        stray_marks,
        &ALL,
        &[
            ("src/a.rs", "fn a() { todo!() }", 1),
            ("src/a.rs", "// FIXME: later", 1),
            ("src/a.rs", "/// XXX", 1),
            ("src/a.rs", "dbg!(a);", 1),
            ("src/a.rs", "// let a = 1;", 1),
            ("src/a.rs", "    // fn a() {", 1),
            ("src/a.rs", "    // self.push(block);", 1),
            ("src/a.rs", "// use of this is rare.\n// let it be.\nlet xxx = \"dbg!\";", 0),
        ],
    );
}

fn ignored_tests(source: &Source) -> Vec<Fault> {
    source.faults(|_, line| line.code.trim_start().starts_with("#[ignore").then(|| "a test that never runs".to_owned()))
}

#[test]
fn no_test_is_ignored() {
    keep(
        ignored_tests,
        &ALL,
        &[("a.rs", "#[test]\n#[ignore]\nfn a() {}", 1), ("a.rs", "#[ignore = \"slow\"]", 1), ("a.rs", "#[test]", 0)],
    );
}

const FILE_LINES_MAX: usize = 600;

fn file_shape(source: &Source) -> Vec<Fault> {
    let mut faults = source.faults(|number, line| {
        let opens = line.whole.starts_with("//!") || source.path == "src/lib.rs" && line.whole.starts_with("#![doc");
        (number == 0 && !opens).then(|| "does not begin by saying what it is".to_owned())
    });
    if source.lines.len() >= FILE_LINES_MAX {
        let what = format!("{} lines", source.lines.len());
        faults.push(Fault { path: source.path.clone(), line: source.lines.len(), what });
    }
    faults
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    let long = format!("//! Long.\n{}", "\n".repeat(FILE_LINES_MAX));
    keep(
        file_shape,
        &["src"],
        &[("src/a.rs", "use a::b;", 1), ("src/a.rs", &long, 1), ("src/a.rs", "//! What it is.\nuse a::b;", 0)],
    );
}

/// The files of `src/lockfree` that no text of `mounts` names.
fn unmounted<'a>(names: &[&'a str], mounts: &[String]) -> Vec<&'a str> {
    let named = |name: &&&str| mounts.iter().any(|text| text.contains(&format!("src/lockfree/{name}\"")));
    names.iter().copied().filter(|name| !named(&name)).collect()
}

#[test]
fn every_lock_free_structure_is_mounted_in_the_model_checker() {
    let mount = "#[path = \"../../src/lockfree/once.rs\"]\nmod once;".to_owned();
    assert_eq!(unmounted(&["once.rs", "nonce.rs"], &[mount]), ["nonce.rs"]);
    let paths = files("src/lockfree");
    let own = |path: &&PathBuf| path.parent().is_some_and(|parent| parent.ends_with("lockfree"));
    let names: Vec<&str> = paths.iter().filter(own).filter_map(|path| path.file_name()?.to_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| *name != "mod.rs").collect();
    assert!(!names.is_empty());
    let texts: Vec<String> =
        files("loom-tests/src").iter().map(|path| fs::read_to_string(path).expect("text")).collect();
    assert_eq!(unmounted(&names, &texts), [""; 0]);
}

#[test]
fn the_lexer_tells_code_from_comments_and_text() {
    let parts = |text: &str| {
        let source = Source::new("a.rs", text);
        source.lines.into_iter().map(|line| (line.code, line.comment)).collect::<Vec<_>>()
    };
    assert_eq!(parts("a(); // b"), [("a(); ".to_owned(), "// b".to_owned())]);
    assert_eq!(parts("a(\"// b\");"), [("a(\"\");".to_owned(), String::new())]);
    assert_eq!(parts("a(r#\"\"// b\"#);")[0].0, "a(\"\");");
    assert_eq!(parts("a('\"', '\\'', b'\\n'); // c")[0].0, "a(' ', ' ', b' '); ");
    assert_eq!(parts("fn a<'b>(c: &'b str) {}")[0].0, "fn a<'b>(c: &'b str) {}");
    assert_eq!(
        parts("a /* b\n/* c */ d\n*/ e").iter().map(|(code, _)| code.trim()).collect::<Vec<_>>(),
        ["a", "", "e"]
    );
    assert_eq!(parts("\"a\n// b\" c")[1].0, "\" c");
}
