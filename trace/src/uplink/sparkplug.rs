//! Eclipse Sparkplug 3.0, payload B: its topics, its protobuf payload, and an edge node's state as its births tell it.

mod edge;
mod wire;

use std::{fmt, str::FromStr};

pub use edge::{Edge, Read};
pub use wire::{Metric, Payload, Raw, rebirth};

use super::UplinkError;

/// Namespace of every topic (Sparkplug 3.0 §4.1.1).
const NAMESPACE: &str = "spBv1.0";
const PART_BYTES_MAX: usize = 64;

/// What a message says (§4.1.3); commands and `STATE` are not for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    NodeBirth,
    NodeData,
    NodeDeath,
    DeviceBirth,
    DeviceData,
    DeviceDeath,
}

const VERBS: [(Verb, &str); 6] = [
    (Verb::NodeBirth, "NBIRTH"),
    (Verb::NodeData, "NDATA"),
    (Verb::NodeDeath, "NDEATH"),
    (Verb::DeviceBirth, "DBIRTH"),
    (Verb::DeviceData, "DDATA"),
    (Verb::DeviceDeath, "DDEATH"),
];

/// The filters that match every message of [`Topic`].
pub const FILTERS: [&str; 6] = [
    "spBv1.0/+/NBIRTH/+",
    "spBv1.0/+/NDATA/+",
    "spBv1.0/+/NDEATH/+",
    "spBv1.0/+/DBIRTH/+/+",
    "spBv1.0/+/DDATA/+/+",
    "spBv1.0/+/DDEATH/+/+",
];

/// `spBv1.0/{group}/{verb}/{edge}[/{device}]` (§4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub verb: Verb,
    group: String,
    edge: String,
    device: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a topic of a Sparkplug edge node")]
pub struct NotATopic;

impl Topic {
    /// `Group/Edge`: the edge node descriptor.
    pub fn edge(&self) -> String {
        format!("{}/{}", self.group, self.edge)
    }

    /// The node that the message is about, as a map names it.
    pub fn node(&self) -> String {
        match &self.device {
            None => self.edge(),
            Some(device) => format!("{}/{}/{device}", self.group, self.edge),
        }
    }

    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }
}

impl FromStr for Topic {
    type Err = NotATopic;

    fn from_str(text: &str) -> Result<Self, NotATopic> {
        let parts: Vec<&str> = text.split('/').collect();
        let (group, verb, edge, device) = match parts.as_slice() {
            [NAMESPACE, group, verb, edge] => (group, verb, edge, None),
            [NAMESPACE, group, verb, edge, device] => (group, verb, edge, Some(device)),
            _ => return Err(NotATopic),
        };
        let (verb, _) = VERBS.iter().find(|(_, word)| word == verb).ok_or(NotATopic)?;
        let is_of_device = matches!(verb, Verb::DeviceBirth | Verb::DeviceData | Verb::DeviceDeath);
        if is_of_device != device.is_some()
            || ![group, edge].into_iter().chain(device).all(|part| is_part(part))
        {
            return Err(NotATopic);
        }
        Ok(Self {
            verb: *verb,
            group: (*group).to_owned(),
            edge: (*edge).to_owned(),
            device: device.map(|device| (*device).to_owned()),
        })
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = VERBS.iter().find(|(verb, _)| *verb == self.verb).map_or("", |(_, word)| word);
        write!(f, "{NAMESPACE}/{}/{word}/{}", self.group, self.edge)?;
        self.device.as_ref().map_or(Ok(()), |device| write!(f, "/{device}"))
    }
}

/// An identifier is any UTF-8 but `+`, `/` and `#` (§4.1.5).
fn is_part(text: &str) -> bool {
    (1..=PART_BYTES_MAX).contains(&text.len())
        && !text.chars().any(|letter| "+/#".contains(letter) || letter.is_control())
}

/// `Group/Edge` or `Group/Edge/Device`.
pub fn is_node(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    (2..=3).contains(&parts.len()) && parts.into_iter().all(is_part)
}

/// The `Group/Edge` of a node.
pub fn edge_of(node: &str) -> &str {
    node.match_indices('/').nth(1).and_then(|(at, _)| node.get(..at)).unwrap_or(node)
}

/// Where the edge node hears commands: `NCMD` (§6.4.17).
pub fn command_topic(edge: &str) -> Option<String> {
    let (group, edge) = edge.split_once('/')?;
    Some(format!("{NAMESPACE}/{group}/NCMD/{edge}"))
}

/// Why a payload came on unread, told without the state that would be needed to read it.
pub fn refusal(payload: &[u8]) -> UplinkError {
    match Payload::parse(payload) {
        Err(error) => error,
        Ok(payload) if payload.metrics.iter().any(Metric::is_no_number) => UplinkError::Value,
        // Only deaths are without a sequence number (§6.4.22).
        Ok(payload) if payload.seq.is_none() => UplinkError::StaleDeath,
        Ok(_) => UplinkError::NoBirth,
    }
}
