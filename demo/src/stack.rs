//! Everything that a running Suyuan is made of, started in order on one machine: Postgres, keys, chain, witness, server,
//! gateway.

mod options;

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    chain::{self, DevChain, DevChainError},
    lan::{Lan, LanError},
    postgres::{Cluster, PostgresError},
    process::Running,
    season::{Addresses, Endpoint, Word},
};

pub use self::options::{Options, Ports};
const READY_PATIENCE: Duration = Duration::from_mins(1);
const HELP_PHONE: &str = "0771-000 0000";
const LEDGER: &str = "suyuan-demo";
/// GS1's example prefix 952: nothing that it numbers exists.
const OPERATOR_PGLN: &str = "9521234000006";
pub const OPERATOR_LOGIN: &str = "operator";

#[derive(Debug, thiserror::Error)]
pub enum StackError {
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(transparent)]
    Chain(#[from] DevChainError),
    #[error(transparent)]
    Lan(#[from] LanError),
    #[error("port {port} ({what}) is taken: stop what listens there, or give another with --{option}")]
    PortTaken { port: u16, what: &'static str, option: &'static str },
    #[error("{0}")]
    Io(String, #[source] io::Error),
    #[error("{program} failed: {said}")]
    Program { program: String, said: String },
    #[error("{0} did not become ready; see {1}")]
    NotReady(&'static str, PathBuf),
    #[error("the server refused")]
    Http(#[from] reqwest::Error),
    #[error("the proof of {0} was answered {1}")]
    NoProof(String, reqwest::StatusCode),
    #[error("the server answered {0} where a token was asked for")]
    NoToken(reqwest::StatusCode),
}

/// A running house. Dropping it stops gateway, server, witness, chain and Postgres, in this order.
pub struct Stack {
    pub options: Options,
    pub gateway: Option<Running>,
    pub server: Option<Running>,
    pub witness: Option<Running>,
    pub chain: Option<DevChain>,
    pub cluster: Option<Cluster>,
    pub lan: Option<Lan>,
    pub operator_password: String,
    year: i32,
}

impl Drop for Stack {
    fn drop(&mut self) {
        drop(self.gateway.take());
        drop(self.server.take());
        drop(self.witness.take());
        drop(self.chain.take());
        drop(self.cluster.take());
    }
}

impl Stack {
    /// Starts what is not yet there. Called again on the same data, it goes on where it stopped.
    pub async fn start(options: Options, say: &mut (dyn FnMut(&str) + Send)) -> Result<Self, StackError> {
        make_private_directory(&options.data)?;
        options.ports_are_free()?;
        let lan = options.lan_port.map(|_| Lan::open(&options.data, options.lan_address)).transpose()?;
        let cluster = if options.database_url.is_some() {
            None
        } else {
            let home = options.data.join("postgres");
            Some(tokio::task::block_in_place(|| Cluster::start(&home, say))?)
        };
        let year = chrono::Datelike::year(&chrono::Utc::now());
        let mut stack = Self {
            options,
            gateway: None,
            server: None,
            witness: None,
            chain: None,
            cluster,
            lan,
            operator_password: String::new(),
            year,
        };
        say("bringing the database up to date");
        let url = stack.database_url("migrator");
        stack.suyuan(&["migrate"], &[("DATABASE_URL", url)])?;
        stack.make_keys()?;
        stack.start_chain(say).await?;
        stack.start_witness().await?;
        stack.found_operator()?;
        say("starting the server");
        stack.start_server().await?;
        stack.start_gateway().await?;
        Ok(stack)
    }

    /// What has ended by itself, while nobody told it to.
    pub fn ended(&mut self) -> Option<String> {
        let node = self.chain.as_mut().and_then(|chain| chain.node.as_mut());
        let parts = [self.gateway.as_mut(), self.server.as_mut(), self.witness.as_mut(), node];
        let postgres = self.cluster.as_mut().is_some_and(|cluster| !cluster.is_alive());
        let ended =
            parts.into_iter().flatten().find_map(|part| (!part.is_alive()).then(|| part.name.clone()));
        ended.or_else(|| postgres.then(|| "postgres".to_owned()))
    }

    pub fn base_url(&self) -> String {
        format!("http://localhost:{}", self.options.http_port)
    }

    /// What printed codes lead to: phones' address where they are served.
    pub fn public_url(&self) -> String {
        match (&self.lan, self.options.lan_port) {
            (Some(lan), Some(port)) => format!("https://{}:{port}", lan.address),
            _ => self.base_url(),
        }
    }

    pub fn checkpoint_url(&self) -> String {
        let origin = self.origin();
        let path = origin.split_once('/').map_or("", |(_, path)| path);
        format!("{}/{path}/checkpoint", self.base_url())
    }

    /// Where the season goes in.
    pub fn addresses(&self) -> Addresses {
        let url = self.mqtt_url();
        let place = url.split_once("://").map_or(url.as_str(), |(_, place)| place);
        let (host, port) = place.trim_end_matches('/').split_once(':').unwrap_or((place, "1883"));
        let committed_by = if self.options.mqtt_url.is_some() { Word::Receipt } else { Word::Puback };
        Addresses {
            base_url: self.base_url(),
            public_url: self.public_url(),
            devices: Endpoint { host: host.to_owned(), port: port.parse().unwrap_or(1883), committed_by },
            operator_login: OPERATOR_LOGIN.to_owned(),
            operator_password: self.operator_password.clone(),
            state_file: self.file("season.json"),
        }
    }

    pub fn mqtt_url(&self) -> String {
        let own = || format!("mqtt://127.0.0.1:{}", self.options.mqtt_port);
        self.options.mqtt_url.clone().unwrap_or_else(own)
    }

    /// The log of the year in which the demo was first started.
    pub fn origin(&self) -> String {
        origin(self.year)
    }

    /// The one that follows it once it is announced: everybody is ready for it.
    pub fn next_origin(&self) -> String {
        origin(self.year + 1)
    }

    pub const fn operator_login(&self) -> &'static str {
        OPERATOR_LOGIN
    }

    pub fn database_url(&self, role: &str) -> String {
        match (&self.options.database_url, &self.cluster) {
            (Some(url), _) => url.clone(),
            (None, Some(cluster)) => cluster.url(role, "suyuan"),
            (None, None) => String::new(),
        }
    }

    /// A file of the demo's own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.options.data.join(name)
    }

    pub fn log_vkey(&self) -> Result<String, StackError> {
        self.suyuan(&["keys", "vkey", &self.file("log.key").display().to_string()], &[])
    }

    pub fn next_log_vkey(&self) -> Result<String, StackError> {
        self.suyuan(&["keys", "vkey", &self.file("next-log.key").display().to_string()], &[])
    }

    /// Seals the log and opens the next one, as on New Year's Eve.
    pub fn end_the_year(&self) -> Result<String, StackError> {
        let now = chrono::Utc::now().to_rfc3339();
        let arguments = ["log", "announce", "--vkey", &self.next_log_vkey()?, "--opens-at", &now];
        self.suyuan(&arguments, &self.server_environment())
    }

    pub fn witness_vkey(&self) -> Result<String, StackError> {
        let file = self.file("witness.key").display().to_string();
        self.program("suyuan-auditor", &["vkey", &file], &[])
    }

    /// Whom the demo's reader trusts: written for `suyuan-auditor verify --trust`.
    pub fn write_trust(&self) -> Result<PathBuf, StackError> {
        let registrar = self.file("registrar.key").display().to_string();
        let registrar = self.suyuan(&["keys", "thumbprint", &registrar], &[])?;
        let text = format!(
            "log {}\nwitness regulator {}\nquorum regulator\nregistrar {registrar}\n{}",
            self.log_vkey()?,
            self.witness_vkey()?,
            self.chain.as_ref().map_or_else(String::new, |chain| {
                format!("chain {} {:#x}\n", chain.chain_id, chain.contract)
            }),
        );
        let path = self.file("trust.txt");
        fs::write(&path, text).map_err(|error| io_error(&path, error))?;
        Ok(path)
    }

    /// Downloads the proof of a lot's story and checks it with the auditor, until it is valid: the newest statement waits for
    /// its cosignature, for the roster after it and for its place on the chain.
    pub async fn valid_bundle(&self, lot_path: &str, name: &str) -> Result<PathBuf, StackError> {
        let trust = self.write_trust()?.display().to_string();
        let file = self.file(&format!("{name}.bundle"));
        let until = Instant::now() + READY_PATIENCE;
        loop {
            let answer = reqwest::get(format!("{}/proof/lot{lot_path}", self.base_url())).await?;
            let status = answer.status();
            let text = answer.text().await?;
            let whole = self.chain.is_none() || text.lines().any(|line| line.starts_with("anchor "));
            if status.is_success() && (whole || Instant::now() > until) {
                fs::write(&file, text).map_err(|error| io_error(&file, error))?;
                let arguments = ["verify", &file.display().to_string(), "--trust", &trust];
                let verdict = self.program("suyuan-auditor", &arguments, &[]);
                if verdict.is_ok() || Instant::now() > until {
                    return verdict.map(|_| file);
                }
            } else if Instant::now() > until {
                return Err(StackError::NoProof(lot_path.to_owned(), status));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Each key is made once; a second run finds it.
    fn make_keys(&mut self) -> Result<(), StackError> {
        let (log, next) = (self.file("log.key"), self.file("next-log.key"));
        if log.exists() {
            self.year = year_of(&self.log_vkey()?).unwrap_or(self.year);
        }
        for (file, origin) in [(log, self.origin()), (next, self.next_origin())] {
            if !file.exists() {
                self.suyuan(&["keys", "log", "--origin", &origin, &file.display().to_string()], &[])?;
            }
        }
        let seeds = ["registrar", "derivation", "kek", "serial", "gateway", "chain", "chain-regulator"];
        for name in seeds.map(|name| format!("{name}.key")) {
            let path = self.file(&name);
            if !path.exists() {
                self.suyuan(&["keys", "seed", &path.display().to_string()], &[])?;
            }
        }
        let witness = self.file("witness.key");
        if !witness.exists() {
            let file = witness.display().to_string();
            self.program("suyuan-auditor", &["keygen", "--name", "regulator.example/witness", &file], &[])?;
            // Once, with the key: a witness whose state was lost does not start.
            let state = self.file("witness").display().to_string();
            let (log, next) = (self.log_vkey()?, self.next_log_vkey()?);
            let init = ["witness", "--key", &file, "--state", &state, "--init"];
            self.program("suyuan-auditor", &[&init[..], &["--log", &log, "--log", &next]].concat(), &[])?;
        }
        let password = self.file("operator.password");
        if !password.exists() {
            let mut random = [0; 15];
            getrandom::fill(&mut random)
                .map_err(|_| StackError::Io("no randomness".to_owned(), io::Error::other("getrandom")))?;
            write_private(&password, &trace::b64::url(&random))
                .map_err(|error| io_error(&password, error))?;
        }
        let text = fs::read_to_string(&password).map_err(|error| io_error(&password, error))?;
        text.trim_end().clone_into(&mut self.operator_password);
        let policy = format!(
            "log {}\nwitness regulator {} http://127.0.0.1:{}\nquorum regulator\n",
            self.log_vkey()?,
            self.witness_vkey()?,
            self.options.witness_port
        );
        let path = self.file("witnesses.policy");
        fs::write(&path, policy).map_err(|error| io_error(&path, error))
    }

    fn server_environment(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.file(name).display().to_string();
        let mut environment = vec![
            ("DATABASE_URL", self.database_url("app")),
            ("SUYUAN_AUDITOR_DATABASE_URL", self.database_url("auditor")),
            ("SUYUAN_INTEGRITY_INTERVAL_S", "60".to_owned()),
            // A phone of the room gets the scan page and the bundle in clear; signing in needs --lan.
            ("SUYUAN_LISTEN", format!("0.0.0.0:{}", self.options.http_port)),
            ("SUYUAN_PUBLIC_BASE_URL", self.public_url()),
            ("SUYUAN_HELP_PHONE", HELP_PHONE.to_owned()),
            ("SUYUAN_LEDGER", LEDGER.to_owned()),
            ("SUYUAN_LOG_HOST", "localhost".to_owned()),
            ("SUYUAN_LOG_KEY_FILE", format!("{},{}", file("log.key"), file("next-log.key"))),
            ("SUYUAN_REGISTRAR_KEY_FILE", file("registrar.key")),
            ("SUYUAN_DERIVATION_KEY_FILE", file("derivation.key")),
            ("SUYUAN_KEK_FILE", file("kek.key")),
            ("SUYUAN_SERIAL_MASTER_FILE", file("serial.key")),
            ("SUYUAN_WITNESS_POLICY_FILE", file("witnesses.policy")),
            ("SUYUAN_PROFILES", self.options.root.join("profiles").display().to_string()),
            ("SUYUAN_LOCALES", self.options.root.join("locales").display().to_string()),
            ("SUYUAN_WITNESS_INTERVAL_S", "1".to_owned()),
            ("SUYUAN_ROSTER_INTERVAL_S", "2".to_owned()),
            ("SUYUAN_CHAINS_FILE", file("chains.toml")),
            ("SUYUAN_ANCHOR_INTERVAL_S", "2".to_owned()),
            ("SUYUAN_CONDITIONS_WINDOW_S", (6 * 3_600).to_string()),
        ];
        if let (Some(lan), Some(port)) = (&self.lan, self.options.lan_port) {
            environment.extend([
                ("SUYUAN_TLS_LISTEN", format!("0.0.0.0:{port}")),
                ("SUYUAN_TLS_CERT_FILE", lan.certificate.display().to_string()),
                ("SUYUAN_TLS_KEY_FILE", lan.key.display().to_string()),
            ]);
        }
        environment
    }

    /// Also after a kill.
    pub async fn start_chain(&mut self, say: &mut (dyn FnMut(&str) + Send)) -> Result<(), StackError> {
        let contracts = self.options.root.join("contracts");
        let files = chain::Files {
            contracts: &contracts,
            state: &self.file("chain.state"),
            log: &self.file("chain.log"),
            key: &self.file("chain.key"),
            regulator_key: &self.file("chain-regulator.key"),
            chains: &self.file("chains.toml"),
        };
        let configured = self.options.chain_rpc_url.as_deref();
        let origins = [self.origin(), self.next_origin()];
        let chain = chain::start(&files, self.options.chain_port, configured, &origins, say).await?;
        self.chain = Some(chain);
        Ok(())
    }

    fn found_operator(&self) -> Result<(), StackError> {
        let password = self.file("operator.password").display().to_string();
        let arguments = [
            "operator",
            "init",
            "--name",
            "溯源演示运营方",
            "--pgln",
            OPERATOR_PGLN,
            "--login",
            OPERATOR_LOGIN,
            "--password-file",
            &password,
        ];
        self.suyuan(&arguments, &self.server_environment()).map(drop)
    }

    async fn start_witness(&mut self) -> Result<(), StackError> {
        let mut command = Command::new(self.options.programs.join("suyuan-auditor"));
        command
            .args(["witness", "--listen", &format!("127.0.0.1:{}", self.options.witness_port), "--key"])
            .arg(self.file("witness.key"))
            .arg("--state")
            .arg(self.file("witness"))
            .args(["--log", &self.log_vkey()?, "--log", &self.next_log_vkey()?]);
        let log = self.file("witness.log");
        let running = Running::start("witness", &mut command, &log).map_err(|error| io_error(&log, error))?;
        self.witness = Some(running);
        wait_for_port("witness", self.options.witness_port, &log).await
    }

    /// Also after a kill.
    pub async fn start_server(&mut self) -> Result<(), StackError> {
        let mut command = Command::new(self.options.programs.join("suyuan"));
        command.arg("serve").envs(self.server_environment());
        let log = self.file("server.log");
        let running = Running::start("server", &mut command, &log).map_err(|error| io_error(&log, error))?;
        self.server = Some(running);
        let until = Instant::now() + READY_PATIENCE;
        let ready = format!("{}/health/live", self.base_url());
        loop {
            if reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let alive = self.server.as_mut().is_some_and(Running::is_alive);
            if !alive || Instant::now() > until {
                return Err(StackError::NotReady("the server", log));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Also after a kill. Its token is asked for once.
    pub async fn start_gateway(&mut self) -> Result<(), StackError> {
        let token = self.file("gateway.token");
        if !token.exists() {
            let text = self.gateway_token().await?;
            write_private(&token, &text).map_err(|error| io_error(&token, error))?;
        }
        let mut command = Command::new(self.options.programs.join("suyuan-gateway"));
        command.arg("run").envs([
            ("SUYUAN_SERVER_URL", self.base_url()),
            ("SUYUAN_GATEWAY_TOKEN_FILE", token.display().to_string()),
            ("SUYUAN_GATEWAY_KEY_FILE", self.file("gateway.key").display().to_string()),
            ("SUYUAN_MQTT_LISTEN", format!("127.0.0.1:{}", self.options.mqtt_port)),
            ("SUYUAN_GATEWAY_REGISTER_INTERVAL_S", "1".to_owned()),
        ]);
        if let Some(url) = &self.options.mqtt_url {
            command.envs([("SUYUAN_GATEWAY_SOURCE", "subscribe"), ("MQTT_URL", url)]);
        }
        let log = self.file("gateway.log");
        let running = Running::start("gateway", &mut command, &log).map_err(|error| io_error(&log, error))?;
        self.gateway = Some(running);
        match self.options.mqtt_url {
            Some(_) => Ok(()),
            None => wait_for_port("gateway", self.options.mqtt_port, &log).await,
        }
    }

    async fn gateway_token(&self) -> Result<String, StackError> {
        let (client, cookie) = self.operator_session().await?;
        let base = self.base_url();
        let body = json!({"party": "operator", "label": "demo gateway", "scopes": ["gateway"]});
        let request = client.post(format!("{base}/api/v1/tokens")).header("Origin", &base);
        let answer = request.header("Cookie", cookie).json(&body).send().await?;
        let status = answer.status();
        let answer: Value = answer.json().await?;
        answer.pointer("/token").and_then(Value::as_str).map(str::to_owned).ok_or(StackError::NoToken(status))
    }

    pub async fn operator_session(&self) -> Result<(reqwest::Client, String), StackError> {
        self.session(OPERATOR_LOGIN, &self.operator_password).await
    }

    /// Signs somebody in: a client that follows no redirect, and the session's cookie.
    pub async fn session(
        &self,
        login: &str,
        password: &str,
    ) -> Result<(reqwest::Client, String), StackError> {
        let base = self.base_url();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let credentials = [("login", login), ("password", password)];
        let request = client.post(format!("{base}/sign-in")).header("Origin", &base).form(&credentials);
        let signed_in = request.send().await?;
        let mut cookies = signed_in.headers().get_all("set-cookie").iter();
        let session = cookies.find_map(|cookie| cookie.to_str().ok()?.split(';').next());
        Ok((client, session.unwrap_or_default().to_owned()))
    }

    /// The address printed on the first pack of a coded lot, below the base URL; `None` for a lot without codes.
    pub async fn first_pack(&self, lot_path: &str) -> Result<Option<String>, StackError> {
        let parts: Vec<&str> = lot_path.split('/').collect();
        let ["", "01", gtin, "10", lot] = parts.as_slice() else { return Ok(None) };
        let (client, cookie) = self.operator_session().await?;
        let url = format!("{}/api/v1/lots/{gtin}/{lot}/serials?limit=1", self.base_url());
        let answer = client.get(url).header("Cookie", cookie).send().await?.error_for_status()?;
        let answer: Value = answer.json().await?;
        let serial = answer.pointer("/serials/0").and_then(Value::as_str);
        Ok(serial.map(|serial| format!("/01/{gtin}/21/{serial}")))
    }

    fn suyuan(
        &self,
        arguments: &[&str],
        environment: &[(&'static str, String)],
    ) -> Result<String, StackError> {
        self.program("suyuan", arguments, environment)
    }

    fn program(
        &self,
        program: &str,
        arguments: &[&str],
        environment: &[(&'static str, String)],
    ) -> Result<String, StackError> {
        let path = self.options.programs.join(program);
        let done = Command::new(&path)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .output()
            .map_err(|error| io_error(&path, error))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            return Err(StackError::Program { program: format!("{program} {}", arguments.join(" ")), said });
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }
}

fn origin(year: i32) -> String {
    format!("localhost/{LEDGER}/{year}")
}

fn year_of(vkey: &str) -> Option<i32> {
    let (origin, _) = vkey.split_once('+')?;
    origin.rsplit('/').next()?.parse().ok()
}

async fn wait_for_port(name: &'static str, port: u16, log: &Path) -> Result<(), StackError> {
    let until = Instant::now() + READY_PATIENCE;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if Instant::now() > until {
            return Err(StackError::NotReady(name, log.to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The directory of a test's or a program's sibling binaries.
pub fn programs_beside_us() -> io::Result<PathBuf> {
    let me = std::env::current_exe()?;
    let mut directory = me.parent().unwrap_or(Path::new("."));
    if directory.ends_with("deps") {
        directory = directory.parent().unwrap_or(directory);
    }
    Ok(directory.to_owned())
}

/// Others may walk through (Postgres' user must) but not look.
fn make_private_directory(path: &Path) -> Result<(), StackError> {
    use std::os::unix::fs::PermissionsExt as _;
    let make = || -> io::Result<()> {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o711))
    };
    make().map_err(|error| io_error(path, error))
}

/// Writes a new file that only its owner may read.
pub fn write_private(path: &Path, line: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{line}")
}

fn io_error(path: &Path, error: io::Error) -> StackError {
    StackError::Io(path.display().to_string(), error)
}
