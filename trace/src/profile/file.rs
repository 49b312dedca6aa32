//! A profile's file: its parts, and what must hold between them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{
    DeviceMap, Disagreement, Interval, Metric, Product, Rise, Rule, Silence, Step, Threshold, watch,
};
use crate::{quantity::Measure, rules::formula::Formula, uplink::MapError};

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) id: String,
    pub(super) version: u32,
    pub(super) roles: Vec<String>,
    pub(super) sections: Vec<String>,
    pub(super) place_kinds: Vec<String>,
    pub(super) device_kinds: Vec<String>,
    #[serde(rename = "device-map", default)]
    pub(super) device_maps: Vec<DeviceMap>,
    #[serde(rename = "product")]
    pub(super) products: Vec<Product>,
    #[serde(rename = "step")]
    pub(super) steps: Vec<Step>,
    #[serde(rename = "threshold", default)]
    pub(super) thresholds: Vec<Threshold>,
    #[serde(rename = "silence", default)]
    pub(super) silences: Vec<Silence>,
    #[serde(rename = "rise", default)]
    pub(super) rises: Vec<Rise>,
    #[serde(rename = "disagreement", default)]
    pub(super) disagreements: Vec<Disagreement>,
    #[serde(rename = "interval", default)]
    pub(super) intervals: Vec<Interval>,
    #[serde(rename = "metric", default)]
    pub(super) metrics: Vec<Metric>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("not a profile")]
    Toml(#[from] toml::de::Error),
    #[error("{0} stands twice")]
    Twice(String),
    #[error(
        "step {step} names {name}, which is no field, product, role, section, formula or unit of the profile"
    )]
    Unknown { step: String, name: String },
    #[error("{0} is not a lower-case word with hyphens")]
    Name(String),
    #[error("rule {0} lasts no time")]
    NoTime(String),
    #[error("rule {0} clears where it is raised")]
    NoHysteresis(String),
    #[error("the map of device kind {kind}")]
    DeviceMap { kind: String, source: MapError },
}

pub(super) fn check(file: &File) -> Result<(), ProfileError> {
    let names = [&file.id].into_iter().chain(file.steps.iter().map(|step| &step.id));
    let names = names.chain(file.products.iter().map(|product| &product.id));
    for name in names.chain(file.steps.iter().flat_map(|step| step.fields.iter().map(|field| &field.id))) {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(good) {
            return Err(ProfileError::Name(name.clone()));
        }
    }
    no_doubles(file.steps.iter().map(|step| step.id.as_str()))?;
    no_doubles(file.products.iter().map(|product| product.id.as_str()))?;
    for product in &file.products {
        if Measure::from_code(&product.unit).is_none() {
            return Err(unknown("products", &product.unit));
        }
    }
    check_device_maps(file)?;
    watch::check(file)?;
    file.steps.iter().try_for_each(|step| check_step(file, step))
}

fn check_device_maps(file: &File) -> Result<(), ProfileError> {
    for usual in &file.device_maps {
        if !file.device_kinds.contains(&usual.kind) {
            return Err(unknown("device-map", &usual.kind));
        }
        let checked = usual.map.check(usual.format);
        checked.map_err(|source| ProfileError::DeviceMap { kind: usual.kind.clone(), source })?;
    }
    let names = file.device_maps.iter().map(|usual| format!("{}/{}", usual.kind, usual.format.as_str()));
    no_doubles(names.collect::<Vec<_>>().iter().map(String::as_str))
}

pub(super) fn no_doubles<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), ProfileError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(ProfileError::Twice(name.to_owned()));
        }
    }
    Ok(())
}

pub(super) fn unknown(step: &str, name: &str) -> ProfileError {
    ProfileError::Unknown { step: step.to_owned(), name: name.to_owned() }
}

fn check_step(file: &File, step: &Step) -> Result<(), ProfileError> {
    no_doubles(step.fields.iter().map(|field| field.id.as_str()))?;
    let known = |list: &[String], name: &String| list.contains(name);
    if let Some(role) = step.roles.iter().find(|role| !known(&file.roles, role)) {
        return Err(unknown(&step.id, role));
    }
    if !known(&file.sections, &step.section) {
        return Err(unknown(&step.id, &step.section));
    }
    for field in &step.fields {
        if let Some(product) =
            field.products.iter().find(|id| !file.products.iter().any(|known| known.id == **id))
        {
            return Err(unknown(&step.id, product));
        }
        if let Some(name) = &field.computed {
            let formula: Formula = name.parse().map_err(|_| unknown(&step.id, name))?;
            if formula.arguments() != field.from.len() {
                return Err(unknown(&step.id, name));
            }
        }
    }
    let named = step.effect.fields().into_iter().chain(step.rules.iter().flat_map(Rule::fields));
    let named = named.chain(
        step.fields.iter().flat_map(|field| field.from.iter().chain(&field.item_of).map(String::as_str)),
    );
    for name in named {
        if step.field(name).is_none() {
            return Err(unknown(&step.id, name));
        }
    }
    Ok(())
}
