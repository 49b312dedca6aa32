//! `suyuan-auditor verify` as a reader runs it: files, exit status, words, and a real chain.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop where it stands"
)]

mod desk;
#[path = "../../contracts/tests/node/mod.rs"]
mod node;

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use contracts::{Chain as _, Evm, Head, Terms, notice::KEY_REVOKED};
use desk::{Desk, ORIGIN, nodes, signer};
use node::{Anvil, CHAIN_ID, account};
use trace::{
    bundle::{Anchor, Bundle, Item, SeenProof, Signed},
    hash::{Hash, sha256},
    keys::{Custody, KeyRole, PublicKey, SecretKey},
    merkle::{self, leaf_hash},
    record::{
        Body, Claims, Draft, Issued, Seen, issue,
        statement::{self, CodeRun, Enrolment, Possession, Statement},
    },
    roster::{KeyState, Roster, RosterLine},
    tlog::{
        checkpoint::Checkpoint,
        cosignature,
        note::{Algorithm, Note},
    },
};
use uuid::Uuid;

const MILL: &str = "https://id.gs1.org/417/9521234000013";
const OPERATOR: &str = "https://id.gs1.org/417/9521234000006";

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn state(statement: Statement, jti: u128, key: &SecretKey, iss: &str, seen: Option<Seen>) -> Issued {
    let claims = Claims {
        iss: iss.to_owned(),
        iat: 1_795_000_000,
        jti: jti_of(jti),
        aud: "suyuan-test".to_owned(),
        profile: statement::profile_reference(),
        seen,
        refs: vec![],
    };
    let draft = Draft { claims, body: Body::Statement(statement), act: None, event_hash: None };
    issue(draft, &[], || [9; 16], 0, key).unwrap()
}

fn jti_of(number: u128) -> Uuid {
    Uuid::from_u128(0x0199_b3a0_0000_7000_8000_0000_0000_0000 + number)
}

fn enrolment() -> Issued {
    let mill = secret(2);
    let possession = Possession {
        aud: "suyuan-test".to_owned(),
        jti: jti_of(1),
        kid: mill.kid(),
        party: MILL.to_owned(),
        custody: Custody::Hsm,
    };
    let enrolment = Enrolment {
        kid: mill.kid(),
        key: Hash(*mill.public().as_bytes()),
        role: KeyRole::Record,
        party: MILL.to_owned(),
        custody: Custody::Hsm,
        base_name: None,
        pop: statement::prove_possession(&possession, &mill),
    };
    state(Statement::Enrol(enrolment), 1, &secret(1), OPERATOR, None)
}

fn code_run(seen: Seen) -> Issued {
    let run = CodeRun {
        gtin: "09521234000013".to_owned(),
        epoch: 'A',
        first: 0,
        count: 100,
        key_hash: sha256(b"key"),
    };
    state(Statement::CodeRun(run), 2, &secret(2), MILL, Some(seen))
}

fn roster() -> Roster {
    Roster::new([RosterLine {
        kid: secret(2).kid(),
        party: MILL.to_owned(),
        custody: Custody::Hsm,
        state: KeyState::Good,
        since: 1_795_000_000,
    }])
}

fn head_of(leaves: &[Hash]) -> Checkpoint {
    let size = u64::try_from(leaves.len()).unwrap();
    Checkpoint { origin: ORIGIN.to_owned(), size, root: merkle::root(leaves) }
}

fn cosigned(head: &Checkpoint, at: u64) -> Note {
    let mut note = head.sign(&signer(ORIGIN, 3));
    note.signatures.push(cosignature::cosign(&note.text, at, &signer("regulator.example/w", 4)));
    note
}

/// A mill's code run whose author had seen a head that was cosigned at `seen_at`; covered and cosigned at `covered_at`.
fn bundle(seen_at: u64, covered_at: u64) -> Bundle {
    let (enrolment, roster) = (enrolment(), roster());
    let first = head_of(&[leaf_hash(&enrolment.entry)]);
    let (origin, size, root) = (first.origin.clone(), first.size, first.root);
    let run = code_run(Seen { origin, size, root });
    let stated = Statement::Roster(statement::Roster { root: roster.root(), lines: 1 });
    let stated = state(stated, 3, &secret(1), OPERATOR, None);
    let leaves: Vec<Hash> =
        [&enrolment, &run, &stated].iter().map(|issued| leaf_hash(&issued.entry)).collect();
    let nodes = nodes(&leaves);
    let item = |index: u64, issued: &Issued, key: PublicKey| Item {
        signed: Signed::Record { signed: issued.signed.clone(), disclosures: vec![] },
        key,
        checkpoint: 0,
        index,
        path: merkle::inclusion_proof(&nodes, 3, index).unwrap(),
        roster: None,
    };
    let line = roster.prove(&secret(2).kid()).unwrap().unwrap();
    let run = Item { roster: Some((2, line)), ..item(1, &run, secret(2).public()) };
    let registrar = secret(1).public();
    Bundle {
        checkpoints: vec![cosigned(&head_of(&leaves), covered_at)],
        seen: vec![SeenProof {
            note: cosigned(&first, seen_at),
            path: merkle::consistency_proof(&nodes, 1, 3).unwrap(),
        }],
        items: vec![item(0, &enrolment, registrar), run, item(2, &stated, registrar)],
        anchors: vec![],
    }
}

/// A reader who trusts one log, witness, registrar and chain.
fn trust(contract: &str) -> String {
    let (log, registrar) = (signer(ORIGIN, 3).verifier(), secret(1).kid());
    let witness = signer("regulator.example/w", 4).verifier_as(Algorithm::CosignatureV1);
    format!("log {log}\nwitness w {witness}\nquorum w\nregistrar {registrar}\nchain {CHAIN_ID} {contract}\n")
}

fn reader(contract: &str) -> Desk {
    let desk = Desk::new();
    desk.put("trust", trust(contract).as_bytes());
    desk
}

fn read(desk: &Desk, bundle: &[u8], more: &[&str]) -> (i32, String) {
    desk.verify(&desk.put("bundle", bundle), Path::new("trust"), more)
}

#[test]
fn each_verdict_has_its_exit_status_and_says_what_and_where() {
    let desk = reader(&format!("0x{:040x}", 1));
    let whole = bundle(1_795_000_000, 1_795_000_060);
    let (code, printed) = read(&desk, whole.to_string().as_bytes(), &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("ok         signatures (3)") && printed.contains("\nVALID\n"), "{printed}");

    let mut unconfirmed = whole.clone();
    unconfirmed.items[1].roster = None;
    let (code, printed) = read(&desk, unconfirmed.to_string().as_bytes(), &[]);
    assert_eq!(code, 2);
    assert!(printed.contains("unchecked  roster (1): statement 1: key not yet confirmed"), "{printed}");

    let text = whole.to_string();
    for spoilt in [&text.as_bytes()[1..], b"", b"\xff\n", "suyuan-bundle v1\n".repeat(2_000_000).as_bytes()] {
        let (code, printed) = read(&desk, spoilt, &[]);
        assert_eq!(code, 1, "{printed}");
        assert!(printed.starts_with("BAD        bundle: ") && printed.contains("INVALID"), "{printed}");
    }

    desk.put("trust", b"quorum nobody\n");
    let (code, printed) = read(&desk, text.as_bytes(), &[]);
    assert_eq!(code, 2);
    assert!(printed.contains("line 1: the quorum names what does not stand above it"), "{printed}");
}

#[tokio::test]
async fn a_chain_confirms_the_head_and_a_regulator_s_notice_revokes_a_key() {
    let anvil = Anvil::start(0).await;
    let (contract, _) = anvil.contract().await;
    let evm = Evm::connect(anvil.rpc(), CHAIN_ID, contract).await.unwrap();
    let contract = format!("{contract:#x}");
    let desk = reader(&contract);
    let at_tip = ["--rpc", &anvil.url, "--confirmations", "0"];
    let verify = |bundle: &Bundle| read(&desk, bundle.to_string().as_bytes(), &at_tip);

    let start = now();
    let mut anchored = bundle(start - 60, start);
    let head: Checkpoint = anchored.checkpoints[0].text.parse().unwrap();
    let Checkpoint { origin, size, root } = head;
    let transaction = anchor(&evm, &Head { origin: origin.clone(), size, root }).await;
    let transaction =
        transaction.as_bytes().iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    anchored.anchors.push(Anchor { chain_id: CHAIN_ID, contract, origin, size, root, transaction });
    let (code, printed) = verify(&anchored);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("ok         chain (1): the heads are on the chain"), "{printed}");
    let (_, offline) = read(&desk, anchored.to_string().as_bytes(), &[]);
    assert!(offline.contains("not checked (needs --rpc)") && offline.contains("\nVALID\n"), "{offline}");

    let deep = |blocks: &str| {
        let told = ["--rpc", &anvil.url, "--confirmations", blocks];
        read(&desk, anchored.to_string().as_bytes(), &told)
    };
    let (code, printed) = deep("100");
    assert_eq!((code, printed.contains("\nVALID\n")), (0, true), "the chain is extra: {printed}");
    assert!(printed.contains("unchecked  chain (1): anchor 0 (size 3"), "{printed}");
    assert!(printed.contains("does not stand deep enough in the chain yet"), "{printed}");
    let mined: serde_json::Value = anvil.rpc().call("anvil_mine", serde_json::json!(["0x64"])).await.unwrap();
    assert!(mined.is_null());
    let (_, printed) = deep("100");
    assert!(printed.contains("ok         chain (1): the heads are on the chain"), "{printed}");

    let mut other = anchored.clone();
    other.anchors[0].transaction = format!("0x{}", "ab".repeat(32));
    let (code, printed) = verify(&other);
    assert_eq!(code, 1);
    assert!(printed.contains("is on the chain by another transaction"), "{printed}");

    // The notice comes after the statement, and so leaves it valid; what is made after the notice is not.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kid = secret(2).kid();
    let notice = evm.notify(&account(9), 0, KEY_REVOKED, kid, "https://regulator.example/1", kid).await;
    assert!(notice.unwrap().succeeded);
    assert_eq!(verify(&anchored).0, 0);
    let (code, printed) = verify(&bundle(now() + 60, now() + 120));
    assert_eq!(code, 1);
    assert!(printed.contains("statement 1: a regulator revoked its key on the chain"), "{printed}");
    assert_eq!(verify(&bundle(start - 60, now() + 120)).0, 2, "perhaps before, perhaps after");
}

#[tokio::test]
async fn a_node_that_is_gone_or_of_another_chain_is_not_taken_for_an_answer() {
    let anvil = Anvil::start(0).await;
    let whole = bundle(1_795_000_000, 1_795_000_060).to_string();
    let desk = Desk::new();
    let trust = trust(&format!("0x{:040x}", 1)).replace("chain 31337", "chain 1");
    desk.put("trust", trust.as_bytes());
    let (code, printed) = read(&desk, whole.as_bytes(), &["--rpc", &anvil.url]);
    assert_eq!(code, 2);
    assert!(printed.contains("chain 31337, of which the trust file names no contract"), "{printed}");
    let url = anvil.url.clone();
    drop(anvil);
    let (code, printed) = read(&desk, whole.as_bytes(), &["--rpc", &url]);
    assert_eq!(code, 2);
    assert!(printed.contains("the chain could not be asked"), "{printed}");
}

async fn anchor(evm: &Evm, head: &Head) -> Hash {
    let administrator = account(2);
    evm.register(&account(1), 0, &head.origin, administrator.address()).await.unwrap();
    let terms = Terms { nonce: evm.nonce(administrator.address()).await.unwrap(), gas_price: 0 };
    let ticket = evm.ticket(&administrator, terms, head, &[]).unwrap();
    evm.submit(&ticket).await.unwrap();
    for _ in 0..100 {
        if let Some(receipt) = evm.receipt(ticket.transaction).await.unwrap() {
            assert!(receipt.succeeded);
            return ticket.transaction;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not mined");
}
