//! Whom to believe: C2SP tlog-policy (draft of 2026), and the trust file that adds our own lines to it.
//!
//! Lines whose first word starts with `#` are comments. No key stands twice, whatever it is called, and no name is a member of
//! two groups: each witness counts once. A witness outside the quorum is known, and its cosignatures are checked.
//!
//! ```text
//! log <vkey> [<url>]
//! witness <name> <vkey> [<url>]
//! group <name> <any | all | number> <name> …
//! quorum <name | none>
//! registrar <thumbprint>
//! chain <chain id> <contract address>
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use super::{
    cosignature, decimal,
    note::{Algorithm, Note, NoteError, SignatureLine, VerifierKey},
};
use crate::keys::Kid;

/// Lines of a policy and members of a group.
const LINES_MAX: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: VerifierKey,
    pub url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    threshold: usize,
    members: Vec<String>,
}

/// A contract that heads are anchored in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub id: u64,
    /// `0x` and 40 lower-case hexadecimal digits.
    pub contract: String,
}

/// A parsed policy or trust file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    pub logs: Vec<Listed>,
    witnesses: BTreeMap<String, Listed>,
    groups: BTreeMap<String, Group>,
    quorum: Option<String>,
    /// Keys whose enrolments count.
    pub registrars: Vec<Kid>,
    pub chains: Vec<Chain>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {rule}")]
pub struct PolicyError {
    pub line: usize,
    pub rule: &'static str,
}

/// Which witnesses cosigned, when, and whether they are enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// Name in the policy → Unix seconds.
    pub by: BTreeMap<String, u64>,
    pub enough: bool,
    /// The second in which there were enough; `None` where the quorum is not met, or asks for nobody.
    pub enough_at: Option<u64>,
}

impl Policy {
    /// Name in the policy → witness.
    pub const fn witnesses(&self) -> &BTreeMap<String, Listed> {
        &self.witnesses
    }

    /// Checks every cosignature of a known witness; one that does not verify refuses the note.
    pub fn witnessed(&self, note: &Note) -> Result<Witnessed, NoteError> {
        let mut by = BTreeMap::new();
        for (name, witness) in &self.witnesses {
            match cosignature::verify(note, &witness.key) {
                Ok(time) => drop(by.insert(name.clone(), time)),
                Err(NoteError::Unsigned(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let enough = self.quorum.as_ref().is_none_or(|name| self.is_met(name, &by));
        Ok(Witnessed { enough, enough_at: self.enough_at(&by), by })
    }

    fn enough_at(&self, by: &BTreeMap<String, u64>) -> Option<u64> {
        let quorum = self.quorum.as_ref()?;
        let times: BTreeSet<u64> = by.values().copied().collect();
        times.into_iter().find(|now| {
            let until_now = by.iter().filter(|(_, time)| *time <= now);
            self.is_met(quorum, &until_now.map(|(name, time)| (name.clone(), *time)).collect())
        })
    }

    /// Whether a line on a checkpoint of `log` is by that log or by a witness whom the file names.
    pub fn knows_line(&self, log: &VerifierKey, line: &SignatureLine) -> bool {
        let by = |key: &VerifierKey| line.name == key.name && line.id == key.id();
        by(log) || self.witnesses.values().any(|witness| by(&witness.key))
    }

    /// Whether cosignatures by the named witnesses satisfy the quorum.
    pub fn is_enough(&self, names: impl IntoIterator<Item = String>) -> bool {
        let by = names.into_iter().map(|name| (name, 0)).collect();
        self.quorum.as_ref().is_none_or(|name| self.is_met(name, &by))
    }

    /// The witnesses that the quorum counts, and the fewest of them that can meet it: what a look-up narrows its search by.
    /// Where no quorum is asked for, everybody and none.
    pub fn deciding(&self) -> (Vec<&str>, usize) {
        let Some(quorum) = &self.quorum else {
            return (self.witnesses.keys().map(String::as_str).collect(), 0);
        };
        let mut names = Vec::new();
        let fewest = self.fewest(quorum, &mut names);
        (names, fewest)
    }

    fn fewest<'a>(&'a self, name: &'a str, names: &mut Vec<&'a str>) -> usize {
        let Some(group) = self.groups.get(name) else {
            names.push(name);
            return 1;
        };
        let mut of_members: Vec<usize> = Vec::with_capacity(group.members.len());
        for member in &group.members {
            of_members.push(self.fewest(member, names));
        }
        of_members.sort_unstable();
        of_members.iter().take(group.threshold).sum()
    }

    /// Groups name only what stands above them and no name is in two groups, so that each line is looked at once.
    fn is_met(&self, name: &str, by: &BTreeMap<String, u64>) -> bool {
        match self.groups.get(name) {
            Some(group) => {
                group.members.iter().filter(|member| self.is_met(member, by)).count() >= group.threshold
            }
            None => by.contains_key(name),
        }
    }

    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        if line.chars().any(|c| c.is_ascii_control() && c != '\t') {
            return Err("a control character");
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            [] => Ok(()),
            [comment, ..] if comment.starts_with('#') => Ok(()),
            ["log", key, url @ ..] => {
                let log = listed(key, url, Algorithm::Ed25519)?;
                let is_known =
                    |other: &Listed| other.key.key == log.key.key || other.key.name == log.key.name;
                if self.logs.iter().any(is_known) {
                    return Err("a log's key or origin stands above");
                }
                self.logs.push(log);
                Ok(())
            }
            ["witness", name, key, url @ ..] => {
                let witness = listed(key, url, Algorithm::CosignatureV1)?;
                self.claim(name)?;
                if self.witnesses.values().any(|other| other.key.key == witness.key.key) {
                    return Err("the witness's key stands above under another name");
                }
                self.witnesses.insert((*name).to_owned(), witness);
                Ok(())
            }
            ["group", name, threshold, members @ ..] => self.add_group(name, threshold, members),
            ["quorum", name] => {
                if self.quorum.is_some() {
                    return Err("a second quorum");
                }
                let known = *name == "none" || self.knows(name);
                self.quorum = Some((*name).to_owned());
                if known { Ok(()) } else { Err("the quorum names what does not stand above it") }
            }
            ["registrar", kid] => {
                self.registrars.push(kid.parse().map_err(|_| "not a key thumbprint")?);
                Ok(())
            }
            ["chain", id, contract] => {
                let id = decimal(id).ok_or("not a chain id")?;
                let digits = contract.strip_prefix("0x").ok_or("not a contract address")?;
                let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                if digits.len() != 40 || !is_hex {
                    return Err("not a contract address in lower case");
                }
                self.chains.push(Chain { id, contract: (*contract).to_owned() });
                Ok(())
            }
            _ => Err("not a line of a policy"),
        }
    }

    fn add_group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), &'static str> {
        let distinct: BTreeSet<&&str> = members.iter().collect();
        if members.is_empty() || distinct.len() != members.len() {
            return Err("a group has members, each once");
        }
        if !members.iter().all(|member| self.knows(member)) {
            return Err("a group names what does not stand above it");
        }
        let is_taken =
            |member: &&str| self.groups.values().any(|group| group.members.iter().any(|of| of == member));
        if members.iter().any(is_taken) {
            return Err("a group's member is in another group");
        }
        let threshold = match threshold {
            "any" => 1,
            "all" => members.len(),
            number => decimal(number).and_then(|number| usize::try_from(number).ok()).unwrap_or(0),
        };
        if threshold == 0 || threshold > members.len() {
            return Err("a group's threshold is any, all, or a number of its members");
        }
        self.claim(name)?;
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.groups.insert(name.to_owned(), Group { threshold, members });
        Ok(())
    }

    fn knows(&self, name: &str) -> bool {
        self.witnesses.contains_key(name) || self.groups.contains_key(name)
    }

    fn claim(&self, name: &str) -> Result<(), &'static str> {
        if name == "none" || self.knows(name) { Err("the name is taken") } else { Ok(()) }
    }
}

/// The trust file that says the same, but where witnesses are asked: a reader asks nobody.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.logs.iter().try_for_each(|log| writeln!(f, "log {}", log.key))?;
        self.witnesses
            .iter()
            .try_for_each(|(name, witness)| writeln!(f, "witness {name} {}", witness.key))?;
        let is_member = |name: &String| self.groups.values().any(|group| group.members.contains(name));
        let outermost = self.groups.keys().filter(|name| !is_member(name));
        outermost.into_iter().try_for_each(|name| self.write_group(f, name))?;
        writeln!(f, "quorum {}", self.quorum.as_deref().unwrap_or("none"))?;
        self.registrars.iter().try_for_each(|kid| writeln!(f, "registrar {kid}"))?;
        self.chains.iter().try_for_each(|chain| writeln!(f, "chain {} {}", chain.id, chain.contract))
    }
}

impl Policy {
    /// After its members: a group names only what stands above it.
    fn write_group(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let Some(Group { threshold, members }) = self.groups.get(name) else { return Ok(()) };
        members.iter().try_for_each(|member| self.write_group(f, member))?;
        writeln!(f, "group {name} {threshold} {}", members.join(" "))
    }
}

fn listed(key: &str, url: &[&str], algorithm: Algorithm) -> Result<Listed, &'static str> {
    let key: VerifierKey = key.parse().map_err(|_| "not a verifier key")?;
    if key.algorithm != algorithm {
        return Err("a verifier key of another signature type than logs or witnesses have");
    }
    match url {
        [] => Ok(Listed { key, url: None }),
        [url] => Ok(Listed { key, url: Some((*url).to_owned()) }),
        _ => Err("more words than the line has room for"),
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut policy = Self::default();
        for (at, line) in text.trim_end_matches('\n').split('\n').enumerate() {
            let line_number = at + 1;
            let fail = |rule| PolicyError { line: line_number, rule };
            if at >= LINES_MAX {
                return Err(fail("more lines than a policy may have"));
            }
            policy.add(line).map_err(fail)?;
        }
        if policy.quorum.as_deref() == Some("none") {
            policy.quorum = None;
        } else if policy.quorum.is_none() {
            return Err(PolicyError { line: text.lines().count(), rule: "no quorum line" });
        }
        Ok(policy)
    }
}
