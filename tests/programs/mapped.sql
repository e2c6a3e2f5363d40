-- A script for sqlite3's shell, on a database that it maps.
pragma mmap_size=67108864;
pragma page_size=4096;
create table words(id integer primary key, word text, weight real);
with recursive n(i) as (select 1 union all select i+1 from n where i<5000)
insert into words(word, weight) select printf('word-%05d-%s', i*7919%5000, hex(zeroblob(40))), i/3.0 from n;
create index by_word on words(word);
update words set weight = weight + 1 where id % 3 = 0;
delete from words where id % 11 = 0;
begin; insert into words(word) select word || '+' from words; rollback;
vacuum;
select count(*), sum(id), round(sum(weight), 2) from words;
select word like 'word-00%' as low, count(*) from words group by low;
pragma integrity_check;
