//! How far a revocation reaches back (`formats.md`, "Keys and the roster"): one rule for bundles and for pages.

use crate::{bundle::Interval, record::statement::RevocationReason};

/// What a revocation means for a statement that stands in the log before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The statement still counts.
    Spared,
    /// It was made when its key counted no more.
    Struck,
    /// Somebody else had the key, or may have had it, and nothing shows that the statement is older than that.
    Doubtful,
}

/// Whether a revocation effective `since` (Unix seconds) strikes what was made in `made`: what a thief had signed by then
/// does not count, whatever time it names.
pub fn reach(made: Interval, since: i64, reason: RevocationReason) -> Reach {
    let since = u64::try_from(since).unwrap_or_default();
    if made.before.is_some_and(|before| before <= since) {
        return Reach::Spared;
    }
    if made.after.is_some_and(|after| after >= since) {
        return Reach::Struck;
    }
    if reason.is_out_of_hands() { Reach::Doubtful } else { Reach::Spared }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RevocationReason::{Compromised, Lost, Retired, Superseded};

    #[test]
    fn a_stolen_or_lost_key_strikes_all_that_is_not_shown_to_be_older_and_a_retired_one_only_what_is_newer() {
        let made = |after, before| Interval { after, before };
        for reason in [Compromised, Lost, Superseded, Retired] {
            assert_eq!(reach(made(Some(80), Some(90)), 100, reason), Reach::Spared);
            assert_eq!(reach(made(Some(100), Some(110)), 100, reason), Reach::Struck);
        }
        let unclear = made(Some(90), Some(110));
        for reason in [Compromised, Lost] {
            assert_eq!(reach(unclear, 100, reason), Reach::Doubtful);
        }
        for reason in [Superseded, Retired] {
            assert_eq!(reach(unclear, 100, reason), Reach::Spared);
        }
    }
}
