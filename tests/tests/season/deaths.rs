//! Every process dies in mid-season and comes back: nothing that was acknowledged is lost.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use demo::{season, stack::Stack};
use system_tests::audit::{ask, fsck};

use crate::House;

/// What is killed, and how many records must stand first: while the next ones are being made.
const MID_SEASON: [(Victim, u32); 4] =
    [(Victim::Server, 12), (Victim::Gateway, 30), (Victim::Postgres, 45), (Victim::Chain, 60)];

#[derive(Debug, Clone, Copy)]
enum Victim {
    Server,
    Gateway,
    Postgres,
    Chain,
}

impl Victim {
    /// `kill -9`, and up again.
    async fn dies_and_returns(self, stack: &mut Stack) {
        match self {
            Self::Server => {
                stack.server.as_mut().unwrap().kill().unwrap();
                stack.start_server().await.unwrap();
            }
            Self::Gateway => {
                stack.gateway.as_mut().unwrap().kill().unwrap();
                stack.start_gateway().await.unwrap();
            }
            Self::Postgres => {
                let cluster = stack.cluster.as_mut().unwrap();
                cluster.kill().unwrap();
                tokio::task::block_in_place(|| cluster.restart()).unwrap();
            }
            Self::Chain => {
                stack.chain.as_mut().unwrap().node.as_mut().unwrap().kill().unwrap();
                stack.start_chain(&mut |text| println!("{text}")).await.unwrap();
            }
        }
    }
}

/// Plays the season while everything is killed in turn and `mosquitto_pub` goes on publishing. A season that was cut off is
/// played again from the start: what was taken is answered with its receipt. Answers the values that were acknowledged.
pub async fn killed_in_mid_season(stack: &mut Stack) -> Vec<u32> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut publisher = None;
    for (victim, records) in MID_SEASON {
        let addresses = stack.addresses();
        let play = tokio::spawn(async move { season::play(&addresses).await.map(drop) });
        let until = Instant::now() + Duration::from_mins(1);
        while records_of(stack) < records && !play.is_finished() {
            assert!(Instant::now() < until, "the season does not go on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if publisher.is_none() {
            publisher = Some(publisher_of(stack, Arc::clone(&stop)).await);
        }
        println!("kill -9 {victim:?} after {} records", records_of(stack));
        victim.dies_and_returns(stack).await;
        // The season fails where it was cut off, or was not touched by it.
        if let Err(error) = play.await.unwrap() {
            println!("cut off: {error}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = publisher.unwrap().join().unwrap();
    assert!(!acknowledged.is_empty(), "nothing was acknowledged at all");
    acknowledged
}

fn records_of(stack: &Stack) -> u32 {
    ask(stack, "select count(*) from record where kind = 'event'").trim().parse().unwrap_or(0)
}

/// A further device at the depot, published to by a client that is not ours, one reading a message, until told to stop.
async fn publisher_of(stack: &Stack, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<u32>> {
    let (client, cookie) = stack.operator_session().await.unwrap();
    let base = stack.base_url();
    let body = serde_json::json!({"party": "nanning", "device": "counter", "kind": "climate", "profile": "sugar",
        "format": "senml+json", "signing": "gateway", "repeats": "merge", "place": "store"});
    let made = client.post(format!("{base}/api/v1/devices")).header("Origin", &base).header("Cookie", cookie);
    let made: serde_json::Value = made.json(&body).send().await.unwrap().json().await.unwrap();
    let token = made["token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let port = stack.options.mqtt_port.to_string();
    std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for number in 0_u32.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let at = 1_790_000_000 + number;
            let message = format!(r#"[{{"n":"count","u":"count","t":{at},"v":{number}}}]"#);
            let sent = Command::new("timeout")
                .args(["5", "mosquitto_pub", "-h", "127.0.0.1", "-p", &port, "-q", "1", "-V", "mqttv311"])
                .args(["-u", "nanning/counter", "-P", &token, "-i", "counter"])
                .args(["-t", "suyuan/v1/nanning/counter/up", "-m", &message])
                .output()
                .unwrap();
            if sent.status.success() {
                acknowledged.push(number);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        acknowledged
    })
}

pub fn missing_readings(stack: &Stack, acknowledged: &[u32]) -> Vec<u32> {
    let stored =
        ask(stack, "select value::bigint, count(*) from reading where name like '%count' group by 1");
    let stored: BTreeMap<u32, u32> = stored
        .lines()
        .filter_map(|line| line.split_once('|'))
        .map(|(value, count)| (value.parse().unwrap(), count.parse().unwrap()))
        .collect();
    assert!(stored.values().all(|count| *count == 1), "a reading stands twice");
    println!("{} readings acknowledged, {} stored", acknowledged.len(), stored.len());
    acknowledged.iter().copied().filter(|number| !stored.contains_key(number)).collect()
}

/// `kill -9` of each in turn: what was acknowledged before is there after, and the log goes on from where it was.
pub async fn nothing_acknowledged_is_lost_when_processes_are_killed(house: &mut House) {
    house.stack.server.as_mut().unwrap().kill().unwrap();
    house.stack.start_server().await.unwrap();
    house.every_statement_is_proved().await;

    house.stack.cluster.as_mut().unwrap().kill().unwrap();
    let cluster = house.stack.cluster.as_mut().unwrap();
    tokio::task::block_in_place(|| cluster.restart()).unwrap();
    house.every_statement_is_proved().await;

    house.stack.gateway.as_mut().unwrap().kill().unwrap();
    house.stack.start_gateway().await.unwrap();
    fsck(&house.stack);
}
