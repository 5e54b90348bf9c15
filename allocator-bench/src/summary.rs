//! Reduces many figures to one: the median over rounds, of figures or of ratios, and the geometric mean over workloads.
//! Called by the runner.

/// The median of `values`, the lower of the two middle ones rounded up towards the other where their number is even.
///
/// Gives `None` for no values.
pub fn median(values: impl IntoIterator<Item = u64>) -> Option<u64> {
    let mut sorted: Vec<u64> = values.into_iter().collect();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = sorted[middle - 1];
    Some(lower + (upper - lower).div_ceil(2))
}

/// The median of the ratios of `pairs`, the first of each over the second; the geometric mean of the two middle ones
/// where their number is even, so that the inverse of all ratios has the inverse median.
///
/// Gives `None` for no pairs, or if a second is zero.
pub fn median_ratio(pairs: impl IntoIterator<Item = (u64, u64)>) -> Option<f64> {
    let ratio = |(value, base): (u64, u64)| (base > 0).then(|| value as f64 / base as f64);
    let mut sorted = pairs.into_iter().map(ratio).collect::<Option<Vec<f64>>>()?;
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[middle - 1] * upper).sqrt() })
}

/// The geometric mean of `values`, or `None` if there are none or one is not above zero.
pub fn geometric_mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut log_sum, mut count) = (0.0_f64, 0_u32);
    for value in values {
        if value.is_nan() || value <= 0.0 {
            return None;
        }
        log_sum += value.ln();
        count += 1;
    }
    (count > 0).then(|| (log_sum / f64::from(count)).exp())
}

#[cfg(test)]
mod tests {
    use super::{geometric_mean, median, median_ratio};

    #[test]
    fn median_takes_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([4]), Some(4));
        assert_eq!(median([9, 1, 5]), Some(5));
        assert_eq!(median([9, 1, 5, 6]), Some(6));
        assert_eq!(median([10, 20]), Some(15));
        assert_eq!(median([u64::MAX, u64::MAX]), Some(u64::MAX));
    }

    #[test]
    fn ratios_are_of_pairs() {
        assert_eq!(median_ratio([(10, 20), (300, 100), (8, 8)]), Some(1.0));
        assert_eq!(median_ratio([(1, 1), (4, 1)]), Some(2.0), "the inverse is 0.5");
        assert_eq!(median_ratio([]), None);
        assert_eq!(median_ratio([(1, 1), (1, 0)]), None);
    }

    #[test]
    fn geometric_mean_multiplies() {
        let mean = geometric_mean([1.0, 4.0, 16.0]).expect("all above zero");
        assert!((mean - 4.0).abs() < 1e-9);
        assert_eq!(geometric_mean([]), None);
        assert_eq!(geometric_mean([1.0, 0.0]), None);
        assert_eq!(geometric_mean([1.0, f64::NAN]), None);
    }
}
