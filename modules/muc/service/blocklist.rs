//! Those who are kept out of all rooms of a service, by the SHA-256 of their bare JIDs or domains in hexadecimal, as lists that
//! servers share have them: who reads one learns nobody's address from it. Where a list comes from is not its business.

use std::collections::HashSet;

use rookery_xmpp::jid::{BareJid, Jid};
use sha2::{Digest, Sha256};

/// What a hash in a list begins with in the conf.
const PREFIX: &str = "sha256:";

/// The hash of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Hashed([u8; 32]);

impl Hashed {
    pub(super) fn of(address: &str) -> Self {
        Self(Sha256::digest(address.as_bytes()).into())
    }

    /// Reads a hash in hexadecimal.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
        if digits.len() != 2 * hash.len() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |sum, digit| sum << 4 | digit);
        }
        Some(Self(hash))
    }

    /// Reads an address, a domain or `sha256:` and a hash.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        match text.strip_prefix(PREFIX) {
            Some(hex) => Self::from_hex(hex).ok_or_else(|| format!("\"{text}\": 64 hexadecimal digits must follow")),
            None => {
                BareJid::new(text).map(|jid| Self::of(jid.as_str())).map_err(|error| format!("\"{text}\": {error}"))
            }
        }
    }
}

/// A list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Blocklist(HashSet<Hashed>);

impl Blocklist {
    /// Whether somebody, or everybody of their domain, is on the list.
    pub(super) fn holds(&self, who: &Jid) -> bool {
        !self.0.is_empty()
            && [who.bare_str(), who.domainpart()].into_iter().any(|address| self.0.contains(&Hashed::of(address)))
    }
}

impl FromIterator<Hashed> for Blocklist {
    fn from_iter<T: IntoIterator<Item = Hashed>>(hashes: T) -> Self {
        Self(hashes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Blocklist {
        entries.iter().map(|entry| Hashed::read(entry).unwrap()).collect()
    }

    fn holds(list: &Blocklist, who: &str) -> bool {
        list.holds(&Jid::new(who).unwrap())
    }

    #[test]
    fn people_and_domains_by_name_and_by_hash() {
        let named = list(&["Spam@Example.org", "bad.example"]);
        // printf %s spam@example.org | sha256sum
        let hashed = "97fd335e5c6a917a691ecf43794c319b6584c651a2a556b469b206c374f894c9";
        assert_eq!(list(&[&format!("sha256:{hashed}"), "bad.example"]), named);
        assert_eq!(list(&[&format!("sha256:{}", hashed.to_uppercase()), "bad.example"]), named);
        assert!(holds(&named, "spam@example.org") && holds(&named, "spam@example.org/bot"));
        assert!(holds(&named, "anybody@bad.example/x") && holds(&named, "bad.example"));
        for other in ["ham@example.org", "example.org", "spam@sub.example.org", "a@very.bad.example"] {
            assert!(!holds(&named, other), "{other}");
        }
        assert!(!holds(&Blocklist::default(), "spam@example.org"));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for wrong in ["sha256:", "sha256:12", "a@b@c", "", "sha256:zz", &format!("sha256:{}", "é".repeat(32))] {
            assert!(Hashed::read(wrong).is_err(), "{wrong}");
        }
    }
}
