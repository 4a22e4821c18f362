//! A page of an archive, read in pieces: messages are small or large, and no query makes the server hold more than a few of
//! the large ones. A page that has become heavy ends early, which a query must reckon with in any case (XEP-0313 §4.3.1).

use crate::archive::Results;
use crate::store::{ArchivePage, ArchiveQuery, Page};

/// Messages that are read at once.
const PIECE: usize = 50;

/// Bytes of messages after which a page ends.
const HEAVY: usize = 1 << 20;

/// What holds a piece.
pub trait Piece {
    /// The piece.
    fn page(&self) -> &ArchivePage;
    /// The piece, to be cut.
    fn page_mut(&mut self) -> &mut ArchivePage;
}

impl Piece for Results {
    fn page(&self) -> &ArchivePage {
        &self.page
    }

    fn page_mut(&mut self) -> &mut ArchivePage {
        &mut self.page
    }
}

impl Piece for ArchivePage {
    fn page(&self) -> &ArchivePage {
        self
    }

    fn page_mut(&mut self) -> &mut ArchivePage {
        self
    }
}

/// A page as it is sent.
#[derive(Debug)]
pub struct Whole<P> {
    /// Its pieces, the oldest first.
    pub pieces: Vec<P>,
    /// Nothing that matches lies beyond it, in the direction in which it was asked for.
    pub complete: bool,
    /// How many match in all, when that was asked for.
    pub count: Option<u64>,
    /// How many of them come before the first of the page, when the count was asked for and no older page is to follow.
    pub index: Option<u64>,
}

impl<P: Piece> Whole<P> {
    /// Its pieces in the order in which they are sent.
    pub fn into_pieces(self, flip: bool) -> Vec<P> {
        let mut pieces = self.pieces;
        if flip {
            pieces.reverse();
        }
        pieces
    }

    /// The ids of the oldest and the newest message.
    pub fn ends(&self) -> Option<(u64, u64)> {
        let mut messages = self.pieces.iter().flat_map(|piece| &piece.page().messages);
        let first = messages.next()?.id;
        Some((first, messages.last().map_or(first, |last| last.id)))
    }
}

/// Reads the page that is asked for, or its beginning; a backward page keeps its newest messages. `ask` reads a piece.
/// `None` when an id that was named is not in the archive.
pub async fn read<P, E, Fut>(
    query: &ArchiveQuery,
    mut ask: impl FnMut(ArchiveQuery) -> Fut,
) -> Result<Option<Whole<P>>, E>
where
    P: Piece,
    Fut: Future<Output = Result<Option<P>, E>>,
{
    let is_backward = matches!(query.page, Page::Before(_) | Page::Last);
    let mut next = ArchiveQuery { max: query.max.min(PIECE), ..query.clone() };
    let Some(mut piece) = ask(next.clone()).await? else { return Ok(None) };
    let first = piece.page();
    let mut whole = Whole { pieces: Vec::new(), complete: first.complete, count: first.count, index: first.index };
    if query.max == 0 {
        // Everything that matches was held back.
        whole.complete = whole.count == Some(0);
        return Ok(Some(whole));
    }
    let (mut messages, mut bytes) = (0, 0);
    loop {
        let cut = lighten(piece.page_mut(), is_backward, &mut bytes);
        let page = piece.page();
        whole.complete = page.complete && !cut;
        messages += page.messages.len();
        let edge = if is_backward { page.messages.first() } else { page.messages.last() };
        let edge = edge.map(|message| message.id);
        whole.pieces.push(piece);
        next.max = query.max.saturating_sub(messages).min(PIECE);
        let Some(edge) = edge.filter(|_| !whole.complete && !cut && next.max > 0) else { break };
        next.page = if is_backward { Page::Before(edge) } else { Page::After(edge) };
        next.count = false;
        // The message at the edge may have been too old to stay meanwhile; what we have is a page all the same.
        let Some(more) = ask(next.clone()).await? else { break };
        piece = more;
    }
    if is_backward {
        whole.pieces.reverse();
        // COMPAT: slixmpp (2026) pages back no further when index and length of a page make up the count. The index is
        // optional (§4.3.2).
        whole.index = whole.index.filter(|_| whole.complete).map(|_| 0);
    }
    if messages == 0 {
        whole.index = None;
    }
    Ok(Some(whole))
}

/// Takes away what makes a page too heavy, at the end where it would have been read on; its first message always stays.
/// `bytes` is what it has already. Whether something went.
fn lighten(page: &mut ArchivePage, is_backward: bool, bytes: &mut usize) -> bool {
    let mut fits = |stanza: &[u8]| {
        let is_first = *bytes == 0;
        *bytes = bytes.saturating_add(stanza.len());
        is_first || *bytes <= HEAVY
    };
    let all = page.messages.len();
    let kept = if is_backward {
        let kept = page.messages.iter().rev().take_while(|message| fits(&message.stanza)).count();
        page.messages.drain(..all.saturating_sub(kept));
        kept
    } else {
        let kept = page.messages.iter().take_while(|message| fits(&message.stanza)).count();
        page.messages.truncate(kept);
        kept
    };
    kept < all
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::UNIX_EPOCH;

    use crate::store::ArchivedMessage;
    use bytes::Bytes;

    use super::*;

    /// What a store says that has the ids 1, 2, … and messages of these sizes.
    fn stored(sizes: &[usize], query: &ArchiveQuery) -> Option<ArchivePage> {
        let all = sizes.len();
        let (from, to) = match query.page {
            Page::First => (0, query.max.min(all)),
            Page::After(id) => (id as usize, (id as usize + query.max).min(all)),
            Page::Last => (all.saturating_sub(query.max), all),
            Page::Before(id) => ((id as usize - 1).saturating_sub(query.max), id as usize - 1),
        };
        let message = |place: usize| ArchivedMessage {
            id: place as u64 + 1,
            stamp: UNIX_EPOCH,
            stanza: Bytes::from(vec![b'x'; sizes[place]]),
            waits: None,
        };
        (from <= all).then(|| ArchivePage {
            messages: (from..to).map(message).collect(),
            complete: if matches!(query.page, Page::First | Page::After(_)) { to == all } else { from == 0 },
            count: query.count.then_some(all as u64),
            index: (query.count && from < to).then_some(from as u64),
        })
    }

    /// The page, and how many pieces were asked for.
    fn page(sizes: &[usize], page: Page, max: usize) -> (Option<Whole<ArchivePage>>, usize) {
        let query = ArchiveQuery {
            with: None,
            start: None,
            end: None,
            after_id: None,
            before_id: None,
            ids: Vec::new(),
            words: None,
            page,
            max,
            count: true,
        };
        let asked = Cell::new(0);
        let reading = read(&query, |query| {
            asked.set(asked.get() + 1);
            std::future::ready(Ok::<_, ()>(stored(sizes, &query)))
        });
        match pin!(reading).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(whole) => (whole.unwrap(), asked.get()),
            Poll::Pending => panic!("it waits"),
        }
    }

    type Expected = (std::ops::RangeInclusive<u64>, bool, Option<u64>);

    #[track_caller]
    fn check(sizes: &[usize], place: Page, max: usize, expected: Expected, pieces: usize) {
        let (whole, asked) = page(sizes, place, max);
        let whole = whole.unwrap();
        let ids: Vec<u64> = whole.pieces.iter().flat_map(|page| &page.messages).map(|message| message.id).collect();
        let (range, complete, index) = expected;
        let ends = (!range.is_empty()).then(|| (*range.start(), *range.end()));
        assert_eq!(whole.ends(), ends, "{place:?} {max}");
        assert_eq!(ids, range.collect::<Vec<_>>(), "{place:?} {max}");
        assert_eq!((whole.complete, whole.index), (complete, index), "{place:?} {max}");
        assert_eq!(whole.count, Some(sizes.len() as u64));
        assert_eq!(asked, pieces, "{place:?} {max}");
    }

    #[expect(clippy::reversed_empty_ranges)]
    const NOTHING: std::ops::RangeInclusive<u64> = 1..=0;

    #[test]
    fn small_messages_come_in_pieces_and_are_one_page() {
        let sizes = [100; 130];
        check(&sizes, Page::First, 50, (1..=50, false, Some(0)), 1);
        check(&sizes, Page::First, 130, (1..=130, true, Some(0)), 3);
        check(&sizes, Page::First, 250, (1..=130, true, Some(0)), 3);
        check(&sizes, Page::First, 120, (1..=120, false, Some(0)), 3);
        check(&sizes, Page::After(20), 250, (21..=130, true, Some(20)), 3);
        check(&sizes, Page::Last, 120, (11..=130, false, None), 3);
        check(&sizes, Page::Last, 250, (1..=130, true, Some(0)), 3);
        check(&sizes, Page::Before(61), 250, (1..=60, true, Some(0)), 2);
        check(&sizes, Page::First, 0, (NOTHING, false, None), 1);
        check(&[], Page::First, 0, (NOTHING, true, None), 1);
        check(&[], Page::Last, 50, (NOTHING, true, None), 1);
        check(&sizes, Page::After(130), 50, (NOTHING, true, None), 1);
    }

    #[test]
    fn a_heavy_page_ends_early() {
        let sizes = [HEAVY / 4; 20];
        check(&sizes, Page::First, 10, (1..=4, false, Some(0)), 1);
        check(&sizes, Page::Last, 10, (17..=20, false, None), 1);
        check(&sizes, Page::Before(5), 10, (1..=4, true, Some(0)), 1);
        check(&[HEAVY * 2; 3], Page::First, 10, (1..=1, false, Some(0)), 1);
        check(&[HEAVY * 2; 3], Page::Last, 10, (3..=3, false, None), 1);
        let mut sizes = vec![100; 60];
        sizes.extend([HEAVY * 2, 100]);
        check(&sizes, Page::First, 100, (1..=60, false, Some(0)), 2);
        check(&sizes, Page::After(60), 100, (61..=61, false, Some(60)), 1);
        check(&sizes, Page::After(61), 100, (62..=62, true, Some(61)), 1);
        let mut sizes = vec![HEAVY * 2];
        sizes.extend([100; 60]);
        check(&sizes, Page::Last, 100, (2..=61, false, None), 2);
    }

    #[test]
    fn an_id_that_is_not_there() {
        assert!(page(&[1], Page::After(9), 10).0.is_none());
    }
}
