//! What a child and the harness say to each other: lines of JSON on the child's standard output, and empty lines in
//! answer on its standard input.
//!
//! [`child`](crate::child) asks for memory before it touches much of it and reports at the end;
//! [`harness`](crate::harness) answers when it has let go of as much.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::child::ChildReport;

/// One line of a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The child is about to touch so many bytes, and waits for an answer.
    About {
        /// Bytes.
        bytes: u64,
    },
    /// The replay is over.
    Report(Box<ChildReport>),
}

/// Child: says the line.
pub fn say(line: &Line) -> Result<(), String> {
    let text = serde_json::to_string(line).map_err(|error| format!("a line cannot be written: {error}"))?;
    let mut output = io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(|error| format!("standard output: {error}"))
}

/// Child: says that it is about to touch `bytes` and waits until the harness has let go of them.
pub fn about_to_touch(bytes: u64) -> Result<(), String> {
    say(&Line::About { bytes })?;
    let read = io::stdin().lock().read_line(&mut String::new()).map_err(|error| format!("standard input: {error}"))?;
    if read == 0 { Err("the harness does not answer any more".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_it_is() {
        let line = Line::About { bytes: 7 };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"about":{"bytes":7}}"#);
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }
}
