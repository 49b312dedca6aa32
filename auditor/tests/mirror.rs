//! The mirror against a log that grows, and against logs that lie.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop where it stands"
)]

use std::{
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
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
    /// Path → what it answers instead.
    lies: Vec<(String, Vec<u8>)>,
}

impl Log {
    fn grow(&mut self, salt: u8, to: u16) {
        let from = u16::try_from(self.entries.len()).unwrap();
        self.entries.extend((from..to).map(|number| sha256(&[&[salt][..], &number.to_be_bytes()].concat())));
    }

    fn leaves(&self) -> Vec<Hash> {
        self.entries.iter().map(leaf_hash).collect()
    }

    fn answer(&self, path: &str) -> Option<Vec<u8>> {
        if let Some((_, lie)) = self.lies.iter().find(|(lying, _)| lying == path) {
            return Some(lie.clone());
        }
        if path == "checkpoint" {
            let (size, root) = (u64::try_from(self.entries.len()).unwrap(), merkle::root(&self.leaves()));
            return Some(
                Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&key()).to_string().into_bytes(),
            );
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
        let found = log.lock().unwrap().answer(&path);
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
        std::fs::write(directory.join("trust"), format!("log {}\nquorum none\n", key().verifier())).unwrap();
        Self { url: serve(log), directory }
    }

    /// Exit status and words of a look.
    async fn look(&self) -> (i32, String) {
        let (url, directory) = (self.url.clone(), self.directory.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_suyuan-auditor"));
            command
                .args(["mirror", &url])
                .arg(directory.join("copy"))
                .arg("--trust")
                .arg(directory.join("trust"));
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
    assert!(said.contains("300 entries, 2 tiles copied"), "{said}");
    log.lock().unwrap().grow(0, 700);
    let (status, said) = reader.look().await;
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("700 entries, 2 tiles copied"), "{said}");
    let copied = std::fs::read(reader.directory.join("copy/tile/0/001")).unwrap();
    assert_eq!(Some(copied), log.lock().unwrap().answer("tile/0/001"), "as the log serves it");
}

#[actix_web::test]
async fn a_log_of_more_than_one_level_is_checked_on_each() {
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, u16::MAX);
    let last = log.lock().unwrap().entries.len();
    assert_eq!(last, 65_535, "one short of a full tile of level 1");
    let reader = Reader::new(&log, "levels");
    assert_eq!(reader.look().await.0, 0);
    log.lock().unwrap().entries.push(sha256(b"one more"));
    let (status, said) = reader.look().await;
    assert_eq!(status, 0, "{said}");
    assert!(reader.directory.join("copy/tile/1/000").exists());
}

#[actix_web::test]
async fn a_log_that_forks_rolls_back_or_serves_other_tiles_raises_an_alarm() {
    let log = Arc::new(Mutex::new(Log::default()));
    log.lock().unwrap().grow(0, 300);
    let reader = Reader::new(&log, "lies");
    assert_eq!(reader.look().await.0, 0);

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
    }
    for path in ["tile/0/001.p/144", "tile/entries/001.p/144", "tile/1/000.p/1"] {
        show(400, 400);
        let mut lie = log.lock().unwrap().answer(path).unwrap();
        *lie.last_mut().unwrap() ^= 1;
        log.lock().unwrap().lies.push((path.to_owned(), lie));
        let (status, said) = reader.look().await;
        assert_eq!(status, 1, "{path}: {said}");
    }
    show(400, 400);
    assert_eq!(reader.look().await.0, 0, "lies changed nothing of the copy");
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
