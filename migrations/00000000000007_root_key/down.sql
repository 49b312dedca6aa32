drop table root_key;
