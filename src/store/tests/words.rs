//! How messages are found by their words on every database (XEP-0431), and how an archive becomes findable.

use std::sync::Arc;

use rookery_core::store::{ArchiveQuery, Page, Store, TailChange};
use rookery_xmpp::jid::Jid;

use super::archive::{ALICE, BOB, CAROL, all, ask, got, id_at, index_all, people, put, seconds, sent};
use super::jid;

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
