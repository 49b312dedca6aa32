//! The scan page with 100,000 EPCIS events in the database, all of which came in by the front door. They speak of other
//! lots than the scanned one: what is measured is that a large database does not slow a story down.

use std::{path::Path, time::Duration};

use demo::season::SeasonReport;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Failed,
    house::House,
    machine,
    table::{Latencies, Row},
};

const EVENTS: usize = 100_000;
const DOCUMENT: usize = 500;
const PARTIES: [&str; 8] =
    ["yunda", "nanning", "tianwei", "guitang", "xiaodian", "wuming", "taoyuan", "wuzhou"];
const SCANS: usize = 1_000;

pub async fn run(root: &Path) -> Result<Vec<Row>, Failed> {
    let house = House::open(root, "scan").await?;
    let report = house.season().await?;
    let began = Instant::now();
    fill(&house).await?;
    let filled = began.elapsed().as_secs_f64();
    let base = house.stack.base_url();
    let mut rows = vec![Row::new(
        "EPCIS events captured over REST, each a signed record",
        (100_000.0 / filled, "1/s"),
        (machine::strict_verifications(2_100), "strict Ed25519 over a record of 2.1 kB, one core"),
    )];
    let mut live = scans(&format!("{base}/health/live")).await?;
    for path in paths(&house, &report).await? {
        let mut scanned = scans(&format!("{base}{path}")).await?;
        let name = if path.contains("/21/") { "a pack's serial number" } else { "a lot" };
        rows.push(Row::new(
            format!("scan page of {name}, p50"),
            (scanned.percentile(50), "ms"),
            (live.percentile(50), "/health/live of the same server, p50"),
        ));
        rows.push(Row::new(
            format!("scan page of {name}, p99 of {SCANS}"),
            (scanned.percentile(99), "ms"),
            (20.0, "wanted at most"),
        ));
        let bytes = compressed(&format!("{base}{path}")).await?;
        rows.push(Row::new("its first answer, gzip", (bytes, "kB"), (14.0, "wanted at most")));
    }
    let mut lookups = tokio::task::block_in_place(|| machine::key_lookups(&house.stack))?;
    rows.push(Row::new(
        "one row by its key in this Postgres, p99",
        (lookups.percentile(99), "ms"),
        (live.percentile(99), "/health/live, p99"),
    ));
    rows.push(Row::new(
        "server resident",
        (house.server_memory()?, "MB"),
        (150.0, "wanted after the season"),
    ));
    house.close().await?;
    Ok(rows)
}

/// A pack's code where the goods have one, else the lot's.
async fn paths(house: &House, report: &SeasonReport) -> Result<Vec<String>, Failed> {
    let lot = &report.commodities.first().ok_or("no goods")?.lot_path;
    let pack = house.stack.first_pack(lot).await?;
    Ok(pack.into_iter().chain([lot.clone()]).collect())
}

async fn fill(house: &House) -> Result<(), Failed> {
    let mut parties = tokio::task::JoinSet::new();
    for (number, party) in PARTIES.into_iter().enumerate() {
        let token = token(house, party).await?;
        let url = format!("{}/api/v1/events", house.stack.base_url());
        parties.spawn(async move { capture(&url, &token, number).await.map_err(|error| error.to_string()) });
    }
    while let Some(done) = parties.join_next().await {
        done??;
    }
    Ok(())
}

async fn token(house: &House, party: &str) -> Result<String, Failed> {
    let (client, cookie) = house.stack.operator_session().await?;
    let base = house.stack.base_url();
    let body = json!({"party": party, "label": "bench", "scopes": ["capture"]});
    let request =
        client.post(format!("{base}/api/v1/tokens")).header("Origin", &base).header("Cookie", cookie);
    let answer: Value = request.json(&body).send().await?.json().await?;
    Ok(answer.pointer("/token").and_then(Value::as_str).ok_or_else(|| answer.to_string())?.to_owned())
}

async fn capture(url: &str, token: &str, party: usize) -> Result<(), Failed> {
    let client = reqwest::Client::builder().timeout(Duration::from_mins(2)).build()?;
    for document in 0..EVENTS / PARTIES.len() / DOCUMENT {
        let events: Vec<Value> = (0..DOCUMENT).map(|event| observed(party, document, event)).collect();
        let body = json!({
            "@context": ["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"],
            "type": "EPCISDocument", "schemaVersion": "2.0", "creationDate": "2026-11-20T08:00:00+08:00",
            "epcisBody": {"eventList": events},
        });
        let answer: Value = client.post(url).bearer_auth(token).json(&body).send().await?.json().await?;
        if answer.pointer("/refused") != Some(&json!(0)) {
            return Err(answer.to_string().into());
        }
    }
    Ok(())
}

/// Goods of other mills pass by: each event names a lot of its own and a place.
fn observed(party: usize, document: usize, event: usize) -> Value {
    let (hour, minute) = (event / 60 % 24, event % 60);
    json!({
        "type": "ObjectEvent", "action": "OBSERVE", "bizStep": "arriving", "disposition": "in_transit",
        "eventID": format!("urn:uuid:{}", Uuid::now_v7()),
        "eventTime": format!("2026-11-19T{hour:02}:{minute:02}:00+08:00"), "eventTimeZoneOffset": "+08:00",
        "quantityList": [{"epcClass": format!("urn:epc:class:lgtin:9521234.000015.B{party}D{document}E{event}"),
            "quantity": 6000, "uom": "KGM"}],
        "readPoint": {"id": "https://id.gs1.org/414/9521234000006"},
    })
}

async fn scans(url: &str) -> Result<Latencies, Failed> {
    let client = reqwest::Client::new();
    let mut latencies = Latencies::default();
    for _ in 0..SCANS {
        let began = Instant::now();
        let answer = client.get(url).header("Accept", "text/html").send().await?.error_for_status()?;
        answer.bytes().await?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

async fn compressed(url: &str) -> Result<f64, Failed> {
    let request =
        reqwest::Client::new().get(url).header("Accept", "text/html").header("Accept-Encoding", "gzip");
    let bytes = request.send().await?.error_for_status()?.bytes().await?.len();
    Ok(f64::from(u32::try_from(bytes)?) / 1_000.0)
}
