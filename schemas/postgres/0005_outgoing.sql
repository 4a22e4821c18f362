-- What waits for other servers, in the order of its ids, which is that in which it was taken.
CREATE TABLE outgoing (
    id     BIGINT PRIMARY KEY,
    local  TEXT   COLLATE "C" NOT NULL,
    remote TEXT   COLLATE "C" NOT NULL,
    stamp  BIGINT NOT NULL,
    stanza BYTEA  NOT NULL
);

-- Nearly every row that comes also goes.
ALTER TABLE outgoing SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);
