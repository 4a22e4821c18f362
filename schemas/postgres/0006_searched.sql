-- Texts are indexed for whoever searches, when they search: what is there for all goes, and comes back with their searches.
-- Both tables go as files, however long they are.
DROP TABLE unindexed;
TRUNCATE words;

-- What is put into the index is searched at once: a list of what is still to be put there would be read by each search.
ALTER INDEX words_by_term SET (fastupdate = off);

-- Up to which id all archived messages of an account or a room are in `words`, if it was ever searched.
CREATE TABLE searched (
    account BIGINT PRIMARY KEY,
    up_to   BIGINT NOT NULL
);
