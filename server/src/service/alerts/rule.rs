//! A limit with hysteresis: raised once past it for long enough, cleared only when well back.

use chrono::{DateTime, TimeDelta, Utc};
use store::{
    Connection, StoreError,
    alert::{self, Alert, NewAlert, Watched},
};

use super::{lots_at, subject::Subject};

/// What a profile's rule says, whatever it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule<'a> {
    pub profile: &'a str,
    pub id: &'a str,
    pub metric: &'a str,
    pub unit: &'a str,
    pub over: f64,
    pub clear: f64,
    pub minutes: u32,
    pub source: &'a str,
}

/// Where the rule is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub party: i64,
    pub place: i64,
    /// `None`: for the whole place.
    pub device: Option<i64>,
}

/// The worst that was found there, and when it was measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub value: f64,
    pub subject: Subject,
    pub at: DateTime<Utc>,
}

/// Raises, clears, or waits. `open` are the open alerts of the place and its devices.
pub(super) async fn settle(
    conn: &mut Connection,
    rule: &Rule<'_>,
    spot: Spot,
    found: &Found,
    open: &[Alert],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let watched = Watched { place_id: spot.place, device_id: spot.device, rule: rule.id };
    let same = |alert: &&Alert| alert.device_id == spot.device && alert.rule == rule.id;
    if let Some(alert) = open.iter().find(same) {
        if found.value < rule.clear {
            alert::clear(conn, alert.id, found.value, now).await?;
        }
        return Ok(());
    }
    if found.value <= rule.over {
        return alert::unpend(conn, watched).await;
    }
    let since = alert::pend(conn, watched, found.at).await?;
    if found.at - since < TimeDelta::minutes(rule.minutes.into()) {
        return Ok(());
    }
    let lots = lots_at(conn, spot.place).await?;
    let alert = NewAlert {
        party_id: spot.party,
        place_id: spot.place,
        device_id: spot.device,
        profile: rule.profile,
        rule: rule.id,
        subject: &found.subject.to_string(),
        metric: rule.metric,
        unit: rule.unit,
        threshold: rule.over,
        source: rule.source,
        value: found.value,
        raised_at: now,
        lots: &lots,
    };
    alert::raise(conn, &alert).await?;
    alert::unpend(conn, watched).await
}
