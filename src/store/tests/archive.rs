//! What archives must do on every database (XEP-0313): pages, ends, unread, expiry. For searches by words see `words`, for
//! archives of all sorts `random_archives`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rookery_core::ids::RANDOM_BITS;
use rookery_core::store::{
    ArchivePage, ArchiveQuery, Archived, Conversation, Page, Record, Seen, Store, TailChange, TailEntry, TailSize,
};
use rookery_xmpp::jid::Jid;

use super::{append, ids, jid, keys};

/// As `suite!`, for the tests of archives.
macro_rules! archive_suite {
    ($open:path) => {
        crate::tests::suite::suite!(@ $open, archive:
            a_page_is_read_from_either_end,
            a_page_says_whether_it_is_the_last,
            a_query_by_peer_takes_one_resource_or_all,
            a_query_by_time_includes_its_ends,
            an_id_that_is_not_there_makes_the_query_fail,
            a_page_may_be_only_counted,
            messages_that_wait_say_so,
            an_archived_message_stays_when_it_is_delivered,
            a_refused_message_has_never_been,
            nobody_finds_what_is_in_another_archive,
            unread_is_what_counts_and_came_after_what_is_displayed,
            a_message_is_found_by_its_senders_id,
            what_expires_leaves_the_archive_and_not_the_tail,
            accounts_with_something_old_are_told_by_address,
            what_was_seen_is_known_for_a_while,
            what_was_seen_is_known_once_wherever_its_message_is,
            a_deleted_archive_is_nobodys,
            a_clock_that_jumps_hides_nothing,
            a_batch_that_comes_in_part_again_is_stored_once,
        );
        crate::tests::suite::suite!(@ $open, words:
            words_find_messages_that_have_them_all,
            an_archive_is_made_findable_in_steps,
            t10_long_messages_are_made_findable_a_few_at_a_time,
            searches_at_once_and_what_comes_meanwhile_are_all_exact,
            d5_words_are_never_an_expression,
        );
        crate::tests::suite::suite!(@ $open, random_archives: random_archives_answer_as_in_memory,);
    };
}

pub(crate) use archive_suite;

pub(super) const ALICE: &str = "alice@x.example";
pub(super) const BOB: &str = "bob@x.example";
pub(super) const CAROL: &str = "carol@y.example";

/// 2026-09-21 and something.
pub(super) const NOW: u64 = 1_790_000_000_000_000;

pub(super) fn at(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

/// An id of this many seconds after `NOW`.
pub(super) fn id_at(seconds: u64) -> u64 {
    (NOW + seconds * 1_000_000) << RANDOM_BITS | 0x155
}

/// A message that the account has got from a peer, archived, of the second that its id says.
pub(super) fn got(account: &str, seconds: u64, with: &str, body: &str) -> Record {
    let with = Jid::new(with).unwrap();
    let id = id_at(seconds);
    Record {
        entry: TailEntry {
            account: jid(account),
            id,
            resource: None,
            stamp: at(NOW + seconds * 1_000_000),
            stanza: format!("<message xmlns='jabber:client' id='m{seconds}'><body>{body}</body></message>").into(),
        },
        waits: false,
        archived: Some(Archived {
            with: with.bare(),
            resource: with.resourcepart().map(Into::into),
            sent: false,
            counts: true,
            message_id: Some(format!("m{seconds}").into()),
        }),
        digest: Some(seconds ^ 0xDEAD_BEEF_0000_0000),
    }
}

pub(super) fn sent(account: &str, seconds: u64, with: &str, body: &str) -> Record {
    let mut record = got(account, seconds, with, body);
    let archived = record.archived.as_mut().unwrap();
    (archived.sent, archived.counts) = (true, false);
    record
}

fn waiting(record: Record) -> Record {
    Record { waits: true, ..record }
}

pub(super) async fn put(store: &Arc<dyn Store>, records: impl IntoIterator<Item = Record>) {
    let changes: Vec<TailChange> = records.into_iter().map(TailChange::Append).collect();
    store.commit(&changes).await.unwrap();
}

pub(super) async fn people(store: &Arc<dyn Store>) {
    for name in [ALICE, BOB] {
        assert!(store.create_account(&jid(name), &keys()).await.unwrap());
    }
}

pub(super) async fn index_all(store: &dyn Store) {
    for name in [ALICE, BOB] {
        while store.index_words(&jid(name), 3).await.unwrap() {}
    }
}

/// All of an archive.
pub(super) fn all() -> ArchiveQuery {
    ArchiveQuery {
        with: None,
        start: None,
        end: None,
        after_id: None,
        before_id: None,
        ids: Vec::new(),
        words: None,
        page: Page::First,
        max: 100,
        count: false,
    }
}

pub(super) fn seconds(page: &ArchivePage) -> Vec<u64> {
    page.messages.iter().map(|message| ((message.id >> RANDOM_BITS) - NOW) / 1_000_000).collect()
}

/// The seconds of the messages on a page, and whether it is complete.
pub(super) async fn ask(store: &Arc<dyn Store>, query: ArchiveQuery) -> (Vec<u64>, bool) {
    let page = store.archive_page(&jid(ALICE), &query).await.unwrap().unwrap();
    (seconds(&page), page.complete)
}

async fn ten(store: &Arc<dyn Store>) {
    people(store).await;
    put(store, (1..=10).map(|second| got(ALICE, second, CAROL, "hi"))).await;
}

pub(crate) async fn a_page_is_read_from_either_end(store: &Arc<dyn Store>) {
    ten(store).await;
    let page = |page| ArchiveQuery { page, max: 3, ..all() };
    assert_eq!(ask(store, page(Page::First)).await, (vec![1, 2, 3], false));
    assert_eq!(ask(store, page(Page::After(id_at(3)))).await, (vec![4, 5, 6], false));
    assert_eq!(ask(store, page(Page::After(id_at(8)))).await, (vec![9, 10], true));
    assert_eq!(ask(store, page(Page::Last)).await, (vec![8, 9, 10], false));
    assert_eq!(ask(store, page(Page::Before(id_at(8)))).await, (vec![5, 6, 7], false));
    assert_eq!(ask(store, page(Page::Before(id_at(2)))).await, (vec![1], true));
    assert_eq!(ask(store, page(Page::Before(id_at(1)))).await, (vec![], true));
    assert_eq!(ask(store, page(Page::After(id_at(10)))).await, (vec![], true));
    let ends = store.archive_ends(&jid(ALICE)).await.unwrap().unwrap();
    assert_eq!((ends.start.id, ends.start.stamp), (id_at(1), at(NOW + 1_000_000)));
    assert_eq!((ends.end.id, ends.end.stamp), (id_at(10), at(NOW + 10_000_000)));
    assert_eq!(store.archive_ends(&jid(BOB)).await.unwrap(), None);
    assert_eq!(store.archive_ends(&jid("nobody@x.example")).await.unwrap(), None);
}

pub(crate) async fn a_page_says_whether_it_is_the_last(store: &Arc<dyn Store>) {
    ten(store).await;
    for (max, complete) in [(9, false), (10, true), (11, true), (usize::MAX, true)] {
        for page in [Page::First, Page::Last] {
            let (found, told) = ask(store, ArchiveQuery { page, max, ..all() }).await;
            assert_eq!((found.len(), told), (max.min(10), complete));
        }
    }
    // What lies beyond, but is not asked for, does not count.
    let query = ArchiveQuery { before_id: Some(id_at(4)), max: 3, ..all() };
    assert_eq!(ask(store, query).await, (vec![1, 2, 3], true));
    let query = ArchiveQuery { after_id: Some(id_at(7)), max: 3, page: Page::Last, ..all() };
    assert_eq!(ask(store, query).await, (vec![8, 9, 10], true));
}

pub(crate) async fn a_query_by_peer_takes_one_resource_or_all(store: &Arc<dyn Store>) {
    people(store).await;
    let with = ["carol@y.example/a", "carol@y.example/b", "carol@y.example", "y.example/a", ALICE, "alice@x.example/a"];
    put(store, (1..).zip(with).map(|(second, with)| got(ALICE, second, with, "hi"))).await;
    let by = |with: &str| ArchiveQuery { with: Some(Jid::new(with).unwrap()), ..all() };
    assert_eq!(ask(store, by("carol@y.example")).await, (vec![1, 2, 3], true));
    assert_eq!(ask(store, by("carol@y.example/b")).await, (vec![2], true));
    assert_eq!(ask(store, by("carol@y.example/B")).await, (vec![], true));
    assert_eq!(ask(store, by("y.example")).await, (vec![4], true));
    assert_eq!(ask(store, by(ALICE)).await, (vec![5, 6], true));
    assert_eq!(ask(store, by("alice@x.example/a")).await, (vec![6], true));
    assert_eq!(ask(store, by("dave@y.example")).await, (vec![], true));
}

pub(crate) async fn a_query_by_time_includes_its_ends(store: &Arc<dyn Store>) {
    ten(store).await;
    let query = |start: Option<u64>, end: Option<u64>| ArchiveQuery { start: start.map(at), end: end.map(at), ..all() };
    let second = |second: u64| NOW + second * 1_000_000;
    assert_eq!(ask(store, query(Some(second(3)), Some(second(5)))).await, (vec![3, 4, 5], true));
    assert_eq!(ask(store, query(Some(second(3) + 1), Some(second(5) - 1))).await, (vec![4], true));
    assert_eq!(ask(store, query(Some(second(9)), None)).await, (vec![9, 10], true));
    assert_eq!(ask(store, query(None, Some(second(2)))).await, (vec![1, 2], true));
    assert_eq!(ask(store, query(None, Some(0))).await, (vec![], true));
    assert_eq!(ask(store, query(Some(second(5)), Some(second(3)))).await, (vec![], true));
    let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
    assert_eq!(ask(store, ArchiveQuery { start: Some(far), ..all() }).await, (vec![], true));
    assert_eq!(ask(store, ArchiveQuery { end: Some(far), ..all() }).await.0.len(), 10);
    let before = UNIX_EPOCH - Duration::from_secs(60);
    assert_eq!(ask(store, ArchiveQuery { start: Some(before), ..all() }).await.0.len(), 10);
}

pub(crate) async fn an_id_that_is_not_there_makes_the_query_fail(store: &Arc<dyn Store>) {
    ten(store).await;
    put(store, [got(BOB, 20, CAROL, "hi"), waiting(Record { archived: None, ..got(ALICE, 21, CAROL, "hi") })]).await;
    // Nobody's, another account's, one that only waits, and one that no column can hold.
    for unknown in [id_at(99), id_at(20), id_at(21), 0, u64::MAX] {
        for query in [
            ArchiveQuery { page: Page::After(unknown), ..all() },
            ArchiveQuery { page: Page::Before(unknown), ..all() },
            ArchiveQuery { after_id: Some(unknown), ..all() },
            ArchiveQuery { before_id: Some(unknown), ..all() },
            ArchiveQuery { ids: vec![id_at(1), unknown], ..all() },
        ] {
            assert_eq!(store.archive_page(&jid(ALICE), &query).await.unwrap(), None, "{query:?}");
            assert_eq!(store.archive_page(&jid("nobody@x.example"), &query).await.unwrap(), None);
        }
    }
    // One that does not match, but is there, is no mistake.
    let with = Some(Jid::new("dave@y.example").unwrap());
    let query = ArchiveQuery { with, page: Page::After(id_at(2)), ..all() };
    assert_eq!(ask(store, query).await, (vec![], true));
    let query = ArchiveQuery { ids: vec![id_at(5), id_at(2), id_at(5)], ..all() };
    assert_eq!(ask(store, query.clone()).await, (vec![2, 5], true));
    let query = ArchiveQuery { after_id: Some(id_at(2)), ..query };
    assert_eq!(ask(store, query).await, (vec![5], true));
    let nobodys = store.archive_page(&jid("nobody@x.example"), &all()).await.unwrap();
    assert_eq!(nobodys, Some(ArchivePage { complete: true, ..ArchivePage::default() }));
}

pub(crate) async fn a_page_may_be_only_counted(store: &Arc<dyn Store>) {
    ten(store).await;
    let counted = |query: ArchiveQuery| async move {
        let query = ArchiveQuery { count: true, ..query };
        let page = store.archive_page(&jid(ALICE), &query).await.unwrap().unwrap();
        (page.messages.len(), page.complete, page.count, page.index)
    };
    assert_eq!(counted(ArchiveQuery { max: 0, ..all() }).await, (0, false, Some(10), None));
    assert_eq!(
        counted(ArchiveQuery { max: 0, page: Page::After(id_at(10)), ..all() }).await,
        (0, true, Some(10), None)
    );
    assert_eq!(counted(ArchiveQuery { max: 3, ..all() }).await, (3, false, Some(10), Some(0)));
    assert_eq!(counted(ArchiveQuery { max: 3, page: Page::Last, ..all() }).await, (3, false, Some(10), Some(7)));
    let query = ArchiveQuery { max: 2, page: Page::Before(id_at(6)), after_id: Some(id_at(2)), ..all() };
    assert_eq!(counted(query).await, (2, false, Some(8), Some(1)));
    let with = Some(Jid::new("dave@y.example").unwrap());
    assert_eq!(counted(ArchiveQuery { with, ..all() }).await, (0, true, Some(0), None));
}

pub(crate) async fn messages_that_wait_say_so(store: &Arc<dyn Store>) {
    people(store).await;
    let mut to_phone = waiting(got(ALICE, 2, CAROL, "hi"));
    to_phone.entry.resource = Some("phone".into());
    let alone = waiting(Record { archived: None, ..got(ALICE, 4, CAROL, "hi") });
    let records = [waiting(got(ALICE, 1, CAROL, "hi")), to_phone.clone(), sent(ALICE, 3, CAROL, "hi"), alone.clone()];
    put(store, records.clone()).await;
    let page = store.archive_page(&jid(ALICE), &all()).await.unwrap().unwrap();
    let waits: Vec<_> = page.messages.iter().map(|message| message.waits.clone()).collect();
    assert_eq!(waits, [Some(None), Some(Some("phone".to_owned())), None]);
    let [first, _, third, _] = &records;
    assert_eq!((&page.messages[0].stanza, page.messages[0].stamp), (&first.entry.stanza, first.entry.stamp));
    assert_eq!((&page.messages[2].stanza, page.messages[2].stamp), (&third.entry.stanza, third.entry.stamp));
    let tail = store.tail(&jid(ALICE), 0, u64::MAX, 9).await.unwrap();
    assert_eq!(tail, [first.entry.clone(), to_phone.entry, alone.entry]);
}

pub(crate) async fn an_archived_message_stays_when_it_is_delivered(store: &Arc<dyn Store>) {
    people(store).await;
    let alone = |second| waiting(Record { archived: None, ..got(ALICE, second, CAROL, "hi") });
    put(store, [waiting(got(ALICE, 1, CAROL, "hi")), alone(2), waiting(got(ALICE, 3, CAROL, "hi"))]).await;
    let deliver = |second| TailChange::Deliver { account: jid(ALICE), id: id_at(second) };
    store.commit(&[deliver(1), deliver(2), deliver(77)]).await.unwrap();
    assert_eq!(ids(&**store, ALICE).await, [id_at(3)]);
    assert_eq!(ask(store, all()).await, (vec![1, 3], true));
    // In one batch with its append, too.
    let changes = [waiting(got(ALICE, 4, CAROL, "hi")), alone(5)].map(TailChange::Append);
    store.commit(&[&changes[..], &[deliver(4), deliver(5)]].concat()).await.unwrap();
    assert_eq!(ids(&**store, ALICE).await, [id_at(3)]);
    assert_eq!(ask(store, all()).await, (vec![1, 3, 4], true));
    let size = store.tail_size(&jid(ALICE)).await.unwrap();
    let bytes = got(ALICE, 3, CAROL, "hi").entry.stanza.len() as u64;
    assert_eq!(size, TailSize { messages: 1, bytes });
    // One that does not wait any more leaves the tail, whatever an earlier commit said.
    put(store, [got(ALICE, 3, CAROL, "hi")]).await;
    assert!(ids(&**store, ALICE).await.is_empty());
    assert_eq!(ask(store, all()).await, (vec![1, 3, 4], true));
}

pub(crate) async fn a_refused_message_has_never_been(store: &Arc<dyn Store>) {
    people(store).await;
    let alone = waiting(Record { archived: None, ..got(ALICE, 2, CAROL, "needle") });
    put(store, [waiting(got(ALICE, 1, CAROL, "needle")), alone]).await;
    index_all(&**store).await;
    let refuse = |second| TailChange::Refuse { account: jid(ALICE), id: id_at(second) };
    store.commit(&[refuse(1), refuse(2)]).await.unwrap();
    assert!(ids(&**store, ALICE).await.is_empty());
    assert_eq!(ask(store, all()).await, (vec![], true));
    assert!(store.seen(&jid(ALICE), 0, u64::MAX, 9).await.unwrap().is_empty());
    index_all(&**store).await;
    let query = ArchiveQuery { words: Some("needle".into()), count: true, ..all() };
    assert_eq!(ask(store, query).await, (vec![], true));
    assert!(store.conversations(&jid(ALICE)).await.unwrap().is_empty());
}

pub(crate) async fn nobody_finds_what_is_in_another_archive(store: &Arc<dyn Store>) {
    people(store).await;
    put(store, [sent(ALICE, 1, BOB, "secret"), got(BOB, 2, ALICE, "secret"), got(BOB, 3, CAROL, "secret")]).await;
    index_all(&**store).await;
    for query in [
        all(),
        ArchiveQuery { words: Some("secret".into()), ..all() },
        ArchiveQuery { start: Some(at(NOW)), ..all() },
        ArchiveQuery { page: Page::Last, ..all() },
    ] {
        assert_eq!(ask(store, ArchiveQuery { count: true, ..query.clone() }).await, (vec![1], true), "{query:?}");
    }
    let with = Some(Jid::new(CAROL).unwrap());
    assert_eq!(ask(store, ArchiveQuery { with, ..all() }).await, (vec![], true));
    let deliver = TailChange::Refuse { account: jid(ALICE), id: id_at(3) };
    store.commit(&[deliver]).await.unwrap();
    let page = store.archive_page(&jid(BOB), &all()).await.unwrap().unwrap();
    assert_eq!(seconds(&page), [2, 3]);
}

pub(crate) async fn unread_is_what_counts_and_came_after_what_is_displayed(store: &Arc<dyn Store>) {
    people(store).await;
    put(store, (1..=4).map(|second| got(ALICE, second, CAROL, "hi"))).await;
    put(store, [sent(ALICE, 5, CAROL, "hi"), sent(ALICE, 6, "dave@y.example", "hi"), got(ALICE, 7, BOB, "hi")]).await;
    let conversation = |with: &str, displayed, unread| Conversation { with: jid(with), displayed, unread };
    let told = store.conversations(&jid(ALICE)).await.unwrap();
    assert_eq!(told, [conversation(BOB, 0, 1), conversation(CAROL, 0, 4)]);
    assert!(store.set_displayed(&jid(ALICE), &jid(CAROL), id_at(3)).await.unwrap());
    assert!(!store.set_displayed(&jid(ALICE), &jid(CAROL), id_at(3)).await.unwrap());
    assert!(!store.set_displayed(&jid(ALICE), &jid(CAROL), id_at(1)).await.unwrap(), "it never goes back");
    assert!(!store.set_displayed(&jid(ALICE), &jid("eve@y.example"), id_at(1)).await.unwrap());
    assert!(!store.set_displayed(&jid("nobody@x.example"), &jid(CAROL), id_at(1)).await.unwrap());
    assert!(store.set_displayed(&jid(ALICE), &jid(BOB), id_at(7)).await.unwrap());
    let told = store.conversations(&jid(ALICE)).await.unwrap();
    assert_eq!(told, [conversation(BOB, id_at(7), 0), conversation(CAROL, id_at(3), 1)]);
    assert!(store.conversations(&jid("nobody@x.example")).await.unwrap().is_empty());
}

pub(crate) async fn a_message_is_found_by_its_senders_id(store: &Arc<dyn Store>) {
    people(store).await;
    let named = |mut record: Record, name: &str| {
        record.archived.as_mut().unwrap().message_id = Some(name.into());
        record
    };
    put(
        store,
        [
            named(got(ALICE, 1, CAROL, "hi"), "a"),
            named(got(ALICE, 2, CAROL, "hi"), "a"),
            named(sent(ALICE, 3, CAROL, "hi"), "a"),
            named(got(ALICE, 4, BOB, "hi"), "b"),
        ],
    )
    .await;
    let find = |with: &str, name: &str| {
        let (with, name) = (jid(with), name.to_owned());
        async move { store.archived_id(&jid(ALICE), &with, &name).await.unwrap() }
    };
    assert_eq!(find(CAROL, "a").await, Some(id_at(2)));
    assert_eq!(find(CAROL, "b").await, None);
    assert_eq!(find(BOB, "b").await, Some(id_at(4)));
    assert_eq!(find("dave@y.example", "a").await, None);
    put(store, (0..4998).map(|second| got(ALICE, 100 + second, CAROL, "hi"))).await;
    assert_eq!(find(CAROL, "a").await, Some(id_at(2)));
    put(store, [got(ALICE, 6000, CAROL, "hi")]).await;
    assert_eq!(find(CAROL, "a").await, None, "it is not among the last five thousand");
}

pub(crate) async fn what_expires_leaves_the_archive_and_not_the_tail(store: &Arc<dyn Store>) {
    ten(store).await;
    put(store, [waiting(got(ALICE, 11, CAROL, "needle")), got(ALICE, 12, CAROL, "needle"), got(BOB, 13, CAROL, "hi")])
        .await;
    index_all(&**store).await;
    assert!(store.expire_archive(&jid(ALICE), id_at(11), 4).await.unwrap());
    assert_eq!(ask(store, all()).await, ((5..=12).collect(), true));
    assert!(store.expire_archive(&jid(ALICE), id_at(11), 6).await.unwrap());
    assert!(!store.expire_archive(&jid(ALICE), id_at(11), 6).await.unwrap());
    assert!(!store.expire_archive(&jid(ALICE), id_at(11), 6).await.unwrap());
    assert!(!store.expire_archive(&jid("nobody@x.example"), id_at(11), 6).await.unwrap());
    assert_eq!(ask(store, all()).await, (vec![12], true));
    let query = ArchiveQuery { words: Some("needle".into()), ..all() };
    assert_eq!(ask(store, query).await, (vec![12], true));
    assert_eq!(
        store.archive_page(&jid(ALICE), &ArchiveQuery { page: Page::After(id_at(3)), ..all() }).await.unwrap(),
        None
    );
    assert_eq!(store.tail(&jid(ALICE), 0, u64::MAX, 9).await.unwrap(), [got(ALICE, 11, CAROL, "needle").entry]);
    assert_eq!(store.conversations(&jid(ALICE)).await.unwrap()[0].unread, 1);
    // Once delivered, it is gone.
    store.commit(&[TailChange::Deliver { account: jid(ALICE), id: id_at(11) }]).await.unwrap();
    assert!(ids(&**store, ALICE).await.is_empty());
    assert_eq!(ask(store, all()).await, (vec![12], true));
    assert_eq!(store.archive_page(&jid(BOB), &all()).await.unwrap().unwrap().messages.len(), 1);
    assert_eq!(store.seen(&jid(ALICE), 0, u64::MAX, 99).await.unwrap().len(), 12, "it is known all the same");
}

pub(crate) async fn accounts_with_something_old_are_told_by_address(store: &Arc<dyn Store>) {
    let names = ["d@x.example", "b@x.example", "c@x.example", "a@x.example", "b@z.example"];
    for (second, name) in (1..).zip(names) {
        store.create_account(&jid(name), &keys()).await.unwrap();
        put(store, [got(name, second, CAROL, "hi")]).await;
    }
    store.create_account(&jid("e@x.example"), &keys()).await.unwrap();
    put(store, [waiting(Record { archived: None, ..got("e@x.example", 9, CAROL, "hi") })]).await;
    let old = |up_to, after: Option<&str>, limit| {
        let after = after.map(jid);
        async move {
            let found = store.expired_accounts(&jid("x.example"), up_to, after.as_ref(), limit).await.unwrap();
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        }
    };
    let all = ["a@x.example", "b@x.example", "c@x.example", "d@x.example"];
    assert_eq!(old(u64::MAX, None, 9).await, all);
    assert_eq!(old(id_at(4), None, 2).await, all[..2]);
    assert_eq!(old(id_at(4), Some("b@x.example"), 9).await, all[2..]);
    assert_eq!(old(id_at(2), None, 9).await, ["b@x.example", "d@x.example"]);
    assert!(old(id_at(0), None, 9).await.is_empty());
}

pub(crate) async fn what_was_seen_is_known_for_a_while(store: &Arc<dyn Store>) {
    people(store).await;
    let apart = |second, waits| Record { archived: None, waits, ..got(ALICE, second, CAROL, "hi") };
    let nothing = Record { digest: None, ..got(ALICE, 4, CAROL, "hi") };
    put(store, [got(ALICE, 1, CAROL, "hi"), apart(2, true), apart(3, false), nothing, got(BOB, 5, CAROL, "hi")]).await;
    store.commit(&[TailChange::Deliver { account: jid(ALICE), id: id_at(2) }]).await.unwrap();
    let seen = |after, limit| async move {
        let mut seen = store.seen(&jid(ALICE), after, u64::MAX, limit).await.unwrap();
        seen.sort_by_key(|seen| seen.id);
        seen
    };
    let known = |second: u64| Seen { id: id_at(second), digest: second ^ 0xDEAD_BEEF_0000_0000 };
    assert_eq!(seen(0, 9).await, [known(1), known(2), known(3)]);
    assert_eq!(seen(id_at(1), 9).await, [known(2), known(3)]);
    assert_eq!(seen(0, 2).await, [known(2), known(3)], "the newest");
    assert_eq!(store.seen(&jid(ALICE), id_at(1), id_at(2), 9).await.unwrap(), [known(2)]);
    assert_eq!(store.seen(&jid(ALICE), id_at(1), id_at(2) - 1, 9).await.unwrap(), []);
    store.commit(&[TailChange::Refuse { account: jid(ALICE), id: id_at(3) }]).await.unwrap();
    assert_eq!(seen(0, 9).await, [known(1), known(2)]);
    // One that is there, one that is not, and one of the same batch.
    put(store, [got(ALICE, 6, CAROL, "hi")]).await;
    let forget = |second| TailChange::Forget { account: jid(ALICE), id: id_at(second) };
    let late = TailChange::Append(apart(7, false));
    store.commit(&[forget(6), forget(8), late, forget(7)]).await.unwrap();
    assert_eq!(seen(0, 9).await, [known(1), known(2)]);
    assert_eq!(ask(store, all()).await, (vec![1, 4, 6], true), "the message is there");
    store.commit(&[TailChange::Refuse { account: jid(ALICE), id: id_at(6) }]).await.unwrap();
    store.forget_seen(id_at(1)).await.unwrap();
    store.forget_seen(id_at(0)).await.unwrap();
    assert_eq!(seen(0, 9).await, [known(2)]);
    store.forget_seen(u64::MAX).await.unwrap();
    assert!(seen(0, 9).await.is_empty());
    assert_eq!(ask(store, all()).await, (vec![1, 4], true));
}

pub(crate) async fn a_deleted_archive_is_nobodys(store: &Arc<dyn Store>) {
    ten(store).await;
    put(
        store,
        [waiting(got(ALICE, 11, CAROL, "hi")), waiting(Record { archived: None, ..got(ALICE, 12, CAROL, "hi") })],
    )
    .await;
    index_all(&**store).await;
    put(store, [got(ALICE, 13, CAROL, "hi"), got(BOB, 14, CAROL, "hi")]).await;
    assert!(store.set_displayed(&jid(ALICE), &jid(CAROL), id_at(3)).await.unwrap());
    assert!(store.delete_account(&jid(ALICE)).await.unwrap());
    put(store, [got(ALICE, 15, CAROL, "hi")]).await;
    for again in [false, true] {
        if again {
            store.create_account(&jid(ALICE), &keys()).await.unwrap();
        }
        assert_eq!(ask(store, ArchiveQuery { count: true, ..all() }).await, (vec![], true));
        assert_eq!(ask(store, ArchiveQuery { words: Some("hi".into()), ..all() }).await, (vec![], true));
        assert_eq!(store.archive_ends(&jid(ALICE)).await.unwrap(), None);
        assert!(ids(&**store, ALICE).await.is_empty());
        assert!(store.seen(&jid(ALICE), 0, u64::MAX, 9).await.unwrap().is_empty());
        assert!(store.conversations(&jid(ALICE)).await.unwrap().is_empty());
    }
    // Even a message that was being stored when the account went.
    put(store, [got(ALICE, 13, CAROL, "again")]).await;
    while store.purge_deleted(4).await.unwrap() {}
    index_all(&**store).await;
    assert_eq!(ask(store, all()).await, (vec![13], true));
    assert_eq!(ask(store, ArchiveQuery { words: Some("again".into()), ..all() }).await, (vec![13], true));
    assert_eq!(store.archive_page(&jid(BOB), &all()).await.unwrap().unwrap().messages.len(), 1);
}

pub(crate) async fn a_clock_that_jumps_hides_nothing(store: &Arc<dyn Store>) {
    people(store).await;
    // Ids go on where they were, stamps are what the clock says: an hour less from the fourth message on.
    for second in 1..=8 {
        let mut record = got(ALICE, second, CAROL, "hi");
        if second > 3 {
            record.entry.stamp -= Duration::from_secs(3600);
        }
        put(store, [record]).await;
    }
    let query = |start: i64, end: i64| ArchiveQuery {
        start: Some(at(NOW.saturating_add_signed(start * 1_000_000))),
        end: Some(at(NOW.saturating_add_signed(end * 1_000_000))),
        ..all()
    };
    assert_eq!(ask(store, query(1, 3)).await, (vec![1, 2, 3], true));
    assert_eq!(ask(store, query(-3600, 0)).await, (vec![4, 5, 6, 7, 8], true));
    assert_eq!(ask(store, query(-3595, -3594)).await, (vec![5, 6], true));
    // An archive that was brought from elsewhere: stamps that are later than their ids.
    let mut record = got(ALICE, 9, CAROL, "hi");
    record.entry.stamp += Duration::from_secs(86_400);
    put(store, [record]).await;
    assert_eq!(ask(store, query(86_400, 90_000)).await, (vec![9], true));
    assert_eq!(ask(store, query(3, 86_400)).await, (vec![3], true));
}

pub(crate) async fn a_batch_that_comes_in_part_again_is_stored_once(store: &Arc<dyn Store>) {
    people(store).await;
    let batch: Vec<Record> = (1..=6).map(|second| waiting(got(ALICE, second, CAROL, "old"))).collect();
    put(store, batch.clone()).await;
    index_all(&**store).await;
    put(store, batch.clone().into_iter().skip(3).chain([got(ALICE, 7, CAROL, "old")])).await;
    put(store, [got(ALICE, 6, BOB, "new")]).await;
    assert_eq!(ask(store, ArchiveQuery { count: true, ..all() }).await, ((1..=7).collect(), true));
    assert_eq!(ids(&**store, ALICE).await, (1..=5).map(id_at).collect::<Vec<_>>());
    index_all(&**store).await;
    let find = |words: &str| ArchiveQuery { words: Some(words.into()), count: true, ..all() };
    assert_eq!(ask(store, find("old")).await, (vec![1, 2, 3, 4, 5, 7], true));
    assert_eq!(ask(store, find("new")).await, (vec![6], true));
    let with = Some(Jid::new(BOB).unwrap());
    assert_eq!(ask(store, ArchiveQuery { with, ..all() }).await, (vec![6], true));
    assert_eq!(store.tail_size(&jid(ALICE)).await.unwrap().messages, 5);
    // One that is not archived any more, and one that is now.
    put(store, [waiting(Record { archived: None, ..got(ALICE, 1, CAROL, "old") })]).await;
    store.commit(&[append(ALICE, 1)]).await.unwrap();
    assert_eq!(ask(store, all()).await, ((2..=7).collect(), true));
    index_all(&**store).await;
    assert_eq!(ask(store, find("old")).await, (vec![2, 3, 4, 5, 7], true));
}

pub(crate) async fn what_was_seen_is_known_once_wherever_its_message_is(store: &Arc<dyn Store>) {
    people(store).await;
    let archived = |second| waiting(got(ALICE, second, CAROL, "hi"));
    let alone = |second| Record { archived: None, ..archived(second) };
    let seen = || async {
        let seen = store.seen(&jid(ALICE), 0, u64::MAX, 9).await.unwrap();
        seen.into_iter().map(|seen| (seen.id, seen.digest)).collect::<Vec<_>>()
    };
    let known = |second: u64, digest: u64| (id_at(second), digest);
    let forget = |second| TailChange::Forget { account: jid(ALICE), id: id_at(second) };
    let deliver = |second| TailChange::Deliver { account: jid(ALICE), id: id_at(second) };
    let with = |digest, record| Record { digest: Some(digest), ..record };
    // Into the archive, and out of it.
    put(store, [with(1, alone(1)), with(2, archived(2)), with(3, archived(3))]).await;
    put(store, [with(11, archived(1)), with(12, alone(2))]).await;
    assert_eq!(seen().await, [known(3, 3), known(2, 12), known(1, 11)]);
    put(store, [with(21, archived(1)), Record { digest: None, ..archived(2) }]).await;
    assert_eq!(seen().await, [known(3, 3), known(1, 21)]);
    // What leaves the archive is known by what it was last known by, whether it waits or not.
    store.commit(&[deliver(1)]).await.unwrap();
    while store.expire_archive(&jid(ALICE), id_at(3), 9).await.unwrap() {}
    assert_eq!(seen().await, [known(3, 3), known(1, 21)]);
    assert_eq!(ids(&**store, ALICE).await, [id_at(2), id_at(3)]);
    store.commit(&[deliver(3), forget(3), forget(1)]).await.unwrap();
    assert_eq!(seen().await, []);
    // It is forgotten in the archive, delivered with that or not, and beside one that is refused.
    put(store, [with(4, archived(4)), with(5, archived(5)), with(6, alone(6)), with(7, archived(7))]).await;
    let refuse = TailChange::Refuse { account: jid(ALICE), id: id_at(7) };
    store.commit(&[forget(4), deliver(5), forget(5), forget(6), deliver(6), forget(7), refuse]).await.unwrap();
    assert_eq!(seen().await, []);
    assert_eq!(ask(store, all()).await, (vec![4, 5], true));
    assert_eq!(ids(&**store, ALICE).await, [id_at(2), id_at(4)]);
    // Of both, the newest.
    put(store, [with(8, archived(8)), with(9, alone(9)), with(10, archived(10)), with(11, alone(11))]).await;
    let newest = store.seen(&jid(ALICE), id_at(8), u64::MAX, 2).await.unwrap();
    assert_eq!(newest.iter().map(|seen| seen.id).collect::<Vec<_>>(), [id_at(11), id_at(10)]);
}
