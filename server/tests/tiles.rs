//! The log over HTTP, read by a C2SP client that is not ours (`tlog_tiles`, `signed_note`), and what caches are told of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what it expects by failing"
)]

mod database;
mod house;
mod served;

use std::sync::Arc;

use reqwest::{Client, Response, StatusCode};
use server::{app::AppState, jobs::sequencer::Sequencer};
use signed_note::{Note, StandardVerifier, VerifierList};
use store::ledger as rows;
use tlog_tiles::{Checkpoint, Tile, TileHashReader, TileReader};
use tokio::runtime::Handle;
use trace::hash::sha256;

/// A tile of each kind: 256 full ones of level 0, so that level 1 has a full one, and a partial one of each level.
const LEAVES: u32 = 256 * 257 + 77;

fn entry(number: u32) -> Vec<u8> {
    sha256(&number.to_be_bytes()).as_bytes().to_vec()
}

async fn append(state: &AppState, sequencer: &mut Sequencer, from: u32, to: u32) {
    let mut conn = state.store.connection().await.unwrap();
    let entries: Vec<Vec<u8>> = (from..to).map(entry).collect();
    rows::queue_all(&mut conn, &entries).await.unwrap();
    while sequencer.step().await.unwrap().is_some() {}
    assert_eq!(sequencer.size(), u64::from(to));
}

async fn lead(state: &AppState) -> Sequencer {
    Sequencer::lead(Arc::clone(&state.ledger)).await.unwrap().unwrap()
}

fn said(answer: &Response, name: &str) -> String {
    answer.headers().get(name).map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tile_is_kept_for_ever_and_one_that_is_not_there_is_known_to_nobody() {
    let Some(url) = database::fresh("tiles").await else { return };
    let state = house::state(&url).await;
    let prefix = served::listen(&state);
    let mut sequencer = lead(&state).await;
    append(&state, &mut sequencer, 0, 700).await;
    let client = Client::new();
    for path in [
        "tile/0/000",
        "tile/0/002.p/188",
        "tile/0/002.p/7",
        "tile/1/000.p/2",
        "tile/entries/001",
        "tile/entries/002.p/188",
    ] {
        let first = client.get(format!("{prefix}/{path}")).send().await.unwrap();
        assert_eq!(first.status(), StatusCode::OK, "{path}");
        assert_eq!(said(&first, "cache-control"), "public, max-age=31536000, immutable", "{path}");
        let tag = said(&first, "etag");
        assert!(tag.starts_with('"'), "{path}: {tag:?} is no strong tag");
        assert!(!first.bytes().await.unwrap().is_empty());
        for known in [tag.as_str(), "*"] {
            let again =
                client.get(format!("{prefix}/{path}")).header("If-None-Match", known).send().await.unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path} {known}");
            assert_eq!(said(&again, "etag"), tag, "{path}");
            assert_eq!(said(&again, "cache-control"), "public, max-age=31536000, immutable", "{path}");
            assert!(again.bytes().await.unwrap().is_empty(), "{path}");
        }
        let other = client.get(format!("{prefix}/{path}")).header("If-None-Match", "\"tile/9/000\"").send();
        assert_eq!(other.await.unwrap().status(), StatusCode::OK, "{path}");
    }
    // Not yet there, or never: the tag that it would have changes nothing, and no cache may keep the answer.
    for path in ["tile/0/002", "tile/0/002.p/189", "tile/1/000.p/3", "tile/2/000.p/1", "tile/entries/003.p/1"]
    {
        for known in [format!("\"{path}\""), "*".to_owned()] {
            let answer =
                client.get(format!("{prefix}/{path}")).header("If-None-Match", known).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            let kept = said(&answer, "cache-control");
            assert!(!kept.contains("immutable") && !kept.contains("max-age=31536000"), "{path}: {kept}");
        }
    }
    append(&state, &mut sequencer, 700, 768).await;
    let full = client.get(format!("{prefix}/tile/0/002")).send().await.unwrap();
    assert_eq!((full.status(), full.bytes().await.unwrap().len()), (StatusCode::OK, 8_192));
}

/// Reads tiles over HTTP for the foreign client, and counts them.
struct Remote {
    client: Client,
    prefix: String,
    runtime: Handle,
}

impl Remote {
    fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.runtime.block_on(async {
            let answer = self.client.get(format!("{}/{path}", self.prefix)).send().await.unwrap();
            let found = answer.status() == StatusCode::OK;
            let bytes = answer.bytes().await.unwrap();
            found.then(|| bytes.to_vec())
        })
    }

    /// The checkpoint, its log's signature checked by the foreign verifier.
    fn checkpoint(&self, vkey: &str) -> Checkpoint {
        let note = Note::from_bytes(&self.get("checkpoint").unwrap()).unwrap();
        let verifier = StandardVerifier::new(vkey).unwrap();
        let (good, _) = note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
        assert_eq!(good.len(), 1);
        Checkpoint::from_bytes(note.text()).unwrap()
    }
}

impl TileReader for Remote {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        // The crate writes the paths of Go's checksum database, which begin with the height; those of C2SP do not.
        let path = |tile: &Tile| tile.path().replacen("tile/8/", "tile/", 1);
        tiles.iter().map(|tile| self.get(&path(tile)).ok_or(tlog_tiles::Error::InvalidTile)).collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_not_ours_rebuilds_the_root_and_proves_every_kind_of_entry() {
    let Some(url) = database::fresh("tiles").await else { return };
    let state = house::state(&url).await;
    let prefix = served::listen(&state);
    let vkey = state.ledger.open_log().verifier.to_string();
    let remote = Remote { client: Client::new(), prefix, runtime: Handle::current() };
    let mut sequencer = lead(&state).await;
    append(&state, &mut sequencer, 0, 1_000).await;
    let (remote, vkey, old) = tokio::task::spawn_blocking(move || {
        let old = remote.checkpoint(&vkey);
        (remote, vkey, old)
    })
    .await
    .unwrap();
    append(&state, &mut sequencer, 1_000, LEAVES).await;
    let origin = state.ledger.open_log().origin.clone();
    tokio::task::spawn_blocking(move || check(&remote, &vkey, &old, &origin)).await.unwrap();
}

fn check(remote: &Remote, vkey: &str, old: &Checkpoint, origin: &str) {
    let head = remote.checkpoint(vkey);
    assert_eq!((head.origin(), head.size(), old.size()), (origin, u64::from(LEAVES), 1_000));
    let (size, root) = (head.size(), *head.hash());
    // Every hash that this reader gives out was checked against the root.
    let reader = TileHashReader::new(size, root, remote);
    assert_eq!(tlog_tiles::tree_hash(size, &reader).unwrap(), root);
    assert_eq!(tlog_tiles::tree_hash(1_000, &reader).unwrap(), *old.hash());
    let proof = tlog_tiles::prove_tree(size, 1_000, &reader).unwrap();
    tlog_tiles::check_tree(&proof, size, root, 1_000, *old.hash()).unwrap();
    for index in [0, 255, 256, 65_535, 65_536, LEAVES - 1] {
        let leaf = tlog_tiles::record_hash(&entry(index));
        let proof = tlog_tiles::prove_record(size, u64::from(index), &reader).unwrap();
        tlog_tiles::check_record(&proof, size, root, u64::from(index), leaf).unwrap();
    }
    // The entries themselves: bundles of length-prefixed entries, which make the same tiles.
    for (path, first, width) in [("000", 0, 256), ("x001/000", 256_000, 0), ("257.p/77", 257 * 256, 77)] {
        let Some(bundle) = remote.get(&format!("tile/entries/{path}")) else {
            assert_eq!(width, 0, "{path} is not there");
            continue;
        };
        let expected: Vec<u8> =
            (first..first + width).flat_map(|number| [vec![0, 32], entry(number)].concat()).collect();
        assert_eq!(bundle, expected, "{path}");
    }
}
