drop table disclosure;
drop table record_ref;
drop table record;
