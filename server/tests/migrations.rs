//! Migrations go up, down and up again, and leave the same schema.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may stop where it stands, and says loudly what it skips"
)]

use std::process::Command;

/// A fresh database of the cluster that `TEST_DATABASE_URL` names.
fn fresh() -> Option<(String, String)> {
    let Ok(admin) = std::env::var("TEST_DATABASE_URL") else {
        eprintln!("SKIPPED: TEST_DATABASE_URL is not set");
        return None;
    };
    let name = format!("migrations_{}", uuid::Uuid::now_v7().simple());
    let (base, _) = admin.rsplit_once('/')?;
    let made =
        Command::new("psql").args(["-X", "-q", "-c", &format!("create database {name}"), &admin]).output();
    assert!(made.is_ok_and(|made| made.status.success()), "a database could not be made");
    Some((format!("{base}/{name}"), name))
}

/// The schema as `pg_dump` writes it, without its random restriction keys and the migrations' own table.
fn schema(url: &str) -> String {
    let dump = Command::new("pg_dump")
        .args(["--schema-only", "--exclude-table=__diesel_schema_migrations", url])
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let text = String::from_utf8(dump.stdout).unwrap();
    let kept = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
    text.lines().filter(kept).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_up_down_and_up_to_the_same_schema() {
    let Some((url, _)) = fresh() else { return };
    let empty = schema(&url);
    let versions = store::migrate(&url).await.unwrap();
    let first = schema(&url);
    assert!(first.contains("CREATE TABLE public.record "));
    store::revert_all(&url).await.unwrap();
    assert_eq!(schema(&url), empty, "something stayed after every migration was taken back");
    assert_eq!(store::migrate(&url).await.unwrap(), versions);
    assert_eq!(schema(&url), first);
    assert!(store::migrate(&url).await.unwrap().is_empty(), "nothing is left to run");
}
