//! What clients can do (XEP-0115): the features behind the verification strings that they announce.
//!
//! Which client to ask, and when, is the module `caps`'s. What is remembered for all is keyed by hash function and
//! verification string, never by node, and only when the string fits (security.md C7); what does not fit is believed of
//! the session alone that said it. Both are bounded.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rookery_xmpp::caps::{self, Hash, IllFormed};
use rookery_xmpp::element::Element;
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;

use crate::server::Server;
use crate::session::Session;
use crate::slots::Slot;

/// Verification strings that are remembered.
const MOST_KNOWN: usize = 2000;
/// Bytes of features that are remembered in all.
const MOST_BYTES: usize = 8 << 20;
/// Bytes of features of one client; one that says more is not remembered.
const MOST_SAID: usize = 16 << 10;

/// What a client can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Category and type of its identities (XEP-0030 §3.1).
    pub identities: Box<[(Box<str>, Box<str>)]>,
    /// Its features, sorted.
    features: Box<[Box<str>]>,
}

impl Features {
    /// Reads a disco#info result. `None` for something else, or for too much.
    fn read(query: &Element) -> Option<Self> {
        if !query.is("query", ns::DISCO_INFO) {
            return None;
        }
        let said = |name: &'static str| query.elements().filter(move |child| child.is(name, ns::DISCO_INFO));
        let mut features: Vec<Box<str>> =
            said("feature").filter_map(|feature| feature.get("var").map(Box::from)).collect();
        features.sort_unstable();
        features.dedup();
        let identities = said("identity")
            .filter_map(|identity| Some((identity.get("category")?.into(), identity.get("type")?.into())))
            .collect();
        let read = Self { identities, features: features.into() };
        (read.size() <= MOST_SAID).then_some(read)
    }

    /// Whether it has this feature.
    pub fn has(&self, feature: &str) -> bool {
        self.features.binary_search_by(|known| known.as_ref().cmp(feature)).is_ok()
    }

    /// Whether it wants to be notified of a node (XEP-0163 §4.3).
    pub fn wants(&self, node: &str) -> bool {
        self.iter().any(|feature| feature.strip_suffix("+notify") == Some(node))
    }

    /// Its features, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.features.iter().map(AsRef::as_ref)
    }

    /// As a disco#info result, for [`Self::read`].
    fn to_element(&self) -> Element {
        let identity = |(category, kind): &(Box<str>, Box<str>)| {
            Element::new("identity", ns::DISCO_INFO).attr("category", &**category).attr("type", &**kind)
        };
        let feature = |feature| Element::new("feature", ns::DISCO_INFO).attr("var", feature);
        Element::new("query", ns::DISCO_INFO)
            .children(self.identities.iter().map(identity))
            .children(self.iter().map(feature))
    }

    fn size(&self) -> usize {
        let identities: usize = self.identities.iter().map(|(category, kind)| category.len() + kind.len() + 32).sum();
        self.features.iter().map(|feature| feature.len() + 16).sum::<usize>() + identities
    }
}

/// A verification string and the function that made it.
type Key = (Hash, Box<str>);

struct Known {
    features: Arc<Features>,
    used: u64,
}

#[derive(Default)]
struct Cache {
    known: HashMap<Key, Known>,
    bytes: usize,
    clock: u64,
}

/// What the server knows of its clients' features.
pub struct Caps {
    of_session: Slot<Arc<Features>>,
    cache: Mutex<Cache>,
}

impl Caps {
    pub(crate) fn new(of_session: Slot<Arc<Features>>) -> Self {
        Self { of_session, cache: Mutex::default() }
    }

    /// What a session's client can do; `None` while nobody knows.
    pub fn features(&self, session: &Session) -> Option<Arc<Features>> {
        session.get(self.of_session)
    }

    /// What clients with this verification string can do, if one of them has said so before. The session is one of them.
    pub fn recall(&self, session: &Session, hash: Hash, ver: &str) -> bool {
        let mut cache = self.cache.lock();
        cache.clock += 1;
        let clock = cache.clock;
        let Some(known) = cache.known.get_mut(&(hash, Box::from(ver))) else { return false };
        known.used = clock;
        let features = known.features.clone();
        drop(cache);
        session.set(self.of_session, features);
        true
    }

    /// Takes a session's own word for what its client can do. With `announced`, it is remembered for all clients that
    /// announce the same, if it fits. `false` when it is no word at all.
    pub fn learn(&self, session: &Session, announced: Option<(Hash, &str)>, query: &Element) -> bool {
        let Some(features) = Features::read(query).map(Arc::new) else { return false };
        if let Some((hash, ver)) = announced {
            match caps::verify(query, hash, ver) {
                Ok(true) => self.cache.lock().insert((hash, ver.into()), features.clone()),
                Err(IllFormed::NotInfo) => return false,
                Ok(false) | Err(_) => {}
            }
        }
        session.set(self.of_session, features);
        true
    }

    /// What is known of a session's client, for [`Self::restore`] after a restart; and whether it is what all clients that
    /// announce the same can do.
    pub fn save(&self, session: &Session, announced: Option<(Hash, &str)>) -> Option<(Element, bool)> {
        let features = self.features(session)?;
        let is_shared = announced.is_some_and(|(hash, ver)| {
            let cache = self.cache.lock();
            cache.known.get(&(hash, ver.into())).is_some_and(|known| Arc::ptr_eq(&known.features, &features))
        });
        Some((features.to_element(), is_shared))
    }

    /// Takes up what was saved of a session's client. `shared`: what all can do that announce this, which is in memory
    /// once.
    pub fn restore(&self, session: &Session, shared: Option<(Hash, &str)>, saved: &Element) {
        if shared.is_some_and(|(hash, ver)| self.recall(session, hash, ver)) {
            return;
        }
        let Some(features) = Features::read(saved).map(Arc::new) else { return };
        if let Some((hash, ver)) = shared {
            self.cache.lock().insert((hash, ver.into()), features.clone());
        }
        session.set(self.of_session, features);
    }
}

impl Cache {
    fn insert(&mut self, key: Key, features: Arc<Features>) {
        self.clock += 1;
        self.bytes += features.size();
        if let Some(old) = self.known.insert(key, Known { features, used: self.clock }) {
            self.bytes -= old.features.size();
        }
        while self.known.len() > MOST_KNOWN || self.bytes > MOST_BYTES {
            let Some(oldest) = self.known.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| key.clone()) else {
                return;
            };
            if let Some(old) = self.known.remove(&oldest) {
                self.bytes -= old.features.size();
            }
        }
    }
}

impl Server {
    /// What the client behind a full JID can do, when it is one of ours and has said so.
    pub fn features_of(&self, jid: &Jid) -> Option<Arc<Features>> {
        let session = self.accounts.loaded(jid.bare_str())?.session(jid.resourcepart()?)?;
        self.caps.features(&session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(names: &[&str]) -> Arc<Features> {
        let query = Element::new("query", ns::DISCO_INFO)
            .child(Element::new("identity", ns::DISCO_INFO).attr("category", "client").attr("type", "pc"))
            .children(names.iter().map(|name| Element::new("feature", ns::DISCO_INFO).attr("var", *name)));
        Arc::new(Features::read(&query).unwrap())
    }

    #[test]
    fn features_are_found_and_nodes_are_wanted() {
        let features = features(&["urn:b", "urn:a", "urn:mood+notify", "urn:a"]);
        assert_eq!(features.iter().collect::<Vec<_>>(), ["urn:a", "urn:b", "urn:mood+notify"]);
        assert!(features.has("urn:b") && !features.has("urn:c"));
        assert!(features.wants("urn:mood") && !features.wants("urn:a"));
        assert_eq!(features.identities.as_ref(), [("client".into(), "pc".into())]);
    }

    #[test]
    fn b15_the_cache_is_bounded_and_keeps_what_is_used() {
        let mut cache = Cache::default();
        for number in 0..3 * MOST_KNOWN {
            cache.insert((Hash::Sha1, number.to_string().into()), features(&["urn:a"]));
            cache.clock += 1;
            let clock = cache.clock;
            cache.known.get_mut(&(Hash::Sha1, "0".into())).unwrap().used = clock;
        }
        assert_eq!(cache.known.len(), MOST_KNOWN);
        assert_eq!(cache.bytes, MOST_KNOWN * features(&["urn:a"]).size());
        let long = "x".repeat(MOST_SAID - 100);
        for number in 0..1000 {
            cache.insert((Hash::Sha256, number.to_string().into()), features(&[&long]));
        }
        assert!(cache.bytes <= MOST_BYTES);
        assert!(cache.known.contains_key(&(Hash::Sha256, "999".into())));
    }

    #[test]
    fn b15_a_client_that_says_too_much_is_not_remembered() {
        let long = "x".repeat(MOST_SAID);
        let query =
            Element::new("query", ns::DISCO_INFO).child(Element::new("feature", ns::DISCO_INFO).attr("var", long));
        assert_eq!(Features::read(&query), None);
    }
}
