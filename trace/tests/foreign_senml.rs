//! Resolution as others have it: RFC 8428's own examples, and PyPI `senml`, which nobody here wrote, over random packs.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::float_cmp,
    reason = "a test says what it expects by failing"
)]

use std::process::Command;

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use serde_json::{Map, Value as Json, json};
use trace::pack::senml::{self, Reading, Value};

const PACKS: usize = 300;

/// Run by the interpreter that `SENML_PYTHON` names: one pack a line in, its resolved records out.
const RESOLVER: &str = r"
import json, sys
from senml.senml import SenMLDocument
for line in sys.stdin:
    document = SenMLDocument.from_json(json.loads(line))
    print(json.dumps([m.to_absolute(document.base).to_json() for m in document.measurements]))
";

/// As both write a resolved record.
fn resolved(reading: &Reading) -> Json {
    let mut record = Map::new();
    record.insert("n".to_owned(), json!(reading.name));
    let time_s: f64 = format!("{}e-6", reading.time_us).parse().unwrap();
    record.insert("t".to_owned(), json!(time_s));
    if let Some(unit) = &reading.unit {
        record.insert("u".to_owned(), json!(unit));
    }
    let (label, value) = match reading.value.as_ref().unwrap() {
        Value::Number(number) => ("v", json!(number.as_f64())),
        Value::Text(text) => ("vs", json!(text)),
        Value::Bool(flag) => ("vb", json!(flag)),
        Value::Data(_) => panic!("not compared: PyPI senml 0.1 does not decode data"),
    };
    record.insert(label.to_owned(), value);
    Json::Object(record)
}

/// Equal, numbers to 1 part in 10⁹: PyPI's `senml` adds doubles, we add decimals.
fn agree(ours: &Json, theirs: &Json) -> bool {
    match (ours, theirs) {
        (Json::Number(a), Json::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
        }
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| agree(a, b)))
        }
        (a, b) => a == b,
    }
}

fn ours(pack: &[u8]) -> Json {
    senml::parse_json(pack).unwrap().iter().map(resolved).collect()
}

#[test]
fn the_examples_of_rfc_8428_resolve_as_its_authors_say() {
    for (pack, theirs) in [
        (
            &include_bytes!("senml/multiple-datapoints.json")[..],
            &include_bytes!("senml/multiple-datapoints.resolved.json")[..],
        ),
        (include_bytes!("senml/one-quantity.json"), include_bytes!("senml/one-quantity.resolved.json")),
    ] {
        let theirs: Json = serde_json::from_slice(theirs).unwrap();
        let ours = ours(pack);
        assert!(agree(&ours, &theirs), "{ours}\n{theirs}");
    }
}

#[test]
fn the_cbor_of_rfc_8428_says_what_its_json_says() {
    let hex: String = include_str!("senml/multiple-datapoints.cbor.hex").split_whitespace().collect();
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    assert_eq!(bytes.len(), 0xc3);
    let cbor: Json = senml::parse_cbor(&bytes).unwrap().iter().map(resolved).collect();
    assert!(agree(&cbor, &ours(include_bytes!("senml/multiple-datapoints.json"))), "{cbor}");
}

/// Base fields in the first record only: PyPI's `senml` knows no others.
fn packs() -> impl Strategy<Value = Json> {
    let number = || {
        prop_oneof![
            (-100_000_i32..100_000).prop_map(|n| json!(f64::from(n) / 100.0)),
            (-9..9).prop_map(|n| json!(n))
        ]
    };
    let unit = || prop::sample::select(vec!["kg", "Cel", "%RH", "ppm", "V"]);
    let value = prop_oneof![
        number().prop_map(|number| ("v", number)),
        "[a-z ]{0,8}".prop_map(|text| ("vs", json!(text))),
        any::<bool>().prop_map(|flag| ("vb", json!(flag))),
    ];
    let record = ("[a-z][a-z0-9/]{0,6}", prop::option::of(unit()), prop::option::of(-500_i32..500), value);
    let records = prop::collection::vec(record, 1..12);
    let base = (
        prop::option::of("urn:dev:[a-z]{1,5}:"),
        prop::option::of(1_500_000_000_i64..1_900_000_000),
        prop::option::of(unit()),
        prop::option::of(number()),
    );
    (base, records).prop_map(|((bn, bt, bu, bv), records)| {
        let mut pack: Vec<Json> = records
            .into_iter()
            .map(|(name, unit, time, (label, value))| {
                let mut record = Map::new();
                record.insert("n".to_owned(), json!(name));
                record.extend(unit.map(|unit| ("u".to_owned(), json!(unit))));
                record.extend(time.map(|time| ("t".to_owned(), json!(time))));
                record.insert(label.to_owned(), value);
                Json::Object(record)
            })
            .collect();
        let first = pack[0].as_object_mut().unwrap();
        first.extend(bn.map(|bn| ("bn".to_owned(), json!(bn))));
        first.extend(bt.map(|bt| ("bt".to_owned(), json!(bt))));
        first.extend(bu.map(|bu| ("bu".to_owned(), json!(bu))));
        first.extend(bv.map(|bv| ("bv".to_owned(), bv)));
        Json::Array(pack)
    })
}

#[test]
fn random_packs_resolve_as_another_implementation_resolves_them() {
    let Ok(python) = std::env::var("SENML_PYTHON") else {
        eprintln!("SKIPPED: SENML_PYTHON is not set (a Python with the package senml)");
        return;
    };
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let packs: Vec<String> =
        (0..PACKS).map(|_| packs().new_tree(&mut runner).unwrap().current().to_string()).collect();
    let script = format!("import io, sys\nsys.stdin = io.StringIO(sys.argv[1])\n{RESOLVER}");
    let output = Command::new(python).args(["-c", &script, &packs.join("\n")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(theirs.lines().count(), PACKS);
    for (pack, theirs) in packs.iter().zip(theirs.lines()) {
        let theirs: Json = serde_json::from_str(theirs).unwrap();
        let ours = ours(pack.as_bytes());
        assert!(agree(&ours, &theirs), "{pack}\n{ours}\n{theirs}");
    }
}
