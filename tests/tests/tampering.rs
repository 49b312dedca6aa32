//! After a season somebody with all power over the database changes one byte, of any column of any table: `fsck` names the
//! record, or the head.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop where it stands, and says loudly what it skips"
)]

#[path = "tampering/evidence.rs"]
mod evidence;
#[path = "tampering/hand.rs"]
mod hand;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chrono::Utc;
use demo::{
    season,
    stack::{Options, Ports, Stack, programs_beside_us},
};
use server::service::{
    capture::{Capture, Request},
    capture_epcis,
    fsck::{self, Ask, StepNames},
    keys::{KeyFiles, Keys, NewKey},
    profiles::Profiles,
};
use store::{Store, party};
use system_tests::audit::ask;
use trace::{keys::KeyRole, profile::Kind, record::statement::RevocationReason};
use uuid::Uuid;

use hand::Hand;

/// More than a tile's width of entries, so that there is a full tile to change.
const KEYS: usize = 260;
const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_changed_anywhere_in_the_evidence_is_named() {
    let mut house = House::open().await;
    house.what_a_season_leaves_out().await;
    house.is_quiet().await;
    house.stop_everything_but_postgres();
    let (ask, url) = (house.ask(), house.stack.database_url("migrator"));
    tokio::task::spawn_blocking(move || {
        assert_eq!(fsck::check(&ask, |_| {}).unwrap().misfits, Vec::new(), "nothing was changed yet");
        Hand::new(&url).every_change_is_named(&ask);
    })
    .await
    .unwrap();
    drop(house.stack);
    std::fs::remove_dir_all(&house.data).unwrap_or_default();
}

struct House {
    stack: Stack,
    data: PathBuf,
}

impl House {
    async fn open() -> Self {
        let programs = programs_beside_us().unwrap();
        for program in ["suyuan", "suyuan-gateway", "suyuan-auditor"] {
            assert!(programs.join(program).exists(), "{program} is not built: run `make test`");
        }
        let data = std::env::temp_dir().join(format!("suyuan-tampering-{}", std::process::id()));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
        let options = Options::local(root, data.clone(), programs, Ports::free().unwrap());
        let stack = Stack::start(options, &mut |text| println!("{text}")).await.unwrap();
        season::play(&stack.addresses()).await.unwrap();
        Self { stack, data }
    }

    /// Keys enough for a full tile, one of them replaced and one revoked; a unit unpacked; a lot recalled.
    async fn what_a_season_leaves_out(&self) {
        let store = Store::open(&self.stack.database_url("app"), 2).unwrap();
        let mut conn = store.connection().await.unwrap();
        let [registrar, derivation, kek] =
            ["registrar.key", "derivation.key", "kek.key"].map(|name| self.stack.file(name));
        let files = KeyFiles { registrar: &registrar, derivation: &derivation, kek: &kek };
        let keys = Keys::open(&mut conn, "suyuan-demo", files).await.unwrap();
        let party = party::by_slug(&mut conn, "xiaodian").await.unwrap().unwrap();
        drop(conn);
        let new = |replaces| NewKey {
            party: &party,
            role: KeyRole::Derivation,
            device_id: None,
            base_name: None,
            replaces,
        };
        for number in 0..KEYS {
            let mut transaction = store.begin().await.unwrap();
            let kid = keys.enrol_platform(&mut transaction, &new(None)).await.unwrap();
            if number == 0 {
                keys.enrol_platform(&mut transaction, &new(Some(kid))).await.unwrap();
            } else if number == 1 {
                let (now, reason) = (Utc::now(), RevocationReason::Compromised);
                keys.revoke(&mut transaction, kid, now, reason).await.unwrap();
            }
            transaction.commit().await.unwrap();
        }
        self.enrol_a_device(&store, &keys).await;
        self.unpack_and_recall(&store, &keys).await;
        self.correct_an_import(&store, &keys).await;
    }

    /// A key of a device's own, beside those of gateways.
    async fn enrol_a_device(&self, store: &Store, keys: &Keys) {
        let query = "select d.id, o.slug, d.name from device d join party o on o.id = d.party_id limit 1";
        let device = ask(&self.stack, query);
        let [id, slug, name] = device.trim().split('|').collect::<Vec<_>>()[..] else { panic!("{device}") };
        let mut transaction = store.begin().await.unwrap();
        let party = party::by_slug(&mut transaction, slug).await.unwrap().unwrap();
        let base_name = Some(format!("urn:dev:org:32473-{slug}:{name}:"));
        let device_id = Some(id.parse().unwrap());
        let new = NewKey { party: &party, role: KeyRole::Pack, device_id, base_name, replaces: None };
        keys.enrol_platform(&mut transaction, &new).await.unwrap();
        transaction.commit().await.unwrap();
    }

    async fn correct_an_import(&self, store: &Store, keys: &Keys) {
        let event = ask(
            &self.stack,
            "select y.slug || '|' || (r.public -> 'event') from record r join party y on y.id = r.party_id \
             where r.step is null and r.corrects is null limit 1",
        );
        let (slug, event) = event.trim().split_once('|').unwrap();
        let mut event: serde_json::Value = serde_json::from_str(event).unwrap();
        let context = event.as_object_mut().unwrap().remove("@context").unwrap();
        event["errorDeclaration"] =
            serde_json::json!({"declarationTime": "2026-12-01T08:00:00+08:00", "reason": "incorrect_data"});
        let document = serde_json::json!({"@context": context, "type": "EPCISDocument", "schemaVersion": "2.0",
            "creationDate": "2026-12-01T09:00:00Z", "epcisBody": {"eventList": [event]}});
        let mut conn = store.connection().await.unwrap();
        let party = party::by_slug(&mut conn, slug).await.unwrap().unwrap();
        drop(conn);
        let text = document.to_string();
        let outcomes = capture_epcis::capture(store, keys, &party, None, text.as_bytes()).await.unwrap();
        assert!(matches!(outcomes[..], [capture_epcis::Outcome::Accepted { .. }]), "{outcomes:?}");
    }

    async fn unpack_and_recall(&self, store: &Store, keys: &Keys) {
        let profiles = Profiles::read(&self.stack.options.root.join("profiles")).unwrap();
        let capture = Capture {
            store,
            keys,
            documents: "https://localhost/documents/",
            serial_master: &[0; 32],
            seen: None,
        };
        for (effect, query) in [
            (
                "unpack",
                "select y.slug, split_part(r.profile, '/', 1), a.parent_uri from aggregation a \
                 join record r on r.entry = a.packed_by join party y on y.id = r.party_id \
                 where r.profile like 'sugar/%' limit 1",
            ),
            (
                "recall",
                "select y.slug, l.profile, l.uri from lot l join party y on y.id = l.made_by \
                 join edge e on e.parent_id = l.id where l.profile = 'sugar' and l.product <> 'cane' limit 1",
            ),
        ] {
            let answer = ask(&self.stack, query);
            let [slug, profile, uri] = answer.trim().split('|').collect::<Vec<_>>()[..] else {
                panic!("{effect}: {answer}")
            };
            let mut conn = store.connection().await.unwrap();
            let party = party::by_slug(&mut conn, slug).await.unwrap().unwrap();
            drop(conn);
            let profile = profiles.by_id(profile).unwrap();
            let is_it = |step: &&trace::profile::Step| step.id == effect && step.roles.contains(&party.role);
            let Some(step) = profile.steps().iter().find(is_it) else {
                println!("SKIPPED: {slug} has no step {effect}");
                continue;
            };
            let request = Request {
                party: &party,
                account: None,
                profile,
                step,
                jti: Uuid::now_v7(),
                evidence: &[],
                own: None,
            };
            let place = format!("select uri from place where party_id = {} order by id limit 1", party.id);
            let place = ask(&self.stack, &place);
            let value = |field: &trace::profile::Field| match field.kind {
                Kind::Place => place.trim().to_owned(),
                Kind::Lot | Kind::LogisticUnit => uri.to_owned(),
                _ => "N-1".to_owned(),
            };
            let required = step.fields.iter().filter(|field| field.required);
            let fields: Vec<(String, String)> =
                required.map(|field| (field.id.clone(), value(field))).collect();
            capture.take(request, &fields).await.unwrap_or_else(|error| panic!("{effect}: {error:?}"));
        }
    }

    /// Everything is logged, witnessed and anchored, and a roster was stated of it.
    async fn is_quiet(&self) {
        let until = Instant::now() + PATIENCE;
        let quiet = "select (select count(*) from pending) = 0 \
             and (select max(size) from cosignature) = (select size from head) \
             and (select max(size) from anchor where state in ('anchored', 'final')) = (select size from head)";
        let (mut quiet_for, mut size) = (0, String::new());
        while quiet_for < 3 {
            assert!(Instant::now() < until, "the log does not come to rest");
            tokio::time::sleep(Duration::from_millis(700)).await;
            let now = ask(&self.stack, "select size from head");
            quiet_for = if ask(&self.stack, quiet).trim() == "t" && now == size { quiet_for + 1 } else { 0 };
            size = now;
        }
    }

    fn stop_everything_but_postgres(&mut self) {
        drop(self.stack.gateway.take());
        drop(self.stack.server.take());
        drop(self.stack.witness.take());
    }

    fn ask(&self) -> Ask {
        let trust = std::fs::read_to_string(self.stack.write_trust().unwrap()).unwrap();
        let profiles = Profiles::read(&self.stack.options.root.join("profiles")).unwrap();
        Ask {
            database_url: self.stack.database_url("auditor"),
            trust: trust.parse().unwrap(),
            steps: StepNames::of(profiles.iter().map(AsRef::as_ref)),
            threads: 1,
            resume: None,
        }
    }
}
