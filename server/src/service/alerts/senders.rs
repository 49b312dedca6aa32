//! Who sends: numbers that run back and forth, as two devices with one key make them, and clocks that cannot be right.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use store::{
    Connection, Store, StoreError,
    alert::{self, Alert, NewAlert},
    device::{self, Device},
    pack_order,
};

/// The rule by which a device's numbers run back.
pub const COUNTER: &str = "counter";
/// The rule by which a device's clock is off.
pub const CLOCK: &str = "clock";

/// Packs of this long are looked at together …
const LOOK_BACK: TimeDelta = TimeDelta::hours(1);
/// … and so many of all devices: a look stays short however much comes in.
const PACKS_MAX: i64 = 200_000;
/// Once, a counter was set back, or a clock was set. Two devices that share a key do it again and again.
const BACK_MIN: i64 = 3;
/// The metric and unit (Rec 20) in which a clock's fault is stated.
const METRIC: &str = "clock";
const MINUTES: &str = "MIN";
/// As the intake marks a pack.
const AHEAD_MAX_MIN: f64 = 5.0;

/// Raises and clears by what came in the last hour. A device that sent nothing keeps what is open of it.
pub async fn look(store: &Store, now: DateTime<Utc>) -> Result<(), StoreError> {
    let conn = &mut *store.connection().await?;
    let since = now - LOOK_BACK;
    let numbered = pack_order::numbered(conn, since, PACKS_MAX).await?;
    let clocks = pack_order::clocks(conn, since, PACKS_MAX).await?;
    let ids: Vec<i64> = clocks.iter().map(|clock| clock.device_id).collect();
    let mut devices: HashMap<i64, Device> = HashMap::new();
    devices.extend(device::by_ids(conn, &ids).await?.into_iter().map(|device| (device.id, device)));
    let open = alert::open_of(conn, &ids).await?;
    for found in &numbered {
        let Some(device) = devices.get(&found.device_id) else { continue };
        let finding = Finding { rule: COUNTER, metric: "", unit: "", threshold: 0.0, value: 0.0 };
        let (is_off, is_well) = (found.back >= BACK_MIN, found.back == 0);
        settle(conn, device, &finding, (is_off, is_well), &open, now).await?;
    }
    for clock in &clocks {
        let Some(device) = devices.get(&clock.device_id) else { continue };
        let value = clock.ahead_min;
        let finding = Finding { rule: CLOCK, metric: METRIC, unit: MINUTES, threshold: AHEAD_MAX_MIN, value };
        settle(conn, device, &finding, (clock.suspect > 0, clock.suspect == 0), &open, now).await?;
    }
    Ok(())
}

struct Finding {
    rule: &'static str,
    metric: &'static str,
    unit: &'static str,
    threshold: f64,
    value: f64,
}

async fn settle(
    conn: &mut Connection,
    device: &Device,
    finding: &Finding,
    (is_off, is_well): (bool, bool),
    open: &[Alert],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let same = |alert: &&Alert| alert.device_id == Some(device.id) && alert.rule == finding.rule;
    match open.iter().find(same) {
        Some(alert) if is_well => {
            alert::clear(conn, alert.id, finding.value, now).await?;
        }
        None if is_off && device.is_in_use() => {
            let alert = NewAlert {
                party_id: device.party_id,
                place_id: device.place_id,
                device_id: Some(device.id),
                profile: &device.profile,
                rule: finding.rule,
                subject: "",
                metric: finding.metric,
                unit: finding.unit,
                threshold: finding.threshold,
                source: "",
                value: finding.value,
                raised_at: now,
                lots: &[],
            };
            alert::raise(conn, &alert).await?;
        }
        _ => {}
    }
    Ok(())
}
