//! Alerts: a threshold passed, or a signer who said two things.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Double, Integer, Nullable, Text, Timestamptz},
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Connection, StoreError, schema::alert};

#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = alert)]
pub struct Alert {
    pub id: i64,
    pub party_id: i64,
    pub place_id: i64,
    pub device_id: Option<i64>,
    pub profile: String,
    pub rule: String,
    pub subject: String,
    pub metric: String,
    pub unit: String,
    pub threshold: f64,
    pub source: String,
    pub value: f64,
    pub raised_at: DateTime<Utc>,
    pub acknowledged_at: Option<DateTime<Utc>>,
    pub acknowledged_by: Option<Uuid>,
    pub cleared_at: Option<DateTime<Utc>>,
    pub cleared_value: Option<f64>,
    pub lots: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewAlert<'a> {
    pub party_id: i64,
    pub place_id: i64,
    /// `None`: of the whole place.
    pub device_id: Option<i64>,
    pub profile: &'a str,
    pub rule: &'a str,
    /// Which point, layer or devices.
    pub subject: &'a str,
    pub metric: &'a str,
    pub unit: &'a str,
    pub threshold: f64,
    pub source: &'a str,
    pub value: f64,
    pub raised_at: DateTime<Utc>,
    /// What lay there.
    pub lots: &'a [i64],
}

/// Raises an alert unless the device, or the place, has an open one by the same rule. `false`: it had.
pub async fn raise(conn: &mut Connection, new: &NewAlert<'_>) -> Result<bool, StoreError> {
    let changed = diesel::sql_query(
        "with raised as (
            insert into alert (party_id, place_id, device_id, profile, rule, subject, metric, unit, threshold, source,
                value, raised_at, lots)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            on conflict do nothing returning id, party_id)
        insert into alert_change (alert_id, party_id, what) select id, party_id, 'raised' from raised",
    )
    .bind::<BigInt, _>(new.party_id)
    .bind::<BigInt, _>(new.place_id)
    .bind::<Nullable<BigInt>, _>(new.device_id)
    .bind::<Text, _>(new.profile)
    .bind::<Text, _>(new.rule)
    .bind::<Text, _>(new.subject)
    .bind::<Text, _>(new.metric)
    .bind::<Text, _>(new.unit)
    .bind::<Double, _>(new.threshold)
    .bind::<Text, _>(new.source)
    .bind::<Double, _>(new.value)
    .bind::<Timestamptz, _>(new.raised_at)
    .bind::<Array<BigInt>, _>(new.lots)
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// It is over. `false`: it was already.
pub async fn clear(
    conn: &mut Connection,
    id: i64,
    value: f64,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let changed = diesel::sql_query(
        "with cleared as (
            update alert set cleared_at = $2, cleared_value = $3 where id = $1 and cleared_at is null
            returning id, party_id)
        insert into alert_change (alert_id, party_id, what) select id, party_id, 'cleared' from cleared",
    )
    .bind::<BigInt, _>(id)
    .bind::<Timestamptz, _>(at)
    .bind::<Double, _>(value)
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Somebody has seen it. `false`: somebody had before.
pub async fn acknowledge(
    conn: &mut Connection,
    id: i64,
    by: Uuid,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let changed = diesel::sql_query(
        "with seen as (
            update alert set acknowledged_at = $2, acknowledged_by = $3 where id = $1 and acknowledged_at is null
            returning id, party_id)
        insert into alert_change (alert_id, party_id, what) select id, party_id, 'acknowledged' from seen",
    )
    .bind::<BigInt, _>(id)
    .bind::<Timestamptz, _>(at)
    .bind::<diesel::sql_types::Uuid, _>(by)
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

pub async fn by_id(conn: &mut Connection, id: i64) -> Result<Option<Alert>, StoreError> {
    Ok(alert::table.find(id).select(Alert::as_select()).first(conn).await.optional()?)
}

/// Open alerts of these devices.
pub async fn open_of(conn: &mut Connection, devices: &[i64]) -> Result<Vec<Alert>, StoreError> {
    Ok(alert::table
        .filter(alert::device_id.eq_any(devices).and(alert::cleared_at.is_null()))
        .select(Alert::as_select())
        .load(conn)
        .await?)
}

/// The open alerts of a place for itself, and of these devices.
pub async fn open_at(
    conn: &mut Connection,
    place_id: i64,
    devices: &[i64],
) -> Result<Vec<Alert>, StoreError> {
    let of_place = alert::place_id.eq(place_id).and(alert::device_id.is_null());
    Ok(alert::table
        .filter(alert::cleared_at.is_null().and(of_place.or(alert::device_id.eq_any(devices))))
        .select(Alert::as_select())
        .load(conn)
        .await?)
}

/// The newest of a party, or of all with `None`; open ones first.
pub async fn newest(
    conn: &mut Connection,
    party_id: Option<i64>,
    limit: i64,
) -> Result<Vec<Alert>, StoreError> {
    let mut query = alert::table.select(Alert::as_select()).into_boxed();
    if let Some(party_id) = party_id {
        query = query.filter(alert::party_id.eq(party_id));
    }
    let order = (alert::cleared_at.is_not_null(), alert::raised_at.desc(), alert::id.desc());
    Ok(query.order(order).limit(limit).load(conn).await?)
}

/// Alerts that were raised while the lot lay there.
pub async fn of_lot(conn: &mut Connection, lot_id: i64) -> Result<Vec<Alert>, StoreError> {
    Ok(alert::table
        .filter(alert::lots.contains(vec![lot_id]))
        .order(alert::raised_at)
        .select(Alert::as_select())
        .load(conn)
        .await?)
}

/// A rule at a place, or at one of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched<'a> {
    pub place_id: i64,
    pub device_id: Option<i64>,
    pub rule: &'a str,
}

#[derive(QueryableByName)]
struct Since {
    #[diesel(sql_type = Timestamptz)]
    since: DateTime<Utc>,
}

/// Since when it has been past its limit: since `at`, unless it was before.
pub async fn pend(
    conn: &mut Connection,
    of: Watched<'_>,
    at: DateTime<Utc>,
) -> Result<DateTime<Utc>, StoreError> {
    let row: Since = diesel::sql_query(
        "insert into alert_pending as p (place_id, device_id, rule, since) values ($1, $2, $3, $4)
        on conflict (place_id, device_id, rule) do update set since = least(p.since, excluded.since)
        returning since",
    )
    .bind::<BigInt, _>(of.place_id)
    .bind::<Nullable<BigInt>, _>(of.device_id)
    .bind::<Text, _>(of.rule)
    .bind::<Timestamptz, _>(at)
    .get_result(conn)
    .await?;
    Ok(row.since)
}

/// It is not past its limit any more, or has its alert.
pub async fn unpend(conn: &mut Connection, of: Watched<'_>) -> Result<(), StoreError> {
    diesel::sql_query(
        "delete from alert_pending
        where place_id = $1 and device_id is not distinct from $2 and rule = $3",
    )
    .bind::<BigInt, _>(of.place_id)
    .bind::<Nullable<BigInt>, _>(of.device_id)
    .bind::<Text, _>(of.rule)
    .execute(conn)
    .await?;
    Ok(())
}

/// The places of these devices are to be looked at.
pub async fn ask(conn: &mut Connection, devices: &[i64]) -> Result<(), StoreError> {
    diesel::sql_query(
        "insert into alert_due (place_id) select distinct place_id from device where id = any($1)",
    )
    .bind::<Array<BigInt>, _>(devices)
    .execute(conn)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Due {
    #[diesel(sql_type = BigInt)]
    place_id: i64,
}

/// Takes places that are to be looked at, those that have waited longest first, and locks them until the end of the transaction;
/// ascending, each once. What another server takes is left to it.
pub async fn take_due(conn: &mut Connection, limit: i64) -> Result<Vec<i64>, StoreError> {
    /// "alrt": the advisory locks of places that are looked at.
    const CLASS: i32 = 0x616c_7274;
    let due: Vec<Due> = diesel::sql_query(
        "delete from alert_due
        where id in (select id from alert_due order by id limit $1 for update skip locked)
        returning place_id",
    )
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    let mut places: Vec<i64> = due.into_iter().map(|due| due.place_id).collect();
    places.sort_unstable();
    places.dedup();
    for place in &places {
        let key = i32::try_from(place % i64::from(i32::MAX)).unwrap_or_default();
        diesel::sql_query("select pg_advisory_xact_lock($1, $2)")
            .bind::<Integer, _>(CLASS)
            .bind::<Integer, _>(key)
            .execute(conn)
            .await?;
    }
    Ok(places)
}

/// When a step was last done at a place, and since when the oldest of what lies there lies there; `None` where nothing does.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Kept {
    #[diesel(sql_type = BigInt)]
    pub place_id: i64,
    #[diesel(sql_type = BigInt)]
    pub party_id: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub arrived: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub done: Option<DateTime<Utc>>,
}

/// What is kept where, and what is asked of it.
#[derive(Debug, Clone, Copy)]
pub struct Keeping<'a> {
    pub profile: &'a str,
    pub products: &'a [String],
    /// Kinds of place.
    pub kinds: &'a [String],
    pub step: &'a str,
}

/// Places after `after` where goods of these kinds lie, or about which an alert of the step is open; ascending.
pub async fn kept(
    conn: &mut Connection,
    of: Keeping<'_>,
    after: i64,
    limit: i64,
) -> Result<Vec<Kept>, StoreError> {
    Ok(diesel::sql_query(
        "with lies as not materialized (
            select h.place_id, h.lot_id from holding h join lot l on l.id = h.lot_id
            where h.quantity > 0 and l.profile = $1 and l.product = any($2)),
        of as (
            select p.id, p.party_id from place p
            where p.id > $5 and (
                p.kind = any($3) and exists (select from lies where lies.place_id = p.id)
                or exists (select from alert a where a.place_id = p.id and a.device_id is null and a.rule = $4
                    and a.profile = $1 and a.cleared_at is null))
            order by p.id limit $6)
        select of.id as place_id, of.party_id, least(moved.at, stored.at) as arrived, (
            select max(r.event_time) from record r
            where r.place_id = of.id and r.step = $4 and r.kind = 'event' and split_part(r.profile, '/', 1) = $1
                and not exists (select from record c where c.corrects = r.entry)) as done
        from of
        left join lateral (
            select min(coalesce(r.event_time, r.accepted_at)) as at
            from lies join movement m on m.lot_id = lies.lot_id and m.place_id = of.id and m.delta > 0
                join record r on r.entry = m.entry
            where lies.place_id = of.id) moved on true
        left join lateral (
            select min(epoch.made_time) as at
            from lies join share s on s.lot_id = lies.lot_id
                join edge e on e.parent_id = s.arrival_id and e.kind = 'epoch'
                join lot epoch on epoch.id = e.child_id and epoch.made_at_place = of.id
            where lies.place_id = of.id and s.quantity > 0) stored on true
        order by of.id",
    )
    .bind::<Text, _>(of.profile)
    .bind::<Array<Text>, _>(of.products)
    .bind::<Array<Text>, _>(of.kinds)
    .bind::<Text, _>(of.step)
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

#[derive(QueryableByName)]
struct Last {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    at: Option<DateTime<Utc>>,
}

/// When a step was last done at a place.
pub async fn last_done(
    conn: &mut Connection,
    place_id: i64,
    profile: &str,
    step: &str,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let last: Last = diesel::sql_query(
        "select max(r.event_time) as at from record r
        where r.place_id = $1 and r.step = $2 and r.kind = 'event' and split_part(r.profile, '/', 1) = $3
            and not exists (select from record c where c.corrects = r.entry)",
    )
    .bind::<BigInt, _>(place_id)
    .bind::<Text, _>(step)
    .bind::<Text, _>(profile)
    .get_result(conn)
    .await?;
    Ok(last.at)
}

/// Something became of an alert of a party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct Change {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = BigInt)]
    pub party_id: i64,
}

/// What became of alerts in the last two minutes, longer than any transaction that raises one; the newest of too many.
pub async fn recent_changes(conn: &mut Connection) -> Result<Vec<Change>, StoreError> {
    Ok(diesel::sql_query(
        "select id, party_id from alert_change where at > now() - interval '2 minutes' order by id desc limit 10000",
    )
    .load(conn)
    .await?)
}
