-- What waits for other servers, in the order of its ids, which is that in which it was taken.
CREATE TABLE outgoing (
    id     INTEGER PRIMARY KEY,
    local  TEXT    NOT NULL,
    remote TEXT    NOT NULL,
    stamp  INTEGER NOT NULL,
    stanza BLOB    NOT NULL
) STRICT;
