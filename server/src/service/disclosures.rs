//! Disclosures at rest: sealed for the row they stand in, the personal ones under that person's own key.

use std::{collections::HashMap, hash::BuildHasher};

use store::record::Disclosure as Row;
use trace::record::{Disclosure, Visibility};
use uuid::Uuid;

use super::keys::{DataKey, Keys, KeysError, SealError};

/// Most disclosures of one record (the record's own limit).
const POSITION_MAX: usize = 2_000;

/// Seals what `entry` keeps back. Personal disclosures need `person`: whose they are, and that person's data key.
pub fn seal(
    keys: &Keys,
    entry: &[u8],
    disclosures: &[Disclosure],
    person: Option<(Uuid, &DataKey)>,
) -> Result<Vec<Row>, KeysError> {
    disclosures
        .iter()
        .take(POSITION_MAX)
        .enumerate()
        .map(|(position, disclosure)| {
            let position = i16::try_from(position).map_err(|_| SealError::Damaged)?;
            let (key, person_id) = match (disclosure.visibility, person) {
                (Visibility::Personal, Some((id, key))) => (key, Some(id)),
                // Nobody could ever erase it: better no record than one that keeps a person's data for ever.
                (Visibility::Personal, None) => return Err(KeysError::NoPerson),
                _ => (keys.shared(), None),
            };
            Ok(Row {
                entry: entry.to_vec(),
                position,
                digest: disclosure.digest.as_bytes().to_vec(),
                visibility: word(disclosure.visibility).to_owned(),
                person_id,
                sealed: key.seal(&context(entry, position), disclosure.text.as_bytes())?,
            })
        })
        .collect()
}

/// Opens the rows that can be opened: (position in `rows`, text). A person's are gone once `people` lacks the key.
pub fn open<S: BuildHasher>(
    keys: &Keys,
    people: &HashMap<Uuid, DataKey, S>,
    rows: &[Row],
) -> Result<Vec<(usize, String)>, KeysError> {
    let mut opened = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let key = match row.person_id {
            None => keys.shared(),
            Some(person) => match people.get(&person) {
                Some(key) => key,
                None => continue,
            },
        };
        let text = key.unseal(&context(&row.entry, row.position), &row.sealed)?;
        let text = std::str::from_utf8(&text).map_err(|_| SealError::Damaged)?;
        opened.push((index, text.to_owned()));
    }
    Ok(opened)
}

const fn word(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Public => "public",
        Visibility::Private => "private",
        Visibility::Personal => "personal",
    }
}

/// entry ‖ position: a sealed disclosure cannot be moved to another place.
fn context(entry: &[u8], position: i16) -> Vec<u8> {
    [entry, position.to_be_bytes().as_slice()].concat()
}
