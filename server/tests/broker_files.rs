//! What `suyuan broker-files` writes is what a real mosquitto keeps to: passwords, rights by topic, and certificates.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod database;
mod farm;
mod house;
mod keeper;
mod registered;
mod silo;

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use farm::Farm;
use keeper::{fitted_out, post, register, shown};
use server::service::devices::broker::{BrokerError, BrokerFiles};

const MOSQUITTO: &str = "/usr/sbin/mosquitto";
const GATEWAY_PASSWORD: &str = "the gateway at the broker";

/// A directory, and a broker in it.
struct Broker {
    at: PathBuf,
    port: u16,
    process: Child,
    /// What its clients need to be believed, where it speaks TLS.
    tls: bool,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::fs::remove_dir_all(&self.at).unwrap();
    }
}

fn directory(name: &str) -> PathBuf {
    let at = std::env::temp_dir().join(format!("suyuan-{name}-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&at).unwrap();
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_does_not_take_the_name_of_a_device() {
    let Some(farm) = Farm::open("broker_user").await else { return };
    let mut conn = farm.state.store.connection().await.unwrap();
    for user in ["", "depot/probe1", "gate:way", "gateway\nuser depot"] {
        let refused = BrokerFiles::read(&mut conn, &[], (user, GATEWAY_PASSWORD)).await;
        assert!(matches!(refused, Err(BrokerError::User)), "{user:?}");
    }
}

/// `suyuan broker-files`, as a timer runs it.
fn write_files(farm: &Farm, at: &Path) -> String {
    let password = at.join("gateway-password");
    if !password.exists() {
        server::service::keys::write_secret(&password, GATEWAY_PASSWORD).unwrap();
    }
    let ran = Command::new(env!("CARGO_BIN_EXE_suyuan"))
        .args(["broker-files", "--party", "depot", "--out"])
        .arg(at)
        .arg("--gateway-password-file")
        .arg(&password)
        .env("DATABASE_URL", &farm.state.config.database.database_url)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

impl Broker {
    fn start(at: PathBuf, listener: &str, tls: bool) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let conf = format!(
            "user root\nallow_anonymous false\nlistener {port} 127.0.0.1\nacl_file {0}/acl\n{1}\n",
            at.display(),
            listener.replace("{at}", &at.display().to_string())
        );
        std::fs::write(at.join("conf"), conf).unwrap();
        let log = std::fs::File::create(at.join("log")).unwrap();
        let mut command = Command::new(MOSQUITTO);
        command.arg("-c").arg(at.join("conf")).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().unwrap();
        let broker = Self { at, port, process, tls };
        let patience = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < patience, "{}", broker.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        broker
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.at.join("log")).unwrap()
    }

    /// SIGHUP; back when the broker says that it has read its files.
    fn reload(&self) {
        let hup = Command::new("kill").args(["-HUP", &self.process.id().to_string()]).status().unwrap();
        assert!(hup.success());
        let patience = Instant::now() + Duration::from_secs(10);
        while !self.log().contains("Reloading config") {
            assert!(Instant::now() < patience, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(200));
    }

    /// `mosquitto_pub` or `mosquitto_sub` as `user`: by password, or by the certificate of that file name.
    fn client(&self, program: &str, (user, secret): (&str, &str)) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-V", "5"]);
        if self.tls {
            let file = |name: &str| self.at.join(name);
            command.arg("--cafile").arg(file("ca.crt"));
            if !secret.is_empty() {
                command.arg("--cert").arg(file(&format!("{secret}.crt")));
                command.arg("--key").arg(file(&format!("{secret}.key")));
            }
        } else {
            command.args(["-u", user, "-P", secret]);
        }
        command
    }

    fn says(&self, who: (&str, &str), topic: &str, text: &str) -> bool {
        let sent = self.client("mosquitto_pub", who).args(["-t", topic, "-m", text]).output().unwrap();
        sent.status.success()
    }

    /// Hears a topic in the background until `count` messages came, or for five seconds.
    fn hears(&self, who: (&str, &str), topic: &str, count: u32) -> Child {
        let mut command = self.client("mosquitto_sub", who);
        command.args(["-v", "-t", topic, "-W", "5", "-C", &count.to_string()]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        child
    }
}

fn heard(child: Child) -> Vec<String> {
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn up(device: &str) -> String {
    format!("suyuan/v1/depot/{device}/up")
}

fn receipt(device: &str) -> String {
    format!("suyuan/v1/depot/{device}/receipt")
}

fn has_broker() -> bool {
    let found = Path::new(MOSQUITTO).exists();
    if !found {
        eprintln!("SKIPPED: {MOSQUITTO} is not installed, nothing went through a broker");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_its_own_topics_at_the_broker_until_it_is_lost() {
    let Some(farm) = Farm::open("broker_files").await else { return };
    if !has_broker() {
        return;
    }
    fitted_out(&farm).await;
    let keeper = farm.sign_in("depot").await;
    let mut passwords = Vec::new();
    for device in ["probe1", "probe2"] {
        let (_, page) = register(&farm, &keeper, device, "senml+json", "").await;
        passwords.push(shown(&page, "密码").to_owned());
    }
    let node = r#"{"node": "Mill/Line1", "readings": {"Weight": {"n": "net", "u": "kg"}}}"#;
    let (_, page) = register(&farm, &keeper, "line1", "sparkplug", node).await;
    let line = ("depot/line1", shown(&page, "密码"));
    let at = directory("broker");
    assert!(write_files(&farm, &at).starts_with("4 users"));
    let broker = Broker::start(at.clone(), "password_file {at}/passwords", false);
    let gateway = ("gateway", GATEWAY_PASSWORD);
    let [first, second] = [("depot/probe1", passwords[0].as_str()), ("depot/probe2", passwords[1].as_str())];

    let all = broker.hears(gateway, "suyuan/v1/+/+/up", 3);
    let nodes = broker.hears(gateway, "spBv1.0/#", 1);
    let own = broker.hears(first, &receipt("probe1"), 1);
    let other = broker.hears(first, &receipt("probe2"), 1);
    assert!(!broker.says(("depot/probe1", "guessed"), &up("probe1"), "not its password"));
    assert!(!broker.says(("depot/probe1", &passwords[1]), &up("probe1"), "another's password"));
    broker.says(first, &up("probe1"), "its own");
    broker.says(first, &up("probe2"), "another's topic");
    broker.says(first, &receipt("probe2"), "a forged receipt");
    broker.says(first, "spBv1.0/Mill/NDATA/Line1", "another's node");
    broker.says(line, "spBv1.0/Mill/NDATA/Line1", "its node");
    broker.says(second, &up("probe2"), "its own");
    broker.says(gateway, &receipt("probe1"), "stored");
    broker.says(gateway, &receipt("probe2"), "stored too");
    let marker = up("line1");
    broker.says(line, &marker, "the last");
    assert_eq!(
        heard(all),
        [
            format!("{} its own", up("probe1")),
            format!("{} its own", up("probe2")),
            format!("{marker} the last")
        ]
    );
    assert_eq!(heard(nodes), ["spBv1.0/Mill/NDATA/Line1 its node"]);
    assert_eq!(heard(own), [format!("{} stored", receipt("probe1"))]);
    assert!(heard(other).is_empty(), "nobody hears another's receipts");

    post(&farm, &keeper, "/devices/depot/probe1/end", &[("why", "lost")]).await;
    assert!(write_files(&farm, &at).starts_with("3 users"));
    let open = broker.hears(first, &receipt("probe1"), 1);
    broker.reload();
    broker.says(gateway, &receipt("probe1"), "for whoever has it now");
    assert!(heard(open).is_empty(), "an open session ends as well");
    assert!(!broker.says(first, &up("probe1"), "lost"), "refused at the door: {}", broker.log());
    assert!(broker.says(second, &up("probe2"), "still there"));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(at.join("passwords")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o640);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_names_the_device_and_its_rights_end_with_it() {
    let Some(farm) = Farm::open("broker_certificates").await else { return };
    if !has_broker() {
        return;
    }
    fitted_out(&farm).await;
    let keeper = farm.sign_in("depot").await;
    for device in ["probe1", "probe2"] {
        register(&farm, &keeper, device, "senml+json", "").await;
    }
    let at = directory("certificates");
    write_files(&farm, &at);
    // The lines of the documentation, once for each that has a certificate.
    let text = include_str!("../../docs/devices.md");
    let lines = |heading: &str| {
        let after = text.split(heading).nth(1).unwrap();
        after.split("```sh\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
    };
    for (script, file, user) in [
        (lines("The site's own authority"), "", ""),
        (lines("A certificate for a device"), "probe1", "depot/probe1"),
        (lines("A certificate for a device"), "probe2", "depot/probe2"),
        (lines("A certificate for a device"), "gateway", "gateway"),
    ] {
        let made = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .envs([("HOST", "127.0.0.1"), ("FILE", file), ("DEVICE", user)])
            .current_dir(&at)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let listener = text.split("```conf\n").nth(2).unwrap().split("```").next().unwrap();
    let listener = listener.lines().skip(1).collect::<Vec<_>>().join("\n");
    let broker = Broker::start(at.clone(), &listener.replace("/etc/mosquitto/suyuan", "{at}"), true);

    let all = broker.hears(("", "gateway"), "suyuan/v1/+/+/up", 2);
    assert!(!broker.says(("", ""), &up("probe1"), "no certificate"));
    broker.says(("", "probe1"), &up("probe1"), "its own");
    broker.says(("", "probe1"), &up("probe2"), "another's topic");
    broker.says(("", "probe2"), &up("probe2"), "its own");
    assert_eq!(
        heard(all),
        [format!("{} its own", up("probe1")), format!("{} its own", up("probe2"))],
        "{}",
        broker.log()
    );

    post(&farm, &keeper, "/devices/depot/probe1/end", &[("why", "retired")]).await;
    write_files(&farm, &at);
    broker.reload();
    let all = broker.hears(("", "gateway"), "suyuan/v1/+/+/up", 1);
    broker.says(("", "probe1"), &up("probe1"), "out of use");
    broker.says(("", "probe2"), &up("probe2"), "still there");
    assert_eq!(heard(all), [format!("{} still there", up("probe2"))]);
}
