-- app: the server. auditor: fsck. Neither owns anything. Roles belong to the cluster: they may be there already.
do $$
declare wanted text;
begin
    foreach wanted in array array['app', 'auditor'] loop
        begin
            execute format('create role %I login', wanted);
        exception when duplicate_object or unique_violation then null;
        end;
    end loop;
end $$;

grant usage on schema public to app, auditor;
grant select on all tables in schema public to app, auditor;
grant insert on all tables in schema public to app;

-- Evidence (record, record_ref, disclosure, entry, tile, checkpoint, cosignature, movement, edge, share, pack …) is not
-- in this list: it can be added to, never changed or taken away.
grant update (state, sealed_at) on log to app;
grant update on head, anchor, lot, holding, consignment, consignment_line, aggregation, quota, scan, device, provisioning, key,
    account, session, api_token, alert, person, strict_check, problem_report to app;
grant update on rollup, alert_due, alert_pending, alert_target, alert_delivery to app;
grant update (replay_wanted_at, replayed_at, outcome) on dead_letter to app;
grant delete on pending, strict_check, personal, alert_due, alert_pending to app;
revoke execute on function reading_day_create, reading_drop_before from public;
grant execute on function reading_day_create, reading_drop_before to app;

revoke all on account, session, api_token, provisioning, key, person, personal, root_key, alert_target from auditor;
-- The history of keys is checked; the secrets that the platform keeps are nobody's to read.
grant select (kid, party_id, device_id, role, custody, state, since, public, enrolled_by) on key to auditor;
revoke insert on __diesel_schema_migrations from app;
