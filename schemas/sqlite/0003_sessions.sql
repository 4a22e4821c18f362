CREATE TABLE sessions (
    account  INTEGER NOT NULL REFERENCES accounts (number) ON DELETE CASCADE,
    resource TEXT    NOT NULL,
    expires  INTEGER NOT NULL,
    state    BLOB    NOT NULL,
    PRIMARY KEY (account, resource)
) STRICT;
