//! A freeze as JSON, for programs and to be kept: the fields of [`Freeze`] and the version of their layout.

use serde::{Deserialize, Serialize};

use crate::freeze::Freeze;

/// The version of the layout. It goes up when a field that was written before means another thing or is gone.
pub const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    #[serde(flatten)]
    freeze: &'a Freeze,
}

#[derive(Deserialize)]
struct Version {
    schema: u32,
}

/// Why a text is no freeze.
#[derive(Debug)]
pub enum ReadError {
    /// It is not JSON, or lacks something; the message says where.
    Json(serde_json::Error),
    /// Another version of this program wrote it.
    Schema(u32),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Json(error) => write!(formatter, "this is not a freeze as `freeze-trap` writes it: {error}"),
            ReadError::Schema(version) => {
                write!(formatter, "it has the layout of version {version}; this program reads version {SCHEMA}")
            }
        }
    }
}

impl std::error::Error for ReadError {}

impl From<serde_json::Error> for ReadError {
    fn from(error: serde_json::Error) -> Self {
        ReadError::Json(error)
    }
}

/// The freeze as JSON with line breaks, with `"schema"` as its first field.
///
/// # Panics
/// Never: everything in it has a form in JSON.
#[must_use]
pub fn json(freeze: &Freeze) -> String {
    serde_json::to_string_pretty(&Document { schema: SCHEMA, freeze }).expect("a freeze has a form in JSON")
}

/// Reads back what [`json`] wrote.
///
/// # Errors
/// It is something else, or of another version.
pub fn read_json(text: &str) -> Result<Freeze, ReadError> {
    let Version { schema } = serde_json::from_str(text)?;
    if schema != SCHEMA {
        return Err(ReadError::Schema(schema));
    }
    Ok(serde_json::from_str(text)?)
}
