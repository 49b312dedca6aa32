-- Reading packs (the evidence, kept) and readings (derived, partitioned, droppable).

create table pack (
    device_id bigint not null references device,
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
create index pack_entry on pack (entry);
create index pack_committed on pack using brin (committed_at);

-- Packs whose batch passed and whose strict check is due: only what passes there becomes a leaf.
create table strict_check (
    device_id bigint not null,
    cti bytea not null,
    primary key (device_id, cti),
    foreign key (device_id, cti) references pack
);

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

create table dead_letter (
    id bigint generated always as identity primary key,
    party_id bigint references party,
    topic text not null,
    received_at timestamptz not null,
    committed_at timestamptz not null default now(),
    reason text not null,
    payload bytea,
    size integer not null,
    sha256 bytea not null
);
create index dead_letter_party on dead_letter (party_id, committed_at);

create table alert (
    id bigint generated always as identity primary key,
    party_id bigint not null references party,
    place_id bigint not null references place,
    device_id bigint references device,
    rule text not null,                -- the profile's name of the threshold
    metric text not null,
    unit text not null,
    threshold double precision not null,
    value double precision not null,
    raised_at timestamptz not null,
    acknowledged_at timestamptz,
    acknowledged_by uuid references account,
    cleared_at timestamptz,
    cleared_value double precision,
    lots bigint[] not null default '{}'
);
create unique index alert_open on alert (device_id, rule) where cleared_at is null;
create index alert_party on alert (party_id, raised_at);
