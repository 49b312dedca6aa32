use serde_json::json;
use uuid::Uuid;

use super::{
    sd::{Closed, Opened},
    statement::{Enrolment, Possession, Statement, StatementError, prove_possession},
    *,
};
use crate::{
    b64,
    keys::{Custody, KeyRole},
};

fn salts() -> impl FnMut() -> [u8; 16] {
    let mut next = 0_u8;
    move || {
        next += 1;
        [next; 16]
    }
}

fn key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

fn claims() -> Claims {
    Claims {
        iss: "https://id.gs1.org/417/9521234000006".to_owned(),
        iat: 1_795_000_000,
        jti: Uuid::try_parse("0199b3a0-0000-7000-8000-000000000001").unwrap(),
        aud: "suyuan-test".to_owned(),
        profile: format!("sugar/3#{}", "0123456789abcdef".repeat(2)),
        seen: Some(Seen { origin: "log.example/suyuan-test/2026".to_owned(), size: 9, root: Hash([1; 32]) }),
        refs: vec![Ref { rel: Rel::Answers, leaf: Hash([2; 32]) }],
    }
}

fn ticket() -> Value {
    json!({
        "type": "ObjectEvent",
        "eventID": "urn:uuid:0199b3a0-0000-7000-8000-000000000001",
        "eventTime": "2026-11-21T02:00:00+08:00",
        "eventTimeZoneOffset": "+08:00",
        "action": "OBSERVE",
        "bizStep": "receiving",
        "gx:step": "weighbridge",
        "epcList": [],
        "quantityList": [{"epcClass": "https://id.gs1.org/01/09521234000013/10/T-0001", "quantity": 31.25, "uom": "TNE"}],
        "sourceList": [
            {"type": "owning_party", "source": "https://id.gs1.org/8017/952123400000000017"},
            {"type": "location", "source": "https://id.gs1.org/414/9521234000020"}
        ],
        "gx:farmer": {"name": "韦阿强", "phone": "13900000000"},
        "gx:plot": {"polygon": [[107.1, 22.3]]}
    })
}

fn private(pointer: &str) -> Conceal {
    Conceal { pointer: pointer.to_owned(), visibility: Visibility::Private }
}

fn personal(pointer: &str) -> Conceal {
    Conceal { pointer: pointer.to_owned(), visibility: Visibility::Personal }
}

fn draft(event: Value) -> Draft {
    Draft {
        claims: claims(),
        body: Body::Event {
            context: json!(["https://ref.gs1.org/standards/epcis/epcis-context.jsonld"]),
            event,
        },
        act: Some(json!({"sub": "clerk-7"})),
        event_hash: Some("ni:///sha-256;ab?ver=CBV2.0".to_owned()),
    }
}

fn everything_concealed() -> Vec<Conceal> {
    vec![
        personal("/gx:farmer"),
        personal("/gx:farmer/phone"),
        private("/gx:plot"),
        private("/sourceList/0"),
        private("/quantityList/0/quantity"),
        private("/quantityList/0/uom"),
    ]
}

fn issued() -> Issued {
    issue(draft(ticket()), &everything_concealed(), salts(), 6, &key()).unwrap()
}

fn texts(issued: &Issued) -> Vec<&str> {
    issued.disclosures.iter().map(|disclosure| disclosure.text.as_str()).collect()
}

/// A record with another payload, signed as well as any.
fn forged(change: impl FnOnce(&mut Value)) -> Result<Record, RecordError> {
    let mut payload = Record::parse(&issued().signed).unwrap().payload().clone();
    change(&mut payload);
    verify(&jws::sign(TYP, &payload.to_string(), &key()), &key().public())
}

#[test]
fn all_disclosures_give_back_what_was_drafted() {
    let issued = issued();
    let record = verify(&issued.signed, &key().public()).unwrap();
    let mut opened = record.process(&texts(&issued)).unwrap();
    let event = opened.get_mut("event").unwrap().as_object_mut().unwrap();
    assert!(event.shift_remove("@context").is_some());
    assert_eq!(Value::Object(event.clone()), ticket());
    assert_eq!(opened["act"]["sub"], "clerk-7");
    assert_eq!(record.claims(), &claims());
    assert_eq!(record.entry(), issued.entry);
    assert_eq!(record.kid(), key().kid());
}

#[test]
fn no_disclosure_gives_the_public_projection_and_hides_how_much_there_was() {
    let issued = issued();
    let bare =
        issue(Draft { act: None, event_hash: None, ..draft(ticket()) }, &[], salts(), 6, &key()).unwrap();
    let public = Record::parse(&issued.signed).unwrap().process(&[]).unwrap();
    assert!(public.get("act").is_none() && public.get("_sd_alg").is_none());
    let event = &public["event"];
    assert!(event.get("gx:farmer").is_none() && event.get("gx:plot").is_none());
    assert_eq!(event["sourceList"].as_array().unwrap().len(), 1);
    assert_eq!(
        event["quantityList"][0],
        json!({"epcClass": "https://id.gs1.org/01/09521234000013/10/T-0001"})
    );
    for signed in [&issued.signed, &bare.signed] {
        let record = Record::parse(signed).unwrap();
        assert_eq!(record.payload()["event"]["_sd"].as_array().unwrap().len(), 6);
        assert_eq!(record.payload()["_sd"].as_array().unwrap().len(), 2);
    }
    let payload = Record::parse(&issued.signed).unwrap().payload().to_string();
    for secret in ["韦阿强", "13900000000", "107.1", "clerk-7", "31.25", "952123400000000017"] {
        assert!(!payload.contains(secret), "{secret} stands in the signed part");
    }
}

#[test]
fn a_block_opens_without_the_leaf_concealed_in_it() {
    let issued = issued();
    let text_of = |pointer: &str| {
        let found = issued.disclosures.iter().find(|disclosure| disclosure.pointer == pointer);
        found.unwrap().text.as_str()
    };
    let record = Record::parse(&issued.signed).unwrap();
    let opened = record.process(&[text_of("/event/gx:farmer")]).unwrap();
    assert_eq!(opened["event"]["gx:farmer"], json!({"name": "韦阿强"}));
    // The leaf's digest stands in the block that is still closed.
    assert!(matches!(
        record.process(&[text_of("/event/gx:farmer/phone")]),
        Err(DisclosureError::Unreferenced { .. })
    ));
    assert_eq!(issued.disclosures.iter().filter(|d| d.visibility == Visibility::Personal).count(), 3);
}

#[test]
fn lists_and_the_frame_of_an_event_are_never_concealed() {
    for pointer in [
        "",
        "/type",
        "/bizStep",
        "/gx:step",
        "/epcList",
        "/quantityList",
        "/quantityList/0",
        "/quantityList/0/epcClass",
    ] {
        let refused = issue(draft(ticket()), &[private(pointer)], salts(), 0, &key());
        assert!(matches!(refused, Err(IssueError::NeverConcealed { .. })), "{pointer}");
    }
    let alone = issue(draft(ticket()), &[private("/quantityList/0/quantity")], salts(), 0, &key());
    assert_eq!(alone.unwrap_err(), IssueError::Record(RecordError::NeverConcealed));
    assert!(matches!(
        issue(draft(ticket()), &[private("/gx:nothing")], salts(), 0, &key()),
        Err(IssueError::NothingThere { .. })
    ));
    let with_digests = json!({"type": "ObjectEvent", "x": {"_sd": []}});
    assert_eq!(issue(draft(with_digests), &[], salts(), 0, &key()).unwrap_err(), IssueError::ReservedName);
}

#[test]
fn a_signer_cannot_conceal_by_hand_what_must_stand_in_plain() {
    let step = Closed::new([9; 16], Some("bizStep"), &json!("shipping"));
    let record = forged(|payload| {
        let event = payload["event"].as_object_mut().unwrap();
        event.shift_remove("bizStep");
        sd::insert_digests(event, [step.digest]);
    })
    .unwrap();
    assert_eq!(
        record.process(&[&step.text]),
        Err(DisclosureError::NeverConcealed { name: "bizStep".to_owned() })
    );
    let shortened = forged(|payload| payload["event"]["quantityList"][0] = json!({"...": Hash([3; 32])}));
    assert_eq!(shortened.unwrap_err(), RecordError::NeverConcealed);
    let issuer = Closed::new([9; 16], Some("sub"), &json!("someone"));
    let record =
        forged(|payload| sd::insert_digests(payload.as_object_mut().unwrap(), [issuer.digest])).unwrap();
    assert!(matches!(record.process(&[&issuer.text]), Err(DisclosureError::NeverConcealed { .. })));
}

#[test]
fn claims_out_of_format_are_refused() {
    let changes: [(&str, Value); 8] = [
        ("iss", json!("urn:party")),
        ("jti", json!("0199B3A0-0000-7000-8000-000000000001")),
        ("jti", json!("9f1b3a00-0000-4000-8000-000000000001")),
        ("aud", json!("Suyuan")),
        ("profile", json!("sugar/03#0123456789abcdef0123456789abcdef")),
        ("refs", json!([{"rel": "likes", "leaf": Hash([0; 32])}])),
        ("_sd_alg", json!("sha-512")),
        ("statement", json!({})),
    ];
    for (name, value) in changes {
        assert!(forged(|payload| payload[name] = value.clone()).is_err(), "{name} {value}");
    }
    assert!(forged(|payload| payload["exp"] = json!(1)).is_err());
    assert!(forged(|_| {}).is_ok());
}

#[test]
fn one_signature_has_one_text() {
    let signed = issued().signed;
    let key = key().public();
    assert!(verify(&signed, &key).is_ok());
    for at in 0..signed.len() {
        let mut bytes = signed.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(text) = String::from_utf8(bytes) {
            assert!(verify(&text, &key).is_err(), "byte {at}");
        }
    }
    assert!(verify(&format!("{signed}~"), &key).is_err());
    assert!(verify(&format!("{signed}="), &key).is_err());
    assert!(verify(&signed, &SecretKey::from_seed(&[8; 32]).public()).is_err());
}

#[test]
fn a_header_with_more_or_other_members_is_refused() {
    let (_, rest) = issued().signed.split_once('.').map(|(h, r)| (h.to_owned(), r.to_owned())).unwrap();
    let kid = key().kid();
    for header in [
        format!(r#"{{"alg":"none","typ":"{TYP}","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"Ed25519","typ":"jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"Ed25519","typ":"{TYP}","kid":"{kid}","crit":[]}}"#),
        format!(r#"{{"alg":"Ed25519","typ":"{TYP}"}}"#),
    ] {
        let signed = format!("{}.{rest}", b64::url(header.as_bytes()));
        assert_eq!(Record::parse(&signed).unwrap_err(), RecordError::Jws(JwsError::Header));
    }
    let eddsa = format!(r#"{{"alg":"EdDSA","typ":"{TYP}","kid":"{kid}"}}"#);
    let input = format!("{}.{}", b64::url(eddsa.as_bytes()), rest.split_once('.').unwrap().0);
    let signed = format!("{input}.{}", b64::url(&key().sign(input.as_bytes())));
    assert!(verify(&signed, &key().public()).is_ok());
}

#[test]
fn a_correction_keeps_the_digests_and_the_originals_disclosures_open_it() {
    let original = issued();
    let record = Record::parse(&original.signed).unwrap();
    let declaration = json!({"declarationTime": "2026-11-22T00:00:00Z", "reason": "incorrect_data"});
    let jti = Uuid::try_parse("0199b3a0-0000-7000-8000-000000000002").unwrap();
    let correction = issue(
        Draft {
            claims: Claims { jti, refs: vec![Ref { rel: Rel::Corrects, leaf: original.entry }], ..claims() },
            body: record.corrected(declaration.clone()).unwrap(),
            act: None,
            event_hash: None,
        },
        &[],
        salts(),
        6,
        &key(),
    )
    .unwrap();
    let corrected = verify(&correction.signed, &key().public()).unwrap();
    assert_eq!(corrected.payload()["event"]["_sd"], record.payload()["event"]["_sd"]);
    let of_the_event = original.disclosures.iter().filter(|d| d.pointer.starts_with("/event/"));
    let opened = corrected.process(&of_the_event.map(|d| d.text.as_str()).collect::<Vec<_>>()).unwrap();
    assert_eq!(opened["event"]["gx:farmer"]["phone"], "13900000000");
    assert_eq!(opened["event"]["eventID"], ticket()["eventID"]);
    assert_eq!(opened["event"]["errorDeclaration"], declaration);
}

#[test]
fn an_enrolment_proves_that_the_new_key_is_held_for_this_record_alone() {
    let new = SecretKey::from_seed(&[9; 32]);
    let party = "https://id.gs1.org/417/9521234000006".to_owned();
    let possession = Possession {
        aud: claims().aud,
        jti: claims().jti,
        kid: new.kid(),
        party: party.clone(),
        custody: Custody::Device,
    };
    let enrolment = Enrolment {
        kid: new.kid(),
        key: Hash(*new.public().as_bytes()),
        role: KeyRole::Pack,
        party,
        custody: Custody::Device,
        base_name: Some("urn:dev:org:32473-mill:scale1:".to_owned()),
        pop: prove_possession(&possession, &new),
    };
    let issue_statement = |enrolment: Enrolment| {
        let body = Body::Statement(Statement::Enrol(enrolment));
        let claims = Claims { profile: statement::profile_reference(), ..claims() };
        issue(Draft { claims, body, act: None, event_hash: None }, &[], salts(), 0, &key()).unwrap()
    };
    let record = Record::parse(&issue_statement(enrolment.clone()).signed).unwrap();
    let Some(Ok(read)) = record.statement() else { panic!("no statement") };
    assert_eq!(read, Statement::Enrol(enrolment.clone()));
    let shown = read.new_key().unwrap();
    assert_eq!(shown.verify_possession("suyuan-test", claims().jti).unwrap(), new.public());
    assert_eq!(shown.verify_possession("suyuan-other", claims().jti), Err(StatementError::OtherPossession));
    let read = |enrolment| Record::parse(&issue_statement(enrolment).signed).unwrap().statement().unwrap();
    let other_kid = Enrolment { kid: key().kid(), ..enrolment.clone() };
    assert_eq!(read(other_kid), Err(StatementError::KidOfOtherKey));
    assert_eq!(read(Enrolment { base_name: None, ..enrolment }), Err(StatementError::BaseName));
}

// RFC 9901's own vectors.

#[test]
fn rfc_9901_section_4_2_digests_are_over_the_text() {
    for (text, digest) in [
        (
            "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0",
            "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0",
        ),
        ("WyJsa2x4RjVqTVlsR1RQVW92TU5JdkNBIiwgIkZSIl0", "w0I8EKcdCtUPkGCNUrfwVp2xEgNjtoIDlOxc9-PlOhs"),
        (
            "WyIyR0xDNDJzS1F2ZUNmR2ZyeU5STjl3IiwgImdpdmVuX25hbWUiLCAiSm9obiJd",
            "jsu9yVulwQQlhFlM_3JlzMaSFzglhQG0DpfayQwLUK4",
        ),
    ] {
        assert_eq!(Opened::parse(text).unwrap().digest.to_string(), digest);
    }
    let opened = Opened::parse("WyIyR0xDNDJzS1F2ZUNmR2ZyeU5STjl3IiwgImdpdmVuX25hbWUiLCAiSm9obiJd").unwrap();
    assert_eq!((opened.name.as_deref(), &opened.value), (Some("given_name"), &json!("John")));
}

#[test]
fn rfc_9901_section_7_1_refusals() {
    let given = Closed::new([1; 16], Some("given_name"), &json!("John"));
    let element = Closed::new([2; 16], None, &json!("DE"));
    let digest = |closed: &Closed| json!(closed.digest.to_string());
    let text = |json: &str| b64::url(json.as_bytes());
    let payload =
        json!({"_sd_alg": "sha-256", "_sd": [digest(&given)], "list": [{"...": digest(&element)}, "US"]});
    assert_eq!(
        sd::process(&payload, &[&given.text, &element.text]).unwrap(),
        json!({"list": ["DE", "US"], "given_name": "John"})
    );
    assert_eq!(sd::process(&payload, &[]).unwrap(), json!({"list": ["US"]}));
    let emptied = json!({"list": [{"...": digest(&element)}]});
    assert_eq!(sd::process(&emptied, &[]).unwrap(), json!({"list": []}));

    let refused: Vec<(Value, Vec<String>)> = vec![
        (payload.clone(), vec![text(r#"["salt","given_name","Mallory"]"#)]),
        (payload.clone(), vec![given.text.clone(), given.text.clone()]),
        (payload.clone(), vec![text(r#"["only"]"#)]),
        (payload.clone(), vec![text(r#"["a","b","c","d"]"#)]),
        (payload.clone(), vec![text(r#"[1,"b","c"]"#)]),
        (payload.clone(), vec!["!".to_owned()]),
        (json!({"_sd": [digest(&given), digest(&given)]}), vec![]),
        (json!({"_sd": [digest(&given)], "list": [{"...": digest(&given)}]}), vec![]),
        (json!({"_sd": [digest(&given)], "given_name": "Mallory"}), vec![given.text.clone()]),
        (json!({"_sd": [digest(&element)]}), vec![element.text.clone()]),
        (json!({"list": [{"...": digest(&given)}]}), vec![given.text.clone()]),
        (json!({"list": [{"...": digest(&given), "x": 1}]}), vec![]),
        (json!({"_sd": "x"}), vec![]),
        (json!({"_sd": [1]}), vec![]),
        (json!({"...": digest(&given)}), vec![]),
        (json!({"_sd_alg": "sha-512"}), vec![]),
        (json!({"inner": {"_sd_alg": "sha-256"}}), vec![]),
    ];
    for (payload, disclosures) in refused {
        let disclosures: Vec<&str> = disclosures.iter().map(String::as_str).collect();
        assert!(sd::process(&payload, &disclosures).is_err(), "{payload} {disclosures:?}");
    }
    for name in ["_sd", "...", "_sd_alg"] {
        let reserved = Closed::new([3; 16], Some(name), &json!(["x"]));
        assert_eq!(
            sd::process(&json!({"_sd": [digest(&reserved)]}), &[&reserved.text]),
            Err(DisclosureError::ReservedName)
        );
    }
    let stray = format!("{}B", &given.text[..given.text.len() - 1]);
    assert!(b64::from_url(&stray).is_err() || Opened::parse(&stray).is_ok_and(|o| o.digest != given.digest));
}
