//! `suyuan broker-files`: the register as a site's mosquitto reads it.

use std::path::PathBuf;

use clap::Args;
use server::service::{devices::broker::BrokerFiles, keys::read_secret};
use store::Store;

/// Needs the database alone: it runs beside the broker, from a timer or after a change, and is followed by a SIGHUP.
#[derive(Args)]
pub struct BrokerCommand {
    /// Postgres; the role `app` will do
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Directory that gets `passwords` and `acl` (mode 0640, the group is the directory's if that has the setgid bit)
    #[arg(long)]
    out: PathBuf,
    /// Short name of a party whose devices stand at this broker; several times for several; without it, all
    #[arg(long)]
    party: Vec<String>,
    /// The gateway's user name at the broker
    #[arg(long, env = "SUYUAN_MQTT_USER", default_value = "gateway")]
    gateway_user: String,
    /// File whose first line is the gateway's password at the broker, mode 0600
    #[arg(long, env = "SUYUAN_MQTT_PASSWORD_FILE")]
    gateway_password_file: PathBuf,
}

impl BrokerCommand {
    pub async fn run(&self) -> Result<String, Box<dyn std::error::Error>> {
        let password = read_secret(&self.gateway_password_file)?;
        let store = Store::open(&self.database_url, 1)?;
        let gateway = (self.gateway_user.as_str(), password.trim_end());
        let files = BrokerFiles::read(&mut *store.connection().await?, &self.party, gateway).await?;
        files.write(&self.out)?;
        Ok(format!("{} users; now: kill -HUP the broker", files.passwords.lines().count()))
    }
}
