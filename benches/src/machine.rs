//! The machine's own limits, measured in the same run.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use demo::stack::Stack;
use trace::{
    hash::{Hash, sha256},
    keys::SecretKey,
    merkle::{self, Frontier},
};

use crate::{Failed, table::Latencies};

const FOR: Duration = Duration::from_secs(2);

/// One durable row a transaction, one after the other: what this disk and this Postgres take for a commit.
pub fn single_commits(stack: &Stack) -> Result<Latencies, Failed> {
    let mut client = postgres::Client::connect(&stack.database_url("migrator"), postgres::NoTls)?;
    client.batch_execute(
        "create table if not exists bench_commit (id bigint generated always as identity, at timestamptz)",
    )?;
    let insert = client.prepare("insert into bench_commit (at) values (now())")?;
    let (mut latencies, until) = (Latencies::default(), Instant::now() + FOR);
    while Instant::now() < until {
        let began = Instant::now();
        client.execute(&insert, &[])?;
        latencies.push(began.elapsed());
    }
    client.batch_execute("drop table bench_commit")?;
    Ok(latencies)
}

/// What this Postgres does before it answers a commit: to be read beside every figure that has one.
pub fn durability(url: &str) -> Result<String, Failed> {
    let mut client = postgres::Client::connect(url, postgres::NoTls)?;
    let mut told = Vec::new();
    let settings = [
        "fsync",
        "synchronous_commit",
        "full_page_writes",
        "wal_sync_method",
        "shared_buffers",
        "max_wal_size",
    ];
    for setting in settings {
        let value: String = client.query_one("select current_setting($1)", &[&setting])?.try_get(0)?;
        told.push(format!("{setting} {value}"));
    }
    Ok(told.join(", "))
}

/// 8 kB written over and synced (`fdatasync`), one after the other, as Postgres does it with its log. Far below a
/// millisecond means that the disk answers from a cache of its own.
pub fn syncs(directory: &Path) -> Result<Latencies, Failed> {
    let path = directory.join("sync");
    let mut file = File::create(&path)?;
    let page = [7; 8_192];
    let (mut latencies, until) = (Latencies::default(), Instant::now() + FOR);
    while Instant::now() < until {
        let began = Instant::now();
        file.rewind()?;
        file.write_all(&page)?;
        file.sync_data()?;
        latencies.push(began.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(latencies)
}

/// Rows a second that COPY takes into a table without any index, commit included: entries of 32 bytes.
pub fn copied_rows(url: &str) -> Result<f64, Failed> {
    const ROWS: u32 = 1_000_000;
    let mut client = postgres::Client::connect(url, postgres::NoTls)?;
    client.batch_execute("create table bench_copy (log_id smallint, index bigint, hash bytea)")?;
    let mut text = Vec::new();
    for row in 0..ROWS {
        write!(text, "1\t{row}\t\\\\x")?;
        for byte in sha256(&row.to_be_bytes()).as_bytes() {
            write!(text, "{byte:02x}")?;
        }
        writeln!(text)?;
    }
    let began = Instant::now();
    let mut copy = client.copy_in("copy bench_copy from stdin")?;
    copy.write_all(&text)?;
    copy.finish()?;
    let seconds = began.elapsed().as_secs_f64();
    client.batch_execute("drop table bench_copy")?;
    Ok(f64::from(ROWS) / seconds)
}

/// Leaves a second that a tree in memory takes on one core.
pub fn tree_hashes() -> f64 {
    let (mut tree, mut leaves) = (Frontier::default(), 0.0);
    let (began, until) = (Instant::now(), Instant::now() + FOR);
    while Instant::now() < until {
        for _ in 0..1_000 {
            tree.push(merkle::leaf_hash(&Hash([7; 32])));
        }
        leaves += 1_000.0;
    }
    leaves / began.elapsed().as_secs_f64()
}

/// Resident memory of a process now, in MB: `self`, or its number.
pub fn resident_mb(process: &str) -> Result<f64, Failed> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// Seconds that a process has spent on the cores, and all those that it started and that have ended: `self`, or its number.
pub fn core_seconds(process: &str) -> Result<f64, Failed> {
    /// `USER_HZ`, which Linux shows to every program alike.
    const TICKS_A_SECOND: f64 = 100.0;
    /// utime, stime, cutime and cstime of proc(5), counted from behind the program's name.
    const TIMES: std::ops::Range<usize> = 11..15;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, behind_the_name) = stat.rsplit_once(')').ok_or("no name in stat")?;
    let fields: Vec<&str> = behind_the_name.split_whitespace().collect();
    let times = fields.get(TIMES).ok_or("no times in stat")?;
    let ticks = times.iter().map(|ticks| ticks.parse::<f64>()).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_A_SECOND)
}

/// The number of the process that started everything else of this Postgres.
pub fn postmaster(url: &str) -> Result<String, Failed> {
    let mut client = postgres::Client::connect(url, postgres::NoTls)?;
    let file: String = client.query_one("select pg_read_file('postmaster.pid')", &[])?.try_get(0)?;
    Ok(file.lines().next().ok_or("an empty postmaster.pid")?.to_owned())
}

/// Look-ups of one row by its key.
pub fn key_lookups(stack: &Stack) -> Result<Latencies, Failed> {
    let mut client = postgres::Client::connect(&stack.database_url("auditor"), postgres::NoTls)?;
    let select = client.prepare("select uri from lot where id = $1")?;
    let (mut latencies, until) = (Latencies::default(), Instant::now() + FOR);
    while Instant::now() < until {
        let began = Instant::now();
        client.query_opt(&select, &[&1_i64])?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

/// Strict Ed25519 verifications and SHA-256 of `bytes` bytes, a second on one core.
pub fn strict_verifications(bytes: usize) -> f64 {
    let secret = SecretKey::from_seed(&[7; 32]);
    let message = vec![7; bytes];
    let (signature, public) = (secret.sign(&message), secret.public());
    let (mut done, until) = (0.0, Instant::now() + FOR);
    let began = Instant::now();
    while Instant::now() < until {
        if public.verify_strict(&message, &signature).is_ok() && sha256(&message) != sha256(b"") {
            done += 1.0;
        }
    }
    done / began.elapsed().as_secs_f64()
}
