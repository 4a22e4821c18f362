-- Numbers of rooms are negative, so that they never meet those of accounts in the tables of messages; and never given out
-- twice.
ALTER TABLE archive_marks ADD COLUMN rooms INTEGER NOT NULL DEFAULT 0;

CREATE TABLE rooms (
    number  INTEGER PRIMARY KEY,
    jid     TEXT    NOT NULL UNIQUE,
    service TEXT    NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE INDEX rooms_by_service ON rooms (service, jid);

-- What a room is made of. "kind" is value, person or visit; "key" its name or address.
CREATE TABLE room_parts (
    room  INTEGER NOT NULL REFERENCES rooms (number) ON DELETE CASCADE,
    kind  TEXT    NOT NULL,
    key   TEXT    NOT NULL,
    value BLOB    NOT NULL,
    PRIMARY KEY (room, kind, key)
) STRICT;
