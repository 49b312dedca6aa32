//! Every step of every profile, filled in, validates against GS1's EPCIS 2.0 schema: with everything disclosed and with
//! nothing disclosed.

use std::{collections::BTreeMap, path::Path};

use chrono::DateTime;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::{
    keys::SecretKey,
    profile::{
        Field, Kind, LotFacts, Profile, Step,
        build::{self, Built, Codes, ConsignmentFacts, Context, PlaceFacts},
        derived,
        effect::{Output, Portion},
        form::{self, Values},
    },
    quantity::{Decimal, Quantity, Unit},
    record::{self, Body, Claims, Draft, Record, Visibility},
    rules::PermitFacts,
};

const PARTY: &str = "https://id.gs1.org/417/9521234000006";
const PLACE: &str = "https://id.gs1.org/414/9521234000006/254/1";
const SHIPPED: &str = "https://demo.example/documents/417/9521234000006/C1";

fn validator() -> Option<jsonschema::Validator> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/gs1-epcis/EPCIS-JSON-Schema.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: GS1's EPCIS schema is not in ../shared/data");
        return None;
    };
    let schema: Json = serde_json::from_str(&text).unwrap();
    Some(jsonschema::options().should_validate_formats(true).build(&schema).unwrap())
}

/// A value that the field accepts: the middle of its bounds, its first choice.
fn sample(field: &Field, product: &str) -> Vec<(String, String)> {
    let one = |text: &str| vec![(field.id.clone(), text.to_owned())];
    match field.kind {
        Kind::NewLot => one(&format!("NEW-{}", field.id)),
        Kind::Lot => one(&lot(product)),
        Kind::Portions => vec![(format!("{}:{}", field.id, lot(product)), "1000".to_owned())],
        Kind::Table => one("A1 4.0 20\nA2 2.6 14"),
        Kind::Place => one(PLACE),
        Kind::Party => one(PARTY),
        Kind::LogisticUnit => one("095212340000000013"),
        Kind::NewConsignment => one("C1"),
        Kind::Consignment => one(SHIPPED),
        Kind::Permit => one("P1"),
        Kind::Document => one("D1"),
        Kind::Choice => one(&field.choices[0]),
        Kind::Text => one("text"),
        Kind::Date => one("2026-11-20"),
        Kind::Time => one(if field.id.ends_with("start") {
            "2026-11-20T06:00:00+08:00"
        } else {
            "2026-11-20T07:00:00+08:00"
        }),
        Kind::Integer => one("7"),
        Kind::Decimal => one(&number(field)),
    }
}

/// Figures that satisfy the rules between fields.
fn number(field: &Field) -> String {
    let by_name = match field.id.as_str() {
        "gross" => "2100",
        "tare" => "1100",
        "sugar-kg" => "120",
        "rice-kg" => "650",
        "bagasse-kg" | "molasses-kg" | "mud-kg" | "broken-kg" | "bran-kg" | "husk-kg" => "30",
        "weight" => "870",
        "moisture-in" => "24",
        "moisture-out" | "moisture" => "13.1",
        "sawn-volume" | "veneer-volume" => "600",
        "offcuts-volume" => "100",
        "volume" if field.places.is_some() => "850",
        "sucrose" => "99.9",
        "share-eucalyptus" => "60",
        "share-pine" => "40",
        "share-fir" | "share-poplar" => "0",
        "fatty-acid" => "20",
        "brix" => "20.1",
        "pol" => "17.8",
        "fibre" => "13",
        "taste" => "80",
        _ => "",
    };
    let fits = |number: Decimal| {
        field.min.is_none_or(|min| number >= min) && field.max.is_none_or(|max| number <= max)
    };
    if by_name.parse().is_ok_and(fits) {
        return by_name.to_owned();
    }
    // Low enough for every limit of the dated tables.
    field.min.filter(|min| !min.is_zero()).map_or_else(|| "0.01".to_owned(), |min| min.to_string())
}

fn lot(product: &str) -> String {
    build::lot_uri("09521234000013", product)
}

fn values(profile: &Profile, step: &Step, all: bool) -> (Values, String) {
    let product = step
        .fields
        .iter()
        .filter(|field| matches!(field.kind, Kind::Lot | Kind::Portions))
        .find_map(|field| field.products.first().cloned());
    let product = product.unwrap_or_else(|| profile.products()[0].id.clone());
    let asked = step.fields.iter().filter(|field| field.is_asked() && (all || field.required));
    let pairs: Vec<(String, String)> = asked.flat_map(|field| sample(field, &product)).collect();
    let values =
        form::parse(profile, step, &pairs).unwrap_or_else(|refusals| panic!("{}: {refusals:?}", step.id));
    (values, product)
}

fn context(profile: &Profile, step: &Step, values: &Values, product: &str) -> Context {
    let unit = profile.product(product).unwrap().measure().unit();
    let quantity = Quantity::new(unit, 2_000_000_000);
    let facts = LotFacts {
        product: product.to_owned(),
        unit,
        on_hand: quantity.amount,
        made_at: "2026-11-20T00:00:00Z".parse().unwrap(),
        recalled: false,
    };
    let kinds =
        |kind: Kind| step.fields_of(kind).find_map(|field| field.among.first().cloned()).unwrap_or_default();
    let details = |name: &str, text: &str| Map::from_iter([(name.to_owned(), json!(text))]);
    Context {
        jti: Uuid::from_u128(7),
        now: DateTime::parse_from_rfc3339("2026-11-20T09:30:00.123+08:00").unwrap(),
        author: PARTY.to_owned(),
        author_details: details("gx:name", "甘大叔"),
        documents: "https://demo.example/documents/".to_owned(),
        lots: BTreeMap::from([(lot(product), facts)]),
        items: values
            .items_needed(step)
            .into_iter()
            .map(|item| (item.field, "09521234000020".to_owned()))
            .collect(),
        places: BTreeMap::from([(
            PLACE.to_owned(),
            PlaceFacts { kind: kinds(Kind::Place), details: details("gx:polygon", "POLYGON((107.1 22.1))") },
        )]),
        parties: BTreeMap::from([(PARTY.to_owned(), kinds(Kind::Party))]),
        permits: BTreeMap::from([(
            "P1".to_owned(),
            PermitFacts {
                uri: "https://demo.example/permit/P1".to_owned(),
                place: None,
                allowed: Quantity::new(Unit::CubicCentimetre, 10_000_000),
                used: Quantity::new(Unit::CubicCentimetre, 0),
                valid_from: "2026-01-01".parse().unwrap(),
                valid_until: "2026-12-31".parse().unwrap(),
            },
        )]),
        consignments: BTreeMap::from([(
            SHIPPED.to_owned(),
            ConsignmentFacts {
                shipper: PARTY.to_owned(),
                lines: vec![Portion { lot: lot(product), quantity: Quantity::new(unit, 1_000_000) }],
                shipped_at: "2026-11-20T01:00:00Z".parse().unwrap(),
            },
        )]),
        codes: None,
    }
}

fn built(profile: &Profile, step: &Step, all: bool) -> Built {
    let (values, product) = values(profile, step, all);
    // A place field of each kind in turn: the facts of the test know one kind of place at a time.
    let mut context = context(profile, step, &values, &product);
    if step.biz_step == "commissioning" {
        context.codes = Some(Codes { epoch: 'A', first: 5, count: 7 });
    }
    let mut step = step.clone();
    for field in &mut step.fields {
        field.among.clear();
    }
    build::build(profile, &step, &values, &context)
        .unwrap_or_else(|refusals| panic!("{}: {refusals:?}", step.id))
}

fn signed(profile: &Profile, built: &Built) -> (Record, Vec<String>) {
    let claims = Claims {
        iss: PARTY.to_owned(),
        iat: 1_795_138_200,
        jti: Uuid::from_u128(0x0197_0000_0000_7000_8000_0000_0000_0007),
        aud: "demo".to_owned(),
        profile: profile.reference(),
        seen: None,
        refs: Vec::new(),
    };
    let mut event = built.event.clone();
    event["eventID"] = json!(format!("urn:uuid:{}", claims.jti));
    let context = event.as_object_mut().and_then(|members| members.remove("@context")).unwrap();
    let draft = Draft { claims, body: Body::Event { context, event }, act: None, event_hash: None };
    let mut salt = 0_u8;
    let salts = || {
        salt = salt.wrapping_add(1);
        [salt; 16]
    };
    let key = SecretKey::from_seed(&[7; 32]);
    let issued = record::issue(draft, &built.conceal, salts, built.decoys, &key).unwrap();
    let texts = issued.disclosures.into_iter().map(|disclosure| disclosure.text).collect();
    (Record::parse(&issued.signed).unwrap(), texts)
}

fn assert_valid(validator: &jsonschema::Validator, name: &str, event: &Json) {
    let errors: Vec<String> = validator.iter_errors(event).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}\n{event:#}");
}

#[test]
fn every_step_validates_with_all_and_with_no_disclosures() {
    let Some(validator) = validator() else { return };
    assert!(!validator.is_valid(&json!({"type": "ObjectEvent", "action": "OBSERVE"})));
    for profile in super::profiles() {
        for step in profile.steps() {
            for all in [true, false] {
                let name = format!("{}/{} all={all}", profile.id(), step.id);
                let built = built(&profile, step, all);
                let (record, disclosures) = signed(&profile, &built);
                let opened: Vec<&str> = disclosures.iter().map(String::as_str).collect();
                let whole = record.process(&opened).unwrap();
                assert_valid(&validator, &name, &built.event);
                assert_valid(&validator, &name, &whole["event"]);
                assert_valid(&validator, &name, &record.process(&[]).unwrap()["event"]);
                crate::epcis::Event::from_value(whole["event"].clone())
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }
}

#[test]
fn nothing_personal_or_private_stands_open_in_a_signed_event() {
    for profile in super::profiles() {
        for step in profile.steps() {
            let built = built(&profile, step, true);
            let (record, _) = signed(&profile, &built);
            let public = record.process(&[]).unwrap().to_string();
            for secret in ["甘大叔", "POLYGON", "\"gx:first\"", "gx:driver\":{\"gx"] {
                assert!(!public.contains(secret), "{}: {secret}", step.id);
            }
            for field in step.fields.iter().filter(|field| field.visibility == Visibility::Personal) {
                assert!(field.block.is_some(), "{}: a personal field outside a block", field.id);
            }
        }
    }
}

#[test]
fn derived_events_validate() {
    let Some(validator) = validator() else { return };
    let at = DateTime::parse_from_rfc3339("2026-11-20T10:00:00+08:00").unwrap();
    let inputs = [
        Portion { lot: lot("old"), quantity: Quantity::grams(5_000) },
        Portion { lot: lot("arrival"), quantity: Quantity::grams(7_500) },
    ];
    let output = Output { lot: lot("epoch"), product: "paddy".to_owned(), quantity: Quantity::grams(12_500) };
    let event = derived::epoch(Uuid::from_u128(8), at, PLACE, &inputs, &output, 2);
    assert!(event.get("transformationID").is_none());
    assert_valid(&validator, "epoch", &event);

    for profile in super::profiles() {
        let windows: Vec<derived::Window<'_>> = profile
            .metrics()
            .iter()
            .map(|metric| derived::Window {
                metric,
                device: Some("https://id.gs1.org/8004/9521234P1"),
                start: at,
                end: at + chrono::TimeDelta::hours(1),
                min: "18.5".parse().unwrap(),
                max: "31.2".parse().unwrap(),
                mean: "21.04".parse().unwrap(),
                s_dev: "2.1".parse().unwrap(),
                percentile: Some((Decimal::integer(95), "30".parse().unwrap())),
                packs_root: crate::hash::sha256(b"packs"),
                packs: 12,
                coverage: "0.92".parse().unwrap(),
                alarm: true,
            })
            .collect();
        for lots in [vec![], vec![inputs[0].lot.as_str()]] {
            let event = derived::sensor_summary(Uuid::from_u128(9), PLACE, &lots, &windows).unwrap();
            assert_valid(&validator, "sensor summary", &event);
        }
    }
}

#[test]
fn a_step_that_breaks_a_rule_names_field_rule_and_figures() {
    let profiles = super::profiles();
    let sugar = &profiles[0];
    let refusal = |step: &str, change: &dyn Fn(&mut Context)| {
        let step = sugar.step(step).unwrap();
        let (values, product) = values(sugar, step, false);
        let mut context = context(sugar, step, &values, &product);
        change(&mut context);
        let mut step = step.clone();
        step.fields.iter_mut().for_each(|field| field.among.clear());
        build::build(sugar, &step, &values, &context).unwrap_err().remove(0)
    };
    let oversold = refusal("haul", &|context| {
        context.lots.values_mut().for_each(|facts| facts.on_hand = 999_999);
    });
    assert_eq!((oversold.field.as_str(), oversold.rule), ("load", "oversold"));
    assert_eq!(
        (oversold.args["on-hand"].as_str(), oversold.args["wanted"].as_str()),
        ("999.999 kg", "1000 kg")
    );
    let unknown = refusal("lab", &|context| context.lots.clear());
    assert_eq!((unknown.field.as_str(), unknown.rule), ("lot", "unknown-lot"));
    let too_early = refusal("crush", &|context| {
        context.lots.values_mut().for_each(|facts| facts.made_at = "2026-12-01T00:00:00Z".parse().unwrap());
    });
    assert_eq!((too_early.field.as_str(), too_early.rule), ("cane", "before-it-was"));
    let stranger = refusal("weigh", &|context| context.consignments.clear());
    assert_eq!((stranger.field.as_str(), stranger.rule), ("consignment", "unknown-consignment"));
    let unregistered = refusal("harvest", &|context| context.items.clear());
    assert_eq!((unregistered.field.as_str(), unregistered.rule), ("lot", "no-trade-item"));
    let over = "0.051";
    let step = sugar.step("inspect").unwrap();
    let mut pairs: Vec<(String, String)> = step
        .fields
        .iter()
        .filter(|field| field.required && field.is_asked() && field.id != "reducing")
        .flat_map(|field| sample(field, "sugar"))
        .collect();
    pairs.push(("reducing".to_owned(), over.to_owned()));
    let values = form::parse(sugar, step, &pairs).unwrap();
    let refusals = build::build(sugar, step, &values, &context(sugar, step, &values, "sugar")).unwrap_err();
    assert!(refusals.iter().any(|refusal| refusal.field == "reducing"
        && refusal.rule == "over-limit"
        && refusal.args["limit"] == "0.03"
        && refusal.args["source"].starts_with("GB/T 317-2018")));
}
