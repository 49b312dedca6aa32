//! The only crate that knows SQL.
//!
//! One file per domain word; a function is one query, typed. Functions take [`&mut Connection`](Connection), so that the
//! caller decides what belongs to one transaction: [`Store::begin`] … [`Transaction::commit`].

pub mod account;
pub mod alert;
pub mod anchor;
pub mod code;
pub mod condition;
mod connection;
pub mod consignment;
pub mod dead_letter;
pub mod delivery;
pub mod device;
pub mod fsck;
pub mod grid;
pub mod integrity;
pub mod key;
pub mod ledger;
pub mod lot;
mod migrate;
pub mod pack;
pub mod pack_order;
pub mod party;
pub mod provisioning;
pub mod quota;
pub mod reading;
pub mod record;
pub mod report;
pub mod rollup;
pub mod root_key;
pub mod roster;
pub mod schema;
pub mod stay;
pub mod trend;

pub use connection::{Connection, Pooled, Session, Store, StoreError, Transaction};
pub use migrate::{MigrateError, migrate, revert_all};
