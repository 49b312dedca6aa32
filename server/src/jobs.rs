//! What runs beside the requests. Each job is a loop around one step; a step that fails is logged and tried again, but for
//! a lost head swap, which ends the process.

pub mod alerts;
pub mod anchor;
pub mod conditions;
pub mod deliveries;
pub mod fsck;
pub mod readings;
pub mod roster;
pub mod sequencer;
pub mod strict_check;
pub mod witnesses;
