//! Use cases: authorise → rules → one transaction. Nothing here knows of HTTP.

pub mod keys;
