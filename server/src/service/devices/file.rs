//! What a keeper knows of a device: where it is, when it was last heard, what it misses, what it alarms about.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use store::{
    Connection, Store, StoreError,
    alert::{self, Alert},
    device::{self, Device},
    key::{self, Key},
    pack_order,
    party::{self, Party, Place},
    provisioning::{self, Provisioning},
    reading::{self, Reading},
    stay::{self, Stay},
};

use super::{Signing, is_keeper};
use crate::service::{account::Member, alerts::scope_of, inspection, story};

/// Devices on one page.
const PAGE: i64 = 50;
/// How far back readings, marks and silent hours are counted.
const LATEST_WITHIN: TimeDelta = TimeDelta::days(30);
const HOURS: i64 = 24;
/// Keys and stays that the file shows.
const KEYS: i64 = 5;
const STAYS: i64 = 20;
/// Places offered by the forms.
pub const PLACES_MAX: i64 = 500;

/// A device in the list.
#[derive(Debug)]
pub struct Listed {
    pub party: String,
    pub device: Device,
    /// The newest moment that it measured at.
    pub measured_at: Option<DateTime<Utc>>,
    pub battery: Option<Reading>,
    pub alerts_open: usize,
}

/// A page of devices, with the places that they stand at.
#[derive(Debug)]
pub struct Devices {
    pub devices: Vec<Listed>,
    pub places: BTreeMap<i64, Place>,
    pub parties: BTreeMap<i64, Party>,
    /// After which the next page begins.
    pub after: Option<i64>,
}

/// A party's devices; everybody's for regulator and operator, and logged for the regulator.
pub async fn list(
    store: &Store,
    member: &Member,
    after: i64,
    now: DateTime<Utc>,
) -> Result<Devices, StoreError> {
    let mut conn = store.connection().await?;
    let mut rows = device::after(&mut conn, scope_of(&member.party), after, PAGE + 1).await?;
    let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
    let is_more = rows.len() > page;
    rows.truncate(page);
    let looked_at = rows.iter().map(|(_, device)| device.party_id).collect();
    inspection::look(&mut conn, &member.into(), &looked_at, "devices").await?;
    let ids: Vec<i64> = rows.iter().map(|(_, device)| device.id).collect();
    let latest = reading::latest(&mut conn, &ids, now - LATEST_WITHIN).await?;
    let open = alert::open_of(&mut conn, &ids).await?;
    let listed = |(party, device): (String, Device)| {
        let own = || latest.iter().filter(|reading| reading.device_id == device.id);
        Listed {
            party,
            measured_at: own().map(|reading| reading.at).max(),
            battery: own().find(|reading| is_battery(reading)).cloned(),
            alerts_open: open.iter().filter(|alert| alert.device_id == Some(device.id)).count(),
            device,
        }
    };
    Ok(Devices {
        places: story::places(&mut conn, rows.iter().map(|(_, device)| device.place_id)).await?,
        parties: story::parties(&mut conn, looked_at.into_iter()).await?,
        after: rows.last().filter(|_| is_more).map(|(_, device)| device.id),
        devices: rows.into_iter().map(listed).collect(),
    })
}

fn is_battery(reading: &Reading) -> bool {
    reading.name.rsplit(['/', '.', ':']).next() == Some("battery")
}

/// All that is known of one device.
pub struct DeviceFile {
    pub device: Device,
    pub party: Option<Party>,
    /// Where it stands and stood, newest first.
    pub stays: Vec<Stay>,
    /// Those of its stays, and for its keeper those that it can be brought to.
    pub places: BTreeMap<i64, Place>,
    /// The newest reading of each name.
    pub latest: Vec<Reading>,
    pub alerts: Vec<Alert>,
    /// Whole hours of the last day without a reading, since it was registered; ascending.
    pub silent_hours: Vec<DateTime<Utc>>,
    /// Packs of the last 30 days by their mark.
    pub marks: BTreeMap<String, i64>,
    /// Of a device that numbers its packs itself: those of the last day that never came.
    pub missing_numbers: i64,
    /// Its own keys, newest first.
    pub keys: Vec<Key>,
    /// The newest of its one-time tokens.
    pub token: Option<Provisioning>,
    /// Whether the reader gives it tokens and ends its access.
    pub is_keepers: bool,
}

/// The file of a device; `None` where there is none, and for one that is not the member's business.
pub async fn one(
    store: &Store,
    member: &Member,
    (party, name): (&str, &str),
    now: DateTime<Utc>,
) -> Result<Option<DeviceFile>, StoreError> {
    let mut conn = store.connection().await?;
    let Some(device) = device::by_name(&mut conn, party, name).await? else { return Ok(None) };
    if scope_of(&member.party).is_some_and(|own| own != device.party_id) {
        return Ok(None);
    }
    inspection::look(&mut conn, &member.into(), &[device.party_id].into(), &format!("device {party}/{name}"))
        .await?;
    let is_keepers = is_keeper(&member.party, &device);
    let stays = stay::of_device(&mut conn, device.id, STAYS).await?;
    let mut places = story::places(&mut conn, stays.iter().map(|stay| stay.place_id)).await?;
    if is_keepers {
        let own = party::places_of(&mut conn, device.party_id, PLACES_MAX).await?;
        places.extend(own.into_iter().map(|place| (place.id, place)));
    }
    Ok(Some(DeviceFile {
        party: story::parties(&mut conn, [device.party_id].into_iter()).await?.into_values().next(),
        stays,
        places,
        latest: reading::latest(&mut conn, &[device.id], now - LATEST_WITHIN).await?,
        alerts: alert::open_of(&mut conn, &[device.id]).await?,
        silent_hours: silent_hours(&mut conn, &device, now).await?,
        missing_numbers: missing_numbers(&mut conn, &device, now).await?,
        keys: key::of_device(&mut conn, device.id, KEYS).await?,
        token: provisioning::newest(&mut conn, device.id).await?,
        is_keepers,
        marks: store::pack::marks(&mut conn, device.id, now - LATEST_WITHIN).await?.into_iter().collect(),
        device,
    }))
}

/// What a gateway signs has the hash of its message for a number.
async fn missing_numbers(
    conn: &mut Connection,
    device: &Device,
    now: DateTime<Utc>,
) -> Result<i64, StoreError> {
    if device.signing != Signing::Device.as_str() {
        return Ok(0);
    }
    pack_order::missing_numbers(conn, device.id, now - TimeDelta::hours(HOURS)).await
}

async fn silent_hours(
    conn: &mut Connection,
    device: &Device,
    now: DateTime<Utc>,
) -> Result<Vec<DateTime<Utc>>, StoreError> {
    let hours = full_hours(now);
    let Some(from) = hours.first() else { return Ok(hours) };
    let heard = store::rollup::hours_heard(conn, device.id, *from).await?;
    Ok(unheard(&hours, &heard, device.created_at))
}

/// The last day's: the hour under way is not over.
fn full_hours(now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let end = now.duration_trunc(TimeDelta::hours(1)).unwrap_or(now);
    (1..=HOURS).rev().map(|hour| end - TimeDelta::hours(hour)).collect()
}

/// Nobody waits for a device in the hour of its registration, or before.
fn unheard(
    hours: &[DateTime<Utc>],
    heard: &[DateTime<Utc>],
    created_at: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    hours.iter().filter(|hour| **hour >= created_at && !heard.contains(hour)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_hour_is_over_and_after_the_registration() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let hours = full_hours(at("2025-12-03T08:59:59Z"));
        assert_eq!(hours.len(), 24);
        assert_eq!((hours[0], hours[23]), (at("2025-12-02T08:00:00Z"), at("2025-12-03T07:00:00Z")));
        let heard = [at("2025-12-03T06:00:00Z"), at("2025-12-03T08:00:00Z")];
        let silent = unheard(&hours, &heard, at("2025-12-03T04:00:01Z"));
        assert_eq!(silent, [at("2025-12-03T05:00:00Z"), at("2025-12-03T07:00:00Z")]);
        assert_eq!(unheard(&hours, &heard, at("2025-12-01T00:00:00Z")).len(), 23);
    }
}
