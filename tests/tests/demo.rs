//! The program `suyuan-demo`, as `make demo` runs it: a port that is taken, a run told to stop half-way, one that ends, another on
//! the same data; then what it left on disk, with everything stopped.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop where it stands, and says loudly what it skips"
)]

use std::{
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use demo::stack::{Ports, programs_beside_us};
use serde_json::Value;
use system_tests::audit::said;

/// From built programs to "ready", on a machine that is testing other things as well.
const READY_WITHIN: Duration = Duration::from_secs(20);
const PASSES: usize = 2;

/// A project of its own: the files of this one, and its own data.
struct Project {
    root: PathBuf,
    ports: Ports,
}

impl Project {
    fn new() -> Self {
        let root = std::env::temp_dir().join(format!("suyuan-demo-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
        for part in ["profiles", "locales", "contracts"] {
            symlink(house.join(part), root.join(part)).unwrap();
        }
        Self { root, ports: Ports::free().unwrap() }
    }

    fn demo(&self, more: &[&str]) -> Command {
        let mut command = Command::new(programs_beside_us().unwrap().join("suyuan-demo"));
        command.arg("--root").arg(&self.root).args(more);
        for (option, port) in [
            ("--http-port", self.ports.http),
            ("--mqtt-port", self.ports.mqtt),
            ("--witness-port", self.ports.witness),
            ("--chain-port", self.ports.chain),
        ] {
            command.args([option, &port.to_string()]);
        }
        for configured in ["DATABASE_URL", "MQTT_URL", "CHAIN_RPC_URL"] {
            command.env_remove(configured);
        }
        command
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn is_silent(&self) -> bool {
        let Ports { http, mqtt, witness, chain } = self.ports;
        [http, mqtt, witness, chain].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_err())
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.root).unwrap_or_default();
    }
}

#[test]
fn the_demo_says_what_stops_it_stops_what_it_started_and_goes_on_where_it_was() {
    let project = Project::new();
    a_taken_port_is_one_clear_line(&project);
    told_to_stop_half_way_it_leaves_nothing_running(&project);
    let told: Vec<Value> = (0..PASSES).map(|_| told_by(&project)).collect();
    assert!(told.windows(2).all(|pair| pair.first() == pair.last()), "the second run changed something");
    for commodity in told.first().unwrap().pointer("/commodities").and_then(Value::as_array).unwrap() {
        a_code_reads_as_its_address(&project, commodity);
        a_bundle_verifies_with_everything_stopped(&project, commodity);
    }
}

fn a_taken_port_is_one_clear_line(project: &Project) {
    let _holder = TcpListener::bind(("127.0.0.1", project.ports.witness)).unwrap();
    let refused = project.demo(&["--exit"]).output().unwrap();
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr);
    let port = format!("port {} ", project.ports.witness);
    assert!(text.lines().count() == 1 && text.contains(&port) && text.contains("--witness-port"), "{text}");
}

fn told_to_stop_half_way_it_leaves_nothing_running(project: &Project) {
    let began = Instant::now();
    let mut running = project.demo(&[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(running.stderr.take().unwrap()).lines();
    let ready = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("ready after")));
    assert!(ready.is_some(), "the demo did not become ready");
    assert!(began.elapsed() < READY_WITHIN, "ready only after {:?}", began.elapsed());
    let told = Command::new("kill").args(["-TERM", &running.id().to_string()]).status();
    assert!(told.unwrap().success());
    assert!(!running.wait().unwrap().success(), "half a season is no success");
    assert!(project.is_silent(), "something still listens");
    assert!(!project.file(".data/postgres/data/postmaster.pid").exists(), "Postgres still runs");
}

/// Plays to the end and reads `demo.json`.
fn told_by(project: &Project) -> Value {
    let played: Output = project.demo(&["--exit"]).output().unwrap();
    assert!(played.status.success(), "{}", said(&played));
    assert!(project.is_silent(), "something still listens");
    let file = project.file(".data/demo.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "it names passwords");
    let told: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for member in [
        "/base_url",
        "/people/0/role",
        "/people/0/party",
        "/people/0/login",
        "/people/0/password",
        "/log/origin",
        "/log/vkey",
        "/log/checkpoint_url",
        "/witness_vkeys/0",
        "/trust",
        "/chain/rpc_url",
        "/chain/contract",
        "/mqtt_url",
        "/database_url",
    ] {
        assert!(told.pointer(member).is_some_and(Value::is_string), "demo.json lacks {member}");
    }
    assert!(told.pointer("/chain/chain_id").is_some_and(Value::is_u64));
    let names: Vec<&str> = told
        .pointer("/commodities")
        .and_then(Value::as_array)
        .unwrap()
        .iter()
        .map(|commodity| text_of(commodity, "name"))
        .collect();
    assert_eq!(names, ["sugar", "grain", "timber"]);
    told
}

fn text_of<'a>(commodity: &'a Value, member: &str) -> &'a str {
    let text = commodity.get(member).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("{commodity} lacks {member}"))
}

/// Letters of a code may be capitals: scheme and host do not mind (RFC 3986 §6.2.2.1), and fewer dots carry them.
fn a_code_reads_as_its_address(project: &Project, commodity: &Value) {
    let png = project.file(text_of(commodity, "qr_png"));
    match Command::new("zbarimg").args(["-q", "--raw"]).arg(png).output() {
        Err(_) => println!("SKIPPED: zbarimg is not installed, no code was scanned"),
        Ok(scanned) => {
            let read = String::from_utf8_lossy(&scanned.stdout).trim().to_ascii_lowercase();
            assert_eq!(read, text_of(commodity, "scan_url").to_ascii_lowercase());
        }
    }
}

fn a_bundle_verifies_with_everything_stopped(project: &Project, commodity: &Value) {
    let auditor = programs_beside_us().unwrap().join("suyuan-auditor");
    let mut command = Command::new(auditor);
    command.arg("verify").arg(project.file(text_of(commodity, "bundle")));
    let verified = command.arg("--trust").arg(project.file(".data/trust.txt")).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
}
