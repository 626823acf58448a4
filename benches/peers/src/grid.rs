//! Samples of contenders (rows) at workloads (columns), and the tables made of them.

use crate::stats::Estimate;

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    /// A library; on tokio, or not.
    Peer {
        tokio: bool,
    },
    /// Written by hand, without a library.
    Limit,
    /// Shown, but no match: it does other work, as its name says.
    Other,
}

#[derive(Debug)]
pub(crate) struct Grid {
    pub(crate) rows: Vec<(&'static str, Kind)>,
    pub(crate) columns: Vec<String>,
    /// By row and column, one for each round. Rounds with the same number were made right after each other.
    samples: Vec<Vec<Vec<f64>>>,
}

impl Grid {
    pub(crate) fn new(rows: Vec<(&'static str, Kind)>, columns: Vec<String>) -> Self {
        let samples = vec![vec![Vec::new(); columns.len()]; rows.len()];
        Self { rows, columns, samples }
    }

    pub(crate) fn add(&mut self, row: usize, column: usize, sample: f64) {
        self.samples[row][column].push(sample);
    }

    pub(crate) fn estimate(&self, row: &str, column: &str) -> Option<Estimate> {
        Estimate::of(self.samples(row, column)?)
    }

    pub(crate) fn ratio(&self, row: &str, to: &str, column: &str) -> Option<Estimate> {
        Estimate::of_ratios(self.samples(row, column)?, self.samples(to, column)?)
    }

    /// The peer with the smallest median.
    pub(crate) fn best_peer(&self, column: &str, on_tokio: bool) -> Option<&'static str> {
        let peers = self.rows.iter().filter(|(_, kind)| match *kind {
            Kind::Peer { tokio } => tokio || !on_tokio,
            _ => false,
        });
        let medians = peers.filter_map(|(name, _)| Some((*name, self.estimate(name, column)?.median)));
        Some(medians.min_by(|(_, one), (_, other)| one.total_cmp(other))?.0)
    }

    fn samples(&self, row: &str, column: &str) -> Option<&[f64]> {
        let row = self.rows.iter().position(|(name, _)| *name == row)?;
        let column = self.columns.iter().position(|name| name == column)?;
        Some(self.samples[row][column].as_slice()).filter(|samples| !samples.is_empty())
    }

    /// Prints medians, and half of their intervals in percent.
    pub(crate) fn print(&self, title: &str, digits: impl Fn(f64) -> String) {
        println!("\n### {title}\n\n| | {} |", self.columns.join(" | "));
        println!("|---|{}", "---|".repeat(self.columns.len()));
        for (name, _) in &self.rows {
            let cells = self.columns.iter().map(|column| match self.estimate(name, column) {
                Some(estimate) if estimate.low == estimate.high => digits(estimate.median),
                Some(estimate) => format!("{} ±{:.0}%", digits(estimate.median), estimate.percent()),
                None => "–".to_owned(),
            });
            let cells: Vec<_> = cells.collect();
            if cells.iter().any(|cell| cell != "–") {
                println!("| {name} | {} |", cells.join(" | "));
            }
        }
    }
}

/// With three significant digits, and k or M where that is shorter.
pub(crate) fn short(value: f64) -> String {
    match value {
        1e7.. => format!("{:.1}M", value / 1e6),
        1e6.. => format!("{:.2}M", value / 1e6),
        1e5.. => format!("{:.0}k", value / 1e3),
        1e4.. => format!("{:.1}k", value / 1e3),
        1e3.. => format!("{:.2}k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub(crate) fn size(len: usize) -> String {
    match len {
        0x10_0000.. => format!("{} MiB", len >> 20),
        0x400.. => format!("{} KiB", len >> 10),
        _ => format!("{len} B"),
    }
}
