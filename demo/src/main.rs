//! `suyuan-demo`: a whole Suyuan on this machine, and a season in it.

use std::{
    io::Write as _,
    net::IpAddr,
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use demo::{
    lan::{self, Lan},
    season::{self, SeasonReport},
    stack::{self, Options, Ports, Stack},
};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use trace::causes::Causes;

/// How long the newest record may take to be cosigned before `--exit` calls it a failure.
const CONFIRM_PATIENCE: Duration = Duration::from_mins(1);
const WATCHED_EVERY: Duration = Duration::from_secs(1);

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
    /// What phones reach this machine at; without it, its address on the default route
    #[arg(long)]
    lan_address: Option<IpAddr>,
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
    // Heard from the first moment: what was started by then is stopped, too.
    let mut told_to_stop = pin!(told_to_stop()?);
    let exit = cli.exit;
    let mut stack = tokio::select! {
        stack = play(cli) => stack?,
        () = &mut told_to_stop => return Err("stopped before the season was over".into()),
    };
    if !exit {
        say("serving until Ctrl-C");
        tokio::select! {
            ended = ended(&mut stack) => return Err(format!("{ended} ended by itself; see .data/").into()),
            () = told_to_stop => {}
        }
    }
    tokio::task::spawn_blocking(move || drop(stack)).await?;
    Ok(())
}

/// Resolves when one of the parts is gone: half a house would only puzzle whoever looks at it.
async fn ended(stack: &mut Stack) -> String {
    loop {
        if let Some(name) = stack.ended() {
            return name;
        }
        tokio::time::sleep(WATCHED_EVERY).await;
    }
}

/// Resolves at Ctrl-C, a service manager's SIGTERM or a closed terminal.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let [mut interrupted, mut terminated, mut left] =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
            _ = left.recv() => {}
        }
    })
}

/// Starts everything and plays the season; what comes back serves until it is dropped.
async fn play(cli: Cli) -> Result<Stack, Box<dyn std::error::Error>> {
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
        lan_address: cli.lan_address,
        ..Options::local(root, data, programs, ports)
    };
    let stack = Stack::start(options, &mut say).await?;
    say(&format!(
        "ready after {:.1} s; playing what is missing of the season",
        began.elapsed().as_secs_f64()
    ));
    let report = season::play(&stack.addresses()).await?;
    say("the season is played; waiting until every statement is cosigned and anchored");
    confirmed(&stack, &report).await?;
    anchored(&stack).await?;
    let description = describe(&stack, &report).await?;
    // It names passwords: the file is its owner's alone.
    let file = stack.file("demo.json");
    if file.exists() {
        std::fs::remove_file(&file)?;
    }
    stack::write_private(&file, &serde_json::to_string_pretty(&description)?)?;
    print_table(&stack, &report)?;
    if let Some(lan) = &stack.lan {
        let port = lan::hand_out_port(cli.lan_port);
        lan.hand_out(port).await?;
        print_lan(&stack, lan, port)?;
    }
    Ok(stack)
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
            "scan_url": format!("{}{scanned}", stack.public_url()),
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
    writeln!(out, "  codes of packs, and what they open: .data/demo.json, .data/*.png\n")?;
    let line = |role: &str, party: &str, login: &str, password: &str| {
        format!("  {role:<12} {party:<20} {login:<20} {password}")
    };
    writeln!(out, "{}", line("role", "party", "sign-in", "password"))?;
    for person in &report.people {
        writeln!(out, "{}", line(&person.role, &person.party, &person.login, &person.password))?;
    }
    let operator = line("operator", "operator", stack::OPERATOR_LOGIN, &stack.operator_password);
    writeln!(out, "{operator}")?;
    let auditor = stack.options.programs.join("suyuan-auditor");
    let auditor = auditor.strip_prefix(&stack.options.root).unwrap_or(&auditor).display();
    writeln!(out, "\n  {auditor} verify .data/{}.bundle --trust .data/trust.txt\n", first(report))
}

/// How a phone of the room gets in.
fn print_lan(stack: &Stack, lan: &Lan, authority_port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    let (pages, authority) = (stack.public_url(), format!("http://{}:{authority_port}/ca.crt", lan.address));
    writeln!(out, "  Phones of this room, once: fetch and trust this demo's own certificate authority.\n")?;
    writeln!(out, "{}\n\n  {authority}\n", terminal_code(&authority)?)?;
    writeln!(
        out,
        "  Android: Settings > Security > Encryption & credentials > Install a certificate > CA certificate."
    )?;
    writeln!(out, "  iOS: open it in Safari, then Settings > Profile Downloaded > Install, and")?;
    writeln!(out, "  Settings > General > About > Certificate Trust Settings. Its SHA-256 must be")?;
    writeln!(out, "  {}\n\n  Then open\n", lan.fingerprint)?;
    Ok(writeln!(out, "{}\n\n  {pages}\n", terminal_code(&pages)?)?)
}

/// Black on white whatever the terminal's colours are: scanners want it so.
fn terminal_code(text: &str) -> Result<String, qrcode::types::QrError> {
    let code = qrcode::QrCode::new(text)?;
    let picture = code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build();
    let lines: Vec<String> = picture.lines().map(|line| format!("  \x1b[30;107m{line}\x1b[0m")).collect();
    Ok(lines.join("\n"))
}

fn first(report: &SeasonReport) -> &str {
    report.commodities.first().map_or("sugar", |commodity| commodity.name)
}
