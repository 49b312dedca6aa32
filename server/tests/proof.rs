//! Bundles from a real database: with the packs that a record names, and with what ended its signer's key.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what it expects by failing"
)]

mod database;
mod registered;
mod silo;

use std::{path::Path, sync::Arc};

use chrono::Utc;
use registered::party_of;
use server::{
    jobs::{roster, sequencer::Sequencer},
    service::{
        devices, intake,
        keys::{Keys, NewKey},
        ledger::Ledger,
        profiles::Profiles,
        proof::{self, Reader},
    },
};
use silo::{PEN, UP};
use store::{Store, ledger as rows, party};
use trace::{
    bundle::{self, Bundle, Content, Report, Signed, Verdict},
    hash::{Hash, sha256},
    keys::{KeyRole, Kid, SecretKey},
    pack::{carriage::Status, receipt::Receipt},
    record::{
        Body, Claims, Draft, Ref, Rel, issue,
        statement::{self, CodeRun, RevocationReason, Statement},
    },
    tlog::{
        checkpoint::Checkpoint,
        cosignature,
        note::{Algorithm, Note, SignerKey},
        policy::Policy,
        proof::TlogProof,
    },
};
use uuid::Uuid;

const ORIGIN: &str = "log.example/demo/2026";

fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey { name: name.parse().unwrap(), secret: SecretKey::from_seed(&[seed; 32]) }
}

struct World {
    store: Store,
    keys: Keys,
    ledger: Arc<Ledger>,
    policy: Policy,
    sequencer: Sequencer,
    depot: party::Party,
}

impl World {
    async fn new(name: &str) -> Option<Self> {
        let store = Store::open(&database::fresh(name).await?, 8).unwrap();
        let keys = Keys::from_seeds("demo", &[2; 32], &[3; 32], &[4; 32]);
        let policy = format!(
            "log {}\nwitness w1 {}\nquorum w1\nregistrar {}\n",
            signer(ORIGIN, 1).verifier(),
            signer("witness.example/w1", 9).verifier_as(Algorithm::CosignatureV1),
            keys.registrar().kid()
        );
        let policy: Policy = policy.parse().unwrap();
        let signer = signer(ORIGIN, 1);
        let ledger =
            Ledger::open(store.clone(), "log.example", "demo", [signer], policy.clone()).await.unwrap();
        ledger.set_halt(None);
        let ledger = Arc::new(ledger);
        let sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
        let mut transaction = store.begin().await.unwrap();
        let operator = party_of(&mut transaction, "operator", "operator", "9520000000004").await;
        keys.found(&mut transaction, &operator).await.unwrap();
        let depot = party_of(&mut transaction, "depot", "depot", "9520123456788").await;
        transaction.commit().await.unwrap();
        Some(Self { store, keys, ledger, policy, sequencer, depot })
    }

    async fn conn(&self) -> store::Pooled {
        self.store.connection().await.unwrap()
    }

    async fn enrol(&self, replaces: Option<Kid>) -> SecretKey {
        let new =
            NewKey { party: &self.depot, role: KeyRole::Record, device_id: None, base_name: None, replaces };
        let mut conn = self.conn().await;
        self.keys.enrol_platform(&mut conn, &new).await.unwrap();
        self.keys.signer_of(&mut conn, self.depot.id).await.unwrap().secret
    }

    /// A probe whose readings a gateway of the depot signed; the pack's entry.
    async fn take_pack(&self) -> Hash {
        let profiles =
            Profiles::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles"))).unwrap();
        silo::build(&self.store, &self.depot).await;
        let gateway = silo::gateway(&self.store, &self.keys, &self.depot).await;
        let form = silo::probe("probe1", None);
        devices::register(&self.store, &self.keys, &profiles, PEN, &self.depot, &form).await.unwrap();
        let now = Utc::now();
        let bytes = silo::pack("probe1", &[1; 16], now, &[("p1/temp", "Cel", 21)], &gateway);
        let item = silo::item(UP, now, &bytes);
        let outcomes =
            intake::take(&self.store, &profiles, (&intake::Register::default(), PEN), &[item], now)
                .await
                .unwrap();
        assert_eq!(outcomes[0].status, Status::Stored);
        assert_eq!(intake::check_strictly(&self.store).await.unwrap(), 1);
        sha256(&bytes)
    }

    /// A code run, the smallest record with a signer of its own.
    async fn state(&self, key: &SecretKey, refs: Vec<Ref>) -> Uuid {
        let jti = Uuid::now_v7();
        let mut conn = self.conn().await;
        let corrects = refs.iter().find(|to| to.rel == Rel::Corrects).map(|to| to.leaf.as_bytes().to_vec());
        let claims = Claims {
            iss: self.depot.iss.clone(),
            iat: Utc::now().timestamp(),
            jti,
            aud: "demo".to_owned(),
            profile: statement::profile_reference(),
            seen: self.ledger.seen(&mut conn).await.unwrap(),
            refs: refs.clone(),
        };
        let (gtin, key_hash) = ("09521000000004".to_owned(), Hash([1; 32]));
        let body =
            Body::Statement(Statement::CodeRun(CodeRun { gtin, epoch: 'A', first: 0, count: 10, key_hash }));
        let draft = Draft { claims, body, act: None, event_hash: None };
        let issued = issue(draft, &[], || [0; 16], 0, key).unwrap();
        let row = store::record::Record {
            jti,
            entry: issued.entry.as_bytes().to_vec(),
            kind: "statement".to_owned(),
            party_id: self.depot.id,
            iss: self.depot.iss.clone(),
            kid: key.kid().as_bytes().to_vec(),
            profile: statement::profile_reference(),
            step: Some("code-run".to_owned()),
            grade: "self".to_owned(),
            event_type: None,
            event_id: Some(format!("urn:uuid:{jti}")),
            event_time: None,
            event_offset: None,
            event_hash: None,
            place_id: None,
            late: false,
            corrects,
            iat: Utc::now(),
            accepted_at: Utc::now(),
            signed: issued.signed,
            public: serde_json::Value::Null,
        };
        let refs: Vec<_> = refs.iter().map(|to| (to.rel.as_str(), to.leaf.as_bytes().to_vec())).collect();
        store::record::insert(&mut conn, &row, &refs, &[]).await.unwrap();
        jti
    }

    /// What waits gets its leaf, and a head that the witness cosigned.
    async fn log(&mut self) {
        self.sequencer.step().await.unwrap();
        let mut conn = self.conn().await;
        let newest =
            rows::newest_checkpoints(&mut conn, self.ledger.open_log().id, 1).await.unwrap().remove(0);
        let note: Note = newest.note.parse().unwrap();
        let time = u64::try_from(Utc::now().timestamp()).unwrap();
        let row = rows::Cosignature {
            log_id: newest.log_id,
            size: newest.size,
            witness: "w1".to_owned(),
            line: cosignature::cosign(&note.text, time, &signer("witness.example/w1", 9)).to_string(),
            at: Utc::now(),
        };
        rows::insert_cosignature(&mut conn, &row).await.unwrap();
    }

    async fn log_roster(&mut self) {
        assert!(roster::step(&self.store, &self.ledger, &self.keys).await.unwrap());
        self.log().await;
    }

    async fn bundle(&self, jti: Uuid) -> (Bundle, Report) {
        let mut conn = self.conn().await;
        let made = proof::of_record(&mut conn, &self.ledger, &self.keys, jti, Reader::Public).await.unwrap();
        let read: Bundle = made.to_string().parse().unwrap();
        assert_eq!(read, made, "what is printed is in the canonical form");
        let report = bundle::verify(&read, &self.policy);
        (read, report)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_carries_the_packs_that_a_record_names_and_when_it_was_made() {
    let Some(mut world) = World::new("proof_packs").await else { return };
    let key = world.enrol(None).await;
    let pack = world.take_pack().await;
    world.log().await;
    let jti = world.state(&key, vec![Ref { rel: Rel::Evidence, leaf: pack }]).await;
    world.log().await;
    world.log_roster().await;
    let (bundle, report) = world.bundle(jti).await;
    assert_eq!(report.verdict, Verdict::Valid, "{:?}", report.layers);
    let packs: Vec<_> = bundle.items.iter().filter(|item| matches!(item.signed, Signed::Pack(_))).collect();
    assert_eq!(packs.len(), 1);
    let readings = report.statements.iter().flatten().find_map(|read| match &read.content {
        Content::Pack { readings, by_gateway: true } => Some(readings.len()),
        _ => None,
    });
    assert_eq!(readings, Some(1));
    let made = report.statements.iter().flatten().find(|read| read.kid == key.kid()).unwrap().made;
    assert!(made.after.is_some() && made.after <= made.before, "{made:?}");

    let mut conn = world.conn().await;
    let plain = proof::tlog_proof(&mut conn, &world.ledger, jti).await.unwrap();
    let read: TlogProof = plain.to_string().parse().unwrap();
    let record = store::record::by_jti(&mut conn, jti).await.unwrap().unwrap();
    let entry = Hash::from_slice(&record.entry).unwrap();
    let head = read.verify(&entry, &world.ledger.open_log().verifier).unwrap();
    assert!(world.policy.witnessed(&read.checkpoint).unwrap().enough && head.origin == ORIGIN);
    assert!(read.verify(&pack, &world.ledger.open_log().verifier).is_err());

    let issued = proof::receipt(&mut conn, &world.ledger, &pack).await.unwrap().to_bytes();
    let receipt = Receipt::parse(&issued).unwrap();
    let head = receipt.verify(&pack, &world.ledger.open_log().verifier).unwrap();
    let noted: Vec<Checkpoint> = bundle
        .seen
        .iter()
        .map(|seen| &seen.note)
        .chain(&bundle.checkpoints)
        .map(|note| note.text.parse().unwrap())
        .collect();
    assert!(noted.contains(&head), "a receipt's head is one that was cosigned: {head:?}");
    assert_eq!(proof::receipt(&mut conn, &world.ledger, &pack).await.unwrap().to_bytes(), issued);
    let of_record = proof::receipt(&mut conn, &world.ledger, &entry).await;
    assert!(matches!(of_record, Err(proof::ProofError::Unknown)), "a record has a tlog-proof");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_stays_valid_when_its_key_is_replaced_or_retired_after_it() {
    let Some(mut world) = World::new("proof_ended").await else { return };
    let first = world.enrol(None).await;
    let before = world.state(&first, vec![]).await;
    world.log().await;
    let second = world.enrol(Some(first.kid())).await;
    world.log().await;
    world.log_roster().await;
    let (_, report) = world.bundle(before).await;
    assert_eq!(report.verdict, Verdict::Valid, "{:?}", report.layers);

    // A thief of the old key gets the server to log it: the bundle tells.
    let after = world.state(&first, vec![]).await;
    let honest = world.state(&second, vec![]).await;
    world.log().await;
    let mut conn = world.conn().await;
    world.keys.revoke(&mut conn, second.kid(), Utc::now(), RevocationReason::Retired).await.unwrap();
    drop(conn);
    world.log().await;
    world.log_roster().await;
    assert_eq!(world.bundle(after).await.1.verdict, Verdict::Invalid);
    let (_, report) = world.bundle(honest).await;
    assert_eq!(report.verdict, Verdict::Valid, "{:?}", report.layers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_after_the_roster_that_reaches_back_is_in_the_bundle() {
    let Some(mut world) = World::new("proof_reached").await else { return };
    let key = world.enrol(None).await;
    let jti = world.state(&key, vec![]).await;
    world.log().await;
    world.log_roster().await;
    assert_eq!(world.bundle(jti).await.1.verdict, Verdict::Valid);
    let since = Utc::now() - chrono::TimeDelta::hours(1);
    let mut conn = world.conn().await;
    world.keys.revoke(&mut conn, key.kid(), since, RevocationReason::Compromised).await.unwrap();
    drop(conn);
    assert_eq!(world.bundle(jti).await.1.verdict, Verdict::Valid, "nobody has witnessed the revocation yet");
    world.log().await;
    assert_eq!(world.bundle(jti).await.1.verdict, Verdict::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_shown_a_record_is_shown_its_correction() {
    let Some(mut world) = World::new("proof_corrected").await else { return };
    let key = world.enrol(None).await;
    let wrong = world.state(&key, vec![]).await;
    world.log().await;
    let record = store::record::by_jti(&mut *world.conn().await, wrong).await.unwrap().unwrap();
    let leaf = Hash::from_slice(&record.entry).unwrap();
    let right = world.state(&key, vec![Ref { rel: Rel::Corrects, leaf }]).await;
    world.log_roster().await;
    let (_, report) = world.bundle(wrong).await;
    assert_eq!(report.verdict, Verdict::Valid, "{:?}", report.layers);
    let is_correction = |content: &Content| match content {
        Content::Record(claims) => claims["jti"] == right.to_string(),
        Content::Pack { .. } => false,
    };
    assert!(report.statements.iter().flatten().any(|read| is_correction(&read.content)));
}
