//! Pages of archives: the statements for both databases, and what is decided before and after them.
//!
//! Every filter but words, a resource and a list of ids is a range of ids (`span.rs`), so a page is read from one place of
//! an index on. A statement is one of eight texts: of the account or of one conversation, by words or not, forwards or
//! backwards; each database has its own (`texts.rs`), made of the same pieces.

use std::time::Duration;

use rookery_core::store::{ArchivePage, ArchiveQuery, Page, StoreError};

use crate::codec::to_column;
use crate::span::Span;

/// Of a conversation with more uncounted messages, those are counted for good before anybody is told; tests do so at once.
pub(crate) const MUCH: i64 = if cfg!(test) { 1 } else { 256 };

/// Messages of this age are on disk, or will have an id above the mark when they are.
pub(crate) const SETTLED: Duration = Duration::from_secs(60);

/// So many accounts are looked at at once for what has expired.
pub(crate) const LOOKED_AT: i64 = 100;

/// And for so long in one call.
pub(crate) const LOOKING: Duration = Duration::from_secs(2);

/// What is wanted of a query, once its names are numbers.
pub(crate) struct Look<'a> {
    /// The account's or the conversation's number.
    pub(crate) scope: i64,
    pub(crate) resource: Option<&'a str>,
    /// Where what matches lies, whatever the page.
    pub(crate) span: Span,
}

impl Look<'_> {
    /// Where what matches lies in the direction of the page.
    pub(crate) fn of_page(&self, query: &ArchiveQuery) -> Result<Span, StoreError> {
        let mut span = self.span;
        match query.page {
            Page::First | Page::Last => {}
            Page::After(id) => span.after(to_column(id)?),
            Page::Before(id) => span.before(to_column(id)?),
        }
        Ok(span)
    }
}

/// Whether the page is read from its older end.
pub(crate) fn forwards(query: &ArchiveQuery) -> bool {
    matches!(query.page, Page::First | Page::After(_))
}

/// The ids that a query names, which have to be in the archive; sorted, each once.
pub(crate) fn named(query: &ArchiveQuery) -> Vec<u64> {
    let of_page = match query.page {
        Page::After(id) | Page::Before(id) => Some(id),
        Page::First | Page::Last => None,
    };
    let mut named: Vec<u64> =
        query.ids.iter().copied().chain(query.after_id).chain(query.before_id).chain(of_page).collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// A page with nothing on it, of a query that nothing matches.
pub(crate) fn nothing(query: &ArchiveQuery) -> ArchivePage {
    ArchivePage { complete: true, count: query.count.then_some(0), ..ArchivePage::default() }
}

/// The part of `matches` (sorted) that the page holds, and whether nothing lies beyond.
pub(crate) fn cut(query: &ArchiveQuery, matches: &[u64]) -> (Vec<u64>, bool) {
    let from = |id: u64| matches.partition_point(|other| *other <= id);
    let to = |id: u64| matches.partition_point(|other| *other < id);
    let part = match query.page {
        Page::First | Page::Last => matches,
        Page::After(id) => matches.get(from(id)..).unwrap_or_default(),
        Page::Before(id) => matches.get(..to(id)).unwrap_or_default(),
    };
    let beyond = part.len().saturating_sub(query.max);
    let page = if forwards(query) { part.get(..part.len() - beyond) } else { part.get(beyond..) };
    (page.unwrap_or_default().to_vec(), beyond == 0)
}

/// The text of a page: what, under which condition, with the id from where, in which order.
///
/// Parameters: 1 the account or conversation, 2 and 3 the span's ids, 4 and 5 those that need no look at the stamp, 6 and
/// 7 the span's stamps, 8 a resource or nothing, 9 how many, 10 the terms.
macro_rules! page {
    ($from:expr, $condition:expr, $id:literal, $order:literal) => {
        concat!(
            "SELECT m.id, m.stamp, m.stanza, t.id, t.resource FROM ",
            $from,
            " LEFT JOIN tail AS t ON t.account = m.account AND t.id = m.id WHERE ",
            $condition,
            " AND m.conversation IS NOT NULL AND ",
            $id,
            " BETWEEN $2 AND $3 AND (m.id BETWEEN $4 AND $5 OR m.stamp BETWEEN $6 AND $7) \
             AND (CAST($8 AS TEXT) IS NULL OR m.resource = $8) ORDER BY ",
            $order,
            " LIMIT $9"
        )
    };
}

/// The text of a count: parameter 9 is an id, before which they are counted as well; the others are those of `page!`.
macro_rules! count {
    ($from:expr, $condition:expr, $id:literal) => {
        concat!(
            "SELECT count(*), count(CASE WHEN m.id < $9 THEN 1 END) FROM ",
            $from,
            " WHERE ",
            $condition,
            " AND m.conversation IS NOT NULL AND ",
            $id,
            " BETWEEN $2 AND $3 AND (m.id BETWEEN $4 AND $5 OR m.stamp BETWEEN $6 AND $7) \
             AND (CAST($8 AS TEXT) IS NULL OR m.resource = $8)"
        )
    };
}

/// Statements on one connection. `$begin` starts a transaction that writes, `$snapshot` one that reads several tables as
/// of one moment; the module beside it named `texts` holds the statements, the one named `words` makes lists and searches.
macro_rules! archive {
    ($connection:ty, $begin:literal, $snapshot:literal) => {
        use rookery_core::store::{
            ArchiveEnds, ArchivePage, ArchivePlace, ArchiveQuery, ArchivedMessage, Conversation,
        };
        use rookery_xmpp::jid::BareJid;
        use sqlx::{Connection, query, query_as, query_scalar};

        use super::rows::owner;
        use super::texts;
        use super::words::{hold, list, search};
        use crate::archive::{LOOKED_AT, LOOKING, Look, MUCH, SETTLED, cut, forwards, named, nothing};
        use crate::codec;
        use crate::health::Outcome;
        use crate::rows::STEP;
        use crate::span::Span;

        type MessageRow = (i64, i64, Vec<u8>, Option<i64>, Option<String>);

        /// Which statements a query needs.
        #[derive(Clone, Copy)]
        struct Texts {
            up: &'static str,
            down: &'static str,
            count: &'static str,
            /// Counts by the index alone, where nothing but the id matters.
            count_all: Option<&'static str>,
        }

        const fn texts_for(conversation: bool, words: bool) -> Texts {
            match (conversation, words) {
                (false, false) => Texts {
                    up: texts::ACCOUNT_UP,
                    down: texts::ACCOUNT_DOWN,
                    count: texts::ACCOUNT_COUNT,
                    count_all: Some(texts::ACCOUNT_COUNT_ALL),
                },
                (true, false) => Texts {
                    up: texts::CONVERSATION_UP,
                    down: texts::CONVERSATION_DOWN,
                    count: texts::CONVERSATION_COUNT,
                    count_all: Some(texts::CONVERSATION_COUNT_ALL),
                },
                (false, true) => Texts {
                    up: texts::WORDS_UP,
                    down: texts::WORDS_DOWN,
                    count: texts::WORDS_COUNT,
                    count_all: None,
                },
                (true, true) => Texts {
                    up: texts::WORDS_CONVERSATION_UP,
                    down: texts::WORDS_CONVERSATION_DOWN,
                    count: texts::WORDS_CONVERSATION_COUNT,
                    count_all: None,
                },
            }
        }

        async fn conversation(on: &mut $connection, account: i64, with: &str) -> Outcome<Option<i64>> {
            Ok(query_scalar("SELECT number FROM conversations WHERE account = $1 AND jid = $2")
                .bind(account)
                .bind(with)
                .fetch_optional(on)
                .await?)
        }

        pub(crate) async fn page(
            on: &mut $connection,
            user: &BareJid,
            query: &ArchiveQuery,
        ) -> Outcome<Option<ArchivePage>> {
            let mut tx = on.begin_with($snapshot).await?;
            let page = page_of_snapshot(&mut tx, user, query).await?;
            tx.commit().await?;
            Ok(page)
        }

        async fn page_of_snapshot(
            on: &mut $connection,
            user: &BareJid,
            query: &ArchiveQuery,
        ) -> Outcome<Option<ArchivePage>> {
            let names = named(query);
            let Some(account) = owner(on, user).await? else {
                return Ok(names.is_empty().then(|| nothing(query)));
            };
            if !names.is_empty() && !all_there(on, account, &names).await? {
                return Ok(None);
            }
            let of_conversation = match &query.with {
                None => None,
                Some(with) => match conversation(on, account, with.bare_str()).await? {
                    None => return Ok(Some(nothing(query))),
                    number => number,
                },
            };
            let terms = match &query.words {
                None => None,
                Some(text) => match search(account, text) {
                    None => return Ok(Some(nothing(query))),
                    terms => terms,
                },
            };
            let (mut ahead, mut behind) = (0, 0);
            if query.start.is_some() || query.end.is_some() {
                (ahead, behind) =
                    query_as("SELECT ahead, behind FROM archive_marks WHERE slot = 0").fetch_one(&mut *on).await?;
            }
            let mut span = Span::of(query.start, query.end, ahead, behind);
            if let Some(id) = query.after_id {
                span.after(codec::to_column(id)?);
            }
            if let Some(id) = query.before_id {
                span.before(codec::to_column(id)?);
            }
            let look = Look {
                scope: of_conversation.unwrap_or(account),
                resource: query.with.as_ref().and_then(|with| with.resourcepart()),
                span,
            };
            let texts = texts_for(of_conversation.is_some(), terms.is_some());
            if query.ids.is_empty() {
                ranged(on, query, &look, texts, terms).await.map(Some)
            } else {
                listed(on, query, &look, texts, terms, account).await.map(Some)
            }
        }

        /// A page of a range of ids.
        async fn ranged(
            on: &mut $connection,
            query: &ArchiveQuery,
            look: &Look<'_>,
            texts: Texts,
            terms: Option<String>,
        ) -> Outcome<ArchivePage> {
            let span = look.of_page(query)?;
            let fetch = i64::try_from(query.max).unwrap_or(i64::MAX).saturating_add(1);
            let statement = if forwards(query) { texts.up } else { texts.down };
            let statement = query_as(statement)
                .bind(look.scope)
                .bind(span.first_id)
                .bind(span.last_id)
                .bind(span.first_sure)
                .bind(span.last_sure)
                .bind(span.first_stamp)
                .bind(span.last_stamp)
                .bind(look.resource)
                .bind(fetch);
            let statement = match &terms {
                Some(terms) => statement.bind(terms.as_str()),
                None => statement,
            };
            let mut rows: Vec<MessageRow> = statement.fetch_all(&mut *on).await?;
            let complete = rows.len() <= query.max;
            rows.truncate(query.max);
            if !forwards(query) {
                rows.reverse();
            }
            let mut page = ArchivePage { messages: messages(rows)?, complete, count: None, index: None };
            if query.count {
                let first = page.messages.first().map_or(0, |message| codec::to_bound(message.id));
                let (count, before) = counted(on, look, texts, terms, first).await?;
                page.count = Some(count);
                page.index = page.messages.first().map(|_| before);
            }
            Ok(page)
        }

        /// How many match, and how many of them before an id.
        async fn counted(
            on: &mut $connection,
            look: &Look<'_>,
            texts: Texts,
            terms: Option<String>,
            before: i64,
        ) -> Outcome<(u64, u64)> {
            let span = look.span;
            if let Some(count_all) = texts.count_all.filter(|_| look.resource.is_none() && span.is_sure()) {
                let statement = query_as(count_all).bind(look.scope).bind(span.first_id).bind(span.last_id).bind(before);
                let (count, before): (i64, i64) = statement.fetch_one(on).await?;
                return Ok((codec::from_column(count)?, codec::from_column(before)?));
            }
            let statement = query_as(texts.count)
                .bind(look.scope)
                .bind(span.first_id)
                .bind(span.last_id)
                .bind(span.first_sure)
                .bind(span.last_sure)
                .bind(span.first_stamp)
                .bind(span.last_stamp)
                .bind(look.resource)
                .bind(before);
            let statement = match terms {
                Some(terms) => statement.bind(terms),
                None => statement,
            };
            let (count, before): (i64, i64) = statement.fetch_one(on).await?;
            Ok((codec::from_column(count)?, codec::from_column(before)?))
        }

        /// A page of messages that the query lists; they are few.
        async fn listed(
            on: &mut $connection,
            query: &ArchiveQuery,
            look: &Look<'_>,
            texts: Texts,
            terms: Option<String>,
            account: i64,
        ) -> Outcome<ArchivePage> {
            let mut matches = Vec::new();
            for id in named(query) {
                if !query.ids.contains(&id) {
                    continue;
                }
                let mut alone = Look { span: look.span, ..*look };
                alone.span.after(codec::to_column(id)?.saturating_sub(1));
                alone.span.before(codec::to_column(id)?.saturating_add(1));
                if counted(on, &alone, texts, terms.clone(), 0).await?.0 == 1 {
                    matches.push(id);
                }
            }
            let (ids, complete) = cut(query, &matches);
            let mut rows: Vec<MessageRow> = query_as(texts::LISTED).bind(account).bind(list(&ids)?).fetch_all(on).await?;
            rows.sort_unstable_by_key(|row| row.0);
            let index = ids.first().map(|first| matches.partition_point(|id| id < first) as u64);
            Ok(ArchivePage {
                messages: messages(rows)?,
                complete,
                count: query.count.then_some(matches.len() as u64),
                index: index.filter(|_| query.count),
            })
        }

        async fn all_there(on: &mut $connection, account: i64, ids: &[u64]) -> Outcome<bool> {
            if ids.iter().any(|id| i64::try_from(*id).is_err()) {
                return Ok(false);
            }
            let there: i64 = query_scalar(texts::THERE).bind(account).bind(list(ids)?).fetch_one(on).await?;
            Ok(usize::try_from(there) == Ok(ids.len()))
        }

        fn messages(rows: Vec<MessageRow>) -> Outcome<Vec<ArchivedMessage>> {
            let mut messages = Vec::with_capacity(rows.len());
            for (id, stamp, stanza, waits, resource) in rows {
                messages.push(ArchivedMessage {
                    id: codec::from_column(id)?,
                    stamp: codec::from_stamp(stamp)?,
                    stanza: stanza.into(),
                    waits: waits.map(|_| resource),
                });
            }
            Ok(messages)
        }

        pub(crate) async fn ends(on: &mut $connection, user: &BareJid) -> Outcome<Option<ArchiveEnds>> {
            let mut tx = on.begin_with($snapshot).await?;
            let mut ends = Vec::new();
            if let Some(account) = owner(&mut tx, user).await? {
                for statement in [texts::FIRST, texts::LAST] {
                    let row: Option<(i64, i64)> = query_as(statement).bind(account).fetch_optional(&mut *tx).await?;
                    if let Some((id, stamp)) = row {
                        ends.push(ArchivePlace { id: codec::from_column(id)?, stamp: codec::from_stamp(stamp)? });
                    }
                }
            }
            tx.commit().await?;
            Ok(match ends[..] {
                [start, end] => Some(ArchiveEnds { start, end }),
                _ => None,
            })
        }

        pub(crate) async fn archived_id(
            on: &mut $connection,
            user: &BareJid,
            with: &BareJid,
            message_id: &str,
        ) -> Outcome<Option<u64>> {
            let id: Option<i64> = query_scalar(texts::ARCHIVED_ID)
                .bind(user.as_str())
                .bind(with.as_str())
                .bind(message_id)
                .fetch_optional(on)
                .await?;
            Ok(id.map(codec::from_column).transpose()?)
        }

        pub(crate) async fn set_displayed(
            on: &mut $connection,
            user: &BareJid,
            with: &BareJid,
            id: u64,
        ) -> Outcome<bool> {
            let done = query(
                "UPDATE conversations SET displayed = $3, counted = $3, unread = 0 WHERE account = (SELECT number FROM accounts WHERE jid = $1) \
                 AND jid = $2 AND displayed < $3",
            )
            .bind(user.as_str())
            .bind(with.as_str())
            .bind(codec::to_column(id)?)
            .execute(on)
            .await?;
            Ok(done.rows_affected() == 1)
        }

        /// What is unread of each conversation; and the numbers of those where that took much counting.
        /// The conversations in which there is so much to count that it may take more than one call.
        pub(crate) async fn uncounted(on: &mut $connection, user: &BareJid) -> Outcome<Vec<i64>> {
            Ok(query_scalar(texts::BEHIND).bind(user.as_str()).bind(MUCH).fetch_all(on).await?)
        }

        pub(crate) async fn conversations(on: &mut $connection, user: &BareJid) -> Outcome<Vec<Conversation>> {
            let rows: Vec<(String, i64, i64, i64)> =
                query_as(texts::CONVERSATIONS).bind(user.as_str()).fetch_all(on).await?;
            let mut conversations = Vec::new();
            for (jid, displayed, unread, counting) in rows {
                let unread = unread.saturating_add(counting);
                if displayed != 0 || unread != 0 {
                    conversations.push(Conversation {
                        with: codec::jid(&jid)?,
                        displayed: codec::from_column(displayed)?,
                        unread: codec::from_column(unread)?,
                    });
                }
            }
            Ok(conversations)
        }

        /// Counts some more of what is unread of a conversation, for good. `true` when there may be more to count.
        pub(crate) async fn count_on(on: &mut $connection, number: i64) -> Outcome<bool> {
            let mut tx = on.begin_with($begin).await?;
            // What is younger may still be overtaken by what is on its way with a lower id.
            let settled = codec::to_bound(rookery_core::ids::since(SETTLED));
            let mark: i64 = query_scalar("SELECT max(id) FROM tail_marks").fetch_one(&mut *tx).await?;
            let (last, counting): (Option<i64>, i64) = query_as(texts::UNCOUNTED)
                .bind(number)
                .bind(mark.min(settled))
                .bind(STEP)
                .fetch_one(&mut *tx)
                .await?;
            if let Some(last) = last {
                query("UPDATE conversations SET counted = $2, unread = unread + $3 WHERE number = $1")
                    .bind(number)
                    .bind(last)
                    .bind(counting)
                    .execute(&mut *tx)
                    .await?;
                query("UPDATE archive_marks SET counted = $1 WHERE slot = 0 AND counted < $1")
                    .bind(last)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
            Ok(last.is_some())
        }

        pub(crate) async fn expire(on: &mut $connection, user: &BareJid, up_to: u64, limit: usize) -> Outcome<bool> {
            let mut tx = on.begin_with($begin).await?;
            let Some(account) = owner(&mut tx, user).await? else {
                tx.rollback().await?;
                return Ok(false);
            };
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut ids: Vec<i64> = query_scalar(texts::OLDEST)
                .bind(account)
                .bind(codec::to_bound(up_to))
                .bind(limit.saturating_add(1))
                .fetch_all(&mut *tx)
                .await?;
            let of_room = account < 0;
            if of_room {
                let beside: Vec<i64> = query_scalar(crate::rooms::OLDEST_BESIDE)
                    .bind(account)
                    .bind(codec::to_bound(up_to))
                    .bind(limit.saturating_add(1))
                    .fetch_all(&mut *tx)
                    .await?;
                ids.extend(beside);
                ids.sort_unstable();
            }
            let more = i64::try_from(ids.len()).is_ok_and(|found| found > limit);
            ids.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            let ids: Vec<u64> = ids.into_iter().map(codec::from_column).collect::<Result<_, _>>()?;
            hold(&mut tx, account).await?;
            query(texts::STILL_SEEN).bind(account).bind(list(&ids)?).execute(&mut *tx).await?;
            // What waits in the tail stays there; but nobody waits for what a room has there.
            let statements = if of_room { &texts::PURGE[..] } else { &texts::EXPIRE[..] };
            for statement in statements {
                query(*statement).bind(account).bind(list(&ids)?).execute(&mut *tx).await?;
            }
            if !more {
                tidy(&mut tx).await?;
            }
            tx.commit().await?;
            Ok(more)
        }

        async fn tidy(on: &mut $connection) -> Outcome<()> {
            for statement in texts::TIDY {
                if query(statement).execute(&mut *on).await?.rows_affected() == 0 {
                    break;
                }
            }
            Ok(())
        }

        pub(crate) async fn expired_accounts(
            on: &mut $connection,
            domain: &BareJid,
            up_to: u64,
            after: Option<&BareJid>,
            limit: usize,
        ) -> Outcome<Vec<BareJid>> {
            let (mut found, mut seen_to) = (Vec::new(), None::<BareJid>);
            for with_old in [texts::WITH_OLD, texts::ROOMS_WITH_OLD] {
                let (some, cut) = with_old_of(on, with_old, domain, up_to, after, limit).await?;
                found.extend(some);
                seen_to = [seen_to, cut].into_iter().flatten().min();
            }
            found.sort_unstable();
            if let Some(seen_to) = seen_to {
                found.retain(|jid| *jid <= seen_to);
                if found.last() != Some(&seen_to) {
                    found.push(seen_to);
                }
            }
            found.truncate(limit);
            Ok(found)
        }

        /// Those that have something old; and, if the time was up before the end, the last that was looked at.
        async fn with_old_of(
            on: &mut $connection,
            with_old: &'static str,
            domain: &BareJid,
            up_to: u64,
            after: Option<&BareJid>,
            limit: usize,
        ) -> Outcome<(Vec<BareJid>, Option<BareJid>)> {
            let begin = std::time::Instant::now();
            let (mut after, mut found) = (after.map_or(String::new(), ToString::to_string), Vec::new());
            loop {
                let rows: Vec<(String, bool)> = query_as(with_old)
                    .bind(domain.as_str())
                    .bind(after.as_str())
                    .bind(codec::to_bound(up_to))
                    .bind(LOOKED_AT)
                    .fetch_all(&mut *on)
                    .await?;
                let last = i64::try_from(rows.len()).is_ok_and(|rows| rows < LOOKED_AT);
                for (jid, has_old) in rows {
                    if found.len() < limit && has_old {
                        found.push(codec::jid(&jid)?);
                    }
                    after = jid;
                }
                if last || found.len() >= limit {
                    return Ok((found, None));
                }
                if begin.elapsed() >= LOOKING {
                    return Ok((found, Some(codec::jid(&after)?)));
                }
            }
        }

        /// Removes some of what deleted accounts and rooms have left; `true` when there may be more.
        pub(crate) async fn purge(on: &mut $connection, limit: usize, long_ago: i64) -> Outcome<bool> {
            let mut tx = on.begin_with($begin).await?;
            let mut left = i64::try_from(limit).unwrap_or(i64::MAX);
            let numbers: Vec<(i64, i64)> =
                query_as("SELECT number, deleted FROM deleted_accounts ORDER BY number").fetch_all(&mut *tx).await?;
            let (mut more, mut purged) = (false, false);
            for (account, deleted) in numbers {
                let mut is_held = false;
                for of_tail in [true, false] {
                    let ask = left.saturating_add(1);
                    let ids: Vec<i64> = if of_tail {
                        query_scalar("SELECT id FROM tail WHERE account = $1 LIMIT $2").bind(account).bind(ask)
                    } else {
                        query_scalar(texts::OLDEST).bind(account).bind(i64::MAX).bind(ask)
                    }
                    .fetch_all(&mut *tx)
                    .await?;
                    let mut ids: Vec<u64> = ids.into_iter().map(codec::from_column).collect::<Result<_, _>>()?;
                    if i64::try_from(ids.len()).is_ok_and(|found| found > left) {
                        more = true;
                        ids.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    }
                    left -= i64::try_from(ids.len()).unwrap_or(left);
                    if !ids.is_empty() {
                        // Not for those of whom nothing is left: there may be more of them than a transaction has locks.
                        if !is_held {
                            hold(&mut tx, account).await?;
                            is_held = true;
                        }
                        for statement in texts::PURGE {
                            query(statement).bind(account).bind(list(&ids)?).execute(&mut *tx).await?;
                        }
                        purged = true;
                    }
                }
                if more {
                    break;
                }
                for statement in texts::LEAVE {
                    query(statement).bind(account).execute(&mut *tx).await?;
                }
                if deleted < long_ago {
                    query("DELETE FROM deleted_accounts WHERE number = $1").bind(account).execute(&mut *tx).await?;
                }
            }
            if purged && !more {
                tidy(&mut tx).await?;
            }
            tx.commit().await?;
            Ok(more)
        }
    };
}

pub(crate) use {archive, count, page};
