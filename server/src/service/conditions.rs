//! A window's conditions on the lots that lay there: one `sensor_reporting` record, derived from the packs, with the RFC 6962
//! root over them (`domain.md` §1). What was not measured is said by its coverage, never interpolated.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::json;
use store::{
    Connection, Store, StoreError,
    condition::{self, Carried, Measured, PARTS, Summary},
    device::{self, Device},
    ledger, lot, party, record, stay,
};
use trace::{
    causes::Causes,
    hash::{Hash, sha256_of},
    merkle,
    profile::{Profile, build, derived},
    quantity::Decimal,
    record::{Body, Record, Ref, Rel, Seen},
};
use uuid::Uuid;

use super::{
    keys::{Keys, KeysError, statements::operator},
    profiles::Profiles,
    records::{Kind, NewRecord},
};

/// Windows looked at together.
const WINDOWS_MAX: i64 = 200;
/// Packs that a record names one by one, so that its bundle carries them. Of more, so many are named from the first to the last,
/// and the root speaks for all.
const NAMED_PACKS_MAX: usize = 8;
/// How often a window is stated at most: packs that come one by one over weeks must not fill the log.
const STATED_MAX: u32 = 16;
/// A pack is not visible the moment that its row was written.
const COMMIT_MAX: TimeDelta = TimeDelta::minutes(1);
/// Decimal places of a summary: finer than the instruments.
const PLACES: usize = 3;

/// Summarises every closed window of packs committed since `since` that is not summarised yet, or without all of them; how many
/// were. `window_s` is in
/// seconds, `seen` the head that the statements name.
pub async fn summarise(
    store: &Store,
    keys: &Keys,
    profiles: &Profiles,
    seen: Option<&Seen>,
    window_s: i32,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<usize, KeysError> {
    let (mut made, mut last) = (0, None);
    loop {
        let mut conn = store.connection().await?;
        let due = condition::measured(&mut conn, window_s, (since, now), last.as_ref(), WINDOWS_MAX).await?;
        drop(conn);
        let Some(newest) = due.last().cloned() else { return Ok(made) };
        last = Some(newest);
        for measured in due {
            let window = Window::of(&measured, window_s);
            match commit(store, keys, profiles, seen, &window, now).await {
                Ok(stated) => made += usize::from(stated),
                // The others do not wait for it: it is tried again at the next look.
                Err(error) => {
                    let (place, start) = (window.place_id, window.start);
                    tracing::error!(place, %start, error = %Causes(&error), "a window's conditions were not stated");
                }
            }
        }
    }
}

async fn commit(
    store: &Store,
    keys: &Keys,
    profiles: &Profiles,
    seen: Option<&Seen>,
    window: &Window,
    now: DateTime<Utc>,
) -> Result<bool, KeysError> {
    let mut transaction = store.begin().await?;
    let stated = state(&mut transaction, keys, profiles, seen, window, now).await?;
    if stated {
        transaction.commit().await?;
    }
    Ok(stated)
}

/// A place and a stretch of time.
struct Window {
    place_id: i64,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    newest: DateTime<Utc>,
}

impl Window {
    fn of(measured: &Measured, window_s: i32) -> Self {
        let Measured { place_id, start, newest } = *measured;
        Self { place_id, start, end: start + TimeDelta::seconds(window_s.into()), newest }
    }

    fn length(&self) -> TimeDelta {
        self.end - self.start
    }

    /// The one name that its summary can have when it is stated for the `nth` time, counted from 0: a UUIDv7 of the window's
    /// end. Stating it again is stating the same record.
    fn jti(&self, nth: u32) -> Uuid {
        let seed = sha256_of(&[
            b"suyuan-conditions/1",
            &self.place_id.to_be_bytes(),
            &self.start.timestamp().to_be_bytes(),
            &self.length().num_seconds().to_be_bytes(),
            &nth.to_be_bytes(),
        ]);
        let mut random = [0; 10];
        random.copy_from_slice(seed.0.first_chunk::<10>().unwrap_or(&[0; 10]));
        let millis = u64::try_from(self.end.timestamp_millis()).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// The newest summary, and how often the window was stated.
    async fn stated(&self, conn: &mut Connection) -> Result<(Option<record::Record>, u32), StoreError> {
        let mut newest = None;
        for nth in 0..STATED_MAX {
            match record::by_jti(conn, self.jti(nth)).await? {
                Some(record) => newest = Some(record),
                None => return Ok((newest, nth)),
            }
        }
        Ok((newest, STATED_MAX))
    }
}

/// Whether packs of the window stand behind its summary in the log, and the device that was cut off has no more to send.
async fn is_outdated(
    conn: &mut Connection,
    summary: &record::Record,
    window: &Window,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    if window.newest < summary.accepted_at - COMMIT_MAX || now - window.newest < window.length() {
        return Ok(false);
    }
    let Some(at) = ledger::locate(conn, &summary.entry).await? else { return Ok(false) };
    let packs = condition::packs(conn, window.place_id, window.start, window.end).await?;
    Ok(packs.iter().any(|pack| (pack.log_id, pack.index) > (Some(at.log_id), Some(at.index))))
}

/// `false` where nothing is to be stated (yet): all was stated, a pack is not logged yet, or no lot lay there.
async fn state(
    conn: &mut Connection,
    keys: &Keys,
    profiles: &Profiles,
    seen: Option<&Seen>,
    window: &Window,
    now: DateTime<Utc>,
) -> Result<bool, KeysError> {
    let (standing, times) = window.stated(conn).await?;
    if let Some(standing) = &standing
        && (times == STATED_MAX || !is_outdated(conn, standing, window, now).await?)
    {
        return Ok(false);
    }
    let lots = condition::lots(conn, window.place_id, window.start, window.end).await?;
    let packs = condition::packs(conn, window.place_id, window.start, window.end).await?;
    if lots.is_empty() || packs.iter().any(|pack| pack.index.is_none()) {
        return Ok(false);
    }
    let stays = stay::at_places(conn, &[window.place_id], (window.start, window.end)).await?;
    let stood: Vec<i64> = stays.iter().map(|stay| stay.device_id).collect();
    let devices = device::by_ids(conn, &stood).await?;
    let summaries = condition::summaries(conn, window.place_id, window.start, window.end).await?;
    let Some(profile) = devices.iter().find_map(|device| profiles.by_id(&device.profile)) else {
        return Ok(false);
    };
    let windows: Vec<derived::Window<'_>> = summaries
        .iter()
        .filter_map(|summary| element(profile, &devices, &packs, summary, window).transpose())
        .collect::<Result<_, StoreError>>()?;
    let place = party::place_by_id(conn, window.place_id).await?;
    let names = lot::by_ids(conn, &lots).await?;
    let names: Vec<&str> = names.iter().map(|lot| lot.uri.as_str()).collect();
    let jti = window.jti(times);
    let Some(event) = derived::sensor_summary(jti, &place.uri, &names, &windows) else {
        return Ok(false);
    };
    let operator = operator(conn).await?;
    let new = |jti, body| NewRecord {
        kind: Kind::Derived,
        seen: seen.cloned(),
        step: Some("conditions".to_owned()),
        place_id: Some(place.id),
        ..NewRecord::new(&operator, keys.derivation(), jti, profile.reference(), body, now)
    };
    let stated = NewRecord {
        refs: named(&packs)?,
        grade: if devices.iter().all(|device| device.signing == "device") { "device" } else { "documented" },
        ..new(jti, build::event_body(event))
    };
    let mut written = vec![stated.write(conn, keys).await?];
    if let Some(standing) = standing {
        let (body, leaf) = withdrawn(&standing, jti, now)?;
        let refs = vec![Ref { rel: Rel::Corrects, leaf }];
        written.push(NewRecord { refs, ..new(Uuid::now_v7(), body) }.write(conn, keys).await?);
    }
    for (record, &lot) in written.iter().flat_map(|record| lots.iter().map(move |lot| (record, lot))) {
        record::insert_lot_part(conn, record.entry.as_bytes(), lot, "observed", None).await?;
    }
    Ok(true)
}

/// What corrects a summary that another one stands for now, and the summary's entry.
fn withdrawn(summary: &record::Record, by: Uuid, now: DateTime<Utc>) -> Result<(Body, Hash), StoreError> {
    let declaration = json!({
        "declarationTime": now.to_rfc3339_opts(SecondsFormat::Millis, true),
        "reason": "incorrect_data",
        "correctiveEventIDs": [format!("urn:uuid:{by}")],
    });
    let body = Record::parse(&summary.signed).ok().and_then(|record| record.corrected(declaration));
    body.zip(Hash::from_slice(&summary.entry)).ok_or(StoreError::Corrupt("a signed record"))
}

/// `None` for what the profile has no metric for: a battery, a signal strength.
fn element<'a>(
    profile: &'a Profile,
    devices: &'a [Device],
    packs: &[Carried],
    summary: &Summary,
    window: &Window,
) -> Result<Option<derived::Window<'a>>, StoreError> {
    let metric = profile.metric(&summary.metric);
    let device = devices.iter().find(|device| device.id == summary.device_id);
    let (Some(metric), Some(device)) = (metric, device) else { return Ok(None) };
    let leaves: Vec<Hash> = packs
        .iter()
        .filter(|pack| pack.device_id == summary.device_id)
        .map(|pack| Hash::from_slice(&pack.entry).map(|entry| merkle::leaf_hash(&entry)))
        .collect::<Option<_>>()
        .ok_or(StoreError::Corrupt("a pack's entry"))?;
    let over = profile.thresholds().iter().any(|threshold| {
        threshold.metric == summary.metric
            && (threshold.devices.is_empty() || threshold.devices.contains(&device.kind))
            && (threshold.over.is_some_and(|over| summary.max > over)
                || threshold.under.is_some_and(|under| summary.min < under))
    });
    let local = |at: DateTime<Utc>| at.with_timezone(&super::capture::local_offset());
    Ok(Some(derived::Window {
        metric,
        device: None,
        start: local(window.start),
        end: local(window.end),
        min: rounded(summary.min)?,
        max: rounded(summary.max)?,
        mean: rounded(summary.mean)?,
        s_dev: rounded(summary.s_dev)?,
        percentile: Some((rounded(95.0)?, rounded(summary.p95)?)),
        packs_root: merkle::root(&leaves),
        packs: u64::try_from(leaves.len()).unwrap_or(u64::MAX),
        coverage: rounded(f64::from(i32::try_from(summary.parts.min(PARTS)).unwrap_or_default()) / 24.0)?,
        alarm: over,
    }))
}

fn named(packs: &[Carried]) -> Result<Vec<Ref>, StoreError> {
    let evidence =
        |pack: &Carried| Hash::from_slice(&pack.entry).map(|leaf| Ref { rel: Rel::Evidence, leaf });
    let named = spread(packs, NAMED_PACKS_MAX).map(evidence).collect::<Option<_>>();
    named.ok_or(StoreError::Corrupt("a pack's entry"))
}

/// At most `count` of all, evenly, with the first and the last.
fn spread<T>(all: &[T], count: usize) -> impl Iterator<Item = &T> {
    let count = count.min(all.len());
    let gaps = count.saturating_sub(1).max(1);
    (0..count).filter_map(move |number| all.get(number * all.len().saturating_sub(1) / gaps))
}

/// An exact decimal without trailing zeros.
fn rounded(value: f64) -> Result<Decimal, StoreError> {
    let text = format!("{value:.PLACES$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let text = if text == "-0" { "0" } else { text };
    text.parse().map_err(|_| StoreError::Corrupt("a reading's summary"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_packs_some_are_named_from_the_first_to_the_last() {
        let of = |count: u32| spread(&(0..count).collect::<Vec<_>>(), 8).copied().collect::<Vec<_>>();
        assert!(of(0).is_empty());
        assert_eq!(of(1), [0]);
        assert_eq!(of(8), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(of(9), [0, 1, 2, 3, 4, 5, 6, 8]);
        assert_eq!(of(71), [0, 10, 20, 30, 40, 50, 60, 70]);
    }
}
