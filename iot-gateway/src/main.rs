//! `suyuan-gateway`: see `iot_gateway`.

use std::{error::Error, io::Write as _, process::ExitCode};

use clap::Parser as _;
use iot_gateway::{
    config::{Cli, Command, Config},
    run::{self, RunError},
    source::subscribe::Purpose,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SUYUAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,ntex=warn,ntex_mqtt=warn"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let done = match Cli::parse().command {
        Command::Run(config) => serve(*config, Purpose::Run),
        Command::Drain(config) => serve(*config, Purpose::Drain),
        Command::Keygen { key_file } => {
            run::keygen(&key_file).map_err(Box::from).and_then(|public| print(&public))
        }
        Command::Config(config) => print(&format!("{config:#?}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &*error, "suyuan-gateway ends");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<(), Box<dyn Error>> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

fn serve(config: Config, purpose: Purpose) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (stop, stopping) = watch::channel(false);
    let ended: Result<(), RunError> = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).ok();
        let signalled = tokio::spawn(async move {
            let terminated = async {
                match &mut terminate {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = terminated => {}
                interrupted = tokio::signal::ctrl_c() => {
                    if interrupted.is_err() { std::future::pending::<()>().await }
                }
            }
            tracing::info!("stopping");
            stop.send_replace(true);
        });
        let ended = run::run(config, purpose, stopping).await;
        signalled.abort();
        ended
    });
    Ok(ended?)
}
