//! EPC pure identity URNs (TDS 2.1 §6, §7) and their one Digital Link each.
//!
//! A URN shows where its company prefix ends; a Digital Link does not, so the way back needs that length.

use super::{
    Component, Key, KeyError, LotNumber, Pgln, Piece, Place, Serial, check_digit, percent,
    text::{ComponentSerial, GlnExtension},
};

/// The lengths of a company prefix in an EPC URN (TDS 2.1 §6.3).
const COMPANY_PREFIX_DIGITS: std::ops::RangeInclusive<usize> = 6..=12;

/// Why an EPC URN has no Digital Link, or a key no URN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrnError {
    #[error("not an EPC URN: urn:epc:id:, urn:epc:class: or urn:epc:idpat:")]
    NotAnEpcUrn,
    #[error("the EPC scheme {0} has no GS1 Digital Link")]
    NoDigitalLink(String),
    #[error("the parts of a {scheme} URN are {parts}")]
    Parts { scheme: &'static str, parts: &'static str },
    #[error("has a broken percent escape")]
    Escape,
    #[error("the company prefix and what follows make {found} digits where {expected} are right")]
    Digits { expected: usize, found: usize },
    #[error("a company prefix has 6 to 12 digits")]
    CompanyPrefix,
    #[error("a pattern may leave open the last part only")]
    Pattern,
    #[error("the key is not valid")]
    Key(#[from] KeyError),
    #[error("this key has no EPC URN")]
    NoUrn,
}

/// The key that `urn:epc:id:…`, `urn:epc:class:lgtin:…` or `urn:epc:idpat:…:*` names.
pub fn key_from_urn(urn: &str) -> Result<Key, UrnError> {
    let rest = urn.strip_prefix("urn:epc:").ok_or(UrnError::NotAnEpcUrn)?;
    let mut fields = rest.splitn(3, ':');
    let (Some(kind), Some(scheme), Some(body)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(UrnError::NotAnEpcUrn);
    };
    let parts: Vec<String> = body
        .split('.')
        .map(|part| percent::decode(part, false).ok_or(UrnError::Escape))
        .collect::<Result<_, _>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match kind {
        "id" => instance(scheme, &parts),
        "class" if scheme == "lgtin" => lot(&parts),
        "idpat" => pattern(scheme, &parts),
        _ => Err(UrnError::NotAnEpcUrn),
    }
}

/// Values may hold dots of their own, so what follows the fixed parts is one value again.
fn fixed<'a, const N: usize>(
    scheme: &'static str,
    names: &'static str,
    parts: &[&'a str],
) -> Result<([&'a str; N], String), UrnError> {
    let wrong = UrnError::Parts { scheme, parts: names };
    let (head, tail) = parts.split_at_checked(N).ok_or_else(|| wrong.clone())?;
    if tail.is_empty() {
        return Err(wrong);
    }
    Ok((head.try_into().map_err(|_| wrong)?, tail.join(".")))
}

fn exact<'a, const N: usize>(
    scheme: &'static str,
    names: &'static str,
    parts: &[&'a str],
) -> Result<[&'a str; N], UrnError> {
    parts.try_into().map_err(|_| UrnError::Parts { scheme, parts: names })
}

/// Company prefix and reference: `expected` digits together.
fn digits(prefix: &str, reference: &str, expected: usize) -> Result<String, UrnError> {
    company_prefix(prefix)?;
    let joined = format!("{prefix}{reference}");
    if let Some(at) = joined.bytes().position(|byte| !byte.is_ascii_digit()) {
        return Err(KeyError::NotADigit { at }.into());
    }
    if joined.len() != expected {
        return Err(UrnError::Digits { expected, found: joined.len() });
    }
    Ok(joined)
}

fn company_prefix(prefix: &str) -> Result<(), UrnError> {
    let right =
        COMPANY_PREFIX_DIGITS.contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
    if right { Ok(()) } else { Err(UrnError::CompanyPrefix) }
}

fn with_check_digit(body: &str) -> String {
    check_digit(body).map_or_else(String::new, |digit| format!("{body}{digit}"))
}

/// The first digit of the reference (indicator or extension) stands first in the key.
fn rotated(prefix: &str, reference: &str, expected: usize) -> Result<String, UrnError> {
    digits(prefix, reference, expected)?;
    let (first, rest) =
        reference.split_at_checked(1).ok_or(UrnError::Digits { expected, found: prefix.len() })?;
    Ok(with_check_digit(&format!("{first}{prefix}{rest}")))
}

fn instance(scheme: &str, parts: &[&str]) -> Result<Key, UrnError> {
    match scheme {
        "sgtin" => {
            let ([prefix, item], serial) = fixed("sgtin", "prefix.item.serial", parts)?;
            let gtin = rotated(prefix, item, 13)?.parse()?;
            Ok(Key::TradeItem { gtin, variant: None, lot: None, serial: Some(serial.parse()?) })
        }
        "sscc" => {
            let [prefix, serial] = exact("sscc", "prefix.serial", parts)?;
            Ok(Key::LogisticUnit(rotated(prefix, serial, 17)?.parse()?))
        }
        "sgln" => {
            let ([prefix, location], extension) = fixed("sgln", "prefix.location.extension", parts)?;
            let gln = with_check_digit(&digits(prefix, location, 12)?).parse()?;
            let extension = if extension == "0" { None } else { Some(extension.parse()?) };
            Ok(Key::Place(Place { gln, extension }))
        }
        "grai" => {
            let ([prefix, kind], serial) = fixed("grai", "prefix.type.serial", parts)?;
            returnable(prefix, kind, &serial)
        }
        "giai" => {
            let ([prefix], reference) = fixed("giai", "prefix.reference", parts)?;
            company_prefix(prefix)?;
            Ok(Key::Asset(format!("{prefix}{reference}").parse()?))
        }
        "gsrn" | "gsrnp" => {
            let [prefix, reference] = exact("gsrn", "prefix.reference", parts)?;
            let gsrn = with_check_digit(&digits(prefix, reference, 17)?).parse()?;
            Ok(if scheme == "gsrn" { Key::Recipient(gsrn, None) } else { Key::Provider(gsrn, None) })
        }
        "gdti" => {
            let ([prefix, kind], serial) = fixed("gdti", "prefix.type.serial", parts)?;
            document(prefix, kind, &serial)
        }
        _ => rarer_instance(scheme, parts),
    }
}

fn rarer_instance(scheme: &str, parts: &[&str]) -> Result<Key, UrnError> {
    match scheme {
        "pgln" => {
            let [prefix, reference] = exact("pgln", "prefix.reference", parts)?;
            Ok(Key::Party(with_check_digit(&digits(prefix, reference, 12)?).parse()?))
        }
        "cpi" => {
            let [prefix, part, serial] = exact("cpi", "prefix.part.serial", parts)?;
            component(prefix, part, Some(serial.parse()?))
        }
        "sgcn" => {
            let [prefix, reference, serial] = exact("sgcn", "prefix.coupon.serial", parts)?;
            coupon(prefix, reference, serial)
        }
        "ginc" => {
            let ([prefix], reference) = fixed("ginc", "prefix.reference", parts)?;
            company_prefix(prefix)?;
            Ok(Key::Consignment(format!("{prefix}{reference}").parse()?))
        }
        "gsin" => {
            let [prefix, reference] = exact("gsin", "prefix.reference", parts)?;
            Ok(Key::Shipment(with_check_digit(&digits(prefix, reference, 16)?).parse()?))
        }
        "itip" => {
            let ([prefix, item, piece, total], serial) =
                fixed("itip", "prefix.item.piece.total.serial", parts)?;
            item_piece(prefix, item, piece, total, Some(serial.parse()?))
        }
        "upui" => {
            let ([prefix, item], serial) = fixed("upui", "prefix.item.tpx", parts)?;
            Ok(Key::ThirdPartyItem { gtin: rotated(prefix, item, 13)?.parse()?, serial: serial.parse()? })
        }
        other => Err(UrnError::NoDigitalLink(other.to_owned())),
    }
}

fn lot(parts: &[&str]) -> Result<Key, UrnError> {
    let ([prefix, item], lot) = fixed("lgtin", "prefix.item.lot", parts)?;
    let lot: LotNumber = lot.parse()?;
    Ok(Key::TradeItem {
        gtin: rotated(prefix, item, 13)?.parse()?,
        variant: None,
        lot: Some(lot),
        serial: None,
    })
}

/// Patterns that leave the serial number open name a class (TDS 2.1 §8; CBV 2.0 §8.3).
fn pattern(scheme: &str, parts: &[&str]) -> Result<Key, UrnError> {
    let Some((&"*", parts)) = parts.split_last() else { return Err(UrnError::Pattern) };
    if parts.contains(&"*") {
        return Err(UrnError::Pattern);
    }
    match scheme {
        "sgtin" => {
            let [prefix, item] = exact("sgtin pattern", "prefix.item.*", parts)?;
            Ok(Key::trade_item(rotated(prefix, item, 13)?.parse()?))
        }
        "grai" => {
            let [prefix, kind] = exact("grai pattern", "prefix.type.*", parts)?;
            returnable(prefix, kind, "")
        }
        "gdti" => {
            let [prefix, kind] = exact("gdti pattern", "prefix.type.*", parts)?;
            document(prefix, kind, "")
        }
        "sgcn" => {
            let [prefix, reference] = exact("sgcn pattern", "prefix.coupon.*", parts)?;
            coupon(prefix, reference, "")
        }
        "cpi" => {
            let [prefix, part] = exact("cpi pattern", "prefix.part.*", parts)?;
            component(prefix, part, None)
        }
        "itip" => {
            let [prefix, item, piece, total] = exact("itip pattern", "prefix.item.piece.total.*", parts)?;
            item_piece(prefix, item, piece, total, None)
        }
        other => Err(UrnError::NoDigitalLink(other.to_owned())),
    }
}

fn returnable(prefix: &str, kind: &str, serial: &str) -> Result<Key, UrnError> {
    let base = with_check_digit(&digits(prefix, kind, 12)?);
    Ok(Key::Returnable(format!("0{base}{serial}").parse()?))
}

fn document(prefix: &str, kind: &str, serial: &str) -> Result<Key, UrnError> {
    let base = with_check_digit(&digits(prefix, kind, 12)?);
    Ok(Key::Document(format!("{base}{serial}").parse()?))
}

fn coupon(prefix: &str, reference: &str, serial: &str) -> Result<Key, UrnError> {
    let base = with_check_digit(&digits(prefix, reference, 12)?);
    Ok(Key::Coupon(format!("{base}{serial}").parse()?))
}

fn component(prefix: &str, part: &str, serial: Option<ComponentSerial>) -> Result<Key, UrnError> {
    company_prefix(prefix)?;
    Ok(Key::Component(Component { part: format!("{prefix}{part}").parse()?, serial }))
}

fn item_piece(
    prefix: &str,
    item: &str,
    piece: &str,
    total: &str,
    serial: Option<Serial>,
) -> Result<Key, UrnError> {
    let gtin = rotated(prefix, item, 13)?;
    let piece: Piece = format!("{gtin}{piece}{total}").parse()?;
    Ok(Key::Piece { piece, variant: None, lot: None, serial })
}

/// The EPC URN of `key`, whose company prefix has `prefix_digits` digits.
pub fn urn_of(key: &Key, prefix_digits: usize) -> Result<String, UrnError> {
    if !COMPANY_PREFIX_DIGITS.contains(&prefix_digits) {
        return Err(UrnError::CompanyPrefix);
    }
    let at = prefix_digits;
    let escape = percent::encode_urn;
    Ok(match key {
        Key::TradeItem { variant, lot, serial, .. }
            if variant.is_some() || (lot.is_some() && serial.is_some()) =>
        {
            return Err(UrnError::NoUrn);
        }
        Key::Piece { variant, lot, .. } if variant.is_some() || lot.is_some() => {
            return Err(UrnError::NoUrn);
        }
        Key::TradeItem { gtin, serial: Some(serial), .. } => {
            format!("urn:epc:id:sgtin:{}.{}", unrotated(gtin.as_str(), at)?, escape(serial.as_str()))
        }
        Key::TradeItem { gtin, lot: Some(lot), .. } => {
            format!("urn:epc:class:lgtin:{}.{}", unrotated(gtin.as_str(), at)?, escape(lot.as_str()))
        }
        Key::TradeItem { gtin, .. } => format!("urn:epc:idpat:sgtin:{}.*", unrotated(gtin.as_str(), at)?),
        Key::ThirdPartyItem { gtin, serial } => {
            format!("urn:epc:id:upui:{}.{}", unrotated(gtin.as_str(), at)?, escape(serial.as_str()))
        }
        Key::LogisticUnit(sscc) => format!("urn:epc:id:sscc:{}", unrotated(sscc.as_str(), at)?),
        Key::Place(place) => {
            let extension = place.extension.as_ref().map_or("0", GlnExtension::as_str);
            format!("urn:epc:id:sgln:{}.{}", unchecked(place.gln.as_str(), at)?, escape(extension))
        }
        Key::Party(pgln) => party_urn(*pgln, at)?,
        Key::Document(gdti) => with_serial("gdti", gdti.as_str(), at)?,
        Key::Coupon(number) => with_serial("sgcn", number.as_str(), at)?,
        Key::Returnable(grai) => {
            with_serial("grai", grai.as_str().strip_prefix('0').unwrap_or_default(), at)?
        }
        Key::Asset(giai) => prefixed("giai", giai.as_str(), at)?,
        Key::Consignment(number) => prefixed("ginc", number.as_str(), at)?,
        Key::Shipment(gsin) => format!("urn:epc:id:gsin:{}", unchecked(gsin.as_str(), at)?),
        Key::Provider(gsrn, None) => format!("urn:epc:id:gsrnp:{}", unchecked(gsrn.as_str(), at)?),
        Key::Recipient(gsrn, None) => format!("urn:epc:id:gsrn:{}", unchecked(gsrn.as_str(), at)?),
        Key::Component(Component { part, serial }) => {
            let (prefix, rest) = part.as_str().split_at_checked(at).ok_or(UrnError::CompanyPrefix)?;
            let part = escape(rest);
            match serial {
                Some(serial) => format!("urn:epc:id:cpi:{prefix}.{part}.{serial}"),
                None => format!("urn:epc:idpat:cpi:{prefix}.{part}.*"),
            }
        }
        Key::Piece { piece, serial, .. } => {
            let item = unrotated(piece.gtin.as_str(), at)?;
            let count = format!("{:02}.{:02}", piece.piece, piece.total);
            match serial {
                Some(serial) => format!("urn:epc:id:itip:{item}.{count}.{}", escape(serial.as_str())),
                None => format!("urn:epc:idpat:itip:{item}.{count}.*"),
            }
        }
        Key::Model(_) | Key::Provider(_, Some(_)) | Key::Recipient(_, Some(_)) => {
            return Err(UrnError::NoUrn);
        }
    })
}

fn party_urn(pgln: Pgln, at: usize) -> Result<String, UrnError> {
    Ok(format!("urn:epc:id:pgln:{}", unchecked(pgln.as_str(), at)?))
}

/// Drops the check digit and sets the dot after the company prefix.
fn unchecked(digits: &str, at: usize) -> Result<String, UrnError> {
    let body = digits.get(..digits.len().saturating_sub(1)).ok_or(UrnError::CompanyPrefix)?;
    let (prefix, rest) = body.split_at_checked(at).ok_or(UrnError::CompanyPrefix)?;
    Ok(format!("{prefix}.{rest}"))
}

/// As [`unchecked`], and the first digit goes behind the dot.
fn unrotated(digits: &str, at: usize) -> Result<String, UrnError> {
    let (first, rest) = digits.split_at_checked(1).ok_or(UrnError::CompanyPrefix)?;
    let body = rest.get(..rest.len().saturating_sub(1)).ok_or(UrnError::CompanyPrefix)?;
    let (prefix, reference) = body.split_at_checked(at).ok_or(UrnError::CompanyPrefix)?;
    Ok(format!("{prefix}.{first}{reference}"))
}

fn prefixed(scheme: &str, text: &str, at: usize) -> Result<String, UrnError> {
    let (prefix, reference) = text.split_at_checked(at).ok_or(UrnError::CompanyPrefix)?;
    company_prefix(prefix)?;
    Ok(format!("urn:epc:id:{scheme}:{prefix}.{}", percent::encode_urn(reference)))
}

fn with_serial(scheme: &str, text: &str, at: usize) -> Result<String, UrnError> {
    let (base, serial) = text.split_at_checked(13).ok_or(UrnError::NoUrn)?;
    let base = unchecked(base, at)?;
    Ok(if serial.is_empty() {
        format!("urn:epc:idpat:{scheme}:{base}.*")
    } else {
        format!("urn:epc:id:{scheme}:{base}.{}", percent::encode_urn(serial))
    })
}
