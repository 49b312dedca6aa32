//! End-to-end tests on the real database, broker, chain and browser.
