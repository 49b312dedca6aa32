//! What was checked, in plain words: a line a layer with its reasons, a line a statement, the verdict.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    io::{self, Write},
};

use chrono::{DateTime, SecondsFormat};
use serde_json::Value;
use trace::{
    bundle::{Checked, Content, Interval, Layer, Outcome, Read, Report, Verdict},
    hash::Hash,
    keys::Custody,
    pack::{
        device::split_base_name,
        senml::{self, Reading},
    },
};

/// Statements that are listed; the layers speak of all.
const LISTED_MAX: usize = 200;
/// Quantities of one pack that are told.
const RANGES_MAX: usize = 4;

pub fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for checked in &report.layers {
        print_layer(out, checked)?;
    }
    print_statements(out, &report.statements)?;
    writeln!(out, "{}", verdict(report.verdict))?;
    writeln!(
        out,
        "This proves who stated what and that it was not changed; not that what was stated is true, nor that it is about \
         the package in your hand."
    )
}

fn print_layer(out: &mut impl Write, checked: &Checked) -> io::Result<()> {
    let (name, proves) = words(checked.layer);
    let (mark, reasons) = match &checked.outcome {
        Outcome::Good => return writeln!(out, "ok         {name} ({}): {proves}", checked.count),
        Outcome::Bad(why) => ("BAD", why),
        Outcome::Unchecked(why) => ("unchecked", why),
    };
    for why in reasons {
        writeln!(out, "{mark:9}  {name} ({}): {}", checked.count, printable(why))?;
    }
    Ok(())
}

/// What was stated about goods, and measured; statements about keys and logs are told by their layers.
fn print_statements(out: &mut impl Write, statements: &[Option<Read>]) -> io::Result<()> {
    let numbers: HashMap<Hash, usize> =
        statements.iter().enumerate().filter_map(|(at, read)| Some((read.as_ref()?.entry, at))).collect();
    let referring = referring(statements, &numbers);
    let mut left_off = 0_usize;
    let mut listed = 0_usize;
    for (at, read) in statements.iter().enumerate() {
        let Some(read) = read else { continue };
        let Some(summary) = summary(&read.content) else { continue };
        if listed == LISTED_MAX {
            left_off += 1;
            continue;
        }
        listed += 1;
        let marks = referring.get(&at).map(String::as_str).unwrap_or_default();
        let (summary, key, made) = (printable(&summary), held(read), interval(read.made));
        writeln!(out, "statement {at}: {summary}{marks}; {key}; made {made}")?;
    }
    if left_off > 0 {
        writeln!(out, "and {left_off} more statements")?;
    }
    Ok(())
}

/// Statement → who in the bundle corrects it, or names it as evidence.
fn referring(statements: &[Option<Read>], numbers: &HashMap<Hash, usize>) -> HashMap<usize, String> {
    let mut marks: HashMap<usize, String> = HashMap::new();
    for (at, read) in statements.iter().enumerate() {
        let Some(Read { content: Content::Record(claims), .. }) = read else { continue };
        for reference in claims.get("refs").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| reference.get(name).and_then(Value::as_str).unwrap_or_default();
            let target = text("leaf").parse().ok().and_then(|leaf: Hash| numbers.get(&leaf));
            let words = match text("rel") {
                "corrects" => "CORRECTED by",
                "evidence" => "evidence of",
                _ => continue,
            };
            if let Some(target) = target {
                let mark = marks.entry(*target).or_default();
                // Writing to a String cannot fail.
                write!(mark, ", {words} statement {at}").unwrap_or_default();
            }
        }
    }
    marks
}

fn summary(content: &Content) -> Option<String> {
    match content {
        Content::Record(claims) => {
            let event = claims.get("event")?;
            let text = |name: &str| event.get(name).and_then(Value::as_str);
            let step = text("gx:step").or(text("bizStep")).or(text("type")).unwrap_or("event");
            let iss = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
            Some(format!("{step} by {iss}"))
        }
        Content::Pack { readings, .. } => Some(summary_of_pack(readings)),
    }
}

/// `60 readings of urn:dev:org:32473-mill:scale1 at …: weight 6180 to 6220 kg`. Texts, truth values and data are only counted.
fn summary_of_pack(readings: &[Reading]) -> String {
    let mut ranges: BTreeMap<(&str, &str), (f64, f64)> = BTreeMap::new();
    let mut device = "";
    for reading in readings {
        let (of, name) = split_base_name(&reading.name);
        device = of;
        let Some(senml::Value::Number(number)) = &reading.value else { continue };
        let value = number.as_f64();
        let unit = reading.unit.as_deref().unwrap_or_default();
        let (least, most) = ranges.entry((name, unit)).or_insert((value, value));
        *least = least.min(value);
        *most = most.max(value);
    }
    let told: Vec<String> = ranges
        .iter()
        .take(RANGES_MAX)
        .map(|((name, unit), (least, most))| {
            let value = if least < most { format!("{least} to {most}") } else { least.to_string() };
            format!("{name} {value} {unit}")
        })
        .collect();
    let more = ranges.len().saturating_sub(RANGES_MAX);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{} readings of {device}{}: {}{more}", readings.len(), measured(readings), told.join(", "))
}

/// The device's own clock; a relative time is none.
fn measured(readings: &[Reading]) -> String {
    let seconds = |reading: &Reading| u64::try_from(reading.time_us / 1_000_000).ok().map(moment);
    let times = readings.iter().filter(|reading| reading.is_absolute());
    let first = times.clone().min_by_key(|reading| reading.time_us).and_then(seconds);
    let last = times.max_by_key(|reading| reading.time_us).and_then(seconds);
    match (first, last) {
        (Some(first), Some(last)) if first == last => format!(" at {first}"),
        (Some(first), Some(last)) => format!(" from {first} to {last}"),
        _ => String::new(),
    }
}

/// Part of the grade: what the platform signs on somebody's behalf, it could have signed without them.
const fn held(read: &Read) -> &'static str {
    match read.content {
        Content::Pack { by_gateway: true, .. } => return "signed by a gateway as it arrived",
        Content::Pack { by_gateway: false, .. } => return "signed by the device",
        Content::Record(_) => {}
    }
    match read.custody {
        Some(Custody::Platform) => "signed by the platform on their behalf",
        Some(Custody::Browser | Custody::Device) => "signed on their own device",
        Some(Custody::Hsm) => "signed in a hardware module",
        None => "signed by a key whose holder is not shown",
    }
}

fn interval(made: Interval) -> String {
    match (made.after.map(moment), made.before.map(moment)) {
        (Some(after), Some(before)) => format!("between {after} and {before}"),
        (Some(after), None) => format!("after {after}"),
        (None, Some(before)) => format!("before {before}"),
        (None, None) => "at a time that nobody else tells".to_owned(),
    }
}

fn moment(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    at.map_or_else(|| seconds.to_string(), |at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Reasons quote the bundle: whoever made it does not write to the reader's terminal.
fn printable(text: &str) -> String {
    let is_steering =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if is_steering(c) { '\u{fffd}' } else { c }).collect()
}

const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "VALID",
        Verdict::Invalid => "INVALID",
        Verdict::CouldNotCheck => "COULD NOT CHECK",
    }
}

/// A layer's name, and what it proves where it is good.
const fn words(layer: Layer) -> (&'static str, &'static str) {
    match layer {
        Layer::Log => ("log", "the heads are signed by a log that you trust, or that such a log names"),
        Layer::Witnesses => ("witnesses", "enough witnesses saw the same history"),
        Layer::Signature => ("signatures", "each statement is signed by the key that it names, to the byte"),
        Layer::Inclusion => ("inclusion", "each statement stands in its log, and was made for its ledger"),
        Layer::Enrolment => (
            "enrolment",
            "each key was enrolled before, for its party or device, by a registrar that you trust",
        ),
        Layer::Roster => ("roster", "no key was revoked when the roster after its statement was made"),
        Layer::Seen => {
            ("freshness", "the heads that authors had seen are older, cosigned, and the log grew from them")
        }
        Layer::Chain => ("chain", "the heads are on the chain"),
    }
}
