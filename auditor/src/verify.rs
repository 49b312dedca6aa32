//! `verify`: a bundle and a trust file, offline or with a chain's node.

use std::{
    fs::File,
    io::{self, Read as _, Write},
    path::Path,
    process::ExitCode,
};

use trace::{
    bundle::{self, BUNDLE_BYTES_MAX, Bundle, Verdict},
    tlog::policy::{Policy, PolicyError},
};

use crate::{
    online::{self, Node},
    report,
};

/// A thousand lines of a policy are a quarter of it.
const TRUST_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("{0} cannot be read")]
    Read(String, #[source] io::Error),
    #[error("the trust file {0} is longer than {TRUST_BYTES_MAX} bytes")]
    LongTrust(String),
    #[error("the trust file {0} is not in its format")]
    Trust(String, #[source] PolicyError),
    #[error("the trust file {0} is not text")]
    NotText(String),
}

pub fn run(
    bundle: &Path,
    trust: &Path,
    node: Option<Node<'_>>,
    out: &mut impl Write,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let trust = read_trust(trust)?;
    let bundle = match read_bundle(bundle)? {
        Ok(bundle) => bundle,
        Err(why) => {
            writeln!(out, "BAD        bundle: {why}\nINVALID")?;
            return Ok(ExitCode::from(1));
        }
    };
    let mut report = bundle::verify(&bundle, &trust);
    if let Some(node) = node {
        let found = online::ask(&node, &bundle, &trust, &report)?;
        report = report.with_chains(&bundle, &found);
    }
    report::print(out, &report)?;
    Ok(match report.verdict {
        Verdict::Valid => ExitCode::SUCCESS,
        Verdict::Invalid => ExitCode::from(1),
        Verdict::CouldNotCheck => ExitCode::from(2),
    })
}

pub(crate) fn read_trust(path: &Path) -> Result<Policy, VerifyError> {
    let name = path.display().to_string();
    let Some(bytes) = read_within(path, TRUST_BYTES_MAX)? else { return Err(VerifyError::LongTrust(name)) };
    let Ok(text) = String::from_utf8(bytes) else { return Err(VerifyError::NotText(name)) };
    text.parse().map_err(|error| VerifyError::Trust(name, error))
}

/// What cannot be read is an error; what is no bundle is a verdict.
fn read_bundle(path: &Path) -> Result<Result<Bundle, String>, VerifyError> {
    let Some(bytes) = read_within(path, BUNDLE_BYTES_MAX)? else {
        return Ok(Err(format!("longer than the {BUNDLE_BYTES_MAX} bytes that one may have")));
    };
    let Ok(text) = String::from_utf8(bytes) else { return Ok(Err("not text".to_owned())) };
    Ok(text.parse().map_err(|error: bundle::BundleError| error.to_string()))
}

/// `None`: longer than that.
pub(crate) fn read_within(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, VerifyError> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes: Vec<u8> = read().map_err(|error| VerifyError::Read(path.display().to_string(), error))?;
    Ok((bytes.len() <= bytes_max).then_some(bytes))
}
