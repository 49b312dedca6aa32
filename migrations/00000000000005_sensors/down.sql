drop table alert;
drop table dead_letter;
drop table rollup;
drop function reading_drop_before;
drop function reading_day_create;
drop table reading;
drop table strict_check;
drop table pack;
