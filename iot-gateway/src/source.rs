//! Where messages come from: this process as the MQTT endpoint, or a site's own broker.

pub mod guests;
pub mod listen;
pub mod subscribe;

use tokio::sync::watch;

use crate::intake::Intake;

/// One way in. It acknowledges a message to its sender only when the intake's verdict has come.
pub trait Source {
    /// Runs until `stop` turns true, then takes nothing more, waits a bounded time for what is under way, and returns.
    fn run(
        self,
        intake: Intake,
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<(), SourceError>> + Send;
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("the MQTT listener")]
    Listen(#[source] std::io::Error),
    #[error("the MQTT listener's thread ended on its own")]
    Ended,
}

/// Resolves when `stop` is true or nobody can make it so any more.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone: nobody is left who wants us to run.
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("whoever could stop us is gone");
    }
}
