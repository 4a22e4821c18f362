//! The mailbox: what waits in an account's tail and is on its way to nobody, for a client that collects it itself instead
//! of being sent it all (XEP-0013). To look at a message changes nothing; to discard one takes it out of the tail.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::Jid;
use rookery_xmpp::stanza::Stanza;
use tokio::time::timeout;

use crate::account::Account;
use crate::deliver::{PAGE, delayed, parse};
use crate::server::Server;
use crate::session::Session;
use crate::store::TailEntry;
use crate::tail::{Kept, Tail, Writer};

/// So often a page is read again because messages went to or from the tail meanwhile.
const AGAIN: usize = 100;

/// How long it waits for its turn to read; others read, too.
const TURN: Duration = Duration::from_secs(10);

/// Some messages of a mailbox, oldest first.
pub struct Mail {
    account: Arc<Account>,
    kept: Vec<Arc<Kept>>,
}

/// A mailbox being looked through.
pub struct Mailbox {
    server: Arc<Server>,
    session: Arc<Session>,
    /// From behind which id on; `None` at the end.
    after: Option<u64>,
    up_to: u64,
}

impl Mailbox {
    /// The next of its messages, none too many at a time; `None` at the end. The error is for the client.
    pub async fn next(&mut self) -> Result<Option<Mail>, StanzaError> {
        let Some(after) = self.after else { return Ok(None) };
        let (mail, more) = self.server.mail(&self.session, after, self.up_to).await?;
        self.after = more;
        Ok(Some(mail))
    }
}

/// A message of a mailbox.
pub struct Letter<'a>(&'a Arc<Kept>);

impl Letter<'_> {
    /// Its stanza-id: unique in the server, growing with time.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Who has sent it.
    pub fn from(&self) -> Option<&Jid> {
        self.0.stanza.head.from.as_ref()
    }

    /// The message with the time at which the server took it (XEP-0203).
    pub fn stanza(&self) -> Stanza {
        delayed(self.0)
    }
}

impl Mail {
    /// The messages.
    pub fn letters(&self) -> impl Iterator<Item = Letter<'_>> {
        self.kept.iter().map(Letter)
    }

    /// Leaves those messages alone that `wanted` does not want.
    pub fn retain(&mut self, mut wanted: impl FnMut(u64) -> bool) {
        let mut tail = self.account.tail.lock();
        self.kept.retain(|kept| {
            let is_wanted = wanted(kept.id);
            if !is_wanted {
                tail.release(kept);
            }
            is_wanted
        });
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        let mut tail = self.account.tail.lock();
        for kept in self.kept.drain(..) {
            tail.release(&kept);
        }
    }
}

/// What belongs to the mailbox of a session's account: what waits, is for this session if for any, and is not on its way to
/// a client.
struct Idle<'a> {
    session: &'a Session,
    on_their_way: HashSet<u64>,
}

impl<'a> Idle<'a> {
    fn of(session: &'a Session) -> Self {
        let sessions = session.account.sessions();
        let others = sessions.iter().filter(|other| other.jid == session.jid || !other.is_detached());
        Self { session, on_their_way: others.flat_map(|other| other.held_or_owed()).collect() }
    }

    fn has(&self, kept: &Kept) -> bool {
        let is_for_it = kept.resource.as_deref().is_none_or(|resource| {
            resource == self.session.jid.resource() || self.session.account.session(resource).is_none()
        });
        is_for_it && kept.is_waiting() && !self.on_their_way.contains(&kept.id)
    }
}

impl Server {
    /// How many messages are in the mailbox of a session's account.
    pub fn mail_count(&self, session: &Session) -> u64 {
        let tail = session.account.tail.lock();
        let idle = Idle::of(session);
        let others = tail.live.values().filter(|kept| kept.is_waiting() && !idle.has(kept)).count();
        tail.size.messages.saturating_sub(others as u64)
    }

    /// The mailbox of a session's account: what is in it by now, or only these messages, by their lowest and highest id.
    pub fn mailbox(self: &Arc<Self>, session: &Arc<Session>, ids: Option<(u64, u64)>) -> Mailbox {
        let (first, up_to) = ids.unwrap_or_else(|| (0, self.ids.next()));
        Mailbox { server: self.clone(), session: session.clone(), after: Some(first.saturating_sub(1)), up_to }
    }

    /// A page of it, and the id after which there may be more.
    async fn mail(&self, session: &Arc<Session>, after: u64, up_to: u64) -> Result<(Mail, Option<u64>), StanzaError> {
        let account = &session.account;
        for _ in 0..AGAIN {
            let turn = timeout(TURN, self.tail_turns.acquire()).await.map_err(|_| Writer::refusal())?;
            let epoch = account.tail.lock().epoch;
            let page = self.store.tail(&account.jid, after, up_to, PAGE).await.inspect_err(|error| {
                self.store_failed("cannot read what waits for an account", error);
            })?;
            drop(turn);
            let more = page.last().filter(|_| page.len() == PAGE).map(|entry| entry.id);
            if let Some(mail) = sort(session, after, more.unwrap_or(up_to), epoch, page) {
                return Ok((mail, more));
            }
        }
        Err(Writer::refusal())
    }

    /// Takes messages out of the tail; when this returns they are out of it on disk, too. The error is for the client.
    pub async fn discard_mail(&self, mail: Mail) -> Result<(), StanzaError> {
        if self.writer.is_failing() {
            return Err(Writer::refusal());
        }
        let account = &mail.account;
        let receipts: Vec<_> = {
            let mut tail = account.tail.lock();
            mail.kept.iter().map(|kept| kept.delivered(&mut tail)).collect()
        };
        drop(receipts);
        // What is still in the list is on its way out, or another session has been given it meanwhile.
        let is_out = |tail: &Tail| !mail.kept.iter().any(|kept| tail.live.contains_key(&kept.id));
        self.writer.wait_until(|| is_out(&account.tail.lock())).await
    }
}

/// Picks out of a page, and of what is not on disk yet, what is in the mailbox. `None`: the page is not to be trusted.
fn sort(session: &Session, after: u64, last: u64, epoch: u64, page: Vec<TailEntry>) -> Option<Mail> {
    let account = &session.account;
    let mut tail = account.tail.lock();
    if tail.epoch != epoch {
        return None;
    }
    let mut found: BTreeMap<u64, Arc<Kept>> = BTreeMap::new();
    if after < last {
        found.extend(tail.live.range(after + 1..=last).map(|(id, kept)| (*id, kept.clone())));
    }
    for entry in page {
        if let Some(stanza) = parse(&entry) {
            found.insert(entry.id, tail.recall(account, entry, Arc::new(stanza)));
        }
    }
    let idle = Idle::of(session);
    let mut kept = Vec::with_capacity(found.len());
    for (_, one) in found {
        if idle.has(&one) {
            kept.push(one);
        } else {
            tail.release(&one);
        }
    }
    Some(Mail { account: account.clone(), kept })
}
