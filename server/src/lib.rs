//! The Suyuan server: pages, REST, use cases, jobs.
