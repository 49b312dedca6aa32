//! Anchors: compared offline, looked up online.

use super::{
    super::*,
    bad,
    ledger::{CONTRACT, Ledger, NOW, ORIGIN},
    unchecked,
};
use crate::hash::sha256;

fn anchored() -> Ledger {
    let mut ledger = Ledger::small();
    ledger.carry_anchor(0);
    ledger
}

/// The chain holds what the bundle says it does.
fn on_chain(bundle: &Bundle) -> OnChain {
    let Anchor { chain_id, contract, origin, size, root, transaction } = bundle.anchors[0].clone();
    let heads = vec![HeadOnChain { origin, size, root, transaction, at: NOW - 30 }];
    OnChain { chain_id, contract, heads, ..OnChain::default() }
}

#[test]
fn offline_an_anchor_is_not_checked_and_the_bundle_is_valid() {
    let ledger = anchored();
    let report = ledger.check();
    assert_eq!(report.verdict, Verdict::Valid);
    let why = unchecked(&report, Layer::Chain);
    assert_eq!(why, format!("anchor 0 (size 3 of {ORIGIN} on chain 31337): not checked (needs --rpc)"));
}

#[test]
fn an_anchor_that_contradicts_the_bundle_or_the_trust_file_is_invalid() {
    let ledger = anchored();
    let spoil = |spoil: fn(&mut Anchor)| {
        let mut bundle = ledger.bundle();
        spoil(&mut bundle.anchors[0]);
        bad(&verify(&bundle, &ledger.trust()), Layer::Chain)
    };
    assert!(spoil(|anchor| anchor.root = sha256(b"other")).contains("another root"));
    assert!(spoil(|anchor| anchor.size = 2).contains("does not hold"));
    assert!(spoil(|anchor| anchor.origin.push('x')).contains("does not hold"));
    assert!(spoil(|anchor| anchor.contract = CONTRACT.replace('a', "b")).contains("another contract"));
}

#[test]
fn a_chain_that_holds_the_head_makes_the_layer_good_and_narrows_the_interval() {
    let ledger = anchored();
    let bundle = ledger.bundle();
    let report = ledger.check().with_chains(&bundle, &[on_chain(&bundle)]);
    assert_eq!(report.verdict, Verdict::Valid);
    assert!(report.layers.iter().all(|checked| checked.outcome == Outcome::Good), "{:?}", report.layers);
    assert_eq!(report.statements[1].as_ref().unwrap().made.before, Some(NOW - 30));
}

#[test]
fn a_head_that_does_not_stand_deep_enough_is_neither_good_nor_bad_and_narrows_nothing() {
    let ledger = anchored();
    let bundle = ledger.bundle();
    let mut found = on_chain(&bundle);
    found.shallow = found.heads.drain(..).map(|head| (head.origin, head.size)).collect();
    let before = ledger.check();
    let report = before.clone().with_chains(&bundle, &[found]);
    assert_eq!(report.verdict, Verdict::Valid, "the chain is extra");
    assert!(unchecked(&report, Layer::Chain).contains("does not stand deep enough in the chain yet"));
    assert_eq!(report.statements, before.statements);
}

#[test]
fn a_chain_that_does_not_hold_the_head_or_another_makes_it_invalid() {
    let ledger = anchored();
    let bundle = ledger.bundle();
    let with = |spoil: fn(&mut OnChain)| {
        let mut found = on_chain(&bundle);
        spoil(&mut found);
        bad(&ledger.check().with_chains(&bundle, &[found]), Layer::Chain)
    };
    assert!(with(|found| found.heads.clear()).contains("is not on the chain"));
    assert!(with(|found| found.heads[0].root = sha256(b"other")).contains("another root on the chain"));
    assert!(with(|found| found.heads[0].transaction.push('0')).contains("another transaction"));
    let other = OnChain { chain_id: 1, ..on_chain(&bundle) };
    let report = ledger.check().with_chains(&bundle, &[other]);
    assert_eq!(report.verdict, Verdict::Valid, "the chain is extra");
    assert!(unchecked(&report, Layer::Chain).contains("another chain was asked"));
}

#[test]
fn a_regulator_s_notice_before_the_statement_makes_it_invalid() {
    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    let seen = ledger.carry_seen(0, 1);
    let harvest = ledger.harvest(0, Some(seen));
    let roster = ledger.roster(0, crate::roster::KeyState::Good);
    ledger.confirm(harvest, roster);
    let noticed = |since| {
        let kid = ledger.farmer.kid();
        let found = OnChain { notices: vec![KeyNotice { kid, since }], ..OnChain::default() };
        ledger.check().with_chains(&ledger.bundle(), &[found])
    };
    let made = ledger.check().statements[1].as_ref().unwrap().made;
    let (after, before) = (made.after.unwrap(), made.before.unwrap());
    assert!(after < before);
    assert_eq!(noticed(before).verdict, Verdict::Valid, "the statement is older");
    assert_eq!(noticed(before - 1).verdict, Verdict::CouldNotCheck, "perhaps");
    assert!(bad(&noticed(after), Layer::Roster).contains("statement 1: a regulator revoked its key"));
}
