//! The roster of an account in memory (RFC 6121 §2): who the contacts are and which way presence flows.
//!
//! It lives in core because the router (who may see whom), presence, PEP and archives all ask it. What the roster
//! *does* (IQs, pushes, the subscription handshake) is in the module `roster`.

use std::collections::BTreeMap;

use rookery_xmpp::jid::BareJid;

use crate::store::{RosterChange, StoredRoster};

/// How many removals a roster remembers. They are what lets a client that was away hear of them (RFC 6121 §2.6).
pub const REMOVALS: usize = 1000;

/// Which way presence flows (RFC 6121 §2.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Subscription {
    /// Neither way.
    #[default]
    None,
    /// The user sees the contact's presence.
    To,
    /// The contact sees the user's presence.
    From,
    /// Both ways.
    Both,
}

impl Subscription {
    /// The user is subscribed to the contact's presence.
    pub fn is_to(self) -> bool {
        matches!(self, Self::To | Self::Both)
    }

    /// The contact is subscribed to the user's presence.
    pub fn is_from(self) -> bool {
        matches!(self, Self::From | Self::Both)
    }

    /// The subscription made of its two ways.
    pub fn of(to: bool, from: bool) -> Self {
        match (to, from) {
            (false, false) => Self::None,
            (true, false) => Self::To,
            (false, true) => Self::From,
            (true, true) => Self::Both,
        }
    }

    /// The word of the `subscription` attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::To => "to",
            Self::From => "from",
            Self::Both => "both",
        }
    }

    /// Reads the word of the `subscription` attribute.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "none" => Self::None,
            "to" => Self::To,
            "from" => Self::From,
            "both" => Self::Both,
            _ => return None,
        })
    }
}

/// A contact (RFC 6121 §2.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterItem {
    /// The contact's address.
    pub jid: BareJid,
    /// The name that the user gave, if any.
    pub name: Option<String>,
    /// The groups, without doubles.
    pub groups: Vec<String>,
    /// Which way presence flows.
    pub subscription: Subscription,
    /// The user has asked and was not answered yet (`ask='subscribe'`).
    pub ask: bool,
    /// The user has approved before being asked (RFC 6121 §3.4).
    pub approved: bool,
    /// The roster version at which the item changed last.
    pub version: u64,
}

impl RosterItem {
    /// An item without name, groups or subscription.
    pub fn new(jid: BareJid) -> Self {
        Self {
            jid,
            name: None,
            groups: Vec::new(),
            subscription: Subscription::None,
            ask: false,
            approved: false,
            version: 0,
        }
    }
}

/// The roster of an account: contacts, removals and the requests that wait.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    epoch: u64,
    version: u64,
    items: BTreeMap<BareJid, RosterItem>,
    /// By version, oldest first; at most [`REMOVALS`]. A contact that came back stays listed.
    removed: Vec<(BareJid, u64)>,
    requests: BTreeMap<BareJid, Vec<u8>>,
}

/// What is different from an older version, one contact each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference<'a> {
    /// The item is new or has changed.
    Put(&'a RosterItem),
    /// The contact was removed, at this version.
    Removed(&'a BareJid, u64),
}

impl Difference<'_> {
    /// The version that made the difference.
    pub fn version(&self) -> u64 {
        match self {
            Self::Put(item) => item.version,
            Self::Removed(_, version) => *version,
        }
    }
}

impl Roster {
    /// Whose roster this is, among all accounts that ever had the name: versions of different epochs have nothing to do
    /// with each other.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The version of the whole (RFC 6121 §2.6).
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A contact.
    pub fn get(&self, contact: &str) -> Option<&RosterItem> {
        self.items.get(contact)
    }

    /// The contacts, by address.
    pub fn items(&self) -> impl Iterator<Item = &RosterItem> {
        self.items.values()
    }

    /// How many contacts there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no contact.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What has changed after a version, in that order; `None` when nobody remembers.
    pub fn changes_since(&self, version: u64) -> Option<Vec<Difference<'_>>> {
        if version > self.version {
            return None;
        }
        if self.removed.len() >= REMOVALS && self.removed.first().is_some_and(|(_, oldest)| version < *oldest) {
            // Older removals may have been forgotten.
            return None;
        }
        let put = self.items.values().filter(|item| item.version > version).map(Difference::Put);
        let gone = self.removed.iter().filter(|(jid, at)| *at > version && !self.items.contains_key(jid));
        let mut changes: Vec<_> = put.chain(gone.map(|(jid, at)| Difference::Removed(jid, *at))).collect();
        changes.sort_by_key(Difference::version);
        Some(changes)
    }

    /// The subscription with a contact; `None` (the variant) for a stranger.
    pub fn subscription(&self, contact: &str) -> Subscription {
        self.get(contact).map_or(Subscription::None, |item| item.subscription)
    }

    /// Contacts that see the user's presence.
    pub fn subscribers(&self) -> impl Iterator<Item = &BareJid> {
        self.items.values().filter(|item| item.subscription.is_from()).map(|item| &item.jid)
    }

    /// Contacts whose presence the user sees.
    pub fn subscriptions(&self) -> impl Iterator<Item = &BareJid> {
        self.items.values().filter(|item| item.subscription.is_to()).map(|item| &item.jid)
    }

    /// The requests that wait: who asks, and the stanza.
    pub fn requests(&self) -> impl Iterator<Item = (&BareJid, &[u8])> {
        self.requests.iter().map(|(jid, stanza)| (jid, stanza.as_slice()))
    }

    /// Whether this contact's request waits (RFC 6121 Appendix A: "Pending In").
    pub fn is_requested_by(&self, contact: &str) -> bool {
        self.requests.contains_key(contact)
    }

    /// Applies changes in memory, as [`crate::store::RosterStore::change_roster`] does on disk.
    pub fn apply(&mut self, changes: &[RosterChange]) {
        for change in changes {
            match change {
                RosterChange::Put(item) => {
                    self.version = self.version.max(item.version);
                    self.items.insert(item.jid.clone(), item.clone());
                }
                RosterChange::Remove(jid, version) => {
                    self.version = self.version.max(*version);
                    self.items.remove(jid.as_str());
                    self.removed.retain(|(removed, _)| removed != jid);
                    self.removed.push((jid.clone(), *version));
                    if self.removed.len() > REMOVALS {
                        self.removed.remove(0);
                    }
                }
                RosterChange::Request(jid, stanza) => {
                    self.requests.insert(jid.clone(), stanza.clone());
                }
                RosterChange::Unrequest(jid) => {
                    self.requests.remove(jid.as_str());
                }
            }
        }
    }
}

impl From<StoredRoster> for Roster {
    fn from(stored: StoredRoster) -> Self {
        Self {
            epoch: stored.epoch,
            version: stored.version,
            items: stored.items.into_iter().map(|item| (item.jid.clone(), item)).collect(),
            removed: stored.removed,
            requests: stored.requests.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(number: usize) -> BareJid {
        BareJid::new(&format!("c{number}@y.example")).unwrap()
    }

    fn put(number: usize, version: u64) -> RosterChange {
        RosterChange::Put(RosterItem { version, ..RosterItem::new(jid(number)) })
    }

    fn since(roster: &Roster, version: u64) -> Option<Vec<(String, u64, bool)>> {
        let changes = roster.changes_since(version)?;
        let told = |change: &Difference<'_>| match change {
            Difference::Put(item) => (item.jid.to_string(), item.version, true),
            Difference::Removed(jid, version) => (jid.to_string(), *version, false),
        };
        Some(changes.iter().map(told).collect())
    }

    #[test]
    fn the_difference_is_one_change_a_contact_by_version() {
        let mut roster = Roster::default();
        roster.apply(&[
            put(1, 1),
            put(2, 2),
            put(3, 3),
            RosterChange::Remove(jid(1), 4),
            put(2, 5),
            RosterChange::Remove(jid(3), 6),
            put(3, 7),
        ]);
        assert_eq!(roster.version(), 7);
        let (gone, changed, back) =
            (("c1@y.example".into(), 4, false), ("c2@y.example".into(), 5, true), ("c3@y.example".into(), 7, true));
        assert_eq!(since(&roster, 3), Some(vec![gone, changed, back.clone()]));
        assert_eq!(since(&roster, 6), Some(vec![back]));
        assert_eq!(since(&roster, 7), Some(vec![]));
        assert_eq!(since(&roster, 8), None, "from the future");
    }

    #[test]
    fn removals_are_forgotten_and_that_is_known() {
        let mut roster = Roster::default();
        for number in 0..=REMOVALS {
            let version = number as u64 * 2 + 1;
            roster.apply(&[put(number, version), RosterChange::Remove(jid(number), version + 1)]);
        }
        assert_eq!(since(&roster, 2), None, "the removal at 2 is forgotten");
        assert_eq!(since(&roster, 4).map(|changes| changes.len()), Some(REMOVALS - 1));
        roster.apply(&[put(5, 9000)]);
        assert_eq!(since(&roster, 2), None, "and stays so when a contact comes back");
    }
}
