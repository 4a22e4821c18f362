//! RFC 6121 §3: asking for presence, approving, taking it back; and the end of it all when a contact is removed (§2.5.2).
//!
//! Each stanza is a step in the tables of `subscription.rs`, taken under the roster's turn: on disk first, then told to
//! the user's resources in the order of the changes, then sent to the contact. What waits for an answer is kept whole and
//! shown to each resource that comes (§3.1.3).

use std::sync::Arc;

use rookery_core::account::Account;
use rookery_core::module::{Cx, Flow, Way};
use rookery_core::roster::{Roster as Contacts, RosterItem};
use rookery_core::server::Server;
use rookery_core::session::Session;
use rookery_core::store::RosterChange;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::parser::{self, Parsed};
use rookery_xmpp::stanza::{Kind, PresenceType, Stanza};
use tracing::{debug, error};

use super::subscription::{self, State, Step};
use super::{Roster, items, push, room_for, word};

/// A request that is larger, in bytes, is kept without what it carries.
const LARGEST_REQUEST: usize = 16 * 1024;

/// The id of a request that the server repeats; an error for it is not the user's concern.
const REPEATED: &str = "repeated-request";

/// What a stanza of the handshake comes to.
struct Decided {
    before: State,
    step: Step,
    /// The item, when it has changed.
    item: Option<RosterItem>,
}

/// Decides on a stanza: what changes in the roster, and what is to be sent.
fn decide(
    roster: &Contacts,
    version: u64,
    way: Way,
    kind: PresenceType,
    contact: &BareJid,
    room: usize,
    request: &Stanza,
) -> (Vec<RosterChange>, Result<Option<Decided>, StanzaError>) {
    let known = roster.get(contact.as_str());
    let asked = roster.is_requested_by(contact.as_str());
    let (ask, approved) = known.map_or((false, false), |item| (item.ask, item.approved));
    let before = State::of(roster.subscription(contact.as_str()), ask, asked);
    let Some(step) = subscription::step(way, kind, before, approved) else { return (Vec::new(), Ok(None)) };
    let mut changes = Vec::new();
    let mut item = None;
    let (subscription, out) = (step.state.subscription(), step.state.is_out());
    if (subscription, out, step.approved) != (before.subscription(), ask, approved) {
        match room_for(roster, contact, room) {
            Ok(known) => item = Some(RosterItem { subscription, ask: out, approved: step.approved, version, ..known }),
            Err(error) => return (Vec::new(), Err(error)),
        }
        changes.extend(item.clone().map(RosterChange::Put));
    }
    if step.state.is_in() && !asked {
        if roster.requests().count() >= room {
            // Nobody has read so many; what is dropped here, its sender will repeat some day.
            debug!(%contact, "too many subscription requests wait; this one is ignored");
            return (Vec::new(), Ok(None));
        }
        let mut bytes = Vec::new();
        request.write_standalone(&mut bytes);
        changes.push(RosterChange::Request(contact.clone(), bytes));
    } else if asked && !step.state.is_in() {
        changes.push(RosterChange::Unrequest(contact.clone()));
    }
    (changes, Ok(Some(Decided { before, step, item })))
}

/// The user answers or asks a contact (RFC 6121 §3.1.2, §3.1.5, §3.2.2, §3.3.2, §3.4.2).
pub(super) fn sent(_: &Arc<Roster>, cx: &Cx<'_>, presence: &mut Stanza) -> Flow {
    let (Kind::Presence(kind), Some(to)) = (presence.head.kind, &presence.head.to) else { return Flow::Next };
    if !is_of_handshake(kind) {
        return Flow::Next;
    }
    let contact = to.bare();
    if contact == cx.account.jid {
        // One's own presence needs no subscription (§4.2.2).
        return Flow::Done;
    }
    let stanza = presence.clone().from(cx.account.jid.clone()).to(contact.clone());
    let (server, account) = (cx.server.clone(), cx.account.clone());
    Flow::Wait(Box::pin(async move { send(&server, &account, kind, &contact, stanza).await.into() }))
}

async fn send(
    server: &Arc<Server>,
    account: &Arc<Account>,
    kind: PresenceType,
    contact: &BareJid,
    stanza: Stanza,
) -> Result<(), StanzaError> {
    let room = server.conf().limits().roster.get() as usize;
    let decided = account
        .change_roster(
            |roster, version| decide(roster, version, Way::Outgoing, kind, contact, room, &stanza),
            |decided| {
                if let Ok(Some(Decided { item: Some(item), .. })) = &decided {
                    push(server, account, items::item(item), item.version);
                }
                decided
            },
        )
        .await??;
    let Some(Decided { before, step, .. }) = decided else { return Ok(()) };
    let saw = before.subscription().is_from();
    let sees = step.state.subscription().is_from();
    if saw && !sees {
        // §3.2.2: while the contact still expects the user's presence.
        leave(server, account, contact).await;
    }
    if step.passes {
        server.route(stanza).await;
    }
    if sees && !saw {
        show(server, account, contact).await;
    }
    Ok(())
}

/// A contact answers or asks the user (RFC 6121 §3.1.3, §3.1.6, §3.2.3, §3.3.3).
pub(super) fn received(_: &Arc<Roster>, cx: &Cx<'_>, presence: &mut Stanza) -> Flow {
    let (Kind::Presence(kind), Some(from), Some(to)) = (presence.head.kind, &presence.head.from, &presence.head.to)
    else {
        return Flow::Next;
    };
    let contact = from.bare();
    if kind == PresenceType::Error && to.is_bare() {
        refused(cx.account, &contact, presence);
        return Flow::Done;
    }
    if !is_of_handshake(kind) {
        return Flow::Next;
    }
    if contact == cx.account.jid {
        return Flow::Done;
    }
    let stanza = presence.clone().from(contact.clone()).to(cx.account.jid.clone());
    let (server, account) = (cx.server.clone(), cx.account.clone());
    Flow::Wait(Box::pin(async move { receive(&server, &account, kind, &contact, stanza).await.into() }))
}

async fn receive(
    server: &Arc<Server>,
    account: &Arc<Account>,
    kind: PresenceType,
    contact: &BareJid,
    stanza: Stanza,
) -> Result<(), StanzaError> {
    let room = server.conf().limits().roster.get() as usize;
    let request = if stanza.size() > LARGEST_REQUEST {
        word(account, kind, contact).from(contact.clone()).to(account.jid.clone())
    } else {
        stanza.clone()
    };
    let decided = account
        .change_roster(
            |roster, version| decide(roster, version, Way::Incoming, kind, contact, room, &request),
            |decided| {
                if let Ok(Some(Decided { step, item, .. })) = &decided {
                    // §3.1.6, §3.2.3, §3.3.3: before the push, so that a client knows why it comes.
                    if step.passes {
                        deliver(account, kind, &stanza);
                    }
                    if let Some(item) = item {
                        push(server, account, items::item(item), item.version);
                    }
                }
                decided
            },
        )
        .await??;
    let Some(Decided { before, step, .. }) = decided else { return Ok(()) };
    if step.answers {
        server.route_from(account, word(account, PresenceType::Subscribed, contact)).await;
        show(server, account, contact).await;
    }
    if before.subscription().is_from() && !step.state.subscription().is_from() {
        leave(server, account, contact).await;
    }
    Ok(())
}

/// Requests go to all who are there to answer; the rest to those who know the roster (RFC 6121 §2.2, note).
fn deliver(account: &Account, kind: PresenceType, stanza: &Stanza) {
    let wanted = |session: &&Arc<Session>| match kind {
        PresenceType::Subscribe => session.is_available(),
        _ => session.is_interested(),
    };
    for session in account.sessions().iter().filter(wanted) {
        session.send(stanza.clone());
    }
}

/// A request came back: whoever waits for the answer is told. The state stays; it is the user who gives up, or the server
/// that tries again.
fn refused(account: &Account, contact: &BareJid, error: &Stanza) {
    let waits = account.roster().get(contact.as_str()).is_some_and(|item| item.ask);
    if waits && error.head.id.as_deref() != Some(REPEATED) {
        deliver(account, PresenceType::Subscribe, error);
    }
}

/// A resource has come: it sees the requests that wait (RFC 6121 §3.1.3), and the first one repeats the account's own
/// (§3.1.2), which may have been lost.
pub(super) fn available(_: &Arc<Roster>, server: &Arc<Server>, session: &Arc<Session>) -> Flow {
    let account = &session.account;
    let roster = account.roster();
    for (contact, request) in roster.requests() {
        match parser::parse(request.to_vec().into(), &Default::default()) {
            Ok(Parsed::Stanza(request)) => {
                session.send(request);
            }
            Ok(_) | Err(_) => error!(account = %account.jid, %contact, "a stored subscription request cannot be read"),
        }
    }
    let alone = account.sessions().iter().all(|other| Arc::ptr_eq(other, session) || !other.is_available());
    let asked: Vec<_> = roster
        .items()
        .filter(|item| item.ask && alone)
        .map(|item| word(account, PresenceType::Subscribe, &item.jid).id(REPEATED))
        .collect();
    if asked.is_empty() {
        return Flow::Next;
    }
    let (server, account) = (server.clone(), account.clone());
    Flow::Wait(Box::pin(async move {
        for request in asked {
            server.route_from(&account, request).await;
        }
        Flow::Next
    }))
}

/// Removes a contact and with it all that was agreed on (RFC 6121 §2.5.2).
pub(super) async fn remove(server: &Arc<Server>, account: &Arc<Account>, contact: BareJid) -> Result<(), StanzaError> {
    let before = account
        .change_roster(
            |roster, version| {
                let Some(item) = roster.get(contact.as_str()) else { return (Vec::new(), None) };
                let asked = roster.is_requested_by(contact.as_str());
                let mut changes = vec![RosterChange::Remove(contact.clone(), version)];
                changes.extend(asked.then(|| RosterChange::Unrequest(contact.clone())));
                (changes, Some((State::of(item.subscription, item.ask, asked), version)))
            },
            |removed| {
                removed.map(|(before, version)| {
                    push(server, account, items::removed(&contact), version);
                    before
                })
            },
        )
        .await?;
    let Some(before) = before else {
        return Err(StanzaError::new(Condition::ItemNotFound).with_text("There is no such contact in your roster."));
    };
    let subscription = before.subscription();
    if subscription.is_from() {
        leave(server, account, &contact).await;
    }
    if subscription.is_to() || before.is_out() {
        server.route_from(account, word(account, PresenceType::Unsubscribe, &contact)).await;
    }
    if subscription.is_from() || before.is_in() {
        server.route_from(account, word(account, PresenceType::Unsubscribed, &contact)).await;
    }
    Ok(())
}

/// The contact sees the user from now on: it gets what there is to see (RFC 6121 §3.1.5).
async fn show(server: &Arc<Server>, account: &Arc<Account>, contact: &BareJid) {
    for session in account.sessions() {
        if let Some(presence) = session.presence() {
            server.route_from(account, Stanza::clone(&presence).to(contact.clone())).await;
        }
    }
}

/// The contact will not see the user any more: for it, all resources go (RFC 6121 §3.2.2, §3.3.3).
async fn leave(server: &Arc<Server>, account: &Arc<Account>, contact: &BareJid) {
    for session in account.sessions().iter().filter(|session| session.is_available()) {
        let gone = Stanza::presence(PresenceType::Unavailable).from(session.jid.clone()).to(contact.clone());
        server.route_from(account, gone).await;
    }
}

fn is_of_handshake(kind: PresenceType) -> bool {
    matches!(
        kind,
        PresenceType::Subscribe | PresenceType::Subscribed | PresenceType::Unsubscribe | PresenceType::Unsubscribed
    )
}
