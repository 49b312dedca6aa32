drop table roster;
