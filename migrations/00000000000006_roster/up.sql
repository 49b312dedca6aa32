-- The lines under each roster root that was ever stated: what a key's line is proved from. Named by content, so that a
-- roster in which nothing changed costs nothing.
create table roster (
    root bytea primary key check (octet_length(root) = 32),
    lines text not null
);
