//! The gateway's own key, enrolled before its first pack: the server refuses packs of a key that it does not know.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::Deserialize;
use trace::{
    hash::Hash,
    keys::{Custody, Kid, SecretKey},
    record::statement::{Possession, prove_possession},
};
use uuid::Uuid;

const RETRY: Duration = Duration::from_secs(1);

/// Asks the server to enrol the gateway's key, with proof that it is held.
pub struct Enroller {
    pub client: Client,
    /// Without a slash at the end.
    pub base_url: String,
    pub token: String,
    pub key: SecretKey,
}

/// The part of the register that tells a gateway who it is.
#[derive(Deserialize)]
struct Ours {
    #[serde(default)]
    gateways: Vec<Kid>,
    ledger: Option<String>,
    /// Digital Link of the token's party.
    party: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum EnrolError {
    #[error("the server did not answer")]
    Http(#[from] reqwest::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
}

impl Enroller {
    /// Returns once the server knows the key; until then no pack is sent, and no message acknowledged.
    pub async fn until_enrolled(self) {
        while let Err(error) = self.enrol().await {
            tracing::warn!(error = crate::cause(&error), "the gateway's key is not enrolled yet");
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn enrol(&self) -> Result<(), EnrolError> {
        let url = format!("{}/api/v1/gateway/register", self.base_url);
        let ours: Ours =
            self.client.get(url).bearer_auth(&self.token).send().await?.error_for_status()?.json().await?;
        let kid = self.key.kid();
        let (Some(aud), Some(party)) = (ours.ledger, ours.party) else {
            tracing::warn!("the register names no ledger: the key must have been enrolled by hand");
            return Ok(());
        };
        if ours.gateways.contains(&kid) {
            return Ok(());
        }
        let jti = Uuid::now_v7();
        let custody = Custody::Device;
        let pop = prove_possession(&Possession { aud, jti, kid, party, custody }, &self.key);
        let public = Hash(*self.key.public().as_bytes());
        let body = serde_json::json!({ "jti": jti, "public": public, "custody": custody, "pop": pop });
        let url = format!("{}/api/v1/gateways", self.base_url);
        let answer = self.client.post(url).bearer_auth(&self.token).json(&body).send().await?;
        match answer.status() {
            StatusCode::CREATED => tracing::info!(%kid, "the gateway's key is enrolled"),
            // Enrolled for good or bad: the server's verdict on each pack says which.
            StatusCode::CONFLICT => tracing::warn!(%kid, "the gateway's key is known and not good"),
            other => return Err(EnrolError::Status(other)),
        }
        Ok(())
    }
}
