//! Medians, and how sure one can be of them.

use std::fmt;

/// A median with an interval that holds the true one in 95 of 100 cases, whatever the distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let median = match count {
            0 => return None,
            _ if count % 2 == 1 => sorted[count / 2],
            _ => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
        };
        let outside = outside(count);
        Some(Self { median, low: sorted[outside], high: sorted[count - 1 - outside] })
    }

    /// Of ratios, taken round by round: what disturbs both disturbs neither's ratio.
    pub(crate) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        Self::of(&ratios)
    }

    /// Half the interval, in percent of the median.
    pub(crate) fn percent(self) -> f64 {
        (self.high - self.low) / 2.0 / self.median * 100.0
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.low, self.high)
    }
}

/// How many of the sorted samples lie outside the interval at each end: the most for which a fair coin shows so few
/// heads with a chance of no more than 2.5 %. With fewer than six samples the interval is all of them.
fn outside(count: usize) -> usize {
    let mut chance = 0.5_f64.powi(count as i32);
    let mut sum = chance;
    let mut fits = 0;
    for heads in 1..count {
        if sum > 0.025 {
            break;
        }
        fits = heads;
        chance *= (count - heads + 1) as f64 / heads as f64;
        sum += chance;
    }
    fits.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_sign_test() {
        // Ranks from a table: count, first rank inside the interval.
        for (count, rank) in [(5, 1), (6, 1), (9, 2), (12, 3), (15, 4), (20, 6), (25, 8), (41, 14)] {
            assert_eq!(outside(count), rank - 1, "{count}");
        }
    }

    #[test]
    fn median_and_ratio() {
        let estimate = Estimate::of(&[3.0, 1.0, 2.0, 4.0]).unwrap();
        assert_eq!((estimate.median, estimate.low, estimate.high), (2.5, 1.0, 4.0));
        assert_eq!(Estimate::of_ratios(&[2.0, 8.0], &[4.0, 16.0]).unwrap().median, 0.5);
        assert_eq!(Estimate::of(&[]), None);
    }
}
