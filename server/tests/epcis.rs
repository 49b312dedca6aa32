//! EPCIS documents against a real database: what is taken, what is known, what is refused, and the trace over lots.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what it expects by failing"
)]

use chrono::Utc;
use serde_json::{Value, json};
use server::service::{
    capture_epcis::{Outcome, Reason, capture},
    disclosures,
    keys::{Keys, NewKey},
    tracing::{TracingError, follow_named},
};
use store::{Connection, Store, lot, party, record};
use trace::{graph::Direction, keys::KeyRole};

struct World {
    store: Store,
    keys: Keys,
    carrier: party::Party,
}

/// A database of its own on the server that `TEST_DATABASE_URL` (a superuser's) names.
async fn database(name: &str) -> Option<String> {
    let Ok(admin) = std::env::var("TEST_DATABASE_URL") else {
        eprintln!("SKIPPED: TEST_DATABASE_URL is not set");
        return None;
    };
    let (client, connection) = tokio_postgres::connect(&admin, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("drop database if exists {name} with (force)")).await.unwrap();
    client.batch_execute(&format!("create database {name}")).await.unwrap();
    let (server, _) = admin.rsplit_once('/').unwrap();
    Some(format!("{server}/{name}"))
}

async fn world(name: &str) -> Option<World> {
    let url = database(name).await?;
    store::migrate(&url).await.unwrap();
    let store = Store::open(&url, 8).unwrap();
    let keys = Keys::from_seeds("suyuan", &[1; 32], &[2; 32], &[3; 32]);
    let mut transaction = store.begin().await.unwrap();
    let operator = party_of(&mut transaction, "operator", "operator", "9520000000004").await;
    keys.found(&mut transaction, &operator).await.unwrap();
    let carrier = party_of(&mut transaction, "carrier", "carrier", "9520123456788").await;
    let new =
        NewKey { party: &carrier, role: KeyRole::Record, device_id: None, base_name: None, replaces: None };
    keys.enrol_platform(&mut transaction, &new).await.unwrap();
    transaction.commit().await.unwrap();
    Some(World { store, keys, carrier })
}

async fn party_of(conn: &mut Connection, slug: &str, role: &str, pgln: &str) -> party::Party {
    let iss = format!("https://id.gs1.org/417/{pgln}");
    let new = party::NewParty {
        slug,
        role,
        iss: &iss,
        name: Some(slug),
        county: None,
        company_prefix: None,
        person_id: None,
    };
    party::insert(conn, &new).await.unwrap()
}

fn arrival(id: Option<&str>) -> Value {
    let mut event = json!({
        "type": "ObjectEvent", "action": "OBSERVE", "bizStep": "arriving", "disposition": "in_transit",
        "eventTime": "2026-01-18T08:30:00+08:00", "eventTimeZoneOffset": "+08:00",
        "epcList": ["urn:epc:id:sscc:4012345.0000000333"],
        "quantityList": [{"epcClass": "urn:epc:class:lgtin:9520123.045678.A1", "quantity": 7300, "uom": "KGM"}],
        "readPoint": {"id": "urn:epc:id:sgln:4012345.00011.0"},
        "sourceList": [{"type": "possessing_party", "source": "urn:epc:id:pgln:4012345.00225"}],
        "carrier:seal": "SEAL-4711"
    });
    if let Some(id) = id {
        event["eventID"] = json!(id);
    }
    event
}

/// Another event, without an eventID.
fn unnamed() -> Value {
    let mut event = arrival(None);
    event["eventTime"] = json!("2026-01-18T11:00:00+08:00");
    event
}

fn document(events: &[Value]) -> Vec<u8> {
    let document = json!({
        "@context": [trace::epcis::EPCIS_CONTEXT, {"carrier": "https://carrier.example/voc/"}],
        "type": "EPCISDocument", "schemaVersion": "2.0", "creationDate": "2026-01-18T09:00:00Z",
        "epcisBody": {"eventList": events}
    });
    document.to_string().into_bytes()
}

impl World {
    async fn hand_in(&self, events: &[Value]) -> Vec<Outcome> {
        capture(&self.store, &self.keys, &self.carrier, &document(events)).await.unwrap()
    }

    async fn records(&self) -> Vec<record::Record> {
        let mut conn = self.store.connection().await.unwrap();
        record::newest_of(&mut conn, self.carrier.id, 100).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_accepted_known_or_refused_with_its_reason() {
    let Some(world) = world("epcis_outcomes").await else { return };
    let own = "https://carrier.example/events/1";
    let first = world.hand_in(&[arrival(Some(own)), unnamed()]).await;
    let Outcome::Accepted { jti: second, .. } = first[1] else { panic!("{first:?}") };
    let Outcome::Accepted { jti, .. } = first[0] else { panic!("{first:?}") };

    let again = world.hand_in(&[arrival(Some(own)), unnamed()]).await;
    assert_eq!(again, [Outcome::Duplicate { jti }, Outcome::Duplicate { jti: second }]);

    let mut other = arrival(Some(own));
    other["bizStep"] = json!("departing");
    let mut wrong = unnamed();
    wrong["epcList"] = json!(["urn:epc:id:gid:95100000.12345.400"]);
    let mut late = arrival(Some("https://carrier.example/events/never"));
    late["errorDeclaration"] =
        json!({"declarationTime": "2026-01-19T08:00:00+08:00", "reason": "incorrect_data"});
    let refused = world.hand_in(&[other, wrong, late]).await;
    assert_eq!(refused[0], Outcome::Refused(Reason::EventIdUsed));
    let Outcome::Refused(Reason::Event(error)) = &refused[1] else { panic!("{refused:?}") };
    assert_eq!(error.path, "$.epcList[0]");
    assert_eq!(refused[2], Outcome::Refused(Reason::NothingToCorrect));
    assert_eq!(world.records().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_signed_with_digital_links_and_keeps_what_is_private_sealed() {
    let Some(world) = world("epcis_record").await else { return };
    let outcome = world.hand_in(&[arrival(Some("https://carrier.example/events/1"))]).await;
    let Outcome::Accepted { jti, entry } = outcome[0] else { panic!("{outcome:?}") };
    let mut conn = world.store.connection().await.unwrap();
    let row = record::by_jti(&mut conn, jti).await.unwrap().unwrap();
    assert_eq!(row.entry, entry.as_bytes());
    let kid = trace::hash::Hash::from_slice(&row.kid).unwrap();
    let key = world.keys.public(&mut conn, kid).await.unwrap().unwrap();
    let signed = trace::record::verify(&row.signed, &key).unwrap();

    let event = &row.public["event"];
    assert_eq!(event["eventID"], "https://carrier.example/events/1");
    assert_eq!(event["epcList"], json!(["https://id.gs1.org/00/040123450000003338"]));
    assert_eq!(event["sourceList"], json!([]));
    assert!(!row.signed.is_empty() && !row.public.to_string().contains("4711"));

    let sealed = record::disclosures_of(&mut conn, std::slice::from_ref(&row.entry)).await.unwrap();
    assert!(sealed.iter().all(|row| !String::from_utf8_lossy(&row.sealed).contains("4711")));
    let opened = disclosures::open(&world.keys, &std::collections::HashMap::new(), &sealed).unwrap();
    let texts: Vec<&str> = opened.iter().map(|(_, text)| text.as_str()).collect();
    let whole = signed.process(&texts).unwrap();
    assert_eq!(whole["event"]["carrier:seal"], "SEAL-4711");
    assert_eq!(whole["event"]["sourceList"][0]["source"], "https://id.gs1.org/417/4012345002256");
    assert!(whole["event_hash"].as_str().unwrap().starts_with("ni:///sha-256;"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_declaration_corrects_its_original_once() {
    let Some(world) = world("epcis_correction").await else { return };
    let id = "urn:uuid:374d95fc-9457-4a51-bd6a-0bba133845a8";
    world.hand_in(&[arrival(Some(id))]).await;
    let mut withdrawn = arrival(Some(id));
    withdrawn["errorDeclaration"] =
        json!({"declarationTime": "2026-01-19T08:00:00+08:00", "reason": "did_not_occur"});
    let outcome = world.hand_in(&[withdrawn.clone()]).await;
    let Outcome::Accepted { jti, .. } = outcome[0] else { panic!("{outcome:?}") };
    assert_eq!(world.hand_in(&[withdrawn]).await[0], Outcome::Duplicate { jti });

    let records = world.records().await;
    let (correction, original) = (&records[0], &records[1]);
    assert_eq!(correction.corrects.as_ref(), Some(&original.entry));
    assert_eq!(correction.event_id, original.event_id);
    assert_eq!(correction.public["event"]["errorDeclaration"]["reason"], "did_not_occur");
    assert_eq!(correction.public["refs"][0]["rel"], "corrects");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_copies_at_once_make_one_record() {
    let Some(world) = world("epcis_race").await else { return };
    let event = [arrival(None)];
    let copies = (0..50).map(|_| world.hand_in(&event));
    let outcomes = futures_util::future::join_all(copies).await;
    let accepted =
        outcomes.iter().flatten().filter(|outcome| matches!(outcome, Outcome::Accepted { .. })).count();
    assert_eq!(accepted, 1);
    assert_eq!(world.records().await.len(), 1);
}

/// Two harvests, crushed to sugar, of which a bag's lot is drawn; the records are imports, the rows written by hand.
async fn season(world: &World) {
    let crush = json!({
        "type": "TransformationEvent", "eventTime": "2026-01-18T20:00:00+08:00", "eventTimeZoneOffset": "+08:00",
        "eventID": "https://carrier.example/c",
        "inputQuantityList": [{"epcClass": "https://id.gs1.org/01/09520123456788/10/A1"}],
        "outputQuantityList": [{"epcClass": "https://id.gs1.org/01/09520123456788/10/S1"}]
    });
    let outcomes = world.hand_in(&[arrival(Some("https://carrier.example/h")), crush]).await;
    let [Outcome::Accepted { entry: harvest, .. }, Outcome::Accepted { entry: crush, .. }] = outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    let mut conn = world.store.connection().await.unwrap();
    let mut made = Vec::new();
    for (number, quantity, entry) in
        [("A1", 700, harvest), ("A2", 300, harvest), ("S1", 120, crush), ("B1", 50, crush)]
    {
        let uri = format!("https://id.gs1.org/01/09520123456788/10/{number}");
        let new = lot::NewLot {
            uri: &uri,
            gtin: "09520123456788",
            number,
            profile: "test",
            product: "test",
            unit: "g",
            made_by: world.carrier.id,
            made_at_place: None,
            made_time: Utc::now(),
            entry: entry.as_bytes(),
            epoch: None,
        };
        let lot = lot::insert(&mut conn, &new).await.unwrap();
        record::insert_lot_part(&mut conn, entry.as_bytes(), lot.id, "output", Some(quantity)).await.unwrap();
        made.push(lot.id);
    }
    let edge = |parent: usize, child: usize, parent_quantity, child_quantity| lot::Edge {
        parent_id: made[parent],
        child_id: made[child],
        entry: crush.as_bytes().to_vec(),
        kind: "transform".to_owned(),
        parent_quantity,
        child_quantity,
    };
    let edges = [edge(0, 2, 700, 120), edge(1, 2, 300, 120), edge(2, 3, 50, 50)];
    lot::insert_edges(&mut conn, &edges).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_runs_both_ways_and_leaves_out_what_was_corrected() {
    let Some(world) = world("epcis_trace").await else { return };
    season(&world).await;
    let mut conn = world.store.connection().await.unwrap();
    let bag = "https://id.gs1.org/01/09520123456788/10/B1".parse().unwrap();
    let up = follow_named(&mut conn, &bag, Direction::Up).await.unwrap();
    let share = |number: &str| {
        let id = up.lots.values().find(|lot| lot.number == number).unwrap().id;
        up.answer.lots.iter().find(|reached| reached.lot == id).unwrap().share
    };
    assert_eq!((share("A1"), share("A2"), share("S1")), (35, 15, 50));
    assert!(up.answer.missing.is_empty(), "{:?}", up.answer.missing);

    let cane = "https://id.gs1.org/01/09520123456788/10/A1".parse().unwrap();
    let down = follow_named(&mut conn, &cane, Direction::Down).await.unwrap();
    assert_eq!(down.answer.lots.len(), 3);
    let unknown = "https://id.gs1.org/01/09520123456788/10/Z9".parse().unwrap();
    assert!(matches!(follow_named(&mut conn, &unknown, Direction::Up).await, Err(TracingError::Unknown)));

    let withdrawn = json!({
        "type": "TransformationEvent", "eventTime": "2026-01-18T20:00:00+08:00", "eventTimeZoneOffset": "+08:00",
        "eventID": "https://carrier.example/c",
        "inputQuantityList": [{"epcClass": "https://id.gs1.org/01/09520123456788/10/A1"}],
        "outputQuantityList": [{"epcClass": "https://id.gs1.org/01/09520123456788/10/S1"}],
        "errorDeclaration": {"declarationTime": "2026-01-19T08:00:00+08:00"}
    });
    assert!(matches!(world.hand_in(&[withdrawn]).await[0], Outcome::Accepted { .. }));
    let alone = follow_named(&mut conn, &bag, Direction::Up).await.unwrap();
    assert_eq!(alone.answer.lots.len(), 1);
    assert_eq!(alone.answer.missing, [alone.root.id], "its origin is now unknown, and the trace says so");
}
