//! Processes around the gateway, and bytes of MQTT by hand.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::server::Server;

const MOSQUITTO: &str = "/usr/sbin/mosquitto";

pub const TOKEN: &str = "device-token";

pub const SEED: [u8; 32] = [5; 32];

pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A directory of one test, under the target directory.
pub fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A process that ends with its test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(drop)) {
            println!("a process of the test had ended: {error}");
        }
    }
}

pub struct Gateway {
    process: Process,
    pub mqtt: u16,
    admin: u16,
}

impl Gateway {
    pub fn start(server: &Server, name: &str, more: &[(&str, String)]) -> Self {
        let at = scratch(name);
        std::fs::write(at.join("token"), "gateway-token\n").unwrap();
        std::fs::write(at.join("key"), trace::b64::url(&SEED)).unwrap();
        let (mqtt, admin) = (free_port(), free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_suyuan-gateway"));
        command
            .arg("run")
            .env("SUYUAN_SERVER_URL", format!("http://{}", server.address))
            .env("SUYUAN_GATEWAY_TOKEN_FILE", at.join("token"))
            .env("SUYUAN_GATEWAY_KEY_FILE", at.join("key"))
            .env("SUYUAN_MQTT_LISTEN", format!("127.0.0.1:{mqtt}"))
            .env("SUYUAN_GATEWAY_ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
            .env("SUYUAN_GATEWAY_REGISTER_INTERVAL_S", "1")
            .envs(more.iter().map(|(name, value)| (name, value)));
        let process = Process(command.spawn().unwrap());
        let gateway = Self { process, mqtt, admin };
        until("the gateway lives", || TcpStream::connect(("127.0.0.1", admin)).ok());
        if !more.iter().any(|(name, _)| *name == "SUYUAN_GATEWAY_SOURCE") {
            until("the gateway listens", || TcpStream::connect(("127.0.0.1", mqtt)).ok());
        }
        gateway
    }

    pub fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let name = format!("suyuan_gateway_{name} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    }

    /// SIGTERM, and the process's own end.
    pub fn terminate(mut self) -> bool {
        let pid = self.process.0.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        until("the gateway ends", || self.process.0.try_wait().unwrap()).success()
    }
}

pub fn publish(port: u16, device: &str, payload: &[u8], more: &[&str]) -> Child {
    let mut child = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-u", &format!("mill/{device}"), "-P", TOKEN])
        .args(["-t", &format!("suyuan/v1/mill/{device}/up"), "-s"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(payload).unwrap();
    child
}

pub fn published(port: u16, device: &str, payload: &[u8], more: &[&str]) -> Output {
    publish(port, device, payload, more).wait_with_output().unwrap()
}

pub fn sent(port: u16, user: &str, topic: &str, payload: &[u8]) -> Output {
    let mut child = Command::new("mosquitto_pub")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-u",
            user,
            "-P",
            TOKEN,
            "-q",
            "1",
            "-t",
            topic,
            "-s",
        ])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(payload).unwrap();
    child.wait_with_output().unwrap()
}

pub fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    if !found.status.success() {
        println!("SKIPPED: {program} is not installed");
    }
    found.status.success()
}

pub fn senml_of(value: usize) -> Vec<u8> {
    format!(r#"[{{"n":"t","u":"Cel","t":1700000000,"v":{value}}}]"#).into_bytes()
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let more = if length > 127 { 0x80 } else { 0 };
        packet.push(u8::try_from(length % 128).unwrap() | more);
        length /= 128;
        if length == 0 {
            return [packet, body.to_vec()].concat();
        }
    }
}

pub fn string(text: &[u8]) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

/// The site's broker, as `deploy/mosquitto.conf` has it, with passwords and the ACL of this test.
pub struct Broker {
    _process: Process,
    pub port: u16,
}

impl Broker {
    pub fn start(name: &str) -> Self {
        let (at, port) = (scratch(name), free_port());
        let shipped =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/mosquitto.conf"));
        let acl = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/mosquitto.acl");
        let networks = "user chirpstack\ntopic write application/#\nuser mill/edge\ntopic write spBv1.0/g/+/e\n\
                        topic read spBv1.0/g/NCMD/e\n";
        std::fs::write(at.join("acl"), format!("{}\n{networks}", std::fs::read_to_string(acl).unwrap()))
            .unwrap();
        let passwords = at.join("passwords");
        std::fs::write(&passwords, "").unwrap();
        for (user, password) in
            [("gateway", "gw"), ("mill/senml", TOKEN), ("mill/edge", TOKEN), ("chirpstack", TOKEN)]
        {
            let made =
                Command::new("mosquitto_passwd").arg("-b").arg(&passwords).args([user, password]).status();
            assert!(made.unwrap().success());
        }
        // Paths and address of this test; every limit is the shipped one.
        let own = BTreeMap::from([
            ("listener", format!("{port} 127.0.0.1")),
            ("password_file", passwords.display().to_string()),
            ("acl_file", at.join("acl").display().to_string()),
            ("persistence_location", format!("{}/", at.display())),
        ]);
        let conf: String = shipped
            .unwrap()
            .lines()
            .map(|line| {
                let word = line.split(' ').next().unwrap();
                own.get(word).map_or_else(|| format!("{line}\n"), |value| format!("{word} {value}\n"))
            })
            .chain([String::from("user root\n")])
            .collect();
        std::fs::write(at.join("conf"), conf).unwrap();
        let mut command = Command::new(MOSQUITTO);
        let process = Process(command.arg("-c").arg(at.join("conf")).stderr(Stdio::null()).spawn().unwrap());
        until("the broker listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { _process: process, port }
    }

    pub fn source(&self, name: &str) -> Vec<(&'static str, String)> {
        let password = scratch(name).join("broker-password");
        std::fs::write(&password, "gw\n").unwrap();
        vec![
            ("SUYUAN_GATEWAY_SOURCE", "subscribe".to_owned()),
            ("MQTT_URL", format!("mqtt://127.0.0.1:{}", self.port)),
            ("SUYUAN_MQTT_USER", "gateway".to_owned()),
            ("SUYUAN_MQTT_PASSWORD_FILE", password.display().to_string()),
            ("SUYUAN_MQTT_CLIENT_ID", name.to_owned()),
        ]
    }
}

pub fn has_broker() -> bool {
    if !Path::new(MOSQUITTO).exists() {
        println!("SKIPPED: {MOSQUITTO} is not installed");
    }
    Path::new(MOSQUITTO).exists() && has("mosquitto_pub") && has("mosquitto_passwd")
}
