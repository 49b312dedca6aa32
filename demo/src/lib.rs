//! Starts what a machine lacks and plays a season through the front door.

pub mod season;
