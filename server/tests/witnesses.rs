//! Witnesses over HTTP: cosignatures are kept, and nothing is signed below what a witness has seen.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what it expects by failing"
)]

mod database;
mod witnessing;

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use server::{
    jobs::{
        sequencer::{self, Sequencer, VouchedHead},
        witnesses::{self, Answers, Asker},
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
        note::{Note, SignerKey},
        policy::Policy,
    },
};
use witnessing::{Witness, witness_key};

const ORIGIN: &str = "log.example/demo/2026";
const PATIENCE: Duration = Duration::from_secs(5);

fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey { name: name.parse().unwrap(), secret: SecretKey::from_seed(&[seed; 32]) }
}

/// The witness with this number, that has cosigned `head` already.
fn one(number: u8, head: Option<(u64, Hash)>) -> Witness {
    let head = head.map(|(size, root)| Checkpoint { origin: ORIGIN.to_owned(), size, root });
    Witness::start(number, vec![signer(ORIGIN, 1).verifier()], head)
}

/// Accepts, and never answers.
fn hung() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept() {
            kept.push(connection);
        }
    });
    url
}

/// Answers 200 to everything, with what is no cosignature.
fn nonsense() -> String {
    async fn answer() -> HttpResponse {
        HttpResponse::Ok().body("\u{2014} witness.example/w3 AAAA\nand more\n")
    }
    let server = HttpServer::new(|| App::new().default_service(web::to(answer)));
    let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

/// A server's ledger over the database.
async fn open(database: &str, policy: &str) -> Arc<Ledger> {
    let policy: Policy = policy.parse().unwrap();
    let store = Store::open(database, 8).unwrap();
    Arc::new(Ledger::open(store, "log.example", "demo", [signer(ORIGIN, 1)], policy).await.unwrap())
}

/// The first witness is enough.
fn only(url: &str) -> String {
    format!("witness w1 {} {url}\nquorum w1\n", Witness::key(1))
}

/// `quorum` of `count` witnesses that nobody asks.
fn silent_policy(count: u8, quorum: u8) -> String {
    let line = |number| format!("witness w{number} {}\n", Witness::key(number));
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

async fn execute(database: &str, statements: &str) {
    let (client, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(statements).await.unwrap();
}

/// Lets time pass: every head was signed so much earlier.
async fn age(database: &str, seconds: u32) {
    let earlier = format!("update checkpoint set signed_at = signed_at - interval '{seconds} seconds'");
    execute(database, &earlier).await;
}

/// Postgres frees a lock a moment after its connection is gone.
async fn lead_again(ledger: &Ledger) -> Asker<'_> {
    for _ in 0..500 {
        if let Some(asker) = Asker::lead(ledger, reqwest::Client::new()).await.unwrap() {
            return asker;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody asks any more");
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
    let witness = one(1, None);
    let Some(database) = database::fresh("witness_in_turn").await else { return };
    let ledger = open(&database, &only(&witness.url)).await;
    let mut asker = Asker::lead(&ledger, reqwest::Client::new()).await.unwrap().unwrap();
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
    let mut conn = ledger.store().connection().await.unwrap();
    for (from, to) in [(0, 3), (3, 300), (300, 301)] {
        grow(&ledger, &mut sequencer, from..to).await;
        let before = ledger.published(&mut conn, &ledger.open_log()).await.unwrap();
        let size = |note: &trace::tlog::note::Note| note.text.parse::<Checkpoint>().unwrap().size;
        assert!(before.is_none_or(|note| size(&note) == u64::from(from)), "not yet witnessed, not yet shown");
        asker.ask_all(PATIENCE).await.unwrap();
        let note = ledger.published(&mut conn, &ledger.open_log()).await.unwrap().unwrap();
        assert_eq!(size(&note), u64::from(to));
        assert!(ledger.meets_policy(&ledger.open_log(), &note));
        assert_eq!(ledger.seen(&mut conn).await.unwrap().unwrap().size, u64::from(to));
    }
    // A database that lost the witness's lines learns from the 409 what it knows.
    execute(&database, "delete from cosignature").await;
    drop(asker);
    let mut asker = lead_again(&ledger).await;
    grow(&ledger, &mut sequencer, 301..310).await;
    asker.ask_all(PATIENCE).await.unwrap();
    assert_eq!(witness.newest(ORIGIN), 310);
    assert_eq!(published_size(&ledger).await, Some(310));
    witness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_does_not_sign_below_what_a_witness_has_seen() {
    let witness = one(1, None);
    let Some(database) = database::fresh("witness_backup").await else { return };
    let ledger = open(&database, &only(&witness.url)).await;
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
    witness.stop().await;

    // The witness has seen as much of another history, then less of one, then more than this database holds.
    let mut last = None;
    for seen in [7, 5, 9] {
        let witness = one(1, Some((seen, Hash([9; 32]))));
        let ledger = open(&database, &only(&witness.url)).await;
        let beyond = Answers::Beyond { who: "w1".to_owned(), size: seen };
        assert_eq!(witnesses::ask_for_head(&ledger, &ledger.open_log(), &http, size, root).await, beyond);
        last = Some((ledger, witness));
    }
    let (ledger, witness) = last.unwrap();

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
    witness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enough_of_them_cosign_within_the_interval_whatever_the_others_do() {
    const INTERVAL: Duration = Duration::from_secs(2);
    let Some(database) = database::fresh("witness_others").await else { return };
    let good = [4, 5, 6, 7].map(|number| one(number, None));
    let mut urls = vec![hung(), "http://127.0.0.1:9".to_owned(), nonsense()];
    urls.extend(good.iter().map(|witness| witness.url.clone()));
    let mut policy = String::new();
    for (number, url) in (1..).zip(&urls) {
        policy = format!("{policy}witness w{number} {} {url}\n", Witness::key(number));
    }
    policy.push_str("group all 3 w1 w2 w3 w4 w5 w6 w7\nquorum all\n");
    let ledger = open(&database, &policy).await;
    // What one of the good ones answers cannot be kept.
    execute(
        &database,
        "create function refuse() returns trigger language plpgsql as \
         $$ begin if new.witness = 'w4' then raise 'not now'; end if; return new; end $$;
         create trigger refuse before insert on cosignature for each row execute function refuse();",
    )
    .await;
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
    let asking = tokio::spawn(witnesses::run(Arc::clone(&ledger), reqwest::Client::new(), INTERVAL));
    for round in 0..3 {
        grow(&ledger, &mut sequencer, round * 5..round * 5 + 5).await;
        let (size, signed) = (u64::from(round) * 5 + 5, Instant::now());
        while published_size(&ledger).await < Some(size) {
            assert!(signed.elapsed() < INTERVAL + INTERVAL / 2, "head {size} is not witnessed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let mut conn = ledger.store().connection().await.unwrap();
    let outside = ledger.outside(&mut conn).await.unwrap();
    let missing: Vec<_> = outside.witnesses.iter().filter(|witness| witness.is_missing).collect();
    assert_eq!(
        missing.iter().map(|witness| witness.name.as_str()).collect::<Vec<_>>(),
        ["w1", "w2", "w3", "w4"]
    );
    assert!(missing.iter().all(|witness| witness.size.is_none()));

    // One more falls away: two are not three, and the head waits.
    let [w4, w5, w6, w7] = good;
    w7.stop().await;
    grow(&ledger, &mut sequencer, 15..20).await;
    while w5.newest(ORIGIN) < 20 || w6.newest(ORIGIN) < 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(published_size(&ledger).await, Some(15), "two of three");
    asking.abort();
    for witness in [w4, w5, w6] {
        witness.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_asks_and_another_takes_over_when_its_connection_ends() {
    let witness = one(1, None);
    let Some(database) = database::fresh("witness_one_asks").await else { return };
    let (first, second) =
        (open(&database, &only(&witness.url)).await, open(&database, &only(&witness.url)).await);
    let mut sequencer = Sequencer::lead(Arc::clone(&first)).await.unwrap().unwrap();
    grow(&first, &mut sequencer, 0..3).await;
    let mut asker = Asker::lead(&first, reqwest::Client::new()).await.unwrap().unwrap();
    assert!(Asker::lead(&second, reqwest::Client::new()).await.unwrap().is_none());
    execute(
        &database,
        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = x'7769746e'::int \
         and database = (select oid from pg_database where datname = current_database())",
    )
    .await;
    let mut other = lead_again(&second).await;
    assert!(asker.ask_all(PATIENCE).await.is_err(), "without the lock it asks nobody");
    assert_eq!(witness.newest(ORIGIN), 0);
    other.ask_all(PATIENCE).await.unwrap();
    assert_eq!(witness.newest(ORIGIN), 3);
    witness.stop().await;
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
    let Some(database) = database::fresh("witness_silent").await else { return };
    let ledger = open(&database, &only("http://127.0.0.1:9")).await;
    let (log, http) = (ledger.open_log(), reqwest::Client::new());
    let answers = witnesses::ask_for_head(&ledger, &log, &http, 0, merkle::empty_root()).await;
    assert_eq!(answers, Answers::Nobody);
}
