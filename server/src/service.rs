//! Use cases: authorise → rules → one transaction. Nothing here knows HTTP.

pub mod account;
pub mod keys;
pub mod ledger;
