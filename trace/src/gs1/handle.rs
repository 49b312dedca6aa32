//! Handle identifiers `88.<node>.<enterprise>/<suffix>` of China's industrial internet identification system.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `88.100.5/sugar.r50.20260118.1`: a prefix of numbers under the naming authority 88, and a suffix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    text: Box<str>,
    slash: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    #[error("a handle is PREFIX/SUFFIX")]
    NoSlash,
    #[error(
        "the prefix is 88 and one to {} numbers of at most {} digits",
        Handle::NODES_MAX,
        Handle::NODE_DIGITS_MAX
    )]
    Prefix,
    #[error("the suffix is 1 to {} letters, digits and . _ ~ -", Handle::SUFFIX_CHARACTERS_MAX)]
    Suffix,
}

impl Handle {
    pub const NODES_MAX: usize = 4;
    pub const NODE_DIGITS_MAX: usize = 10;
    pub const SUFFIX_CHARACTERS_MAX: usize = 128;

    /// `88.<node>.<enterprise>`
    pub fn prefix(&self) -> &str {
        self.text.split_at_checked(self.slash).map_or("", |(prefix, _)| prefix)
    }

    /// What the enterprise calls the thing.
    pub fn suffix(&self) -> &str {
        self.text.get(self.slash + 1..).unwrap_or_default()
    }

    /// The path under which this server answers for the handle.
    pub fn path(&self) -> String {
        format!("/hdl/{}", self.text)
    }
}

impl FromStr for Handle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, HandleError> {
        let slash = text.find('/').ok_or(HandleError::NoSlash)?;
        let (prefix, suffix) = text.split_once('/').ok_or(HandleError::NoSlash)?;
        let nodes: Vec<&str> = prefix.strip_prefix("88.").ok_or(HandleError::Prefix)?.split('.').collect();
        let number = |node: &&str| {
            (1..=Self::NODE_DIGITS_MAX).contains(&node.len())
                && node.bytes().all(|byte| byte.is_ascii_digit())
        };
        if nodes.len() > Self::NODES_MAX || !nodes.iter().all(number) {
            return Err(HandleError::Prefix);
        }
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
        if !(1..=Self::SUFFIX_CHARACTERS_MAX).contains(&suffix.len()) || !suffix.bytes().all(unreserved) {
            return Err(HandleError::Suffix);
        }
        Ok(Self { text: text.into(), slash })
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
