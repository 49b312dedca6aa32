//! What is to be told of alerts, and to whom; each once.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Connection, StoreError};

/// Who is told of a party's alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// Slug.
    pub party: &'a str,
    pub channel: &'a str,
    pub address: &'a str,
    pub language: &'a str,
}

/// From now on these are told, and no others. A party that is not registered yet has none.
pub async fn set_targets(conn: &mut Connection, targets: &[Target<'_>]) -> Result<(), StoreError> {
    let column = |of: fn(&Target<'_>) -> String| targets.iter().map(of).collect::<Vec<String>>();
    let columns = [
        column(|target| target.party.to_owned()),
        column(|target| target.channel.to_owned()),
        column(|target| target.address.to_owned()),
        column(|target| target.language.to_owned()),
    ];
    let [parties, channels, addresses, languages] = &columns;
    diesel::sql_query(
        "with wanted as (
            select p.id, w.channel, w.address, w.language
            from unnest($1, $2, $3, $4) as w (party, channel, address, language) join party p on p.slug = w.party),
        ended as (
            update alert_target t set ended_at = now() where t.ended_at is null and not exists (
                select from wanted w where (w.id, w.channel, w.address) = (t.party_id, t.channel, t.address)))
        insert into alert_target as t (party_id, channel, address, language) select * from wanted
        on conflict (party_id, channel, address) do update set language = excluded.language, ended_at = null
            where t.ended_at is not null or t.language <> excluded.language",
    )
    .bind::<Array<Text>, _>(parties)
    .bind::<Array<Text>, _>(channels)
    .bind::<Array<Text>, _>(addresses)
    .bind::<Array<Text>, _>(languages)
    .execute(conn)
    .await?;
    Ok(())
}

/// A message that is due.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Due {
    /// The name of the message, the same at every try.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    #[diesel(sql_type = Text)]
    pub channel: String,
    #[diesel(sql_type = Text)]
    pub address: String,
    #[diesel(sql_type = Text)]
    pub language: String,
    /// `raised` or `cleared`.
    #[diesel(sql_type = Text)]
    pub what: String,
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    pub alert_id: i64,
}

/// Takes the message that has waited longest and locks it until the end of the transaction: what another server sends is left to it.
/// Of one alert a reader gets what came first, first.
pub async fn take(conn: &mut Connection, now: DateTime<Utc>) -> Result<Option<Due>, StoreError> {
    Ok(diesel::sql_query(
        "select d.id, d.attempts, t.channel, t.address, t.language, c.what, c.at, c.alert_id
        from alert_delivery d join alert_change c on c.id = d.change_id join alert_target t on t.id = d.target_id
        where d.delivered_at is null and d.failed_at is null and d.next_at <= $1 and t.ended_at is null
            and not exists (
                select from alert_delivery earlier join alert_change before on before.id = earlier.change_id
                where before.alert_id = c.alert_id and before.id < c.id and earlier.target_id = d.target_id
                    and earlier.delivered_at is null and earlier.failed_at is null)
        order by d.next_at, d.change_id limit 1 for update of d skip locked",
    )
    .bind::<Timestamptz, _>(now)
    .get_result(conn)
    .await
    .optional()?)
}

pub async fn delivered(conn: &mut Connection, id: Uuid, at: DateTime<Utc>) -> Result<(), StoreError> {
    diesel::sql_query(
        "update alert_delivery set attempts = attempts + 1, delivered_at = $2, problem = null where id = $1",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Timestamptz, _>(at)
    .execute(conn)
    .await?;
    Ok(())
}

/// It did not arrive: it is tried again at `next`, or never.
pub async fn not_delivered(
    conn: &mut Connection,
    id: Uuid,
    next: Option<DateTime<Utc>>,
    problem: &str,
) -> Result<(), StoreError> {
    diesel::sql_query(
        "update alert_delivery set attempts = attempts + 1, problem = $3, next_at = coalesce($2, next_at),
            failed_at = case when $2 is null then now() end
        where id = $1",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Nullable<Timestamptz>, _>(next)
    .bind::<Text, _>(problem)
    .execute(conn)
    .await?;
    Ok(())
}
