//! Compilers, whose memory grows with what they compile; and what they make, which runs on the allocator too.

use std::fmt::Write;

use crate::harness::same_answers;

/// A C program of some twenty thousand lines.
fn long_program() -> String {
    let mut text = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n".to_owned();
    let functions = 1100;
    for number in 0..functions {
        let function = include_str!("work/function.c").replace("NUMBER", &number.to_string());
        let function = function.replace("LENGTH", &(number * 7 % 101 + 1).to_string());
        text.push_str(&function.replace("COUNT", &(number * 13 % 97 + 1).to_string()));
    }
    text.push_str("int main(void) {\n  long x = 1;\n");
    for number in 0..functions {
        writeln!(text, "  x = function{number}(x);").unwrap();
    }
    text.push_str("  printf(\"%ld\\n\", x);\n  return 0;\n}\n");
    text
}

#[test]
fn gcc_compiles_a_long_program() {
    same_answers("gcc", &["gcc"], |place| {
        place.write("long.c", long_program());
        place.run_with_stats("gcc", ["-c", "-o", "long.o", "long.c"]);
        place.run("gcc", ["-o", "long", "long.o"]);
        let answer = place.finish_with_stats(&mut place.command("./long")).stdout;
        format!("{:x} {answer}", place.digest("long.o"))
    });
}

#[test]
fn gxx_compiles_templates() {
    same_answers("g++", &["g++"], |place| {
        place.write("templates.cpp", include_str!("work/templates.cpp"));
        place.run_with_stats("g++", ["-std=c++17", "-O1", "-pthread", "-o", "templates", "templates.cpp"]);
        let answer = place.finish_with_stats(&mut place.command("./templates")).stdout;
        format!("{:x} {answer}", place.digest("templates"))
    });
}

#[test]
fn cargo_builds_a_workspace() {
    same_answers("cargo", &["cargo", "rustc", "cc"], |place| {
        place.write("Cargo.toml", "[workspace]\nmembers = [\"first\", \"second\", \"third\"]\nresolver = \"2\"\n");
        for (name, uses) in [("first", ""), ("second", "first"), ("third", "second")] {
            let dependency =
                if uses.is_empty() { String::new() } else { format!("{uses} = {{ path = \"../{uses}\" }}\n") };
            let manifest = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
            place.write(&format!("{name}/Cargo.toml"), format!("{manifest}[dependencies]\n{dependency}"));
        }
        let mut modules = String::new();
        for number in 0..12 {
            write!(modules, "pub mod module{number} {{\n{}}}\n", include_str!("work/module.rs")).unwrap();
        }
        place.write("first/src/lib.rs", modules);
        place.write("second/src/lib.rs", "pub use first::module7::{Shape, count};\n");
        place.write("third/src/main.rs", "fn main() {\n    println!(\"{:?}\", second::count(1000));\n}\n");
        let mut command = place.command("cargo");
        for (name, _) in std::env::vars_os() {
            // Of the cargo that runs this test.
            let text = name.to_string_lossy();
            if (text.starts_with("CARGO") && text != "CARGO_HOME")
                || text.starts_with("RUST") && !text.starts_with("RUSTUP_")
            {
                command.env_remove(name);
            }
        }
        if let Some(home) = std::env::var_os("HOME") {
            // Where the tool chain is.
            command.env("HOME", home);
        }
        command.args(["build", "--offline", "--quiet", "--workspace"]).env("CARGO_TARGET_DIR", place.path("built"));
        place.finish_with_stats(&mut command);
        place.run(place.path("built/debug/third").to_str().unwrap(), [""; 0])
    });
}
