drop table alert;
drop table dead_letter;
drop table reading;
drop table strict_check;
drop table pack;
