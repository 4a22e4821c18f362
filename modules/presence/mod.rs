//! RFC 6121 §4: exchanging presence. Broadcasts, probes, directed presence, and the notice that a resource has gone.
//!
//! Who is subscribed is in the account's roster; how that comes about is the module `roster`'s. What others know of sessions
//! that a crash has ended is in `abroad.rs`.

mod abroad;

use std::collections::BTreeSet;
use std::sync::Arc;

use rookery_core::account::Account;
use rookery_core::module::{BoxFuture, Cx, Fault, Flow, Hooks, Module, SessionEvent, Setup, Stage, Way, Xep};
use rookery_core::server::Server;
use rookery_core::session::Session;
use rookery_core::slots::Slot;
use rookery_core::store::StoreError;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{Kind, PresenceType, Stanza};

use self::abroad::Abroad;

/// Entities that one session may have sent directed presence to and not taken back.
const MOST_DIRECTED: usize = 500;

/// What says of an address that directed presence has reached nobody there. That a server has not answered in time does not:
/// it may have got it.
const NOBODY_THERE: &[Condition] = &[
    Condition::Gone,
    Condition::ItemNotFound,
    Condition::JidMalformed,
    Condition::RecipientUnavailable,
    Condition::Redirect,
    Condition::RemoteServerNotFound,
];

/// Tells contacts who is there.
pub struct Presence {
    /// Whom a session has sent directed presence (RFC 6121 §4.6).
    directed: Slot<BTreeSet<Jid>>,
    /// The unavailable presence with which a client leaves, in its own words.
    farewell: Slot<Stanza>,
    /// The session's presence has been noted as one that other servers know.
    noted: Slot<()>,
    domain: BareJid,
    abroad: Arc<Abroad>,
}

impl Module for Presence {
    const NAME: &'static str = "presence";
    const XEPS: &'static [Xep] = &[];
    type Config = ();

    fn new((): (), setup: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self {
            directed: setup.server.directed,
            farewell: setup.session_slot("farewell"),
            noted: setup.session_slot("noted"),
            domain: setup.domain.clone(),
            abroad: setup.lasting(setup.domain),
        })
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.presence(Way::Outgoing, Stage::Guard, Self::sent_away)
            .presence(Way::Outgoing, Stage::Deliver, Self::sent)
            .presence(Way::Incoming, Stage::Deliver, Self::probed)
            .presence(Way::Incoming, Stage::Deliver, Self::returned)
            .session(SessionEvent::Unavailable, Self::gone)
            .session(SessionEvent::Closed, Self::closed)
            .session_state(Self::save, Self::restore)
            .begin(Self::begin)
            .end(Self::end)
            .every(abroad::ROUND, |presence, server| {
                presence.abroad.go_round(server, &presence.domain, presence.noted)
            });
    }
}

impl Presence {
    async fn begin(self: Arc<Self>, server: Arc<Server>) -> Result<(), StoreError> {
        self.abroad.begin(&server, &self.domain).await
    }

    async fn end(self: Arc<Self>, server: Arc<Server>) {
        self.abroad.end(&server, &self.domain).await;
    }

    /// Available presence goes to another server, whoever sends it there: by a broadcast, an answer, or directed.
    fn sent_away(self: &Arc<Self>, cx: &Cx<'_>, presence: &mut Stanza) -> Flow {
        let (Some(from), Some(to)) = (&presence.head.from, &presence.head.to) else { return Flow::Next };
        if presence.head.kind != Kind::Presence(PresenceType::Available) || !abroad::is_abroad(cx.server, to) {
            return Flow::Next;
        }
        let Some(session) = from.resourcepart().and_then(|resource| cx.account.session(resource)) else {
            return Flow::Next;
        };
        // Whom presence is directed at is noted each time, all others together.
        if cx.session.is_some() || session.get(self.noted).is_none() {
            session.set(self.noted, ());
            self.abroad.note(&session.jid);
        }
        Flow::Next
    }

    fn sent(self: &Arc<Self>, cx: &Cx<'_>, presence: &mut Stanza) -> Flow {
        let (Some(session), Kind::Presence(kind)) = (cx.session, presence.head.kind) else { return Flow::Next };
        match (&presence.head.to, kind) {
            (None, PresenceType::Available) => self.available(cx, session, presence),
            (None, PresenceType::Unavailable) => self.unavailable(cx, session, presence),
            (None, PresenceType::Error) => Flow::Done,
            (Some(to), PresenceType::Available) => self.direct(session, to),
            (Some(to), PresenceType::Unavailable) => {
                session.update(self.directed, |directed| directed.remove(to));
                self.forget_abroad(session);
                Flow::Next
            }
            _ => Flow::Next,
        }
    }

    /// Initial and subsequent presence (RFC 6121 §4.2, §4.4).
    fn available(self: &Arc<Self>, cx: &Cx<'_>, session: &Arc<Session>, presence: &Stanza) -> Flow {
        let priority =
            match presence.find("priority", ns::CLIENT).map(|priority| priority.content().trim().parse::<i8>()) {
                None => 0,
                Some(Ok(priority)) => priority,
                Some(Err(_)) => {
                    let text = "A priority is a whole number from -128 to 127.";
                    return Flow::Reject(StanzaError::new(Condition::BadRequest).with_text(text));
                }
            };
        let before = session.priority();
        if !session.set_presence(Some((Arc::new(presence.clone()), priority))) {
            return Flow::Done;
        }
        let (server, account, session, presence) =
            (cx.server.clone(), cx.account.clone(), session.clone(), presence.clone());
        Flow::Wait(Box::pin(async move {
            broadcast(&server, &session, &presence).await;
            if before.is_none() {
                ask_around(&server, &account, &session).await;
                server.tell(&session, SessionEvent::Available).await;
            }
            if priority >= 0 && before.is_none_or(|before| before < 0) {
                server.tell(&session, SessionEvent::Reachable).await;
            }
            Flow::Done
        }))
    }

    /// A client leaves but keeps its session (RFC 6121 §4.5).
    fn unavailable(self: &Arc<Self>, cx: &Cx<'_>, session: &Arc<Session>, presence: &Stanza) -> Flow {
        if !session.is_available() {
            // Nobody has been told that it is there, except by directed presence.
            return self.take_back(cx.server, session, presence.clone(), false);
        }
        session.set(self.farewell, presence.clone());
        session.set_presence(None);
        let (server, session) = (cx.server.clone(), session.clone());
        Flow::Wait(Box::pin(async move {
            server.tell(&session, SessionEvent::Unavailable).await;
            Flow::Done
        }))
    }

    /// Directed presence is remembered so that it can be taken back (RFC 6121 §4.6.3).
    fn direct(&self, session: &Arc<Session>, to: &Jid) -> Flow {
        let taken = session.update(self.directed, |directed| {
            directed.contains(to) || directed.len() < MOST_DIRECTED && directed.insert(to.clone())
        });
        if taken == Some(true) {
            return Flow::Next;
        }
        let text = "You have sent directed presence to as many entities as are allowed.";
        Flow::Reject(StanzaError::new(Condition::ResourceConstraint).with_text(text))
    }

    /// A session is not available any more: all who saw it are told, once (RFC 6121 §4.5.2).
    fn gone(self: &Arc<Self>, server: &Arc<Server>, session: &Arc<Session>) -> Flow {
        let farewell = session.take(self.farewell);
        let presence =
            farewell.unwrap_or_else(|| Stanza::presence(PresenceType::Unavailable)).from(session.jid.clone());
        let module = self.clone();
        let (server, session) = (server.clone(), session.clone());
        Flow::Wait(Box::pin(async move {
            broadcast(&server, &session, &presence).await;
            if !session.is_closed() {
                session.send(presence.clone().to(session.jid.clone()));
            }
            module.take_back(&server, &session, presence, true)
        }))
    }

    /// Other servers are told that a session, or what it has shown them, is gone.
    fn forget_abroad(&self, session: &Session) {
        if session.take(self.noted).is_some() {
            self.abroad.note(&session.jid);
        }
    }

    /// A session that ends without ever having been available may have sent directed presence all the same.
    fn closed(self: &Arc<Self>, server: &Arc<Server>, session: &Arc<Session>) -> Flow {
        self.take_back(server, session, Stanza::presence(PresenceType::Unavailable).from(session.jid.clone()), false)
    }

    /// Tells those who got directed presence that the session has gone (RFC 6121 §4.6.3), but nobody twice: a broadcast
    /// has reached the subscribers and the account itself.
    fn take_back(&self, server: &Arc<Server>, session: &Arc<Session>, presence: Stanza, broadcast: bool) -> Flow {
        self.forget_abroad(session);
        let mut directed = session.take(self.directed).unwrap_or_default();
        let (server, session) = (server.clone(), session.clone());
        if broadcast {
            let account = &session.account;
            let roster = account.roster();
            directed
                .retain(|to| !roster.subscription(to.bare_str()).is_from() && to.bare_str() != account.jid.as_str());
        }
        if directed.is_empty() {
            return Flow::Done;
        }
        Flow::Wait(Box::pin(async move {
            for to in directed {
                server.route_of(&session, presence.clone().to(to)).await;
            }
            Flow::Done
        }))
    }

    /// Presence comes back from where nobody is: there is nothing to be taken back there.
    fn returned(self: &Arc<Self>, cx: &Cx<'_>, presence: &mut Stanza) -> Flow {
        if presence.head.kind != Kind::Presence(PresenceType::Error) {
            return Flow::Next;
        }
        let (Some(from), Some(resource)) =
            (&presence.head.from, presence.head.to.as_ref().and_then(|to| to.resourcepart()))
        else {
            return Flow::Next;
        };
        let error = presence.find("error", ns::CLIENT).and_then(StanzaError::from_element);
        if error.is_some_and(|error| NOBODY_THERE.contains(&error.condition))
            && let Some(session) = cx.account.session(resource)
        {
            session.update(self.directed, |directed| directed.remove(from));
            if session.get(self.noted).is_some() {
                self.abroad.note(&session.jid);
            }
        }
        Flow::Next
    }

    fn save(self: &Arc<Self>, _: &Arc<Server>, session: &Arc<Session>) -> Option<Element> {
        let directed = session.get(self.directed).filter(|directed| !directed.is_empty())?;
        let to = |to: &Jid| Element::new("presence", ns::CLIENT).attr("to", to.as_str());
        Some(Element::new("directed", "").children(directed.iter().map(to)))
    }

    fn restore(self: &Arc<Self>, _: &Arc<Server>, session: &Arc<Session>, state: &Element) {
        let directed = state.elements().filter_map(|presence| Jid::new(presence.get("to")?).ok());
        session.set(self.directed, directed.collect());
        session.set(self.noted, ());
    }

    /// Somebody asks whether the user is there (RFC 6121 §4.3.2).
    fn probed(self: &Arc<Self>, cx: &Cx<'_>, probe: &mut Stanza) -> Flow {
        if probe.head.kind != Kind::Presence(PresenceType::Probe) {
            return Flow::Next;
        }
        let Some(from) = probe.head.from.clone() else { return Flow::Done };
        let (server, account) = (cx.server.clone(), cx.account.clone());
        let may_know =
            from.bare_str() == account.jid.as_str() || account.roster().subscription(from.bare_str()).is_from();
        // Presence that was directed at the prober is known to it already, and may be said again.
        let directed =
            |session: &&Arc<Session>| session.update(self.directed, |directed| directed.contains(&from)) == Some(true);
        let seen: Vec<_> = account
            .sessions()
            .iter()
            .filter(|session| may_know || directed(session))
            .filter_map(|session| session.presence())
            .collect();
        let answers: Vec<Stanza> = if !seen.is_empty() {
            seen.iter().map(|presence| Stanza::clone(presence).to(from.clone())).collect()
        } else if may_know {
            vec![Stanza::presence(PresenceType::Unavailable).from(account.jid.clone()).to(from)]
        } else {
            vec![Stanza::presence(PresenceType::Unsubscribed).from(account.jid.clone()).to(from.bare())]
        };
        Flow::Wait(Box::pin(async move {
            for answer in answers {
                server.route_from(&account, answer).await;
            }
            Flow::Done
        }))
    }
}

/// Sends a session's presence to all who are subscribed, and to the user's own available resources, itself included. Of a
/// session that ends meanwhile nobody hears any more that it is available.
fn broadcast(server: &Arc<Server>, session: &Arc<Session>, presence: &Stanza) -> BoxFuture<()> {
    let (server, session, presence) = (server.clone(), session.clone(), presence.clone());
    Box::pin(async move {
        let account = &session.account;
        for other in account.sessions().iter().filter(|other| other.is_available()) {
            other.send(presence.clone().to(account.jid.clone()));
        }
        let is_available = presence.head.kind == Kind::Presence(PresenceType::Available);
        for contact in account.roster().subscribers() {
            if is_available && session.is_closed() {
                return;
            }
            server.route_from(account, presence.clone().to(contact.clone())).await;
        }
    })
}

/// What a resource that has just come learns of the others: its user's other resources' presence and its contacts'
/// (RFC 6121 §4.2.2).
async fn ask_around(server: &Arc<Server>, account: &Arc<Account>, session: &Arc<Session>) {
    for other in account.sessions().iter().filter(|other| !Arc::ptr_eq(other, session)) {
        if let Some(presence) = other.presence() {
            session.send(Stanza::clone(&presence).to(session.jid.clone()));
        }
    }
    let mut contacts: Vec<_> =
        account.roster().subscriptions().filter(|contact| may_be_there(server, contact)).cloned().collect();
    while let Some(contact) = contacts.pop() {
        probe(server, session, &contact).await;
        if !session.has_room() && !contacts.is_empty() {
            // The client has to read before it is told of more, and it cannot while we are at its presence.
            let (server, session) = (server.clone(), session.clone());
            server.clone().beside(async move {
                for contact in contacts {
                    if !session.room().await || !session.is_available() {
                        return;
                    }
                    probe(&server, &session, &contact).await;
                }
            });
            return;
        }
    }
}

/// A contact of ours who has no session need not be asked.
fn may_be_there(server: &Server, contact: &BareJid) -> bool {
    server.host(contact.domainpart()).is_none() || server.may_be_there(contact.as_str())
}

async fn probe(server: &Arc<Server>, session: &Arc<Session>, contact: &BareJid) {
    let probe = Stanza::presence(PresenceType::Probe).from(session.jid.clone()).to(contact.clone());
    server.route_from(&session.account, probe).await;
}
