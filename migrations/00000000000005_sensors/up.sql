-- Reading packs (the evidence, kept) and readings (derived, partitioned, droppable).

-- `device_id` has no foreign key: devices are never deleted (nobody who writes here may), and looking each up once more, row by
-- row and with a lock on the device, is what the intake would spend most on.
create table pack (
    device_id bigint not null,
    cti bytea not null check (octet_length(cti) <= 32),
    entry bytea not null check (octet_length(entry) = 32),
    kid bytea not null,
    bytes bytea not null,
    readings integer not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    mark text check (mark in ('clock_suspect', 'historical')),
    received_at timestamptz not null,
    committed_at timestamptz not null default now(),
    primary key (device_id, cti)
);
-- As a record's text: a pack stays in its row as long as a page holds it.
alter table pack set (toast_tuple_target = 8160);
create index pack_entry on pack (entry);
create index pack_marked on pack (device_id, received_at) where mark is not null;
create index pack_committed on pack using brin (committed_at);

-- Packs whose batch passed and whose strict check is due, oldest first: only what passes there becomes a leaf. Each row is
-- written by the statement that writes its pack.
create table strict_check (
    id bigint generated always as identity primary key,
    device_id bigint not null,
    cti bytea not null,
    readings integer not null
);
-- As with the pending leaves: what was taken is swept soon, because the next batch is looked for behind it.
alter table strict_check set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

create table reading (
    device_id bigint not null,
    at timestamptz not null,
    name text not null,
    unit text not null,
    value double precision not null,
    cti bytea not null
) partition by range (at);
create index reading_device on reading (device_id, name, at);
create index reading_at on reading using brin (at);
create table reading_default partition of reading default;

-- A day (UTC) of readings for itself, so that a month's chart reads a month and retention drops a table. The application calls
-- this ahead of time; what came for the day before is moved. False where the day stands already.
create function reading_day_create(day date) returns boolean
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    name text := 'reading_' || to_char(day, 'YYYYMMDD');
    from_at timestamptz := day::timestamp at time zone 'UTC';
    to_at timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
    perform pg_advisory_xact_lock(hashtext('reading_day'));
    if to_regclass(name) is not null then
        return false;
    end if;
    execute format('create table %I (like reading including all)', name);
    lock table reading_default in access exclusive mode;
    execute format('with moved as (delete from reading_default where at >= %L and at < %L returning *)
        insert into %I select * from moved', from_at, to_at, name);
    execute format('alter table reading attach partition %I for values from (%L) to (%L)', name, from_at, to_at);
    return true;
end $$;

-- Drops the days before `day`, and what older clocks left in the default partition; how many days were dropped. The packs stay.
create function reading_drop_before(day date) returns integer
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    partition text;
    dropped integer := 0;
begin
    perform pg_advisory_xact_lock(hashtext('reading_day'));
    for partition in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'reading'::regclass and c.relname ~ '^reading_[0-9]{8}$'
            and to_date(right(c.relname, 8), 'YYYYMMDD') < day
    loop
        execute format('drop table %I', partition);
        dropped := dropped + 1;
    end loop;
    delete from reading_default where at < day::timestamp at time zone 'UTC';
    delete from rollup where span = 1 and start < day::timestamp at time zone 'UTC';
    return dropped;
end $$;

-- Readings of packs that passed their strict check, by minute, hour and day: kept current as packs pass, however late and in
-- whichever order they come. A stretch without readings has no row: a gap is data.
create table rollup (
    device_id bigint not null,
    name text not null,
    unit text not null,
    span smallint not null check (span in (1, 60, 1440)),   -- minutes
    start timestamptz not null,
    min double precision not null,
    max double precision not null,
    sum double precision not null,
    count bigint not null,
    minutes integer not null,          -- how many of its minutes have a reading
    primary key (device_id, span, start, name, unit)
);
create index rollup_start on rollup using brin (start);
create index rollup_hour on rollup (device_id, start) where span = 60;

-- Where the temperature cables of a store hang, from a moment until the next such row: cable n of row r and column c is
-- (r - 1) * column_count + c, and its points are numbered from the surface down. Distances in centimetres.
create table grid (
    place_id bigint not null references place,
    valid_from timestamptz not null,
    row_count smallint not null check (row_count between 1 and 64),
    column_count smallint not null check (column_count between 1 and 64),
    layer_count smallint not null check (layer_count between 1 and 32),
    row_cm integer not null check (row_cm > 0),
    column_cm integer not null check (column_cm > 0),
    layer_cm integer not null check (layer_cm > 0),
    declared_by uuid,
    declared_at timestamptz not null default now(),
    primary key (place_id, valid_from)
);

create table dead_letter (
    id bigint generated always as identity primary key,
    party_id bigint references party,
    topic text not null,
    received_at timestamptz not null,
    committed_at timestamptz not null default now(),
    reason text not null,
    payload bytea,
    size integer not null,
    sha256 bytea not null,
    replay_wanted_at timestamptz,      -- waits for a gateway to sign it again
    replayed_at timestamptz,
    outcome text,                      -- stored, duplicate, or why it failed again
    check ((replayed_at is null) = (outcome is null))
);
create index dead_letter_party on dead_letter (party_id, id);
create index dead_letter_waiting on dead_letter (id) where replay_wanted_at is not null;

create table alert (
    id bigint generated always as identity primary key,
    party_id bigint not null references party,
    place_id bigint not null references place,
    device_id bigint references device,  -- null: of the whole place
    profile text not null,
    rule text not null,                -- the profile's name of the rule
    subject text not null,             -- which point, layer or devices; empty: the whole device or place
    metric text not null,
    unit text not null,
    threshold double precision not null,
    source text not null,              -- where the limit stands
    value double precision not null,
    raised_at timestamptz not null,
    acknowledged_at timestamptz,
    acknowledged_by uuid references account,
    cleared_at timestamptz,
    cleared_value double precision,
    lots bigint[] not null default '{}'
);
create unique index alert_open on alert (device_id, rule) where cleared_at is null;
create unique index alert_open_at_place on alert (place_id, rule) where cleared_at is null and device_id is null;
create index alert_party on alert (party_id, raised_at);

-- What became of an alert: each once. Written with the change itself.
create table alert_change (
    id bigint generated always as identity primary key,
    alert_id bigint not null references alert,
    party_id bigint not null references party,
    what text not null check (what in ('raised', 'acknowledged', 'cleared')),
    at timestamptz not null default now(),
    unique (alert_id, what)
);
create index alert_change_at on alert_change (at);

-- Past its limit since then, and not yet for as long as the rule wants before it raises an alert.
create table alert_pending (
    id bigint generated always as identity primary key,
    place_id bigint not null references place,
    device_id bigint references device,
    rule text not null,
    since timestamptz not null,
    unique nulls not distinct (place_id, device_id, rule)
);

-- Places whose sums changed: their rises and disagreements are to be looked at. Only added to where readings come in, so that
-- nobody waits for anybody; a place may stand here more than once.
create table alert_due (
    id bigint generated always as identity primary key,
    place_id bigint not null references place
);

-- Who is told of a party's alerts: written from the operator's file at each start.
create table alert_target (
    id bigint generated always as identity primary key,
    party_id bigint not null references party,
    channel text not null check (channel in ('webhook', 'mail')),
    address text not null,
    language text not null,
    ended_at timestamptz,
    unique (party_id, channel, address)
);

-- What is to be told to whom. The id is the name of the message, the same at every try: whoever gets it twice knows it.
create table alert_delivery (
    id uuid primary key default gen_random_uuid(),
    change_id bigint not null references alert_change,
    target_id bigint not null references alert_target,
    attempts integer not null default 0,
    next_at timestamptz not null default now(),
    delivered_at timestamptz,
    failed_at timestamptz,             -- tried too often
    problem text,                      -- of the last try
    unique (change_id, target_id),
    check (delivered_at is null or failed_at is null)
);
create index alert_delivery_due on alert_delivery (next_at) where delivered_at is null and failed_at is null;

-- In the transaction that raises or clears, whoever raises or clears.
create function alert_tell() returns trigger language plpgsql as $$
begin
    insert into alert_delivery (change_id, target_id)
        select new.id, t.id from alert_target t where t.party_id = new.party_id and t.ended_at is null;
    return null;
end $$;
create trigger alert_tell after insert on alert_change for each row
    when (new.what in ('raised', 'cleared')) execute function alert_tell();
