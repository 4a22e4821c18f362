//! XEP-0313 §3.2: old messages go, the oldest first and a few at a time, so that nobody waits for it. Beside everything else,
//! one pass at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rookery_xmpp::jid::BareJid;
use tracing::warn;

use crate::ids;
use crate::retention::{self, Keep};
use crate::server::Server;
use crate::store::StoreResult;

/// How often old messages are looked for.
pub const EXPIRY: Duration = Duration::from_secs(15 * 60);

/// Messages that go in one step.
const STEP: usize = 500;
/// Archives that are looked up at once.
const ARCHIVES: usize = 100;
/// What lies between two steps, for the others who need the database.
const PAUSE: Duration = Duration::from_millis(20);

async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

/// What keeps the archives of a domain in order.
pub struct Keeping {
    domain: BareJid,
    /// How long messages stay, where nothing else is said for an archive.
    keep: Keep,
    expiring: AtomicBool,
}

impl Keeping {
    /// For a domain.
    pub fn new(domain: BareJid, keep: Keep) -> Self {
        Self { domain, keep, expiring: AtomicBool::new(false) }
    }

    /// Removes what is older than it may become.
    pub fn expire(self: &Arc<Self>, server: &Arc<Server>) {
        if self.expiring.swap(true, Ordering::AcqRel) {
            return;
        }
        let (keeping, beside, now) = (self.clone(), server.clone(), SystemTime::now());
        server.beside(async move {
            if let Err(error) = keeping.expire_all(&beside, now).await {
                warn!(host = %keeping.domain, %error, "cannot remove old messages; trying again");
            }
            keeping.expiring.store(false, Ordering::Release);
        });
    }

    async fn expire_all(&self, server: &Server, now: SystemTime) -> StoreResult<()> {
        let said = retention::of_domain(server.store.as_ref(), &self.domain).await?;
        for (owner, keep) in &said {
            if let Some(up_to) = past(now, *keep) {
                expire_one(server, owner, up_to).await?;
            }
        }
        let Some(up_to) = past(now, self.keep) else { return Ok(()) };
        let mut after: Option<BareJid> = None;
        loop {
            let store = &server.store;
            let owners = store.expired_accounts(&self.domain, up_to, after.as_ref(), ARCHIVES).await?;
            for owner in owners.iter().filter(|owner| !said.contains_key(*owner)) {
                expire_one(server, owner, up_to).await?;
            }
            match owners.last() {
                Some(last) => after = Some(last.clone()),
                None => return Ok(()),
            }
            pause().await;
        }
    }
}

async fn expire_one(server: &Server, owner: &BareJid, up_to: u64) -> StoreResult<()> {
    while server.store.expire_archive(owner, up_to, STEP).await? {
        pause().await;
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
