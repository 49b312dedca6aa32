//! Problems that somebody reported of a code, and what was answered.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Connection, StoreError, schema::problem_report};

/// `party_id`: who made what the code stands on; unknown for a unit that nothing stands on any more.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = problem_report)]
pub struct Report {
    pub id: Uuid,
    pub uri: String,
    pub party_id: Option<i64>,
    pub text: String,
    pub at: DateTime<Utc>,
    pub answer: Option<String>,
    pub answered_at: Option<DateTime<Utc>>,
    pub closed_at: Option<DateTime<Utc>>,
}

pub async fn insert(
    conn: &mut Connection,
    id: Uuid,
    uri: &str,
    party_id: Option<i64>,
    text: &str,
) -> Result<(), StoreError> {
    diesel::insert_into(problem_report::table)
        .values((
            problem_report::id.eq(id),
            problem_report::uri.eq(uri),
            problem_report::party_id.eq(party_id),
            problem_report::text.eq(text),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

pub async fn by_id(conn: &mut Connection, id: Uuid) -> Result<Option<Report>, StoreError> {
    Ok(problem_report::table.find(id).select(Report::as_select()).first(conn).await.optional()?)
}

/// The newest about what a party made, or about everything with `None`; open ones first.
pub async fn newest(
    conn: &mut Connection,
    party_id: Option<i64>,
    limit: i64,
) -> Result<Vec<Report>, StoreError> {
    let mut query = problem_report::table.select(Report::as_select()).into_boxed();
    if let Some(party_id) = party_id {
        query = query.filter(problem_report::party_id.eq(party_id));
    }
    let order = (problem_report::closed_at.is_not_null(), problem_report::at.desc());
    Ok(query.order(order).limit(limit).load(conn).await?)
}

/// The newest answer is the one that counts.
pub async fn answer(
    conn: &mut Connection,
    id: Uuid,
    text: &str,
    by: Uuid,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::update(problem_report::table.find(id))
        .set((
            problem_report::answer.eq(Some(text)),
            problem_report::answered_by.eq(Some(by)),
            problem_report::answered_at.eq(Some(at)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Closed twice is closed since the first time.
pub async fn close(conn: &mut Connection, id: Uuid, at: DateTime<Utc>) -> Result<(), StoreError> {
    diesel::update(problem_report::table.find(id).filter(problem_report::closed_at.is_null()))
        .set(problem_report::closed_at.eq(Some(at)))
        .execute(conn)
        .await?;
    Ok(())
}
