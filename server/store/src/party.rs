//! Parties, the people in them, their places and their trade items.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    schema::{party, person, personal, place, trade_item},
};

/// A legal or natural person that makes statements. `name` is `None` for a natural person: it stands sealed in `personal`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = party)]
pub struct Party {
    pub id: i64,
    pub slug: String,
    pub role: String,
    pub iss: String,
    pub name: Option<String>,
    pub county: Option<String>,
    pub company_prefix: Option<String>,
    pub person_id: Option<Uuid>,
}

#[derive(Debug, Insertable)]
#[diesel(table_name = party)]
pub struct NewParty<'a> {
    pub slug: &'a str,
    pub role: &'a str,
    pub iss: &'a str,
    pub name: Option<&'a str>,
    pub county: Option<&'a str>,
    pub company_prefix: Option<&'a str>,
    pub person_id: Option<Uuid>,
}

/// Fails with constraint `party_slug_key` or `party_iss_key` where one is taken.
pub async fn insert(conn: &mut Connection, new: &NewParty<'_>) -> Result<Party, StoreError> {
    Ok(diesel::insert_into(party::table)
        .values(new)
        .returning(Party::as_returning())
        .get_result(conn)
        .await?)
}

pub async fn by_slug(conn: &mut Connection, slug: &str) -> Result<Option<Party>, StoreError> {
    // As for places below.
    if slug.contains('\0') {
        return Ok(None);
    }
    Ok(party::table.filter(party::slug.eq(slug)).select(Party::as_select()).first(conn).await.optional()?)
}

pub async fn by_slugs(conn: &mut Connection, slugs: &[String]) -> Result<Vec<Party>, StoreError> {
    Ok(party::table.filter(party::slug.eq_any(slugs)).select(Party::as_select()).load(conn).await?)
}

pub async fn by_id(conn: &mut Connection, id: i64) -> Result<Party, StoreError> {
    Ok(party::table.find(id).select(Party::as_select()).first(conn).await?)
}

pub async fn by_ids(conn: &mut Connection, ids: &[i64]) -> Result<Vec<Party>, StoreError> {
    Ok(party::table.filter(party::id.eq_any(ids)).select(Party::as_select()).load(conn).await?)
}

pub async fn by_iss(conn: &mut Connection, iss: &str) -> Result<Option<Party>, StoreError> {
    Ok(party::table.filter(party::iss.eq(iss)).select(Party::as_select()).first(conn).await.optional()?)
}

/// Parties with one of `roles`, by slug; what a form offers to choose from.
pub async fn with_roles(
    conn: &mut Connection,
    roles: &[String],
    limit: i64,
) -> Result<Vec<Party>, StoreError> {
    Ok(party::table
        .filter(party::role.eq_any(roles))
        .order(party::slug)
        .limit(limit)
        .select(Party::as_select())
        .load(conn)
        .await?)
}

/// A person whose personal data can be erased by destroying `data_key` (sealed).
pub async fn insert_person(conn: &mut Connection, id: Uuid, data_key: &[u8]) -> Result<(), StoreError> {
    diesel::insert_into(person::table)
        .values((person::id.eq(id), person::data_key.eq(Some(data_key))))
        .execute(conn)
        .await?;
    Ok(())
}

/// The sealed data key; `None` once erased or for an unknown person.
pub async fn data_key(conn: &mut Connection, id: Uuid) -> Result<Option<Vec<u8>>, StoreError> {
    let key: Option<Option<Vec<u8>>> =
        person::table.find(id).select(person::data_key).first(conn).await.optional()?;
    Ok(key.flatten())
}

/// The sealed data keys of those of `ids` that are not erased.
pub async fn data_keys(conn: &mut Connection, ids: &[Uuid]) -> Result<Vec<(Uuid, Vec<u8>)>, StoreError> {
    Ok(person::table
        .filter(person::id.eq_any(ids))
        .filter(person::data_key.is_not_null())
        .select((person::id, person::data_key.assume_not_null()))
        .load(conn)
        .await?)
}

/// Destroys the data key: what was sealed under it is gone, in every backup too. `false` if it was gone already.
pub async fn erase(conn: &mut Connection, id: Uuid, at: DateTime<Utc>) -> Result<bool, StoreError> {
    diesel::delete(personal::table.filter(personal::person_id.eq(id))).execute(conn).await?;
    let changed = diesel::update(person::table.find(id).filter(person::data_key.is_not_null()))
        .set((person::data_key.eq(None::<Vec<u8>>), person::erased_at.eq(Some(at))))
        .execute(conn)
        .await?;
    Ok(changed == 1)
}

pub async fn insert_personal(
    conn: &mut Connection,
    person_id: Uuid,
    field: &str,
    sealed: &[u8],
) -> Result<(), StoreError> {
    diesel::insert_into(personal::table)
        .values((personal::person_id.eq(person_id), personal::field.eq(field), personal::sealed.eq(sealed)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Sealed fields of several people at once: (person, field, sealed).
pub async fn personal_of(
    conn: &mut Connection,
    people: &[Uuid],
    field: &str,
) -> Result<Vec<(Uuid, Vec<u8>)>, StoreError> {
    Ok(personal::table
        .filter(personal::person_id.eq_any(people))
        .filter(personal::field.eq(field))
        .select((personal::person_id, personal::sealed))
        .load(conn)
        .await?)
}

/// Where things happen. `name` is public; a plot's name and polygon stand in `sealed` under `person_id`'s key.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = place)]
pub struct Place {
    pub id: i64,
    pub party_id: i64,
    pub slug: String,
    pub kind: String,
    pub uri: String,
    pub name: Option<String>,
    pub county: Option<String>,
    pub parent_id: Option<i64>,
    pub person_id: Option<Uuid>,
    pub sealed: Option<Vec<u8>>,
}

#[derive(Debug, Insertable)]
#[diesel(table_name = place)]
pub struct NewPlace<'a> {
    pub party_id: i64,
    pub slug: &'a str,
    pub kind: &'a str,
    pub uri: &'a str,
    pub name: Option<&'a str>,
    pub county: Option<&'a str>,
    pub parent_id: Option<i64>,
    pub person_id: Option<Uuid>,
    pub sealed: Option<&'a [u8]>,
}

pub async fn insert_place(conn: &mut Connection, new: &NewPlace<'_>) -> Result<Place, StoreError> {
    Ok(diesel::insert_into(place::table)
        .values(new)
        .returning(Place::as_returning())
        .get_result(conn)
        .await?)
}

pub async fn place_by_id(conn: &mut Connection, id: i64) -> Result<Place, StoreError> {
    Ok(place::table.find(id).select(Place::as_select()).first(conn).await?)
}

pub async fn places_by_ids(conn: &mut Connection, ids: &[i64]) -> Result<Vec<Place>, StoreError> {
    Ok(place::table.filter(place::id.eq_any(ids)).select(Place::as_select()).load(conn).await?)
}

pub async fn place_by_uri(conn: &mut Connection, uri: &str) -> Result<Option<Place>, StoreError> {
    Ok(place::table.filter(place::uri.eq(uri)).select(Place::as_select()).first(conn).await.optional()?)
}

pub async fn place_by_slug(
    conn: &mut Connection,
    party_id: i64,
    slug: &str,
) -> Result<Option<Place>, StoreError> {
    // A NUL is the one character that Postgres keeps in no text: no place is called so.
    if slug.contains('\0') {
        return Ok(None);
    }
    Ok(place::table
        .filter(place::party_id.eq(party_id).and(place::slug.eq(slug)))
        .select(Place::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// A party's places by slug, the oldest first: its main site comes first.
pub async fn places_of(conn: &mut Connection, party_id: i64, limit: i64) -> Result<Vec<Place>, StoreError> {
    Ok(place::table
        .filter(place::party_id.eq(party_id))
        .order(place::id)
        .limit(limit)
        .select(Place::as_select())
        .load(conn)
        .await?)
}

/// What a GTIN stands for: a product of a profile, as one party makes it.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = trade_item)]
pub struct TradeItem {
    pub gtin: String,
    pub party_id: i64,
    pub profile: String,
    pub product: String,
    pub name: String,
    pub piece_amount: Option<i64>,
    /// Net content of a pack, in `net_unit`: g or cm3.
    pub net_amount: Option<i64>,
    pub net_unit: Option<String>,
}

pub async fn insert_trade_item(conn: &mut Connection, new: &TradeItem) -> Result<(), StoreError> {
    diesel::insert_into(trade_item::table).values(new).execute(conn).await?;
    Ok(())
}

pub async fn trade_item(conn: &mut Connection, gtin: &str) -> Result<Option<TradeItem>, StoreError> {
    Ok(trade_item::table.find(gtin).select(TradeItem::as_select()).first(conn).await.optional()?)
}

/// The trade items of a party under a profile, by GTIN.
pub async fn trade_items_of(
    conn: &mut Connection,
    party_id: i64,
    profile: &str,
) -> Result<Vec<TradeItem>, StoreError> {
    Ok(trade_item::table
        .filter(trade_item::party_id.eq(party_id).and(trade_item::profile.eq(profile)))
        .order(trade_item::gtin)
        .select(TradeItem::as_select())
        .load(conn)
        .await?)
}
