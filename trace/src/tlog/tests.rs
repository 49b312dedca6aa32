//! Against C2SP's worked examples, a log that Tessera wrote, and a witness's recorded conversation.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    checkpoint::Checkpoint,
    cosignature,
    note::{Algorithm, Note, NoteError, SignerKey, VerifierKey},
    policy::Policy,
    proof::TlogProof,
    tile::{self, TileId, TileNodes, TilePath},
    witness::AddCheckpoint,
};
use crate::{
    hash::{Hash, sha256},
    keys::{PublicKey, SecretKey},
    merkle,
};

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("SKIPPED: no {name} at ../shared/data");
    None
}

fn spec() -> Option<Value> {
    let text = std::fs::read_to_string(shared("c2sp-spec/spec_vectors.json")?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey { name: name.parse().unwrap(), secret: SecretKey::from_seed(&[seed; 32]) }
}

#[test]
fn the_specification_s_note_verifies_and_prints_as_it_was() {
    let Some(spec) = spec() else { return };
    let key: VerifierKey = spec["signed_note"]["vkey"].as_str().unwrap().parse().unwrap();
    let text = spec["signed_note"]["note"].as_str().unwrap();
    let note: Note = text.parse().unwrap();
    assert_eq!(note.verify(&key), Ok(()));
    assert_eq!(note.to_string(), text);
    assert_eq!(key.to_string(), spec["signed_note"]["vkey"].as_str().unwrap());
    let forged = Note { text: note.text.replace("example", "exampel"), ..note };
    assert_eq!(forged.verify(&key), Err(NoteError::BadSignature));
}

#[test]
fn tile_paths_and_extents_are_the_specification_s() {
    let Some(spec) = spec() else { return };
    for case in spec["tile_paths"].as_array().unwrap() {
        let id = TileId { level: 0, index: case["index"].as_u64().unwrap(), width: 256 };
        let path = format!("tile/0/{}", case["path"].as_str().unwrap());
        assert_eq!(TilePath::Hashes(id).to_string(), path);
        assert_eq!(path.parse(), Ok(TilePath::Hashes(id)));
    }
    assert_eq!(tile::extent(70_000, 0), (273, 112));
    assert_eq!(tile::extent(70_000, 1), (1, 17));
    assert_eq!(tile::extent(70_000, 2), (0, 1));
    assert_eq!(tile::extent(256, 1), (0, 1));
    assert_eq!(tile::extent(256, 63), (0, 0));
}

#[test]
fn a_tile_path_has_one_spelling() {
    for path in [
        "tile/0/1",
        "tile/00/001",
        "tile/64/000",
        "tile/0/x000/001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/05",
        "tile/0/001/002",
        "tile/0/x1/000",
        "tile/0/",
        "tile//000",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/-01",
        "tile/entries/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert!(path.parse::<TilePath>().is_err(), "{path}");
    }
    assert_eq!("tile/entries/000.p/9".parse(), Ok(TilePath::Entries { index: 0, width: 9 }));
}

#[test]
fn a_cosignature_signs_the_specification_s_message_and_verifies() {
    if let Some(spec) = spec() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let wanted = spec["cosignature_v1_message"].as_str().unwrap();
        assert_eq!(cosignature::message(1_679_315_147, text), wanted);
    }
    let (log, witness) = (signer("example.org/sugar/2026", 1), signer("witness.example/a", 2));
    let checkpoint = Checkpoint { origin: "example.org/sugar/2026".into(), size: 7, root: sha256(b"root") };
    let mut note = checkpoint.sign(&log);
    let key = witness.verifier_as(Algorithm::CosignatureV1);
    assert!(cosignature::verify(&note, &key).is_err());
    note.signatures.push(cosignature::cosign(&note.text, 1_800_000_000, &witness));
    let note: Note = note.to_string().parse().unwrap();
    assert_eq!(cosignature::verify(&note, &key), Ok(1_800_000_000));
    assert_eq!(Checkpoint::open(&note, &log.verifier()), Ok(checkpoint));

    let policy = format!(
        "log {}\nwitness a {key}\ngroup g any a\n  # one is enough\nquorum g\nregistrar {}\nchain 31337 0x{:040x}\n",
        log.verifier(),
        sha256(b"registrar"),
        7
    );
    let policy: Policy = policy.parse().unwrap();
    assert!(policy.witnessed(&note).unwrap().enough);
    note_without_cosignature_is_not_enough(&policy, &note);
}

fn note_without_cosignature_is_not_enough(policy: &Policy, note: &Note) {
    let bare = Note { text: note.text.clone(), signatures: note.signatures[..1].to_vec() };
    assert!(!policy.witnessed(&bare).unwrap().enough);
    let mut forged = note.clone();
    *forged.signatures[1].signature.last_mut().unwrap() ^= 1;
    assert_eq!(policy.witnessed(&forged), Err(NoteError::BadSignature));
}

#[test]
fn a_quorum_is_met_at_the_second_in_which_the_last_needed_witness_signed() {
    let (log, text) = (signer("example.org/sugar/2026", 1), "example.org/sugar/2026\n0\n");
    let mut note = Note { text: text.to_owned(), signatures: vec![log.sign(text)] };
    let mut policy = String::new();
    for (seed, name, time) in [(2, "a", 300), (3, "b", 100), (4, "c", 200)] {
        let witness = signer(&format!("witness.example/{name}"), seed);
        note.signatures.push(cosignature::cosign(text, time, &witness));
        let key = witness.verifier_as(Algorithm::CosignatureV1);
        policy = format!("{policy}witness {name} {key}\n");
    }
    for (rule, at, deciding, fewest) in [
        ("group g any a b c\nquorum g\n", Some(100), "abc", 1),
        ("group g 2 a b c\nquorum g\n", Some(200), "abc", 2),
        ("group g all a b c\nquorum g\n", Some(300), "abc", 3),
        ("group f all a b\ngroup g any f c\nquorum g\n", Some(200), "abc", 1),
        ("group f all a b\ngroup g all f c\nquorum g\n", Some(300), "abc", 3),
        ("quorum a\n", Some(300), "a", 1),
        ("quorum none\n", None, "abc", 0),
    ] {
        let policy: Policy = format!("{policy}{rule}").parse().unwrap();
        assert_eq!(policy.witnessed(&note).unwrap().enough_at, at, "{rule}");
        let (names, least) = policy.deciding();
        assert_eq!((names.concat().as_str(), least), (deciding, fewest), "{rule}");
        assert_eq!(policy.to_string().parse(), Ok(policy), "{rule}");
    }
}

#[test]
fn a_policy_names_only_what_stands_above_and_ends_in_a_quorum() {
    let key = signer("witness.example/a", 2).verifier_as(Algorithm::CosignatureV1);
    let (renamed, other) = (signer("witness.example/b", 2), signer("witness.example/c", 3));
    let renamed = renamed.verifier_as(Algorithm::CosignatureV1);
    let (log, other) = (other.verifier(), other.verifier_as(Algorithm::CosignatureV1));
    for (text, line) in [
        ("quorum g\n".to_owned(), 1),
        (format!("witness a {key}\nwitness a {key}\nquorum a\n"), 2),
        (format!("witness a {key}\ngroup g 2 a\nquorum g\n"), 2),
        (format!("witness a {key}\ngroup g any g\nquorum g\n"), 2),
        (format!("witness a {key}\n"), 1),
        (format!("witness a {key}\nquorum a\nquorum a\n"), 3),
        (format!("witness a {key} url more\nquorum a\n"), 1),
        ("chain 1 0xABCDEF\nquorum none\n".to_owned(), 1),
        // One witness under two names would count twice.
        (format!("witness a {key}\nwitness b {renamed}\ngroup g all a b\nquorum g\n"), 2),
        (format!("witness a {key}\nwitness b {other}\ngroup g any a b\ngroup h all a g\nquorum h\n"), 4),
        (format!("log {key}\nquorum none\n"), 1),
        (format!("witness a {log}\nquorum a\n"), 1),
        (format!("log {log}\nlog {log}\nquorum none\n"), 2),
        (format!("witness a {key}\r\nquorum a\n"), 1),
        (format!("witness a {key}\nquorum a # and more\n"), 2),
    ] {
        assert_eq!(text.parse::<Policy>().unwrap_err().line, line, "{text}");
    }
    assert!("quorum none\n".parse::<Policy>().unwrap().is_enough([]));
}

#[test]
fn a_signer_key_reads_its_own_text() {
    let key = signer("example.org/sugar/2026", 9);
    let again: SignerKey = key.to_secret_text().parse().unwrap();
    assert_eq!(again.verifier(), key.verifier());
    assert!(key.to_secret_text().replace("sugar", "grain").parse::<SignerKey>().is_err());
}

/// Tessera's fifteen entries: every checkpoint is signed, every tree is the one that its partial tiles say, and every tree
/// extends every earlier one.
#[test]
fn a_log_that_tessera_wrote_reads_as_ours() {
    let Some(folder) = shared("tessera-testlog/testdata/log") else { return };
    let key: VerifierKey =
        "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx".parse().unwrap();
    let tile = std::fs::read(folder.join("tile/0/000.p/15")).unwrap();
    let hashes: Vec<Hash> = tile.chunks(32).map(|chunk| Hash::from_slice(chunk).unwrap()).collect();
    let nodes = TileNodes(|level, index| (level == 0 && index == 0).then(|| hashes.clone()));
    let mut heads: Vec<Checkpoint> = Vec::new();
    for size in 0..=15_u64 {
        let text = std::fs::read_to_string(folder.join(format!("checkpoint.{size}"))).unwrap();
        let note: Note = text.parse().unwrap();
        assert_eq!(note.to_string(), text);
        let head = Checkpoint::open(&note, &key).unwrap();
        assert_eq!(head.size, size);
        assert_eq!(merkle::root_at(&nodes, size), Ok(head.root));
        for index in 0..size {
            let path = merkle::inclusion_proof(&nodes, size, index).unwrap();
            let proof = TlogProof { index, path, checkpoint: note.clone() };
            let proof: TlogProof = proof.to_string().parse().unwrap();
            let leaf = &hashes[usize::try_from(index).unwrap()];
            merkle::verify_inclusion(&head.root, size, index, leaf, &proof.path).unwrap();
        }
        for old in &heads {
            let path = merkle::consistency_proof(&nodes, old.size, size).unwrap();
            merkle::verify_consistency(old.size, &old.root, size, &head.root, &path).unwrap();
        }
        heads.push(head);
    }
}

#[test]
fn a_recorded_witness_conversation_parses_and_its_signatures_verify_where_they_should() {
    let Some(path) = shared("litewitness/add_checkpoint_steps.json") else { return };
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let hex = recorded["log_ed25519_public_key_hex"].as_str().unwrap();
    let bytes: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect();
    let key = VerifierKey {
        name: recorded["log_origin"].as_str().unwrap().parse().unwrap(),
        algorithm: Algorithm::Ed25519,
        key: PublicKey::from_bytes(&bytes).unwrap(),
    };
    let mut accepted = 0;
    for step in recorded["steps"].as_array().unwrap() {
        let body = step["request_body"].as_str().unwrap();
        let opened = body.parse::<AddCheckpoint>().ok().map(|request| {
            assert_eq!(request.to_string(), body);
            Checkpoint::open(&request.checkpoint, &key)
        });
        if step["http_status_litewitness"].as_u64() == Some(200) {
            assert!(matches!(opened, Some(Ok(_))), "{step}");
            accepted += 1;
        }
        if step["http_status_litewitness"].as_u64() == Some(403) {
            assert!(!matches!(opened, Some(Ok(_))), "{step}");
        }
    }
    assert!(accepted > 0);
}
