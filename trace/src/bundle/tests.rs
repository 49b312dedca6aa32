//! A small ledger with a registrar, a farmer, a witness and a roster; then every way to spoil its bundle.

use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::{
    hash::sha256,
    keys::{Custody, KeyRole, SecretKey},
    merkle::{self, leaf_hash},
    record::{
        Body, Claims, Conceal, Draft, Issued, Visibility, issue,
        statement::{self, Enrolment, Possession, Statement, prove_possession},
    },
    roster::{KeyState, Roster, RosterLine},
    tlog::{
        checkpoint::Checkpoint,
        cosignature,
        note::{Algorithm, SignerKey},
        policy::Policy,
    },
};

const LEDGER: &str = "suyuan-test";
const ORIGIN: &str = "log.example/suyuan-test/2026";
const FARMER: &str = "https://id.gs1.org/8017/952123400000000017";
const OPERATOR: &str = "https://id.gs1.org/417/9521234000006";

struct Small {
    registrar: SecretKey,
    farmer: SecretKey,
    log: SignerKey,
    witness: SignerKey,
    jti: u128,
    state: KeyState,
}

impl Small {
    fn new() -> Self {
        let signer = |name: &str, seed| SignerKey {
            name: name.parse().unwrap(),
            secret: SecretKey::from_seed(&[seed; 32]),
        };
        Self {
            registrar: SecretKey::from_seed(&[1; 32]),
            farmer: SecretKey::from_seed(&[2; 32]),
            log: signer(ORIGIN, 3),
            witness: signer("regulator.example/w", 4),
            jti: 0,
            state: KeyState::Good,
        }
    }

    fn trust(&self) -> Policy {
        let witness = self.witness.verifier_as(Algorithm::CosignatureV1);
        let (log, registrar) = (self.log.verifier(), self.registrar.kid());
        format!("log {log}\nwitness w {witness}\nquorum w\nregistrar {registrar}\n").parse().unwrap()
    }

    fn next_jti(&mut self) -> Uuid {
        self.jti += 1;
        Uuid::from_u128(0x0199_b3a0_0000_7000_8000_0000_0000_0000 + self.jti)
    }

    fn claims(iss: &str, jti: Uuid, profile: String) -> Claims {
        let (iss, aud) = (iss.to_owned(), LEDGER.to_owned());
        Claims { iss, iat: 1_795_000_000, jti, aud, profile, seen: None, refs: vec![] }
    }

    fn state(&self, jti: Uuid, statement: Statement) -> Issued {
        let claims = Self::claims(OPERATOR, jti, statement::profile_reference());
        let draft = Draft { claims, body: Body::Statement(statement), act: None, event_hash: None };
        issue(draft, &[], || [9; 16], 0, &self.registrar).unwrap()
    }

    fn enrolment(&mut self) -> Issued {
        let (jti, public) = (self.next_jti(), self.farmer.public());
        let possession = Possession {
            aud: LEDGER.to_owned(),
            jti,
            kid: public.kid(),
            party: FARMER.to_owned(),
            custody: Custody::Platform,
        };
        let enrolment = Enrolment {
            kid: public.kid(),
            key: Hash(*public.as_bytes()),
            role: KeyRole::Record,
            party: FARMER.to_owned(),
            custody: Custody::Platform,
            base_name: None,
            pop: prove_possession(&possession, &self.farmer),
        };
        self.state(jti, Statement::Enrol(enrolment))
    }

    fn harvest(&mut self) -> Issued {
        let jti = self.next_jti();
        let event = json!({
            "type": "ObjectEvent",
            "eventID": format!("urn:uuid:{jti}"),
            "eventTime": "2026-11-21T02:00:00+08:00",
            "eventTimeZoneOffset": "+08:00",
            "action": "ADD",
            "bizStep": "creating_class_instance",
            "epcList": [],
            "quantityList": [{"epcClass": "https://id.gs1.org/01/09521234000013/10/T-1", "quantity": 6.2, "uom": "TNE"}],
            "gx:plot": {"name": "那良屯三号地"}
        });
        let context = json!(["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"]);
        let claims = Self::claims(FARMER, jti, format!("sugar/3#{}", "0123456789abcdef".repeat(2)));
        let draft = Draft { claims, body: Body::Event { context, event }, act: None, event_hash: None };
        let conceal = [Conceal { pointer: "/gx:plot".to_owned(), visibility: Visibility::Personal }];
        let mut salt = 0;
        let salts = || {
            salt += 1;
            [salt; 16]
        };
        issue(draft, &conceal, salts, 4, &self.farmer).unwrap()
    }

    fn roster(&mut self) -> (Issued, Roster) {
        let line = RosterLine {
            kid: self.farmer.kid(),
            party: FARMER.to_owned(),
            custody: Custody::Platform,
            state: self.state,
            since: 1_795_000_000,
        };
        let other = RosterLine {
            kid: self.registrar.kid(),
            party: OPERATOR.to_owned(),
            state: KeyState::Good,
            ..line.clone()
        };
        let roster = Roster::new([line, other]);
        let jti = self.next_jti();
        let stated = statement::Roster { root: roster.root(), lines: 2 };
        (self.state(jti, Statement::Roster(stated)), roster)
    }

    /// Enrolment, harvest, roster: three leaves.
    fn bundle(&mut self) -> Bundle {
        let (enrolment, harvest) = (self.enrolment(), self.harvest());
        let (stated, roster) = self.roster();
        let leaves: Vec<Hash> =
            [&enrolment, &harvest, &stated].iter().map(|issued| leaf_hash(&issued.entry)).collect();
        let nodes = |level: u8, index: u64| {
            let start = usize::try_from(index << level).ok()?;
            leaves.get(start..start + (1 << level)).map(merkle::root)
        };
        let head = Checkpoint { origin: ORIGIN.to_owned(), size: 3, root: merkle::root(&leaves) };
        let mut note = head.sign(&self.log);
        note.signatures.push(cosignature::cosign(&note.text, 1_795_000_100, &self.witness));
        let item = |index: u64, issued: &Issued, key: &SecretKey| Item {
            signed: Signed::Record {
                signed: issued.signed.clone(),
                disclosures: issued.disclosures.iter().map(|disclosure| disclosure.text.clone()).collect(),
            },
            key: key.public(),
            checkpoint: 0,
            index,
            path: merkle::inclusion_proof(&nodes, 3, index).unwrap(),
            roster: None,
        };
        let line = roster.prove(&self.farmer.kid()).unwrap().unwrap();
        let harvest = Item { roster: Some((2, line)), ..item(1, &harvest, &self.farmer) };
        Bundle {
            checkpoints: vec![note],
            seen: vec![],
            items: vec![item(0, &enrolment, &self.registrar), harvest, item(2, &stated, &self.registrar)],
            anchors: vec![],
        }
    }
}

fn reseal(text: &str) -> String {
    let body = &text[..text.rfind("sha256 ").unwrap()];
    format!("{body}sha256 {}\n", sha256(body.as_bytes()))
}

#[test]
fn a_whole_bundle_is_valid_and_shows_what_it_discloses() {
    let mut ledger = Small::new();
    let bundle = ledger.bundle();
    let text = bundle.to_string();
    assert_eq!(text.parse::<Bundle>(), Ok(bundle.clone()));
    let report = verify(&bundle, &ledger.trust());
    assert_eq!(report.verdict, Verdict::Valid, "{:?}", report.layers);
    let harvest = report.claims[1].as_ref().unwrap();
    assert_eq!(harvest["event"]["gx:plot"]["name"], "那良屯三号地");
}

#[test]
fn no_bit_of_a_bundle_can_be_flipped_unnoticed_even_by_who_mends_its_last_line() {
    let mut ledger = Small::new();
    let (text, trust) = (ledger.bundle().to_string(), ledger.trust());
    let passes = |text: &str| {
        text.parse::<Bundle>().is_ok_and(|bundle| verify(&bundle, &trust).verdict == Verdict::Valid)
    };
    assert!(passes(&text));
    let last_line = text.rfind("sha256 ").unwrap();
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(flipped) = String::from_utf8(bytes) else { continue };
            assert!(!passes(&flipped), "byte {at}, bit {bit}");
            // Mending costs a parse and all signatures: one bit of each byte is enough.
            if at < last_line && bit == at % 8 {
                assert!(!passes(&reseal(&flipped)), "byte {at}, bit {bit}, mended");
            }
        }
    }
}

#[test]
fn what_is_missing_is_not_called_valid() {
    let mut ledger = Small::new();
    let (whole, trust) = (ledger.bundle(), ledger.trust());
    let verdict = |bundle: &Bundle| verify(bundle, &trust).verdict;

    let mut without_cosignature = whole.clone();
    without_cosignature.checkpoints[0].signatures.pop();
    assert_eq!(verdict(&without_cosignature), Verdict::CouldNotCheck);

    let mut without_roster = whole.clone();
    without_roster.items[1].roster = None;
    assert_eq!(verdict(&without_roster), Verdict::CouldNotCheck);

    let mut without_enrolment = whole.clone();
    without_enrolment.items.remove(0);
    without_enrolment.items[0].roster.as_mut().unwrap().0 = 1;
    assert_eq!(verdict(&without_enrolment), Verdict::CouldNotCheck);

    let mut without_disclosures = whole.clone();
    if let Signed::Record { disclosures, .. } = &mut without_disclosures.items[1].signed {
        disclosures.clear();
    }
    assert_eq!(verdict(&without_disclosures), Verdict::Valid, "an erased field breaks no proof");
    assert_eq!(verdict(&Bundle::default()), Verdict::CouldNotCheck);
}

#[test]
fn a_revoked_key_and_a_stranger_s_registrar_make_it_invalid_or_unchecked() {
    let mut revoked = Small { state: KeyState::Revoked, ..Small::new() };
    let bundle = revoked.bundle();
    assert_eq!(verify(&bundle, &revoked.trust()).verdict, Verdict::Invalid);

    let mut ledger = Small::new();
    let bundle = ledger.bundle();
    let mut stranger = ledger.trust();
    stranger.registrars = vec![sha256(b"stranger")];
    assert_ne!(verify(&bundle, &stranger).verdict, Verdict::Valid);
}
