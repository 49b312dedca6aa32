//! Files for a site's mosquitto, from the register: who may sign in, and what each may publish and hear.

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use store::{Connection, StoreError, device::Device};
use trace::{
    pack::DeviceName,
    uplink::{Format, sparkplug},
};

use super::password::Password;
use crate::service::keys::KeysError;

const PASSWORDS: &str = "passwords";
const ACL: &str = "acl";
/// The owner writes, the broker's group reads: nobody else has business with either file.
const MODE: u32 = 0o640;

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error(
        "the gateway's user name has a colon, a slash (as devices' names have), a line break, or is empty"
    )]
    User,
    #[error("a device is registered under a name that no topic can carry")]
    Name(#[from] trace::pack::device::NotADevice),
    #[error("{path} cannot be written")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What mosquitto reads at its start and again at SIGHUP.
#[derive(Debug, PartialEq, Eq)]
pub struct BrokerFiles {
    /// `password_file`: `user:$7$rounds$salt$hash`.
    pub passwords: String,
    /// `acl_file`.
    pub acl: String,
}

impl BrokerFiles {
    /// For the devices in use of `parties`, or of all where none is named, and for the gateway that hears them.
    pub async fn read(
        conn: &mut Connection,
        parties: &[String],
        (gateway, password): (&str, &str),
    ) -> Result<Self, BrokerError> {
        if gateway.is_empty() || gateway.contains([':', '/', '\n', '\r']) {
            return Err(BrokerError::User);
        }
        let devices = store::device::all(conn).await?;
        let wanted = |party: &String| parties.is_empty() || parties.contains(party);
        let mut files = Self { passwords: String::new(), acl: String::new() };
        files.add_gateway(gateway, &Password::broker_hash_of(password)?);
        for (party, device) in devices.iter().filter(|(party, _)| wanted(party)) {
            files.add(&DeviceName::new(party, &device.name)?, device);
        }
        Ok(files)
    }

    fn add_gateway(&mut self, user: &str, hash: &str) {
        self.password(user, hash);
        self.user(user);
        for topic in ["read suyuan/v1/+/+/up", "write suyuan/v1/+/+/receipt"] {
            self.topic(topic);
        }
        // Networks of their own, whose devices the register knows by their node.
        for topic in ["read application/+/device/+/event/+", "read spBv1.0/#", "write spBv1.0/+/NCMD/+"] {
            self.topic(topic);
        }
    }

    /// Rights are written out for each device: who is gone has none, though a certificate or an open session outlive it.
    fn add(&mut self, name: &DeviceName, device: &Device) {
        if let Some(hash) = &device.broker_hash {
            self.password(&name.to_string(), hash);
        }
        self.user(&name.to_string());
        self.topic(&format!("write {}", name.up()));
        self.topic(&format!("read {}", name.receipt()));
        let node = device.mapping.as_ref().and_then(|map| map.get("node")?.as_str());
        let Some(node) = node.filter(|_| device.format == Format::Sparkplug.as_str()) else { return };
        let edge = sparkplug::edge_of(node);
        if let (Some((group, edge_node)), Some(commands)) =
            (edge.split_once('/'), sparkplug::command_topic(edge))
        {
            self.topic(&format!("write spBv1.0/{group}/+/{edge_node}/#"));
            self.topic(&format!("read {commands}"));
        }
    }

    fn password(&mut self, user: &str, hash: &str) {
        // Writing to a String cannot fail.
        writeln!(self.passwords, "{user}:{hash}").unwrap_or_default();
    }

    fn user(&mut self, user: &str) {
        writeln!(self.acl, "\nuser {user}").unwrap_or_default();
    }

    fn topic(&mut self, rights: &str) {
        writeln!(self.acl, "topic {rights}").unwrap_or_default();
    }

    /// Each file beside itself and renamed: a broker that reads meanwhile reads the old one or the new one.
    pub fn write(&self, directory: &Path) -> Result<(), BrokerError> {
        for (name, text) in [(PASSWORDS, &self.passwords), (ACL, &self.acl)] {
            let path = directory.join(name);
            written(&path, text).map_err(|source| BrokerError::File { path, source })?;
        }
        Ok(())
    }
}

fn written(path: &Path, text: &str) -> io::Result<()> {
    use io::Write as _;
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}
