//! A stream that another server has opened: who it is, and for whom it may speak.
//!
//! Each pair of domains is authenticated by itself: by the certificate, if that proves the very domain (EXTERNAL, or
//! dialback's request where the certificate spares the question), or by asking the server that DNS names for the domain
//! (XEP-0220). A certificate that proves nothing is no reason to believe anything, and where the conf wants a valid one,
//! dialback does not stand in for it.

use std::io;
use std::mem;
use std::sync::Arc;

use rookery_core::config::Certificates;
use rookery_core::remote::{Pair, PairStatus};
use rookery_xmpp::dialback::{Packet, Says};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, SaslCondition, StanzaError, StreamCondition, StreamError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stream::{self, Opened, Phase, Stream, TlsInfo};
use tracing::{debug, info, warn};

use super::driver::{Driver, Wire};
use super::flow::is_among;
use super::gone::Gone;
use super::identity::Verdict;
use super::remotes::{Order, Verified};
use super::{Common, callers, verify};
use crate::patience::{PATIENCE_OF_TCP, now};
use crate::server::Connection;

/// Pairs that one stream may be authenticated for.
const MOST_PAIRS: usize = 100;

/// Requests for dialback of one stream that are looked into at a time.
const MOST_PENDING: usize = 16;

/// Requests for dialback that may come to nothing on one stream: each costs a look at a certificate, and a line of the log.
const MOST_REFUSALS: usize = 100;

/// Serves a connection of another server to its end.
pub(super) async fn serve(common: Arc<Common>, connection: Connection) {
    let settings = common.settings();
    let stream = Stream::receiving(settings.accepting(connection.port.conf.tls), now());
    let peer = connection.peer;
    let mut driver = Driver::new(common, Wire::Accepted(Box::new(connection)), stream, peer);
    if driver.wire.look().tls().is_some() {
        driver.stream.handle_tls(now(), TlsInfo::default());
    }
    if let Err(error) = driver.wire.look().set_patience(PATIENCE_OF_TCP) {
        return debug!(%peer, "connection not taken: {error}");
    }
    debug!(stream = driver.id(), %peer, "a server has connected");
    let gone = match driver.drive(false).await {
        Err(gone) => gone,
        Ok(()) => return,
    };
    // Who has not even said who it is (a scanner, say) is of no interest.
    if driver.hears.is_empty()
        && let Some(remote) = &driver.remote
    {
        let verdict = driver.verdict.as_ref().filter(|verdict| !verdict.is_valid());
        let certificate = verdict.map(ToString::to_string).unwrap_or_default();
        info!(stream = driver.id(), %remote, %peer, certificate, reason = %gone, "a server has gone without having proved who it is");
    }
    driver.part(gone).await;
}

impl Driver {
    /// The peer's stream header.
    pub(super) async fn header(&mut self, opened: &Opened) {
        let answer = self.judge_header(opened).await;
        if let Err(error) = &answer {
            let from = opened.from.as_ref().map(Jid::to_string).unwrap_or_default();
            info!(stream = self.id(), remote = from, local = %opened.to, peer = %self.peer, "a stream is refused: {error}");
        }
        let is_welcome = answer.is_ok();
        self.stream.handle_host(answer);
        if let (true, Phase::AfterAuth, Some(identity)) = (is_welcome, opened.phase, &opened.identity) {
            let pair = Pair { local: opened.to.clone(), remote: identity.bare() };
            let by = self.verdict.as_ref().map_or("certificate", Verdict::by);
            self.hear(pair, by);
        }
    }

    async fn judge_header(&mut self, opened: &Opened) -> Result<stream::Host, StreamError> {
        let server = &self.common.server;
        if !server.is_ours(opened.to.as_str()) {
            let text = format!("{} is not served here.", opened.to);
            return Err(StreamError::new(StreamCondition::HostUnknown).with_text(text));
        }
        let from = opened.from.as_ref().map(Jid::bare);
        let mut plain = false;
        if let Some(from) = &from {
            if server.is_ours(from.as_str()) {
                return Err(
                    StreamError::new(StreamCondition::InvalidFrom).with_text("This is a domain of this server.")
                );
            }
            server.may_federate(from.as_str())?;
            plain = self.settings.certificates(from) == Certificates::Plain;
        }
        self.local = Some(opened.to.clone());
        if from.is_some() {
            self.remote = from;
        }
        let secured = self.stream.is_secured();
        let mut host = stream::Host { plain, ..stream::Host::default() };
        if secured
            && self.verdict.is_none()
            && let Some(remote) = &self.remote
        {
            // Where the conf wants no certificate, what it has shown counts all the same.
            let chain = self.wire.look().peer_chain();
            self.verdict = callers::judge(&self.common, &self.settings, chain, remote, self.peer.ip()).await;
            if self.verdict.is_none() && !self.settings.allows_dialback(remote) {
                let error = StreamError::new(StreamCondition::ResourceConstraint);
                return Err(error.with_text(verify::TOO_MANY));
            }
        }
        if opened.phase == Phase::BeforeAuth && secured {
            let proven = self.remote.iter().filter(|_| self.verdict.as_ref().is_some_and(Verdict::is_valid));
            host.external = proven.cloned().collect();
        }
        if secured || plain {
            let authenticated = opened.phase == Phase::AfterAuth;
            host.features.push(
                Element::new("dialback", ns::DIALBACK_FEATURE).child(Element::new("errors", ns::DIALBACK_FEATURE)),
            );
            if !authenticated && secured {
                host.features.push(Element::new("bidi", ns::BIDI_FEATURE));
            }
            host.features.push(Element::new("sm", ns::SM));
            host.features.push(self.settings.limits(authenticated));
        }
        Ok(host)
    }

    pub(super) async fn start_tls(&mut self) -> Result<(), Gone> {
        self.transmit_stream()?;
        let to = self.local.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut ending = self.common.ending();
        let Wire::Accepted(connection) = &mut self.wire else { return Ok(()) };
        tokio::select! {
            secured = connection.start_tls(&to, self.intake.unread()) => secured?,
            () = ending.begun() => return Err(io::Error::other("the server ends").into()),
        }
        self.stream.handle_tls(now(), TlsInfo::default());
        Ok(())
    }

    /// SASL has succeeded: the stream begins anew, and the next header says for which pair.
    pub(super) fn authenticated(&mut self) {
        if let Some(opened) = &mut self.opened {
            return opened.authenticated();
        }
        let remote = self.remote.as_ref().map_or("", |remote| remote.as_str());
        debug!(stream = self.id(), remote, "authenticated by its certificate");
    }

    pub(super) fn auth_failed(&mut self, condition: SaslCondition) {
        let remote = self.remote.as_ref().map_or("", |remote| remote.as_str());
        info!(stream = self.id(), remote, peer = %self.peer, reason = %condition, "authentication by certificate failed");
        if self.opened.is_some() {
            self.external_failed();
        }
    }

    /// `<db:result/>` with a key: the peer wants to speak for a domain (XEP-0220, step 1).
    pub(super) fn request(&mut self, request: Packet) {
        let pair = Pair { local: request.to.clone(), remote: request.from.clone() };
        // Whom the stream's header names has been looked at.
        let known = self.verdict.clone().filter(|_| self.remote.as_ref() == Some(&pair.remote));
        let chain = self.wire.look().peer_chain();
        let known = known.or_else(|| {
            // A chain is dear to look at, and who is heard already may ask as often as it likes.
            let is_new = !self.hears.contains(&pair);
            is_new.then(|| callers::judge_at_once(&self.common, &self.settings, chain, &pair.remote)).flatten()
        });
        if let Some(says) = self.decide(&pair, known.as_ref()) {
            if let Says::Error(error) = &says {
                let certificate = known.as_ref().map(ToString::to_string).unwrap_or_default();
                info!(stream = self.id(), remote = %pair.remote, local = %pair.local, peer = %self.peer, certificate, "dialback is refused: {error}");
            }
            return self.answer(&request, says, known.as_ref().map_or("certificate", Verdict::by));
        }
        let Some(question) = self.question(&request) else {
            return self.end(StreamCondition::InternalServerError.into());
        };
        self.pending.push(pair);
        let (common, settings, orders) = (self.common.clone(), self.settings.clone(), self.handle.orders.clone());
        let (chain, address) = (self.wire.look().peer_chain().to_vec(), self.peer.ip());
        tokio::spawn(async move {
            let (says, by) = verify::prove(&common, &settings, known, &chain, question, address).await;
            // The stream may be over.
            let _ = orders.send(Order::Verified(Box::new(Verified { request, says, by })));
        });
    }

    /// What can be said to a request at once, by what is known of the certificate.
    fn decide(&self, pair: &Pair, known: Option<&Verdict>) -> Option<Says> {
        let refuse = |condition, text: &'static str| Some(Says::Error(StanzaError::new(condition).with_text(text)));
        let server = &self.common.server;
        if !server.is_ours(pair.local.as_str()) {
            return refuse(Condition::ItemNotFound, "This domain is not served here.");
        }
        if server.is_ours(pair.remote.as_str()) {
            return refuse(Condition::NotAcceptable, "This is a domain of this server.");
        }
        if server.may_federate(pair.remote.as_str()).is_err() {
            return refuse(Condition::PolicyViolation, "This server does not talk to that domain.");
        }
        let certificates = self.settings.certificates(&pair.remote);
        let has_tls = self.wire.look().tls().is_some();
        if !has_tls && certificates != Certificates::Plain {
            return refuse(Condition::PolicyViolation, "TLS is needed first.");
        }
        if self.hears.contains(pair) {
            return Some(Says::Valid);
        }
        let is_proven = known.map(Verdict::is_valid);
        let is_busy = self.pending.contains(pair) || self.pending.len() >= MOST_PENDING;
        if self.hears.len() >= MOST_PAIRS || (is_busy && is_proven != Some(true)) {
            return refuse(Condition::ResourceConstraint, "Too many domains on one stream.");
        }
        match (is_proven, certificates) {
            (Some(true), _) => Some(Says::Valid),
            (Some(false), Certificates::Valid | Certificates::Refuse) => Some(verify::refusal()),
            _ => None,
        }
    }

    /// Step 2: what to ask the server of the domain. It names our stream, whose id the key was made for.
    fn question(&self, request: &Packet) -> Option<Packet> {
        let Says::Key(key) = &request.says else { return None };
        Some(Packet::verify(request.to.clone(), request.from.clone(), self.stream.id()?, key))
    }

    /// The certificate, or the server of the domain, has spoken, or neither does.
    pub(super) fn answer_request(&mut self, verified: Verified) {
        let Verified { request, says, by } = verified;
        let known = self.pending.len();
        self.pending.retain(|pair| pair.local != request.to || pair.remote != request.from);
        if known > self.pending.len() && !self.is_leaving {
            self.answer(&request, says, by);
        }
    }

    /// Step 4.
    fn answer(&mut self, request: &Packet, says: Says, by: &str) {
        let pair = Pair { local: request.to.clone(), remote: request.from.clone() };
        let is_first = self.hears.is_empty();
        let says = match says {
            Says::Valid if is_among(&self.hears, pair.local.as_str(), pair.remote.as_str()) => Says::Valid,
            Says::Valid => {
                self.remote.get_or_insert_with(|| pair.remote.clone());
                self.local.get_or_insert_with(|| pair.local.clone());
                if !self.has_room(&pair.remote) {
                    Says::Error(
                        StanzaError::new(Condition::ResourceConstraint).with_text("Too many streams of this domain."),
                    )
                } else {
                    // The answer goes before whatever the pair's stanzas are.
                    self.stream.send(&request.answer(Says::Valid).to_element());
                    return self.hear(pair, by);
                }
            }
            // Others may use the stream: the error is for this pair alone (XEP-0220 §2.2.1).
            Says::Invalid if !is_first => Says::Error(StanzaError::new(Condition::Forbidden)),
            other => other,
        };
        match &says {
            Says::Invalid => {
                warn!(stream = self.id(), remote = %pair.remote, local = %pair.local, peer = %self.peer, "somebody wants to speak for a domain whose server does not know the key");
            }
            Says::Error(error) => {
                info!(stream = self.id(), remote = %pair.remote, local = %pair.local, peer = %self.peer, reason = %error, "dialback has failed");
            }
            Says::Valid | Says::Key(_) => {}
        }
        self.stream.send(&request.answer(says.clone()).to_element());
        if says == Says::Invalid {
            return self.stream.close(now(), None);
        }
        if says != Says::Valid {
            self.refusals += 1;
        }
        if self.refusals > MOST_REFUSALS {
            let error = StreamError::new(StreamCondition::PolicyViolation);
            self.end(error.with_text("Too many requests for dialback that came to nothing."));
        }
    }

    fn has_room(&mut self, remote: &BareJid) -> bool {
        if self.remotes.iter().any(|known| known.domain == *remote) {
            return true;
        }
        let remote = self.common.remotes.get(remote);
        let has_room = remote.add_theirs(&self.handle, self.settings.streams);
        if has_room {
            self.remotes.push(remote);
        }
        has_room
    }

    /// From here on the peer may send stanzas of this pair, and gets ours if it takes them by its own stream.
    fn hear(&mut self, pair: Pair, by: &str) {
        if !self.has_room(&pair.remote) {
            let error = StreamError::new(StreamCondition::ResourceConstraint);
            return self.end(error.with_text("Too many streams of this domain."));
        }
        if let Wire::Accepted(connection) = &mut self.wire {
            connection.unauthenticated = None;
        }
        if !self.hears.is_empty()
            && let Some(id) = self.resumption.take()
        {
            // What is authenticated for several pairs is not gone on with by one of them.
            self.common.resting.end(&id);
        }
        let tls = self.tls_in_words().unwrap_or_else(|| "none".to_owned());
        let bidi = self.bidi;
        info!(stream = self.id(), direction = "in", remote = %pair.remote, local = %pair.local, peer = %self.peer, tls, by, bidi, "a server may send");
        self.handle.facts.lock().status.pairs.push(PairStatus {
            from: pair.remote.to_string(),
            to: pair.local.to_string(),
            by: by.to_owned(),
        });
        self.hears.push(pair.clone());
        self.stream.established();
        self.is_ready = true;
        self.used = now();
        self.note_facts();
        self.proven_useful();
        if self.has_begun {
            self.take_what_waits(&pair);
        }
    }

    /// The peer has asked for acknowledgements, or does without: it has sent a stanza. Before, nothing goes out: what is not
    /// counted, and on its way when the connection is lost, would have to go out again though it may have arrived; and it would
    /// stand before the answers that the peer waits for.
    pub(super) fn begin(&mut self) {
        if mem::replace(&mut self.has_begun, true) || self.opened.is_some() {
            return;
        }
        self.note_facts();
        for pair in self.hears.clone() {
            self.take_what_waits(&pair);
        }
    }

    /// Something may wait for the peer that is not being brought to it.
    fn take_what_waits(&mut self, pair: &Pair) {
        if !self.bidi {
            return;
        }
        let link = self.common.server.links_to(&pair.remote).into_iter().find(|link| link.pair() == pair);
        if let Some(link) = link.filter(|link| link.waiting().stanzas > 0 && !link.waiting().carried) {
            self.carry(link);
        }
    }
}
