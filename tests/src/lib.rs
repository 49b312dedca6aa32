//! End-to-end tests on the real database, broker, chain and browser.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    reason = "a harness says what it expects by failing"
)]

pub mod audit;
pub mod browser;
pub mod cable;
pub mod field;
pub mod gs1_schema;
pub mod log_house;
pub mod sender;
pub mod site;
pub mod targets;
