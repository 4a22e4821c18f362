//! The roster of an account in memory (RFC 6121 §2): who the contacts are and which way presence flows.
//!
//! It lives in core because the router (who may see whom), presence, PEP and archives all ask it. What the roster
//! *does* (IQs, pushes, the subscription handshake) is in the modules `roster` and `subscription`.

use std::collections::BTreeMap;

use rookery_xmpp::jid::BareJid;

use crate::store::{RosterChange, StoredRoster};

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
    version: u64,
    items: BTreeMap<BareJid, RosterItem>,
    removed: Vec<(BareJid, u64)>,
    requests: BTreeMap<BareJid, Vec<u8>>,
}

impl Roster {
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

    /// Removals after a version, or `None` when the memory does not reach back that far.
    pub fn removed_since(&self, version: u64) -> impl Iterator<Item = &(BareJid, u64)> {
        self.removed.iter().filter(move |(_, at)| *at > version)
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
                    self.removed.retain(|(jid, _)| *jid != item.jid);
                    self.items.insert(item.jid.clone(), item.clone());
                }
                RosterChange::Remove(jid, version) => {
                    self.version = self.version.max(*version);
                    self.items.remove(jid.as_str());
                    self.removed.retain(|(removed, _)| removed != jid);
                    self.removed.push((jid.clone(), *version));
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
            version: stored.version,
            items: stored.items.into_iter().map(|item| (item.jid.clone(), item)).collect(),
            removed: stored.removed,
            requests: stored.requests.into_iter().collect(),
        }
    }
}
