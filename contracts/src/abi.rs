//! What the committed artefact says of the contract; a test of the Makefile compares that with its source.

#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "the macro writes this module"
)]

alloy::sol!(
    #[derive(Debug)]
    TraceLog,
    "artefacts/TraceLog.json"
);
