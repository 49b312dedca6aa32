use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::hash::sha256;

fn shared(folder: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: {folder} is missing");
    None
}

fn json_files(folder: &PathBuf, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            json_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "jsonld") {
            found.push(path);
        }
    }
}

fn examples() -> Vec<(String, Value)> {
    let Some(folder) = shared("gs1-epcis/JSON") else { return Vec::new() };
    let mut files = Vec::new();
    json_files(&folder, &mut files);
    files.sort();
    assert_eq!(files.len(), 47, "GS1 publishes 47 JSON examples");
    let name = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().into_owned();
    files
        .iter()
        .map(|file| (name(file), serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()))
        .collect()
}

#[test]
fn all_47_examples_of_gs1_are_read_and_printed_back_as_the_same_json() {
    let mut wrong = Vec::new();
    for (name, value) in examples() {
        match Document::from_value(value.clone()) {
            Ok(document) if document.to_value() == value => {}
            Ok(_) => wrong.push(format!("{name}: printed otherwise")),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn events_of_the_examples_stand_alone_and_satisfy_gs1s_schema_after_normalising() {
    let Some(folder) = shared("gs1-epcis") else { return };
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("EPCIS-JSON-Schema.json")).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let (mut normalised, mut refused) = (0, BTreeSet::new());
    for (name, value) in examples() {
        for mut event in Document::from_value(value).unwrap().into_events() {
            let plain = event.to_value();
            assert!(validator.is_valid(&plain), "{name}: {:?}", validator.iter_errors(&plain).next());
            match normalise(&mut event) {
                Ok(()) => normalised += 1,
                Err(error) => {
                    refused.insert(format!("{name}: {error}"));
                    continue;
                }
            }
            let value = event.to_value();
            assert!(validator.is_valid(&value), "{name}: {:?}", validator.iter_errors(&value).next());
            assert!(!value.to_string().contains("urn:epc:id:sgtin"), "{name}");
            let mut again = event.clone();
            normalise(&mut again).unwrap();
            assert_eq!(again, event, "normalising twice changes nothing");
        }
    }
    eprintln!(
        "{normalised} events normalised, refused:\n{}",
        refused.iter().cloned().collect::<Vec<_>>().join("\n")
    );
    assert!(normalised >= 40, "{normalised}");
}

/// Formats "Trace record": valid with all disclosures and with none.
#[test]
fn an_imported_event_satisfies_gs1s_schema_with_all_and_with_no_disclosures() {
    use crate::{keys::SecretKey, record};
    let Some(folder) = shared("gs1-epcis") else { return };
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("EPCIS-JSON-Schema.json")).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let key = SecretKey::from_seed(&[7; 32]);
    let mut tried = 0;
    for (name, value) in examples() {
        for mut event in Document::from_value(value).unwrap().into_events() {
            if normalise(&mut event).is_err() {
                continue;
            }
            let conceal = import_conceal(&event);
            let mut plain = event.to_value();
            let context = plain.as_object_mut().unwrap().shift_remove("@context").unwrap();
            let claims = record::Claims {
                iss: "https://id.gs1.org/417/9520123456788".to_owned(),
                iat: 1_768_696_200,
                jti: "019bd5f0-0000-7000-8000-000000000001".parse().unwrap(),
                aud: "suyuan".to_owned(),
                profile: import_profile_reference(),
                seen: None,
                refs: Vec::new(),
            };
            let draft = record::Draft {
                claims,
                body: record::Body::Event { context, event: plain },
                act: None,
                event_hash: Some("ni:///sha-256;00?ver=CBV2.0".to_owned()),
            };
            let mut salts = 0_u128;
            let fresh = || {
                salts += 1;
                salts.to_be_bytes()
            };
            let issued = record::issue(draft, &conceal, fresh, IMPORT_DECOYS, &key).unwrap();
            let signed = record::verify(&issued.signed, &key.public()).unwrap();
            let all: Vec<&str> =
                issued.disclosures.iter().map(|disclosure| disclosure.text.as_str()).collect();
            for disclosures in [&all[..], &[]] {
                let mut processed = signed.process(disclosures).unwrap()["event"].take();
                let errors: Vec<String> =
                    validator.iter_errors(&processed).map(|error| error.to_string()).collect();
                assert!(errors.is_empty(), "{name} with {} disclosures: {errors:?}", disclosures.len());
                if !disclosures.is_empty() {
                    assert_eq!(processed.take(), event.to_value(), "{name}");
                }
            }
            tried += 1;
        }
    }
    assert!(examples().is_empty() || tried == 55, "{tried}");
}

fn event(change: impl FnOnce(&mut Value)) -> Result<Event, EpcisError> {
    let mut event = json!({
        "@context": [EPCIS_CONTEXT, {"mill": "https://mill.example/voc/"}],
        "type": "ObjectEvent", "action": "ADD", "eventTime": "2026-01-18T08:30:00+08:00", "eventTimeZoneOffset": "+08:00",
        "bizStep": "creating_class_instance", "disposition": "active",
        "quantityList": [{"epcClass": "https://id.gs1.org/01/09520123456788/10/A1", "quantity": 7300, "uom": "KGM"}],
        "readPoint": {"id": "https://id.gs1.org/414/9520123456788"}, "mill:ticket": "A1"
    });
    change(&mut event);
    Event::from_value(event)
}

fn refusal(change: impl FnOnce(&mut Value)) -> (String, Rule) {
    let error = event(change).unwrap_err();
    (error.path, error.rule)
}

#[test]
fn errors_name_the_path_and_the_rule() {
    assert!(event(|_| ()).is_ok());
    assert_eq!(refusal(|e| e["bizStep"] = json!("harvesting")).0, "$.bizStep");
    assert_eq!(refusal(|e| e["action"] = json!("MOVE")), ("$.action".to_owned(), Rule::Action));
    assert_eq!(refusal(|e| e["eventTimeZoneOffset"] = json!("+15:00")).1, Rule::Offset("+15:00".to_owned()));
    assert_eq!(refusal(|e| e["eventTime"] = json!("2026-01-18T08:30:00")).0, "$.eventTime");
    assert_eq!(refusal(|e| e["colour"] = json!(1)), ("$.colour".to_owned(), Rule::UnknownMember));
    assert_eq!(refusal(|e| e["other:x"] = json!(1)).1, Rule::UndeclaredPrefix("other".to_owned()));
    assert_eq!(
        refusal(|e| e["quantityList"][0]["uom"] = json!("kg")),
        ("$.quantityList[0].uom".to_owned(), Rule::Unit("kg".to_owned()))
    );
    assert_eq!(refusal(|e| e["quantityList"][0]["quantity"] = json!(-1)).1, Rule::Negative);
    assert_eq!(
        refusal(|e| drop(e.as_object_mut().unwrap().remove("quantityList"))),
        ("$".to_owned(), Rule::NothingObserved)
    );
    assert_eq!(refusal(|e| e["epcList"] = json!(["a:b", "a:b"])).1, Rule::Twice("a:b".to_owned()));
    let observed = refusal(|e| {
        e["action"] = json!("OBSERVE");
        e["ilmd"] = json!({"mill:variety": "GT42"});
    });
    assert_eq!(observed, ("$.ilmd".to_owned(), Rule::IlmdNotAdded));
    assert_eq!(
        refusal(|e| e["sensorElementList"] = json!([{"sensorReport": []}])),
        ("$.sensorElementList[0].sensorReport".to_owned(), Rule::Empty)
    );
}

#[test]
fn identifiers_without_a_digital_link_are_refused_where_a_gs1_key_must_stand() {
    let mut class =
        event(|e| e["quantityList"][0]["epcClass"] = json!("urn:epc:id:gid:95100000.12345.400")).unwrap();
    let error = normalise(&mut class).unwrap_err();
    assert_eq!(error.path, "$.quantityList[0].epcClass");
    assert!(error.to_string().contains("gid"), "{error}");
    let mut single = event(|e| e["epcList"] = json!(["https://id.gs1.org/01/09520123456788"])).unwrap();
    assert_eq!(normalise(&mut single).unwrap_err().rule, Rule::NotAnInstance);
}

#[test]
fn the_standards_words_become_bare_words() {
    let mut event = event(|e| e["bizStep"] = json!("cbv:BizStep-shipping")).unwrap();
    normalise(&mut event).unwrap();
    assert_eq!(event.circumstances.biz_step, Some(BizStep::Shipping));
    assert_eq!(BizStep::WORDS.len(), 41);
}

/// Vectors of the generator that wrote the published hashes.
#[test]
fn event_hashes_are_those_of_the_published_vectors() {
    let Some(folder) = shared("epcis-event-hash/examples") else { return };
    let mut files = Vec::new();
    json_files(&folder, &mut files);
    files.sort();
    let (mut right, mut wrong) = (0, Vec::new());
    for file in &files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let value: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let hashes = fs::read_to_string(file.with_extension("hashes")).unwrap();
        let prehashes = fs::read_to_string(file.with_extension("prehashes")).unwrap_or_default();
        for (index, (event, expected)) in hash_inputs(&value).iter().zip(hashes.lines()).enumerate() {
            let uri = event_hash_uri(&sha256(event.as_bytes()));
            if uri == expected {
                right += 1;
            } else {
                wrong.push(format!(
                    "{name}[{index}]\n ours {event}\n want {}",
                    prehashes.lines().nth(index).unwrap_or("?")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{right} right, {} wrong\n{}", wrong.len(), wrong.join("\n"));
    assert!(right >= 43, "{right}");
}

fn hash_inputs(document: &Value) -> Vec<String> {
    let context: Context = read_context(document);
    let namespaces = Namespaces::default().with(&context);
    let mut ignored = BTreeSet::new();
    collect_ignored(document, &mut ignored);
    let body = &document["epcisBody"];
    let events =
        body["eventList"].as_array().or_else(|| body["queryResults"]["resultsBody"]["eventList"].as_array());
    events.unwrap().iter().map(|event| prehash(event, &namespaces, &ignored)).collect()
}

/// `…:ignoreFields` may stand anywhere in a document; the caller of the hash reads it.
fn collect_ignored(value: &Value, ignored: &mut BTreeSet<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        if name.ends_with(":ignoreFields") {
            ignored.extend(member.as_array().unwrap().iter().map(|field| field.as_str().unwrap().to_owned()));
            ignored.insert(name.clone());
        }
        collect_ignored(member, ignored);
    }
}

fn read_context(document: &Value) -> Context {
    use super::read::{At, Member as _};
    Context::read(document["@context"].clone(), &At::root(&Namespaces::default())).unwrap()
}

#[test]
fn all_representations_of_one_event_have_one_hash() {
    let Some(folder) = shared("epcis-event-hash/expected_equal") else { return };
    let text = fs::read_to_string(folder.join("ReferenceEventHashAlgorithm.json")).unwrap();
    let hashes: BTreeSet<String> = hash_inputs(&serde_json::from_str(&text).unwrap()).into_iter().collect();
    assert_eq!(hashes.len(), 1, "{hashes:#?}");
}
