PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, town INTEGER, note BLOB);
CREATE TABLE town (id INTEGER PRIMARY KEY, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
INSERT INTO town SELECT i, printf('town %d', i * 7919 % 501) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
INSERT INTO person SELECT i, printf('name %d', i * 31 % 10007), i * 13 % 500 + 1, zeroblob(i % 200) FROM n;
CREATE INDEX person_name ON person (name, town);
CREATE INDEX person_town ON person (town);
SELECT town.name, count(*), sum(length(note)) FROM person JOIN town ON town.id = person.town
GROUP BY town.name ORDER BY 2 DESC, 1 LIMIT 5;
SELECT count(*) FROM person a JOIN person b ON a.name = b.name AND a.id < b.id;
SELECT length(group_concat(name, ',')) FROM person WHERE town < 100;
UPDATE person SET note = name || hex(note) WHERE id % 3 = 0;
DELETE FROM person WHERE id % 7 = 0;
SELECT sum(length(note)), max(note) FROM person;
SELECT json_group_array(json_object('town', name)) FROM (SELECT name FROM town ORDER BY id LIMIT 20);
VACUUM;
PRAGMA integrity_check;
