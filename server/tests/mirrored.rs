//! `suyuan-auditor mirror` against a real house: over the year's end, and after all of its history was written anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod anchoring;
mod database;
mod farm;
mod house;
#[path = "../../contracts/tests/node/mod.rs"]
mod node;
mod served;
mod witnessing;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    web::{self, Data},
};
use anchoring::{AT_ONCE, Dev, World};
use auditor::mirror::{self, Alarm, Mirror, MirrorError, Source};
use chrono::Utc;
use farm::Farm;
use node::{CHAIN_ID, account};
use server::{
    app::AppState,
    jobs::{
        sequencer::{Sequencer, seal::announce},
        witnesses::Asker,
    },
    service::{fsck, keys::write_secret, proof},
};
use store::ledger as rows;
use trace::{
    bundle::{Bundle, Signed},
    keys::SecretKey,
    record::{
        Body, Draft, Record, issue,
        statement::{NewLog, Statement},
    },
    tlog::{
        note::{SignerKey, VerifierKey},
        policy::Policy,
    },
};
use witnessing::Witness;

const OLD: &str = "localhost/suyuan/2026";
const NEW: &str = "localhost/suyuan/2027";
const PATIENCE: Duration = Duration::from_secs(5);

fn signer(origin: &str, seed: u8) -> SignerKey {
    SignerKey { name: origin.parse().unwrap(), secret: SecretKey::from_seed(&[seed; 32]) }
}

/// The key with which a house signs the old log.
fn old_log() -> VerifierKey {
    signer(OLD, 4).verifier()
}

/// What an operator adds to the command line who has the next log's key, and whose heads a witness sees.
fn told(directory: &Path, next: &SignerKey, witness: Option<&Witness>) -> Vec<String> {
    let key = directory.join("next-log.key");
    write_secret(&key, &next.to_secret_text()).unwrap();
    let mut told = vec!["--log-key-file".to_owned(), key.display().to_string()];
    if let Some(witness) = witness {
        let policy = directory.join("policy");
        let text = format!("witness w1 {} {}\nquorum w1\n", Witness::key(1), witness.url);
        std::fs::write(&policy, text).unwrap();
        told.extend(["--witness-policy-file".to_owned(), policy.display().to_string()]);
    }
    told
}

/// A farm that is served, and its files.
struct Site {
    farm: Farm,
    url: String,
    database: String,
    directory: PathBuf,
    witness: Option<Witness>,
}

impl Site {
    /// `None`, loudly, without a cluster.
    async fn open(name: &str, next: &SignerKey, is_witnessed: bool) -> Option<Self> {
        let database = database::fresh(name).await?;
        let directory =
            std::env::temp_dir().join(format!("suyuan-mirrored-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&directory).unwrap();
        let witness = is_witnessed.then(|| Witness::start(1, vec![old_log(), next.verifier()], None));
        let state = house::state_told(&database, &told(&directory, next, witness.as_ref())).await;
        let farm = Farm::begin(state).await;
        let url = served::listen(&farm.state);
        Some(Self { farm, url, database, directory, witness })
    }

    /// What waits is logged, and shown to the witness.
    async fn log(&mut self) {
        self.farm.log().await;
        if self.witness.is_some() {
            let mut asker = asker(&self.farm.state).await;
            asker.ask_all(PATIENCE).await.unwrap();
        }
    }

    async fn harvest(&mut self, lot: &str) {
        self.farm.harvest(lot).await;
        self.log().await;
    }

    async fn announce(&mut self, next: &SignerKey) {
        let state = &self.farm.state;
        announce(&state.ledger, &state.keys, &next.verifier(), Utc::now()).await.unwrap();
        self.log().await;
    }

    /// The year ends: the old log is sealed, the next opened.
    async fn seal(self) -> Self {
        let Farm { state, sequencer } = self.farm;
        let mut conn = state.store.connection().await.unwrap();
        state.ledger.refresh(&mut conn).await.unwrap();
        let next = state.ledger.logs().iter().find(|log| log.origin == NEW).cloned().unwrap();
        sequencer.seal(&state.keys, &next).await.unwrap();
        let sequencer = lead(&state).await;
        let mut site = Self { farm: Farm { state, sequencer }, ..self };
        site.log().await;
        site
    }

    /// Entries of the open log.
    async fn size(&self) -> u64 {
        let mut conn = self.farm.state.store.connection().await.unwrap();
        let ledger = &self.farm.state.ledger;
        ledger.head(&mut conn, ledger.open_log().id).await.unwrap().0
    }

    /// Whom a reader believes who has heard of the old log's key only.
    fn trust(&self, more: &str) -> Policy {
        let registrar = self.farm.state.keys.registrar().kid();
        format!("log {}\n{more}registrar {registrar}\n", old_log()).parse().unwrap()
    }

    fn witness_line(&self) -> String {
        format!("witness w1 {} {}\n", Witness::key(1), self.witness.as_ref().unwrap().url)
    }

    fn copy(&self) -> PathBuf {
        self.directory.join("copy")
    }

    /// What a reader gets who asks which log follows the first one.
    async fn next_log(&self) -> Bundle {
        let mut conn = self.farm.state.store.connection().await.unwrap();
        let first = rows::logs(&mut conn).await.unwrap().remove(0);
        let state = &self.farm.state;
        proof::of_next_log(&mut conn, &state.ledger, &state.keys, first.id).await.unwrap()
    }
}

/// Postgres frees a lock a moment after its connection is gone.
async fn lead(state: &AppState) -> Sequencer {
    for _ in 0..500 {
        if let Some(sequencer) = Sequencer::lead(Arc::clone(&state.ledger)).await.unwrap() {
            return sequencer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("another leads");
}

async fn asker(state: &AppState) -> Asker<'_> {
    for _ in 0..500 {
        if let Some(asker) = Asker::lead(&state.ledger, reqwest::Client::new()).await.unwrap() {
            return asker;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("another asks");
}

fn mirror<'a>(url: &'a str, directory: &'a Path, trust: &'a Policy) -> Mirror<'a> {
    Mirror {
        source: Source { url, http: reqwest::Client::new() },
        directory,
        trust,
        rpc: None,
        confirmations: 0,
        opened: None,
        witness_lead: Duration::ZERO,
        records: None,
    }
}

/// `suyuan-auditor mirror`, once: its exit status, and what it says.
async fn watch(url: &str, copy: &Path, trust: &Policy) -> (String, String) {
    let (url, copy, trust) = (url.to_owned(), copy.to_owned(), trust.clone());
    let watched = tokio::task::spawn_blocking(move || {
        let mut said = Vec::new();
        let code = mirror::watch(&mirror(&url, &copy, &trust), None, &mut said).unwrap();
        (format!("{code:?}"), String::from_utf8(said).unwrap())
    });
    watched.await.unwrap()
}

/// An exit status tells itself to nobody but the system.
fn status(code: u8) -> String {
    format!("{:?}", ExitCode::from(code))
}

/// The same with somebody else's word instead of the registrar's.
fn with_a_stranger(trust: &Policy) -> Policy {
    let mut other = trust.clone();
    other.registrars = vec![SecretKey::from_seed(&[66; 32]).kid()];
    other
}

/// What a path's beginning is answered with instead of what stands there; nothing is 404.
type Lies = Arc<Mutex<Vec<(&'static str, Option<String>)>>>;

/// Somebody between reader and log; answers the old log's prefix.
fn between(url: &str, lies: &Lies) -> String {
    async fn answer(told: Data<(String, Lies)>, request: HttpRequest) -> HttpResponse {
        let path = request.path().trim_start_matches("/suyuan/");
        let lies = told.1.lock().unwrap();
        match lies.iter().find(|(start, _)| path.starts_with(start)) {
            Some((_, Some(lie))) => HttpResponse::Ok().body(lie.clone()),
            Some((_, None)) => HttpResponse::NotFound().finish(),
            None => {
                let there = format!("{}/{path}", told.0);
                HttpResponse::TemporaryRedirect().insert_header(("Location", there)).finish()
            }
        }
    }
    let told = Data::new((url.rsplit_once('/').unwrap().0.to_owned(), Arc::clone(lies)));
    let server = HttpServer::new(move || App::new().app_data(told.clone()).default_service(web::to(answer)));
    let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
    let stands = format!("http://{}/suyuan/2026", server.addrs()[0]);
    tokio::spawn(server.run());
    stands
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_follows_into_the_next_log_and_goes_on_watching_both() {
    let next = signer(NEW, 5);
    let Some(mut site) = Site::open("mirror_year", &next, true).await else { return };
    let (copy, trust) = (site.copy(), site.trust(&format!("{}quorum w1\n", site.witness_line())));
    site.harvest("L1").await;
    let (code, said) = watch(&site.url, &copy, &trust).await;
    assert_eq!((code, said.lines().count()), (status(0), 1), "{said}");
    assert!(said.contains("1 witnesses (enough), 1 of 1 asked agree") && !said.contains("2027"), "{said}");

    site.announce(&next).await;
    let (code, said) = watch(&site.url, &copy, &trust).await;
    assert_eq!((code, said.contains(", localhost/suyuan/2027 is announced")), (status(0), true), "{said}");
    assert!(!copy.join("2027").exists(), "it has not begun");

    let mut site = site.seal().await;
    let (code, said) = watch(&site.url, &copy, &trust).await;
    assert_eq!((code, said.lines().count()), (status(0), 2), "{said}");
    assert!(said.contains(", sealed, followed by localhost/suyuan/2027\n"), "{said}");
    assert!(said.contains("ok         localhost/suyuan/2027 2 entries"), "{said}");

    site.harvest("L2").await;
    let entries = site.size().await;
    let (code, said) = watch(&site.url, &copy, &trust).await;
    assert_eq!((code, said.lines().count()), (status(0), 2), "{said}");
    assert!(entries > 2 && said.contains(&format!("localhost/suyuan/2027 {entries} entries")), "{said}");
    for path in ["checkpoint", "new-log", "2027/checkpoint", &format!("2027/tile/entries/000.p/{entries}")] {
        assert!(copy.join(path).exists(), "{path}");
    }

    // The new log is watched also where the old one does not answer any more.
    let without = between(&site.url, &Arc::new(Mutex::new(vec![("2026/", None)])));
    let (code, said) = watch(&without, &copy, &trust).await;
    assert_eq!(code, status(2), "{said}");
    assert!(said.starts_with("unchecked") && said.contains("ok         localhost/suyuan/2027"), "{said}");

    // A copy adds nothing to what its reader trusts.
    let (code, said) = watch(&site.url, &copy, &with_a_stranger(&trust)).await;
    assert_eq!((code, said.lines().count()), (status(2), 1), "{said}");
    assert!(said.contains("vouches for the next log no more"), "{said}");
    std::fs::remove_dir_all(&site.directory).unwrap();
}

/// The bundle with its first statement replaced by one that names another key, signed by `secret`.
fn forged(bundle: &Bundle, secret: &SecretKey) -> Bundle {
    let mut forged = bundle.clone();
    let Signed::Record { signed, .. } = &forged.items[0].signed else { panic!("a statement is no pack") };
    let claims = Record::parse(signed).unwrap().claims().clone();
    let named = NewLog { origin: NEW.to_owned(), vkey: signer(NEW, 77).verifier().to_string(), closed: None };
    let draft =
        Draft { claims, body: Body::Statement(Statement::NewLog(named)), act: None, event_hash: None };
    let issued = issue(draft, &[], || [9; 16], 0, secret).unwrap();
    forged.items[0].signed = Signed::Record { signed: issued.signed, disclosures: vec![] };
    forged.items[0].key = secret.public();
    forged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_log_that_nobody_vouches_for_is_an_alarm_and_is_not_followed() {
    let (next, other) = (signer(NEW, 5), signer(NEW, 77));
    let Some(mut site) = Site::open("mirror_forged", &next, false).await else { return };
    // Who has stolen all keys tells another history, in which the old log names a key of the thief's own.
    let Some(mut thief) = Site::open("mirror_thief", &other, false).await else { return };
    for (site, next) in [(&mut site, &next), (&mut thief, &other)] {
        site.harvest("L1").await;
        site.announce(next).await;
    }
    let (site, thief) = (site.seal().await, thief.seal().await);
    let lies: Lies = Arc::default();
    let url = between(&site.url, &lies);
    let (copy, trust) = (site.copy(), site.trust("quorum none\n"));
    let honest = site.next_log().await;
    let registrar = SecretKey::from_seed(&[1; 32]);
    assert_eq!(registrar.kid(), site.farm.state.keys.registrar().kid());
    let mut unnamed = honest.clone();
    unnamed.items.remove(0);
    for (why, lie, words) in [
        ("somebody's key", forged(&honest, &SecretKey::from_seed(&[78; 32])), "statement 0 at index"),
        ("the registrar's key, and not in the log", forged(&honest, &registrar), "statement 0 at index"),
        ("the old log does not say so", unnamed, "no registrar of the trust file says so in"),
        ("all keys, and another log", thief.next_log().await, "is another"),
    ] {
        *lies.lock().unwrap() = vec![("2026/new-log", Some(lie.to_string()))];
        let (code, said) = watch(&url, &copy, &trust).await;
        assert_eq!(code, status(1), "{why}: {said}");
        assert!(
            said.contains("nobody who is trusted vouches for it") && said.contains(words),
            "{why}: {said}"
        );
        let evidence = said.lines().find_map(|line| line.strip_prefix("evidence")).unwrap();
        assert!(std::fs::read_to_string(evidence.trim()).unwrap().contains(&lie.to_string()), "{why}");
        assert!(!copy.join("new-log").exists() && !copy.join("2027").exists(), "{why}");
    }
    let (code, said) = watch(&site.url, &copy, &with_a_stranger(&trust)).await;
    assert_eq!((code, copy.join("new-log").exists()), (status(1), false), "nobody's registrar: {said}");
    // What is no bundle at all contradicts nothing.
    *lies.lock().unwrap() = vec![("2026/new-log", Some("busy".to_owned()))];
    let (code, said) = watch(&url, &copy, &trust).await;
    assert_eq!((code, said.contains("could not be checked: what it gives")), (status(0), true), "{said}");
    assert!(!copy.join("new-log").exists());

    lies.lock().unwrap().clear();
    let (code, said) = watch(&url, &copy, &trust).await;
    assert_eq!((code, said.lines().count()), (status(0), 2), "{said}");
    // Followed once, the next log is held to its key: the thief's is not taken for it.
    let theirs = std::fs::read_to_string(copy.join("2027/checkpoint")).unwrap();
    let swapped = reqwest::get(format!("{}/checkpoint", thief.url.replace("2026", "2027"))).await.unwrap();
    let swapped = swapped.error_for_status().unwrap().text().await.unwrap();
    *lies.lock().unwrap() = vec![("2027/checkpoint", Some(swapped))];
    let (code, said) = watch(&url, &copy, &trust).await;
    assert_eq!(
        (code, said.contains("not one of a log that the trust file names")),
        (status(2), true),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(copy.join("2027/checkpoint")).unwrap(), theirs);
    for site in [site, thief] {
        std::fs::remove_dir_all(&site.directory).unwrap();
    }
}

/// What a superuser may do: another database takes the place of the house's.
async fn put_in_place(house: &str, other: &str) {
    let cluster = std::env::var("TEST_DATABASE_URL").unwrap();
    let name = |url: &str| url.rsplit_once('/').unwrap().1.to_owned();
    let (house, other) = (name(house), name(other));
    let (client, connection) = tokio_postgres::connect(&cluster, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for sql in [
        format!("drop database {house} with (force)"),
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{other}'"),
        format!("alter database {other} rename to {house}"),
    ] {
        client.batch_execute(&sql).await.unwrap();
    }
}

/// `suyuan fsck` without anything from outside.
fn fsck(site: &Site, trust: Policy) -> fsck::Report {
    let database_url = site.database.clone();
    let ask = fsck::Ask { database_url, trust, threads: 2, ..fsck::Ask::default() };
    std::thread::spawn(move || fsck::check(&ask, |_| {}).unwrap()).join().unwrap()
}

/// The alarm of a look, and what was kept as evidence.
async fn alarm(mirror: Mirror<'_>) -> (Alarm, String) {
    match mirror.look().await {
        Err(MirrorError::Raised { alarm, evidence }) => (alarm, std::fs::read_to_string(evidence).unwrap()),
        other => panic!("no alarm: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_was_written_anew_fits_itself_and_no_head_that_mirror_witness_and_chain_kept() {
    let next = signer(NEW, 5);
    let Some(mut site) = Site::open("anew_house", &next, true).await else { return };
    let Some(mut anew) = Site::open("anew_thief", &next, false).await else { return };
    site.harvest("L1").await;
    let dev = Dev::start().await;
    dev.evm.register(&account(1), 0, OLD, account(2).address()).await.unwrap();
    let trust = site.trust("quorum none\n");
    let by_witness = site.trust(&format!("{}quorum none\n", site.witness_line()));
    let by_chain = site.trust(&format!("quorum none\nchain {CHAIN_ID} {:#x}\n", dev.chain.contract));
    let copy = site.copy();
    let looked = mirror(&site.url, &copy, &by_witness).look().await.unwrap();
    assert_eq!((looked.asked.agree, looked.witnesses), (1, 1));
    let head = looked.head;
    let Site { farm: Farm { state, sequencer }, database, directory, witness, .. } = site;
    let world = World { ledger: Arc::clone(&state.ledger), sequencer, entries: 0, url: database.clone() };
    let mut sender = world.lead(&dev.chain).await;
    sender.step(AT_ONCE).await.unwrap();
    let anchored = world.until(&dev, &mut sender, "anchored").await;
    assert_eq!(u64::try_from(anchored.size).unwrap(), head.size);
    drop(sender);
    drop((world, state));

    // With every key of the house: another harvest from the first statement on, and one more.
    for lot in ["L2", "L3"] {
        anew.harvest(lot).await;
    }
    let lies = anew.size().await;
    assert!(lies > head.size);
    drop(anew.farm);
    put_in_place(&database, &anew.database).await;
    let state = house::state(&database).await;
    let sequencer = lead(&state).await;
    let url = served::listen(&state);
    let site = Site { farm: Farm { state, sequencer }, url, database, directory, witness };
    let report = fsck(&site, trust.clone());
    assert!(report.is_clean(), "{:?}", report.misfits);
    let alone = site.directory.join("alone");
    let looked = mirror(&site.url, &alone, &trust).look().await.unwrap();
    assert_eq!(looked.head.size, lies, "who asks nobody and kept nothing finds nothing");

    let root = trace::b64::std(head.root.as_bytes());
    let (found, evidence) = alarm(mirror(&site.url, &copy, &trust)).await;
    assert!(matches!(found, Alarm::OtherRoot { size } if size == head.size), "{found}");
    assert!(evidence.contains(&format!("{OLD}\n{}\n{root}\n", head.size)), "{evidence}");
    assert!(evidence.contains(&format!("{OLD}\n{lies}\n")), "{evidence}");

    let fresh = site.directory.join("witness");
    let (found, evidence) = alarm(mirror(&site.url, &fresh, &by_witness)).await;
    assert!(matches!(&found, Alarm::Witness { name, size } if name == "w1" && *size == lies), "{found}");
    assert!(evidence.contains(&format!("{OLD}\n{lies}\n")), "{evidence}");
    assert_eq!(site.witness.as_ref().unwrap().newest(OLD), head.size, "it cosigned one history");

    let fresh = site.directory.join("chain");
    let asked = Mirror { rpc: Some(&dev.anvil.url), ..mirror(&site.url, &fresh, &by_chain) };
    let (found, evidence) = alarm(asked).await;
    assert!(
        matches!(&found, Alarm::Chain { size, root, .. } if (*size, *root) == (head.size, head.root)),
        "{found}"
    );
    assert!(evidence.contains(&format!("size {}, root {}", head.size, head.root)), "{evidence}");
    for directory in [site.directory, anew.directory] {
        std::fs::remove_dir_all(directory).unwrap();
    }
}
