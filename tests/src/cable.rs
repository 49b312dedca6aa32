//! The network between two parts, which can be cut: a TCP proxy that the tests hold in their hands.

use std::{io, path::PathBuf};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    runtime::Runtime,
    sync::watch,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Carries,
    /// Connections are reset, and new ones, too.
    Cut,
    /// Nothing is lost and nothing arrives.
    Stalled,
    /// The far side sees its connections end. The near side sees nothing, ever again: what it sends is swallowed.
    HalfOpen,
}

#[derive(Debug, Clone)]
pub enum FarSide {
    Port(u16),
    Socket(PathBuf),
}

/// Listens on a port of its own for as long as it lives.
pub struct Cable {
    pub port: u16,
    network: watch::Sender<Network>,
    runtime: Option<Runtime>,
}

impl Drop for Cable {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Cable {
    pub fn lay(port: u16, to: FarSide) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let (network, state) = watch::channel(Network::Carries);
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port))).unwrap();
        runtime.spawn(accept(listener, to, state));
        Self { port, network, runtime: Some(runtime) }
    }

    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn accept(listener: TcpListener, to: FarSide, state: watch::Receiver<Network>) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(carry(near, to.clone(), state.clone()));
    }
}

async fn carry(mut near: TcpStream, to: FarSide, mut state: watch::Receiver<Network>) {
    let connection = async {
        match to {
            FarSide::Port(port) => {
                let mut far = TcpStream::connect(("127.0.0.1", port)).await?;
                both_ways(near.split(), far.split(), &state).await
            }
            FarSide::Socket(path) => {
                let mut far = UnixStream::connect(path).await?;
                both_ways(near.split(), far.split(), &state).await
            }
        }
    };
    let mut end = state.clone();
    let was_cut = tokio::select! {
        ended = end.wait_for(|state| matches!(state, Network::Cut | Network::HalfOpen)) => {
            ended.map_or(Network::Cut, |state| *state)
        }
        // A side that is not there refuses; one that was killed resets.
        carried = connection => if carried.is_ok() { return } else { Network::Cut },
    };
    if was_cut == Network::HalfOpen {
        let mut swallowed = [0; 4096];
        tokio::select! {
            () = async { while near.read(&mut swallowed).await.is_ok_and(|bytes| bytes > 0) {} } => return,
            _ = state.wait_for(|state| *state == Network::Cut) => {}
        }
    }
    near.set_zero_linger().unwrap_or_default();
}

async fn both_ways<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    (near_in, near_out): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    (far_in, far_out): (R, W),
    state: &watch::Receiver<Network>,
) -> io::Result<()> {
    tokio::try_join!(one_way(near_in, far_out, state.clone()), one_way(far_in, near_out, state.clone()),)
        .map(drop)
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<Network>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let bytes = from.read(&mut buffer).await?;
        state.wait_for(|state| *state != Network::Stalled).await.map_err(io::Error::other)?;
        if bytes == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..bytes]).await?;
    }
}
