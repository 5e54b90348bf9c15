//! A strict reader of the text format of Prometheus, version 0.0.4, written from its description and not from the
//! printer. It also refuses what the format allows but a scraper would trip over: two families of one name, samples of
//! another family in between, a series twice, a histogram that does not add up.

extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// A line with a number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

impl Sample {
    /// The value of a label.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// All lines of one name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) kind: String,
    pub(crate) samples: Vec<Sample>,
}

impl Family {
    /// The samples whose name is the family's with `suffix`.
    pub(crate) fn named<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name.strip_prefix(&*self.name) == Some(suffix))
    }
}

/// Reads a whole page.
pub(crate) fn parse(text: &str) -> Result<Vec<Family>, String> {
    if !text.ends_with('\n') {
        return Err("the last line must end with a line feed".to_string());
    }
    let mut families: Vec<Family> = Vec::new();
    let mut help: Option<(String, String)> = None;
    for line in text[..text.len() - 1].split('\n') {
        let wrong = |what: &str| format!("{what}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').ok_or(wrong("HELP without text"))?;
            if help.is_some() {
                return Err(wrong("HELP without TYPE before"));
            }
            help = Some((name.to_string(), text.to_string()));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or(wrong("TYPE without kind"))?;
            let (helped, help) = help.take().ok_or(wrong("TYPE without HELP"))?;
            if helped != name || !is_name(name) || families.iter().any(|family| family.name == name) {
                return Err(wrong("TYPE with a wrong name"));
            }
            if !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(wrong("unknown kind"));
            }
            families.push(Family { name: name.to_string(), help, kind: kind.to_string(), samples: Vec::new() });
        } else {
            let sample = sample(line).map_err(wrong)?;
            let family = families.last_mut().filter(|_| help.is_none()).ok_or(wrong("sample without TYPE"))?;
            let suffix = sample.name.strip_prefix(&*family.name).ok_or(wrong("sample of another family"))?;
            let suffixes: &[&str] = if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            if !suffixes.contains(&suffix) {
                return Err(wrong("sample of another family"));
            }
            if family.samples.iter().any(|other| (&other.name, &other.labels) == (&sample.name, &sample.labels)) {
                return Err(wrong("series twice"));
            }
            family.samples.push(sample);
        }
    }
    if help.is_some() {
        return Err("the last HELP has no TYPE".to_string());
    }
    families.iter().try_for_each(whole)?;
    Ok(families)
}

fn is_name(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    !name.is_empty() && name.bytes().enumerate().all(|(at, byte)| first(byte) || at > 0 && byte.is_ascii_digit())
}

/// A number as Go's ParseFloat takes it, without the rarer forms.
fn number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if text == "+Inf" || plain { text.parse().ok() } else { None }
}

fn sample(line: &str) -> Result<Sample, &'static str> {
    let (series, value) = line.rsplit_once(' ').ok_or("no value")?;
    let value = number(value).ok_or("not a number")?;
    let (name, labels) = match series.split_once('{') {
        None => (series, Vec::new()),
        Some((name, rest)) => (name, labels(rest.strip_suffix('}').ok_or("open brace")?)?),
    };
    if !is_name(name) {
        return Err("not a name");
    }
    Ok(Sample { name: name.to_string(), labels, value })
}

fn labels(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut found: Vec<(String, String)> = Vec::new();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or("label without value")?;
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or("value without quotes")?;
        if !is_name(name) || name.contains(':') || value.contains(['"', '\\', ',']) {
            return Err("wrong label");
        }
        if found.iter().any(|(other, _)| other == name) {
            return Err("label twice");
        }
        found.push((name.to_string(), value.to_string()));
    }
    Ok(found)
}

/// That a family has samples, and each series of a histogram growing buckets up to infinity, a sum and a count.
fn whole(family: &Family) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{}: {what}", family.name));
    if family.samples.is_empty() {
        return wrong("no samples");
    }
    if family.kind != "histogram" {
        return Ok(());
    }
    let others = |sample: &Sample| -> Vec<(String, String)> {
        sample.labels.iter().filter(|(name, _)| name != "le").cloned().collect()
    };
    let mut buckets: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in family.named("_bucket") {
        let Some(bound) = sample.label("le").and_then(number) else { return wrong("bucket without bound") };
        buckets.entry(others(sample)).or_default().push((bound, sample.value));
    }
    for suffix in ["_sum", "_count"] {
        let keys: BTreeSet<_> = family.named(suffix).map(others).collect();
        if !keys.iter().eq(buckets.keys()) || family.named(suffix).any(|sample| sample.label("le").is_some()) {
            return wrong("not every series has buckets, sum and count");
        }
    }
    for count in family.named("_count") {
        let buckets = &buckets[&others(count)];
        let grows = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        if !grows || buckets.last() != Some(&(f64::INFINITY, count.value)) {
            return wrong("buckets do not add up");
        }
    }
    Ok(())
}

#[test]
fn the_reader_takes_what_the_format_allows() {
    let counter = "# HELP a_total How many.\n# TYPE a_total counter\n";
    let counts = "a_total{x=\"1\",y=\"z\"} 3\na_total{x=\"2\",y=\"z\"} 0.5\n";
    let histogram = "# HELP h H.\n# TYPE h histogram\n";
    let times = "h_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 9\nh_count 2\n";
    let families = parse(&[counter, counts, histogram, times].concat()).unwrap();
    assert_eq!((families.len(), families[0].samples[1].value), (2, 0.5));
    assert_eq!((families[0].samples[0].label("y"), &*families[0].help), (Some("z"), "How many."));
    assert_eq!(families[1].named("_bucket").count(), 2);
}

#[test]
fn the_reader_refuses_what_is_wrong() {
    let head = "# HELP a A.\n# TYPE a gauge\n";
    let histogram = "# HELP h H.\n# TYPE h histogram\n";
    let lines = ["a 1", "\n", "a\n", "a x\n", "a -\n", "b 1\n", "ab 1\n", ""];
    let labels = [
        "a{} 1\n",
        "a{x} 1\n",
        "a{x=1} 1\n",
        "a{x=\"1\"\n",
        "a{x=\"1\" 1\n",
        "a{x=\"1\",x=\"2\"} 1\n",
        "a{1x=\"1\"} 1\n",
    ];
    let families = [
        "a 1\na 2\n",
        "a 1\n# TYPE b gauge\nb 1\n",
        "a 1\n# HELP a A.\n# TYPE a gauge\na 1\n",
        "a 1\n# HELP b B.\n",
        "a 1\n# HELP b B.\n# TYPE c gauge\nc 1\n",
    ];
    for body in lines.iter().chain(&labels).chain(&families) {
        assert!(parse(&format!("{head}{body}")).is_err(), "{body}");
    }
    for body in [
        "h_bucket{le=\"+Inf\"} 2\nh_sum 9\n",
        "h_bucket{le=\"+Inf\"} 2\nh_sum 9\nh_count 3\n",
        "h_bucket{le=\"1\"} 2\nh_sum 9\nh_count 2\n",
        "h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\nh_sum 9\nh_count 2\n",
        "h_bucket{le=\"2\"} 1\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 9\nh_count 2\n",
        "h_bucket 2\nh_sum 9\nh_count 2\n",
        "h 2\n",
    ] {
        assert!(parse(&format!("{histogram}{body}")).is_err(), "{body}");
    }
}
