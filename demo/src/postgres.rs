//! A private Postgres cluster: a Unix socket in a directory of mode 0700, no TCP, dropped to an unprivileged user for root.

use std::{
    fs, io,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{machine, process::Running};

const START_PATIENCE: Duration = Duration::from_secs(30);
const START_TRIES_MAX: u32 = 20;
/// Names the cluster's directory where that is not in the project's own data; `make clean-demo` reads it.
const ELSEWHERE: &str = "postgres.at";
/// Longest path of a Unix socket, without the socket's own name (`sockaddr_un` holds 108 bytes).
const SOCKET_PATH_MAX: usize = 80;

#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error(transparent)]
    Machine(#[from] machine::MachineError),
    #[error("root cannot run Postgres, and there is no unprivileged user to run it as")]
    NoUser,
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
    #[error("initdb failed: {0}")]
    InitDb(String),
    #[error("Postgres did not start; see {0}")]
    NotStarted(PathBuf),
    #[error("Postgres refused")]
    Sql(#[from] postgres::Error),
}

/// A running cluster with one database, `suyuan`.
pub struct Cluster {
    home: PathBuf,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    running: Option<Running>,
}

impl Cluster {
    /// Starts the cluster under `home`, making it first where there is none.
    pub fn start(home: &Path, say: &mut dyn FnMut(&str)) -> Result<Self, PostgresError> {
        let programs = machine::ensure_postgres(say)?;
        let user = if machine::is_root() {
            Some(machine::unprivileged().ok_or(PostgresError::NoUser)?)
        } else {
            None
        };
        let home = reachable(home, user, say)?;
        let mut cluster = Self { home, programs, user, running: None };
        cluster.make_directory()?;
        if !cluster.data().join("PG_VERSION").exists() {
            cluster.init()?;
        }
        cluster.launch()?;
        Ok(cluster)
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    fn make_directory(&self) -> Result<(), PostgresError> {
        let make = || -> io::Result<()> {
            fs::create_dir_all(&self.home)?;
            if let Some((uid, gid)) = self.user {
                chown(&self.home, Some(uid), Some(gid))?;
            }
            fs::set_permissions(&self.home, fs::Permissions::from_mode(0o700))
        };
        make().map_err(|error| PostgresError::Io("the cluster's directory cannot be made", error))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir("/").env_clear().env("LC_ALL", "C.UTF-8");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn init(&self) -> Result<(), PostgresError> {
        let made = self
            .command("initdb")
            .args(["-U", "migrator", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-instructions", "-D"])
            .arg(self.data())
            .output()
            .map_err(|error| PostgresError::Io("initdb cannot be run", error))?;
        if made.status.success() {
            return Ok(());
        }
        Err(PostgresError::InitDb(String::from_utf8_lossy(&made.stderr).trim().to_owned()))
    }

    fn launch(&mut self) -> Result<(), PostgresError> {
        self.spawn()?;
        let (until, mut tries) = (Instant::now() + START_PATIENCE, 1);
        loop {
            match postgres::Client::connect(&self.url("migrator", "postgres"), postgres::NoTls) {
                Ok(mut client) => {
                    let known =
                        client.query_opt("select 1 from pg_database where datname = 'suyuan'", &[])?;
                    if known.is_none() {
                        client.batch_execute("create database suyuan")?;
                    }
                    return Ok(());
                }
                Err(_) if Instant::now() < until && self.is_alive() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                // After a kill the last run's workers hold its memory for a moment, and a new postmaster refuses to share it.
                Err(_) if Instant::now() < until && tries < START_TRIES_MAX => {
                    std::thread::sleep(Duration::from_millis(100));
                    tries += 1;
                    self.spawn()?;
                }
                Err(_) => return Err(PostgresError::NotStarted(self.log())),
            }
        }
    }

    fn spawn(&mut self) -> Result<(), PostgresError> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.home).args([
            "-c",
            "listen_addresses=",
            "-c",
            "max_connections=100",
        ]);
        let running = Running::start("postgres", &mut command, &self.log());
        self.running = Some(running.map_err(|error| PostgresError::Io("Postgres cannot be started", error))?);
        Ok(())
    }

    /// `false` once it has ended by itself.
    pub fn is_alive(&mut self) -> bool {
        self.running.as_mut().is_some_and(Running::is_alive)
    }

    /// As libpq writes it: `role` is migrator (the owner), app or auditor.
    pub fn url(&self, role: &str, database: &str) -> String {
        let host = self.home.display().to_string().replace('%', "%25").replace('/', "%2F");
        format!("postgres://{role}@{host}/{database}")
    }

    /// As `kill -9` of the postmaster does it.
    pub fn kill(&mut self) -> Result<(), PostgresError> {
        if let Some(mut running) = self.running.take() {
            running.kill().map_err(|error| PostgresError::Io("Postgres cannot be killed", error))?;
        }
        Ok(())
    }

    /// The same of all that the postmaster started, in the midst of whatever it does.
    pub fn kill_all(&mut self) -> Result<(), PostgresError> {
        if let Some(postmaster) = self.running.as_ref().map(Running::pid) {
            let workers = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
            let workers =
                workers.map_err(|error| PostgresError::Io("Postgres' processes are not known", error))?;
            let mut kill = Command::new("kill");
            kill.args(["-KILL", &postmaster.to_string()]).args(workers.split_whitespace());
            // Some of them may have ended by themselves meanwhile.
            drop(kill.output());
        }
        self.kill()
    }

    /// Starts again after [`Self::kill`].
    pub fn restart(&mut self) -> Result<(), PostgresError> {
        self.launch()
    }
}

/// The wanted directory, or, where the unprivileged user cannot walk to it or a socket's path would be too long, a private
/// one under /var/tmp that is named by it.
fn reachable(
    wanted: &Path,
    user: Option<(u32, u32)>,
    say: &mut dyn FnMut(&str),
) -> Result<PathBuf, PostgresError> {
    let parent = wanted.parent().unwrap_or(wanted);
    fs::create_dir_all(parent)
        .map_err(|error| PostgresError::Io("the data directory cannot be made", error))?;
    let walkable = user.is_none_or(|(uid, gid)| {
        let looked = Command::new("ls").arg("-d").arg(parent.join(".")).uid(uid).gid(gid).output();
        looked.is_ok_and(|looked| looked.status.success())
    });
    if walkable && wanted.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok(wanted.to_owned());
    }
    let name = trace::hash::sha256(wanted.as_os_str().as_encoded_bytes()).to_string();
    let elsewhere = Path::new("/var/tmp").join(format!("suyuan-{}", name.get(..12).unwrap_or("demo")));
    fs::write(parent.join(ELSEWHERE), elsewhere.as_os_str().as_encoded_bytes())
        .map_err(|error| PostgresError::Io("where the database lies cannot be written down", error))?;
    say(&format!(
        "the database lies in {}: Postgres' user cannot reach the project's directory",
        elsewhere.display()
    ));
    Ok(elsewhere)
}
