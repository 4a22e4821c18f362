//! Archives in memory: the plainest way to say what the databases must do.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rookery_core::archiving;
use rookery_core::store::{
    ArchiveEnds, ArchivePage, ArchivePlace, ArchiveQuery, ArchivedMessage, Conversation, Record, SEARCHED_HISTORY,
    Seen, TailEntry,
};
use rookery_xmpp::jid::BareJid;

use crate::archive::{cut, named, nothing};
use crate::codec::{from_stamp, to_stamp};
use crate::words::words;

/// The messages of an account: archived, waiting, or both.
#[derive(Default)]
pub(super) struct Messages {
    kept: BTreeMap<u64, Kept>,
    seen: BTreeMap<u64, u64>,
    displayed: BTreeMap<BareJid, u64>,
    /// Up to which id all can be found by their words.
    searched: u64,
}

struct Kept {
    record: Record,
    /// Whether it can be found by its words.
    findable: bool,
}

impl Kept {
    fn words(&self) -> BTreeSet<String> {
        archiving::text(self.record.entry.stanza.clone()).map(|text| words(&text)).unwrap_or_default()
    }
}

impl Messages {
    /// Stores a message. Up to `forgotten` nothing is known any more.
    pub(super) fn append(&mut self, record: &Record, forgotten: u64) {
        let id = record.entry.id;
        match record.digest {
            Some(digest) if id > forgotten => self.seen.insert(id, digest),
            _ => self.seen.remove(&id),
        };
        if let Some(archived) = &record.archived {
            self.displayed.entry(archived.with.clone()).or_default();
        }
        let mut record = record.clone();
        // As columns have it.
        record.entry.stamp = from_stamp(to_stamp(record.entry.stamp)).unwrap_or(record.entry.stamp);
        let waits = record.waits;
        self.kept.insert(id, Kept { record, findable: false });
        self.searched = self.searched.min(id.saturating_sub(1));
        self.settle(id, waits);
    }

    pub(super) fn deliver(&mut self, id: u64) {
        self.settle(id, false);
    }

    pub(super) fn refuse(&mut self, id: u64) {
        self.kept.remove(&id);
        self.seen.remove(&id);
    }

    pub(super) fn forget(&mut self, id: u64) {
        self.seen.remove(&id);
    }

    fn settle(&mut self, id: u64, waits: bool) {
        if let Some(kept) = self.kept.get_mut(&id) {
            kept.record.waits = waits;
            if !waits && kept.record.archived.is_none() {
                self.kept.remove(&id);
            }
        }
    }

    pub(super) fn tail(&self) -> impl Iterator<Item = &TailEntry> {
        self.kept.values().map(|kept| &kept.record).filter(|record| record.waits).map(|record| &record.entry)
    }

    pub(super) fn seen(&self, after: u64, up_to: u64, limit: usize) -> Vec<Seen> {
        let newest = self.seen.range(..=up_to).rev().take_while(|(id, _)| **id > after).take(limit);
        newest.map(|(id, digest)| Seen { id: *id, digest: *digest }).collect()
    }

    pub(super) fn forget_seen(&mut self, up_to: u64) {
        self.seen.retain(|id, _| *id > up_to);
    }

    fn archived(&self) -> impl DoubleEndedIterator<Item = (u64, &Kept)> {
        self.kept.iter().filter(|(_, kept)| kept.record.archived.is_some()).map(|(id, kept)| (*id, kept))
    }

    fn is_archived(&self, id: u64) -> bool {
        self.kept.get(&id).is_some_and(|kept| kept.record.archived.is_some())
    }

    pub(super) fn page(&self, query: &ArchiveQuery) -> Option<ArchivePage> {
        if !named(query).into_iter().all(|id| self.is_archived(id)) {
            return None;
        }
        let wanted = query.words.as_deref().map(words);
        if wanted.as_ref().is_some_and(|words| words.is_empty()) {
            return Some(nothing(query));
        }
        let matches: Vec<u64> = self
            .archived()
            .filter(|(id, kept)| {
                let Some(archived) = &kept.record.archived else { return false };
                query.with.as_ref().is_none_or(|with| {
                    with.bare_str() == archived.with.as_str()
                        && with.resourcepart().is_none_or(|resource| archived.resource.as_deref() == Some(resource))
                }) && query.start.is_none_or(|start| kept.record.entry.stamp >= start)
                    && query.end.is_none_or(|end| kept.record.entry.stamp <= end)
                    && query.after_id.is_none_or(|after| *id > after)
                    && query.before_id.is_none_or(|before| *id < before)
                    && (query.ids.is_empty() || query.ids.contains(id))
                    && wanted.as_ref().is_none_or(|wanted| kept.findable && kept.words().is_superset(wanted))
            })
            .map(|(id, _)| id)
            .collect();
        let (ids, complete) = cut(query, &matches);
        let messages: Vec<ArchivedMessage> = ids.iter().filter_map(|id| self.message(*id)).collect();
        let index = ids.first().map(|first| matches.partition_point(|id| id < first) as u64);
        Some(ArchivePage {
            messages,
            complete,
            count: query.count.then_some(matches.len() as u64),
            index: index.filter(|_| query.count),
        })
    }

    fn message(&self, id: u64) -> Option<ArchivedMessage> {
        let Record { entry, waits, .. } = &self.kept.get(&id)?.record;
        Some(ArchivedMessage {
            id,
            stamp: entry.stamp,
            stanza: entry.stanza.clone(),
            waits: waits.then(|| entry.resource.clone()),
        })
    }

    pub(super) fn ends(&self) -> Option<ArchiveEnds> {
        let place = |(id, kept): (u64, &Kept)| ArchivePlace { id, stamp: kept.record.entry.stamp };
        Some(ArchiveEnds { start: self.archived().next().map(place)?, end: self.archived().next_back().map(place)? })
    }

    pub(super) fn archived_id(&self, with: &BareJid, message_id: &str) -> Option<u64> {
        self.archived()
            .rev()
            .filter_map(|(id, kept)| kept.record.archived.as_ref().map(|archived| (id, archived)))
            .filter(|(_, archived)| archived.with == *with)
            .take(5000)
            .find(|(_, archived)| !archived.sent && archived.message_id.as_deref() == Some(message_id))
            .map(|(id, _)| id)
    }

    pub(super) fn set_displayed(&mut self, with: &BareJid, id: u64) -> bool {
        match self.displayed.get_mut(with) {
            Some(displayed) if *displayed < id => {
                *displayed = id;
                true
            }
            _ => false,
        }
    }

    pub(super) fn conversations(&self) -> Vec<Conversation> {
        let conversations = self.displayed.iter().map(|(with, displayed)| {
            let unread = self.archived().filter(|(id, kept)| {
                let archived = kept.record.archived.as_ref();
                id > displayed && archived.is_some_and(|archived| archived.counts && archived.with == *with)
            });
            Conversation { with: with.clone(), displayed: *displayed, unread: unread.count() as u64 }
        });
        conversations.filter(|conversation| conversation.displayed != 0 || conversation.unread != 0).collect()
    }

    pub(super) fn expire(&mut self, up_to: u64, limit: usize, of_room: bool) -> bool {
        let old = self.kept.iter().take_while(|(id, _)| **id <= up_to);
        let old: Vec<u64> =
            old.filter(|(_, kept)| of_room || kept.record.archived.is_some()).map(|(id, _)| *id).collect();
        for id in old.iter().take(limit) {
            if let Some(kept) = self.kept.get_mut(id) {
                kept.record.archived = None;
                let waits = kept.record.waits && !of_room;
                self.settle(*id, waits);
            }
        }
        old.len() > limit
    }

    pub(super) fn has_up_to(&self, up_to: u64, of_room: bool) -> bool {
        let mut old = self.kept.iter().take_while(|(id, _)| **id <= up_to);
        old.any(|(_, kept)| of_room || kept.record.archived.is_some())
    }

    /// The newest that are history of a room, oldest first.
    pub(super) fn history(&self, limit: usize) -> Vec<ArchivedMessage> {
        let newest = self.archived().rev().take(SEARCHED_HISTORY);
        let newest = newest.filter(|(_, kept)| kept.record.archived.as_ref().is_some_and(|archived| archived.counts));
        let mut ids: Vec<u64> = newest.map(|(id, _)| id).chain(self.tail().map(|entry| entry.id)).collect();
        ids.sort_unstable();
        ids.iter().skip(ids.len().saturating_sub(limit)).filter_map(|id| self.of_room(*id)).collect()
    }

    /// A message of a room, which waits for nobody.
    pub(super) fn of_room(&self, id: u64) -> Option<ArchivedMessage> {
        Some(ArchivedMessage { waits: None, ..self.message(id)? })
    }

    pub(super) fn retract(&mut self, id: u64, tombstone: Bytes) -> bool {
        let Some(Kept { record, .. }) = self.kept.get_mut(&id) else { return false };
        record.entry.stanza = tombstone;
        true
    }

    /// Forgets what waits, but for the newest.
    pub(super) fn trim(&mut self, most: usize) {
        let waiting: Vec<u64> = self.tail().map(|entry| entry.id).collect();
        for id in waiting.iter().rev().skip(most) {
            self.kept.remove(id);
        }
    }

    /// Whether all can be found by their words.
    pub(super) fn is_findable(&self) -> bool {
        self.archived().next_back().is_none_or(|(id, _)| id <= self.searched)
    }

    /// Makes the oldest findable that are not yet; `true` when there may be more.
    pub(super) fn make_findable(&mut self, limit: usize) -> bool {
        let archived = self.archived().map(|(id, _)| id).filter(|id| *id > self.searched);
        let some: Vec<u64> = archived.take(limit).collect();
        for id in &some {
            self.searched = *id;
            if let Some(kept) = self.kept.get_mut(id) {
                kept.findable = true;
            }
        }
        some.len() == limit
    }
}
