//! `verify`: a bundle and a trust file, no network.

use std::{io::Write, path::Path, process::ExitCode};

use trace::{
    bundle::{self, BUNDLE_BYTES_MAX, Bundle, Verdict},
    tlog::policy::Policy,
};

use crate::report;

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("{0} cannot be read")]
    Read(String, #[source] std::io::Error),
    #[error("the trust file is not in its format")]
    Trust(#[from] trace::tlog::policy::PolicyError),
}

pub fn run(
    bundle: &Path,
    trust: &Path,
    out: &mut impl Write,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let trust: Policy = read(trust)?.parse().map_err(VerifyError::Trust)?;
    let size = std::fs::metadata(bundle)
        .map_err(|error| VerifyError::Read(bundle.display().to_string(), error))?
        .len();
    if size > u64::try_from(BUNDLE_BYTES_MAX)? {
        writeln!(out, "BAD        the file is longer than a bundle may be\nINVALID")?;
        return Ok(ExitCode::from(1));
    }
    let text = match String::from_utf8(std::fs::read(bundle)?) {
        Ok(text) => text,
        Err(error) => {
            writeln!(out, "BAD        not text: {error}\nINVALID")?;
            return Ok(ExitCode::from(1));
        }
    };
    let bundle: Bundle = match text.parse() {
        Ok(bundle) => bundle,
        Err(error) => {
            writeln!(out, "BAD        {error}\nINVALID")?;
            return Ok(ExitCode::from(1));
        }
    };
    let report = bundle::verify(&bundle, &trust);
    report::print(out, &report)?;
    Ok(match report.verdict {
        Verdict::Valid => ExitCode::SUCCESS,
        Verdict::Invalid => ExitCode::from(1),
        Verdict::CouldNotCheck => ExitCode::from(2),
    })
}

fn read(path: &Path) -> Result<String, VerifyError> {
    std::fs::read_to_string(path).map_err(|error| VerifyError::Read(path.display().to_string(), error))
}
