-- Marks the file as ours ("Rook"), so that another program's database is not taken for a fresh one.
PRAGMA application_id = 1383034731;

CREATE TABLE accounts (
    number            INTEGER PRIMARY KEY AUTOINCREMENT,
    jid               TEXT    NOT NULL UNIQUE,
    domain            TEXT    NOT NULL,
    created           INTEGER NOT NULL,
    sha256_salt       BLOB    NOT NULL,
    sha256_iterations INTEGER NOT NULL,
    sha256_stored_key BLOB    NOT NULL,
    sha256_server_key BLOB    NOT NULL,
    sha1_salt         BLOB    NOT NULL,
    sha1_iterations   INTEGER NOT NULL,
    sha1_stored_key   BLOB    NOT NULL,
    sha1_server_key   BLOB    NOT NULL
) STRICT;

CREATE INDEX accounts_by_domain ON accounts (domain, jid);

CREATE TABLE roster_items (
    account      INTEGER NOT NULL REFERENCES accounts (number) ON DELETE CASCADE,
    jid          TEXT    NOT NULL,
    name         TEXT,
    contact_groups TEXT  NOT NULL,
    subscription TEXT    NOT NULL,
    ask          INTEGER NOT NULL,
    approved     INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    PRIMARY KEY (account, jid)
) STRICT, WITHOUT ROWID;

CREATE TABLE roster_removed (
    account INTEGER NOT NULL REFERENCES accounts (number) ON DELETE CASCADE,
    jid     TEXT    NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (account, jid)
) STRICT, WITHOUT ROWID;

CREATE TABLE roster_requests (
    account INTEGER NOT NULL REFERENCES accounts (number) ON DELETE CASCADE,
    jid     TEXT    NOT NULL,
    stanza  BLOB    NOT NULL,
    PRIMARY KEY (account, jid)
) STRICT;

CREATE TABLE tail (
    account  INTEGER NOT NULL REFERENCES accounts (number) ON DELETE CASCADE,
    id       INTEGER NOT NULL,
    resource TEXT,
    stamp    INTEGER NOT NULL,
    stanza   BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX tail_by_account ON tail (account, id);

CREATE TABLE tail_marks (
    slot INTEGER PRIMARY KEY,
    id   INTEGER NOT NULL
) STRICT;

INSERT INTO tail_marks (slot, id) VALUES (0, 0);

CREATE TABLE key_values (
    owner  TEXT NOT NULL,
    module TEXT NOT NULL,
    key    TEXT NOT NULL,
    value  BLOB NOT NULL,
    PRIMARY KEY (owner, module, key)
) STRICT;
