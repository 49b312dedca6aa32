//! The Suyuan server: pages, REST, use cases, jobs.
//!
//! `web → service → store`, `jobs → service`; `service` never names actix.

pub mod app;
pub mod config;
pub mod jobs;
pub mod metrics;
pub mod service;
pub mod web;
