//! The operator's file of those who are told, and how they are reached.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor, message::Mailbox};
use reqwest::{Url, header, redirect};
use serde::Deserialize;
use store::{
    Store, StoreError,
    delivery::{self, Target},
};
use zeroize::Zeroizing;

use super::{Letter, SendError, Told, signature};
use crate::service::keys::{KeysError, read_secret, read_seed};

/// A receiver that does not answer within this time is tried again later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TARGETS_MAX: usize = 10_000;
const WEBHOOK: &str = "a webhook is an https URL, or one of this machine, without a user";

#[derive(Debug, thiserror::Error)]
pub enum DeliveriesError {
    #[error("the file of those who are told of alerts, {0}, cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("the file of those who are told of alerts, {0}, is not what --help describes")]
    Format(PathBuf, #[source] toml::de::Error),
    #[error("a secret of those who are told of alerts cannot be used")]
    Secret(#[from] KeysError),
    #[error("{0}: a mail server is reached with TLS (smtps://, or ?tls=required), or on this machine")]
    Server(String),
    #[error("the mail server's URL cannot be used")]
    Smtp(#[from] lettre::transport::smtp::Error),
    #[error("{0}: {1}")]
    Target(String, &'static str),
    #[error("the client for webhooks cannot be made")]
    Client(#[from] reqwest::Error),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    smtp: Option<Smtp>,
    #[serde(default)]
    to: Vec<To>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Smtp {
    from: Mailbox,
    url_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct To {
    party: String,
    webhook: Option<String>,
    secret_file: Option<PathBuf>,
    mail: Option<Mailbox>,
    #[serde(default = "chinese")]
    language: String,
}

fn chinese() -> String {
    "zh-CN".to_owned()
}

/// Where a message goes.
enum Address {
    Webhook { url: Url, secret: Zeroizing<[u8; 32]> },
    Mail(Box<Mailbox>),
}

/// One who is told.
struct Reader {
    party: String,
    channel: &'static str,
    address: String,
    language: String,
    reached: Address,
}

struct Post {
    from: Mailbox,
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

/// Everybody who is told, and what carries it.
pub struct Deliveries {
    http: reqwest::Client,
    post: Option<Post>,
    readers: Vec<Reader>,
}

impl Deliveries {
    /// Nobody is told without a file.
    pub fn read(file: Option<&Path>) -> Result<Self, DeliveriesError> {
        let File { smtp, to } = match file {
            None => File { smtp: None, to: Vec::new() },
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| DeliveriesError::Read(path.to_owned(), error))?;
                toml::from_str(&text).map_err(|error| DeliveriesError::Format(path.to_owned(), error))?
            }
        };
        let readers: Vec<Reader> = to.into_iter().map(reader).collect::<Result<_, _>>()?;
        let post = smtp.map(post).transpose()?;
        if let Some(mail) = readers.iter().find(|reader| reader.channel == "mail" && post.is_none()) {
            return Err(DeliveriesError::Target(mail.address.clone(), "mail needs [smtp]"));
        }
        if readers.len() > TARGETS_MAX {
            return Err(DeliveriesError::Target(readers.len().to_string(), "too many addresses"));
        }
        // Where the operator said, and nowhere else: no redirect, no proxy.
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .build()?;
        Ok(Self { http, post, readers })
    }

    /// Writes down who is told; until then nothing is told to anybody new.
    pub async fn settle(&self, store: &Store) -> Result<(), StoreError> {
        let targets: Vec<Target<'_>> = self
            .readers
            .iter()
            .map(|reader| Target {
                party: &reader.party,
                channel: reader.channel,
                address: &reader.address,
                language: &reader.language,
            })
            .collect();
        delivery::set_targets(&mut *store.connection().await?, &targets).await
    }

    pub(super) async fn send(
        &self,
        told: &Told,
        letter: impl Fn(&Told) -> Letter,
        now: DateTime<Utc>,
    ) -> Result<(), SendError> {
        let due = &told.due;
        let same = |reader: &&Reader| reader.channel == due.channel && reader.address == due.address;
        match &self.readers.iter().find(same).ok_or(SendError::NoTarget)?.reached {
            Address::Webhook { url, secret } => {
                let (id, body) = (due.id.to_string(), told.json().to_string());
                let answer = self
                    .http
                    .post(url.clone())
                    .header(header::CONTENT_TYPE, "application/json")
                    .header("idempotency-key", &id)
                    .header("webhook-id", &id)
                    .header("webhook-timestamp", now.timestamp())
                    .header("webhook-signature", signature(secret, &id, now.timestamp(), &body))
                    .body(body);
                let status = answer.send().await?.status();
                if status.is_success() { Ok(()) } else { Err(SendError::Status(status.as_u16())) }
            }
            Address::Mail(to) => {
                let post = self.post.as_ref().ok_or(SendError::NoTarget)?;
                let mail = letter(told).mail(&post.from, (**to).clone(), due.id, due.at)?;
                post.transport.send(mail).await?;
                Ok(())
            }
        }
    }
}

fn reader(to: To) -> Result<Reader, DeliveriesError> {
    let To { party, webhook, secret_file, mail, language } = to;
    if !["zh-CN", "en"].contains(&language.as_str()) {
        return Err(DeliveriesError::Target(party, "language is zh-CN or en"));
    }
    let (channel, address, reached) = match (webhook, secret_file, mail) {
        (Some(text), Some(secret), None) => {
            // Named by the party: what stands in a wrong URL may be a password.
            let refused = || DeliveriesError::Target(party.clone(), WEBHOOK);
            let url: Url = text.parse().map_err(|_| refused())?;
            let safe = url.scheme() == "https" || (url.scheme() == "http" && is_here(&url));
            if !safe || !url.username().is_empty() || url.password().is_some() {
                return Err(refused());
            }
            ("webhook", text, Address::Webhook { url, secret: read_seed(&secret)? })
        }
        (None, None, Some(mailbox)) => ("mail", mailbox.to_string(), Address::Mail(Box::new(mailbox))),
        _ => return Err(DeliveriesError::Target(party, "webhook with secret_file, or mail")),
    };
    Ok(Reader { party, channel, address, language, reached })
}

fn post(smtp: Smtp) -> Result<Post, DeliveriesError> {
    let text = read_secret(&smtp.url_file)?;
    let text = text.trim();
    let url: Url = text.parse().map_err(|_| DeliveriesError::Server("the URL".to_owned()))?;
    let requires_tls = url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
    if url.scheme() != "smtps" && !requires_tls && !is_here(&url) {
        return Err(DeliveriesError::Server(url.host_str().unwrap_or_default().to_owned()));
    }
    let transport =
        AsyncSmtpTransport::<Tokio1Executor>::from_url(text)?.timeout(Some(ANSWER_TIMEOUT)).build();
    Ok(Post { from: smtp.from, transport })
}

/// This machine itself, by its name or address.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}
