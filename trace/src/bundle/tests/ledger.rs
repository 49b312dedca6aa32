//! A small ledger: registrar, farmer, gateway, witness, and logs that follow one another.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    bundle::{Anchor, Bundle, Item, Report, SeenProof, Signed, verify},
    hash::Hash,
    keys::{Custody, KeyRole, PublicKey, SecretKey},
    merkle::{self, leaf_hash},
    pack::{
        self,
        senml::{self, Number, Reading},
    },
    record::{
        Body, Claims, Conceal, Draft, Issued, Seen, Visibility, issue,
        statement::{self, Enrolment, Possession, Revocation, RevocationReason, Rotation, Statement},
    },
    roster::{KeyState, LineProof, Roster, RosterLine},
    tlog::{
        checkpoint::Checkpoint,
        cosignature,
        note::{Algorithm, Note, SignerKey},
        policy::Policy,
    },
};

pub const LEDGER: &str = "suyuan-test";
pub const ORIGIN: &str = "log.example/suyuan-test/2026";
pub const NEXT: &str = "log.example/suyuan-test/2027";
pub const FARMER: &str = "https://id.gs1.org/8017/952123400000000017";
pub const MILL: &str = "https://id.gs1.org/417/9521234000013";
pub const OPERATOR: &str = "https://id.gs1.org/417/9521234000006";
pub const CONTRACT: &str = "0x00000000000000000000000000000000000000aa";
pub const DEVICE: &str = "urn:dev:org:32473-mill:scale1:";
/// When the newest head was cosigned; the head of size n was by one minute per leaf earlier.
pub const NOW: u64 = 1_795_000_000;

/// Which log, and which index.
pub type At = (usize, u64);

pub fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

pub fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey { name: name.parse().unwrap(), secret: secret(seed) }
}

struct Leaf {
    signed: Signed,
    key: PublicKey,
    entry: Hash,
}

struct Log {
    key: SignerKey,
    leaves: Vec<Leaf>,
}

pub struct Ledger {
    pub registrar: SecretKey,
    pub farmer: SecretKey,
    pub gateway: SecretKey,
    pub witness: SignerKey,
    pub aud: String,
    logs: Vec<Log>,
    jti: u128,
    rosters: BTreeMap<At, Roster>,
    confirmed: BTreeMap<At, (At, LineProof)>,
    seen: Vec<(usize, u64)>,
    anchors: Vec<(usize, u64)>,
}

impl Ledger {
    pub fn new() -> Self {
        Self {
            registrar: secret(1),
            farmer: secret(2),
            gateway: secret(5),
            witness: signer("regulator.example/w", 4),
            aud: LEDGER.to_owned(),
            logs: vec![Log { key: signer(ORIGIN, 3), leaves: vec![] }],
            jti: 0,
            rosters: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            seen: vec![],
            anchors: vec![],
        }
    }

    /// Enrolment, harvest, roster: three leaves.
    pub fn small() -> Self {
        let mut ledger = Self::new();
        ledger.enrol_farmer();
        let harvest = ledger.harvest(0, None);
        let roster = ledger.roster(0, KeyState::Good);
        ledger.confirm(harvest, roster);
        ledger
    }

    pub fn trust_text(&self) -> String {
        let witness = self.witness.verifier_as(Algorithm::CosignatureV1);
        let (log, registrar) = (self.logs[0].key.verifier(), self.registrar.kid());
        format!("log {log}\nwitness w {witness}\nquorum w\nregistrar {registrar}\nchain 31337 {CONTRACT}\n")
    }

    pub fn trust(&self) -> Policy {
        self.trust_text().parse().unwrap()
    }

    /// What a reader finds, who has the scan page's script or the auditor.
    pub fn check(&self) -> Report {
        super::script::assert_agrees(self);
        verify(&self.bundle(), &self.trust())
    }

    pub fn open_log(&mut self, origin: &str, seed: u8) -> usize {
        self.logs.push(Log { key: signer(origin, seed), leaves: vec![] });
        self.logs.len() - 1
    }

    pub fn origin(&self, log: usize) -> &str {
        self.logs[log].key.name.as_str()
    }

    /// The next record gets the jti of the last one.
    pub const fn repeat_jti(&mut self) {
        self.jti -= 1;
    }

    fn next_jti(&mut self) -> Uuid {
        self.jti += 1;
        Uuid::from_u128(0x0199_b3a0_0000_7000_8000_0000_0000_0000 + self.jti)
    }

    fn append(&mut self, log: usize, signed: Signed, key: PublicKey) -> At {
        let entry = signed.entry();
        let leaves = &mut self.logs[log].leaves;
        leaves.push(Leaf { signed, key, entry });
        (log, size_of(leaves) - 1)
    }

    fn append_record(&mut self, log: usize, issued: &Issued, key: PublicKey) -> At {
        let mut disclosures: Vec<String> =
            issued.disclosures.iter().map(|disclosure| disclosure.text.clone()).collect();
        disclosures.sort();
        self.append(log, Signed::Record { signed: issued.signed.clone(), disclosures }, key)
    }

    fn claims(&mut self, iss: &str, profile: String, seen: Option<Seen>) -> Claims {
        let (iss, aud, jti) = (iss.to_owned(), self.aud.clone(), self.next_jti());
        Claims { iss, iat: 1_795_000_000, jti, aud, profile, seen, refs: vec![] }
    }

    /// A statement by whoever's key.
    pub fn state(&mut self, log: usize, statement: Statement, key: &SecretKey, iss: &str) -> At {
        let claims = self.claims(iss, statement::profile_reference(), None);
        self.issue_statement(log, claims, statement, key)
    }

    fn issue_statement(&mut self, log: usize, claims: Claims, statement: Statement, key: &SecretKey) -> At {
        let draft = Draft { claims, body: Body::Statement(statement), act: None, event_hash: None };
        let issued = issue(draft, &[], || [9; 16], 0, key).unwrap();
        self.append_record(log, &issued, key.public())
    }

    pub fn state_as_registrar(&mut self, log: usize, statement: Statement) -> At {
        self.state(log, statement, &secret(1), OPERATOR)
    }

    pub fn enrol_farmer(&mut self) -> At {
        self.enrol(0, &secret(2), KeyRole::Record, FARMER, None)
    }

    pub fn enrol(
        &mut self,
        log: usize,
        key: &SecretKey,
        role: KeyRole,
        party: &str,
        base_name: Option<&str>,
    ) -> At {
        let claims = self.claims(OPERATOR, statement::profile_reference(), None);
        let (kid, party) = (key.kid(), party.to_owned());
        let possession = Possession {
            aud: self.aud.clone(),
            jti: claims.jti,
            kid,
            party: party.clone(),
            custody: Custody::Platform,
        };
        let enrolment = Enrolment {
            kid,
            key: Hash(*key.public().as_bytes()),
            role,
            party,
            custody: Custody::Platform,
            base_name: base_name.map(str::to_owned),
            pop: statement::prove_possession(&possession, key),
        };
        self.issue_statement(log, claims, Statement::Enrol(enrolment), &secret(1))
    }

    /// The farmer's key is replaced by another.
    pub fn rotate(&mut self, log: usize) -> At {
        let (new, claims) = (secret(7), self.claims(OPERATOR, statement::profile_reference(), None));
        let (kid, party) = (new.kid(), FARMER.to_owned());
        let possession = Possession {
            aud: self.aud.clone(),
            jti: claims.jti,
            kid,
            party: party.clone(),
            custody: Custody::Platform,
        };
        let rotation = Rotation {
            replaces: self.farmer.kid(),
            kid,
            key: Hash(*new.public().as_bytes()),
            role: KeyRole::Record,
            party,
            custody: Custody::Platform,
            base_name: None,
            pop: statement::prove_possession(&possession, &new),
        };
        self.issue_statement(log, claims, Statement::Rotate(rotation), &secret(1))
    }

    pub fn revoke(&mut self, log: usize, since: u64, reason: RevocationReason) -> At {
        let since = i64::try_from(since).unwrap();
        let revocation = Revocation { kid: self.farmer.kid(), party: FARMER.to_owned(), since, reason };
        self.state_as_registrar(log, Statement::Revoke(revocation))
    }

    pub fn harvest(&mut self, log: usize, seen: Option<Seen>) -> At {
        let claims = self.claims(FARMER, format!("sugar/3#{}", "0123456789abcdef".repeat(2)), seen);
        let event = json!({
            "type": "ObjectEvent",
            "eventID": format!("urn:uuid:{}", claims.jti),
            "eventTime": "2026-11-21T02:00:00+08:00",
            "eventTimeZoneOffset": "+08:00",
            "action": "ADD",
            "bizStep": "creating_class_instance",
            "epcList": [],
            "quantityList": [{"epcClass": "https://id.gs1.org/01/09521234000013/10/T-1", "quantity": 6.2, "uom": "TNE"}],
            "gx:plot": {"name": "那良屯三号地"}
        });
        let context = json!(["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"]);
        let draft =
            Draft { claims, body: Body::Event { context, event }, act: Some(act()), event_hash: None };
        let conceal = [Conceal { pointer: "/gx:plot".to_owned(), visibility: Visibility::Personal }];
        let mut salt = 0;
        let salts = || {
            salt += 1;
            [salt; 16]
        };
        let issued = issue(draft, &conceal, salts, 4, &self.farmer).unwrap();
        self.append_record(log, &issued, self.farmer.public())
    }

    /// One weight of the mill's scale, signed by `key`.
    pub fn pack(&mut self, log: usize, key: &SecretKey, base_name: &str, time_s: i64) -> At {
        let reading = Reading {
            name: format!("{base_name}weight"),
            unit: Some("kg".to_owned()),
            time_us: time_s * 1_000_000,
            value: Some(senml::Value::Number(Number::integer(6_200))),
            sum: None,
        };
        let payload = senml::write_cbor(base_name, &[reading]).unwrap();
        let bytes = pack::sign(b"12345678", &payload, key).unwrap();
        self.append(log, Signed::Pack(bytes), key.public())
    }

    pub fn line(&self, state: KeyState) -> RosterLine {
        RosterLine {
            kid: self.farmer.kid(),
            party: FARMER.to_owned(),
            custody: Custody::Platform,
            state,
            since: 1_795_000_000,
        }
    }

    /// A roster of registrar, gateway and farmer, whose key is in `state`.
    pub fn roster(&mut self, log: usize, state: KeyState) -> At {
        let line = self.line(state);
        let good = |kid, party: &str| RosterLine {
            kid,
            party: party.to_owned(),
            state: KeyState::Good,
            ..line.clone()
        };
        let others = [good(self.registrar.kid(), OPERATOR), good(self.gateway.kid(), MILL)];
        self.roster_of(log, Roster::new(others.into_iter().chain([line])))
    }

    pub fn roster_of(&mut self, log: usize, roster: Roster) -> At {
        let lines = u64::try_from(roster.len()).unwrap();
        let stated = statement::Roster { root: roster.root(), lines };
        let at = self.state_as_registrar(log, Statement::Roster(stated));
        self.rosters.insert(at, roster);
        at
    }

    /// The signer of `at` proves its line in that roster.
    pub fn confirm(&mut self, at: At, roster: At) {
        let leaf = &self.logs[at.0].leaves[usize::try_from(at.1).unwrap()];
        let line = self.rosters[&roster].prove(&leaf.key.kid()).unwrap().unwrap();
        self.confirmed.insert(at, (roster, line));
    }

    /// The bundle shall carry the head of that size.
    pub fn carry_seen(&mut self, log: usize, size: u64) -> Seen {
        self.seen.push((log, size));
        let Checkpoint { origin, size, root } = self.head(log, size);
        Seen { origin, size, root }
    }

    pub fn carry_anchor(&mut self, log: usize) {
        self.anchors.push((log, size_of(&self.logs[log].leaves)));
    }

    pub fn head(&self, log: usize, size: u64) -> Checkpoint {
        let leaves = self.leaf_hashes(log);
        let root = merkle::root(&leaves[..usize::try_from(size).unwrap()]);
        Checkpoint { origin: self.origin(log).to_owned(), size, root }
    }

    /// The head as its log signed it.
    pub fn signed_head(&self, log: usize, size: u64) -> Note {
        self.head(log, size).sign(&self.logs[log].key)
    }

    pub fn size(&self, log: usize) -> u64 {
        size_of(&self.logs[log].leaves)
    }

    /// When the head of that size was cosigned.
    pub fn cosigned_at(&self, log: usize, size: u64) -> u64 {
        NOW + 86_400 * u64::try_from(log).unwrap() - 60 * (self.size(log) - size)
    }

    fn note(&self, log: usize, size: u64) -> Note {
        let mut note = self.signed_head(log, size);
        let time = self.cosigned_at(log, size);
        note.signatures.push(cosignature::cosign(&note.text, time, &self.witness));
        note
    }

    fn leaf_hashes(&self, log: usize) -> Vec<Hash> {
        self.logs[log].leaves.iter().map(|leaf| leaf_hash(&leaf.entry)).collect()
    }

    /// Everything that stands in the logs.
    pub fn bundle(&self) -> Bundle {
        let mut bundle = Bundle::default();
        let mut numbers = BTreeMap::new();
        for (log, Log { leaves, .. }) in self.logs.iter().enumerate() {
            bundle.checkpoints.push(self.note(log, size_of(leaves)));
            for (leaf, index) in leaves.iter().zip(0..) {
                numbers.insert((log, index), bundle.items.len());
                bundle.items.push(Item {
                    signed: leaf.signed.clone(),
                    key: leaf.key,
                    checkpoint: log,
                    index,
                    path: merkle::inclusion_proof(&nodes(self.leaf_hashes(log)), size_of(leaves), index)
                        .unwrap(),
                    roster: None,
                });
            }
        }
        for (at, (roster, line)) in &self.confirmed {
            bundle.items[numbers[at]].roster = Some((numbers[roster], line.clone()));
        }
        for &(log, size) in &self.seen {
            let path =
                merkle::consistency_proof(&nodes(self.leaf_hashes(log)), size, self.size(log)).unwrap();
            bundle.seen.push(SeenProof { note: self.note(log, size), path });
        }
        for &(log, size) in &self.anchors {
            let Checkpoint { origin, size, root } = self.head(log, size);
            let (contract, transaction) = (CONTRACT.to_owned(), format!("0x{}", "cd".repeat(32)));
            bundle.anchors.push(Anchor { chain_id: 31337, contract, origin, size, root, transaction });
        }
        bundle
    }
}

fn act() -> Value {
    json!({"sub": "https://id.gs1.org/8017/952123400000000024"})
}

fn nodes(leaves: Vec<Hash>) -> impl Fn(u8, u64) -> Option<Hash> {
    move |level, index| {
        let start = usize::try_from(index << level).ok()?;
        leaves.get(start..start + (1 << level)).map(merkle::root)
    }
}

fn size_of(leaves: &[Leaf]) -> u64 {
    u64::try_from(leaves.len()).unwrap()
}
