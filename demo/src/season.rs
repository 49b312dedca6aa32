//! A season of sugar, grain and timber, played through the front door: the operator registers who takes part, people sign
//! in and post the forms of their day, sensors publish over MQTT, the carrier hands in EPCIS documents.
//!
//! Playing again on the same data changes nothing: what is made up by chance (the day it began, passwords, tokens) is kept
//! in a state file, every registration is answered with what stands, and each step's jti follows from its name.

mod client;
mod grain;
mod scene;
mod sensors;
mod sugar;
mod timber;

use std::path::PathBuf;

use serde::Serialize;

pub use client::FrontDoorError;
pub use sensors::{Endpoint, Word};

/// The regulator's party GLN, by its number in the example prefix.
const REGULATOR: u32 = 190;

/// Where the season is played.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Without a final slash.
    pub base_url: String,
    /// What the server prints before its paths; consignments are named under it.
    pub public_url: String,
    pub devices: Endpoint,
    /// The operator's first sign-in (`suyuan operator init`).
    pub operator_login: String,
    pub operator_password: String,
    /// Kept between runs; holds the demo's passwords, so 0600.
    pub state_file: PathBuf,
}

/// What was played, for the table on the screen and `demo.json`.
#[derive(Debug, Clone, Serialize)]
pub struct SeasonReport {
    pub commodities: Vec<Commodity>,
    pub people: Vec<Person>,
    /// jti of every record of a form, in the order posted.
    pub records: Vec<uuid::Uuid>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Commodity {
    pub name: &'static str,
    /// The lot on the shelf: `/01/{gtin}/10/{lot}` below the base URL.
    pub lot_path: String,
    /// The record that coded its packs.
    pub coded_by: uuid::Uuid,
}

#[derive(Debug, Clone, Serialize)]
pub struct Person {
    pub role: String,
    pub party: String,
    pub login: String,
    pub password: String,
}

/// Plays what is missing of the season and reports all of it.
pub async fn play(addresses: &Addresses) -> Result<SeasonReport, FrontDoorError> {
    let mut scene = scene::Scene::open(addresses).await?;
    scene.organisation("jianguan", "regulator", "市场监管局（演示）", REGULATOR).await?;
    let commodities =
        vec![sugar::play(&mut scene).await?, grain::play(&mut scene).await?, timber::play(&mut scene).await?];
    Ok(scene.report(commodities))
}
