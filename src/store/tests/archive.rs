//! What archives must do on every database (XEP-0313, XEP-0431): pages, ends, unread, expiry; and random archives and
//! questions, answered as in memory.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rookery_core::ids::RANDOM_BITS;
use rookery_core::store::{
    AccountStore, ArchivePage, ArchiveQuery, ArchiveStore, Archived, Conversation, Page, Record, Seen, Store,
    TailChange, TailEntry, TailSize, TailStore,
};
use rookery_xmpp::jid::Jid;

use super::{append, ids, jid, keys};
use crate::MemoryStore;

/// As `suite!`, for the tests of this file.
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
            words_find_messages_that_have_them_all,
            an_archive_is_made_findable_in_steps,
            t10_long_messages_are_made_findable_a_few_at_a_time,
            searches_at_once_and_what_comes_meanwhile_are_all_exact,
            d5_words_are_never_an_expression,
            nobody_finds_what_is_in_another_archive,
            unread_is_what_counts_and_came_after_what_is_displayed,
            a_message_is_found_by_its_senders_id,
            what_expires_leaves_the_archive_and_not_the_tail,
            accounts_with_something_old_are_told_by_address,
            what_was_seen_is_known_for_a_while,
            a_deleted_archive_is_nobodys,
            a_clock_that_jumps_hides_nothing,
            a_batch_that_comes_in_part_again_is_stored_once,
            random_archives_answer_as_in_memory,
        );
    };
}

pub(crate) use archive_suite;

const ALICE: &str = "alice@x.example";
const BOB: &str = "bob@x.example";
const CAROL: &str = "carol@y.example";

/// 2026-09-21 and something.
const NOW: u64 = 1_790_000_000_000_000;

fn at(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

/// An id of this many seconds after `NOW`.
fn id_at(seconds: u64) -> u64 {
    (NOW + seconds * 1_000_000) << RANDOM_BITS | 0x155
}

/// A message that the account has got from a peer, archived, of the second that its id says.
fn got(account: &str, seconds: u64, with: &str, body: &str) -> Record {
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

fn sent(account: &str, seconds: u64, with: &str, body: &str) -> Record {
    let mut record = got(account, seconds, with, body);
    let archived = record.archived.as_mut().unwrap();
    (archived.sent, archived.counts) = (true, false);
    record
}

fn waiting(record: Record) -> Record {
    Record { waits: true, ..record }
}

async fn put(store: &Arc<dyn Store>, records: impl IntoIterator<Item = Record>) {
    let changes: Vec<TailChange> = records.into_iter().map(TailChange::Append).collect();
    store.commit(&changes).await.unwrap();
}

async fn people(store: &Arc<dyn Store>) {
    for name in [ALICE, BOB] {
        assert!(store.create_account(&jid(name), &keys()).await.unwrap());
    }
}

async fn index_all(store: &dyn Store) {
    for name in [ALICE, BOB] {
        while store.index_words(&jid(name), 3).await.unwrap() {}
    }
}

/// All of an archive.
fn all() -> ArchiveQuery {
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

fn seconds(page: &ArchivePage) -> Vec<u64> {
    page.messages.iter().map(|message| ((message.id >> RANDOM_BITS) - NOW) / 1_000_000).collect()
}

/// The seconds of the messages on a page, and whether it is complete.
async fn ask(store: &Arc<dyn Store>, query: ArchiveQuery) -> (Vec<u64>, bool) {
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
    assert!(store.seen(&jid(ALICE), 0, 9).await.unwrap().is_empty());
    index_all(&**store).await;
    let query = ArchiveQuery { words: Some("needle".into()), count: true, ..all() };
    assert_eq!(ask(store, query).await, (vec![], true));
    assert!(store.conversations(&jid(ALICE)).await.unwrap().is_empty());
}

pub(crate) async fn words_find_messages_that_have_them_all(store: &Arc<dyn Store>) {
    people(store).await;
    let bodies =
        ["To be, or not to be", "that is the QUESTION:", "whether 'tis nobler", "Être ou ne pas être", "to bee"];
    put(store, (1..).zip(bodies).map(|(second, body)| got(ALICE, second, CAROL, body))).await;
    put(store, [got(ALICE, 6, "dave@y.example", "to be"), sent(ALICE, 7, CAROL, "Be it so, to you")]).await;
    let find = |words: &str| ArchiveQuery { words: Some(words.into()), ..all() };
    assert_eq!(ask(store, find("be to")).await, (vec![], true), "nothing is found before it is indexed");
    index_all(&**store).await;
    assert_eq!(ask(store, find("be to")).await, (vec![1, 6, 7], true));
    assert_eq!(ask(store, find("question")).await, (vec![2], true));
    assert_eq!(ask(store, find("etre ÊTRE")).await, (vec![4], true));
    assert_eq!(ask(store, find("be question")).await, (vec![], true));
    assert_eq!(ask(store, find("be be be")).await, (vec![1, 6, 7], true));
    let with = Some(Jid::new(CAROL).unwrap());
    assert_eq!(ask(store, ArchiveQuery { with, ..find("be") }).await, (vec![1, 7], true));
    let query = ArchiveQuery { page: Page::Last, max: 2, count: true, ..find("to") };
    let page = store.archive_page(&jid(ALICE), &query).await.unwrap().unwrap();
    assert_eq!((seconds(&page), page.complete, page.count, page.index), (vec![6, 7], false, Some(4), Some(2)));
    assert_eq!(ask(store, ArchiveQuery { ids: vec![id_at(1), id_at(2)], ..find("be") }).await, (vec![1], true));
    assert_eq!(ask(store, ArchiveQuery { after_id: Some(id_at(1)), ..find("be") }).await, (vec![6, 7], true));
    assert!(store.archive_page(&jid(BOB), &find("be")).await.unwrap().unwrap().messages.is_empty());
}

pub(crate) async fn an_archive_is_made_findable_in_steps(store: &Arc<dyn Store>) {
    people(store).await;
    let find = || ArchiveQuery { words: Some("needle".into()), count: true, max: 200, ..all() };
    assert!(!store.index_words(&jid(ALICE), 9).await.unwrap(), "there is nothing yet");
    assert!(!store.index_words(&jid("nobody@x.example"), 9).await.unwrap());
    for nothing in [ALICE, "nobody@x.example"] {
        assert!(store.is_findable(&jid(nothing)).await.unwrap());
    }
    put(store, (1..=120).map(|second| got(ALICE, second, CAROL, if second % 2 == 0 { "needle" } else { "" }))).await;
    put(store, [got(BOB, 121, CAROL, "needle")]).await;
    assert!(store.index_words(&jid(ALICE), 7).await.unwrap());
    assert_eq!(ask(store, find()).await, (vec![2, 4, 6], true), "seven were looked at, the oldest");
    assert!(!store.is_findable(&jid(ALICE)).await.unwrap());
    assert!(store.index_words(&jid(ALICE), 73).await.unwrap());
    assert_eq!(ask(store, find()).await.0.len(), 40);
    assert!(!store.index_words(&jid(ALICE), 500).await.unwrap());
    assert!(store.is_findable(&jid(ALICE)).await.unwrap());
    assert!(!store.is_findable(&jid(BOB)).await.unwrap());
    assert_eq!(ask(store, find()).await.0.len(), 60);
    // What comes later is looked at alone, and changes nothing for others.
    put(store, [got(ALICE, 130, CAROL, "Needle!"), got(ALICE, 131, CAROL, "hay")]).await;
    assert!(!store.is_findable(&jid(ALICE)).await.unwrap());
    assert!(!store.index_words(&jid(ALICE), 3).await.unwrap());
    assert!(store.is_findable(&jid(ALICE)).await.unwrap());
    assert_eq!(ask(store, find()).await.0.last(), Some(&130));
    let of_bob = || async { store.archive_page(&jid(BOB), &find()).await.unwrap().unwrap().count };
    assert_eq!(of_bob().await, Some(0));
    assert!(!store.index_words(&jid(BOB), 500).await.unwrap());
    assert_eq!(of_bob().await, Some(1));
    // What cannot be read is not found, and holds nothing up.
    let mut broken = got(ALICE, 140, CAROL, "needle");
    broken.entry.stanza = "<message><body>needle".into();
    put(store, [broken, got(ALICE, 141, CAROL, "needle")]).await;
    index_all(&**store).await;
    assert_eq!(ask(store, ArchiveQuery { after_id: Some(id_at(130)), ..find() }).await, (vec![141], true));
    // What is stored again is to be made findable again, and what has gone is not missed.
    put(store, [got(ALICE, 1, CAROL, "needle")]).await;
    assert!(!store.is_findable(&jid(ALICE)).await.unwrap());
    index_all(&**store).await;
    store.commit(&[TailChange::Refuse { account: jid(ALICE), id: id_at(141) }]).await.unwrap();
    assert!(store.is_findable(&jid(ALICE)).await.unwrap());
}

/// However long messages are, a step holds few of them in memory; in memory they are anyway.
pub(crate) async fn t10_long_messages_are_made_findable_a_few_at_a_time(store: &Arc<dyn Store>) {
    people(store).await;
    let long = format!("needle {}", "x ".repeat(20_000));
    for second in 1..=120 {
        put(store, [got(ALICE, second, CAROL, &long)]).await;
    }
    let steps = async || {
        let mut steps = 0;
        while store.index_words(&jid(ALICE), 500).await.unwrap() {
            steps += 1;
        }
        steps
    };
    let count = async || {
        let query = ArchiveQuery { words: Some("needle".into()), count: true, max: 0, ..all() };
        store.archive_page(&jid(ALICE), &query).await.unwrap().unwrap().count
    };
    assert!([0, 4].contains(&steps().await));
    assert_eq!(count().await, Some(120));
    // Words that all differ are more work than their bytes say.
    let wide = format!("needle {}", (0..4000).map(|number| format!("{number} ")).collect::<String>());
    for second in 121..=132 {
        put(store, [got(ALICE, second, CAROL, &wide)]).await;
    }
    assert!([0, 2].contains(&steps().await));
    assert_eq!(count().await, Some(132));
}

pub(crate) async fn searches_at_once_and_what_comes_meanwhile_are_all_exact(store: &Arc<dyn Store>) {
    people(store).await;
    put(store, (1..=200).map(|second| got(ALICE, second, CAROL, "needle"))).await;
    assert!(store.index_words(&jid(ALICE), 9).await.unwrap());
    let search = || async {
        for _ in 0..100 {
            while store.index_words(&jid(ALICE), 9).await.unwrap() {}
        }
    };
    let come = async {
        for second in 201..=300 {
            put(store, [got(ALICE, second, CAROL, "needle")]).await;
            // Some are stored again, some refused.
            put(store, [got(ALICE, second - 100, CAROL, "hay")]).await;
            store.commit(&[TailChange::Refuse { account: jid(ALICE), id: id_at(second - 200) }]).await.unwrap();
        }
    };
    tokio::join!(search(), search(), come);
    index_all(&**store).await;
    let find = |words: &str| ArchiveQuery { words: Some(words.into()), count: true, max: 300, ..all() };
    assert_eq!(ask(store, find("needle")).await, ((201..=300).collect(), true));
    assert_eq!(ask(store, find("hay")).await, ((101..=200).collect(), true));
}

pub(crate) async fn d5_words_are_never_an_expression(store: &Arc<dyn Store>) {
    people(store).await;
    put(
        store,
        [got(ALICE, 1, CAROL, "one two"), got(ALICE, 2, CAROL, "two near or not and"), got(BOB, 3, CAROL, "one")],
    )
    .await;
    index_all(&**store).await;
    let find = |words: &str| ArchiveQuery { words: Some(words.into()), ..all() };
    for (words, found) in [
        ("", vec![]),
        ("*", vec![]),
        ("\"", vec![]),
        ("' & !", vec![]),
        ("on*", vec![]),
        ("one:*", vec![1]),
        ("two NOT one", vec![]),
        ("two AND NOT near", vec![2]),
        ("one OR near", vec![]),
        ("one | near", vec![]),
        ("NEAR(two, 5)", vec![]),
        ("terms: one", vec![]),
        ("-one", vec![1]),
        ("^one", vec![1]),
        ("one\" OR \"near", vec![]),
        ("one' | 'near", vec![]),
        ("(two", vec![1, 2]),
        ("2_one", vec![]),
        ("1_one 2_one", vec![]),
        ("\u{0}one", vec![1]),
        ("one\\", vec![1]),
    ] {
        assert_eq!(ask(store, find(words)).await, (found, true), "{words}");
    }
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
    put(store, (0..998).map(|second| got(ALICE, 100 + second, CAROL, "hi"))).await;
    assert_eq!(find(CAROL, "a").await, Some(id_at(2)));
    put(store, [got(ALICE, 2000, CAROL, "hi")]).await;
    assert_eq!(find(CAROL, "a").await, None, "it is not among the last thousand");
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
    assert_eq!(store.seen(&jid(ALICE), 0, 99).await.unwrap().len(), 12, "it is known all the same");
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
        let mut seen = store.seen(&jid(ALICE), after, limit).await.unwrap();
        seen.sort_by_key(|seen| seen.id);
        seen
    };
    let known = |second: u64| Seen { id: id_at(second), digest: second ^ 0xDEAD_BEEF_0000_0000 };
    assert_eq!(seen(0, 9).await, [known(1), known(2), known(3)]);
    assert_eq!(seen(id_at(1), 9).await, [known(2), known(3)]);
    assert_eq!(seen(0, 2).await, [known(2), known(3)], "the newest");
    store.commit(&[TailChange::Refuse { account: jid(ALICE), id: id_at(3) }]).await.unwrap();
    assert_eq!(seen(0, 9).await, [known(1), known(2)]);
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
        assert!(store.seen(&jid(ALICE), 0, 9).await.unwrap().is_empty());
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

/// xorshift64: the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

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
        match self.random.below(8) {
            0 | 1 => return TailChange::Deliver { account, id },
            2 => return TailChange::Refuse { account, id },
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
    let seen = sorted(store.seen(&name, after, limit).await.unwrap());
    assert_eq!(seen, sorted(model.seen(&name, after, limit).await.unwrap()));
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
