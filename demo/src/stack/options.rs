//! What a house is given: directories, ports, and what of other people's is used instead of starting one.

use std::{io, net::IpAddr, path::PathBuf};

use super::StackError;
use crate::lan;

const TEST_PORTS: std::ops::Range<u16> = 20_000..32_000;
const PORT_TRIES_MAX: u32 = 100;

/// Where the parts listen and where they keep what they keep.
#[derive(Debug, Clone)]
pub struct Options {
    /// The project: profiles and locales.
    pub root: PathBuf,
    /// Everything that is kept between runs.
    pub data: PathBuf,
    /// Directory of the built programs.
    pub programs: PathBuf,
    pub http_port: u16,
    pub mqtt_port: u16,
    pub witness_port: u16,
    pub chain_port: u16,
    /// Used instead of a private cluster.
    pub database_url: Option<String>,
    /// A broker that the gateway subscribes to, instead of being the endpoint itself.
    pub mqtt_url: Option<String>,
    /// Used instead of a dev chain.
    pub chain_rpc_url: Option<String>,
    /// Where phones find the server over TLS.
    pub lan_port: Option<u16>,
    /// What phones reach this machine at, where the default route does not tell.
    pub lan_address: Option<IpAddr>,
}

impl Options {
    /// The project at `root` with its data in `data`, on these ports, with nothing of other people's.
    pub fn local(root: PathBuf, data: PathBuf, programs: PathBuf, ports: Ports) -> Self {
        Self {
            root,
            data,
            programs,
            http_port: ports.http,
            mqtt_port: ports.mqtt,
            witness_port: ports.witness,
            chain_port: ports.chain,
            database_url: None,
            mqtt_url: None,
            chain_rpc_url: None,
            lan_port: None,
            lan_address: None,
        }
    }

    /// Says which port is taken before anything is started that another would have to be stopped for.
    pub(super) fn ports_are_free(&self) -> Result<(), StackError> {
        let mut needed = vec![
            (self.http_port, "pages and REST", "http-port"),
            (self.witness_port, "the witness", "witness-port"),
        ];
        if self.mqtt_url.is_none() {
            needed.push((self.mqtt_port, "devices", "mqtt-port"));
        }
        if self.chain_rpc_url.is_none() {
            needed.push((self.chain_port, "the dev chain", "chain-port"));
        }
        if let Some(port) = self.lan_port {
            needed.push((port, "phones", "lan-port"));
            needed.push((lan::hand_out_port(port), "the certificate authority", "lan-port"));
        }
        for (port, what, option) in needed {
            if std::net::TcpListener::bind(("0.0.0.0", port)).is_err() {
                return Err(StackError::PortTaken { port, what, option });
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub http: u16,
    pub mqtt: u16,
    pub witness: u16,
    pub chain: u16,
}

impl Ports {
    /// Four that were free a moment ago, for houses that live side by side. None is of those that the kernel gives to
    /// outgoing connections (from 32768 on), so that a program which is killed finds its port again.
    pub fn free() -> io::Result<Self> {
        let mut held = Vec::new();
        let mut port = || {
            for _ in 0..PORT_TRIES_MAX {
                let mut random = [0; 2];
                getrandom::fill(&mut random).map_err(|_| io::Error::other("no randomness"))?;
                let port =
                    TEST_PORTS.start + u16::from_be_bytes(random) % (TEST_PORTS.end - TEST_PORTS.start);
                if let Ok(listener) = std::net::TcpListener::bind(("0.0.0.0", port)) {
                    held.push(listener);
                    return Ok(port);
                }
            }
            Err(io::Error::from(io::ErrorKind::AddrInUse))
        };
        Ok(Self { http: port()?, mqtt: port()?, witness: port()?, chain: port()? })
    }
}
