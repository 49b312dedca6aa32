//! What was signed, for a regulator's program: who may read it, who sees that it was read, and the auditor's copy of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what it expects by failing"
)]

mod database;
mod house;
mod served;

use std::sync::Arc;

use actix_web::web::Data;
use auditor::mirror::{Looked, Mirror, MirrorError, Source, Why};
use serde_json::Value;
use server::{app::AppState, jobs::sequencer::Sequencer, service::registry::Registry};
use store::party::{self, NewParty};
use trace::{hash::sha256, tlog::policy::Policy};

struct Desk {
    database: String,
    state: Data<AppState>,
    url: String,
    operator: party::Party,
    directory: std::path::PathBuf,
}

impl Desk {
    /// A founded ledger with its statements and one pack in the log, served.
    async fn open(name: &str) -> Option<Self> {
        let database = database::fresh(name).await?;
        let state = house::state(&database).await;
        let registry = Registry {
            store: &state.store,
            keys: &state.keys,
            profiles: &state.profiles,
            gsrn_prefix: &state.config.identifiers.gsrn_prefix,
            documents: &state.documents,
        };
        let operator = registry.found("operator", "Operator", "9521234000006").await.unwrap();
        let pack = b"a pack, as its device signed it";
        let entry = sha256(pack);
        let statements = format!(
            "insert into place (party_id, slug, kind, uri) values ({0}, 'silo', 'silo', 'https://id.gs1.org/414/9521234000006');
             insert into device (party_id, name, kind, profile, format, signing, token_hash, place_id)
               select {0}, 'probe', 'probe', 'grain', 'cose', 'device', ''::bytea, id from place limit 1;
             insert into pack (device_id, cti, entry, kid, bytes, readings, first_at, last_at, received_at)
               select id, '\\x01', decode('{1}', 'hex'), ''::bytea, decode('{2}', 'hex'), 1, now(), now(), now() from device;
             insert into pending (entry) values (decode('{1}', 'hex'));",
            operator.id,
            hex(entry.as_bytes()),
            hex(pack),
        );
        execute(&database, &statements).await;
        let mut sequencer = Sequencer::lead(Arc::clone(&state.ledger)).await.unwrap().unwrap();
        sequencer.step().await.unwrap();
        let url = served::listen(&state);
        let directory = std::env::temp_dir().join(format!("suyuan-signed-{}", uuid::Uuid::now_v7().simple()));
        Some(Self { database, state, url, operator, directory })
    }

    /// A token of a party with this role.
    async fn token(&self, role: &str, scope: &str) -> String {
        let slug = format!("{role}.{scope}");
        let iss = format!("https://party.example/{slug}");
        let new = NewParty {
            slug: &slug,
            role,
            iss: &iss,
            name: Some("The bureau"),
            county: None,
            company_prefix: None,
            person_id: None,
        };
        let mut conn = self.state.store.connection().await.unwrap();
        let party = party::insert(&mut conn, &new).await.unwrap();
        self.state.accounts.issue_token(party.id, scope, &[scope.to_owned()], None).await.unwrap()
    }

    async fn get(&self, token: Option<&str>, query: &str) -> (u16, Value) {
        let mut request = reqwest::Client::new().get(format!("{}/signed?{query}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    async fn mirror(&self, token: &str) -> Result<Looked, MirrorError> {
        let log = self.state.ledger.open_log();
        let trust: Policy = format!("log {}\nquorum none\n", log.verifier).parse().unwrap();
        let mirror = Mirror {
            source: Source { url: &self.url, http: reqwest::Client::new() },
            directory: &self.directory,
            trust: &trust,
            rpc: None,
            confirmations: 0,
            opened: None,
            witness_lead: std::time::Duration::ZERO,
            records: Some(token),
        };
        mirror.look().await
    }

    async fn looks(&self) -> Vec<String> {
        let mut conn = self.state.store.connection().await.unwrap();
        let looks = store::account::looks_at(&mut conn, self.operator.id, 100).await.unwrap();
        looks.into_iter().map(|(_, by, what)| format!("{} {what}", by.unwrap())).collect()
    }
}

async fn execute(database: &str, statements: &str) {
    let (client, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(statements).await.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_regulators_program_reads_what_was_signed_and_the_signer_sees_it() {
    let Some(desk) = Desk::open("signed_door").await else { return };
    let mut conn = desk.state.store.connection().await.unwrap();
    let (size, ..) = desk.state.ledger.head(&mut conn, desk.state.ledger.open_log().id).await.unwrap();
    assert!(size >= 2, "statements and a pack");
    let regulator = desk.token("regulator", "signed").await;
    for (token, status) in [
        (None, 401),
        (Some(desk.token("mill", "signed").await), 403),
        (Some(desk.token("regulator", "read").await), 403),
    ] {
        assert_eq!(desk.get(token.as_deref(), "from=0&count=10").await.0, status, "{token:?}");
    }
    assert!(desk.looks().await.is_empty());
    for query in ["from=0&count=0", "from=0&count=257", "from=-1&count=1", "from=0"] {
        assert_eq!(desk.get(Some(&regulator), query).await.0, 400, "{query}");
    }
    let (status, beyond) = desk.get(Some(&regulator), "from=18446744073709551615&count=1").await;
    assert_eq!((status, beyond["parts"].as_array().unwrap().len()), (200, 0));

    let (status, answer) = desk.get(Some(&regulator), "from=0&count=256").await;
    let parts = answer["parts"].as_array().unwrap();
    assert_eq!((status, u64::try_from(parts.len()).unwrap()), (200, size));
    assert_eq!(parts.iter().filter(|part| part["pack"].is_string()).count(), 1);
    assert!(parts.iter().filter_map(|part| part["record"].as_str()).all(|record| !record.contains('~')));
    let expected = format!("The bureau localhost/suyuan/2026 0-{}", size - 1);
    assert_eq!(desk.looks().await, [expected]);
    let (_, one) = desk.get(Some(&regulator), "from=1&count=1").await;
    assert_eq!(one["parts"].as_array().unwrap()[..], parts[1..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_keeps_what_was_signed_and_names_what_it_is_refused() {
    let Some(desk) = Desk::open("signed_mirror").await else { return };
    let token = desk.token("regulator", "signed").await;
    let looked = desk.mirror(&token).await.unwrap();
    let parts = looked.parts.unwrap();
    assert_eq!((u64::try_from(parts.copied).unwrap(), parts.refusals), (looked.head.size, 0));
    let kept =
        std::fs::read_to_string(desk.directory.join(format!("records/000.p/{}", looked.head.size))).unwrap();
    let mut conn = desk.state.store.connection().await.unwrap();
    for line in kept.lines() {
        let (kind, signed) = line.split_once(' ').unwrap();
        let bytes =
            if kind == "record" { signed.as_bytes().to_vec() } else { trace::b64::from_url(signed).unwrap() };
        assert!(store::ledger::locate(&mut conn, sha256(&bytes).as_bytes()).await.unwrap().is_some());
    }
    assert_eq!(
        desk.mirror(&token).await.unwrap().parts.unwrap().copied,
        0,
        "what is here is not asked for again"
    );

    std::fs::remove_dir_all(desk.directory.join("records")).unwrap();
    execute(&desk.database, "update pack set entry = sha256('else'); update record set signed = signed || 'A' where jti = (select jti from record limit 1)").await;
    let looked = desk.mirror(&token).await.unwrap();
    let parts = looked.parts.unwrap();
    let mut why: Vec<Why> = parts.refused.iter().map(|(_, why)| *why).collect();
    why.sort_by_key(|why| *why == Why::NotGiven);
    assert_eq!((why, parts.is_alarming), (vec![Why::OtherBytes, Why::NotGiven], true));
    assert!(!desk.directory.join("records").exists(), "a bundle that is not whole is not kept");
    let denied = desk.token("mill", "signed").await;
    assert!(matches!(desk.mirror(&denied).await, Err(MirrorError::Status { status: 403, .. })));
    std::fs::remove_dir_all(&desk.directory).unwrap();
}
