//! A verifier that nobody here wrote (PyPI `sd-jwt`) reads our records.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what it expects by failing"
)]

use std::process::Command;

use serde_json::{Value, json};
use trace::{
    b64,
    keys::SecretKey,
    record::{Body, Claims, Conceal, Draft, Visibility, issue, presentation},
};
use uuid::Uuid;

/// Run by the interpreter that `SD_JWT_PYTHON` names.
const VERIFIER: &str = r#"
import json, sys
from jwcrypto.jwk import JWK
from sd_jwt.verifier import SDJWTVerifier
key = JWK(kty="OKP", crv="Ed25519", x=sys.argv[1])
print(json.dumps(SDJWTVerifier(sys.argv[2], lambda issuer, header: key).get_verified_payload()))
"#;

#[test]
fn a_foreign_verifier_opens_what_we_sign() {
    let Ok(python) = std::env::var("SD_JWT_PYTHON") else {
        eprintln!("SKIPPED: SD_JWT_PYTHON is not set (a Python with the package sd-jwt)");
        return;
    };
    let key = SecretKey::from_seed(&[7; 32]);
    let event = json!({"type": "ObjectEvent", "bizStep": "receiving", "gx:farmer": {"name": "韦阿强", "phone": "1"},
        "sourceList": [{"type": "location", "source": "a"}, {"type": "owning_party", "source": "b"}]});
    let claims = Claims {
        iss: "https://id.gs1.org/417/9521234000006".to_owned(),
        iat: 1_795_000_000,
        jti: Uuid::try_parse("0199b3a0-0000-7000-8000-000000000001").unwrap(),
        aud: "suyuan-test".to_owned(),
        profile: "sugar/3#0123456789abcdef0123456789abcdef".to_owned(),
        seen: None,
        refs: Vec::new(),
    };
    let body = Body::Event { context: json!([]), event: event.clone() };
    let conceal = ["/gx:farmer", "/gx:farmer/phone", "/sourceList/0"]
        .map(|pointer| Conceal { pointer: pointer.to_owned(), visibility: Visibility::Private });
    let mut salt = 0;
    let salts = || {
        salt += 1;
        [salt; 16]
    };
    let draft = Draft { claims, body, act: Some(json!({"sub": "clerk"})), event_hash: None };
    let issued = issue(draft, &conceal, salts, 5, &key).unwrap();
    let texts: Vec<&str> = issued.disclosures.iter().map(|disclosure| disclosure.text.as_str()).collect();
    let output = Command::new(python)
        .args(["-c", VERIFIER, &b64::url(key.public().as_bytes()), &presentation(&issued.signed, &texts)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut opened: Value = serde_json::from_slice(&output.stdout).unwrap();
    opened["event"].as_object_mut().unwrap().shift_remove("@context");
    assert_eq!(opened["event"], event);
    assert_eq!(opened["act"]["sub"], "clerk");
}
