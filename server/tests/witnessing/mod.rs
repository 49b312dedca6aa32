//! Witnesses as others run them.

use std::{net::TcpListener, path::PathBuf};

use actix_web::{dev::ServerHandle, web};
use auditor::{state::State, witness};
use trace::{
    hash::sha256,
    keys::SecretKey,
    tlog::{
        checkpoint::Checkpoint,
        note::{SignerKey, VerifierKey},
    },
};

/// `suyuan-auditor witness`, with its state in a directory of the test's.
pub struct Witness {
    pub url: String,
    directory: PathBuf,
    server: ServerHandle,
}

/// Names a witness by number; its key needs no process.
pub fn witness_key(number: u8) -> SignerKey {
    SignerKey {
        name: format!("witness.example/w{number}").parse().unwrap(),
        secret: SecretKey::from_seed(&[8 + number; 32]),
    }
}

impl Witness {
    /// The one with this number, that witnesses `logs` and has cosigned `head` already.
    pub fn start(number: u8, logs: Vec<VerifierKey>, head: Option<Checkpoint>) -> Self {
        let directory =
            std::env::temp_dir().join(format!("suyuan-witness-{}", uuid::Uuid::now_v7().simple()));
        let key = witness_key(number);
        let state = State::init(&directory, &witness::verifier(&key)).unwrap();
        for log in &logs {
            state.begin(log.name.as_str()).unwrap();
        }
        if let Some(head) = head {
            state.advance(&head).unwrap();
        }
        let judge = witness::Witness::new(key, logs, state).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = witness::serve(listener, web::Data::new(judge)).unwrap();
        let handle = server.handle();
        tokio::spawn(server);
        Self { url, directory, server: handle }
    }

    pub fn key(number: u8) -> String {
        witness::verifier(&witness_key(number)).to_string()
    }

    /// The head of the log that it cosigned last.
    pub fn newest(&self, origin: &str) -> u64 {
        let file = self.directory.join(sha256(origin.as_bytes()).to_string());
        std::fs::read_to_string(file).unwrap().parse::<Checkpoint>().unwrap().size
    }

    pub async fn stop(self) {
        self.server.stop(false).await;
        std::fs::remove_dir_all(self.directory).unwrap();
    }
}
