//! Codes, pages and sheets as who scans, prints or holds a telephone has them.

use std::{
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use system_tests::{audit::said, browser::Browser, targets};

use crate::{House, root};

/// Bytes of a scan page's first answer, compressed.
const SCAN_BYTES_MAX: usize = 14 * 1024;
/// A record that was made a moment ago waits for its place in the log, and the story says so: then it is read again.
const STORY_PATIENCE: Duration = Duration::from_secs(30);

pub async fn codes_decode_and_pages_tell_the_story_without_script(house: &House) {
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
pub async fn the_page_checks_the_proof_as_the_auditor_does(house: &House) {
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
pub async fn the_proof_is_printed_on_one_sheet(house: &House) {
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
pub async fn pages_are_fit_for_a_telephone_and_labels_for_a_printer(house: &House) {
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

pub async fn an_unknown_code_was_never_issued(house: &House) {
    let answer = house.get("/01/09521234000150/21/6ABCDEFGHJKMNPQRS").await;
    assert_eq!(answer.status().as_u16(), 404);
    let answer = house.get("/01/09521234000150/10/NOBODY").await;
    assert_eq!(answer.status().as_u16(), 404);
}
