CREATE TABLE sessions (
    account  BIGINT NOT NULL REFERENCES accounts (number) ON DELETE CASCADE,
    resource TEXT   COLLATE "C" NOT NULL,
    expires  BIGINT NOT NULL,
    state    BYTEA  NOT NULL,
    PRIMARY KEY (account, resource)
);
