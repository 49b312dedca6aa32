//! Identifiers, events, records, log mathematics, proofs and rules of Suyuan.
//!
//! Pure: no I/O, no clock, no randomness, no async. Whoever calls brings the bytes, the time and the salts.
#![forbid(unsafe_code)]

pub mod b64;
pub mod bundle;
pub mod causes;
pub mod epcis;
pub mod graph;
pub mod gs1;
pub mod hash;
pub mod json;
pub mod keys;
pub mod merkle;
pub mod pack;
pub mod profile;
pub mod quantity;
pub mod record;
pub mod revocation;
pub mod roster;
pub mod rules;
pub mod serial;
pub mod tlog;
pub mod uplink;
