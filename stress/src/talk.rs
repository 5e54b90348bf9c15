//! What a child and the harness say to each other: lines of JSON on the child's standard output, and empty lines in
//! answer on its standard input.
//!
//! [`stage`](crate::stage) says what the child is about to do and reports at the end; [`harness`](crate::harness)
//! does its part and answers.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// One line of a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The child has set itself up, and waits for an answer before the scenario begins.
    Ready,
    /// The child enters a phase. It does not wait.
    Phase {
        /// Its name.
        name: String,
    },
    /// The child is about to touch so many bytes, and waits for an answer.
    About {
        /// Bytes.
        bytes: u64,
    },
    /// The child serves requests at an address, and waits until the load on it is over.
    Listening {
        /// The address, as `127.0.0.1:1234`.
        address: String,
    },
    /// The last phase is over, and the child waits for an answer before it takes down what it had set up: what it does
    /// to `mmap_lock` from here on is not the allocator's doing.
    Over,
    /// The scenario is over. The child waits for an answer before it ends, which takes `mmap_lock` for writing.
    Report(Box<Record>),
}

/// Child: says the line.
pub fn say(line: &Line) -> Result<(), String> {
    let text = serde_json::to_string(line).map_err(|error| format!("a line cannot be written: {error}"))?;
    let mut output = io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(|error| format!("standard output: {error}"))
}

/// Child: says the line and waits for the answer.
pub fn ask(line: &Line) -> Result<(), String> {
    say(line)?;
    hear()
}

/// Child: waits for an answer.
pub fn hear() -> Result<(), String> {
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
