//! `witness`: C2SP tlog-witness 1.0.0, `POST /add-checkpoint`.
//!
//! One request at a time is judged, so that two heads of one size can never both be cosigned; the new head is durable before
//! the answer leaves. What may be asked is bounded in bytes, time and connections.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Server,
    http::StatusCode,
    web::{Data, Payload, block, post},
};
use trace::{
    merkle::{ProofError, verify_consistency},
    tlog::{
        checkpoint::{Checkpoint, CheckpointError},
        cosignature,
        note::{Algorithm, NoteError, SignerKey, VerifierKey},
        witness::{AddCheckpoint, REQUEST_BYTES_MAX, RequestError, SIZE_CONTENT_TYPE},
    },
};

use crate::state::{State, StateError};

/// How long a request's head, and then its body, may take to arrive.
const ARRIVAL_MAX: Duration = Duration::from_secs(5);
/// How long a connection that was told to end may take to do so.
const PARTING_MAX: Duration = Duration::from_secs(1);
/// How long a connection is kept for another request.
const IDLE_MAX: Duration = Duration::from_secs(30);
const CONNECTIONS_MAX: usize = 256;

/// A witness and what it remembers.
pub struct Witness {
    signer: SignerKey,
    /// Several may be of one origin: an old key and the one that replaces it.
    logs: Vec<VerifierKey>,
    state: Mutex<State>,
}

/// The key by which a witness's cosignatures are verified.
pub fn verifier(signer: &SignerKey) -> VerifierKey {
    signer.verifier_as(Algorithm::CosignatureV1)
}

/// Why a head is not cosigned; each has its status in the specification.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the request is not text")]
    NotText,
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
            Self::Request(_) | Self::NotText | Self::Malformed | Self::OldSizeTooLarge => {
                StatusCode::BAD_REQUEST
            }
            Self::UnknownLog => StatusCode::NOT_FOUND,
            Self::NotSigned => StatusCode::FORBIDDEN,
            Self::OtherSize(_) | Self::OtherRoot(_) => StatusCode::CONFLICT,
            Self::NotConsistent(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::State(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Witness {
    /// [`StateError::UnknownLog`] if the state was not begun with each of the logs.
    pub fn new(signer: SignerKey, logs: Vec<VerifierKey>, state: State) -> Result<Self, StateError> {
        for log in &logs {
            state.newest(log.name.as_str())?;
        }
        Ok(Self { signer, logs, state: Mutex::new(state) })
    }

    /// Judges a request at `now` (Unix seconds); the answer is a cosignature line.
    pub fn add_checkpoint(&self, body: &[u8], now: u64) -> Result<String, Refused> {
        let request: AddCheckpoint = str::from_utf8(body).map_err(|_| Refused::NotText)?.parse()?;
        let head = self.open(&request)?;
        if request.old_size > head.size {
            return Err(Refused::OldSizeTooLarge);
        }
        // Whoever panicked while judging left the file whole: it is replaced by one rename.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Checkpoint { size, root, .. } = state.newest(&head.origin)?;
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

    /// The checkpoint, under any of the keys of its origin.
    fn open(&self, request: &AddCheckpoint) -> Result<Checkpoint, Refused> {
        let origin = request.checkpoint.text.lines().next().unwrap_or_default();
        let mut refused = Refused::UnknownLog;
        for log in self.logs.iter().filter(|log| log.name.as_str() == origin) {
            refused = match Checkpoint::open(&request.checkpoint, log) {
                Ok(head) => return Ok(head),
                Err(CheckpointError::Note(NoteError::BadSignature | NoteError::Unsigned(_))) => {
                    Refused::NotSigned
                }
                Err(_) => Refused::Malformed,
            };
        }
        Err(refused)
    }
}

/// Serves until the process is told to stop.
pub fn run(listen: SocketAddr, witness: Witness) -> io::Result<()> {
    tracing_subscriber::fmt().json().with_writer(io::stderr).init();
    actix_web::rt::System::new().block_on(async move {
        tracing::info!(%listen, "witnessing");
        serve(TcpListener::bind(listen)?, Data::new(witness))?.await
    })
}

pub fn serve(listener: TcpListener, witness: Data<Witness>) -> io::Result<Server> {
    let app =
        move || App::new().app_data(witness.clone()).route("/add-checkpoint", post().to(add_checkpoint));
    let server = HttpServer::new(app)
        .workers(1)
        .max_connections(CONNECTIONS_MAX)
        .client_request_timeout(ARRIVAL_MAX)
        .client_disconnect_timeout(PARTING_MAX)
        .keep_alive(IDLE_MAX)
        .listen(listener)?;
    Ok(server.run())
}

async fn add_checkpoint(witness: Data<Witness>, body: Payload) -> HttpResponse {
    let body = match tokio::time::timeout(ARRIVAL_MAX, body.to_bytes_limited(REQUEST_BYTES_MAX)).await {
        Ok(Ok(Ok(body))) => body,
        Ok(Ok(Err(_))) => return HttpResponse::BadRequest().finish(),
        Ok(Err(_)) => return HttpResponse::PayloadTooLarge().force_close().finish(),
        Err(_) => return HttpResponse::RequestTimeout().force_close().finish(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Judging waits for the disk.
    match block(move || witness.add_checkpoint(&body, now)).await {
        Ok(Ok(line)) => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(line),
        Ok(Err(refused)) => answer(&refused),
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

fn answer(refused: &Refused) -> HttpResponse {
    if let Refused::State(error) = refused {
        tracing::error!(%error, "the state cannot be kept");
    } else {
        tracing::warn!(reason = %refused, "not cosigned");
    }
    match refused {
        Refused::OtherSize(size) | Refused::OtherRoot(size) => {
            HttpResponse::Conflict().content_type(SIZE_CONTENT_TYPE).body(format!("{size}\n"))
        }
        _ => HttpResponse::build(refused.status())
            .content_type("text/plain; charset=utf-8")
            .body(format!("{refused}\n")),
    }
}

#[cfg(test)]
mod tests {
    use trace::{
        hash::{Hash, sha256},
        keys::SecretKey,
        merkle::{self, leaf_hash},
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

        fn request(&self, old: u64, size: u64) -> Vec<u8> {
            self.request_by(&self.key, old, size)
        }

        fn request_by(&self, key: &SignerKey, old: u64, size: u64) -> Vec<u8> {
            let nodes = |level: u8, index: u64| {
                let start = usize::try_from(index << level).ok()?;
                self.leaves.get(start..start + (1 << level)).map(merkle::root)
            };
            let root = merkle::root_at(&nodes, size).unwrap();
            let head = Checkpoint { origin: "log.example/a/2026".to_owned(), size, root };
            let proof = merkle::consistency_proof(&nodes, old, size).unwrap_or_default();
            AddCheckpoint { old_size: old, proof, checkpoint: head.sign(key) }.to_string().into_bytes()
        }
    }

    fn witness(directory: &std::path::Path) -> Witness {
        let (key, logs) = (signer("witness.example/w", 2), vec![signer("log.example/a/2026", 1).verifier()]);
        let state = State::open(directory, &verifier(&key)).unwrap();
        Witness::new(key, logs, state).unwrap()
    }

    fn fresh(name: &str) -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("suyuan-witness-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&directory));
        let state = State::init(&directory, &verifier(&signer("witness.example/w", 2))).unwrap();
        assert_eq!(state.begin("log.example/a/2026").unwrap().size, 0);
        directory
    }

    #[test]
    fn a_growing_log_is_cosigned_and_a_restarted_witness_remembers_how_far() {
        let directory = fresh("grows");
        let log = Log::new(0, 9);
        let line = witness(&directory).add_checkpoint(&log.request(0, 4), 1_800_000_000).unwrap();
        let key = verifier(&signer("witness.example/w", 2));
        let request: AddCheckpoint = String::from_utf8(log.request(0, 4)).unwrap().parse().unwrap();
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
        let key = verifier(&signer("witness.example/w", 2));
        assert!(matches!(State::open(&directory, &key), Err(StateError::InUse(_))));
        drop(first);
        assert!(State::open(&directory, &key).is_ok());
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
        let text = String::from_utf8(log.request(5, 9)).unwrap();
        let forged = text.replace("\n9\n", "\n8\n");
        assert!(matches!(witness.add_checkpoint(forged.as_bytes(), 1), Err(Refused::NotSigned)));
        let stranger = text.replace("log.example", "other.example");
        assert!(matches!(witness.add_checkpoint(stranger.as_bytes(), 1), Err(Refused::UnknownLog)));
        assert!(matches!(witness.add_checkpoint(b"old x\n\n", 1), Err(Refused::Request(_))));
        assert!(matches!(witness.add_checkpoint(b"old 5\n\n\xff", 1), Err(Refused::NotText)));
        assert!(witness.add_checkpoint(&log.request(5, 9), 1).is_ok(), "refusals changed nothing");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_state_that_was_lost_or_is_of_another_key_is_not_begun_anew() {
        let directory = fresh("lost");
        let key = verifier(&signer("witness.example/w", 2));
        witness(&directory).add_checkpoint(&Log::new(0, 9).request(0, 5), 1).unwrap();

        let other = verifier(&signer("witness.example/w", 3));
        assert!(matches!(State::open(&directory, &other), Err(StateError::OtherWitness(_))));
        assert!(matches!(State::init(&directory, &other), Err(StateError::OtherWitness(_))));
        let again = State::init(&directory, &key).unwrap().begin("log.example/a/2026").unwrap();
        assert_eq!(again.size, 5, "what is known is kept");

        let state = State::open(&directory, &key).unwrap();
        std::fs::remove_file(directory.join(sha256(b"log.example/a/2026").to_string())).unwrap();
        let logs = vec![signer("log.example/a/2026", 1).verifier()];
        let without = Witness::new(signer("witness.example/w", 2), logs, state);
        assert!(matches!(without, Err(StateError::UnknownLog(_))));
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(matches!(State::open(&directory, &key), Err(StateError::NoState(_))));
        assert!(!directory.exists());
    }

    #[test]
    fn a_log_whose_key_is_replaced_goes_on_under_either_key_and_no_other() {
        let directory = fresh("rotated");
        let (log, new, stranger) =
            (Log::new(0, 9), signer("log.example/a/2026", 4), signer("log.example/a/2026", 5));
        let key = signer("witness.example/w", 2);
        let state = State::open(&directory, &verifier(&key)).unwrap();
        let witness = Witness::new(key, vec![log.key.verifier(), new.verifier()], state).unwrap();
        assert!(witness.add_checkpoint(&log.request(0, 3), 1).is_ok());
        assert!(witness.add_checkpoint(&log.request_by(&new, 3, 5), 1).is_ok());
        let forked = Log::new(7, 9).request_by(&new, 5, 6);
        assert!(matches!(witness.add_checkpoint(&forked, 1), Err(Refused::NotConsistent(_))));
        let strange = log.request_by(&stranger, 5, 6);
        assert!(matches!(witness.add_checkpoint(&strange, 1), Err(Refused::NotSigned)));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
