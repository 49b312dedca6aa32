//! Events that no author states: what follows from the server's state, signed by the operator's derivation key.

use chrono::{DateTime, FixedOffset, SecondsFormat};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    Metric,
    build::{head, measurement_type, quantity_element, substance_uri},
    effect::{Output, Portion},
};
use crate::{hash::Hash, quantity::Decimal};

/// A storage epoch: what was left in the bin and what arrived become the new epoch's lot.
///
/// Without `transformationID`: EPCIS would make every input of events that share one an ancestor of every output.
pub fn epoch(
    jti: Uuid,
    at: DateTime<FixedOffset>,
    place: &str,
    inputs: &[Portion],
    output: &Output,
    number: u32,
) -> Json {
    let mut event = head(jti, "TransformationEvent", at, "storing", "gx:epoch");
    let inputs: Vec<Json> =
        inputs.iter().map(|portion| quantity_element(&portion.lot, portion.quantity)).collect();
    event.insert("inputQuantityList".to_owned(), Json::Array(inputs));
    event.insert("outputQuantityList".to_owned(), json!([quantity_element(&output.lot, output.quantity)]));
    event.insert("readPoint".to_owned(), json!({"id": place}));
    event.insert("bizLocation".to_owned(), json!({"id": place}));
    event.insert("gx:epoch".to_owned(), json!(number));
    Json::Object(event)
}

/// A window of one metric's readings, in exact decimals as the server rounds them.
#[derive(Debug, Clone, PartialEq)]
pub struct Window<'a> {
    pub metric: &'a Metric,
    pub device: Option<&'a str>,
    pub start: DateTime<FixedOffset>,
    pub end: DateTime<FixedOffset>,
    pub min: Decimal,
    pub max: Decimal,
    pub mean: Decimal,
    pub s_dev: Decimal,
    /// 95 in general: (rank, value).
    pub percentile: Option<(Decimal, Decimal)>,
    /// RFC 6962 root over the window's packs, in time order.
    pub packs_root: Hash,
    pub packs: u64,
    /// 0..1: how much of the window has readings; gaps are said, never interpolated.
    pub coverage: Decimal,
    /// A threshold was passed.
    pub alarm: bool,
}

/// One `sensor_reporting` ObjectEvent for the lots that lay at `place` during the windows.
pub fn sensor_summary(jti: Uuid, place: &str, lots: &[&str], windows: &[Window<'_>]) -> Option<Json> {
    let end = windows.iter().map(|window| window.end).max()?;
    let mut event = head(jti, "ObjectEvent", end, "sensor_reporting", "gx:conditions");
    event.insert("action".to_owned(), json!("OBSERVE"));
    let lots: Vec<Json> = lots.iter().map(|lot| json!({"epcClass": lot})).collect();
    if lots.is_empty() {
        event.insert("epcList".to_owned(), json!([]));
    } else {
        event.insert("quantityList".to_owned(), Json::Array(lots));
    }
    event.insert("readPoint".to_owned(), json!({"id": place}));
    event.insert("bizLocation".to_owned(), json!({"id": place}));
    event.insert("sensorElementList".to_owned(), windows.iter().map(sensor_element).collect());
    Some(Json::Object(event))
}

fn sensor_element(window: &Window<'_>) -> Json {
    let time = |at: DateTime<FixedOffset>| at.to_rfc3339_opts(SecondsFormat::Millis, false);
    let mut report = json!({
        "type": measurement_type(&window.metric.measurement),
        "minValue": window.min.to_json(),
        "maxValue": window.max.to_json(),
        "meanValue": window.mean.to_json(),
        "sDev": window.s_dev.to_json(),
        "uom": window.metric.unit,
    });
    if let Some(members) = report.as_object_mut() {
        if let Some((rank, value)) = window.percentile {
            members.insert("percRank".to_owned(), rank.to_json());
            members.insert("percValue".to_owned(), value.to_json());
        }
        if let Some(substance) = &window.metric.substance {
            members.insert("chemicalSubstance".to_owned(), json!(substance_uri(substance)));
        }
        if window.alarm {
            members.insert("exception".to_owned(), json!("ALARM_CONDITION"));
        }
    }
    let mut metadata = json!({"startTime": time(window.start), "endTime": time(window.end)});
    if let (Some(members), Some(device)) = (metadata.as_object_mut(), window.device) {
        members.insert("deviceID".to_owned(), json!(device));
    }
    json!({
        "sensorMetadata": metadata,
        "sensorReport": [report],
        "gx:packs": window.packs_root.to_string(),
        "gx:pack-count": window.packs,
        "gx:coverage": window.coverage.to_json(),
    })
}
