//! The witness as a process: its answers over HTTP, and what it has signed when it is killed at any moment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop where it stands"
)]

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
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
        Self::forked(salt, 0, size)
    }

    /// As the history of salt 0 up to `at`.
    fn forked(salt: u8, at: u8, size: u8) -> Self {
        let entry = |number| sha256(&[if number < at { 0 } else { salt }, number]);
        Self((0..size).map(|number| leaf_hash(&entry(number))).collect())
    }

    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        let start = usize::try_from(index << level).ok()?;
        self.0.get(start..start + (1 << level)).map(merkle::root)
    }

    fn root(&self, size: u64) -> Hash {
        merkle::root_at(&|level, index| self.node(level, index), size).unwrap()
    }

    fn request(&self, old: u64, size: u64) -> String {
        let head = Checkpoint { origin: ORIGIN.to_owned(), size, root: self.root(size) };
        let nodes = |level, index| self.node(level, index);
        let proof = merkle::consistency_proof(&nodes, old, size).unwrap_or_default();
        AddCheckpoint { old_size: old, proof, checkpoint: head.sign(&log_key()) }.to_string()
    }
}

/// `suyuan-auditor witness` over the state of this directory.
fn command(directory: &Path, listen: &str) -> Command {
    let mut command = Command::new(AUDITOR);
    command.args(["witness", "--listen", listen, "--log", &log_key().verifier().to_string()]);
    command.arg("--key").arg(directory.join("key")).arg("--state").arg(directory.join("state"));
    command
}

fn init(directory: &Path) -> Output {
    command(directory, "127.0.0.1:0").arg("--init").output().unwrap()
}

struct Witness {
    child: Child,
    address: SocketAddr,
    url: String,
}

impl Witness {
    async fn start(directory: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = command(directory, &address.to_string()).stderr(Stdio::null()).spawn().unwrap();
        let witness = Self { child, address, url: format!("http://{address}/add-checkpoint") };
        for _ in 0..1000 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return witness;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
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
    post_by(&reqwest::Client::new(), url, body).await
}

async fn post_by(client: &reqwest::Client, url: &str, body: String) -> Option<(u16, String, String)> {
    let answer = client.post(url).timeout(Duration::from_secs(5)).body(body).send().await.ok()?;
    let content_type = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    Some((answer.status().as_u16(), content_type.unwrap_or_default(), answer.text().await.ok()?))
}

fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("suyuan-witness-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&directory));
    std::fs::create_dir(&directory).unwrap();
    let made = Command::new(AUDITOR)
        .args(["keygen", "--name", "witness.example/w"])
        .arg(directory.join("key"))
        .output();
    assert!(made.unwrap().status.success());
    let made = init(&directory);
    assert_eq!(String::from_utf8(made.stdout).unwrap(), format!("{ORIGIN} from size 0\n"));
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
        ("an old size with a leading zero", log.request(5, 9).replacen('5', "05", 1), 400, "text/plain", ""),
        (
            "a proof from nothing",
            log.request(5, 9).replacen("old 5", "old 0", 1),
            409,
            "text/x.tlog.size",
            "5\n",
        ),
        ("no proof", without_proof(&log.request(5, 9)), 422, "text/plain", ""),
        ("a proof where nothing grew", with_proof(&log.request(5, 5), 1), 422, "text/plain", ""),
        ("64 hashes of a proof", with_proof(&log.request(5, 9), 64), 400, "text/plain", ""),
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

/// The request with so many hashes for its proof.
fn with_proof(request: &str, hashes: usize) -> String {
    let (head, checkpoint) = request.split_once("\n\n").unwrap();
    let old = head.lines().next().unwrap();
    let proof = format!("{}\n", trace::b64::std(&[7; 32])).repeat(hashes);
    format!("{old}\n{proof}\n{checkpoint}")
}

fn without_proof(request: &str) -> String {
    with_proof(request, 0)
}

#[tokio::test]
async fn a_witness_without_its_state_does_not_start() {
    let directory = directory("lost");
    let witness = Witness::start(&directory).await;
    let log = History::new(0, 9);
    assert_eq!(post(&witness.url, log.request(0, 5)).await.unwrap().0, 200);
    drop(witness);
    let again = String::from_utf8(init(&directory).stdout).unwrap();
    assert_eq!(again, format!("{ORIGIN} from size 5\n"), "--init forgets nothing");

    std::fs::remove_file(directory.join("state").join(sha256(ORIGIN.as_bytes()).to_string())).unwrap();
    let refused = command(&directory, "127.0.0.1:0").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8(refused.stderr).unwrap().contains(ORIGIN));
    std::fs::remove_dir_all(directory.join("state")).unwrap();
    let refused = command(&directory, "127.0.0.1:0").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_nothing_more_is_let_go_and_keeps_nobody_waiting() {
    let directory = directory("slow");
    let witness = Witness::start(&directory).await;
    let begun = Instant::now();
    let slow: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut slow = TcpStream::connect(witness.address).unwrap();
            slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            slow.write_all(b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: 100\r\n\r\nold 0")
                .unwrap();
            slow
        })
        .collect();
    assert_eq!(post(&witness.url, History::new(0, 9).request(0, 5)).await.unwrap().0, 200);
    assert!(begun.elapsed() < Duration::from_secs(4), "it was served while the others wait");
    let answers = tokio::task::spawn_blocking(move || {
        let answer = |mut slow: TcpStream| {
            let mut answer = String::new();
            slow.read_to_string(&mut answer).map(|_| answer)
        };
        slow.into_iter().map(answer).collect::<Vec<_>>()
    });
    for answer in answers.await.unwrap() {
        assert!(answer.unwrap().starts_with("HTTP/1.1 408"));
    }
    drop(witness);
    std::fs::remove_dir_all(directory).unwrap();
}

/// Entries up to which the competing histories are one.
const SHARED: u8 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_all_that_it_has_signed_is_of_one_history() {
    const ROUNDS: u64 = 32;
    const LIVES: u64 = 10;
    let (mut rounds, mut beyond_the_fork) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        rounds.push(tokio::spawn(kill_again_and_again(round, LIVES)));
        // Four witnesses at a time live and die.
        if rounds.len() == 4 {
            for ended in rounds.drain(..) {
                beyond_the_fork += ended.await.unwrap();
            }
        }
    }
    assert!(beyond_the_fork > 100, "{beyond_the_fork} heads beyond the fork: the test tests nothing");
}

/// Two histories with one beginning are pushed at once, and the witness dies over them, `lives` times. How many heads beyond
/// the fork it cosigned.
async fn kill_again_and_again(round: u64, lives: u64) -> usize {
    let directory = directory(&format!("killed-{round}"));
    let histories = [History::forked(1, SHARED, 40), History::forked(2, SHARED, 40)];
    let mut signed: BTreeMap<u64, Hash> = BTreeMap::new();
    for life in 0..lives {
        let witness = Witness::start(&directory).await;
        let url = witness.url.clone();
        let pushes = histories.iter().map(|history| push(&url, history));
        let delay = Duration::from_micros(300 + (round * 7 + life * 13) % 29 * 1_000);
        let killed = async {
            tokio::time::sleep(delay).await;
            drop(witness);
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(pushes), killed);
        for (history, sizes) in histories.iter().zip(answers) {
            for size in sizes {
                let root = history.root(size);
                let before = *signed.entry(size).or_insert(root);
                assert_eq!(before, root, "two roots of size {size} were cosigned");
            }
        }
        let is_one = |history: &&History| signed.iter().all(|(size, root)| history.root(*size) == *root);
        assert!(histories.iter().any(|history| is_one(&history)), "no history holds all of {signed:?}");
    }
    // What it remembers is never behind what it signed, and not beside it.
    let kept = std::fs::read_to_string(directory.join("state").join(sha256(ORIGIN.as_bytes()).to_string()));
    let kept: Checkpoint = kept.unwrap().parse().unwrap();
    let last = signed.keys().last().copied().unwrap_or(0);
    assert!(kept.size >= last, "{} is remembered, {last} was signed", kept.size);
    assert!(kept.size == 0 || histories.iter().any(|history| history.root(kept.size) == kept.root));
    std::fs::remove_dir_all(directory).unwrap();
    signed.keys().filter(|size| **size > u64::from(SHARED)).count()
}

/// Grows the history one entry at a time until the witness is gone; the sizes that were cosigned.
async fn push(url: &str, history: &History) -> Vec<u64> {
    let (mut known, mut signed, client) = (0, Vec::new(), reqwest::Client::new());
    for _ in 0..200 {
        let size = (known + 1).min(40);
        match post_by(&client, url, history.request(known, size)).await {
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
