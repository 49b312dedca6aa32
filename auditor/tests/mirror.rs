//! The mirror against a log that grows, and against logs that lie.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop where it stands"
)]

#[path = "../../contracts/tests/node/mod.rs"]
mod node;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use auditor::{
    state::State,
    witness::{self, Witness},
};
use contracts::{Chain as _, Evm, Head, Terms};
use node::{Anvil, CHAIN_ID, account};
use trace::{
    hash::{Hash, sha256},
    keys::SecretKey,
    merkle::{self, leaf_hash},
    tlog::{
        checkpoint::Checkpoint,
        note::SignerKey,
        tile::{TileId, TilePath, tile_root},
    },
};

const ORIGIN: &str = "log.example/demo/2026";

fn key() -> SignerKey {
    SignerKey { name: ORIGIN.parse().unwrap(), secret: SecretKey::from_seed(&[1; 32]) }
}

/// A log as it shows itself: any part of it may be made to lie.
#[derive(Default)]
struct Log {
    entries: Vec<Hash>,
    /// Path → what it answers instead: nothing, where that is empty.
    lies: Vec<(String, Vec<u8>)>,
    /// Paths that were asked for.
    asked: Vec<String>,
}

impl Log {
    fn grow(&mut self, salt: u8, to: u16) {
        let from = u16::try_from(self.entries.len()).unwrap();
        self.entries.extend((from..to).map(|number| sha256(&[&[salt][..], &number.to_be_bytes()].concat())));
    }

    fn leaves(&self) -> Vec<Hash> {
        self.entries.iter().map(leaf_hash).collect()
    }

    fn head(&self) -> Checkpoint {
        let (size, root) = (u64::try_from(self.entries.len()).unwrap(), merkle::root(&self.leaves()));
        Checkpoint { origin: ORIGIN.to_owned(), size, root }
    }

    fn proof_from(&self, size: u64) -> Vec<Hash> {
        let leaves = self.leaves();
        let nodes = |level: u8, index: u64| {
            let start = usize::try_from(index << level).ok()?;
            leaves.get(start..start + (1 << level)).map(merkle::root)
        };
        merkle::consistency_proof(&nodes, size, self.head().size).unwrap()
    }

    fn answer(&self, path: &str) -> Option<Vec<u8>> {
        if let Some((_, lie)) = self.lies.iter().find(|(lying, _)| lying == path) {
            return (!lie.is_empty()).then(|| lie.clone());
        }
        if path == "checkpoint" {
            return Some(self.head().sign(&key()).to_string().into_bytes());
        }
        let (level, index, width) = match path.parse().ok()? {
            TilePath::Entries { index, width } => {
                let entries = self.entries.chunks(256).nth(usize::try_from(index).unwrap())?;
                let bundle = |entry: &Hash| [&[0, 32][..], entry.as_bytes()].concat();
                return Some(entries.get(..usize::from(width))?.iter().flat_map(bundle).collect());
            }
            TilePath::Hashes(TileId { level, index, width }) => (level, index, width),
        };
        if level == 0 {
            let entries = self.entries.chunks(256).nth(usize::try_from(index).unwrap())?;
            return Some(
                entries.get(..usize::from(width))?.iter().flat_map(|entry| leaf_hash(entry).0).collect(),
            );
        }
        let mut hashes = self.leaves();
        for _ in 0..level {
            hashes = hashes.chunks_exact(256).map(tile_root).collect();
        }
        let tile = hashes.chunks(256).nth(usize::try_from(index).unwrap())?.get(..usize::from(width))?;
        Some(tile.iter().flat_map(|hash| hash.0).collect())
    }
}

/// Serves the log under an address of its own.
fn serve(log: &Arc<Mutex<Log>>) -> String {
    async fn answer(log: web::Data<Arc<Mutex<Log>>>, request: HttpRequest) -> HttpResponse {
        let path = request.path().trim_start_matches("/log/").to_owned();
        let mut log = log.lock().unwrap();
        log.asked.push(path.clone());
        let found = log.answer(&path);
        found.map_or_else(|| HttpResponse::NotFound().finish(), |bytes| HttpResponse::Ok().body(bytes))
    }
    let shared = web::Data::new(Arc::clone(log));
    let server =
        HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(answer)))
            .workers(1)
            .bind("127.0.0.1:0")
            .unwrap();
    let url = format!("http://{}/log", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

struct Reader {
    url: String,
    directory: PathBuf,
}

impl Reader {
    fn new(log: &Arc<Mutex<Log>>, name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("suyuan-mirror-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&directory));
        std::fs::create_dir(&directory).unwrap();
        let reader = Self { url: serve(log), directory };
        reader.trust("");
        reader
    }

    /// What the trust file says beside the log.
    fn trust(&self, lines: &str) {
        let trust = format!("log {}\n{lines}quorum none\n", key().verifier());
        std::fs::write(self.directory.join("trust"), trust).unwrap();
    }

    fn copy(&self) -> PathBuf {
        self.directory.join("copy")
    }

    /// The evidence that the last words name.
    fn evidence(said: &str) -> String {
        let path = said.lines().find_map(|line| line.strip_prefix("evidence")).unwrap();
        std::fs::read_to_string(Path::new(path.trim())).unwrap()
    }

    /// Exit status and words of a look.
    async fn look(&self) -> (i32, String) {
        self.look_with(&[]).await
    }

    async fn look_with(&self, options: &[&str]) -> (i32, String) {
        let (url, directory) = (self.url.clone(), self.directory.clone());
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let looked = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_suyuan-auditor"));
            command
                .args(["mirror", &url])
                .arg(directory.join("copy"))
                .arg("--trust")
                .arg(directory.join("trust"))
                .args(options);
            command.output().unwrap()
        });
        let looked = looked.await.unwrap();
        let said = [looked.stdout, looked.stderr].concat();
        (looked.status.code().unwrap(), String::from_utf8(said).unwrap())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap_or_default();
    }
}

#[actix_web::test]
async fn a_growing_log_is_copied_once_and_checked_each_time() {
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, 300);
    let reader = Reader::new(&log, "grows");
    let (status, said) = reader.look().await;
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("300 entries, 5 tiles copied"), "{said}");
    let partial = ["tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"];
    for path in partial {
        let copied = std::fs::read(reader.copy().join(path)).unwrap();
        assert_eq!(Some(copied), log.lock().unwrap().answer(path), "{path} as the log serves it");
    }
    let (status, said) = reader.look().await;
    assert_eq!((status, said.contains("300 entries, 0 tiles copied")), (0, true), "{said}");
    log.lock().unwrap().grow(0, 700);
    let (status, said) = reader.look().await;
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("700 entries, 5 tiles copied"), "{said}");
    for path in ["tile/0/001", "tile/entries/001", "tile/0/002.p/188"] {
        let copied = std::fs::read(reader.copy().join(path)).unwrap();
        assert_eq!(Some(copied), log.lock().unwrap().answer(path), "{path} as the log serves it");
    }
    for path in partial {
        assert!(!reader.copy().join(path).exists(), "{path} is of no head any more");
    }
}

#[actix_web::test]
async fn a_log_of_more_than_one_level_is_checked_on_each_and_read_once() {
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, u16::MAX);
    let last = log.lock().unwrap().entries.len();
    assert_eq!(last, 65_535, "one short of a full tile of level 1");
    let reader = Reader::new(&log, "levels");
    assert_eq!(reader.look().await.0, 0);
    log.lock().unwrap().entries.push(sha256(b"one more"));
    log.lock().unwrap().asked.clear();
    let (status, said) = reader.look().await;
    assert_eq!(status, 0, "{said}");
    assert!(reader.copy().join("tile/1/000").exists());
    assert!(reader.copy().join("tile/2/000.p/1").exists());
    let asked = log.lock().unwrap().asked.clone();
    assert!(asked.len() <= 6, "only what is new is read: {asked:?}");
}

#[actix_web::test]
async fn a_log_that_forks_rolls_back_or_serves_other_tiles_raises_an_alarm() {
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, 300);
    let reader = Reader::new(&log, "lies");
    assert_eq!(reader.look().await.0, 0);
    let kept = std::fs::read_to_string(reader.copy().join("checkpoint")).unwrap();

    let show = |size: u16, fork_at: u16| {
        let mut log = log.lock().unwrap();
        *log = Log::default();
        log.grow(0, fork_at);
        log.grow(7, size);
    };
    for (size, fork_at, words) in
        [(200, 200, "rolled back"), (300, 299, "SPLIT VIEW"), (400, 299, "SPLIT VIEW")]
    {
        show(size, fork_at);
        let (status, said) = reader.look().await;
        assert_eq!(status, 1, "{size}: {said}");
        assert!(said.contains(words), "{said}");
        let shown = String::from_utf8(log.lock().unwrap().answer("checkpoint").unwrap()).unwrap();
        let evidence = Reader::evidence(&said);
        assert!(evidence.contains(&kept) && evidence.contains(&shown), "both notes are kept: {evidence}");
    }
    for path in ["tile/0/001.p/144", "tile/entries/001.p/144", "tile/1/000.p/1"] {
        show(400, 400);
        let mut lie = log.lock().unwrap().answer(path).unwrap();
        *lie.last_mut().unwrap() ^= 1;
        let lie_as_text = trace::b64::std(&lie);
        log.lock().unwrap().lies.push((path.to_owned(), lie));
        let (status, said) = reader.look().await;
        assert_eq!(status, 1, "{path}: {said}");
        assert!(Reader::evidence(&said).contains(&lie_as_text), "{path}: what was served is kept");
        let kept = std::fs::read(reader.copy().join(path)).ok().map(|kept| trace::b64::std(&kept));
        assert_ne!(kept, Some(lie_as_text), "{path}: and not taken for a tile");
    }
    show(400, 400);
    assert_eq!(reader.look().await.0, 0, "lies changed nothing of the copy");
}

#[actix_web::test]
async fn full_tiles_that_do_not_fit_are_not_kept() {
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, 700);
    let reader = Reader::new(&log, "full");
    for path in ["tile/0/001", "tile/entries/001"] {
        let mut lie = log.lock().unwrap().answer(path).unwrap();
        lie[40] ^= 1;
        log.lock().unwrap().lies = vec![(path.to_owned(), lie)];
        let (status, said) = reader.look().await;
        assert_eq!((status, said.contains(path)), (1, true), "{said}");
        assert!(!reader.copy().join(path).exists());
    }
    log.lock().unwrap().lies.clear();
    assert_eq!(reader.look().await.0, 0);
}

#[actix_web::test]
async fn a_copy_that_was_cut_off_goes_on_and_holds_the_log_to_what_it_showed() {
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, 3_000);
    let reader = Reader::new(&log, "cut-off");
    log.lock().unwrap().lies = vec![("tile/entries/007".to_owned(), Vec::new())];
    assert_eq!(reader.look().await.0, 2, "a tile that is not served is no alarm");
    assert!(!reader.copy().join("checkpoint").exists());
    let honest = log.lock().unwrap().entries.clone();

    // Another history from a place that was not copied yet.
    log.lock().unwrap().lies.clear();
    log.lock().unwrap().entries[2_900] = sha256(b"another");
    let (status, said) = reader.look().await;
    assert_eq!((status, said.contains("SPLIT VIEW")), (1, true), "{said}");

    log.lock().unwrap().entries = honest;
    log.lock().unwrap().asked.clear();
    assert_eq!(reader.look().await.0, 0);
    let asked = log.lock().unwrap().asked.clone();
    assert!(!asked.contains(&"tile/0/003".to_owned()), "it was there: {asked:?}");
    assert!(asked.contains(&"tile/entries/007".to_owned()));
}

#[actix_web::test]
async fn damage_of_the_copy_is_told_apart_from_alarms() {
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, 300);
    let reader = Reader::new(&log, "damage");
    assert_eq!(reader.look().await.0, 0);
    log.lock().unwrap().grow(0, 310);
    for path in ["tile/0/001.p/44", "tile/1/000.p/1", "checkpoint"] {
        let file = reader.copy().join(path);
        let whole = std::fs::read(&file).unwrap();
        let mut spoilt = whole.clone();
        spoilt[8] ^= 1;
        std::fs::write(&file, spoilt).unwrap();
        let (status, said) = reader.look().await;
        assert_eq!(status, 2, "{path}: {said}");
        std::fs::remove_file(&file).unwrap();
        if path != "checkpoint" {
            assert_eq!(reader.look().await.0, 2, "{path} is gone");
        }
        std::fs::write(&file, whole).unwrap();
    }
    assert_eq!(reader.look().await.0, 0);
}

/// A witness that has cosigned this head.
fn witness_of(directory: &Path, head: &Checkpoint) -> (String, tokio::task::JoinHandle<()>) {
    let signer =
        SignerKey { name: "regulator.example/w".parse().unwrap(), secret: SecretKey::from_seed(&[5; 32]) };
    let directory = directory.join(format!("witness-{}-{}", head.size, head.root));
    let state = State::init(&directory, &witness::verifier(&signer)).unwrap();
    state.advance(head).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let line =
        format!("witness w {} http://{}\n", witness::verifier(&signer), listener.local_addr().unwrap());
    let witness = web::Data::new(Witness::new(signer, vec![key().verifier()], state).unwrap());
    let server = witness::serve(listener, witness).unwrap();
    (line, tokio::spawn(async { server.await.unwrap() }))
}

#[actix_web::test]
async fn what_a_witness_has_seen_is_compared() {
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, 700);
    let reader = Reader::new(&log, "witness");
    let head = |salt, size| {
        let mut seen = Log::default();
        seen.grow(0, 299);
        seen.grow(salt, size);
        seen.head()
    };
    for (seen, status, words) in [
        (head(0, 700), 0, "1 of 1 asked agree"),
        (head(0, 300), 0, "1 of 1 asked agree"),
        (head(0, 512), 0, "1 of 1 asked agree"),
        (head(7, 700), 1, "SPLIT VIEW"),
        (head(7, 300), 1, "SPLIT VIEW"),
        (head(0, 800), 1, "rolled back"),
    ] {
        let (line, server) = witness_of(&reader.directory, &seen);
        reader.trust(&line);
        let (found, said) = reader.look_with(&["--witness-lead", "1"]).await;
        assert_eq!((found, said.contains(words)), (status, true), "{}: {said}", seen.size);
        server.abort();
    }
    // One that knows more is waited for: the log shows a head when enough have cosigned it.
    let (line, server) = witness_of(&reader.directory, &head(0, 900));
    reader.trust(&line);
    let grown = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        log.lock().unwrap().grow(0, 1_000);
    };
    let ((status, said), ()) = tokio::join!(reader.look_with(&["--witness-lead", "30"]), grown);
    assert_eq!((status, said.contains("1000 entries")), (0, true), "{said}");
    server.abort();
    // One that is silent is counted, and no alarm.
    reader.trust(&silent_witness());
    let (status, said) = reader.look().await;
    assert_eq!((status, said.contains("0 of 1 asked agree")), (0, true), "{said}");
}

/// Nobody listens there.
fn silent_witness() -> String {
    let signer =
        SignerKey { name: "regulator.example/w".parse().unwrap(), secret: SecretKey::from_seed(&[5; 32]) };
    format!("witness w {} http://127.0.0.1:9\n", witness::verifier(&signer))
}

/// Registers the origin and anchors the first head.
async fn anchor(chain: &Evm, head: &Checkpoint) {
    let administrator = account(2);
    chain.register(&account(1), 0, &head.origin, administrator.address()).await.unwrap();
    publish(chain, head, &[]).await;
}

/// Anchors a head that extends the last one by `proof`.
async fn publish(chain: &Evm, head: &Checkpoint, proof: &[Hash]) {
    let administrator = account(2);
    let terms = Terms { nonce: chain.nonce(administrator.address()).await.unwrap(), gas_price: 0 };
    let head = Head { origin: head.origin.clone(), size: head.size, root: head.root };
    let ticket = chain.ticket(&administrator, terms, &head, proof).unwrap();
    chain.submit(&ticket).await.unwrap();
    for _ in 0..100 {
        if let Some(receipt) = chain.receipt(ticket.transaction).await.unwrap() {
            assert!(receipt.succeeded);
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not mined");
}

#[actix_web::test]
async fn what_the_chain_has_is_compared() {
    let anvil = Anvil::start(0).await;
    let (contract, _) = anvil.contract().await;
    let chain = Evm::connect(anvil.rpc(), CHAIN_ID, contract).await.unwrap();
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, 300);
    let head = log.lock().unwrap().head();
    anchor(&chain, &head).await;
    let reader = Reader::new(&log, "chain");
    reader.trust(&format!("chain {CHAIN_ID} {contract:#x}\n"));
    let look = async || reader.look_with(&["--rpc", &anvil.url, "--confirmations", "0"]).await;

    log.lock().unwrap().grow(0, 700);
    let (status, said) = look().await;
    assert_eq!((status, said.contains("300 of them on the chain")), (0, true), "{said}");
    std::fs::remove_dir_all(reader.copy()).unwrap();
    log.lock().unwrap().entries[150] = sha256(b"another");
    let (status, said) = look().await;
    assert_eq!((status, said.contains("SPLIT VIEW")), (1, true), "{said}");
    assert!(Reader::evidence(&said).contains(&head.root.to_string()), "the chain's root is evidence");
    log.lock().unwrap().entries.truncate(100);
    let (status, said) = look().await;
    assert_eq!((status, said.contains("rolled back")), (1, true), "{said}");
}

#[actix_web::test]
async fn a_head_counts_when_enough_blocks_stand_on_it() {
    let anvil = Anvil::start(0).await;
    let (contract, _) = anvil.contract().await;
    let chain = Evm::connect(anvil.rpc(), CHAIN_ID, contract).await.unwrap();
    let mine = async |blocks: &str| {
        let mined: serde_json::Value =
            anvil.rpc().call("anvil_mine", serde_json::json!([blocks])).await.unwrap();
        assert!(mined.is_null());
    };
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, 300);
    let reader = Reader::new(&log, "deep");
    reader.trust(&format!("chain {CHAIN_ID} {contract:#x}\n"));
    let look = async || reader.look_with(&["--rpc", &anvil.url, "--confirmations", "100"]).await;
    let head = log.lock().unwrap().head();
    anchor(&chain, &head).await;
    let (status, said) = look().await;
    assert_eq!((status, said.contains("on the chain")), (0, false), "too young: {said}");
    mine("0x64").await;
    let (status, said) = look().await;
    assert_eq!((status, said.contains("300 of them on the chain")), (0, true), "{said}");

    // A later head of another history, which a re-organisation could still take back.
    let mut other = Log::default();
    other.grow(0, 300);
    other.grow(7, 400);
    publish(&chain, &other.head(), &other.proof_from(300)).await;
    log.lock().unwrap().grow(0, 700);
    let (status, said) = look().await;
    assert_eq!(
        (status, said.contains("300 of them on the chain")),
        (0, true),
        "the older one counts: {said}"
    );
    mine("0x64").await;
    let (status, said) = look().await;
    assert_eq!((status, said.contains("SPLIT VIEW")), (1, true), "{said}");
    assert!(Reader::evidence(&said).contains(&other.head().root.to_string()));
}

#[actix_web::test]
async fn an_unknown_log_and_one_that_does_not_answer_are_told_apart_from_alarms() {
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, 3);
    let reader = Reader::new(&log, "unknown");
    log.lock().unwrap().lies.push(("checkpoint".to_owned(), b"nothing of the kind".to_vec()));
    assert_eq!(reader.look().await.0, 2);
    log.lock().unwrap().lies = vec![("checkpoint".to_owned(), vec![b'x'; 1_000_000])];
    assert_eq!(reader.look().await.0, 2);
}
