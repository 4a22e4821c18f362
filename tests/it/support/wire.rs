//! Servers that reach each other without a network: each link is drained into the other server as a stream would do it, with
//! acknowledgements (XEP-0198), stanzas written and read as bytes of `jabber:server`. A server can be cut off, be
//! slow, or be one that cannot be connected to.
//!
//! Who may speak for whom is settled by who has joined; authentication is the network's matter and has its own tests.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rookery_core::remote::{Failure, Federation, Inbound, Link, Pair, RemoteStatus};
use rookery_core::server::Server;
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;
use rookery_xmpp::parser::{Parsed, parse};
use rookery_xmpp::stanza::Stanza;
use tokio::sync::{Notify, watch};

/// All that lies between servers.
pub(crate) struct Wire {
    state: Mutex<State>,
    /// Grows whenever a road changes.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    members: HashMap<u64, Member>,
    last: u64,
    /// Links that somebody sees to.
    links: HashMap<(u64, Pair), Tended>,
    /// Stanzas that have arrived.
    carried: u64,
    /// What servers have said of stanzas that they did not take.
    refused: Vec<String>,
}

/// A link, and what wakes whoever sees to it.
#[derive(Clone)]
struct Tended {
    link: Arc<Link>,
    wanted: Arc<Notify>,
}

struct Member {
    server: Arc<Server>,
    domains: HashSet<String>,
    road: Road,
}

/// How a server is reached.
#[derive(Clone)]
enum Road {
    Open,
    /// Each stanza takes so long.
    Slow(Duration),
    /// Whoever connects waits for ever, and so does what is on its way.
    Cut,
    /// Whoever connects is told this.
    Failing(Failure),
}

/// What a link can do now.
enum Way {
    /// Its server has left.
    Over,
    Wait,
    Fail(Failure),
    Go(Arc<Server>, Duration),
}

/// A server's side of the wire.
struct Side {
    wire: Arc<Wire>,
    member: u64,
}

impl Wire {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changes: watch::Sender::new(0) })
    }

    /// A server can be reached from now on, under all domains that it has, and reaches others.
    pub(crate) fn join(self: &Arc<Self>, server: &Arc<Server>) {
        let hosts = server.hosts();
        let domains = hosts.iter().flat_map(|host| host.components().chain([&host.domain]));
        let domains = domains.map(|domain| domain.as_str().to_owned()).collect();
        let member = {
            let mut state = self.state();
            state.last += 1;
            let member = state.last;
            state.members.insert(member, Member { server: server.clone(), domains, road: Road::Open });
            member
        };
        self.change();
        server.federate(Arc::new(Side { wire: self.clone(), member }));
    }

    /// A server is there no more.
    pub(crate) fn leave(&self, server: &Arc<Server>) {
        self.state().members.retain(|_, member| !Arc::ptr_eq(&member.server, server));
        self.change();
    }

    /// Nothing gets to or from the server of a domain any more.
    pub(crate) fn cut(&self, domain: &str) {
        self.set(domain, Road::Cut);
    }

    /// All is well again.
    pub(crate) fn mend(&self, domain: &str) {
        self.set(domain, Road::Open);
    }

    /// Each stanza to or from the server of a domain takes so long.
    pub(crate) fn slow(&self, domain: &str, time: Duration) {
        self.set(domain, Road::Slow(time));
    }

    /// Connections to the server of a domain fail so.
    pub(crate) fn fail(&self, domain: &str, failure: Failure) {
        self.set(domain, Road::Failing(failure));
    }

    /// What servers have refused to take from each other.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.state().refused.clone()
    }

    /// How many stanzas have arrived.
    pub(crate) fn carried(&self) -> u64 {
        self.state().carried
    }

    /// Waits until nothing is under way where there is a way.
    pub(crate) async fn quiet(&self) {
        loop {
            let before = self.carried();
            for _ in 0..64 {
                tokio::task::yield_now().await;
            }
            if self.is_quiet() && self.carried() == before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn is_quiet(&self) -> bool {
        let state = self.state();
        let is_idle = |((member, pair), tended): (&(u64, Pair), &Tended)| {
            !matches!(state.way(*member, pair), Way::Go(..)) || tended.link.waiting().stanzas == 0
        };
        state.links.iter().all(is_idle)
    }

    fn set(&self, domain: &str, road: Road) {
        let mut state = self.state();
        let member = state.members.values_mut().find(|member| member.domains.contains(domain));
        member.unwrap_or_else(|| panic!("nobody is {domain}")).road = road;
        drop(state);
        self.change();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn way(&self, member: u64, pair: &Pair) -> Way {
        self.state().way(member, pair)
    }

    /// Sees to a link for as long as its server is there.
    async fn tend(self: Arc<Self>, member: u64, Tended { link, wanted }: Tended) {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            match self.way(member, link.pair()) {
                Way::Over => return,
                Way::Go(server, time) => {
                    self.carry(&link, &server, time, &mut changes).await;
                    continue;
                }
                Way::Fail(failure) => link.failed(failure),
                Way::Wait => {}
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = wanted.notified() => {}
            }
        }
    }

    /// Carries a link for as long as the road stays as it is.
    async fn carry(&self, link: &Arc<Link>, server: &Arc<Server>, time: Duration, changes: &mut watch::Receiver<u64>) {
        let (carrier, inbound) = (link.carry(), Inbound::new(server));
        inbound.enable_acks();
        let (mut sent, mut confirmed) = (VecDeque::new(), 0);
        while !changes.has_changed().unwrap_or(true) && link.is_current(carrier) {
            let handled = inbound.handled();
            let newly = usize::try_from(handled.wrapping_sub(confirmed)).unwrap_or_default();
            if let Some(last) = sent.drain(..newly).next_back() {
                link.confirm(carrier, last);
            }
            confirmed = handled;
            let Some(due) = link.next(carrier) else {
                tokio::select! {
                    () = link.woken(carrier) => {}
                    () = inbound.woken() => {}
                    _ = changes.changed() => { changes.mark_changed(); }
                }
                continue;
            };
            if !time.is_zero() {
                tokio::time::sleep(time).await;
            }
            if changes.has_changed().unwrap_or(true) {
                // It did not get through.
                break;
            }
            sent.push_back(due.ticket);
            let receipt = inbound.receive();
            let Pair { local, remote } = link.pair().clone();
            let may_speak = |from: &str, to: &str| from == local.as_str() && to == remote.as_str();
            let taken = server.accept_remote(&inbound, may_speak, over_the_wire(&due.stanza), receipt).await;
            let mut state = self.state();
            state.carried += 1;
            if let Err(error) = taken {
                state.refused.push(format!("{}: {}", due.stanza.to_xml(), error.to_element().to_xml()));
            }
            drop(state);
            inbound.answer_acks();
        }
        link.let_go(carrier);
    }
}

impl State {
    fn way(&self, member: u64, pair: &Pair) -> Way {
        let Some(own) = self.members.get(&member) else { return Way::Over };
        let other = self.members.values().find(|other| other.domains.contains(pair.remote.as_str()));
        let slowest = |own: &Road, other: &Road| match (own, other) {
            (Road::Slow(a), Road::Slow(b)) => (*a).max(*b),
            (Road::Slow(time), _) | (_, Road::Slow(time)) => *time,
            _ => Duration::ZERO,
        };
        match (&own.road, other) {
            (_, None) => Way::Fail(no_such_domain(&pair.remote)),
            (_, Some(Member { road: Road::Failing(failure), .. })) => Way::Fail(failure.clone()),
            (Road::Cut, _) | (_, Some(Member { road: Road::Cut, .. })) => Way::Wait,
            (own, Some(other)) => Way::Go(other.server.clone(), slowest(own, &other.road)),
        }
    }
}

/// What DNS says of a domain that does not exist.
pub(crate) fn no_such_domain(domain: &BareJid) -> Failure {
    let condition = rookery_xmpp::error::Condition::RemoteServerNotFound;
    Failure { definite: true, condition, text: format!("There is no server at {domain}.") }
}

/// A stanza as the other server reads it.
fn over_the_wire(stanza: &Stanza) -> Stanza {
    let mut bytes = Vec::new();
    stanza.write(&mut bytes, None);
    match parse(bytes.into(), &Namespaces::content_only(ns::SERVER)) {
        Ok(Parsed::Stanza(stanza)) => stanza,
        other => panic!("{other:?} for {}", stanza.to_xml()),
    }
}

impl Federation for Side {
    fn wanted(&self, link: Arc<Link>) {
        let mut state = self.wire.state();
        let key = (self.member, link.pair().clone());
        // One that was idle for long is another one when it is needed again.
        match state.links.get(&key).filter(|tended| Arc::ptr_eq(&tended.link, &link)) {
            Some(tended) => tended.wanted.notify_one(),
            None => {
                let tended = Tended { link, wanted: Arc::default() };
                state.links.insert(key, tended.clone());
                tokio::spawn(self.wire.clone().tend(self.member, tended));
            }
        }
    }

    fn list(&self) -> Vec<RemoteStatus> {
        Vec::new()
    }

    fn show(&self, _: &BareJid) -> Option<RemoteStatus> {
        None
    }

    fn close(&self, _: &BareJid) -> usize {
        0
    }
}
