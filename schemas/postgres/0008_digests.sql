-- What an archived message is known by if it is sent again stands beside it.
ALTER TABLE messages ADD COLUMN digest BIGINT;
