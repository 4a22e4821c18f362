//! XEP-0431: an archive is made findable by its words when somebody searches it, and not before: most are never searched,
//! and their messages then cost nothing for it. What was done stays: the next search goes on where the last has ended, which
//! for whoever searches often is a moment ago.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::BareJid;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use crate::server::Server;
use crate::store::StoreResult;

/// Messages that are made findable in one step.
const STEP: usize = 500;
/// What lies between two steps, for the others who need the database.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a search waits for the archive to be findable.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is being made findable.
#[derive(Default)]
pub(crate) struct Searching {
    /// One step at a time, whoever's archive it is, and the pause behind it.
    step: tokio::sync::Mutex<()>,
    /// Archives that are worked on though whoever asked waits no more.
    beside: Mutex<HashSet<BareJid>>,
    /// One of those at a time: searches of archives that are findable soon wait for a turn with it, not with all.
    next: tokio::sync::Mutex<()>,
}

impl Server {
    /// Makes all that an archive holds findable, an account's or a room's, before it is searched: what is found and what is
    /// counted is then exact. An archive that takes too long is worked on beside everything else, and the error says so.
    pub async fn make_findable(self: &Arc<Self>, owner: &BareJid) -> Result<(), StanzaError> {
        // What is findable already waits for no turn, and for nobody who writes.
        let findable = self.store.is_findable(owner).await.inspect_err(|error| {
            self.store_failed("cannot see whether an archive is findable", error);
        })?;
        if findable {
            return Ok(());
        }
        let patience = Instant::now() + PATIENCE;
        // Who waits for a turn can be cut off; a step cannot, since its connection to the database would go with it.
        while let Ok(turn) = tokio::time::timeout_at(patience, self.searching.step.lock()).await {
            if !self.index_some(owner, turn).await? {
                return Ok(());
            }
            if Instant::now() >= patience {
                break;
            }
        }
        self.go_on_indexing(owner);
        let text = "The archive is being made searchable, which takes a while the first time; please try again later.";
        Err(StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Wait).with_text(text))
    }

    /// One step. `true` when more are left.
    async fn index_some(&self, owner: &BareJid, _turn: MutexGuard<'_, ()>) -> StoreResult<bool> {
        let more = self.store.index_words(owner, STEP).await.inspect_err(|error| {
            self.store_failed("cannot make an archive findable; the next search goes on", error);
        })?;
        if more {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(more)
    }

    fn go_on_indexing(self: &Arc<Self>, owner: &BareJid) {
        if !self.searching.beside.lock().insert(owner.clone()) {
            return;
        }
        let (server, owner) = (self.clone(), owner.clone());
        self.beside(async move {
            let _only = server.searching.next.lock().await;
            while let Ok(true) = server.index_some(&owner, server.searching.step.lock().await).await {}
            server.searching.beside.lock().remove(&owner);
        });
    }
}
