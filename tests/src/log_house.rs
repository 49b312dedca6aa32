//! A log that is handled roughly: a Postgres of its own, `suyuan serve` on it as often as wanted, leaves that are queued
//! without end, and an onlooker who forgets no head that it has seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use demo::{
    postgres::Cluster,
    process::Running,
    stack::{programs_beside_us, write_private},
};
use postgres::{Client, NoTls};
use trace::{
    hash::{Hash, sha256},
    merkle::{self, Frontier},
    tlog::{
        checkpoint::Checkpoint,
        note::{Note, VerifierKey},
    },
};

use crate::audit::said;

pub const LEDGER: &str = "hammer";
pub const ORIGIN: &str = "localhost/hammer/2026";
/// How long anything may take on a machine that is testing other things as well.
const PATIENCE: Duration = Duration::from_mins(1);
const SEEDS: [&str; 4] = ["registrar", "derivation", "kek", "serial"];

/// Dropped in this order: Postgres, then its directory.
pub struct LogHouse {
    pub cluster: Cluster,
    pub programs: PathBuf,
    home: Home,
}

struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the logs are left in {}", self.0.display());
            return;
        }
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

impl LogHouse {
    /// A migrated database and a key of each kind.
    pub fn open(name: &str) -> Self {
        let home = Home(std::env::temp_dir().join(format!("suyuan-{name}-{}", std::process::id())));
        std::fs::create_dir_all(&home.0).unwrap();
        let cluster = Cluster::start(&home.0.join("postgres"), &mut |_| {}).unwrap();
        let house = Self { cluster, programs: programs_beside_us().unwrap(), home };
        // What a killed process wrote is the kernel's to keep: only a power failure needs the disk's word, and to kill
        // hundreds of times would take minutes with it.
        house.execute("alter system set fsync = off");
        house.execute("select pg_reload_conf()");
        house.suyuan(&["migrate", "--database-url", &house.url("migrator")]);
        house.suyuan(&["keys", "log", "--origin", ORIGIN, &house.file("log")]);
        for seed in SEEDS {
            house.suyuan(&["keys", "seed", &house.file(seed)]);
        }
        house
    }

    pub fn path(&self) -> &Path {
        &self.home.0
    }

    pub fn file(&self, name: &str) -> String {
        self.home.0.join(name).display().to_string()
    }

    pub fn url(&self, role: &str) -> String {
        self.cluster.url(role, "suyuan")
    }

    /// What a program of ours prints.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let done = Command::new(self.programs.join(program)).args(arguments).output().unwrap();
        assert!(done.status.success(), "{program} {arguments:?}: {}", said(&done));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    fn suyuan(&self, arguments: &[&str]) -> String {
        self.run("suyuan", arguments)
    }

    pub fn verifier(&self) -> VerifierKey {
        self.suyuan(&["keys", "vkey", &self.file("log")]).parse().unwrap()
    }

    /// What `suyuan` is told on `port`; Postgres knows its connections by `name`.
    pub fn environment(&self, name: &str, port: u16) -> Vec<(&'static str, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        vec![
            ("DATABASE_URL", format!("{}?application_name={name}", self.url("app"))),
            ("SUYUAN_LISTEN", format!("127.0.0.1:{port}")),
            ("SUYUAN_LEDGER", LEDGER.to_owned()),
            ("SUYUAN_LOG_HOST", "localhost".to_owned()),
            ("SUYUAN_LOG_KEY_FILE", self.file("log")),
            ("SUYUAN_REGISTRAR_KEY_FILE", self.file("registrar")),
            ("SUYUAN_DERIVATION_KEY_FILE", self.file("derivation")),
            ("SUYUAN_KEK_FILE", self.file("kek")),
            ("SUYUAN_SERIAL_MASTER_FILE", self.file("serial")),
            ("SUYUAN_CHECKPOINT_INTERVAL_MS", "1".to_owned()),
            ("SUYUAN_WITNESS_INTERVAL_S", "1".to_owned()),
            ("SUYUAN_PROFILES", root.join("profiles").display().to_string()),
            ("SUYUAN_LOCALES", root.join("locales").display().to_string()),
        ]
    }

    /// `suyuan serve`.
    pub fn serve(&self, name: &str, port: u16, more: &[(&str, String)]) -> Running {
        let mut command = Command::new(self.programs.join("suyuan"));
        command.arg("serve").envs(self.environment(name, port));
        command.envs(more.iter().map(|(name, value)| (*name, value)));
        Running::start(name, &mut command, &self.home.0.join(format!("{name}.log"))).unwrap()
    }

    /// What a server said of itself.
    pub fn said_by(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.0.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Process number and name of who holds the log's lock (`SUYU` in ASCII); witnesses and chains have locks of their own.
    pub fn leader(&self) -> Option<(i32, String)> {
        let mut client = Client::connect(&self.url("migrator"), NoTls).ok()?;
        let query =
            "select a.pid, a.application_name from pg_locks l join pg_stat_activity a on a.pid = l.pid
            where l.locktype = 'advisory' and l.classid = 1398102357 and l.granted and a.datname = 'suyuan'";
        let row = client.query_opt(query, &[]).ok()??;
        Some((row.get(0), row.get(1)))
    }

    /// The socket that Postgres listens on.
    pub fn socket(&self) -> PathBuf {
        let url = self.url("app");
        let host = url.split(['@', '/']).nth(3).unwrap();
        PathBuf::from(host.replace("%2F", "/")).join(".s.PGSQL.5432")
    }

    /// The first party and its account, `operator`.
    pub fn found_operator(&self, port: u16, pgln: &str, password: &str) {
        let file = self.file("operator.password");
        write_private(Path::new(&file), password).unwrap();
        let mut command = Command::new(self.programs.join("suyuan"));
        command.args(["operator", "init", "--name", "operator", "--pgln", pgln, "--login", "operator"]);
        command.args(["--password-file", &file]).envs(self.environment("operator", port));
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", said(&done));
    }

    pub fn execute(&self, statement: &str) {
        Client::connect(&self.url("migrator"), NoTls).unwrap().batch_execute(statement).unwrap();
    }

    /// The lines that the log of the database has once nothing waits any more.
    pub fn wait_until_drained(&self) {
        wait_until("the queue is empty", || {
            let client = Client::connect(&self.url("migrator"), NoTls);
            let waiting = client.and_then(|mut client| client.query_one("select count(*) from pending", &[]));
            waiting.is_ok_and(|row| row.get::<_, i64>(0) == 0)
        });
    }
}

/// As `kill -9` of one process does it, of Postgres' too.
pub fn kill(pid: i32) -> io::Result<()> {
    Command::new("kill").args(["-KILL", &pid.to_string()]).status().map(drop)
}

pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "it did not come to this: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What was queued: surely, or in a transaction whose commit was never answered.
#[derive(Default)]
pub struct Queued {
    pub surely: BTreeSet<Hash>,
    pub perhaps: BTreeSet<Hash>,
}

/// What a writer that is in a hurry waits between two transactions.
const IN_A_HURRY: Duration = Duration::from_millis(1);

/// Queues leaves until it is told to stop, a few in each transaction; some of them twice.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Queued>,
}

impl Writer {
    pub fn start(url: String) -> Self {
        Self::start_with(url, IN_A_HURRY)
    }

    /// One that waits so long after each transaction.
    pub fn start_with(url: String, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Self { stop, thread: std::thread::spawn(move || write(&url, pause, &told)) }
    }

    pub fn stop(self) -> Queued {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn write(url: &str, pause: Duration, stop: &AtomicBool) -> Queued {
    let (mut queued, mut number, mut last) = (Queued::default(), 0_u64, None);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
        let Ok(mut client) = Client::connect(url, NoTls) else { continue };
        while !stop.load(Ordering::Relaxed) {
            let count = 1 + number % 13;
            let mut entries: Vec<Hash> =
                (number..number + count).map(|number| sha256(&number.to_be_bytes())).collect();
            number += count;
            let repeated = if number.is_multiple_of(31) { last } else { None };
            last = entries.last().copied();
            let rows: Vec<&[u8]> =
                entries.iter().chain(&repeated).map(|entry| entry.as_bytes().as_slice()).collect();
            let done = client.execute("insert into pending (entry) select unnest($1::bytea[])", &[&rows]);
            if done.is_ok() { &mut queued.surely } else { &mut queued.perhaps }.extend(entries.drain(..));
            if done.is_err() {
                break;
            }
            std::thread::sleep(pause);
        }
    }
    queued
}

/// Looks at the newest checkpoint again and again, as witnesses and readers do.
pub struct Onlooker {
    stop: Arc<AtomicBool>,
    newest: Arc<AtomicI64>,
    thread: JoinHandle<BTreeMap<i64, Vec<u8>>>,
}

impl Onlooker {
    pub fn start(url: String) -> Self {
        let (stop, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (told, shown) = (Arc::clone(&stop), Arc::clone(&newest));
        Self { stop, newest, thread: std::thread::spawn(move || look(&url, &told, &shown)) }
    }

    /// The largest size that was seen.
    pub fn newest(&self) -> i64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// Returns once the log has grown.
    pub fn wait_for_more(&self) {
        let before = self.newest();
        wait_until("the log grows", || self.newest() > before);
    }

    /// Every head that was seen: size and root.
    pub fn stop(self) -> BTreeMap<i64, Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn look(url: &str, stop: &AtomicBool, newest: &AtomicI64) -> BTreeMap<i64, Vec<u8>> {
    let mut seen: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
        let Ok(mut client) = Client::connect(url, NoTls) else { continue };
        while !stop.load(Ordering::Relaxed) {
            let query = "select size, root from checkpoint order by size desc limit 1";
            let Ok(row) = client.query_opt(query, &[]) else { break };
            if let Some((size, root)) = row.map(|row| (row.get::<_, i64>(0), row.get::<_, Vec<u8>>(1))) {
                let last = seen.last_key_value().map_or(0, |(size, _)| *size);
                assert!(size >= last, "a log of {last} shrank to {size}");
                assert_eq!(seen.entry(size).or_insert_with(|| root.clone()), &root, "two heads of {size}");
                newest.store(size, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    seen
}

/// The whole log, from its rows: each leaf once and none lost, no gap, every head the root of its entries and signed, every
/// head that anybody saw still there, and full tiles that are what the entries give. Returns its size.
pub fn check_log(house: &LogHouse, queued: &Queued, seen: &BTreeMap<i64, Vec<u8>>) -> i64 {
    let mut client = Client::connect(&house.url("migrator"), NoTls).unwrap();
    let rows = client.query("select index, hash from entry order by index", &[]).unwrap();
    let mut heads: BTreeMap<i64, (Vec<u8>, String)> = BTreeMap::new();
    for row in client.query("select size, root, note from checkpoint", &[]).unwrap() {
        heads.insert(row.get(0), (row.get(1), row.get(2)));
    }
    for (size, root) in seen {
        assert_eq!(heads.get(size).map(|(root, _)| root), Some(root), "the head of {size} that was seen");
    }
    let (verifier, mut tree, mut logged) = (house.verifier(), Frontier::default(), BTreeSet::new());
    let mut leaves = Vec::new();
    for (expected, row) in (0_i64..).zip(&rows) {
        assert_eq!(row.get::<_, i64>(0), expected, "a gap");
        let entry = Hash::from_slice(row.get(1)).unwrap();
        assert!(logged.insert(entry), "entry {expected} stands twice");
        let leaf = merkle::leaf_hash(&entry);
        leaves.push(leaf);
        tree.push(leaf);
        if let Some((root, note)) = heads.remove(&(expected + 1)) {
            assert_eq!(tree.root().as_bytes().as_slice(), root, "the head of {}", expected + 1);
            let note: Note = note.parse().unwrap();
            let signed = Checkpoint::open(&note, &verifier).unwrap();
            assert_eq!((signed.size, signed.root), (tree.size(), tree.root()));
        }
    }
    assert!(heads.is_empty(), "heads of sizes that the log does not have: {:?}", heads.keys());
    let lost: Vec<&Hash> = queued.surely.difference(&logged).collect();
    assert!(lost.is_empty(), "{} leaves were lost", lost.len());
    let strange =
        logged.iter().filter(|entry| !queued.surely.contains(entry) && !queued.perhaps.contains(entry));
    assert_eq!(strange.count(), 0, "entries that nobody queued");
    let (size, root) =
        client.query_one("select size, root from head", &[]).map(|row| (row.get(0), row.get(1))).unwrap();
    let root: Vec<u8> = root;
    assert_eq!(
        (size, root.as_slice()),
        (i64::try_from(leaves.len()).unwrap(), tree.root().as_bytes().as_slice())
    );

    let mut level = leaves;
    for number in 0_i16.. {
        let tiles =
            client.query("select data from tile where level = $1 order by index", &[&number]).unwrap();
        let full: Vec<&[Hash]> = level.chunks_exact(256).collect();
        assert_eq!(tiles.len(), full.len(), "full tiles of level {number}");
        for (row, hashes) in tiles.iter().zip(&full) {
            let bytes: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
            assert_eq!(row.get::<_, Vec<u8>>(0), bytes, "a tile of level {number}");
        }
        if full.is_empty() {
            return size;
        }
        level = full.into_iter().map(merkle::root).collect();
    }
    size
}
