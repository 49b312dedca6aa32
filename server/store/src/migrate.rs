//! Migrations, run by a command and never by `serve`.

use diesel_async::{AsyncConnection as _, AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("no connection to Postgres")]
    Connect(#[from] diesel::ConnectionError),
    #[error("a migration failed: {0}")]
    Migration(Box<dyn std::error::Error + Send + Sync>),
}

/// Brings the database at `url` up to this program's schema; `url` must connect as the owner of the tables.
/// Returns the versions that were run. Needs a multi-threaded runtime.
pub async fn migrate(url: &str) -> Result<Vec<String>, MigrateError> {
    let connection = AsyncPgConnection::establish(url).await?;
    let mut harness = AsyncMigrationHarness::new(connection);
    let run = harness.run_pending_migrations(MIGRATIONS).map_err(MigrateError::Migration)?;
    Ok(run.iter().map(ToString::to_string).collect())
}

/// Takes every migration back: what the up → down test needs.
pub async fn revert_all(url: &str) -> Result<(), MigrateError> {
    let connection = AsyncPgConnection::establish(url).await?;
    let mut harness = AsyncMigrationHarness::new(connection);
    harness.revert_all_migrations(MIGRATIONS).map_err(MigrateError::Migration)?;
    Ok(())
}
