//! Witnesses over HTTP: cosignatures are kept, and nothing is signed below what a witness has seen.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what it expects by failing"
)]

mod database;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, web};
use server::{
    jobs::{
        sequencer::{self, Sequencer, VouchedHead},
        witnesses::{self, Answers},
    },
    service::{
        keys::Keys,
        ledger::{Halt, Ledger},
    },
};
use store::{Store, ledger as rows};
use trace::{
    hash::{Hash, sha256},
    keys::SecretKey,
    merkle,
    tlog::{
        checkpoint::Checkpoint,
        cosignature,
        note::{Algorithm, Note, SignerKey},
        policy::Policy,
        witness::AddCheckpoint,
    },
};

const ORIGIN: &str = "log.example/demo/2026";

/// What the witness has cosigned last.
type Memory = Arc<Mutex<(u64, Hash)>>;

fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey { name: name.parse().unwrap(), secret: SecretKey::from_seed(&[seed; 32]) }
}

/// A witness by the letter of C2SP tlog-witness, with its memory in the test's hands. Returns its URL.
fn witness(memory: &Memory) -> String {
    let memory = Arc::clone(memory);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(Arc::clone(&memory)))
            .route("/add-checkpoint", web::post().to(add_checkpoint))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

async fn add_checkpoint(memory: web::Data<Memory>, body: String) -> HttpResponse {
    let Ok(asked) = body.parse::<AddCheckpoint>() else { return HttpResponse::BadRequest().finish() };
    let Ok(head) = Checkpoint::open(&asked.checkpoint, &signer(ORIGIN, 1).verifier()) else {
        return HttpResponse::Forbidden().finish();
    };
    let mut last = memory.lock().unwrap();
    if asked.old_size != last.0 || (last.0 == head.size && last.1 != head.root) {
        return HttpResponse::Conflict().body(format!("{}\n", last.0));
    }
    if merkle::verify_consistency(last.0, &last.1, head.size, &head.root, &asked.proof).is_err() {
        return HttpResponse::UnprocessableEntity().finish();
    }
    *last = (head.size, head.root);
    let line = cosignature::cosign(&asked.checkpoint.text, 1_800_000_000, &signer("witness.example/w1", 9));
    HttpResponse::Ok().body(format!("{line}\n"))
}

async fn ledger(database: &str, url: &str) -> Option<Arc<Ledger>> {
    let database = database::fresh(database).await?;
    let key = signer("witness.example/w1", 9).verifier_as(Algorithm::CosignatureV1);
    Some(open(&database, &format!("witness w1 {key} {url}\nquorum w1\n")).await)
}

/// A server's ledger over the database.
async fn open(database: &str, policy: &str) -> Arc<Ledger> {
    let policy: Policy = policy.parse().unwrap();
    let store = Store::open(database, 8).unwrap();
    Arc::new(Ledger::open(store, "log.example", "demo", [signer(ORIGIN, 1)], policy).await.unwrap())
}

/// Names a witness by number; its key needs no process.
fn witness_key(number: u8) -> SignerKey {
    signer(&format!("witness.example/w{number}"), 8 + number)
}

/// `quorum` of `count` witnesses that nobody asks.
fn silent_policy(count: u8, quorum: u8) -> String {
    let line = |number| {
        let key = witness_key(number).verifier_as(Algorithm::CosignatureV1);
        format!("witness w{number} {key}\n")
    };
    let names: Vec<String> = (1..=count).map(|number| format!("w{number}")).collect();
    let lines: String = (1..=count).map(line).collect();
    format!("{lines}group all {quorum} {}\nquorum all\n", names.join(" "))
}

/// Keeps a cosignature as if the witness had answered it.
async fn cosigned_by(ledger: &Ledger, number: u8, size: i64) {
    let mut conn = ledger.store().connection().await.unwrap();
    let checkpoint = rows::checkpoint(&mut conn, ledger.open_log().id, size).await.unwrap().unwrap();
    let note: Note = checkpoint.note.parse().unwrap();
    let line = cosignature::cosign(&note.text, 1_800_000_000, &witness_key(number)).to_string();
    let (log_id, witness, at) = (ledger.open_log().id, format!("w{number}"), chrono::Utc::now());
    rows::insert_cosignature(&mut conn, &rows::Cosignature { log_id, size, witness, line, at })
        .await
        .unwrap();
}

/// Lets time pass: every head was signed so much earlier.
async fn age(database: &str, seconds: u32) {
    let (client, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let statement = format!("update checkpoint set signed_at = signed_at - interval '{seconds} seconds'");
    client.batch_execute(&statement).await.unwrap();
}

async fn published_size(ledger: &Ledger) -> Option<u64> {
    let mut conn = ledger.store().connection().await.unwrap();
    let note = ledger.published(&mut conn, &ledger.open_log()).await.unwrap()?;
    Some(note.text.parse::<Checkpoint>().unwrap().size)
}

async fn grow(ledger: &Arc<Ledger>, sequencer: &mut Sequencer, numbers: std::ops::Range<u32>) {
    let entries: Vec<Vec<u8>> =
        numbers.map(|number| sha256(&number.to_be_bytes()).as_bytes().to_vec()).collect();
    let mut conn = ledger.store().connection().await.unwrap();
    rows::queue_all(&mut conn, &entries).await.unwrap();
    sequencer.step().await.unwrap();
}

/// What a sequencer needs to seal its log: here it never does.
fn keys() -> Arc<Keys> {
    Arc::new(Keys::from_seeds("demo", &[1; 32], &[2; 32], &[3; 32]))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_head_is_cosigned_in_turn_and_then_published() {
    let memory: Memory = Arc::new(Mutex::new((0, merkle::empty_root())));
    let url = witness(&memory);
    let Some(ledger) = ledger("witness_in_turn", &url).await else { return };
    let http = reqwest::Client::new();
    let mut known = BTreeMap::new();
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
    let mut conn = ledger.store().connection().await.unwrap();
    for (from, to) in [(0, 3), (3, 300), (300, 301)] {
        grow(&ledger, &mut sequencer, from..to).await;
        let before = ledger.published(&mut conn, &ledger.open_log()).await.unwrap();
        let size = |note: &trace::tlog::note::Note| note.text.parse::<Checkpoint>().unwrap().size;
        assert!(before.is_none_or(|note| size(&note) == u64::from(from)), "not yet witnessed, not yet shown");
        witnesses::ask_all(&ledger, &http, &mut known).await.unwrap();
        let note = ledger.published(&mut conn, &ledger.open_log()).await.unwrap().unwrap();
        assert_eq!(size(&note), u64::from(to));
        assert!(ledger.meets_policy(&ledger.open_log(), &note));
        assert_eq!(ledger.seen(&mut conn).await.unwrap().unwrap().size, u64::from(to));
    }
    // A server that forgot what the witness knows learns it from the 409.
    grow(&ledger, &mut sequencer, 301..310).await;
    known.insert((ledger.open_log().id, "w1".to_owned()), 5);
    witnesses::ask_all(&ledger, &http, &mut known).await.unwrap();
    assert_eq!(memory.lock().unwrap().0, 310);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_does_not_sign_below_what_a_witness_has_seen() {
    let memory: Memory = Arc::new(Mutex::new((0, merkle::empty_root())));
    let url = witness(&memory);
    let Some(ledger) = ledger("witness_backup", &url).await else { return };
    let http = reqwest::Client::new();
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
    let (size, root) = (sequencer.size(), sequencer.root());
    assert_eq!(
        witnesses::ask_for_head(&ledger, &ledger.open_log(), &http, size, root).await,
        Answers::Agree,
        "an empty log"
    );
    grow(&ledger, &mut sequencer, 0..7).await;
    let (size, root) = (sequencer.size(), sequencer.root());
    assert_eq!(witnesses::ask_for_head(&ledger, &ledger.open_log(), &http, size, root).await, Answers::Agree);
    assert_eq!(
        witnesses::ask_for_head(&ledger, &ledger.open_log(), &http, size, root).await,
        Answers::Agree,
        "asked twice"
    );
    drop(sequencer);

    // The witness has seen more than this database holds, then as much but another history.
    *memory.lock().unwrap() = (9, Hash([9; 32]));
    let beyond = |size| Answers::Beyond { who: "w1".to_owned(), size };
    assert_eq!(witnesses::ask_for_head(&ledger, &ledger.open_log(), &http, size, root).await, beyond(9));
    *memory.lock().unwrap() = (7, Hash([9; 32]));
    assert_eq!(witnesses::ask_for_head(&ledger, &ledger.open_log(), &http, size, root).await, beyond(7));
    *memory.lock().unwrap() = (5, Hash([9; 32]));
    assert_eq!(witnesses::ask_for_head(&ledger, &ledger.open_log(), &http, size, root).await, beyond(5));

    // The job says so, serves and accepts, but leaves the queue alone; `--head` overrides.
    let mut conn = ledger.store().connection().await.unwrap();
    rows::queue(&mut conn, sha256(b"waits").as_bytes()).await.unwrap();
    let beat = Duration::from_millis(20);
    let guard = |vouched| sequencer::Guard { http: http.clone(), chains: Arc::default(), vouched };
    let guarded = tokio::spawn(sequencer::run(Arc::clone(&ledger), keys(), beat, guard(None)));
    let halted = || matches!(ledger.halt(), Some(Halt::Behind { .. }));
    for _ in 0..200 {
        if halted() {
            break;
        }
        tokio::time::sleep(beat).await;
    }
    assert!(halted());
    assert!(!ledger.not_ready().await.unwrap().is_empty());
    assert_eq!(rows::queue_state(&mut conn).await.unwrap().0, 1);
    guarded.abort();
    let vouched: VouchedHead = format!("{size}:{root}").parse().unwrap();
    let overridden = tokio::spawn(sequencer::run(Arc::clone(&ledger), keys(), beat, guard(Some(vouched))));
    for _ in 0..500 {
        if rows::queue_state(&mut conn).await.unwrap().0 == 0 {
            break;
        }
        tokio::time::sleep(beat).await;
    }
    assert_eq!(ledger.head(&mut conn, ledger.open_log().id).await.unwrap().0, 8);
    overridden.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_once_is_never_followed_by_less() {
    let Some(database) = database::fresh("witness_published").await else { return };
    let ledger = open(&database, &silent_policy(1, 1)).await;
    // Another server, over the same database.
    let other = open(&database, &silent_policy(1, 1)).await;
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
    grow(&ledger, &mut sequencer, 0..3).await;
    assert_eq!(published_size(&ledger).await, None, "it waits for a witness");
    let (mut shown, mut latest) = (None, Vec::new());
    // The witness is away for minutes, then answers for heads that are older than what was shown meanwhile.
    for (round, cosigned) in [(1, None), (2, None), (3, Some(9)), (4, Some(12)), (5, None), (6, Some(21))] {
        age(&database, 45).await;
        grow(&ledger, &mut sequencer, round * 3..round * 3 + 3).await;
        if let Some(size) = cosigned {
            cosigned_by(&ledger, 1, size).await;
        }
        for server in [&ledger, &other] {
            let now = published_size(server).await;
            assert!(now >= shown, "round {round}: {now:?} was shown after {shown:?}");
            shown = now;
        }
        latest.push(shown);
    }
    assert_eq!(latest, [None, Some(3), Some(9), Some(12), Some(12), Some(21)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_enough_have_cosigned_stays_so_while_one_runs_ahead() {
    let Some(database) = database::fresh("witness_ahead").await else { return };
    let ledger = open(&database, &silent_policy(3, 2)).await;
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
    let mut conn = ledger.store().connection().await.unwrap();
    grow(&ledger, &mut sequencer, 0..1).await;
    cosigned_by(&ledger, 1, 1).await;
    assert!(ledger.witnessed(&mut conn, &ledger.open_log()).await.unwrap().is_none(), "one of two");
    cosigned_by(&ledger, 3, 1).await;
    for number in 1..100 {
        grow(&ledger, &mut sequencer, number..number + 1).await;
        cosigned_by(&ledger, 1, i64::from(number) + 1).await;
    }
    let size = |found: Option<(rows::Checkpoint, Note)>| found.map(|(checkpoint, _)| checkpoint.size);
    assert_eq!(size(ledger.witnessed(&mut conn, &ledger.open_log()).await.unwrap()), Some(1));
    assert_eq!(size(ledger.witnessed_covering(&mut conn, ledger.open_log().id, 1).await.unwrap()), None);
    cosigned_by(&ledger, 2, 99).await;
    assert_eq!(size(ledger.witnessed_covering(&mut conn, ledger.open_log().id, 1).await.unwrap()), Some(99));
    assert_eq!(size(ledger.witnessed(&mut conn, &ledger.open_log()).await.unwrap()), Some(99));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_witness_keeps_the_log_from_signing_after_a_start() {
    let Some(ledger) = ledger("witness_silent", "http://127.0.0.1:9").await else { return };
    let answers = witnesses::ask_for_head(
        &ledger,
        &ledger.open_log(),
        &reqwest::Client::new(),
        0,
        merkle::empty_root(),
    )
    .await;
    assert_eq!(answers, Answers::Nobody);
}
