-- The key that seals everything at rest, itself sealed under the key-encryption key, which is never in the database.
-- Replacing the key-encryption key changes this one row.
create table root_key (
    single boolean primary key default true check (single),
    sealed bytea not null,
    sealed_at timestamptz not null
);
