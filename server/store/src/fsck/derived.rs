//! What follows from the records: lots, movements, holdings, edges, epochs, consignments, units, codes.
//!
//! That `record` and `record_lot` say what was signed is seen row by row against the bytes. Here every other table is held
//! against these two, set by set, by Postgres itself: none of the server's code takes part.

/// A query for (where, what) of what does not follow.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    pub name: &'static str,
    pub(super) sql: &'static str,
}

/// Every check; each is one pass over the tables that it compares.
pub static CHECKS: [Check; 20] = [
    Check {
        name: "records in a log",
        sql: "select r.jti::text, 'the record stands in no log and does not wait for one' from record r \
            where not exists (select from entry e where e.hash = r.entry) \
            and not exists (select from pending p where p.entry = r.entry)",
    },
    Check {
        name: "packs in a log",
        sql: "select encode(p.entry, 'hex'), 'the pack stands in no log, waits for none and was not refused' from pack p \
            where not exists (select from entry e where e.hash = p.entry) \
            and not exists (select from pending q where q.entry = p.entry) \
            and not exists (select from strict_check s where s.device_id = p.device_id and s.cti = p.cti) \
            and not exists (select from dead_letter l where l.sha256 = sha256(p.bytes))",
    },
    Check {
        name: "the queue",
        sql: "select 'queue ' || encode(q.entry, 'hex'), 'no signed bytes stand behind what waits' from pending q \
            where not exists (select from record r where r.entry = q.entry) \
            and not exists (select from pack p where p.entry = q.entry)",
    },
    Check {
        name: "rows of no log",
        sql: "select 'log ' || o.log_id, 'rows of a log that is not there: ' || o.kind from ( \
              select log_id, 'entry' as kind from entry group by 1 union select log_id, 'tile' from tile group by 1 \
              union select log_id, 'checkpoint' from checkpoint group by 1 union select log_id, 'head' from head) o \
            where not exists (select from log l where l.id = o.log_id) \
            union all \
            select 'log ' || c.log_id || ' checkpoint ' || c.size, 'a cosignature of a checkpoint that is not there' \
            from cosignature c \
            where not exists (select from checkpoint k where (k.log_id, k.size) = (c.log_id, c.size))",
    },
    Check {
        name: "anchors sent twice",
        sql: "select l.origin || ' anchor of ' || a.size || ' on chain ' || a.chain_id, 'it stands in the outbox twice' \
            from anchor a join log l on l.id = a.log_id where a.state <> 'failed' \
            group by l.origin, a.chain_id, a.contract, a.size having count(*) > 1",
    },
    Check {
        name: "rows of no record",
        sql: "select encode(o.entry, 'hex'), 'rows of a record that is not there: ' || o.kind from ( \
              select distinct d.entry, 'disclosure' as kind from disclosure d \
                where not exists (select from record r where r.entry = d.entry) \
              union all select distinct f.entry, 'record_ref' from record_ref f \
                where not exists (select from record r where r.entry = f.entry) \
              union all select distinct l.entry, 'record_lot' from record_lot l \
                where not exists (select from record r where r.entry = l.entry) \
              union all select distinct m.entry, 'movement' from movement m \
                where not exists (select from record r where r.entry = m.entry) \
              union all select distinct e.entry, 'edge' from edge e \
                where not exists (select from record r where r.entry = e.entry)) o",
    },
    // Only an import says no more of a lot than that it saw it: its own columns cannot tell what is missing.
    Check {
        name: "lots of imports",
        sql: "select r.jti::text, 'nothing is kept of what it says of ' || l.uri from record r \
            cross join lateral (values ('quantityList'), ('childQuantityList'), ('inputQuantityList'), \
              ('outputQuantityList')) as of (list) \
            cross join lateral jsonb_array_elements(coalesce(r.public -> 'event' -> of.list, '[]')) as named \
            join lot l on l.uri = named ->> 'epcClass' and l.created_at <= r.accepted_at \
            where r.kind = 'event' and r.profile like 'epcis/%' and not exists ( \
              select from record_lot o where o.entry = r.entry and o.lot_id = l.id)",
    },
    // What a record moved of a lot is what it says of it, once, in the direction that its kind of event has.
    Check {
        name: "movements",
        sql: "with moved as ( \
              select m.entry, m.lot_id, m.reason, sum(m.delta)::bigint as total, \
                sum(greatest(m.delta, 0))::bigint as up from movement m group by 1, 2, 3) \
            select coalesce(r.jti::text, 'lot ' || coalesce(m.lot_id, s.lot_id)), \
              'its movements are not what it says of ' || coalesce(l.uri, '?') \
            from moved m \
            full join (select * from record_lot where part <> 'observed') s \
              on s.entry = m.entry and s.lot_id = m.lot_id \
              and (m.total < 0 or s.part <> 'input') and (m.total >= 0 or s.part <> 'output') \
            left join record r on r.entry = coalesce(m.entry, s.entry) \
            left join lot l on l.id = coalesce(m.lot_id, s.lot_id) \
            left join consignment sent on sent.shipped_by = m.entry \
            left join consignment taken on taken.received_by = m.entry \
            left join consignment back on back.refused_by = m.entry \
            left join consignment_line line on line.consignment_id = back.id and line.lot_id = m.lot_id \
            where case m.reason \
              when 'create' then r.event_type <> 'TransformationEvent' and s.part = 'output' and m.total = s.quantity \
              when 'output' then r.event_type = 'TransformationEvent' and r.step <> 'epoch' and s.part = 'output' \
                and m.total = s.quantity \
              when 'input' then r.event_type = 'TransformationEvent' and r.step <> 'epoch' and s.part = 'input' \
                and m.total = -s.quantity \
              when 'epoch' then r.step = 'epoch' \
                and m.total = case s.part when 'output' then s.quantity when 'input' then -s.quantity end \
              when 'store' then s.part = 'moved' and m.total = 0 and m.up = s.quantity \
                and (sent.id, taken.id) is null \
              when 'ship' then s.part = 'moved' and m.total = -s.quantity and sent.id is not null \
              when 'receive' then s.part = 'moved' and m.total = s.quantity and taken.id is not null \
              when 'loss' then s.part = 'moved' and m.total = -s.quantity and (sent.id, taken.id) is null \
              when 'rejected' then s.part is null and m.total = line.quantity \
              else false end is not true",
    },
    // Whose the movement is, and where: the author's own places, but for what came back and what an epoch mixes.
    Check {
        name: "places of movements",
        sql: "select r.jti::text, 'a movement at ' || coalesce(p.uri, '?') || ' of another than its author' \
            from movement m join record r on r.entry = m.entry left join place p on p.id = m.place_id \
            left join consignment back on m.reason = 'rejected' and back.refused_by = m.entry \
            where case m.reason \
              when 'rejected' then m.party_id = back.shipper_id and m.place_id = back.from_place \
              when 'epoch' then m.party_id = p.party_id and m.place_id = r.place_id \
              when 'create' then m.party_id = r.party_id and m.place_id = r.place_id \
              when 'output' then m.party_id = r.party_id and m.place_id = r.place_id \
              when 'receive' then m.party_id = r.party_id and m.place_id = r.place_id \
              else m.party_id = r.party_id and m.party_id = p.party_id end is not true",
    },
    Check {
        name: "holdings",
        sql: "with moved as (select lot_id, party_id, place_id, sum(delta)::bigint as total from movement group by 1, 2, 3) \
            select coalesce(l.uri, 'lot ' || lot_id), \
              coalesce(y.iss, '?') || ' at ' || coalesce(p.uri, '?') || ' holds ' || coalesce(h.quantity::text, 'nothing') \
              || ', but its movements add up to ' || coalesce(m.total, 0) \
            from holding h full join moved m using (lot_id, party_id, place_id) \
            left join lot l on l.id = lot_id left join party y on y.id = party_id left join place p on p.id = place_id \
            where h.quantity is distinct from m.total or h.quantity < 0 or h.pledged not between 0 and h.quantity",
    },
    // Within a record every input flows into every output.
    Check {
        name: "edges",
        sql: "with said as ( \
              select i.entry, i.lot_id as parent_id, o.lot_id as child_id, i.quantity as parent_quantity, \
                o.quantity as child_quantity, case r.step when 'epoch' then 'epoch' else 'transform' end as kind \
              from record_lot i join record_lot o on o.entry = i.entry and o.part = 'output' \
              join record r on r.entry = i.entry where i.part = 'input') \
            select coalesce((select r.jti::text from record r where r.entry = coalesce(s.entry, e.entry)), \
                'lot ' || coalesce(s.child_id, e.child_id)), \
              'its edges are not what it says of inputs and outputs' \
            from said s full join edge e on (e.entry, e.parent_id, e.child_id, e.parent_quantity, e.child_quantity, e.kind) \
              = (s.entry, s.parent_id, s.child_id, s.parent_quantity, s.child_quantity, s.kind) \
            where s.entry is null or e.entry is null",
    },
    Check {
        name: "lots",
        sql: "select coalesce(r.jti::text || ' ', '') || l.uri, 'the lot is not what the record that made it says' \
            from lot l left join record r on r.entry = l.entry \
            left join record_lot o on o.entry = l.entry and o.lot_id = l.id and o.part = 'output' \
            left join place p on p.id = l.made_at_place \
            left join trade_item t on t.gtin = l.gtin \
            where (l.uri = 'https://id.gs1.org/01/' || l.gtin || '/10/' || l.number and o.entry is not null \
              and r.event_time = l.made_time and split_part(r.profile, '/', 1) = l.profile \
              and r.place_id = l.made_at_place \
              and l.made_by = case when r.step = 'epoch' then p.party_id else r.party_id end \
              and l.product = t.product \
              and l.epoch is not distinct from \
                case when r.step = 'epoch' then (r.public -> 'event' ->> 'gx:epoch')::integer end \
              and l.created_at between r.accepted_at - interval '1 minute' and r.accepted_at + interval '1 minute' \
              ) is not true",
    },
    Check {
        name: "lots of records",
        sql: "select r.jti::text, 'it made ' || coalesce(l.uri, 'a lot') || ', which another record claims' \
            from record_lot o join record r on r.entry = o.entry left join lot l on l.id = o.lot_id \
            where o.part = 'output' and l.entry is distinct from o.entry",
    },
    Check {
        name: "closed epochs",
        sql: "with closed as ( \
              select e.parent_id, min(r.accepted_at) as at from edge e join record r on r.entry = e.entry \
              where e.kind = 'epoch' group by 1) \
            select l.uri, 'the epoch is closed, or open, against the record that follows it' \
            from lot l left join closed c on c.parent_id = l.id \
            where l.closed_at is distinct from case when l.epoch is not null then c.at end",
    },
    Check {
        name: "late epochs",
        sql: "select r.jti::text, 'late, or not, against the epochs that it follows' from record r \
            where r.late is distinct from (coalesce(r.step, '') = 'epoch' and exists ( \
              select from record_lot i join lot l on l.id = i.lot_id where i.entry = r.entry and i.part = 'input' \
              and l.epoch is not null and l.made_time > r.event_time))",
    },
    // A recall reaches the lot that it names and everything made of it.
    Check {
        name: "recalls",
        sql: "select l.uri, 'recalled by a record that does not speak of it' from lot l \
            where l.recalled_by is not null and not exists (select from record_lot o \
              where o.entry = l.recalled_by and o.lot_id = l.id and o.part = 'observed') \
            union all \
            select c.uri, 'made of a recalled lot, and not recalled' from lot l \
            join edge e on e.parent_id = l.id join lot c on c.id = e.child_id \
            join record r on r.entry = l.recalled_by \
            where c.recalled_by is null and c.created_at < r.accepted_at",
    },
    // An epoch's shares name the arrivals of its inputs, and add up to its quantity.
    Check {
        name: "shares",
        sql: "with epochs as ( \
              select l.id, l.uri, o.quantity from lot l join record_lot o on o.lot_id = l.id and o.part = 'output' \
                and o.entry = l.entry where l.epoch is not null), \
            inputs as ( \
              select e.child_id, e.parent_id, e.parent_quantity, p.epoch is not null as is_epoch \
              from edge e join lot p on p.id = e.parent_id where e.kind = 'epoch'), \
            arrivals as ( \
              select child_id as lot_id, parent_id as arrival_id, parent_quantity as least from inputs where not is_epoch \
              union all \
              select i.child_id, s.arrival_id, 0 from inputs i join share s on s.lot_id = i.parent_id where i.is_epoch) \
            select epochs.uri, 'the shares of the epoch do not add up to it' from epochs \
            left join (select lot_id, sum(quantity) as total from share group by 1) s on s.lot_id = epochs.id \
            where s.total is distinct from epochs.quantity \
            union all \
            select coalesce(l.uri, 'lot ' || s.lot_id), 'a share of what did not go into it, or of more or less' \
            from share s left join lot l on l.id = s.lot_id \
            left join (select lot_id, arrival_id, sum(least) as least, \
                bool_or(least = 0) as is_old from arrivals group by 1, 2) a \
              on (a.lot_id, a.arrival_id) = (s.lot_id, s.arrival_id) \
            where a.lot_id is null or s.quantity < a.least or (not a.is_old and s.quantity <> a.least)",
    },
    Check {
        name: "consignments",
        sql: "select coalesce(s.jti::text, 'consignment ' || c.id), 'the consignment is not what was shipped, received or refused' \
            from consignment c left join record s on s.entry = c.shipped_by \
            left join record t on t.entry = coalesce(c.received_by, c.refused_by) \
            left join place f on f.id = c.from_place left join place p on p.id = c.to_place \
            where (s.party_id = c.shipper_id and s.place_id = c.from_place and s.event_time = c.shipped_time \
              and f.party_id = c.shipper_id \
              and (c.received_by is null or c.refused_by is null) \
              and (t.entry is null) = (coalesce(c.received_by, c.refused_by) is null) \
              and (t.entry is null or t.party_id = c.receiver_id and exists (select from record_ref a \
                where a.entry = t.entry and a.rel = 'answers' and a.target = c.shipped_by)) \
              and (p.id is null) = (c.to_place is null) and (p.id is null or p.party_id = c.receiver_id) \
              ) is not true \
            union all \
            select r.jti::text, 'it answers a shipping that no consignment has, or has otherwise' \
            from record_ref a join record r on r.entry = a.entry where a.rel = 'answers' \
            and not exists (select from consignment c where c.shipped_by = a.target \
              and a.entry in (c.received_by, c.refused_by))",
    },
    Check {
        name: "consignment lines",
        sql: "with sent as ( \
              select c.id, o.lot_id, o.quantity from consignment c join record_lot o on o.entry = c.shipped_by \
                and o.part = 'moved'), \
            taken as ( \
              select c.id, o.lot_id, o.quantity from consignment c join record_lot o on o.entry = c.received_by \
                and o.part = 'moved') \
            select coalesce((select r.jti::text from record r join consignment c on c.shipped_by = r.entry \
                where c.id = coalesce(l.consignment_id, s.id)), 'consignment ' || l.consignment_id), \
              'the lines of the consignment are not what was shipped and received' \
            from consignment_line l full join sent s on (s.id, s.lot_id) = (l.consignment_id, l.lot_id) \
            left join taken t on (t.id, t.lot_id) = (l.consignment_id, l.lot_id) \
            where l.quantity is distinct from s.quantity or l.received is distinct from t.quantity",
    },
    // Units and codes.
    Check {
        name: "units and codes",
        sql: "select coalesce(r.jti::text, a.parent_uri), 'what stands on the unit is not what was packed' \
            from aggregation a left join record r on r.entry = a.packed_by \
            left join record_lot o on o.entry = a.packed_by and o.lot_id = a.lot_id and o.part = 'observed' \
            left join record u on u.entry = a.unpacked_by \
            where (r.event_type = 'AggregationEvent' and r.public -> 'event' ->> 'parentID' = a.parent_uri \
              and r.public -> 'event' ->> 'action' = 'ADD' and o.quantity = a.quantity \
              and (a.unpacked_by is null or u.public -> 'event' ->> 'action' = 'DELETE' \
                and u.public -> 'event' ->> 'parentID' = a.parent_uri)) is not true \
            union all \
            select r.jti::text, 'it packed what stands on no unit' from record r \
            join record_lot o on o.entry = r.entry and o.part = 'observed' \
            where r.event_type = 'AggregationEvent' and r.step is not null and o.quantity is not null \
            and not exists (select from aggregation a where a.packed_by = r.entry and a.lot_id = o.lot_id) \
            union all \
            select coalesce(r.jti::text, 'code run ' || c.id), 'the codes are not those that it marked' \
            from (select *, coalesce(lag(upper(span)) over run, 0) as due, \
                first_value(key_hash) over run as first_hash from code_run \
                window run as (partition by gtin, key_epoch order by lower(span))) c \
            left join record r on r.entry = c.entry left join lot l on l.id = c.lot_id \
            left join record_lot o on o.entry = c.entry and o.lot_id = c.lot_id and o.part = 'observed' \
            where (l.gtin = c.gtin and o.entry is not null and lower(c.span) = c.due and c.key_hash = c.first_hash \
              and octet_length(c.key_hash) = 32 \
              and c.key_epoch = substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', \
                (extract(year from r.accepted_at at time zone 'UTC')::integer % 32) + 1, 1) \
              and (r.public #>> '{event,quantityList,0,quantity}')::numeric = upper(c.span) - lower(c.span)) is not true \
            union all \
            select r.jti::text, 'it marked pieces with codes that no run holds' from record r \
            where r.step is not null and r.public -> 'event' ->> 'bizStep' = 'commissioning' \
            and not exists (select from record_lot o where o.entry = r.entry and o.part = 'output') \
            and not exists (select from code_run c where c.entry = r.entry)",
    },
];
