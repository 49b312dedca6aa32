//! A sensor chart as SVG, and the sentence that says the same.

use crate::{service::climate::Chart, web::locale::Words};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 30.0;
/// Room for the limit's label above its line, in the large type of a phone.
const TOP: f64 = 32.0;

/// A chart in the reader's words.
pub struct ChartView {
    pub title: String,
    pub sentence: String,
    /// Range between least and most, as a closed path.
    pub band: String,
    /// Means.
    pub line: String,
    /// Height of the profile's limit, if it lies in the picture.
    pub limit: Option<String>,
    pub limit_label: String,
    /// (y, label).
    pub scale: Vec<(String, String)>,
}

/// `None` where there is nothing to draw.
pub fn view(w: &Words, chart: &Chart, place: &str) -> Option<ChartView> {
    let (first, newest) = (chart.points.first()?, chart.points.last()?);
    let lowest = chart.points.iter().map(|point| point.min).fold(f64::INFINITY, f64::min);
    let highest = chart.points.iter().map(|point| point.max).fold(f64::NEG_INFINITY, f64::max);
    if !lowest.is_finite() || !highest.is_finite() {
        return None;
    }
    // The limit is drawn when it is near enough to mean something.
    let span = (highest - lowest).max(1.0);
    let limit = chart.over.filter(|over| *over < highest + span);
    let top = limit.map_or(highest, |limit| limit.max(highest)) + span * 0.1;
    let floor = lowest - span * 0.1;
    let seconds = |at: chrono::DateTime<chrono::Utc>| {
        f64::from(i32::try_from((at - first.at).num_seconds()).unwrap_or(i32::MAX))
    };
    let whole = seconds(newest.at).max(1.0);
    let x = |at| LEFT + (WIDTH - LEFT - 8.0) * seconds(at) / whole;
    let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (top - value) / (top - floor);
    let path = |points: &mut dyn Iterator<Item = (f64, f64)>| {
        points.map(|(x, y)| format!("{x:.1} {y:.1}")).collect::<Vec<_>>().join("L")
    };
    let upper = path(&mut chart.points.iter().map(|point| (x(point.at), y(point.max))));
    let lower = path(&mut chart.points.iter().rev().map(|point| (x(point.at), y(point.min))));
    let line = path(&mut chart.points.iter().map(|point| (x(point.at), y(point.mean))));
    let unit = unit_name(w, &chart.unit);
    let metric = w.or(&format!("{}-metric-{}", chart.profile, chart.metric), &chart.metric);
    let number = |value: f64| format!("{value:.1} {unit}");
    let middle = f64::midpoint(lowest, highest);
    Some(ChartView {
        sentence: w.with(
            "chart-sentence",
            [
                ("metric", metric.clone()),
                ("place", place.to_owned()),
                ("min", number(lowest)),
                ("max", number(highest)),
                ("count", chart.readings.to_string()),
                ("from", w.moment(first.at, None).text),
                ("to", w.moment(newest.at, None).text),
            ],
        ),
        title: metric,
        band: format!("M{upper}L{lower}Z"),
        line: format!("M{line}"),
        limit: limit.map(|limit| format!("{:.1}", y(limit))),
        limit_label: limit.map(number).unwrap_or_default(),
        scale: [lowest, middle, highest]
            .into_iter()
            .map(|value| (format!("{:.1}", y(value)), format!("{value:.1}")))
            .collect(),
    })
}

/// A SenML unit in the reader's words, where we have any.
pub fn unit_name(w: &Words, unit: &str) -> String {
    w.or(&format!("unit-{}", unit_key(unit)), unit)
}

/// SenML unit → the last part of its locale key.
fn unit_key(unit: &str) -> &'static str {
    match unit {
        "Cel" => "celsius",
        "%RH" => "relative-humidity",
        "kg" => "kilogram",
        "%" => "percent",
        "ppm" => "ppm",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::service::climate::Point;

    #[test]
    fn a_chart_says_in_words_what_it_draws() {
        let locales = crate::web::locale::Locales::read(&std::path::PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../locales"
        )))
        .unwrap();
        let words = locales.words(crate::web::locale::Language::En);
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let point = |hours, mean: f64| Point {
            at: start + TimeDelta::hours(hours),
            min: mean - 1.0,
            mean,
            max: mean + 1.0,
        };
        let chart = Chart {
            profile: "p".to_owned(),
            metric: "temp".to_owned(),
            unit: "Cel".to_owned(),
            place: 1,
            points: vec![point(0, 20.0), point(1, 24.0), point(2, 22.0)],
            readings: 180,
            over: Some(25.0),
        };
        let drawn = view(&words, &chart, "Bin 1").unwrap();
        assert!(
            drawn.sentence.contains("19.0 °C") && drawn.sentence.contains("25.0 °C"),
            "{}",
            drawn.sentence
        );
        assert!(drawn.sentence.contains("180"));
        let limit: f64 = drawn.limit.unwrap().parse().unwrap();
        assert!(limit >= 30.0, "a phone's label, 25 high and 5 above its line, is cut off at {limit}");
        assert_eq!(drawn.line.matches('L').count(), 2);
        assert!(view(&words, &Chart { points: Vec::new(), ..chart }, "Bin 1").is_none());
    }
}
