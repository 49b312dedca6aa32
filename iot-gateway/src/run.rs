//! Puts the parts together: register, source, batches, metrics; and takes them down in order.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use trace::{b64, keys::SecretKey};

use crate::{
    admin,
    batch::{self, Uplink},
    config::{self, Config, NotABroker, SourceKind},
    descriptors,
    enrol::Enroller,
    intake::Intake,
    metrics::Metrics,
    register::Fetcher,
    replay::Replayer,
    source::{
        Source as _, SourceError,
        guests::Limits,
        listen::Listen,
        subscribe::{Purpose, Subscribe},
    },
    uplink::Signer,
};

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{path}")]
    File { path: PathBuf, source: io::Error },
    #[error("{0} is not 32 bytes in base64url")]
    Key(PathBuf),
    #[error("{0} is empty")]
    Empty(PathBuf),
    #[error("the HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("listening on {address}")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    #[error("TLS")]
    Tls(#[from] rustls::Error),
    #[error("no private key in {0}")]
    NoTlsKey(PathBuf),
    #[error("MQTT_URL is needed to subscribe")]
    NoBroker,
    #[error("MQTT_URL")]
    Broker(#[from] NotABroker),
    #[error("a gateway of source `listen` leaves nothing behind: there is nothing to drain")]
    NothingToDrain,
    #[error("the source of messages")]
    Source(#[from] SourceError),
    #[error("no random bytes")]
    Random,
}

/// Runs until `stop` turns true and everything taken is answered for, or its time is over.
pub async fn run(config: Config, purpose: Purpose, stop: watch::Receiver<bool>) -> Result<(), RunError> {
    let metrics = Arc::new(Metrics::default());
    let token = read_line(&config.token_file)?;
    let signer = Signer { key: read_key(&config.key_file)?, pen: config.pen };
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(config.post_timeout_s))
        .connect_timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(RunError::Client)?;
    let base = config.server_url.trim_end_matches('/');

    let url = format!("{base}/api/v1/gateway/register");
    let mut fetcher = Fetcher::new(client.clone(), url, token.clone(), metrics.clone());
    fetcher.copy_file.clone_from(&config.register_file);
    fetcher.interval = Duration::from_secs(config.register_interval_s);
    let (registry, following) = fetcher.start();
    let following = Task(tokio::spawn(following));

    let (intake, waiting) = Intake::new(registry, signer, metrics.clone());
    let enroller = Enroller {
        client: client.clone(),
        base_url: base.to_owned(),
        token: token.clone(),
        key: read_key(&config.key_file)?,
    };
    let replayer = Replayer {
        client: client.clone(),
        url: format!("{base}/api/v1/gateway/replays"),
        token: token.clone(),
        interval: Duration::from_secs(config.register_interval_s),
        intake: intake.clone(),
    };
    let replays = Task(tokio::spawn(replayer.run()));
    let uplink = Uplink {
        client,
        url: format!("{base}/api/v1/packs"),
        token,
        retry_first: Duration::from_millis(100),
        retry_max: Duration::from_secs(5),
        metrics: metrics.clone(),
    };
    let batches = Task(tokio::spawn(async move {
        enroller.until_enrolled().await;
        batch::run(uplink, waiting).await;
    }));
    let admin = match config.admin_listen {
        None => None,
        Some(address) => {
            let listener =
                TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
            Some(Task(tokio::spawn(admin::serve(listener, metrics))))
        }
    };
    let result = take_messages(&config, purpose, intake, stop).await;
    drop((following, replays, batches, admin));
    tracing::info!("stopped");
    result
}

/// Ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn take_messages(
    config: &Config,
    purpose: Purpose,
    intake: Intake,
    stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let drain = Duration::from_secs(config.drain_s);
    match config.source {
        SourceKind::Listen if purpose == Purpose::Drain => Err(RunError::NothingToDrain),
        SourceKind::Listen => {
            descriptors::make_room(config.listen.mqtt_connections_max);
            let address = config.listen.mqtt_listen;
            let listener = std::net::TcpListener::bind(address)
                .map_err(|source| RunError::Listen { address, source })?;
            tracing::info!(%address, "MQTT endpoint");
            let listen = Listen {
                listener,
                threads: config.listen.mqtt_threads,
                limits: Limits {
                    connections: config.listen.mqtt_connections_max,
                    device_connections: config.listen.mqtt_device_connections_max,
                    messages_per_s: config.listen.mqtt_device_messages_s,
                    bytes_per_s: config.listen.mqtt_device_bytes_s,
                },
                keep_alive_max: config.listen.mqtt_keep_alive_max_s,
                tls: tls(config)?,
                drain,
            };
            Ok(listen.run(intake, stop).await?)
        }
        SourceKind::Subscribe => {
            let (host, port) =
                config::broker(config.subscribe.mqtt_url.as_deref().ok_or(RunError::NoBroker)?)?;
            let password = config.subscribe.mqtt_password_file.as_deref().map(read_line).transpose()?;
            let subscribe = Subscribe {
                host,
                port,
                client_id: config.subscribe.mqtt_client_id.clone(),
                credentials: config.subscribe.mqtt_user.clone().zip(password),
                share: config.subscribe.mqtt_share.clone(),
                purpose,
                keep_alive: Duration::from_secs(config.subscribe.mqtt_keep_alive_s),
                drain,
            };
            Ok(subscribe.run(intake, stop).await?)
        }
    }
}

fn tls(config: &Config) -> Result<Option<Arc<rustls::ServerConfig>>, RunError> {
    let (Some(cert), Some(key)) = (&config.listen.mqtt_tls_cert_file, &config.listen.mqtt_tls_key_file)
    else {
        return Ok(None);
    };
    let pem = read(cert)?;
    let chain = rustls_pemfile::certs(&mut pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|source| RunError::File { path: cert.clone(), source })?;
    let pem = read(key)?;
    let private = rustls_pemfile::private_key(&mut pem.as_bytes());
    let private = private.map_err(|source| RunError::File { path: key.clone(), source })?;
    let private = private.ok_or_else(|| RunError::NoTlsKey(key.clone()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    Ok(Some(Arc::new(server)))
}

fn read(path: &Path) -> Result<String, RunError> {
    fs::read_to_string(path).map_err(|source| RunError::File { path: path.to_owned(), source })
}

fn read_line(path: &Path) -> Result<String, RunError> {
    let line = read(path)?.trim().to_owned();
    if line.is_empty() { Err(RunError::Empty(path.to_owned())) } else { Ok(line) }
}

fn read_key(path: &Path) -> Result<SecretKey, RunError> {
    let seed = b64::from_url(&read_line(path)?).ok().and_then(|seed| <[u8; 32]>::try_from(seed).ok());
    Ok(SecretKey::from_seed(&seed.ok_or_else(|| RunError::Key(path.to_owned()))?))
}

/// Writes a new seed to `path`, which must not exist, and returns the public key in base64url.
pub fn keygen(path: &Path) -> Result<String, RunError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| RunError::Random)?;
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(format!("{}\n", b64::url(&seed)).as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| RunError::File { path: path.to_owned(), source })?;
    Ok(b64::url(SecretKey::from_seed(&seed).public().as_bytes()))
}
