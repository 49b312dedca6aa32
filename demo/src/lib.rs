//! Starts what a machine lacks and plays a season through the front door.

pub mod chain;
pub mod lan;
pub mod machine;
pub mod postgres;
pub mod process;
pub mod season;
pub mod stack;
