//! Statements on archives, as SQLite wants them: indexes begin with the epoch, so each statement that looks for messages
//! walks the epochs in the order of the ids wanted and looks into each. `INDEXED BY` and `CROSS JOIN` say how, because
//! statistics might lead SQLite elsewhere; a test asserts that no statement here reads a table as a whole.

use crate::archive::{count, page};

/// What the page of an account and of a conversation are read from.
macro_rules! by_account {
    () => {
        "epochs AS e CROSS JOIN messages AS m INDEXED BY messages_by_account"
    };
}

macro_rules! by_conversation {
    () => {
        "epochs AS e CROSS JOIN messages AS m INDEXED BY messages_by_conversation"
    };
}

macro_rules! by_words {
    () => {
        "words CROSS JOIN messages AS m ON m.id = words.rowid"
    };
}

/// The epochs of the span in the parameters 2 and 3.
macro_rules! epochs {
    ($then:literal) => {
        concat!(
            "e.first <= $3 AND e.first >= (SELECT max(first) FROM epochs WHERE first <= $2) AND m.epoch = e.number AND ",
            $then
        )
    };
}

/// How many have an id from 2 to 3, and how many of them one below 4.
macro_rules! count_all {
    ($from:expr, $of:literal) => {
        concat!(
            "SELECT count(*), count(CASE WHEN m.id < $4 THEN 1 END) FROM ",
            $from,
            " WHERE ",
            epochs!($of),
            " AND m.conversation IS NOT NULL AND m.id BETWEEN $2 AND $3"
        )
    };
}

pub(super) const ACCOUNT_UP: &str = page!(by_account!(), epochs!("m.account = $1"), "m.id", "e.first, m.id");
pub(super) const ACCOUNT_DOWN: &str =
    page!(by_account!(), epochs!("m.account = $1"), "m.id", "e.first DESC, m.id DESC");
pub(super) const ACCOUNT_COUNT: &str = count!(by_account!(), epochs!("m.account = $1"), "m.id");
pub(super) const CONVERSATION_UP: &str =
    page!(by_conversation!(), epochs!("m.conversation = $1"), "m.id", "e.first, m.id");
pub(super) const CONVERSATION_DOWN: &str =
    page!(by_conversation!(), epochs!("m.conversation = $1"), "m.id", "e.first DESC, m.id DESC");
pub(super) const CONVERSATION_COUNT: &str = count!(by_conversation!(), epochs!("m.conversation = $1"), "m.id");
pub(super) const ACCOUNT_COUNT_ALL: &str = count_all!(by_account!(), "m.account = $1");
pub(super) const CONVERSATION_COUNT_ALL: &str = count_all!(by_conversation!(), "m.conversation = $1");
pub(super) const WORDS_UP: &str =
    page!(by_words!(), "words MATCH $10 AND m.account = $1", "words.rowid", "words.rowid");
pub(super) const WORDS_DOWN: &str =
    page!(by_words!(), "words MATCH $10 AND m.account = $1", "words.rowid", "words.rowid DESC");
pub(super) const WORDS_COUNT: &str = count!(by_words!(), "words MATCH $10 AND m.account = $1", "words.rowid");
pub(super) const WORDS_CONVERSATION_UP: &str =
    page!(by_words!(), "words MATCH $10 AND m.conversation = $1", "words.rowid", "words.rowid");
pub(super) const WORDS_CONVERSATION_DOWN: &str =
    page!(by_words!(), "words MATCH $10 AND m.conversation = $1", "words.rowid", "words.rowid DESC");
pub(super) const WORDS_CONVERSATION_COUNT: &str =
    count!(by_words!(), "words MATCH $10 AND m.conversation = $1", "words.rowid");

/// Of an account (1), those in a list (2), in any order.
pub(super) const LISTED: &str = "SELECT m.id, m.stamp, m.stanza, t.id, t.resource FROM messages AS m \
    LEFT JOIN tail AS t ON t.account = m.account AND t.id = m.id \
    WHERE m.account = $1 AND m.id IN (SELECT value FROM json_each($2))";

/// How many of a list (2) are in the archive of an account (1).
pub(super) const THERE: &str = "SELECT count(*) FROM messages \
    WHERE account = $1 AND id IN (SELECT value FROM json_each($2)) AND conversation IS NOT NULL";

/// The oldest and the newest message of an account (1).
pub(super) const FIRST: &str = concat!(
    "SELECT m.id, m.stamp FROM ",
    by_account!(),
    " WHERE m.epoch = e.number AND m.account = $1 AND m.conversation IS NOT NULL ORDER BY e.first, m.id LIMIT 1"
);
pub(super) const LAST: &str = concat!(
    "SELECT m.id, m.stamp FROM ",
    by_account!(),
    " WHERE m.epoch = e.number AND m.account = $1 AND m.conversation IS NOT NULL \
     ORDER BY e.first DESC, m.id DESC LIMIT 1"
);

/// Of a user (1) with a peer (2), the newest with an id of the peer's (3).
pub(super) const ARCHIVED_ID: &str = concat!(
    "SELECT last.id FROM (SELECT m.id, m.sent, m.message_id FROM ",
    by_conversation!(),
    " WHERE m.epoch = e.number AND m.conversation = (SELECT number FROM conversations \
     WHERE account = (SELECT number FROM accounts WHERE jid = $1 UNION ALL SELECT number FROM rooms WHERE jid = $1) \
     AND jid = $2) AND m.conversation IS NOT NULL ORDER BY e.first DESC, m.id DESC LIMIT 5000) AS last \
     WHERE last.message_id = $3 AND last.sent = 0 LIMIT 1"
);

/// The conversations of a user (1): what was counted, and how many messages that count came after that.
pub(super) const CONVERSATIONS: &str = "SELECT c.jid, c.displayed, c.unread, count(CASE WHEN m.counts THEN 1 END) \
    FROM conversations AS c \
    LEFT JOIN epochs AS e ON e.first >= (SELECT max(first) FROM epochs WHERE first <= c.counted) \
    LEFT JOIN messages AS m INDEXED BY messages_by_conversation \
    ON m.epoch = e.number AND m.conversation = c.number AND m.conversation IS NOT NULL AND m.id > c.counted \
    WHERE c.account = (SELECT number FROM accounts WHERE jid = $1) GROUP BY c.jid ORDER BY c.jid";

/// The conversations of a user (1) in which more than so many (2) messages came after what was counted.
pub(super) const BEHIND: &str = concat!(
    "SELECT c.number FROM conversations AS c WHERE c.account = (SELECT number FROM accounts WHERE jid = $1) \
     AND (SELECT count(*) FROM (SELECT 1 FROM ",
    by_conversation!(),
    " WHERE e.first >= (SELECT max(first) FROM epochs WHERE first <= c.counted) AND m.epoch = e.number \
     AND m.conversation = c.number AND m.conversation IS NOT NULL AND m.id > c.counted LIMIT $2 + 1) AS next) > $2"
);

/// Of a conversation (1), the first messages after what was counted and up to an id (2), so many (3): the last of their
/// ids, and how many of them count.
pub(super) const UNCOUNTED: &str = concat!(
    "SELECT max(next.id), count(CASE WHEN next.counts THEN 1 END) FROM (SELECT m.id, m.counts FROM ",
    by_conversation!(),
    " WHERE e.first <= $2 AND e.first >= (SELECT max(first) FROM epochs \
     WHERE first <= (SELECT counted FROM conversations WHERE number = $1)) \
     AND m.epoch = e.number AND m.conversation = $1 AND m.conversation IS NOT NULL \
     AND m.id > (SELECT counted FROM conversations WHERE number = $1) AND m.id <= $2 \
     ORDER BY e.first, m.id LIMIT $3) AS next"
);

/// The oldest of an account (1) up to an id (2), so many (3).
pub(super) const OLDEST: &str = concat!(
    "SELECT m.id FROM ",
    by_account!(),
    " WHERE e.first <= $2 AND m.epoch = e.number AND m.account = $1 AND m.conversation IS NOT NULL AND m.id <= $2 \
     ORDER BY e.first, m.id LIMIT $3"
);

/// Of the accounts of a domain (1) above an address (2), so many (4), which have something up to an id (3); and the last
/// address that was looked at.
pub(super) const WITH_OLD: &str = concat!(
    "SELECT a.jid, EXISTS (SELECT 1 FROM ",
    by_account!(),
    " WHERE e.first <= $3 AND m.epoch = e.number AND m.account = a.number AND m.conversation IS NOT NULL \
     AND m.id <= $3) FROM accounts AS a WHERE a.domain = $1 AND a.jid > $2 ORDER BY a.jid LIMIT $4"
);

/// Of the rooms of a service (1) above an address (2), so many (4), which have something up to an id (3).
pub(super) const ROOMS_WITH_OLD: &str = concat!(
    "SELECT r.jid, EXISTS (SELECT 1 FROM ",
    by_account!(),
    " WHERE e.first <= $3 AND m.epoch = e.number AND m.account = r.number AND m.conversation IS NOT NULL \
     AND m.id <= $3) OR EXISTS (SELECT 1 FROM tail AS t WHERE t.account = r.number AND t.id <= $3) \
     FROM rooms AS r WHERE r.service = $1 AND r.jid > $2 ORDER BY r.jid LIMIT $4"
);

/// The newest of a room (1) that are history, so many (2), among so many of its archive (3).
pub(super) const HISTORY: &str = concat!(
    "SELECT last.id, last.stamp, last.stanza FROM (SELECT m.id, m.stamp, m.stanza, m.counts FROM ",
    by_account!(),
    " WHERE m.epoch = e.number AND m.account = $1 AND m.conversation IS NOT NULL \
     ORDER BY e.first DESC, m.id DESC LIMIT $3) AS last WHERE last.counts LIMIT $2"
);

/// What of a source an account (1) has seen after an id (2) and up to an id (4), the newest, so many (3).
macro_rules! seen {
    ($from:expr, $is_known:literal) => {
        concat!(
            "SELECT * FROM (SELECT m.id AS id, m.digest AS digest FROM ",
            $from,
            " WHERE e.first >= (SELECT max(first) FROM epochs WHERE first <= $2) AND m.epoch = e.number AND m.account = $1 \
             AND e.first <= $4 AND m.id > $2 AND m.id <= $4 \
             AND m.id > (SELECT forgotten FROM archive_marks WHERE slot = 0) AND ",
            $is_known,
            " ORDER BY e.first DESC, m.id DESC LIMIT $3)"
        )
    };
}

/// The newest of both sources: what is in no archive, and what is.
pub(super) const SEEN: &str = concat!(
    seen!("epochs AS e CROSS JOIN seen AS m", "m.digest IS NOT NULL"),
    " AS alone UNION ALL ",
    seen!(by_account!(), "m.conversation IS NOT NULL AND m.digest IS NOT NULL"),
    " AS archived"
);

/// Takes the digests of a list (2) of an account (1) along when the messages leave the archive.
pub(super) const STILL_SEEN: &str = "INSERT INTO seen (epoch, account, id, digest) \
    SELECT epoch, account, id, digest FROM messages WHERE account = $1 AND id IN (SELECT value FROM json_each($2)) \
    AND conversation IS NOT NULL AND digest IS NOT NULL AND id > (SELECT forgotten FROM archive_marks WHERE slot = 0) \
    ON CONFLICT (epoch, account, id) DO UPDATE SET digest = excluded.digest";

/// Removes so many (1) digests that are forgotten, of epochs that are forgotten altogether.
pub(super) const FORGET: &str = "DELETE FROM seen WHERE (epoch, account, id) IN (SELECT epoch, account, id FROM seen \
    WHERE epoch = (SELECT e.number FROM epochs AS e WHERE EXISTS (SELECT 1 FROM seen AS s WHERE s.epoch = e.number) \
    AND (SELECT min(n.first) FROM epochs AS n WHERE n.first > e.first) - 1 \
    <= (SELECT forgotten FROM archive_marks WHERE slot = 0) ORDER BY e.first LIMIT 1) LIMIT $1)";

/// What happens to the messages of a list (2) of an account (1) when they leave the archive: what waits stays.
pub(super) const EXPIRE: [&str; 5] = [
    "UPDATE conversations SET counted = displayed, unread = 0 WHERE account = $1 AND counted > displayed \
     AND displayed < (SELECT max(value) FROM json_each($2))",
    "UPDATE messages SET conversation = NULL, digest = NULL WHERE account = $1 AND id IN (SELECT value FROM json_each($2)) \
     AND EXISTS (SELECT 1 FROM tail AS t WHERE t.account = messages.account AND t.id = messages.id)",
    "UPDATE tail SET alone = 1 WHERE account = $1 AND id IN (SELECT value FROM json_each($2))",
    "DELETE FROM messages WHERE account = $1 AND id IN (SELECT value FROM json_each($2)) AND conversation IS NOT NULL",
    "DELETE FROM words WHERE rowid IN (SELECT value FROM json_each($2) \
     WHERE NOT EXISTS (SELECT 1 FROM messages WHERE id = value AND account <> $1))",
];

/// What happens to the messages of a list (2) of an account (1) that is no more.
pub(super) const PURGE: [&str; 3] = [
    "DELETE FROM tail WHERE account = $1 AND id IN (SELECT value FROM json_each($2))",
    "DELETE FROM messages WHERE account = $1 AND id IN (SELECT value FROM json_each($2))",
    "DELETE FROM words WHERE rowid IN (SELECT value FROM json_each($2) \
     WHERE NOT EXISTS (SELECT 1 FROM messages WHERE id = value AND account <> $1))",
];

/// Forgets the words of a message (2) of a room (1).
pub(super) const UNWORD: &str = "DELETE FROM words WHERE $1 IS NOT NULL AND rowid = $2";

/// Forgets what else is known of an account (1) whose messages are gone.
pub(super) const LEAVE: [&str; 2] =
    ["DELETE FROM conversations WHERE account = $1", "DELETE FROM searched WHERE account = $1"];

/// Up to which id an account (1) is findable.
pub(super) const SEARCHED: &str = "SELECT up_to FROM searched WHERE account = $1";

/// Whether the newest of an account (1) is findable, and so all.
pub(super) const FINDABLE: &str = concat!(
    "SELECT coalesce((SELECT m.id FROM ",
    by_account!(),
    " WHERE m.epoch = e.number AND m.account = $1 AND m.conversation IS NOT NULL \
     ORDER BY e.first DESC, m.id DESC LIMIT 1), 0) <= coalesce((SELECT up_to FROM searched WHERE account = $1), 0)"
);

/// The first of an account (1) after an id (2), so many (3).
pub(super) const UNSEARCHED: &str = concat!(
    "SELECT m.id, m.stanza FROM ",
    by_account!(),
    " WHERE e.first >= (SELECT max(first) FROM epochs WHERE first <= $2) AND m.epoch = e.number AND m.account = $1 \
     AND m.conversation IS NOT NULL AND m.id > $2 ORDER BY e.first, m.id LIMIT $3"
);

/// Nobody writes beside whoever writes.
pub(super) const HOLD: [&str; 0] = [];

/// Removes epochs with nothing in them, but not the newest. If there were any, the oldest of the others begins at 0, and
/// what is remembered of them is true no more.
pub(super) const TIDY: [&str; 3] = [
    "DELETE FROM epochs WHERE first < (SELECT max(first) FROM epochs) \
     AND NOT EXISTS (SELECT 1 FROM messages AS m INDEXED BY messages_by_account \
     WHERE m.epoch = epochs.number AND m.conversation IS NOT NULL) \
     AND NOT EXISTS (SELECT 1 FROM seen AS s WHERE s.epoch = epochs.number)",
    "UPDATE epochs SET first = 0 WHERE first = (SELECT min(first) FROM epochs)",
    "UPDATE archive_marks SET deletions = deletions + 1 WHERE slot = 0",
];

/// All statements that read, by name.
#[cfg(test)]
pub(crate) const ALL: [(&str, &str); 32] = [
    ("ACCOUNT_UP", ACCOUNT_UP),
    ("ACCOUNT_DOWN", ACCOUNT_DOWN),
    ("ACCOUNT_COUNT", ACCOUNT_COUNT),
    ("ACCOUNT_COUNT_ALL", ACCOUNT_COUNT_ALL),
    ("CONVERSATION_COUNT_ALL", CONVERSATION_COUNT_ALL),
    ("CONVERSATION_UP", CONVERSATION_UP),
    ("CONVERSATION_DOWN", CONVERSATION_DOWN),
    ("CONVERSATION_COUNT", CONVERSATION_COUNT),
    ("WORDS_UP", WORDS_UP),
    ("WORDS_DOWN", WORDS_DOWN),
    ("WORDS_COUNT", WORDS_COUNT),
    ("WORDS_CONVERSATION_UP", WORDS_CONVERSATION_UP),
    ("WORDS_CONVERSATION_DOWN", WORDS_CONVERSATION_DOWN),
    ("WORDS_CONVERSATION_COUNT", WORDS_CONVERSATION_COUNT),
    ("LISTED", LISTED),
    ("THERE", THERE),
    ("FIRST", FIRST),
    ("LAST", LAST),
    ("ARCHIVED_ID", ARCHIVED_ID),
    ("CONVERSATIONS", CONVERSATIONS),
    ("BEHIND", BEHIND),
    ("UNCOUNTED", UNCOUNTED),
    ("OLDEST", OLDEST),
    ("WITH_OLD", WITH_OLD),
    ("ROOMS_WITH_OLD", ROOMS_WITH_OLD),
    ("HISTORY", HISTORY),
    ("SEEN", SEEN),
    ("STILL_SEEN", STILL_SEEN),
    ("FORGET", FORGET),
    ("SEARCHED", SEARCHED),
    ("FINDABLE", FINDABLE),
    ("UNSEARCHED", UNSEARCHED),
];
