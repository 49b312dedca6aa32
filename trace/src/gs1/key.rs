//! The identification keys themselves.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    DigitalLink, DigitalLinkError, GlnExtension, Key, KeyError, LotNumber, Serial,
    text::{ComponentPart, ComponentSerial, check_text, in_set_82},
    verify_check_digit,
};

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Keys of a fixed number of digits, the last of them the check digit.
macro_rules! digit_keys {
    ($($(#[$doc:meta])* $name:ident: $digits:literal => $key:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $digits]);

        impl $name {
            pub const DIGITS: usize = $digits;

            pub fn as_str(&self) -> &str {
                // Digits by construction, so the default never shows.
                std::str::from_utf8(&self.0).unwrap_or_default()
            }

            /// The canonical Digital Link URI.
            pub fn uri(self) -> String {
                let key: fn(Self) -> Key = $key;
                key(self).uri()
            }
        }

        impl FromStr for $name {
            type Err = KeyError;
            fn from_str(digits: &str) -> Result<Self, KeyError> {
                let wrong = KeyError::Length { expected: $digits, found: digits.len() };
                let bytes = digits.as_bytes().try_into().map_err(|_| wrong)?;
                verify_check_digit(digits)?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.as_str())
            }
        }

        text_serde!($name);
    )+};
}

digit_keys! {
    /// AI (01): global trade item number, always in its 14-digit form.
    Gtin: 14 => Key::trade_item;
    /// AI (00): serial shipping container code of a logistic unit.
    Sscc: 18 => Key::LogisticUnit;
    /// AI (414): global location number of a physical place.
    Gln: 13 => |gln| Key::Place(Place { gln, extension: None });
    /// AI (417): global location number of a party.
    Pgln: 13 => Key::Party;
    /// AI (8017) or (8018): global service relation number; here of the provider, AI (8017).
    Gsrn: 18 => |gsrn| Key::Provider(gsrn, None);
    /// AI (402): global shipment identification number.
    Gsin: 17 => Key::Shipment;
}

impl Gtin {
    /// GTIN-8, -12, -13 or -14, padded with zeros to 14 digits (General Specifications §3.3.2).
    pub fn from_any_length(digits: &str) -> Result<Self, KeyError> {
        match digits.len() {
            8 | 12 | 13 | 14 => format!("{digits:0>14}").parse(),
            found => Err(KeyError::Length { expected: Self::DIGITS, found }),
        }
    }
}

/// A class of like items made together: (01) and (10). The unit in which bulk is traced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LotId {
    pub gtin: Gtin,
    pub lot: LotNumber,
}

/// One item: (01) and (21).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sgtin {
    pub gtin: Gtin,
    pub serial: Serial,
}

/// A place, or a part of one: (414) and (254). The extension `0` of an SGLN means none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub gln: Gln,
    pub extension: Option<GlnExtension>,
}

/// Who makes a statement: a legal party, or a person under a pseudonymous service relation number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartyId {
    Party(Pgln),
    Person(Gsrn),
}

/// A Digital Link of another kind of key than the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotThisKey {
    #[error(transparent)]
    Link(#[from] DigitalLinkError),
    #[error("identifies something other than {wanted}")]
    OtherKind { wanted: &'static str },
}

/// Composite keys are written as their canonical URI and read from any Digital Link.
macro_rules! link_keys {
    ($($name:ident, $wanted:literal, $self:ident => $key:expr, $pattern:pat => $value:expr;)+) => {$(
        impl $name {
            /// The key in its general form.
            pub fn key(&$self) -> Key {
                $key
            }

            /// The canonical Digital Link URI.
            pub fn uri(&self) -> String {
                self.key().uri()
            }
        }

        impl TryFrom<Key> for $name {
            type Error = NotThisKey;
            fn try_from(key: Key) -> Result<Self, NotThisKey> {
                match key {
                    $pattern => Ok($value),
                    _ => Err(NotThisKey::OtherKind { wanted: $wanted }),
                }
            }
        }

        impl FromStr for $name {
            type Err = NotThisKey;
            fn from_str(uri: &str) -> Result<Self, NotThisKey> {
                uri.parse::<DigitalLink>()?.key.try_into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.uri())
            }
        }

        text_serde!($name);
    )+};
}

link_keys! {
    LotId, "a lot", self => Key::TradeItem {
        gtin: self.gtin, variant: None, lot: Some(self.lot.clone()), serial: None,
    }, Key::TradeItem { gtin, variant: None, lot: Some(lot), serial: None } => Self { gtin, lot };
    Sgtin, "a single item", self => Key::TradeItem {
        gtin: self.gtin, variant: None, lot: None, serial: Some(self.serial.clone()),
    }, Key::TradeItem { gtin, serial: Some(serial), .. } => Self { gtin, serial };
    Place, "a place", self => Key::Place(self.clone()), Key::Place(place) => place;
    PartyId, "a party", self => match self {
        Self::Party(pgln) => Key::Party(*pgln),
        Self::Person(gsrn) => Key::Provider(*gsrn, None),
    }, key @ (Key::Party(_) | Key::Provider(_, None)) => match key {
        Key::Provider(gsrn, _) => Self::Person(gsrn),
        Key::Party(pgln) => Self::Party(pgln),
        _ => return Err(NotThisKey::OtherKind { wanted: "a party" }),
    };
}

/// Keys that are 13 digits with a check digit, then an optional serial component.
fn split_serial(text: &str) -> Result<(&str, &str), KeyError> {
    let (base, serial) =
        text.split_at_checked(13).ok_or(KeyError::LengthRange { least: 13, most: 30, found: text.len() })?;
    verify_check_digit(base)?;
    Ok((base, serial))
}

fn check_optional(serial: &str, most: usize, set: impl Fn(u8) -> bool) -> Result<(), KeyError> {
    if serial.is_empty() { Ok(()) } else { check_text(serial, most, set) }
}

macro_rules! text_keys {
    ($($(#[$doc:meta])* $name:ident, $check:ident, $base:literal => $key:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether it names one thing, rather than the type of it.
            pub const fn has_serial(&self) -> bool {
                self.0.len() > $base
            }

            /// The canonical Digital Link URI.
            pub fn uri(&self) -> String {
                let key: fn(Self) -> Key = $key;
                key(self.clone()).uri()
            }
        }

        impl FromStr for $name {
            type Err = KeyError;
            fn from_str(text: &str) -> Result<Self, KeyError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        text_serde!($name);
    )+};
}

text_keys! {
    /// AI (253): global document type identifier, 13 digits and up to 17 characters of serial.
    Gdti, check_gdti, 13 => Key::Document;
    /// AI (255): global coupon number, 13 digits and up to 12 digits of serial.
    CouponNumber, check_coupon, 13 => Key::Coupon;
    /// AI (8003): global returnable asset identifier, `0`, 13 digits and up to 16 characters of serial.
    Grai, check_grai, 14 => Key::Returnable;
}

fn check_gdti(text: &str) -> Result<(), KeyError> {
    let (_, serial) = split_serial(text)?;
    check_optional(serial, 17, in_set_82)
}

fn check_coupon(text: &str) -> Result<(), KeyError> {
    let (_, serial) = split_serial(text)?;
    check_optional(serial, 12, |byte| byte.is_ascii_digit())
}

fn check_grai(text: &str) -> Result<(), KeyError> {
    let (_, serial) = split_serial(text.strip_prefix('0').ok_or(KeyError::LeadingZero)?)?;
    check_optional(serial, 16, in_set_82)
}

/// AI (8006): one piece of an individual trade item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece {
    pub gtin: Gtin,
    pub piece: u8,
    pub total: u8,
}

impl FromStr for Piece {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = KeyError::Length { expected: 18, found: text.len() };
        let two_digits = |part: &str| {
            part.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| part.parse::<u8>().ok())
                .flatten()
                .ok_or(wrong)
        };
        if text.len() != 18 {
            return Err(wrong);
        }
        let (gtin, rest) = text.split_at_checked(Gtin::DIGITS).ok_or(wrong)?;
        let (piece, total) = rest.split_at_checked(2).ok_or(wrong)?;
        let (piece, total) = (two_digits(piece)?, two_digits(total)?);
        if piece == 0 || piece > total {
            return Err(KeyError::PieceOfTotal { piece, total });
        }
        Ok(Self { gtin: gtin.parse()?, piece, total })
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:02}{:02}", self.gtin, self.piece, self.total)
    }
}

/// AI (8010) and (8011): a component or part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Component {
    pub part: ComponentPart,
    pub serial: Option<ComponentSerial>,
}
