//! What a user would pick instead, behind the same broker, with the same packs and the same Postgres: Node-RED with a node for
//! PostgreSQL, and a script of paho-mqtt and psycopg that verifies, stores and acknowledges as we do.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use demo::process::Running;
use tokio::time::Instant;

use super::{
    broker::Broker,
    devices::Devices,
    publisher::{self, Pace},
};
use crate::{Failed, house::House};

const START_PATIENCE: Duration = Duration::from_mins(1);
/// What has not come this long after the last that did counts as not stored.
const STORE_PATIENCE: Duration = Duration::from_secs(15);
/// Of each device: Node-RED takes in all that comes before it stores anything.
const EACH: usize = 40;
const SCHEMA: &str = "drop table if exists others_reading, others_pack;
    create table others_pack (device text, cti bytea, bytes bytea not null, primary key (device, cti));
    create table others_reading (device text, at timestamptz, name text, value double precision);
    create index on others_reading using brin (at)";

/// One of the others: how it is started, and what it says once it is subscribed.
struct Other {
    what: &'static str,
    command: Command,
    ready: &'static str,
}

/// Packs a second that each of them stored; none where their packages are not to be had.
pub async fn measured(
    house: &House,
    broker: &Broker,
    devices: &mut Devices,
    length: Duration,
) -> Result<Vec<(&'static str, f64)>, Failed> {
    let sources = house.stack.options.root.join("benches/others");
    let home = house.directory().join("others");
    std::fs::create_dir_all(&home)?;
    if let Err(error) = tokio::task::block_in_place(|| install(&sources, &home)) {
        writeln!(std::io::stderr(), "SKIPPED: what others would carry: {error}")?;
        return Ok(Vec::new());
    }
    let ours = house.stack.database_url("migrator");
    tokio::task::block_in_place(|| asked(&ours, "create database others"))?;
    let url = format!("{}/others", ours.rsplit_once('/').ok_or("no database in its address")?.0);
    let keys: BTreeMap<String, String> = devices
        .script(0, 1)
        .await?
        .iter()
        .map(|script| (script.name.clone(), hex(script.public.as_bytes())))
        .collect();
    std::fs::write(home.join("keys.json"), serde_json::to_vec(&keys)?)?;
    let mut rates = Vec::new();
    for mut other in others(&sources, &home, broker.port, &url)? {
        tokio::task::block_in_place(|| asked(&url, SCHEMA))?;
        let log = home.join(format!("{}.log", rates.len()));
        let running = Running::start("another", &mut other.command, &log)?;
        started(&log, other.ready).await?;
        let scripts = devices.script(EACH, 1).await?;
        let began = Instant::now();
        let seen = publisher::publish(broker.port, scripts, Pace::Closed(began + length)).await?;
        let rate = stored(&url, began, seen.acknowledged).await?;
        tokio::task::block_in_place(|| drop(running));
        if rate.is_nan() {
            let said = std::fs::read_to_string(&log)?;
            return Err(format!("{} stored nothing: {said}", other.what).into());
        }
        rates.push((other.what, rate));
    }
    Ok(rates)
}

fn install(sources: &Path, home: &Path) -> Result<(), Failed> {
    let runs = |command: &mut Command| -> Result<(), Failed> {
        let done = command.output()?;
        if done.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&done.stderr).lines().last().unwrap_or("it failed").to_owned().into())
    };
    runs(Command::new("python3").args(["-m", "venv"]).arg(home.join("venv")))?;
    let requirements = sources.join("requirements.txt");
    runs(Command::new(home.join("venv/bin/pip")).args(["install", "-q", "-r"]).arg(requirements))?;
    std::fs::copy(sources.join("package.json"), home.join("package.json"))?;
    runs(
        Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(home),
    )
}

fn others(sources: &Path, home: &Path, port: u16, url: &str) -> Result<[Other; 3], Failed> {
    let keys = home.join("keys.json");
    let script = |batch: &str| {
        let mut command = Command::new(home.join("venv/bin/python"));
        command.arg(sources.join("subscriber.py")).envs([
            ("MQTT_PORT", port.to_string()),
            ("DATABASE_URL", url.to_owned()),
            ("KEYS", keys.display().to_string()),
            ("BATCH", batch.to_owned()),
        ]);
        command
    };
    let admin = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let arguments =
        [home.display().to_string(), port.to_string(), url.to_owned(), keys.display().to_string()];
    let written = Command::new("node").arg(sources.join("flow.mjs")).args(arguments).arg(admin).status()?;
    if !written.success() {
        return Err("Node-RED's flow was not written".into());
    }
    let mut red: Command = Command::new("node");
    let program: PathBuf = home.join("node_modules/node-red/red.js");
    red.arg(program).arg("--settings").arg(home.join("settings.js")).current_dir(home);
    Ok([
        Other {
            what: "Node-RED 4 and a node for PostgreSQL, acknowledged on arrival",
            command: red,
            ready: "Connected to broker",
        },
        Other {
            what: "paho-mqtt and psycopg, a message a transaction",
            command: script("1"),
            ready: "subscribed",
        },
        Other {
            what: "paho-mqtt and psycopg, up to 500 messages a transaction",
            command: script("500"),
            ready: "subscribed",
        },
    ])
}

async fn started(log: &Path, ready: &str) -> Result<(), Failed> {
    let until = Instant::now() + START_PATIENCE;
    loop {
        let said = std::fs::read_to_string(log)?;
        if said.contains(ready) {
            // Subscriptions follow the connection.
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("not ready: {said}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Up to the moment when all had come, or no more came.
async fn stored(url: &str, began: Instant, sent: usize) -> Result<f64, Failed> {
    let (mut count, mut at) = (0, began);
    while usize::try_from(count)? < sent && at.elapsed() < STORE_PATIENCE {
        let now = tokio::task::block_in_place(|| counted(url))?;
        if now > count {
            (count, at) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(f64::from(count) / (at - began).as_secs_f64())
}

fn asked(url: &str, statements: &str) -> Result<(), Failed> {
    Ok(postgres::Client::connect(url, postgres::NoTls)?.batch_execute(statements)?)
}

fn counted(url: &str) -> Result<i32, Failed> {
    let mut client = postgres::Client::connect(url, postgres::NoTls)?;
    Ok(client.query_one("select count(*)::int from others_pack", &[])?.try_get(0)?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
