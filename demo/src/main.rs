//! `suyuan-demo`: a whole Suyuan on this machine, and a season in it.

use std::{
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use demo::{
    season::{self, Addresses, SeasonReport},
    stack::{self, Options, Stack},
};
use serde_json::{Value, json};
use trace::causes::Causes;

/// How long the newest record may take to be cosigned before `--exit` calls it a failure.
const CONFIRM_PATIENCE: Duration = Duration::from_mins(1);

/// Start Suyuan on this machine, play a season of sugar, grain and timber, and serve until Ctrl-C
#[derive(Parser)]
#[command(name = "suyuan-demo", version)]
struct Cli {
    /// Play, confirm, write demo.json, stop everything; exit status 0 only if every statement was confirmed and cosigned
    #[arg(long)]
    exit: bool,
    /// The project's directory
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Port of the pages and REST
    #[arg(long, default_value_t = 8460)]
    http_port: u16,
    /// Port that devices publish to
    #[arg(long, default_value_t = 18_830)]
    mqtt_port: u16,
    /// Port of the demo's witness
    #[arg(long, default_value_t = 8461)]
    witness_port: u16,
    /// Use this Postgres (as owner of the tables) instead of a private one
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
}

fn main() -> ExitCode {
    let outcome = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(Cli::parse())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("the demo stops: {}", Causes(&*error)));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    // A closed terminal must not stop the demo.
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

async fn run(cli: Cli) -> Result<(), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let root = cli.root.canonicalize()?;
    let options = Options {
        data: root.join(".data"),
        programs: stack::programs_beside_us()?,
        root: root.clone(),
        http_port: cli.http_port,
        mqtt_port: cli.mqtt_port,
        witness_port: cli.witness_port,
        database_url: cli.database_url,
    };
    let stack = Stack::start(options, &mut say).await?;
    say(&format!("ready after {:.1} s; the season begins", began.elapsed().as_secs_f64()));
    let report = season::play(&Addresses {
        base_url: stack.base_url(),
        mqtt_host: "127.0.0.1".to_owned(),
        mqtt_port: stack.options.mqtt_port,
        operator_login: stack.operator_login().to_owned(),
        operator_password: stack.operator_password.clone(),
        state_file: stack.file("season.json"),
    })
    .await?;
    say("the season is played; waiting until every statement is cosigned");
    confirmed(&stack, &report).await?;
    let description = describe(&stack, &report).await?;
    std::fs::write(stack.file("demo.json"), serde_json::to_string_pretty(&description)?)?;
    print_table(&stack, &report)?;
    if !cli.exit {
        say("serving until Ctrl-C");
        tokio::signal::ctrl_c().await?;
    }
    drop(tokio::task::spawn_blocking(move || drop(stack)).await);
    Ok(())
}

/// Every record's proof is there, under a head that the witness cosigned.
async fn confirmed(stack: &Stack, report: &SeasonReport) -> Result<(), Box<dyn std::error::Error>> {
    let until = Instant::now() + CONFIRM_PATIENCE;
    let client = reqwest::Client::new();
    for jti in &report.records {
        loop {
            let answer = client.get(format!("{}/proof/{jti}", stack.base_url())).send().await?;
            if answer.status().is_success() {
                break;
            }
            if Instant::now() > until {
                return Err(format!("record {jti} was not confirmed: {}", answer.status()).into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

/// What stands in `demo.json`; paths relative to the project.
async fn describe(stack: &Stack, report: &SeasonReport) -> Result<Value, Box<dyn std::error::Error>> {
    let client = reqwest::Client::new();
    let base = stack.base_url();
    let mut commodities = Vec::new();
    for commodity in &report.commodities {
        stack.valid_bundle(&commodity.lot_path, commodity.name).await?;
        let scanned =
            stack.first_pack(&commodity.lot_path).await?.unwrap_or_else(|| commodity.lot_path.clone());
        let png = client.get(format!("{base}/labels{scanned}/qr.png")).send().await?.error_for_status()?;
        let png_file = stack.file(&format!("{}.png", commodity.name));
        std::fs::write(&png_file, png.bytes().await?)?;
        commodities.push(json!({
            "name": commodity.name,
            "scan_url": format!("{base}{scanned}"),
            "qr_png": format!(".data/{}.png", commodity.name),
            "bundle": format!(".data/{}.bundle", commodity.name),
        }));
    }
    let origin = stack.origin();
    let path = origin.split_once('/').map_or("", |(_, path)| path);
    Ok(json!({
        "base_url": base,
        "commodities": commodities,
        "people": report.people,
        "log": {
            "origin": origin,
            "vkey": stack.log_vkey()?,
            "checkpoint_url": format!("{base}/{path}/checkpoint"),
        },
        "witness_vkeys": [stack.witness_vkey()?],
        "trust": ".data/trust.txt",
        "chain": null,
        "mqtt_url": format!("mqtt://127.0.0.1:{}", stack.options.mqtt_port),
        "database_url": stack.database_url("app"),
    }))
}

fn print_table(stack: &Stack, report: &SeasonReport) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let base = stack.base_url();
    writeln!(out, "\n  {base}\n")?;
    for commodity in &report.commodities {
        writeln!(out, "  {:<10} {base}{}", commodity.name, commodity.lot_path)?;
    }
    writeln!(out)?;
    for person in &report.people {
        writeln!(out, "  {:<12} {:<20} {:<20} {}", person.role, person.party, person.login, person.password)?;
    }
    writeln!(out, "\n  suyuan-auditor verify .data/{}.bundle --trust .data/trust.txt\n", first(report))
}

fn first(report: &SeasonReport) -> &str {
    report.commodities.first().map_or("sugar", |commodity| commodity.name)
}
