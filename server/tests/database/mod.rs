//! A migrated database of a test's own.

/// Its URL as superuser; `None`, loudly, where `TEST_DATABASE_URL` names no cluster.
pub async fn fresh(name: &str) -> Option<String> {
    let Ok(cluster) = std::env::var("TEST_DATABASE_URL") else {
        eprintln!("SKIPPED: TEST_DATABASE_URL names no Postgres");
        return None;
    };
    let name = format!("{name}_{}", uuid::Uuid::now_v7().simple());
    let (client, connection) = tokio_postgres::connect(&cluster, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("create database {name}")).await.unwrap();
    let (base, _) = cluster.rsplit_once('/').unwrap();
    let url = format!("{base}/{name}");
    store::migrate(&url).await.unwrap();
    Some(url)
}
