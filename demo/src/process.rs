//! Programs that the demo starts: their logs, and that they end when we do.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a program may take to end after it was asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A running program; asked to end, then killed, when dropped.
#[derive(Debug)]
pub struct Running {
    pub name: String,
    child: Child,
}

impl Running {
    /// Starts `command` in a process group of its own, so that our Ctrl-C reaches it through us and in order.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
        Ok(Self { name: name.to_owned(), child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `false` once it has ended by itself.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// As `kill -9` does it.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Asks it to end and waits; kills what does not.
    pub fn stop(&mut self) {
        if !self.is_alive() {
            return;
        }
        let asked = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        let until = Instant::now() + STOP_PATIENCE;
        while asked.is_ok() && self.is_alive() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.is_alive() {
            // Nothing more can be done about a process that even this does not end.
            self.kill().unwrap_or_default();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
