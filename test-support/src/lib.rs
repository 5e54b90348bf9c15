//! What the tests of every member have in common.

use std::fmt::Display;
use std::io::{self, Write};

/// Says why a test has nothing to do here: one line, which `ci/test.sh` counts. Not by a macro: the test runner
/// holds back what those print if the test passes.
pub fn skip(why: impl Display) {
    // A test that is skipped must not fail because nobody reads.
    let _ = io::stderr().write_all(line(why).as_bytes());
}

fn line(why: impl Display) -> String {
    format!("skipped: {}\n", why.to_string().trim().replace('\n', "; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_several_lines_is_one_line() {
        assert_eq!(line("no compiler"), "skipped: no compiler\n");
        assert_eq!(line(format_args!("{}:\n  {}\n", "refused", "no right")), "skipped: refused:;   no right\n");
    }
}
