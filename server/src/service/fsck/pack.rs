//! One reading pack's row against its signed bytes.

use chrono::{DateTime, TimeDelta, Utc};
use store::fsck::PackRow;
use trace::pack::{
    Frame,
    senml::{self, Reading},
};

use super::history::{History, Place};

/// A device's clock may be this much ahead; older packs are historical. The intake's own rules, said again.
const AHEAD_MAX: TimeDelta = TimeDelta::minutes(5);
const HISTORICAL_AFTER: TimeDelta = TimeDelta::hours(24);
const CLOCK_EPOCH_S: i64 = 1_577_836_800;

/// Strict frame, strict signature by a pack key that was enrolled before; and every column that the bytes decide.
pub(super) fn check(at: Place, row: &PackRow<'_>, history: &History) -> Result<Vec<&'static str>, String> {
    let frame = Frame::parse(row.bytes).map_err(|error| error.to_string())?;
    let signer = history.pack_signer(at, &frame.kid)?;
    frame.verify(&signer.key).map_err(|error| error.to_string())?;
    let readings = senml::parse_cbor(frame.payload).map_err(|error| error.to_string())?;
    let under_key = signer.base_name.as_deref().unwrap_or_default();
    if !readings.iter().all(|reading| reading.name.starts_with(under_key)) {
        return Err("it names a device that its key does not speak for".to_owned());
    }
    Ok(wrong_columns(row, &frame, &readings))
}

fn wrong_columns(row: &PackRow<'_>, frame: &Frame<'_>, readings: &[Reading]) -> Vec<&'static str> {
    let moments: Vec<Option<DateTime<Utc>>> =
        readings.iter().map(|reading| moment(reading, row.received_at)).collect();
    let known = moments.iter().flatten();
    let first = known.clone().min().copied().unwrap_or(row.received_at);
    let last = known.max().copied().unwrap_or(row.received_at);
    let unreadable = moments.iter().any(Option::is_none);
    let columns = [
        ("cti", row.cti == frame.cti),
        ("kid", row.kid == frame.kid.as_bytes()),
        ("readings", usize::try_from(row.readings) == Ok(readings.len())),
        ("first_at", row.first_at == first),
        ("last_at", row.last_at == last),
        ("mark", row.mark == mark(first, last, row.received_at, unreadable)),
        ("device_id", device_fits(row, readings)),
    ];
    columns.into_iter().filter(|(_, fits)| !fits).map(|(name, _)| name).collect()
}

/// `urn:dev:org:{PEN}-{party}:{device}:` (RFC 9039 §4.3).
fn device_fits(row: &PackRow<'_>, readings: &[Reading]) -> bool {
    let Some((_, device, party)) = row.device else { return false };
    let named = |reading: &Reading| {
        let (_, name) = reading.name.strip_prefix("urn:dev:org:")?.split_once('-')?;
        let rest = name.strip_prefix(party)?.strip_prefix(':')?.strip_prefix(device)?;
        rest.starts_with(':').then_some(())
    };
    readings.iter().all(|reading| named(reading).is_some())
}

/// A relative time counts from the arrival (RFC 8428 §4.5.3).
fn moment(reading: &Reading, received_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let at = if reading.is_absolute() {
        DateTime::from_timestamp_micros(reading.time_us)
    } else {
        received_at.checked_add_signed(TimeDelta::microseconds(reading.time_us))
    };
    at.filter(|at| (1..=9_999).contains(&chrono::Datelike::year(at)))
}

fn mark(
    first: DateTime<Utc>,
    last: DateTime<Utc>,
    received_at: DateTime<Utc>,
    unreadable: bool,
) -> Option<&'static str> {
    if unreadable || last - received_at > AHEAD_MAX || first.timestamp() < CLOCK_EPOCH_S {
        return Some("clock_suspect");
    }
    (received_at - last > HISTORICAL_AFTER).then_some("historical")
}
