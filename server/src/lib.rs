//! The Suyuan server: pages, REST, use cases, jobs.

pub mod service;
