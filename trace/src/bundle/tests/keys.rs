//! Keys: enrolled first and for whom, replaced, revoked, and confirmed by a roster that is shown to be later.

use super::{
    super::*,
    bad,
    ledger::{DEVICE, FARMER, LEDGER, Ledger, MILL, NEXT, ORIGIN, secret},
    unchecked,
};
use crate::{
    keys::KeyRole,
    record::statement::{NewLog, RevocationReason, Statement},
    roster::{KeyState, Roster},
};

/// A harvest in the old log that a roster in the new one confirms; `link` says what shows the order.
fn across_new_year(link: impl Fn(&mut Ledger, usize, Option<&str>)) -> Ledger {
    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    let harvest = ledger.harvest(0, None);
    let next = ledger.open_log(NEXT, 6);
    link(&mut ledger, next, None);
    let closed = ledger.signed_head(0, ledger.size(0)).to_string();
    link(&mut ledger, next, Some(&closed));
    let roster = ledger.roster(next, KeyState::Good);
    ledger.confirm(harvest, roster);
    ledger
}

fn new_log(ledger: &Ledger, log: usize, closed: Option<String>) -> Statement {
    let key = super::ledger::signer(ledger.origin(log), 6).verifier();
    Statement::NewLog(NewLog { origin: ledger.origin(log).to_owned(), vkey: key.to_string(), closed })
}

/// In the old log the next one is named.
fn announced(ledger: &mut Ledger, next: usize, closed: Option<&str>) {
    if closed.is_none() {
        let statement = new_log(ledger, next, None);
        ledger.state_as_registrar(0, statement);
    }
}

/// The new log starts with the last head of the old one.
fn closed(ledger: &mut Ledger, next: usize, closed: Option<&str>) {
    if let Some(head) = closed {
        let statement = new_log(ledger, next, Some(head.to_owned()));
        ledger.state_as_registrar(next, statement);
    }
}

fn trust_in_both(ledger: &Ledger) -> crate::tlog::policy::Policy {
    let next = super::ledger::signer(NEXT, 6).verifier();
    format!("log {next}\n{}", ledger.trust_text()).parse().unwrap()
}

#[test]
fn a_roster_in_another_log_confirms_nothing_unless_the_order_is_shown() {
    let ledger = across_new_year(|_, _, _| {});
    let report = verify(&ledger.bundle(), &trust_in_both(&ledger));
    assert_eq!(report.verdict, Verdict::CouldNotCheck);
    assert!(unchecked(&report, Layer::Roster).contains("statement 1: its roster is in another log"));

    let ledger = across_new_year(closed);
    assert_eq!(verify(&ledger.bundle(), &trust_in_both(&ledger)).verdict, Verdict::Valid);
}

#[test]
fn a_log_that_a_trusted_one_names_is_trusted_and_younger() {
    let ledger = across_new_year(announced);
    assert_eq!(ledger.check().verdict, Verdict::Valid, "{:?}", ledger.check().layers);

    let stranger = across_new_year(closed);
    let report = stranger.check();
    assert_eq!(report.verdict, Verdict::CouldNotCheck, "a log does not vouch for itself");
    assert!(unchecked(&report, Layer::Log).contains(NEXT));
}

#[test]
fn a_log_that_is_named_with_two_keys_is_invalid() {
    let mut ledger = across_new_year(announced);
    let other = super::ledger::signer(NEXT, 8).verifier().to_string();
    ledger.state_as_registrar(
        0,
        Statement::NewLog(NewLog { origin: NEXT.to_owned(), vkey: other, closed: None }),
    );
    assert!(bad(&ledger.check(), Layer::Log).contains("statement 3 names another key"));
}

#[test]
fn another_history_in_the_last_head_of_the_old_log_is_invalid() {
    let ledger = across_new_year(|ledger, next, last| {
        let forged = last.map(|_| {
            let head = crate::tlog::checkpoint::Checkpoint {
                root: crate::hash::sha256(b"other"),
                ..ledger.head(0, ledger.size(0))
            };
            head.sign(&super::ledger::signer(ORIGIN, 3)).to_string()
        });
        closed(ledger, next, forged.as_deref());
    });
    assert!(bad(&verify(&ledger.bundle(), &trust_in_both(&ledger)), Layer::Log).contains("two histories"));
}

#[test]
fn an_earlier_roster_is_no_confirmation() {
    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    let roster = ledger.roster(0, KeyState::Good);
    let harvest = ledger.harvest(0, None);
    ledger.confirm(harvest, roster);
    let report = ledger.check();
    assert_eq!(report.verdict, Verdict::CouldNotCheck);
    assert!(unchecked(&report, Layer::Roster).contains("not yet confirmed"));
}

#[test]
fn a_replaced_key_signs_until_it_is_replaced_and_not_after() {
    let ending = |rotate_first: bool, show: bool| {
        let mut ledger = Ledger::new();
        ledger.enrol_farmer();
        if rotate_first {
            ledger.rotate(0);
        }
        let harvest = ledger.harvest(0, None);
        if !rotate_first && show {
            ledger.rotate(0);
        }
        let roster = ledger.roster(0, KeyState::Rotated);
        ledger.confirm(harvest, roster);
        ledger.check()
    };
    assert_eq!(ending(false, true).verdict, Verdict::Valid);
    assert!(
        bad(&ending(true, true), Layer::Enrolment)
            .contains("statement 2: its key was replaced by statement 1")
    );
    let unknown = ending(false, false);
    assert_eq!(unknown.verdict, Verdict::CouldNotCheck);
    assert!(unchecked(&unknown, Layer::Roster).contains("does not show when"));
}

#[test]
fn a_roster_that_says_good_does_not_outweigh_a_replacement_before_the_statement() {
    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    ledger.rotate(0);
    let harvest = ledger.harvest(0, None);
    let roster = ledger.roster(0, KeyState::Good);
    ledger.confirm(harvest, roster);
    assert_eq!(ledger.check().verdict, Verdict::Invalid);
}

#[test]
fn a_revoked_key_signed_only_what_is_shown_to_be_older() {
    use RevocationReason::{Compromised, Lost, Retired};
    // Enrolment, harvest, revocation, roster: the harvest is covered by a head of size 2, cosigned two minutes ago.
    let revoked = |since: Option<u64>, reason| {
        let mut ledger = Ledger::new();
        ledger.enrol_farmer();
        let harvest = ledger.harvest(0, None);
        if let Some(since) = since {
            ledger.revoke(0, since, reason);
        }
        let roster = ledger.roster(0, KeyState::Revoked);
        ledger.confirm(harvest, roster);
        ledger.carry_seen(0, 2);
        ledger.check().verdict
    };
    let covered = super::ledger::NOW - 120;
    assert_eq!(revoked(None, Retired), Verdict::Invalid, "nothing shows when");
    assert_eq!(revoked(Some(covered), Compromised), Verdict::Valid, "older than the theft");
    assert_eq!(revoked(Some(covered - 1), Compromised), Verdict::Invalid, "perhaps the thief's");
    assert_eq!(revoked(Some(covered), Lost), Verdict::Valid, "older than the loss");
    assert_eq!(revoked(Some(covered - 1), Lost), Verdict::Invalid, "perhaps the finder's");
    assert_eq!(revoked(Some(covered - 1), Retired), Verdict::Valid, "stated before the key was retired");

    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    ledger.revoke(0, super::ledger::NOW, Retired);
    let harvest = ledger.harvest(0, None);
    let roster = ledger.roster(0, KeyState::Revoked);
    ledger.confirm(harvest, roster);
    assert!(bad(&ledger.check(), Layer::Enrolment).contains("revoked by statement 1, out of order"));
}

#[test]
fn the_first_enrolment_in_the_log_counts_and_a_rival_s_second_does_not() {
    let mut ledger = Ledger::small();
    ledger.enrol(0, &secret(2), KeyRole::Record, MILL, None);
    assert_eq!(ledger.check().verdict, Verdict::Valid);

    let mut ledger = Ledger::new();
    ledger.enrol(0, &secret(2), KeyRole::Record, MILL, None);
    ledger.enrol_farmer();
    let harvest = ledger.harvest(0, None);
    let roster = ledger.roster(0, KeyState::Good);
    ledger.confirm(harvest, roster);
    assert!(bad(&ledger.check(), Layer::Enrolment).contains("statement 2: its key is that of"));
}

#[test]
fn a_statement_before_its_key_s_enrolment_is_invalid() {
    let mut ledger = Ledger::new();
    let harvest = ledger.harvest(0, None);
    ledger.enrol_farmer();
    let roster = ledger.roster(0, KeyState::Good);
    ledger.confirm(harvest, roster);
    assert!(bad(&ledger.check(), Layer::Enrolment).contains("enrolled by statement 1, out of order"));
}

#[test]
fn only_a_registrar_states_what_a_registrar_states() {
    let mut ledger = Ledger::small();
    let farmer = secret(2);
    let statement = new_log(&ledger, 0, None);
    let at = ledger.state(0, statement, &farmer, FARMER);
    let roster = ledger.roster(0, KeyState::Good);
    ledger.confirm(at, roster);
    assert!(bad(&ledger.check(), Layer::Enrolment).contains("statement 3: what only a registrar states"));
}

#[test]
fn a_roster_of_another_custody_than_the_enrolment_is_invalid() {
    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    let harvest = ledger.harvest(0, None);
    let line =
        crate::roster::RosterLine { custody: crate::keys::Custody::Device, ..ledger.line(KeyState::Good) };
    let roster = ledger.roster_of(0, Roster::new([line]));
    ledger.confirm(harvest, roster);
    assert!(bad(&ledger.check(), Layer::Roster).contains("another custody"));
}

#[test]
fn a_record_for_another_ledger_is_invalid_in_this_one() {
    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    ledger.aud = "elsewhere".to_owned();
    let harvest = ledger.harvest(0, None);
    ledger.aud = LEDGER.to_owned();
    let roster = ledger.roster(0, KeyState::Good);
    ledger.confirm(harvest, roster);
    assert!(bad(&ledger.check(), Layer::Inclusion).contains("statement 1 was made for the ledger elsewhere"));
}

#[test]
fn one_number_is_given_to_one_record_and_one_pack_of_a_device() {
    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    let first = ledger.harvest(0, None);
    ledger.repeat_jti();
    let seen = ledger.carry_seen(0, 1);
    let second = ledger.harvest(0, Some(seen));
    let roster = ledger.roster(0, KeyState::Good);
    ledger.confirm(first, roster);
    ledger.confirm(second, roster);
    assert!(bad(&ledger.check(), Layer::Inclusion).contains("statement 2 has the number of statement 1"));

    let mut ledger = Ledger::new();
    ledger.enrol(0, &secret(5), KeyRole::Pack, MILL, Some("urn:dev:org:32473-mill:"));
    let packs = [
        ledger.pack(0, &secret(5), DEVICE, 1_795_000_000),
        ledger.pack(0, &secret(5), "urn:dev:org:32473-mill:scale2:", 1_795_000_000),
        ledger.pack(0, &secret(5), DEVICE, 1_795_000_001),
    ];
    let roster = ledger.roster(0, KeyState::Good);
    for pack in packs {
        ledger.confirm(pack, roster);
    }
    assert_eq!(
        bad(&ledger.check(), Layer::Inclusion),
        "statement 3 has the number of statement 1, which is given once"
    );
}

#[test]
fn a_later_revocation_that_reaches_back_outweighs_a_good_roster() {
    let mut ledger = Ledger::small();
    ledger.revoke(0, 1, RevocationReason::Compromised);
    assert!(
        bad(&ledger.check(), Layer::Roster)
            .contains("older than the moment since when its key is out of its owner's hands")
    );
    let mut ledger = Ledger::small();
    ledger.revoke(0, super::ledger::NOW, RevocationReason::Compromised);
    assert_eq!(ledger.check().verdict, Verdict::Valid);
}

#[test]
fn the_first_naming_of_the_next_log_shows_the_order_and_a_repeated_one_does_not() {
    let mut ledger = Ledger::new();
    ledger.enrol_farmer();
    let next = ledger.open_log(NEXT, 6);
    announced(&mut ledger, next, None);
    let harvest = ledger.harvest(0, None);
    announced(&mut ledger, next, None);
    let roster = ledger.roster(next, KeyState::Good);
    ledger.confirm(harvest, roster);
    let report = ledger.check();
    assert_eq!(report.verdict, Verdict::CouldNotCheck);
    assert!(unchecked(&report, Layer::Roster).contains("statement 2: its roster is in another log"));
}

#[test]
fn a_stranger_s_registrar_is_not_believed() {
    let ledger = Ledger::small();
    let mut stranger = ledger.trust();
    stranger.registrars = vec![crate::hash::sha256(b"stranger")];
    assert_ne!(verify(&ledger.bundle(), &stranger).verdict, Verdict::Valid);
}

/// A pack of the mill's scale, signed by a key that is enrolled for `base_name`.
fn with_pack(base_name: &str, role: KeyRole, named: &str, time_s: i64) -> Report {
    let mut ledger = Ledger::new();
    let base_name = (role == KeyRole::Pack).then_some(base_name);
    ledger.enrol(0, &secret(5), role, MILL, base_name);
    let pack = ledger.pack(0, &secret(5), named, time_s);
    let roster = ledger.roster(0, KeyState::Good);
    ledger.confirm(pack, roster);
    ledger.check()
}

#[test]
fn a_pack_is_valid_under_the_key_of_its_device_its_party_s_gateway_or_the_operator_s() {
    for (base_name, is_gateway) in
        [(DEVICE, false), ("urn:dev:org:32473-mill:", true), ("urn:dev:org:32473-", true)]
    {
        let report = with_pack(base_name, KeyRole::Pack, DEVICE, 1_795_000_000);
        assert_eq!(report.verdict, Verdict::Valid, "{:?}", report.layers);
        let Content::Pack { readings, by_gateway } = &report.statements[1].as_ref().unwrap().content else {
            panic!("a pack")
        };
        assert_eq!(*by_gateway, is_gateway);
        assert_eq!(readings[0].name, format!("{DEVICE}weight"));
    }
}

#[test]
fn a_pack_under_another_device_s_key_a_record_key_or_a_relative_time_is_invalid() {
    let why = |report: Report| bad(&report, Layer::Enrolment);
    let other = with_pack("urn:dev:org:32473-mill:scale2:", KeyRole::Pack, DEVICE, 1_795_000_000);
    assert!(why(other).contains("is not one of urn:dev:org:32473-mill:scale2:"));
    let other = with_pack("urn:dev:org:32473-depot:", KeyRole::Pack, DEVICE, 1_795_000_000);
    assert!(why(other).contains("is not one of"));
    assert!(
        why(with_pack("", KeyRole::Record, DEVICE, 1_795_000_000)).contains("a key for record signed a pack")
    );
    assert!(why(with_pack(DEVICE, KeyRole::Pack, DEVICE, 5)).contains("relative time"));
    let gateway = with_pack("urn:dev:org:32473-mill:", KeyRole::Pack, DEVICE, 5);
    assert_eq!(gateway.verdict, Verdict::Valid, "a gateway signs for devices without a clock");
}
