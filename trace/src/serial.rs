//! Serial numbers of packs: 17 characters, computed and authenticated, never stored.
//!
//! `serial = E ‖ C32(T ‖ X)`: E the key epoch, T 45 bits that authenticate the index, X the index masked by 35 bits that T
//! derives. Injective per GTIN and epoch; hides order and volume; a code that was never issued is known without a query.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroize;

use crate::hash::{Hash, sha256};

/// Characters of a serial: the epoch and 80 bits.
pub const SERIAL_LEN: usize = 17;
/// Indices are 35 bits: 34 thousand million packs per GTIN and epoch.
pub const INDEX_MAX: u64 = (1 << X_BITS) - 1;

const T_BITS: u32 = 45;
const X_BITS: u32 = 35;
/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// One Crockford base-32 character: which master key the run was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(char);

/// A serial as printed: canonical, upper case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    #[error("not 17 characters of Crockford's base 32")]
    Malformed,
    #[error("the serial is of another key epoch")]
    OtherEpoch,
    /// A typing error or a guess.
    #[error("never issued")]
    NeverIssued,
    #[error("an index beyond 35 bits")]
    Index,
    #[error("a GTIN is 14 digits here")]
    Gtin,
}

/// The derived key of one GTIN in one epoch; wiped when dropped.
pub struct SerialKey {
    epoch: Epoch,
    key: [u8; 64],
}

impl Epoch {
    pub fn parse(text: &str) -> Result<Self, SerialError> {
        let mut chars = text.chars();
        match (chars.next().and_then(read), chars.next()) {
            (Some(value), None) => Ok(Self(symbol(value))),
            _ => Err(SerialError::Malformed),
        }
    }

    pub const fn as_char(self) -> char {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serial {
    /// Reads what a person types: lower case, O as 0, I and L as 1. No other leniency.
    pub fn parse(text: &str) -> Result<Self, SerialError> {
        if text.len() != SERIAL_LEN {
            return Err(SerialError::Malformed);
        }
        let canonical: Option<String> = text.chars().map(|typed| read(typed).map(symbol)).collect();
        canonical.map(Self).ok_or(SerialError::Malformed)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn epoch(&self) -> Epoch {
        Epoch(self.0.chars().next().unwrap_or('0'))
    }

    fn bits(&self) -> u128 {
        self.0.chars().skip(1).filter_map(read).fold(0, |bits, value| (bits << 5) | u128::from(value))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SerialKey {
    /// HKDF-SHA256 (RFC 5869), empty salt, info `suyuan-serial/1/{E}/{gtin14}`, 64 bytes.
    pub fn derive(master: &[u8; 32], epoch: Epoch, gtin14: &str) -> Result<Self, SerialError> {
        if gtin14.len() != 14 || !gtin14.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SerialError::Gtin);
        }
        let mut key = [0; 64];
        let info = format!("suyuan-serial/1/{epoch}/{gtin14}");
        Hkdf::<Sha256>::new(None, master).expand(info.as_bytes(), &mut key).map_err(|_| SerialError::Gtin)?;
        Ok(Self { epoch, key })
    }

    /// What the run's record carries, so that a key handed over later can be checked.
    pub fn digest(&self) -> Hash {
        sha256(&self.key)
    }

    pub fn serial(&self, index: u64) -> Result<Serial, SerialError> {
        if index > INDEX_MAX {
            return Err(SerialError::Index);
        }
        let tag = self.tag(index);
        let bits = (u128::from(tag) << X_BITS) | u128::from(index ^ self.mask(tag));
        let mut text = String::with_capacity(SERIAL_LEN);
        text.push(self.epoch.0);
        for place in (0..16).rev() {
            text.push(symbol(low_bits(bits >> (5 * place), 5)));
        }
        Ok(Serial(text))
    }

    /// The index that the serial was made from; anything that was not is refused.
    pub fn index(&self, serial: &Serial) -> Result<u64, SerialError> {
        if serial.epoch() != self.epoch {
            return Err(SerialError::OtherEpoch);
        }
        let bits = serial.bits();
        let tag = low_bits(bits >> X_BITS, T_BITS);
        let index = low_bits(bits, X_BITS) ^ self.mask(tag);
        if self.tag(index) == tag { Ok(index) } else { Err(SerialError::NeverIssued) }
    }

    /// First 45 bits of HMAC(k_t, index).
    fn tag(&self, index: u64) -> u64 {
        first_bits(self.key.split_at(32).0, index, T_BITS)
    }

    /// First 35 bits of HMAC(k_x, T).
    fn mask(&self, tag: u64) -> u64 {
        first_bits(self.key.split_at(32).1, tag, X_BITS)
    }
}

impl Drop for SerialKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// The most significant `bits` of HMAC-SHA256 over a big-endian u64.
fn first_bits(key: &[u8], message: u64, bits: u32) -> u64 {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return 0 };
    mac.update(&message.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let head = digest.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head));
    head >> (64 - bits)
}

fn low_bits(value: u128, bits: u32) -> u64 {
    // At most 45 bits.
    u64::try_from(value & ((1 << bits) - 1)).unwrap_or(0)
}

fn symbol(value: u64) -> char {
    let place = usize::try_from(value).unwrap_or(0);
    ALPHABET.get(place).copied().map_or('0', char::from)
}

fn read(typed: char) -> Option<u64> {
    let typed = match typed.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let place = ALPHABET.iter().position(|symbol| char::from(*symbol) == typed)?;
    u64::try_from(place).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn key() -> SerialKey {
        SerialKey::derive(&[5; 32], Epoch::parse("7").unwrap(), "09521234000013").unwrap()
    }

    #[test]
    fn serials_are_distinct_and_give_their_index_back() {
        let key = key();
        let mut seen = HashSet::new();
        for index in (0..3_000).chain([INDEX_MAX - 1, INDEX_MAX]) {
            let serial = key.serial(index).unwrap();
            assert_eq!(serial.as_str().len(), SERIAL_LEN);
            assert_eq!(key.index(&serial), Ok(index));
            assert!(seen.insert(serial));
        }
        assert_eq!(key.serial(INDEX_MAX + 1), Err(SerialError::Index));
    }

    #[test]
    fn the_layout_is_the_epoch_the_tag_and_the_masked_index() {
        // T and X computed again by the words of the format.
        let key = key();
        let serial = key.serial(123_456).unwrap();
        let hmac = |key: &[u8], message: u64| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            mac.update(&message.to_be_bytes());
            let digest: [u8; 32] = mac.finalize().into_bytes().into();
            digest.iter().fold(String::new(), |bits, byte| bits + &format!("{byte:08b}"))
        };
        let tag = hmac(&key.key[..32], 123_456)[..45].to_owned();
        let mask = hmac(&key.key[32..], u64::from_str_radix(&tag, 2).unwrap())[..35].to_owned();
        let masked = 0x1_e240 ^ u64::from_str_radix(&mask, 2).unwrap();
        let bits = format!("{tag}{masked:035b}");
        let text: String = bits
            .as_bytes()
            .chunks(5)
            .map(|five| symbol(u64::from_str_radix(std::str::from_utf8(five).unwrap(), 2).unwrap()))
            .collect();
        assert_eq!(serial.as_str(), format!("7{text}"));
    }

    #[test]
    fn typing_errors_and_swaps_are_never_issued() {
        let key = key();
        for index in 0..20 {
            let serial = key.serial(index).unwrap().to_string();
            for at in 1..SERIAL_LEN {
                for symbol in ALPHABET {
                    let mut typed = serial.clone().into_bytes();
                    typed[at] = *symbol;
                    let typed = String::from_utf8(typed).unwrap();
                    let read = key.index(&Serial::parse(&typed).unwrap());
                    assert_eq!(read == Ok(index), typed == serial, "{serial} typed as {typed}");
                }
                if at + 1 < SERIAL_LEN && serial.as_bytes()[at] != serial.as_bytes()[at + 1] {
                    let mut swapped = serial.clone().into_bytes();
                    swapped.swap(at, at + 1);
                    let swapped = Serial::parse(std::str::from_utf8(&swapped).unwrap()).unwrap();
                    assert_eq!(key.index(&swapped), Err(SerialError::NeverIssued));
                }
            }
        }
    }

    #[test]
    fn letters_that_look_like_digits_are_read_as_digits() {
        let canonical = Serial::parse("70123456789ABCD01").unwrap();
        for typed in ["7o123456789abcdoi", "7O123456789ABCDOL", "70l23456789abcd0I"] {
            assert_eq!(Serial::parse(typed).unwrap(), canonical, "{typed}");
        }
        for typed in [
            "70123456789ABCD0",
            "70123456789ABCD012",
            "70123456789ABCD0U",
            "70123456789ABCD-1",
            "溯70123456789AB01",
        ] {
            assert_eq!(Serial::parse(typed), Err(SerialError::Malformed), "{typed}");
        }
    }

    #[test]
    fn another_gtin_epoch_or_master_knows_nothing_of_a_serial() {
        let serial = key().serial(1).unwrap();
        let epoch = Epoch::parse("7").unwrap();
        let other_gtin = SerialKey::derive(&[5; 32], epoch, "09521234000020").unwrap();
        let other_master = SerialKey::derive(&[6; 32], epoch, "09521234000013").unwrap();
        let other_epoch = SerialKey::derive(&[5; 32], Epoch::parse("8").unwrap(), "09521234000013").unwrap();
        assert_eq!(other_gtin.index(&serial), Err(SerialError::NeverIssued));
        assert_eq!(other_master.index(&serial), Err(SerialError::NeverIssued));
        assert_eq!(other_epoch.index(&serial), Err(SerialError::OtherEpoch));
        assert_ne!(other_gtin.digest(), key().digest());
        assert!(SerialKey::derive(&[5; 32], epoch, "9521234000013").is_err());
    }
}
