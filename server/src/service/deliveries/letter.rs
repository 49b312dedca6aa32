//! A mail in plain text (RFC 5322), named by its message.

use chrono::{DateTime, Utc};
use lettre::{
    Message,
    message::{Mailbox, header::ContentType},
};
use uuid::Uuid;

/// What a mail says, in its reader's language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub subject: String,
    pub text: String,
}

impl Letter {
    /// Every try makes the same mail: its Message-ID (RFC 5322 §3.6.4) is its name, its date that of the change.
    pub(super) fn mail(
        self,
        from: &Mailbox,
        to: Mailbox,
        id: Uuid,
        at: DateTime<Utc>,
    ) -> Result<Message, lettre::error::Error> {
        Message::builder()
            .from(from.clone())
            .to(to)
            .subject(self.subject)
            .date(at.into())
            .message_id(Some(format!("<{id}@{}>", from.email.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(self.text)
    }
}
