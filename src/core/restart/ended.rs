//! Sessions that have ended, to tell a client that comes too late how much of what it had sent was handled (XEP-0198 §5,
//! `<failed h=''/>`). What is said of them stays true, so they are known after the next start, too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use rookery_xmpp::element::Element;
use rookery_xmpp::jid::BareJid;

use super::record::LIMITS;
use crate::store::{KeyValueStore, StoreError};

/// How many are remembered.
const MOST: usize = 4096;
/// Where the database has them: owner, module, key.
const PLACE: (&str, &str, &str) = ("server.invalid", "server", "ended");

/// The last sessions that have ended.
#[derive(Default)]
pub(crate) struct Ended(Mutex<VecDeque<Session>>);

struct Session {
    id: Box<str>,
    user: BareJid,
    /// Goes on counting while what it sent is being stored.
    handled: Arc<AtomicU32>,
}

impl Ended {
    /// Remembers one.
    pub(crate) fn add(&self, id: Box<str>, user: BareJid, handled: Arc<AtomicU32>) {
        let mut sessions = self.0.lock();
        sessions.push_back(Session { id, user, handled });
        if sessions.len() > MOST {
            sessions.pop_front();
        }
    }

    /// How many stanzas a session of this user's had handled.
    pub(crate) fn handled(&self, user: &BareJid, id: &str) -> Option<u32> {
        let sessions = self.0.lock();
        let session = sessions.iter().find(|session| *session.id == *id && session.user == *user)?;
        Some(session.handled.load(Ordering::Acquire))
    }

    /// Those that an earlier run of the server has saved.
    pub(crate) async fn load<S: KeyValueStore + ?Sized>(store: &S) -> Result<Self, StoreError> {
        let (owner, module, key) = PLACE;
        let ended = Self::default();
        let Ok(owner) = BareJid::new(owner) else { return Ok(ended) };
        let Some(value) = store.value(&owner, module, key).await? else { return Ok(ended) };
        let read = |session: &Element| {
            let user = BareJid::new(session.get("user")?).ok()?;
            Some((session.get("id")?.into(), user, session.get("handled")?.parse().ok()?))
        };
        // What cannot be read is no loss: a client is told less.
        if let Ok(list) = Element::parse(&value, LIMITS) {
            for (id, user, handled) in list.elements().filter_map(read) {
                ended.add(id, user, Arc::new(AtomicU32::new(handled)));
            }
        }
        Ok(ended)
    }

    /// Saves them for the next run.
    pub(crate) async fn save<S: KeyValueStore + ?Sized>(&self, store: &S) -> Result<(), StoreError> {
        let (owner, module, key) = PLACE;
        let Ok(owner) = BareJid::new(owner) else { return Ok(()) };
        let list = {
            let sessions = self.0.lock();
            Element::new("ended", "").children(sessions.iter().map(|session| {
                Element::new("session", "")
                    .attr("id", &*session.id)
                    .attr("user", session.user.as_str())
                    .attr("handled", session.handled.load(Ordering::Acquire).to_string())
            }))
        };
        store.set_values(&owner, module, &[(key.to_owned(), Some(list.to_xml().into_bytes()))]).await
    }
}
