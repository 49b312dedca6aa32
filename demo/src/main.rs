//! `suyuan-demo`: a whole Suyuan on this machine, and a season in it.

use std::{
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use demo::{
    lan::Lan,
    season::{self, SeasonReport},
    stack::{self, Options, Ports, Stack},
};
use serde_json::{Value, json};
use trace::causes::Causes;

/// How long the newest record may take to be cosigned before `--exit` calls it a failure.
const CONFIRM_PATIENCE: Duration = Duration::from_mins(1);

/// Start Suyuan on this machine, play a season of sugar, grain and timber, and serve until Ctrl-C
#[derive(Parser)]
#[command(name = "suyuan-demo", version)]
struct Cli {
    /// Play, confirm, write demo.json, stop everything; exit status 0 only if every statement was confirmed, cosigned and anchored
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
    /// Port of the dev chain
    #[arg(long, default_value_t = 8545)]
    chain_port: u16,
    /// Serve the phones of the room over TLS, from a certificate authority that is made here
    #[arg(long)]
    lan: bool,
    /// Port that phones find the pages on; the authority's certificate is handed out on the next one
    #[arg(long, default_value_t = 8443)]
    lan_port: u16,
    /// Use this Postgres (as owner of the tables) instead of a private one
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Let the gateway subscribe to this broker (`mqtt://host:port`) instead of being the endpoint itself
    #[arg(long, env = "MQTT_URL")]
    mqtt_url: Option<String>,
    /// Use the EVM chain of this node instead of starting one
    #[arg(long, env = "CHAIN_RPC_URL")]
    chain_rpc_url: Option<String>,
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
    let ports =
        Ports { http: cli.http_port, mqtt: cli.mqtt_port, witness: cli.witness_port, chain: cli.chain_port };
    let (data, programs) = (root.join(".data"), stack::programs_beside_us()?);
    let options = Options {
        database_url: cli.database_url,
        mqtt_url: cli.mqtt_url,
        chain_rpc_url: cli.chain_rpc_url,
        lan_port: cli.lan.then_some(cli.lan_port),
        ..Options::local(root, data, programs, ports)
    };
    let stack = Stack::start(options, &mut say).await?;
    say(&format!("ready after {:.1} s; the season begins", began.elapsed().as_secs_f64()));
    let report = season::play(&stack.addresses()).await?;
    say("the season is played; waiting until every statement is cosigned and anchored");
    confirmed(&stack, &report).await?;
    anchored(&stack).await?;
    let description = describe(&stack, &report).await?;
    std::fs::write(stack.file("demo.json"), serde_json::to_string_pretty(&description)?)?;
    print_table(&stack, &report)?;
    if let Some(lan) = &stack.lan {
        let port = cli.lan_port.saturating_add(1);
        lan.hand_out(port).await?;
        print_lan(&stack, lan, port)?;
    }
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

/// The chain itself has a head that covers everything that is cosigned now.
async fn anchored(stack: &Stack) -> Result<(), Box<dyn std::error::Error>> {
    let Some(chain) = &stack.chain else { return Ok(()) };
    let checkpoint = reqwest::get(stack.checkpoint_url()).await?.error_for_status()?.text().await?;
    let size: u64 = checkpoint.lines().nth(1).unwrap_or_default().parse()?;
    let until = Instant::now() + CONFIRM_PATIENCE;
    loop {
        let there = chain.anchored_size(&stack.origin()).await?;
        if there >= size {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("the chain has {there} of {size} entries: not anchored").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
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
    Ok(json!({
        "base_url": base,
        "commodities": commodities,
        "people": report.people,
        "log": {
            "origin": stack.origin(),
            "vkey": stack.log_vkey()?,
            "checkpoint_url": stack.checkpoint_url(),
        },
        "witness_vkeys": [stack.witness_vkey()?],
        "trust": ".data/trust.txt",
        "chain": stack.chain.as_ref().map(|chain| json!({
            "rpc_url": chain.rpc_url,
            "chain_id": chain.chain_id,
            "contract": format!("{:#x}", chain.contract),
        })),
        "mqtt_url": stack.mqtt_url(),
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

/// How a phone of the room gets in.
fn print_lan(stack: &Stack, lan: &Lan, authority_port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    let (pages, authority) = (stack.public_url(), format!("http://{}:{authority_port}/ca.crt", lan.address));
    writeln!(
        out,
        "  Phones in this room: first trust this demo's own certificate authority,\n  {authority}"
    )?;
    writeln!(
        out,
        "  (Android: Settings, Security, Install a CA certificate; iOS: open it, install the profile,"
    )?;
    writeln!(
        out,
        "  then Settings, General, About, Certificate Trust Settings). Compare its SHA-256 before:"
    )?;
    writeln!(out, "  {}\n\n  Then open {pages}\n", lan.fingerprint)?;
    let code = qrcode::QrCode::new(&pages)?;
    let picture = code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build();
    Ok(writeln!(out, "{picture}\n")?)
}

fn first(report: &SeasonReport) -> &str {
    report.commodities.first().map_or("sugar", |commodity| commodity.name)
}
