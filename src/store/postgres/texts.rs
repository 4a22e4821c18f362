//! Statements on archives, as PostgreSQL wants them: indexes begin with the epoch, so each statement that looks for messages
//! walks the epochs in the order of the ids wanted and looks into each. A test asserts that no statement here reads a table
//! as a whole.

use crate::archive::{count, page};

/// The epochs from that of an id on.
macro_rules! from_id {
    ($id:literal) => {
        concat!("e.first >= (SELECT max(first) FROM epochs WHERE first <= ", $id, ")")
    };
}

/// The epochs of the span in the parameters 2 and 3.
macro_rules! of_span {
    () => {
        concat!("e.first <= $3 AND ", from_id!("$2"))
    };
}

/// The first of an archive in an order, so many: epoch by epoch, from the end that is asked for, and of each no more than
/// are wanted (`LIMIT`), which also keeps the planner from looking at the messages first.
macro_rules! walk {
    ($columns:literal, $of:expr, $order:literal, $limit:literal, $join:expr, $epochs:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM epochs AS e CROSS JOIN LATERAL (SELECT * FROM messages AS m WHERE m.epoch = e.number AND ",
            $of,
            " AND m.conversation IS NOT NULL ORDER BY m.id",
            $order,
            " LIMIT ",
            $limit,
            ") AS m",
            $join,
            " WHERE ",
            $epochs,
            " ORDER BY e.first",
            $order,
            ", m.id",
            $order,
            " LIMIT ",
            $limit
        )
    };
}

/// What matches a query; the parameters are those of `page!`.
macro_rules! matching {
    ($of:literal) => {
        concat!(
            $of,
            " AND m.id BETWEEN $2 AND $3 AND (m.id BETWEEN $4 AND $5 OR m.stamp BETWEEN $6 AND $7) \
             AND (CAST($8 AS TEXT) IS NULL OR m.resource = $8)"
        )
    };
}

/// A page, as `page!` has it.
macro_rules! walk_page {
    ($of:literal, $order:literal) => {
        walk!(
            "m.id, m.stamp, m.stanza, t.id, t.resource",
            matching!($of),
            $order,
            "$9",
            " LEFT JOIN tail AS t ON t.account = m.account AND t.id = m.id",
            of_span!()
        )
    };
}

/// A count, as `count!` has it, of what matches: the number of it, and of those with an id below a parameter. The order says by
/// which index.
macro_rules! walk_count {
    ($of:expr, $before:literal) => {
        concat!(
            "SELECT CAST(coalesce(sum(m.all_of_it), 0) AS BIGINT), CAST(coalesce(sum(m.before), 0) AS BIGINT) \
             FROM epochs AS e CROSS JOIN LATERAL (SELECT count(*) AS all_of_it, count(CASE WHEN m.id < ",
            $before,
            " THEN 1 END) AS before FROM (SELECT m.id FROM messages AS m WHERE m.epoch = e.number AND ",
            $of,
            " AND m.conversation IS NOT NULL ORDER BY m.id OFFSET 0) AS m) AS m WHERE ",
            of_span!()
        )
    };
}

/// What is found by words, in the order of the ids, and then row by row its message: the planner is kept (`OFFSET 0`, `LIMIT
/// 1`) from reading an account's messages as a whole beside it.
macro_rules! by_words {
    ($order:literal) => {
        concat!(
            "(SELECT words.account, words.id FROM words WHERE words.terms @@ CAST(CAST($10 AS TEXT) AS TSQUERY) \
             AND words.id BETWEEN $2 AND $3 ORDER BY words.id",
            $order,
            " OFFSET 0) AS w CROSS JOIN LATERAL (SELECT messages.* FROM messages \
             WHERE messages.account = w.account AND messages.id = w.id LIMIT 1) AS m"
        )
    };
}

pub(super) const ACCOUNT_UP: &str = walk_page!("m.account = $1", "");
pub(super) const ACCOUNT_DOWN: &str = walk_page!("m.account = $1", " DESC");
pub(super) const ACCOUNT_COUNT: &str = walk_count!(matching!("m.account = $1"), "$9");
pub(super) const CONVERSATION_UP: &str = walk_page!("m.conversation = $1", "");
pub(super) const CONVERSATION_DOWN: &str = walk_page!("m.conversation = $1", " DESC");
pub(super) const CONVERSATION_COUNT: &str = walk_count!(matching!("m.conversation = $1"), "$9");
pub(super) const ACCOUNT_COUNT_ALL: &str = walk_count!("m.account = $1 AND m.id BETWEEN $2 AND $3", "$4");
pub(super) const CONVERSATION_COUNT_ALL: &str = walk_count!("m.conversation = $1 AND m.id BETWEEN $2 AND $3", "$4");
pub(super) const WORDS_UP: &str = page!(by_words!(""), "m.account = $1", "w.id", "w.id");
pub(super) const WORDS_DOWN: &str = page!(by_words!(" DESC"), "m.account = $1", "w.id", "w.id DESC");
pub(super) const WORDS_COUNT: &str = count!(by_words!(""), "m.account = $1", "w.id");
pub(super) const WORDS_CONVERSATION_UP: &str = page!(by_words!(""), "m.conversation = $1", "w.id", "w.id");
pub(super) const WORDS_CONVERSATION_DOWN: &str = page!(by_words!(" DESC"), "m.conversation = $1", "w.id", "w.id DESC");
pub(super) const WORDS_CONVERSATION_COUNT: &str = count!(by_words!(""), "m.conversation = $1", "w.id");

/// Of an account (1), those in a list (2), in any order.
pub(super) const LISTED: &str = "SELECT m.id, m.stamp, m.stanza, t.id, t.resource FROM messages AS m \
    LEFT JOIN tail AS t ON t.account = m.account AND t.id = m.id \
    WHERE m.account = $1 AND m.id = ANY($2)";

/// How many of a list (2) are in the archive of an account (1): found by their ids, not in the indexes of what is archived.
pub(super) const THERE: &str =
    "SELECT count(*) FROM messages WHERE account = $1 AND id = ANY($2) AND coalesce(conversation, 0) <> 0";

/// The oldest and the newest message of an account (1).
pub(super) const FIRST: &str = walk!("m.id, m.stamp", "m.account = $1", "", "1", "", "true");
pub(super) const LAST: &str = walk!("m.id, m.stamp", "m.account = $1", " DESC", "1", "", "true");

/// Of a user (1) with a peer (2), the newest with an id of the peer's (3).
pub(super) const ARCHIVED_ID: &str = concat!(
    "SELECT last.id FROM (",
    walk!(
        "m.id, m.sent, m.message_id",
        "m.conversation = (SELECT number FROM conversations \
         WHERE account = (SELECT number FROM accounts WHERE jid = $1 UNION ALL SELECT number FROM rooms WHERE jid = $1) \
         AND jid = $2)",
        " DESC",
        "5000",
        "",
        "true"
    ),
    ") AS last WHERE last.message_id = $3 AND NOT last.sent LIMIT 1"
);

/// The conversations of a user (1): what was counted, and how many messages that count came after that.
pub(super) const CONVERSATIONS: &str = concat!(
    "SELECT c.jid, c.displayed, c.unread, after.counting \
     FROM conversations AS c CROSS JOIN LATERAL (SELECT CAST(coalesce(sum(m.counting), 0) AS BIGINT) AS counting \
     FROM epochs AS e CROSS JOIN LATERAL (SELECT count(CASE WHEN m.counts THEN 1 END) AS counting \
     FROM (SELECT m.counts FROM messages AS m WHERE m.epoch = e.number AND m.conversation = c.number \
     AND m.conversation IS NOT NULL AND m.id > c.counted ORDER BY m.id OFFSET 0) AS m) AS m WHERE ",
    from_id!("c.counted"),
    ") AS after WHERE c.account = (SELECT number FROM accounts WHERE jid = $1) ORDER BY c.jid"
);

/// The conversations of a user (1) in which more than so many (2) messages came after what was counted.
pub(super) const BEHIND: &str = concat!(
    "SELECT c.number FROM conversations AS c \
     WHERE c.account = (SELECT number FROM accounts WHERE jid = $1) AND (SELECT count(*) FROM (SELECT 1 FROM epochs AS e \
     CROSS JOIN LATERAL (SELECT 1 FROM messages AS m WHERE m.epoch = e.number AND m.conversation = c.number \
     AND m.conversation IS NOT NULL AND m.id > c.counted ORDER BY m.id LIMIT $2 + 1) AS m WHERE ",
    from_id!("c.counted"),
    " LIMIT $2 + 1) AS next) > $2"
);

/// Of a conversation (1), the first messages after what was counted and up to an id (2), so many (3): the last of their
/// ids, and how many of them count.
pub(super) const UNCOUNTED: &str = concat!(
    "SELECT max(next.id), count(CASE WHEN next.counts THEN 1 END) FROM (",
    walk!(
        "m.id, m.counts",
        "m.conversation = $1 AND m.id > (SELECT counted FROM conversations WHERE number = $1) AND m.id <= $2",
        "",
        "$3",
        "",
        concat!("e.first <= $2 AND ", from_id!("(SELECT counted FROM conversations WHERE number = $1)"))
    ),
    ") AS next"
);

/// The oldest of an account (1) up to an id (2), so many (3).
pub(super) const OLDEST: &str = walk!("m.id", "m.account = $1 AND m.id <= $2", "", "$3", "", "e.first <= $2");

/// Accounts of a domain (1) above an address (2), so many (4), and which have something up to an id (3).
pub(super) const WITH_OLD: &str = "SELECT a.jid, EXISTS (SELECT 1 FROM epochs AS e CROSS JOIN LATERAL \
    (SELECT 1 FROM messages AS m WHERE m.epoch = e.number AND m.account = a.number AND m.conversation IS NOT NULL \
    AND m.id <= $3 ORDER BY m.id LIMIT 1) AS m WHERE e.first <= $3) \
    FROM accounts AS a WHERE a.domain = $1 AND a.jid > $2 ORDER BY a.jid LIMIT $4";

/// Rooms of a service (1) above an address (2), so many (4), and which have something up to an id (3).
pub(super) const ROOMS_WITH_OLD: &str = "SELECT r.jid, EXISTS (SELECT 1 FROM epochs AS e CROSS JOIN LATERAL \
    (SELECT 1 FROM messages AS m WHERE m.epoch = e.number AND m.account = r.number AND m.conversation IS NOT NULL \
    AND m.id <= $3 ORDER BY m.id LIMIT 1) AS m WHERE e.first <= $3) \
    OR EXISTS (SELECT 1 FROM tail AS t WHERE t.account = r.number AND t.id <= $3) \
    FROM rooms AS r WHERE r.service = $1 AND r.jid > $2 ORDER BY r.jid LIMIT $4";

/// The newest of a room (1) that are history, so many (2), among so many of its archive (3).
pub(super) const HISTORY: &str = concat!(
    "SELECT last.id, last.stamp, last.stanza FROM (",
    walk!("m.id, m.stamp, m.stanza, m.counts", "m.account = $1", " DESC", "$3", "", "true"),
    ") AS last WHERE last.counts LIMIT $2"
);

/// What an account (1) has seen after an id (2) and up to an id (4), the newest, so many (3), of what is in no archive and of
/// what is.
pub(super) const SEEN: &str = concat!(
    "(SELECT s.id, s.digest FROM epochs AS e CROSS JOIN LATERAL (SELECT id, digest FROM seen \
     WHERE seen.epoch = e.number AND seen.account = $1 AND seen.id > $2 AND seen.id <= $4 \
     AND seen.id > (SELECT forgotten FROM archive_marks WHERE slot = 0) ORDER BY seen.id DESC LIMIT $3) AS s WHERE ",
    from_id!("$2"),
    " AND e.first <= $4 ORDER BY e.first DESC, s.id DESC LIMIT $3) UNION ALL (",
    walk!(
        "m.id, m.digest",
        "m.account = $1 AND m.id > $2 AND m.id <= $4 AND m.digest IS NOT NULL \
         AND m.id > (SELECT forgotten FROM archive_marks WHERE slot = 0)",
        " DESC",
        "$3",
        "",
        concat!(from_id!("$2"), " AND e.first <= $4")
    ),
    ")"
);

/// Takes the digests of a list (2) of an account (1) along when the messages leave the archive.
pub(super) const STILL_SEEN: &str = "INSERT INTO seen (epoch, account, id, digest) \
    SELECT epoch, account, id, digest FROM messages WHERE account = $1 AND id = ANY($2) \
    AND coalesce(conversation, 0) <> 0 AND digest IS NOT NULL AND id > (SELECT forgotten FROM archive_marks WHERE slot = 0) \
    ON CONFLICT (epoch, account, id) DO UPDATE SET digest = excluded.digest";

/// Removes so many (1) digests that are forgotten.
pub(super) const FORGET: &str = "DELETE FROM seen WHERE ctid = ANY (ARRAY(SELECT ctid FROM seen \
    WHERE id <= (SELECT forgotten FROM archive_marks WHERE slot = 0) ORDER BY id LIMIT $1))";

/// What happens to the messages of a list (2) of an account (1) when they leave the archive: what waits stays.
pub(super) const EXPIRE: [&str; 5] = [
    "UPDATE conversations SET counted = displayed, unread = 0 WHERE account = $1 AND counted > displayed \
     AND displayed < (SELECT max(id) FROM UNNEST($2::bigint[]) AS gone (id))",
    "UPDATE messages SET conversation = NULL, digest = NULL WHERE account = $1 AND id = ANY($2) \
     AND EXISTS (SELECT 1 FROM tail AS t WHERE t.account = messages.account AND t.id = messages.id)",
    "UPDATE tail SET alone = true WHERE account = $1 AND id = ANY($2)",
    "DELETE FROM messages WHERE account = $1 AND id = ANY($2) AND coalesce(conversation, 0) <> 0",
    "DELETE FROM words WHERE account = $1 AND id = ANY($2)",
];

/// What happens to the messages of a list (2) of an account (1) that is no more.
pub(super) const PURGE: [&str; 3] = [
    "DELETE FROM tail WHERE account = $1 AND id = ANY($2)",
    "DELETE FROM messages WHERE account = $1 AND id = ANY($2)",
    "DELETE FROM words WHERE account = $1 AND id = ANY($2)",
];

/// Forgets the words of a message (2) of a room (1).
pub(super) const UNWORD: &str = "DELETE FROM words WHERE account = $1 AND id = $2";

/// Forgets what else is known of an account (1) whose messages are gone. A message that was refused while it was made
/// findable has left its words.
pub(super) const LEAVE: [&str; 3] = [
    "DELETE FROM conversations WHERE account = $1",
    "DELETE FROM searched WHERE account = $1",
    "DELETE FROM words WHERE account = $1",
];

/// Up to which id an account (1) is findable. A commit that sets it back waits, or is waited for.
pub(super) const SEARCHED: &str = "SELECT up_to FROM searched WHERE account = $1 FOR UPDATE";

/// Whether the newest of an account (1) is findable, and so all.
pub(super) const FINDABLE: &str = concat!(
    "SELECT coalesce((",
    walk!("m.id", "m.account = $1", " DESC", "1", "", "true"),
    "), 0) <= coalesce((SELECT up_to FROM searched WHERE account = $1), 0)"
);

/// The first of an account (1) after an id (2), so many (3).
pub(super) const UNSEARCHED: &str =
    walk!("m.id, m.stanza", "m.account = $1 AND m.id > $2", "", "$3", "", from_id!("$2"));

/// Those who make an account (1) findable, and those who remove words of it, come one after the other: neither would see
/// what the other has not committed yet.
pub(super) const HOLD: [&str; 1] = ["SELECT pg_advisory_xact_lock($1)"];

/// Nothing is to be tidied up behind messages that go.
pub(super) const TIDY: [&str; 0] = [];

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
