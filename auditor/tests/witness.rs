//! The witness as a process: its answers over HTTP, and what it has signed when it is killed at any moment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop where it stands"
)]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use trace::{
    hash::{Hash, sha256},
    keys::SecretKey,
    merkle::{self, leaf_hash},
    tlog::{
        checkpoint::Checkpoint,
        note::{Algorithm, Note, SignerKey},
        witness::AddCheckpoint,
    },
};

const ORIGIN: &str = "log.example/a/2026";
const AUDITOR: &str = env!("CARGO_BIN_EXE_suyuan-auditor");

fn log_key() -> SignerKey {
    SignerKey { name: ORIGIN.parse().unwrap(), secret: SecretKey::from_seed(&[1; 32]) }
}

/// One of the histories that a log may show.
struct History(Vec<Hash>);

impl History {
    fn new(salt: u8, size: u8) -> Self {
        Self((0..size).map(|number| leaf_hash(&sha256(&[salt, number]))).collect())
    }

    fn request(&self, old: u64, size: u64) -> String {
        let nodes = |level: u8, index: u64| {
            let start = usize::try_from(index << level).ok()?;
            self.0.get(start..start + (1 << level)).map(merkle::root)
        };
        let root = merkle::root_at(&nodes, size).unwrap();
        let head = Checkpoint { origin: ORIGIN.to_owned(), size, root };
        let proof = merkle::consistency_proof(&nodes, old, size).unwrap_or_default();
        AddCheckpoint { old_size: old, proof, checkpoint: head.sign(&log_key()) }.to_string()
    }
}

struct Witness {
    child: Child,
    url: String,
}

impl Witness {
    async fn start(directory: &Path) -> Self {
        let key = directory.join("key");
        if !key.exists() {
            let made =
                Command::new(AUDITOR).args(["keygen", "--name", "witness.example/w"]).arg(&key).output();
            assert!(made.unwrap().status.success());
        }
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(AUDITOR)
            .args(["witness", "--listen", &address.to_string(), "--log", &log_key().verifier().to_string()])
            .arg("--key")
            .arg(key)
            .arg("--state")
            .arg(directory.join("state"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let witness = Self { child, url: format!("http://{address}/add-checkpoint") };
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return witness;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the witness does not listen");
    }
}

/// `kill -9`.
impl Drop for Witness {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

/// Status, content type and body; `None` where the witness died over it.
async fn post(url: &str, body: String) -> Option<(u16, String, String)> {
    let answer =
        reqwest::Client::new().post(url).timeout(Duration::from_secs(5)).body(body).send().await.ok()?;
    let content_type = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    Some((answer.status().as_u16(), content_type.unwrap_or_default(), answer.text().await.ok()?))
}

fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("suyuan-witness-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&directory));
    std::fs::create_dir(&directory).unwrap();
    directory
}

#[tokio::test]
async fn every_answer_has_the_status_that_the_specification_gives_it() {
    let directory = directory("status");
    let witness = Witness::start(&directory).await;
    let (log, fork) = (History::new(0, 9), History::new(7, 9));
    let ask = async |body: String| post(&witness.url, body).await.unwrap();

    let (status, _, line) = ask(log.request(0, 5)).await;
    assert_eq!(status, 200);
    let vkey = Command::new(AUDITOR).arg("vkey").arg(directory.join("key")).output().unwrap().stdout;
    let vkey = String::from_utf8(vkey).unwrap().trim().parse().unwrap();
    let request: AddCheckpoint = log.request(0, 5).parse().unwrap();
    let cosigned: Note = format!("{}\n{line}", request.checkpoint.text).parse().unwrap();
    assert!(trace::tlog::cosignature::verify(&cosigned, &vkey).is_ok());
    assert_eq!(vkey.algorithm, Algorithm::CosignatureV1);

    for (what, body, status, content_type, answer) in [
        ("another size than known", log.request(0, 9), 409, "text/x.tlog.size", "5\n"),
        ("the same size with another root", fork.request(5, 5), 409, "text/x.tlog.size", "5\n"),
        ("a fork", fork.request(5, 9), 422, "text/plain", ""),
        ("a roll-back", log.request(5, 3), 400, "text/plain", ""),
        ("what the log did not sign", log.request(5, 9).replace("\n9\n", "\n8\n"), 403, "text/plain", ""),
        ("an unknown log", log.request(5, 9).replace("log.example", "other.example"), 404, "text/plain", ""),
        ("no request", "old x\n\n".to_owned(), 400, "text/plain", ""),
        ("too much", "x".repeat(1_000_000), 413, "", ""),
    ] {
        let (found, found_type, found_body) = ask(body).await;
        assert_eq!(found, status, "{what}");
        assert!(found_type.starts_with(content_type), "{what}: {found_type}");
        assert!(found_body.starts_with(answer), "{what}: {found_body}");
    }
    assert_eq!(ask(log.request(5, 9)).await.0, 200, "refusals changed nothing");
    drop(witness);
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_has_never_signed_two_histories() {
    const ROUNDS: u64 = 20;
    let mut signed_of_all = 0;
    for round in 0..ROUNDS {
        let directory = directory(&format!("killed-{round}"));
        let histories = [History::new(1, 40), History::new(2, 40)];
        let mut signed: [Vec<u64>; 2] = Default::default();
        // Both histories are pushed at once, and the witness dies over them, again and again.
        for life in 0..4 {
            let witness = Witness::start(&directory).await;
            let url = witness.url.clone();
            let pushes = histories.iter().map(|history| push(&url, history));
            let all = futures_util::future::join_all(pushes);
            let delay = Duration::from_micros(500 + (round * 7 + life * 3) % 23 * 400);
            let killed = async {
                tokio::time::sleep(delay).await;
                drop(witness);
            };
            let (answers, ()) = tokio::join!(all, killed);
            for (history, sizes) in answers.into_iter().enumerate() {
                signed[history].extend(sizes);
            }
        }
        assert!(
            signed.iter().filter(|sizes| !sizes.is_empty()).count() <= 1,
            "two histories were cosigned: {signed:?}"
        );
        signed_of_all += signed.iter().map(Vec::len).sum::<usize>();
        std::fs::remove_dir_all(directory).unwrap();
    }
    assert!(signed_of_all > 0, "nothing was cosigned at all: the test tests nothing");
}

/// Grows the history one entry at a time until the witness is gone; the sizes that were cosigned.
async fn push(url: &str, history: &History) -> Vec<u64> {
    let (mut known, mut signed) = (0, Vec::new());
    for _ in 0..200 {
        let size = (known + 1).min(40);
        match post(url, history.request(known, size)).await {
            Some((200, ..)) => {
                signed.push(size);
                known = size;
            }
            Some((409, _, newest)) => known = newest.trim().parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    signed
}
