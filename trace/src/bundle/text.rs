//! The text form.
//!
//! ```text
//! suyuan-bundle v1
//! checkpoint <lines>        then that many lines of a signed note, verbatim; one per log, by origin
//! seen <lines> [<hash>,…]   likewise, and the consistency path
//! record <checkpoint> <index> <key> [<hash>,…]
//! signed <header.payload.signature>
//! disclosure <text>         none or several
//! pack <checkpoint> <index> <key> [<hash>,…]
//! signed <base64url of the COSE_Sign1>
//! roster <item> <line index> <path or -> <kid> <party> <custody> <state> <since>
//! anchor <chain id> <contract> <origin> <size> <root> <transaction>
//! sha256 <hash of all bytes before this line>
//! ```
//! Hashes and keys are unpadded base64url; an empty path is `-`. Nothing stands twice, and everything in one order:
//! checkpoints by origin, `seen` by origin and size, statements by checkpoint and index, disclosures bytewise, anchors word by word; on a
//! note the log's own line, then the others by name and key id.

use std::{
    fmt::{self, Write as _},
    str::{FromStr, Split},
};

use super::{
    ANCHORS_MAX, Anchor, BUNDLE_BYTES_MAX, Bundle, ITEMS_MAX, Item, LOGS_MAX, SEEN_MAX, SeenProof, Signed,
};
use crate::{
    b64,
    hash::{Hash, sha256},
    keys::PublicKey,
    record::sd::DISCLOSURES_MAX,
    roster::LineProof,
    tlog::{
        checkpoint::Checkpoint,
        decimal,
        note::{Note, SignatureLine},
    },
};

const FIRST_LINE: &str = "suyuan-bundle v1";
/// Lines of an embedded note: three of a checkpoint, a blank one, and signatures.
const NOTE_LINES_MAX: u64 = 110;
/// Hashes of one path.
const PATH_HASHES_MAX: usize = 126;

/// Why a text is no bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("longer than a bundle may be")]
    TooLong,
    #[error("its last line is not the SHA-256 of what stands before: the file was damaged")]
    Damaged,
    #[error("line {line}: {rule}")]
    Line { line: usize, rule: &'static str },
    #[error("not in its one canonical form")]
    NotCanonical,
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = String::new();
        self.write_body(&mut body)?;
        writeln!(f, "{body}sha256 {}", sha256(body.as_bytes()))
    }
}

impl Bundle {
    fn write_body(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "{FIRST_LINE}")?;
        for note in &self.checkpoints {
            let note = note.to_string();
            write!(out, "checkpoint {}\n{note}", note.lines().count())?;
        }
        for seen in &self.seen {
            let note = seen.note.to_string();
            write!(out, "seen {} {}\n{note}", note.lines().count(), path_text(&seen.path))?;
        }
        self.items.iter().try_for_each(|item| write_item(out, item))?;
        for anchor in &self.anchors {
            let Anchor { chain_id, contract, origin, size, root, transaction } = anchor;
            writeln!(out, "anchor {chain_id} {contract} {origin} {size} {root} {transaction}")?;
        }
        Ok(())
    }
}

fn write_item(out: &mut String, item: &Item) -> fmt::Result {
    let place = format_args!(
        "{} {} {} {}",
        item.checkpoint,
        item.index,
        b64::url(item.key.as_bytes()),
        path_text(&item.path)
    )
    .to_string();
    match &item.signed {
        Signed::Record { signed, disclosures } => {
            writeln!(out, "record {place}\nsigned {signed}")?;
            disclosures.iter().try_for_each(|text| writeln!(out, "disclosure {text}"))?;
        }
        Signed::Pack(bytes) => writeln!(out, "pack {place}\nsigned {}", b64::url(bytes))?,
    }
    if let Some((number, proof)) = &item.roster {
        writeln!(out, "roster {number} {} {} {}", proof.index, path_text(&proof.path), proof.line)?;
    }
    Ok(())
}

fn path_text(path: &[Hash]) -> String {
    if path.is_empty() {
        return "-".to_owned();
    }
    let hashes: Vec<String> = path.iter().map(ToString::to_string).collect();
    hashes.join(",")
}

impl FromStr for Bundle {
    type Err = BundleError;

    fn from_str(text: &str) -> Result<Self, BundleError> {
        if text.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLong);
        }
        let unended = text.strip_suffix('\n').ok_or(BundleError::Damaged)?;
        let (body, last) = unended.rsplit_once('\n').ok_or(BundleError::Damaged)?;
        let body = text.get(..=body.len()).ok_or(BundleError::Damaged)?;
        if last.strip_prefix("sha256 ") != Some(sha256(body.as_bytes()).to_string().as_str()) {
            return Err(BundleError::Damaged);
        }
        let mut reader = Reader { lines: body.split('\n'), number: 0 };
        let bundle = reader.bundle().map_err(|rule| BundleError::Line { line: reader.number, rule })?;
        if bundle.to_string() == text { Ok(bundle) } else { Err(BundleError::NotCanonical) }
    }
}

struct Reader<'text> {
    lines: Split<'text, char>,
    number: usize,
}

/// Adds to a list that is bounded and strictly ascending.
fn push<T>(
    list: &mut Vec<T>,
    new: T,
    max: usize,
    ascends: impl Fn(&T, &T) -> bool,
) -> Result<(), &'static str> {
    if list.len() >= max {
        return Err("more of these than a bundle may hold");
    }
    if list.last().is_some_and(|last| !ascends(last, &new)) {
        return Err("stands twice, or not in its order");
    }
    list.push(new);
    Ok(())
}

fn items_ascend(one: &Item, next: &Item) -> bool {
    (one.checkpoint, one.index) < (next.checkpoint, next.index)
}

impl<'text> Reader<'text> {
    fn line(&mut self) -> Result<&'text str, &'static str> {
        self.number += 1;
        self.lines.next().ok_or("the bundle ends too early")
    }

    fn bundle(&mut self) -> Result<Bundle, &'static str> {
        let mut bundle = Bundle::default();
        if self.line()? != FIRST_LINE {
            return Err("not a bundle in version 1");
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(bundle);
            }
            let (word, rest) = line.split_once(' ').ok_or("a word alone")?;
            self.part(&mut bundle, word, rest)?;
        }
    }

    fn part(&mut self, bundle: &mut Bundle, word: &str, rest: &str) -> Result<(), &'static str> {
        match word {
            "checkpoint" => push(&mut bundle.checkpoints, self.note(rest)?, LOGS_MAX, |one, next| {
                place(one).0 < place(next).0
            }),
            "seen" => {
                let (lines, path) = rest.split_once(' ').ok_or("no consistency path")?;
                let seen = SeenProof { note: self.note(lines)?, path: parse_path(path)? };
                push(&mut bundle.seen, seen, SEEN_MAX, |one, next| place(&one.note) < place(&next.note))
            }
            "record" => {
                let signed = self.signed()?.to_owned();
                let record = item(rest, Signed::Record { signed, disclosures: Vec::new() })?;
                push(&mut bundle.items, record, ITEMS_MAX, items_ascend)
            }
            "pack" => {
                let bytes = b64::from_url(self.signed()?).map_err(|_| "a pack that is not base64url")?;
                let pack = item(rest, Signed::Pack(bytes))?;
                push(&mut bundle.items, pack, ITEMS_MAX, items_ascend)
            }
            "disclosure" => match bundle.items.last_mut().map(|item| &mut item.signed) {
                Some(Signed::Record { disclosures, .. }) => {
                    push(disclosures, rest.to_owned(), DISCLOSURES_MAX, |one, next| one < next)
                }
                _ => Err("a disclosure without its record"),
            },
            "roster" => {
                let item = bundle.items.last_mut().ok_or("a roster line without its statement")?;
                if item.roster.replace(roster(rest)?).is_some() {
                    return Err("a second roster line of one statement");
                }
                Ok(())
            }
            "anchor" => push(&mut bundle.anchors, anchor(rest)?, ANCHORS_MAX, |one, next| one < next),
            _ => Err("an unknown word"),
        }
    }

    fn signed(&mut self) -> Result<&'text str, &'static str> {
        self.line()?.strip_prefix("signed ").ok_or("no signed part")
    }

    fn note(&mut self, lines: &str) -> Result<Note, &'static str> {
        let count = decimal(lines).filter(|&count| count <= NOTE_LINES_MAX).ok_or("not a number of lines")?;
        let mut text = String::new();
        for _ in 0..count {
            text.push_str(self.line()?);
            text.push('\n');
        }
        let note: Note = text.parse().map_err(|_| "not a signed note")?;
        if note.text.parse::<Checkpoint>().is_err() {
            return Err("not a checkpoint");
        }
        let (first, others) = note.signatures.split_first().ok_or("not a signed note")?;
        let ascends = |one: &SignatureLine, next: &SignatureLine| (&one.name, one.id) < (&next.name, next.id);
        let ascends = others.is_sorted_by(ascends);
        if first.name.as_str() != place(&note).0 || !ascends {
            return Err("signature lines that are not the log's own and then the others in their order");
        }
        Ok(note)
    }
}

/// Origin and size of a note that is a checkpoint.
fn place(note: &Note) -> (String, u64) {
    note.text.parse().map(|head: Checkpoint| (head.origin, head.size)).unwrap_or_default()
}

fn parse_path(text: &str) -> Result<Vec<Hash>, &'static str> {
    if text == "-" {
        return Ok(Vec::new());
    }
    let path: Result<Vec<Hash>, _> = text.split(',').map(str::parse).collect();
    let path = path.map_err(|_| "a path that is not made of hashes")?;
    if path.len() > PATH_HASHES_MAX { Err("a path longer than any tree is high") } else { Ok(path) }
}

fn item(place: &str, signed: Signed) -> Result<Item, &'static str> {
    let words: Vec<&str> = place.split(' ').collect();
    let [checkpoint, index, key, path] = words.as_slice() else {
        return Err("not checkpoint, index, key and path");
    };
    let key = b64::from_url(key).map_err(|_| "a key that is not base64url")?;
    Ok(Item {
        signed,
        key: PublicKey::from_bytes(&key).map_err(|_| "not a public key")?,
        checkpoint: number(checkpoint)?,
        index: decimal(index).ok_or("not an index")?,
        path: parse_path(path)?,
        roster: None,
    })
}

fn roster(text: &str) -> Result<(usize, LineProof), &'static str> {
    let words: Vec<&str> = text.splitn(4, ' ').collect();
    let [item, index, path, line] = words.as_slice() else {
        return Err("not item, index, path and roster line");
    };
    let line = line.parse().map_err(|_| "not a roster line")?;
    let index = decimal(index).ok_or("not an index")?;
    Ok((number(item)?, LineProof { line, index, path: parse_path(path)? }))
}

fn anchor(text: &str) -> Result<Anchor, &'static str> {
    let words: Vec<&str> = text.split(' ').collect();
    let [chain_id, contract, origin, size, root, transaction] = words.as_slice() else {
        return Err("not chain, contract, origin, size, root and transaction");
    };
    Ok(Anchor {
        chain_id: decimal(chain_id).ok_or("not a chain id")?,
        contract: hex(contract, 40).ok_or("not a contract address")?,
        origin: (*origin).to_owned(),
        size: decimal(size).ok_or("not a size")?,
        root: root.parse().map_err(|_| "not a root")?,
        transaction: hex(transaction, 64).ok_or("not a transaction hash")?,
    })
}

fn hex(text: &str, digits: usize) -> Option<String> {
    let rest = text.strip_prefix("0x")?;
    let is_hex = rest.len() == digits && rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| text.to_owned())
}

fn number(text: &str) -> Result<usize, &'static str> {
    decimal(text).and_then(|number| usize::try_from(number).ok()).ok_or("not a number")
}
