-- Who takes part: parties, the people in them, their places, keys, accounts and tokens.
-- A natural person's name, telephone number and plot polygon stand here only encrypted under that person's data key;
-- destroying the key (person.data_key := null) erases them, in backups too.

create table person (
    id uuid primary key,
    data_key bytea,                    -- sealed under the key-encryption key; null once erased
    created_at timestamptz not null default now(),
    erased_at timestamptz,
    check ((data_key is null) = (erased_at is not null))
);

create table personal (
    person_id uuid not null references person,
    field text not null,               -- name, telephone
    sealed bytea not null,
    primary key (person_id, field)
);

create table party (
    id bigint generated always as identity primary key,
    slug text not null unique check (slug ~ '^[a-z0-9][a-z0-9.]{0,31}$'),
    role text not null,                -- operator, regulator, or a role that a profile names (farmer, mill, depot …)
    iss text not null unique,          -- Digital Link of the party: /417/ or, for a natural person, /8017/
    name text,                         -- null for a natural person
    county text,
    company_prefix text,               -- GS1 company prefix, where the party has one
    person_id uuid references person,
    created_at timestamptz not null default now(),
    check ((name is null) = (person_id is not null))
);

create table place (
    id bigint generated always as identity primary key,
    party_id bigint not null references party,
    slug text not null check (slug ~ '^[a-z0-9][a-z0-9.]{0,31}$'),
    kind text not null,                -- plot, mill, bin, yard, compartment …
    uri text not null unique,          -- Digital Link /414/…[/254/…]
    name text,
    county text,
    parent_id bigint references place,
    person_id uuid references person,  -- whose personal data `sealed` is
    sealed bytea,                      -- {"name", "polygon"} of a plot
    created_at timestamptz not null default now(),
    unique (party_id, slug)
);

create table trade_item (
    gtin text primary key check (gtin ~ '^[0-9]{14}$'),
    party_id bigint not null references party,
    profile text not null,
    product text not null,
    name text not null,
    piece_amount bigint check (piece_amount > 0),  -- grams or cm3 in one piece, where sold by the piece
    net_amount bigint check (net_amount > 0),      -- net content of a pack
    net_unit text check (net_unit in ('g', 'cm3')),
    created_at timestamptz not null default now(),
    check ((net_amount is null) = (net_unit is null))
);
create index trade_item_party on trade_item (party_id, profile, product);

create table device (
    id bigint generated always as identity primary key,
    party_id bigint not null references party,
    name text not null check (name ~ '^[a-z0-9][a-z0-9.]{0,31}$'),
    kind text not null,                -- what the profile calls it: weighbridge, probe, lab …
    profile text not null,
    format text not null,              -- cose, senml+json, senml+cbor, chirpstack, sparkplug, json
    signing text not null check (signing in ('device', 'gateway')),
    repeats text not null default 'merge' check (repeats in ('merge', 'keep')),
    token_hash bytea not null,         -- SHA-256 of its MQTT password
    broker_hash text,                  -- the same password as mosquitto keeps it; null until it has one
    place_id bigint not null references place,
    position text,                     -- where there: cable 3, north wall …
    placed_at timestamptz not null default '1970-01-01', -- since when it stands there: always, until it is moved once
    mapping jsonb,                     -- its messages' members -> SenML names; its node on a network of its own
    created_at timestamptz not null default now(),
    lost_at timestamptz,               -- refused until it is provisioned anew
    retired_at timestamptz,            -- refused for good
    unique (party_id, name)
);
create index device_place on device (place_id);
create unique index device_node on device ((mapping ->> 'node')) where retired_at is null;

create table account (
    id uuid primary key,
    party_id bigint not null references party,
    person_id uuid references person,
    login_hash bytea not null unique,  -- keyed hash: the login may be a telephone number
    password_hash text not null,
    roles text[] not null default '{}',
    locale text not null default 'zh-CN',
    created_at timestamptz not null default now(),
    disabled_at timestamptz
);

-- Where devices stood before; where they stand is in their own rows. A reading belongs to the place that was valid at its time.
create table device_stay (
    device_id bigint not null references device,
    place_id bigint not null references place,
    position text,
    valid_from timestamptz not null,
    valid_to timestamptz not null,
    ended_by uuid,
    primary key (device_id, valid_from),
    check (valid_from < valid_to)
);
create index device_stay_place on device_stay (place_id);

-- One-time tokens by which a device, or who installs it, gets its key enrolled and its MQTT password.
create table provisioning (
    token_hash bytea primary key check (octet_length(token_hash) = 32),
    device_id bigint not null references device,
    created_by uuid references account,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    redeemed_at timestamptz,
    withdrawn_at timestamptz,          -- for a newer one, or because the device is lost
    kid bytea,                         -- the key that it enrolled
    check (redeemed_at is null or withdrawn_at is null)
);
create unique index provisioning_open on provisioning (device_id) where redeemed_at is null and withdrawn_at is null;

create table key (
    kid bytea primary key check (octet_length(kid) = 32),
    party_id bigint not null references party,
    device_id bigint references device,
    role text not null check (role in ('record', 'pack', 'log', 'registrar', 'derivation')),
    custody text not null check (custody in ('platform', 'browser', 'device', 'hsm')),
    state text not null check (state in ('good', 'rotated', 'revoked')),
    since timestamptz not null,
    public bytea not null check (octet_length(public) = 32),
    sealed bytea,                      -- platform custody only
    enrolled_by bytea,                 -- entry of the enrol statement
    account_id uuid references account, -- whose own browser holds it
    check ((custody = 'browser') = (account_id is not null))
);
create index key_party on key (party_id, role);
create index key_account on key (account_id) where account_id is not null;

create table session (
    token_hash bytea primary key,
    account_id uuid not null references account,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz
);
create index session_account on session (account_id);

create table api_token (
    token_hash bytea primary key,
    party_id bigint not null references party,
    label text not null,
    scopes text[] not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

create table regulator_look (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    by_party bigint not null references party,
    account_id uuid references account, -- null: a program with a token of that party
    party_id bigint not null references party,
    subject text not null
);
create index regulator_look_party on regulator_look (party_id, at);
