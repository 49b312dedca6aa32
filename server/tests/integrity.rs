//! The server checks samples of its own ledger; what it finds stands on a page and in a metric, the same on every server.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod database;
mod farm;
mod house;

use std::{sync::Arc, time::Duration};

use actix_web::{http::StatusCode, http::header, test::TestRequest};
use farm::Farm;
use server::{
    jobs::fsck::{Watch, step},
    service::fsck::Ask,
};
use store::integrity::Check;
use trace::tlog::policy::Policy;

impl Farm {
    /// As the superuser of the test's database: that the job reads as `auditor` is for the demo to show.
    fn watch(&self) -> Watch {
        let mut trust = Policy::default();
        trust.registrars.push(self.state.keys.registrar().kid());
        let database_url = self.state.config.database.database_url.clone();
        Watch {
            ask: Arc::new(Ask { database_url, trust, ..Ask::default() }),
            sample: 10,
            interval: Duration::ZERO,
        }
    }

    async fn check(&self) -> Check {
        step(&self.state.store, &self.watch()).await.unwrap().unwrap()
    }

    async fn sql(&self, sql: &str) {
        let url = &self.state.config.database.database_url;
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap();
    }

    async fn integrity(&self, language: &str) -> String {
        let request = TestRequest::get()
            .uri("/integrity")
            .insert_header((header::ACCEPT, "text/html"))
            .insert_header((header::ACCEPT_LANGUAGE, language));
        let (status, page) = self.request(request).await;
        assert_eq!(status, StatusCode::OK);
        assert!(!page.contains("integrity-"), "a message is missing: {page}");
        page
    }

    async fn metrics(&self) -> String {
        self.request(TestRequest::get().uri("/metrics")).await.1
    }

    /// Enough rosters and keys that there is a full tile under the sample.
    async fn grow(&mut self, entries: usize) {
        for _ in 0..entries {
            let mut transaction = self.state.store.begin().await.unwrap();
            let party = store::party::by_slug(&mut transaction, "depot").await.unwrap().unwrap();
            let new = server::service::keys::NewKey {
                party: &party,
                role: trace::keys::KeyRole::Record,
                device_id: None,
                base_name: None,
                replaces: None,
            };
            self.state.keys.enrol_platform(&mut transaction, &new).await.unwrap();
            transaction.commit().await.unwrap();
        }
        self.log().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_changed_in_a_sampled_entry_turns_the_page_and_the_metric() {
    let Some(mut farm) = Farm::open("integrity").await else { return };
    assert!(farm.integrity("en").await.contains("does not check by itself"));
    farm.harvest("W0001").await;
    farm.log_roster().await;

    let check = farm.check().await;
    assert_eq!((check.misfits, &check.first_what), (0, &None));
    assert_eq!(check.entries, check.logged, "so few entries are all looked at");
    assert!(farm.integrity("en").await.contains("Everything that was looked at fits"));
    assert!(farm.integrity("zh-CN").await.contains("全部对得上"));
    let metrics = farm.metrics().await;
    assert!(metrics.contains("\nsuyuan_integrity_misfits 0\n"), "{metrics}");
    assert!(metrics.contains(&format!("\nsuyuan_integrity_entries {}\n", check.entries)));
    assert!(metrics.contains("\nsuyuan_integrity_age_seconds "));

    farm.sql("update record set grade = 'documented' where kind = 'event'").await;
    let check = farm.check().await;
    assert_eq!(check.misfits, 1, "{check:?}");
    assert!(check.first_what.unwrap().ends_with("its row says another grade"));
    let page = farm.integrity("en").await;
    assert!(page.contains("1 thing does not fit") && page.contains("its row says another grade"), "{page}");
    assert!(farm.metrics().await.contains("\nsuyuan_integrity_misfits 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_empty_is_looked_at_again_as_soon_as_it_is_not() {
    let Some(mut farm) = Farm::open("integrity_empty").await else { return };
    let hourly = Watch { interval: Duration::from_hours(1), ..farm.watch() };
    let look = async |farm: &Farm| step(&farm.state.store, &hourly).await.unwrap().map(|check| check.logged);
    assert_eq!(look(&farm).await, Some(0));
    farm.harvest("W0001").await;
    farm.log().await;
    assert!(look(&farm).await.is_some_and(|logged| logged > 0));
    assert_eq!(look(&farm).await, None, "not before the hour is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_held_against_the_way_up_to_the_signed_head() {
    let Some(mut farm) = Farm::open("integrity").await else { return };
    farm.grow(600).await;
    let mut watch = farm.watch();
    watch.sample = 40;
    let check = step(&farm.state.store, &watch).await.unwrap().unwrap();
    assert_eq!((check.misfits, check.entries), (0, 256 + 40), "{check:?}");
    assert!(check.logged > 600);
    // Entry 400 is one of the newest; 257 is looked at by chance only, but the tile leads to another root.
    for (entry, what) in [(400, Some("tile 0/1")), (257, None)] {
        let at = (entry - 256) * 32;
        let flip = format!(
            "update tile set data = set_byte(data, {at}, get_byte(data, {at}) # 1) where level = 0 and index = 1"
        );
        farm.sql(&flip).await;
        let check = farm.check().await;
        assert!(check.misfits > 0, "{entry}");
        let first = check.first_at.unwrap();
        assert!(what.is_none_or(|what| first.ends_with(what)), "{first}");
        farm.sql(&flip).await;
        assert_eq!(farm.check().await.misfits, 0);
    }
    farm.sql("update head set root = set_byte(root, 3, get_byte(root, 3) # 1)").await;
    assert!(farm.check().await.first_what.unwrap().contains("the head's root is not that of the entries"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_check_once_in_each_interval() {
    let Some(mut farm) = Farm::open("integrity").await else { return };
    farm.log_roster().await;
    let watch = Watch { interval: Duration::from_hours(1), ..farm.watch() };
    let (first, second) = tokio::join!(step(&farm.state.store, &watch), step(&farm.state.store, &watch));
    let made = [first.unwrap(), second.unwrap()].into_iter().flatten().count();
    assert_eq!(made, 1);
    assert_eq!(step(&farm.state.store, &watch).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_tells_its_progress_in_lines_where_nobody_watches_and_its_verdict_by_its_exit() {
    let Some(mut farm) = Farm::open("integrity").await else { return };
    farm.harvest("W0001").await;
    farm.log_roster().await;
    let url = farm.state.config.database.database_url.clone();
    let registrar = farm.state.keys.registrar().kid().to_string();
    let fsck = |url: &str| {
        let profiles = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles");
        let arguments = ["fsck", "--database-url", url, "--registrar", &registrar, "--profiles", profiles];
        let told = std::process::Command::new(env!("CARGO_BIN_EXE_suyuan"))
            .args(arguments)
            .env_remove("SUYUAN_LOG")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (told.status.code(), text(told.stdout), text(told.stderr))
    };
    let (code, said, progress) = fsck(&url);
    assert_eq!(code, Some(0), "{said}{progress}");
    assert!(said.starts_with("clean: 1 logs, ") && said.lines().count() == 1, "{said}");
    assert!(!progress.contains('\r') && !progress.contains('\u{1b}'), "no bar: {progress}");
    let lines: Vec<serde_json::Value> =
        progress.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_log = lines.iter().find(|line| line["fields"]["of"] == "localhost/suyuan/2026").unwrap();
    assert_eq!(of_log["fields"]["done"], of_log["fields"]["all"]);

    farm.sql("update record set grade = 'documented' where kind = 'event'").await;
    let (code, said, _) = fsck(&url);
    assert_eq!(code, Some(1));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        lines.concat().contains("its row says another grade") && said.contains("\ndoes not fit: "),
        "{said}"
    );
    assert_eq!(fsck("postgres://nobody@127.0.0.1:1/none").0, Some(2));
}
