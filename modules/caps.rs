//! XEP-0115: Entity Capabilities. Announces the server's own, and finds out those of the clients, each verification
//! string once: by asking the first client that announces it. What is remembered is core's (`caps.rs`).
//!
//! The optimisation of §8.4 (stripping what has not changed) is left out: it saves little and breaks probes.

use std::sync::Arc;
use std::time::Duration;

use rookery_core::host::CAPS_NODE;
use rookery_core::module::{Cx, Fault, Flow, Hooks, Module, Offer, SessionEvent, Setup, Stage, Way, When, Xep};
use rookery_core::server::Server;
use rookery_core::session::Session;
use rookery_core::slots::Slot;
use rookery_xmpp::caps::Hash;
use rookery_xmpp::element::Element;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, PresenceType, Stanza};
use tracing::debug;

/// How long a client may take to say what it can do.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest `node`, `hash` or `ver` that is taken up.
const LONGEST: usize = 512;

/// Knows what clients can do.
pub struct Caps {
    announced: Slot<Announced>,
}

/// What a session has announced last.
#[derive(Default)]
struct Announced {
    latest: Option<Announcement>,
    /// A task asks the client, and goes on with what is the latest when it is done.
    asking: bool,
    /// It was being asked when the server ended.
    interrupted: bool,
}

#[derive(Clone, PartialEq, Eq)]
struct Announcement {
    node: Box<str>,
    hash: Box<str>,
    ver: Box<str>,
}

impl Module for Caps {
    const NAME: &'static str = "caps";
    const XEPS: &'static [Xep] = &[Xep(115, "1.6.0")];
    type Config = ();

    fn new((): (), setup: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self { announced: setup.session_slot("announced") })
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco(ns::CAPS)
            .stream_feature(When::BeforeBind, Self::own)
            // Before presence is broadcast, so that whoever acts on it knows what is known already.
            .presence(Way::Outgoing, Stage::Stamp, Self::announced)
            .session(SessionEvent::Resumed, Self::resumed)
            .session_state(Self::save, Self::restore);
    }
}

impl Caps {
    fn own(self: &Arc<Self>, offer: &Offer<'_>) -> Option<Element> {
        let c = Element::new("c", ns::CAPS).attr("hash", Hash::Sha1.name()).attr("node", CAPS_NODE);
        offer.host.caps().map(|ver| c.attr("ver", ver))
    }

    fn announced(self: &Arc<Self>, cx: &Cx<'_>, presence: &mut Stanza) -> Flow {
        if presence.head.kind != Kind::Presence(PresenceType::Available) || presence.head.to.is_some() {
            return Flow::Next;
        }
        let (Some(session), Some(announcement)) = (cx.session, presence.find("c", ns::CAPS).and_then(read)) else {
            return Flow::Next;
        };
        let ask = session.update(self.announced, |announced| {
            if announced.latest.as_ref() == Some(&announcement) {
                return None;
            }
            announced.latest = Some(announcement.clone());
            Some(!announced.asking)
        });
        let Some(Some(may_ask)) = ask else { return Flow::Next };
        if let Some(hash) = Hash::from_name(&announcement.hash)
            && cx.server.caps.recall(session, hash, &announcement.ver)
        {
            return self.described(cx.server, session);
        }
        if may_ask {
            session.update(self.announced, |announced| announced.asking = true);
            cx.server.spawn(self.clone().ask(cx.server.clone(), session.clone(), announcement));
        }
        Flow::Next
    }

    fn described(&self, server: &Arc<Server>, session: &Arc<Session>) -> Flow {
        let (server, session) = (server.clone(), session.clone());
        Flow::Wait(Box::pin(async move {
            server.tell(&session, SessionEvent::Described).await;
            Flow::Next
        }))
    }

    /// Asks a client what stands behind its announcement, and again when it has announced something else meanwhile.
    async fn ask(self: Arc<Self>, server: Arc<Server>, session: Arc<Session>, mut announcement: Announcement) {
        loop {
            let announced = announcement.key();
            // Another client may have said it meanwhile.
            let is_known = announced.is_some_and(|(hash, ver)| server.caps.recall(&session, hash, ver));
            if is_known || self.learn(&server, &session, &announcement, announced).await {
                server.tell(&session, SessionEvent::Described).await;
            }
            let next = session.update(self.announced, |announced| {
                let next = announced.latest.clone().filter(|latest| *latest != announcement);
                announced.asking = next.is_some();
                next
            });
            match next.flatten() {
                Some(next) if !session.is_closed() => announcement = next,
                _ => return,
            }
        }
    }

    // ---- over a restart of the server ---------------------------------------------------------------------------------

    fn save(self: &Arc<Self>, server: &Arc<Server>, session: &Arc<Session>) -> Option<Element> {
        let (latest, asking) = session.update(self.announced, |announced| {
            announced.latest.clone().map(|latest| (latest, announced.asking || announced.interrupted))
        })??;
        let known = server.caps.save(session, latest.key());
        let c = Element::new("c", ns::CAPS)
            .attr("node", &*latest.node)
            .attr("hash", &*latest.hash)
            .attr("ver", &*latest.ver)
            .attr_opt("asking", asking.then_some("true"))
            .attr_opt("shared", known.as_ref().and_then(|(_, is_shared)| is_shared.then_some("true")));
        Some(c.children(known.map(|(features, _)| features)))
    }

    fn restore(self: &Arc<Self>, server: &Arc<Server>, session: &Arc<Session>, state: &Element) {
        let Some(latest) = read(state) else { return };
        if let Some(features) = state.find("query", ns::DISCO_INFO) {
            let shared = state.get("shared").and_then(|_| latest.key());
            server.caps.restore(session, shared, features);
        }
        let interrupted = state.get("asking").is_some();
        session.set(self.announced, Announced { latest: Some(latest), asking: false, interrupted });
    }

    /// Asks again what the server has ended over.
    fn resumed(self: &Arc<Self>, server: &Arc<Server>, session: &Arc<Session>) -> Flow {
        let ask = session.update(self.announced, |announced| {
            let ask = std::mem::take(&mut announced.interrupted) && !announced.asking;
            announced.asking |= ask;
            announced.latest.clone().filter(|_| ask)
        });
        if let Some(announcement) = ask.flatten() {
            server.spawn(self.clone().ask(server.clone(), session.clone(), announcement));
        }
        Flow::Next
    }

    async fn learn(
        &self,
        server: &Arc<Server>,
        session: &Arc<Session>,
        announcement: &Announcement,
        announced: Option<(Hash, &str)>,
    ) -> bool {
        let node = format!("{}#{}", announcement.node, announcement.ver);
        let query = Element::new("query", ns::DISCO_INFO).attr("node", node);
        match server.ask_client(session, IqType::Get, query, PATIENCE).await {
            Ok(info) => info.is_some_and(|info| server.caps.learn(session, announced, &info)),
            Err(error) => {
                debug!(session = %session.jid, condition = error.condition.name(), "the client does not say what it can do");
                false
            }
        }
    }
}

impl Announcement {
    /// What the answers are remembered by.
    fn key(&self) -> Option<(Hash, &str)> {
        Some((Hash::from_name(&self.hash)?, &self.ver))
    }
}

/// Reads `<c/>`. Without `hash` it is of the format before version 1.4, which says nothing that can be verified (§5.4).
fn read(c: &Element) -> Option<Announcement> {
    let said = |name| c.get(name).filter(|value| !value.is_empty() && value.len() <= LONGEST).map(Box::from);
    Some(Announcement { node: said("node")?, hash: said("hash")?, ver: said("ver")? })
}
