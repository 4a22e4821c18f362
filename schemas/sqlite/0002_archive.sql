-- Each peer of an account once. `unread` is how many messages count with `displayed` < id <= `counted`.
CREATE TABLE conversations (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    account   INTEGER NOT NULL,
    jid       TEXT    NOT NULL,
    displayed INTEGER NOT NULL DEFAULT 0,
    counted   INTEGER NOT NULL DEFAULT 0,
    unread    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (account, jid)
) STRICT;

-- Ids grow with time and are the rowid, so that new messages are written one behind the other. An epoch is a range of ids,
-- from `first` up to the next epoch's; the first one begins at 0. It is what the indexes begin with: a commit writes to the
-- few pages of the newest epoch, not to one page for each conversation that ever was.
CREATE TABLE epochs (
    first  INTEGER PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT;

INSERT INTO epochs (first, number) VALUES (0, 1);

CREATE TABLE messages (
    id           INTEGER PRIMARY KEY,
    epoch        INTEGER NOT NULL,
    account      INTEGER NOT NULL,
    conversation INTEGER,
    sent         INTEGER NOT NULL,
    counts       INTEGER NOT NULL,
    stamp        INTEGER NOT NULL,
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

INSERT INTO messages (id, epoch, account, conversation, sent, counts, stamp, resource, message_id, stanza)
SELECT id, 1, account, NULL, 0, 0, stamp, NULL, NULL, stanza FROM tail_before ORDER BY id;
INSERT INTO tail (account, id, alone, size, resource)
SELECT account, id, 1, length(stanza), resource FROM tail_before ORDER BY account, id;
DROP TABLE tail_before;

-- How many records the newest epoch holds.
ALTER TABLE tail_marks ADD COLUMN records INTEGER NOT NULL DEFAULT 0;

-- The rowid, which is the id, stands at the end of every index by itself.
CREATE INDEX messages_by_account ON messages (epoch, account) WHERE conversation IS NOT NULL;
CREATE INDEX messages_by_conversation ON messages (epoch, conversation) WHERE conversation IS NOT NULL;

-- What messages are known by if they are sent again.
CREATE TABLE seen (
    epoch   INTEGER NOT NULL,
    account INTEGER NOT NULL,
    id      INTEGER NOT NULL,
    digest  INTEGER NOT NULL,
    PRIMARY KEY (epoch, account, id)
) STRICT, WITHOUT ROWID;

-- One row: how far the times of ids have been from the stamps, in microseconds; up to which id digests are forgotten; and
-- how many times an account or an epoch has gone; the highest id that any conversation is counted up to.
CREATE TABLE archive_marks (
    slot      INTEGER PRIMARY KEY,
    ahead     INTEGER NOT NULL,
    behind    INTEGER NOT NULL,
    forgotten INTEGER NOT NULL,
    deletions INTEGER NOT NULL,
    counted   INTEGER NOT NULL
) STRICT;

INSERT INTO archive_marks (slot, ahead, behind, forgotten, deletions, counted)
VALUES (0, 0, 0, 0, 0, 0);

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
