//! What happens on a stream when stanzas may flow, whoever has opened it: stanzas in, links out, stream management
//! (XEP-0198), and the end in order.

use std::sync::Arc;
use std::time::Duration;

use rookery_core::remote::{Link, Pair};
use rookery_core::server::random_id;
use rookery_xmpp::ack::{BadResume, HandledTooHigh, parse_h};
use rookery_xmpp::dialback::{Matter, Packet, Says};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError, StreamCondition, StreamError};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, Stanza};
use tracing::{debug, info, warn};

use super::driver::Driver;
use super::gone::Gone;
use super::rest::{Found, Rest};
use super::settings;
use crate::patience::now;

/// How long the end of a stream waits for what came by it to be on disk.
const SETTLING: Duration = Duration::from_secs(2);

/// How long a resumption waits for that, whoever goes on with the stream.
pub(super) const SETTLING_TO_RESUME: Duration = Duration::from_secs(10);

/// So many wrong keys of one stream are worth a line of the log. To end the stream would be to do as a liar likes who has
/// given the keys to an honest server.
const MOST_WRONG_KEYS: usize = 10;

/// `<a/>`.
pub(super) fn answer(h: u32) -> Element {
    Element::new("a", ns::SM).attr("h", h.to_string())
}

impl Driver {
    // ---- stanzas --------------------------------------------------------------------------------------------------

    /// A stanza of the peer's. Who may say what is core's to judge, by what this stream is authenticated for.
    pub(super) async fn accept(&mut self, stanza: Stanza) -> Result<(), Gone> {
        if self.is_leaving && self.outflow.has_acks() {
            // The last count has been said: the peer sends again what it does not cover.
            return Ok(());
        }
        self.used = now();
        self.begin();
        let receipt = self.inbound.receive();
        let hears = &self.hears;
        let may_speak =
            |from: &str, to: &str| hears.iter().any(|pair| pair.remote.as_str() == from && pair.local.as_str() == to);
        if self.is_pong(&stanza) {
            drop(receipt);
            return Ok(());
        }
        let is_message = matches!(stanza.head.kind, Kind::Message(_));
        let server = &self.common.server;
        let (from, to) = (stanza.head.from.clone(), stanza.head.to.clone());
        let accepted = Box::pin(server.accept_remote(&self.inbound, may_speak, stanza, receipt)).await;
        if let Err(error) = accepted {
            let text = |jid: &Option<Jid>| jid.as_ref().map_or(String::new(), Jid::to_string);
            let remote = self.remote.as_ref().map_or("", |remote| remote.as_str());
            warn!(
                stream = self.id(), remote, peer = %self.peer, from = text(&from), to = text(&to),
                "a stanza that this server may not send ends its stream: {error}"
            );
            self.end(error);
        }
        if is_message && let Some(time) = self.common.server.pressure() {
            self.paused = self.paused.max(Some(now() + time));
        }
        Ok(())
    }

    /// A stanza that is not what it should be; it counts, and is answered if its addresses are as they have to be.
    pub(super) async fn answered(&mut self, reply: Option<Stanza>) {
        if self.is_leaving && self.outflow.has_acks() {
            return;
        }
        self.begin();
        let Some(reply) = reply else { return drop(self.inbound.receive()) };
        let receipt = self.inbound.receive();
        let may_speak = match (&reply.head.to, &reply.head.from) {
            (Some(their), Some(our)) => self
                .hears
                .iter()
                .any(|pair| pair.remote.as_str() == their.domainpart() && pair.local.as_str() == our.domainpart()),
            _ => return self.end(StreamCondition::ImproperAddressing.into()),
        };
        if !may_speak {
            return self.end(StreamCondition::InvalidFrom.into());
        }
        self.common.server.route(reply).await;
        drop(receipt);
    }

    /// Whether this is the answer to a ping of ours, on whichever stream that went out.
    fn is_pong(&self, stanza: &Stanza) -> bool {
        let (Some(from), Some(to), Some(id)) = (&stanza.head.from, &stanza.head.to, &stanza.head.id) else {
            return false;
        };
        let is_answer = matches!(stanza.head.kind, Kind::Iq(IqType::Result | IqType::Error));
        let is_heard = self.hears.iter().any(|pair| *from == pair.remote && *to == pair.local);
        is_answer && is_heard && self.common.answered(id, from.domainpart(), to.domainpart())
    }

    // ---- what is no stanza ----------------------------------------------------------------------------------------

    pub(super) async fn nonza(&mut self, element: Element) -> Result<(), Gone> {
        match (element.ns(), element.name()) {
            (ns::DIALBACK, _) => match Packet::from_element(&element) {
                Ok(packet) => return self.dialback(packet),
                Err(error) => self.end(error),
            },
            (ns::BIDI, "bidi") if self.opened.is_none() && self.hears.is_empty() => {
                self.bidi = true;
                self.outflow.max_bytes = settings::max_bytes(&element);
            }
            (ns::SM, "enable") if self.opened.is_none() => self.enable(&element),
            (ns::SM, "resume") if self.opened.is_none() => self.resume(&element).await,
            (ns::SM, "enabled" | "failed" | "resumed") if self.opened.is_some() => return self.acks_decided(&element),
            (ns::SM, "r") if self.outflow.has_acks() => {
                if !self.is_leaving {
                    self.inbound.answer_acks();
                }
            }
            (ns::SM, "a") if self.outflow.has_acks() => match element.get("h").and_then(parse_h) {
                Some(h) => {
                    if let Err(error) = self.outflow.acknowledged(h, now()) {
                        self.end(too_high(error));
                    } else {
                        self.proven_useful();
                    }
                }
                None => {
                    self.end(StreamError::new(StreamCondition::PolicyViolation).with_text("<a/> needs a count in 'h'."))
                }
            },
            (ns::SM, _) => self.stream.send(&failed(Condition::UnexpectedRequest, None)),
            _ => self.end(StreamCondition::UnsupportedStanzaType.into()),
        }
        Ok(())
    }

    /// A packet of dialback, on any stream. Requests are dealt with by whose they are; an answer is heard only if there is a
    /// request for it on this very stream (XEP-0220 §3.1).
    fn dialback(&mut self, packet: Packet) -> Result<(), Gone> {
        match (&packet.matter, &packet.says) {
            (Matter::Verify { id }, Says::Key(key)) => {
                // We are the authority for our domains, whoever asks: the key itself is all that there is to know.
                let says = if !self.common.server.is_ours(packet.to.as_str()) {
                    Says::Error(StanzaError::new(Condition::ItemNotFound))
                } else if self.common.keys.matches(&packet.from, &packet.to, id, key) {
                    Says::Valid
                } else {
                    self.wrong_keys += 1;
                    if self.wrong_keys <= MOST_WRONG_KEYS {
                        info!(stream = self.id(), from = %packet.from, to = %packet.to, peer = %self.peer, "a dialback key is wrong");
                    }
                    Says::Invalid
                };
                self.stream.send(&packet.answer(says).to_element());
            }
            (Matter::Result, Says::Key(_)) if self.opened.is_none() => self.request(packet),
            // On a stream of ours the peer may ask for another pair (XEP-0288): it has its own streams for that.
            (Matter::Result, Says::Key(_)) => {
                self.stream.send(&packet.answer(Says::Error(StanzaError::new(Condition::NotAcceptable))).to_element());
            }
            (_, Says::Valid | Says::Invalid | Says::Error(_)) => return self.answer_came(&packet),
        }
        Ok(())
    }

    // ---- going out ------------------------------------------------------------------------------------------------

    /// Takes a link over, if the peer is authenticated for it.
    pub(super) fn carry(&mut self, link: Arc<Link>) {
        let pair = link.pair();
        let may =
            self.stream.is_open() && !self.is_leaving && self.has_begun && (self.bidi && self.hears.contains(pair));
        if !may {
            self.handle.facts.lock().may_carry.clear();
            return self.common.want(link);
        }
        if !self.outflow.carries(pair) {
            self.outflow.carry(link);
        }
    }

    /// Puts a ping behind what was written, where there are no acknowledgements.
    pub(super) fn ping(&mut self) -> Result<(), Gone> {
        let new_id = || Some(format!("rookery-{}", random_id().ok()?).into_boxed_str());
        let Some(ping) = self.outflow.ping(new_id) else { return Ok(()) };
        if let (Some(id), Some(local), Some(remote)) = (self.outflow.ping_id(), &ping.head.from, &ping.head.to) {
            self.common.expect_answer(id, local.domainpart(), remote.domainpart(), &self.handle);
        }
        self.wire.transport().write_with(|out| ping.write(out, None))?;
        self.flushed();
        Ok(())
    }

    /// What a peer that answers no pings has had for long counts as read, if nothing of it waits for the socket.
    pub(super) fn flushed(&mut self) {
        if self.wire.look().is_flushed() && self.outflow.flushed(now()) {
            self.common.forget_ping(self.id());
        }
    }

    /// The peer has confirmed something: connecting to it makes sense.
    pub(super) fn proven_useful(&mut self) {
        self.was_useful = true;
        let ours = self.opened.iter().map(|opened| &opened.pair().local);
        let locals: Vec<_> = self.hears.iter().map(|pair| &pair.local).chain(ours).collect();
        self.remotes.iter().for_each(|remote| remote.succeeded(locals.iter().copied()));
    }

    // ---- stream management ----------------------------------------------------------------------------------------

    /// `<enable/>` of a peer that has opened the stream.
    fn enable(&mut self, enable: &Element) {
        let (Ok(id), Some(_)) = (random_id(), self.hears.first()) else {
            return self.stream.send(&failed(Condition::UnexpectedRequest, None));
        };
        if !self.inbound.enable_acks() {
            return self.stream.send(&failed(Condition::UnexpectedRequest, None));
        }
        let wanted = matches!(enable.get("resume"), Some("true" | "1"));
        let limit = self.settings.resume;
        let time = enable.get("max").and_then(|max| max.parse().ok());
        let time = time.map_or(limit, |max| limit.min(Duration::from_secs(max)));
        let mut enabled = Element::new("enabled", ns::SM);
        if wanted && !time.is_zero() && self.remember(&id, time) {
            enabled = enabled.attr("id", id).attr("resume", "true").attr("max", time.as_secs().to_string());
        }
        self.outflow.enable_acks();
        self.stream.send(&enabled);
        self.note_facts();
        self.begin();
    }

    /// Notes that the peer may go on with this stream. Only one of a single pair can be resumed.
    fn remember(&mut self, id: &str, time: Duration) -> bool {
        let [pair] = &*self.hears else { return false };
        let added = self.common.resting.add(id.into(), pair.clone(), self.handle.clone(), time);
        if added {
            self.resumption = Some(id.into());
        }
        added
    }

    /// `<resume/>`: goes on with an earlier stream of the very same pair.
    async fn resume(&mut self, resume: &Element) {
        let (Some(id), Some(h)) = (resume.get("previd"), resume.get("h").and_then(parse_h)) else {
            return self.stream.send(&failed(Condition::BadRequest, None));
        };
        let [pair] = &*self.hears else { return self.stream.send(&failed(Condition::UnexpectedRequest, None)) };
        if self.outflow.has_acks() {
            return self.stream.send(&failed(Condition::UnexpectedRequest, None));
        }
        let pair = pair.clone();
        let mut rest = match self.common.resting.take(id, &pair).await {
            Found::Rest(rest) => rest,
            Found::Nothing(handled) => return self.stream.send(&failed(Condition::ItemNotFound, handled)),
        };
        let settled = tokio::time::timeout(SETTLING_TO_RESUME, rest.inbound.settled()).await;
        if settled.is_err() || rest.outflow.is_past() || rest.bidi != self.bidi {
            return self.stream.send(&failed(Condition::ItemNotFound, Some(rest.inbound.handled())));
        }
        match rest.outflow.resume(h) {
            Ok(()) => {}
            Err(BadResume::Behind { .. }) => {
                return self.stream.send(&failed(Condition::ItemNotFound, Some(rest.inbound.handled())));
            }
            Err(BadResume::TooHigh(error)) => return self.end(too_high(error)),
        }
        if rest.outflow.is_empty() {
            // What this stream has written already is not written again.
            self.outflow.count_on(&mut rest.outflow);
        } else {
            let limits = self.outflow.max_bytes;
            self.outflow.let_go();
            self.outflow = std::mem::take(&mut rest.outflow);
            self.outflow.max_bytes = limits;
        }
        self.inbound = rest.inbound.clone();
        let h = self.inbound.handled().to_string();
        self.stream.send(&Element::new("resumed", ns::SM).attr("previd", id).attr("h", h));
        if !self.remember(id, self.settings.resume) {
            self.resumption = None;
        }
        info!(stream = self.id(), remote = %pair.remote, local = %pair.local, peer = %self.peer, "the stream goes on where it was");
        self.note_facts();
        self.begin();
    }

    /// What can be gone on with when the connection is gone. A stream that the peer has opened is kept for it.
    pub(super) fn rest(&mut self, gone: &Gone) -> Option<Rest> {
        let id = self.resumption.take()?;
        let goes_on = matches!(gone, Gone::Lost(_) | Gone::TimedOut(_) | Gone::HandedOver);
        if self.opened.is_none() {
            self.common.resting.end(&id);
        }
        if !goes_on || self.is_leaving || self.outflow.is_past() {
            return None;
        }
        let pair = match &self.opened {
            Some(opened) => opened.pair().clone(),
            None => self.hears.first()?.clone(),
        };
        let rest = Rest {
            id,
            pair,
            inbound: self.inbound.clone(),
            outflow: std::mem::take(&mut self.outflow),
            bidi: self.bidi,
            until: now() + self.settings.resume,
        };
        if self.opened.is_some() {
            return Some(rest);
        }
        match self.hand_over.take() {
            // Who has given up waiting for it does not get it: then it is over.
            Some(to) => drop(to.send(Some(rest))),
            None => self.common.resting.lay_down(rest, self.settings.resume),
        }
        None
    }

    // ---- the end --------------------------------------------------------------------------------------------------

    /// Closes the stream in order: the peer is told what has been handled, and nothing counts that comes after.
    pub(super) async fn leave(&mut self) -> Result<(), Gone> {
        if self.is_leaving {
            return Ok(());
        }
        self.handle.facts.lock().may_carry.clear();
        if !self.stream.is_open() {
            let error = self.opened.is_none().then(|| StreamCondition::SystemShutdown.into());
            self.stream.close(now(), error);
            return self.transmit_stream();
        }
        self.last_count().await?;
        self.is_leaving = true;
        if let Some(id) = &self.resumption {
            self.common.resting.end(id);
        }
        self.stream.close(now(), None);
        self.transmit_stream()
    }

    /// Before our end of the stream the peer is told what has been handled of what it has sent, when that is on disk: it
    /// sends the rest again.
    pub(super) async fn last_count(&mut self) -> Result<(), Gone> {
        if !self.outflow.has_acks() {
            return Ok(());
        }
        if tokio::time::timeout(SETTLING, self.inbound.settled()).await.is_err() {
            debug!(stream = self.id(), "the end of a stream does not wait for the database");
        }
        let h = self.inbound.handled();
        self.wire.transport().write_with(|out| answer(h).write(out, ns::SERVER))?;
        Ok(())
    }

    /// Keeps what others see of the stream up to date.
    pub(super) fn note_facts(&self) {
        let mut facts = self.handle.facts.lock();
        facts.status.tls = self.tls_in_words();
        facts.status.certificate = self.verdict.as_ref().map(ToString::to_string);
        facts.status.bidi = self.bidi;
        facts.status.acks = self.outflow.has_acks();
        facts.status.resumable = self.resumption.is_some();
        let may_carry =
            self.bidi && self.opened.is_none() && self.has_begun && !self.is_leaving && self.stream.is_open();
        facts.may_carry = if may_carry { self.hears.clone() } else { Vec::new() };
        facts.is_open = self.opened.is_some() && self.is_ready;
    }
}

/// Whether a pair is among those.
pub(super) fn is_among(pairs: &[Pair], local: &str, remote: &str) -> bool {
    pairs.iter().any(|pair| pair.local.as_str() == local && pair.remote.as_str() == remote)
}

/// `<failed/>`, with the count of what was handled when it is known (XEP-0198 §5).
fn failed(condition: Condition, handled: Option<u32>) -> Element {
    Element::new("failed", ns::SM)
        .attr_opt("h", handled.map(|h| h.to_string()))
        .child(Element::new(condition.name(), ns::STANZAS))
}

pub(super) fn too_high(error: HandledTooHigh) -> StreamError {
    let app = Element::new("handled-count-too-high", ns::SM)
        .attr("h", error.h.to_string())
        .attr("send-count", error.sent.to_string());
    StreamError::new(StreamCondition::UndefinedCondition).with_text("More was acknowledged than sent.").with_app(app)
}
