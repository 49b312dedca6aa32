//! What `suyuan` is told at start: one struct per concern; `--help` is the reference. Secrets come as files.

use std::{fmt::Write as _, net::SocketAddr, path::PathBuf};

use clap::Args;

/// Everything `serve` needs.
#[derive(Debug, Clone, Args)]
pub struct Config {
    #[command(flatten)]
    pub http: HttpConfig,
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(flatten)]
    pub ledger: LedgerConfig,
    #[command(flatten)]
    pub keys: KeyConfig,
    #[command(flatten)]
    pub outside: OutsideConfig,
    #[command(flatten)]
    pub cadence: CadenceConfig,
    #[command(flatten)]
    pub files: FileConfig,
    #[command(flatten)]
    pub identifiers: IdentifierConfig,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpConfig {
    /// Address to listen on
    #[arg(long = "listen", env = "SUYUAN_LISTEN", default_value = "127.0.0.1:8460")]
    pub listen: SocketAddr,
    /// What stands before every printed path: scheme and host, no trailing slash
    #[arg(long, env = "SUYUAN_PUBLIC_BASE_URL", default_value = "http://127.0.0.1:8460")]
    pub public_base_url: String,
    /// Telephone number for help, shown on every page
    #[arg(long, env = "SUYUAN_HELP_PHONE", value_parser = telephone)]
    pub help_phone: Option<String>,
    /// Worker threads for requests
    #[arg(long, env = "SUYUAN_HTTP_WORKERS", default_value_t = 4)]
    pub http_workers: usize,
    /// Address to speak TLS on, beside the plain one
    #[arg(long, env = "SUYUAN_TLS_LISTEN", requires_all = ["tls_cert_file", "tls_key_file"])]
    pub tls_listen: Option<SocketAddr>,
    /// PEM certificate chain
    #[arg(long, env = "SUYUAN_TLS_CERT_FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// PEM private key of the certificate
    #[arg(long, env = "SUYUAN_TLS_KEY_FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
}

/// Digits, and what parts them for the eye.
fn telephone(text: &str) -> Result<String, &'static str> {
    let signs = text.chars().all(|sign| sign.is_ascii_digit() || "+-() ".contains(sign));
    let digits = text.chars().filter(char::is_ascii_digit).count();
    if signs && (3..=20).contains(&digits) { Ok(text.to_owned()) } else { Err("not a telephone number") }
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseConfig {
    /// Postgres, as the role `app`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Most connections held at once
    #[arg(long, env = "SUYUAN_DATABASE_CONNECTIONS", default_value_t = 24)]
    pub database_connections: usize,
    /// Postgres, as the read-only role `auditor`: the server checks samples of its own ledger over it, or not at all
    #[arg(long, env = "SUYUAN_AUDITOR_DATABASE_URL", hide_env_values = true)]
    pub auditor_database_url: Option<String>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Ledger")]
pub struct LedgerConfig {
    /// Name of the ledger, for ever: `[a-z][a-z0-9-]*`
    #[arg(long, env = "SUYUAN_LEDGER", default_value = "suyuan")]
    pub ledger: String,
    /// Host in the origin of the logs: `<host>/<ledger>/<year>`
    #[arg(long, env = "SUYUAN_LOG_HOST", default_value = "localhost")]
    pub log_host: String,
    /// Goes on signing from this head although no witness and no chain answers: `SIZE:ROOT`
    #[arg(long, env = "SUYUAN_HEAD")]
    pub head: Option<String>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Keys (each file: one line, mode 0600)")]
pub struct KeyConfig {
    /// Note signers, `PRIVATE+KEY+…`: of the open log and, before the year ends, of the next; separated by commas
    #[arg(long, env = "SUYUAN_LOG_KEY_FILE", value_delimiter = ',')]
    pub log_key_file: Vec<PathBuf>,
    /// The same from a secret in the environment instead of files: one signer a line
    #[arg(long, env = "SUYUAN_LOG_KEY", hide_env_values = true, conflicts_with = "log_key_file")]
    pub log_key: Option<String>,
    /// Seed of the registrar's key
    #[arg(long, env = "SUYUAN_REGISTRAR_KEY_FILE")]
    pub registrar_key_file: Option<PathBuf>,
    /// Seed of the key that signs derived records
    #[arg(long, env = "SUYUAN_DERIVATION_KEY_FILE")]
    pub derivation_key_file: Option<PathBuf>,
    /// Key-encryption key: seals keys and personal data at rest
    #[arg(long, env = "SUYUAN_KEK_FILE")]
    pub kek_file: Option<PathBuf>,
    /// Master of the serial numbers
    #[arg(long, env = "SUYUAN_SERIAL_MASTER_FILE")]
    pub serial_master_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Witnesses, chains, and who is told of alerts")]
pub struct OutsideConfig {
    /// C2SP tlog-policy with the witnesses' URLs
    #[arg(long, env = "SUYUAN_WITNESS_POLICY_FILE")]
    pub witness_policy_file: Option<PathBuf>,
    /// TOML with a `[[chain]]` for each chain to anchor on: `name`, `rpc_url`, `chain_id`, `contract`, `key_file` (seed of
    /// the publishing account), `gas_price_wei` (0 where gas is free), `finality_blocks`; and, if other than usual, `gas_price_max_wei`
    /// (eight times the price), `replace_after_s` (120), `interval_s` (as the heads are anchored elsewhere)
    #[arg(long, env = "SUYUAN_CHAINS_FILE")]
    pub chains_file: Option<PathBuf>,
    /// TOML with a `[[to]]` for each address that is told of a party's alerts: `party`, and `webhook` (an https URL) with
    /// `secret_file` (32 bytes, base64url) or `mail`; `language` (zh-CN). Mail needs `[smtp]`: `from`, and `url_file`, a file with
    /// `smtps://user:secret@host` or `smtp://user:secret@host:587?tls=required`
    #[arg(long, env = "SUYUAN_ALERTS_FILE")]
    pub alerts_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Cadence")]
pub struct CadenceConfig {
    /// Longest wait of a queued leaf for its checkpoint
    #[arg(long, env = "SUYUAN_CHECKPOINT_INTERVAL_MS", default_value_t = 500)]
    pub checkpoint_interval_ms: u64,
    /// How often the witnesses are asked
    #[arg(long, env = "SUYUAN_WITNESS_INTERVAL_S", default_value_t = 10)]
    pub witness_interval_s: u64,
    /// How often a roster is logged where something changed
    #[arg(long, env = "SUYUAN_ROSTER_INTERVAL_S", default_value_t = 3600)]
    pub roster_interval_s: u64,
    /// Length of the windows whose conditions are stated on the lots that lay there
    #[arg(long, env = "SUYUAN_CONDITIONS_WINDOW_S", default_value_t = 86_400, value_parser = clap::value_parser!(i32).range(60..=604_800))]
    pub conditions_window_s: i32,
    /// Days that readings are kept one by one; their packs, hours and days stay
    #[arg(long, env = "SUYUAN_READINGS_KEPT_DAYS", default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    pub readings_kept_days: u64,
    /// How often the head is anchored
    #[arg(long, env = "SUYUAN_ANCHOR_INTERVAL_S", default_value_t = 600)]
    pub anchor_interval_s: u64,
    /// How often a sample of the ledger is checked against the signed bytes
    #[arg(long, env = "SUYUAN_INTEGRITY_INTERVAL_S", default_value_t = 3600)]
    pub integrity_interval_s: u64,
    /// Entries of a sample, drawn over all logs; the newest come on top
    #[arg(long, env = "SUYUAN_INTEGRITY_SAMPLE", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub integrity_sample: u32,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Files")]
pub struct FileConfig {
    /// Directory of the profiles
    #[arg(long, env = "SUYUAN_PROFILES", default_value = "profiles")]
    pub profiles: PathBuf,
    /// Directory of the locales
    #[arg(long, env = "SUYUAN_LOCALES", default_value = "locales")]
    pub locales: PathBuf,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Identifiers")]
pub struct IdentifierConfig {
    /// IANA private enterprise number in device names
    #[arg(long, env = "SUYUAN_PEN", default_value_t = 32473)]
    pub pen: u32,
    /// GS1 prefix of the random numbers that stand for natural persons, at most 9 digits
    #[arg(long, env = "SUYUAN_GSRN_PREFIX", default_value = "9521234")]
    pub gsrn_prefix: String,
}

impl Config {
    /// The effective values, one `NAME=value` a line, secrets masked: what `suyuan config` prints.
    pub fn masked(&self) -> String {
        fn file(path: Option<&PathBuf>) -> String {
            path.map(|path| path.display().to_string()).unwrap_or_default()
        }
        fn files(paths: &[PathBuf]) -> String {
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(",")
        }
        let rows = [
            ("SUYUAN_LISTEN", self.http.listen.to_string()),
            ("SUYUAN_PUBLIC_BASE_URL", self.http.public_base_url.clone()),
            ("SUYUAN_HTTP_WORKERS", self.http.http_workers.to_string()),
            (
                "SUYUAN_TLS_LISTEN",
                self.http.tls_listen.map(|address| address.to_string()).unwrap_or_default(),
            ),
            ("SUYUAN_TLS_CERT_FILE", file(self.http.tls_cert_file.as_ref())),
            ("SUYUAN_TLS_KEY_FILE", file(self.http.tls_key_file.as_ref())),
            ("DATABASE_URL", masked_url(&self.database.database_url)),
            ("SUYUAN_DATABASE_CONNECTIONS", self.database.database_connections.to_string()),
            (
                "SUYUAN_AUDITOR_DATABASE_URL",
                self.database.auditor_database_url.as_deref().map(masked_url).unwrap_or_default(),
            ),
            ("SUYUAN_LEDGER", self.ledger.ledger.clone()),
            ("SUYUAN_LOG_HOST", self.ledger.log_host.clone()),
            ("SUYUAN_HEAD", self.ledger.head.clone().unwrap_or_default()),
            ("SUYUAN_LOG_KEY_FILE", files(&self.keys.log_key_file)),
            ("SUYUAN_LOG_KEY", self.keys.log_key.as_ref().map(|_| "***".to_owned()).unwrap_or_default()),
            ("SUYUAN_REGISTRAR_KEY_FILE", file(self.keys.registrar_key_file.as_ref())),
            ("SUYUAN_DERIVATION_KEY_FILE", file(self.keys.derivation_key_file.as_ref())),
            ("SUYUAN_KEK_FILE", file(self.keys.kek_file.as_ref())),
            ("SUYUAN_SERIAL_MASTER_FILE", file(self.keys.serial_master_file.as_ref())),
            ("SUYUAN_WITNESS_POLICY_FILE", file(self.outside.witness_policy_file.as_ref())),
            ("SUYUAN_CHAINS_FILE", file(self.outside.chains_file.as_ref())),
            ("SUYUAN_ALERTS_FILE", file(self.outside.alerts_file.as_ref())),
            ("SUYUAN_CHECKPOINT_INTERVAL_MS", self.cadence.checkpoint_interval_ms.to_string()),
            ("SUYUAN_WITNESS_INTERVAL_S", self.cadence.witness_interval_s.to_string()),
            ("SUYUAN_ROSTER_INTERVAL_S", self.cadence.roster_interval_s.to_string()),
            ("SUYUAN_CONDITIONS_WINDOW_S", self.cadence.conditions_window_s.to_string()),
            ("SUYUAN_READINGS_KEPT_DAYS", self.cadence.readings_kept_days.to_string()),
            ("SUYUAN_ANCHOR_INTERVAL_S", self.cadence.anchor_interval_s.to_string()),
            ("SUYUAN_INTEGRITY_INTERVAL_S", self.cadence.integrity_interval_s.to_string()),
            ("SUYUAN_INTEGRITY_SAMPLE", self.cadence.integrity_sample.to_string()),
            ("SUYUAN_PROFILES", self.files.profiles.display().to_string()),
            ("SUYUAN_LOCALES", self.files.locales.display().to_string()),
            ("SUYUAN_PEN", self.identifiers.pen.to_string()),
            ("SUYUAN_GSRN_PREFIX", self.identifiers.gsrn_prefix.clone()),
        ];
        let mut text = String::new();
        for (name, value) in rows {
            // Writing to a String cannot fail.
            writeln!(text, "{name}={value}").unwrap_or_default();
        }
        text
    }
}

/// `postgres://user:secret@host/db` → `postgres://user:***@host/db`.
fn masked_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "***".to_owned() };
    let Some((user, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:***@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_database_url_is_not_printed() {
        assert_eq!(masked_url("postgres://app:p@ss@h/db"), "postgres://app:***@h/db");
        assert_eq!(masked_url("postgres://app@%2Frun/db"), "postgres://app@%2Frun/db");
        assert_eq!(masked_url("host=h password=p"), "***");
    }
}
