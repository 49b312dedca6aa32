//! Check what Suyuan says without trusting who says it: the commands of `suyuan-auditor`. Knows nothing of the server but its
//! bytes.

pub mod mirror;
pub mod online;
pub mod receipt;
mod report;
pub mod state;
pub mod verify;
pub mod witness;
