//! A whole house in a directory of its own, with the season played in it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use demo::{
    season::{self, SeasonReport},
    stack::{Options, Ports, Stack, programs_beside_us},
};

use crate::Failed;

pub struct House {
    pub stack: Stack,
    data: PathBuf,
}

impl House {
    pub async fn open(root: &Path, name: &str) -> Result<Self, Failed> {
        let data = std::env::temp_dir().join(format!("suyuan-bench-{name}-{}", std::process::id()));
        let stack = start(root, &data).await?;
        Ok(Self { stack, data })
    }

    /// Stopped, and started again on what it left.
    pub async fn resume(mut self, root: &Path) -> Result<(Self, Duration), Failed> {
        let data = std::mem::take(&mut self.data);
        self.close_keeping().await?;
        let began = Instant::now();
        let stack = start(root, &data).await?;
        Ok((Self { stack, data }, began.elapsed()))
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

    /// Resident memory of the server now, in MB.
    pub fn server_memory(&self) -> Result<f64, Failed> {
        let pid = self.stack.server.as_ref().ok_or("the server is not running")?.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    pub async fn close(mut self) -> Result<(), Failed> {
        let data = std::mem::take(&mut self.data);
        self.close_keeping().await?;
        Ok(std::fs::remove_dir_all(data)?)
    }

    async fn close_keeping(self) -> Result<(), Failed> {
        Ok(tokio::task::spawn_blocking(move || drop(self.stack)).await?)
    }
}

async fn start(root: &Path, data: &Path) -> Result<Stack, Failed> {
    let programs = programs_beside_us()?;
    let options = Options::local(root.to_owned(), data.to_owned(), programs, Ports::free()?);
    Ok(Stack::start(options, &mut |_| {}).await?)
}
