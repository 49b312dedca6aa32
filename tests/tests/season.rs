//! The season, played on the real Postgres, witness, server and gateway; then what it promises, one after the other on the
//! same data, because playing it is what takes the time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop where it stands, and says loudly what it skips"
)]

#[path = "season/deaths.rs"]
mod deaths;
#[path = "season/pages.rs"]
mod pages;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use deaths::{
    killed_in_mid_season, missing_readings, nothing_acknowledged_is_lost_when_processes_are_killed,
};
use demo::{
    season::{self, SeasonReport},
    stack::{Options, Ports, Stack, programs_beside_us},
};
use pages::{
    an_unknown_code_was_never_issued, codes_decode_and_pages_tell_the_story_without_script,
    pages_are_fit_for_a_telephone_and_labels_for_a_printer, the_page_checks_the_proof_as_the_auditor_does,
    the_proof_is_printed_on_one_sheet,
};
use system_tests::audit::{ask, fsck, said};

/// Names of the season's natural persons: none may stand in clear in the database.
const PEOPLE: [&str; 7] = ["甘桂生", "农秀兰", "黄国强", "韦志明", "陆美英", "莫家林", "黄保管"];
struct House {
    stack: Stack,
    report: SeasonReport,
    client: reqwest::Client,
    data: PathBuf,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

impl House {
    async fn open() -> Self {
        let programs = programs_beside_us().unwrap();
        for program in ["suyuan", "suyuan-gateway", "suyuan-auditor"] {
            assert!(programs.join(program).exists(), "{program} is not built: run `make test`");
        }
        let data = std::env::temp_dir().join(format!("suyuan-season-{}", std::process::id()));
        let options = Options::local(root(), data.clone(), programs, Ports::free().unwrap());
        let mut stack = Stack::start(options, &mut |text| println!("{text}")).await.unwrap();
        let readings = killed_in_mid_season(&mut stack).await;
        let report = season::play(&stack.addresses()).await.unwrap();
        assert_eq!(missing_readings(&stack, &readings), Vec::<u32>::new(), "acknowledged, and not there");
        let client = reqwest::Client::new();
        let house = Self { stack, report, client, data };
        house.every_statement_is_proved().await;
        house
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.stack.base_url())).send().await.unwrap()
    }

    /// Each record has a bundle, within the time that the witness and the roster take.
    async fn every_statement_is_proved(&self) {
        let until = Instant::now() + Duration::from_mins(1);
        for jti in &self.report.records {
            while !self.get(&format!("/proof/{jti}")).await.status().is_success() {
                assert!(Instant::now() < until, "record {jti} has no proof");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn bundles(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for commodity in &self.report.commodities {
            files.push(self.stack.valid_bundle(&commodity.lot_path, commodity.name).await.unwrap());
        }
        files
    }

    fn auditor(&self, arguments: &[&Path]) -> Output {
        let trust = self.stack.write_trust().unwrap();
        let mut command = Command::new(self.stack.options.programs.join("suyuan-auditor"));
        command.arg("verify").args(arguments).arg("--trust").arg(trust).output().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_season_is_played_scanned_killed_erased_and_checked_without_us() {
    let mut house = House::open().await;
    codes_decode_and_pages_tell_the_story_without_script(&house).await;
    the_page_checks_the_proof_as_the_auditor_does(&house).await;
    the_proof_is_printed_on_one_sheet(&house).await;
    an_unknown_code_was_never_issued(&house).await;
    pages_are_fit_for_a_telephone_and_labels_for_a_printer(&house).await;
    readings_are_evidence(&house).await;
    the_log_can_be_mirrored(&house).await;
    no_person_stands_in_clear_in_a_dump(&house);
    evidence_cannot_be_changed_by_the_application(&house);
    nothing_acknowledged_is_lost_when_processes_are_killed(&mut house).await;
    a_second_run_changes_nothing(&house).await;
    an_erased_person_breaks_no_proof(&house).await;
    bundles_verify_with_the_server_stopped(&mut house).await;
    std::fs::remove_dir_all(&house.data).unwrap_or_default();
}

fn no_person_stands_in_clear_in_a_dump(house: &House) {
    let programs = demo::machine::postgres_programs().unwrap();
    let dump =
        Command::new(programs.join("pg_dump")).arg(house.stack.database_url("migrator")).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let text = String::from_utf8_lossy(&dump.stdout);
    assert!(text.contains("COPY public.record "), "the dump holds the records");
    for name in PEOPLE {
        assert!(!text.contains(name), "{name} stands in clear in the database");
    }
    assert!(!text.contains("\"polygon\""), "a plot's polygon stands in clear in the database");
}

fn evidence_cannot_be_changed_by_the_application(house: &House) {
    let programs = demo::machine::postgres_programs().unwrap();
    for table in ["record", "entry", "tile", "disclosure", "pack", "checkpoint", "movement"] {
        for statement in [format!("delete from {table}"), format!("update {table} set {}", column(table))] {
            let refused = Command::new(programs.join("psql"))
                .args(["-X", "-v", "ON_ERROR_STOP=1", "-c", &statement])
                .arg(house.stack.database_url("app"))
                .output()
                .unwrap();
            assert!(!refused.status.success(), "{statement} was allowed");
            assert!(said(&refused).contains("permission denied"), "{}", said(&refused));
        }
    }
}

fn column(table: &str) -> &'static str {
    match table {
        "record" => "late = late",
        "entry" => "hash = hash",
        "tile" => "data = data",
        "disclosure" => "sealed = sealed",
        "pack" => "bytes = bytes",
        "checkpoint" => "note = note",
        _ => "reason = reason",
    }
}

/// A copy of the log by who trusts nobody: its entries give the signed head, and the chain's.
async fn the_log_can_be_mirrored(house: &House) {
    let (trust, copy) = (house.stack.write_trust().unwrap(), house.data.join("mirror"));
    let chain = &house.stack.chain.as_ref().unwrap().rpc_url;
    let url = house.stack.checkpoint_url();
    let prefix = url.trim_end_matches("/checkpoint");
    let state: serde_json::Value = house.get("/api/v1/log").await.json().await.unwrap();
    assert_eq!(state["anchors"][0]["chain"], "dev", "{state}");
    assert!(state["witnesses"][0]["size"].as_u64().is_some_and(|size| size > 0), "{state}");
    let metrics = house.get("/metrics").await.text().await.unwrap();
    for gauge in ["behind_entries", "gas", "wei"] {
        assert!(metrics.contains(&format!("suyuan_anchor_{gauge}{{chain=\"dev\"}}")), "{metrics}");
    }
    for look in ["first", "second"] {
        let mut command = Command::new(house.stack.options.programs.join("suyuan-auditor"));
        command.args(["mirror", prefix, "--rpc", chain, "--trust"]).arg(&trust).arg(&copy);
        let mirrored = command.output().unwrap();
        assert_eq!(mirrored.status.code(), Some(0), "the {look} look: {}", said(&mirrored));
        assert!(said(&mirrored).contains("of them on the chain"), "{}", said(&mirrored));
    }
}

/// What an instrument sent is evidence for the ticket made from it, and a window's readings for the lot that lay there.
async fn readings_are_evidence(house: &House) {
    let evidence = |step: &str| -> u32 {
        let of = format!(
            "select count(distinct r.entry) from record r join record_ref f using (entry) where f.rel = 'evidence' and r.step = '{step}'"
        );
        ask(&house.stack, &of).trim().parse().unwrap()
    };
    assert!(
        evidence("weigh") > 0 && evidence("lab") > 0,
        "no ticket names the pack that its figures came from"
    );
    let until = Instant::now() + Duration::from_secs(30);
    while evidence("conditions") == 0 {
        assert!(Instant::now() < until, "no lot has the conditions that it lay in");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The season names its steps: played again, it is answered with the same records.
async fn a_second_run_changes_nothing(house: &House) {
    let again = season::play(&house.stack.addresses()).await.unwrap();
    assert_eq!(again.records, house.report.records);
}

async fn an_erased_person_breaks_no_proof(house: &House) {
    let base = house.stack.base_url();
    let (client, cookie) = house.stack.operator_session().await.unwrap();
    let erase = client.post(format!("{base}/api/v1/parties/gan/erase"));
    let erased = erase.header("Origin", &base).header("Cookie", cookie).send().await.unwrap();
    assert!(erased.status().is_success(), "{}", erased.status());
    fsck(&house.stack);
    house.every_statement_is_proved().await;
}

async fn bundles_verify_with_the_server_stopped(house: &mut House) {
    let bundles = house.bundles().await;
    house.stack.server.as_mut().unwrap().stop();
    let chain = house.stack.chain.as_ref().unwrap();
    for bundle in bundles {
        let anchored = format!("{} {:#x} {}", chain.chain_id, chain.contract, house.stack.origin());
        assert!(std::fs::read_to_string(&bundle).unwrap().contains(&anchored), "{anchored}");
        let checked = house.auditor(&[&bundle]);
        assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));

        let mut spoilt = std::fs::read(&bundle).unwrap();
        let middle = spoilt.len() / 2;
        spoilt[middle] ^= 1;
        let spoilt_file = bundle.with_extension("spoilt");
        std::fs::write(&spoilt_file, spoilt).unwrap();
        assert_eq!(house.auditor(&[&spoilt_file]).status.code(), Some(1));
    }
}
