//! What the server is made of, put together once.

use std::{
    io::BufReader,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use actix_web::{App, HttpServer, middleware, web::Data};
use store::{Store, StoreError, party::Party};
use trace::{causes::Causes, tlog::note::SignerKey};
use zeroize::Zeroizing;

use crate::{
    config::Config,
    jobs,
    service::{
        account::{AccountError, Accounts, NewAccount},
        alerts::live::Live,
        attempts::Attempts,
        chains::{self, ChainsError, Configured},
        deliveries::{Deliveries, DeliveriesError},
        devices::provision,
        fsck::{Ask, StepNames},
        intake,
        keys::{KeyFiles, Keys, KeysError, read_secret, read_seed, root},
        ledger::{Ledger, LedgerError},
        profiles::{Profiles, ProfilesError},
        registry::{Registry, RegistryError},
        reports::Reports,
    },
    web::{
        self, guard,
        locale::{LocaleError, Locales},
    },
};

/// A database that does not answer within this time does not answer.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries to reach the database at start: the first pause, which doubles, and the longest.
const DATABASE_PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Shared by every request. One field for each service.
pub struct AppState {
    pub config: Config,
    pub store: Store,
    /// For what the server asks of others: witnesses and chains.
    pub http: reqwest::Client,
    pub locales: Locales,
    pub accounts: Accounts,
    pub reports: Reports,
    /// Devices that ask for credentials, by network.
    pub provisionings: Attempts<IpAddr>,
    pub profiles: Profiles,
    pub keys: Arc<Keys>,
    pub ledger: Arc<Ledger>,
    pub chains: Arc<Vec<Configured>>,
    /// What stands before the parties' own document numbers, with a final slash.
    pub documents: String,
    pub serial_master: Zeroizing<[u8; 32]>,
    /// Devices and keys, for judging packs.
    pub register: intake::Register,
    /// Those who are told of alerts.
    pub deliveries: Deliveries,
    /// Those who have the alerts open.
    pub live: Arc<Live>,
    /// Told after packs were taken: their strict check is due.
    pub packs_arrived: Arc<tokio::sync::Notify>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    #[error("the locales cannot be read")]
    Locales(#[from] LocaleError),
    #[error("the profiles cannot be read")]
    Profiles(#[from] ProfilesError),
    #[error("no file is configured for {0}")]
    NoFile(&'static str),
    #[error("a key cannot be used")]
    Keys(#[from] KeysError),
    #[error("the log key does not hold a signer key")]
    LogKey(#[source] trace::tlog::note::NoteError),
    #[error("the witness policy cannot be read: {0}")]
    Policy(String),
    #[error("the chains cannot be used")]
    Chains(#[from] ChainsError),
    #[error("alerts cannot be told")]
    Deliveries(#[from] DeliveriesError),
    #[error("the log cannot be opened")]
    Ledger(#[from] LedgerError),
    #[error("the operator cannot be registered")]
    Registry(#[from] RegistryError),
    #[error("the operator's account cannot be made")]
    Account(#[from] AccountError),
    #[error("--head is {0}")]
    Head(&'static str),
    #[error("the jobs ended")]
    JobsEnded,
    #[error("the sequencer had to stop")]
    Sequencer(#[source] jobs::sequencer::SequenceError),
    #[error("the certificate or its key cannot be used: {0}")]
    Tls(String),
    #[error("the address cannot be listened on")]
    Listen(#[from] std::io::Error),
}

/// Waits until the database takes a connection: after a power cut the server may be up before it. Each try that fails is logged.
///
/// # Errors
/// Only where no pool can be made: who cannot sign in today may be let in tomorrow.
pub async fn wait_for_database(database_url: &str) -> Result<(), StartError> {
    let store = Store::open(database_url, 1)?;
    let (mut pause, longest) = DATABASE_PAUSES;
    loop {
        match tokio::time::timeout(DATABASE_TIMEOUT, store.connection()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(error = %Causes(&error), "Postgres does not answer: waiting for it");
            }
            Err(_) => tracing::warn!("Postgres does not answer in time: waiting for it"),
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(longest);
    }
}

impl AppState {
    pub async fn open(config: Config) -> Result<Self, StartError> {
        let store = Store::open(&config.database.database_url, config.database.database_connections)?;
        let serial_master =
            read_seed(needed("SUYUAN_SERIAL_MASTER_FILE", config.keys.serial_master_file.as_ref())?)?;
        let keys = Arc::new(open_keys(&config, &store).await?);
        let ledger = Arc::new(open_ledger(&config, store.clone()).await?);
        let http = reqwest::Client::new();
        let chains = match &config.outside.chains_file {
            Some(file) => chains::read(file, &http)?,
            None => Vec::new(),
        };
        Ok(Self {
            accounts: Accounts::new(store.clone(), Arc::clone(&keys)),
            reports: Reports::new(store.clone()),
            provisionings: Attempts::new(provision::OF_ADDRESS),
            keys,
            ledger,
            chains: Arc::new(chains),
            http,
            documents: format!("{}/documents/", config.http.public_base_url.trim_end_matches('/')),
            serial_master,
            register: intake::Register::default(),
            deliveries: Deliveries::read(config.outside.alerts_file.as_deref())?,
            live: Arc::default(),
            packs_arrived: Arc::default(),
            locales: Locales::read(&config.files.locales)?,
            profiles: Profiles::read(&config.files.profiles)?,
            store,
            config,
        })
    }

    /// Why the server should get no traffic now; empty when it is ready.
    pub async fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.store.connection().await.is_err() {
            reasons.push("Postgres does not answer".to_owned());
            return reasons;
        }
        match self.ledger.not_ready().await {
            Ok(more) => reasons.extend(more),
            Err(_) => reasons.push("the log cannot be read".to_owned()),
        }
        reasons
    }

    /// The sampled check of the ledger, where the configuration says how to read it as nobody who could change it.
    pub fn watch(&self) -> Option<jobs::fsck::Watch> {
        let database_url = self.config.database.auditor_database_url.clone()?;
        let mut trust = self.ledger.policy().clone();
        trust.registrars = vec![self.keys.registrar().kid()];
        let steps = StepNames::of(self.profiles.iter().map(AsRef::as_ref));
        let cadence = self.config.cadence;
        Some(jobs::fsck::Watch {
            ask: Arc::new(Ask { database_url, trust, steps, ..Ask::default() }),
            sample: usize::try_from(cadence.integrity_sample).unwrap_or(usize::MAX),
            interval: std::time::Duration::from_secs(cadence.integrity_interval_s.max(1)),
        })
    }
}

fn needed<'a>(name: &'static str, path: Option<&'a PathBuf>) -> Result<&'a Path, StartError> {
    path.map(PathBuf::as_path).ok_or(StartError::NoFile(name))
}

async fn open_keys(config: &Config, store: &Store) -> Result<Keys, StartError> {
    let files = KeyFiles {
        registrar: needed("SUYUAN_REGISTRAR_KEY_FILE", config.keys.registrar_key_file.as_ref())?,
        derivation: needed("SUYUAN_DERIVATION_KEY_FILE", config.keys.derivation_key_file.as_ref())?,
        kek: needed("SUYUAN_KEK_FILE", config.keys.kek_file.as_ref())?,
    };
    Ok(Keys::open(&mut *store.connection().await?, &config.ledger.ledger, files).await?)
}

async fn open_ledger(config: &Config, store: Store) -> Result<Ledger, StartError> {
    let signers = log_signers(config)?;
    let policy = match &config.outside.witness_policy_file {
        None => trace::tlog::policy::Policy::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| StartError::Policy(error.to_string()))?;
            text.parse()
                .map_err(|error: trace::tlog::policy::PolicyError| StartError::Policy(error.to_string()))?
        }
    };
    Ok(Ledger::open(store, &config.ledger.log_host, &config.ledger.ledger, signers, policy).await?)
}

/// The log keys, from files or from the environment.
fn log_signers(config: &Config) -> Result<Vec<SignerKey>, StartError> {
    let mut texts: Vec<Zeroizing<String>> =
        config.keys.log_key_file.iter().map(|path| read_secret(path)).collect::<Result<_, _>>()?;
    texts.extend(config.keys.log_key.clone().map(Zeroizing::new));
    if texts.is_empty() {
        return Err(StartError::NoFile("SUYUAN_LOG_KEY_FILE"));
    }
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty());
    lines.map(|line| line.trim().parse().map_err(StartError::LogKey)).collect()
}

/// Who the operator is, and how they sign in first.
#[derive(Clone, Copy)]
pub struct FirstOperator<'a> {
    pub slug: &'a str,
    pub name: &'a str,
    pub pgln: &'a str,
    pub login: &'a str,
    pub password: &'a str,
}

/// Registers the operator of an empty ledger and its first account. Run again, it changes nothing.
pub async fn found(config: Config, first: FirstOperator<'_>) -> Result<Party, StartError> {
    let state = AppState::open(config).await?;
    let registry = Registry {
        store: &state.store,
        keys: &state.keys,
        profiles: &state.profiles,
        gsrn_prefix: &state.config.identifiers.gsrn_prefix,
        documents: &state.documents,
    };
    let operator = registry.found(first.slug, first.name, first.pgln).await?;
    let account = NewAccount {
        party_id: operator.id,
        person_id: None,
        login: first.login,
        password: first.password,
        roles: vec!["operator".to_owned()],
        locale: "zh-CN",
    };
    match state.accounts.create(account).await {
        Ok(_) | Err(AccountError::LoginTaken) => Ok(operator),
        Err(error) => Err(error.into()),
    }
}

/// Replaces the key-encryption key of a database; `database_url` is its owner's.
pub async fn reseal(database_url: &str, old: &Path, new: &Path) -> Result<(), StartError> {
    let store = Store::open(database_url, 1)?;
    let (old, new) = (root::read_kek(old)?, root::read_kek(new)?);
    Ok(root::reseal(&mut *store.connection().await?, &old, &new).await?)
}

/// Starts the jobs; answers only when the server must stop because of one.
pub async fn run_jobs(state: Arc<AppState>) -> StartError {
    let vouched = match state.config.ledger.head.as_deref().map(str::parse).transpose() {
        Ok(vouched) => vouched,
        Err(problem) => return StartError::Head(problem),
    };
    let (http, chains) = (state.http.clone(), Arc::clone(&state.chains));
    let cadence = state.config.cadence;
    let seconds = |seconds: u64| std::time::Duration::from_secs(seconds.max(1));
    let interval = std::time::Duration::from_millis(cadence.checkpoint_interval_ms.max(1));
    let ledger = || Arc::clone(&state.ledger);
    let witnesses = jobs::witnesses::run(ledger(), http.clone(), seconds(cadence.witness_interval_s));
    let roster = jobs::roster::run(ledger(), Arc::clone(&state.keys), seconds(cadence.roster_interval_s));
    let strict_check = jobs::strict_check::run(state.store.clone(), Arc::clone(&state.packs_arrived));
    let anchors = jobs::anchor::run(ledger(), Arc::clone(&chains), seconds(cadence.anchor_interval_s));
    let readings = jobs::readings::run(state.store.clone(), cadence.readings_kept_days);
    let conditions = jobs::conditions::run(Arc::clone(&state), cadence.conditions_window_s);
    let integrity = jobs::fsck::run(state.store.clone(), state.watch());
    let alerts = jobs::alerts::run(Arc::clone(&state));
    let deliveries = jobs::deliveries::run(Arc::clone(&state));
    let sequencer = jobs::sequencer::run(
        ledger(),
        Arc::clone(&state.keys),
        interval,
        jobs::sequencer::Guard { http, chains, vouched },
    );
    tokio::select! {
        lost = sequencer => StartError::Sequencer(lost),
        _ = async { tokio::join!(witnesses, roster, strict_check, anchors, conditions, readings, integrity, alerts, deliveries) } => StartError::JobsEnded,
    }
}

/// Listens until the process is told to stop; requests under way are finished.
pub async fn serve(state: Arc<AppState>) -> Result<(), StartError> {
    let http = state.config.http.clone();
    let shared = Data::from(state);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .wrap(middleware::from_fn(guard::guard))
            .wrap(middleware::Compress::default())
            .configure(web::configure)
    })
    .workers(http.http_workers.max(1))
    .shutdown_timeout(10);
    let server = server.bind(http.listen)?;
    let server = match (http.tls_listen, &http.tls_cert_file, &http.tls_key_file) {
        (Some(address), Some(certificate), Some(key)) => {
            server.bind_rustls_0_23(address, tls(certificate, key)?)?
        }
        _ => server,
    };
    tracing::info!(address = %http.listen, "serving");
    Ok(server.run().await?)
}

fn tls(certificate: &Path, key: &Path) -> Result<rustls::ServerConfig, StartError> {
    let open = |path: &Path| std::fs::File::open(path).map(BufReader::new);
    let chain = rustls_pemfile::certs(&mut open(certificate)?).collect::<Result<Vec<_>, _>>()?;
    let key = rustls_pemfile::private_key(&mut open(key)?)?
        .ok_or_else(|| StartError::Tls("no private key in the file".to_owned()))?;
    rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError::Tls(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| StartError::Tls(error.to_string()))
}
