//! A site: the real server on a Postgres of its own, gateways, a broker where one is wanted, and between any two of them a
//! network that can be cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use demo::{process::Running, stack::Ports};
use postgres::NoTls;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use trace::{
    hash::Hash,
    keys::{Custody, SecretKey},
    pack::DeviceName,
    record::statement::{Possession, prove_possession},
};
use uuid::Uuid;

use crate::{
    cable::{Cable, FarSide, Network},
    log_house::{LEDGER, LogHouse, wait_until},
    sender::{Device, FIRST_AT, Sender, Told},
};

pub const MOSQUITTO: &str = "/usr/sbin/mosquitto";
pub const PARTY: &str = "operator";
pub const PASSWORD: &str = "a site that is cut off";
/// The user that a field site's broker is at the centre's.
pub const FIELD_SITE: &str = "field1";
/// GS1's example prefix 952: nothing that it numbers exists.
const OPERATOR_PGLN: &str = "9521234000006";

/// Where messages go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    Listen,
    /// A mosquitto as `deploy/mosquitto.conf` has it, but for its `max_queued_messages`.
    Subscribe {
        queued_max: u32,
    },
}

/// Dropped in this order: those who ask before those who answer.
pub struct Site {
    pub gateways: Vec<Gateway>,
    pub broker: Option<Running>,
    pub server: Option<Running>,
    /// Senders reach the gateway or the broker through this.
    pub to_entrance: Cable,
    pub gateway_to_server: Cable,
    pub server_to_postgres: Cable,
    pub gateway_to_broker: Option<Cable>,
    pub house: LogHouse,
    /// What a file of the broker may grow to, in blocks of 512 bytes: its disk is full then.
    pub broker_disk: Option<u32>,
    entrance: Entrance,
    ports: Ports,
    mqtt: u16,
    api: Api,
    gateway_token: String,
}

/// One gateway's name and its process, while it runs.
pub struct Gateway {
    pub name: String,
    pub process: Option<Running>,
}

/// The operator, signed in.
struct Api {
    base: String,
    runtime: Runtime,
    client: reqwest::Client,
    cookie: String,
}

impl Site {
    pub fn open(name: &str, entrance: Entrance) -> Self {
        let house = LogHouse::open(name);
        let (ports, more) = (Ports::free().unwrap(), Ports::free().unwrap());
        let server_to_postgres = Cable::lay(more.http, FarSide::Socket(house.socket()));
        let gateway_to_server = Cable::lay(more.witness, FarSide::Port(ports.http));
        let to_entrance = Cable::lay(more.mqtt, FarSide::Port(ports.mqtt));
        let gateway_to_broker = match entrance {
            Entrance::Listen => None,
            Entrance::Subscribe { .. } => Some(Cable::lay(more.chain, FarSide::Port(ports.mqtt))),
        };
        house.found_operator(ports.http, OPERATOR_PGLN, PASSWORD);
        let mut site = Self {
            gateways: Vec::new(),
            broker: None,
            server: None,
            to_entrance,
            gateway_to_server,
            server_to_postgres,
            gateway_to_broker,
            house,
            broker_disk: None,
            entrance,
            mqtt: ports.mqtt,
            api: Api::nobody(ports.http),
            ports,
            gateway_token: String::new(),
        };
        site.start_server();
        site.api.sign_in();
        let body = json!({"party": PARTY, "label": "a site", "scopes": ["gateway"]});
        site.gateway_token = member(&site.api.post("/api/v1/tokens", &body), "token");
        let place = json!({"party": PARTY, "slug": "store", "kind": "warehouse", "name": "store",
            "gln": OPERATOR_PGLN, "extension": "store"});
        site.api.post("/api/v1/places", &place);
        site
    }

    /// Also after a kill.
    pub fn start_server(&mut self) {
        let more = [
            (
                "DATABASE_URL",
                format!(
                    "postgres://app@127.0.0.1:{}/suyuan?application_name=server",
                    self.server_to_postgres.port
                ),
            ),
            ("SUYUAN_PUBLIC_BASE_URL", self.api.base.clone()),
            ("SUYUAN_CHECKPOINT_INTERVAL_MS", "200".to_owned()),
        ];
        self.server = Some(self.house.serve("server", self.ports.http, &more));
        wait_until("the server lives", || self.api.is_live());
    }

    /// The broker with a password for each device; also after a kill.
    pub fn start_broker(&mut self, devices: &[&Device]) {
        let Entrance::Subscribe { queued_max } = self.entrance else { return };
        let at = self.house.path().join("broker");
        std::fs::create_dir_all(&at).unwrap();
        let conf = at.join("conf");
        if !conf.exists() {
            write_broker_conf(&at, self.mqtt, queued_max, devices);
        }
        let mut command = match self.broker_disk {
            None => Command::new(MOSQUITTO),
            Some(blocks) => {
                let mut limited = Command::new("sh");
                let limit = "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"";
                limited.args(["-c", limit, &blocks.to_string(), MOSQUITTO]);
                limited
            }
        };
        command.arg("-c").arg(conf);
        self.broker = Some(Running::start("mosquitto", &mut command, &self.broker_log()).unwrap());
        listens(self.mqtt);
    }

    pub fn broker_log(&self) -> PathBuf {
        self.house.path().join("broker").join("log")
    }

    /// A gateway named `name`, or the same one again after a kill.
    pub fn start_gateway(&mut self, name: &str) {
        let process = self.gateway(name, "run");
        match self.gateways.iter_mut().find(|gateway| gateway.name == name) {
            Some(gateway) => gateway.process = Some(process),
            None => self.gateways.push(Gateway { name: name.to_owned(), process: Some(process) }),
        }
        if self.entrance == Entrance::Listen {
            listens(self.mqtt);
        }
    }

    /// `suyuan-gateway run` or `drain`.
    pub fn gateway(&self, name: &str, command: &str) -> Running {
        let at = self.house.path();
        let file = |what: &str| at.join(format!("{name}.{what}"));
        if !file("key").exists() {
            self.house.run("suyuan-gateway", &["keygen", "--key-file", &file("key").display().to_string()]);
            std::fs::write(file("token"), &self.gateway_token).unwrap();
            std::fs::write(file("password"), PASSWORD).unwrap();
        }
        let mut process = Command::new(self.house.programs.join("suyuan-gateway"));
        process.arg(command).envs([
            ("SUYUAN_SERVER_URL", format!("http://127.0.0.1:{}", self.gateway_to_server.port)),
            ("SUYUAN_GATEWAY_TOKEN_FILE", file("token").display().to_string()),
            ("SUYUAN_GATEWAY_KEY_FILE", file("key").display().to_string()),
            ("SUYUAN_GATEWAY_REGISTER_FILE", file("register").display().to_string()),
            ("SUYUAN_GATEWAY_REGISTER_INTERVAL_S", "1".to_owned()),
            ("SUYUAN_GATEWAY_POST_TIMEOUT_S", "3".to_owned()),
            ("SUYUAN_MQTT_LISTEN", format!("127.0.0.1:{}", self.mqtt)),
        ]);
        if let Some(cable) = &self.gateway_to_broker {
            process.envs([
                ("SUYUAN_GATEWAY_SOURCE", "subscribe".to_owned()),
                ("MQTT_URL", format!("mqtt://127.0.0.1:{}", cable.port)),
                ("SUYUAN_MQTT_USER", "gateway".to_owned()),
                ("SUYUAN_MQTT_PASSWORD_FILE", file("password").display().to_string()),
                ("SUYUAN_MQTT_CLIENT_ID", name.to_owned()),
                ("SUYUAN_MQTT_SHARE", "site".to_owned()),
                ("SUYUAN_MQTT_KEEP_ALIVE_S", "5".to_owned()),
            ]);
        }
        Running::start(name, &mut process, &file("log")).unwrap()
    }

    pub fn kill_gateway(&mut self, name: &str) {
        let gateway = self.gateways.iter_mut().find(|gateway| gateway.name == name).unwrap();
        gateway.process.take().unwrap().kill().unwrap();
    }

    /// Retires a gateway that does not run any more; returns when it is drained.
    pub fn drain_gateway(&self, name: &str) {
        let mut draining = self.gateway(name, "drain");
        wait_until("the gateway is drained", || !draining.is_alive());
    }

    /// Registers a device of the operator's, with a key of its own if it signs itself.
    pub fn device(&self, name: &str, key: Option<SecretKey>) -> Device {
        let (format, signing) = if key.is_some() { ("cose", "device") } else { ("senml+json", "gateway") };
        let key_form = key.as_ref().map(|key| {
            let (jti, custody) = (Uuid::now_v7(), Custody::Device);
            let party = self.party();
            let pop = prove_possession(
                &Possession { aud: LEDGER.to_owned(), jti, kid: key.kid(), party, custody },
                key,
            );
            json!({"jti": jti, "public": Hash(*key.public().as_bytes()), "custody": custody, "pop": pop})
        });
        let body = json!({"party": PARTY, "device": name, "kind": "climate", "profile": "sugar", "place": "store",
            "format": format, "signing": signing, "repeats": "merge", "key": key_form});
        let token = member(&self.api.post("/api/v1/devices", &body), "token");
        Device { name: DeviceName::new(PARTY, name).unwrap(), token, key: key.map(Arc::new) }
    }

    /// The operator's identifier.
    fn party(&self) -> String {
        let mut client = postgres::Client::connect(&self.house.url("migrator"), NoTls).unwrap();
        client.query_one("select iss from party where slug = $1", &[&PARTY]).unwrap().get(0)
    }

    /// Sets the network's state for a while.
    pub fn disturb(&self, cable: &Cable, network: Network, span: Duration) {
        cable.set(network);
        std::thread::sleep(span);
        cable.set(Network::Carries);
    }

    /// Every reading of the device that stands in the table, with how often it does.
    pub fn stored(&self, device: &DeviceName) -> BTreeMap<u32, i64> {
        let mut client = postgres::Client::connect(&self.house.url("migrator"), NoTls).unwrap();
        let query = "select extract(epoch from r.at)::bigint, count(*) from reading r join device d on d.id = r.device_id
            where d.name = $1 group by 1";
        let rows = client.query(query, &[&device.device()]).unwrap();
        rows.iter().map(|row| (u32::try_from(row.get::<_, i64>(0) - FIRST_AT).unwrap(), row.get(1))).collect()
    }

    /// Whether messages of the device came, and within a while no more of them.
    pub fn rests(&self, device: &DeviceName) -> bool {
        let before = self.stored(device).len();
        std::thread::sleep(Duration::from_secs(2));
        before > 0 && self.stored(device).len() == before
    }

    /// Nothing stands twice, nothing stands there that was not sent, and nothing is missing of what was `promised`.
    pub fn check(&self, device: &DeviceName, told: &Told, promised: &BTreeSet<u32>) {
        let stored = self.stored(device);
        let twice: Vec<_> = stored.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "{device}: more than once: {twice:?}");
        assert!(stored.keys().all(|number| *number < told.sent), "{device}: what nobody sent");
        let lost: Vec<_> = promised.iter().filter(|number| !stored.contains_key(number)).collect();
        assert!(lost.is_empty(), "{device}: {} of {} were lost: {lost:?}", lost.len(), promised.len());
    }

    /// Every pack is a leaf of the log once, as many packs as readings, and no dead letter.
    pub fn check_log(&self) -> i64 {
        self.house.wait_until_drained();
        let mut client = postgres::Client::connect(&self.house.url("migrator"), NoTls).unwrap();
        let mut count = |query: &str| -> i64 { client.query_one(query, &[]).unwrap().get(0) };
        wait_until("every pack is checked", || count("select count(*) from strict_check") == 0);
        self.house.wait_until_drained();
        assert_eq!(count("select count(*) from dead_letter"), 0);
        let packs = count("select count(*) from pack");
        assert_eq!(packs, count("select count(*) from reading"));
        assert_eq!(packs, count("select count(*) from pack join entry on entry.hash = pack.entry"));
        packs
    }
}

/// Returns once each of the senders got rid of some messages more.
pub fn wait_for_flow(senders: &[&Sender], after: &str) {
    let before: Vec<usize> = senders.iter().map(|sender| sender.done()).collect();
    wait_until(&format!("messages flow after {after}"), || {
        senders.iter().zip(&before).all(|(sender, before)| sender.done() > before + 5)
    });
}

fn member(answer: &Value, name: &str) -> String {
    answer.get(name).and_then(Value::as_str).unwrap().to_owned()
}

pub fn listens(port: u16) {
    wait_until("somebody listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
}

impl Api {
    fn nobody(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { base: format!("http://localhost:{port}"), runtime, client, cookie: String::new() }
    }

    fn is_live(&self) -> bool {
        let answer = self.runtime.block_on(self.client.get(format!("{}/health/live", self.base)).send());
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    fn sign_in(&mut self) {
        let request = self.client.post(format!("{}/sign-in", self.base)).header("Origin", &self.base);
        let form = [("login", PARTY), ("password", PASSWORD)];
        let answer = self.runtime.block_on(request.form(&form).send()).unwrap();
        let cookie = answer.headers().get("set-cookie").unwrap().to_str().unwrap();
        cookie.split(';').next().unwrap().clone_into(&mut self.cookie);
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.base)).header("Origin", &self.base);
        let (status, text) = self.runtime.block_on(async {
            let answer = request.header("Cookie", &self.cookie).json(body).send().await.unwrap();
            (answer.status(), answer.text().await.unwrap())
        });
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// The shipped files with this test's paths, port and limit.
fn write_broker_conf(at: &Path, port: u16, queued_max: u32, devices: &[&Device]) {
    let gateway = ("gateway".to_owned(), PASSWORD.to_owned());
    let site = (format!("{PARTY}/{FIELD_SITE}"), PASSWORD.to_owned());
    write_passwords(&at.join("passwords"), devices, [gateway, site]);
    let rights = format!(
        "\nuser {PARTY}/{FIELD_SITE}\ntopic write suyuan/v1/{PARTY}/+/up\ntopic read suyuan/v1/{PARTY}/+/receipt\n"
    );
    std::fs::write(at.join("acl"), shipped("mosquitto.acl", &[]) + &rights).unwrap();
    std::fs::write(at.join("conf"), broker_conf(at, port, queued_max)).unwrap();
}

/// A password for each device and for the `others`.
pub fn write_passwords(file: &Path, devices: &[&Device], others: impl IntoIterator<Item = (String, String)>) {
    std::fs::write(file, "").unwrap();
    let users = devices.iter().map(|device| (device.name.to_string(), device.token.clone()));
    for (user, password) in users.chain(others) {
        let mut command = Command::new("mosquitto_passwd");
        assert!(command.arg("-b").arg(file).args([user, password]).status().unwrap().success());
    }
}

/// Of a broker whose files are in `at`.
pub fn broker_conf(at: &Path, port: u16, queued_max: u32) -> String {
    let file = |name: &str| at.join(name).display().to_string();
    let own = [
        ("listener", format!("{port} 127.0.0.1")),
        ("password_file", file("passwords")),
        ("acl_file", file("acl")),
        ("persistence_location", format!("{}/", at.display())),
        ("max_queued_messages", queued_max.to_string()),
    ];
    shipped("mosquitto.conf", &own) + "user root\n"
}

/// A file of `deploy/`; the lines that begin with these words say what the test says.
pub fn shipped(name: &str, own: &[(&str, String)]) -> String {
    let own: BTreeMap<&str, &String> = own.iter().map(|(word, value)| (*word, value)).collect();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let text = std::fs::read_to_string(deploy.join(name)).unwrap();
    let lines = text.lines().map(|line| {
        let word = line.split(' ').next().unwrap_or_default();
        own.get(word).map_or_else(|| format!("{line}\n"), |value| format!("{word} {value}\n"))
    });
    lines.collect()
}

/// Whether the broker's programs are here; says so if not.
pub fn has_broker() -> bool {
    let found = PathBuf::from(MOSQUITTO).exists();
    if !found {
        eprintln!("SKIPPED: {MOSQUITTO} is not installed, nothing went through a broker");
    }
    found
}
