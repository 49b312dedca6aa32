//! `suyuan-auditor mirror` against a real house, over the year's end.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod database;
mod farm;
mod house;
mod served;
mod site;
mod witnessing;

use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    web::{self, Data},
};
use auditor::mirror;
use site::{NEW, OLD, Site, signer};
use trace::{
    bundle::{Bundle, Signed},
    hash::{Hash, sha256},
    keys::SecretKey,
    merkle::{self, leaf_hash},
    record::{
        Body, Draft, Record, issue,
        statement::{NewLog, Statement},
    },
    tlog::{checkpoint::Checkpoint, policy::Policy},
};

/// `suyuan-auditor mirror`, once: its exit status, and what it says.
async fn watch(url: &str, copy: &Path, trust: &Policy) -> (String, String) {
    let (url, copy, trust) = (url.to_owned(), copy.to_owned(), trust.clone());
    let watched = tokio::task::spawn_blocking(move || {
        let mut said = Vec::new();
        let code = mirror::watch(&site::mirror(&url, &copy, &trust), None, &mut said).unwrap();
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
type Lies = Arc<Mutex<Vec<(String, Option<Vec<u8>>)>>>;

/// Somebody between reader and log; answers the old log's prefix.
fn between(url: &str, lies: &Lies) -> String {
    async fn answer(told: Data<(String, Lies)>, request: HttpRequest) -> HttpResponse {
        let path = request.path().trim_start_matches("/suyuan/");
        let lies = told.1.lock().unwrap();
        match lies.iter().find(|(start, _)| path.starts_with(start.as_str())) {
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
    let next = [signer(NEW, 5), signer("localhost/suyuan/2028", 6)];
    let Some(mut site) = Site::open("mirror_year", &next, true).await else { return };
    let (copy, trust) = (site.copy(), site.trust(&format!("{}quorum w1\n", site.witness_line())));
    site.harvest("L1").await;
    let (code, said) = watch(&site.url, &copy, &trust).await;
    assert_eq!((code, said.lines().count()), (status(0), 1), "{said}");
    assert!(said.contains("1 witnesses (enough), 1 of 1 asked agree") && !said.contains("2027"), "{said}");

    site.announce(&next[0]).await;
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

    // And over the year after, with the trust file of the first.
    site.announce(&next[1]).await;
    let site = site.seal().await;
    let (code, said) = watch(&site.url, &copy, &trust).await;
    assert_eq!((code, said.lines().count()), (status(0), 3), "{said}");
    assert!(said.contains(", sealed, followed by localhost/suyuan/2028\n"), "{said}");
    assert!(said.contains("ok         localhost/suyuan/2028 2 entries"), "{said}");

    // The new logs are watched also where the old one does not answer any more.
    let without = between(&site.url, &Arc::new(Mutex::new(vec![("2026/".to_owned(), None)])));
    let (code, said) = watch(&without, &copy, &trust).await;
    assert_eq!(code, status(2), "{said}");
    assert!(said.starts_with("unchecked") && said.contains("ok         localhost/suyuan/2027"), "{said}");
    assert!(said.contains("ok         localhost/suyuan/2028"), "{said}");

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
    let Some(mut site) = Site::open("mirror_forged", std::slice::from_ref(&next), false).await else {
        return;
    };
    // Who has stolen all keys tells another history, in which the old log names a key of the thief's own.
    let Some(mut thief) = Site::open("mirror_thief", std::slice::from_ref(&other), false).await else {
        return;
    };
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
        *lies.lock().unwrap() = vec![("2026/new-log".to_owned(), Some(lie.to_string().into_bytes()))];
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
    *lies.lock().unwrap() = vec![("2026/new-log".to_owned(), Some(b"busy".to_vec()))];
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
    *lies.lock().unwrap() = vec![("2027/checkpoint".to_owned(), Some(swapped.into_bytes()))];
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

/// What the old log's key makes of the log's entries (fewer than 256) and one more: checkpoint and tiles by their paths.
fn grown(copy: &Path, size: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let mut bundle = std::fs::read(copy.join(format!("tile/entries/000.p/{size}"))).unwrap();
    bundle.extend([&[0, 32][..], sha256(b"one more").as_bytes()].concat());
    let entries = bundle.chunks(34).map(|entry| Hash::from_slice(&entry[2..]).unwrap());
    let leaves: Vec<Hash> = entries.map(|entry| leaf_hash(&entry)).collect();
    let head = Checkpoint {
        origin: OLD.to_owned(),
        size: u64::try_from(leaves.len()).unwrap(),
        root: merkle::root(&leaves),
    };
    let tile = leaves.iter().flat_map(|leaf| leaf.0).collect();
    let at = |kind: &str| format!("2026/tile/{kind}/000.p/{}", leaves.len());
    vec![
        ("2026/checkpoint".to_owned(), Some(head.sign(&signer(OLD, 4)).to_string().into_bytes())),
        (at("0"), Some(tile)),
        (at("entries"), Some(bundle)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_log_that_goes_on_is_an_alarm_and_the_next_is_looked_at_all_the_same() {
    let next = signer(NEW, 5);
    let Some(mut site) = Site::open("mirror_grown", std::slice::from_ref(&next), false).await else { return };
    site.announce(&next).await;
    let site = site.seal().await;
    let (copy, trust) = (site.copy(), site.trust("quorum none\n"));
    let (code, said) = watch(&site.url, &copy, &trust).await;
    assert_eq!(code, status(0), "{said}");
    let kept = std::fs::read_to_string(copy.join("checkpoint")).unwrap();
    let sealed_at: usize = kept.lines().nth(1).unwrap().parse().unwrap();

    let lies = Arc::new(Mutex::new(grown(&copy, sealed_at)));
    let url = between(&site.url, &lies);
    let words = format!("ALARM      the log was sealed at size {sealed_at}, and shows {}", sealed_at + 1);
    let (code, said) = watch(&url, &copy, &trust).await;
    assert_eq!((code, said.contains(&words)), (status(1), true), "{said}");
    assert!(said.contains("ok         localhost/suyuan/2027"), "{said}");
    assert_eq!(std::fs::read_to_string(copy.join("checkpoint")).unwrap(), kept);
    let fresh = site.directory.join("fresh");
    let (code, said) = watch(&url, &fresh, &trust).await;
    assert_eq!((code, said.contains(&words)), (status(1), true), "{said}");
    assert!(!fresh.join("new-log").exists() && !fresh.join("2027").exists());
    std::fs::remove_dir_all(&site.directory).unwrap();
}
