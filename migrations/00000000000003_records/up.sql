-- Records as they were signed, and what was concealed in them.

create table record (
    jti uuid primary key,
    entry bytea not null unique check (octet_length(entry) = 32),
    kind text not null check (kind in ('event', 'derived', 'statement')),
    party_id bigint not null references party,
    iss text not null,
    kid bytea not null references key,
    profile text not null,             -- reference with digest, "sugar/3#…"
    step text,                         -- "harvest"; the statement's type for a statement
    grade text not null default 'self' check (grade in ('self', 'documented', 'verified', 'device')),
    event_type text,
    event_id text,
    event_time timestamptz,
    event_offset text,
    event_hash bytea,                  -- keyed CBV event hash, for duplicates of imports
    place_id bigint references place,
    late boolean not null default false,
    corrects bytea,
    iat timestamptz not null,
    accepted_at timestamptz not null default now(),
    signed text not null,              -- header.payload.signature, ASCII
    public jsonb not null,             -- what everybody may see: rebuildable from `signed` and public disclosures
    unique nulls not distinct (party_id, event_id, corrects)
);
-- Signed text does not compress, and whoever reads a record reads it whole: it stays in its row as long as a page holds it.
alter table record set (toast_tuple_target = 8160);
create index record_party on record (party_id, accepted_at);
create index record_time on record (accepted_at);
create index record_step on record (step, accepted_at);
-- When a step was last done at a place: what is overdue there.
create index record_place on record (place_id, step, event_time) where kind = 'event' and place_id is not null;
create index record_corrects on record (corrects) where corrects is not null;
-- What ended a key: asked of the signers of every page.
create index record_replaces on record ((public -> 'statement' ->> 'replaces')) where kind = 'statement' and step = 'rotate';
create index record_revokes on record ((public -> 'statement' ->> 'kid')) where kind = 'statement' and step = 'revoke';

create table record_ref (
    entry bytea not null references record (entry),
    rel text not null check (rel in ('corrects', 'answers', 'derived', 'evidence')),
    target bytea not null check (octet_length(target) = 32),
    primary key (entry, rel, target)
);
create index record_ref_target on record_ref (target);

create table disclosure (
    entry bytea not null references record (entry),
    position smallint not null,
    digest bytea not null check (octet_length(digest) = 32),
    visibility text not null check (visibility in ('public', 'private', 'personal')),
    person_id uuid references person,  -- under whose data key `sealed` is; null: under the ledger's own
    sealed bytea not null,
    primary key (entry, position),
    check ((visibility = 'personal') = (person_id is not null))
);
