//! End-to-end tests on the real database, broker, chain and browser.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    reason = "a harness says what it expects by failing"
)]

pub mod audit;
pub mod gs1_schema;
