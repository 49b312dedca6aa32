//! What in the database is no evidence, and why. Whatever is not in these lists is: a new table or column cannot be forgotten.

/// Tables that no signed bytes stand behind.
pub const NO_TABLES: &[(&str, &str)] = &[
    ("__diesel_schema_migrations", "which migrations ran"),
    ("account", "who may sign in"),
    ("session", "who is signed in"),
    ("api_token", "who may call"),
    ("regulator_look", "who looked at what: about the regulator, not about goods"),
    ("person", "data keys, sealed: a changed one opens nothing, and the disclosures' digests stay"),
    ("personal", "a person's own data, sealed: erasable"),
    ("root_key", "sealed: a changed one does not open"),
    ("party", "names and roles; the identity that records are signed under is held against them"),
    ("place", "names; the identifiers that records name are held against them"),
    ("trade_item", "names of goods; a lot's product is held against them"),
    ("device", "how a device is read; whose packs it sent is held against the packs"),
    (
        "device_stay",
        "where a device stood, as its keeper says: the place that a summary names is in its record",
    ),
    ("provisioning", "one-time tokens; the key that comes of one is enrolled by a statement"),
    ("quota", "a permit as the authority wrote it: a document, not a statement of this ledger"),
    ("scan", "how often a code was looked at"),
    ("problem_report", "what readers wrote"),
    ("alert", "derived from readings, for those on duty"),
    ("alert_change", "what became of alerts, for those on duty"),
    ("alert_pending", "what may become an alert: derived from readings"),
    ("alert_due", "a queue of places to look at"),
    ("alert_target", "who is told of alerts"),
    ("alert_delivery", "who was told of alerts"),
    ("reading", "derived from packs, which are checked; droppable"),
    ("rollup", "sums of readings, for charts"),
    ("grid", "where the cables of a store hang, as its keeper says: points by number stand in the packs"),
    ("dead_letter", "what was refused"),
    ("strict_check", "a queue: a pack that leaves it without a leaf is named"),
    ("pending", "a queue: a record that leaves it without a leaf is named"),
    ("integrity_check", "what the server found when it checked a sample: its own word, nothing hangs on it"),
    ("code_void", "no record voids a code yet"),
];

/// Columns of the evidence that the signed bytes do not decide.
pub const NO_COLUMNS: &[(&str, &str, &str)] = &[
    ("log", "opens_at", "from when it takes records: its origin says the year"),
    ("log", "sealed_at", "likewise; that it is there is checked"),
    ("checkpoint", "signed_at", "likewise; the newest one is held against the head"),
    ("cosignature", "at", "arrival: the witness's own time is in its line"),
    ("anchor", "id", "a number of the row"),
    ("anchor", "chain", "the operator's own name for the chain: its id and contract are checked"),
    ("anchor", "state", "what the chain answered: the mirror and `verify --rpc` ask the chain itself"),
    ("anchor", "gas_used", "likewise"),
    ("anchor", "from_block", "where the server begins to look for it"),
    ("anchor", "priced_at", "when the server set its price, which is checked"),
    ("anchor", "block_number", "likewise"),
    ("anchor", "block_hash", "likewise"),
    ("anchor", "reason", "likewise"),
    ("anchor", "created_at", "likewise"),
    ("anchor", "sent_at", "likewise"),
    ("anchor", "anchored_at", "likewise"),
    ("anchor", "final_at", "likewise"),
    (
        "record",
        "accepted_at",
        "arrival: the checkpoints around the entry bound it; moving it by minutes is named by what follows",
    ),
    (
        "record",
        "event_hash",
        "keyed with a secret that the auditor has not, so that private content cannot be guessed",
    ),
    ("disclosure", "sealed", "sealed under keys that the auditor has not: a changed one does not open"),
    ("disclosure", "person_id", "whose key opens it: with another it does not open"),
    ("movement", "id", "a number of the row"),
    ("holding", "pledged", "a lock of today; that it is no more than what is held is checked"),
    ("lot", "created_at", "when the row was made: held against the record to the minute"),
    ("consignment", "id", "a number of the row: its lines are held against it"),
    ("consignment", "number", "the shipper's own number: the record conceals it"),
    (
        "consignment",
        "to_place",
        "where the shipper expects it: concealed; that it is the receiver's is checked",
    ),
    ("code_run", "id", "a number of the row"),
    ("code_run", "key_hash", "of a secret key; that the runs of one key agree is checked"),
    ("pack", "received_at", "arrival: never inside signed bytes"),
    ("pack", "committed_at", "likewise"),
    ("key", "account_id", "who may sign in and use it: the statement names the party and the key"),
    ("key", "sealed", "the platform's own secret: a changed one does not open"),
];

/// Columns that nothing in a season fills: said loudly where they are met.
pub const NEVER_FILLED: &[(&str, &str)] = &[("lot", "closed_at")];

/// Tables whose rows may be lost without anything being told otherwise.
pub const MAY_VANISH: &[(&str, &str)] = &[
    ("cosignature", "what a witness signed stands with the witness"),
    ("anchor", "what was sent stands on the chain"),
    ("disclosure", "a record is proved without them: they can be lost, or destroyed with a person's key"),
];
