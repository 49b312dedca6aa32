//! One reading pack's row against its signed bytes.

use store::fsck::PackRow;
use trace::pack::{
    Frame,
    senml::{self, Said},
};

use super::history::{History, Place};

/// A device's clock may be this much ahead; older packs are historical. The intake's own rules, said again.
const AHEAD_MAX_US: i64 = 5 * 60 * 1_000_000;
const HISTORICAL_AFTER_US: i64 = 24 * 60 * 60 * 1_000_000;
const CLOCK_EPOCH_US: i64 = 1_577_836_800 * 1_000_000;
/// The years 1 to 9999, in microseconds from 1970.
const READABLE_US: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// Strict frame, strict signature by a pack key that was enrolled before; and every column that the bytes decide.
pub(super) fn check(at: Place, row: &PackRow<'_>, history: &History) -> Result<Vec<&'static str>, String> {
    let frame = Frame::parse(row.bytes).map_err(|error| error.to_string())?;
    let signer = history.pack_signer(at, &frame.kid)?;
    frame.verify(&signer.key).map_err(|error| error.to_string())?;
    let mut told = Told::of(row, signer.base_name.as_deref().unwrap_or_default());
    let readings =
        senml::each_of_cbor(frame.payload, |said| told.hear(&said)).map_err(|error| error.to_string())?;
    if told.is_of_another_key {
        return Err("it names a device that its key does not speak for".to_owned());
    }
    Ok(wrong_columns(row, &frame, readings, &told))
}

/// What the readings of a pack tell together. Microseconds.
struct Told<'a> {
    row: &'a PackRow<'a>,
    under_key: &'a str,
    received_at: i64,
    first_at: Option<i64>,
    last_at: Option<i64>,
    is_unreadable: bool,
    is_of_another_key: bool,
    is_of_another_device: bool,
    /// The last reading's name: the next one mostly has the same, and is then not looked at again.
    name: String,
}

impl<'a> Told<'a> {
    fn of(row: &'a PackRow<'a>, under_key: &'a str) -> Self {
        Self {
            row,
            under_key,
            received_at: row.received_at.timestamp_micros(),
            first_at: None,
            last_at: None,
            is_unreadable: false,
            is_of_another_key: false,
            is_of_another_device: false,
            name: String::new(),
        }
    }

    fn hear(&mut self, said: &Said<'_>) {
        if said.name != self.name {
            self.is_of_another_key |= !said.name.starts_with(self.under_key);
            self.is_of_another_device |= !device_fits(self.row, said.name);
            self.name.clear();
            self.name.push_str(said.name);
        }
        match self.moment(said) {
            Some(moment) => {
                self.first_at = Some(self.first_at.map_or(moment, |first| first.min(moment)));
                self.last_at = Some(self.last_at.map_or(moment, |last| last.max(moment)));
            }
            None => self.is_unreadable = true,
        }
    }

    /// A relative time counts from the arrival (RFC 8428 §4.5.3).
    fn moment(&self, said: &Said<'_>) -> Option<i64> {
        let at =
            if said.is_absolute() { Some(said.time_us) } else { self.received_at.checked_add(said.time_us) };
        at.filter(|at| READABLE_US.contains(at))
    }

    fn mark(&self, first: i64, last: i64) -> Option<&'static str> {
        let ahead = last.saturating_sub(self.received_at);
        if self.is_unreadable || ahead > AHEAD_MAX_US || first < CLOCK_EPOCH_US {
            return Some("clock_suspect");
        }
        (self.received_at.saturating_sub(last) > HISTORICAL_AFTER_US).then_some("historical")
    }
}

fn wrong_columns(
    row: &PackRow<'_>,
    frame: &Frame<'_>,
    readings: usize,
    told: &Told<'_>,
) -> Vec<&'static str> {
    let first = told.first_at.unwrap_or(told.received_at);
    let last = told.last_at.unwrap_or(told.received_at);
    let columns = [
        ("cti", row.cti == frame.cti),
        ("kid", row.kid == frame.kid.as_bytes()),
        ("readings", usize::try_from(row.readings) == Ok(readings)),
        ("first_at", row.first_at.timestamp_micros() == first),
        ("last_at", row.last_at.timestamp_micros() == last),
        ("mark", row.mark == told.mark(first, last)),
        ("device_id", !told.is_of_another_device),
    ];
    columns.into_iter().filter(|(_, fits)| !fits).map(|(name, _)| name).collect()
}

/// `urn:dev:org:{PEN}-{party}:{device}:` (RFC 9039 §4.3).
fn device_fits(row: &PackRow<'_>, name: &str) -> bool {
    let Some((_, device, party)) = row.device else { return false };
    let named = || {
        let (_, name) = name.strip_prefix("urn:dev:org:")?.split_once('-')?;
        let rest = name.strip_prefix(party)?.strip_prefix(':')?.strip_prefix(device)?;
        rest.starts_with(':').then_some(())
    };
    named().is_some()
}
