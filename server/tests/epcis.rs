//! EPCIS documents against a real database: what is taken, what is known, what is refused, and the trace over lots.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::too_many_lines,
    reason = "a test says what it expects by failing"
)]

mod database;
mod house;
mod registered;

use chrono::Utc;
use registered::{party_of, place_of};
use serde_json::{Value, json};
use server::service::{
    capture_epcis::{Outcome, Reason, capture},
    disclosures,
    keys::{KeyFiles, Keys, NewKey},
    tracing::{TracingError, follow_named},
};
use store::{Connection, Store, lot, party, record};
use trace::{graph::Direction, keys::KeyRole};

struct World {
    url: String,
    store: Store,
    keys: Keys,
    carrier: party::Party,
}

async fn world(name: &str) -> Option<World> {
    let url = database::fresh(name).await?;
    let store = Store::open(&url, 8).unwrap();
    let dir = house::key_files();
    let [registrar, derivation, kek] = ["registrar", "derivation", "kek"].map(|name| dir.join(name));
    let files = KeyFiles { registrar: &registrar, derivation: &derivation, kek: &kek };
    let keys = Keys::open(&mut store.connection().await.unwrap(), "suyuan", files).await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    let mut transaction = store.begin().await.unwrap();
    let operator = party_of(&mut transaction, "operator", "operator", "9520000000004").await;
    keys.found(&mut transaction, &operator).await.unwrap();
    let carrier = party_of(&mut transaction, "carrier", "carrier", "9520123456788").await;
    let new =
        NewKey { party: &carrier, role: KeyRole::Record, device_id: None, base_name: None, replaces: None };
    keys.enrol_platform(&mut transaction, &new).await.unwrap();
    transaction.commit().await.unwrap();
    Some(World { url, store, keys, carrier })
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
        capture(&self.store, &self.keys, &self.carrier, None, &document(events)).await.unwrap()
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

/// Grain in a bin: two arrivals, three epochs, milled from the second and the third.
#[tokio::test(flavor = "multi_thread")]
async fn epochs_of_a_bin_are_one_step_upstream_and_downstream() {
    let Some(world) = world("epcis_epochs").await else { return };
    let mut conn = world.store.connection().await.unwrap();
    let mut made = std::collections::BTreeMap::new();
    for (at, (number, quantity, epoch)) in [
        ("P1", 100, None),
        ("P2", 100, None),
        ("E1", 100, Some(1)),
        ("E2", 200, Some(2)),
        ("E3", 120, Some(3)),
        ("R1", 60, None),
        ("R2", 90, None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut event = unnamed();
        event["eventID"] = json!(format!("https://carrier.example/{number}"));
        event["eventTime"] = json!(format!("2026-01-{:02}T08:00:00+08:00", at + 1));
        let Outcome::Accepted { entry, .. } = world.hand_in(&[event]).await[0] else { panic!("{number}") };
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
            epoch,
        };
        let lot = lot::insert(&mut conn, &new).await.unwrap();
        record::insert_lot_part(&mut conn, entry.as_bytes(), lot.id, "output", Some(quantity)).await.unwrap();
        made.insert(number, (lot.id, entry));
    }
    let edge = |parent: &str, child: &str, kind: &str, parent_quantity, child_quantity| lot::Edge {
        parent_id: made[parent].0,
        child_id: made[child].0,
        entry: made[child].1.as_bytes().to_vec(),
        kind: kind.to_owned(),
        parent_quantity,
        child_quantity,
    };
    let edges = [
        edge("P1", "E1", "epoch", 100, 100),
        edge("E1", "E2", "epoch", 100, 200),
        edge("P2", "E2", "epoch", 100, 200),
        edge("E2", "R1", "transform", 80, 60),
        edge("E2", "E3", "epoch", 120, 120),
        edge("E3", "R2", "transform", 120, 90),
    ];
    lot::insert_edges(&mut conn, &edges).await.unwrap();
    let share = |epoch: &str, arrival: &str, quantity| lot::Share {
        lot_id: made[epoch].0,
        arrival_id: made[arrival].0,
        quantity,
    };
    let shares = [
        share("E1", "P1", 100),
        share("E2", "P1", 100),
        share("E2", "P2", 100),
        share("E3", "P1", 60),
        share("E3", "P2", 60),
    ];
    lot::insert_shares(&mut conn, &shares).await.unwrap();

    let reached = async |number: &str, direction| {
        let mut conn = world.store.connection().await.unwrap();
        let key = format!("https://id.gs1.org/01/09520123456788/10/{number}").parse().unwrap();
        let trace = follow_named(&mut conn, &key, direction).await.unwrap();
        let of = |id: i64| trace.lots[&id].number.clone();
        let mut lots: Vec<_> =
            trace.answer.lots.iter().map(|lot| (of(lot.lot), lot.steps, lot.share)).collect();
        lots.sort();
        lots
    };
    let named = |lots: &[(&str, usize, i64)]| {
        lots.iter().map(|(number, steps, share)| ((*number).to_owned(), *steps, *share)).collect::<Vec<_>>()
    };
    let up = reached("R2", Direction::Up).await;
    assert_eq!(up, named(&[("E3", 1, 90), ("P1", 2, 45), ("P2", 2, 45), ("R2", 0, 90)]));
    let down = reached("P1", Direction::Down).await;
    assert_eq!(down, named(&[("E2", 1, 40), ("E3", 1, 60), ("P1", 0, 100), ("R1", 2, 40), ("R2", 2, 60)]));
}

async fn ship(conn: &mut Connection, world: &World, to: &party::Party, number: &str) {
    let uri = format!("https://id.gs1.org/01/09520123456788/10/{number}");
    let sent = lot::by_uri(conn, &uri).await.unwrap().unwrap();
    let from = place_of(conn, &world.carrier, "yard", "yard").await;
    let new = store::consignment::NewConsignment {
        number: "D-1",
        shipper_id: world.carrier.id,
        receiver_id: to.id,
        from_place: from.id,
        to_place: None,
        shipped_by: &sent.entry,
        shipped_time: Utc::now(),
    };
    store::consignment::insert(conn, &new, &[(sent.id, 50)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_takes_documents_and_answers_traces_for_tokens_with_the_scope() {
    use actix_web::{App, http::StatusCode, middleware::from_fn, test};
    let name = "epcis_door";
    let Some(world) = world(name).await else { return };
    season(&world).await;
    let state = house::state(&world.url).await;
    assert_eq!(state.config.ledger.ledger, world.keys.ledger());
    let mut conn = world.store.connection().await.unwrap();
    let stranger = party_of(&mut conn, "stranger", "mill", "4012345000009").await;
    let token = async |party: i64, scope: &str| {
        state.accounts.issue_token(party, scope, &[scope.to_owned()], None).await.unwrap()
    };
    let capture_token = token(world.carrier.id, "capture").await;
    let trace_token = token(world.carrier.id, "trace").await;
    let strange_token = token(stranger.id, "trace").await;
    let app = App::new()
        .app_data(state.clone())
        .wrap(from_fn(server::web::guard::guard))
        .configure(server::web::configure);
    let app = test::init_service(app).await;
    let post = async |token: Option<&str>, kind: &str, body: Vec<u8>| {
        let mut request =
            test::TestRequest::post().uri("/api/v1/events").insert_header(("content-type", kind));
        request = request.insert_header(("accept-language", "en"));
        if let Some(token) = token {
            request = request.insert_header(("authorization", format!("Bearer {token}")));
        }
        let response = test::call_service(&app, request.set_payload(body).to_request()).await;
        let status = response.status();
        let body: Value = serde_json::from_slice(&test::read_body(response).await).unwrap_or_default();
        (status, body)
    };
    let good = document(&[arrival(Some("https://carrier.example/door")), {
        let mut wrong = unnamed();
        wrong["readPoint"] = json!({"id": "https://somewhere.example/else"});
        wrong
    }]);
    assert_eq!(post(None, "application/json", good.clone()).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(post(Some(&trace_token), "application/json", good.clone()).await.0, StatusCode::FORBIDDEN);
    assert_eq!(
        post(Some(&capture_token), "text/xml", good.clone()).await.0,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );

    let (status, answer) = post(Some(&capture_token), "application/ld+json", good.clone()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(1), &json!(1)));
    assert_eq!(answer["events"][0]["status"], "accepted");
    assert_eq!(answer["events"][1]["errors"][0]["field"], "$.readPoint.id");
    assert_eq!(answer["events"][1]["errors"][0]["rule"], "epcis");
    assert!(answer["events"][1]["errors"][0]["message"].as_str().unwrap().contains("EPCIS 2.0"));
    assert_eq!(post(Some(&capture_token), "application/json", good).await.1["duplicate"], 1);

    let mut bad = arrival(None);
    bad["action"] = json!("MOVE");
    let (status, problem) = post(Some(&capture_token), "application/json", document(&[bad])).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["errors"][0]["field"], "$.epcisBody.eventList[0].action");
    let (status, _) = post(Some(&capture_token), "application/json", b"{\"a\":1,\"a\":2}".to_vec()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);

    let get = async |token: &str, query: &str| {
        let request = test::TestRequest::get()
            .uri(&format!("/api/v1/trace?{query}"))
            .insert_header(("authorization", format!("Bearer {token}")));
        let response = test::call_service(&app, request.to_request()).await;
        (
            response.status(),
            serde_json::from_slice::<Value>(&test::read_body(response).await).unwrap_or_default(),
        )
    };
    let bag = "id=https://mill.example/01/09520123456788/10/B1";
    let (status, up) = get(&trace_token, bag).await;
    assert_eq!(status, StatusCode::OK, "{up}");
    assert_eq!(
        (up["direction"].as_str(), up["quantity"].as_i64(), up["unit"].as_str()),
        (Some("up"), Some(50), Some("g"))
    );
    assert_eq!(up["lots"].as_array().unwrap().len(), 4);
    let stays: i64 = up["lots"].as_array().unwrap().iter().map(|lot| lot["stays"].as_i64().unwrap()).sum();
    assert_eq!(stays, 50);
    assert!(up["lots"][0]["record"]["proof"].as_str().unwrap().starts_with("/proof/"));
    let (_, down) = get(&trace_token, "direction=down&id=urn:epc:class:lgtin:9520123.045678.A1").await;
    assert_eq!(down["lots"].as_array().unwrap().len(), 3);
    assert_eq!(
        get(&strange_token, bag).await.0,
        StatusCode::NOT_FOUND,
        "not 403: it may not know the lot exists"
    );
    assert_eq!(get(&trace_token, "id=nonsense").await.0, StatusCode::BAD_REQUEST);

    // Once the bag was sent to the stranger, it may ask; what others put into it stays theirs to tell.
    ship(&mut conn, &world, &stranger, "B1").await;
    let (status, received) = get(&strange_token, bag).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(received["custody"][0]["shipped"], 50);
    assert_eq!(received["edges"].as_array().unwrap().len(), 3);
    assert!(received["edges"].as_array().unwrap().iter().all(|edge| edge["from_quantity"].is_null()));
    assert!(up["edges"].as_array().unwrap().iter().all(|edge| edge["from_quantity"].is_i64()));

    let scan = async |accept: &str, query: &str| {
        let request = test::TestRequest::get()
            .uri(&format!("/01/09520123456788/10/A1{query}"))
            .insert_header(("accept", accept));
        let response = test::call_service(&app, request.to_request()).await;
        let media = response.headers().get("content-type").unwrap().to_str().unwrap().to_owned();
        (media, test::read_body(response).await)
    };
    let (media, set) = scan("application/linkset+json", "").await;
    assert_eq!(media, "application/linkset+json");
    let set: Value = serde_json::from_slice(&set).unwrap();
    assert_eq!(set["linkset"][0]["anchor"], "https://id.gs1.org/01/09520123456788/10/A1");
    assert_eq!(scan("text/html", "?linkType=linkset").await.0, "application/linkset+json");
    let (media, events) = scan("application/ld+json", "").await;
    assert_eq!(media, "application/ld+json");
    let events = trace::epcis::Document::from_value(serde_json::from_slice(&events).unwrap()).unwrap();
    assert!(!events.events().is_empty());
    assert!(scan("text/html,*/*;q=0.8", "").await.0.starts_with("text/html"));
}
