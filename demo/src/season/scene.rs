//! The season's stage: who is registered, who is signed in, what time it is, and what was already played.

use std::{collections::BTreeMap, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta, TimeZone as _, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use trace::{gs1::check_digit, hash::sha256_of, profile::build};
use uuid::Uuid;

use super::{
    Addresses, Commodity, Person, SeasonReport,
    client::{FrontDoor, FrontDoorError, Session},
    sensors::{self, Device, Sample},
};

/// GS1's example company prefix: nothing of the demo can be mistaken for somebody's goods.
const PREFIX: &str = "9521234";
/// The season takes ten days and ends yesterday.
const DAYS: i64 = 10;
/// Runs that died with the token of the same device in their hands.
const DEVICE_NAMES_MAX: u32 = 10;

/// What is left to chance once and kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    began: DateTime<Utc>,
    passwords: BTreeMap<String, String>,
    /// Device and program tokens by name.
    tokens: BTreeMap<String, String>,
}

pub struct Scene {
    front: FrontDoor,
    addresses: Addresses,
    operator: Session,
    state: State,
    sessions: BTreeMap<String, Session>,
    /// Party slug → its identifier.
    identifiers: BTreeMap<String, String>,
    people: Vec<Person>,
    records: Vec<Uuid>,
}

/// A GTIN-14 of the example prefix (GS1 General Specifications §7.9.1).
pub fn gtin(item: u32) -> String {
    format!("0{}", with_check_digit(&format!("{PREFIX}{item:05}")))
}

/// A GLN or party GLN of the example prefix.
pub fn gln(location: u32) -> String {
    with_check_digit(&format!("{PREFIX}{location:05}"))
}

/// URI of a place: a GLN and its extension.
pub fn place(location: u32, extension: &str) -> String {
    format!("{}/414/{}/254/{extension}", build::DIGITAL_LINK_HOST, gln(location))
}

pub fn lot(item: u32, number: &str) -> String {
    build::lot_uri(&gtin(item), number)
}

/// An SSCC of the example prefix.
pub fn sscc(serial: u32) -> String {
    with_check_digit(&format!("0{PREFIX}{serial:09}"))
}

fn with_check_digit(body: &str) -> String {
    let digit = check_digit(body).unwrap_or_default();
    format!("{body}{digit}")
}

/// Fields of a form.
pub fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

impl Scene {
    pub async fn open(addresses: &Addresses) -> Result<Self, FrontDoorError> {
        let front = FrontDoor::new(&addresses.base_url)?;
        let operator = front.sign_in(&addresses.operator_login, &addresses.operator_password).await?;
        let state = match std::fs::read(&addresses.state_file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                State { began: Utc::now(), passwords: BTreeMap::new(), tokens: BTreeMap::new() }
            }
            Err(error) => return Err(error.into()),
        };
        let scene = Self {
            front,
            addresses: addresses.clone(),
            operator,
            state,
            sessions: BTreeMap::new(),
            identifiers: BTreeMap::new(),
            people: Vec::new(),
            records: Vec::new(),
        };
        scene.keep()?;
        Ok(scene)
    }

    /// Before anything depends on it: a run that dies finds the same chances again.
    fn keep(&self) -> Result<(), FrontDoorError> {
        let path: &Path = &self.addresses.state_file;
        let draft = path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(&self.state)?)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        Ok(())
    }

    pub fn report(self, commodities: Vec<Commodity>) -> SeasonReport {
        SeasonReport { commodities, people: self.people, records: self.records }
    }

    /// `hour` of the season's `day` (1 to 10), China Standard Time.
    pub fn at(&self, day: i64, hour: i64, minute: i64) -> DateTime<FixedOffset> {
        let began = self.state.began.naive_utc().date().and_time(chrono::NaiveTime::MIN).and_utc();
        let moment =
            began + TimeDelta::days(day - DAYS - 1) + TimeDelta::hours(hour - 8) + TimeDelta::minutes(minute);
        moment.with_timezone(&FixedOffset::east_opt(8 * 3600).unwrap_or_else(|| chrono::Offset::fix(&Utc)))
    }

    pub fn moment(&self, day: i64, hour: i64, minute: i64) -> String {
        self.at(day, hour, minute).to_rfc3339_opts(SecondsFormat::Secs, false)
    }

    /// Before the season was first played.
    pub fn hours_ago(&self, hours: i64) -> String {
        let moment = self.at(1, 0, 0).timezone().from_utc_datetime(&self.state.began.naive_utc());
        (moment - TimeDelta::hours(hours)).to_rfc3339_opts(SecondsFormat::Secs, false)
    }

    pub fn date(&self, day: i64) -> String {
        self.at(day, 12, 0).date_naive().to_string()
    }

    /// When the season was first played.
    pub fn began(&self) -> DateTime<Utc> {
        self.state.began
    }

    /// UUIDv7 (RFC 9562 §5.7) that follows from the season and the item's name.
    pub fn jti(&self, item: &str) -> Uuid {
        let began = self.state.began.timestamp_millis();
        let chance = sha256_of(&[b"suyuan-season/1/", &began.to_be_bytes(), item.as_bytes()]);
        let mut random = [0; 10];
        for (to, from) in random.iter_mut().zip(chance.as_bytes()) {
            *to = *from;
        }
        uuid::Builder::from_unix_timestamp_millis(began.unsigned_abs(), &random).into_uuid()
    }

    pub async fn party(&mut self, slug: &str, body: Json) -> Result<String, FrontDoorError> {
        let answer =
            self.front.post_json(&self.operator, "/api/v1/parties", &with(body, "slug", slug)).await?;
        let iss = answer.get("iss").and_then(Json::as_str);
        let iss =
            iss.ok_or_else(|| FrontDoorError::Answer { what: format!("party {slug}"), member: "iss" })?;
        self.identifiers.insert(slug.to_owned(), iss.to_owned());
        Ok(iss.to_owned())
    }

    pub fn iss(&self, slug: &str) -> Result<String, FrontDoorError> {
        self.identifiers.get(slug).cloned().ok_or_else(|| FrontDoorError::Unknown(slug.to_owned()))
    }

    pub async fn organisation(
        &mut self,
        slug: &str,
        role: &str,
        name: &str,
        location: u32,
    ) -> Result<(), FrontDoorError> {
        let body = json!({"role": role, "name": name, "pgln": gln(location), "company_prefix": PREFIX});
        self.party(slug, body).await?;
        self.account(slug, role, slug).await
    }

    /// A natural person: the name is sealed and the identifier random.
    pub async fn person(
        &mut self,
        slug: &str,
        role: &str,
        name: &str,
        county: &str,
    ) -> Result<(), FrontDoorError> {
        self.party(slug, json!({"role": role, "name": name, "natural": true, "county": county})).await?;
        self.account(slug, role, slug).await
    }

    async fn account(&mut self, slug: &str, role: &str, login: &str) -> Result<(), FrontDoorError> {
        let password = self.password(login)?;
        let session = match self.front.sign_in(login, &password).await {
            Ok(session) => session,
            // Not there yet: first run, or one that died before this account.
            Err(FrontDoorError::Refused { .. }) => {
                let body = json!({"party": slug, "login": login, "password": password});
                self.front.post_json(&self.operator, "/api/v1/accounts", &body).await?;
                self.front.sign_in(login, &password).await?
            }
            Err(error) => return Err(error),
        };
        self.sessions.insert(slug.to_owned(), session);
        let (role, party, login) = (role.to_owned(), slug.to_owned(), login.to_owned());
        self.people.push(Person { role, party, login, password });
        Ok(())
    }

    fn password(&mut self, login: &str) -> Result<String, FrontDoorError> {
        if let Some(known) = self.state.passwords.get(login) {
            return Ok(known.clone());
        }
        let password = random_word()?;
        self.state.passwords.insert(login.to_owned(), password.clone());
        self.keep()?;
        Ok(password)
    }

    pub async fn place(
        &self,
        party: &str,
        slug: &str,
        (kind, name): (&str, &str),
        location: u32,
    ) -> Result<String, FrontDoorError> {
        let body = json!({"party": party, "slug": slug, "kind": kind, "name": name, "gln": gln(location), "extension": slug});
        self.front.post_json(&self.operator, "/api/v1/places", &body).await?;
        Ok(place(location, slug))
    }

    /// A person's plot: name and polygon are sealed.
    pub async fn plot(
        &self,
        party: &str,
        slug: &str,
        (kind, name, county): (&str, &str, &str),
        (location, polygon): (u32, &[[f64; 2]]),
    ) -> Result<String, FrontDoorError> {
        let body = json!({"party": party, "slug": slug, "kind": kind, "name": name, "county": county,
            "gln": gln(location), "extension": slug, "polygon": polygon});
        self.front.post_json(&self.operator, "/api/v1/places", &body).await?;
        Ok(place(location, slug))
    }

    pub async fn item(
        &self,
        party: &str,
        item: u32,
        (profile, product): (&str, &str),
        name: &str,
    ) -> Result<(), FrontDoorError> {
        self.trade_item(
            json!({"party": party, "gtin": gtin(item), "profile": profile, "product": product, "name": name}),
        )
        .await
    }

    /// An item with a net content on its label.
    pub async fn pack(
        &self,
        party: &str,
        item: u32,
        (profile, product): (&str, &str),
        name: &str,
        (amount, unit): (&str, &str),
    ) -> Result<(), FrontDoorError> {
        self.trade_item(json!({"party": party, "gtin": gtin(item), "profile": profile, "product": product,
            "name": name, "net": {"amount": amount, "unit": unit}}))
            .await
    }

    async fn trade_item(&self, body: Json) -> Result<(), FrontDoorError> {
        self.front.post_json(&self.operator, "/api/v1/trade-items", &body).await?;
        Ok(())
    }

    pub async fn permit(&self, body: &Json) -> Result<(), FrontDoorError> {
        self.front.post_json(&self.operator, "/api/v1/permits", body).await?;
        Ok(())
    }

    /// Registers a device whose packs the gateway signs. Its token is told once and kept with the season; where a run died
    /// before it was kept, that device is nobody's, and the next one takes its place.
    pub async fn device(
        &mut self,
        party: &str,
        name: &str,
        (profile, kind, place): (&str, &str, &str),
    ) -> Result<Device, FrontDoorError> {
        let mut tried = 1;
        loop {
            let name = if tried == 1 { name.to_owned() } else { format!("{name}-{tried}") };
            let body = json!({"party": party, "device": name, "kind": kind, "profile": profile, "format": "senml+json",
                "signing": "gateway", "repeats": "merge", "place": place});
            match self.token(&format!("{party}/{name}"), "/api/v1/devices", &body).await {
                Ok(token) => return Ok(Device { party: party.to_owned(), name, token }),
                Err(FrontDoorError::Refused { body, .. })
                    if body.contains("\"taken\"") && tried < DEVICE_NAMES_MAX =>
                {
                    tried += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A program's token with one scope.
    pub async fn program(&mut self, party: &str, scope: &str) -> Result<String, FrontDoorError> {
        let body = json!({"party": party, "label": format!("demo {scope}"), "scopes": [scope]});
        self.token(&format!("{party} {scope}"), "/api/v1/tokens", &body).await
    }

    async fn token(&mut self, name: &str, path: &str, body: &Json) -> Result<String, FrontDoorError> {
        if let Some(known) = self.state.tokens.get(name) {
            return Ok(known.clone());
        }
        let answer = self.front.post_json(&self.operator, path, body).await?;
        let token = answer.get("token").and_then(Json::as_str).map(str::to_owned);
        let token = token.ok_or_else(|| FrontDoorError::Answer { what: name.to_owned(), member: "token" })?;
        self.state.tokens.insert(name.to_owned(), token.clone());
        self.keep()?;
        Ok(token)
    }

    pub async fn publish(&self, device: &Device, samples: &[Sample]) -> Result<(), FrontDoorError> {
        Ok(sensors::publish(&self.addresses.devices, device, samples).await?)
    }

    /// The URI of `party`'s own number: consignments are named so by both sides.
    pub fn document(&self, party: &str, number: &str) -> Result<String, FrontDoorError> {
        let documents = format!("{}/documents/", self.addresses.public_url);
        Ok(build::document_uri(&documents, &self.iss(party)?, number))
    }

    fn session(&self, party: &str) -> Result<&Session, FrontDoorError> {
        self.sessions.get(party).ok_or_else(|| FrontDoorError::Unknown(party.to_owned()))
    }

    /// `who` posts the form of a step; `item` names it within the season, for ever.
    pub async fn step(
        &mut self,
        who: &str,
        (profile, step, item): (&str, &str, &str),
        at: String,
        mut fields: Vec<(String, String)>,
    ) -> Result<Uuid, FrontDoorError> {
        let jti = self.jti(&format!("{profile}/{step}/{item}"));
        fields.push(("at".to_owned(), at));
        let path = format!("/work/{profile}/{step}");
        self.front.take_step(self.session(who)?, &path, jti, fields).await?;
        self.records.push(jti);
        Ok(jti)
    }

    /// `who` declares where the temperature cables of a store hang.
    pub async fn declare_grid(
        &self,
        who: &str,
        place: &str,
        fields: &[(String, String)],
    ) -> Result<(), FrontDoorError> {
        self.front.fill_in(self.session(who)?, &format!("/grid/{place}"), fields).await
    }

    /// `who` tries what a rule forbids; the season goes on only if it is refused by that rule.
    pub async fn refused_step(
        &self,
        who: &str,
        (profile, step, item): (&str, &str, &str),
        (at, rule): (String, &str),
        mut fields: Vec<(String, String)>,
    ) -> Result<(), FrontDoorError> {
        let jti = self.jti(&format!("{profile}/{step}/{item}"));
        fields.push(("at".to_owned(), at));
        let path = format!("/api/v1/steps/{profile}/{step}");
        self.front.expect_refusal(self.session(who)?, &path, (jti, rule), &fields).await
    }

    /// The alerts of `rule` that `who` sees: how many stand open, and how many are cleared.
    pub async fn alerts(&self, who: &str, rule: &str) -> Result<(usize, usize), FrontDoorError> {
        let text = self.front.read(self.session(who)?, "/api/v1/alerts", &[]).await?;
        let answer: Json = serde_json::from_str(&text)?;
        let alerts = answer.get("alerts").and_then(Json::as_array);
        let alerts = alerts.ok_or_else(|| FrontDoorError::Answer {
            what: format!("the alerts of {who}"),
            member: "alerts",
        })?;
        let of_rule = alerts.iter().filter(|alert| alert.get("rule").and_then(Json::as_str) == Some(rule));
        let (cleared, open): (Vec<&Json>, Vec<&Json>) =
            of_rule.partition(|alert| alert.get("cleared_at").is_some_and(Json::is_string));
        Ok((open.len(), cleared.len()))
    }

    /// The newest storage epoch that holds what `arrival` brought: what the trace says of it downstream.
    pub async fn newest_epoch(&self, who: &str, arrival: &str) -> Result<String, FrontDoorError> {
        let answer = self
            .front
            .read(self.session(who)?, "/api/v1/trace", &[("id", arrival), ("direction", "down")])
            .await?;
        let (gtin_part, _) = arrival.split_once("/10/").unwrap_or((arrival, ""));
        let epochs = answer.split('"').filter_map(|word| {
            let number = word.strip_prefix(gtin_part)?.strip_prefix("/10/E")?;
            let (epoch, _bin) = number.split_once('-')?;
            Some((epoch.parse::<u32>().ok()?, word.to_owned()))
        });
        let newest = epochs.max().map(|(_, uri)| uri);
        newest.ok_or_else(|| FrontDoorError::Answer {
            what: format!("the trace of {arrival}"),
            member: "an epoch",
        })
    }

    /// The carrier's own system hands in an EPCIS 2.0 document.
    pub async fn capture(&self, token: &str, document: &Json) -> Result<(), FrontDoorError> {
        let path = "/api/v1/events";
        let answer = self.front.post_document(token, path, document).await?;
        if answer.get("refused").and_then(Json::as_u64) == Some(0) {
            return Ok(());
        }
        let body = answer.to_string();
        Err(FrontDoorError::Refused { what: path.to_owned(), status: reqwest::StatusCode::OK, body })
    }
}

fn with(mut body: Json, name: &str, text: &str) -> Json {
    if let Some(members) = body.as_object_mut() {
        members.insert(name.to_owned(), Json::String(text.to_owned()));
    }
    body
}

/// 120 bits in base64url: a password or token of the demo.
fn random_word() -> Result<String, FrontDoorError> {
    let mut bytes = [0; 15];
    getrandom::fill(&mut bytes).map_err(|_| FrontDoorError::Random)?;
    Ok(trace::b64::url(&bytes))
}
