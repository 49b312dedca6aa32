//! The log against a real Postgres: what is queued is logged once, in one transaction, by one leader.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "a test says what it expects by failing, and its counts are small"
)]

mod database;

use std::{sync::Arc, task::Poll};

use server::{
    jobs::{
        roster,
        sequencer::{SequenceError, Sequencer},
    },
    service::{
        fsck,
        keys::{Keys, KeysError, NewKey},
        ledger::{Ledger, tree},
        proof::{self, Reader},
    },
};
use store::{Store, ledger as rows};
use trace::{
    bundle::{self, Verdict},
    hash::{Hash, sha256},
    keys::{KeyRole, SecretKey},
    merkle,
    record::statement::RevocationReason,
    tlog::{
        checkpoint::Checkpoint,
        cosignature,
        note::{Algorithm, Note, SignerKey},
        policy::Policy,
        tile::TilePath,
    },
};

const ORIGIN: &str = "log.example/demo/2026";

/// A database of the test's own; `None`, loudly, where no cluster is configured.
async fn fresh() -> Option<(Store, String)> {
    let url = database::fresh("log").await?;
    Some((Store::open(&url, 8).unwrap(), url))
}

fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey { name: name.parse().unwrap(), secret: SecretKey::from_seed(&[seed; 32]) }
}

async fn ledger(store: &Store, policy: Policy) -> Arc<Ledger> {
    let ledger =
        Ledger::open(store.clone(), "log.example", "demo", [signer(ORIGIN, 1)], policy).await.unwrap();
    ledger.set_halt(None);
    Arc::new(ledger)
}

fn entries(from: u32, to: u32) -> Vec<Vec<u8>> {
    (from..to).map(|number| sha256(&number.to_be_bytes()).as_bytes().to_vec()).collect()
}

async fn queue(store: &Store, from: u32, to: u32) {
    let mut conn = store.connection().await.unwrap();
    rows::queue_all(&mut conn, &entries(from, to)).await.unwrap();
}

fn naive_root(to: u32) -> Hash {
    let leaves: Vec<Hash> =
        entries(0, to).iter().map(|entry| merkle::leaf_hash(&Hash::from_slice(entry).unwrap())).collect();
    merkle::root(&leaves)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_is_logged_in_order_and_every_proof_holds() {
    let Some((store, _)) = fresh().await else { return };
    let ledger = ledger(&store, Policy::default()).await;
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
    assert_eq!(sequencer.step().await.unwrap(), None);
    for (from, to) in [(0, 1), (1, 255), (255, 256), (256, 700)] {
        queue(&store, from, to).await;
        assert_eq!(sequencer.step().await.unwrap(), Some(u64::from(to)));
        assert_eq!(sequencer.root(), naive_root(to), "size {to}");
    }
    // Full tiles only; partial ones are cut on request and hash to the same tree.
    let mut conn = store.connection().await.unwrap();
    let root = sequencer.root();
    for index in [0_u64, 1, 254, 255, 256, 511, 512, 699] {
        let proof = ledger.tree().inclusion_proof(&mut conn, ledger.open_log().id, 700, index).await.unwrap();
        let entry = Hash::from_slice(&entries(index as u32, index as u32 + 1)[0]).unwrap();
        merkle::verify_inclusion(&root, 700, index, &merkle::leaf_hash(&entry), &proof).unwrap();
    }
    for old in [1_u64, 255, 256, 257, 512, 699] {
        let proof = ledger.tree().consistency_proof(&mut conn, ledger.open_log().id, old, 700).await.unwrap();
        merkle::verify_consistency(old, &naive_root(old as u32), 700, &root, &proof).unwrap();
    }
    for (path, bytes) in [
        ("tile/0/000", Some(8192)),
        ("tile/0/002.p/188", Some(188 * 32)),
        ("tile/0/002.p/189", None),
        ("tile/0/002", None),
        ("tile/1/000.p/2", Some(64)),
        ("tile/2/000.p/1", None),
        ("tile/entries/001", Some(256 * 34)),
        ("tile/entries/002.p/188", Some(188 * 34)),
        ("tile/entries/003.p/1", None),
    ] {
        let found =
            ledger.tile(&mut conn, ledger.open_log().id, path.parse::<TilePath>().unwrap()).await.unwrap();
        assert_eq!(found.map(|found| found.len()), bytes, "{path}");
    }
    let note = ledger.published(&mut conn, &ledger.open_log()).await.unwrap().unwrap();
    let head = Checkpoint::open(&note, &ledger.open_log().verifier).unwrap();
    assert_eq!((head.size, head.root), (700, root));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_sequencer_goes_on_from_the_rows() {
    let Some((store, _)) = fresh().await else { return };
    let ledger = ledger(&store, Policy::default()).await;
    for (from, to) in [(0, 300), (300, 301), (301, 66_000)] {
        queue(&store, from, to).await;
        let mut sequencer = loop {
            // The lock of the one before goes when Postgres sees its connection closed.
            match Sequencer::lead(Arc::clone(&ledger)).await.unwrap() {
                Some(sequencer) => break sequencer,
                None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        while sequencer.step().await.unwrap().is_some() {}
        assert_eq!(sequencer.size(), u64::from(to));
        assert_eq!(sequencer.root(), naive_root(to));
    }
    let mut conn = store.connection().await.unwrap();
    let edge = tree::TreeReader::default().edge(&mut conn, ledger.open_log().id, 66_000).await.unwrap();
    assert_eq!(edge.frontier.root(), naive_root(66_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_before_the_commit_leaves_the_queue_as_it_was() {
    let Some((store, _)) = fresh().await else { return };
    let ledger = ledger(&store, Policy::default()).await;
    queue(&store, 0, 10).await;
    let mut session = store.session().await.unwrap();
    session.begin().await.unwrap();
    let taken = rows::take_pending(&mut session, 100).await.unwrap();
    assert_eq!(taken, entries(0, 10));
    rows::insert_entries(&mut session, ledger.open_log().id, 0, &taken).await.unwrap();
    drop(session);
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
    assert_eq!(sequencer.step().await.unwrap(), Some(10));
    assert_eq!(sequencer.root(), naive_root(10));
}

/// Cut off between any two of its steps, by a process that ends or by a database that drops the connection, hundreds of
/// times: never a gap, a duplicate, or a head that its entries do not give.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequencer_cut_off_at_any_moment_leaves_a_log_that_its_entries_give() {
    const ROUNDS: u32 = 300;
    let Some((store, url)) = fresh().await else { return };
    let ledger = ledger(&store, Policy::default()).await;
    let (admin, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let (mut queued, mut cut_off, mut stepped) = (0, 0, 0);
    let mut shortest = std::time::Duration::from_secs(1);
    for round in 0..ROUNDS {
        let more = 1 + round % 7 * (1 + round % 40);
        queue(&store, queued, queued + more).await;
        queued += more;
        let mut sequencer = lead(&ledger).await;
        if round % 5 == 0 {
            // A whole one in between, which also tells how long a step takes on this machine.
            let began = std::time::Instant::now();
            // The last round's kill may come as late as this.
            if sequencer.step().await.is_ok() {
                shortest = shortest.min(began.elapsed());
                stepped += 1;
            }
            continue;
        }
        // From at once to as long as a step takes.
        let moment = shortest * (round * 7919 % 100) / 100;
        let cut = async {
            tokio::time::sleep(moment).await;
            if round % 2 == 0 {
                let kill = "select pg_terminate_backend(l.pid) from pg_locks l join pg_database d on d.oid = l.database
                    where l.locktype = 'advisory' and d.datname = current_database()";
                admin.batch_execute(kill).await.unwrap();
                // The step is left to find out by itself.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            done = sequencer.step() => match done {
                Ok(_) => stepped += 1,
                Err(_) => cut_off += 1,
            },
            () = cut => cut_off += 1,
        }
    }
    assert!(cut_off > 10, "{cut_off} cut off, {stepped} whole: the moments miss the steps");
    let mut sequencer = lead(&ledger).await;
    while sequencer.step().await.unwrap().is_some() {}
    assert_eq!(sequencer.size(), u64::from(queued), "a gap or a duplicate");

    check_whole(&store, &ledger, queued, i64::from(ROUNDS) * 2).await;
}

/// Every entry once, and every head the root of its entries.
async fn check_whole(store: &Store, ledger: &Ledger, queued: u32, heads_max: i64) {
    let mut conn = store.connection().await.unwrap();
    let logged = rows::entries_from(&mut conn, ledger.open_log().id, 0, i64::from(queued) + 1).await.unwrap();
    let (mut expected, mut found) = (entries(0, queued), logged.clone());
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let heads = rows::newest_checkpoints(&mut conn, ledger.open_log().id, heads_max).await.unwrap();
    for head in &heads {
        let prefix = &logged[..usize::try_from(head.size).unwrap()];
        let leaves: Vec<Hash> =
            prefix.iter().map(|entry| merkle::leaf_hash(&Hash::from_slice(entry).unwrap())).collect();
        assert_eq!(merkle::root(&leaves).as_bytes().as_slice(), head.root, "the head of size {}", head.size);
    }
}

/// What `future` gives, or nothing where it would have waited more than `waits` times: then it is dropped where it stands.
async fn cut_off_after<F: Future>(waits: u32, future: F) -> Option<F::Output> {
    let (mut future, mut waited) = (Box::pin(future), 0);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if waited == waits => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

/// Not at some moments but at each: wherever a step waits for Postgres, it is dropped there, with tiles to write and a repeated
/// entry to drop.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequencer_dropped_wherever_it_waits_leaves_a_log_that_its_entries_give() {
    /// Several whole steps in a row: there is nowhere left to wait.
    const WHOLE: u32 = 5;
    let Some((store, _)) = fresh().await else { return };
    let ledger = ledger(&store, Policy::default()).await;
    let (mut queued, mut waits, mut whole) = (0, 0, 0);
    while whole < WHOLE {
        queue(&store, queued, queued + 300).await;
        queued += 300;
        if waits % 2 == 0 {
            queue(&store, queued - 3, queued).await;
        }
        let mut sequencer = lead(&ledger).await;
        match cut_off_after(waits, sequencer.step()).await {
            Some(done) => {
                done.unwrap();
                whole += 1;
            }
            None => whole = 0,
        }
        waits += 1;
    }
    // begin, take, entries, tiles, checkpoint, head, commit; and those of a batch that is written anew.
    assert!(waits - WHOLE >= 7, "a step waited only {} times", waits - WHOLE);
    let mut sequencer = lead(&ledger).await;
    while sequencer.step().await.unwrap().is_some() {}
    assert_eq!(sequencer.size(), u64::from(queued), "a gap or a duplicate");
    check_whole(&store, &ledger, queued, i64::from(queued)).await;
}

/// The lock of one that was cut off goes when Postgres sees its connection closed.
async fn lead(ledger: &Arc<Ledger>) -> Sequencer {
    loop {
        match Sequencer::lead(Arc::clone(ledger)).await {
            Ok(Some(sequencer)) => return sequencer,
            Ok(None) | Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_leads_and_a_lost_swap_writes_nothing() {
    let Some((store, _)) = fresh().await else { return };
    let ledger = ledger(&store, Policy::default()).await;
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
    assert!(Sequencer::lead(Arc::clone(&ledger)).await.unwrap().is_none(), "the lock is held");
    queue(&store, 0, 5).await;
    assert_eq!(sequencer.step().await.unwrap(), Some(5));
    // Somebody without the lock moves the head: the leader's next swap must lose, and keep nothing.
    let mut conn = store.connection().await.unwrap();
    let head = rows::head(&mut conn, ledger.open_log().id).await.unwrap();
    let forged = rows::Checkpoint {
        log_id: ledger.open_log().id,
        size: 6,
        root: vec![7; 32],
        note: "forged".to_owned(),
        signed_at: chrono::Utc::now(),
    };
    assert!(rows::swap_head(&mut conn, ledger.open_log().id, &head, &forged).await.unwrap());
    queue(&store, 5, 9).await;
    assert!(matches!(sequencer.step().await, Err(SequenceError::LostSwap)));
    drop(sequencer);
    assert_eq!(rows::queue_state(&mut conn).await.unwrap().0, 4);
    assert_eq!(rows::entries_from(&mut conn, ledger.open_log().id, 0, 100).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_queued_twice_stands_once_in_the_log() {
    let Some((store, _)) = fresh().await else { return };
    let ledger = ledger(&store, Policy::default()).await;
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
    queue(&store, 0, 5).await;
    queue(&store, 3, 8).await;
    assert_eq!(sequencer.step().await.unwrap(), Some(8));
    queue(&store, 0, 8).await;
    assert_eq!(sequencer.step().await.unwrap(), None);
    let mut conn = store.connection().await.unwrap();
    assert_eq!(rows::queue_state(&mut conn).await.unwrap().0, 0);
    assert_eq!(sequencer.root(), naive_root(8));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_cannot_change_or_remove_evidence() {
    let Some((_, url)) = fresh().await else { return };
    let refused = tokio::task::spawn_blocking(move || {
        let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
        client.batch_execute("set role app").unwrap();
        let tables = [
            "record",
            "record_ref",
            "disclosure",
            "entry",
            "tile",
            "checkpoint",
            "cosignature",
            "movement",
            "edge",
            "pack",
            "roster",
        ];
        let mut allowed = Vec::new();
        for table in tables {
            for statement in
                [format!("delete from {table}"), format!("truncate {table}"), format!("drop table {table}")]
            {
                if client.batch_execute(&statement).is_ok() {
                    allowed.push(statement);
                }
            }
            let may_update: bool = client
                .query_one("select has_any_column_privilege('app', $1, 'update')", &[&table])
                .unwrap()
                .get(0);
            if may_update {
                allowed.push(format!("update {table}"));
            }
        }
        allowed
    })
    .await
    .unwrap();
    assert_eq!(refused, Vec::<String>::new());
}

/// The whole way of a key: founded, enrolled, confirmed by a roster, proved by a bundle, revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_proves_a_record_to_whoever_trusts_log_witness_and_registrar() {
    let Some((store, url)) = fresh().await else { return };
    let witness = signer("witness.example/w1", 9);
    let registrar = SecretKey::from_seed(&[2; 32]);
    let policy = format!(
        "log {}\nwitness w1 {}\nquorum w1\nregistrar {}\n",
        signer(ORIGIN, 1).verifier(),
        witness.verifier_as(Algorithm::CosignatureV1),
        registrar.kid()
    );
    let policy: Policy = policy.parse().unwrap();
    let ledger = ledger(&store, policy.clone()).await;
    let keys = Keys::from_seeds("demo", &[2; 32], &[3; 32], &[4; 32]);
    assert!(matches!(
        roster::step(&store, &ledger, &keys).await,
        Err(roster::RosterError::Keys(KeysError::NoOperator))
    ));
    let mut conn = store.connection().await.unwrap();
    let party = |slug: &'static str, role: &'static str, iss: &'static str| store::party::NewParty {
        slug,
        role,
        iss,
        name: Some(slug),
        county: None,
        company_prefix: None,
        person_id: None,
    };
    let operator = party("operator", "operator", "https://id.gs1.org/417/9521000000004");
    let operator = store::party::insert(&mut conn, &operator).await.unwrap();
    keys.found(&mut conn, &operator).await.unwrap();
    let new =
        NewKey { party: &operator, role: KeyRole::Record, device_id: None, base_name: None, replaces: None };
    let kid = keys.enrol_platform(&mut conn, &new).await.unwrap();
    let signing = keys.signer_of(&mut conn, operator.id).await.unwrap();
    assert_eq!(signing.kid, kid);
    // A code run is a statement that a record key signs, and so the smallest record with a signer of its own.
    let jti = write_code_run(&mut conn, &operator, &signing.secret).await;
    drop(conn);

    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
    sequencer.step().await.unwrap();
    assert!(roster::step(&store, &ledger, &keys).await.unwrap(), "a first roster is due");
    assert!(!roster::step(&store, &ledger, &keys).await.unwrap(), "and waits for its leaf");
    sequencer.step().await.unwrap();
    assert!(!roster::step(&store, &ledger, &keys).await.unwrap(), "nothing happened after it");

    let mut conn = store.connection().await.unwrap();
    let unwitnessed = proof::of_record(&mut conn, &ledger, &keys, jti, Reader::Public).await;
    assert!(matches!(unwitnessed, Err(proof::ProofError::NotYet)));
    cosign_newest(&mut conn, &ledger, &witness).await;
    let found = proof::of_record(&mut conn, &ledger, &keys, jti, Reader::Public).await.unwrap();
    let text = found.to_string();
    let read: bundle::Bundle = text.parse().unwrap();
    let report = bundle::verify(&read, &policy);
    assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
    let plain = proof::tlog_proof(&mut conn, &ledger, jti).await.unwrap();
    let record = store::record::by_jti(&mut conn, jti).await.unwrap().unwrap();
    plain.verify(&Hash::from_slice(&record.entry).unwrap(), &ledger.open_log().verifier).unwrap();

    assert_eq!(fsck(&url).await.misfits, Vec::new());

    keys.revoke(&mut conn, kid, chrono::Utc::now(), RevocationReason::Compromised).await.unwrap();
    assert!(matches!(keys.signer_of(&mut conn, operator.id).await, Err(KeysError::NoKey)));
    assert!(roster::step(&store, &ledger, &keys).await.unwrap(), "a revocation makes a roster due");
    sequencer.step().await.unwrap();
    assert_eq!(fsck(&url).await.misfits, Vec::new());

    // What a superuser changes behind the application's back is named.
    for (damage, at) in [
        ("update record set signed = replace(signed, 'A', 'B') where step = 'code-run'", "2026 3"),
        ("update head set root = sha256('other')", "2026"),
        ("update checkpoint set note = replace(note, 'demo/2026 ', 'demo/2026 A')", "checkpoint"),
        ("delete from entry where index = 2", "2026 2"),
        ("update record set iss = 'https://id.gs1.org/417/9521000000011' where step = 'code-run'", "2026 3"),
    ] {
        let found = fsck_after(&url, damage).await.misfits;
        assert!(found.iter().any(|misfit| misfit.at.contains(at)), "{damage}: {found:?}");
    }
    let stranger = fsck_trusting(&url, sha256(b"another registrar")).await;
    assert!(!stranger.is_clean(), "nobody's keys count but those of the registrar that the reader names");
}

async fn fsck_trusting(url: &str, registrar: Hash) -> fsck::Report {
    // As the role that can only read.
    let url = format!("{url}?options=-c%20role%3Dauditor");
    let mut trust = Policy::default();
    trust.registrars.push(registrar);
    let ask = fsck::Ask { database_url: url, trust, threads: 2, ..fsck::Ask::default() };
    tokio::task::spawn_blocking(move || fsck::check(&ask, |_| {}).unwrap()).await.unwrap()
}

async fn fsck(url: &str) -> fsck::Report {
    fsck_trusting(url, SecretKey::from_seed(&[2; 32]).kid()).await
}

/// On a copy of the database that is damaged first.
async fn fsck_after(url: &str, damage: &'static str) -> fsck::Report {
    let (cluster, name) = url.rsplit_once('/').unwrap();
    let (admin, copy) = (format!("{cluster}/postgres"), format!("copy_{}", uuid::Uuid::now_v7().simple()));
    let (made, damaged) = (format!("create database {copy} template {name}"), format!("{cluster}/{copy}"));
    let opened = damaged.clone();
    let end = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and pid <> pg_backend_pid()"
    );
    tokio::task::spawn_blocking(move || {
        let mut admin = postgres::Client::connect(&admin, postgres::NoTls).unwrap();
        // A template may have no other connection; the pool of the test makes new ones.
        admin.batch_execute(&end).unwrap();
        admin.batch_execute(&made).unwrap();
        postgres::Client::connect(&opened, postgres::NoTls).unwrap().batch_execute(damage).unwrap();
    })
    .await
    .unwrap();
    fsck(&damaged).await
}

async fn write_code_run(
    conn: &mut store::Connection,
    operator: &store::party::Party,
    key: &SecretKey,
) -> uuid::Uuid {
    use trace::record::{Body, Claims, Draft, Record, issue, statement};
    let jti = uuid::Uuid::now_v7();
    let run = statement::CodeRun {
        gtin: "09521000000004".to_owned(),
        epoch: 'A',
        first: 0,
        count: 10,
        key_hash: Hash([1; 32]),
    };
    let claims = Claims {
        iss: operator.iss.clone(),
        iat: 1_800_000_000,
        jti,
        aud: "demo".to_owned(),
        profile: statement::profile_reference(),
        seen: None,
        refs: Vec::new(),
    };
    let body = Body::Statement(statement::Statement::CodeRun(run));
    let issued = issue(Draft { claims, body, act: None, event_hash: None }, &[], || [0; 16], 0, key).unwrap();
    let public = Record::parse(&issued.signed).unwrap().process(&[]).unwrap();
    let row = store::record::Record {
        jti,
        entry: issued.entry.as_bytes().to_vec(),
        kind: "statement".to_owned(),
        party_id: operator.id,
        iss: operator.iss.clone(),
        kid: key.kid().as_bytes().to_vec(),
        profile: statement::profile_reference(),
        step: Some("code-run".to_owned()),
        grade: "self".to_owned(),
        event_type: None,
        event_id: Some(format!("urn:uuid:{jti}")),
        event_time: None,
        event_offset: None,
        event_hash: None,
        place_id: None,
        late: false,
        corrects: None,
        iat: chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        accepted_at: chrono::Utc::now(),
        signed: issued.signed,
        public,
    };
    store::record::insert(conn, &row, &[], &[]).await.unwrap();
    jti
}

async fn cosign_newest(conn: &mut store::Connection, ledger: &Ledger, witness: &SignerKey) {
    let newest = rows::newest_checkpoints(conn, ledger.open_log().id, 1).await.unwrap().remove(0);
    let note: Note = newest.note.parse().unwrap();
    let line = cosignature::cosign(&note.text, 1_800_000_000, witness);
    let row = rows::Cosignature {
        log_id: newest.log_id,
        size: newest.size,
        witness: "w1".to_owned(),
        line: line.to_string(),
        at: chrono::Utc::now(),
    };
    rows::insert_cosignature(conn, &row).await.unwrap();
}
