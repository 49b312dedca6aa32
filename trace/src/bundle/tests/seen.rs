//! Freshness: the interval in which a statement was made.

use super::{
    super::*,
    bad,
    ledger::{Ledger, ORIGIN, signer},
    unchecked,
};
use crate::{hash::sha256, record::Seen, roster::KeyState, tlog::cosignature};

/// Enrolment; a harvest whose author had seen `seen` of the head of size 1; a roster.
fn fresh(seen: impl Fn(Seen) -> Seen) -> Ledger {
    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    let had = ledger.carry_seen(0, 1);
    let harvest = ledger.harvest(0, Some(seen(had)));
    let roster = ledger.roster(0, KeyState::Good);
    ledger.confirm(harvest, roster);
    ledger
}

#[test]
fn a_statement_was_made_between_the_head_that_was_seen_and_the_first_that_covers_it() {
    let mut ledger = fresh(|seen| seen);
    let report = ledger.check();
    assert_eq!(report.verdict, Verdict::Valid, "{:?}", report.layers);
    let made = |report: &Report| report.statements[1].as_ref().unwrap().made;
    let after = Some(ledger.cosigned_at(0, 1));
    assert_eq!(made(&report), Interval { after, before: Some(ledger.cosigned_at(0, 3)) });

    ledger.carry_seen(0, 2);
    let narrower = Interval { after, before: Some(ledger.cosigned_at(0, 2)) };
    assert_eq!(made(&ledger.check()), narrower);
    assert_eq!(ledger.check().statements[2].as_ref().unwrap().made.after, None, "the roster names none");
}

#[test]
fn a_seen_head_that_the_bundle_does_not_prove_is_unchecked() {
    let ledger = fresh(|seen| seen);
    let mut bundle = ledger.bundle();
    bundle.seen.clear();
    let report = verify(&bundle, &ledger.trust());
    assert_eq!(report.verdict, Verdict::CouldNotCheck);
    assert!(unchecked(&report, Layer::Seen).contains("size 1 that the author of statement 1 had seen"));

    let mut bundle = ledger.bundle();
    bundle.seen[0].note.signatures.pop();
    let report = verify(&bundle, &ledger.trust());
    assert_eq!(report.verdict, Verdict::CouldNotCheck);
    assert!(unchecked(&report, Layer::Seen).contains("cosigned by nobody"));
}

#[test]
fn a_seen_head_that_the_log_never_had_is_invalid() {
    let ledger = fresh(|seen| Seen { root: sha256(b"other"), ..seen });
    assert!(bad(&ledger.check(), Layer::Seen).contains("another root"));

    let ledger = fresh(|seen| seen);
    let mut bundle = ledger.bundle();
    let forged = crate::tlog::checkpoint::Checkpoint { root: sha256(b"other"), ..ledger.head(0, 1) };
    let mut note = forged.sign(&signer(ORIGIN, 3));
    note.signatures.push(cosignature::cosign(&note.text, 1, &ledger.witness));
    bundle.seen[0].note = note;
    assert!(bad(&verify(&bundle, &ledger.trust()), Layer::Seen).contains("the seen head of"));
}

#[test]
fn nobody_has_seen_a_head_that_holds_the_statement_itself() {
    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    let harvest = ledger.harvest(0, None);
    let seen = ledger.carry_seen(0, 2);
    // The second harvest is at index 2 and may have seen size 2; the roster's head of size 4 is younger.
    ledger.harvest(0, Some(seen));
    let roster = ledger.roster(0, KeyState::Good);
    ledger.confirm(harvest, roster);
    ledger.confirm((0, 2), roster);
    assert_eq!(ledger.check().verdict, Verdict::Valid);

    let mut bundle = ledger.bundle();
    bundle.items[2].index = 1;
    assert_eq!(verify(&bundle, &ledger.trust()).verdict, Verdict::Invalid);
    let early = fresh(|seen| Seen { size: 3, root: sha256(b"later"), ..seen });
    assert_eq!(early.check().verdict, Verdict::Invalid);
}
