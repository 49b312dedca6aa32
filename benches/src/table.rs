//! Figures beside the machine's limits: printed, and kept for comparing runs.

use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use serde::Serialize;

/// One figure, and what it is to be read beside.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    /// The limit in the same unit: the machine's own, or what the issue asks for; not a number where there is none.
    pub limit: f64,
    pub limit_what: String,
}

impl Row {
    pub fn new(
        what: impl Into<String>,
        (value, unit): (f64, &'static str),
        (limit, limit_what): (f64, impl Into<String>),
    ) -> Self {
        Self { what: what.into(), value, unit, limit, limit_what: limit_what.into() }
    }
}

/// Prints the table and writes `target/bench/NAME.json`.
pub fn report(root: &Path, name: &str, rows: &[Row]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\n{name}\n\n| what | measured | beside it |\n|---|---|---|")?;
    for row in rows {
        let (value, limit) = (shown(row.value), shown(row.limit));
        let beside = if row.limit.is_nan() {
            String::new()
        } else {
            format!("{limit} {}: {}", row.unit, row.limit_what)
        };
        writeln!(out, "| {} | {value} {} | {beside} |", row.what, row.unit)?;
    }
    let directory = root.join("target/bench");
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join(format!("{name}.json")), serde_json::to_vec_pretty(rows)?)
}

fn shown(value: f64) -> String {
    if value >= 100.0 {
        let whole = format!("{value:.0}");
        let digits = whole.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
        digits.collect::<Vec<_>>().join(",")
    } else {
        format!("{value:.2}")
    }
}

/// Latencies of one run.
#[derive(Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn push(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds; the latency that `percent` of all do not exceed.
    pub fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}
