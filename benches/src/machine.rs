//! The machine's own limits, measured in the same run.

use std::time::{Duration, Instant};

use demo::stack::Stack;
use trace::{hash::sha256, keys::SecretKey};

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
