//! Random archives and questions about them, which are answered as in memory.

use std::sync::Arc;
use std::time::SystemTime;

use rookery_core::ids::RANDOM_BITS;
use rookery_core::store::{
    AccountStore, ArchiveQuery, ArchiveStore, Archived, Page, Record, Seen, Store, TailChange, TailEntry, TailStore,
};
use rookery_xmpp::jid::Jid;

use super::archive::{NOW, all, at, id_at};
use super::{Random, jid, keys};
use crate::MemoryStore;

const USERS: [&str; 4] = ["u0@x.example", "u1@x.example", "u2@x.example", "u3@x.example"];
const PEERS: [&str; 6] =
    ["p@y.example", "p@y.example/a", "p@y.example/b", "q@y.example/a", "u0@x.example", "r.example"];
const WORDS: [&str; 5] = ["one", "two", "three", "four", "Fünf"];

/// A small world: few ids, each of one account for ever.
struct World {
    random: Random,
    /// Whether ids hold times, as real ones do.
    real: bool,
}

impl World {
    fn id(&mut self, user: usize) -> u64 {
        let step = 1 + self.random.below(40);
        if self.real { id_at(step * 4 + user as u64) } else { step * 4 + user as u64 }
    }

    fn some_id(&mut self, user: usize) -> u64 {
        let other = usize::try_from(self.random.below(4)).unwrap();
        let user = if self.random.one_in(12) { other } else { user };
        self.id(user)
    }

    fn time(&mut self) -> SystemTime {
        at(NOW + self.random.below(170) * 1_000_000 + self.random.below(3) - 1)
    }

    fn text(&mut self) -> String {
        let count = self.random.below(4);
        let words: Vec<&str> = (0..count).map(|_| self.random.pick(&WORDS)).collect();
        words.join(" ")
    }

    fn change(&mut self, user: usize) -> TailChange {
        let (account, id) = (jid(USERS[user]), self.id(user));
        match self.random.below(9) {
            0 | 1 => return TailChange::Deliver { account, id },
            2 => return TailChange::Refuse { account, id },
            3 => return TailChange::Forget { account, id },
            _ => {}
        }
        let stamp = if self.real && !self.random.one_in(9) {
            at((id >> RANDOM_BITS) - self.random.below(2_000_000))
        } else {
            self.time()
        };
        let with = Jid::new(self.random.pick(&PEERS)).unwrap();
        let sent = self.random.one_in(2);
        let archived = Archived {
            with: with.bare(),
            resource: with.resourcepart().map(Into::into),
            sent,
            counts: !sent && self.random.one_in(2),
            message_id: Some(format!("m{}", self.random.below(5)).into()),
        };
        let resource = self.random.one_in(3).then(|| "phone".to_owned());
        let body = if self.random.one_in(4) { String::new() } else { format!("<body>{}</body>", self.text()) };
        let stanza = format!("<message xmlns='jabber:client' id='{id}'>{body}</message>");
        TailChange::Append(Record {
            entry: TailEntry { account, id, resource, stamp, stanza: stanza.into() },
            waits: self.random.one_in(2),
            archived: (!self.random.one_in(4)).then_some(archived),
            digest: (!self.random.one_in(4)).then(|| self.random.below(u64::MAX)),
        })
    }

    fn query(&mut self, user: usize) -> ArchiveQuery {
        let mut query = all();
        if self.random.one_in(2) {
            query.with =
                Some(Jid::new(self.random.pick(&[&PEERS[..], &["q@y.example", "none.example"]].concat())).unwrap());
        }
        query.start = self.random.one_in(4).then(|| self.time());
        query.end = self.random.one_in(4).then(|| self.time());
        query.after_id = self.random.one_in(8).then(|| self.some_id(user));
        query.before_id = self.random.one_in(8).then(|| self.some_id(user));
        if self.random.one_in(8) {
            query.ids = (0..self.random.below(4)).map(|_| self.some_id(user)).collect();
        }
        query.words = self.random.one_in(4).then(|| self.text());
        query.page = match self.random.below(6) {
            0 | 1 => Page::First,
            2 | 3 => Page::Last,
            4 => Page::After(self.some_id(user)),
            _ => Page::Before(self.some_id(user)),
        };
        query.max = usize::try_from(self.random.below(7)).unwrap();
        query.count = self.random.one_in(2);
        query
    }
}

pub(crate) async fn random_archives_answer_as_in_memory(store: &Arc<dyn Store>) {
    for (seed, real) in [(0x2545_F491_4F6C_DD1D, false), (0x9E37_79B9_7F4A_7C15, true)] {
        let model = MemoryStore::new();
        for name in USERS {
            store.delete_account(&jid(name)).await.unwrap();
        }
        while store.purge_deleted(100).await.unwrap() {}
        let mut world = World { random: Random(seed), real };
        // The last one has no account at first.
        for name in &USERS[..3] {
            store.create_account(&jid(name), &keys()).await.unwrap();
            model.create_account(&jid(name), &keys()).await.unwrap();
        }
        for round in 0..40 {
            step(&mut world, &**store, &model, round).await;
            for _ in 0..2 {
                let user = usize::try_from(world.random.below(4)).unwrap();
                compare(&mut world, &**store, &model, user).await;
            }
        }
    }
}

async fn step(world: &mut World, store: &dyn Store, model: &MemoryStore, round: u64) {
    let count = world.random.below(30);
    let changes: Vec<TailChange> = (0..count)
        .map(|_| {
            let user = usize::try_from(world.random.below(4)).unwrap();
            world.change(user)
        })
        .collect();
    store.commit(&changes).await.unwrap();
    TailStore::commit(model, &changes).await.unwrap();
    if world.random.one_in(4) {
        // It is not known whether the first try came through, or not all of it is tried again.
        let half = &changes[changes.len() / 2..];
        store.commit(half).await.unwrap();
        TailStore::commit(model, half).await.unwrap();
    }
    let user = usize::try_from(world.random.below(4)).unwrap();
    let name = jid(USERS[user]);
    if world.random.one_in(5) {
        let (up_to, limit) = (world.id(user), usize::try_from(world.random.below(8)).unwrap());
        let more = store.expire_archive(&name, up_to, limit).await.unwrap();
        assert_eq!(more, model.expire_archive(&name, up_to, limit).await.unwrap());
    }
    if world.random.one_in(3) {
        let (with, id) = (Jid::new(world.random.pick(&PEERS)).unwrap().bare(), world.id(user));
        let changed = store.set_displayed(&name, &with, id).await.unwrap();
        assert_eq!(changed, model.set_displayed(&name, &with, id).await.unwrap());
    }
    if world.random.one_in(2) {
        let limit = usize::try_from(1 + world.random.below(20)).unwrap();
        while store.index_words(&name, limit).await.unwrap() {}
        while model.index_words(&name, limit).await.unwrap() {}
    }
    if world.random.one_in(10) {
        let up_to = world.id(user);
        store.forget_seen(up_to).await.unwrap();
        model.forget_seen(up_to).await.unwrap();
    }
    if round % 13 == 12 {
        let deleted = store.delete_account(&name).await.unwrap();
        assert_eq!(deleted, model.delete_account(&name).await.unwrap());
        if world.random.one_in(2) {
            store.create_account(&name, &keys()).await.unwrap();
            model.create_account(&name, &keys()).await.unwrap();
        }
        store.purge_deleted(usize::try_from(world.random.below(10)).unwrap()).await.unwrap();
    }
}

async fn compare(world: &mut World, store: &dyn Store, model: &MemoryStore, user: usize) {
    let name = jid(USERS[user]);
    for _ in 0..12 {
        let query = world.query(user);
        let found = store.archive_page(&name, &query).await.unwrap();
        assert_eq!(found, model.archive_page(&name, &query).await.unwrap(), "{name} {query:?}");
    }
    let (after, limit) = (world.id(user), usize::try_from(world.random.below(9)).unwrap());
    let sorted = |mut seen: Vec<Seen>| {
        seen.sort_by_key(|seen| seen.id);
        seen
    };
    let seen = sorted(store.seen(&name, after, u64::MAX, limit).await.unwrap());
    assert_eq!(seen, sorted(model.seen(&name, after, u64::MAX, limit).await.unwrap()));
    let tail = store.tail(&name, after, u64::MAX, limit).await.unwrap();
    assert_eq!(tail, TailStore::tail(model, &name, after, u64::MAX, limit).await.unwrap());
    assert_eq!(store.tail_size(&name).await.unwrap(), TailStore::tail_size(model, &name).await.unwrap());
    assert_eq!(store.archive_ends(&name).await.unwrap(), model.archive_ends(&name).await.unwrap());
    assert_eq!(store.is_findable(&name).await.unwrap(), model.is_findable(&name).await.unwrap(), "{name}");
    assert_eq!(store.conversations(&name).await.unwrap(), model.conversations(&name).await.unwrap());
    let with = Jid::new(world.random.pick(&PEERS)).unwrap().bare();
    let found = store.archived_id(&name, &with, "m1").await.unwrap();
    assert_eq!(found, model.archived_id(&name, &with, "m1").await.unwrap());
    let domain = jid("x.example");
    let old = store.expired_accounts(&domain, after, Some(&name), limit).await.unwrap();
    assert_eq!(old, model.expired_accounts(&domain, after, Some(&name), limit).await.unwrap());
}
