//! The suite in memory, and the switches that make it fail.

use std::sync::Arc;
use std::time::Duration;

use rookery_core::store::{AccountStore, Store, StoreError, TailStore};

use super::archive::archive_suite;
use super::rooms::rooms_suite;
use super::suite::suite;
use super::{Fixture, append, ids, jid, keys};
use crate::{Backend, Durability, MemoryStore, StoreConf, open};

async fn fixture() -> Option<Fixture> {
    let conf = StoreConf { backend: Backend::Memory, durability: Durability::Full };
    Some(Fixture { store: open(&conf).await.unwrap(), _kept: Box::new(()) })
}

suite!(fixture);
archive_suite!(fixture);
rooms_suite!(fixture);

const ALICE: &str = "alice@x.example";

async fn store() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    store
}

#[tokio::test(start_paused = true)]
async fn a_paused_commit_is_not_there_until_it_is_let_through() {
    let store = store().await;
    store.pause_commits();
    let writer = Arc::clone(&store);
    let commit = tokio::spawn(async move { writer.commit(&[append(ALICE, 1)]).await });
    store.commits_held(1).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!commit.is_finished());
    assert!(ids(&*store, ALICE).await.is_empty());
    assert_eq!(store.commits(), 0);
    store.resume_commits();
    commit.await.unwrap().unwrap();
    assert_eq!(ids(&*store, ALICE).await, [1]);
    assert_eq!(store.commits(), 1);
    store.commit(&[append(ALICE, 2)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failing_database_fails_until_it_is_mended() {
    let store = store().await;
    store.fail(Some(StoreError::Unavailable("test".into())));
    assert!(store.commit(&[append(ALICE, 1)]).await.is_err());
    assert!(store.account_exists(&jid(ALICE)).await.is_err());
    store.fail(Some(StoreError::Full("test".into())));
    assert!(matches!(store.commit(&[append(ALICE, 1)]).await, Err(StoreError::Full(_))));
    assert!(store.account_exists(&jid(ALICE)).await.unwrap());
    store.fail(None);
    store.commit(&[append(ALICE, 1)]).await.unwrap();
    store.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_database_is_waited_for_up_to_the_deadline() {
    let store = store().await;
    store.slow(Duration::from_secs(9));
    store.commit(&[append(ALICE, 1)]).await.unwrap();
    store.slow(Duration::from_secs(11));
    let result = store.commit(&[append(ALICE, 2)]).await;
    assert!(matches!(result, Err(StoreError::Unavailable(_))));
    store.slow(Duration::ZERO);
    assert_eq!(ids(&*store, ALICE).await, [1]);
}
