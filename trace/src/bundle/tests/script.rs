//! The scan page's script (`static/verify`) reaches the same verdict, layer by layer, about the same statements.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{
    super::*,
    ledger::Ledger,
    spoilt::{full, reseal},
};
use crate::{b64, keys::PublicKey, tlog::policy::Policy};

/// Whether node is there; says loudly if not.
fn has_node() -> bool {
    let version = Command::new("node").arg("--version").output();
    let has = version.is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("SKIPPED: no node: the scan page's script was not compared with `verify`");
    }
    has
}

/// What the script says of each.
fn ask_script(asked: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bundle/tests/script.mjs");
    let mut node =
        Command::new("node").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: Vec<String> = asked.into_iter().map(|line| line.to_string()).collect();
    let lines = lines.join("\n");
    let mut stdin = node.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = node.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let told = String::from_utf8(output.stdout).unwrap();
    told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What `verify` says, in the script's terms.
fn ours(bundle: &[u8], trust: &str) -> Value {
    let trust: Policy = trust.parse().unwrap();
    let parsed = str::from_utf8(bundle).ok().and_then(|text| text.parse::<Bundle>().ok());
    let Some(bundle) = parsed else {
        return json!({"verdict": "invalid", "layers": [], "isBundle": false});
    };
    let report = verify(&bundle, &trust);
    let verdict = match report.verdict {
        Verdict::Valid => "valid",
        Verdict::Invalid => "invalid",
        Verdict::CouldNotCheck => "could-not-check",
    };
    let layers: Vec<Value> = report.layers.iter().map(told).collect();
    json!({"verdict": verdict, "layers": layers, "isBundle": true})
}

fn told(checked: &Checked) -> Value {
    let layer = match checked.layer {
        Layer::Log => "log",
        Layer::Witnesses => "witnesses",
        Layer::Signature => "signature",
        Layer::Inclusion => "inclusion",
        Layer::Enrolment => "enrolment",
        Layer::Roster => "roster",
        Layer::Seen => "seen",
        Layer::Chain => "chain",
    };
    let (outcome, reasons): (&str, &[String]) = match &checked.outcome {
        Outcome::Good => ("good", &[]),
        Outcome::Bad(why) => ("bad", why),
        Outcome::Unchecked(why) => ("unchecked", why),
    };
    let mut statements: Vec<&str> = reasons.iter().filter_map(|why| statement_of(why)).collect();
    statements.sort_unstable();
    json!({"layer": layer, "count": checked.count, "outcome": outcome, "reasons": reasons.len(), "statements": statements})
}

/// The first statement that a reason names.
fn statement_of(why: &str) -> Option<&str> {
    let (_, rest) = why.split_once("statement ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end).filter(|number| !number.is_empty())
}

fn assert_same(asked: &[(Vec<u8>, &str)]) {
    if !has_node() {
        return;
    }
    let said =
        ask_script(asked.iter().map(|(bundle, trust)| json!({"bundle": b64::url(bundle), "trust": trust})));
    assert_eq!(said.len(), asked.len());
    for ((bundle, trust), said) in asked.iter().zip(said) {
        assert_eq!(said, ours(bundle, trust), "{trust}\n{}", String::from_utf8_lossy(bundle));
    }
}

/// Every story that a test checks is told to the script, too.
pub fn assert_agrees(ledger: &Ledger) {
    assert_same(&[(ledger.bundle().to_string().into_bytes(), &ledger.trust_text())]);
}

#[test]
fn of_a_good_bundle_and_of_every_spoilt_one_the_script_says_the_same() {
    let (text, _) = full();
    let trust = Ledger::new().trust_text();
    let lines: Vec<&str> = text.lines().collect();
    let mut asked = vec![text.clone().into_bytes()];
    for at in 0..lines.len() {
        let mut without = lines.clone();
        without.remove(at);
        asked.push((without.join("\n") + "\n").into_bytes());
        asked.push(reseal(&(without.join("\n") + "\n sha256 \n")).into_bytes());
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        asked.push(reseal(&(twice.join("\n") + "\n")).into_bytes());
    }
    // One bit of every fifth byte, mended: every byte would take a minute.
    for at in (0..text.rfind("sha256 ").unwrap()).step_by(5) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1 << (at % 8);
        asked.push(match String::from_utf8(bytes.clone()) {
            Ok(flipped) => reseal(&flipped).into_bytes(),
            Err(_) => bytes,
        });
    }
    for at in (0..text.len()).step_by(97) {
        asked.push(text.as_bytes()[..at].to_vec());
    }
    let asked: Vec<(Vec<u8>, &str)> = asked.into_iter().map(|bundle| (bundle, trust.as_str())).collect();
    assert_same(&asked);
}

#[test]
fn whom_the_trust_file_names_makes_the_same_difference() {
    let (text, _) = full();
    let trust = Ledger::new().trust_text();
    let log = trust.lines().next().unwrap();
    let others = [
        trust.replace("quorum w", "quorum none"),
        trust.replace(log, "# nobody's log"),
        trust.replace("chain 31337", "chain 1"),
        trust.replace("00aa", "00ab"),
        trust.lines().filter(|line| !line.starts_with("registrar")).collect::<Vec<_>>().join("\n"),
        trust.replace("quorum w", "group g any w\nquorum g"),
        trust.replace(trust.lines().nth(1).unwrap(), "").replace("quorum w", "quorum none"),
    ];
    let asked: Vec<(Vec<u8>, &str)> =
        others.iter().map(|trust| (text.clone().into_bytes(), trust.as_str())).collect();
    assert_same(&asked);
}

/// Small orders, non-canonical points and scalars, cofactors: where implementations differ, the script is as strict as we are.
#[test]
fn of_the_edge_cases_of_ed25519_the_script_says_the_same() {
    #[derive(serde::Deserialize)]
    struct Vector {
        key: String,
        sig: String,
        msg: String,
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/cctv/ed25519/ed25519vectors.json");
    let Ok(vectors) = std::fs::read_to_string(path) else {
        eprintln!("SKIPPED: no {path}");
        return;
    };
    if !has_node() {
        return;
    }
    let vectors: Vec<Vector> = serde_json::from_str(&vectors).unwrap();
    let asked = vectors.iter().map(|Vector { key, sig, msg }| {
        let message: String = msg.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        json!({"key": key, "message": message, "signature": sig})
    });
    let said = ask_script(asked);
    assert_eq!(said.len(), vectors.len());
    let mut accepted = 0;
    for (Vector { key, sig, msg }, said) in vectors.iter().zip(said) {
        let ours = PublicKey::from_bytes(&unhex(key))
            .is_ok_and(|key| key.verify_strict(msg.as_bytes(), &unhex(sig)).is_ok());
        assert_eq!(said, json!(ours), "{key} {sig} {msg}");
        accepted += usize::from(ours);
    }
    assert!(accepted > 0 && accepted < vectors.len());
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
