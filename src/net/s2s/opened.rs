//! A stream that we open to another server: to bring it what waits for it, or to ask whether a key of dialback is right.
//!
//! The other server's certificate is judged as soon as TLS is there, before it is told anything. Then we prove who we are:
//! by our certificate if the peer offers that (EXTERNAL), else by dialback. What it needs before stanzas flow (XEP-0198's
//! acknowledgements, or an earlier stream that is gone on with) is settled here, too.

use std::sync::Arc;

use rookery_core::config::Certificates;
use rookery_core::remote::{Failure, Link, Pair, PairStatus};
use rookery_xmpp::ack::parse_h;
use rookery_xmpp::dialback::{Matter, Packet, Says};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StreamCondition, StreamError};
use rookery_xmpp::ns;
use rookery_xmpp::sasl::Mechanism;
use rookery_xmpp::stream::TlsInfo;
use tracing::{debug, info, warn};

use super::driver::{Driver, Wire};
use super::failure;
use super::flow::too_high;
use super::gone::{Gone, quoted};
use super::identity::Verdict;
use super::remotes::Question;
use super::rest::Rest;
use super::settings;
use super::verify::OpenQuestions;
use crate::dns::Target;
use crate::patience::now;

/// What we open a stream for.
pub(super) enum Goal {
    /// To carry this link.
    Carry(Arc<Link>),
    /// To ask something about dialback, and nothing else.
    Ask,
}

/// What is particular to a stream of ours.
pub(super) struct Opened {
    pair: Pair,
    goal: Goal,
    /// Where it leads, as DNS says.
    pub(super) target: Option<Target>,
    /// An earlier stream that we would go on with.
    pub(super) rest: Option<Rest>,
    /// The peer knows acknowledgements.
    has_acks: bool,
    /// EXTERNAL is not to be tried (any more).
    no_external: bool,
    /// Our key was sent, and the answer has not come.
    awaits_result: bool,
    is_authenticated: bool,
    /// The peer has heard who we are, and does not take our proof of it.
    pub(super) is_refused: bool,
    /// How we have proved who we are.
    by: &'static str,
    /// What the peer was asked, and has not answered.
    questions: OpenQuestions,
}

impl Opened {
    pub(super) fn new(pair: Pair, goal: Goal, rest: Option<Rest>, no_external: bool) -> Self {
        Self {
            pair,
            goal,
            target: None,
            rest,
            has_acks: false,
            no_external,
            awaits_result: false,
            is_authenticated: false,
            is_refused: false,
            by: "dialback",
            questions: OpenQuestions::default(),
        }
    }

    /// Whoever has asked something through this stream hears that there will be no answer.
    pub(super) fn drop_questions(&mut self) {
        self.questions.drop_all();
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    pub(super) fn authenticated(&mut self) {
        self.is_authenticated = true;
        self.by = "certificate";
    }

    /// Whether the peer has ended the stream over our certificate: then dialback is the way.
    pub(super) fn stumbled_over_external(&self) -> bool {
        !self.no_external && !self.is_authenticated && !self.awaits_result && self.by == "certificate"
    }
}

impl Driver {
    pub(super) async fn start_tls_client(&mut self) -> Result<(), Gone> {
        self.transmit_stream()?;
        let Some(opened) = &self.opened else { return Ok(()) };
        let Pair { local, remote } = &opened.pair;
        let tls = self.common.tls.clone();
        if let Wire::Opened(transport) = &mut self.wire {
            transport.start_tls_client(&tls, local.as_str(), remote.as_str(), self.intake.unread())?;
            transport.secure(self.settings.handshake).await?;
        }
        self.secured()
    }

    /// TLS is there: whose certificate is it?
    pub(super) fn secured(&mut self) -> Result<(), Gone> {
        let Some(opened) = &self.opened else { return Ok(()) };
        let remote = &opened.pair.remote;
        let verdict = self.settings.judge(self.wire.look().peer_chain(), remote, opened.target.as_ref());
        let wants_valid = self.settings.certificates(remote) == Certificates::Valid;
        if wants_valid && !verdict.is_valid() {
            let text = format!("the certificate of {remote} {verdict}");
            let definite = !verdict.is_a_matter_of_time();
            return Err(Gone::Failed(Box::new(failure(definite, Condition::RemoteServerTimeout, &text))));
        }
        self.verdict = Some(verdict);
        self.stream.handle_tls(now(), TlsInfo::default());
        self.note_facts();
        Ok(())
    }

    /// What the peer offers.
    pub(super) fn features(&mut self, features: &Element) -> Result<(), Gone> {
        let Some(opened) = &mut self.opened else { return Ok(()) };
        opened.has_acks = features.find("sm", ns::SM).is_some();
        self.outflow.max_bytes = settings::max_bytes(features);
        if self.stream.is_open() {
            self.enter();
            return Ok(());
        }
        if let Goal::Ask = opened.goal {
            self.is_ready = true;
            self.note_facts();
            return Ok(());
        }
        // What comes back on our stream is believed of the peer only if its certificate says who it is: DNS alone has led
        // us here.
        let is_proven = self.verdict.as_ref().is_some_and(Verdict::is_valid);
        if is_proven && features.find("bidi", ns::BIDI_FEATURE).is_some() {
            self.stream.send(&Element::new("bidi", ns::BIDI).child(self.settings.limits(true)));
            self.bidi = true;
        }
        let mechanisms = features.find("mechanisms", ns::SASL);
        let has_external = mechanisms
            .is_some_and(|offered| offered.elements().any(|one| one.content().trim() == Mechanism::External.name()));
        if has_external && !opened.no_external && self.wire.look().tls().is_some() {
            opened.by = "certificate";
            self.stream.authenticate_external();
            return Ok(());
        }
        let knows_dialback =
            features.find("dialback", ns::DIALBACK_FEATURE).is_some() || self.stream.peer_declares(ns::DIALBACK);
        self.send_key(knows_dialback)
    }

    /// The peer does not take our certificate: dialback is left.
    pub(super) fn external_failed(&mut self) {
        let knows_dialback = self.stream.peer_declares(ns::DIALBACK);
        if let Err(Gone::Failed(failure)) = self.send_key(knows_dialback) {
            self.end(StreamError::new(StreamCondition::NotAuthorized).with_text(failure.text));
        }
    }

    /// Step 1 of dialback.
    fn send_key(&mut self, knows_dialback: bool) -> Result<(), Gone> {
        let Some(opened) = &mut self.opened else { return Ok(()) };
        let Pair { local, remote } = opened.pair.clone();
        let Some(id) = self.stream.id().filter(|_| knows_dialback) else {
            opened.is_refused = true;
            let text = format!("{remote} does not take our certificate, and offers no dialback");
            return Err(Gone::Failed(Box::new(failure(true, Condition::RemoteServerTimeout, &text))));
        };
        let key = self.common.keys.key(&remote, &local, id);
        opened.awaits_result = true;
        opened.by = "dialback";
        self.stream.send(&Packet::request(local, remote, &key).to_element());
        Ok(())
    }

    /// Asks the peer, whose domain it is, whether a key is right (XEP-0220, step 2).
    pub(super) fn ask(&mut self, question: Question) {
        let Some(opened) = &mut self.opened else { return };
        if self.is_ready && !self.is_leaving {
            self.stream.send(&question.request.to_element());
            opened.questions.add(question);
        }
    }

    /// An answer of dialback. One that nobody has asked for on this stream ends it.
    pub(super) fn answer_came(&mut self, packet: &Packet) -> Result<(), Gone> {
        let is_expected = match (&packet.matter, &mut self.opened) {
            (Matter::Result, Some(opened)) => {
                opened.awaits_result && packet.from == opened.pair.remote && packet.to == opened.pair.local
            }
            (Matter::Verify { .. }, Some(opened)) => {
                if opened.questions.answered(packet) {
                    return Ok(());
                }
                false
            }
            (_, None) => false,
        };
        if !is_expected {
            warn!(stream = self.id(), from = %packet.from, to = %packet.to, peer = %self.peer, "an answer of dialback came that nobody has asked for");
            self.end(StreamError::new(StreamCondition::PolicyViolation).with_text("Nobody has asked for this."));
            return Ok(());
        }
        if let Some(opened) = &mut self.opened {
            opened.awaits_result = false;
            opened.is_refused = packet.says != Says::Valid;
        }
        let remote = &packet.from;
        let failed =
            |definite, condition, text: String| Err(Gone::Failed(Box::new(failure(definite, condition, &text))));
        match &packet.says {
            Says::Valid => {
                self.stream.established();
                self.enter();
                Ok(())
            }
            Says::Error(error) => {
                let definite = error.kind != ErrorKind::Wait && error.condition != Condition::RemoteServerTimeout;
                failed(
                    definite,
                    Condition::RemoteServerTimeout,
                    format!("{remote} refuses our dialback: {}", quoted(&error.to_string())),
                )
            }
            Says::Invalid | Says::Key(_) => failed(
                true,
                Condition::InternalServerError,
                format!("{remote} says that our dialback key is wrong: does {} lead to this server?", packet.to),
            ),
        }
    }

    /// We are authenticated. Before stanzas flow, acknowledgements are agreed upon.
    fn enter(&mut self) {
        let Some(opened) = &self.opened else { return };
        if self.bidi {
            self.hears = vec![opened.pair.clone()];
            self.handle.facts.lock().may_speak = true;
        }
        if !opened.has_acks {
            return self.start();
        }
        let request = match &opened.rest {
            Some(rest) => {
                Element::new("resume", ns::SM).attr("previd", &*rest.id).attr("h", rest.inbound.handled().to_string())
            }
            None => Element::new("enable", ns::SM).attr("resume", "true"),
        };
        self.stream.send(&request);
    }

    /// `<enabled/>`, `<resumed/>` or `<failed/>`.
    pub(super) fn acks_decided(&mut self, element: &Element) -> Result<(), Gone> {
        let Some(opened) = &mut self.opened else { return Ok(()) };
        if self.is_ready || !self.stream.is_open() || !opened.has_acks {
            self.end(StreamCondition::UnsupportedStanzaType.into());
            return Ok(());
        }
        let h = element.get("h").and_then(parse_h);
        match (element.name(), opened.rest.take()) {
            ("enabled", None) => {
                self.outflow.enable_acks();
                self.inbound.enable_acks();
                let resumable = matches!(element.get("resume"), Some("true" | "1"));
                self.resumption = element.get("id").filter(|_| resumable).map(Box::from);
            }
            ("resumed", Some(mut rest)) => {
                let resumed = h.map(|h| rest.outflow.resume(h));
                let Some(Ok(())) = resumed else {
                    if let Some(Err(rookery_xmpp::ack::BadResume::TooHigh(error))) = resumed {
                        self.end(too_high(error));
                    } else {
                        self.end(StreamCondition::BadFormat.into());
                    }
                    return Ok(());
                };
                let limits = self.outflow.max_bytes;
                self.outflow = std::mem::take(&mut rest.outflow);
                self.outflow.max_bytes = limits;
                self.inbound = rest.inbound.clone();
                self.resumption = Some(rest.id.clone());
                let pair = opened.pair.clone();
                info!(stream = self.id(), remote = %pair.remote, local = %pair.local, peer = %self.peer, "the stream goes on where it was");
            }
            ("failed", Some(mut rest)) => {
                // How much of it had arrived is still worth knowing; the rest goes out again.
                if let Some(h) = h {
                    let _ = rest.outflow.acknowledged(h, now());
                }
                drop(rest);
                self.stream.send(&Element::new("enable", ns::SM).attr("resume", "true"));
                return Ok(());
            }
            ("failed", None) => opened.has_acks = false,
            _ => {
                self.end(StreamCondition::UnsupportedStanzaType.into());
                return Ok(());
            }
        }
        self.start();
        Ok(())
    }

    /// Stanzas may flow.
    fn start(&mut self) {
        let Some(opened) = &mut self.opened else { return };
        // Without acknowledgements there is nothing to go on with.
        drop(opened.rest.take());
        let (pair, by) = (opened.pair.clone(), opened.by);
        if let Goal::Carry(link) = &opened.goal
            && !self.outflow.carries(&pair)
            && !self.outflow.carry(link.clone())
        {
            // The peer has come to us meanwhile, and its stream takes what is ours, too (XEP-0288).
            debug!(stream = self.id(), remote = %pair.remote, local = %pair.local, "there is another stream by now");
            (self.is_ready, self.is_leaving, self.was_useful) = (true, true, true);
            return self.stream.close(now(), None);
        }
        self.is_ready = true;
        self.used = now();
        let tls = self.tls_in_words().unwrap_or_else(|| "none".to_owned());
        let certificate = self.verdict.as_ref().map(ToString::to_string).unwrap_or_default();
        let (bidi, acks) = (self.bidi, self.outflow.has_acks());
        info!(stream = self.id(), direction = "out", remote = %pair.remote, local = %pair.local, peer = %self.peer, tls, by, bidi, acks, certificate, "connected to a server");
        let status = |from: &Pair, to_us: bool, by: &str| {
            let (ours, theirs) = (from.local.to_string(), from.remote.to_string());
            let (from, to) = if to_us { (theirs, ours) } else { (ours, theirs) };
            PairStatus { from, to, by: by.to_owned() }
        };
        let mut pairs = vec![status(&pair, false, by)];
        if self.bidi {
            pairs.push(status(&pair, true, self.verdict.as_ref().map_or("certificate", Verdict::by)));
        }
        self.handle.facts.lock().status.pairs = pairs;
        self.note_facts();
    }

    /// Why there is no stream, from how the attempt ended.
    pub(super) fn failure_of(&self, gone: Gone) -> Failure {
        let mut failure = gone.into_failure();
        if !failure.definite
            && let Some(opened) = &self.opened
        {
            failure.text = format!("{} ({}): {}", opened.pair.remote, self.peer, failure.text);
        }
        failure
    }
}
