//! How long archived messages are kept: what an admin has said for single accounts, beside what the conf says for all. It
//! belongs to the domain, so that one look finds all accounts with a word of their own; it goes with the account.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rookery_xmpp::jid::BareJid;
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use crate::store::{KeyValueStore, StoreError};

/// The key of the values, which belong to the domain.
const MODULE: &str = "retention";

const DAY: u64 = 86_400;
/// What a period in years is read as.
const YEAR: u64 = 31_557_600;
/// The shortest time: less is a matter of not archiving at all.
const SHORTEST: Duration = Duration::from_secs(DAY);
/// The longest that is not for ever.
const LONGEST: Duration = Duration::from_secs(100 * 366 * DAY);

/// How long messages stay in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As long as the account.
    Forever,
    /// So long after the server took them.
    For(Duration),
}

impl Keep {
    /// What is expected, for whoever wrote something else.
    pub const EXPECTED: &str = "\"forever\" or a period such as \"90 days\" (from 1 day to 100 years)";

    /// The time, unless it is for ever.
    pub fn time(self) -> Option<Duration> {
        match self {
            Self::Forever => None,
            Self::For(time) => Some(time),
        }
    }
}

impl FromStr for Keep {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let time = humantime::parse_duration(text).map_err(|_| Self::EXPECTED)?;
        if (SHORTEST..=LONGEST).contains(&time) { Ok(Self::For(time)) } else { Err(Self::EXPECTED) }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::For(time) if time.as_secs() == YEAR => f.write_str("1 year"),
            Self::For(time) if time.as_secs().is_multiple_of(YEAR) => write!(f, "{} years", time.as_secs() / YEAR),
            Self::For(time) if time.as_secs() == DAY => f.write_str("1 day"),
            Self::For(time) if time.as_secs().is_multiple_of(DAY) => write!(f, "{} days", time.as_secs() / DAY),
            Self::For(time) => humantime::format_duration(*time).fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Keep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Keep::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Keep, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// What is said of an account, if anything is.
pub async fn of_account<S: KeyValueStore + ?Sized>(store: &S, user: &BareJid) -> Result<Option<Keep>, StoreError> {
    let Some(local) = user.localpart() else { return Ok(None) };
    Ok(store.value(&user.domain(), MODULE, local).await?.as_deref().and_then(read))
}

/// Says how long an account's messages are kept; `None`: as long as the conf says.
pub async fn set<S: KeyValueStore + ?Sized>(store: &S, user: &BareJid, keep: Option<Keep>) -> Result<(), StoreError> {
    let Some(local) = user.localpart() else { return Ok(()) };
    let value = keep.map(|keep| keep.to_string().into_bytes());
    store.set_values(&user.domain(), MODULE, &[(local.to_owned(), value)]).await
}

/// All accounts of a domain of which something is said.
pub async fn of_domain<S: KeyValueStore + ?Sized>(
    store: &S,
    domain: &BareJid,
) -> Result<BTreeMap<BareJid, Keep>, StoreError> {
    let values = store.values(domain, MODULE).await?;
    let said = |(local, value): (String, Vec<u8>)| {
        Some((BareJid::from_parts(Some(&local), domain.as_str()).ok()?, read(&value)?))
    };
    Ok(values.into_iter().filter_map(said).collect())
}

fn read(value: &[u8]) -> Option<Keep> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_they_are_written() {
        let days = |days| Ok(Keep::For(Duration::from_secs(days * DAY)));
        for (text, expected, written) in [
            ("forever", Ok(Keep::Forever), "forever"),
            ("30d", days(30), "30 days"),
            ("90 days", days(90), "90 days"),
            ("24 hours", days(1), "1 day"),
            ("1y", Ok(Keep::For(Duration::from_secs(YEAR))), "1 year"),
            ("10 years", Ok(Keep::For(Duration::from_secs(10 * YEAR))), "10 years"),
            ("36 hours", Ok(Keep::For(Duration::from_secs(36 * 3600))), "1day 12h"),
            ("23 hours", Err(Keep::EXPECTED), ""),
            ("101 years", Err(Keep::EXPECTED), ""),
            ("Forever", Err(Keep::EXPECTED), ""),
            ("default", Err(Keep::EXPECTED), ""),
            ("", Err(Keep::EXPECTED), ""),
        ] {
            assert_eq!(text.parse::<Keep>(), expected, "{text}");
            if let Ok(keep) = expected {
                assert_eq!(keep.to_string(), written);
                assert_eq!(written.parse::<Keep>(), expected, "{written}");
            }
        }
    }
}
