//! The envelope at rest: one row, sealed under a key that is not in the database.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may stop where it stands, and says loudly what it skips"
)]

mod database;

use std::path::{Path, PathBuf};

use server::{
    app,
    service::keys::{KeyFiles, Keys, KeysError, ceremony::make_seed},
};
use store::Store;

/// Key files in a directory that goes away with the test.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("suyuan-envelope-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&directory).unwrap();
        let files = Self(directory);
        for name in ["registrar", "derivation", "kek", "next-kek"] {
            make_seed(&files.path(name)).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    async fn open(&self, store: &Store, kek: &str) -> Result<Keys, KeysError> {
        let (registrar, derivation, kek) = (self.path("registrar"), self.path("derivation"), self.path(kek));
        let files = KeyFiles { registrar: &registrar, derivation: &derivation, kek: Path::new(&kek) };
        Keys::open(&mut store.connection().await.unwrap(), "demo", files).await
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Nothing is left to do where the directory is gone already.
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_key_encryption_key_opens_what_the_old_one_sealed_and_the_old_one_opens_nothing() {
    let Some(url) = database::fresh("envelope").await else { return };
    let store = Store::open(&url, 4).unwrap();
    let files = Files::new();
    let before = files.open(&store, "kek").await.unwrap();
    let person = uuid::Uuid::now_v7();
    let (_, sealed) = before.new_person_key(person).unwrap();
    let mut conn = store.connection().await.unwrap();
    store::party::insert_person(&mut conn, person, &sealed).await.unwrap();
    assert!(files.open(&store, "next-kek").await.is_err(), "another key opens nothing, and founds nothing");

    let (old, new) = (files.path("kek"), files.path("next-kek"));
    assert!(app::reseal(&url, &new, &old).await.is_err(), "who does not have the old key changes nothing");
    app::reseal(&url, &old, &new).await.unwrap();
    assert!(files.open(&store, "kek").await.is_err());
    let after = files.open(&store, "next-kek").await.unwrap();
    assert_eq!(after.lookup("login", b"huang"), before.lookup("login", b"huang"));
    assert!(after.person_key(&mut conn, person).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_s_role_can_neither_change_the_root_key_nor_the_auditor_s_read_it() {
    let Some(url) = database::fresh("envelope_roles").await else { return };
    let store = Store::open(&url, 2).unwrap();
    Files::new().open(&store, "kek").await.unwrap();
    for (role, query) in [
        ("app", "update root_key set sealed = '\\x00'"),
        ("app", "delete from root_key"),
        ("auditor", "select sealed from root_key"),
    ] {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("set role {role}")).await.unwrap();
        let refused = client.batch_execute(query).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{role}: {query}");
    }
}
