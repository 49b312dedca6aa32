//! The phones of the room: TLS from a certificate authority of the demo's own, because sign-in, WebCrypto and service
//! workers need a secure context.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::Engine as _;
use chrono::{Datelike as _, NaiveDate, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use trace::hash::sha256;

use crate::stack::write_private;

/// Phones refuse certificates that are valid for much longer.
const LEAF_DAYS: u64 = 90;
const AUTHORITY_DAYS: u64 = 730;
/// How long a phone may take to fetch the authority's certificate.
const HAND_OUT_PATIENCE: Duration = Duration::from_secs(5);
const REQUEST_BYTES_MAX: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum LanError {
    #[error(
        "this machine has no default route: say by --lan-address what phones reach it at, or leave --lan out"
    )]
    NoNetwork,
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the server speaks TLS with, and what a phone has to trust first.
#[derive(Debug, Clone)]
pub struct Lan {
    pub address: IpAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
    /// SHA-256 of the authority's DER: what a phone shows before it trusts.
    pub fingerprint: String,
}

/// The address under which others in the local network see this machine. Nothing is sent.
pub fn address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // TEST-NET-1: the kernel only picks the interface.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

impl Lan {
    /// Makes the authority once, and a certificate for this machine's address each time.
    pub fn open(data: &Path, address: Option<IpAddr>) -> Result<Self, LanError> {
        let address = address.or_else(self::address).ok_or(LanError::NoNetwork)?;
        let (key_file, authority) = (data.join("ca.key"), data.join("ca.pem"));
        if !key_file.exists() {
            let key = KeyPair::generate()?;
            fs::write(&authority, authority_params()?.self_signed(&key)?.pem())?;
            write_private(&key_file, key.serialize_pem().trim_end())?;
        }
        let issuer = Issuer::new(authority_params()?, KeyPair::from_pem(&fs::read_to_string(&key_file)?)?);
        let names = [address.to_string(), "127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut leaf = CertificateParams::new(names)?;
        leaf.distinguished_name.push(DnType::CommonName, address.to_string());
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages.push(KeyUsagePurpose::DigitalSignature);
        leaf.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        lasting(&mut leaf, LEAF_DAYS);
        let leaf_key = KeyPair::generate()?;
        let (certificate, key) = (data.join("tls.pem"), data.join("tls.key"));
        fs::write(&certificate, leaf.signed_by(&leaf_key, &issuer)?.pem())?;
        // A new one each time: the machine's address may be another.
        if key.exists() {
            fs::remove_file(&key)?;
        }
        write_private(&key, leaf_key.serialize_pem().trim_end())?;
        let fingerprint = fingerprint(&fs::read_to_string(&authority)?);
        Ok(Self { address, certificate, key, authority, fingerprint })
    }

    /// Hands the authority's certificate to whoever asks, in clear: phones compare its fingerprint before they trust it.
    /// Whatever is asked, this is the answer.
    pub async fn hand_out(&self, port: u16) -> io::Result<()> {
        let pem = fs::read(&self.authority)?;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-x509-ca-cert\r\nContent-Disposition: attachment; filename=\"suyuan-demo-ca.crt\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            pem.len()
        )
        .into_bytes();
        answer.extend_from_slice(&pem);
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((peer, _)) => match tokio::time::timeout(HAND_OUT_PATIENCE, give(peer, &answer)).await
                    {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::debug!(%error, "a phone left early"),
                        Err(_) => tracing::debug!("a phone was too slow"),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "the authority's certificate is not handed out for a moment");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(())
    }
}

/// Where the authority's certificate is fetched: beside the pages.
pub const fn hand_out_port(lan_port: u16) -> u16 {
    lan_port.saturating_add(1)
}

async fn give(mut peer: TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        if peer.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    peer.write_all(answer).await?;
    peer.shutdown().await
}

fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::default())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    // A phone goes on trusting this authority after the demo: it can speak for addresses, never for a site's name
    // (RFC 5280 §4.2.1.10).
    let local = ["localhost", "local"].map(|name| GeneralSubtree::DnsName(name.to_owned()));
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: local.to_vec(), excluded_subtrees: Vec::new() });
    params.distinguished_name.push(DnType::CommonName, "Suyuan demo, this machine only");
    params.key_usages.extend([KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]);
    lasting(&mut params, AUTHORITY_DAYS);
    Ok(params)
}

fn lasting(params: &mut CertificateParams, days: u64) {
    let today = Utc::now().date_naive();
    let date = |date: NaiveDate| {
        let (month, day) = (u8::try_from(date.month()), u8::try_from(date.day()));
        date_time_ymd(date.year(), month.unwrap_or(1), day.unwrap_or(1))
    };
    params.not_before = date(today.pred_opt().unwrap_or(today));
    params.not_after = date(today.checked_add_days(chrono::Days::new(days)).unwrap_or(today));
}

fn fingerprint(pem: &str) -> String {
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(base64).unwrap_or_default();
    let pairs: Vec<String> = sha256(&der).as_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}
