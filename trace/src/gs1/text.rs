//! Variable-length values: lot and serial numbers and the other texts that complete a key.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::KeyError;

/// GS1 AI encodable character set 82 (General Specifications §7.11, table 1).
pub(super) const fn in_set_82(byte: u8) -> bool {
    matches!(byte, b'!' | b'"' | b'%'..=b'?' | b'A'..=b'Z' | b'_' | b'a'..=b'z')
}

/// GS1 AI encodable character set 39 (General Specifications §7.11, table 2).
pub(super) const fn in_set_39(byte: u8) -> bool {
    matches!(byte, b'#' | b'-' | b'/' | b'0'..=b'9' | b'A'..=b'Z')
}

const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

pub(super) fn check_text(text: &str, most: usize, set: impl Fn(u8) -> bool) -> Result<(), KeyError> {
    if let Some(at) = text.bytes().position(|byte| !set(byte)) {
        return Err(KeyError::Character { at });
    }
    if text.is_empty() || text.len() > most {
        return Err(KeyError::LengthRange { least: 1, most, found: text.len() });
    }
    Ok(())
}

/// The two check characters at the end of a global model number (General Specifications §7.9.5).
pub(super) fn check_pair(text: &str) -> Result<(), KeyError> {
    const WEIGHTS: [u32; 23] =
        [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83];
    const PAIR: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
    let value = |byte: u8| (0..byte).filter(|lower| in_set_82(*lower)).map(|_| 1_u32).sum::<u32>();
    let (body, pair) = text.split_at_checked(text.len().wrapping_sub(2)).ok_or(KeyError::CheckPair)?;
    let sum = body.bytes().rev().zip(WEIGHTS).map(|(byte, weight)| value(byte) * weight).sum::<u32>() % 1021;
    let of = |index: u32| usize::try_from(index).ok().and_then(|index| PAIR.get(index)).copied();
    let right = [of(sum >> 5), of(sum & 31)];
    if pair.bytes().map(Some).eq(right) { Ok(()) } else { Err(KeyError::CheckPair) }
}

fn company_prefix_first(text: &str) -> Result<(), KeyError> {
    /// The shortest company prefix that GS1 assigns.
    const DIGITS_MIN: usize = 4;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits >= DIGITS_MIN { Ok(()) } else { Err(KeyError::CompanyPrefix) }
}

#[expect(clippy::unnecessary_wraps, reason = "the rule of texts that have no further rule")]
const fn anything(_: &str) -> Result<(), KeyError> {
    Ok(())
}

fn model_number(text: &str) -> Result<(), KeyError> {
    company_prefix_first(text)?;
    check_pair(text)
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $set:ident, $most:literal, $rule:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            pub const CHARACTERS_MAX: usize = $most;

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = KeyError;
            fn from_str(text: &str) -> Result<Self, KeyError> {
                check_text(text, $most, $set)?;
                $rule(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

texts! {
    /// AI (10): batch or lot number.
    LotNumber: in_set_82, 20, anything;
    /// AI (21): serial number of a trade item.
    Serial: in_set_82, 20, anything;
    /// AI (22): consumer product variant.
    Variant: in_set_82, 20, anything;
    /// AI (235): third party controlled, serialised extension of a GTIN.
    ThirdPartySerial: in_set_82, 28, anything;
    /// AI (254): extension component of a GLN: a bin, plot or compartment within the place.
    GlnExtension: in_set_82, 20, anything;
    /// AI (401): global identification number for consignment.
    ConsignmentNumber: in_set_82, 30, company_prefix_first;
    /// AI (8010): component or part identifier.
    ComponentPart: in_set_39, 30, company_prefix_first;
    /// AI (8004): global individual asset identifier: a device, probe, truck or harvester.
    Giai: in_set_82, 30, company_prefix_first;
    /// AI (8011): serial number of a component or part.
    ComponentSerial: is_digit, 12, anything;
    /// AI (8013): global model number.
    ModelNumber: in_set_82, 25, model_number;
    /// AI (8019): service relation instance number.
    ServiceInstance: is_digit, 10, anything;
}
