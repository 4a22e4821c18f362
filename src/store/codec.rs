//! Between the types of core and the columns: integers of SQL have a sign, and what comes back may not be what we wrote.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rookery_core::roster::Subscription;
use rookery_core::store::StoreError;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::sasl::{Credentials, ScramKeys, Secret};

/// The columns of an account's keys, in the order of [`credentials`].
pub(crate) type KeyColumns = (Vec<u8>, i64, Vec<u8>, Vec<u8>, Vec<u8>, i64, Vec<u8>, Vec<u8>);

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

/// An id or a version for a column.
pub(crate) fn to_column(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| corrupt("an id or a version is above 2^63"))
}

/// An id as the bound of a search: no row lies above `i64::MAX`.
pub(crate) fn to_bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An id or a version out of a column.
pub(crate) fn from_column(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| corrupt("an id, a version or a size is negative"))
}

/// Microseconds since 1970; times before that do not occur.
pub(crate) fn to_stamp(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A time out of its column.
pub(crate) fn from_stamp(micros: i64) -> Result<SystemTime, StoreError> {
    let micros = u64::try_from(micros).map_err(|_| corrupt("a time is before 1970"))?;
    UNIX_EPOCH.checked_add(Duration::from_micros(micros)).ok_or_else(|| corrupt("a time is out of range"))
}

/// An address out of its column.
pub(crate) fn jid(text: &str) -> Result<BareJid, StoreError> {
    BareJid::new(text).map_err(|error| StoreError::Corrupt(format!("a stored address: {error}")))
}

/// The word of a subscription out of its column.
pub(crate) fn subscription(word: &str) -> Result<Subscription, StoreError> {
    Subscription::parse(word).ok_or_else(|| corrupt("a subscription is none of none, to, from and both"))
}

/// The groups of a contact, as an array of JSON.
pub(crate) fn groups_to_column(groups: &[String]) -> String {
    serde_json::Value::from(groups).to_string()
}

/// The groups of a contact out of their column.
pub(crate) fn groups(column: &str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(column).map_err(|_| corrupt("the groups of a contact are no array of JSON strings"))
}

/// The keys of an account out of their columns.
pub(crate) fn credentials(columns: KeyColumns) -> Result<Credentials, StoreError> {
    let (salt_256, rounds_256, stored_256, server_256, salt_1, rounds_1, stored_1, server_1) = columns;
    let keys = |salt, rounds: i64, stored: Vec<u8>, server: Vec<u8>, size| {
        if stored.len() != size || server.len() != size {
            return Err(corrupt("a key of an account has the wrong length"));
        }
        Ok(ScramKeys {
            salt,
            iterations: u32::try_from(rounds)
                .ok()
                .filter(|rounds| *rounds > 0)
                .ok_or_else(|| corrupt("the iteration count of an account is out of range"))?,
            stored_key: Secret::new(&stored),
            server_key: Secret::new(&server),
        })
    };
    Ok(Credentials {
        sha256: keys(salt_256, rounds_256, stored_256, server_256, 32)?,
        sha1: keys(salt_1, rounds_1, stored_1, server_1, 20)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_and_bounds_are_cut() {
        assert_eq!(to_column(7).unwrap(), 7);
        assert!(matches!(to_column(u64::MAX), Err(StoreError::Corrupt(_))));
        assert!(matches!(from_column(-1), Err(StoreError::Corrupt(_))));
        assert_eq!(to_bound(u64::MAX), i64::MAX);
    }

    #[test]
    fn times_keep_their_microseconds() {
        let time = UNIX_EPOCH + Duration::from_micros(1_790_000_000_123_456);
        assert_eq!(from_stamp(to_stamp(time)).unwrap(), time);
        assert!(from_stamp(-1).is_err());
    }

    #[test]
    fn groups_survive_quotes() {
        let list = vec!["a \"b\"".to_owned(), "[]".to_owned(), String::new()];
        assert_eq!(groups(&groups_to_column(&list)).unwrap(), list);
        assert!(groups("friends").is_err());
    }

    #[test]
    fn f12_keys_of_the_wrong_length_are_no_keys() {
        let good = |size| (vec![1; 16], 10_000, vec![2; size], vec![3; size]);
        let columns = |a: (Vec<u8>, i64, Vec<u8>, Vec<u8>), b: (Vec<u8>, i64, Vec<u8>, Vec<u8>)| {
            (a.0, a.1, a.2, a.3, b.0, b.1, b.2, b.3)
        };
        assert!(credentials(columns(good(32), good(20))).is_ok());
        assert!(credentials(columns(good(32), good(32))).is_err());
        assert!(credentials(columns(good(0), good(20))).is_err());
        let no_rounds = (vec![1; 16], 0, vec![2; 32], vec![3; 32]);
        assert!(credentials(columns(no_rounds, good(20))).is_err());
    }
}
