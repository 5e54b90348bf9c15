//! `json`: a service that answers with large documents. A document of up to 20 000 records (about 5 MB of text) is
//! built as a tree of maps, arrays and strings (serde_json), printed into one growing string, parsed back, compared and
//! dropped. Many small strings and B-tree nodes that live as long as their document, beside one large block that grows.
//! A sixth of the instructions are the allocator's, the rest is formatting, parsing and comparing. The work per thread
//! is constant.

use serde_json::{Value, json};

use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const RECORDS: usize = 60_000;
const RECORDS_PER_DOCUMENT: usize = 20_000;

/// Plays the workload; every thread has its own documents.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let records = scaled(RECORDS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0x750 + thread);
        let counts = (0..records).step_by(RECORDS_PER_DOCUMENT).map(|done| (records - done).min(RECORDS_PER_DOCUMENT));
        counts.map(|count| there_and_back(count, &mut rng)).sum()
    })
}

/// Gives the length of the printed document.
fn there_and_back(records: usize, rng: &mut Rng) -> u64 {
    let document = Value::Array((0..records).map(|number| record(number, rng)).collect());
    let text = document.to_string();
    let parsed: Value = serde_json::from_str(&text).expect("what was printed can be parsed");
    assert_eq!(parsed, document, "the document has changed");
    text.len() as u64
}

fn record(number: usize, rng: &mut Rng) -> Value {
    let tags: Vec<String> = (0..rng.below(6)).map(|_| format!("tag-{}", rng.below(1000))).collect();
    let lines: Vec<Value> = (0..rng.between(1, 4))
        .map(|_| json!({ "article": format!("{:08x}", rng.below(1 << 24)), "count": rng.below(100) }))
        .collect();
    json!({
        "id": number,
        "name": format!("customer number {number}"),
        "active": rng.below(2) == 0,
        "address": { "street": format!("{} Long Street", rng.below(10_000)), "city": "Reykjavik", "note": null },
        "tags": tags,
        "lines": lines,
    })
}
