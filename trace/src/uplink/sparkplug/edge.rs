//! An edge node between two births: which metric an alias names, and which sequence number comes next.
//!
//! Only what maps name is kept, so that memory is bounded by the register and not by what nodes send.

use std::{collections::HashMap, sync::Arc};

use super::{Metric, Payload, Topic, Verb};
use crate::{
    pack::senml::{Number, Reading, Value},
    uplink::{Map, MapReading, UplinkError, absolute_or_arrival},
};

const BD_SEQ: &str = "bdSeq";
/// Names of what the message itself tells.
const ONLINE: &str = "online";
const GAP: &str = "seq.gap";
const SEQ: &str = "seq";

/// What one edge node and its devices have told since its last birth.
#[derive(Debug, Default)]
pub struct Edge {
    last: Option<Last>,
    bd_seq: Option<u64>,
    births: HashMap<Option<String>, Birth>,
    /// A gap may have swallowed a birth: until the next one an alias may name another metric.
    is_gapped: bool,
    /// Missed messages that no pack has stated yet.
    unstated: u64,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    seq: u8,
    timestamp_ms: u64,
}

#[derive(Debug)]
struct Birth {
    map: Arc<Map>,
    datatypes: HashMap<String, u32>,
    aliases: HashMap<u64, String>,
}

/// What a message comes to.
#[derive(Debug)]
pub struct Read {
    /// The readings of its pack, or why there is none.
    pub readings: Result<Vec<Reading>, UplinkError>,
    /// Messages missed since the one before.
    pub missed: u8,
    /// The node should be asked for its births.
    pub wants_rebirth: bool,
}

impl Edge {
    /// Takes the next message of this edge node. `map` is that of the node or device which `topic` names, if it has one.
    pub fn take(&mut self, topic: &Topic, payload: &[u8], map: Option<&Arc<Map>>) -> Read {
        let payload = match Payload::parse(payload) {
            Ok(payload) => payload,
            Err(error) => return Read { readings: Err(error), missed: 0, wants_rebirth: false },
        };
        let missed = match self.follow(topic.verb, &payload) {
            Ok(missed) => missed,
            Err(error) => return Read { readings: Err(error), missed: 0, wants_rebirth: false },
        };
        let readings = map.map_or(Err(UplinkError::Unmapped), |map| self.read(topic, &payload, map));
        let wants_rebirth = self.is_gapped || readings == Err(UplinkError::NoBirth);
        Read { readings: readings.map(|readings| self.stated(readings, &payload)), missed, wants_rebirth }
    }

    /// The sequence (§6.4.4 and its like): a birth starts it, a death of the node ends it, all others count on.
    ///
    /// A message that is not newer than the last came twice; it misses nothing and moves nothing.
    fn follow(&mut self, verb: Verb, payload: &Payload) -> Result<u8, UplinkError> {
        if verb == Verb::NodeDeath {
            return self.die(payload).map(|()| 0);
        }
        let seq = payload.seq.ok_or(UplinkError::Sparkplug("no sequence number"))?;
        let timestamp_ms = payload.timestamp_ms.ok_or(UplinkError::Sparkplug("no timestamp"))?;
        let bd_seq = number_of(payload, BD_SEQ);
        let is_repeat = self.last.is_some_and(|last| {
            timestamp_ms < last.timestamp_ms || (timestamp_ms == last.timestamp_ms && seq == last.seq)
        });
        if is_repeat && (verb != Verb::NodeBirth || bd_seq == self.bd_seq) {
            return Ok(0);
        }
        let before = self.last.replace(Last { seq, timestamp_ms });
        if verb == Verb::NodeBirth {
            self.births.clear();
            self.is_gapped = false;
            self.bd_seq = bd_seq;
            return Ok(0);
        }
        let missed = before.map_or(0, |last| seq.wrapping_sub(last.seq).wrapping_sub(1));
        self.is_gapped |= missed > 0;
        self.unstated = self.unstated.saturating_add(u64::from(missed));
        Ok(missed)
    }

    /// The will of a session that another has followed says nothing of that other (§6.4.22: bdSeq matches the two).
    fn die(&mut self, payload: &Payload) -> Result<(), UplinkError> {
        let bd_seq = number_of(payload, BD_SEQ);
        if self.bd_seq.is_some() && bd_seq != self.bd_seq {
            return Err(UplinkError::StaleDeath);
        }
        self.births.clear();
        self.last = None;
        Ok(())
    }

    fn read(
        &mut self,
        topic: &Topic,
        payload: &Payload,
        map: &Arc<Map>,
    ) -> Result<Vec<Reading>, UplinkError> {
        let device = topic.device().map(str::to_owned);
        let time_us = moment(payload.timestamp_ms);
        match topic.verb {
            // A will was written when its session began: its own time is not the death's.
            Verb::NodeDeath => Ok(vec![online(false, 0)]),
            Verb::DeviceDeath => {
                self.births.remove(&device);
                Ok(vec![online(false, time_us)])
            }
            Verb::NodeBirth | Verb::DeviceBirth => {
                let birth = Birth::new(map, payload);
                let mut readings = vec![online(true, time_us)];
                readings.extend(birth.readings(payload, false)?);
                self.births.insert(device, birth);
                Ok(readings)
            }
            Verb::NodeData | Verb::DeviceData => {
                let birth = self.births.get(&device).filter(|birth| birth.map == *map);
                birth.ok_or(UplinkError::NoBirth)?.readings(payload, self.is_gapped)
            }
        }
    }

    /// With the gap that came before it; a pack of nothing else tells its sequence number.
    fn stated(&mut self, mut readings: Vec<Reading>, payload: &Payload) -> Vec<Reading> {
        let time_us = moment(payload.timestamp_ms);
        let count = |name: &str, count: i64| Reading {
            name: name.to_owned(),
            unit: Some("count".to_owned()),
            time_us,
            value: Some(Value::Number(Number::integer(count))),
            sum: None,
        };
        let missed = std::mem::take(&mut self.unstated);
        if missed > 0 {
            readings.push(count(GAP, i64::try_from(missed).unwrap_or(i64::MAX)));
        }
        if readings.is_empty() {
            readings.push(count(SEQ, i64::from(payload.seq.unwrap_or_default())));
        }
        readings
    }
}

impl Birth {
    fn new(map: &Arc<Map>, payload: &Payload) -> Self {
        let mut birth = Self { map: map.clone(), datatypes: HashMap::new(), aliases: HashMap::new() };
        for metric in &payload.metrics {
            let (Some(name), Some(datatype)) = (&metric.name, metric.datatype) else { continue };
            if !map.readings.contains_key(name) {
                continue;
            }
            birth.datatypes.insert(name.clone(), datatype);
            if let Some(alias) = metric.alias {
                birth.aliases.insert(alias, name.clone());
            }
        }
        birth
    }

    fn readings(&self, payload: &Payload, is_gapped: bool) -> Result<Vec<Reading>, UplinkError> {
        let mut readings = Vec::new();
        for metric in &payload.metrics {
            if metric.name.is_none() && is_gapped {
                return Err(UplinkError::NoBirth);
            }
            let Some((name, to)) = self.mapped(metric) else { continue };
            let datatype = metric.datatype.or_else(|| self.datatypes.get(name).copied());
            let Some(value) = metric.value(datatype.ok_or(UplinkError::NoBirth)?)? else { continue };
            readings.push(to.reading(moment(metric.timestamp_ms.or(payload.timestamp_ms)), value)?);
        }
        Ok(readings)
    }

    fn mapped(&self, metric: &Metric) -> Option<(&str, &MapReading)> {
        let name = match (&metric.name, metric.alias) {
            (Some(name), _) => name,
            (None, alias) => self.aliases.get(&alias?)?,
        };
        self.map.readings.get_key_value(name).map(|(name, to)| (name.as_str(), to))
    }
}

fn online(value: bool, time_us: i64) -> Reading {
    Reading { name: ONLINE.to_owned(), unit: None, time_us, value: Some(Value::Bool(value)), sum: None }
}

fn number_of(payload: &Payload, name: &str) -> Option<u64> {
    let metric = payload.metrics.iter().find(|metric| metric.name.as_deref() == Some(name))?;
    match metric.value {
        Some(super::Raw::Int(value) | super::Raw::Long(value)) => Some(value),
        _ => None,
    }
}

fn moment(timestamp_ms: Option<u64>) -> i64 {
    let time_us = timestamp_ms.and_then(|ms| i64::try_from(ms).ok()?.checked_mul(1_000));
    time_us.map_or(0, absolute_or_arrival)
}
