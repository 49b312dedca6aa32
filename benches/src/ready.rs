//! From built programs to "ready", and what the server weighs after a season.

use std::{path::Path, time::Instant};

use crate::{Failed, house::House, table::Row};

pub async fn run(root: &Path) -> Result<Vec<Row>, Failed> {
    let began = Instant::now();
    let house = House::open(root, "ready").await?;
    let empty = began.elapsed().as_secs_f64();
    let began = Instant::now();
    house.season().await?;
    let season = began.elapsed().as_secs_f64();
    let memory = house.server_memory()?;
    let (house, resumed) = house.resume(root).await?;
    house.close().await?;
    Ok(vec![
        Row::new("ready, from nothing", (empty, "s"), (20.0, "wanted at most")),
        Row::new("ready, on kept data", (resumed.as_secs_f64(), "s"), (20.0, "wanted at most")),
        Row::new("the season played", (season, "s"), (empty, "ready, from nothing")),
        Row::new("server resident after the season", (memory, "MB"), (150.0, "wanted at most")),
    ])
}
