//! The roster: every key of the ledger on a line of its own, under one root that the registrar states each hour.
//!
//! `formats.md`, "Keys and the roster": lines `kid party custody state since`, sorted bytewise; a leaf is a line without LF.

use std::{fmt, str::FromStr};

use crate::{
    hash::Hash,
    keys::{Custody, Kid},
    merkle::{self, Frontier, MakeError, ProofError, leaf_hash_of, verify_inclusion},
};

/// What a key may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyState {
    Good,
    Rotated,
    Revoked,
}

impl KeyState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Rotated => "rotated",
            Self::Revoked => "revoked",
        }
    }
}

impl FromStr for KeyState {
    type Err = NotARosterLine;

    fn from_str(word: &str) -> Result<Self, NotARosterLine> {
        match word {
            "good" => Ok(Self::Good),
            "rotated" => Ok(Self::Rotated),
            "revoked" => Ok(Self::Revoked),
            _ => Err(NotARosterLine),
        }
    }
}

/// One key: whose, who holds it, in which state since when (Unix seconds).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterLine {
    pub kid: Kid,
    /// Digital Link of the party.
    pub party: String,
    pub custody: Custody,
    pub state: KeyState,
    pub since: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a line of a roster")]
pub struct NotARosterLine;

impl fmt::Display for RosterLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kid, party, custody, state, since } = self;
        write!(f, "{kid} {party} {custody} {} {since}", state.as_str())
    }
}

impl FromStr for RosterLine {
    type Err = NotARosterLine;

    fn from_str(text: &str) -> Result<Self, NotARosterLine> {
        let words: Vec<&str> = text.split(' ').collect();
        let [kid, party, custody, state, since] = words.as_slice() else { return Err(NotARosterLine) };
        let line = Self {
            kid: kid.parse().map_err(|_| NotARosterLine)?,
            party: (*party).to_owned(),
            custody: custody.parse().map_err(|_| NotARosterLine)?,
            state: state.parse()?,
            since: since.parse().map_err(|_| NotARosterLine)?,
        };
        // One spelling: `+5` and `007` are numbers, too.
        if !line.party.is_empty() && line.to_string() == text { Ok(line) } else { Err(NotARosterLine) }
    }
}

/// All keys at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// Sorted bytewise.
    lines: Vec<String>,
}

/// Where a line stands in a roster of how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineProof {
    pub line: RosterLine,
    pub index: u64,
    pub path: Vec<Hash>,
}

impl Roster {
    pub fn new(lines: impl IntoIterator<Item = RosterLine>) -> Self {
        let mut lines: Vec<String> = lines.into_iter().map(|line| line.to_string()).collect();
        lines.sort_unstable();
        Self { lines }
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub fn root(&self) -> Hash {
        let mut frontier = Frontier::default();
        for line in &self.lines {
            frontier.push(leaf_hash_of(line.as_bytes()));
        }
        frontier.root()
    }

    /// The line of `kid` and its path; `None` where the roster has no such key.
    pub fn prove(&self, kid: &Kid) -> Result<Option<LineProof>, MakeError> {
        let start = kid.to_string();
        let Some(at) = self.lines.iter().position(|line| line.starts_with(&start)) else { return Ok(None) };
        let Some(Ok(line)) = self.lines.get(at).map(|line| line.parse()) else { return Ok(None) };
        let leaves: Vec<Hash> = self.lines.iter().map(|line| leaf_hash_of(line.as_bytes())).collect();
        let nodes = |level: u8, index: u64| {
            let start = usize::try_from(index << level).ok()?;
            leaves.get(start..start + (1 << level)).map(merkle::root)
        };
        let (size, index) = (as_u64(leaves.len()), as_u64(at));
        Ok(Some(LineProof { line, index, path: merkle::inclusion_proof(&nodes, size, index)? }))
    }
}

impl LineProof {
    /// Checks that the line stands in the roster with this root and number of lines.
    pub fn verify(&self, root: &Hash, lines: u64) -> Result<(), ProofError> {
        let leaf = leaf_hash_of(self.line.to_string().as_bytes());
        verify_inclusion(root, lines, self.index, &leaf, &self.path)
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    fn line(number: u8) -> RosterLine {
        RosterLine {
            kid: sha256(&[number]),
            party: format!("https://id.gs1.org/417/{number}"),
            custody: Custody::Platform,
            state: KeyState::Good,
            since: 1_800_000_000,
        }
    }

    #[test]
    fn every_line_is_proved_whatever_order_they_came_in() {
        let roster = Roster::new((0..11).map(line));
        assert_eq!(roster, Roster::new((0..11).rev().map(line)));
        for number in 0..11 {
            let proof = roster.prove(&line(number).kid).unwrap().unwrap();
            assert_eq!(proof.line, line(number));
            assert_eq!(proof.verify(&roster.root(), 11), Ok(()));
            let revoked =
                LineProof { line: RosterLine { state: KeyState::Revoked, ..line(number) }, ..proof };
            assert!(revoked.verify(&roster.root(), 11).is_err());
        }
        assert_eq!(roster.prove(&sha256(b"nobody")), Ok(None));
    }

    #[test]
    fn a_line_has_one_spelling() {
        let text = line(1).to_string();
        assert_eq!(text.parse(), Ok(line(1)));
        for bad in [
            text.replace(" good ", " fine "),
            text.replace(" 18", " +18"),
            format!("{text} "),
            text.replace(' ', "  "),
        ] {
            assert!(bad.parse::<RosterLine>().is_err(), "{bad}");
        }
    }
}
