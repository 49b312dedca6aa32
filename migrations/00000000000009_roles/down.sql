-- The roles belong to the cluster and may serve other databases: only what they may do here is taken back.
revoke all on all tables in schema public from app, auditor;
revoke usage on schema public from app, auditor;
