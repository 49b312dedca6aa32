//! Readings summed by minute, hour and day as their packs pass the strict check: what charts are drawn from.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, DurationRound as _, NaiveDate, TimeDelta, Utc};
use store::{
    Connection, StoreError,
    reading::Reading,
    rollup::{self, Span, Stretch, Sums},
};

use super::capture::local_offset;

/// Days of readings that there is room for ahead of time. Later ones stand in the default partition until their day is made.
const DAYS_AHEAD: u64 = 7;

/// Adds readings that were never added before; in the transaction that decides that they count.
pub async fn add(conn: &mut Connection, readings: &[Reading]) -> Result<(), StoreError> {
    let mut by_minute = minutes(readings);
    let new = rollup::add(conn, Span::Minute, &by_minute).await?;
    let new: std::collections::BTreeSet<Stretch> = new.into_iter().collect();
    for (of, sums) in &mut by_minute {
        sums.minutes = i32::from(new.contains(of));
    }
    for span in [Span::Hour, Span::Day] {
        let longer = by_minute.iter().map(|(of, sums)| (longer(of, span), *sums));
        let longer: Vec<(Stretch, Sums)> = self::sums(longer).into_iter().collect();
        rollup::add(conn, span, &longer).await?;
    }
    Ok(())
}

/// In their order. A name is copied once for its minute, not for each of its readings.
fn minutes(readings: &[Reading]) -> Vec<(Stretch, Sums)> {
    let mut found: HashMap<(i64, &str, &str, i64), Sums> = HashMap::new();
    for reading in readings {
        let minute = start(reading.at, Span::Minute).timestamp();
        let value = reading.value;
        let of = (reading.device_id, reading.name.as_str(), reading.unit.as_str(), minute);
        let one = Sums { min: value, max: value, sum: value, count: 1, minutes: 1 };
        found.entry(of).and_modify(|sums| merge(sums, Sums { minutes: 0, ..one })).or_insert(one);
    }
    let mut minutes: Vec<(Stretch, Sums)> = found
        .into_iter()
        .map(|((device_id, name, unit, minute), sums)| {
            let start = DateTime::from_timestamp(minute, 0).unwrap_or_default();
            (Stretch { device_id, name: name.to_owned(), unit: unit.to_owned(), start }, sums)
        })
        .collect();
    minutes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    minutes
}

fn longer(of: &Stretch, span: Span) -> Stretch {
    Stretch { start: start(of.start, span), ..of.clone() }
}

/// Days begin at the place's midnight, not at Greenwich's.
fn start(at: DateTime<Utc>, span: Span) -> DateTime<Utc> {
    let local = at.with_timezone(&local_offset());
    let start = local.duration_trunc(TimeDelta::minutes(span.minutes().into()));
    start.map_or(at, |start| start.with_timezone(&Utc))
}

fn sums(added: impl Iterator<Item = (Stretch, Sums)>) -> BTreeMap<Stretch, Sums> {
    let mut sums: BTreeMap<Stretch, Sums> = BTreeMap::new();
    for (of, more) in added {
        sums.entry(of).and_modify(|sums| merge(sums, more)).or_insert(more);
    }
    sums
}

fn merge(sums: &mut Sums, more: Sums) {
    sums.min = sums.min.min(more.min);
    sums.max = sums.max.max(more.max);
    sums.sum += more.sum;
    sums.count += more.count;
    sums.minutes += more.minutes;
}

/// Makes room for the days to come, and drops those that are older than `kept_days`; how many were made and dropped.
pub async fn turn_days(
    conn: &mut Connection,
    today: NaiveDate,
    kept_days: u64,
) -> Result<(usize, i32), StoreError> {
    let mut made = 0;
    let yesterday = today.pred_opt().unwrap_or(today);
    for day in yesterday.iter_days().take(usize::try_from(DAYS_AHEAD + 2).unwrap_or(9)) {
        made += usize::from(rollup::create_day(conn, day).await?);
    }
    let oldest = today.checked_sub_days(chrono::Days::new(kept_days)).unwrap_or(NaiveDate::MIN);
    Ok((made, rollup::drop_before(conn, oldest).await?))
}
