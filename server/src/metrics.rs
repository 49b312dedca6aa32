//! Counters for Prometheus (text exposition format 0.0.4), without a registry: a counter is a static.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// A number that only grows until the process ends.
pub struct Counter {
    name: &'static str,
    /// `key="value"` or nothing.
    label: &'static str,
    value: AtomicU64,
}

impl Counter {
    pub const fn new(name: &'static str, label: &'static str) -> Self {
        Self { name, label, value: AtomicU64::new(0) }
    }

    pub fn add(&self, more: u64) {
        self.value.fetch_add(more, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// Counters by one label, whose values are words of the program.
pub struct Tally {
    name: &'static str,
    label: &'static str,
    values: Mutex<BTreeMap<&'static str, u64>>,
}

impl Tally {
    pub const fn new(name: &'static str, label: &'static str) -> Self {
        Self { name, label, values: Mutex::new(BTreeMap::new()) }
    }

    pub fn add(&self, words: impl Iterator<Item = &'static str>) {
        let mut words = words.peekable();
        if words.peek().is_none() {
            return;
        }
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        for word in words {
            *values.entry(word).or_default() += 1;
        }
    }

    fn page(&self) -> String {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = format!("# TYPE {} counter\n", self.name);
        for (word, value) in &*values {
            writeln!(text, "{}{{{}=\"{word}\"}} {value}", self.name, self.label).unwrap_or_default();
        }
        text
    }
}

pub static DEAD_LETTERS: Tally = Tally::new("suyuan_dead_letters_total", "reason");
pub static REQUESTS_OK: Counter = Counter::new("suyuan_http_requests_total", r#"status="2xx""#);
pub static REQUESTS_MOVED: Counter = Counter::new("suyuan_http_requests_total", r#"status="3xx""#);
pub static REQUESTS_REFUSED: Counter = Counter::new("suyuan_http_requests_total", r#"status="4xx""#);
pub static REQUESTS_FAILED: Counter = Counter::new("suyuan_http_requests_total", r#"status="5xx""#);
pub static REQUEST_MICROSECONDS: Counter = Counter::new("suyuan_http_request_microseconds_total", "");
pub static SIGN_INS_REFUSED: Counter = Counter::new("suyuan_sign_ins_refused_total", "");

const ALL: [&Counter; 6] = [
    &REQUESTS_OK,
    &REQUESTS_MOVED,
    &REQUESTS_REFUSED,
    &REQUESTS_FAILED,
    &REQUEST_MICROSECONDS,
    &SIGN_INS_REFUSED,
];

/// One gauge with its values by label (`key="value"`, or nothing).
pub fn gauge<N: Display>(name: &str, values: impl IntoIterator<Item = (String, N)>) -> String {
    let mut text = format!("# TYPE {name} gauge\n");
    for (label, value) in values {
        let label = if label.is_empty() { label } else { format!("{{{label}}}") };
        writeln!(text, "{name}{label} {value}").unwrap_or_default();
    }
    text
}

/// The page a scraper reads.
pub fn page() -> String {
    let mut text = String::new();
    let mut last = "";
    for counter in ALL {
        if counter.name != last {
            writeln!(text, "# TYPE {} counter", counter.name).unwrap_or_default();
            last = counter.name;
        }
        let label = if counter.label.is_empty() { String::new() } else { format!("{{{}}}", counter.label) };
        writeln!(text, "{}{label} {}", counter.name, counter.value()).unwrap_or_default();
    }
    text + &DEAD_LETTERS.page()
}
