//! Where a device stands: it is moved, and what it measured before stays with the place where it stood then.

use chrono::{DateTime, NaiveDateTime, Utc};
use store::{
    Store, party,
    stay::{self, Ended},
};

use super::{DeviceError, provision::keepers, refused};
use crate::service::{account::Member, capture::local_offset};

const POSITION_CHARACTERS_MAX: usize = 40;

/// Where a device is brought, as its keeper states it.
#[derive(Debug, Clone, Default)]
pub struct Move<'a> {
    /// Slug of a place of the device's party.
    pub place: &'a str,
    /// Where there; may be empty.
    pub position: &'a str,
    /// `2026-11-21T08:30` of the clock on the wall; empty for now.
    pub at: &'a str,
}

/// Ends the device's stay at a place and begins the next one.
pub async fn move_device(
    store: &Store,
    member: &Member,
    name: (&str, &str),
    wanted: &Move<'_>,
    now: DateTime<Utc>,
) -> Result<(), DeviceError> {
    let position = wanted.position.trim();
    if position.chars().count() > POSITION_CHARACTERS_MAX || position.chars().any(char::is_control) {
        return Err(refused("position", "position"));
    }
    let at = moment(wanted.at, now)?;
    let mut transaction = store.begin().await?;
    let device = keepers(&mut transaction, &member.party, name).await?;
    if device.retired_at.is_some() {
        return Err(DeviceError::Retired);
    }
    if at <= device.placed_at {
        return Err(refused("at", "before-its-place"));
    }
    let place = party::place_by_slug(&mut transaction, device.party_id, wanted.place).await?;
    let place = place.ok_or(refused("place", "unknown-place"))?;
    let ended = Ended {
        device_id: device.id,
        place_id: device.place_id,
        position: device.position.as_deref(),
        valid_from: device.placed_at,
        valid_to: at,
        ended_by: Some(member.account_id),
    };
    let position = Some(position).filter(|position| !position.is_empty());
    stay::move_to(&mut transaction, &ended, place.id, position).await?;
    transaction.commit().await?;
    Ok(())
}

fn moment(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, DeviceError> {
    if text.is_empty() {
        return Ok(now);
    }
    // What `datetime-local` sends (HTML §2.3.5.4), without seconds.
    let local =
        NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M").map_err(|_| refused("at", "not-a-time"))?;
    let at = local.and_local_timezone(local_offset()).single().ok_or(refused("at", "not-a-time"))?.to_utc();
    if at > now { Err(refused("at", "in-the-future")) } else { Ok(at) }
}
