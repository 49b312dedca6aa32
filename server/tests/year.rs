//! A year's log is sealed and the next one opened: in one transaction, whatever is cut off, and for readers who trust only the
//! old one's key.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what it expects by failing"
)]

mod database;

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use server::{
    jobs::sequencer::{
        self, Guard, Sequencer,
        seal::{AnnounceError, announce},
    },
    service::{
        fsck,
        keys::{Keys, NewKey},
        ledger::{Ledger, LedgerError, LogState},
        proof::{self, Reader},
    },
};
use store::{Store, ledger as rows};
use trace::{
    bundle::{self, Verdict},
    hash::Hash,
    keys::{KeyRole, SecretKey},
    merkle,
    record::{Record, statement::Statement},
    tlog::{checkpoint::Checkpoint, note::Note, note::SignerKey, policy::Policy},
};

const OLD: &str = "log.example/demo/2026";
const NEW: &str = "log.example/demo/2027";

fn signer(origin: &str, seed: u8) -> SignerKey {
    SignerKey { name: origin.parse().unwrap(), secret: SecretKey::from_seed(&[seed; 32]) }
}

fn both() -> [SignerKey; 2] {
    [signer(OLD, 1), signer(NEW, 2)]
}

struct World {
    store: Store,
    url: String,
    ledger: Arc<Ledger>,
    keys: Arc<Keys>,
}

/// A founded ledger with a mill; `None`, loudly, where no cluster is configured.
async fn world(signers: impl IntoIterator<Item = SignerKey>) -> Option<World> {
    let url = database::fresh("year").await?;
    let store = Store::open(&url, 8).unwrap();
    let ledger =
        Ledger::open(store.clone(), "log.example", "demo", signers, Policy::default()).await.unwrap();
    ledger.set_halt(None);
    let keys = Arc::new(Keys::from_seeds("demo", &[11; 32], &[12; 32], &[13; 32]));
    let mut transaction = store.begin().await.unwrap();
    let operator = party(&mut transaction, "operator", "9521234000006").await;
    keys.found(&mut transaction, &operator).await.unwrap();
    transaction.commit().await.unwrap();
    Some(World { store, url, ledger: Arc::new(ledger), keys })
}

async fn party(conn: &mut store::Connection, role: &str, gln: &str) -> store::party::Party {
    let iss = format!("https://id.gs1.org/417/{gln}");
    let new = store::party::NewParty {
        slug: role,
        role: if role == "operator" { role } else { "maker" },
        iss: &iss,
        name: Some(role),
        county: None,
        company_prefix: None,
        person_id: None,
    };
    store::party::insert(conn, &new).await.unwrap()
}

impl World {
    async fn lead(&self) -> Sequencer {
        loop {
            match Sequencer::lead(Arc::clone(&self.ledger)).await {
                Ok(Some(sequencer)) => return sequencer,
                Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    async fn drain(&self) {
        let mut sequencer = self.lead().await;
        while sequencer.step().await.unwrap().is_some() {}
    }

    async fn announce(&self) {
        announce(&self.ledger, &self.keys, &signer(NEW, 2).verifier(), Utc::now()).await.unwrap();
    }

    async fn next(&self) -> server::service::ledger::Log {
        let mut conn = self.store.connection().await.unwrap();
        self.ledger.refresh(&mut conn).await.unwrap();
        let logs = self.ledger.logs();
        (**logs.iter().find(|log| log.state == LogState::Announced).unwrap()).clone()
    }

    async fn entries(&self, log_id: i16) -> Vec<Hash> {
        let mut conn = self.store.connection().await.unwrap();
        let rows = rows::entries_from(&mut conn, log_id, 0, 10_000).await.unwrap();
        rows.iter().map(|entry| Hash::from_slice(entry).unwrap()).collect()
    }

    async fn statement(&self, entry: &Hash) -> Statement {
        let mut conn = self.store.connection().await.unwrap();
        let row = store::record::by_entry(&mut conn, entry.as_bytes()).await.unwrap().unwrap();
        Record::parse(&row.signed).unwrap().statement().unwrap().unwrap()
    }

    /// Some statement of a day's work: here a mill whose key is enrolled.
    async fn enrol(&self, slug: &str, gln: &str) -> uuid::Uuid {
        let mut transaction = self.store.begin().await.unwrap();
        let mill = party(&mut transaction, slug, gln).await;
        let new =
            NewKey { party: &mill, role: KeyRole::Record, device_id: None, base_name: None, replaces: None };
        let kid = self.keys.enrol_platform(&mut transaction, &new).await.unwrap();
        let key = store::key::by_kid(&mut transaction, kid.as_bytes()).await.unwrap().unwrap();
        let by = key.enrolled_by.unwrap();
        let record = store::record::by_entry(&mut transaction, &by).await.unwrap().unwrap();
        transaction.commit().await.unwrap();
        record.jti
    }

    /// A check that keeps in `resume` how far it came; it is cut off (`None`) when it tells of progress in `until`.
    fn resumed(&self, resume: &std::path::Path, until: Option<&'static str>) -> Option<(fsck::Report, u64)> {
        let mut trust = Policy::default();
        trust.registrars.push(self.keys.registrar().kid());
        let resume = Some(resume.to_owned());
        let ask =
            fsck::Ask { database_url: self.url.clone(), trust, threads: 2, resume, ..fsck::Ask::default() };
        let cut = std::thread::spawn(move || {
            let mut ranges = 0;
            let report = fsck::check(&ask, |progress| {
                ranges += u64::from(progress.of == OLD || progress.of == NEW);
                assert!(until != Some(progress.of), "cut off, as it was meant to be");
            });
            (report.unwrap(), ranges)
        });
        cut.join().ok()
    }

    async fn sql(&self, sql: &str) {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap();
    }

    /// A mill in the old log, a yard in the new one.
    async fn two_logs(&self) {
        self.enrol("mill", "9521234000013").await;
        self.announce().await;
        self.drain().await;
        self.lead().await.seal(&self.keys, &self.next().await).await.unwrap();
        self.enrol("yard", "9521234000037").await;
        self.drain().await;
    }

    fn fsck(&self) -> fsck::Report {
        let mut trust = Policy::default();
        trust.registrars.push(self.keys.registrar().kid());
        let ask = fsck::Ask { database_url: self.url.clone(), trust, threads: 2, ..fsck::Ask::default() };
        std::thread::spawn(move || fsck::check(&ask, |_| {}).unwrap()).join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_log_ends_with_a_roster_and_the_next_begins_with_its_last_head() {
    let Some(world) = world(both()).await else { return };
    world.enrol("mill", "9521234000013").await;
    world.announce().await;
    world.drain().await;
    world.enrol("depot", "9521234000020").await;
    let old = world.ledger.open_log();
    world.lead().await.seal(&world.keys, &world.next().await).await.unwrap();

    let new = world.ledger.open_log();
    assert_eq!((old.origin.as_str(), new.origin.as_str()), (OLD, NEW));
    let sealed = world.entries(old.id).await;
    assert!(matches!(world.statement(sealed.last().unwrap()).await, Statement::Roster(_)));
    let first = world.entries(new.id).await;
    assert_eq!(first.len(), 2);
    let Statement::NewLog(opened) = world.statement(&first[0]).await else { panic!("not a new-log") };
    let closed: Note = opened.closed.unwrap().parse().unwrap();
    let last = Checkpoint::open(&closed, &old.verifier).unwrap();
    let leaves: Vec<Hash> = sealed.iter().map(merkle::leaf_hash).collect();
    assert_eq!((last.size, last.root), (u64::try_from(sealed.len()).unwrap(), merkle::root(&leaves)));
    assert!(matches!(world.statement(&first[1]).await, Statement::Roster(_)));

    world.enrol("yard", "9521234000037").await;
    world.drain().await;
    assert_eq!(world.entries(old.id).await, sealed, "what is queued later goes to the open log");
    assert!(world.entries(new.id).await.len() > 2);
    let report = world.fsck();
    assert!(report.is_clean() && report.logs == 2, "{:?}", report.misfits);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_log_takes_nothing_more_even_from_who_led_it() {
    let Some(world) = world(both()).await else { return };
    world.announce().await;
    world.drain().await;
    let old = world.ledger.open_log();
    let mut conn = world.store.connection().await.unwrap();
    let before = rows::head(&mut conn, old.id).await.unwrap();
    world.lead().await.seal(&world.keys, &world.next().await).await.unwrap();
    let head = rows::head(&mut conn, old.id).await.unwrap();
    assert!(head.size > before.size);
    let forged = rows::Checkpoint {
        log_id: old.id,
        size: head.size + 1,
        root: vec![7; 32],
        note: "forged".to_owned(),
        signed_at: Utc::now(),
    };
    assert!(!rows::swap_head(&mut conn, old.id, &head, &forged).await.unwrap());
    assert!(!rows::seal_log(&mut conn, old.id, Utc::now()).await.unwrap(), "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_that_is_cut_off_leaves_the_old_log_open_or_the_new_one_whole() {
    const ROUNDS: u32 = 100;
    let year = |round: u32| signer(&format!("log.example/demo/{}", 2026 + round), 1);
    let Some(world) = world((0..=ROUNDS).map(year)).await else { return };
    let (mut sealed, mut shortest) = (0, Duration::from_millis(40));
    for round in 0..ROUNDS {
        let next = year(sealed + 1);
        announce(&world.ledger, &world.keys, &next.verifier(), Utc::now()).await.unwrap();
        world.drain().await;
        let next = world.next().await;
        let leader = world.lead().await;
        let began = std::time::Instant::now();
        if round % 10 == 0 {
            leader.seal(&world.keys, &next).await.unwrap();
            shortest = shortest.min(began.elapsed());
        } else {
            let cut = tokio::time::sleep(shortest * (round * 37 % 100) / 100);
            tokio::select! {
                done = leader.seal(&world.keys, &next) => done.unwrap(),
                () = cut => {}
            }
        }
        world.drain().await;
        let open = world.ledger.open_log();
        let first = world.entries(open.id).await;
        if open.origin == next.origin {
            sealed += 1;
            assert!(matches!(world.statement(&first[0]).await, Statement::NewLog(_)));
            assert!(matches!(world.statement(&first[1]).await, Statement::Roster(_)));
        }
    }
    assert!((10..ROUNDS).contains(&sealed), "{sealed} of {ROUNDS} were sealed: the moments miss the sealing");
    let report = world.fsck();
    assert!(report.is_clean(), "{:?}", report.misfits);
    // The announced log, if there is one, is empty.
    assert!(report.logs > usize::try_from(sealed).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_trusts_only_the_old_logs_key_follows_into_the_new_one() {
    let Some(world) = world(both()).await else { return };
    let old = world.enrol("mill", "9521234000013").await;
    world.announce().await;
    world.drain().await;
    world.lead().await.seal(&world.keys, &world.next().await).await.unwrap();
    let new = world.enrol("yard", "9521234000037").await;
    world.drain().await;

    let trust = format!(
        "log {}\nquorum none\nregistrar {}\n",
        signer(OLD, 1).verifier(),
        world.keys.registrar().kid()
    );
    let trust: Policy = trust.parse().unwrap();
    let mut conn = world.store.connection().await.unwrap();
    for (jti, logs) in [(old, 1), (new, 2)] {
        let found =
            proof::of_record(&mut conn, &world.ledger, &world.keys, jti, Reader::Public).await.unwrap();
        let report = bundle::verify(&found, &trust);
        assert_eq!(found.checkpoints.len(), logs);
        assert_eq!(report.verdict, Verdict::Valid, "{:?}", report.layers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_announced_once_and_opened_when_its_time_has_come_by_who_has_its_key() {
    let Some(world) = world([signer(OLD, 1)]).await else { return };
    let next = signer(NEW, 2).verifier();
    let later = Utc::now() + TimeDelta::hours(1);
    announce(&world.ledger, &world.keys, &next, later).await.unwrap();
    announce(&world.ledger, &world.keys, &next, later).await.unwrap();
    let again = announce(&world.ledger, &world.keys, &signer(NEW, 3).verifier(), later).await;
    assert!(matches!(again, Err(AnnounceError::Announced(origin)) if origin == NEW));
    let known = announce(&world.ledger, &world.keys, &signer(OLD, 1).verifier(), later).await;
    assert!(matches!(known, Err(AnnounceError::Announced(_) | AnnounceError::Known(_))));
    let other = signer("log.example/other/2027", 4).verifier();
    let stranger = announce(&world.ledger, &world.keys, &other, later).await;
    assert!(matches!(stranger, Err(AnnounceError::OtherLedger(_))));

    // Its time is not yet: a leader with both keys goes on with the old one.
    let ledger = Ledger::open(world.store.clone(), "log.example", "demo", both(), Policy::default());
    let ledger = Arc::new(ledger.await.unwrap());
    let run = || {
        let guard = Guard { http: reqwest::Client::new(), chains: Arc::default(), vouched: None };
        sequencer::run(Arc::clone(&ledger), Arc::clone(&world.keys), Duration::from_millis(20), guard)
    };
    let stopped = tokio::time::timeout(Duration::from_secs(3), run()).await;
    assert!(stopped.is_err(), "the sequencer ends only when it has lost");
    assert_eq!(ledger.open_log().origin, OLD);
    let (client, connection) = tokio_postgres::connect(&world.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.execute("update log set opens_at = now() where state = 'announced'", &[]).await.unwrap();

    // Its time has come, but the key is not here: nothing is sealed.
    let guard = Guard { http: reqwest::Client::new(), chains: Arc::default(), vouched: None };
    let (keyless, keys) = (Arc::clone(&world.ledger), Arc::clone(&world.keys));
    let keyless = sequencer::run(keyless, keys, Duration::from_millis(20), guard);
    assert!(tokio::time::timeout(Duration::from_secs(3), keyless).await.is_err());
    assert_eq!(world.ledger.open_log().origin, OLD);

    let stopped = tokio::time::timeout(Duration::from_secs(6), run()).await;
    assert!(stopped.is_err());
    assert_eq!(ledger.open_log().origin, NEW);
    let without =
        Ledger::open(world.store.clone(), "log.example", "demo", [signer(OLD, 1)], Policy::default());
    assert!(matches!(without.await, Err(LedgerError::NoKey { origin }) if origin == NEW));
}

/// A file of the test's own that is not there yet.
fn state_file() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("suyuan-fsck-{}", uuid::Uuid::now_v7()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_was_cut_off_goes_on_in_the_next_log_and_says_the_same() {
    let Some(world) = world(both()).await else { return };
    world.two_logs().await;
    let (file, whole) = (state_file(), world.fsck());
    assert!(whole.is_clean() && whole.logs == 2, "{:?}", whole.misfits);
    assert!(world.resumed(&file, Some(NEW)).is_none());
    let (rest, ranges) = world.resumed(&file, None).unwrap();
    assert!(rest.is_clean(), "{:?}", rest.misfits);
    assert_eq!(ranges, 1, "the sealed log is not read again");
    assert!(rest.entries > 0 && rest.entries < whole.entries);
    assert_eq!((rest.logs, rest.keys), (whole.logs, whole.keys));

    // Done to the end, it goes on from there: only what came since is read.
    world.enrol("store", "9521234000044").await;
    world.drain().await;
    let (since, _) = world.resumed(&file, None).unwrap();
    assert!(since.is_clean() && since.entries == 1, "{:?}", since.misfits);

    // What it trusts: that what fitted is still there. A row before is for the whole check, or the sample, to see.
    world
        .sql("update record set grade = 'documented' where jti = (select min(jti::text)::uuid from record)")
        .await;
    assert!(world.resumed(&file, None).unwrap().0.is_clean());
    let whole = world.fsck();
    assert_eq!(whole.misfits.len(), 1);
    assert!(whole.misfits[0].at.starts_with(OLD), "{:?}", whole.misfits);
    let sampled = {
        let mut trust = Policy::default();
        trust.registrars.push(world.keys.registrar().kid());
        let ask = fsck::Ask { database_url: world.url.clone(), trust, ..fsck::Ask::default() };
        std::thread::spawn(move || fsck::sample(&ask, 10).unwrap()).join().unwrap()
    };
    assert_eq!(sampled.report.misfits, whole.misfits, "the sample looks at sealed and open logs");

    // A head that does not extend what was kept.
    world.sql("update head set root = set_byte(root, 0, get_byte(root, 0) # 1) where log_id = 1").await;
    let (report, _) = world.resumed(&file, None).unwrap();
    assert!(
        report.misfits.iter().any(|misfit| misfit.at == OLD && misfit.what.contains("head")),
        "{report:?}"
    );
    std::fs::remove_file(file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_written_anew_with_the_logs_own_key_fits_itself_and_not_what_was_kept_of_the_other() {
    let (Some(world), Some(anew)) = (world(both()).await, self::world(both()).await) else { return };
    world.two_logs().await;
    anew.two_logs().await;
    let file = state_file();
    assert!(world.resumed(&file, None).unwrap().0.is_clean());
    assert!(anew.fsck().is_clean(), "every byte of it is signed by the right keys");
    let (report, _) = anew.resumed(&file, None).unwrap();
    let heads: Vec<&str> =
        report.misfits.iter().filter(|one| one.what.contains("head")).map(|one| one.at.as_str()).collect();
    assert_eq!(heads, [OLD, NEW], "{:?}", report.misfits);
    std::fs::remove_file(file).unwrap();
}
