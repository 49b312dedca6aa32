//! The gateway at the machine's limit: packs that devices signed, through gateway, HTTP, server and Postgres, beside what the
//! machine verifies, copies and brokers where it does nothing else. Publishers, broker and database share its cores.

mod broker;
mod devices;
mod limits;
mod others;
mod publisher;

use std::{io::Write as _, path::Path, time::Duration};

use tokio::time::Instant;

use self::{
    broker::{Broker, QUEUED_MAX},
    devices::{Devices, Script},
    publisher::{Pace, Seen},
};
use crate::{Failed, house::House, machine, table::Row};

/// How much a run asks for.
#[derive(Debug, Clone, Copy)]
struct Load {
    devices: u32,
    /// Of these, how many speak.
    speaking: u32,
    /// Connections that say nothing, spread over the devices.
    silent: usize,
    /// Each run's length.
    length: Duration,
    /// Packs that a device has signed for a run that goes as fast as it may.
    closed: usize,
    hundreds: usize,
    /// Messages a second, up to the first at which what lags behind the acknowledgements grows.
    rates: &'static [u32],
}

const FULL: Load = Load {
    devices: 2_500,
    speaking: 500,
    silent: 10_000,
    length: Duration::from_secs(5),
    closed: 500,
    hundreds: 40,
    rates: &[5_000, 10_000, 15_000, 20_000, 30_000, 40_000],
};
/// To see that every part runs; its figures say nothing.
const SMALL: Load = Load {
    devices: 50,
    speaking: 50,
    silent: 100,
    length: Duration::from_secs(1),
    closed: 40,
    hundreds: 4,
    rates: &[1_000, 2_000],
};
/// At which the way of one message is looked at closely.
const STEADY: u32 = 10_000;
const DRAIN_PATIENCE: Duration = Duration::from_mins(2);

pub async fn run(root: &Path, is_small: bool) -> Result<Vec<Row>, Failed> {
    let load = if is_small { SMALL } else { FULL };
    let mut house = House::open_tuned(root, "gateway").await?;
    house.season().await?;
    told("registering devices")?;
    let mut devices = Devices::register(&house, load.devices, load.speaking).await?;
    // The gateway looks at the register each second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    told("verify, COPY")?;
    let mut rows = limits::measured(&house, &mut devices).await?;
    rows.extend(silent(&house, &devices, load).await?);
    rows.extend(listen(&house, &mut devices, load).await?);
    rows.extend(subscribe(&mut house, &mut devices, load).await?);
    rows.push(Row::new(
        "load of the machine over the last minute, this run included",
        (machine_load()?, "processes"),
        (f64::from(u32::try_from(std::thread::available_parallelism()?.get())?), "cores"),
    ));
    house.close().await?;
    Ok(rows)
}

/// Which part runs now: the whole takes minutes.
fn told(part: &str) -> Result<(), Failed> {
    Ok(writeln!(std::io::stderr(), "gateway: {part}")?)
}

/// Devices that are connected and have nothing to say.
async fn silent(house: &House, devices: &Devices, load: Load) -> Result<Vec<Row>, Failed> {
    told("silent connections")?;
    let before = house.gateway_memory()?;
    let began = Instant::now();
    let connected = publisher::connect(house.stack.options.mqtt_port, devices.names(), load.silent).await?;
    let seconds = began.elapsed().as_secs_f64();
    let memory = house.gateway_memory()?;
    drop(connected);
    Ok(vec![Row::new(
        format!(
            "listen: gateway resident with {} silent connections, all let in within {seconds:.1} s",
            load.silent
        ),
        (memory, "MB"),
        (before, "with none"),
    )])
}

/// The gateway as the devices' endpoint.
async fn listen(house: &House, devices: &mut Devices, load: Load) -> Result<Vec<Row>, Failed> {
    let mut rows = Vec::new();
    told("listen, as fast as it may")?;
    let single = as_fast_as_may(house, devices.script(load.closed, 1).await?, load).await?;
    let stored = (single.rate, "packs/s");
    rows.push(Row::new(
        "listen: single readings, verified, durable, acknowledged",
        stored,
        (100_000.0, "wanted at least"),
    ));
    let memory = (house.gateway_memory()?, "MB");
    rows.push(Row::new("listen: gateway resident after it", memory, (100.0, "wanted at most")));
    let memory = (house.server_memory()?, "MB");
    rows.push(Row::new("listen: server resident after it", memory, (300.0, "wanted at most")));
    rows.push(Row::new(
        "listen: strictly checked and in the log, while it caught up and nothing else came",
        (single.caught_up, "packs/s"),
        (single.rate, "acknowledged before"),
    ));
    told("listen, packs of 100")?;
    let hundred = as_fast_as_may(house, devices.script(load.hundreds, 100).await?, load).await?;
    rows.push(Row::new(
        "listen: readings in packs of 100, verified, durable, acknowledged",
        (hundred.rate * 100.0, "readings/s"),
        (400_000.0, "wanted at least"),
    ));
    rows.push(Row::new(
        "listen: these strictly checked, summed and in the log while it caught up",
        (hundred.caught_up * 100.0, "readings/s"),
        (hundred.rate * 100.0, "acknowledged before"),
    ));
    rows.extend(steady(house, devices, load).await?);
    Ok(rows)
}

struct Burst {
    /// Packs a second that were acknowledged, and that came into the log afterwards.
    rate: f64,
    caught_up: f64,
}

async fn as_fast_as_may(house: &House, scripts: Vec<Script>, load: Load) -> Result<Burst, Failed> {
    let before = house.stored_packs()?;
    let began = Instant::now();
    let seen =
        publisher::publish(house.stack.options.mqtt_port, scripts, Pace::Closed(began + load.length)).await?;
    let rate = real(seen.acknowledged) / took(&seen, began);
    once_each(house, before, seen.acknowledged)?;
    let left = house.unlogged()?;
    let ended = Instant::now();
    caught_up(house).await?;
    Ok(Burst { rate, caught_up: real(left) / ended.elapsed().as_secs_f64() })
}

/// Each rate in turn: what a message waits for its acknowledgement, and how far the log is behind.
async fn steady(house: &House, devices: &mut Devices, load: Load) -> Result<Vec<Row>, Failed> {
    let (mut rows, mut bounded) = (Vec::new(), 0);
    for &rate in load.rates {
        told(&format!("listen, {rate}/s"))?;
        let each = usize::try_from(u64::from(rate / load.speaking) * load.length.as_secs())?;
        let scripts = devices.script(each, 1).await?;
        let before = house.stored_packs()?;
        let start = Instant::now() + Duration::from_millis(500);
        let beat = Duration::from_secs(u64::from(load.speaking)) / rate;
        let publishing =
            publisher::publish(house.stack.options.mqtt_port, scripts, Pace::Open { start, beat });
        let looking = async {
            tokio::time::sleep_until(start + load.length / 2).await;
            let halfway = house.unlogged()?;
            tokio::time::sleep_until(start + load.length).await;
            Ok::<_, Failed>((halfway, house.unlogged()?))
        };
        let (seen, looked) = tokio::join!(publishing, looking);
        let (mut seen, (halfway, end)) = (seen?, looked?);
        once_each(house, before, seen.acknowledged)?;
        let grows = end > halfway + usize::try_from(rate)? / 2;
        let follows = if grows { "it grows" } else { "it does not grow" };
        rows.push(Row::new(
            format!(
                "listen: behind the log at the end of {} s at {rate}/s: {follows}",
                load.length.as_secs()
            ),
            (real(end), "packs"),
            (real(halfway), "halfway"),
        ));
        let wanted = |most: f64| {
            if rate == STEADY { (most, "wanted at most") } else { (f64::NAN, "") }
        };
        for (percent, beside) in [(50, wanted(6.0)), (99, wanted(15.0))] {
            let latency = (seen.latencies.percentile(percent), "ms");
            rows.push(Row::new(
                format!("listen: published → acknowledged at {rate}/s, p{percent}"),
                latency,
                beside,
            ));
        }
        caught_up(house).await?;
        if grows {
            break;
        }
        bounded = rate;
    }
    rows.push(Row::new(
        "listen: highest of these rates that the strict check and the log follow",
        (f64::from(bounded), "packs/s"),
        (100_000.0, "acknowledged, wanted"),
    ));
    Ok(rows)
}

/// The gateway behind a site's own broker.
async fn subscribe(house: &mut House, devices: &mut Devices, load: Load) -> Result<Vec<Row>, Failed> {
    told("the broker alone")?;
    let broker = Broker::start(house.directory()).await?;
    // Publishers are faster than whoever stores: no more than the broker can keep.
    let each = load.closed.min(QUEUED_MAX / usize::try_from(load.speaking)? - 1);
    let alone = broker.alone(devices.script(each, 1).await?, load.length).await?;
    drop(house.stack.gateway.take());
    told("what others would carry")?;
    let others = others::measured(house, &broker, devices, load.length).await?;
    told("subscribe")?;
    house.stack.options.mqtt_url = Some(format!("mqtt://127.0.0.1:{}", broker.port));
    house.stack.start_gateway().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let scripts = devices.script(each, 1).await?;
    let before = house.stored_packs()?;
    let began = Instant::now();
    let seen = publisher::publish(broker.port, scripts, Pace::Closed(began + load.length)).await?;
    let until = began + load.length + DRAIN_PATIENCE;
    while house.stored_packs()? < before + seen.acknowledged {
        if Instant::now() > until {
            let stored = house.stored_packs()? - before;
            return Err(format!("{stored} of {} came through the broker", seen.acknowledged).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rate = real(seen.acknowledged) / began.elapsed().as_secs_f64();
    caught_up(house).await?;
    let mut rows = vec![
        Row::new(
            "subscribe: through mosquitto, verified, durable",
            (rate, "packs/s"),
            (alone, "mosquitto alone, to a subscriber that only acknowledges"),
        ),
        Row::new(
            "subscribe: gateway resident after it",
            (house.gateway_memory()?, "MB"),
            (100.0, "wanted at most"),
        ),
    ];
    rows.extend(others.into_iter().map(|(what, stored)| {
        Row::new(what, (stored, "packs/s"), (rate, format!("ours: {:.0} times as much", rate / stored)))
    }));
    Ok(rows)
}

/// Every acknowledged pack is in the table, and none twice: its key is the table's.
fn once_each(house: &House, before: usize, acknowledged: usize) -> Result<(), Failed> {
    let stored = house.stored_packs()? - before;
    if stored == acknowledged {
        return Ok(());
    }
    let newest = "select coalesce((select reason from dead_letter order by id desc limit 1), 'none')";
    let reason: String = house.asked(newest)?;
    Err(format!(
        "{acknowledged} packs were acknowledged and {stored} are stored; newest dead letter: {reason}"
    )
    .into())
}

async fn caught_up(house: &House) -> Result<(), Failed> {
    let until = Instant::now() + DRAIN_PATIENCE;
    while house.unlogged()? > 0 {
        if Instant::now() > until {
            writeln!(
                std::io::stderr(),
                "{} packs are not in the log after {DRAIN_PATIENCE:?}",
                house.unlogged()?
            )?;
            return Err("the log never caught up".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

impl House {
    /// One value from the database.
    fn asked<T: for<'row> postgres::types::FromSql<'row>>(&self, question: &str) -> Result<T, Failed> {
        tokio::task::block_in_place(|| {
            let mut client =
                postgres::Client::connect(&self.stack.database_url("migrator"), postgres::NoTls)?;
            Ok(client.query_one(question, &[])?.try_get(0)?)
        })
    }

    fn stored_packs(&self) -> Result<usize, Failed> {
        Ok(usize::try_from(self.asked::<i64>("select count(*) from pack")?)?)
    }

    /// Packs that wait for their strict check, and leaves that wait for their index.
    fn unlogged(&self) -> Result<usize, Failed> {
        let question = "select (select count(*) from strict_check) + (select count(*) from pending)";
        Ok(usize::try_from(self.asked::<i64>(question)?)?)
    }

    fn gateway_memory(&self) -> Result<f64, Failed> {
        let gateway = self.stack.gateway.as_ref().ok_or("the gateway is not running")?;
        machine::resident_mb(&gateway.pid().to_string())
    }
}

fn machine_load() -> Result<f64, Failed> {
    let told = std::fs::read_to_string("/proc/loadavg")?;
    Ok(told.split_whitespace().next().ok_or("no load")?.parse()?)
}

fn took(seen: &Seen, began: Instant) -> f64 {
    seen.ended.map_or(f64::NAN, |ended| (ended - began).as_secs_f64())
}

fn real(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
