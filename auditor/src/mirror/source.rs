//! Where a log is read: its tile prefix over HTTP, bounded in time and bytes.

use std::time::Duration;

use super::MirrorError;

const TIMEOUT: Duration = Duration::from_secs(20);

pub struct Source<'a> {
    /// The log's tile prefix, without a final slash.
    pub url: &'a str,
    pub http: reqwest::Client,
}

impl Source<'_> {
    pub async fn get(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, MirrorError> {
        self.get_as(None, path, bytes_max).await
    }

    /// With the API token of a program.
    pub async fn get_as(
        &self,
        token: Option<&str>,
        path: &str,
        bytes_max: usize,
    ) -> Result<Vec<u8>, MirrorError> {
        let url = format!("{}/{path}", self.url.trim_end_matches('/'));
        let mut request = self.http.get(&url).timeout(TIMEOUT);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await?;
        if !answer.status().is_success() {
            return Err(MirrorError::Status { url, status: answer.status().as_u16() });
        }
        body(answer, bytes_max).await?.ok_or(MirrorError::TooLong(url))
    }
}

/// `None` where it is longer.
pub async fn body(mut answer: reqwest::Response, bytes_max: usize) -> Result<Option<Vec<u8>>, MirrorError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}
