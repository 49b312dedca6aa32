//! Targets: each takes any bytes, must never panic, and holds what is promised of what it accepts. Any fuzzer can call them;
//! `suyuan-fuzz` is one that needs no other toolchain, and a test gives each a short run.

mod mutate;
mod seeds;

use std::{str, sync::Arc};

use trace::{
    bundle::{self, Bundle},
    epcis::Document,
    gs1::DigitalLink,
    json,
    pack::{
        Frame, carriage,
        receipt::{RECEIPT_BYTES_MAX, Receipt},
        senml,
    },
    record::{Record, sd, statement},
    roster::RosterLine,
    serial::Serial,
    tlog::{
        checkpoint::Checkpoint, note::Note, policy::Policy, proof::TlogProof, tile::TilePath,
        witness::AddCheckpoint,
    },
    uplink::{self, Format, sparkplug},
};

pub use mutate::Mutator;

/// A parser with what must hold of it, and inputs to begin from.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Everything that takes bytes from outside.
pub const TARGETS: [Target; 21] = [
    Target { name: "record", run: record, seeds: seeds::records },
    Target { name: "disclosure", run: disclosure, seeds: seeds::disclosures },
    Target { name: "pack", run: pack, seeds: seeds::packs },
    Target { name: "receipt", run: receipt, seeds: seeds::receipts },
    Target { name: "possession", run: possession, seeds: seeds::possessions },
    Target { name: "roster-line", run: roster_line, seeds: seeds::roster_lines },
    Target { name: "uplink", run: uplink, seeds: seeds::uplinks },
    Target { name: "sparkplug", run: sparkplug, seeds: seeds::sparkplug },
    Target { name: "sparkplug-topic", run: sparkplug_topic, seeds: seeds::sparkplug_topics },
    Target { name: "senml-json", run: senml_json, seeds: seeds::senml_json },
    Target { name: "senml-cbor", run: senml_cbor, seeds: seeds::senml_cbor },
    Target { name: "carriage", run: carriage, seeds: seeds::carriage },
    Target { name: "checkpoint", run: checkpoint, seeds: seeds::checkpoints },
    Target { name: "note", run: note, seeds: seeds::notes },
    Target { name: "tile-path", run: tile_path, seeds: seeds::tile_paths },
    Target { name: "tlog-proof", run: tlog_proof, seeds: seeds::tlog_proofs },
    Target { name: "add-checkpoint", run: add_checkpoint, seeds: seeds::add_checkpoints },
    Target { name: "policy", run: policy, seeds: seeds::policies },
    Target { name: "bundle", run: bundle, seeds: seeds::bundles },
    Target { name: "epcis", run: epcis, seeds: seeds::epcis },
    Target { name: "identifier", run: identifier, seeds: seeds::identifiers },
];

/// What is accepted prints as it was: one spelling for one meaning.
fn prints_as_it_was<T: str::FromStr + ToString>(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(parsed) = text.parse::<T>() {
        assert_eq!(parsed.to_string(), text);
    }
}

fn record(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(record) = Record::parse(text) {
        assert!(
            record.verify(&seeds::key().public()).is_err() || seeds::is_ours(text),
            "somebody forged our signature"
        );
        // With nothing disclosed there is always a public projection, or a reason why not.
        drop(record.process(&[]));
        drop(record.statement());
    }
}

fn disclosure(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(opened) = sd::Opened::parse(text) {
        assert_eq!(opened.digest, trace::hash::sha256(bytes));
    }
}

fn pack(bytes: &[u8]) {
    if let Ok(frame) = Frame::parse(bytes) {
        assert!(
            frame.verify(&seeds::key().public()).is_err() || seeds::packs().iter().any(|ours| ours == bytes)
        );
        drop(senml::parse_cbor(frame.payload));
    }
}

fn receipt(bytes: &[u8]) {
    let Ok(receipt) = Receipt::parse(bytes) else { return };
    assert!(bytes.len() <= RECEIPT_BYTES_MAX);
    assert_eq!(receipt.to_bytes(), bytes);
    let (Some(log), entry) = (seeds::signer(), seeds::entry()) else { return };
    let is_ours = || seeds::receipts().iter().any(|ours| ours == bytes);
    assert!(receipt.verify(&entry, &log.verifier()).is_err() || is_ours(), "somebody forged a receipt");
}

fn possession(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Some(stated) = seeds::possession() else { return };
    let verified = statement::verify_possession(text, &stated, &seeds::key().public());
    assert!(verified.is_err() || seeds::possessions().iter().any(|ours| ours == bytes));
}

fn roster_line(bytes: &[u8]) {
    prints_as_it_was::<RosterLine>(bytes);
}

/// What a device sent in each format that explains itself: whatever is read of it can be signed.
fn uplink(bytes: &[u8]) {
    let map = seeds::map();
    for format in [Format::SenmlJson, Format::SenmlCbor, Format::Chirpstack, Format::Sparkplug, Format::Json]
    {
        if let Ok(readings) = uplink::read(format, &map, bytes) {
            assert!(readings.len() <= senml::RECORDS_MAX);
            drop(senml::write_cbor("urn:dev:org:32473-mill:scale1:", &readings));
        }
    }
}

/// A payload as each message of an edge node, one after the other.
fn sparkplug(bytes: &[u8]) {
    let (map, mut edge) = (Arc::new(seeds::map()), sparkplug::Edge::default());
    for topic in seeds::sparkplug_topics() {
        let Some(topic) = String::from_utf8(topic).ok().and_then(|topic| topic.parse().ok()) else {
            continue;
        };
        if let Ok(readings) = edge.take(&topic, bytes, Some(&map)).readings {
            drop(senml::write_cbor("urn:dev:org:32473-mill:scale1:", &readings));
        }
    }
}

fn sparkplug_topic(bytes: &[u8]) {
    prints_as_it_was::<sparkplug::Topic>(bytes);
}

fn senml_json(bytes: &[u8]) {
    if let Ok(readings) = senml::parse_json(bytes) {
        assert!(readings.len() <= 1_000);
    }
}

fn senml_cbor(bytes: &[u8]) {
    if let Ok(readings) = senml::parse_cbor(bytes) {
        assert!(readings.len() <= 1_000);
    }
}

fn carriage(bytes: &[u8]) {
    if let Ok(items) = carriage::read_items(bytes) {
        let mut written = Vec::new();
        for item in &items {
            carriage::write_item(&mut written, item);
        }
        assert!(carriage::read_items(&written).is_ok_and(|again| again == items));
    }
    drop(carriage::read_outcomes(bytes, 10));
    drop(carriage::read_receipt(bytes));
}

fn checkpoint(bytes: &[u8]) {
    prints_as_it_was::<Checkpoint>(bytes);
}

fn note(bytes: &[u8]) {
    prints_as_it_was::<Note>(bytes);
}

fn tile_path(bytes: &[u8]) {
    prints_as_it_was::<TilePath>(bytes);
}

fn tlog_proof(bytes: &[u8]) {
    prints_as_it_was::<TlogProof>(bytes);
}

fn add_checkpoint(bytes: &[u8]) {
    prints_as_it_was::<AddCheckpoint>(bytes);
}

fn policy(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(policy) = text.parse::<Policy>() else { return };
    // What a bundle's reader downloads says the same.
    let printed = policy.to_string();
    assert!(printed.parse::<Policy>().is_ok_and(|again| again.to_string() == printed));
    assert_eq!(policy.witnesses().is_empty(), printed.lines().all(|line| !line.starts_with("witness ")));
}

fn bundle(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(parsed) = text.parse::<Bundle>() else { return };
    assert_eq!(parsed.to_string(), text);
    // Verifying ends, whatever it says; for a reader who trusts nobody it never says valid.
    assert_ne!(bundle::verify(&parsed, &Policy::default()).verdict, bundle::Verdict::Valid);
}

fn epcis(bytes: &[u8]) {
    let Ok(value) = json::parse(bytes) else { return };
    if let Ok(document) = Document::from_value(value.clone()) {
        assert_eq!(document.to_value(), value);
    }
}

fn identifier(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(link) = text.parse::<DigitalLink>() {
        assert!(link.key.uri().parse::<DigitalLink>().is_ok_and(|again| again.key == link.key));
    }
    if let Ok(key) = trace::gs1::key_from_urn(text) {
        assert!(key.uri().parse::<DigitalLink>().is_ok_and(|again| again.key == key));
    }
    drop(Serial::parse(text));
}
