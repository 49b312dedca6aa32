//! A whole house in a directory of its own, with the season played in it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use demo::{
    postgres::Cluster,
    season::{self, SeasonReport},
    stack::{Options, Ports, Stack, programs_beside_us},
};

use crate::Failed;

/// A directory that is cleared away however the bench ends.
pub struct Directory(PathBuf);

impl Directory {
    pub fn make(name: &str) -> Result<Self, Failed> {
        let path = std::env::temp_dir().join(format!("suyuan-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Nobody is left to be told that it stays.
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// Dropped in this order: what runs, then where it ran.
pub struct House {
    pub stack: Stack,
    directory: Directory,
}

impl House {
    pub async fn open(root: &Path, name: &str) -> Result<Self, Failed> {
        let directory = Directory::make(name)?;
        let stack = start(root, directory.path()).await?;
        Ok(Self { stack, directory })
    }

    /// Its Postgres set as for a machine of this size.
    pub async fn open_tuned(root: &Path, name: &str) -> Result<Self, Failed> {
        let directory = Directory::make(name)?;
        tokio::task::block_in_place(|| tuned_cluster(&directory.path().join("postgres")).map(drop))?;
        let stack = start(root, directory.path()).await?;
        Ok(Self { stack, directory })
    }

    /// Stopped, and started again on what it left.
    pub async fn resume(self, root: &Path) -> Result<(Self, Duration), Failed> {
        let Self { stack, directory } = self;
        tokio::task::spawn_blocking(move || drop(stack)).await?;
        let began = Instant::now();
        let stack = start(root, directory.path()).await?;
        Ok((Self { stack, directory }, began.elapsed()))
    }

    pub async fn season(&self) -> Result<SeasonReport, Failed> {
        Ok(season::play(&self.stack.addresses()).await?)
    }

    /// A client that follows no redirect, and the cookie of a session.
    pub async fn session(
        &self,
        report: &SeasonReport,
        login: &str,
    ) -> Result<(reqwest::Client, String), Failed> {
        let person =
            report.people.iter().find(|person| person.login == login).ok_or("nobody has that login")?;
        Ok(self.stack.session(&person.login, &person.password).await?)
    }

    /// Where its database and files lie.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Resident memory of the server now, in MB.
    pub fn server_memory(&self) -> Result<f64, Failed> {
        let server = self.stack.server.as_ref().ok_or("the server is not running")?;
        crate::machine::resident_mb(&server.pid().to_string())
    }

    pub async fn close(self) -> Result<(), Failed> {
        Ok(tokio::task::spawn_blocking(move || drop(self)).await?)
    }
}

async fn start(root: &Path, data: &Path) -> Result<Stack, Failed> {
    let programs = programs_beside_us()?;
    let options = Options::local(root.to_owned(), data.to_owned(), programs, Ports::free()?);
    Ok(Stack::start(options, &mut |_| {}).await?)
}

/// Set as for a machine of this size: with Postgres' defaults (128 MB of buffers, a checkpoint each GB of log) an index over
/// hashes, which no order helps, is written out again and again.
const SETTINGS: [(&str, &str); 3] =
    [("shared_buffers", "1GB"), ("max_wal_size", "2GB"), ("checkpoint_timeout", "15min")];

pub fn tuned_cluster(home: &Path) -> Result<Cluster, Failed> {
    let mut cluster = Cluster::start(home, &mut |_| {})?;
    let mut client = postgres::Client::connect(&cluster.url("migrator", "suyuan"), postgres::NoTls)?;
    for (setting, value) in SETTINGS {
        client.batch_execute(&format!("alter system set {setting} = '{value}'"))?;
    }
    drop(client);
    cluster.kill()?;
    cluster.restart()?;
    Ok(cluster)
}
