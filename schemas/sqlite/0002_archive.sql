-- Each peer of an account once. What is kept of a conversation as a whole is kept here.
CREATE TABLE conversations (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    account   INTEGER NOT NULL,
    jid       TEXT    NOT NULL,
    displayed INTEGER NOT NULL DEFAULT 0,
    UNIQUE (account, jid)
) STRICT;

-- Ids grow with time and are the rowid, so that new messages are written one behind the other.
CREATE TABLE messages (
    id           INTEGER PRIMARY KEY,
    account      INTEGER NOT NULL,
    conversation INTEGER,
    sent         INTEGER NOT NULL,
    counts       INTEGER NOT NULL,
    stamp        INTEGER NOT NULL,
    digest       INTEGER,
    resource     TEXT,
    message_id   TEXT,
    stanza       BLOB    NOT NULL
) STRICT;

ALTER TABLE tail RENAME TO tail_before;
DROP INDEX tail_by_account;

-- Which messages wait. "alone" are those that the archive does not keep; "size" is that of the stanza.
CREATE TABLE tail (
    account  INTEGER NOT NULL,
    id       INTEGER NOT NULL,
    alone    INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    resource TEXT,
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;

INSERT INTO messages (id, account, conversation, sent, counts, stamp, digest, resource, message_id, stanza)
SELECT id, account, NULL, 0, 0, stamp, NULL, NULL, NULL, stanza FROM tail_before ORDER BY id;
INSERT INTO tail (account, id, alone, size, resource)
SELECT account, id, 1, length(stanza), resource FROM tail_before ORDER BY account, id;
DROP TABLE tail_before;

-- The rowid, which is the id, stands at the end of every index by itself.
CREATE INDEX messages_by_account ON messages (account) WHERE conversation IS NOT NULL;
CREATE INDEX messages_by_conversation ON messages (conversation) WHERE conversation IS NOT NULL;

-- Digests of messages that the archive does not keep.
CREATE TABLE seen (
    id      INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    digest  INTEGER NOT NULL
) STRICT;

CREATE INDEX seen_by_account ON seen (account);

-- One row: how far the times of ids have been from the stamps, in microseconds; up to which id digests are forgotten; and
-- how many accounts have been deleted.
CREATE TABLE archive_marks (
    slot      INTEGER PRIMARY KEY,
    ahead     INTEGER NOT NULL,
    behind    INTEGER NOT NULL,
    forgotten INTEGER NOT NULL,
    deletions INTEGER NOT NULL
) STRICT;

INSERT INTO archive_marks (slot, ahead, behind, forgotten, deletions) VALUES (0, 0, 0, 0, 0);

CREATE TABLE deleted_accounts (
    number  INTEGER PRIMARY KEY,
    deleted INTEGER NOT NULL
) STRICT;

-- Texts that cannot be found by their words yet.
CREATE TABLE unindexed (
    id      INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    body    TEXT    NOT NULL
) STRICT;

-- Terms are made by rookery (src/store/words.rs): words of letters and digits behind the number of the account.
CREATE VIRTUAL TABLE words USING fts5 (
    terms, content = '', contentless_delete = 1, detail = none, tokenize = "ascii tokenchars '_'"
);
