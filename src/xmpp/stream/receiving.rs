//! The receiving entity's side of the negotiation.

use std::time::Instant;

use crate::{
    element::Element,
    error::{Condition, SaslCondition, SaslError, StanzaError, StreamCondition, StreamError},
    header::StreamHeader,
    jid::{BareJid, FullJid, Jid},
    ns,
    parser::Parsed,
    sasl::{self, Credentials, Exchange, Offer},
    stanza::{IqType, Kind as StanzaKind, Stanza},
};

use super::{
    END, Ending, Outcome, Step, Stream,
    config::Kind,
    event::{Event, Host, Opened},
    header::{Header, check_initial, random_id},
    same_bare,
};

impl Stream {
    pub(super) fn check_initial_header(&mut self, header: StreamHeader) -> Outcome {
        self.id = random_id();
        if self.id.is_none() {
            return Err(StreamCondition::InternalServerError.into());
        }
        let checked = check_initial(&header, self.config.kind)?;
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        // Between servers, both ends go by the domains of the first header: the certificate is chosen by the one and judged
        // for the other.
        let is_other = |last: &Option<BareJid>, next: &BareJid| last.as_ref().is_some_and(|last| last != next);
        if self.config.kind == Kind::S2s && is_other(&negotiation.host, &checked.to) {
            return Err(
                StreamError::new(StreamCondition::NotAuthorized).with_text("The stream was begun with another host.")
            );
        }
        if let Some(identity) = &negotiation.identity {
            // Who is authenticated at one host is nobody at another.
            if negotiation.host.as_ref() != Some(&checked.to) {
                return Err(StreamError::new(StreamCondition::NotAuthorized)
                    .with_text("The stream was authenticated for another host."));
            }
            if checked.from.as_ref().is_some_and(|from| !same_bare(from, identity)) {
                return Err(StreamCondition::InvalidFrom.into());
            }
        }
        let opened = Opened {
            to: checked.to.clone(),
            from: checked.from.clone(),
            lang: header.lang.clone(),
            phase: negotiation.phase(&self.config),
            is_old: checked.old,
            identity: negotiation.identity.clone(),
        };
        negotiation.host = Some(checked.to);
        negotiation.from = checked.from;
        negotiation.old = checked.old;
        self.declare(header);
        self.event = Some(Event::Opened(Box::new(opened)));
        self.proceed_to(Step::Host);
        Ok(())
    }

    /// Our header, with as much as is known of the peer's.
    pub(super) fn send_response_header(&mut self) {
        if self.id.is_none() {
            self.id = random_id();
        }
        let negotiation = self.negotiation.as_ref();
        let from = negotiation.and_then(|negotiation| negotiation.host.as_ref());
        let to = negotiation.and_then(|negotiation| negotiation.from.as_ref());
        Header {
            kind: self.config.kind,
            id: self.id.as_deref(),
            from: from.map(|jid| jid.as_str()),
            to: to.map(|jid| jid.as_str()),
            old: negotiation.is_some_and(|negotiation| negotiation.old),
        }
        .write(&mut self.out);
        self.header_sent = true;
    }

    pub(super) fn offer_features(&mut self, host: Host) -> Outcome {
        // A component has a secret and no features.
        if self.config.kind == Kind::Component {
            return Err(StreamCondition::InternalServerError.into());
        }
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        negotiation.register = host.register;
        negotiation.plain = host.plain && self.config.kind == Kind::S2s;
        let old = negotiation.old;
        if old && !negotiation.plain {
            return Err(StreamError::new(StreamCondition::UnsupportedVersion)
                .with_text("XMPP 1.0 is needed: the stream header has no version."));
        }
        negotiation.offer = if negotiation.lacks_tls(&self.config) {
            Offer::default()
        } else {
            let bindings = negotiation.bindings.clone();
            Offer::new(self.config.policy, negotiation.secured, bindings, host.external)
        };
        let authenticated = negotiation.identity.is_some();
        let own = negotiation.features(&self.config);
        self.send_response_header();
        if !old {
            self.write(&Element::new("features", ns::STREAMS).children(own).children(host.features));
        }
        match (authenticated, self.config.kind) {
            (false, _) => self.proceed_to(Step::Features),
            (true, Kind::C2s) => self.proceed_to(Step::Bind),
            (true, Kind::S2s | Kind::Component) => self.open(),
        }
        Ok(())
    }

    /// STARTTLS, SASL, registration, dialback: all that a stranger may ask for.
    pub(super) fn handle_before_auth(&mut self, now: Instant, parsed: Parsed, more: bool) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        let lacks_tls = negotiation.lacks_tls(&self.config);
        match parsed {
            Parsed::Nonza(element) if element.is("starttls", ns::TLS) => {
                let possible = self.config.starttls && !negotiation.secured;
                self.start_tls(now, possible, more)
            }
            Parsed::Nonza(element) if element.is("auth", ns::SASL) => {
                if lacks_tls {
                    return self.fail_sasl(SaslCondition::EncryptionRequired.into());
                }
                self.begin_sasl(now, &element)
            }
            Parsed::Nonza(element) if element.ns() == ns::SASL => {
                self.fail_sasl(SaslCondition::MalformedRequest.into())
            }
            Parsed::Nonza(element)
                if matches!(element.ns(), ns::DIALBACK | ns::BIDI) && self.config.kind == Kind::S2s && !lacks_tls =>
            {
                self.event = Some(Event::Nonza(element));
                Ok(())
            }
            Parsed::Stanza(stanza) if negotiation.register && !lacks_tls && is_registration(&stanza) => {
                self.event = Some(Event::PreAuthIq(stanza));
                Ok(())
            }
            _ if lacks_tls => Err(StreamError::new(StreamCondition::PolicyViolation)
                .with_text("Nothing but STARTTLS is allowed before encryption.")),
            Parsed::Nonza(element) => self.refuse_before_auth(&element),
            _ => Err(StreamCondition::NotAuthorized.into()),
        }
    }

    /// Ends the stream of a stranger who asks for what is not for strangers. XEP-0198 §3 and §6 have an answer of their own
    /// for that, which goes before.
    fn refuse_before_auth(&mut self, element: &Element) -> Outcome {
        if element.is("enable", ns::SM) || element.is("resume", ns::SM) {
            let condition = Element::new(Condition::UnexpectedRequest.name(), ns::STANZAS);
            self.write(&Element::new("failed", ns::SM).child(condition));
        }
        Err(StreamCondition::NotAuthorized.into())
    }

    fn start_tls(&mut self, now: Instant, possible: bool, more: bool) -> Outcome {
        if !possible {
            self.out.extend_from_slice(b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
            self.out.extend_from_slice(END);
            self.end(Ending::ByUs(None));
            return Ok(());
        }
        // What came in the clear behind <starttls/> must not be taken for what comes inside TLS.
        if more || !self.framer.is_idle() {
            return Err(StreamError::new(StreamCondition::PolicyViolation)
                .with_text("Data behind <starttls/> before encryption."));
        }
        self.out.extend_from_slice(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        self.event = Some(Event::StartTls);
        self.proceed_to(Step::Handshake);
        self.deadline = Some(now + self.config.deadlines.handshake);
        Ok(())
    }

    fn begin_sasl(&mut self, now: Instant, auth: &Element) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        let host = negotiation.host.clone().ok_or(StreamCondition::HostUnknown)?;
        negotiation.user = None;
        let mechanism = auth.get("mechanism").unwrap_or_default();
        let step = Exchange::new(&negotiation.offer, &host, mechanism).and_then(|mut exchange| {
            let initial = sasl::decode_initial(&auth.content())?;
            let step = exchange.respond(initial.as_deref());
            negotiation.exchange = Some(exchange);
            step
        });
        self.advance_sasl(now, step)
    }

    pub(super) fn handle_sasl_response(&mut self, now: Instant, parsed: Parsed) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        let Parsed::Nonza(element) = parsed else {
            return Err(StreamCondition::NotAuthorized.into());
        };
        if element.is("response", ns::SASL) {
            let step = sasl::decode(&element.content()).and_then(|message| match &mut negotiation.exchange {
                Some(exchange) => exchange.respond(Some(&message)),
                None => Err(SaslCondition::MalformedRequest.into()),
            });
            self.advance_sasl(now, step)
        } else if element.is("abort", ns::SASL) {
            self.fail_sasl(SaslCondition::Aborted.into())
        } else if element.ns() == ns::SASL {
            self.fail_sasl(SaslCondition::MalformedRequest.into())
        } else {
            self.refuse_before_auth(&element)
        }
    }

    pub(super) fn continue_sasl(&mut self, now: Instant, answer: Result<Option<Credentials>, ()>) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        let step = match (answer, &mut negotiation.exchange) {
            (Ok(keys), Some(exchange)) => exchange.keys(keys, &self.config.decoy),
            _ => Err(SaslCondition::TemporaryAuthFailure.into()),
        };
        self.advance_sasl(now, step)
    }

    fn advance_sasl(&mut self, now: Instant, step: Result<sasl::Step, SaslError>) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        match step {
            Ok(sasl::Step::Challenge(data)) => {
                self.write(&Element::new("challenge", ns::SASL).text(sasl::encode(&data)));
                self.proceed_to(Step::Response);
                Ok(())
            }
            Ok(sasl::Step::NeedKeys(user)) => {
                negotiation.user = Some(user.clone());
                let expensive = negotiation.exchange.as_ref().is_some_and(Exchange::is_expensive);
                self.event = Some(Event::LookUp { user, expensive });
                self.proceed_to(Step::Keys);
                Ok(())
            }
            Ok(sasl::Step::Success { identity, data }) => self.succeed_sasl(now, identity, data),
            Err(error) => self.fail_sasl(error),
        }
    }

    fn succeed_sasl(&mut self, now: Instant, identity: Jid, data: Option<Vec<u8>>) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        let exchange = negotiation.exchange.take().ok_or(StreamCondition::InternalServerError)?;
        negotiation.identity = Some(identity.clone());
        negotiation.offer = Offer::default();
        negotiation.register = false;
        let data = data.map(|data| sasl::encode(&data)).unwrap_or_default();
        self.write(&Element::new("success", ns::SASL).text(data));
        self.event = Some(Event::Authenticated { identity, mechanism: exchange.mechanism() });
        self.framer.set_limits(self.config.limits);
        self.restart(now);
        Ok(())
    }

    fn fail_sasl(&mut self, error: SaslError) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        let exchange = negotiation.exchange.take();
        negotiation.failures = negotiation.failures.saturating_add(1);
        let too_many = negotiation.failures >= self.config.auth_attempts;
        let user = negotiation.user.take();
        self.write(&error.to_element());
        self.event = Some(Event::AuthFailed {
            user,
            mechanism: exchange.map(|exchange| exchange.mechanism()),
            condition: error.condition,
        });
        self.proceed_to(Step::Features);
        if too_many {
            return Err(StreamError::new(StreamCondition::PolicyViolation)
                .with_text("Too many failed attempts to authenticate."));
        }
        Ok(())
    }

    /// An account's stream before it has a resource (RFC 6120, section 7.1).
    pub(super) fn handle_before_bind(&mut self, parsed: Parsed) -> Outcome {
        match parsed {
            Parsed::Stanza(stanza) if is_bind(&stanza) => {
                let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
                negotiation.bind_id = stanza.head.id.clone().unwrap_or_default();
                let resource = stanza
                    .payload()
                    .and_then(|bind| bind.find("resource", ns::BIND))
                    .map(Element::content)
                    .filter(|resource| !resource.is_empty());
                self.event = Some(Event::Bind { resource });
                self.proceed_to(Step::Resource);
                Ok(())
            }
            Parsed::Nonza(element) => {
                self.event = Some(Event::Nonza(element));
                Ok(())
            }
            Parsed::Stanza(_) | Parsed::Invalid { .. } => Err(StreamError::new(StreamCondition::NotAuthorized)
                .with_text("No stanza may be sent before a resource is bound.")),
        }
    }

    pub(super) fn finish_bind(&mut self, answer: Result<FullJid, StanzaError>) {
        let Some(negotiation) = &mut self.negotiation else {
            return;
        };
        let id = std::mem::take(&mut negotiation.bind_id);
        match answer {
            Ok(jid) => {
                let bound = Element::new("bind", ns::BIND).child(Element::new("jid", ns::BIND).text(jid.as_str()));
                Stanza::iq(IqType::Result, id).child(bound).write(&mut self.out, None);
                self.open();
            }
            Err(error) => {
                let request = Stanza::iq(IqType::Set, id).child(Element::new("bind", ns::BIND));
                if let Some(reply) = request.error_reply(&error) {
                    reply.write(&mut self.out, None);
                }
                self.proceed_to(Step::Bind);
            }
        }
    }
}

fn is_bind(stanza: &Stanza) -> bool {
    stanza.head.kind == StanzaKind::Iq(IqType::Set) && stanza.payload_name() == Some((ns::BIND, "bind"))
}

fn is_registration(stanza: &Stanza) -> bool {
    matches!(stanza.head.kind, StanzaKind::Iq(IqType::Get | IqType::Set))
        && stanza.payload_name() == Some((ns::REGISTER, "query"))
}
