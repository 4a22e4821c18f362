-- Numbers of rooms are negative, so that they never meet those of accounts in the tables of messages.
CREATE TABLE rooms (
    number  BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY (INCREMENT BY -1),
    jid     TEXT   COLLATE "C" NOT NULL UNIQUE,
    service TEXT   COLLATE "C" NOT NULL,
    created BIGINT NOT NULL
);

CREATE INDEX rooms_by_service ON rooms (service, jid);

-- What a room is made of. "kind" is value, person or visit; "key" its name or address.
CREATE TABLE room_parts (
    room  BIGINT NOT NULL REFERENCES rooms (number) ON DELETE CASCADE,
    kind  TEXT   COLLATE "C" NOT NULL,
    key   TEXT   COLLATE "C" NOT NULL,
    value BYTEA  NOT NULL,
    PRIMARY KEY (room, kind, key)
);

-- Nearly every visit that comes also goes.
ALTER TABLE room_parts SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);
