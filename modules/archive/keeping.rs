//! XEP-0313 §3.2: old messages go, the oldest first and a few at a time, so that nobody waits for it; and messages become
//! findable by their words. Both beside everything else, one pass at a time.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rookery_core::account::Account;
use rookery_core::ids;
use rookery_core::retention::{self, Keep};
use rookery_core::server::Server;
use rookery_core::store::StoreResult;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::BareJid;
use tracing::warn;

use super::Archive;

/// How often old messages are looked for.
pub(super) const EXPIRY: Duration = Duration::from_secs(15 * 60);
/// How often messages are made findable, when nobody searches.
pub(super) const INDEXING: Duration = Duration::from_secs(60);

/// Messages that go, or are made findable, in one step.
const STEP: usize = 500;
/// Steps that a search waits for.
const STEPS_FOR_SEARCH: usize = 20;
/// Accounts that are looked up at once.
const ACCOUNTS: usize = 100;
/// What lies between two steps, for the others who need the database.
const PAUSE: Duration = Duration::from_millis(20);

async fn pause(server: &Server) {
    server.within(PAUSE, pending()).await;
}

impl Archive {
    /// Removes what is older than it may become.
    pub(super) fn expire(self: &Arc<Self>, server: &Arc<Server>) {
        if self.expiring.swap(true, Ordering::AcqRel) {
            return;
        }
        let (archive, server, now) = (self.clone(), server.clone(), SystemTime::now());
        server.clone().beside(async move {
            if let Err(error) = archive.expire_all(&server, now).await {
                warn!(host = %archive.domain, %error, "cannot remove old messages; trying again");
            }
            archive.expiring.store(false, Ordering::Release);
        });
    }

    async fn expire_all(&self, server: &Server, now: SystemTime) -> StoreResult<()> {
        let said = retention::of_domain(server.store.as_ref(), &self.domain).await?;
        for (user, keep) in &said {
            if let Some(up_to) = past(now, *keep) {
                expire_one(server, user, up_to).await?;
            }
        }
        let Some(up_to) = past(now, self.keep) else { return Ok(()) };
        let mut after: Option<BareJid> = None;
        loop {
            let store = &server.store;
            let users = store.expired_accounts(&self.domain, up_to, after.as_ref(), ACCOUNTS).await?;
            for user in users.iter().filter(|user| !said.contains_key(*user)) {
                expire_one(server, user, up_to).await?;
            }
            match users.last() {
                Some(last) if users.len() == ACCOUNTS => after = Some(last.clone()),
                _ => return Ok(()),
            }
            pause(server).await;
        }
    }

    /// Makes the newest messages findable, so that searches have little left to do.
    pub(super) fn index(self: &Arc<Self>, server: &Arc<Server>) {
        if !self.offer.search || self.indexing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (archive, server) = (self.clone(), server.clone());
        server.clone().beside(async move {
            if let Err(error) = index_all(&server).await {
                warn!(host = %archive.domain, %error, "cannot make messages findable; trying again");
            }
            archive.indexing.store(false, Ordering::Release);
        });
    }

    /// Makes messages findable before a search. `false` when there are so many that some are not yet.
    pub(super) async fn index_for_search(&self, server: &Server, account: &Arc<Account>) -> Result<bool, StanzaError> {
        server.recorded(account).await?;
        for _ in 0..STEPS_FOR_SEARCH {
            if !server.store.index_words(STEP).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

async fn expire_one(server: &Server, user: &BareJid, up_to: u64) -> StoreResult<()> {
    while server.store.expire_archive(user, up_to, STEP).await? {
        pause(server).await;
    }
    Ok(())
}

async fn index_all(server: &Server) -> StoreResult<()> {
    while server.store.index_words(STEP).await? {
        pause(server).await;
    }
    Ok(())
}

/// Messages up to this id have been kept for long enough.
fn past(now: SystemTime, keep: Keep) -> Option<u64> {
    ids::at(now.checked_sub(keep.time()?)?).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn what_is_past() {
        let now = UNIX_EPOCH + Duration::from_secs(10 * 86_400);
        let days = |days: u64| Keep::For(Duration::from_secs(days * 86_400));
        assert_eq!(past(now, Keep::Forever), None);
        assert_eq!(past(now, days(9)), Some((86_400_000_000 << 10) - 1));
        assert_eq!(past(now, days(10)), None);
        assert_eq!(past(now, days(11)), None);
    }
}
