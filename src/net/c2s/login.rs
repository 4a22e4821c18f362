//! The way from a connection to a session: what the stream asks of the server until a resource is bound.
//!
//! Guessing passwords is slowed down here (`throttle`): an attempt waits for its turn in its own task, and holds nobody
//! up but itself.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rookery_core::module::{PreAuthCall, When};
use rookery_core::session::{Session, StreamInfo};
use rookery_xmpp::error::{Condition, SaslCondition, StanzaError, StreamCondition};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::sasl::{ChannelBindings, Mechanism, Secret};
use rookery_xmpp::stanza::{Kind, Stanza};
use rookery_xmpp::stream::{self, Phase, Stream, TlsInfo};
use rustls::ProtocolVersion;
use tracing::{debug, info, warn};

use super::driver::{Attached, Driver, Gone};
use crate::patience::now;

impl Driver {
    pub(super) fn open(&mut self, opened: &stream::Opened) {
        let server = &self.common.server;
        let Some(host) = server.host(opened.to.as_str()) else {
            return self.stream.handle_host(Err(StreamCondition::HostUnknown.into()));
        };
        let secured = self.stream.is_secured();
        let features = match opened.phase {
            // Nothing is told to those who have not encrypted yet.
            Phase::BeforeTls => Vec::new(),
            Phase::BeforeAuth => host.stream_features(server, When::BeforeAuth, secured),
            Phase::AfterAuth => host.stream_features(server, When::BeforeBind, secured),
        };
        // Where nobody may register, a query for it is answered so (XEP-0077 §3.1), but it is not offered.
        let register = secured;
        self.host = Some(host);
        self.stream.handle_host(Ok(stream::Host { features, external: Vec::new(), register, plain: false }));
    }

    pub(super) async fn start_tls(&mut self) -> Result<(), Gone> {
        self.transmit_stream()?;
        let to = self.host.as_ref().map(|host| host.domain.to_string()).unwrap_or_default();
        let mut ending = self.connection.ending.clone();
        tokio::select! {
            secured = self.connection.start_tls(&to, self.intake.unread()) => secured?,
            () = ending.begun() => return Err(io::Error::other("the server ends").into()),
        }
        let bindings = self.connection.transport.tls().map(bindings).unwrap_or_default();
        self.stream.handle_tls(now(), TlsInfo { bindings });
        Ok(())
    }

    pub(super) async fn look_up(&mut self, user: BareJid, expensive: bool) -> Result<(), Gone> {
        if !self.is_exempt && !self.wait_for_turn(&user).await {
            return Ok(());
        }
        let keys = self.common.server.credentials(&user).await.map_err(|error| {
            warn!(stream = self.id, %error, "cannot look up an account");
            if !self.is_exempt {
                self.common.throttle.undecided(self.connection.peer.ip(), user.as_str(), now());
            }
        });
        if !expensive {
            self.stream.handle_keys(now(), keys);
            return Ok(());
        }
        let _turn = self.common.hashing.clone().acquire_owned().await;
        let settings = self.settings.clone();
        let placeholder = Box::new(Stream::receiving(settings.plain.clone(), now()));
        let mut stream = mem::replace(&mut self.stream, placeholder);
        let hashed = tokio::task::spawn_blocking(move || {
            stream.handle_keys(now(), keys);
            stream
        });
        self.stream = hashed.await.map_err(io::Error::other)?;
        Ok(())
    }

    /// An attempt to authenticate waits until it is its turn. `false` when the stream has its answer already.
    async fn wait_for_turn(&mut self, user: &BareJid) -> bool {
        let (now, counters) = (now(), &self.common.counters);
        let turn = self.common.throttle.attempt(self.connection.peer.ip(), user.as_str(), self.settings.auth, now);
        let Ok(at) = turn else {
            counters.auth_refused.fetch_add(1, Ordering::Relaxed);
            self.stream.handle_keys(now, Err(()));
            return false;
        };
        if at <= now {
            return true;
        }
        counters.auth_delayed.fetch_add(1, Ordering::Relaxed);
        debug!(%user, wait = ?at - now, "too many attempts to authenticate: this one waits");
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => true,
            () = self.connection.ending.begun() => {
                self.stream.close(now, Some(StreamCondition::SystemShutdown.into()));
                false
            }
        }
    }

    pub(super) fn authenticated(&mut self, user: BareJid, mechanism: Mechanism) {
        let (stream, peer) = (self.id, self.connection.peer);
        info!(stream, %peer, jid = %user, mechanism = mechanism.name(), tls = self.tls_version(), "logged in");
        self.common.counters.authenticated.fetch_add(1, Ordering::Relaxed);
        if !self.is_exempt {
            self.common.throttle.succeeded(peer.ip(), user.as_str());
        }
        self.meter.set_account(&self.common.buckets, &user);
        self.user = Some(user);
        self.connection.unauthenticated = None;
    }

    pub(super) fn auth_failed(&self, user: Option<&BareJid>, mechanism: Option<Mechanism>, condition: SaslCondition) {
        let (stream, peer) = (self.id, self.connection.peer);
        let jid = user.map_or("", |user| user.as_str());
        let mechanism = mechanism.map_or("", Mechanism::name);
        info!(stream, %peer, jid, mechanism, reason = %condition, "authentication failed");
        self.common.counters.auth_failed.fetch_add(1, Ordering::Relaxed);
    }

    fn tls_version(&self) -> &'static str {
        match self.connection.transport.tls().map(|info| info.version()) {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            Some(_) => "1.2",
            None => "none",
        }
    }

    pub(super) async fn pre_auth(&mut self, stanza: Stanza) -> Result<(), Gone> {
        let (Some(host), Kind::Iq(kind), Some(payload)) =
            (self.host.clone(), stanza.head.kind, stanza.payload().cloned())
        else {
            return Ok(());
        };
        let call = PreAuthCall {
            server: self.common.server.clone(),
            host,
            secured: self.stream.is_secured(),
            peer: self.connection.peer.ip(),
            kind,
            payload,
        };
        let reply = match self.common.server.pre_auth_iq(call).await {
            Some(Ok(payload)) => Some(stanza.result(payload)),
            Some(Err(error)) => stanza.error_reply(&error),
            None => stanza.error_reply(&StanzaError::new(Condition::ServiceUnavailable)),
        };
        self.transmit_stream()?;
        if let Some(reply) = reply {
            self.connection.transport.write_with(|out| reply.write(out, None))?;
        }
        Ok(())
    }

    pub(super) async fn bind(&mut self, resource: Option<String>) -> Result<(), Gone> {
        let Some(user) = self.user.clone() else { return Ok(()) };
        let info = StreamInfo { id: self.id, peer: self.connection.peer.ip(), secured: self.stream.is_secured() };
        match self.common.server.bind(&user, resource.as_deref(), info).await {
            Ok(session) => {
                debug!(jid = %session.jid, "bound");
                self.stream.handle_bind(Ok(session.jid.clone()));
                let number = session.connection();
                self.attach(session, number);
            }
            Err(error) => self.stream.handle_bind(Err(error)),
        }
        Ok(())
    }

    /// From here on the connection is the session's.
    pub(super) fn attach(&mut self, session: Arc<Session>, number: u64) {
        // Who came after the sessions were told that the server ends is told here.
        if self.connection.ending.has_begun() {
            session.suspend();
        }
        // What the negotiation was timed by: most sessions need none for long.
        self.alarm.clear();
        self.attached = Some(Attached::new(session, number));
    }
}

pub(super) fn bindings(info: &crate::tls::TlsInfo) -> ChannelBindings {
    ChannelBindings {
        exporter: info.tls_exporter().map(Secret::new),
        end_point: info.tls_server_end_point().map(Secret::new),
    }
}
