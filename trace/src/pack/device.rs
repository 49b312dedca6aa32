//! How a device is named: in topics, in SenML base names, in rows.

use std::{fmt, str::FromStr};

/// A device of a party. Both parts match `[a-z0-9][a-z0-9.]{0,31}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName {
    party: String,
    device: String,
}

/// A part of the name is not `[a-z0-9][a-z0-9.]{0,31}`, or the whole not in its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a device")]
pub struct NotADevice;

fn is_part(text: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 32
        && text.bytes().next().is_some_and(is_first)
        && text.bytes().all(|byte| is_first(byte) || byte == b'.')
}

impl DeviceName {
    pub fn new(party: &str, device: &str) -> Result<Self, NotADevice> {
        if is_part(party) && is_part(device) {
            return Ok(Self { party: party.to_owned(), device: device.to_owned() });
        }
        Err(NotADevice)
    }

    pub fn party(&self) -> &str {
        &self.party
    }

    pub fn device(&self) -> &str {
        &self.device
    }

    /// The SenML base name of all its packs: `urn:dev:org:{PEN}-{party}:{device}:` (RFC 9039 §4.2).
    pub fn base_name(&self, pen: u32) -> String {
        format!("{}{}:", party_base_name(pen, &self.party), self.device)
    }

    /// From a base name, or from any name that starts with one.
    pub fn of_base_name(pen: u32, name: &str) -> Result<Self, NotADevice> {
        let rest = name.strip_prefix("urn:dev:org:").ok_or(NotADevice)?;
        let rest = rest.strip_prefix(&format!("{pen}-")).ok_or(NotADevice)?;
        let (party, rest) = rest.split_once(':').ok_or(NotADevice)?;
        let (device, _) = rest.split_once(':').ok_or(NotADevice)?;
        Self::new(party, device)
    }

    pub fn up(&self) -> Topic {
        Topic { device: self.clone(), direction: Direction::Up }
    }

    pub fn receipt(&self) -> Topic {
        Topic { device: self.clone(), direction: Direction::Receipt }
    }
}

/// What the base names of all devices of a party start with: what a gateway's key is enrolled for.
pub fn party_base_name(pen: u32, party: &str) -> String {
    format!("urn:dev:org:{pen}-{party}:")
}

/// `urn:dev:org:{PEN}-{party}:{device}` and what stands after the colon; nothing and the name where it is not so long.
pub fn split_base_name(name: &str) -> (&str, &str) {
    let end = name.match_indices(':').nth(4).map(|(at, _)| at);
    end.and_then(|at| Some((name.get(..at)?, name.get(at + 1..)?))).unwrap_or(("", name))
}

/// Whose readings a pack key signs, as the base name of its enrolment says.
///
/// `urn:dev:org:{PEN}-{party}:{device}:` for a device's own key, `urn:dev:org:{PEN}-{party}:` for a party's gateway, and
/// `urn:dev:org:{PEN}-` for the operator's, which carries every party's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    base_name: String,
    is_device: bool,
}

impl Scope {
    pub const fn is_device(&self) -> bool {
        self.is_device
    }

    /// The part of a reading's name that tells its device, if this key may sign for it.
    pub fn device_of<'name>(&self, name: &'name str) -> Option<&'name str> {
        let rest = name.strip_prefix("urn:dev:org:").filter(|_| name.starts_with(&self.base_name))?;
        let (_, rest) = rest.split_once('-')?;
        let (party, rest) = rest.split_once(':')?;
        let (device, quantity) = rest.split_once(':')?;
        if !is_part(party) || !is_part(device) {
            return None;
        }
        name.strip_suffix(quantity)
    }
}

impl FromStr for Scope {
    type Err = NotADevice;

    fn from_str(text: &str) -> Result<Self, NotADevice> {
        let rest = text.strip_prefix("urn:dev:org:").ok_or(NotADevice)?;
        let (pen, rest) = rest.split_once('-').ok_or(NotADevice)?;
        let names: Vec<&str> = rest.split(':').collect();
        let is_device = match names.as_slice() {
            [""] => false,
            [party, ""] if is_part(party) => false,
            [party, device, ""] if is_part(party) && is_part(device) => true,
            _ => return Err(NotADevice),
        };
        let is_number = pen.parse::<u32>().is_ok_and(|number| number.to_string() == pen);
        if is_number { Ok(Self { base_name: text.to_owned(), is_device }) } else { Err(NotADevice) }
    }
}

/// `{party}/{device}`, as in the MQTT user name.
impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.party, self.device)
    }
}

impl FromStr for DeviceName {
    type Err = NotADevice;

    fn from_str(text: &str) -> Result<Self, NotADevice> {
        let (party, device) = text.split_once('/').ok_or(NotADevice)?;
        Self::new(party, device)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Readings, from the device.
    Up,
    /// The server's word that a pack is durable, to the device.
    Receipt,
}

/// `suyuan/v1/{party}/{device}/up` or `…/receipt`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    pub device: DeviceName,
    pub direction: Direction,
}

/// The filter that matches every device's readings.
pub const UP_FILTER: &str = "suyuan/v1/+/+/up";

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Up => "up",
            Direction::Receipt => "receipt",
        };
        write!(f, "suyuan/v1/{}/{direction}", self.device)
    }
}

impl FromStr for Topic {
    type Err = NotADevice;

    fn from_str(text: &str) -> Result<Self, NotADevice> {
        let rest = text.strip_prefix("suyuan/v1/").ok_or(NotADevice)?;
        let (device, direction) = rest.rsplit_once('/').ok_or(NotADevice)?;
        let direction = match direction {
            "up" => Direction::Up,
            "receipt" => Direction::Receipt,
            _ => return Err(NotADevice),
        };
        Ok(Self { device: device.parse()?, direction })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_topics_and_base_names_tell_the_same_device() {
        let device = DeviceName::new("mill.1", "scale1").unwrap();
        let base_name = device.base_name(32473);
        assert_eq!(base_name, "urn:dev:org:32473-mill.1:scale1:");
        assert_eq!(DeviceName::of_base_name(32473, &format!("{base_name}weight")), Ok(device.clone()));
        assert_eq!(device.up().to_string().parse(), Ok(device.up()));
        assert_eq!(split_base_name(&format!("{base_name}p1:x")), ("urn:dev:org:32473-mill.1:scale1", "p1:x"));
        assert_eq!(split_base_name("urn:dev:mac:1"), ("", "urn:dev:mac:1"));
        assert_eq!("suyuan/v1/mill.1/scale1/receipt".parse(), Ok(device.receipt()));
        assert_eq!(device.to_string().parse(), Ok(device));
    }

    #[test]
    fn a_key_signs_for_a_device_a_party_or_every_party() {
        let name = "urn:dev:org:32473-mill.1:scale1:weight";
        for (scope, is_device) in [
            ("urn:dev:org:32473-mill.1:scale1:", true),
            ("urn:dev:org:32473-mill.1:", false),
            ("urn:dev:org:32473-", false),
        ] {
            let scope: Scope = scope.parse().unwrap();
            assert_eq!(scope.is_device(), is_device);
            assert_eq!(scope.device_of(name), Some("urn:dev:org:32473-mill.1:scale1:"));
            assert_eq!(scope.device_of("urn:dev:org:32474-mill.1:scale1:weight"), None);
            assert_eq!(scope.device_of("urn:dev:org:32473-mill.1:"), None);
        }
        let party: Scope = "urn:dev:org:32473-mill.1:".parse().unwrap();
        assert_eq!(party.device_of("urn:dev:org:32473-mill.10:scale1:weight"), None);
        for bad in ["", "urn:dev:org:", "urn:dev:org:x-", "urn:dev:org:032473-", "urn:dev:org:32473-mill"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        for part in ["", ".a", "A", "a-b", "a/b", "a+b", "a:b", &"a".repeat(33)] {
            assert!(DeviceName::new("mill", part).is_err(), "{part}");
        }
        for name in ["urn:dev:org:1-mill:scale:", "urn:dev:org:32473-mill:scale", "urn:dev:org:32473-mill::x"]
        {
            assert!(DeviceName::of_base_name(32473, name).is_err(), "{name}");
        }
        for topic in
            ["suyuan/v1/mill/scale", "suyuan/v1/mill/scale/x/up", "suyuan/v2/mill/scale/up", UP_FILTER]
        {
            assert!(topic.parse::<Topic>().is_err(), "{topic}");
        }
    }
}
