//! The pool, and transactions that roll back unless they are committed.

use std::ops::{Deref, DerefMut};

use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, TransactionManager,
    pooled_connection::{
        AsyncDieselConnectionManager,
        deadpool::{Object, Pool, PoolError},
    },
};

/// What every function of this crate takes: a connection, inside a transaction or not.
pub type Connection = AsyncPgConnection;

/// Postgres did not do what was asked. `Display` is for the log, never for a user.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no connection to Postgres")]
    Pool(#[from] PoolError),
    #[error("Postgres refused")]
    Query(#[from] diesel::result::Error),
    #[error("a bulk copy failed")]
    Copy(#[from] tokio_postgres::Error),
    #[error("the pool could not be built")]
    Build(#[from] diesel_async::pooled_connection::deadpool::BuildError),
    #[error("a stored value is not what was written: {0}")]
    Corrupt(&'static str),
}

impl StoreError {
    /// The name of the violated constraint, if that is what happened.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Query(diesel::result::Error::DatabaseError(_, details)) => details.constraint_name(),
            _ => None,
        }
    }
}

/// A bounded pool of connections to one database.
#[derive(Clone)]
pub struct Store {
    pool: Pool<AsyncPgConnection>,
}

/// A connection that goes back to the pool when dropped.
pub struct Pooled(Object<AsyncPgConnection>);

/// An open transaction: rolled back when dropped uncommitted.
pub struct Transaction(Option<Object<AsyncPgConnection>>);

impl Store {
    /// `url` as libpq writes it; a directory of a Unix socket goes percent-encoded into the host. Connects lazily.
    pub fn open(url: &str, connections_max: usize) -> Result<Self, StoreError> {
        let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
        Ok(Self { pool: Pool::builder(manager).max_size(connections_max).build()? })
    }

    pub async fn connection(&self) -> Result<Pooled, StoreError> {
        Ok(Pooled(self.pool.get().await?))
    }

    /// A connection of its own that never goes back to the pool: what a session lock lives on.
    pub async fn session(&self) -> Result<Session, StoreError> {
        Ok(Session(Object::take(self.pool.get().await?)))
    }

    /// Starts a transaction (read committed).
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        let mut connection = self.pool.get().await?;
        AnsiTransactionManager::begin_transaction(&mut *connection).await?;
        Ok(Transaction(Some(connection)))
    }
}

/// A connection outside the pool. Dropping it closes it: its open transaction is rolled back, its locks are free.
pub struct Session(AsyncPgConnection);

impl Session {
    pub async fn begin(&mut self) -> Result<(), StoreError> {
        Ok(AnsiTransactionManager::begin_transaction(&mut self.0).await?)
    }

    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        Ok(AnsiTransactionManager::rollback_transaction(&mut self.0).await?)
    }

    /// After an error the outcome is unknown: drop the session and read again.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        Ok(AnsiTransactionManager::commit_transaction(&mut self.0).await?)
    }
}

impl Deref for Session {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl Transaction {
    /// What was written is durable when this returns `Ok`.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        if let Some(mut connection) = self.0.take()
            && let Err(error) = AnsiTransactionManager::commit_transaction(&mut *connection).await
        {
            // Whatever state it is in, nobody else shall get this connection.
            drop(Object::take(connection));
            return Err(error.into());
        }
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut connection) = self.0.take() else { return };
        // Dropping the connection closes it, and Postgres rolls back; keeping it costs one round trip instead.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            drop(Object::take(connection));
            return;
        };
        runtime.spawn(async move {
            if AnsiTransactionManager::rollback_transaction(&mut *connection).await.is_err() {
                drop(Object::take(connection));
            }
        });
    }
}

impl Deref for Pooled {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl Deref for Transaction {
    type Target = Connection;
    #[expect(clippy::expect_used, reason = "only commit and drop empty it, and both take it by value")]
    fn deref(&self) -> &Connection {
        self.0.as_ref().expect("an open transaction")
    }
}

impl DerefMut for Transaction {
    #[expect(clippy::expect_used, reason = "only commit and drop empty it, and both take it by value")]
    fn deref_mut(&mut self) -> &mut Connection {
        self.0.as_mut().expect("an open transaction")
    }
}
