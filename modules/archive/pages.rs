//! A page of an archive, read in pieces: messages are small or large, and no query makes the server hold more than a few of
//! the large ones. A page that has become heavy ends early, which a query must reckon with in any case (XEP-0313 §4.3.1).

use rookery_core::store::{ArchivePage, ArchiveQuery, ArchiveStore, Page, StoreResult};
use rookery_xmpp::jid::BareJid;

/// Messages that are read at once.
const PIECE: usize = 50;

/// Bytes of messages after which a page ends.
const HEAVY: usize = 1 << 20;

/// Reads the page that is asked for, or its beginning; a backward page keeps its newest messages. `None` when an id that
/// was named is not in the archive.
pub(super) async fn read<S: ArchiveStore + ?Sized>(
    store: &S,
    user: &BareJid,
    query: &ArchiveQuery,
) -> StoreResult<Option<ArchivePage>> {
    let is_backward = matches!(query.page, Page::Before(_) | Page::Last);
    let mut piece = ArchiveQuery { max: query.max.min(PIECE), ..query.clone() };
    let Some(mut page) = store.archive_page(user, &piece).await? else { return Ok(None) };
    if query.max == 0 {
        // Everything that matches was held back.
        page.complete = page.count == Some(0);
        return Ok(Some(page));
    }
    loop {
        let dropped = lighten(&mut page, is_backward);
        if dropped > 0 {
            page.complete = false;
            break;
        }
        let missing = query.max.saturating_sub(page.messages.len());
        if page.complete || missing == 0 {
            break;
        }
        let edge = if is_backward { page.messages.first() } else { page.messages.last() };
        let Some(edge) = edge.map(|message| message.id) else { break };
        piece.page = if is_backward { Page::Before(edge) } else { Page::After(edge) };
        piece.max = missing.min(PIECE);
        piece.count = false;
        // The message at the edge may have been too old to stay meanwhile; what we have is a page all the same.
        let Some(mut more) = store.archive_page(user, &piece).await? else { break };
        page.complete = more.complete;
        if more.messages.is_empty() {
            break;
        }
        if is_backward {
            page.index = page.index.map(|index| index.saturating_sub(more.messages.len() as u64));
            more.messages.append(&mut page.messages);
            page.messages = more.messages;
        } else {
            page.messages.append(&mut more.messages);
        }
    }
    Ok(Some(page))
}

/// Takes away what makes a page too heavy, at the end where it would have been read on; one message always stays. Says how
/// many went.
fn lighten(page: &mut ArchivePage, is_backward: bool) -> usize {
    let mut bytes = 0_usize;
    let mut fits = |stanza: &[u8]| {
        let begun = bytes > 0;
        bytes = bytes.saturating_add(stanza.len());
        !begun || bytes <= HEAVY
    };
    let all = page.messages.len();
    if is_backward {
        let kept = page.messages.iter().rev().take_while(|message| fits(&message.stanza)).count();
        page.messages.drain(..all.saturating_sub(kept));
        page.index = page.index.map(|index| index + all.saturating_sub(kept) as u64);
    } else {
        let kept = page.messages.iter().take_while(|message| fits(&message.stanza)).count();
        page.messages.truncate(kept);
    }
    all.saturating_sub(page.messages.len())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::{SystemTime, UNIX_EPOCH};

    use async_trait::async_trait;
    use bytes::Bytes;
    use parking_lot::Mutex;
    use rookery_core::store::{ArchiveEnds, ArchivedMessage, Conversation};

    use super::*;

    /// An archive with the ids 1, 2, … and messages of these sizes.
    struct Fake {
        sizes: Vec<usize>,
        asked: Mutex<Vec<(Page, usize)>>,
    }

    #[async_trait]
    impl ArchiveStore for Fake {
        async fn archive_page(&self, _: &BareJid, query: &ArchiveQuery) -> StoreResult<Option<ArchivePage>> {
            self.asked.lock().push((query.page, query.max));
            let all = self.sizes.len();
            let (from, to) = match query.page {
                Page::First => (0, query.max.min(all)),
                Page::After(id) => (id as usize, (id as usize + query.max).min(all)),
                Page::Last => (all.saturating_sub(query.max), all),
                Page::Before(id) => ((id as usize - 1).saturating_sub(query.max), id as usize - 1),
            };
            if from > all {
                return Ok(None);
            }
            let message = |place: usize| ArchivedMessage {
                id: place as u64 + 1,
                stamp: UNIX_EPOCH,
                stanza: Bytes::from(vec![b'x'; self.sizes[place]]),
                waits: None,
            };
            let complete = if matches!(query.page, Page::First | Page::After(_)) { to == all } else { from == 0 };
            Ok(Some(ArchivePage {
                messages: (from..to).map(message).collect(),
                complete,
                count: query.count.then_some(all as u64),
                index: (query.count && from < to).then_some(from as u64),
            }))
        }
        async fn archive_ends(&self, _: &BareJid) -> StoreResult<Option<ArchiveEnds>> {
            Ok(None)
        }
        async fn archived_id(&self, _: &BareJid, _: &BareJid, _: &str) -> StoreResult<Option<u64>> {
            Ok(None)
        }
        async fn set_displayed(&self, _: &BareJid, _: &BareJid, _: u64) -> StoreResult<bool> {
            Ok(false)
        }
        async fn conversations(&self, _: &BareJid) -> StoreResult<Vec<Conversation>> {
            Ok(Vec::new())
        }
        async fn expire_archive(&self, _: &BareJid, _: u64, _: usize) -> StoreResult<bool> {
            Ok(false)
        }
        async fn expired_accounts(
            &self,
            _: &BareJid,
            _: u64,
            _: Option<&BareJid>,
            _: usize,
        ) -> StoreResult<Vec<BareJid>> {
            Ok(Vec::new())
        }
        async fn index_words(&self, _: usize) -> StoreResult<bool> {
            Ok(false)
        }
    }

    /// What a future gives that never waits.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it waits"),
        }
    }

    fn query(page: Page, max: usize) -> ArchiveQuery {
        ArchiveQuery {
            with: None,
            start: None::<SystemTime>,
            end: None,
            after_id: None,
            before_id: None,
            ids: Vec::new(),
            words: None,
            page,
            max,
            count: true,
        }
    }

    #[track_caller]
    fn check(sizes: &[usize], page: Page, max: usize, expected: (&[u64], bool, Option<u64>), calls: usize) {
        let store = Fake { sizes: sizes.to_vec(), asked: Mutex::default() };
        let user = BareJid::new("juliet@capulet.lit").unwrap();
        let read = now(read(&store, &user, &query(page, max))).unwrap().unwrap();
        let ids: Vec<u64> = read.messages.iter().map(|message| message.id).collect();
        assert_eq!((ids.as_slice(), read.complete, read.index), expected, "{page:?} {max}");
        assert_eq!(read.count, Some(sizes.len() as u64));
        assert_eq!(store.asked.lock().len(), calls, "{page:?} {max}");
    }

    fn ids(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        range.collect()
    }

    #[test]
    fn small_messages_come_in_pieces_and_are_one_page() {
        let sizes = [100; 130];
        check(&sizes, Page::First, 50, (&ids(1..=50), false, Some(0)), 1);
        check(&sizes, Page::First, 130, (&ids(1..=130), true, Some(0)), 3);
        check(&sizes, Page::First, 250, (&ids(1..=130), true, Some(0)), 3);
        check(&sizes, Page::First, 120, (&ids(1..=120), false, Some(0)), 3);
        check(&sizes, Page::After(20), 250, (&ids(21..=130), true, Some(20)), 3);
        check(&sizes, Page::Last, 120, (&ids(11..=130), false, Some(10)), 3);
        check(&sizes, Page::Last, 250, (&ids(1..=130), true, Some(0)), 3);
        check(&sizes, Page::Before(61), 250, (&ids(1..=60), true, Some(0)), 2);
        check(&sizes, Page::First, 0, (&[], false, None), 1);
        check(&[], Page::First, 0, (&[], true, None), 1);
        check(&[], Page::Last, 50, (&[], true, None), 1);
        check(&sizes, Page::After(130), 50, (&[], true, None), 1);
    }

    #[test]
    fn a_heavy_page_ends_early() {
        let sizes = [HEAVY / 4; 20];
        check(&sizes, Page::First, 10, (&ids(1..=4), false, Some(0)), 1);
        check(&sizes, Page::Last, 10, (&ids(17..=20), false, Some(16)), 1);
        check(&sizes, Page::Before(5), 10, (&ids(1..=4), true, Some(0)), 1);
        check(&[HEAVY * 2; 3], Page::First, 10, (&[1], false, Some(0)), 1);
        check(&[HEAVY * 2; 3], Page::Last, 10, (&[3], false, Some(2)), 1);
        let mut sizes = vec![100; 60];
        sizes.push(HEAVY * 2);
        sizes.push(100);
        check(&sizes, Page::First, 100, (&ids(1..=60), false, Some(0)), 2);
        check(&sizes, Page::After(60), 100, (&[61], false, Some(60)), 1);
        check(&sizes, Page::After(61), 100, (&[62], true, Some(61)), 1);
    }

    #[test]
    fn an_id_that_is_not_there() {
        let store = Fake { sizes: vec![1], asked: Mutex::default() };
        let user = BareJid::new("juliet@capulet.lit").unwrap();
        assert!(now(read(&store, &user, &query(Page::After(9), 10))).unwrap().is_none());
    }
}
