//! The tables of `migrations/`, as diesel sees them. A test compares this file with a freshly migrated database.

diesel::table! {
    account (id) {
        id -> Uuid,
        party_id -> BigInt,
        person_id -> Nullable<Uuid>,
        login_hash -> Binary,
        password_hash -> Text,
        roles -> Array<Text>,
        locale -> Text,
        created_at -> Timestamptz,
        disabled_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    aggregation (parent_uri, lot_id, packed_by) {
        parent_uri -> Text,
        lot_id -> BigInt,
        quantity -> BigInt,
        packed_by -> Binary,
        unpacked_by -> Nullable<Binary>,
    }
}

diesel::table! {
    alert (id) {
        id -> BigInt,
        party_id -> BigInt,
        place_id -> BigInt,
        device_id -> Nullable<BigInt>,
        profile -> Text,
        rule -> Text,
        subject -> Text,
        metric -> Text,
        unit -> Text,
        threshold -> Double,
        source -> Text,
        value -> Double,
        raised_at -> Timestamptz,
        acknowledged_at -> Nullable<Timestamptz>,
        acknowledged_by -> Nullable<Uuid>,
        cleared_at -> Nullable<Timestamptz>,
        cleared_value -> Nullable<Double>,
        lots -> Array<BigInt>,
    }
}

diesel::table! {
    alert_change (id) {
        id -> BigInt,
        alert_id -> BigInt,
        party_id -> BigInt,
        what -> Text,
        at -> Timestamptz,
    }
}

diesel::table! {
    alert_delivery (id) {
        id -> Uuid,
        change_id -> BigInt,
        target_id -> BigInt,
        attempts -> Integer,
        next_at -> Timestamptz,
        delivered_at -> Nullable<Timestamptz>,
        failed_at -> Nullable<Timestamptz>,
        problem -> Nullable<Text>,
    }
}

diesel::table! {
    alert_due (id) {
        id -> BigInt,
        place_id -> BigInt,
    }
}

diesel::table! {
    alert_pending (id) {
        id -> BigInt,
        place_id -> BigInt,
        device_id -> Nullable<BigInt>,
        rule -> Text,
        since -> Timestamptz,
    }
}

diesel::table! {
    alert_target (id) {
        id -> BigInt,
        party_id -> BigInt,
        channel -> Text,
        address -> Text,
        language -> Text,
        ended_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    anchor (id) {
        id -> BigInt,
        chain -> Text,
        chain_id -> BigInt,
        contract -> Text,
        log_id -> SmallInt,
        size -> BigInt,
        root -> Binary,
        state -> Text,
        nonce -> BigInt,
        raw -> Binary,
        tx_hash -> Binary,
        gas_price -> BigInt,
        priced_at -> Timestamptz,
        from_block -> BigInt,
        gas_used -> Nullable<BigInt>,
        block_number -> Nullable<BigInt>,
        block_hash -> Nullable<Binary>,
        reason -> Nullable<Text>,
        created_at -> Timestamptz,
        sent_at -> Nullable<Timestamptz>,
        anchored_at -> Nullable<Timestamptz>,
        final_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    api_token (token_hash) {
        token_hash -> Binary,
        party_id -> BigInt,
        label -> Text,
        scopes -> Array<Text>,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        revoked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    checkpoint (log_id, size) {
        log_id -> SmallInt,
        size -> BigInt,
        root -> Binary,
        note -> Text,
        signed_at -> Timestamptz,
    }
}

diesel::table! {
    code_run (id) {
        id -> BigInt,
        gtin -> Text,
        key_epoch -> Text,
        span -> Range<BigInt>,
        lot_id -> BigInt,
        entry -> Binary,
        key_hash -> Binary,
    }
}

diesel::table! {
    code_void (id) {
        id -> BigInt,
        gtin -> Text,
        key_epoch -> Text,
        span -> Range<BigInt>,
        reason -> Text,
        entry -> Binary,
    }
}

diesel::table! {
    consignment (id) {
        id -> BigInt,
        number -> Text,
        shipper_id -> BigInt,
        receiver_id -> BigInt,
        from_place -> BigInt,
        to_place -> Nullable<BigInt>,
        shipped_by -> Binary,
        shipped_time -> Timestamptz,
        received_by -> Nullable<Binary>,
        refused_by -> Nullable<Binary>,
    }
}

diesel::table! {
    consignment_line (consignment_id, lot_id) {
        consignment_id -> BigInt,
        lot_id -> BigInt,
        quantity -> BigInt,
        received -> Nullable<BigInt>,
    }
}

diesel::table! {
    cosignature (log_id, size, witness) {
        log_id -> SmallInt,
        size -> BigInt,
        witness -> Text,
        line -> Text,
        at -> Timestamptz,
    }
}

diesel::table! {
    dead_letter (id) {
        id -> BigInt,
        party_id -> Nullable<BigInt>,
        topic -> Text,
        received_at -> Timestamptz,
        committed_at -> Timestamptz,
        reason -> Text,
        payload -> Nullable<Binary>,
        size -> Integer,
        sha256 -> Binary,
        replay_wanted_at -> Nullable<Timestamptz>,
        replayed_at -> Nullable<Timestamptz>,
        outcome -> Nullable<Text>,
    }
}

diesel::table! {
    device (id) {
        id -> BigInt,
        party_id -> BigInt,
        name -> Text,
        kind -> Text,
        profile -> Text,
        format -> Text,
        signing -> Text,
        repeats -> Text,
        token_hash -> Binary,
        broker_hash -> Nullable<Text>,
        place_id -> BigInt,
        position -> Nullable<Text>,
        placed_at -> Timestamptz,
        mapping -> Nullable<Jsonb>,
        created_at -> Timestamptz,
        lost_at -> Nullable<Timestamptz>,
        retired_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    device_stay (device_id, valid_from) {
        device_id -> BigInt,
        place_id -> BigInt,
        position -> Nullable<Text>,
        valid_from -> Timestamptz,
        valid_to -> Timestamptz,
        ended_by -> Nullable<Uuid>,
    }
}

diesel::table! {
    disclosure (entry, position) {
        entry -> Binary,
        position -> SmallInt,
        digest -> Binary,
        visibility -> Text,
        person_id -> Nullable<Uuid>,
        sealed -> Binary,
    }
}

diesel::table! {
    edge (child_id, parent_id, entry) {
        parent_id -> BigInt,
        child_id -> BigInt,
        entry -> Binary,
        kind -> Text,
        parent_quantity -> BigInt,
        child_quantity -> BigInt,
    }
}

diesel::table! {
    entry (log_id, index) {
        log_id -> SmallInt,
        index -> BigInt,
        hash -> Binary,
    }
}

diesel::table! {
    grid (place_id, valid_from) {
        place_id -> BigInt,
        valid_from -> Timestamptz,
        row_count -> SmallInt,
        column_count -> SmallInt,
        layer_count -> SmallInt,
        row_cm -> Integer,
        column_cm -> Integer,
        layer_cm -> Integer,
        declared_by -> Nullable<Uuid>,
        declared_at -> Timestamptz,
    }
}

diesel::table! {
    head (log_id) {
        log_id -> SmallInt,
        size -> BigInt,
        root -> Binary,
        signed_at -> Timestamptz,
    }
}

diesel::table! {
    holding (lot_id, party_id, place_id) {
        lot_id -> BigInt,
        party_id -> BigInt,
        place_id -> BigInt,
        quantity -> BigInt,
        pledged -> BigInt,
    }
}

diesel::table! {
    integrity_check (id) {
        id -> BigInt,
        at -> Timestamptz,
        entries -> BigInt,
        logged -> BigInt,
        misfits -> BigInt,
        first_at -> Nullable<Text>,
        first_what -> Nullable<Text>,
    }
}

diesel::table! {
    key (kid) {
        kid -> Binary,
        party_id -> BigInt,
        device_id -> Nullable<BigInt>,
        role -> Text,
        custody -> Text,
        state -> Text,
        since -> Timestamptz,
        public -> Binary,
        sealed -> Nullable<Binary>,
        enrolled_by -> Nullable<Binary>,
        account_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    log (id) {
        id -> SmallInt,
        ledger -> Text,
        origin -> Text,
        vkey -> Text,
        state -> Text,
        opens_at -> Timestamptz,
        sealed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    lot (id) {
        id -> BigInt,
        uri -> Text,
        gtin -> Text,
        number -> Text,
        profile -> Text,
        product -> Text,
        unit -> Text,
        made_by -> BigInt,
        made_at_place -> Nullable<BigInt>,
        made_time -> Timestamptz,
        entry -> Binary,
        epoch -> Nullable<Integer>,
        closed_at -> Nullable<Timestamptz>,
        recalled_by -> Nullable<Binary>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    movement (id) {
        id -> BigInt,
        entry -> Binary,
        lot_id -> BigInt,
        party_id -> BigInt,
        place_id -> BigInt,
        delta -> BigInt,
        reason -> Text,
    }
}

diesel::table! {
    pack (device_id, cti) {
        device_id -> BigInt,
        cti -> Binary,
        entry -> Binary,
        kid -> Binary,
        bytes -> Binary,
        readings -> Integer,
        first_at -> Timestamptz,
        last_at -> Timestamptz,
        mark -> Nullable<Text>,
        received_at -> Timestamptz,
        committed_at -> Timestamptz,
    }
}

diesel::table! {
    party (id) {
        id -> BigInt,
        slug -> Text,
        role -> Text,
        iss -> Text,
        name -> Nullable<Text>,
        county -> Nullable<Text>,
        company_prefix -> Nullable<Text>,
        person_id -> Nullable<Uuid>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    pending (id) {
        id -> BigInt,
        entry -> Binary,
        queued_at -> Timestamptz,
    }
}

diesel::table! {
    person (id) {
        id -> Uuid,
        data_key -> Nullable<Binary>,
        created_at -> Timestamptz,
        erased_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    personal (person_id, field) {
        person_id -> Uuid,
        field -> Text,
        sealed -> Binary,
    }
}

diesel::table! {
    place (id) {
        id -> BigInt,
        party_id -> BigInt,
        slug -> Text,
        kind -> Text,
        uri -> Text,
        name -> Nullable<Text>,
        county -> Nullable<Text>,
        parent_id -> Nullable<BigInt>,
        person_id -> Nullable<Uuid>,
        sealed -> Nullable<Binary>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    problem_report (id) {
        id -> Uuid,
        uri -> Text,
        party_id -> Nullable<BigInt>,
        text -> Text,
        at -> Timestamptz,
        answer -> Nullable<Text>,
        answered_at -> Nullable<Timestamptz>,
        answered_by -> Nullable<Uuid>,
        closed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    provisioning (token_hash) {
        token_hash -> Binary,
        device_id -> BigInt,
        created_by -> Nullable<Uuid>,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        redeemed_at -> Nullable<Timestamptz>,
        withdrawn_at -> Nullable<Timestamptz>,
        kid -> Nullable<Binary>,
    }
}

diesel::table! {
    quota (id) {
        id -> BigInt,
        party_id -> BigInt,
        place_id -> Nullable<BigInt>,
        profile -> Text,
        kind -> Text,
        number -> Text,
        uri -> Text,
        unit -> Text,
        allowed -> BigInt,
        used -> BigInt,
        valid_from -> Date,
        valid_until -> Date,
        details -> Jsonb,
    }
}

diesel::table! {
    reading (device_id, name, at) {
        device_id -> BigInt,
        at -> Timestamptz,
        name -> Text,
        unit -> Text,
        value -> Double,
        cti -> Binary,
    }
}

diesel::table! {
    record (jti) {
        jti -> Uuid,
        entry -> Binary,
        kind -> Text,
        party_id -> BigInt,
        iss -> Text,
        kid -> Binary,
        profile -> Text,
        step -> Nullable<Text>,
        grade -> Text,
        event_type -> Nullable<Text>,
        event_id -> Nullable<Text>,
        event_time -> Nullable<Timestamptz>,
        event_offset -> Nullable<Text>,
        event_hash -> Nullable<Binary>,
        place_id -> Nullable<BigInt>,
        late -> Bool,
        corrects -> Nullable<Binary>,
        iat -> Timestamptz,
        accepted_at -> Timestamptz,
        signed -> Text,
        public -> Jsonb,
    }
}

diesel::table! {
    record_lot (entry, lot_id, part) {
        entry -> Binary,
        lot_id -> BigInt,
        part -> Text,
        quantity -> Nullable<BigInt>,
    }
}

diesel::table! {
    record_ref (entry, rel, target) {
        entry -> Binary,
        rel -> Text,
        target -> Binary,
    }
}

diesel::table! {
    regulator_look (id) {
        id -> BigInt,
        at -> Timestamptz,
        by_party -> BigInt,
        account_id -> Nullable<Uuid>,
        party_id -> BigInt,
        subject -> Text,
    }
}

diesel::table! {
    rollup (device_id, span, start, name, unit) {
        device_id -> BigInt,
        name -> Text,
        unit -> Text,
        span -> SmallInt,
        start -> Timestamptz,
        min -> Double,
        max -> Double,
        sum -> Double,
        count -> BigInt,
        minutes -> Integer,
    }
}

diesel::table! {
    root_key (single) {
        single -> Bool,
        sealed -> Binary,
        sealed_at -> Timestamptz,
    }
}

diesel::table! {
    roster (root) {
        root -> Binary,
        lines -> Text,
    }
}

diesel::table! {
    scan (uri, month) {
        uri -> Text,
        month -> Date,
        times -> BigInt,
    }
}

diesel::table! {
    session (token_hash) {
        token_hash -> Binary,
        account_id -> Uuid,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    share (lot_id, arrival_id) {
        lot_id -> BigInt,
        arrival_id -> BigInt,
        quantity -> BigInt,
    }
}

diesel::table! {
    strict_check (id) {
        id -> BigInt,
        device_id -> BigInt,
        cti -> Binary,
        readings -> Integer,
    }
}

diesel::table! {
    tile (log_id, level, index) {
        log_id -> SmallInt,
        level -> SmallInt,
        index -> BigInt,
        data -> Binary,
    }
}

diesel::table! {
    trade_item (gtin) {
        gtin -> Text,
        party_id -> BigInt,
        profile -> Text,
        product -> Text,
        name -> Text,
        piece_amount -> Nullable<BigInt>,
        net_amount -> Nullable<BigInt>,
        net_unit -> Nullable<Text>,
        created_at -> Timestamptz,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    account,
    aggregation,
    alert,
    alert_change,
    alert_delivery,
    alert_due,
    alert_pending,
    alert_target,
    anchor,
    api_token,
    checkpoint,
    code_run,
    code_void,
    consignment,
    consignment_line,
    cosignature,
    dead_letter,
    device,
    device_stay,
    disclosure,
    edge,
    entry,
    grid,
    head,
    holding,
    integrity_check,
    key,
    log,
    lot,
    movement,
    pack,
    party,
    pending,
    person,
    personal,
    place,
    problem_report,
    provisioning,
    quota,
    reading,
    record,
    record_lot,
    record_ref,
    regulator_look,
    rollup,
    root_key,
    roster,
    scan,
    session,
    share,
    strict_check,
    tile,
    trade_item,
);

diesel::joinable!(holding -> lot (lot_id));
