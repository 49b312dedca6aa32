//! Use cases: authorise → rules → one transaction. Nothing here knows HTTP.

pub mod account;
pub mod alerts;
pub mod capture;
pub mod capture_epcis;
pub mod chains;
pub mod climate;
pub mod codes;
pub mod conditions;
pub mod desk;
pub mod devices;
pub mod disclosures;
pub mod effects;
pub mod fsck;
pub mod inspection;
pub mod intake;
pub mod keys;
pub mod ledger;
pub mod linkset;
pub mod profiles;
pub mod proof;
pub mod records;
pub mod registry;
pub mod standing;
pub mod story;
pub mod tracing;
