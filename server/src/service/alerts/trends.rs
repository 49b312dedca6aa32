//! Rises and disagreements: judged for a place when its sums by the hour have changed, from the newest hours alone.

use chrono::{DateTime, TimeDelta, Utc};
use store::{
    Connection, Store, StoreError,
    alert::{self, Alert},
    device::{self, Device},
    grid::{self, Grid},
    party::{self, Place},
    trend::{self, Trend},
};
use trace::{pack::senml::rec20, profile::Profile};

use super::{disagreement, metric_of, rise};
use crate::service::profiles::Profiles;

/// Places that one transaction looks at.
const PLACES: i64 = 50;
/// Points of a place that are read: more than a grid may have, with room for what else its devices say.
const POINTS_MAX: i64 = 20_000;
/// What is older says nothing of today: a store is scanned once a day at least, and an outbox may be late.
const NEWS: TimeDelta = TimeDelta::hours(26);
/// A device's clock may be ahead by so much.
const AHEAD: TimeDelta = TimeDelta::hours(1);

/// Looks at places that readings came from; how many. None are left when it is 0.
///
/// A crash before the commit leaves them due.
pub async fn look(store: &Store, profiles: &Profiles, now: DateTime<Utc>) -> Result<usize, StoreError> {
    let mut transaction = store.begin().await?;
    let due = alert::take_due(&mut transaction, PLACES).await?;
    for place in &due {
        look_at(&mut transaction, profiles, *place, now).await?;
    }
    transaction.commit().await?;
    Ok(due.len())
}

async fn look_at(
    conn: &mut Connection,
    profiles: &Profiles,
    place_id: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let devices = device::at_place(conn, place_id).await?;
    let ids: Vec<i64> = devices.iter().map(|device| device.id).collect();
    let seen = Seen {
        place: party::place_by_id(conn, place_id).await?,
        grid: grid::at(conn, place_id, now).await?,
        open: alert::open_at(conn, place_id, &ids).await?,
        devices,
        now,
    };
    for profile in profiles.iter() {
        if seen.devices.iter().any(|device| device.profile == profile.id()) {
            rise::look(conn, profile, &seen).await?;
            disagreement::look(conn, profile, &seen).await?;
        }
    }
    Ok(())
}

/// A place at a moment.
pub(super) struct Seen {
    pub place: Place,
    pub devices: Vec<Device>,
    pub grid: Option<Grid>,
    pub open: Vec<Alert>,
    pub now: DateTime<Utc>,
}

impl Seen {
    /// What devices of these kinds measured in their newest hour, and at least `window` before it.
    pub(super) async fn trends(
        &self,
        conn: &mut Connection,
        profile: &Profile,
        of: &Metric<'_>,
        window: TimeDelta,
    ) -> Result<Vec<Trend>, StoreError> {
        let concerned =
            |device: &&Device| device.profile == profile.id() && of.devices.contains(&device.kind);
        let ids: Vec<i64> = self.devices.iter().filter(concerned).map(|device| device.id).collect();
        newest(conn, &ids, of, (self.now - NEWS, self.now + AHEAD), window).await
    }
}

/// What is measured, in which unit (Rec 20), by which kinds of device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric<'a> {
    pub name: &'a str,
    pub unit: &'a str,
    pub devices: &'a [String],
}

/// The newest hour of each of these devices, of this metric alone.
pub(super) async fn newest(
    conn: &mut Connection,
    devices: &[i64],
    of: &Metric<'_>,
    within: (DateTime<Utc>, DateTime<Utc>),
    window: TimeDelta,
) -> Result<Vec<Trend>, StoreError> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let mut trends = trend::newest(conn, devices, within, window, POINTS_MAX).await?;
    trends.retain(|trend| metric_of(&trend.name) == of.name && rec20(&trend.unit) == Some(of.unit));
    Ok(trends)
}
