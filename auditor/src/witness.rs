//! `witness`: C2SP tlog-witness 1.0.0, `POST /add-checkpoint`.
//!
//! One request at a time is judged, so that two heads of one size can never both be cosigned; the new head is durable before
//! the answer leaves.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::{
    App, HttpResponse, HttpServer,
    http::StatusCode,
    web::{Data, PayloadConfig, post},
};
use trace::{
    merkle::{ProofError, empty_root, verify_consistency},
    tlog::{
        checkpoint::{Checkpoint, CheckpointError},
        cosignature,
        note::{NoteError, SignerKey, VerifierKey},
        witness::{AddCheckpoint, REQUEST_BYTES_MAX, RequestError, SIZE_CONTENT_TYPE},
    },
};

use crate::state::{State, StateError};

/// A witness and what it remembers.
pub struct Witness {
    signer: SignerKey,
    logs: Vec<VerifierKey>,
    state: Mutex<State>,
}

/// Why a head is not cosigned; each has its status in the specification.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the checkpoint is not one")]
    Malformed,
    #[error("the log is not known here")]
    UnknownLog,
    #[error("the log did not sign this checkpoint")]
    NotSigned,
    #[error("the old size is larger than the checkpoint's")]
    OldSizeTooLarge,
    #[error("the newest head known here has size {0}")]
    OtherSize(u64),
    #[error("the head of size {0} known here has another root")]
    OtherRoot(u64),
    #[error("not the history known here: {0}")]
    NotConsistent(ProofError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Refused {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Request(_) | Self::Malformed | Self::OldSizeTooLarge => StatusCode::BAD_REQUEST,
            Self::UnknownLog => StatusCode::NOT_FOUND,
            Self::NotSigned => StatusCode::FORBIDDEN,
            Self::OtherSize(_) | Self::OtherRoot(_) => StatusCode::CONFLICT,
            Self::NotConsistent(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::State(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Witness {
    pub fn new(signer: SignerKey, logs: Vec<VerifierKey>, state: State) -> Self {
        Self { signer, logs, state: Mutex::new(state) }
    }

    /// Judges a request at `now` (Unix seconds); the answer is a cosignature line.
    pub fn add_checkpoint(&self, body: &str, now: u64) -> Result<String, Refused> {
        let request: AddCheckpoint = body.parse()?;
        let origin = request.checkpoint.text.lines().next().unwrap_or_default();
        let log = self.logs.iter().find(|log| log.name.as_str() == origin).ok_or(Refused::UnknownLog)?;
        let head = Checkpoint::open(&request.checkpoint, log).map_err(|error| match error {
            CheckpointError::Note(NoteError::BadSignature | NoteError::Unsigned(_)) => Refused::NotSigned,
            _ => Refused::Malformed,
        })?;
        if request.old_size > head.size {
            return Err(Refused::OldSizeTooLarge);
        }
        // Whoever panicked while judging left the file whole: it is replaced by one rename.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (size, root) = match state.newest(origin)? {
            Some(known) => (known.size, known.root),
            None => (0, empty_root()),
        };
        if request.old_size != size {
            return Err(Refused::OtherSize(size));
        }
        if head.size == size && head.root != root {
            return Err(Refused::OtherRoot(size));
        }
        verify_consistency(size, &root, head.size, &head.root, &request.proof)
            .map_err(Refused::NotConsistent)?;
        state.advance(&head)?;
        Ok(format!("{}\n", cosignature::cosign(&request.checkpoint.text, now, &self.signer)))
    }
}

/// Serves until the process is told to stop.
pub fn run(listen: SocketAddr, signer: SignerKey, state: State, logs: Vec<VerifierKey>) -> io::Result<()> {
    tracing_subscriber::fmt().json().with_writer(io::stderr).init();
    let witness = Data::new(Witness::new(signer, logs, state));
    actix_web::rt::System::new().block_on(async move {
        tracing::info!(%listen, "witnessing");
        HttpServer::new(move || {
            App::new()
                .app_data(witness.clone())
                .app_data(PayloadConfig::new(REQUEST_BYTES_MAX))
                .route("/add-checkpoint", post().to(add_checkpoint))
        })
        .workers(1)
        .bind(listen)?
        .run()
        .await
    })
}

async fn add_checkpoint(witness: Data<Witness>, body: String) -> HttpResponse {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match witness.add_checkpoint(&body, now) {
        Ok(line) => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(line),
        Err(refused @ (Refused::OtherSize(size) | Refused::OtherRoot(size))) => {
            tracing::warn!(reason = %refused, "not cosigned");
            HttpResponse::Conflict().content_type(SIZE_CONTENT_TYPE).body(format!("{size}\n"))
        }
        Err(refused) => {
            if let Refused::State(error) = &refused {
                tracing::error!(%error, "the state cannot be kept");
            } else {
                tracing::warn!(reason = %refused, "not cosigned");
            }
            HttpResponse::build(refused.status())
                .content_type("text/plain; charset=utf-8")
                .body(format!("{refused}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use trace::{
        hash::{Hash, sha256},
        keys::SecretKey,
        merkle::{self, leaf_hash},
        tlog::note::Algorithm,
    };

    use super::*;

    struct Log {
        key: SignerKey,
        leaves: Vec<Hash>,
    }

    fn signer(name: &str, seed: u8) -> SignerKey {
        SignerKey { name: name.parse().unwrap(), secret: SecretKey::from_seed(&[seed; 32]) }
    }

    impl Log {
        fn new(salt: u8, size: u8) -> Self {
            let leaves = (0..size).map(|number| leaf_hash(&sha256(&[salt, number]))).collect();
            Self { key: signer("log.example/a/2026", 1), leaves }
        }

        fn request(&self, old: u64, size: u64) -> String {
            let nodes = |level: u8, index: u64| {
                let start = usize::try_from(index << level).ok()?;
                self.leaves.get(start..start + (1 << level)).map(merkle::root)
            };
            let root = merkle::root_at(&nodes, size).unwrap();
            let head = Checkpoint { origin: "log.example/a/2026".to_owned(), size, root };
            let proof = merkle::consistency_proof(&nodes, old, size).unwrap_or_default();
            AddCheckpoint { old_size: old, proof, checkpoint: head.sign(&self.key) }.to_string()
        }
    }

    fn witness(directory: &std::path::Path) -> Witness {
        let logs = vec![signer("log.example/a/2026", 1).verifier()];
        Witness::new(signer("witness.example/w", 2), logs, State::open(directory).unwrap())
    }

    fn fresh(name: &str) -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("suyuan-witness-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&directory));
        directory
    }

    #[test]
    fn a_growing_log_is_cosigned_and_a_restarted_witness_remembers_how_far() {
        let directory = fresh("grows");
        let log = Log::new(0, 9);
        let line = witness(&directory).add_checkpoint(&log.request(0, 4), 1_800_000_000).unwrap();
        let key = signer("witness.example/w", 2).verifier_as(Algorithm::CosignatureV1);
        let request: AddCheckpoint = log.request(0, 4).parse().unwrap();
        let line = line.trim_end().parse().unwrap();
        assert_eq!(cosignature::verify_line(&request.checkpoint.text, &line, &key), Ok(1_800_000_000));

        let again = witness(&directory);
        assert!(matches!(again.add_checkpoint(&log.request(0, 9), 1), Err(Refused::OtherSize(4))));
        assert!(again.add_checkpoint(&log.request(4, 9), 1).is_ok());
        assert!(again.add_checkpoint(&log.request(9, 9), 2).is_ok(), "asking again is no other history");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn two_witnesses_never_work_on_one_state() {
        let directory = fresh("locked");
        let first = witness(&directory);
        assert!(matches!(State::open(&directory), Err(StateError::InUse(_))));
        drop(first);
        assert!(State::open(&directory).is_ok());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_rolled_back_forked_or_unsigned_log_is_refused_each_time() {
        let directory = fresh("refuses");
        let (log, fork) = (Log::new(0, 9), Log::new(7, 9));
        let witness = witness(&directory);
        witness.add_checkpoint(&log.request(0, 5), 1).unwrap();
        assert!(matches!(witness.add_checkpoint(&log.request(5, 3), 1), Err(Refused::OldSizeTooLarge)));
        assert!(matches!(witness.add_checkpoint(&log.request(0, 3), 1), Err(Refused::OtherSize(5))));
        assert!(matches!(witness.add_checkpoint(&fork.request(5, 9), 1), Err(Refused::NotConsistent(_))));
        assert!(matches!(witness.add_checkpoint(&fork.request(5, 5), 1), Err(Refused::OtherRoot(5))));
        let forged = log.request(5, 9).replace("\n9\n", "\n8\n");
        assert!(matches!(witness.add_checkpoint(&forged, 1), Err(Refused::NotSigned)));
        let stranger = log.request(5, 9).replace("log.example", "other.example");
        assert!(matches!(witness.add_checkpoint(&stranger, 1), Err(Refused::UnknownLog)));
        assert!(matches!(witness.add_checkpoint("old x\n\n", 1), Err(Refused::Request(_))));
        assert!(witness.add_checkpoint(&log.request(5, 9), 1).is_ok(), "refusals changed nothing");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
