//! `verify PACK --receipt`: a reading pack and the log's COSE receipt (RFC 9942) of its place.

use std::{io::Write, path::Path, process::ExitCode};

use trace::{
    causes::Causes,
    pack::{
        Frame, PACK_BYTES_MAX,
        receipt::{RECEIPT_BYTES_MAX, Receipt},
    },
    tlog::{checkpoint::Checkpoint, note::VerifierKey, policy::Policy},
};

use crate::verify::{VerifyError, read_trust, read_within};

/// What only a bundle carries.
const NOT_CHECKED: [(&str, &str); 4] = [
    ("witnesses", "a receipt carries no cosignature"),
    ("signatures", "a receipt carries no key: whether the device or gateway signed the pack"),
    ("enrolment", "whose key it is"),
    ("roster", "whether the key was revoked"),
];

/// Exit status 0: the log that the trust file names holds the pack. Not that the pack is by whom it says: that is a bundle's.
pub fn run(
    pack: &Path,
    receipt: &Path,
    trust: &Path,
    out: &mut impl Write,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let trust = read_trust(trust)?;
    let pack = read(pack, PACK_BYTES_MAX)?;
    let receipt = read(receipt, RECEIPT_BYTES_MAX)?;
    match check(&pack, &receipt, &trust) {
        Ok((head, index)) => {
            writeln!(out, "ok         log (1): the receipt is signed by {}, which you trust", head.origin)?;
            writeln!(out, "ok         inclusion (1): the pack stands at index {index} of {}", head.size)?;
            for (layer, what) in NOT_CHECKED {
                writeln!(out, "unchecked  {layer}: {what}")?;
            }
            writeln!(out, "INCLUDED")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(Failure::Bad(layer, why)) => {
            writeln!(out, "BAD        {layer}: {why}\nINVALID")?;
            Ok(ExitCode::from(1))
        }
        Err(Failure::Unnamed(origin)) => {
            let origin = origin.escape_debug();
            writeln!(out, "unchecked  log: the trust file does not name the log {origin}\nCOULD NOT CHECK")?;
            Ok(ExitCode::from(2))
        }
    }
}

enum Failure {
    Bad(&'static str, String),
    /// The trust file knows nothing of this log.
    Unnamed(String),
}

fn check(pack: &[u8], receipt: &[u8], trust: &Policy) -> Result<(Checkpoint, u64), Failure> {
    let bad = |layer| move |error: &dyn std::error::Error| Failure::Bad(layer, Causes(error).to_string());
    let frame = Frame::parse(pack).map_err(|error| bad("pack")(&error))?;
    let receipt = Receipt::parse(receipt).map_err(|error| bad("receipt")(&error))?;
    let log: Option<&VerifierKey> =
        trust.logs.iter().map(|log| &log.key).find(|key| key.name.as_str() == receipt.origin);
    let log = log.ok_or_else(|| Failure::Unnamed(receipt.origin.clone()))?;
    let head = receipt.verify(&frame.entry(), log).map_err(|error| bad("inclusion")(&error))?;
    Ok((head, receipt.index))
}

/// What is longer than it may be is read as nothing, which is no pack and no receipt.
fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, VerifyError> {
    Ok(read_within(path, bytes_max)?.unwrap_or_default())
}
