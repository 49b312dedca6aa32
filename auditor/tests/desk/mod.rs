//! A reader's desk with the files that the auditor is given, and a log small enough to stand in memory.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use trace::{hash::Hash, keys::SecretKey, merkle, tlog::note::SignerKey};
use uuid::Uuid;

pub const ORIGIN: &str = "log.example/suyuan-test/2026";

pub fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey { name: name.parse().unwrap(), secret: SecretKey::from_seed(&[seed; 32]) }
}

/// The full nodes of the tree over `leaves`, for its proofs.
pub fn nodes(leaves: &[Hash]) -> impl Fn(u8, u64) -> Option<Hash> {
    |level, index| {
        let start = usize::try_from(index << level).ok()?;
        leaves.get(start..start + (1 << level)).map(merkle::root)
    }
}

pub struct Desk(PathBuf);

impl Desk {
    pub fn new() -> Self {
        let desk = Self(std::env::temp_dir().join(format!("suyuan-desk-{}", Uuid::now_v7())));
        std::fs::create_dir(&desk.0).unwrap();
        desk
    }

    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, bytes).unwrap();
        file
    }

    /// Exit status and what was printed.
    pub fn verify(&self, proof: &Path, trust: &Path, more: &[&str]) -> (i32, String) {
        let mut auditor = Command::new(env!("CARGO_BIN_EXE_suyuan-auditor"));
        auditor.current_dir(&self.0).arg("verify").arg(proof).arg("--trust").arg(trust).args(more);
        let run = auditor.output().unwrap();
        let printed = String::from_utf8([run.stdout, run.stderr].concat()).unwrap();
        (run.status.code().unwrap(), printed)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}
