//! The profile `epcis/1`: what of an imported event is said in public.

use serde_json::Value;

use super::event::{Event, Kind};
use crate::{
    hash::sha256,
    record::{Conceal, Visibility},
};

const PROFILE: &str = include_str!("epcis-1.toml");

/// Digests at the event's level, so that their number does not tell which optional members were there.
pub const IMPORT_DECOYS: usize = 24;

/// Members of a sensor report that hold what was measured.
const REPORT_VALUES: [&str; 11] = [
    "value",
    "stringValue",
    "booleanValue",
    "hexBinaryValue",
    "uriValue",
    "minValue",
    "maxValue",
    "meanValue",
    "sDev",
    "percRank",
    "percValue",
];

/// The `profile` claim of every record around an imported event.
pub fn import_profile_reference() -> String {
    use std::fmt::Write as _;
    let digest = sha256(PROFILE.as_bytes());
    digest.as_bytes().iter().take(16).fold("epcis/1#".to_owned(), |mut reference, byte| {
        // Writing to a String cannot fail.
        write!(reference, "{byte:02x}").unwrap_or_default();
        reference
    })
}

/// What an import conceals: everything that the profile does not call public. The rest still satisfies GS1's schema.
pub fn import_conceal(event: &Event) -> Vec<Conceal> {
    let circumstances = &event.circumstances;
    let mut pointers = Vec::new();
    let first = usize::from(matches!(event.kind, Kind::Transaction(_)));
    let transactions = circumstances.biz_transaction_list.as_ref().map_or(0, Vec::len);
    pointers.extend((first..transactions).map(|index| format!("/bizTransactionList/{index}")));
    let sources = circumstances.source_list.as_ref().map_or(0, Vec::len);
    pointers.extend((0..sources).map(|index| format!("/sourceList/{index}")));
    let destinations = circumstances.destination_list.as_ref().map_or(0, Vec::len);
    pointers.extend((0..destinations).map(|index| format!("/destinationList/{index}")));
    if has_ilmd(&event.kind) {
        pointers.push("/ilmd".to_owned());
    }
    if is_sensor_only(event) {
        pointers.extend(report_values(&event.to_value()));
    } else if circumstances.sensor_element_list.is_some() {
        pointers.push("/sensorElementList".to_owned());
    }
    pointers.extend(event.extensions.0.keys().map(|name| format!("/{}", escape(name))));
    pointers.into_iter().map(|pointer| Conceal { pointer, visibility: Visibility::Private }).collect()
}

const fn has_ilmd(kind: &Kind) -> bool {
    match kind {
        Kind::Object(event) => event.ilmd.is_some(),
        Kind::Transformation(event) => event.ilmd.is_some(),
        _ => false,
    }
}

/// Nothing but sensor data makes this ObjectEvent valid.
fn is_sensor_only(event: &Event) -> bool {
    matches!(&event.kind, Kind::Object(object)
        if object.epc_list.is_none() && object.quantity_list.as_ref().is_none_or(Vec::is_empty))
}

fn report_values(event: &Value) -> Vec<String> {
    let mut pointers = Vec::new();
    let list = |value: &Value, name| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    for (element_index, element) in list(event, "sensorElementList").iter().enumerate() {
        for (report_index, report) in list(element, "sensorReport").iter().enumerate() {
            let values = REPORT_VALUES.iter().filter(|name| report.get(**name).is_some());
            pointers.extend(values.map(|name| {
                format!("/sensorElementList/{element_index}/sensorReport/{report_index}/{name}")
            }));
        }
    }
    pointers
}

/// RFC 6901 §3.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
