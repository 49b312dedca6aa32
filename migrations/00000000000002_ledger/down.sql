drop table anchor;
drop table cosignature;
drop table head;
drop table checkpoint;
drop table tile;
drop table entry;
drop table pending;
drop table log;
