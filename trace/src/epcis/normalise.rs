//! From what a sender wrote to what we sign: GS1 keys as canonical Digital Links, the standard's words bare.

use super::{
    context::Namespaces,
    event::{Event, Kind, QuantityElement, SensorElement},
    read::{At, EpcisError, Rule},
    value::Uri,
};
use crate::gs1::{Key, key_from_urn};

/// Converts the event's identifiers in place; the first that cannot be converted is the error.
/// EPCs, classes, places and parties must be GS1 keys; transactions may keep their issuer's URI.
pub fn normalise(event: &mut Event) -> Result<(), EpcisError> {
    let namespaces = Namespaces::default();
    let at = At::root(&namespaces);
    kind(&mut event.kind, &at)?;
    let circumstances = &mut event.circumstances;
    for (name, location) in
        [("readPoint", &mut circumstances.read_point), ("bizLocation", &mut circumstances.biz_location)]
    {
        if let Some(location) = location {
            key(&mut location.id, &at.member(name).member("id"))?;
        }
    }
    for (index, item) in circumstances.biz_transaction_list.iter_mut().flatten().enumerate() {
        transaction(
            &mut item.biz_transaction,
            &at.member("bizTransactionList").index(index).member("bizTransaction"),
        )?;
        item.kind = item.kind.take().map(super::BizTransactionType::canonical);
    }
    for (index, item) in circumstances.source_list.iter_mut().flatten().enumerate() {
        key(&mut item.source, &at.member("sourceList").index(index).member("source"))?;
    }
    for (index, item) in circumstances.destination_list.iter_mut().flatten().enumerate() {
        key(&mut item.destination, &at.member("destinationList").index(index).member("destination"))?;
    }
    for (index, element) in circumstances.sensor_element_list.iter_mut().flatten().enumerate() {
        sensor_element(element, &at.member("sensorElementList").index(index))?;
    }
    circumstances.biz_step = circumstances.biz_step.take().map(super::BizStep::canonical);
    circumstances.disposition = circumstances.disposition.take().map(super::Disposition::canonical);
    Ok(())
}

fn kind(kind: &mut Kind, at: &At<'_>) -> Result<(), EpcisError> {
    match kind {
        Kind::Object(event) => {
            epcs(event.epc_list.as_mut(), "epcList", at)?;
            classes(event.quantity_list.as_mut(), "quantityList", at)
        }
        Kind::Aggregation(event) => {
            parent(event.parent_id.as_mut(), at)?;
            epcs(event.child_epcs.as_mut(), "childEPCs", at)?;
            classes(event.child_quantity_list.as_mut(), "childQuantityList", at)
        }
        Kind::Association(event) => {
            parent(Some(&mut event.parent_id), at)?;
            epcs(event.child_epcs.as_mut(), "childEPCs", at)?;
            classes(event.child_quantity_list.as_mut(), "childQuantityList", at)
        }
        Kind::Transaction(event) => {
            parent(event.parent_id.as_mut(), at)?;
            epcs(event.epc_list.as_mut(), "epcList", at)?;
            classes(event.quantity_list.as_mut(), "quantityList", at)
        }
        Kind::Transformation(event) => {
            epcs(event.input_epc_list.as_mut(), "inputEPCList", at)?;
            classes(event.input_quantity_list.as_mut(), "inputQuantityList", at)?;
            epcs(event.output_epc_list.as_mut(), "outputEPCList", at)?;
            classes(event.output_quantity_list.as_mut(), "outputQuantityList", at)?;
            event
                .transformation_id
                .as_mut()
                .map_or(Ok(()), |id| transaction(id, &at.member("transformationID")))
        }
    }
}

fn sensor_element(element: &mut SensorElement, at: &At<'_>) -> Result<(), EpcisError> {
    if let Some(metadata) = &mut element.sensor_metadata {
        let at = at.member("sensorMetadata");
        for (name, uri) in
            [("deviceID", &mut metadata.device_id), ("deviceMetadata", &mut metadata.device_metadata)]
        {
            reference(uri.as_mut(), &at.member(name))?;
        }
    }
    for (index, report) in element.sensor_report.iter_mut().enumerate() {
        let at = at.member("sensorReport");
        reference(report.device_id.as_mut(), &at.index(index).member("deviceID"))?;
        reference(report.device_metadata.as_mut(), &at.index(index).member("deviceMetadata"))?;
    }
    Ok(())
}

fn epcs(list: Option<&mut Vec<Uri>>, name: &str, at: &At<'_>) -> Result<(), EpcisError> {
    let at = at.member(name);
    for (index, uri) in list.into_iter().flatten().enumerate() {
        let at = at.index(index);
        if !key(uri, &at)?.is_instance() {
            return Err(at.error(Rule::NotAnInstance));
        }
    }
    Ok(())
}

fn classes(list: Option<&mut Vec<QuantityElement>>, name: &str, at: &At<'_>) -> Result<(), EpcisError> {
    let at = at.member(name);
    for (index, element) in list.into_iter().flatten().enumerate() {
        let at = at.index(index);
        let at = at.member("epcClass");
        if key(&mut element.epc_class, &at)?.is_instance() {
            return Err(at.error(Rule::NotAClass));
        }
    }
    Ok(())
}

fn parent(uri: Option<&mut Uri>, at: &At<'_>) -> Result<(), EpcisError> {
    let at = at.member("parentID");
    let Some(uri) = uri else { return Ok(()) };
    if key(uri, &at)?.is_instance() { Ok(()) } else { Err(at.error(Rule::NotAnInstance)) }
}

/// Must be a GS1 key.
fn key(uri: &mut Uri, at: &At<'_>) -> Result<Key, EpcisError> {
    let key = parse(uri.as_str()).map_err(|reason| at.error(Rule::NoDigitalLink { reason }))?;
    *uri = Uri::new(&key.uri()).ok_or_else(|| at.error(Rule::Uri(key.uri())))?;
    Ok(key)
}

fn parse(text: &str) -> Result<Key, String> {
    let chain = |error: &dyn std::error::Error| {
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    };
    if text.starts_with("urn:epc:") {
        key_from_urn(text).map_err(|error| chain(&error))
    } else {
        text.parse().map_err(|error: crate::gs1::DigitalLinkError| chain(&error))
    }
}

/// A GS1 key where it is one; otherwise as sent, if its scheme is one of those that name documents.
fn transaction(uri: &mut Uri, at: &At<'_>) -> Result<(), EpcisError> {
    const KEPT: [&str; 4] = ["https://", "http://", "urn:uuid:", "urn:epcglobal:cbv:bt:"];
    let text = uri.as_str();
    if text.starts_with("urn:epc:") || parse(text).is_ok() {
        return key(uri, at).map(|_| ());
    }
    if KEPT.iter().any(|scheme| text.starts_with(scheme)) {
        Ok(())
    } else {
        Err(at.error(Rule::TransactionIdentifier))
    }
}

/// Anything; but an EPC URN must have its Digital Link.
fn reference(uri: Option<&mut Uri>, at: &At<'_>) -> Result<(), EpcisError> {
    match uri {
        Some(uri) if uri.as_str().starts_with("urn:epc:") || parse(uri.as_str()).is_ok() => {
            key(uri, at).map(|_| ())
        }
        _ => Ok(()),
    }
}
