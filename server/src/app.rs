//! What the server is made of, put together once.

use std::{io::BufReader, path::Path, sync::Arc};

use actix_web::{App, HttpServer, middleware, web::Data};
use store::{Store, StoreError};

use crate::{
    config::{self, Config, SecretError},
    service::{
        account::Accounts,
        profiles::{Profiles, ProfilesError},
    },
    web::{
        self, guard,
        locale::{LocaleError, Locales},
    },
};

/// Shared by every request. One field for each service.
pub struct AppState {
    pub config: Config,
    pub store: Store,
    pub locales: Locales,
    pub accounts: Accounts,
    pub profiles: Profiles,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    #[error("the locales cannot be read")]
    Locales(#[from] LocaleError),
    #[error("the profiles cannot be read")]
    Profiles(#[from] ProfilesError),
    #[error("a secret is missing")]
    Secret(#[from] SecretError),
    #[error("the certificate or its key cannot be used: {0}")]
    Tls(String),
    #[error("the address cannot be listened on")]
    Listen(#[from] std::io::Error),
}

impl AppState {
    pub fn open(config: Config) -> Result<Self, StartError> {
        let store = Store::open(&config.database.database_url, config.database.database_connections)?;
        let kek = config::secret_seed("SUYUAN_KEK_FILE", config.keys.kek_file.as_ref())?;
        Ok(Self {
            locales: Locales::read(&config.files.locales)?,
            accounts: Accounts::new(store.clone(), &kek),
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
        }
        reasons
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
    let server = match (&http.tls_cert_file, &http.tls_key_file) {
        (Some(certificate), Some(key)) => server.bind_rustls_0_23(http.listen, tls(certificate, key)?)?,
        _ => server.bind(http.listen)?,
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
