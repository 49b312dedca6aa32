//! Missing data: a device from which the profile expects a reading every so often, and none came.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use store::{Connection, Store, StoreError, alert::NewAlert, device::Device};
use trace::profile::Silence;

use crate::service::{alerts::lots_at, profiles::Profiles};

/// The metric and unit (Rec 20) in which a silence is stated.
const METRIC: &str = "silence";
const MINUTES: &str = "MIN";

/// How many alerts a look raised and cleared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    pub raised: usize,
    pub cleared: usize,
}

/// Raises on each device that has been silent for longer than its profile allows, and clears where readings came again.
/// The time of a reading counts, not that of its arrival: an outbox that is emptied late still leaves today's data missing.
pub async fn look(store: &Store, profiles: &Profiles, now: DateTime<Utc>) -> Result<Looked, StoreError> {
    let mut looked = Looked::default();
    let conn = &mut *store.connection().await?;
    let devices: Vec<Device> =
        store::device::all(conn).await?.into_iter().map(|(_, device)| device).collect();
    for profile in profiles.iter() {
        for silence in profile.silences() {
            let expected =
                |device: &&Device| device.profile == profile.id() && silence.devices.contains(&device.kind);
            let concerned: Vec<&Device> = devices.iter().filter(expected).collect();
            let found = look_by(conn, silence, &concerned, now).await?;
            looked.raised += found.raised;
            looked.cleared += found.cleared;
        }
    }
    Ok(looked)
}

async fn look_by(
    conn: &mut Connection,
    silence: &Silence,
    devices: &[&Device],
    now: DateTime<Utc>,
) -> Result<Looked, StoreError> {
    let mut looked = Looked::default();
    let ids: Vec<i64> = devices.iter().map(|device| device.id).collect();
    let since = now - TimeDelta::minutes(silence.minutes.into());
    // A minute counts until its end.
    let heard = store::rollup::last_minutes(conn, &ids, since - TimeDelta::minutes(1), now).await?;
    let open = store::alert::open_of(conn, &ids).await?;
    let open: HashMap<i64, i64> = open
        .into_iter()
        .filter(|alert| alert.rule == silence.id)
        .filter_map(|alert| Some((alert.device_id?, alert.id)))
        .collect();
    for device in devices {
        match (heard.get(&device.id), open.get(&device.id)) {
            (Some(at), Some(alert)) => {
                store::alert::clear(conn, *alert, minutes_from(*at, now), now).await?;
                looked.cleared += 1;
            }
            (None, None) if device.created_at < since => {
                looked.raised += usize::from(raise(conn, silence, device, now).await?);
            }
            _ => {}
        }
    }
    Ok(looked)
}

/// `false`: another server has raised it meanwhile.
async fn raise(
    conn: &mut Connection,
    silence: &Silence,
    device: &Device,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let ever = store::rollup::last_minutes(conn, &[device.id], DateTime::UNIX_EPOCH, now).await?;
    let since = ever.get(&device.id).copied().unwrap_or(device.created_at);
    let lots = lots_at(conn, device.place_id).await?;
    let alert = NewAlert {
        party_id: device.party_id,
        place_id: device.place_id,
        device_id: Some(device.id),
        profile: &device.profile,
        rule: &silence.id,
        subject: "",
        metric: METRIC,
        unit: MINUTES,
        threshold: f64::from(silence.minutes),
        source: &silence.source,
        value: minutes_from(since, now),
        raised_at: now,
        lots: &lots,
    };
    store::alert::raise(conn, &alert).await
}

/// Whole minutes; what exceeds four thousand years is four thousand years.
fn minutes_from(then: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    i32::try_from((now - then).num_minutes()).map_or(f64::from(i32::MAX), f64::from)
}
