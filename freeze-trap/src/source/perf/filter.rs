//! The expression by which the kernel chooses the threads whose switches are recorded.

/// A filter may be as long as a page; a range takes up to 42 bytes.
const RANGES_MAX: usize = 80;

/// True for all of these threads, and perhaps for some whose numbers are between theirs: there may be more threads than
/// a filter has room for, so those whose numbers are close together become ranges.
pub(super) fn of_threads(field: &str, tids: &[i32]) -> String {
    let mut tids = tids.to_vec();
    tids.sort_unstable();
    tids.dedup();
    // The widest gaps stay gaps.
    let mut gaps: Vec<(i32, usize)> = (1..tids.len()).map(|at| (tids[at] - tids[at - 1], at)).collect();
    gaps.retain(|(width, _)| *width > 1);
    gaps.sort_unstable_by_key(|(width, at)| (std::cmp::Reverse(*width), *at));
    gaps.truncate(RANGES_MAX - 1);
    let mut bounds: Vec<usize> = gaps.into_iter().map(|(_, at)| at).collect();
    bounds.sort_unstable();
    let starts = std::iter::once(0).chain(bounds.iter().copied());
    let ends = bounds.iter().copied().chain(std::iter::once(tids.len()));
    let term = |(start, end): (usize, usize)| match &tids[start..end] {
        [] => String::new(),
        [one] => format!("{field}=={one}"),
        [first, .., last] => format!("({field}>={first}&&{field}<={last})"),
    };
    let terms: Vec<String> = starts.zip(ends).map(term).collect();
    terms.join("||")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_ranges() {
        assert_eq!(of_threads("pid", &[9, 5, 7, 6, 5]), "(pid>=5&&pid<=7)||pid==9");
        assert_eq!(of_threads("pid", &[5]), "pid==5");
        assert_eq!(of_threads("pid", &[]), "");
    }

    #[test]
    fn a_filter_for_many_threads_fits_into_a_page_and_lets_all_of_them_through() {
        let tids: Vec<i32> = (0..5000).map(|number| 3_000_000 + number * 7 + number % 3).collect();
        let filter = of_threads("prev_pid", &tids);
        assert!(filter.len() < 4096, "{} bytes", filter.len());
        let ranges: Vec<(i32, i32)> = filter
            .split("||")
            .map(|term| {
                let numbers: Vec<i32> =
                    term.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
                (numbers[0], *numbers.last().unwrap())
            })
            .collect();
        assert!(tids.iter().all(|tid| ranges.iter().any(|(first, last)| (first..=last).contains(&tid))));
    }
}
