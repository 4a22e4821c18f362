//! One stanza for many sessions, as rooms send: its inside is written once and shared, the start tag differs by the
//! recipient. Nobody keeps it: what a session has no room for, it does not get, and whoever sends to it is told.
//!
//! The guards of each recipient's account hold as for any other stanza (blocking above all). The order in which one calls is
//! the order in which sessions get it. What is for people of other servers goes into the links to these, one stanza each, and
//! waits there for nobody here. What has to go another way (services, sessions at rest) is left to the caller.

use std::collections::HashMap;
use std::sync::Arc;

use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::stanza::{Kind, Stanza, Written};

use crate::host::Host;
use crate::module::{Flow, Stage, Way};
use crate::router::{self, InOrder};
use crate::server::{Hosts, Server};
use crate::session::{Outgoing, Pushed, Session};

/// What each recipient's account says of a message, and of a presence. Messages that nobody keeps are neither archived nor
/// copied.
const MESSAGE: &[Stage] = &[Stage::Guard, Stage::Stamp];
const PRESENCE: &[Stage] = &[Stage::Guard, Stage::Stamp, Stage::Archive, Stage::Copy, Stage::Deliver];

/// By which stream each recipient is known, where that is known. Who has come under the same address since then is somebody
/// else: a client that has lost its session is in no room before it enters.
pub type Streams = HashMap<FullJid, u64>;

/// The sessions behind a list of addresses, found once for many stanzas.
pub struct Audience {
    list: Arc<[FullJid]>,
    /// With these hosts.
    hosts: Arc<Hosts>,
    found: Box<[Found]>,
}

enum Found {
    Session(Arc<Session>, Arc<Host>),
    /// On another server, or of an external component.
    Remote(FullJid),
    /// Of a service of ours, or not in memory: by the router.
    Elsewhere,
    Nobody,
}

/// Who did not get a stanza here.
#[derive(Debug, Default)]
pub struct Missed {
    /// Their stanza is to be routed.
    pub elsewhere: Vec<FullJid>,
    /// These are too slow to be sent everything, or there is no way to their server.
    pub lost: Vec<FullJid>,
    /// These are there no more, and whoever has told of it is heard in its turn.
    pub gone: Vec<FullJid>,
}

/// How much a session bears a stanza for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// As much as it has room for: whoever sends to it learns when it has none.
    Light,
    /// It ends rather than go without it.
    Needed,
    /// It has asked for it.
    Asked,
}

/// A stanza for many; written, if that is worth it.
#[derive(Clone)]
struct Shared {
    stanza: Arc<Stanza>,
    written: Option<Arc<Written>>,
}

/// What becomes of a stanza for one session.
enum Handed {
    Done,
    Elsewhere,
    Lost,
    Gone,
}

impl Audience {
    /// Whether it is that of this list still.
    pub fn is_of(&self, list: &Arc<[FullJid]>) -> bool {
        Arc::ptr_eq(&self.list, list)
    }

    /// Whether somebody else has the list.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.list) > 1
    }
}

impl Server {
    /// Finds the sessions of a list.
    pub fn audience(&self, list: &Arc<[FullJid]>, streams: &Streams) -> Audience {
        let hosts = self.hosts.load_full();
        let found = list.iter().map(|jid| self.find(&hosts, jid, streams)).collect();
        Audience { list: list.clone(), hosts, found }
    }

    fn find(&self, hosts: &Hosts, jid: &FullJid, streams: &Streams) -> Found {
        let Some(host) = hosts.hosts.get(jid.domainpart()) else {
            let is_service = hosts.components.contains_key(jid.domainpart());
            return if is_service { Found::Elsewhere } else { Found::Remote(jid.clone()) };
        };
        match self.accounts.loaded(jid.bare_str()).map(|account| account.session(jid.resource())) {
            Some(Some(session)) if streams.get(jid).is_some_and(|stream| *stream != session.stream.id) => Found::Nobody,
            Some(Some(session)) => Found::Session(session, host.clone()),
            _ if self.resting.has(jid.bare_str()) => Found::Elsewhere,
            _ => Found::Nobody,
        }
    }

    /// Sends a stanza to all of an audience but some.
    pub fn fan_out(
        self: &Arc<Self>,
        mut stanza: Stanza,
        audience: &mut Audience,
        streams: &Streams,
        but: &[FullJid],
    ) -> Missed {
        if !Arc::ptr_eq(&audience.hosts, &self.hosts.load()) {
            *audience = self.audience(&audience.list, streams);
        }
        stanza.encode();
        let shared = Shared { stanza: Arc::new(stanza.clone()), written: Some(Arc::new(stanza.written())) };
        let mut missed = Missed::default();
        for (jid, found) in audience.list.iter().zip(&mut audience.found) {
            if but.contains(jid) {
                continue;
            }
            let mut handed = self.hand(&shared, &mut stanza, found, Weight::Light);
            if let (Handed::Gone, Found::Session(..)) = (&handed, &*found) {
                // It may be there under the same address anew.
                *found = self.find(&audience.hosts, jid, streams);
                handed = self.hand(&shared, &mut stanza, found, Weight::Light);
            }
            match handed {
                Handed::Done => {}
                Handed::Elsewhere => missed.elsewhere.push(jid.clone()),
                Handed::Lost => missed.lost.push(jid.clone()),
                Handed::Gone => missed.gone.push(jid.clone()),
            }
        }
        missed
    }

    /// The same for one, who does not go on without a presence of its own. `asked`: the recipient has asked for it, and gets it
    /// however much waits already: its connection is not read meanwhile.
    pub fn send_to(self: &Arc<Self>, mut stanza: Stanza, to: &FullJid, streams: &Streams, asked: bool) -> Missed {
        let found = self.find(&self.hosts.load(), to, streams);
        stanza.encode();
        let shared = Shared { stanza: Arc::new(stanza.clone()), written: None };
        let weight = match shared.stanza.head.kind {
            _ if asked => Weight::Asked,
            Kind::Presence(_) => Weight::Needed,
            _ => Weight::Light,
        };
        match self.hand(&shared, &mut stanza, &found, weight) {
            Handed::Done => Missed::default(),
            Handed::Elsewhere => Missed { elsewhere: vec![to.clone()], ..Missed::default() },
            Handed::Lost => Missed { lost: vec![to.clone()], ..Missed::default() },
            Handed::Gone => Missed { gone: vec![to.clone()], ..Missed::default() },
        }
    }

    /// `scratch` is a copy of the stanza for the guards to look at.
    fn hand(self: &Arc<Self>, shared: &Shared, scratch: &mut Stanza, found: &Found, weight: Weight) -> Handed {
        let (session, host) = match found {
            Found::Session(session, host) => (session, host),
            Found::Remote(jid) => {
                let stanza = Stanza::clone(&shared.stanza).to(jid.clone());
                return if self.offer_away(stanza) { Handed::Done } else { Handed::Lost };
            }
            Found::Elsewhere => return Handed::Elsewhere,
            Found::Nobody => return Handed::Gone,
        };
        let to = Jid::from(&session.jid);
        let kind = shared.stanza.head.kind;
        let stages = match kind {
            Kind::Presence(_) => PRESENCE,
            _ => MESSAGE,
        };
        for stage in stages {
            for hook in host.table.interceptors(kind, Way::Incoming, *stage) {
                scratch.head.to = Some(to.clone());
                match router::call(hook, &InOrder::new(host, &session.account, Way::Incoming).cx(self), scratch) {
                    Flow::Next => {}
                    Flow::Done => return Handed::Done,
                    // The router asks them once more, and says what is to be said.
                    Flow::Reject(_) | Flow::Wait(_) => return Handed::Elsewhere,
                }
            }
        }
        let Shared { stanza, written } = if scratch.has_body_of(&shared.stanza) {
            shared.clone()
        } else {
            let changed = std::mem::replace(scratch, Stanza::clone(&shared.stanza));
            Shared { stanza: Arc::new(changed), written: None }
        };
        let out = Outgoing { stanza, to: Some(to), kept: None };
        let pushed = match weight {
            Weight::Asked => session.push_asked(out),
            Weight::Needed | Weight::Light => session.push_shared(out, written, weight == Weight::Needed),
        };
        match pushed {
            Pushed::Taken => Handed::Done,
            _ if session.is_closed() => Handed::Gone,
            _ => Handed::Lost,
        }
    }

    /// The session of this address, brought back if it is one of the last run.
    pub async fn find_session(
        self: &Arc<Self>,
        jid: &FullJid,
    ) -> Result<Option<Arc<Session>>, crate::store::StoreError> {
        if !self.may_be_there(jid.bare_str()) {
            return Ok(None);
        }
        let account = self.account(&jid.bare()).await?;
        Ok(account.and_then(|account| account.session(jid.resource())))
    }
}
