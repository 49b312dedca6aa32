//! A configured database, broker and chain are used instead of starting one: the season through a real mosquitto, onto a chain
//! that takes money for gas.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may stop where it stands, and says loudly what it skips"
)]

use std::{
    io::Read as _,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use contracts::{Account, Rpc};
use demo::{
    postgres::Cluster,
    season,
    stack::{Options, Ports, Stack, programs_beside_us},
};
use serde_json::{Value, json};
use system_tests::audit::{ask, fsck, said};
use trace::pack::{
    carriage::{Status, read_receipt},
    gateway_cti,
};

const MOSQUITTO: &str = "/usr/sbin/mosquitto";
const TOPIC: &str = "suyuan/v1/nanning/meter/up";

/// Somebody else's program; ends with the test.
struct Theirs(Child);

impl Drop for Theirs {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        drop(self.0.wait());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn listens(port: u16) {
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "nobody listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn broker(data: &Path, port: u16) -> Theirs {
    let conf = data.join("mosquitto.conf");
    std::fs::write(&conf, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
    let started = Command::new(MOSQUITTO).arg("-c").arg(conf).stderr(Stdio::null()).spawn();
    listens(port);
    Theirs(started.unwrap())
}

/// anvil as it comes, where gas costs money, with some of it on the account of the key that the demo will find.
async fn chain(data: &Path, programs: &Path, port: u16) -> Theirs {
    let started = Command::new(root().join("contracts/node_modules/.bin/anvil"))
        .args(["--port", &port.to_string(), "--block-time", "1", "--order", "fifo", "--quiet"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("the dev chain is installed by `npm ci` in contracts/: {error}"));
    listens(port);
    let key = data.join("chain.key");
    let made = Command::new(programs.join("suyuan")).args(["keys", "seed"]).arg(&key).status();
    assert!(made.unwrap().success());
    let seed = trace::b64::from_url(std::fs::read_to_string(key).unwrap().trim_end()).unwrap();
    let account = Account::from_seed(&seed.try_into().unwrap()).unwrap().address();
    let rpc = Rpc::new(reqwest::Client::new(), &format!("http://127.0.0.1:{port}")).unwrap();
    let money = json!([format!("{account:#x}"), "0xde0b6b3a7640000"]);
    let _: Option<Value> = rpc.call("anvil_setBalance", money).await.unwrap();
    Theirs(started)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_season_goes_through_a_site_s_broker_onto_a_configured_chain_and_database() {
    if !Path::new(MOSQUITTO).exists() {
        eprintln!("SKIPPED: {MOSQUITTO} is not installed, nothing went through a broker");
        return;
    }
    let data = std::env::temp_dir().join(format!("suyuan-borrowed-{}", std::process::id()));
    let (programs, ports, theirs) =
        (programs_beside_us().unwrap(), Ports::free().unwrap(), Ports::free().unwrap());
    std::fs::create_dir_all(&data).unwrap();
    let mut say = |text: &str| println!("{text}");
    let home = data.join("theirs");
    let cluster = tokio::task::block_in_place(|| Cluster::start(&home, &mut say)).unwrap();
    let (_broker, _chain) = (broker(&data, theirs.mqtt), chain(&data, &programs, theirs.chain).await);
    let options = Options {
        database_url: Some(cluster.url("migrator", "suyuan")),
        mqtt_url: Some(format!("mqtt://127.0.0.1:{}", theirs.mqtt)),
        chain_rpc_url: Some(format!("http://127.0.0.1:{}", theirs.chain)),
        ..Options::local(root(), data.clone(), programs, ports)
    };
    let stack = Stack::start(options, &mut say).await.unwrap();
    assert!(stack.cluster.is_none(), "no Postgres of its own");
    assert!(TcpStream::connect(("127.0.0.1", ports.mqtt)).is_err(), "no endpoint of its own");
    assert!(TcpStream::connect(("127.0.0.1", ports.chain)).is_err(), "no chain of its own");

    let report = season::play(&stack.addresses()).await.unwrap();
    a_stranger_s_message_is_stored_logged_and_answered_by_a_receipt(&stack, theirs.mqtt).await;
    for commodity in &report.commodities {
        let bundle = stack.valid_bundle(&commodity.lot_path, commodity.name).await.unwrap();
        the_chain_is_asked(&stack, &bundle);
        let text = std::fs::read_to_string(bundle).unwrap();
        assert!(
            text.lines().any(|line| line.starts_with("anchor 31337 ")),
            "{}: not anchored",
            commodity.name
        );
    }
    fsck(&stack);
    tokio::task::spawn_blocking(move || drop((stack, cluster))).await.unwrap();
    std::fs::remove_dir_all(data).unwrap_or_default();
}

fn the_chain_is_asked(stack: &Stack, bundle: &Path) {
    let mut command = Command::new(stack.options.programs.join("suyuan-auditor"));
    command.arg("verify").arg(bundle).arg("--trust").arg(stack.write_trust().unwrap());
    let url = stack.options.chain_rpc_url.as_ref().unwrap();
    let verified = command.args(["--rpc", url]).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
}

/// mosquitto_pub and mosquitto_sub as the device: QoS 1, and the receipt says what the broker's PUBACK cannot.
async fn a_stranger_s_message_is_stored_logged_and_answered_by_a_receipt(stack: &Stack, port: u16) {
    let (client, cookie) = stack.operator_session().await.unwrap();
    let base = stack.base_url();
    let body = json!({"party": "nanning", "device": "meter", "kind": "climate", "profile": "sugar",
        "format": "senml+json", "signing": "gateway", "repeats": "merge", "place": "store"});
    let made = client.post(format!("{base}/api/v1/devices")).header("Origin", &base).header("Cookie", cookie);
    let made = made.json(&body).send().await.unwrap();
    assert!(made.status().is_success(), "{}", made.status());
    // The gateway's copy of the register is a second old at most.
    tokio::time::sleep(Duration::from_secs(2)).await;

    let port = port.to_string();
    let receipts = TOPIC.replace("/up", "/receipt");
    let listener = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", &receipts, "-C", "1", "-F", "%x", "-W", "20"])
        .stdout(Stdio::piped())
        .spawn();
    let mut listener = Theirs(listener.unwrap());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let message = format!(r#"[{{"n":"temp","u":"Cel","t":{},"v":21.5}}]"#, chrono::Utc::now().timestamp());
    let sent = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", TOPIC, "-m", &message])
        .status();
    assert!(sent.unwrap().success());
    let mut hex = String::new();
    listener.0.stdout.take().unwrap().read_to_string(&mut hex).unwrap();
    let receipt: Vec<u8> = (0..hex.trim().len() / 2)
        .map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2).unwrap(), 16).unwrap())
        .collect();
    let cti = gateway_cti(TOPIC, message.as_bytes());
    assert_eq!(read_receipt(&receipt).unwrap(), (cti.to_vec(), Status::Stored));

    let cti = format!("{:032x}", u128::from_be_bytes(cti));
    let logged = format!(
        "select max(c.size) > e.index from pack p join entry e on e.hash = p.entry join checkpoint c using (log_id) \
         where p.cti = '\\x{cti}' group by e.index"
    );
    let until = Instant::now() + Duration::from_secs(20);
    while ask(stack, &logged).trim() != "t" {
        assert!(Instant::now() < until, "the pack is in no signed head");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
