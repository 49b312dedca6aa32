//! A farm that is served, for those who look at its log from outside.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use auditor::mirror::{Mirror, Source};
use chrono::Utc;
use server::{
    app::AppState,
    jobs::{
        sequencer::{Sequencer, seal::announce},
        witnesses::Asker,
    },
    service::{keys::write_secret, ledger::LogState, proof},
};
use store::ledger as rows;
use trace::{
    bundle::Bundle,
    keys::SecretKey,
    tlog::{
        note::{SignerKey, VerifierKey},
        policy::Policy,
    },
};

use crate::{database, farm::Farm, house, served, witnessing::Witness};

pub const OLD: &str = "localhost/suyuan/2026";
pub const NEW: &str = "localhost/suyuan/2027";
const PATIENCE: Duration = Duration::from_secs(5);

pub fn signer(origin: &str, seed: u8) -> SignerKey {
    SignerKey { name: origin.parse().unwrap(), secret: SecretKey::from_seed(&[seed; 32]) }
}

/// The key with which a house signs the old log.
pub fn old_log() -> VerifierKey {
    signer(OLD, 4).verifier()
}

/// What an operator adds to the command line who has the next logs' keys, and whose heads a witness sees.
fn told(directory: &Path, next: &[SignerKey], witness: Option<&Witness>) -> Vec<String> {
    let mut told = Vec::new();
    for (number, next) in next.iter().enumerate() {
        let key = directory.join(format!("next-log.{number}.key"));
        write_secret(&key, &next.to_secret_text()).unwrap();
        told.extend(["--log-key-file".to_owned(), key.display().to_string()]);
    }
    if let Some(witness) = witness {
        let policy = directory.join("policy");
        let text = format!("witness w1 {} {}\nquorum w1\n", Witness::key(1), witness.url);
        std::fs::write(&policy, text).unwrap();
        told.extend(["--witness-policy-file".to_owned(), policy.display().to_string()]);
    }
    told
}

/// A farm that is served, and its files.
pub struct Site {
    pub farm: Farm,
    pub url: String,
    pub database: String,
    pub directory: PathBuf,
    pub witness: Option<Witness>,
}

impl Site {
    /// `None`, loudly, without a cluster.
    pub async fn open(name: &str, next: &[SignerKey], is_witnessed: bool) -> Option<Self> {
        let database = database::fresh(name).await?;
        let directory =
            std::env::temp_dir().join(format!("suyuan-mirrored-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&directory).unwrap();
        let logs = std::iter::once(old_log()).chain(next.iter().map(SignerKey::verifier)).collect();
        let witness = is_witnessed.then(|| Witness::start(1, logs, None));
        let state = house::state_told(&database, &told(&directory, next, witness.as_ref())).await;
        let farm = Farm::begin(state).await;
        let url = served::listen(&farm.state);
        Some(Self { farm, url, database, directory, witness })
    }

    /// What waits is logged, and shown to the witness.
    async fn log(&mut self) {
        self.farm.log().await;
        if self.witness.is_some() {
            let mut asker = asker(&self.farm.state).await;
            asker.ask_all(PATIENCE).await.unwrap();
        }
    }

    pub async fn harvest(&mut self, lot: &str) {
        self.farm.harvest(lot).await;
        self.log().await;
    }

    pub async fn announce(&mut self, next: &SignerKey) {
        let state = &self.farm.state;
        announce(&state.ledger, &state.keys, &next.verifier(), Utc::now()).await.unwrap();
        self.log().await;
    }

    /// The year ends: the open log is sealed, the announced one opened.
    pub async fn seal(self) -> Self {
        let Farm { state, sequencer } = self.farm;
        let mut conn = state.store.connection().await.unwrap();
        state.ledger.refresh(&mut conn).await.unwrap();
        let next = state.ledger.logs().iter().find(|log| log.state == LogState::Announced).cloned().unwrap();
        sequencer.seal(&state.keys, &next).await.unwrap();
        let sequencer = lead(&state).await;
        let mut site = Self { farm: Farm { state, sequencer }, ..self };
        site.log().await;
        site
    }

    /// Entries of the open log.
    pub async fn size(&self) -> u64 {
        let mut conn = self.farm.state.store.connection().await.unwrap();
        let ledger = &self.farm.state.ledger;
        ledger.head(&mut conn, ledger.open_log().id).await.unwrap().0
    }

    /// Whom a reader believes who has heard of the old log's key only.
    pub fn trust(&self, more: &str) -> Policy {
        let registrar = self.farm.state.keys.registrar().kid();
        format!("log {}\n{more}registrar {registrar}\n", old_log()).parse().unwrap()
    }

    pub fn witness_line(&self) -> String {
        format!("witness w1 {} {}\n", Witness::key(1), self.witness.as_ref().unwrap().url)
    }

    pub fn copy(&self) -> PathBuf {
        self.directory.join("copy")
    }

    /// What a reader gets who asks which log follows the first one.
    pub async fn next_log(&self) -> Bundle {
        let mut conn = self.farm.state.store.connection().await.unwrap();
        let first = rows::logs(&mut conn).await.unwrap().remove(0);
        let state = &self.farm.state;
        proof::of_next_log(&mut conn, &state.ledger, &state.keys, first.id).await.unwrap()
    }
}

/// Postgres frees a lock a moment after its connection is gone.
pub async fn lead(state: &AppState) -> Sequencer {
    for _ in 0..500 {
        if let Some(sequencer) = Sequencer::lead(Arc::clone(&state.ledger)).await.unwrap() {
            return sequencer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("another leads");
}

async fn asker(state: &AppState) -> Asker<'_> {
    for _ in 0..500 {
        if let Some(asker) = Asker::lead(&state.ledger, reqwest::Client::new()).await.unwrap() {
            return asker;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("another asks");
}

pub fn mirror<'a>(url: &'a str, directory: &'a Path, trust: &'a Policy) -> Mirror<'a> {
    Mirror {
        source: Source { url, http: reqwest::Client::new() },
        directory,
        trust,
        rpc: None,
        confirmations: 0,
        opened: None,
        witness_lead: Duration::ZERO,
        records: None,
    }
}
