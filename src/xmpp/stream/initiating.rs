//! The initiating entity's side of the negotiation: a client that logs in, or a server up to the
//! point where it has to prove itself.

use std::{sync::Arc, time::Instant};

use crate::{
    element::Element,
    error::{SaslError, StreamCondition, StreamError},
    header::StreamHeader,
    jid::{FullJid, Jid},
    ns,
    parser::Parsed,
    sasl::{self, ClientError, ClientExchange, Login, Mechanism, Server},
    stanza::{IqType, Kind as StanzaKind, Stanza},
};

use super::{
    END, Ending, Outcome, State, Step, Stream,
    config::{Binding, Kind, Peer, Role},
    event::Event,
    header::{Header, check_response},
};

const BIND_ID: &str = "bind";

impl Stream {
    /// For a server that was offered EXTERNAL in [`Event::Features`]: authenticates as the `from`
    /// of its header, by the certificate it showed (XEP-0178).
    pub fn authenticate_external(&mut self) {
        let Some(negotiation) = self.negotiation.as_mut() else {
            return;
        };
        let Role::Initiating(peer) = &negotiation.role else {
            return;
        };
        if self.state != State::Negotiating(Step::Choose) || negotiation.identity.is_some() {
            return;
        }
        let from = peer.from.as_ref().map(|from| sasl::encode(from.bare_str().as_bytes()));
        let auth = Element::new("auth", ns::SASL)
            .attr("mechanism", Mechanism::External.name())
            .text(from.unwrap_or_else(|| "=".to_owned()));
        self.write(&auth);
        self.proceed_to(Step::AwaitSasl);
    }

    /// For a client with [`Binding::Later`]: asks for a resource.
    pub fn bind(&mut self, resource: Option<&str>) {
        if self.state == State::Negotiating(Step::Choose) && self.config.kind == Kind::C2s {
            let resource = resource.map(|resource| Element::new("resource", ns::BIND).text(resource));
            Stanza::iq(IqType::Set, BIND_ID)
                .child(Element::new("bind", ns::BIND).children(resource))
                .write(&mut self.out, None);
            self.proceed_to(Step::AwaitBound);
        }
    }

    pub(super) fn send_initial_header(&mut self) {
        let Some(negotiation) = &self.negotiation else {
            return;
        };
        let Role::Initiating(peer) = &negotiation.role else {
            return;
        };
        // A client does not name itself in the clear (RFC 6120, section 4.7.1).
        let from = peer.from.as_ref().filter(|_| negotiation.secured || self.config.kind == Kind::S2s);
        Header {
            kind: self.config.kind,
            to: Some(peer.to.as_str()),
            from: from.map(|from| from.bare_str()),
            id: None,
            old: false,
        }
        .write(&mut self.out);
        self.header_sent = true;
    }

    pub(super) fn check_response_header(&mut self, header: StreamHeader) -> Outcome {
        let old = check_response(&header, self.config.kind)?;
        self.id = header.id.clone();
        self.declare(header);
        if !old {
            self.proceed_to(Step::AwaitFeatures);
            return Ok(());
        }
        let lacks_tls = self.negotiation.as_ref().is_none_or(|negotiation| negotiation.lacks_tls(&self.config));
        if lacks_tls {
            return Err(StreamError::new(StreamCondition::UnsupportedVersion)
                .with_text("The server speaks no XMPP 1.0, and the stream cannot be encrypted."));
        }
        // Its features never come: dialback is all it knows.
        self.event = Some(Event::Features(Element::new("features", ns::STREAMS)));
        self.proceed_to(Step::Choose);
        Ok(())
    }

    pub(super) fn handle_reply(&mut self, now: Instant, step: Step, parsed: Parsed, more: bool) -> Outcome {
        match (step, parsed) {
            (Step::AwaitFeatures, Parsed::Nonza(element)) if element.is("features", ns::STREAMS) => {
                self.read_features(element)
            }
            (Step::AwaitProceed, Parsed::Nonza(element)) if element.is("proceed", ns::TLS) => {
                if more || !self.framer.is_idle() {
                    return Err(StreamCondition::PolicyViolation.into());
                }
                self.event = Some(Event::StartTls);
                self.proceed_to(Step::Handshake);
                self.deadline = Some(now + self.config.deadlines.handshake);
                Ok(())
            }
            (Step::AwaitSasl, Parsed::Nonza(element)) if element.ns() == ns::SASL => self.read_sasl(now, &element),
            (Step::AwaitBound, Parsed::Stanza(stanza)) if stanza.head.id.as_deref() == Some(BIND_ID) => {
                self.read_bound(&stanza)
            }
            (Step::Choose, Parsed::Nonza(element)) => {
                self.event = Some(Event::Nonza(element));
                Ok(())
            }
            _ => Err(StreamCondition::UnsupportedStanzaType.into()),
        }
    }

    fn read_features(&mut self, features: Element) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        let Role::Initiating(peer) = &negotiation.role else {
            return Err(StreamCondition::BadFormat.into());
        };
        let peer = Arc::clone(peer);
        if !negotiation.secured && self.config.starttls && features.find("starttls", ns::TLS).is_some() {
            self.out.extend_from_slice(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
            self.proceed_to(Step::AwaitProceed);
            return Ok(());
        }
        if negotiation.lacks_tls(&self.config) {
            return Err(StreamError::new(StreamCondition::PolicyViolation).with_text("The stream cannot be encrypted."));
        }
        if negotiation.identity.is_none() {
            return match &peer.login {
                Some(login) => self.begin_login(login.clone(), &features),
                None => {
                    self.event = Some(Event::Features(features));
                    self.proceed_to(Step::Choose);
                    Ok(())
                }
            };
        }
        self.proceed_to(Step::Choose);
        match (self.config.kind, &peer.binding) {
            // Components connect to us, and never we to them.
            (Kind::S2s | Kind::Component, _) => {
                self.open();
                self.event = Some(Event::Features(features));
            }
            (Kind::C2s, Binding::Later) => self.event = Some(Event::Features(features)),
            (Kind::C2s, Binding::Any) => self.bind(None),
            (Kind::C2s, Binding::Resource(resource)) => self.bind(Some(resource)),
        }
        Ok(())
    }

    fn begin_login(&mut self, login: Login, features: &Element) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        let server = read_server(features);
        match ClientExchange::new(login, server, negotiation.secured, &negotiation.bindings) {
            Ok(mut exchange) => {
                let initial = exchange.initial();
                let text = if initial.is_empty() { "=".to_owned() } else { sasl::encode(&initial) };
                let auth = Element::new("auth", ns::SASL).attr("mechanism", exchange.mechanism().name()).text(text);
                negotiation.client = Some(exchange);
                self.write(&auth);
                self.proceed_to(Step::AwaitSasl);
            }
            Err(error) => self.give_up(error),
        }
        Ok(())
    }

    fn read_sasl(&mut self, now: Instant, element: &Element) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        let data = sasl::decode(&element.content());
        match element.name() {
            "challenge" => {
                let answer = match (&mut negotiation.client, data) {
                    (Some(exchange), Ok(data)) => exchange.challenge(&data),
                    _ => Err(ClientError::Malformed),
                };
                match answer {
                    Ok(answer) => {
                        let response = Element::new("response", ns::SASL);
                        self.write(&response.text(sasl::encode(&answer)));
                    }
                    Err(error) => {
                        self.out.extend_from_slice(b"<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
                        self.give_up(error);
                    }
                }
                Ok(())
            }
            "success" => self.read_success(now, data.unwrap_or_default()),
            _ => {
                let error = SaslError::from_element(element).ok_or(StreamCondition::BadFormat)?;
                self.event = Some(Event::AuthFailed {
                    user: None,
                    mechanism: negotiation.client.as_ref().map(ClientExchange::mechanism),
                    condition: error.condition,
                });
                // A server may go on to prove itself by dialback.
                if self.config.kind == Kind::S2s {
                    self.proceed_to(Step::Choose);
                } else {
                    self.out.extend_from_slice(END);
                    self.end(Ending::ByUs(None));
                }
                Ok(())
            }
        }
    }

    fn read_success(&mut self, now: Instant, data: Vec<u8>) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        let Role::Initiating(peer) = &negotiation.role else {
            return Err(StreamCondition::BadFormat.into());
        };
        let mut mechanism = Mechanism::External;
        if let Some(exchange) = negotiation.client.take() {
            mechanism = exchange.mechanism();
            let data = (!data.is_empty()).then_some(data);
            if let Err(error) = exchange.success(data.as_deref()) {
                self.give_up(error);
                return Ok(());
            }
        }
        let Some(identity) = who_we_are(peer) else {
            return Err(StreamCondition::InternalServerError.into());
        };
        negotiation.identity = Some(identity.clone());
        self.event = Some(Event::Authenticated { identity, mechanism });
        self.restart(now);
        Ok(())
    }

    fn read_bound(&mut self, stanza: &Stanza) -> Outcome {
        let jid = stanza
            .payload()
            .filter(|_| stanza.head.kind == StanzaKind::Iq(IqType::Result))
            .and_then(|bind| bind.find("jid", ns::BIND))
            .and_then(|jid| FullJid::new(&jid.content()).ok());
        match jid {
            Some(jid) => {
                self.open();
                self.event = Some(Event::Bound(jid));
                Ok(())
            }
            None => {
                Err(StreamError::new(StreamCondition::UndefinedCondition).with_text("The server gave us no resource."))
            }
        }
    }

    fn give_up(&mut self, error: ClientError) {
        self.out.extend_from_slice(END);
        self.end(Ending::Login(error));
    }
}

fn who_we_are(peer: &Peer) -> Option<Jid> {
    match &peer.login {
        Some(login) => Jid::from_parts(Some(&login.user), peer.to.domainpart(), None).ok(),
        None => peer.from.clone(),
    }
}

fn read_server(features: &Element) -> Server {
    let children = |name, ns| features.find(name, ns).into_iter().flat_map(Element::elements);
    Server {
        mechanisms: children("mechanisms", ns::SASL)
            .filter(|child| child.is("mechanism", ns::SASL))
            .map(Element::content)
            .collect(),
        binding_types: children("sasl-channel-binding", ns::SASL_CB)
            .filter_map(|child| child.get("type").map(str::to_owned))
            .collect(),
    }
}
