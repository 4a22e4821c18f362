-- Each peer of an account once. `unread` is how many messages count with `displayed` < id <= `counted`.
CREATE TABLE conversations (
    number    BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    account   BIGINT NOT NULL,
    jid       TEXT   COLLATE "C" NOT NULL,
    displayed BIGINT NOT NULL DEFAULT 0,
    counted   BIGINT NOT NULL DEFAULT 0,
    unread    BIGINT NOT NULL DEFAULT 0,
    UNIQUE (account, jid)
);

CREATE TABLE messages (
    account      BIGINT  NOT NULL,
    id           BIGINT  NOT NULL,
    conversation BIGINT,
    sent         BOOLEAN NOT NULL,
    counts       BOOLEAN NOT NULL,
    stamp        BIGINT  NOT NULL,
    resource     TEXT    COLLATE "C",
    message_id   TEXT    COLLATE "C",
    stanza       BYTEA   NOT NULL,
    PRIMARY KEY (account, id)
);

ALTER TABLE tail RENAME TO tail_before;
ALTER TABLE tail_before DROP CONSTRAINT tail_pkey;

-- Which messages wait. "alone" are those that the archive does not keep; "size" is that of the stanza.
CREATE TABLE tail (
    account  BIGINT  NOT NULL,
    id       BIGINT  NOT NULL,
    alone    BOOLEAN NOT NULL,
    size     BIGINT  NOT NULL,
    resource TEXT,
    PRIMARY KEY (account, id)
);

INSERT INTO messages (account, id, conversation, sent, counts, stamp, resource, message_id, stanza)
SELECT account, id, NULL, false, false, stamp, NULL, NULL, stanza FROM tail_before ORDER BY id;
INSERT INTO tail (account, id, alone, size, resource)
SELECT account, id, true, length(stanza), resource FROM tail_before;
DROP TABLE tail_before;

-- A queue: nearly every row that comes also goes, so its dead rows are collected early.
ALTER TABLE tail SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);

CREATE INDEX messages_by_conversation ON messages (conversation, id) WHERE conversation IS NOT NULL;

-- What messages are known by if they are sent again.
CREATE TABLE seen (
    account BIGINT NOT NULL,
    id      BIGINT NOT NULL,
    digest  BIGINT NOT NULL,
    PRIMARY KEY (account, id)
);

CREATE INDEX seen_by_id ON seen (id);

-- One row: how far the times of ids have been from the stamps, in microseconds; up to which id digests are forgotten; and
-- how many accounts have gone; the highest id that any conversation is counted up to.
CREATE TABLE archive_marks (
    slot      INTEGER PRIMARY KEY,
    ahead     BIGINT NOT NULL,
    behind    BIGINT NOT NULL,
    forgotten BIGINT NOT NULL,
    deletions BIGINT NOT NULL,
    counted   BIGINT NOT NULL
);

INSERT INTO archive_marks (slot, ahead, behind, forgotten, deletions, counted)
VALUES (0, 0, 0, 0, 0, 0);

CREATE TABLE deleted_accounts (
    number  BIGINT PRIMARY KEY,
    deleted BIGINT NOT NULL
);

-- Texts that cannot be found by their words yet.
CREATE TABLE unindexed (
    id      BIGINT NOT NULL,
    account BIGINT NOT NULL,
    body    TEXT   NOT NULL,
    PRIMARY KEY (id, account)
);

ALTER TABLE unindexed SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);

-- Terms are made by rookery (src/store/words.rs): words of letters and digits behind the number of the account.
CREATE TABLE words (
    account BIGINT   NOT NULL,
    id      BIGINT   NOT NULL,
    terms   TSVECTOR NOT NULL,
    PRIMARY KEY (account, id)
);

CREATE INDEX words_by_term ON words USING gin (terms);
