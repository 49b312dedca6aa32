//! A step as its author signs it where the author's key is: in the browser. The ledger makes the same bytes again from the
//! same form, and logs the author's, or nothing.

use std::{cell::Cell, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    Profile, Refusal, Step,
    build::{self, Context},
    form,
};
use crate::{
    keys::Kid,
    record::{self, Claims, Draft, IssueError, Prepared, Ref, Seen},
};

/// Salts that one record may take: more than any step has fields, blocks and decoys.
pub const SALTS_MAX: usize = 256;

/// What the author's words refer to, looked up by the ledger: all of a record that is not in the form.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grounds {
    pub context: Context,
    /// Field → the device that sent its value.
    pub devices: BTreeMap<String, String>,
    pub aud: String,
    pub seen: Option<Seen>,
    pub refs: Vec<Ref>,
    pub act: Option<Json>,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthorError {
    #[error("refused by a rule")]
    Refused(Vec<Refusal>),
    #[error("not a record of this ledger")]
    Record(#[from] IssueError),
    #[error("the salts do not suffice")]
    Salts,
}

/// Writes down what the author is about to sign: `typed` as the form was filled in, `iat` by the author's clock.
///
/// Gives also how many of `salts` were used.
pub fn prepare(
    (profile, step): (&Profile, &Step),
    typed: &[(String, String)],
    grounds: Grounds,
    (iat, kid): (i64, Kid),
    salts: &[[u8; 16]],
) -> Result<(Prepared, usize), AuthorError> {
    let Grounds { context, devices, aud, seen, refs, act } = grounds;
    let mut pairs = form::from_browser(step, typed);
    pairs.extend(devices.into_iter().map(|(field, device)| (format!("{field}@device"), device)));
    let values = form::parse(profile, step, &pairs).map_err(AuthorError::Refused)?;
    let built = build::build(profile, step, &values, &context).map_err(AuthorError::Refused)?;
    let claims =
        Claims { iss: context.author, iat, jti: context.jti, aud, profile: profile.reference(), seen, refs };
    let draft = Draft { claims, body: build::event_body(built.event), act, event_hash: None };
    prepare_with(draft, &built.conceal, built.decoys, salts, kid)
}

/// [`record::prepare`] with salts that were drawn before.
pub fn prepare_with(
    draft: Draft,
    conceal: &[record::Conceal],
    decoys: usize,
    salts: &[[u8; 16]],
    kid: Kid,
) -> Result<(Prepared, usize), AuthorError> {
    let used = Cell::new(0);
    let next = || {
        let salt = salts.get(used.get()).copied().unwrap_or_default();
        used.set(used.get() + 1);
        salt
    };
    let prepared = record::prepare(draft, conceal, next, decoys, kid)?;
    if used.get() > salts.len() { Err(AuthorError::Salts) } else { Ok((prepared, used.get())) }
}
