-- What an archived message is known by if it is sent again stands beside it, in the index of its account: one entry for both.
-- The rowid is named, so that the digests of an account can be read in its order and without the messages.
ALTER TABLE messages ADD COLUMN digest INTEGER;
DROP INDEX messages_by_account;
CREATE INDEX messages_by_account ON messages (epoch, account, id, digest) WHERE conversation IS NOT NULL;
