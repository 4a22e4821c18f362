//! Random rooms and questions about them, which are answered as in memory.

use std::sync::Arc;

use rookery_core::store::{
    ArchiveQuery, ArchiveStore, Page, RoomRecord, RoomStore, Seen, Store, TailChange, TailStore,
};
use rookery_xmpp::jid::Jid;

use super::rooms::{CAVE, HEATH, SERVICE, all, at, create, destroy, index_all, person, said, say, value, visit};
use super::{Random, jid};
use crate::MemoryStore;

impl Random {
    /// An id is one room's for ever.
    fn id(&mut self, room: usize) -> u64 {
        1 + self.below(40) * ROOMS.len() as u64 + room as u64
    }

    fn change(&mut self) -> TailChange {
        let of = usize::try_from(self.below(ROOMS.len() as u64)).unwrap();
        let (room, id) = (ROOMS[of], self.id(of));
        let text = self.pick(&[Some("<a/>"), Some("<b/>"), None]);
        let who = self.pick(&["p@y.example", "q@y.example", "y.example"]);
        match self.below(24) {
            0 | 1 => create(room, self.below(9)),
            2 => destroy(room),
            3 => TailChange::Refuse { account: jid(room), id },
            4 => TailChange::Deliver { account: jid(room), id },
            5 | 6 => value(room, self.pick(&["config", "subject", "vcard"]), text),
            7 | 8 => person(room, who, text),
            9 | 10 => visit(room, &format!("{who}/{}", self.below(2)), text),
            _ => {
                let body = self.pick(&["one", "two", "one two", ""]);
                let nick = self.pick(&["witch", "hecate"]);
                say(
                    room,
                    RoomRecord {
                        nick: (!self.one_in(5)).then(|| nick.into()),
                        history: !self.one_in(3),
                        archived: !self.one_in(3),
                        digest: (!self.one_in(3)).then(|| self.below(u64::MAX)),
                        ..said(id, nick, body)
                    },
                )
            }
        }
    }
}

const ROOMS: [&str; 4] = [CAVE, HEATH, "court@rooms.x.example", "wood@rooms.x.example"];

pub(crate) async fn random_rooms_are_as_in_memory(store: &Arc<dyn Store>) {
    let (store, model) = (&**store, MemoryStore::new());
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    for _ in 0..120 {
        let changes: Vec<TailChange> = (0..random.below(30)).map(|_| random.change()).collect();
        let half = &changes[changes.len() / 2..];
        let again = random.one_in(4);
        let of = usize::try_from(random.below(4)).unwrap();
        let (room, id, limit) = (jid(ROOMS[of]), random.id(of), usize::try_from(random.below(9)).unwrap());
        let (retracts, expires, forgets) = (random.one_in(3), random.one_in(6), random.one_in(12));
        for store in [store, &model] {
            store.commit(&changes).await.unwrap();
            if again {
                store.commit(half).await.unwrap();
            }
            if forgets {
                store.forget_seen(id).await.unwrap();
            }
        }
        if retracts {
            let done = store.retract(&room, id, "<gone/>".into()).await.unwrap();
            assert_eq!(done, model.retract(&room, id, "<gone/>".into()).await.unwrap());
        }
        if expires {
            let more = store.expire_archive(&room, id, limit).await.unwrap();
            assert_eq!(more, model.expire_archive(&room, id, limit).await.unwrap());
        }
        if random.one_in(2) {
            index_all(store).await;
            index_all(&model).await;
        }
        store.purge_deleted(usize::try_from(random.below(9)).unwrap()).await.unwrap();
        compare(&mut random, store, &model).await;
    }
}

async fn compare(random: &mut Random, store: &dyn Store, model: &MemoryStore) {
    let service = jid(SERVICE);
    let after = jid(random.pick(&ROOMS));
    let rooms = store.rooms(&service, Some(&after), 2).await.unwrap();
    assert_eq!(rooms, model.rooms(&service, Some(&after), 2).await.unwrap());
    let visited = store.visited_rooms(&service).await.unwrap();
    assert_eq!(visited, model.visited_rooms(&service).await.unwrap());
    let old = store.expired_accounts(&service, 70, None, 3).await.unwrap();
    assert_eq!(old, model.expired_accounts(&service, 70, None, 3).await.unwrap());
    assert_eq!(store.last_id().await.unwrap(), TailStore::last_id(model).await.unwrap());
    for (of, name) in ROOMS.iter().enumerate() {
        let (room, id) = (jid(name), random.id(of));
        assert_eq!(store.room(&room).await.unwrap(), model.room(&room).await.unwrap());
        let limit = usize::try_from(random.below(9)).unwrap();
        let history = store.room_history(&room, limit).await.unwrap();
        assert_eq!(history, model.room_history(&room, limit).await.unwrap());
        let message = store.room_message(&room, id).await.unwrap();
        assert_eq!(message, model.room_message(&room, id).await.unwrap());
        assert_eq!(store.archive_ends(&room).await.unwrap(), model.archive_ends(&room).await.unwrap());
        let sorted = |mut seen: Vec<Seen>| {
            seen.sort_by_key(|seen| seen.id);
            seen
        };
        let seen = sorted(store.seen(&room, id, u64::MAX, limit).await.unwrap());
        assert_eq!(seen, sorted(model.seen(&room, id, u64::MAX, limit).await.unwrap()));
        for _ in 0..4 {
            let with = random.pick(&[None, Some(""), Some("/witch")]);
            let query = ArchiveQuery {
                with: with.map(|nick| Jid::new(&format!("{name}{nick}")).unwrap()),
                words: random.one_in(3).then(|| random.pick(&["one", "two"]).to_owned()),
                start: random.one_in(4).then(|| at(random.below(99))),
                page: random.pick(&[Page::First, Page::Last, Page::After(id), Page::Before(id)]),
                max: usize::try_from(random.below(7)).unwrap(),
                ..all()
            };
            let page = store.archive_page(&room, &query).await.unwrap();
            assert_eq!(page, model.archive_page(&room, &query).await.unwrap(), "{room} {query:?}");
        }
    }
}
