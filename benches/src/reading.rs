//! From a published reading to its PUBACK, which means "committed": an open loop, so that a slow answer delays no later
//! message and hides none.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    time::Duration,
};

use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    Failed,
    house::House,
    machine,
    table::{Latencies, Row},
};

const DEVICES: u32 = 20;
/// Of each device: 1,000 a second together.
const BEAT: Duration = Duration::from_millis(20);
const MESSAGES: u32 = 500;
const PATIENCE: Duration = Duration::from_mins(1);

pub async fn run(root: &Path) -> Result<Vec<Row>, Failed> {
    let house = House::open(root, "reading").await?;
    house.season().await?;
    let mut tokens = Vec::new();
    for number in 0..DEVICES {
        tokens.push(device(&house, number).await?);
    }
    // The gateway looks at the register each second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let port = house.stack.options.mqtt_port;
    let start = Instant::now() + Duration::from_secs(1);
    let mut clients = tokio::task::JoinSet::new();
    for (number, token) in (0_u32..).zip(tokens) {
        let offset = BEAT * number / DEVICES;
        clients.spawn(async move {
            publish(port, number, token, start + offset).await.map_err(|error| error.to_string())
        });
    }
    let mut latencies = Latencies::default();
    while let Some(done) = clients.join_next().await {
        latencies.extend(done??);
    }
    let (mut commits, mut synced, settings) = tokio::task::block_in_place(|| {
        let settings = machine::durability(&house.stack.database_url("migrator"))?;
        Ok::<_, Failed>((
            machine::single_commits(&house.stack)?,
            machine::syncs(house.directory())?,
            settings,
        ))
    })?;
    house.close().await?;
    let what = |percent| {
        format!("published → durable and acknowledged, p{percent} of {} at 1,000/s", latencies.len())
    };
    let (p50, p99) = (what(50), what(99));
    let rows = vec![
        Row::new(p50, (latencies.percentile(50), "ms"), (commits.percentile(50), "one INSERT's commit, p50")),
        Row::new(p99, (latencies.percentile(99), "ms"), (100.0, "wanted at most")),
        Row::new(
            "one INSERT's commit, p99",
            (commits.percentile(99), "ms"),
            (latencies.percentile(99), "the above: a message waits for at most two commits and the hop"),
        ),
        Row::new(
            format!("8 kB written and synced to this disk, p50 ({settings})"),
            (synced.percentile(50), "ms"),
            (synced.percentile(99), "p99"),
        ),
    ];
    Ok(rows)
}

async fn device(house: &House, number: u32) -> Result<String, Failed> {
    let (client, cookie) = house.stack.operator_session().await?;
    let base = house.stack.base_url();
    let body = json!({"party": "nanning", "device": format!("bench{number}"), "kind": "climate",
        "profile": "sugar", "format": "senml+json", "signing": "gateway", "repeats": "merge", "place": "store"});
    let request =
        client.post(format!("{base}/api/v1/devices")).header("Origin", &base).header("Cookie", cookie);
    let answer: Value = request.json(&body).send().await?.json().await?;
    Ok(answer.pointer("/token").and_then(Value::as_str).ok_or_else(|| answer.to_string())?.to_owned())
}

async fn publish(port: u16, number: u32, token: String, start: Instant) -> Result<Latencies, Failed> {
    let name = format!("nanning/bench{number}");
    let mut options = MqttOptions::new(name.replace('/', "."), "127.0.0.1", port);
    options.set_credentials(&name, token).set_keep_alive(Duration::from_secs(30)).set_inflight(1_000);
    let (client, mut connection) = AsyncClient::new(options, 2_000);
    let topic = format!("suyuan/v1/{name}/up");
    let sender = tokio::spawn(async move {
        for message in 0..MESSAGES {
            tokio::time::sleep_until(start + BEAT * message).await;
            let at = 1_790_000_000 + message;
            let body = format!(r#"[{{"n":"temperature","u":"Cel","t":{at},"v":21.5}}]"#);
            client.publish(&topic, QoS::AtLeastOnce, false, body).await?;
        }
        // Kept until every acknowledgement is in: dropping it ends the connection.
        Ok::<AsyncClient, rumqttc::ClientError>(client)
    });
    let mut unsent: VecDeque<Instant> = (0..MESSAGES).map(|message| start + BEAT * message).collect();
    let (mut waiting, mut latencies) = (HashMap::new(), Latencies::default());
    let until = start + BEAT * MESSAGES + PATIENCE;
    while latencies.len() < usize::try_from(MESSAGES)? {
        match tokio::time::timeout_at(until, connection.poll()).await?? {
            Event::Outgoing(Outgoing::Publish(pkid)) => {
                waiting.insert(pkid, unsent.pop_front().ok_or("more was sent than meant")?);
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                let meant = waiting.remove(&ack.pkid).ok_or("an acknowledgement of nothing")?;
                latencies.push(meant.elapsed());
            }
            _ => {}
        }
    }
    drop(sender.await??);
    Ok(latencies)
}
