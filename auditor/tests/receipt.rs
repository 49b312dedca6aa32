//! `suyuan-auditor verify PACK --receipt`: a pack and the log's word that it holds it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it stands")]

mod desk;

use desk::{Desk, ORIGIN, nodes, signer};
use trace::{
    hash::{Hash, sha256},
    keys::SecretKey,
    merkle::{self, leaf_hash},
    pack::{self, receipt::Receipt},
    tlog::{checkpoint::Checkpoint, note::SignerKey},
};

fn log() -> SignerKey {
    signer(ORIGIN, 3)
}

fn pack(reading: &[u8]) -> Vec<u8> {
    pack::sign(b"12345678", reading, &SecretKey::from_seed(&[5; 32])).unwrap()
}

/// The receipt of a pack that stands second in a log of three.
fn receipt(pack: &[u8]) -> Vec<u8> {
    let leaves: Vec<Hash> = [sha256(b"one"), sha256(pack), sha256(b"three")].iter().map(leaf_hash).collect();
    let head = Checkpoint { origin: ORIGIN.to_owned(), size: 3, root: merkle::root(&leaves) };
    Receipt::sign(&head, 1, merkle::inclusion_proof(&nodes(&leaves), 3, 1).unwrap(), &log())
        .unwrap()
        .to_bytes()
}

fn verify(desk: &Desk, pack: &[u8], receipt: &[u8], trust: &str) -> (i32, String) {
    desk.put("receipt", receipt);
    let (pack, trust) = (desk.put("pack", pack), desk.put("trust", trust.as_bytes()));
    desk.verify(&pack, &trust, &["--receipt", "receipt"])
}

#[test]
fn a_receipt_shows_that_the_log_holds_the_pack_and_says_what_it_does_not_show() {
    let (desk, pack) = (Desk::new(), pack(b"\x80"));
    let trust = format!("log {}\nquorum none\n", log().verifier());
    let receipt = receipt(&pack);
    let (code, printed) = verify(&desk, &pack, &receipt, &trust);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("ok         inclusion (1): the pack stands at index 1 of 3"), "{printed}");
    assert!(printed.contains("unchecked  signatures") && printed.ends_with("INCLUDED\n"), "{printed}");

    let (code, printed) = verify(&desk, &pack, &receipt, "quorum none\n");
    assert_eq!(code, 2);
    assert!(printed.contains("the trust file does not name the log log.example"), "{printed}");
}

#[test]
fn another_pack_another_receipt_or_another_key_of_the_log_is_refused() {
    let (desk, ours, other) = (Desk::new(), pack(b"\x80"), pack(b"\x81\xa0"));
    let trust = format!("log {}\nquorum none\n", log().verifier());
    let receipt = receipt(&ours);
    let stranger = SignerKey { secret: SecretKey::from_seed(&[4; 32]), ..log() };
    let long = vec![0xd2; 100_000];
    for (pack, receipt, trust) in [
        (&other, &receipt, &trust),
        (&ours, &self::receipt(&other), &trust),
        (&ours, &receipt, &format!("log {}\nquorum none\n", stranger.verifier())),
        (&ours, &receipt[..receipt.len() - 1].to_vec(), &trust),
        (&ours, &long, &trust),
        (&long, &receipt, &trust),
    ] {
        let (code, printed) = verify(&desk, pack, receipt, trust);
        assert_eq!(code, 1, "{printed}");
        assert!(printed.starts_with("BAD ") && printed.ends_with("INVALID\n"), "{printed}");
    }
}
