//! How the logs of a ledger are named: `formats.md`, "Ledger, logs, time".

use std::{fmt, str::FromStr};

use crate::record::claims::is_ledger_name;

/// `<host>/<ledger>/<year>[.n]`, n = 2, 3 … for a year's second and further logs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    host: String,
    ledger: String,
    /// `2026` or `2026.2`.
    shard: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not <host>/<ledger>/<year> or <host>/<ledger>/<year>.<n>")]
pub struct NotAnOrigin;

impl Origin {
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What records name as `aud`.
    pub fn ledger(&self) -> &str {
        &self.ledger
    }

    /// The year whose statements the log takes, of acceptance and not of what they tell.
    pub fn year(&self) -> i32 {
        // `FromStr` lets nothing in that has no four digits here.
        self.shard.get(..4).and_then(|year| year.parse().ok()).unwrap_or_default()
    }

    /// Whether both are logs of one ledger.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.host == other.host && self.ledger == other.ledger
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let (rest, shard) = text.rsplit_once('/').ok_or(NotAnOrigin)?;
        let (host, ledger) = rest.rsplit_once('/').ok_or(NotAnOrigin)?;
        if host.is_empty() || !is_ledger_name(ledger) || !is_shard(shard) {
            return Err(NotAnOrigin);
        }
        Ok(Self { host: host.to_owned(), ledger: ledger.to_owned(), shard: shard.to_owned() })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.host, self.ledger, self.shard)
    }
}

fn is_shard(text: &str) -> bool {
    let (year, number) = text.split_once('.').unwrap_or((text, "2"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    year.len() == 4 && is_number(year) && is_number(number) && !number.starts_with('0') && number != "1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_tells_its_ledger() {
        for text in ["log.example/demo/2026", "log.example:80/x/demo/2026.13"] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!((origin.ledger(), origin.to_string().as_str()), ("demo", text));
            assert_eq!(origin.year(), 2026);
        }
        for bad in [
            "",
            "demo/2026",
            "/demo/2026",
            "log.example/Demo/2026",
            "log.example/demo/26",
            "log.example/demo/2026.",
            "log.example/demo/2026.1",
            "log.example/demo/2026.02",
            "log.example/demo/2026.2.3",
            "log.example/demo/year",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
