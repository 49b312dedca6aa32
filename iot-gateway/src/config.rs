//! The gateway's configuration: flags, each with its environment variable; secrets come as files.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// MQTT in, signed packs out to the server. Acknowledges a message only after the server has committed it.
#[derive(Debug, Parser)]
#[command(name = "suyuan-gateway", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take messages until SIGTERM or Ctrl-C, then drain.
    Run(Box<Config>),
    /// Retire a gateway of source `subscribe`: unsubscribe, take what the broker still holds for it, and end its session.
    /// The gateway itself must have stopped.
    Drain(Box<Config>),
    /// Write a new signing key (mode 0600, refuses to overwrite) and print its public key, to be enrolled.
    Keygen {
        /// Where the 32-byte seed goes, as one line of base64url.
        #[arg(long, env = "SUYUAN_GATEWAY_KEY_FILE")]
        key_file: PathBuf,
    },
    /// Print the effective configuration; secrets are named by their files, never shown.
    Config(Box<Config>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SourceKind {
    /// This process is the MQTT endpoint: a PUBACK means committed.
    Listen,
    /// A site's own broker, with manual acknowledgement and receipts.
    Subscribe,
}

#[derive(Debug, Args)]
pub struct Config {
    /// Base URL of the server.
    #[arg(long, env = "SUYUAN_SERVER_URL")]
    pub server_url: String,
    /// File with the API token of scope `gateway`.
    #[arg(long, env = "SUYUAN_GATEWAY_TOKEN_FILE")]
    pub token_file: PathBuf,
    /// File with this gateway's 32-byte signing seed in base64url; see `keygen`.
    #[arg(long, env = "SUYUAN_GATEWAY_KEY_FILE")]
    pub key_file: PathBuf,
    /// Where messages come from.
    #[arg(long, env = "SUYUAN_GATEWAY_SOURCE", value_enum, default_value = "listen")]
    pub source: SourceKind,
    /// Private enterprise number in the base names of packs signed here; the server's own.
    #[arg(long, env = "SUYUAN_PEN", default_value_t = 32473)]
    pub pen: u32,
    #[command(flatten)]
    pub listen: ListenConfig,
    #[command(flatten)]
    pub subscribe: SubscribeConfig,
    /// Address for Prometheus' /metrics and /health/live; none when absent.
    #[arg(long, env = "SUYUAN_GATEWAY_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,
    /// Keeps the last copy of the register here, so that a restart while the server is away admits known devices.
    #[arg(long, env = "SUYUAN_GATEWAY_REGISTER_FILE")]
    pub register_file: Option<PathBuf>,
    /// Seconds between looks at the register; an unknown device brings one at once.
    #[arg(long, env = "SUYUAN_GATEWAY_REGISTER_INTERVAL_S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub register_interval_s: u64,
    /// Seconds that one post to the server may take before it is given up and repeated.
    #[arg(long, env = "SUYUAN_GATEWAY_POST_TIMEOUT_S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub post_timeout_s: u64,
    /// Seconds that stopping waits for what is under way.
    #[arg(long, env = "SUYUAN_GATEWAY_DRAIN_S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub drain_s: u64,
}

/// Source `listen`.
#[derive(Debug, Args)]
pub struct ListenConfig {
    /// Address of the MQTT endpoint.
    #[arg(long, env = "SUYUAN_MQTT_LISTEN", default_value = "127.0.0.1:18830")]
    pub mqtt_listen: SocketAddr,
    /// Connections of all devices; more are refused.
    #[arg(long, env = "SUYUAN_MQTT_CONNECTIONS_MAX", default_value_t = 20_000, value_parser = positive)]
    pub mqtt_connections_max: usize,
    /// Connections of one device; more are refused. A client identifier that comes again replaces its earlier connection.
    #[arg(long, env = "SUYUAN_MQTT_DEVICE_CONNECTIONS_MAX", default_value_t = 4, value_parser = positive)]
    pub mqtt_device_connections_max: usize,
    /// Messages a second that one device may say for long; beyond it they wait, and its socket is not read.
    #[arg(long, env = "SUYUAN_MQTT_DEVICE_MESSAGES_S", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub mqtt_device_messages_s: u32,
    /// The same in bytes of payload.
    #[arg(long, env = "SUYUAN_MQTT_DEVICE_BYTES_S", default_value_t = 1_048_576, value_parser = clap::value_parser!(u32).range(1_024..))]
    pub mqtt_device_bytes_s: u32,
    /// Longest keep-alive in seconds, also for a device that asks for none; after one and a half times as long without a
    /// packet its connection ends.
    #[arg(long, env = "SUYUAN_MQTT_KEEP_ALIVE_MAX_S", default_value_t = 600, value_parser = clap::value_parser!(u16).range(2..=43_200))]
    pub mqtt_keep_alive_max_s: u16,
    /// Threads that serve connections.
    #[arg(long, env = "SUYUAN_MQTT_THREADS", default_value_t = 2, value_parser = positive)]
    pub mqtt_threads: usize,
    /// TLS certificate chain (PEM); with it the endpoint speaks TLS only.
    #[arg(long, env = "SUYUAN_MQTT_TLS_CERT_FILE", requires = "mqtt_tls_key_file")]
    pub mqtt_tls_cert_file: Option<PathBuf>,
    /// TLS private key (PEM).
    #[arg(long, env = "SUYUAN_MQTT_TLS_KEY_FILE", requires = "mqtt_tls_cert_file")]
    pub mqtt_tls_key_file: Option<PathBuf>,
}

fn positive(text: &str) -> Result<usize, std::num::ParseIntError> {
    Ok(text.parse::<std::num::NonZeroUsize>()?.get())
}

/// Source `subscribe`.
#[derive(Debug, Args)]
pub struct SubscribeConfig {
    /// The site's broker, `mqtt://host[:port]`.
    #[arg(long, env = "MQTT_URL", required_if_eq("source", "subscribe"))]
    pub mqtt_url: Option<String>,
    /// Stable client identifier: the broker keeps messages for it while the gateway is away.
    #[arg(long, env = "SUYUAN_MQTT_CLIENT_ID", default_value = "suyuan-gateway")]
    pub mqtt_client_id: String,
    /// Name under which several gateways share what comes (`$share`): each message goes to one of them. One that is not
    /// coming back must be drained, or what the broker had given it stays there.
    #[arg(long, env = "SUYUAN_MQTT_SHARE", value_parser = share_name)]
    pub mqtt_share: Option<String>,
    /// Seconds without a word from the broker after which the gateway asks, and after as many again connects anew.
    #[arg(long, env = "SUYUAN_MQTT_KEEP_ALIVE_S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(5..=600))]
    pub mqtt_keep_alive_s: u64,
    /// User name at the broker.
    #[arg(long, env = "SUYUAN_MQTT_USER", requires = "mqtt_password_file")]
    pub mqtt_user: Option<String>,
    /// File with the password at the broker.
    #[arg(long, env = "SUYUAN_MQTT_PASSWORD_FILE")]
    pub mqtt_password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form mqtt://host[:port]")]
pub struct NotABroker;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a share's name is not empty and has none of / + #")]
pub struct NotAShare;

/// MQTT 5 §4.8.2.
fn share_name(text: &str) -> Result<String, NotAShare> {
    if text.is_empty() || text.contains(['/', '+', '#']) { Err(NotAShare) } else { Ok(text.to_owned()) }
}

/// Host and port of `mqtt://host[:port]`; credentials never stand in a URL.
pub fn broker(url: &str) -> Result<(String, u16), NotABroker> {
    const PORT: u16 = 1883;
    let address = url.strip_prefix("mqtt://").ok_or(NotABroker)?.trim_end_matches('/');
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| NotABroker)?),
        None => (address, PORT),
    };
    if host.is_empty() || host.contains(['@', '/', ':']) {
        return Err(NotABroker);
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_flag_explains_itself() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            for argument in sub.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", sub.get_name(), argument.get_id());
            }
        }
    }

    #[test]
    fn a_share_is_one_level_of_a_topic() {
        assert_eq!(share_name("site"), Ok("site".to_owned()));
        for name in ["", "a/b", "+", "a#"] {
            assert_eq!(share_name(name), Err(NotAShare), "{name}");
        }
    }

    #[test]
    fn a_broker_url_carries_no_credentials() {
        assert_eq!(broker("mqtt://broker.site:1884"), Ok(("broker.site".to_owned(), 1884)));
        assert_eq!(broker("mqtt://h/"), Ok(("h".to_owned(), 1883)));
        for url in ["http://h", "mqtt://", "mqtt://u:p@h:1", "mqtt://h:99999"] {
            assert_eq!(broker(url), Err(NotABroker), "{url}");
        }
    }
}
