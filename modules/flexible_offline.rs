//! XEP-0013: Flexible Offline Message Retrieval. A client may count what waits for its account, list it, look at messages
//! and remove them, instead of being sent all of it when it becomes available. To look at a message does not remove it.
//!
//! What waits is core's (`mailbox.rs`). A message's node is its stanza-id (XEP-0359), which grows with time: nodes of the
//! same length, sorted as texts, are in the order of the messages.

use std::collections::BTreeSet;
use std::sync::Arc;

use rookery_core::mailbox::{Letter, Mailbox};
use rookery_core::module::{Call, Cx, Fault, Flow, Hooks, IqResult, Module, Setup, Stage, Target, Way, Xep};
use rookery_core::server::Server;
use rookery_core::session::{Pushed, Session};
use rookery_core::slots::Slot;
use rookery_xmpp::dataform::{Field, Form, FormType};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, Stanza};

/// Requests of one session whose messages are on their way to it, at once.
const MOST_VIEWS: usize = 50;

/// Lets clients collect what waits for them.
pub struct FlexibleOffline {
    views: Slot<usize>,
}

/// Which messages a request is about.
enum Which {
    All,
    These(BTreeSet<u64>),
}

impl Which {
    fn has(&self, id: u64) -> bool {
        match self {
            Self::All => true,
            Self::These(ids) => ids.contains(&id),
        }
    }

    fn mailbox(&self, server: &Arc<Server>, session: &Arc<Session>) -> Mailbox {
        let ids = match self {
            Self::All => None,
            Self::These(ids) => ids.first().copied().zip(ids.last().copied()),
        };
        server.mailbox(session, ids)
    }
}

impl Module for FlexibleOffline {
    const NAME: &'static str = "flexible_offline";
    const XEPS: &'static [Xep] = &[Xep(13, "1.3")];
    type Config = ();

    fn new((): (), setup: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self { views: setup.session_slot("views") })
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco(ns::OFFLINE)
            .account_node(ns::OFFLINE, Self::count, Self::headers)
            .iq_answered(IqType::Get, Target::Account, ns::OFFLINE, "offline", Self::view)
            .iq(IqType::Set, Target::Account, ns::OFFLINE, "offline", Self::remove)
            .iq_passing(Way::Outgoing, Stage::Guard, Self::own_only)
            .message(Way::Incoming, Stage::Guard, Self::unmarked);
    }
}

impl FlexibleOffline {
    // ---- who may --------------------------------------------------------------------------------------------------

    /// Nobody asks for others' messages (§4). It is said before looking whether there is such an account (security.md A5).
    fn own_only(self: &Arc<Self>, cx: &Cx<'_>, iq: &mut Stanza) -> Flow {
        let Some(to) = &iq.head.to else { return Flow::Next };
        let is_others = to.localpart().is_some()
            && to.bare_str() != cx.account.jid.as_str()
            && cx.server.host(to.domainpart()).is_some();
        if is_others && matches!(iq.head.kind, Kind::Iq(IqType::Get | IqType::Set)) && asks(iq) {
            return Flow::Reject(StanzaError::new(Condition::Forbidden).with_text("These are not your messages."));
        }
        Flow::Next
    }

    /// What the server marks as collected is not marked by senders.
    fn unmarked(self: &Arc<Self>, _: &Cx<'_>, message: &mut Stanza) -> Flow {
        message.strip(&[(ns::OFFLINE, "offline")]);
        Flow::Next
    }

    // ---- what there is --------------------------------------------------------------------------------------------

    /// §2.2: disco#info about the node.
    async fn count(self: Arc<Self>, call: Call) -> IqResult {
        let session = own(&call)?;
        session.collect_mail();
        let count = call.server.mail_count(session);
        let form = Form::new(FormType::Result)
            .form_type(ns::OFFLINE)
            .field(Field::text("number_of_messages", count.to_string()));
        let identity =
            Element::new("identity", ns::DISCO_INFO).attr("category", "automation").attr("type", "message-list");
        let info = Element::new("query", ns::DISCO_INFO)
            .attr("node", ns::OFFLINE)
            .child(identity)
            .child(Element::new("feature", ns::DISCO_INFO).attr("var", ns::OFFLINE))
            .child(form.to_element());
        Ok(Some(info))
    }

    /// §2.3: disco#items of the node.
    async fn headers(self: Arc<Self>, call: Call) -> IqResult {
        let session = own(&call)?.clone();
        session.collect_mail();
        let mut items = Vec::new();
        let mut mailbox = call.server.mailbox(&session, None);
        while let Some(mail) = mailbox.next().await? {
            items.extend(mail.letters().map(|letter| header(&session, &letter)));
        }
        Ok(Some(Element::new("query", ns::DISCO_ITEMS).attr("node", ns::OFFLINE).children(items)))
    }

    // ---- messages -------------------------------------------------------------------------------------------------

    /// §2.4 and §2.6.
    async fn view(self: Arc<Self>, call: Call) -> Result<(), StanzaError> {
        let session = own(&call)?.clone();
        let which = which(&call.payload, "view", "fetch")?;
        session.collect_mail();
        if let Which::These(ids) = &which {
            let mut missing = ids.clone();
            let mut mailbox = which.mailbox(&call.server, &session);
            while let Some(mail) = mailbox.next().await? {
                missing.retain(|id| mail.letters().all(|letter| letter.id() != *id));
            }
            if !missing.is_empty() {
                return Err(StanzaError::new(Condition::ItemNotFound));
            }
        }
        let views = session.update(self.views, |views| {
            *views += 1;
            *views
        });
        if views.is_some_and(|views| views > MOST_VIEWS) {
            session.update(self.views, |views| *views -= 1);
            let text = "Please read first what you have asked for.";
            return Err(StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Wait).with_text(text));
        }
        // It may take as long as the client takes to read, and the next requests need not wait for it.
        let server = call.server.clone();
        call.server.beside(async move {
            match send(&server, &session, &which).await {
                Ok(true) => drop(session.send(call.stanza.result(None))),
                Ok(false) => {}
                Err(error) => server.bounce(&call.stanza, error, Some(&session)).await,
            }
            session.update(self.views, |views| *views -= 1);
        });
        Ok(())
    }

    /// §2.5 and §2.7. Answered when they are out of the database.
    async fn remove(self: Arc<Self>, call: Call) -> IqResult {
        let session = own(&call)?.clone();
        let which = which(&call.payload, "remove", "purge")?;
        let mut mailbox = which.mailbox(&call.server, &session);
        let mut found = Vec::new();
        while let Some(mut mail) = mailbox.next().await? {
            mail.retain(|id| which.has(id));
            found.push(mail);
        }
        if let Which::These(ids) = &which
            && found.iter().map(|mail| mail.letters().count()).sum::<usize>() < ids.len()
        {
            return Err(StanzaError::new(Condition::ItemNotFound));
        }
        for mail in found {
            call.server.discard_mail(mail).await?;
        }
        Ok(None)
    }
}

/// Sends messages as fast as the client reads. `false` when its session has ended.
async fn send(server: &Arc<Server>, session: &Arc<Session>, which: &Which) -> Result<bool, StanzaError> {
    let mut mailbox = which.mailbox(server, session);
    while let Some(mail) = mailbox.next().await? {
        for letter in mail.letters().filter(|letter| which.has(letter.id())) {
            let item = Element::new("item", ns::OFFLINE).attr("node", letter.id().to_string());
            let mut message = letter.stanza();
            message.append(Element::new("offline", ns::OFFLINE).child(item));
            if !session.room().await || session.send(message) == Pushed::Refused {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The session of whoever asks, who is the user.
fn own(call: &Call) -> Result<&Arc<Session>, StanzaError> {
    let session = call.session.as_ref().filter(|_| call.is_own());
    match (session, call.may_see()) {
        (Some(session), _) => Ok(session),
        (None, Ok(())) => Err(StanzaError::new(Condition::Forbidden)),
        (None, Err(error)) => Err(error),
    }
}

/// Whether an IQ asks for what waits.
fn asks(iq: &Stanza) -> bool {
    let about_node = |ns| iq.find("query", ns).is_some_and(|query| query.get("node") == Some(ns::OFFLINE));
    iq.has("offline", ns::OFFLINE) || about_node(ns::DISCO_INFO) || about_node(ns::DISCO_ITEMS)
}

fn header(session: &Session, letter: &Letter<'_>) -> Element {
    Element::new("item", ns::DISCO_ITEMS)
        .attr("jid", session.account.jid.as_str())
        .attr("node", letter.id().to_string())
        .attr_opt("name", letter.from().map(|from| from.as_str()))
}

/// Reads `<offline/>`: items with this action, or the element `all`. What cannot be a node of ours does not exist.
fn which(offline: &Element, action: &str, all: &str) -> Result<Which, StanzaError> {
    let bad = || StanzaError::new(Condition::BadRequest);
    let mut children = offline.elements().peekable();
    if children.peek().is_some_and(|child| child.is(all, ns::OFFLINE)) {
        return Ok(Which::All);
    }
    let mut ids = BTreeSet::new();
    for child in children {
        if !child.is("item", ns::OFFLINE) || child.get("action").is_some_and(|asked| asked != action) {
            return Err(bad());
        }
        let node = child.get("node").ok_or_else(bad)?;
        let id = node.parse().ok().filter(|id: &u64| id.to_string() == node);
        ids.insert(id.ok_or_else(|| StanzaError::new(Condition::ItemNotFound))?);
    }
    if ids.is_empty() { Err(bad()) } else { Ok(Which::These(ids)) }
}
