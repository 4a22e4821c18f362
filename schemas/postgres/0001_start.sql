-- Addresses, words and keys sort by byte, as they do in SQLite and in memory, whatever the locale of the database.
CREATE TABLE accounts (
    number            BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    jid               TEXT   COLLATE "C" NOT NULL UNIQUE,
    domain            TEXT   COLLATE "C" NOT NULL,
    created           BIGINT NOT NULL,
    sha256_salt       BYTEA  NOT NULL,
    sha256_iterations BIGINT NOT NULL,
    sha256_stored_key BYTEA  NOT NULL,
    sha256_server_key BYTEA  NOT NULL,
    sha1_salt         BYTEA  NOT NULL,
    sha1_iterations   BIGINT NOT NULL,
    sha1_stored_key   BYTEA  NOT NULL,
    sha1_server_key   BYTEA  NOT NULL
);

CREATE INDEX accounts_by_domain ON accounts (domain, jid);

CREATE TABLE roster_items (
    account      BIGINT  NOT NULL REFERENCES accounts (number) ON DELETE CASCADE,
    jid          TEXT    COLLATE "C" NOT NULL,
    name         TEXT,
    contact_groups TEXT  NOT NULL,
    subscription TEXT    NOT NULL,
    ask          BOOLEAN NOT NULL,
    approved     BOOLEAN NOT NULL,
    version      BIGINT  NOT NULL,
    PRIMARY KEY (account, jid)
);

CREATE TABLE roster_removed (
    account BIGINT NOT NULL REFERENCES accounts (number) ON DELETE CASCADE,
    jid     TEXT   COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (account, jid)
);

CREATE TABLE roster_requests (
    account BIGINT NOT NULL REFERENCES accounts (number) ON DELETE CASCADE,
    jid     TEXT   COLLATE "C" NOT NULL,
    stanza  BYTEA  NOT NULL,
    PRIMARY KEY (account, jid)
);

CREATE TABLE tail (
    account  BIGINT NOT NULL REFERENCES accounts (number) ON DELETE CASCADE,
    id       BIGINT NOT NULL,
    resource TEXT,
    stamp    BIGINT NOT NULL,
    stanza   BYTEA  NOT NULL,
    PRIMARY KEY (account, id)
);

-- A queue: nearly every row that comes also goes, so its dead rows are collected early.
ALTER TABLE tail SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);

-- One slot for each of a few backends: commits of two connections need not wait for each other's row.
CREATE TABLE tail_marks (
    slot INTEGER PRIMARY KEY,
    id   BIGINT  NOT NULL
) WITH (fillfactor = 10);

INSERT INTO tail_marks (slot, id) SELECT slot, 0 FROM generate_series(0, 15) AS slot;

CREATE TABLE key_values (
    owner  TEXT  COLLATE "C" NOT NULL,
    module TEXT  COLLATE "C" NOT NULL,
    key    TEXT  COLLATE "C" NOT NULL,
    value  BYTEA NOT NULL,
    PRIMARY KEY (owner, module, key)
);
