//! Messages that were sent again: a client that did not get an acknowledgement sends once more what has arrived already.
//!
//! Each account remembers for a day what it has sent and received (design: "resending is harmless"), and takes a message
//! that it knows only once. A message is known by who of the two has sent it (who answers may use the same id), by its
//! peer, its id and its text: by `origin-id` (XEP-0359), which is unique, or else by the stanza's `id`, if the sender's
//! stream has acknowledgements (XEP-0198) and the id is long enough to have been drawn at random. Without acknowledgements
//! nobody sends again; and many programs count, from the same number whenever they start, so that what they say first each
//! day may have yesterday's id and yesterday's words. A message too many can be told by its reader, one that is missing
//! cannot. A server that has lost a stream sends again, too, by another one. Where there is no text, all that such a message says counts, but for the stamp that a client may put on what it
//! sends again (XEP-0203). On one and the same stream nothing is sent again.
//!
//! What an account has sent to another server or a component is known once more, as posted: from the moment it waits to go there
//! until it comes back, from here or with an error of the peer's. Then it may be sent again. An error names no text, so that
//! these digests begin with the peer and the stanza's id alone. In rooms, and to their occupants, who speaks is a session and
//! not an account: what another session of the account sends again is another message.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rookery_xmpp::jid::{BareJid, FullJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{Kind, MessageType, Stanza};
use sha2::{Digest, Sha256};

use crate::account::Account;
use crate::ids;
use crate::receipt::Receipt;
use crate::remote::Posted;
use crate::server::Server;
use crate::store;
use crate::tail::Side;

/// For how long a message is known.
pub(crate) const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest id, in bytes, that stands for one message alone: 64 random bits need as many characters. What counts is
/// shorter (`aab1a`, `mir_42`, `qxmpp1234`).
const DRAWN: usize = 11;

/// So many messages an account remembers at most.
pub(crate) const MOST: usize = 4096;

/// So many it takes up from the database: no more than it has had in any case. What it forgets for their number is there still.
pub(crate) const RECALLED: usize = MOST / 2;

/// So long a message is under way between the accounts of its sender and its recipient at most.
const UNDER_WAY: Duration = Duration::from_secs(60);

/// So many messages of that time are looked through for one that is sent again.
const MOST_BETWEEN: usize = 20_000;

/// How often that is tried while what waits for the account goes to disk and leaves it.
const LOOKS: usize = 3;

/// Up to which id messages may be forgotten: a day back by the clock. But that may run ahead and be set right again, and what is
/// forgotten is gone; so it is no later than a day before the last message that was there when the server began, and
/// as much as time itself has gone on since.
pub(crate) fn past(last: u64, running: Duration) -> u64 {
    let by_clock = ids::since(MEMORY);
    if last == 0 { by_clock } else { by_clock.min(ids::after(ids::before(last, MEMORY), running)) }
}

/// What a message from or to `peer` would be known by if it were sent again; `None` if it has nothing to be known by.
pub(crate) fn digest(side: Side, peer: &str, stanza: &Stanza, may_resend: bool) -> Option<u64> {
    let side = match side {
        Side::Sender => "sent",
        Side::Recipient => "received",
    };
    hash(side, peer, stanza, may_resend)
}

/// What a message that may be kept would be known by to its recipient if it came again.
pub(crate) fn received(stanza: &Stanza, may_resend: bool) -> Option<u64> {
    let from = stanza.head.from.as_ref()?;
    digest(Side::Recipient, peer(stanza, from), stanza, may_resend)
}

/// The same for what goes to another server or a component.
pub(crate) fn posted(from: &FullJid, to: &Jid, stanza: &Stanza, may_resend: bool) -> Option<u64> {
    let is_of_session = stanza.head.kind == Kind::Message(MessageType::Groupchat) || stanza.has("x", ns::MUC_USER);
    let side = if is_of_session { from.as_str() } else { "posted" };
    let digest = hash(side, peer(stanza, to), stanza, may_resend)?;
    Some(u64::from(errand(to, stanza)) << 32 | digest & u64::from(u32::MAX))
}

/// What an error for a message that was posted has in common with it.
fn errand(peer: &Jid, stanza: &Stanza) -> u32 {
    let mut hash = Sha256::new();
    for part in [peer.bare_str(), stanza.head.id.as_deref().unwrap_or_default()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let [a, b, c, d, ..] = hash.finalize().0;
    u32::from_le_bytes([a, b, c, d])
}

fn hash(side: &str, peer: &str, stanza: &Stanza, may_resend: bool) -> Option<u64> {
    let origin = stanza.has("origin-id", ns::SID).then(|| stanza.find("origin-id", ns::SID)?.get("id")).flatten();
    let (kind, id) = match (origin, &stanza.head.id) {
        (Some(origin), _) => ("origin", origin),
        (None, Some(id)) if may_resend && id.len() >= DRAWN => ("stanza", &**id),
        _ => return None,
    };
    let mut hash = Sha256::new();
    for part in [side, peer, kind, id] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    if let Some(body) = stanza.child_bytes("body", ns::CLIENT) {
        hash.update(body);
    } else if kind == "stanza" {
        stanza.bytes_of(|ns, name| (ns, name) != (ns::DELAY, "delay")).iter().for_each(|child| hash.update(child));
    }
    let [a, b, c, d, e, f, g, h, ..] = hash.finalize().0;
    Some(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

type Map<T> = HashMap<u64, T, foldhash::fast::RandomState>;

/// What an account has sent and received lately.
#[derive(Default)]
pub(crate) struct Seen {
    sights: Map<Sight>,
    /// What of it was posted in this run, by id.
    away: Map<Away>,
    /// It was more than is remembered.
    is_partial: bool,
}

#[derive(Clone, Copy)]
struct Sight {
    id: u64,
    /// The stream it came by; 0 when nobody knows.
    stream: u64,
}

#[derive(Default)]
struct Away {
    digest: u64,
    /// As long as it waits.
    posted: Weak<Posted>,
    /// Who has sent it again.
    again: Option<FullJid>,
}

/// What was known of a message that has come back.
#[derive(Default)]
pub(crate) struct Back {
    /// Its id; more than one if several are alike.
    pub(crate) ids: Vec<u64>,
    /// The session that has sent it again: whoever sent it first may be gone.
    pub(crate) again: Option<FullJid>,
}

impl Seen {
    pub(crate) fn new(stored: Vec<store::Seen>) -> Self {
        let is_partial = stored.len() >= RECALLED;
        let sights = stored.into_iter().map(|seen| (seen.digest, Sight { id: seen.id, stream: 0 })).collect();
        Self { sights, away: Map::default(), is_partial }
    }

    /// The id under which the account has this message already. `stream` is the one by which it comes now, if it is one
    /// of ours.
    pub(crate) fn find(&self, digest: u64, stream: Option<u64>) -> Option<u64> {
        let sight = self.sights.get(&digest)?;
        (stream != Some(sight.stream) && sight.id >= ids::since(MEMORY)).then_some(sight.id)
    }

    pub(crate) fn insert(&mut self, digest: u64, id: u64, stream: Option<u64>) {
        if self.sights.len() >= MOST {
            let mut ids: Vec<u64> = self.sights.values().map(|sight| sight.id).collect();
            let (_, middle, _) = ids.select_nth_unstable(MOST / 2);
            let middle = *middle;
            self.sights.retain(|_, sight| sight.id > middle);
            self.away.retain(|id, _| *id > middle);
            self.is_partial = true;
        }
        if let Some(before) = self.sights.insert(digest, Sight { id, stream: stream.unwrap_or(0) }) {
            self.away.remove(&before.id);
        }
    }

    /// A message that was posted now.
    pub(crate) fn insert_posted(&mut self, digest: u64, posted: &Arc<Posted>, stream: Option<u64>) {
        if self.away.len() == self.away.capacity() {
            self.away.retain(|_, away| away.posted.strong_count() > 0 || away.again.is_some());
        }
        self.insert(digest, posted.id, stream);
        self.away.insert(posted.id, Away { digest, posted: Arc::downgrade(posted), again: None });
    }

    /// What was posted is sent again by this session. Gives it if it may be waiting still.
    pub(crate) fn posted_again(&mut self, digest: u64, id: u64, by: &FullJid) -> Option<Arc<Posted>> {
        let away = self.away.entry(id).or_insert_with(|| Away { digest, ..Away::default() });
        away.again = Some(by.clone());
        away.posted.upgrade()
    }

    /// The database knows a message that is forgotten here.
    pub(crate) fn recall(&mut self, digest: u64, id: u64) {
        self.sights.entry(digest).or_insert(Sight { id, stream: 0 });
    }

    /// Whether a message that is not known may have been once in the last day.
    pub(crate) fn may_have_forgotten(&self, digest: u64) -> bool {
        self.is_partial && !self.sights.contains_key(&digest)
    }

    /// Whether the message of this id is the one that is known by this.
    pub(crate) fn knows(&self, digest: u64, id: u64) -> bool {
        self.sights.get(&digest).is_some_and(|sight| sight.id == id)
    }

    /// A message that was refused may come again.
    pub(crate) fn forget(&mut self, id: u64) {
        self.sights.retain(|_, sight| sight.id != id);
        self.away.remove(&id);
    }

    /// So may one that was posted and could not be delivered. Gives the session that has done so before.
    pub(crate) fn forget_posted(&mut self, id: u64) -> Option<FullJid> {
        let Some(Away { digest, again, .. }) = self.away.remove(&id) else {
            self.forget(id);
            return None;
        };
        if self.knows(digest, id) {
            self.sights.remove(&digest);
        }
        again
    }

    /// So may what came back with this error.
    pub(crate) fn come_back(&mut self, error: &Stanza) -> Back {
        let Some(errand) = error.head.from.as_ref().map(|from| errand(from, error)) else { return Back::default() };
        let mut back = Back::default();
        self.sights.retain(|digest, sight| {
            let goes = digest >> 32 == u64::from(errand);
            back.ids.extend(goes.then_some(sight.id));
            !goes
        });
        for id in &back.ids {
            back.again = self.away.remove(id).and_then(|away| away.again).or(back.again);
        }
        back
    }
}

impl Server {
    /// A message that is sent again, as its sender's account knows, and which that has first recorded under this id: if the
    /// recipient has had so much since that it remembers no more, the database says whether it has the message.
    /// Where that does not say, it comes once more: that can be told by its reader, what is missing cannot.
    pub(crate) async fn look_back(&self, account: &Arc<Account>, first: u64, digest: Option<u64>) {
        let Some(digest) = digest else { return };
        for _ in 0..LOOKS {
            let epoch = {
                let tail = account.tail.lock();
                if !tail.seen.may_have_forgotten(digest) {
                    return;
                }
                tail.epoch
            };
            let seen = match self.store.seen(&account.jid, first, ids::after(first, UNDER_WAY), MOST_BETWEEN).await {
                Ok(seen) => seen,
                Err(error) => return self.store_failed("cannot look for a message that is sent again", &error),
            };
            let Some(seen) = seen.iter().find(|seen| seen.digest == digest) else { return };
            let mut tail = account.tail.lock();
            // One that was refused may be on disk still, as long as it is listed.
            if tail.live.get(&seen.id).is_some_and(|kept| kept.is_void()) {
                return;
            }
            if tail.epoch == epoch {
                return tail.seen.recall(digest, seen.id);
            }
        }
    }
}

/// The peer of a message, as its digest names it: the bare JID; for a room's occupant all of it, since the bare JID
/// stands for many people (XEP-0045 §7.5).
pub(crate) fn peer<'a>(stanza: &Stanza, peer: &'a Jid) -> &'a str {
    if stanza.has("x", ns::MUC_USER) { peer.as_str() } else { peer.bare_str() }
}

/// The stream that a message came by, as far as nothing is sent again on one and the same. What a user of another server
/// sends again comes by the same stream of that server as the first time; so where the message itself says which it is,
/// the server's stream does not count.
pub(crate) fn stream(stanza: &Stanza, receipt: Option<&Receipt>) -> Option<u64> {
    let receipt = receipt.filter(|receipt| receipt.session().is_some() || !stanza.has("origin-id", ns::SID));
    receipt.map(Receipt::stream)
}

/// Whether a message is for the account that sent it.
pub(crate) fn is_to_self(account: &BareJid, stanza: &Stanza) -> bool {
    stanza.head.to.as_ref().is_none_or(|to| to.bare_str() == account.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_xmpp::element::Element;
    use rookery_xmpp::stanza::MessageType;

    fn message(id: &str, body: &str) -> Stanza {
        Stanza::message(MessageType::Chat).id(id).child(Element::new("body", ns::CLIENT).text(body))
    }

    const ID: &str = "5f3dbc5e-e1d3";

    #[test]
    fn a_message_is_known_by_peer_id_and_text() {
        let first = digest(Side::Recipient, "romeo@localhost", &message(ID, "hi"), true);
        assert!(first.is_some());
        assert_eq!(first, digest(Side::Recipient, "romeo@localhost", &message(ID, "hi"), true));
        assert_ne!(first, digest(Side::Recipient, "mercutio@localhost", &message(ID, "hi"), true));
        assert_ne!(first, digest(Side::Recipient, "romeo@localhost", &message("5f3dbc5e-e1d4", "hi"), true));
        assert_ne!(first, digest(Side::Recipient, "romeo@localhost", &message(ID, "ho"), true));
        assert_ne!(first, digest(Side::Sender, "romeo@localhost", &message(ID, "hi"), true));
    }

    #[test]
    fn without_acknowledgements_only_an_origin_id_counts() {
        let plain = message(ID, "hi");
        assert_eq!(digest(Side::Recipient, "romeo@localhost", &plain, false), None);
        let origin = plain.child(Element::new("origin-id", ns::SID).attr("id", "o"));
        assert_eq!(
            digest(Side::Recipient, "romeo@localhost", &origin, false),
            digest(Side::Recipient, "romeo@localhost", &origin, true)
        );
    }

    #[test]
    fn numbers_are_no_names() {
        for (id, expected) in [
            ("1", false),
            ("aab1a", false),
            ("mir_42", false),
            ("qxmpp12345", false),
            ("q83vEjRWeJA", true),
            (ID, true),
        ] {
            let digest = digest(Side::Recipient, "romeo@localhost", &message(id, "hi"), true);
            assert_eq!(digest.is_some(), expected, "{id}");
        }
    }

    #[test]
    fn nothing_is_known_on_the_stream_it_came_by() {
        let mut seen = Seen::default();
        let id = ids::Ids::default().next();
        seen.insert(7, id, Some(3));
        assert_eq!(seen.find(7, Some(3)), None);
        assert_eq!(seen.find(7, Some(4)), Some(id));
        assert_eq!(seen.find(7, None), Some(id));
        seen.forget(id);
        assert_eq!(seen.find(7, Some(4)), None);
    }

    #[test]
    fn the_newest_are_remembered() {
        let (mut seen, ids) = (Seen::default(), ids::Ids::default());
        for digest in 0..10_000 {
            seen.insert(digest, ids.next(), None);
        }
        assert!(seen.sights.len() <= MOST);
        assert!((9_000..10_000).all(|digest| seen.find(digest, None).is_some()));
    }

    #[test]
    fn a_clock_that_runs_ahead_forgets_nothing() {
        const MINUTE: Duration = Duration::from_secs(60);
        let now = ids::Ids::default().next();
        assert!((ids::before(now, MEMORY)..ids::before(now, MEMORY - MINUTE)).contains(&past(now, MINUTE)));
        // The clock says that twelve years have passed since the last message.
        let last = ids::since(Duration::from_secs(12 * 365 * 24 * 60 * 60));
        assert_eq!(past(last, Duration::ZERO), ids::before(last, MEMORY));
        assert_eq!(past(last, MINUTE), ids::before(last, MEMORY - MINUTE));
        assert_eq!(past(last, MEMORY + MINUTE), ids::after(last, MINUTE));
        // The first messages of all are forgotten, too.
        assert!(past(0, Duration::ZERO) >= ids::before(now, MEMORY));
    }

    #[test]
    fn what_is_a_day_old_is_new_again() {
        let mut seen = Seen::default();
        seen.insert(1, ids::since(MEMORY + Duration::from_secs(1)), None);
        assert_eq!(seen.find(1, None), None);
    }
}
