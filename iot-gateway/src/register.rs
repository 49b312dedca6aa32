//! Who may publish, in which format and with whose signature: the server's register, fetched with its ETag.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use reqwest::{Client, StatusCode, header};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use trace::{
    b64,
    hash::Hash,
    pack::{DeviceName, carriage::PAYLOAD_BYTES_MAX, device::NotADevice},
    uplink::{Map, MapError, sparkplug},
};

pub use trace::uplink::{Format, Repeats};

use crate::metrics::Metrics;

/// Largest register that is read: 100,000 devices with their maps.
const REGISTER_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signing {
    Device,
    Gateway,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    pub name: DeviceName,
    pub format: Format,
    pub signing: Signing,
    pub repeats: Repeats,
    pub token: Option<Hash>,
    pub map: Arc<Map>,
}

/// The last copy of the server's register.
#[derive(Debug, Default, PartialEq)]
pub struct Register {
    devices: HashMap<DeviceName, Arc<Device>>,
    /// Devices that stand on a network of their own, by their name there.
    nodes: HashMap<String, Arc<Device>>,
    /// Sparkplug edge nodes with the party whose they are.
    edges: HashMap<String, String>,
    /// Never more than the formats allow, whatever the server says.
    pub payload_bytes_max: usize,
    /// The server's entity tag of this copy; none where the copy comes from the disk.
    pub tag: Option<String>,
    /// False until the server, or the copy of what it said, has spoken.
    is_known: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("the register is not the agreed JSON")]
    Json(#[from] serde_json::Error),
    #[error("the register names a device that no topic can carry")]
    Name(#[from] NotADevice),
    #[error("the register has a map that its format cannot use")]
    Map(#[from] MapError),
    #[error("the register names node {0} of a network twice, or for two parties")]
    Node(String),
    #[error("a token's hash is not 32 bytes of base64url")]
    Token,
    #[error("the register has more than {REGISTER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the server did not answer")]
    Http(#[from] reqwest::Error),
}

#[derive(Deserialize)]
struct Document {
    devices: Vec<serde_json::Value>,
    #[serde(default)]
    limits: Limits,
}

#[derive(Deserialize)]
struct Row {
    party: String,
    device: String,
    format: Format,
    signing: Signing,
    token_sha256: Option<String>,
    #[serde(default)]
    repeats: Option<Repeats>,
    #[serde(default)]
    map: Option<Map>,
}

#[derive(Deserialize)]
struct Limits {
    payload_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload_bytes: PAYLOAD_BYTES_MAX }
    }
}

impl Register {
    pub fn parse(json: &[u8]) -> Result<Self, RegisterError> {
        let document: Document = serde_json::from_slice(json)?;
        let mut register = Self {
            devices: HashMap::with_capacity(document.devices.len()),
            payload_bytes_max: document.limits.payload_bytes.min(PAYLOAD_BYTES_MAX),
            tag: None,
            is_known: true,
            ..Self::default()
        };
        for row in document.devices {
            // One device that cannot be read never costs the others.
            if let Err(error) = Device::parse(&row).and_then(|device| register.add(Arc::new(device))) {
                tracing::warn!(error = crate::cause(&error), "a device of the register was left out");
            }
        }
        Ok(register)
    }

    fn add(&mut self, device: Arc<Device>) -> Result<(), RegisterError> {
        if let Some(node) = &device.map.node {
            let party = device.name.party();
            if device.format == Format::Sparkplug {
                let of =
                    self.edges.entry(sparkplug::edge_of(node).to_owned()).or_insert_with(|| party.to_owned());
                if of != party {
                    return Err(RegisterError::Node(node.clone()));
                }
            }
            if self.nodes.contains_key(node) {
                return Err(RegisterError::Node(node.clone()));
            }
            self.nodes.insert(node.clone(), device.clone());
        }
        self.devices.insert(device.name.clone(), device);
        Ok(())
    }

    /// By its name on a network of its own: a Sparkplug node or device, a DevEUI.
    pub fn node(&self, node: &str) -> Option<&Arc<Device>> {
        self.nodes.get(node)
    }

    pub fn has_edge(&self, edge: &str) -> bool {
        self.edges.contains_key(edge)
    }

    pub fn edges(&self) -> usize {
        self.edges.len()
    }

    /// Whether any device stands on the network of `format`.
    pub fn has_nodes_of(&self, format: Format) -> bool {
        self.nodes.values().any(|device| device.format == format)
    }

    pub fn device(&self, name: &DeviceName) -> Option<&Arc<Device>> {
        self.devices.get(name)
    }

    pub fn len(&self) -> usize {
        self.devices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }
}

impl Device {
    fn parse(row: &serde_json::Value) -> Result<Self, RegisterError> {
        let row = Row::deserialize(row)?;
        let token = match row.token_sha256 {
            None => None,
            Some(text) => {
                let bytes = b64::from_url(&text).map_err(|_| RegisterError::Token)?;
                Some(Hash::from_slice(&bytes).ok_or(RegisterError::Token)?)
            }
        };
        let map = row.map.unwrap_or_default();
        if row.format.has_node() || map.node.is_some() {
            map.check(row.format)?;
        }
        Ok(Self {
            name: DeviceName::new(&row.party, &row.device)?,
            format: row.format,
            signing: row.signing,
            repeats: row.repeats.unwrap_or_default(),
            token,
            map: map.into(),
        })
    }

    /// Compares hashes of tokens without telling by time where they differ.
    pub fn token_is(&self, token: &[u8]) -> bool {
        let Some(expected) = &self.token else { return false };
        let given = trace::hash::sha256(token);
        let difference =
            given.as_bytes().iter().zip(expected.as_bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

/// The register as sources see it, and their way to ask for a fresh one.
#[derive(Debug, Clone)]
pub struct Registry {
    pub current: watch::Receiver<Arc<Register>>,
    wanted: Arc<Notify>,
}

impl Registry {
    pub fn fixed(register: Register) -> Self {
        let (_, current) = watch::channel(Arc::new(register));
        Self { current, wanted: Arc::default() }
    }

    pub fn device(&self, name: &DeviceName) -> Option<Arc<Device>> {
        self.current.borrow().device(name).cloned()
    }

    pub fn node(&self, node: &str) -> Option<Arc<Device>> {
        self.current.borrow().node(node).cloned()
    }

    /// Resolves when there is a register. Before that every device is unknown, and its message would go on undecoded
    /// and end as a dead letter.
    pub async fn known(&self) {
        if self.current.clone().wait_for(|register| register.is_known).await.is_err() {
            // Nobody fetches any more: there will never be one.
            std::future::pending::<()>().await;
        }
    }

    /// Asks for a fetch now: a device that was registered a second ago is at the door.
    pub fn want_fresh(&self) {
        self.wanted.notify_one();
    }
}

/// Fetches the register for ever; ends with the last [`Registry`].
pub struct Fetcher {
    pub client: Client,
    pub url: String,
    pub token: String,
    pub copy_file: Option<PathBuf>,
    pub interval: Duration,
    pub metrics: Arc<Metrics>,
    etag: Option<header::HeaderValue>,
}

impl Fetcher {
    pub fn new(client: Client, url: String, token: String, metrics: Arc<Metrics>) -> Self {
        Self { client, url, token, copy_file: None, interval: Duration::from_secs(5), metrics, etag: None }
    }

    /// Starts with the copy on disk, if there is one, so that a gateway serves while the server is away.
    pub fn start(self) -> (Registry, impl Future<Output = ()> + Send) {
        let copy = self.copy_file.as_ref().and_then(|path| std::fs::read(path).ok());
        let first = copy.and_then(|bytes| Register::parse(&bytes).ok()).unwrap_or_default();
        let (sender, current) = watch::channel(Arc::new(first));
        let wanted = Arc::new(Notify::new());
        (Registry { current, wanted: wanted.clone() }, self.follow(sender, wanted))
    }

    async fn follow(mut self, sender: watch::Sender<Arc<Register>>, wanted: Arc<Notify>) {
        while !sender.is_closed() {
            match self.fetch().await {
                Ok(Some(register)) => {
                    tracing::info!(devices = register.len(), "register fetched");
                    sender.send_replace(Arc::new(register));
                }
                Ok(None) => {}
                Err(error) => {
                    self.metrics.register_errors.one();
                    tracing::warn!(
                        error = crate::cause(&error),
                        "register not fetched: the last copy stands"
                    );
                }
            }
            // A fetch on demand at most every 250 ms, so that strangers at the door do not load the server.
            tokio::time::sleep(Duration::from_millis(250).min(self.interval)).await;
            tokio::select! {
                () = wanted.notified() => {}
                () = tokio::time::sleep(self.interval) => {}
                () = sender.closed() => {}
            }
        }
    }

    async fn fetch(&mut self) -> Result<Option<Register>, RegisterError> {
        let mut request = self.client.get(&self.url).bearer_auth(&self.token);
        if let Some(etag) = &self.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let mut response = request.send().await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => return Ok(None),
            other => return Err(RegisterError::Status(other)),
        }
        let etag = response.headers().get(header::ETAG).cloned();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > REGISTER_BYTES_MAX {
                return Err(RegisterError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        let mut register = Register::parse(&body)?;
        register.tag = etag.as_ref().and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        self.keep(&body).await;
        self.etag = etag;
        Ok(Some(register))
    }

    /// Writes the copy beside itself and renames it: a crash leaves the old copy or the new one.
    async fn keep(&self, body: &[u8]) {
        let Some(path) = &self.copy_file else { return };
        let new = path.with_extension("new");
        let written = async {
            tokio::fs::write(&new, body).await?;
            tokio::fs::rename(&new, path).await
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, "the register's copy was not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_compared_by_its_hash_and_absence_admits_nobody() {
        let json = format!(
            r#"{{"gateways":[],"devices":[{{"party":"mill","device":"scale","format":"json","signing":"gateway","kid":null,
               "token_sha256":"{}","repeats":"keep","map":{{}}}},{{"party":"mill","device":"b","format":"cose",
               "signing":"device","kid":null,"token_sha256":null}}],"limits":{{"payload_bytes":1000000}}}}"#,
            trace::hash::sha256(b"secret")
        );
        let register = Register::parse(json.as_bytes()).unwrap();
        let scale = register.device(&DeviceName::new("mill", "scale").unwrap()).unwrap();
        assert!(scale.token_is(b"secret"));
        assert!(!scale.token_is(b"Secret"));
        assert_eq!(scale.repeats, Repeats::Keep);
        assert!(!register.device(&DeviceName::new("mill", "b").unwrap()).unwrap().token_is(b""));
        assert_eq!(register.payload_bytes_max, PAYLOAD_BYTES_MAX);
    }

    #[test]
    fn an_edge_node_belongs_to_one_party_and_a_node_to_one_device() {
        let row = |party: &str, device: &str, node: &str| {
            format!(
                r#"{{"party":"{party}","device":"{device}","format":"sparkplug","signing":"gateway",
                   "map":{{"node":"{node}"}}}}"#
            )
        };
        let rows = [
            row("mill", "n", "g/e"),
            row("mill", "d", "g/e/d"),
            row("mill", "twice", "g/e"),
            row("depot", "x", "g/e/x"),
        ];
        let register = Register::parse(format!(r#"{{"devices":[{}]}}"#, rows.join(",")).as_bytes()).unwrap();
        assert_eq!((register.len(), register.edges()), (2, 1));
        assert_eq!(register.node("g/e/d").unwrap().name, DeviceName::new("mill", "d").unwrap());
        assert!(register.node("g/e/x").is_none());
        assert!(register.has_nodes_of(Format::Sparkplug) && !register.has_nodes_of(Format::Chirpstack));
    }
}
