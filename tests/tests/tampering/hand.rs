//! A superuser's hand: changes one thing, has the house checked, and puts it back.

use std::collections::BTreeMap;

use postgres::{Client, NoTls};
use serde_json::Value;
use server::service::fsck::{self, Ask};
use trace::b64;

use crate::evidence;

/// Rules that a superuser takes away first: what is left to find out a change is the check alone.
const NO_RULES: &str = "set session_replication_role = replica; \
    do $$ declare one record; begin \
      for one in select conrelid::regclass as of, conname as name from pg_constraint \
        where connamespace = 'public'::regnamespace and conparentid = 0 and contype in ('c', 'f', 'u', 'x') \
        order by contype loop \
        execute format('alter table %s drop constraint %I cascade', one.of, one.name); \
      end loop; \
      for one in select i.indexrelid::regclass as name from pg_index i join pg_class c on c.oid = i.indrelid \
        where c.relnamespace = 'public'::regnamespace and i.indisunique and not i.indisprimary loop \
        execute format('drop index %s', one.name); \
      end loop; \
      for one in select table_name as of, column_name as name from information_schema.columns \
        where table_schema = 'public' and is_identity = 'YES' loop \
        execute format('alter table %I alter %I drop identity', one.of, one.name); \
      end loop; end $$";

const COLUMNS: &str = "select c.table_name::text, c.column_name::text, c.data_type::text, \
    exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey) \
      where i.indisprimary and i.indrelid = c.table_name::regclass and a.attname = c.column_name) \
    from information_schema.columns c join information_schema.tables t using (table_schema, table_name) \
    where c.table_schema = 'public' and t.table_type = 'BASE TABLE' \
    and not exists (select from pg_inherits i where i.inhrelid = c.table_name::regclass) order by c.table_name, c.ordinal_position";

struct Column {
    name: String,
    kind: String,
    is_key: bool,
    is_evidence: bool,
}

pub struct Hand {
    client: Client,
    changes: usize,
    /// What nobody noticed.
    unseen: Vec<String>,
}

impl Hand {
    pub fn new(url: &str) -> Self {
        let mut client = Client::connect(url, NoTls).unwrap();
        client.batch_execute(NO_RULES).unwrap();
        Self { client, changes: 0, unseen: Vec::new() }
    }

    pub fn every_change_is_named(&mut self, ask: &Ask) {
        let tables = self.tables();
        for (table, columns) in &tables {
            self.client.batch_execute(&format!("create temp table kept as select * from {table}")).unwrap();
            // From here on each row comes back to where it stood.
            self.put_back(table);
            let rows = self.rows(table, "true");
            if rows.is_empty() {
                self.unseen.push(format!("{table}: the season leaves no row in it"));
            } else {
                for column in columns.iter().filter(|column| column.is_evidence) {
                    self.bytes_of(ask, table, column);
                }
                self.a_row_less(ask, table, &rows);
                self.a_row_more(ask, table, columns, &rows);
                self.two_rows_swapped(ask, table, columns, &rows);
            }
            self.client.batch_execute("drop table kept").unwrap();
        }
        println!("{} changes to {} tables", self.changes, tables.len());
        assert_eq!(self.unseen, Vec::<String>::new(), "not named, or not tried");
        assert!(self.changes > 350, "{} changes are too few to be all of them", self.changes);
    }

    /// Every table that is evidence, with all its columns.
    fn tables(&mut self) -> BTreeMap<String, Vec<Column>> {
        let mut tables: BTreeMap<String, Vec<Column>> = BTreeMap::new();
        for row in self.client.query(COLUMNS, &[]).unwrap() {
            let (table, name): (String, String) = (row.get(0), row.get(1));
            if evidence::NO_TABLES.iter().any(|(none, _)| *none == table) {
                continue;
            }
            let is_evidence = !evidence::NO_COLUMNS.iter().any(|(of, no, _)| *of == table && *no == name);
            let column = Column { name, kind: row.get(2), is_key: row.get(3), is_evidence };
            tables.entry(table).or_default().push(column);
        }
        tables
    }

    fn put_back(&mut self, table: &str) {
        let back = format!("truncate {table}; insert into {table} select * from kept");
        self.client.batch_execute(&back).unwrap();
    }

    fn rows(&mut self, table: &str, of: &str) -> Vec<String> {
        let rows = format!("select t.ctid::text from {table} t where {of} order by t.ctid");
        self.client.query(&rows, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// The first, the middle and the last byte, in the first and in the last row that has a value.
    fn bytes_of(&mut self, ask: &Ask, table: &str, Column { name, kind, .. }: &Column) {
        let is_long = matches!(kind.as_str(), "bytea" | "text");
        let filled = if is_long { format!("length({name}) > 0") } else { format!("{name} is not null") };
        let rows = self.rows(table, &filled);
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            if evidence::NEVER_FILLED.contains(&(table, name)) {
                println!("NOT TRIED: {table}.{name} has no value in the season");
            } else {
                self.unseen.push(format!("{table}.{name}: no row has a value"));
            }
            return;
        };
        let all = changes(name, kind);
        let of_last = if first == last { &[][..] } else { all.last().map(std::slice::from_ref).unwrap() };
        for (row, changes) in [(first, &all[..]), (last, of_last)] {
            for (what, change) in changes {
                let names = self.names(table, row);
                let update = format!("update {table} set {name} = {change} where ctid = '{row}'");
                if self.does(&update) {
                    self.is_named(ask, table, &format!("{table}.{name} {what} in row {row}"), &names);
                }
            }
        }
    }

    fn a_row_less(&mut self, ask: &Ask, table: &str, rows: &[String]) {
        if evidence::MAY_VANISH.iter().any(|(may, _)| *may == table) {
            return;
        }
        let row = rows.last().unwrap();
        let names = self.names(table, row);
        assert!(self.does(&format!("delete from {table} where ctid = '{row}'")));
        self.is_named(ask, table, &format!("{table} without row {row}"), &names);
    }

    /// As a row that is there, under another key.
    fn a_row_more(&mut self, ask: &Ask, table: &str, columns: &[Column], rows: &[String]) {
        let row = rows.last().unwrap();
        let key = columns.iter().rfind(|column| column.is_key).unwrap();
        let all: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let with: Vec<String> = columns
            .iter()
            .map(|column| match column.kind.as_str() {
                "bigint" if column.name == key.name => format!("{} + 1000", column.name),
                _ if column.name == key.name => changes(&column.name, &column.kind).pop().unwrap().1,
                _ => column.name.clone(),
            })
            .collect();
        let names = self.names(table, row);
        let insert = format!(
            "insert into {table} ({}) select {} from {table} where ctid = '{row}'",
            all.join(", "),
            with.join(", ")
        );
        assert!(self.does(&insert), "{insert}");
        self.is_named(ask, table, &format!("{table} with a forged copy of row {row}"), &names);
    }

    /// Each gets what stood in the other, but for its key.
    fn two_rows_swapped(&mut self, ask: &Ask, table: &str, columns: &[Column], rows: &[String]) {
        let rest: Vec<&str> =
            columns.iter().filter(|column| !column.is_key).map(|column| column.name.as_str()).collect();
        let has_key = columns.iter().any(|column| column.is_key && column.is_evidence);
        let (Some(a), Some(b)) = (rows.first(), rows.last()) else { return };
        if rest.is_empty() || !has_key || a == b {
            return;
        }
        let set: Vec<String> = rest
            .iter()
            .map(|name| format!("{name} = case when here.ctid = '{a}' then b.{name} else a.{name} end"))
            .collect();
        let mut names = self.names(table, a);
        names.extend(self.names(table, b));
        let swap = format!(
            "update {table} here set {} from (select * from {table} where ctid = '{a}') a, \
             (select * from {table} where ctid = '{b}') b where here.ctid in ('{a}', '{b}')",
            set.join(", ")
        );
        assert!(self.does(&swap), "{swap}");
        self.is_named(ask, table, &format!("{table} rows {a} and {b} swapped"), &names);
    }

    /// `false` where the value cannot be: a key twice, or no JSON.
    fn does(&mut self, change: &str) -> bool {
        match self.client.batch_execute(change) {
            Ok(()) => true,
            Err(error) => {
                let code = error.code().map(|state| state.code().to_owned());
                let cannot_be =
                    matches!(code.as_deref(), Some("23505" | "22P02" | "22003" | "22021" | "22000"));
                assert!(cannot_be, "{change}: {error:?}");
                false
            }
        }
    }

    /// `names` are what the row was called before.
    fn is_named(&mut self, ask: &Ask, table: &str, what: &str, names: &[String]) {
        let changed = self.ask(&format!(
            "select t.ctid::text from {table} t where md5(t::text) not in (select md5(k::text) from kept k)"
        ));
        let count = format!("select (select count(*) from {table}) = (select count(*) from kept)");
        let same_count: bool = self.client.query_one(&count, &[]).unwrap().get(0);
        if changed.is_empty() && same_count {
            // Rows that were alike were swapped: nothing was changed.
            return;
        }
        self.changes += 1;
        let mut names = names.to_vec();
        for row in changed {
            names.extend(self.names(table, &row));
        }
        let found = fsck::check(ask, |_| {}).unwrap().misfits;
        let is_named = found.iter().any(|misfit| {
            names.iter().any(|name| misfit.at.contains(name.as_str()) || misfit.what.contains(name.as_str()))
        });
        if !is_named {
            let shown: Vec<String> =
                found.iter().take(2).map(|misfit| format!("{}: {}", misfit.at, misfit.what)).collect();
            self.unseen.push(format!("{what}: {shown:?}, not {names:?}"));
        }
        self.put_back(table);
    }

    /// How the records, heads, keys and lots of a row are called.
    fn names(&mut self, table: &str, row: &str) -> Vec<String> {
        let json = format!("select to_jsonb(t)::text from {table} t where ctid = '{row}'");
        let json: String = self.client.query_one(&json, &[]).unwrap().get(0);
        let row: Value = serde_json::from_str(&json).unwrap();
        let mut names = Vec::new();
        for (column, value) in row.as_object().unwrap() {
            match (column.as_str(), value) {
                ("lot_id" | "parent_id" | "child_id" | "arrival_id", Value::Number(id)) => {
                    names.extend(self.ask(&format!("select uri from lot where id = {id}")));
                }
                ("consignment_id", Value::Number(id)) => names.extend(self.ask(&format!(
                    "select jti::text from record join consignment on shipped_by = entry where id = {id}"
                ))),
                ("jti" | "uri" | "parent_uri" | "origin", Value::String(name)) => names.push(name.clone()),
                (_, Value::String(hex)) if hex.starts_with("\\x") && hex.len() == 66 => {
                    names.extend([b64::url(&bytes(hex)), hex["\\x".len()..].to_owned()]);
                    names.extend(self.ask(&format!("select jti::text from record where entry = '{hex}'")));
                    names.extend(self.ask(&format!(
                        "select origin || ' ' || index from entry e join log l on l.id = e.log_id where hash = '{hex}'"
                    )));
                }
                _ => {}
            }
        }
        let origin = self.ask("select origin from log order by id").remove(0);
        let of_log = format!("log {}", row["log_id"]);
        names.extend(match table {
            "entry" => vec![format!("{origin} {}", row["index"]), "the head says".to_owned()],
            "checkpoint" | "cosignature" => vec![format!("checkpoint {}", row["size"]), of_log, origin],
            "anchor" => vec![format!("anchor of {}", row["size"])],
            "log" => vec![origin, format!("log {}", row["id"])],
            "tile" | "head" => vec![origin, of_log],
            _ => Vec::new(),
        });
        names
    }

    fn ask(&mut self, query: &str) -> Vec<String> {
        self.client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    }
}

/// (what, SQL): another value that differs in one byte or character.
fn changes(name: &str, kind: &str) -> Vec<(&'static str, String)> {
    let at_ends = |what: fn(&str, &str) -> String| {
        let length = format!("length({name})");
        let at = [
            ("at its start", "1".to_owned()),
            ("in its middle", format!("({length} + 1) / 2")),
            ("at its end", length),
        ];
        at.into_iter().map(|(end, at)| (end, what(name, &at))).collect()
    };
    match kind {
        "bytea" => at_ends(|name, at| format!("set_byte({name}, {at} - 1, get_byte({name}, {at} - 1) # 1)")),
        "text" => at_ends(|name, at| {
            format!(
                "overlay({name} placing case substr({name}, {at}, 1) when '2' then '3' else '2' end from {at})"
            )
        }),
        "uuid" => vec![(
            "at its end",
            format!(
                "overlay({name}::text placing case right({name}::text, 1) when '2' then '3' else '2' end from 36)::uuid"
            ),
        )],
        "smallint" => vec![
            ("by one bit", format!("({name} # 1::smallint)")),
            ("by a byte", format!("({name} + 256)::smallint")),
        ],
        "integer" | "bigint" => {
            vec![("by one bit", format!("({name} # 1)")), ("by a byte", format!("({name} + 256)"))]
        }
        "boolean" => vec![("turned", format!("not {name}"))],
        "timestamp with time zone" => vec![
            ("by a microsecond", format!("{name} + interval '1 microsecond'")),
            ("by its third byte", format!("{name} + interval '65536 microseconds'")),
        ],
        "jsonb" => vec![
            ("in a name", format!(r#"replace({name}::text, '"aud":', '"aue":')::jsonb"#)),
            (
                "in a number",
                format!("jsonb_set({name}, '{{iat}}', to_jsonb(({name} ->> 'iat')::bigint + 1))"),
            ),
            (
                "in a text",
                format!(
                    "jsonb_set({name}, '{{profile}}', to_jsonb(overlay({name} ->> 'profile' placing '_' from 1)))"
                ),
            ),
        ],
        "int8range" => vec![
            ("in its lower bound", format!("int8range(lower({name}) + 1, upper({name}))")),
            ("in its upper bound", format!("int8range(lower({name}), upper({name}) + 1)")),
        ],
        other => panic!("{name}: nobody has said how to change a {other}"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = &hex.as_bytes()[2..];
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
