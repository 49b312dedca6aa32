//! Thresholds of the profiles: a reading past one raises an alert on what lies there; it clears only when well back.
//! What takes more than one reading to see: [`trends`]; that there is none: [`silence`]; that nobody came: [`overdue`];
//! that two devices say to be one, or a clock is off: [`senders`].

mod disagreement;
pub mod live;
pub mod overdue;
mod rise;
mod rule;
pub mod senders;
pub mod silence;
pub mod subject;
pub mod trends;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use store::{
    Connection, StoreError,
    alert::{Alert, NewAlert},
    device::Device,
    party::Party,
    reading::Reading,
};
use trace::{pack::senml::rec20, profile::Threshold};

use self::subject::Subject;
use crate::service::profiles::Profiles;

/// The readings of one new pack.
pub struct Measured<'a> {
    pub device: &'a Device,
    pub readings: &'a [Reading],
}

/// The reading of a pack that decides: the worst of all its points, so that a grid clears only as a whole.
#[derive(Debug, Clone, PartialEq)]
struct Worst {
    name: String,
    value: f64,
    at: DateTime<Utc>,
}

/// Raises and clears by every threshold that the packs touch.
pub async fn watch(
    conn: &mut Connection,
    profiles: &Profiles,
    packs: &[Measured<'_>],
) -> Result<(), StoreError> {
    let mut due: Vec<(&Device, &Threshold, Worst)> = Vec::new();
    for pack in packs {
        let Some(profile) = profiles.by_id(&pack.device.profile) else { continue };
        for threshold in profile.thresholds() {
            if let Some(worst) = worst(threshold, pack) {
                due.push((pack.device, threshold, worst));
            }
        }
    }
    if due.is_empty() {
        return Ok(());
    }
    due.sort_by_key(|(_, _, worst)| worst.at);
    let devices: Vec<i64> = due.iter().map(|(device, ..)| device.id).collect();
    let mut open: HashMap<(i64, String), Alert> = HashMap::new();
    for alert in store::alert::open_of(conn, &devices).await? {
        if let Some(device_id) = alert.device_id {
            open.insert((device_id, alert.rule.clone()), alert);
        }
    }
    for (device, threshold, worst) in due {
        let key = (device.id, threshold.id.clone());
        match open.get(&key) {
            None if is_past(threshold, worst.value) => {
                raise(conn, device, threshold, &worst).await?;
                let raised = store::alert::open_of(conn, &[device.id]).await?;
                open.extend(raised.into_iter().map(|alert| ((device.id, alert.rule.clone()), alert)));
            }
            // A pack that was under way when the alert was raised does not clear it.
            Some(alert) if worst.at >= alert.raised_at && is_clear(threshold, worst.value) => {
                store::alert::clear(conn, alert.id, worst.value, worst.at).await?;
                open.remove(&key);
            }
            _ => {}
        }
    }
    Ok(())
}

async fn raise(
    conn: &mut Connection,
    device: &Device,
    threshold: &Threshold,
    worst: &Worst,
) -> Result<(), StoreError> {
    let place_id = match worst.at {
        at if at >= device.placed_at => device.place_id,
        // It has been moved since.
        at => store::stay::place_at(conn, device.id, at).await?.unwrap_or(device.place_id),
    };
    let lots = lots_at(conn, place_id).await?;
    let alert = NewAlert {
        party_id: device.party_id,
        place_id,
        device_id: Some(device.id),
        profile: &device.profile,
        rule: &threshold.id,
        subject: &Subject::Name(worst.name.clone()).to_string(),
        metric: &threshold.metric,
        unit: &threshold.unit,
        threshold: threshold.over.or(threshold.under).unwrap_or_default(),
        source: &threshold.source,
        value: worst.value,
        raised_at: worst.at,
        lots: &lots,
    };
    store::alert::raise(conn, &alert).await?;
    Ok(())
}

async fn lots_at(conn: &mut Connection, place_id: i64) -> Result<Vec<i64>, StoreError> {
    let there = store::lot::holdings_at(conn, place_id).await?;
    let mut lots: Vec<i64> = there.into_iter().map(|(_, lot)| lot.id).collect();
    lots.dedup();
    Ok(lots)
}

fn worst(threshold: &Threshold, pack: &Measured<'_>) -> Option<Worst> {
    if !threshold.devices.is_empty() && !threshold.devices.contains(&pack.device.kind) {
        return None;
    }
    let concerned = pack.readings.iter().filter(|reading| {
        metric_of(&reading.name) == threshold.metric && rec20(&reading.unit) == Some(threshold.unit.as_str())
    });
    let measured =
        concerned.map(|reading| Worst { name: reading.name.clone(), value: reading.value, at: reading.at });
    let by_value = |a: &Worst, b: &Worst| a.value.total_cmp(&b.value);
    if threshold.over.is_some() { measured.max_by(by_value) } else { measured.min_by(by_value) }
}

/// The last part of a reading's name: `l2/p03/temp` measures `temp`.
fn metric_of(name: &str) -> &str {
    name.rsplit(['/', '.', ':']).next().unwrap_or(name)
}

fn is_past(threshold: &Threshold, value: f64) -> bool {
    threshold.over.is_some_and(|over| value > over) || threshold.under.is_some_and(|under| value < under)
}

fn is_clear(threshold: &Threshold, value: f64) -> bool {
    if threshold.over.is_some() { value < threshold.clear } else { value > threshold.clear }
}

/// Whose alerts, dead letters, devices, reports and exceptions a party may read; `None` is everybody's.
pub fn scope_of(party: &Party) -> Option<i64> {
    (!matches!(party.role.as_str(), "operator" | "regulator")).then_some(party.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_last_part_of_the_name() {
        for name in ["temp", "l2/p03/temp", "p.temp", "x:temp"] {
            assert_eq!(metric_of(name), "temp");
        }
    }
}
