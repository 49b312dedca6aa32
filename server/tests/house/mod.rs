//! The server's own state over a test's database.

use server::service::keys::write_secret;

/// The same keys each time, in files as an operator would write them.
pub fn key_files() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("suyuan-house-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&dir).unwrap();
    for (name, seed) in [("registrar", 1), ("derivation", 2), ("kek", 3), ("serial-master", 4)] {
        write_secret(&dir.join(name), &trace::b64::url(&[seed; 32])).unwrap();
    }
    dir
}

#[derive(clap::Parser)]
struct Told {
    #[command(flatten)]
    config: server::config::Config,
}

/// Opened as `suyuan serve` opens it, with key files as an operator would write them.
pub async fn state(url: &str) -> actix_web::web::Data<server::app::AppState> {
    state_told(url, &[]).await
}

/// The same, told more on its command line.
pub async fn state_told(url: &str, more: &[String]) -> actix_web::web::Data<server::app::AppState> {
    use clap::Parser as _;
    let dir = key_files();
    // With the rights that the server has, and no others.
    let role = format!("{url}?options=-c%20role%3Dapp");
    let mut arguments = vec!["serve".to_owned(), "--database-url".to_owned(), role];
    for name in ["registrar", "derivation", "kek", "serial-master"] {
        let file = dir.join(name);
        let option = match name {
            "kek" | "serial-master" => format!("--{name}-file"),
            _ => format!("--{name}-key-file"),
        };
        arguments.extend([option, file.display().to_string()]);
    }
    let log_key = dir.join("log");
    let signer = trace::tlog::note::SignerKey {
        name: "localhost/suyuan/2026".parse().unwrap(),
        secret: trace::keys::SecretKey::from_seed(&[4; 32]),
    };
    write_secret(&log_key, &signer.to_secret_text()).unwrap();
    arguments.extend(["--log-key-file".to_owned(), log_key.display().to_string()]);
    let locales = concat!(env!("CARGO_MANIFEST_DIR"), "/../locales");
    let profiles = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles");
    arguments.extend(["--locales", locales, "--profiles", profiles].map(str::to_owned));
    arguments.extend_from_slice(more);
    let told = Told::parse_from(arguments);
    let mut state = server::app::AppState::open(told.config).await.unwrap();
    // For what a test looks at or changes behind the server's back.
    url.clone_into(&mut state.config.database.database_url);
    std::fs::remove_dir_all(dir).unwrap();
    actix_web::web::Data::new(state)
}
