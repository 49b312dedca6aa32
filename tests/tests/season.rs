//! The season, played on the real Postgres, witness, server and gateway; then what it promises, one after the other on the
//! same data, because playing it is what takes the time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop where it stands, and says loudly what it skips"
)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use demo::{
    season::{self, SeasonReport},
    stack::{Options, Ports, Stack, programs_beside_us},
};
use system_tests::{
    audit::{ask, fsck, said},
    browser::Browser,
    targets,
};

/// Names of the season's natural persons: none may stand in clear in the database.
const PEOPLE: [&str; 7] = ["甘桂生", "农秀兰", "黄国强", "韦志明", "陆美英", "莫家林", "黄保管"];
/// Bytes of a scan page's first answer, compressed.
const SCAN_BYTES_MAX: usize = 14 * 1024;
/// A record that was made a moment ago waits for its place in the log, and the story says so: then it is read again.
const STORY_PATIENCE: Duration = Duration::from_secs(30);

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

/// What is killed, and how many records must stand first: while the next ones are being made.
const MID_SEASON: [(Victim, u32); 4] =
    [(Victim::Server, 12), (Victim::Gateway, 30), (Victim::Postgres, 45), (Victim::Chain, 60)];

#[derive(Debug, Clone, Copy)]
enum Victim {
    Server,
    Gateway,
    Postgres,
    Chain,
}

impl Victim {
    /// `kill -9`, and up again.
    async fn dies_and_returns(self, stack: &mut Stack) {
        match self {
            Self::Server => {
                stack.server.as_mut().unwrap().kill().unwrap();
                stack.start_server().await.unwrap();
            }
            Self::Gateway => {
                stack.gateway.as_mut().unwrap().kill().unwrap();
                stack.start_gateway().await.unwrap();
            }
            Self::Postgres => {
                let cluster = stack.cluster.as_mut().unwrap();
                cluster.kill().unwrap();
                tokio::task::block_in_place(|| cluster.restart()).unwrap();
            }
            Self::Chain => {
                stack.chain.as_mut().unwrap().node.as_mut().unwrap().kill().unwrap();
                stack.start_chain(&mut |text| println!("{text}")).await.unwrap();
            }
        }
    }
}

/// Plays the season while everything is killed in turn and `mosquitto_pub` goes on publishing. A season that was cut off is
/// played again from the start: what was taken is answered with its receipt. Answers the values that were acknowledged.
async fn killed_in_mid_season(stack: &mut Stack) -> Vec<u32> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut publisher = None;
    for (victim, records) in MID_SEASON {
        let addresses = stack.addresses();
        let play = tokio::spawn(async move { season::play(&addresses).await.map(drop) });
        let until = Instant::now() + Duration::from_mins(1);
        while records_of(stack) < records && !play.is_finished() {
            assert!(Instant::now() < until, "the season does not go on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if publisher.is_none() {
            publisher = Some(publisher_of(stack, Arc::clone(&stop)).await);
        }
        println!("kill -9 {victim:?} after {} records", records_of(stack));
        victim.dies_and_returns(stack).await;
        // The season fails where it was cut off, or was not touched by it.
        if let Err(error) = play.await.unwrap() {
            println!("cut off: {error}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = publisher.unwrap().join().unwrap();
    assert!(!acknowledged.is_empty(), "nothing was acknowledged at all");
    acknowledged
}

fn records_of(stack: &Stack) -> u32 {
    ask(stack, "select count(*) from record where kind = 'event'").trim().parse().unwrap_or(0)
}

/// A further device at the depot, published to by a client that is not ours, one reading a message, until told to stop.
async fn publisher_of(stack: &Stack, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<u32>> {
    let (client, cookie) = stack.operator_session().await.unwrap();
    let base = stack.base_url();
    let body = serde_json::json!({"party": "nanning", "device": "counter", "kind": "climate", "profile": "sugar",
        "format": "senml+json", "signing": "gateway", "repeats": "merge", "place": "store"});
    let made = client.post(format!("{base}/api/v1/devices")).header("Origin", &base).header("Cookie", cookie);
    let made: serde_json::Value = made.json(&body).send().await.unwrap().json().await.unwrap();
    let token = made["token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let port = stack.options.mqtt_port.to_string();
    std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for number in 0_u32.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let at = 1_790_000_000 + number;
            let message = format!(r#"[{{"n":"count","u":"count","t":{at},"v":{number}}}]"#);
            let sent = Command::new("timeout")
                .args(["5", "mosquitto_pub", "-h", "127.0.0.1", "-p", &port, "-q", "1", "-V", "mqttv311"])
                .args(["-u", "nanning/counter", "-P", &token, "-i", "counter"])
                .args(["-t", "suyuan/v1/nanning/counter/up", "-m", &message])
                .output()
                .unwrap();
            if sent.status.success() {
                acknowledged.push(number);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        acknowledged
    })
}

fn missing_readings(stack: &Stack, acknowledged: &[u32]) -> Vec<u32> {
    let stored =
        ask(stack, "select value::bigint, count(*) from reading where name like '%count' group by 1");
    let stored: BTreeMap<u32, u32> = stored
        .lines()
        .filter_map(|line| line.split_once('|'))
        .map(|(value, count)| (value.parse().unwrap(), count.parse().unwrap()))
        .collect();
    assert!(stored.values().all(|count| *count == 1), "a reading stands twice");
    println!("{} readings acknowledged, {} stored", acknowledged.len(), stored.len());
    acknowledged.iter().copied().filter(|number| !stored.contains_key(number)).collect()
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

async fn codes_decode_and_pages_tell_the_story_without_script(house: &House) {
    for commodity in &house.report.commodities {
        let pack = house.stack.first_pack(&commodity.lot_path).await.unwrap();
        let pack =
            pack.unwrap_or_else(|| panic!("{}: no pack of the season's goods has a code", commodity.name));
        for path in [&commodity.lot_path, &pack] {
            a_code_decodes(house, path).await;
            a_page_tells_the_story(house, path).await;
        }
        a_browser_shows_the_story(house, &pack);
    }
}

/// Presses the page's own check button in both languages, and lets the same script and the auditor read the same files.
async fn the_page_checks_the_proof_as_the_auditor_does(house: &House) {
    let trust = house.stack.write_trust().unwrap();
    let served = house.get("/trust.txt").await.text().await.unwrap();
    for bundle in house.bundles().await {
        let audited = audited_layers(&house.auditor(&[&bundle]));
        for trust in [std::fs::read_to_string(&trust).unwrap(), served.clone()] {
            assert_eq!(scripted_layers(&bundle, &trust), Some(audited.clone()).filter(|_| has_node()));
        }
    }
    let lot = &house.report.commodities[0].lot_path;
    for (language, word) in [("zh-CN", "有效"), ("en", "Valid")] {
        let Some(told) = press(house, lot, language) else { return };
        assert_eq!(told["verdict"], "valid", "{told}");
        assert!(told["text"].as_str().unwrap().contains(word), "{told}");
        let layers = told["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 8, "{told}");
        assert!(layers.iter().any(|layer| layer.as_str().unwrap().starts_with("chain unchecked")), "{told}");
    }
}

/// One page in the reader's language, whose code leads to the bundle.
async fn the_proof_is_printed_on_one_sheet(house: &House) {
    let lot = &house.report.commodities[0].lot_path;
    let record = format!("/proof/{}", house.report.records[0]);
    for (path, language, word) in
        [(format!("/proof/lot{lot}"), "zh-CN", "证明摘要"), (record, "en", "Certificate of a proof")]
    {
        let url = format!("{}{path}", house.stack.base_url());
        let request = house.client.get(format!("{url}.pdf")).header("Accept-Language", language);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/pdf");
        let pdf = house.data.join("certificate.pdf");
        std::fs::write(&pdf, answer.bytes().await.unwrap()).unwrap();
        let Ok(text) = Command::new("pdftotext").arg(&pdf).arg("-").output() else {
            println!("SKIPPED: pdftotext is not installed, no certificate was read");
            return;
        };
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains(word) && text.contains(&url) && text.contains("suyuan-demo"), "{text}");
        assert_eq!(text.matches('\u{c}').count(), 1, "one page: {text}");
        let image = house.data.join("certificate");
        Command::new("pdftoppm").args(["-png", "-singlefile"]).arg(&pdf).arg(&image).output().unwrap();
        match Command::new("zbarimg").args(["-q", "--raw"]).arg(image.with_extension("png")).output() {
            Err(_) => println!("SKIPPED: zbarimg is not installed, no certificate's code was scanned"),
            Ok(scanned) => assert_eq!(String::from_utf8(scanned.stdout).unwrap().trim(), url),
        }
    }
}

fn has_node() -> bool {
    let has = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has {
        println!("SKIPPED: no node: the scan page's script was not run");
    }
    has
}

/// `log good 1` of each line `ok         log (1): …`.
fn audited_layers(output: &Output) -> Vec<String> {
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let layer = |line: &str| {
        let (mark, rest) = line.split_once(' ')?;
        let outcome = match mark {
            "ok" => "good",
            "BAD" => "bad",
            "unchecked" => "unchecked",
            _ => return None,
        };
        let (name, rest) = rest.trim_start().split_once(" (")?;
        let name = match name {
            "signatures" => "signature",
            "freshness" => "seen",
            name => name,
        };
        Some(format!("{name} {outcome} {}", rest.split_once(')')?.0))
    };
    let mut layers: Vec<String> = printed.lines().filter_map(layer).collect();
    layers.dedup();
    assert!(layers.len() >= 7, "{printed}");
    layers
}

/// The same of the script, run by node; `None` where there is none.
fn scripted_layers(bundle: &Path, trust: &str) -> Option<Vec<String>> {
    if !has_node() {
        return None;
    }
    let script = r#"
        import fs from "node:fs";
        const [root, bundle, trust] = process.argv.slice(1);
        const { verify } = await import(`${root}/static/verify/verify.js`);
        const { layers } = await verify(new Uint8Array(fs.readFileSync(bundle)), trust);
        for (const { layer, outcome, count } of layers) console.log(layer, outcome, count);
    "#;
    let output = Command::new("node")
        .args(["--input-type=module", "--eval", script])
        .args([&root(), bundle])
        .arg(trust)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

/// What the check shows in Chromium; `None` where there is no Chromium or no node.
fn press(house: &House, path: &str, language: &str) -> Option<serde_json::Value> {
    let has_chromium = Command::new("chromium").arg("--version").output().is_ok();
    if !has_chromium {
        println!("SKIPPED: chromium is not installed, no check was pressed");
    }
    if !has_chromium || !has_node() {
        return None;
    }
    let output = Command::new("node")
        .arg(root().join("tests/press.mjs"))
        .args([&format!("{}{path}", house.stack.base_url()), language])
        .arg(house.data.join(format!("chromium-{language}")))
        .output()
        .unwrap();
    Some(serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output))))
}

async fn a_code_decodes(house: &House, path: &str) {
    let png = house.get(&format!("/labels{path}/qr.png")).await.bytes().await.unwrap();
    let file = house.data.join("code.png");
    std::fs::write(&file, png).unwrap();
    match Command::new("zbarimg").args(["-q", "--raw"]).arg(&file).output() {
        Err(_) => println!("SKIPPED: zbarimg is not installed, no code was scanned"),
        Ok(scanned) => {
            let url = format!("{}{path}", house.stack.base_url().to_ascii_uppercase());
            assert_eq!(String::from_utf8(scanned.stdout).unwrap().trim(), url);
        }
    }
}

async fn a_page_tells_the_story(house: &House, path: &str) {
    let request = || {
        let request = house.client.get(format!("{}{path}", house.stack.base_url()));
        request.header("Accept", "text/html").header("Accept-Language", "zh-CN")
    };
    let page = request().header("Accept-Encoding", "gzip").send().await.unwrap();
    assert!(page.status().is_success(), "{path}: {}", page.status());
    assert_eq!(page.headers()["content-encoding"], "gzip");
    let bytes = page.bytes().await.unwrap();
    assert!(bytes.len() <= SCAN_BYTES_MAX, "{path}: {} bytes", bytes.len());
    let until = Instant::now() + STORY_PATIENCE;
    loop {
        let text = request().send().await.unwrap().text().await.unwrap();
        let scripts = text.matches("<script").count();
        assert_eq!(
            text.matches("<script type=\"module\" src=\"/static/").count(),
            scripts,
            "no script in the page"
        );
        if text.contains("记录完整") {
            return;
        }
        assert!(Instant::now() < until, "{path} is not told as complete");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Chromium with JavaScript blocked, as a reader blocks it in the settings.
fn a_browser_shows_the_story(house: &House, path: &str) {
    let profile = house.data.join("browser");
    std::fs::create_dir_all(profile.join("Default")).unwrap();
    let blocked = r#"{"profile":{"default_content_setting_values":{"javascript":2}}}"#;
    std::fs::write(profile.join("Default/Preferences"), blocked).unwrap();
    let until = Instant::now() + STORY_PATIENCE;
    loop {
        let shown = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--accept-lang=zh-CN", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("{}{path}", house.stack.base_url()))
            .output();
        let Ok(shown) = shown else {
            println!("SKIPPED: chromium is not installed, no page was looked at");
            return;
        };
        if String::from_utf8_lossy(&shown.stdout).contains("记录完整") {
            return;
        }
        assert!(Instant::now() < until, "Chromium does not show the story of {path}: {}", said(&shown));
    }
}

/// Signed out, and as people of the season, whose forms and lists are their own.
async fn pages_are_fit_for_a_telephone_and_labels_for_a_printer(house: &House) {
    let Some(mut browser) = Browser::start(&house.data.join("telephone")) else { return };
    let base = house.stack.base_url();
    let lot = &house.report.commodities[0].lot_path;
    let pack = house.stack.first_pack(lot).await.unwrap().unwrap();
    let never = "/01/09521234000150/21/6ABCDEFGHJKMNPQRS";
    let sheet = format!("/labels{pack}?sheet=3x8");
    let open = ["/", "/find?code=x", "/sign-in", "/nowhere", never, lot, &pack, &sheet].map(str::to_owned);
    targets::check(&mut browser, &base, "", &open);
    for (sheet, labels, millimetres) in [("3x8", 24, (70.0, 37.0)), ("2x5", 10, (105.0, 57.0))] {
        let url = format!("{base}/labels{pack}?sheet={sheet}");
        assert_eq!(targets::printed(&mut browser, &url), (1, labels, millimetres), "{sheet}");
    }
    for login in ["jianguan", "guitang", "wuming", "mo", "wei"] {
        let person = house.report.people.iter().find(|person| person.login == login).unwrap();
        let (_, cookie) = house.stack.session(login, &person.password).await.unwrap();
        let mut pages =
            ["/day", "/alerts", "/exceptions", "/reports", "/me/keys"].map(str::to_owned).to_vec();
        if ["wuming", "jianguan"].contains(&login) {
            pages.push("/grid/wuming/b01".to_owned());
        }
        for (prefix, most) in [("/work/", 100), ("/receipts/", 1), ("/lots/", 1)] {
            pages.extend(targets::links(&mut browser, &base, &cookie, "/day", prefix).into_iter().take(most));
        }
        if login == "jianguan" {
            let file = format!("/lots{}", lot.replacen("/01", "", 1).replacen("/10", "", 1));
            pages.extend(["/search?q=R".to_owned(), format!("{file}/trace"), file]);
        }
        targets::check(&mut browser, &base, &cookie, &pages);
    }
}

async fn an_unknown_code_was_never_issued(house: &House) {
    let answer = house.get("/01/09521234000150/21/6ABCDEFGHJKMNPQRS").await;
    assert_eq!(answer.status().as_u16(), 404);
    let answer = house.get("/01/09521234000150/10/NOBODY").await;
    assert_eq!(answer.status().as_u16(), 404);
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

/// `kill -9` of each in turn: what was acknowledged before is there after, and the log goes on from where it was.
async fn nothing_acknowledged_is_lost_when_processes_are_killed(house: &mut House) {
    house.stack.server.as_mut().unwrap().kill().unwrap();
    house.stack.start_server().await.unwrap();
    house.every_statement_is_proved().await;

    house.stack.cluster.as_mut().unwrap().kill().unwrap();
    let cluster = house.stack.cluster.as_mut().unwrap();
    tokio::task::block_in_place(|| cluster.restart()).unwrap();
    house.every_statement_is_proved().await;

    house.stack.gateway.as_mut().unwrap().kill().unwrap();
    house.stack.start_gateway().await.unwrap();
    fsck(&house.stack);
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
