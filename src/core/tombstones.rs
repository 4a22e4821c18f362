//! The names of deleted accounts. Whoever registers such a name in-band would be taken for the one who had it before, by
//! all who still have it in their rosters, rooms and lists (security.md C8); so the name is remembered for a while.
//! An admin may give it away again at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rookery_xmpp::jid::BareJid;

use crate::store::{KeyValueStore, StoreError};

/// The key of the values, which belong to the domain.
const MODULE: &str = "tombstones";

/// Remembers that an account is being deleted. To be done before: a tombstone too many refuses a name that is in use.
pub(crate) async fn bury<S: KeyValueStore + ?Sized>(store: &S, user: &BareJid) -> Result<(), StoreError> {
    let Some(local) = user.localpart() else { return Ok(()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    store.set_values(&user.domain(), MODULE, &[(local.to_owned(), Some(now.to_string().into_bytes()))]).await
}

/// Whether an account of this name was deleted within the last `time`.
pub(crate) async fn is_buried<S: KeyValueStore + ?Sized>(
    store: &S,
    user: &BareJid,
    time: Duration,
) -> Result<bool, StoreError> {
    let Some(local) = user.localpart() else { return Ok(false) };
    let value = store.value(&user.domain(), MODULE, local).await?;
    Ok(value.is_some_and(|value| is_fresh(&value, time)))
}

/// Forgets the names that were deleted longer ago than that.
pub(crate) async fn clear<S: KeyValueStore + ?Sized>(
    store: &S,
    domain: &BareJid,
    time: Duration,
) -> Result<(), StoreError> {
    let values = store.values(domain, MODULE).await?;
    let past: Vec<_> =
        values.into_iter().filter(|(_, value)| !is_fresh(value, time)).map(|(local, _)| (local, None)).collect();
    if past.is_empty() { Ok(()) } else { store.set_values(domain, MODULE, &past).await }
}

fn is_fresh(value: &[u8], time: Duration) -> bool {
    let Some(seconds) = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) else { return false };
    let deleted = UNIX_EPOCH + Duration::from_secs(seconds);
    SystemTime::now().duration_since(deleted).is_ok_and(|since| since < time)
}
