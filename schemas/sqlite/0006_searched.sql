-- Texts are indexed for whoever searches, when they search: what is there for all goes, and comes back with their searches.
-- The tables' pages are read once (a few seconds for ten million texts) and used again for what comes.
DROP TABLE unindexed;
DROP TABLE words;

CREATE VIRTUAL TABLE words USING fts5 (
    terms, content = '', contentless_delete = 1, detail = none, tokenize = "ascii tokenchars '_'"
);

-- Up to which id all archived messages of an account or a room are in `words`, if it was ever searched.
CREATE TABLE searched (
    account INTEGER PRIMARY KEY,
    up_to   INTEGER NOT NULL
) STRICT;
