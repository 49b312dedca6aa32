//! The gateway as a process, against a server that speaks the documented protocol and can be made to fail, and
//! against clients that nobody here wrote: mosquitto and mosquitto_pub.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test ends where an expectation fails, and says aloud what it skips"
)]

mod acknowledging;
mod broker;
mod edge_nodes;
mod limits;
mod refusing;
mod server;
mod site;
