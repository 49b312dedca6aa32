//! MQTT in, signed packs out to the server.
//!
//! The gateway decodes far enough to route, signs for devices that cannot, and acknowledges a message only after the
//! server has answered for it: a PUBACK means committed. It keeps no state, holds no database password and is not
//! trusted: the server checks every signature again.
#![forbid(unsafe_code)]

pub mod admin;
pub mod batch;
pub mod config;
pub mod descriptors;
pub mod enrol;
pub mod intake;
pub mod metrics;
pub mod register;
pub mod replay;
pub mod run;
pub mod source;
pub mod uplink;

/// An error as a field of a log line: the subscriber walks its chain of causes.
pub(crate) fn cause<'error>(
    error: &'error (dyn std::error::Error + 'static),
) -> &'error (dyn std::error::Error + 'static) {
    error
}
