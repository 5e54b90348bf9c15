//! Plots of a record, as SVG files beside it: times and peak memory of each allocator against antifreeze, and what
//! single calls took.

mod latency;
mod ratios;
mod style;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::record::Record;
use super::results::Results;

/// Draws every plot for which the record has figures; gives their paths.
///
/// # Errors
/// If one cannot be drawn or written.
pub fn draw(record: &Record, record_path: &Path) -> Result<Vec<PathBuf>> {
    let caption = record.caption();
    let time = ratios::Plot {
        title: "Time of each allocator relative to antifreeze",
        better: "faster than antifreeze",
        worse: "slower than antifreeze",
        ratio: Results::time_to_own,
    };
    let memory = ratios::Plot {
        title: "Peak resident memory of each allocator relative to antifreeze",
        better: "less than antifreeze",
        worse: "more than antifreeze",
        ratio: Results::memory_to_own,
    };
    let plots = [
        ("time", time.draw(&record.results, &caption)?),
        ("memory", memory.draw(&record.results, &caption)?),
        ("latency", latency::draw(&record.results, &caption)?),
    ];
    let stem = record_path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut paths = Vec::new();
    for (name, text) in plots {
        let Some(text) = text else { continue };
        let path = record_path.with_file_name(format!("{stem}-{name}.svg"));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::{Record, draw};

    #[test]
    fn plots_are_whole_and_name_what_they_show() {
        let directory = tempfile::tempdir().expect("a directory");
        let record = Record::parse(include_str!("../../../tests/data/record.csv")).expect("a whole record");
        let paths = draw(&record, &directory.path().join("2026-01-02.csv")).expect("they can be drawn");
        let names: Vec<_> = paths.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["2026-01-02-time.svg", "2026-01-02-memory.svg", "2026-01-02-latency.svg"]);
        for (path, wanted) in paths.iter().zip([
            ["churn", "vec_grow", "1 thread", "2 threads", "mimalloc", "faster than antifreeze", "Example CPU"],
            ["churn", "vec_grow", "1 thread", "2 threads", "system", "less than antifreeze", "Example CPU"],
            ["churn, 2 threads: alloc", "dealloc", "p99.9", "antifreeze", "µs", "max", "Example CPU"],
        ]) {
            let text = std::fs::read_to_string(path).expect("it was written");
            let document = roxmltree::Document::parse(&text).expect("it is XML");
            assert_eq!(document.root_element().tag_name().name(), "svg");
            let texts: Vec<String> = document
                .descendants()
                .filter(|node| node.has_tag_name("text"))
                .map(|node| node.text().unwrap_or_default().trim().to_owned())
                .collect();
            for part in wanted {
                assert!(texts.iter().any(|text| text.contains(part)), "{part} is not in {path:?}: {texts:?}");
            }
        }
    }

    #[test]
    fn without_figures_there_is_no_plot() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = include_str!("../../../tests/data/record.csv");
        let times_only: String =
            text.lines().filter(|line| !line.contains(",probed,")).map(|line| line.to_owned() + "\n").collect();
        let record = Record::parse(&times_only).expect("a whole record");
        let paths = draw(&record, &directory.path().join("a.csv")).expect("they can be drawn");
        assert_eq!(paths.len(), 2);
    }
}
