//! Reading an account's archive while messages come in: what was taken is on disk before it is looked for, and what is
//! found there and still waits in the tail is delivered by being found.
//!
//! Below are the parts of XEP-0313 that every archive has, whoever it belongs to: queries (`query`), pages (`pages`),
//! results (`result`), who asks and how much (`asking`), what is found by words (`searching`), and how long messages stay
//! (`keeping`). Which messages are archived, and who may ask, is a module's business.

pub mod asking;
pub mod keeping;
pub mod pages;
pub mod query;
pub mod result;
pub(crate) mod searching;

use std::collections::HashSet;
use std::sync::Arc;

use rookery_xmpp::error::StanzaError;
use rookery_xmpp::stanza::Stanza;

use crate::account::Account;
use crate::deliver::parse;
use crate::server::Server;
use crate::session::{Outgoing, Pushed, Session};
use crate::store::{ArchivePage, ArchiveQuery, ArchivedMessage, StoreResult, TailEntry};
use crate::tail::{Kept, Standing};

/// So often a page is read again because messages went to or from the tail meanwhile.
const AGAIN: usize = 5;

/// A page of an archive for one session.
pub struct Results {
    session: Arc<Session>,
    /// The page.
    pub page: ArchivePage,
    /// Those of its messages that wait in the tail and are this session's to deliver, in the order of the page.
    waiting: Vec<Arc<Kept>>,
}

impl Results {
    /// Sends a session the result that carries a message of the page. If the message waits in the account's tail, it
    /// leaves it when the session has the result for certain, and the session does not get it once more.
    pub fn push(&self, message: &ArchivedMessage, result: Stanza) -> Pushed {
        let kept = self.waiting.iter().find(|kept| kept.id == message.id && kept.is_waiting()).cloned();
        self.session.push_result(Outgoing { stanza: Arc::new(result), to: None, kept })
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        let mut tail = self.session.account.tail.lock();
        for kept in self.waiting.drain(..) {
            tail.release(&kept);
        }
    }
}

impl Server {
    /// Waits until all that was taken for an account so far is on disk. The error is the one for whoever asked.
    pub async fn recorded(&self, account: &Arc<Account>) -> Result<(), StanzaError> {
        if account.tail.lock().live.is_empty() { Ok(()) } else { self.writer.flushed().await }
    }

    /// A page of the archive of a session's own account, with all that was taken before the question. `None` when an id
    /// that the query names is not in the archive.
    pub async fn archive_page(
        self: &Arc<Self>,
        session: &Arc<Session>,
        query: &ArchiveQuery,
    ) -> Result<Option<Results>, StanzaError> {
        let account = &session.account;
        self.recorded(account).await?;
        let mut tries = 0;
        loop {
            let epoch = account.tail.lock().epoch;
            let page = self.store.archive_page(&account.jid, query).await.inspect_err(|error| {
                self.store_failed("cannot read an archive", error);
            })?;
            let Some(page) = page else { return Ok(None) };
            let mut results = Results { session: session.clone(), page, waiting: Vec::new() };
            tries += 1;
            // What the page says of the tail is true only if nothing has left it meanwhile. Where that never rests, a
            // message may come by the tail as well.
            if self.claim(&mut results, epoch) || tries == AGAIN {
                return Ok(Some(results));
            }
        }
    }

    /// Whether a message of the tail is in its account's archive, on disk.
    pub(crate) async fn is_in_archive(&self, kept: &Kept) -> StoreResult<bool> {
        if kept.standing() != Standing::Waits || kept.account.is_deleted() {
            return Ok(false);
        }
        if kept.is_archived() {
            return Ok(true);
        }
        // Of what was read back from disk memory does not know.
        let query = ArchiveQuery { ids: vec![kept.id], max: 1, ..ArchiveQuery::default() };
        Ok(self.store.archive_page(&kept.account.jid, &query).await?.is_some())
    }

    /// Finds what of a page still waits and is not on its way to another session. `false` when the tail has changed.
    fn claim(&self, results: &mut Results, epoch: u64) -> bool {
        let Results { session, page, waiting } = results;
        let account = &session.account;
        if page.messages.iter().all(|message| message.waits.is_none()) {
            return true;
        }
        let mut tail = account.tail.lock();
        if tail.epoch != epoch {
            return false;
        }
        let sessions = account.sessions();
        let others = sessions.iter().filter(|other| !Arc::ptr_eq(other, session) && !other.is_detached());
        let with_others: HashSet<u64> = others.flat_map(|other| other.held()).collect();
        for message in &page.messages {
            let Some(resource) = &message.waits else { continue };
            let is_for_it = resource
                .as_deref()
                .is_none_or(|resource| resource == session.jid.resource() || account.session(resource).is_none());
            if !is_for_it || with_others.contains(&message.id) {
                continue;
            }
            let entry = TailEntry {
                account: account.jid.clone(),
                id: message.id,
                resource: resource.clone(),
                stamp: message.stamp,
                stanza: message.stanza.clone(),
            };
            if let Some(stanza) = parse(&entry) {
                waiting.push(tail.recall(account, entry, Arc::new(stanza)));
            }
        }
        true
    }
}
