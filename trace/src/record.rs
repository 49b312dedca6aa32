//! The trace record: an SD-JWT (RFC 9901) around one EPCIS 2.0 event or one statement about the ledger itself.
//!
//! What is logged is the text `header.payload.signature` as its author signed it; nothing is canonicalised to check it.
//! Private and personal fields are salted digests in that text; their disclosures live beside it and can be lost or
//! destroyed without breaking a proof.

pub mod claims;
pub mod jws;
pub mod sd;
pub mod statement;

use serde_json::{Map, Value};

pub use claims::{Body, Claims, ClaimsError, Ref, Rel, Seen};
pub use jws::JwsError;
pub use sd::DisclosureError;

use crate::{
    hash::{Hash, sha256},
    json,
    keys::{Kid, PublicKey, SecretKey},
};

/// `typ` of the JOSE header (RFC 9901 §10.9: explicit typing).
pub const TYP: &str = "trace-record+sd-jwt";
/// Bytes of the signed part, and of all disclosures of one record together.
pub const RECORD_BYTES_MAX: usize = json::Limits::RECORD.bytes_max;

/// `act` and `event_hash`: a record never tells by its shape whether it has them.
const CLAIM_DIGESTS: usize = 2;

/// Who may see a field; a profile says it of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    Public,
    /// Handed out by role.
    Private,
    /// About a natural person: handed out by role, and erasable.
    Personal,
}

/// A member or element of the event to be said by digest only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conceal {
    /// RFC 6901, from the event's root.
    pub pointer: String,
    pub visibility: Visibility,
}

/// The text that opens one concealed member or element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disclosure {
    pub text: String,
    pub digest: Hash,
    pub visibility: Visibility,
    /// RFC 6901, from the root of the claims: `/event/gx:farmer`, `/act`.
    pub pointer: String,
    /// `None` for an array element.
    pub name: Option<String>,
}

/// What an author is about to sign.
#[derive(Debug, Clone)]
pub struct Draft {
    pub claims: Claims,
    pub body: Body,
    /// Who typed for whom: personal, always concealed.
    pub act: Option<Value>,
    /// CBV event hash: private, always concealed, because an unsalted hash of private content can be guessed.
    pub event_hash: Option<String>,
}

/// A signed record, ready for the log.
#[derive(Debug, Clone)]
pub struct Issued {
    /// `header.payload.signature`, without any `~`.
    pub signed: String,
    /// SHA-256 of `signed`: what the log holds.
    pub entry: Hash,
    pub disclosures: Vec<Disclosure>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    #[error("a claim is not in its format")]
    Claims(#[from] ClaimsError),
    #[error("nothing stands at {pointer}")]
    NothingThere { pointer: String },
    #[error("{pointer} is never concealed")]
    NeverConcealed { pointer: String },
    #[error("{pointer} is public and cannot be concealed as such")]
    Public { pointer: String },
    #[error("a reserved name of RFC 9901 stands in the content")]
    ReservedName,
    #[error("the record would not pass its own checks")]
    Record(#[from] RecordError),
    #[error("the disclosures would not open the record")]
    Disclosure(#[from] DisclosureError),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("{bytes} bytes where {RECORD_BYTES_MAX} are allowed")]
    TooLong { bytes: usize },
    #[error("not a signed record")]
    Jws(#[from] JwsError),
    #[error("a claim is not in its format")]
    Claims(#[from] ClaimsError),
    #[error("a part that is never concealed is")]
    NeverConcealed,
}

/// A record that lacks nothing but its signature, which may be made where the key is and this ledger is not.
#[derive(Debug, Clone)]
pub struct Prepared {
    signing_input: String,
    disclosures: Vec<Disclosure>,
}

impl Prepared {
    /// The ASCII bytes to sign (RFC 7515 §5.1).
    pub fn signing_input(&self) -> &str {
        &self.signing_input
    }

    /// Does not verify: whoever takes a signature from elsewhere does.
    pub fn with_signature(self, signature: &[u8; 64]) -> Result<Issued, IssueError> {
        let signed = jws::with_signature(self.signing_input, signature);
        check_own_work(&signed, &self.disclosures)?;
        Ok(Issued { entry: sha256(signed.as_bytes()), signed, disclosures: self.disclosures })
    }
}

/// Signs a draft; see [`prepare`].
pub fn issue(
    draft: Draft,
    conceal: &[Conceal],
    salts: impl FnMut() -> [u8; 16],
    decoys: usize,
    key: &SecretKey,
) -> Result<Issued, IssueError> {
    let prepared = prepare(draft, conceal, salts, decoys, key.kid())?;
    let signature = key.sign(prepared.signing_input.as_bytes());
    prepared.with_signature(&signature)
}

/// Writes down what `kid` is about to sign: the same draft and salts give the same bytes everywhere.
///
/// `decoys` is the least number of digests at the event's own level: a step gives every record of its kind the same, so
/// that the count does not tell which optional fields were filled in (RFC 9901 §4.2.5). `salts` must be fresh randomness.
pub fn prepare(
    draft: Draft,
    conceal: &[Conceal],
    mut salts: impl FnMut() -> [u8; 16],
    decoys: usize,
    kid: Kid,
) -> Result<Prepared, IssueError> {
    let Draft { claims, body, act, event_hash } = draft;
    let may_hold_digests = matches!(body, Body::Redacted(_));
    let is_statement = matches!(body, Body::Statement(_));
    let (body_name, mut content) = body.into_member()?;
    if !may_hold_digests && sd::has_reserved_name(&content) {
        return Err(IssueError::ReservedName);
    }
    let mut disclosures = Vec::with_capacity(conceal.len() + CLAIM_DIGESTS);
    for Conceal { pointer, visibility } in deepest_first(conceal) {
        check_may_conceal(pointer, *visibility, is_statement || may_hold_digests)?;
        let closed = sd::conceal(&mut content, pointer, salts())
            .ok_or_else(|| IssueError::NothingThere { pointer: pointer.clone() })?;
        disclosures.push(disclosure(closed, *visibility, format!("/{body_name}{pointer}")));
    }
    if let (Some(members), false, false) = (content.as_object_mut(), is_statement, may_hold_digests) {
        pad(members, decoys, &mut salts);
    }

    let mut payload = claims.to_members()?;
    payload.insert("_sd_alg".to_owned(), Value::String(sd::SD_ALG.to_owned()));
    payload.insert(body_name.to_owned(), content);
    let concealed = [
        ("act", act, Visibility::Personal),
        ("event_hash", event_hash.map(Value::String), Visibility::Private),
    ];
    for (name, value, visibility) in concealed {
        let Some(value) = value else { continue };
        if sd::has_reserved_name(&value) {
            return Err(IssueError::ReservedName);
        }
        let closed = sd::Closed::new(salts(), Some(name), &value);
        sd::insert_digests(&mut payload, [closed.digest]);
        disclosures.push(disclosure(closed, visibility, format!("/{name}")));
    }
    if !is_statement {
        pad(&mut payload, CLAIM_DIGESTS, &mut salts);
    }

    let signing_input = jws::signing_input(TYP, &Value::Object(payload).to_string(), kid);
    Ok(Prepared { signing_input, disclosures })
}

/// Whatever this ledger signs must pass what every reader of it checks.
fn check_own_work(signed: &str, disclosures: &[Disclosure]) -> Result<(), IssueError> {
    let record = Record::parse(signed)?;
    let texts: Vec<&str> = disclosures.iter().map(|disclosure| disclosure.text.as_str()).collect();
    record.process(&texts)?;
    Ok(())
}

fn disclosure(closed: sd::Closed, visibility: Visibility, pointer: String) -> Disclosure {
    Disclosure { text: closed.text, digest: closed.digest, visibility, pointer, name: closed.name }
}

fn pad(members: &mut Map<String, Value>, count: usize, salts: &mut impl FnMut() -> [u8; 16]) {
    let missing = count.saturating_sub(sd::digest_count(members));
    let decoys: Vec<Hash> = (0..missing).map(|_| sha256(&salts())).collect();
    sd::insert_digests(members, decoys);
}

fn deepest_first(conceal: &[Conceal]) -> Vec<&Conceal> {
    let mut ordered: Vec<&Conceal> = conceal.iter().collect();
    ordered.sort_by_key(|conceal| std::cmp::Reverse(conceal.pointer.matches('/').count()));
    ordered
}

fn check_may_conceal(pointer: &str, visibility: Visibility, nothing_may: bool) -> Result<(), IssueError> {
    if visibility == Visibility::Public {
        return Err(IssueError::Public { pointer: pointer.to_owned() });
    }
    let tokens: Vec<&str> = pointer.split('/').skip(1).collect();
    if nothing_may || claims::is_never_concealed(&tokens) {
        return Err(IssueError::NeverConcealed { pointer: pointer.to_owned() });
    }
    Ok(())
}

/// A record as signed: its text, its key's name and its claims; not yet verified.
#[derive(Debug, Clone)]
pub struct Record {
    signed: String,
    jws: jws::Jws,
    claims: Claims,
}

impl Record {
    /// Strict: one text has one reading, or none.
    pub fn parse(signed: &str) -> Result<Self, RecordError> {
        if signed.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLong { bytes: signed.len() });
        }
        let jws = jws::Jws::parse(signed, TYP)?;
        let claims = Claims::parse(&jws.payload)?;
        if let Some(event) = jws.payload.get("event") {
            claims::check_lists_are_whole(event).map_err(|_| RecordError::NeverConcealed)?;
        }
        Ok(Self { signed: signed.to_owned(), jws, claims })
    }

    /// Strict Ed25519 under the key that the header names.
    pub fn verify(&self, key: &PublicKey) -> Result<(), RecordError> {
        Ok(self.jws.verify(&self.signed, key)?)
    }

    pub fn signed(&self) -> &str {
        &self.signed
    }

    /// What the signature is over.
    pub fn signing_input(&self) -> &str {
        self.jws.signing_input(&self.signed)
    }

    pub const fn signature(&self) -> &[u8; 64] {
        self.jws.signature()
    }

    pub fn entry(&self) -> Hash {
        sha256(self.signed.as_bytes())
    }

    pub const fn kid(&self) -> Kid {
        self.jws.kid
    }

    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The payload as signed, digests included.
    pub const fn payload(&self) -> &Value {
        &self.jws.payload
    }

    /// The statement, if the record is one: `None` for events.
    pub fn statement(&self) -> Option<Result<statement::Statement, statement::StatementError>> {
        self.payload().get("statement").map(statement::Statement::parse)
    }

    /// All claims with what `disclosures` open put back (RFC 9901 §7.1), `_sd` and `_sd_alg` gone.
    ///
    /// With no disclosures this is the public projection.
    pub fn process(&self, disclosures: &[&str]) -> Result<Value, DisclosureError> {
        if disclosures.iter().map(|text| text.len()).sum::<usize>() > RECORD_BYTES_MAX {
            return Err(DisclosureError::TooMany);
        }
        let processed = sd::process(self.payload(), disclosures)?;
        claims::check_nothing_open_was_hidden(self.payload(), &processed)?;
        Ok(processed)
    }

    /// The body of a correction of this record: its redacted event, digests kept, with an `errorDeclaration`
    /// (EPCIS 2.0 §7.4.1.2). The original's disclosures of the event open the correction, too.
    pub fn corrected(&self, error_declaration: Value) -> Option<Body> {
        let mut event = self.payload().get("event")?.clone();
        event.as_object_mut()?.insert("errorDeclaration".to_owned(), error_declaration);
        Some(Body::Redacted(event))
    }
}

/// Parses and verifies in one step.
pub fn verify(signed: &str, key: &PublicKey) -> Result<Record, RecordError> {
    let record = Record::parse(signed)?;
    record.verify(key)?;
    Ok(record)
}

/// RFC 9901 §4: what foreign verifiers read, `<JWS>~<disclosure>~…~`.
pub fn presentation(signed: &str, disclosures: &[&str]) -> String {
    let mut text = signed.to_owned();
    text.push('~');
    for disclosure in disclosures {
        text.push_str(disclosure);
        text.push('~');
    }
    text
}

#[cfg(test)]
mod tests;
