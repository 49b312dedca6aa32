//! Who and what the ledger knows: parties, their people, places, trade items and permits. The operator registers them.

use chrono::NaiveDate;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use store::{
    Connection, Store, StoreError,
    party::{self, NewParty, NewPlace, Party, Place, TradeItem},
    quota,
};
use trace::{
    gs1::{self, Gln, Gsrn, Gtin, PartyId, Pgln, check_digit},
    keys::KeyRole,
    profile::Refusal,
    quantity::{Decimal, Measure, Quantity, Unit},
};
use uuid::Uuid;

use super::{
    devices::has_nul,
    keys::{Keys, KeysError, NewKey},
    profiles::Profiles,
};

/// Characters of a name.
const NAME_CHARACTERS_MAX: usize = 120;
/// Points of a polygon, and digits after the point of a coordinate.
const POLYGON_POINTS_MAX: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("refused by a rule")]
    Refused(Vec<Refusal>),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Refusal> for RegistryError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(vec![refusal])
    }
}

/// A party as the operator states it. With `natural` the name and telephone are sealed, and the identifier is a random GSRN.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartyForm {
    pub slug: String,
    pub role: String,
    pub name: String,
    #[serde(default)]
    pub natural: bool,
    pub telephone: Option<String>,
    pub county: Option<String>,
    /// 13 digits; required unless natural.
    pub pgln: Option<String>,
    pub company_prefix: Option<String>,
}

/// A place of a party. With `natural` (a plot) its name and polygon are sealed under the party's person.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceForm {
    pub party: String,
    pub slug: String,
    pub kind: String,
    pub name: String,
    pub county: Option<String>,
    pub gln: String,
    pub extension: Option<String>,
    pub parent: Option<String>,
    /// Longitude and latitude, WGS 84, at most six decimals.
    pub polygon: Option<Vec<[f64; 2]>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TradeItemForm {
    pub party: String,
    pub gtin: String,
    pub profile: String,
    pub product: String,
    pub name: String,
    /// What one piece holds, in the product's own unit.
    pub piece: Option<Decimal>,
    /// What stands on the pack.
    pub net: Option<NetContent>,
}

/// A pack's net content, as the label states it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetContent {
    pub amount: Decimal,
    /// UN/ECE Rec 20, of a mass or a volume.
    pub unit: String,
}

impl NetContent {
    fn quantity(&self) -> Result<Quantity, Refusal> {
        let measure = Measure::from_code(&self.unit).filter(|measure| measure.unit() != Unit::Piece);
        let measure = measure.ok_or_else(|| Refusal::new("net", "quantity"))?;
        let quantity = Quantity::of(self.amount, measure).ok().filter(|quantity| quantity.amount > 0);
        quantity.ok_or_else(|| Refusal::new("net", "quantity"))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermitForm {
    pub party: String,
    pub place: Option<String>,
    pub profile: String,
    pub kind: String,
    pub number: String,
    /// The issuer's address of the document; without it the number in the ledger's own name space.
    pub uri: Option<String>,
    pub allowed: Decimal,
    /// UN/ECE Rec 20.
    pub unit: String,
    pub valid_from: NaiveDate,
    pub valid_until: NaiveDate,
    #[serde(default)]
    pub details: Map<String, Json>,
}

/// What registering needs.
pub struct Registry<'a> {
    pub store: &'a Store,
    pub keys: &'a Keys,
    pub profiles: &'a Profiles,
    pub gsrn_prefix: &'a str,
    pub documents: &'a str,
}

impl Registry<'_> {
    /// The first party of a ledger: its operator, with the registrar's and the derivation key enrolled.
    pub async fn found(&self, slug: &str, name: &str, pgln: &str) -> Result<Party, RegistryError> {
        let mut transaction = self.store.begin().await?;
        if let Some(known) = party::by_slug(&mut transaction, slug).await? {
            return Ok(known);
        }
        let pgln: Pgln = pgln.parse().map_err(|_| Refusal::new("pgln", "pgln"))?;
        let new = NewParty {
            slug,
            role: "operator",
            iss: &PartyId::Party(pgln).uri(),
            name: Some(name),
            county: None,
            company_prefix: None,
            person_id: None,
        };
        let operator = party::insert(&mut transaction, &new).await?;
        self.keys.found(&mut transaction, &operator).await?;
        transaction.commit().await?;
        Ok(operator)
    }

    /// Registers a party and enrols a record key in platform custody for it. Registering the same slug again with the same
    /// role answers the party as it stands.
    pub async fn party(&self, form: &PartyForm) -> Result<Party, RegistryError> {
        check_name("name", &form.name)?;
        check_slug(&form.slug)?;
        self.check_role(&form.role)?;
        let mut transaction = self.store.begin().await?;
        if let Some(known) = party::by_slug(&mut transaction, &form.slug).await? {
            let same = known.role == form.role;
            return if same {
                Ok(known)
            } else {
                Err(Refusal::new("slug", "taken").with("slug", &form.slug).into())
            };
        }
        let person = if form.natural { Some(self.person(&mut transaction, form).await?) } else { None };
        let iss = self.identifier(form)?.uri();
        let new = NewParty {
            slug: &form.slug,
            role: &form.role,
            iss: &iss,
            name: if form.natural { None } else { Some(&form.name) },
            county: form.county.as_deref(),
            company_prefix: form.company_prefix.as_deref(),
            person_id: person,
        };
        let made = match party::insert(&mut transaction, &new).await {
            Err(error) if error.constraint() == Some("party_iss_key") => {
                return Err(Refusal::new("pgln", "taken").into());
            }
            other => other?,
        };
        let key =
            NewKey { party: &made, role: KeyRole::Record, device_id: None, base_name: None, replaces: None };
        self.keys.enrol_platform(&mut transaction, &key).await?;
        transaction.commit().await?;
        Ok(made)
    }

    fn check_role(&self, role: &str) -> Result<(), Refusal> {
        let known = self.profiles.iter().any(|profile| profile.roles().iter().any(|known| known == role));
        if known || role == "regulator" {
            Ok(())
        } else {
            Err(Refusal::new("role", "unknown-role").with("role", role))
        }
    }

    fn identifier(&self, form: &PartyForm) -> Result<PartyId, RegistryError> {
        if form.natural {
            return Ok(PartyId::Person(random_gsrn(self.gsrn_prefix)?));
        }
        let pgln = form.pgln.as_deref().ok_or_else(|| Refusal::new("pgln", "required"))?;
        Ok(PartyId::Party(pgln.parse().map_err(|_| Refusal::new("pgln", "pgln"))?))
    }

    async fn person(&self, conn: &mut Connection, form: &PartyForm) -> Result<Uuid, RegistryError> {
        let person = Uuid::now_v7();
        let (key, sealed) = self.keys.new_person_key(person)?;
        party::insert_person(conn, person, &sealed).await?;
        let telephone = form.telephone.as_deref().map(|telephone| ("telephone", telephone));
        for (field, text) in [Some(("name", form.name.as_str())), telephone].into_iter().flatten() {
            let sealed =
                key.seal(&personal_context(person, field), text.as_bytes()).map_err(KeysError::from)?;
            party::insert_personal(conn, person, field, &sealed).await?;
        }
        Ok(person)
    }

    pub async fn place(&self, form: &PlaceForm) -> Result<Place, RegistryError> {
        check_name("name", &form.name)?;
        check_slug(&form.slug)?;
        let known_kind = self.profiles.iter().any(|profile| profile.place_kinds().contains(&form.kind));
        if !known_kind {
            return Err(Refusal::new("kind", "unknown-kind").with("kind", &form.kind).into());
        }
        let uri = place_uri(form)?;
        let mut transaction = self.store.begin().await?;
        let owner = owner(&mut transaction, &form.party).await?;
        if let Some(known) = party::place_by_slug(&mut transaction, owner.id, &form.slug).await? {
            let same = known.uri == uri;
            return if same {
                Ok(known)
            } else {
                Err(Refusal::new("slug", "taken").with("slug", &form.slug).into())
            };
        }
        let parent = match &form.parent {
            None => None,
            Some(slug) => {
                let parent = party::place_by_slug(&mut transaction, owner.id, slug).await?;
                Some(parent.ok_or_else(|| Refusal::new("parent", "unknown-place").with("place", slug))?.id)
            }
        };
        let sealed = self.seal_details(&mut transaction, &owner, form).await?;
        let new = NewPlace {
            party_id: owner.id,
            slug: &form.slug,
            kind: &form.kind,
            uri: &uri,
            name: if sealed.is_some() { None } else { Some(&form.name) },
            county: form.county.as_deref(),
            parent_id: parent,
            person_id: if sealed.is_some() { owner.person_id } else { None },
            sealed: sealed.as_deref(),
        };
        let made = match party::insert_place(&mut transaction, &new).await {
            Err(error) if error.constraint() == Some("place_uri_key") => {
                return Err(Refusal::new("gln", "taken").into());
            }
            other => other?,
        };
        transaction.commit().await?;
        Ok(made)
    }

    /// A natural person's place is personal; an organisation's polygon is not kept outside its records.
    async fn seal_details(
        &self,
        conn: &mut Connection,
        owner: &Party,
        form: &PlaceForm,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        if let Some(polygon) = &form.polygon {
            check_polygon(polygon)?;
        }
        let Some(person) = owner.person_id else {
            return match form.polygon {
                None => Ok(None),
                Some(_) => Err(Refusal::new("polygon", "polygon-of-organisation").into()),
            };
        };
        let key = self.keys.person_key(conn, person).await?.ok_or(KeysError::NoPerson)?;
        let mut details = Map::new();
        details.insert("name".to_owned(), Json::String(form.name.clone()));
        if let Some(polygon) = &form.polygon {
            details.insert("polygon".to_owned(), serde_json::json!(polygon));
        }
        let text = Json::Object(details).to_string();
        let sealed =
            key.seal(&personal_context(person, "place"), text.as_bytes()).map_err(KeysError::from)?;
        Ok(Some(sealed))
    }

    pub async fn trade_item(&self, form: &TradeItemForm) -> Result<TradeItem, RegistryError> {
        check_name("name", &form.name)?;
        let gtin = Gtin::from_any_length(&form.gtin).map_err(|_| Refusal::new("gtin", "gtin"))?;
        let unknown = || Refusal::new("product", "unknown-product").with("product", &form.product);
        let profile = self.profiles.by_id(&form.profile).ok_or_else(unknown)?;
        let product = profile.product(&form.product).ok_or_else(unknown)?;
        let piece_amount = match form.piece {
            None => None,
            Some(piece) => {
                let amount =
                    Quantity::of(piece, product.measure()).map_err(|_| Refusal::new("piece", "quantity"))?;
                Some(amount.amount)
            }
        };
        let net = form.net.as_ref().map(NetContent::quantity).transpose()?;
        let mut transaction = self.store.begin().await?;
        let owner = owner(&mut transaction, &form.party).await?;
        let item = TradeItem {
            gtin: gtin.to_string(),
            party_id: owner.id,
            profile: form.profile.clone(),
            product: form.product.clone(),
            name: form.name.clone(),
            piece_amount,
            net_amount: net.map(|net| net.amount),
            net_unit: net.map(|net| net.unit.to_string()),
        };
        if let Some(known) = party::trade_item(&mut transaction, &item.gtin).await? {
            return if known == item { Ok(known) } else { Err(Refusal::new("gtin", "taken").into()) };
        }
        party::insert_trade_item(&mut transaction, &item).await?;
        transaction.commit().await?;
        Ok(item)
    }

    pub async fn permit(&self, form: &PermitForm) -> Result<(), RegistryError> {
        check_name("number", &form.number)?;
        let details = Json::Object(form.details.clone());
        let uri = form.uri.as_deref().unwrap_or_default();
        let texts = [("profile", &*form.profile), ("kind", &*form.kind), ("uri", uri)];
        let nul = texts.into_iter().find(|(_, text)| text.contains('\0')).map(|(field, _)| field);
        if let Some(field) = nul.or_else(|| has_nul(&details).then_some("details")) {
            return Err(Refusal::new(field, "name").into());
        }
        let measure = Measure::from_code(&form.unit).ok_or_else(|| Refusal::new("unit", "unit"))?;
        let allowed = Quantity::of(form.allowed, measure).map_err(|_| Refusal::new("allowed", "quantity"))?;
        if allowed.amount <= 0 || form.valid_until < form.valid_from {
            return Err(Refusal::new("allowed", "permit-empty").into());
        }
        let mut transaction = self.store.begin().await?;
        let owner = owner(&mut transaction, &form.party).await?;
        let place_id = match &form.place {
            None => None,
            Some(slug) => {
                let place = party::place_by_slug(&mut transaction, owner.id, slug).await?;
                Some(place.ok_or_else(|| Refusal::new("place", "unknown-place").with("place", slug))?.id)
            }
        };
        if quota::lock_numbered(&mut transaction, owner.id, &form.number).await?.is_some() {
            return Ok(());
        }
        let own_uri = || trace::profile::build::document_uri(self.documents, &owner.iss, &form.number);
        let uri = form.uri.clone().unwrap_or_else(own_uri);
        let new = quota::NewQuota {
            party_id: owner.id,
            place_id,
            profile: &form.profile,
            kind: &form.kind,
            number: &form.number,
            uri: &uri,
            unit: allowed.unit.as_str(),
            allowed: allowed.amount,
            valid_from: form.valid_from,
            valid_until: form.valid_until,
            details,
        };
        quota::insert(&mut transaction, &new).await?;
        transaction.commit().await?;
        Ok(())
    }
}

async fn owner(conn: &mut Connection, slug: &str) -> Result<Party, RegistryError> {
    let found = party::by_slug(conn, slug).await?;
    found.ok_or_else(|| Refusal::new("party", "unknown-party").with("party", slug).into())
}

/// A natural person's name; `None` once erased.
pub async fn name_of_person(
    conn: &mut Connection,
    keys: &Keys,
    person: Uuid,
) -> Result<Option<String>, KeysError> {
    let Some(key) = keys.person_key(conn, person).await? else { return Ok(None) };
    let sealed = party::personal_of(conn, &[person], "name").await?;
    let Some((_, sealed)) = sealed.first() else { return Ok(None) };
    let name = key.unseal(&personal_context(person, "name"), sealed)?;
    Ok(String::from_utf8(name.to_vec()).ok())
}

/// How a party is called: its public name, or the person's while it is not erased.
pub async fn name_of(conn: &mut Connection, keys: &Keys, party: &Party) -> Result<Option<String>, KeysError> {
    match party.person_id {
        Some(person) => name_of_person(conn, keys, person).await,
        None => Ok(party.name.clone()),
    }
}

/// What is sealed of a place: its name and polygon; empty for a public place and for an erased person's.
pub async fn place_details(
    conn: &mut Connection,
    keys: &Keys,
    place: &Place,
) -> Result<Map<String, Json>, KeysError> {
    let (Some(person), Some(sealed)) = (place.person_id, &place.sealed) else { return Ok(Map::new()) };
    let Some(key) = keys.person_key(conn, person).await? else { return Ok(Map::new()) };
    let text = key.unseal(&personal_context(person, "place"), sealed)?;
    match serde_json::from_slice(&text) {
        Ok(Json::Object(details)) => Ok(details),
        _ => Ok(Map::new()),
    }
}

/// person ‖ field: a sealed text opens only as what it was sealed as.
fn personal_context(person: Uuid, field: &str) -> Vec<u8> {
    [person.as_bytes().as_slice(), field.as_bytes()].concat()
}

/// A service relation number that says nothing about the person: the prefix, random digits, a check digit.
fn random_gsrn(prefix: &str) -> Result<Gsrn, RegistryError> {
    let mut random = [0; 17];
    getrandom::fill(&mut random).map_err(|_| KeysError::Randomness)?;
    let digits = random.iter().map(|byte| char::from(b'0' + byte % 10));
    let body: String = prefix.chars().chain(digits).take(17).collect();
    let digit = check_digit(&body).ok_or_else(|| Refusal::new("prefix", "gsrn"))?;
    format!("{body}{digit}").parse().map_err(|_| Refusal::new("prefix", "gsrn").into())
}

fn place_uri(form: &PlaceForm) -> Result<String, Refusal> {
    let gln: Gln = form.gln.parse().map_err(|_| Refusal::new("gln", "gln"))?;
    let extension = form.extension.as_deref().map(str::parse).transpose();
    let extension = extension.map_err(|_| Refusal::new("extension", "gln-extension"))?;
    Ok(gs1::Place { gln, extension }.uri())
}

fn check_name(field: &str, name: &str) -> Result<(), Refusal> {
    let long = name.chars().count() > NAME_CHARACTERS_MAX;
    if name.trim().is_empty() {
        return Err(Refusal::new(field, "required"));
    }
    if long || name.chars().any(char::is_control) { Err(Refusal::new(field, "name")) } else { Ok(()) }
}

fn check_slug(slug: &str) -> Result<(), Refusal> {
    let first = slug.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest = slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.');
    if first && rest && slug.len() <= 32 {
        Ok(())
    } else {
        Err(Refusal::new("slug", "slug").with("slug", slug))
    }
}

fn check_polygon(points: &[[f64; 2]]) -> Result<(), Refusal> {
    let closed = points.first() == points.last();
    let inside =
        points.iter().all(|[longitude, latitude]| longitude.abs() <= 180.0 && latitude.abs() <= 90.0);
    if points.len() < 4 || points.len() > POLYGON_POINTS_MAX || !closed || !inside {
        return Err(Refusal::new("polygon", "polygon"));
    }
    Ok(())
}
