//! Signed notes: a text and signature lines under it (C2SP signed-note 1.0.0).

use std::{fmt, str::FromStr};

use crate::{
    b64,
    hash::sha256_of,
    keys::{KeyError, PublicKey, SecretKey},
};

/// Bytes of a whole note, and signature lines on it.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
pub const SIGNATURES_MAX: usize = 100;

/// Signature types of the specification's registry that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// 0x01: Ed25519 over the note's text.
    Ed25519,
    /// 0x04: timestamped cosignature of a witness (C2SP tlog-cosignature).
    CosignatureV1,
}

impl Algorithm {
    pub const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("longer than a note may be")]
    TooLong,
    #[error("not a text, a blank line and signature lines")]
    Malformed,
    #[error("a signature line is not in its format")]
    SignatureLine,
    #[error("a key name is empty or holds a plus sign or white space")]
    KeyName,
    #[error("a verifier or signer key is not in its format")]
    Key,
    #[error("a signature type that is not known here")]
    UnknownAlgorithm,
    #[error(transparent)]
    PublicKey(#[from] KeyError),
    #[error("no signature by {0} stands on the note")]
    Unsigned(&'static str),
    #[error("the signature does not verify")]
    BadSignature,
}

/// A key name: not empty, neither plus sign nor white space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Box<str>);

impl KeyName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let bad = |c: char| c == '+' || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.contains(bad) { Err(NoteError::KeyName) } else { Ok(Self(text.into())) }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// First four bytes of `SHA-256(name ‖ 0x0A ‖ type ‖ key)`.
pub type KeyId = [u8; 4];

fn key_id(name: &KeyName, algorithm: Algorithm, key: &PublicKey) -> KeyId {
    let digest = sha256_of(&[name.as_str().as_bytes(), b"\n", &[algorithm.byte()], key.as_bytes()]);
    let [a, b, c, d, ..] = digest.0;
    [a, b, c, d]
}

/// A verifier key: `<name>+<hex key id>+<base64(type ‖ key)>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    pub name: KeyName,
    pub algorithm: Algorithm,
    pub key: PublicKey,
}

impl VerifierKey {
    pub fn id(&self) -> KeyId {
        key_id(&self.name, self.algorithm, &self.key)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![self.algorithm.byte()];
        typed.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), b64::std(&typed))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let (name, id, typed) = split_key(text)?;
        let (&[byte], key) = typed.split_first_chunk::<1>().ok_or(NoteError::Key)?;
        let algorithm = match byte {
            0x01 => Algorithm::Ed25519,
            0x04 => Algorithm::CosignatureV1,
            _ => return Err(NoteError::UnknownAlgorithm),
        };
        let key = Self { name, algorithm, key: PublicKey::from_bytes(key)? };
        if key.id() == id { Ok(key) } else { Err(NoteError::Key) }
    }
}

/// `<name>+<8 hex digits>+<base64>`; base64 may itself hold plus signs.
fn split_key(text: &str) -> Result<(KeyName, KeyId, Vec<u8>), NoteError> {
    let (name, rest) = text.split_once('+').ok_or(NoteError::Key)?;
    let (id, typed) = rest.split_once('+').ok_or(NoteError::Key)?;
    let is_hex = id.len() == 8 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex {
        return Err(NoteError::Key);
    }
    let id = u32::from_str_radix(id, 16).map_err(|_| NoteError::Key)?;
    Ok((name.parse()?, id.to_be_bytes(), b64::from_std(typed).map_err(|_| NoteError::Key)?))
}

/// What signs: a name and an Ed25519 secret. Text form `PRIVATE+KEY+<name>+<hex key id>+<base64(0x01 ‖ seed)>`.
#[derive(Debug)]
pub struct SignerKey {
    pub name: KeyName,
    pub secret: SecretKey,
}

impl SignerKey {
    /// The key under which the note itself is signed.
    pub fn verifier(&self) -> VerifierKey {
        self.verifier_as(Algorithm::Ed25519)
    }

    pub fn verifier_as(&self, algorithm: Algorithm) -> VerifierKey {
        VerifierKey { name: self.name.clone(), algorithm, key: self.secret.public() }
    }

    /// The secret in its text form: for a file that only its owner can read.
    pub fn to_secret_text(&self) -> String {
        let mut typed = vec![Algorithm::Ed25519.byte()];
        typed.extend_from_slice(&self.secret.seed());
        let id = u32::from_be_bytes(self.verifier().id());
        format!("PRIVATE+KEY+{}+{id:08x}+{}", self.name, b64::std(&typed))
    }

    /// Signs `text`, which ends in a line feed.
    pub fn sign(&self, text: &str) -> SignatureLine {
        let signature = self.secret.sign(text.as_bytes()).to_vec();
        SignatureLine { name: self.name.clone(), id: self.verifier().id(), signature }
    }
}

impl FromStr for SignerKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let rest = text.strip_prefix("PRIVATE+KEY+").ok_or(NoteError::Key)?;
        let (name, id, typed) = split_key(rest)?;
        let (&[byte], seed) = typed.split_first_chunk::<1>().ok_or(NoteError::Key)?;
        if byte != Algorithm::Ed25519.byte() {
            return Err(NoteError::UnknownAlgorithm);
        }
        let seed: &[u8; 32] = seed.try_into().map_err(|_| NoteError::Key)?;
        let key = Self { name, secret: SecretKey::from_seed(seed) };
        if key.verifier().id() == id { Ok(key) } else { Err(NoteError::Key) }
    }
}

/// `— <name> <base64(key id ‖ signature)>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    pub name: KeyName,
    pub id: KeyId,
    pub signature: Vec<u8>,
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id[..], &self.signature].concat();
        write!(f, "— {} {}", self.name, b64::std(&bytes))
    }
}

impl FromStr for SignatureLine {
    type Err = NoteError;

    fn from_str(line: &str) -> Result<Self, NoteError> {
        let rest = line.strip_prefix("— ").ok_or(NoteError::SignatureLine)?;
        let (name, bytes) = rest.split_once(' ').ok_or(NoteError::SignatureLine)?;
        let bytes = b64::from_std(bytes).map_err(|_| NoteError::SignatureLine)?;
        let (id, signature) = bytes.split_first_chunk::<4>().ok_or(NoteError::SignatureLine)?;
        if signature.is_empty() {
            return Err(NoteError::SignatureLine);
        }
        Ok(Self { name: name.parse()?, id: *id, signature: signature.to_vec() })
    }
}

/// A text and the signature lines under it, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Ends in a line feed.
    pub text: String,
    pub signatures: Vec<SignatureLine>,
}

impl Note {
    /// The lines by `key`: same name and key id. More than one is not an error of the format.
    pub fn lines_of<'note>(
        &'note self,
        key: &'note VerifierKey,
    ) -> impl Iterator<Item = &'note SignatureLine> + 'note {
        let id = key.id();
        self.signatures.iter().filter(move |line| line.name == key.name && line.id == id)
    }

    /// Checks the plain Ed25519 signature of `key` over the text. A known key whose line does not verify refuses the note.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let mut lines = self.lines_of(key).peekable();
        if lines.peek().is_none() {
            return Err(NoteError::Unsigned("the key asked for"));
        }
        for line in lines {
            let verdict = key.key.verify_strict(self.text.as_bytes(), &line.signature);
            verdict.map_err(|_| NoteError::BadSignature)?;
        }
        Ok(())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong);
        }
        if note.chars().any(|c| c.is_ascii_control() && c != '\n') {
            return Err(NoteError::Malformed);
        }
        // The last blank line parts text from signatures: the text may hold blank lines of its own.
        let at = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
        let (text, rest) = note.split_at_checked(at + 1).ok_or(NoteError::Malformed)?;
        let lines = rest.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
        let lines: Vec<&str> = lines.ok_or(NoteError::Malformed)?.split('\n').collect();
        if lines.len() > SIGNATURES_MAX {
            return Err(NoteError::TooLong);
        }
        let signatures = lines.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), signatures })
    }
}
