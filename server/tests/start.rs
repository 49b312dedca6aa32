//! A server that is started before its database.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test says what it expects by failing, and says loudly when it was skipped"
)]

mod database;

use std::time::Duration;

use server::app;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpStream, UnixListener, UnixStream},
    time::timeout,
};
use tokio_postgres::config::Host;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The real database's own door.
async fn reach(database: &tokio_postgres::Config) -> Box<dyn Stream> {
    let port = database.get_ports().first().copied().unwrap_or(5432);
    match database.get_hosts().first().unwrap() {
        Host::Unix(directory) => {
            Box::new(UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await.unwrap())
        }
        Host::Tcp(host) => Box::new(TcpStream::connect((host.as_str(), port)).await.unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_waits_for_a_database_that_comes_later() {
    let Some(url) = database::fresh("start_later").await else { return };
    let real: tokio_postgres::Config = url.parse().unwrap();
    let socket = std::env::temp_dir().join(format!("suyuan-start-{}", std::process::id()));
    std::fs::create_dir_all(&socket).unwrap();
    let door = socket.join(".s.PGSQL.5432");
    let password = real.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
    let late = format!(
        "host={} user={} dbname={} password='{}'",
        socket.display(),
        real.get_user().unwrap(),
        real.get_dbname().unwrap(),
        password.unwrap_or_default()
    );
    let mut waiting = tokio::spawn(async move { app::wait_for_database(&late).await });
    assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err(), "it neither ends nor goes on");

    let listener = UnixListener::bind(&door).unwrap();
    let served = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut database = reach(&real).await;
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut database).await });
        }
    });
    timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
    served.abort();
    std::fs::remove_dir_all(socket).unwrap();
}
