//! An error with all its causes in one line, for logs and terminals. Never for a page: `Display` of an internal error is ours.

use std::{error::Error, fmt};

/// `outer: inner: innermost`.
pub struct Causes<'a>(pub &'a dyn Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Causes;

    #[derive(Debug, thiserror::Error)]
    #[error("the letter is lost")]
    struct Lost(#[source] std::fmt::Error);

    #[test]
    fn every_cause_stands_in_the_line() {
        let line = Causes(&Lost(std::fmt::Error)).to_string();
        assert_eq!(line, format!("the letter is lost: {}", std::fmt::Error));
    }
}
