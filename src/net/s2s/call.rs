//! Calling another server: finding it, connecting, and trying again for as long as something waits for it.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_core::config::Certificates;
use rookery_core::remote::{Failure, Link, Pair};
use rookery_xmpp::error::Condition;
use rookery_xmpp::stream::{Binding, Peer, Stream, TlsInfo};
use tokio::time::timeout;
use tracing::{debug, error, info};

use super::driver::{Driver, Wire};
use super::flow::SETTLING_TO_RESUME;
use super::gone::Gone;
use super::opened::{Goal, Opened};
use super::remotes::{Handle, Order, Remote};
use super::rest::Rest;
use super::{Common, failure};
use crate::dns::{self, Target, TlsMode};
use crate::patience::{PATIENCE_OF_TCP, now};
use crate::transport::Transport;

/// How much longer than it should a negotiation may take.
const LONGEST: Duration = Duration::from_secs(300);

/// Brings a link to its domain as long as something waits in it.
pub(super) async fn carry(common: Arc<Common>, remote: Arc<Remote>, link: Arc<Link>) {
    let calling = keep_calling(&common, &remote, &link);
    bring_to_its_end(&common, &remote, &link, calling).await;
}

/// Sees to it that a call ends for the others, too, and what still waits is called for again: after a pause, if it was a bug
/// that ended the call.
async fn bring_to_its_end(
    common: &Arc<Common>,
    remote: &Arc<Remote>,
    link: &Arc<Link>,
    calling: impl Future<Output = ()>,
) {
    let pair = link.pair();
    if common.server.panics.caught(pin!(calling)).await.is_err() {
        error!(remote = %pair.remote, local = %pair.local, "a bug in the server ended a call to another one");
        let failure = failure(false, Condition::RemoteServerTimeout, "a bug in the server");
        remote.failed(failure.clone(), common.settings().retry, now());
        link.failed(failure);
    }
    remote.end_call(&pair.local);
    // Something may have come while this call was already at its end.
    let waiting = link.waiting();
    if waiting.stanzas > 0 && !waiting.carried && !common.is_ending() {
        common.want(link.clone());
    }
}

async fn keep_calling(common: &Arc<Common>, remote: &Arc<Remote>, link: &Arc<Link>) {
    let pair = link.pair();
    let (mut rest, mut no_external) = (None::<Rest>, false);
    let mut ending = common.ending();
    while !ending.has_begun() {
        if let Some(lost) = &rest {
            // `<resume/>` says what has been handled: the peer sends all else again, under the next numbers.
            let settled = tokio::select! {
                settled = timeout(SETTLING_TO_RESUME, lost.inbound.settled()) => settled,
                () = ending.begun() => return,
            };
            if settled.is_err() {
                debug!(remote = %pair.remote, local = %pair.local, "a stream is not gone on with: the database is too slow");
                rest = None;
            }
        }
        rest.take_if(|rest| rest.until <= now() || rest.outflow.is_past());
        if rest.is_none() {
            let waiting = link.waiting();
            if waiting.stanzas == 0 || waiting.carried {
                return;
            }
            if let Some(handle) = remote.carrier_of(pair)
                && handle.orders.send(Order::Carry(link.clone())).is_ok()
            {
                return;
            }
        }
        if rest.is_none()
            && let Some(failure) = remote.is_hopeless(&pair.local, now())
        {
            link.failed(failure);
            // What may have arrived is kept for when the domain is back.
            if link.waiting().stanzas == 0 {
                return;
            }
        }
        if let Some(pause) = remote.pause(&pair.local) {
            tokio::select! {
                () = pause => {}
                () = ending.begun() => {}
            }
            continue;
        }
        let settings = common.settings();
        let turn = tokio::select! {
            turn = remote.attempts.acquire() => turn,
            () = ending.begun() => return,
        };
        // Somebody else may have found out meanwhile that nobody is there.
        if remote.not_before(&pair.local).is_some_and(|until| until > now()) {
            continue;
        }
        let goal = Goal::Carry(link.clone());
        let dialled = tokio::select! {
            dialled = dial(common, pair, goal, &mut rest, no_external) => dialled,
            () = ending.begun() => return,
        };
        drop(turn);
        match dialled {
            Ok(mut driver) => {
                remote.connected(&pair.local);
                driver.remotes.push(remote.clone());
                remote.add(driver.handle.clone());
                let gone = match driver.drive(false).await {
                    Err(gone) => gone,
                    Ok(()) => Gone::Past,
                };
                let ended = driver.part(gone).await;
                rest = ended.rest;
                if ended.is_useless {
                    let text = format!("the stream ended soon: {}", ended.reason);
                    let failure = failure(false, Condition::RemoteServerTimeout, &text);
                    remote.refused(&pair.local, failure, settings.retry, now());
                } else {
                    remote.succeeded([&pair.local]);
                }
            }
            Err(Missed { failure, stumbled, is_refusal }) => {
                if stumbled && !no_external {
                    no_external = true;
                    continue;
                }
                let Failure { definite, text, .. } = &failure;
                info!(remote = %pair.remote, local = %pair.local, definite, "no connection to a server: {text}");
                if failure.definite {
                    rest = None;
                }
                if is_refusal {
                    remote.refused(&pair.local, failure.clone(), settings.retry, now());
                } else {
                    remote.failed(failure.clone(), settings.retry, now());
                }
                link.failed(failure);
            }
        }
    }
}

/// An attempt that came to nothing.
pub(super) struct Missed {
    pub(super) failure: Failure,
    /// The peer has ended the stream when it saw our certificate: without it, there may be a way.
    stumbled: bool,
    /// It is there, and does not want us in the name of this domain.
    is_refusal: bool,
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Self {
        Self { failure, stumbled: false, is_refusal: false }
    }
}

/// Finds and connects to the server of a domain, up to where stanzas may flow (or questions may be asked). `rest` is taken
/// only if the stream goes on with it, or cannot.
pub(super) async fn dial(
    common: &Arc<Common>,
    pair: &Pair,
    goal: Goal,
    rest: &mut Option<Rest>,
    no_external: bool,
) -> Result<Driver, Missed> {
    let settings = common.settings();
    if settings.certificates(&pair.remote) == Certificates::Refuse {
        let text = format!("this server does not talk to {}", pair.remote);
        return Err(failure(true, Condition::PolicyViolation, &text).into());
    }
    let found = timeout(settings.connect, common.resolver.find_servers(pair.remote.as_str())).await;
    let targets = match found {
        Ok(Ok(targets)) => targets,
        Ok(Err(error)) => {
            let condition =
                if error.is_definite() { Condition::RemoteServerNotFound } else { Condition::RemoteServerTimeout };
            return Err(failure(error.is_definite(), condition, &format!("{}: {error}", pair.remote)).into());
        }
        Err(_) => {
            let text = format!("{}: DNS does not answer", pair.remote);
            return Err(failure(false, Condition::RemoteServerTimeout, &text).into());
        }
    };
    let deadline = now() + settings.connect;
    let goal = Shared(goal);
    let mut left = &targets[..];
    loop {
        let patience = deadline.saturating_duration_since(now());
        let (tcp, at, address) = dns::connect(left, patience).await.map_err(|errors| {
            let tried: Vec<_> = errors.iter().map(ToString::to_string).collect();
            let text = format!("{}: {}", pair.remote, tried.join("; "));
            failure(false, Condition::RemoteServerTimeout, &text)
        })?;
        let Some(target) = left.get(at) else {
            return Err(failure(false, Condition::InternalServerError, "a target without an address").into());
        };
        left = left.get(at + 1..).unwrap_or_default();
        let opening = open(common, pair, &goal, rest, no_external, (tcp, target, address), deadline);
        match Box::pin(opening).await {
            Ok(driver) => return Ok(driver),
            // The next one may be in better health; what the domain itself has decided, they have all.
            Err(missed) if !missed.failure.definite && !missed.stumbled && !left.is_empty() && now() < deadline => {
                debug!(remote = %pair.remote, %address, "{}", missed.failure.text);
            }
            Err(missed) => return Err(missed),
        }
    }
}

/// A goal for each attempt.
struct Shared(Goal);

impl Shared {
    fn copy(&self) -> Goal {
        match &self.0 {
            Goal::Carry(link) => Goal::Carry(link.clone()),
            Goal::Ask => Goal::Ask,
        }
    }
}

async fn open(
    common: &Arc<Common>,
    pair: &Pair,
    goal: &Shared,
    rest: &mut Option<Rest>,
    no_external: bool,
    (tcp, target, address): (tokio::net::TcpStream, &Target, std::net::SocketAddr),
    deadline: Instant,
) -> Result<Driver, Missed> {
    let settings = common.settings();
    let lost = |error: std::io::Error| {
        let text = format!("{} ({}:{}, {address}): {error}", pair.remote, target.host, target.port);
        failure(false, Condition::RemoteServerTimeout, &text)
    };
    let patience = deadline.saturating_duration_since(now()).min(settings.handshake);
    let mut transport = match target.tls {
        TlsMode::Starttls => Transport::plain(tcp).map_err(lost)?,
        TlsMode::Direct => {
            let (local, remote) = (pair.local.as_str(), pair.remote.as_str());
            Transport::direct_tls_client(tcp, &common.tls, local, remote).map_err(lost)?
        }
    };
    transport.set_patience(PATIENCE_OF_TCP).map_err(lost)?;
    let is_direct = target.tls == TlsMode::Direct;
    if is_direct {
        transport.secure(patience).await.map_err(lost)?;
    }
    let peer =
        Peer { to: pair.remote.clone(), from: Some(pair.local.clone().into()), login: None, binding: Binding::Any };
    let mut stream = Stream::initiating(settings.calling(&pair.remote), Arc::new(peer), now());
    if is_direct {
        stream.handle_tls(now(), TlsInfo::default());
    }
    let mut driver = Driver::new(common.clone(), Wire::Opened(Box::new(transport)), stream, address);
    driver.local = Some(pair.local.clone());
    driver.remote = Some(pair.remote.clone());
    let mut opened = Opened::new(pair.clone(), goal.copy(), rest.take(), no_external);
    opened.target = Some(target.clone());
    driver.opened = Some(Box::new(opened));
    let handle = driver.handle.clone();
    let negotiated = async {
        if is_direct {
            driver.secured()?;
        }
        driver.drive(true).await
    };
    let gone = match in_time(negotiated, &handle, deadline, settings.connect).await {
        Ok(()) => return Ok(driver),
        Err(gone) => gone,
    };
    if let Some(opened) = &mut driver.opened {
        *rest = opened.rest.take();
    }
    let stumbled = driver.opened.as_ref().is_some_and(|opened| opened.stumbled_over_external());
    let is_refusal = gone.is_refusal() || driver.opened.as_ref().is_some_and(|opened| opened.is_refused);
    let text = gone.to_string();
    let failure = driver.failure_of(gone);
    debug!(stream = driver.id(), remote = %pair.remote, peer = %address, "the stream has come to nothing: {text}");
    driver.dismiss();
    Err(Missed { failure, stumbled, is_refusal })
}

/// Until the deadline; but what a peer that may speak has to say may stand before its last answer (XEP-0288), and goes on for as
/// long as it takes, up to [`LONGEST`] more: others wait for their turn to call the domain.
async fn in_time(
    negotiated: impl Future<Output = Result<(), Gone>>,
    handle: &Handle,
    mut deadline: Instant,
    patience: Duration,
) -> Result<(), Gone> {
    let (mut negotiated, last) = (pin!(negotiated), deadline + LONGEST);
    loop {
        if let Ok(outcome) = timeout(deadline.saturating_duration_since(now()), &mut negotiated).await {
            return outcome;
        }
        let (may_speak, heard) = {
            let facts = handle.facts.lock();
            (facts.may_speak, facts.heard)
        };
        deadline = (heard + patience).min(last);
        if !may_speak || deadline <= now() {
            return Err(Gone::TimedOut("the negotiation of the stream takes too long"));
        }
    }
}

#[cfg(test)]
mod tests {
    use rookery_xmpp::jid::{BareJid, Jid};
    use rookery_xmpp::stanza::{MessageType, Stanza};

    use super::*;
    use crate::s2s::tests::alone;

    #[tokio::test]
    async fn a_call_that_a_bug_ends_does_not_keep_the_domain_from_being_called_again() {
        let (server, s2s) = alone().await;
        let [local, remote] = ["a.example", "b.example"].map(|domain| BareJid::new(domain).unwrap());
        let link = server.link(Pair { local: local.clone(), remote: remote.clone() });
        let remote = s2s.common.remotes.get(&remote);
        let bug = || bring_to_its_end(&s2s.common, &remote, &link, async { panic!("a bug") });
        assert!(remote.begin_call(&local));
        bug().await;
        assert!(remote.begin_call(&local) && remote.pause(&local).is_some() && server.panics.total() == 1);
        // What waits is called for.
        let message = Stanza::message(MessageType::Headline).to(Jid::new("b.example").unwrap());
        assert!(server.offer(message.from(Jid::new("a.example").unwrap())).await);
        bug().await;
        assert!(!remote.begin_call(&local) && link.waiting().stanzas == 1);
    }
}
