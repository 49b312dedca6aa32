//! The reader's language: Fluent messages from `locales/`, chosen by cookie, then by `Accept-Language`.

use std::{fmt, path::Path, sync::Arc};

use actix_web::{HttpRequest, http::header};
use chrono::{DateTime, Datelike as _, FixedOffset, NaiveDate, SecondsFormat, Timelike as _, Utc};
use fluent_bundle::{FluentArgs, FluentResource, FluentValue, concurrent::FluentBundle};
use fluent_syntax::ast::Entry;
use trace::keys::Custody;
use unic_langid::LanguageIdentifier;

use crate::web::AppState;

/// The cookie that remembers a choice of language.
pub const LOCALE_COOKIE: &str = "locale";
/// Longest `Accept-Language` that is read.
const ACCEPT_LANGUAGE_BYTES_MAX: usize = 200;
/// China keeps one time zone: shown for moments that carry no offset of their own.
const DEFAULT_OFFSET_SECONDS: i32 = 8 * 3600;

/// A language the pages are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    ZhCn,
    En,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::ZhCn, Self::En];

    /// BCP 47.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::ZhCn => "zh-CN",
            Self::En => "en",
        }
    }

    /// The language that a BCP 47 tag asks for, if it is one of ours.
    pub fn from_tag(tag: &str) -> Option<Self> {
        match tag.trim().split('-').next()?.to_ascii_lowercase().as_str() {
            "zh" => Some(Self::ZhCn),
            "en" => Some(Self::En),
            _ => None,
        }
    }

    /// The best of ours for an `Accept-Language` (RFC 9110 §12.5.4); Chinese where nothing matches.
    pub fn accepted(header: &str) -> Self {
        let header = header.get(..ACCEPT_LANGUAGE_BYTES_MAX).unwrap_or(header);
        let mut best = (0_u32, Self::ZhCn);
        for choice in header.split(',').take(16) {
            let mut parts = choice.split(';');
            let Some(language) = parts.next().and_then(Self::from_tag) else { continue };
            let weight = parts.find_map(|part| part.trim().strip_prefix("q=")).map_or(1000, thousandths);
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }
}

/// `0.8` → 800.
fn thousandths(quality: &str) -> u32 {
    let mut value = 0;
    let mut scale = 1000;
    for byte in quality.bytes().filter(u8::is_ascii_digit).take(4) {
        value += u32::from(byte - b'0') * scale;
        scale /= 10;
    }
    value
}

/// Every message of every language, read once at start.
pub struct Locales {
    messages: [Arc<Messages>; 2],
}

/// The messages of one language.
struct Messages {
    bundle: FluentBundle<FluentResource>,
    /// In the order of the files.
    keys: Vec<String>,
}

impl Messages {
    fn new(language: Language) -> Self {
        let tag: LanguageIdentifier = language.tag().parse().unwrap_or_default();
        let mut bundle = FluentBundle::new_concurrent(vec![tag]);
        // Isolation marks are for mixed directions; every language of ours runs left to right.
        bundle.set_use_isolating(false);
        Self { bundle, keys: Vec::new() }
    }

    /// Reads `{dir}/{tag}/*.ftl`.
    fn read(dir: &Path, language: Language) -> Result<Self, LocaleError> {
        let mut messages = Self::new(language);
        let mut files: Vec<_> = std::fs::read_dir(dir.join(language.tag()))?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "ftl"))
            .collect();
        files.sort();
        for path in files {
            messages.add(&path)?;
        }
        Ok(messages)
    }

    fn add(&mut self, path: &Path) -> Result<(), LocaleError> {
        let file = path.display().to_string();
        let resource = FluentResource::try_new(std::fs::read_to_string(path)?).map_err(|(_, errors)| {
            LocaleError::Syntax {
                file: file.clone(),
                what: errors.first().map(ToString::to_string).unwrap_or_default(),
            }
        })?;
        self.keys.extend(resource.entries().filter_map(|entry| match entry {
            Entry::Message(message) => Some(message.id.name.to_owned()),
            _ => None,
        }));
        self.bundle.add_resource(resource).map_err(|errors| LocaleError::Twice {
            file,
            what: errors.first().map(ToString::to_string).unwrap_or_default(),
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LocaleError {
    #[error("the directory of locales cannot be read")]
    Read(#[from] std::io::Error),
    #[error("{file} has a line that is not Fluent: {what}")]
    Syntax { file: String, what: String },
    #[error("{file} defines a message that another file of the language has: {what}")]
    Twice { file: String, what: String },
}

impl Locales {
    /// Reads `{dir}/{tag}/*.ftl` of each language.
    pub fn read(dir: &Path) -> Result<Self, LocaleError> {
        let read = |language| Messages::read(dir, language).map(Arc::new);
        Ok(Self { messages: [read(Language::ZhCn)?, read(Language::En)?] })
    }

    pub fn words(&self, language: Language) -> Words {
        let [chinese, english] = &self.messages;
        let messages = match language {
            Language::ZhCn => chinese,
            Language::En => english,
        };
        Words { language, messages: Arc::clone(messages) }
    }
}

/// One language's messages: what templates speak with.
#[derive(Clone)]
pub struct Words {
    language: Language,
    messages: Arc<Messages>,
}

impl Words {
    /// The reader's language: the cookie's, else the best of `Accept-Language`.
    pub fn of(request: &HttpRequest) -> Self {
        let language = request
            .cookie(LOCALE_COOKIE)
            .and_then(|cookie| Language::from_tag(cookie.value()))
            .or_else(|| {
                let header = request.headers().get(header::ACCEPT_LANGUAGE)?.to_str().ok()?;
                Some(Language::accepted(header))
            })
            .unwrap_or(Language::ZhCn);
        match request.app_data::<actix_web::web::Data<AppState>>() {
            Some(state) => state.locales.words(language),
            None => Self { language, messages: Arc::new(Messages::new(language)) },
        }
    }

    pub const fn language(&self) -> Language {
        self.language
    }

    /// The value of the `lang` attribute.
    pub const fn tag(&self) -> &'static str {
        self.language.tag()
    }

    pub const fn chinese(&self) -> bool {
        matches!(self.language, Language::ZhCn)
    }

    pub fn has(&self, key: &str) -> bool {
        self.messages.bundle.has_message(key)
    }

    /// The keys of every message.
    pub fn keys(&self) -> &[String] {
        &self.messages.keys
    }

    /// A message without arguments; the key itself where the message is missing, so that a gap is seen and not silent.
    pub fn say(&self, key: &str) -> String {
        self.format(key, None)
    }

    /// A message with one argument.
    #[expect(clippy::needless_pass_by_value, reason = "templates pass references and computed values alike")]
    pub fn say1(&self, key: &str, name: &str, value: impl ToString) -> String {
        let mut args = FluentArgs::new();
        args.set(name.to_owned(), argument(value.to_string()));
        self.format(key, Some(&args))
    }

    /// A message with its arguments.
    pub fn with<'a>(&self, key: &str, values: impl IntoIterator<Item = (&'a str, String)>) -> String {
        let mut args = FluentArgs::new();
        for (name, value) in values {
            args.set(name.to_owned(), argument(value));
        }
        self.format(key, Some(&args))
    }

    /// The message `key`, or `otherwise` where this language has none.
    pub fn or(&self, key: &str, otherwise: &str) -> String {
        if self.has(key) { self.say(key) } else { otherwise.to_owned() }
    }

    fn format(&self, key: &str, args: Option<&FluentArgs<'_>>) -> String {
        let Some(pattern) = self.messages.bundle.get_message(key).and_then(|message| message.value()) else {
            return key.to_owned();
        };
        let mut errors = Vec::new();
        self.messages.bundle.format_pattern(pattern, args, &mut errors).into_owned()
    }

    /// 2026年11月20日 / 20 November 2026.
    pub fn day(&self, date: NaiveDate) -> String {
        if self.chinese() {
            return format!("{}年{}月{}日", date.year(), date.month(), date.day());
        }
        date.format("%-d %B %Y").to_string()
    }

    /// The month of a date.
    pub fn month(&self, date: NaiveDate) -> String {
        if self.chinese() {
            return format!("{}年{}月", date.year(), date.month());
        }
        date.format("%B %Y").to_string()
    }

    /// A date or a date and time in ISO 8601 as people say it; anything else as it is.
    pub fn day_or_moment(&self, text: &str) -> String {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return self.moment(at.with_timezone(&Utc), Some(&at.offset().to_string())).text;
        }
        text.parse().map_or_else(|_| text.to_owned(), |date| self.day(date))
    }

    /// Day and minute at `offset` (`+08:00`), or in the time of China.
    pub fn moment(&self, at: DateTime<Utc>, offset: Option<&str>) -> Moment {
        let local = at.with_timezone(&zone(offset));
        let text = format!("{} {:02}:{:02}", self.day(local.date_naive()), local.hour(), local.minute());
        Moment { text, datetime: local.to_rfc3339_opts(SecondsFormat::Secs, false) }
    }

    /// `month` as an element of a page.
    pub fn month_of_year(&self, month: NaiveDate) -> Moment {
        Moment { text: self.month(month), datetime: month.format("%Y-%m").to_string() }
    }

    /// A message with a moment in it, which stays an element of its own.
    pub fn timed<'a>(
        &self,
        key: &str,
        name: &'a str,
        moment: Moment,
        values: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Timed {
        let said = self.with(key, values.into_iter().chain([(name, MOMENT_STANDS_HERE.to_string())]));
        match said.split_once(MOMENT_STANDS_HERE) {
            Some((before, after)) => Timed { before: before.to_owned(), moment, after: after.to_owned() },
            None => Timed { before: said, moment, after: String::new() },
        }
    }

    /// An amount in the smallest unit (g, cm3, piece) as people say it.
    pub fn quantity(&self, amount: i64, unit: &str) -> String {
        match unit {
            "g" if amount.abs() >= 1_000_000 => {
                format!("{} {}", decimal(amount, 6, 3), self.say("unit-tonne"))
            }
            "g" if amount.abs() >= 1_000 => {
                format!("{} {}", decimal(amount, 3, 3), self.say("unit-kilogram"))
            }
            "g" => format!("{amount} {}", self.say("unit-gram")),
            "cm3" => format!("{} {}", decimal(amount, 6, 4), self.say("unit-cubic-metre")),
            "piece" => format!("{} {}", grouped(amount), self.say("unit-piece")),
            other => format!("{amount} {other}"),
        }
    }

    /// Who held the key, in words.
    pub fn custody(&self, custody: Custody) -> String {
        self.say(&format!("custody-{custody}"))
    }
}

/// A private-use character, which no message holds.
const MOMENT_STANDS_HERE: char = '\u{e000}';

/// A moment in people's words, and for machines: HTML's `time` element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub text: String,
    /// As HTML's `datetime` attribute takes it.
    datetime: String,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"<time datetime="{}">{}</time>"#, self.datetime, self.text)
    }
}

/// Digits, and words of ours.
impl askama::filters::HtmlSafe for Moment {}

/// Words around a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    pub before: String,
    pub moment: Moment,
    pub after: String,
}

/// A count is a number to Fluent, so that a language can tell one from many; anything else stays text.
fn argument(value: String) -> FluentValue<'static> {
    match value.parse::<u32>() {
        Ok(count) if count.to_string() == value => FluentValue::from(count),
        _ => FluentValue::from(value),
    }
}

/// The offset of an event, `+08:00`; China's where it is missing or malformed.
fn zone(offset: Option<&str>) -> FixedOffset {
    offset
        .and_then(|text| text.parse::<FixedOffset>().ok())
        .or_else(|| FixedOffset::east_opt(DEFAULT_OFFSET_SECONDS))
        .unwrap_or_else(|| chrono::Offset::fix(&Utc))
}

/// `amount` / 10^`places` with at most `shown` decimals, cut at zeros; exact, no float.
fn decimal(amount: i64, places: u32, shown: u32) -> String {
    let rounding = 10_u64.pow(places.saturating_sub(shown));
    let value = (amount.unsigned_abs() + rounding / 2) / rounding;
    let scale = 10_u64.pow(shown.min(places));
    let width = usize::try_from(shown.min(places)).unwrap_or(0);
    let fraction = format!("{:0width$}", value % scale);
    let fraction = fraction.trim_end_matches('0');
    let sign = if amount < 0 { "−" } else { "" };
    let whole = grouped(i64::try_from(value / scale).unwrap_or(i64::MAX));
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// 1234567 → 1,234,567.
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("−{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::PathBuf};

    use super::*;

    fn root() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    fn files(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path, found) } else { found.push(path) }
        }
    }

    fn keys(language: Language) -> BTreeSet<String> {
        let mut found = Vec::new();
        files(&root().join("locales").join(language.tag()), &mut found);
        found
            .iter()
            .flat_map(|path| {
                std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .filter(|line| line.starts_with(|first: char| first.is_ascii_alphabetic()))
            .filter_map(|line| line.split_once('=').map(|(key, _)| key.trim().to_owned()))
            .collect()
    }

    #[test]
    fn every_message_exists_in_every_language() {
        let (chinese, english) = (keys(Language::ZhCn), keys(Language::En));
        assert!(chinese.len() > 50);
        assert_eq!(chinese.difference(&english).collect::<Vec<_>>(), Vec::<&String>::new());
        assert_eq!(english.difference(&chinese).collect::<Vec<_>>(), Vec::<&String>::new());
    }

    #[test]
    fn every_key_in_a_template_is_a_message_and_no_template_holds_han_characters() {
        let known = keys(Language::ZhCn);
        let mut templates = Vec::new();
        files(&root().join("templates"), &mut templates);
        assert!(!templates.is_empty());
        for path in templates {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(
                !text.chars().any(|c| ('\u{3400}'..='\u{9fff}').contains(&c)),
                "Han in {}",
                path.display()
            );
            for call in ["say(\"", "say1(\""] {
                for rest in text.split(call).skip(1) {
                    let key = rest.split('"').next().unwrap();
                    assert!(known.contains(key), "{} asks for {key}", path.display());
                }
            }
        }
    }

    #[test]
    fn a_moment_in_a_message_is_an_element_of_its_own() {
        let locales = Locales::read(&root().join("locales")).unwrap();
        let words = locales.words(Language::En);
        let at = DateTime::parse_from_rfc3339("2026-11-21T00:30:00Z").unwrap().to_utc();
        let said =
            words.timed("work-sent-by", "at", words.moment(at, None), [("device", "scale".to_owned())]);
        assert!(said.before.contains("scale"), "{said:?}");
        assert_eq!(
            said.moment.to_string(),
            r#"<time datetime="2026-11-21T08:30:00+08:00">21 November 2026 08:30</time>"#
        );
    }

    #[test]
    fn the_reader_gets_the_language_that_ranks_first() {
        assert_eq!(Language::accepted("en-GB,en;q=0.9,zh;q=0.8"), Language::En);
        assert_eq!(Language::accepted("fr, en;q=0.3, zh-CN;q=0.5"), Language::ZhCn);
        assert_eq!(Language::accepted("de"), Language::ZhCn);
    }

    #[test]
    fn quantities_are_printed_exactly() {
        assert_eq!(decimal(12_345_678, 6, 3), "12.346");
        assert_eq!(decimal(25_000, 3, 3), "25");
        assert_eq!(decimal(-1_500_000, 6, 3), "−1.5");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
