//! Nobody here wrote PyPI `sd-jwt`: it reads our records, and we open what it issues.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what it expects by failing"
)]

use std::process::Command;

use serde_json::{Value, json};
use trace::{
    b64, json as strict,
    keys::SecretKey,
    record::{Body, Claims, Conceal, Draft, Visibility, issue, presentation, sd},
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

/// Issues claims whose names, or elements' only name, start with `~`: those are concealed. Prints the payload, the disclosures,
/// and what its own verifier reads with all of them and with none.
const ISSUER: &str = r#"
import base64, json, sys
from jwcrypto.jwk import JWK
from sd_jwt.common import SDObj
from sd_jwt.issuer import SDJWTIssuer
from sd_jwt.verifier import SDJWTVerifier
def marked(value):
    if isinstance(value, dict):
        return {SDObj(name[1:]) if name.startswith("~") else name: marked(member) for name, member in value.items()}
    if isinstance(value, list):
        return [SDObj(marked(e["~"])) if isinstance(e, dict) and "~" in e else marked(e) for e in value]
    return value
key = JWK.generate(kty="EC", crv="P-256")
issued = SDJWTIssuer(marked(json.loads(sys.argv[1])), key, add_decoy_claims=True).sd_jwt_issuance
jwt, *disclosures, _ = issued.split("~")
payload = jwt.split(".")[1]
read = lambda text: SDJWTVerifier(text, lambda issuer, header: key).get_verified_payload()
print(json.dumps({"payload": base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode(),
    "disclosures": disclosures, "all": read(issued), "none": read(jwt + "~")}))
"#;

/// The shapes of RFC 9901's appendix A: flat, structured and recursive addresses, elements of arrays, arrays in arrays.
#[test]
fn we_open_what_a_foreign_issuer_concealed() {
    let Ok(python) = std::env::var("SD_JWT_PYTHON") else {
        eprintln!("SKIPPED: SD_JWT_PYTHON is not set (a Python with the package sd-jwt)");
        return;
    };
    let address = json!({"street_address": "Schulstr. 12", "locality": "Schulpforta", "country": "DE"});
    let closed = json!({"~street_address": "Schulstr. 12", "~locality": "Schulpforta", "country": "DE"});
    for claims in [
        json!({"sub": "a", "~address": address}),
        json!({"sub": "a", "address": closed}),
        json!({"sub": "a", "~address": closed}),
        json!({"~nationalities": ["DE", {"~": "US"}, {"~": {"~code": "FR", "since": 1990}}]}),
        json!({"rows": [[{"~": 1}, 2], {"~": [3, {"~": 4}]}], "~empty": [], "~null": null, "~flag": false}),
        json!({"~姓名": "韦阿强", "~quote": "\"\\/\u{2028}", "~number": 6.25, "~big": 123_456_789_012_345_i64}),
    ] {
        let run = Command::new(&python).args(["-c", ISSUER, &claims.to_string()]).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let issued: Value = serde_json::from_slice(&run.stdout).unwrap();
        let payload = strict::parse(issued["payload"].as_str().unwrap().as_bytes()).unwrap();
        let disclosures: Vec<&str> =
            issued["disclosures"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert!(!disclosures.is_empty());
        assert_eq!(sd::process(&payload, &disclosures).unwrap(), issued["all"], "{claims}");
        assert_eq!(sd::process(&payload, &[]).unwrap(), issued["none"], "{claims}");
    }
}
