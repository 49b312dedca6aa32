//! A form of any step of any profile, filled in with something for every field.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use trace::{
    b64,
    profile::{
        Field, Kind, LotFacts, Profile, Step,
        author::Grounds,
        build::{Codes, ConsignmentFacts, Context, PlaceFacts},
        effect::Portion,
    },
    quantity::{Quantity, Unit},
    record::{Ref, Rel, Seen},
    rules::PermitFacts,
};

pub const PROFILES: [&str; 3] = [
    include_str!("../../../profiles/sugar.toml"),
    include_str!("../../../profiles/grain.toml"),
    include_str!("../../../profiles/timber.toml"),
];
pub const AUTHOR: &str = "https://id.gs1.org/417/9521234000006";
pub const LEDGER: &str = "demo";
const NOW: &str = "2026-11-20T08:30:00+08:00";
const IAT: i64 = 1_795_134_600;
const JTI: &str = "01934567-89ab-7def-8123-456789abcdef";
const OTHER: &str = "https://id.gs1.org/417/9521234000013";
const PLACE: &str = "https://id.gs1.org/414/9521234000006";
const PERMIT: &str = "P-1";
const CONSIGNMENT: &str = "https://ledger.example/documents/417/9521234000013/C1";
/// Enough of everything for any step.
const ON_HAND: i64 = 1_000_000_000_000;

/// (profile and step, field, text): where the rules of a step want more than the least.
const WANTED: [(&str, &str, &str); 12] = [
    ("sugar weigh", "gross", "30"),
    ("grain purchase", "gross", "30"),
    ("sugar inspect", "sucrose", "99.9"),
    ("sugar inspect", "reducing", "0.02"),
    ("sugar inspect", "ash", "0.01"),
    ("sugar inspect", "moisture", "0.04"),
    ("grain clear", "clearance", "0.1"),
    ("grain quality", "taste", "80"),
    ("timber press", "share-eucalyptus", "97"),
    ("timber test", "moisture", "10"),
    ("timber test", "formaldehyde", "0.1"),
    ("grain purchase", "cadmium", "0.1"),
];

/// A question of a page whose form was filled in.
pub fn question(text: &str, step: &Step, kid: &str) -> Json {
    let profile = Profile::parse(text).unwrap();
    let mut typed = vec![("jti".to_owned(), JTI.to_owned()), ("at".to_owned(), NOW.to_owned())];
    let step_name = format!("{} {}", profile.id(), step.id);
    for (hour, field) in step.fields.iter().filter(|field| field.is_asked()).enumerate() {
        let wanted = WANTED.iter().find(|(at, id, _)| (*at, *id) == (step_name.as_str(), &field.id));
        typed.push(if let Some((_, id, text)) = wanted {
            ((*id).to_owned(), (*text).to_owned())
        } else if field.kind == Kind::Time {
            (field.id.clone(), format!("2026-11-19T{hour:02}:15"))
        } else {
            answer(&profile, field)
        });
    }
    let salts: Vec<u8> = (0..trace::profile::author::SALTS_MAX * 16)
        .map(|number| u8::try_from((number * 31 + number / 256) % 256).unwrap())
        .collect();
    json!({"record": {
        "profile": text,
        "step": step.id,
        "typed": typed,
        "grounds": grounds(&profile, step),
        "enrolled": {"kid": kid, "aud": LEDGER, "party": AUTHOR},
        "iat": IAT,
        "salts": b64::url(&salts),
    }})
}

fn lot(field: &Field) -> String {
    format!("https://id.gs1.org/01/09521234000013/10/L-{}", field.id)
}

fn answer(profile: &Profile, field: &Field) -> (String, String) {
    let text = match field.kind {
        Kind::Portions => return (format!("{}:{}", field.id, lot(field)), "10".to_owned()),
        Kind::NewLot => format!("N-{}", field.id.chars().take(16).collect::<String>()),
        Kind::NewConsignment | Kind::Document => "D-1".to_owned(),
        Kind::Lot => lot(field),
        Kind::Place => PLACE.to_owned(),
        Kind::Party => OTHER.to_owned(),
        Kind::LogisticUnit => "195212340000000010".to_owned(),
        Kind::Consignment => CONSIGNMENT.to_owned(),
        Kind::Permit => PERMIT.to_owned(),
        Kind::Choice => field.choices.first().unwrap().clone(),
        Kind::Text => format!("text of {} in {}", field.id, profile.id()),
        Kind::Date => "2026-11-19".to_owned(),
        Kind::Table => "A1 4.0 20\nA2 2.6 14".to_owned(),
        Kind::Decimal | Kind::Integer => number(field),
        Kind::Time => String::new(),
    };
    (field.id.clone(), text)
}

/// The least that may be typed, and some more where that is nothing.
fn number(field: &Field) -> String {
    match field.min {
        Some(min) if !min.is_zero() => min.to_string(),
        _ => {
            field.max.filter(|max| *max < "1".parse().unwrap()).map_or("1".to_owned(), |max| max.to_string())
        }
    }
}

fn grounds(profile: &Profile, step: &Step) -> Grounds {
    let made_at = "2026-11-18T00:00:00Z".parse().unwrap();
    let first = profile.products().first().unwrap();
    let product_of = |field: &Field| {
        let id = field.products.first().unwrap_or(&first.id);
        let product = profile.product(id).unwrap();
        (product.id.clone(), product.measure().unit())
    };
    let lots = step.fields.iter().filter(|field| matches!(field.kind, Kind::Lot | Kind::Portions));
    let mut lots: BTreeMap<String, LotFacts> = lots
        .map(|field| {
            let (product, unit) = product_of(field);
            (lot(field), LotFacts { product, unit, on_hand: ON_HAND, made_at, recalled: false })
        })
        .collect();
    let sent = "https://id.gs1.org/01/09521234000013/10/SENT".to_owned();
    let unit = first.measure().unit();
    let facts = LotFacts { product: first.id.clone(), unit, on_hand: ON_HAND, made_at, recalled: false };
    lots.insert(sent.clone(), facts);
    let line = Portion { lot: sent, quantity: Quantity::new(unit, 1_000_000) };
    let among = |kind: Kind| step.fields_of(kind).find_map(|field| field.among.first()).cloned();
    let plot = json!({"gx:polygon": [[108.1, 22.5], [108.2, 22.6]]});
    let permit = PermitFacts {
        uri: "urn:epcglobal:cbv:bt:9521234000006:P-1".to_owned(),
        place: None,
        allowed: Quantity::new(Unit::CubicCentimetre, ON_HAND),
        used: Quantity::new(Unit::CubicCentimetre, 0),
        valid_from: "2026-01-01".parse().unwrap(),
        valid_until: "2026-12-31".parse().unwrap(),
    };
    let context = Context {
        jti: JTI.parse().unwrap(),
        now: NOW.parse().unwrap(),
        author: AUTHOR.to_owned(),
        author_details: json!({"name": "author"}).as_object().unwrap().clone(),
        documents: "https://ledger.example/documents/".to_owned(),
        lots,
        items: step
            .fields_of(Kind::NewLot)
            .map(|field| (field.id.clone(), "09521234000020".to_owned()))
            .collect(),
        places: BTreeMap::from([(
            PLACE.to_owned(),
            PlaceFacts {
                kind: among(Kind::Place).unwrap_or_else(|| "plot".to_owned()),
                details: plot.as_object().unwrap().clone(),
            },
        )]),
        parties: BTreeMap::from([(
            OTHER.to_owned(),
            among(Kind::Party).unwrap_or_else(|| "factory".to_owned()),
        )]),
        permits: BTreeMap::from([(PERMIT.to_owned(), permit)]),
        consignments: BTreeMap::from([(
            CONSIGNMENT.to_owned(),
            ConsignmentFacts { shipper: OTHER.to_owned(), lines: vec![line], shipped_at: made_at },
        )]),
        codes: Some(Codes { epoch: '6', first: 7, count: 3 }),
    };
    let instruments = step.fields.iter().filter(|field| field.instrument.is_some());
    let device = "https://id.gs1.org/8004/95212341".to_owned();
    Grounds {
        context,
        devices: instruments.map(|field| (field.id.clone(), device.clone())).collect(),
        aud: LEDGER.to_owned(),
        seen: Some(Seen {
            origin: "log.example/demo/2026".to_owned(),
            size: 9_007_199_254_740_993,
            root: trace::hash::sha256(b"root"),
        }),
        refs: vec![Ref { rel: Rel::Evidence, leaf: trace::hash::sha256(b"pack") }],
        act: Some(json!({"account": JTI})),
    }
}
