//! What a person's own browser signs, made where the person's key is.
//!
//! `trace` compiled to WebAssembly (wasm32-unknown-unknown), so that a form is turned into a record by the same code on the
//! phone and in the ledger. One question in, one answer out, both JSON; the key itself stays with WebCrypto, and so does
//! the randomness. The committed module is `static/trace.wasm`; `make wasm` builds it.

#[cfg(target_arch = "wasm32")]
mod abi;

use serde::{Deserialize, Serialize};
use trace::{
    b64,
    hash::Hash,
    keys::{Custody, Kid, PublicKey},
    profile::{
        Profile, Refusal,
        author::{self, AuthorError, Grounds},
    },
    record::statement::{Possession, possession_input},
};

/// What the page asks.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Question {
    /// What shows that this browser holds the key that it wants enrolled.
    Possession(Challenge),
    Record(Box<Form>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Challenge {
    possession: Possession,
    /// The public key's 32 bytes.
    key: Hash,
}

/// A form as it was filled in, and all that its record needs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    /// The profile's file, whole: its digest stands in the record.
    profile: String,
    step: String,
    /// Names and values as the form holds them.
    typed: Vec<(String, String)>,
    grounds: Grounds,
    enrolled: Enrolled,
    /// Unix seconds by this device's clock.
    iat: i64,
    /// Base64url of fresh randomness, 16 bytes a salt.
    salts: String,
}

/// What this browser kept when its key was enrolled.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enrolled {
    kid: Kid,
    aud: String,
    party: String,
}

/// What to sign: ASCII bytes (RFC 7515 §5.1).
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_input: Option<String>,
    /// Those of the salts that were used, for the ledger to make the same bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    salts: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refusals: Vec<Refusal>,
    /// For the page's console, not for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Answers a question; never fails otherwise than by saying so.
pub fn answer(question: &[u8]) -> Vec<u8> {
    // By way of a value, as the profile: one deserialiser's code instead of two.
    let question = serde_json::from_slice::<serde_json::Value>(question).and_then(Question::deserialize);
    let answer = match question {
        Ok(Question::Possession(challenge)) => prove(&challenge),
        Ok(Question::Record(form)) => write_down(*form),
        Err(error) => Err(Failure::Said(error.to_string())),
    };
    let answer = answer.unwrap_or_else(|failure| match failure {
        Failure::Refused(refusals) => Answer { refusals, ..Answer::default() },
        Failure::Said(error) => Answer { error: Some(error), ..Answer::default() },
    });
    // Strings and lists of strings: nothing here fails to serialise.
    serde_json::to_vec(&answer).unwrap_or_default()
}

enum Failure {
    Refused(Vec<Refusal>),
    Said(String),
}

impl Failure {
    fn said(text: &str) -> Self {
        Self::Said(text.to_owned())
    }
}

impl From<AuthorError> for Failure {
    fn from(error: AuthorError) -> Self {
        match error {
            AuthorError::Refused(refusals) => Self::Refused(refusals),
            other => Self::Said(trace::causes::Causes(&other).to_string()),
        }
    }
}

/// Signs for no key but this browser's own, and says of it nothing but that a browser holds it.
fn prove(Challenge { possession, key }: &Challenge) -> Result<Answer, Failure> {
    let key = PublicKey::from_bytes(key.as_bytes()).map_err(|error| Failure::Said(error.to_string()))?;
    if possession.kid != key.kid() || possession.custody != Custody::Browser {
        return Err(Failure::said("the possession is of another key"));
    }
    Ok(Answer { signing_input: Some(possession_input(possession)), ..Answer::default() })
}

fn write_down(form: Form) -> Result<Answer, Failure> {
    let profile =
        Profile::parse_in_little_code(&form.profile).map_err(|error| Failure::Said(error.to_string()))?;
    let step = profile.step(&form.step).ok_or_else(|| Failure::said("no such step"))?;
    // A record in another's name, or for another ledger, is nothing that this person meant.
    if form.grounds.aud != form.enrolled.aud || form.grounds.context.author != form.enrolled.party {
        return Err(Failure::said("the key was enrolled for another party or ledger"));
    }
    let salts = b64::from_url(&form.salts).map_err(|error| Failure::Said(error.to_string()))?;
    let (salts, _) = salts.as_chunks::<16>();
    let (prepared, used) =
        author::prepare((&profile, step), &form.typed, form.grounds, (form.iat, form.enrolled.kid), salts)?;
    let used = salts.get(..used).unwrap_or_default();
    Ok(Answer {
        signing_input: Some(prepared.signing_input().to_owned()),
        salts: Some(b64::url(used.as_flattened())),
        ..Answer::default()
    })
}
