create extension if not exists btree_gist;
-- Lots, where they are and what became of them. Derived from the records, kept for the rules and the trace.

create table lot (
    id bigint generated always as identity primary key,
    uri text not null unique,          -- canonical Digital Link: /01/{gtin}/10/{lot}, or /01/{gtin}/21/{serial}
    gtin text not null,
    number text not null,
    profile text not null,
    product text not null,
    unit text not null check (unit in ('g', 'cm3', 'piece')),
    made_by bigint not null references party,
    made_at_place bigint references place,
    made_time timestamptz not null,
    entry bytea not null references record (entry),
    epoch integer,                     -- storage epoch number in its bin
    closed_at timestamptz,             -- an epoch that a later one replaced
    recalled_by bytea references record (entry),
    created_at timestamptz not null default now()
);
create index lot_epoch on lot (made_at_place, epoch) where epoch is not null;
create index lot_made_by on lot (made_by, created_at);

-- (lot, party, place) with a quantity in the lot's unit; locked FOR UPDATE in key order.
create table holding (
    lot_id bigint not null references lot,
    party_id bigint not null references party,
    place_id bigint not null references place,
    quantity bigint not null check (quantity >= 0),
    pledged bigint not null default 0 check (pledged between 0 and quantity),
    primary key (lot_id, party_id, place_id)
);
create index holding_party on holding (party_id, place_id) where quantity > 0;
create index holding_place on holding (place_id) where quantity > 0;

-- Every change of a holding, with the record that caused it: fsck adds these up.
create table movement (
    id bigint generated always as identity primary key,
    entry bytea not null references record (entry),
    lot_id bigint not null references lot,
    party_id bigint not null references party,
    place_id bigint not null references place,
    delta bigint not null,
    reason text not null
);
create index movement_lot on movement (lot_id);
create index movement_entry on movement (entry);

create table record_lot (
    entry bytea not null references record (entry),
    lot_id bigint not null references lot,
    part text not null check (part in ('input', 'output', 'observed', 'moved')),
    quantity bigint,
    primary key (entry, lot_id, part)
);
create index record_lot_lot on record_lot (lot_id);

create table edge (
    parent_id bigint not null references lot,
    child_id bigint not null references lot,
    entry bytea not null references record (entry),
    kind text not null check (kind in ('transform', 'epoch', 'pack')),
    parent_quantity bigint not null,
    child_quantity bigint not null,
    primary key (child_id, parent_id, entry)
);
create index edge_parent on edge (parent_id);

-- An epoch's content folded to the arrivals it is made of, in the lot's unit; adds up to its quantity.
create table share (
    lot_id bigint not null references lot,
    arrival_id bigint not null references lot,
    quantity bigint not null check (quantity >= 0),
    primary key (lot_id, arrival_id)
);
create index share_arrival on share (arrival_id);

create table consignment (
    id bigint generated always as identity primary key,
    number text not null,              -- the shipper's own: despatch advice, load ticket
    shipper_id bigint not null references party,
    receiver_id bigint not null references party,
    from_place bigint not null references place,
    to_place bigint references place,
    shipped_by bytea not null references record (entry),
    shipped_time timestamptz not null,
    received_by bytea references record (entry),
    refused_by bytea references record (entry),
    unique (shipper_id, number)
);
create index consignment_awaited on consignment (receiver_id) where received_by is null and refused_by is null;

create table consignment_line (
    consignment_id bigint not null references consignment,
    lot_id bigint not null references lot,
    quantity bigint not null check (quantity > 0),
    received bigint,
    primary key (consignment_id, lot_id)
);

-- What stands on a pallet: [packed_by, unpacked_by).
create table aggregation (
    parent_uri text not null,
    lot_id bigint not null references lot,
    quantity bigint not null,
    packed_by bytea not null references record (entry),
    unpacked_by bytea references record (entry),
    primary key (parent_uri, lot_id, packed_by)
);
create index aggregation_lot on aggregation (lot_id);

-- A permitted amount (a felling permit's volume), used up by records.
create table quota (
    id bigint generated always as identity primary key,
    party_id bigint not null references party,
    place_id bigint references place,
    profile text not null,
    kind text not null,
    number text not null,
    uri text not null,
    unit text not null check (unit in ('g', 'cm3', 'piece')),
    allowed bigint not null check (allowed > 0),
    used bigint not null default 0 check (used between 0 and allowed),
    valid_from date not null,
    valid_until date not null,
    details jsonb not null default '{}',
    unique (party_id, kind, number)
);

-- Ranges of serial numbers; a serial is computed from its run and never a row.
create table code_run (
    id bigint generated always as identity primary key,
    gtin text not null,
    key_epoch text not null check (length(key_epoch) = 1),
    span int8range not null,
    lot_id bigint not null references lot,
    entry bytea not null references record (entry),
    key_hash bytea not null,
    exclude using gist (gtin with =, key_epoch with =, span with &&)
);
create table code_void (
    id bigint generated always as identity primary key,
    gtin text not null,
    key_epoch text not null,
    span int8range not null,
    reason text not null,
    entry bytea not null references record (entry)
);

create table scan (
    uri text not null,
    month date not null,
    times bigint not null default 1,
    primary key (uri, month)
);

create table problem_report (
    id uuid primary key,               -- random: whoever reported finds the answer under it
    uri text not null,
    party_id bigint references party,  -- who made what the code stands on
    text text not null check (length(text) <= 2000),
    at timestamptz not null default now(),
    answer text check (length(answer) <= 2000),
    answered_at timestamptz,
    answered_by uuid references account,
    closed_at timestamptz,
    check ((answer is null) = (answered_at is null) and (answer is null) = (answered_by is null))
);
create index problem_report_party on problem_report (party_id, at);
