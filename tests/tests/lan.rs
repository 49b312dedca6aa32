//! `--lan`: a phone that trusts the demo's own certificate authority, and nothing else, signs in over TLS.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may stop where it stands, and says loudly what it skips"
)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use demo::{
    lan,
    stack::{Options, Ports, Stack, programs_beside_us},
};

/// curl as such a phone; answers status line, headers and body, or why there is none.
fn curl(authority: &Path, arguments: &[&str]) -> String {
    let answer =
        Command::new("curl").args(["-sS", "-i", "--cacert"]).arg(authority).args(arguments).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_trusts_the_demo_s_authority_signs_in_over_tls() {
    if lan::address().is_none() {
        eprintln!("SKIPPED: this machine has no address in a network");
        return;
    }
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).canonicalize().unwrap();
    let data = std::env::temp_dir().join(format!("suyuan-lan-{}", std::process::id()));
    let spare = Ports::free().unwrap();
    let options = Options {
        lan_port: Some(spare.http),
        ..Options::local(root, data.clone(), programs_beside_us().unwrap(), Ports::free().unwrap())
    };
    let stack = Stack::start(options, &mut |text| println!("{text}")).await.unwrap();
    let (lan, url) = (stack.lan.clone().unwrap(), stack.public_url());
    let handed_at = lan::hand_out_port(spare.http);
    lan.hand_out(handed_at).await.unwrap();
    let handed = reqwest::get(format!("http://{}:{}/ca.crt", lan.address, handed_at)).await.unwrap();
    let authority = data.join("handed.crt");
    std::fs::write(&authority, handed.bytes().await.unwrap()).unwrap();

    let (origin, password) = (format!("Origin: {url}"), format!("password={}", stack.operator_password));
    let sign_in = format!("{url}/sign-in");
    for version in ["--http2", "--http1.1"] {
        let form =
            ["-H", &origin, "--data-urlencode", "login=operator", "--data-urlencode", &password, &sign_in];
        let answer = curl(&authority, &[&[version][..], &form].concat());
        assert!(answer.lines().next().is_some_and(|line| line.contains(" 303")), "{version}: {answer}");
        assert!(answer.contains("__Host-session=") && answer.contains("; Secure"), "{version}: {answer}");
        let foreign = ["-H", "Origin: https://evil.example", "--data-urlencode", "login=operator", &sign_in];
        let answer = curl(&authority, &[&[version][..], &foreign].concat());
        assert!(answer.lines().next().is_some_and(|line| line.contains(" 403")), "{version}: {answer}");
    }
    let stranger = Command::new("curl").args(["-sS", &url]).output().unwrap();
    assert!(!stranger.status.success(), "who does not trust the authority does not come in");
    tokio::task::spawn_blocking(move || drop(stack)).await.unwrap();
    std::fs::remove_dir_all(data).unwrap_or_default();
}
