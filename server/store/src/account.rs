//! Accounts, sessions, tokens of programs, and who looked at what.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    party::Party,
    schema::{account, api_token, party, regulator_look, session},
};

/// A person's way in. `login_hash` is keyed: the login may be a telephone number.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = account)]
pub struct Account {
    pub id: Uuid,
    pub party_id: i64,
    pub person_id: Option<Uuid>,
    pub login_hash: Vec<u8>,
    pub password_hash: String,
    pub roles: Vec<String>,
    pub locale: String,
}

/// Fails with constraint `account_login_hash_key` where the login is taken.
pub async fn insert(conn: &mut Connection, new: &Account) -> Result<(), StoreError> {
    diesel::insert_into(account::table).values(new).execute(conn).await?;
    Ok(())
}

/// An account that is not disabled.
pub async fn by_login(conn: &mut Connection, login_hash: &[u8]) -> Result<Option<Account>, StoreError> {
    Ok(account::table
        .filter(account::login_hash.eq(login_hash).and(account::disabled_at.is_null()))
        .select(Account::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// An account that is not disabled.
pub async fn by_id(conn: &mut Connection, id: Uuid) -> Result<Option<Account>, StoreError> {
    Ok(account::table
        .filter(account::id.eq(id).and(account::disabled_at.is_null()))
        .select(Account::as_select())
        .first(conn)
        .await
        .optional()?)
}

pub async fn insert_session(
    conn: &mut Connection,
    token_hash: &[u8],
    account_id: Uuid,
    expires_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::insert_into(session::table)
        .values((
            session::token_hash.eq(token_hash),
            session::account_id.eq(account_id),
            session::expires_at.eq(expires_at),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Who a session that holds at `now` belongs to.
pub async fn of_session(
    conn: &mut Connection,
    token_hash: &[u8],
    now: DateTime<Utc>,
) -> Result<Option<(Account, Party)>, StoreError> {
    Ok(session::table
        .inner_join(account::table.on(account::id.eq(session::account_id)))
        .inner_join(party::table.on(party::id.eq(account::party_id)))
        .filter(session::token_hash.eq(token_hash))
        .filter(session::revoked_at.is_null().and(session::expires_at.gt(now)))
        .filter(account::disabled_at.is_null())
        .select((Account::as_select(), Party::as_select()))
        .first(conn)
        .await
        .optional()?)
}

pub async fn revoke_session(
    conn: &mut Connection,
    token_hash: &[u8],
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::update(session::table.find(token_hash)).set(session::revoked_at.eq(at)).execute(conn).await?;
    Ok(())
}

pub async fn insert_token(
    conn: &mut Connection,
    token_hash: &[u8],
    party_id: i64,
    label: &str,
    scopes: &[String],
    expires_at: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    diesel::insert_into(api_token::table)
        .values((
            api_token::token_hash.eq(token_hash),
            api_token::party_id.eq(party_id),
            api_token::label.eq(label),
            api_token::scopes.eq(scopes),
            api_token::expires_at.eq(expires_at),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// The party and the scopes of a token that holds at `now`.
pub async fn of_token(
    conn: &mut Connection,
    token_hash: &[u8],
    now: DateTime<Utc>,
) -> Result<Option<(Party, Vec<String>)>, StoreError> {
    Ok(api_token::table
        .inner_join(party::table.on(party::id.eq(api_token::party_id)))
        .filter(api_token::token_hash.eq(token_hash).and(api_token::revoked_at.is_null()))
        .filter(api_token::expires_at.is_null().or(api_token::expires_at.gt(now)))
        .select((Party::as_select(), api_token::scopes))
        .first(conn)
        .await
        .optional()?)
}

pub async fn revoke_token(
    conn: &mut Connection,
    token_hash: &[u8],
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::update(api_token::table.find(token_hash)).set(api_token::revoked_at.eq(at)).execute(conn).await?;
    Ok(())
}

/// Who looks: a member of a party, or a program with its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looking {
    pub party_id: i64,
    pub account_id: Option<Uuid>,
}

/// A regulator's look at what is not public, for the party looked at to see.
pub async fn insert_look(
    conn: &mut Connection,
    by: Looking,
    party_id: i64,
    subject: &str,
) -> Result<(), StoreError> {
    diesel::insert_into(regulator_look::table)
        .values((
            regulator_look::by_party.eq(by.party_id),
            regulator_look::account_id.eq(by.account_id),
            regulator_look::party_id.eq(party_id),
            regulator_look::subject.eq(subject),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// (when, the looking party's name, at what), newest first.
pub async fn looks_at(
    conn: &mut Connection,
    party_id: i64,
    limit: i64,
) -> Result<Vec<(DateTime<Utc>, Option<String>, String)>, StoreError> {
    Ok(regulator_look::table
        .inner_join(party::table.on(party::id.eq(regulator_look::by_party)))
        .filter(regulator_look::party_id.eq(party_id))
        .order(regulator_look::at.desc())
        .limit(limit)
        .select((regulator_look::at, party::name, regulator_look::subject))
        .load(conn)
        .await?)
}
