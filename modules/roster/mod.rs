//! RFC 6121 §2: the roster, asked for, changed and pushed, with versioning (§2.6); and §3, the subscription handshake, in
//! `handshake.rs` with Appendix A's tables in `subscription.rs`.
//!
//! What the roster holds is in core, since many ask it. Presence itself (§4) is the module `presence`'s.

mod handshake;
mod items;
mod subscription;

use std::sync::Arc;

use rookery_core::account::Account;
use rookery_core::module::{
    Call, Cx, Fault, Flow, Hooks, IqResult, Module, Offer, SessionEvent, Setup, Stage, Target, Way, When, Xep,
};
use rookery_core::roster::{Roster as Contacts, RosterItem};
use rookery_core::server::{Server, random_id};
use rookery_core::session::Session;
use rookery_core::store::RosterChange;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, PresenceType, Stanza};

use crate::roster::items::Wish;

/// Keeps contacts and who may see whom.
pub struct Roster;

impl Module for Roster {
    const NAME: &'static str = "roster";
    const XEPS: &'static [Xep] = &[];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco(ns::ROSTER)
            .stream_feature(When::BeforeBind, Self::versioning)
            .stream_feature(When::BeforeBind, Self::pre_approval)
            .iq_answered(IqType::Get, Target::Account, ns::ROSTER, "query", Self::get)
            .iq(IqType::Set, Target::Account, ns::ROSTER, "query", Self::set)
            .iq_passing(Way::Outgoing, Stage::Guard, Self::own_only)
            .iq_passing(Way::Incoming, Stage::Guard, Self::no_forged_push)
            .presence(Way::Outgoing, Stage::Deliver, handshake::sent)
            .presence(Way::Incoming, Stage::Deliver, handshake::received)
            .session(SessionEvent::Available, handshake::available);
    }
}

impl Roster {
    fn versioning(self: &Arc<Self>, _: &Offer<'_>) -> Option<Element> {
        Some(Element::new("ver", ns::ROSTER_VER))
    }

    fn pre_approval(self: &Arc<Self>, _: &Offer<'_>) -> Option<Element> {
        Some(Element::new("sub", ns::PRE_APPROVAL))
    }

    /// A client asks for the roster and for pushes from now on (RFC 6121 §2.2).
    async fn get(self: Arc<Self>, call: Call) -> Result<(), StanzaError> {
        let (account, Some(session)) = (own(&call)?, &call.session) else {
            return Err(StanzaError::new(Condition::ServiceUnavailable));
        };
        account
            .read_roster(|roster| {
                session.set_interested();
                let missed = call.payload.get("ver").and_then(|ver| items::missed(roster, ver));
                let whole = missed.is_none().then(|| {
                    let query = items::query(items::version(roster.epoch(), roster.version()));
                    query.children(roster.items().map(items::item))
                });
                session.send(call.stanza.result(whole));
                for (item, version) in missed.unwrap_or_default() {
                    push_to(&call.server, session, item, items::version(roster.epoch(), version));
                }
            })
            .await;
        Ok(())
    }

    /// A client changes the roster (RFC 6121 §2.3–§2.5).
    async fn set(self: Arc<Self>, call: Call) -> IqResult {
        let account = own(&call)?;
        match items::read(&call.payload)? {
            Wish::Put { jid, name, groups } => put(&call.server, account, jid, name, groups).await?,
            Wish::Remove(jid) => handshake::remove(&call.server, account, jid).await?,
        }
        Ok(None)
    }

    /// Nobody asks for others' rosters. It is said before looking whether there is such an account (security.md A5), which
    /// also keeps forged pushes from our own users' clients (C2).
    fn own_only(self: &Arc<Self>, cx: &Cx<'_>, iq: &mut Stanza) -> Flow {
        let Some(to) = &iq.head.to else { return Flow::Next };
        let ours = to.localpart().is_some() && cx.server.host(to.domainpart()).is_some();
        if asks_roster(iq) && ours && to.as_str() != cx.account.jid.as_str() {
            return Flow::Reject(StanzaError::new(Condition::Forbidden).with_text("This is not your roster."));
        }
        Flow::Next
    }

    /// A roster push that somebody else made must not reach a client (security.md C2); ours go straight to the session.
    fn no_forged_push(self: &Arc<Self>, cx: &Cx<'_>, iq: &mut Stanza) -> Flow {
        let to_client = iq.head.to.as_ref().is_some_and(|to| !to.is_bare());
        let from_account = iq.head.from.as_ref().is_some_and(|from| from.as_str() == cx.account.jid.as_str());
        if asks_roster(iq) && to_client && !from_account {
            return Flow::Reject(StanzaError::new(Condition::ServiceUnavailable));
        }
        Flow::Next
    }
}

fn asks_roster(iq: &Stanza) -> bool {
    matches!(iq.head.kind, Kind::Iq(IqType::Get | IqType::Set)) && iq.has_ns(ns::ROSTER)
}

/// The account whose roster is asked for, if its own client asks. Others get what they would get if it did not exist.
fn own(call: &Call) -> Result<&Arc<Account>, StanzaError> {
    call.account.as_ref().filter(|_| call.is_own()).ok_or_else(|| StanzaError::new(Condition::ServiceUnavailable))
}

/// Adds a contact, or changes its name and groups. The subscription is what it was.
async fn put(
    server: &Arc<Server>,
    account: &Arc<Account>,
    contact: BareJid,
    name: Option<String>,
    groups: Vec<String>,
) -> Result<(), StanzaError> {
    if contact == account.jid {
        let text = "An account is not its own contact.";
        return Err(StanzaError::new(Condition::NotAllowed).with_text(text));
    }
    let room = server.conf().limits().roster.get() as usize;
    let decide = |roster: &Contacts, version| {
        let known = match room_for(roster, &contact, room) {
            Ok(known) => known,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let item = RosterItem { name, groups, version, ..known };
        (vec![RosterChange::Put(item.clone())], Ok(item))
    };
    account.change_roster(decide, |put| put.map(|item| push(server, account, items::item(&item), item.version))).await?
}

/// The item of a contact; a new one as long as the roster is not full.
fn room_for(roster: &Contacts, contact: &BareJid, room: usize) -> Result<RosterItem, StanzaError> {
    match roster.get(contact.as_str()) {
        Some(item) => Ok(item.clone()),
        None if roster.len() < room => Ok(RosterItem::new(contact.clone())),
        None => {
            let text = "Your roster holds as many contacts as are allowed.";
            Err(StanzaError::new(Condition::ResourceConstraint).with_text(text))
        }
    }
}

/// Tells the interested resources of a change (RFC 6121 §2.1.6).
fn push(server: &Arc<Server>, account: &Arc<Account>, item: Element, version: u64) {
    let version = items::version(account.roster().epoch(), version);
    for session in account.sessions().iter().filter(|session| session.is_interested()) {
        push_to(server, session, item.clone(), version.clone());
    }
}

fn push_to(server: &Arc<Server>, session: &Session, item: Element, version: String) {
    // Random, so that nobody can answer in a client's name (security.md C2).
    let id = random_id().unwrap_or_else(|_| server.ids.next().to_string());
    let push = Stanza::iq(IqType::Set, id).to(Jid::from(session.jid.clone())).child(items::query(version).child(item));
    session.send(push);
}

/// A presence of the account itself, as the handshake has it: from and to bare JIDs.
fn word(account: &Account, kind: PresenceType, contact: &BareJid) -> Stanza {
    Stanza::presence(kind).from(account.jid.clone()).to(contact.clone())
}
