//! Inputs that are right, made by the code that writes them.

use serde_json::json;
use trace::{
    bundle::{Bundle, Item, SeenProof, Signed},
    hash::{Hash, sha256},
    keys::{Custody, SecretKey},
    merkle::leaf_hash,
    pack::{
        self,
        carriage::{self, Item as Carried},
        receipt::Receipt,
        senml::{self, Reading},
    },
    record::{
        Body, Claims, Conceal, Draft, Issued, Visibility, issue,
        statement::{Possession, prove_possession},
    },
    roster::{KeyState, RosterLine},
    tlog::{
        checkpoint::Checkpoint,
        note::{Note, SignerKey},
        proof::TlogProof,
        witness::AddCheckpoint,
    },
    uplink::Map,
};

const ORIGIN: &str = "log.example/demo/2026";

pub fn key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

fn issued() -> Option<Issued> {
    let event = json!({
        "type": "ObjectEvent", "action": "ADD", "bizStep": "commissioning", "eventTime": "2026-11-20T08:00:00.000+08:00",
        "eventTimeZoneOffset": "+08:00", "eventID": "urn:uuid:018f2b4e-5c00-7000-8000-000000000001",
        "quantityList": [{"epcClass": "https://id.gs1.org/01/09521234000013/10/T1", "quantity": 12.5, "uom": "KGM"}],
        "gx:farmer": {"name": "somebody"}, "gx:plot": {"area": 3},
    });
    let claims = Claims {
        iss: "https://id.gs1.org/417/9521234000006".to_owned(),
        iat: 1_790_000_000,
        jti: "018f2b4e-5c00-7000-8000-000000000001".parse().ok()?,
        aud: "demo".to_owned(),
        profile: "sugar/3#00112233445566778899aabbccddeeff".to_owned(),
        seen: None,
        refs: Vec::new(),
    };
    let context = json!(["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"]);
    let draft = Draft { claims, body: Body::Event { context, event }, act: None, event_hash: None };
    let conceal = ["/gx:farmer", "/gx:plot"]
        .map(|pointer| Conceal { pointer: pointer.to_owned(), visibility: Visibility::Personal });
    let mut number = 0;
    let salts = || {
        number += 1;
        [number; 16]
    };
    issue(draft, &conceal, salts, 2, &key()).ok()
}

/// Whether this text is one that we signed.
pub fn is_ours(text: &str) -> bool {
    issued().is_some_and(|issued| issued.signed == text)
}

pub fn records() -> Vec<Vec<u8>> {
    issued().map(|issued| issued.signed.into_bytes()).into_iter().collect()
}

pub fn disclosures() -> Vec<Vec<u8>> {
    let texts = issued().map(|issued| issued.disclosures).unwrap_or_default();
    texts.into_iter().map(|disclosure| disclosure.text.into_bytes()).collect()
}

pub fn senml_json() -> Vec<Vec<u8>> {
    vec![
        br#"[{"bn":"urn:dev:org:32473-mill:scale1:","bt":1790000000,"bu":"kg","n":"gross","v":31420},{"n":"tare","v":12060,"t":-2.5}]"#.to_vec(),
        br#"[{"n":"c1/d2/temp","u":"Cel","t":1790000000,"v":24.8},{"n":"door","vb":true},{"n":"note","vs":"x"},{"n":"raw","vd":"AAEC"}]"#.to_vec(),
    ]
}

fn readings() -> Vec<Reading> {
    senml_json().first().and_then(|text| senml::parse_json(text).ok()).unwrap_or_default()
}

pub fn senml_cbor() -> Vec<Vec<u8>> {
    senml::write_cbor("urn:dev:org:32473-mill:scale1:", &readings()).into_iter().collect()
}

pub fn packs() -> Vec<Vec<u8>> {
    senml_cbor().iter().filter_map(|payload| pack::sign(&[1, 2, 3], payload, &key()).ok()).collect()
}

pub fn carriage() -> Vec<Vec<u8>> {
    let mut batch = Vec::new();
    for bytes in packs().iter().chain(&senml_json()) {
        let body = carriage::Body::Bytes(bytes);
        carriage::write_item(
            &mut batch,
            &Carried { topic: "suyuan/v1/mill/scale1/up", received_ms: 1_790_000_000_000, body },
        );
    }
    vec![batch]
}

pub fn signer() -> Option<SignerKey> {
    Some(SignerKey { name: ORIGIN.parse().ok()?, secret: key() })
}

pub fn entry() -> Hash {
    issued().map_or_else(|| sha256(b""), |issued| issued.entry)
}

fn head() -> Checkpoint {
    Checkpoint { origin: ORIGIN.to_owned(), size: 1, root: leaf_hash(&entry()) }
}

fn signed_head() -> Option<Note> {
    Some(head().sign(&signer()?))
}

/// Of our entry as the second of two.
pub fn receipts() -> Vec<Vec<u8>> {
    let beside = sha256(b"beside");
    let root = trace::merkle::root(&[beside, leaf_hash(&entry())]);
    let head = Checkpoint { origin: ORIGIN.to_owned(), size: 2, root };
    let receipt = signer().and_then(|log| Receipt::sign(&head, 1, vec![beside], &log).ok());
    receipt.map(|receipt| receipt.to_bytes()).into_iter().collect()
}

pub fn possession() -> Option<Possession> {
    Some(Possession {
        aud: "demo".to_owned(),
        jti: "018f2b4e-5c00-7000-8000-000000000001".parse().ok()?,
        kid: key().kid(),
        party: "https://id.gs1.org/417/9521234000006".to_owned(),
        custody: Custody::Browser,
    })
}

pub fn possessions() -> Vec<Vec<u8>> {
    possession().map(|stated| prove_possession(&stated, &key()).into_bytes()).into_iter().collect()
}

pub fn roster_lines() -> Vec<Vec<u8>> {
    let line = |state| RosterLine {
        kid: key().kid(),
        party: "https://id.gs1.org/417/9521234000006".to_owned(),
        custody: Custody::Platform,
        state,
        since: 1_790_000_000,
    };
    [KeyState::Good, KeyState::Rotated, KeyState::Revoked]
        .map(|state| line(state).to_string().into_bytes())
        .to_vec()
}

/// Of the messages in [`uplinks`] and [`sparkplug`].
pub fn map() -> Map {
    let map = json!({
        "readings": {"/temp": {"n": "temp", "u": "Cel", "times": "0.1"}, "/w": {"n": "w", "u": "kg", "text": true},
            "t": {"n": "t", "u": "Cel"}},
        "event": {"/rxInfo/0/rssi": {"n": "rssi", "u": "dBm"}}, "time": "/at",
    });
    serde_json::from_value(map).unwrap_or_default()
}

pub fn uplinks() -> Vec<Vec<u8>> {
    let chirpstack = br#"{"time":"2026-11-20T08:00:00Z","object":{"temp":224},"rxInfo":[{"rssi":-36}]}"#;
    vec![
        br#"{"temp":224,"w":"31420 kg","at":"2026-11-20T08:00:00Z"}"#.to_vec(),
        br#"{"temp":-1e3,"at":1790000000.5}"#.to_vec(),
        chirpstack.to_vec(),
        br#"{"margin":10,"batteryLevel":88.3,"time":"2026-11-20T08:00:00Z"}"#.to_vec(),
    ]
}

/// Births and data of an edge node: the metric `t`, alias 7, as an Int32, a Double and a String.
pub fn sparkplug() -> Vec<Vec<u8>> {
    let metrics: [&[u8]; 4] = [
        b"\x0a\x01t\x10\x07\x20\x03\x50\x05",
        b"\x0a\x01t\x10\x07\x20\x0a\x69\x00\x00\x00\x00\x00\x00\xf8\x3f",
        b"\x0a\x01t\x10\x07\x20\x0c\x7a\x02\x35\x20",
        b"\x10\x07\x50\x06",
    ];
    let payload = |metric: &&[u8]| {
        let length = u8::try_from(metric.len()).unwrap_or_default();
        [&[0x08, 0x05, 0x12, length][..], metric, &[0x18, 0x00]].concat()
    };
    metrics.iter().map(payload).collect()
}

/// In the order in which an edge node says them.
pub fn sparkplug_topics() -> Vec<Vec<u8>> {
    ["NBIRTH/e", "NDATA/e", "DBIRTH/e/d", "DDATA/e/d", "DDEATH/e/d", "NDEATH/e"]
        .map(|rest| format!("spBv1.0/g/{rest}").into_bytes())
        .to_vec()
}

pub fn checkpoints() -> Vec<Vec<u8>> {
    vec![head().to_string().into_bytes()]
}

pub fn notes() -> Vec<Vec<u8>> {
    signed_head().map(|note| note.to_string().into_bytes()).into_iter().collect()
}

pub fn tile_paths() -> Vec<Vec<u8>> {
    ["tile/0/000", "tile/1/x001/x234/067", "tile/entries/x999/000.p/255", "tile/63/000.p/1"]
        .map(|path| path.as_bytes().to_vec())
        .to_vec()
}

pub fn tlog_proofs() -> Vec<Vec<u8>> {
    let proof = signed_head().map(|checkpoint| TlogProof { index: 0, path: vec![entry()], checkpoint });
    proof.map(|proof| proof.to_string().into_bytes()).into_iter().collect()
}

pub fn add_checkpoints() -> Vec<Vec<u8>> {
    let request =
        signed_head().map(|checkpoint| AddCheckpoint { old_size: 0, proof: vec![entry()], checkpoint });
    request.map(|request| request.to_string().into_bytes()).into_iter().collect()
}

pub fn policies() -> Vec<Vec<u8>> {
    let Some(signer) = signer() else { return Vec::new() };
    let text = format!(
        "log {} https://log.example\n# who decides\nquorum none\nregistrar {}\nchain 31337 0x5c82b2d3586d5142a6914e15f26efa021e8f1523\n",
        signer.verifier(),
        key().kid()
    );
    vec![text.into_bytes()]
}

pub fn bundles() -> Vec<Vec<u8>> {
    let (Some(note), Some(issued)) = (signed_head(), issued()) else { return Vec::new() };
    let item = |signed| Item {
        signed,
        key: key().public(),
        checkpoint: 0,
        index: 0,
        path: Vec::new(),
        roster: None,
    };
    let disclosures = issued.disclosures.into_iter().map(|disclosure| disclosure.text).collect();
    let bundle = Bundle {
        checkpoints: vec![note.clone()],
        seen: vec![SeenProof { note, path: Vec::new() }],
        items: vec![item(Signed::Record { signed: issued.signed, disclosures })],
        anchors: Vec::new(),
    };
    vec![bundle.to_string().into_bytes(), Bundle::default().to_string().into_bytes()]
}

pub fn epcis() -> Vec<Vec<u8>> {
    let event = json!({
        "type": "TransformationEvent", "eventTime": "2026-11-20T08:00:00.000+08:00", "eventTimeZoneOffset": "+08:00",
        "inputQuantityList": [{"epcClass": "urn:epc:class:lgtin:9521234.000013.T1", "quantity": 12.5, "uom": "KGM"}],
        "outputEPCList": ["urn:epc:id:sgtin:9521234.000013.1"], "bizStep": "creating_class_instance",
        "sensorElementList": [{"sensorReport": [{"type": "Temperature", "value": 24.5, "uom": "CEL"}]}],
    });
    let document = json!({
        "@context": ["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"], "type": "EPCISDocument",
        "schemaVersion": "2.0", "creationDate": "2026-11-20T08:00:00.000+08:00", "epcisBody": {"eventList": [event]},
    });
    vec![document.to_string().into_bytes()]
}

pub fn identifiers() -> Vec<Vec<u8>> {
    [
        "https://id.gs1.org/01/09521234000013/10/T%2F1",
        "https://id.gs1.org/01/09521234000013/21/0ABCDEFGHJKMNPQRS",
        "https://id.gs1.org/414/9521234000006/254/a1",
        "https://id.gs1.org/00/095212340000000012",
        "urn:epc:class:lgtin:9521234.000013.T1",
        "urn:epc:id:sscc:9521234.0000000012",
        "urn:epc:id:giai:9521234.TRUCK01",
        "0ABCDEFGHJKMNPQRS",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
