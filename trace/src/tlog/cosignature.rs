//! A witness's timestamped signature on a checkpoint (C2SP tlog-cosignature 1.0.1, `cosignature/v1`).

use super::note::{Algorithm, Note, NoteError, SignatureLine, SignerKey, VerifierKey};

/// Bytes of the timestamp before the Ed25519 signature.
const TIME_BYTES: usize = 8;

/// The message that a witness signs: `time` in Unix seconds, then the checkpoint's whole text.
pub fn message(time: u64, checkpoint_text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{checkpoint_text}")
}

/// Cosigns a checkpoint's text at `time` (Unix seconds).
pub fn cosign(checkpoint_text: &str, time: u64, witness: &SignerKey) -> SignatureLine {
    let signature = witness.secret.sign(message(time, checkpoint_text).as_bytes());
    SignatureLine {
        name: witness.name.clone(),
        id: witness.verifier_as(Algorithm::CosignatureV1).id(),
        signature: [&time.to_be_bytes()[..], &signature].concat(),
    }
}

/// The moment at which `witness` saw the checkpoint, in Unix seconds; its newest line where there are several.
pub fn verify(note: &Note, witness: &VerifierKey) -> Result<u64, NoteError> {
    let mut newest = None;
    for line in note.lines_of(witness) {
        newest = newest.max(Some(verify_line(&note.text, line, witness)?));
    }
    newest.ok_or(NoteError::Unsigned("the witness asked for"))
}

/// As [`verify`], for one line that came by itself.
pub fn verify_line(
    checkpoint_text: &str,
    line: &SignatureLine,
    witness: &VerifierKey,
) -> Result<u64, NoteError> {
    let is_theirs = line.name == witness.name && line.id == witness.id();
    if witness.algorithm != Algorithm::CosignatureV1 || !is_theirs {
        return Err(NoteError::Unsigned("the witness asked for"));
    }
    let parts = line.signature.split_first_chunk::<TIME_BYTES>();
    let (time, signature) = parts.ok_or(NoteError::SignatureLine)?;
    let time = u64::from_be_bytes(*time);
    let verdict = witness.key.verify_strict(message(time, checkpoint_text).as_bytes(), signature);
    verdict.map(|()| time).map_err(|_| NoteError::BadSignature)
}
