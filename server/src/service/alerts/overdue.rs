//! Work that a profile wants done every so often where its goods lie, and that nobody has done.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use store::{
    Connection, Store, StoreError,
    alert::{self, Alert, Keeping, Kept, NewAlert},
    device,
};
use trace::profile::{Interval, Kind, Profile, watch};

use super::{
    lots_at,
    trends::{Metric, newest},
};
use crate::service::{capture::local_offset, profiles::Profiles};

/// Places read at once.
const PAGE: i64 = 200;
/// The temperature that decides is at most so old.
const MEASURED_WITHIN: TimeDelta = TimeDelta::days(3);
const UNIT: &str = "DAY";

/// Raises where a step is overdue, and clears where it was done, or where nothing lies any more. A change of temperature clears
/// nothing: who was late is late until the work is done.
pub async fn look(store: &Store, profiles: &Profiles, now: DateTime<Utc>) -> Result<(), StoreError> {
    let today = now.with_timezone(&local_offset()).date_naive();
    for profile in profiles.iter() {
        let in_force: Vec<&Interval> =
            profile.intervals().iter().filter(|interval| interval.is_in_force(today)).collect();
        let steps: BTreeSet<&str> =
            profile.intervals().iter().map(|interval| interval.step.as_str()).collect();
        for step in steps {
            let of_step = in_force.iter().filter(|interval| interval.step == step).copied().collect();
            look_for(store, &Due { profile, step, intervals: of_step, now }).await?;
        }
    }
    Ok(())
}

/// A step of a profile, and how often it is to be done.
struct Due<'a> {
    profile: &'a Profile,
    step: &'a str,
    intervals: Vec<&'a Interval>,
    now: DateTime<Utc>,
}

async fn look_for(store: &Store, due: &Due<'_>) -> Result<(), StoreError> {
    let fields = || due.profile.step(due.step).into_iter().flat_map(|step| &step.fields);
    let products: Vec<String> =
        fields().filter(|field| field.kind == Kind::Lot).flat_map(|field| field.products.clone()).collect();
    let kinds: Vec<String> =
        fields().filter(|field| field.kind == Kind::Place).flat_map(|field| field.among.clone()).collect();
    let keeping = Keeping { profile: due.profile.id(), products: &products, kinds: &kinds, step: due.step };
    let mut after = 0;
    loop {
        let mut conn = store.connection().await?;
        let page = alert::kept(&mut conn, keeping, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.place_id;
        for kept in &page {
            judge(&mut conn, due, kept).await?;
        }
    }
}

async fn judge(conn: &mut Connection, due: &Due<'_>, kept: &Kept) -> Result<(), StoreError> {
    let since = kept.arrived.map(|arrived| kept.done.map_or(arrived, |done| done.max(arrived)));
    let open = alert::open_at(conn, kept.place_id, &[]).await?;
    let open = open.iter().find(|alert| alert.rule == due.step && alert.profile == due.profile.id());
    match (open, since) {
        (Some(alert), None) => clear(conn, alert, 0.0, due.now).await,
        (Some(alert), Some(since)) => {
            let days = days_from(since, due.now);
            if days <= alert.threshold { clear(conn, alert, days, due.now).await } else { Ok(()) }
        }
        (None, Some(since)) => {
            let days = days_from(since, due.now);
            if due.intervals.iter().all(|interval| days <= f64::from(interval.days)) {
                return Ok(());
            }
            let holds = shortest(conn, due, kept.place_id).await?;
            match holds.filter(|interval| days > f64::from(interval.days)) {
                Some(interval) => raise(conn, due, kept, (interval, days)).await,
                None => Ok(()),
            }
        }
        (None, None) => Ok(()),
    }
}

async fn clear(
    conn: &mut Connection,
    alert: &Alert,
    days: f64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    alert::clear(conn, alert.id, days, now).await?;
    Ok(())
}

/// Of the intervals that hold at the place now, the shortest.
async fn shortest<'a>(
    conn: &mut Connection,
    due: &Due<'a>,
    place_id: i64,
) -> Result<Option<&'a Interval>, StoreError> {
    let mut holding: Option<&Interval> = None;
    for interval in &due.intervals {
        if holding.is_some_and(|shorter| shorter.days <= interval.days) {
            continue;
        }
        let warm = match &interval.measured {
            None => true,
            Some(measured) => {
                let mean = mean(conn, due, place_id, measured).await?;
                mean.is_some_and(|mean| mean > measured.above)
            }
        };
        let treated = match &interval.after {
            None => true,
            Some(after) => {
                let done = alert::last_done(conn, place_id, due.profile.id(), &after.step).await?;
                done.is_some_and(|done| due.now - done <= TimeDelta::days(after.within_days.into()))
            }
        };
        if warm && treated {
            holding = Some(interval);
        }
    }
    Ok(holding)
}

/// Of all points in their newest hour.
async fn mean(
    conn: &mut Connection,
    due: &Due<'_>,
    place_id: i64,
    measured: &watch::Measured,
) -> Result<Option<f64>, StoreError> {
    let devices = device::at_place(conn, place_id).await?;
    let concerned = devices.iter().filter(|device| measured.devices.contains(&device.kind));
    let ids: Vec<i64> = concerned.map(|device| device.id).collect();
    let of = Metric { name: &measured.metric, unit: &measured.unit, devices: &measured.devices };
    let within = (due.now - MEASURED_WITHIN, due.now);
    let points = newest(conn, &ids, &of, within, TimeDelta::hours(1)).await?;
    let (sum, count) = points.iter().fold((0.0, 0.0), |(sum, count), point| (sum + point.mean, count + 1.0));
    Ok((count > 0.0).then(|| sum / count))
}

async fn raise(
    conn: &mut Connection,
    due: &Due<'_>,
    kept: &Kept,
    (interval, days): (&Interval, f64),
) -> Result<(), StoreError> {
    let lots = lots_at(conn, kept.place_id).await?;
    let alert = NewAlert {
        party_id: kept.party_id,
        place_id: kept.place_id,
        device_id: None,
        profile: due.profile.id(),
        rule: due.step,
        subject: "",
        metric: due.step,
        unit: UNIT,
        threshold: f64::from(interval.days),
        source: &interval.source,
        value: days,
        raised_at: due.now,
        lots: &lots,
    };
    alert::raise(conn, &alert).await?;
    Ok(())
}

fn days_from(then: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    i32::try_from((now - then).num_minutes()).map_or(f64::MAX, f64::from) / 1_440.0
}
