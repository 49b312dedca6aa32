//! A roster and an enrolment at the same moment: whichever comes first in the log, neither contradicts the other.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod database;
mod farm;
mod house;

use std::time::{Duration, Instant};

use actix_web::web::Data;
use farm::Farm;
use server::{app::AppState, jobs::roster, service::fsck};
use store::{Connection, ledger as rows};
use tokio::task::JoinHandle;
use trace::{
    keys::{KeyRole, Kid},
    record::{Record, statement::Statement},
    roster::RosterLine,
    tlog::policy::Policy,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// One more key of the depot's, inside the caller's transaction.
async fn enrol(state: &AppState, conn: &mut Connection) -> Kid {
    let party = store::party::by_slug(conn, "depot").await.unwrap().unwrap();
    let new = server::service::keys::NewKey {
        party: &party,
        role: KeyRole::Record,
        device_id: None,
        base_name: None,
        replaces: None,
    };
    state.keys.enrol_platform(conn, &new).await.unwrap()
}

fn state_a_roster(state: &Data<AppState>) -> JoinHandle<bool> {
    let state = state.clone();
    tokio::spawn(async move { roster::step(&state.store, &state.ledger, &state.keys).await.unwrap() })
}

/// A second connection, which sees who waits for whom and can hold others up.
struct Beside(tokio_postgres::Client);

impl Beside {
    async fn of(farm: &Farm) -> Self {
        let url = &farm.state.config.database.database_url;
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        Self(client)
    }

    /// Returns once so many connections wait for others' locks, or `task` needs none of them any more.
    async fn until_waiting<T>(&self, connections: i64, task: &JoinHandle<T>) {
        let end = Instant::now() + PATIENCE;
        let query = "select count(distinct pid) from pg_locks
            where not granted and database = (select oid from pg_database where datname = current_database())";
        while !task.is_finished()
            && self.0.query_one(query, &[]).await.unwrap().get::<_, i64>(0) < connections
        {
            assert!(Instant::now() < end, "it neither waits nor ends");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Everything gets its leaf. The newest roster lists the key if, and only if, the enrolment stands before it.
async fn the_log_and_its_newest_roster_agree_on(farm: &mut Farm, kid: Kid) {
    farm.log().await;
    let mut conn = farm.state.store.connection().await.unwrap();
    let key = store::key::by_kid(&mut conn, kid.as_bytes()).await.unwrap().unwrap();
    let enrolled = rows::locate(&mut conn, &key.enrolled_by.unwrap()).await.unwrap().unwrap();
    let stated = store::roster::newest(&mut conn).await.unwrap().unwrap();
    let at = rows::locate(&mut conn, &stated.entry).await.unwrap().unwrap();
    let statement = Record::parse(&stated.signed).unwrap().statement().unwrap().unwrap();
    let Statement::Roster(roster) = statement else { panic!("no roster: {statement:?}") };
    let lines = store::roster::lines(&mut conn, roster.root.as_bytes()).await.unwrap().unwrap();
    let is_listed = lines.lines().any(|line| line.parse::<RosterLine>().unwrap().kid == kid);
    assert_eq!(
        is_listed,
        enrolled.index < at.index,
        "listed: {is_listed}; enrolled at {}, the roster at {}",
        enrolled.index,
        at.index
    );

    let mut trust = Policy::default();
    trust.registrars.push(farm.state.keys.registrar().kid());
    let database_url = farm.state.config.database.database_url.clone();
    let ask = fsck::Ask { database_url, trust, ..fsck::Ask::default() };
    let report = tokio::task::spawn_blocking(move || fsck::check(&ask, |_| {}).unwrap()).await.unwrap();
    assert!(report.is_clean(), "{:?}", report.misfits);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roster_that_is_due_while_a_key_is_being_enrolled_waits_and_lists_it() {
    let Some(mut farm) = Farm::open("rosters_wait").await else { return };
    farm.log_roster().await;
    let beside = Beside::of(&farm).await;
    // What makes a roster due before the enrolment is seen by anybody.
    farm.harvest("W0001").await;
    let mut enrolling = farm.state.store.begin().await.unwrap();
    let kid = enrol(&farm.state, &mut enrolling).await;
    let stating = state_a_roster(&farm.state);
    beside.until_waiting(1, &stating).await;
    enrolling.commit().await.unwrap();
    assert!(stating.await.unwrap(), "a roster is due");
    the_log_and_its_newest_roster_agree_on(&mut farm, kid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_enrolled_while_a_roster_is_being_stated_comes_after_it() {
    let Some(mut farm) = Farm::open("rosters_first").await else { return };
    farm.log_roster().await;
    let beside = Beside::of(&farm).await;
    farm.harvest("W0001").await;
    // The roster's keys are read, and its own row cannot be written yet.
    beside.0.batch_execute("begin; lock table roster in share mode").await.unwrap();
    let stating = state_a_roster(&farm.state);
    beside.until_waiting(1, &stating).await;
    let state = farm.state.clone();
    let enrolling = tokio::spawn(async move {
        let mut transaction = state.store.begin().await.unwrap();
        let kid = enrol(&state, &mut transaction).await;
        transaction.commit().await.unwrap();
        kid
    });
    beside.until_waiting(2, &enrolling).await;
    beside.0.batch_execute("commit").await.unwrap();
    assert!(stating.await.unwrap(), "a roster is due");
    let kid = enrolling.await.unwrap();
    the_log_and_its_newest_roster_agree_on(&mut farm, kid).await;
}
