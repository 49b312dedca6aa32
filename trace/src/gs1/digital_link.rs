//! GS1 Digital Link URIs (URI Syntax 1.4 §4): parsed from any resolver, printed in the canonical form that
//! EPCIS 2.0 §6.4 calls constrained: `https://id.gs1.org`, key and qualifiers only, no query.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Component, ConsignmentNumber, CouponNumber, Gdti, Giai, GlnExtension, Grai, Gsin, Gsrn, Gtin, KeyError,
    LotNumber, ModelNumber, Pgln, Piece, Place, Serial, ServiceInstance, Sscc, ThirdPartySerial, Variant, ai,
    percent,
    text::{check_text, in_set_82},
};

/// The resolver under which canonical URIs are written.
pub const CANONICAL_HOST: &str = "https://id.gs1.org";

/// Longer links are refused before they are looked at.
const LINK_BYTES_MAX: usize = 2_048;
const ATTRIBUTE_CHARACTERS_MAX: usize = 90;

/// What a Digital Link identifies: a primary key with its qualifiers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// (00)
    LogisticUnit(Sscc),
    /// (01) with (22), (10), (21): a class, a lot or one item.
    TradeItem { gtin: Gtin, variant: Option<Variant>, lot: Option<LotNumber>, serial: Option<Serial> },
    /// (01) with (235)
    ThirdPartyItem { gtin: Gtin, serial: ThirdPartySerial },
    /// (253)
    Document(Gdti),
    /// (255)
    Coupon(CouponNumber),
    /// (401)
    Consignment(ConsignmentNumber),
    /// (402)
    Shipment(Gsin),
    /// (414) with (254)
    Place(Place),
    /// (417)
    Party(Pgln),
    /// (8003)
    Returnable(Grai),
    /// (8004)
    Asset(Giai),
    /// (8006) with (22), (10), (21)
    Piece { piece: Piece, variant: Option<Variant>, lot: Option<LotNumber>, serial: Option<Serial> },
    /// (8010) with (8011)
    Component(Component),
    /// (8013)
    Model(ModelNumber),
    /// (8017) with (8019)
    Provider(Gsrn, Option<ServiceInstance>),
    /// (8018) with (8019)
    Recipient(Gsrn, Option<ServiceInstance>),
}

/// A parsed Digital Link: its key, and the data attributes of its query in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigitalLink {
    pub key: Key,
    /// Application identifier and value. Checked for character set and repetition only.
    pub attributes: Vec<(String, String)>,
}

/// Why a URI is not a Digital Link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigitalLinkError {
    #[error("longer than {LINK_BYTES_MAX} bytes")]
    TooLong,
    #[error("not an http or https URI with a host")]
    NotAWebUri,
    #[error("has a character that no URI may have")]
    Character,
    #[error("has a broken percent escape")]
    Escape,
    #[error("holds no primary key of GS1 Digital Link")]
    NoKey,
    #[error("the qualifier ({0}) does not belong to this key, or not at this place")]
    Qualifier(String),
    #[error("the value of ({ai}) is not valid")]
    Value { ai: String, source: KeyError },
    #[error("({0}) is not an application identifier that a query may hold here")]
    Attribute(String),
}

type Segments<'a> = std::vec::IntoIter<(&'a str, String)>;

impl Key {
    pub const fn trade_item(gtin: Gtin) -> Self {
        Self::TradeItem { gtin, variant: None, lot: None, serial: None }
    }

    /// The canonical URI: `https://id.gs1.org/…`, unreserved characters plain, all others escaped.
    pub fn uri(&self) -> String {
        format!("{CANONICAL_HOST}{}", self.path())
    }

    /// The path of the canonical URI, for links under another host.
    pub fn path(&self) -> String {
        self.elements()
            .iter()
            .fold(String::new(), |path, (ai, value)| path + "/" + ai + "/" + &percent::encode(value))
    }

    /// Key and qualifiers as (application identifier, value), in the order of the URI.
    pub fn elements(&self) -> Vec<(&'static str, String)> {
        let mut elements = Vec::new();
        let mut push = |ai, value: Option<String>| elements.extend(value.map(|value| (ai, value)));
        match self {
            Self::LogisticUnit(sscc) => push("00", Some(sscc.to_string())),
            Self::TradeItem { gtin, variant, lot, serial } => {
                push("01", Some(gtin.to_string()));
                push("22", text(variant.as_ref()));
                push("10", text(lot.as_ref()));
                push("21", text(serial.as_ref()));
            }
            Self::ThirdPartyItem { gtin, serial } => {
                push("01", Some(gtin.to_string()));
                push("235", Some(serial.to_string()));
            }
            Self::Document(gdti) => push("253", Some(gdti.to_string())),
            Self::Coupon(coupon) => push("255", Some(coupon.to_string())),
            Self::Consignment(number) => push("401", Some(number.to_string())),
            Self::Shipment(gsin) => push("402", Some(gsin.to_string())),
            Self::Place(place) => {
                push("414", Some(place.gln.to_string()));
                push("254", text(place.extension.as_ref()));
            }
            Self::Party(pgln) => push("417", Some(pgln.to_string())),
            Self::Returnable(grai) => push("8003", Some(grai.to_string())),
            Self::Asset(giai) => push("8004", Some(giai.to_string())),
            Self::Piece { piece, variant, lot, serial } => {
                push("8006", Some(piece.to_string()));
                push("22", text(variant.as_ref()));
                push("10", text(lot.as_ref()));
                push("21", text(serial.as_ref()));
            }
            Self::Component(component) => {
                push("8010", Some(component.part.to_string()));
                push("8011", text(component.serial.as_ref()));
            }
            Self::Model(model) => push("8013", Some(model.to_string())),
            Self::Provider(gsrn, instance) => {
                push("8017", Some(gsrn.to_string()));
                push("8019", text(instance.as_ref()));
            }
            Self::Recipient(gsrn, instance) => {
                push("8018", Some(gsrn.to_string()));
                push("8019", text(instance.as_ref()));
            }
        }
        elements
    }

    /// Whether the key names one thing rather than a class of things.
    pub const fn is_instance(&self) -> bool {
        match self {
            Self::TradeItem { serial, .. } | Self::Piece { serial, .. } => serial.is_some(),
            Self::Component(component) => component.serial.is_some(),
            Self::Document(gdti) => gdti.has_serial(),
            Self::Coupon(coupon) => coupon.has_serial(),
            Self::Returnable(grai) => grai.has_serial(),
            Self::Model(_) => false,
            _ => true,
        }
    }

    /// `None` where `ai` is no primary key.
    fn from_elements(
        ai: &str,
        value: &str,
        mut rest: Segments<'_>,
    ) -> Option<Result<Self, DigitalLinkError>> {
        let key = match ai {
            "00" => parse(ai, value).map(Self::LogisticUnit),
            "01" => trade_item(value, &mut rest),
            "253" => parse(ai, value).map(Self::Document),
            "255" => parse(ai, value).map(Self::Coupon),
            "401" => parse(ai, value).map(Self::Consignment),
            "402" => parse(ai, value).map(Self::Shipment),
            "414" => parse(ai, value).and_then(|gln| {
                Ok(Self::Place(Place { gln, extension: qualifier::<GlnExtension>("254", &mut rest)? }))
            }),
            "417" => parse(ai, value).map(Self::Party),
            "8003" => parse(ai, value).map(Self::Returnable),
            "8004" => parse(ai, value).map(Self::Asset),
            "8006" => parse(ai, value).and_then(|piece| {
                let (variant, lot, serial) = item_qualifiers(&mut rest)?;
                Ok(Self::Piece { piece, variant, lot, serial })
            }),
            "8010" => parse(ai, value).and_then(|part| {
                Ok(Self::Component(Component { part, serial: qualifier("8011", &mut rest)? }))
            }),
            "8013" => parse(ai, value).map(Self::Model),
            "8017" => {
                parse(ai, value).and_then(|gsrn| Ok(Self::Provider(gsrn, qualifier("8019", &mut rest)?)))
            }
            "8018" => {
                parse(ai, value).and_then(|gsrn| Ok(Self::Recipient(gsrn, qualifier("8019", &mut rest)?)))
            }
            _ => return None,
        };
        Some(key.and_then(|key| match rest.next() {
            None => Ok(key),
            Some((ai, _)) => Err(DigitalLinkError::Qualifier(ai.to_owned())),
        }))
    }
}

fn text<T: fmt::Display>(value: Option<&T>) -> Option<String> {
    value.map(ToString::to_string)
}

fn parse<T: FromStr<Err = KeyError>>(ai: &str, value: &str) -> Result<T, DigitalLinkError> {
    value.parse().map_err(|source| DigitalLinkError::Value { ai: ai.to_owned(), source })
}

/// Takes the next element if it is `ai`.
fn qualifier<T: FromStr<Err = KeyError>>(
    ai: &str,
    rest: &mut Segments<'_>,
) -> Result<Option<T>, DigitalLinkError> {
    if rest.as_slice().first().is_none_or(|(found, _)| *found != ai) {
        return Ok(None);
    }
    rest.next().map(|(ai, value)| parse(ai, &value)).transpose()
}

type ItemQualifiers = (Option<Variant>, Option<LotNumber>, Option<Serial>);

fn item_qualifiers(rest: &mut Segments<'_>) -> Result<ItemQualifiers, DigitalLinkError> {
    Ok((qualifier("22", rest)?, qualifier("10", rest)?, qualifier("21", rest)?))
}

fn trade_item(value: &str, rest: &mut Segments<'_>) -> Result<Key, DigitalLinkError> {
    let gtin = Gtin::from_any_length(value)
        .map_err(|source| DigitalLinkError::Value { ai: "01".to_owned(), source })?;
    if let Some(serial) = qualifier("235", rest)? {
        return Ok(Key::ThirdPartyItem { gtin, serial });
    }
    let (variant, lot, serial) = item_qualifiers(rest)?;
    Ok(Key::TradeItem { gtin, variant, lot, serial })
}

/// The path and the query of a web URI, without its fragment.
fn path_and_query(uri: &str) -> Result<(&str, &str), DigitalLinkError> {
    let plain = |byte: u8| {
        byte.is_ascii_graphic()
            && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
    };
    if !uri.bytes().all(plain) {
        return Err(DigitalLinkError::Character);
    }
    let rest = ["https://", "HTTPS://", "http://", "HTTP://"]
        .iter()
        .find_map(|scheme| uri.strip_prefix(scheme))
        .ok_or(DigitalLinkError::NotAWebUri)?;
    let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = location.split_once('/').ok_or(DigitalLinkError::NoKey)?;
    let in_host =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']' | b'_');
    if host.is_empty() || !host.bytes().all(in_host) {
        return Err(DigitalLinkError::NotAWebUri);
    }
    Ok((path, query))
}

/// The key is the last one of the path from which all that follows reads as qualifiers.
fn key_of_path(path: &str) -> Result<Key, DigitalLinkError> {
    let segments: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    let pairs: Vec<(&str, &str)> = segments
        .rchunks_exact(2)
        .map_while(|pair| match pair {
            [ai, value] if ai::is_assigned(ai) => Some((*ai, *value)),
            _ => None,
        })
        .collect();
    for (from_end, (ai, value)) in pairs.iter().enumerate() {
        let qualifiers = pairs.iter().take(from_end).rev();
        let qualifiers: Option<Vec<_>> =
            qualifiers.map(|(ai, value)| Some((*ai, percent::decode(value, false)?))).collect();
        let value = percent::decode(value, false).ok_or(DigitalLinkError::Escape)?;
        let qualifiers = qualifiers.ok_or(DigitalLinkError::Escape)?;
        if let Some(key) = Key::from_elements(ai, &value, qualifiers.into_iter()) {
            return key;
        }
    }
    Err(DigitalLinkError::NoKey)
}

/// Data attributes (URI Syntax §4.10): assigned identifiers, none repeated, none that belongs in the path.
fn attributes_of_query(query: &str, key: &Key) -> Result<Vec<(String, String)>, DigitalLinkError> {
    let in_path: Vec<(&str, String)> = key.elements();
    let mut seen: BTreeSet<&str> = in_path.iter().map(|(ai, _)| *ai).collect();
    if in_path.iter().any(|(ai, _)| matches!(*ai, "01" | "8006")) {
        seen.extend(["22", "10", "21"]);
    }
    let mut attributes = Vec::new();
    for (name, value) in query.split(['&', ';']).filter_map(|part| part.split_once('=')) {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        if !ai::is_assigned(name) || !seen.insert(name) {
            return Err(DigitalLinkError::Attribute(name.to_owned()));
        }
        let value = percent::decode(value, true).ok_or(DigitalLinkError::Escape)?;
        check_text(&value, ATTRIBUTE_CHARACTERS_MAX, in_set_82)
            .map_err(|source| DigitalLinkError::Value { ai: name.to_owned(), source })?;
        attributes.push((name.to_owned(), value));
    }
    Ok(attributes)
}

impl FromStr for DigitalLink {
    type Err = DigitalLinkError;

    fn from_str(uri: &str) -> Result<Self, DigitalLinkError> {
        if uri.len() > LINK_BYTES_MAX {
            return Err(DigitalLinkError::TooLong);
        }
        let (path, query) = path_and_query(uri)?;
        let key = key_of_path(path)?;
        let attributes = attributes_of_query(query, &key)?;
        Ok(Self { key, attributes })
    }
}

impl FromStr for Key {
    type Err = DigitalLinkError;

    /// From a Digital Link; its data attributes are dropped.
    fn from_str(uri: &str) -> Result<Self, DigitalLinkError> {
        Ok(uri.parse::<DigitalLink>()?.key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
