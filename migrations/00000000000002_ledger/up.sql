-- The transparency log. Everything but `head`, `pending` and `anchor` is append-only for the application (see roles).

create table log (
    id smallint generated always as identity primary key,
    ledger text not null,
    origin text not null unique,
    vkey text not null,
    -- announced: a new-log statement in the open log names it; it takes nothing yet. sealed: it takes nothing more.
    state text not null check (state in ('announced', 'open', 'sealed')),
    opens_at timestamptz not null,
    sealed_at timestamptz,
    check ((state = 'sealed') = (sealed_at is not null))
);
-- One log takes leaves, and at most one waits to follow it.
create unique index log_current on log (state) where state <> 'sealed';

-- Leaves that wait for the sequencer. Taken by DELETE … RETURNING under the leader's lock, never by a high-water mark:
-- rows that commit late would be skipped.
create table pending (
    id bigint generated always as identity primary key,
    entry bytea not null check (octet_length(entry) = 32),
    queued_at timestamptz not null default now()
);
-- What was taken is swept soon and without pauses: the next batch is looked for behind it.
alter table pending set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

-- `log_id` is checked by the checkpoint of the same transaction: a foreign key here took a quarter of the sequencer's time.
create table entry (
    log_id smallint not null,
    index bigint not null check (index >= 0),
    hash bytea not null check (octet_length(hash) = 32),
    primary key (log_id, index)
);
create unique index entry_hash on entry (hash);

-- Full tiles only (256 hashes); a partial tile is cut on request.
create table tile (
    log_id smallint not null references log,
    level smallint not null check (level between 0 and 63),
    index bigint not null check (index >= 0),
    data bytea not null check (octet_length(data) = 8192),
    primary key (log_id, level, index)
);
-- Hashes cannot be compressed: nobody shall try.
alter table tile alter data set storage external;

create table checkpoint (
    log_id smallint not null references log,
    size bigint not null check (size >= 0),
    root bytea not null check (octet_length(root) = 32),
    note text not null,                -- signed note with the log's own signature line
    signed_at timestamptz not null,
    primary key (log_id, size)
);

-- The newest signed head: the one row of the log that changes, by compare-and-swap.
create table head (
    log_id smallint primary key references log,
    size bigint not null,
    root bytea not null,
    signed_at timestamptz not null
);

create table cosignature (
    log_id smallint not null,
    size bigint not null,
    witness text not null,             -- key name of the witness
    line text not null,                -- signature line as received
    at timestamptz not null,
    primary key (log_id, size, witness),
    foreign key (log_id, size) references checkpoint
);

-- The outbox of the chains: a row stands here before a transaction is sent.
create table anchor (
    id bigint generated always as identity primary key,
    chain text not null,               -- name in the configuration
    chain_id bigint not null,
    contract text not null,
    log_id smallint not null references log,
    size bigint not null,
    root bytea not null,
    state text not null default 'pending' check (state in ('pending', 'anchored', 'final', 'failed')),
    nonce bigint not null,
    raw bytea not null,                -- the signed transaction, so that sending again is the same transaction
    tx_hash bytea not null,
    gas_price bigint not null,         -- wei
    priced_at timestamptz not null,    -- since when nothing but this price stood in its way
    from_block bigint not null,        -- no block before it can hold the transaction
    gas_used bigint,                   -- also of one that was reverted
    block_number bigint,
    block_hash bytea,
    reason text,
    created_at timestamptz not null default now(),
    sent_at timestamptz,
    anchored_at timestamptz,
    final_at timestamptz
);
-- What failed stays with its reason and its cost beside the next try.
create unique index on anchor (chain_id, contract, log_id, size) where state <> 'failed';
create index anchor_open on anchor (chain_id, contract) where state in ('pending', 'anchored');
create index anchor_standing on anchor (log_id, size) where state in ('anchored', 'final');

-- What the server's own sampled checks of the ledger found, so that several servers show the same. Its own word: no evidence.
create table integrity_check (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    entries bigint not null,           -- looked at
    logged bigint not null,            -- of so many
    misfits bigint not null,           -- counted to a hundred
    first_at text,
    first_what text,
    check ((misfits = 0) = (first_at is null) and (first_at is null) = (first_what is null))
);
