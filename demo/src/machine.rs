//! What this machine lacks for the demo, said and installed from Debian's packages.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A program, the Debian package that brings it, and what it is for.
pub struct Need {
    pub program: &'static str,
    pub package: &'static str,
    pub why: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error("install {package} ({why}), then try again: it could not be installed from here")]
    NotInstalled { package: &'static str, why: &'static str },
    #[error("PostgreSQL's server programs are not under /usr/lib/postgresql: install the package postgresql")]
    NoPostgres,
}

/// Where Debian puts the newest PostgreSQL server's programs.
pub fn postgres_programs() -> Result<PathBuf, MachineError> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("postgres").exists() && bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().ok_or(MachineError::NoPostgres)
}

/// Whether a program stands on the path.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
        || Path::new("/usr/sbin").join(program).is_file()
}

/// Installs the server of PostgreSQL where it is missing; `say` is told what and why before.
pub fn ensure_postgres(say: &mut dyn FnMut(&str)) -> Result<PathBuf, MachineError> {
    const NEED: Need =
        Need { program: "postgres", package: "postgresql", why: "the ledger's database runs on it" };
    if let Ok(programs) = postgres_programs() {
        return Ok(programs);
    }
    install(&NEED, say)?;
    postgres_programs()
}

/// Installs one Debian package, as root or through sudo.
pub fn install(need: &Need, say: &mut dyn FnMut(&str)) -> Result<(), MachineError> {
    say(&format!("installing {}: {}", need.package, need.why));
    let missing = || MachineError::NotInstalled { package: need.package, why: need.why };
    if !has("apt-get") {
        return Err(missing());
    }
    let run = |arguments: &[&str]| {
        let mut command = if is_root() { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root() {
            command.args(["-n", "apt-get"]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments).status()
    };
    let updated = run(&["update", "-q"]).is_ok_and(|status| status.success());
    let installed = run(&["install", "-y", "-q", "--no-install-recommends", need.package]);
    if updated && installed.is_ok_and(|status| status.success()) { Ok(()) } else { Err(missing()) }
}

/// Postgres refuses to run as root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// User and group id of an unprivileged account for Postgres: Debian's `postgres`, else `nobody`.
pub fn unprivileged() -> Option<(u32, u32)> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"].into_iter().find_map(|wanted| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}
