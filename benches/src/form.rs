//! From a form's 303 to a signed checkpoint that includes its record.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Failed,
    house::House,
    table::{Latencies, Row},
};

const FORMS: u32 = 200;
const BEAT: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn run(root: &Path) -> Result<Vec<Row>, Failed> {
    let house = House::open(root, "form").await?;
    let report = house.season().await?;
    let (client, cookie) = house.session(&report, "gan").await?;
    let base = house.stack.base_url();
    let blank = client
        .get(format!("{base}/work/sugar/harvest"))
        .header("Cookie", &cookie)
        .send()
        .await?
        .text()
        .await?;
    let (plot, buyer) = (option(&blank, "/414/")?, option(&blank, "/417/")?);
    let (mut answered, mut logged) = (Latencies::default(), Latencies::default());
    let mut waits = tokio::task::JoinSet::new();
    let start = Instant::now();
    for number in 0..FORMS {
        tokio::time::sleep_until(start + BEAT * number).await;
        let jti = Uuid::now_v7().to_string();
        let lot = format!("BENCH{number}");
        let form = [
            ("jti", jti.as_str()),
            ("plot", &plot),
            ("buyer", &buyer),
            ("lot", &lot),
            ("variety", "gt42"),
            ("method", "manual"),
            ("cut-start", "2026-11-10T06:00"),
            ("cut-end", "2026-11-10T11:30"),
            ("estimate", "10"),
            ("at", "2026-11-10T12:00"),
        ];
        let began = Instant::now();
        let request = client
            .post(format!("{base}/work/sugar/harvest"))
            .header("Origin", &base)
            .header("Cookie", &cookie);
        let taken = request.form(&form).send().await?;
        if taken.status() != reqwest::StatusCode::SEE_OTHER {
            return Err(format!("the form was answered {}: {}", taken.status(), taken.text().await?).into());
        }
        let accepted = Instant::now();
        answered.push(accepted - began);
        waits.spawn(included(client.clone(), base.clone(), cookie.clone(), json!(form_of(&form)), accepted));
    }
    while let Some(done) = waits.join_next().await {
        logged.push(done??);
    }
    house.close().await?;
    Ok(vec![
        Row::new(
            "form posted → 303, p99",
            (answered.percentile(99), "ms"),
            (1_000.0, "what a person notices"),
        ),
        Row::new(
            "303 → signed checkpoint, p50",
            (logged.percentile(50), "ms"),
            (500.0, "the checkpoints' interval"),
        ),
        Row::new(
            format!("303 → signed checkpoint, p99 of {}", logged.len()),
            (logged.percentile(99), "ms"),
            (2_000.0, "wanted at most"),
        ),
    ])
}

fn form_of(form: &[(&str, &str)]) -> serde_json::Map<String, Value> {
    form.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
}

/// The first choice of the form whose value is such an identifier.
fn option(page: &str, kind: &str) -> Result<String, Failed> {
    let start =
        page.find(&format!("value=\"https://id.gs1.org{kind}")).ok_or("the form has no such choice")?;
    let value = page.get(start + 7..).and_then(|rest| rest.split('"').next()).ok_or("the form is cut off")?;
    Ok(value.to_owned())
}

/// Asks for the receipt again, which is idempotent, and then for the entry until a signed head covers it.
async fn included(
    client: reqwest::Client,
    base: String,
    cookie: String,
    form: Value,
    accepted: Instant,
) -> Result<Duration, String> {
    let look = async || -> Result<Duration, Failed> {
        let request = client.post(format!("{base}/api/v1/steps/sugar/harvest")).header("Origin", &base);
        let receipt: Value = request.header("Cookie", &cookie).json(&form).send().await?.json().await?;
        let entry = receipt.pointer("/entry").and_then(Value::as_str).ok_or_else(|| receipt.to_string())?;
        let url = format!("{base}/api/v1/log/entries/{entry}");
        loop {
            if client.get(&url).send().await?.status().is_success() {
                return Ok(accepted.elapsed());
            }
            if accepted.elapsed() > PATIENCE {
                return Err("never logged".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    look().await.map_err(|error| error.to_string())
}
