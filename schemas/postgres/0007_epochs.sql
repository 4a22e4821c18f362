-- Ranges of ids, from `first` up to the next epoch's; the first one begins at 0. The indexes of messages begin with the epoch,
-- so that a commit writes to the few pages of the newest one, not to one page for each conversation that ever was. "before"
-- is how many records came before it.
CREATE TABLE epochs (
    first  BIGINT PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    before BIGINT NOT NULL
);

INSERT INTO epochs (first, number, before) VALUES (0, 1, 0);

-- How many records came ever.
ALTER TABLE tail_marks ADD COLUMN records BIGINT NOT NULL DEFAULT 0;
UPDATE tail_marks SET records = (SELECT count(*) FROM messages) WHERE slot = 0;

-- What is there already is in the first. Ids grow with time: whoever looks for one message finds it by its id, and new ones are
-- put at one end.
ALTER TABLE messages ADD COLUMN epoch BIGINT NOT NULL DEFAULT 1;
ALTER TABLE messages ALTER COLUMN epoch DROP DEFAULT;
ALTER TABLE messages DROP CONSTRAINT messages_pkey;
ALTER TABLE messages ADD PRIMARY KEY (id, account);
DROP INDEX messages_by_conversation;
CREATE INDEX messages_by_account ON messages (epoch, account, id) WHERE conversation IS NOT NULL;
CREATE INDEX messages_by_conversation ON messages (epoch, conversation, id) WHERE conversation IS NOT NULL;

ALTER TABLE seen ADD COLUMN epoch BIGINT NOT NULL DEFAULT 1;
ALTER TABLE seen ALTER COLUMN epoch DROP DEFAULT;
ALTER TABLE seen DROP CONSTRAINT seen_pkey;
ALTER TABLE seen ADD PRIMARY KEY (epoch, account, id);
