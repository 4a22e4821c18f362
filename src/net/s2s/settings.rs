//! What the conf says of other servers, made ready.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use rookery_core::config::{Certificates, Conf, TlsMode};
use rookery_core::server::Server;
use rookery_xmpp::element::Element;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::limits::Limits;
use rookery_xmpp::ns;
use rookery_xmpp::sasl::{Decoy, Policy, Secret};
use rookery_xmpp::stream::{Config, Deadlines, Kind};
use rustls::pki_types::CertificateDer;

use super::identity::{self, KeyDigest, Role, Trust, Verdict};
use super::roots::Roots;
use crate::dns::Target;
use crate::patience::LAST_WORDS;
use crate::rate::{Rate, Rates};

/// What holds for streams that begin now.
pub(super) struct Settings {
    conf: Arc<Conf>,
    roots: Arc<Roots>,
    starttls: Arc<Config>,
    direct: Arc<Config>,
    /// For a stream that we open, and for one that need not be encrypted.
    calling: Arc<Config>,
    calling_plain: Arc<Config>,
    /// Until a peer is authenticated, its address counts.
    pub(super) rates: Rates,
    /// From then on its domain.
    pub(super) rate: Rate,
    exempt: Vec<IpNet>,
    pub(super) write_stall: Duration,
    pub(super) handshake: Duration,
    pub(super) idle: Duration,
    pub(super) keepalive: Duration,
    pub(super) connect: Duration,
    pub(super) retry: Duration,
    /// Streams that one domain may have open to us.
    pub(super) streams: usize,
    /// How long a stream without a connection may wait for it.
    pub(super) resume: Duration,
    stanza: usize,
    pre_auth: usize,
}

impl Settings {
    pub(super) fn new(server: &Server, roots: Arc<Roots>) -> Self {
        let conf = server.conf();
        let (limits, s2s) = (conf.limits(), conf.s2s());
        let authenticated = Limits {
            element_bytes: bytes(s2s.stanza.get()),
            depth: limits.depth.get(),
            elements: limits.elements.get(),
            attributes: limits.attributes.get(),
            namespaces: limits.namespaces.get(),
            name_bytes: bytes(limits.name.get()),
            ..Limits::s2s()
        };
        let config = Config {
            kind: Kind::S2s,
            starttls: true,
            require_tls: true,
            secured: false,
            policy: Policy::SERVERS,
            decoy: Decoy { secret: Secret::new(server.secret()), iterations: conf.server().scram_iterations.get() },
            auth_attempts: u8::try_from(limits.failed_auths.get()).unwrap_or(u8::MAX),
            pre_auth: Limits {
                element_bytes: bytes(limits.pre_auth_element.get()),
                stream_bytes: Some(bytes(limits.pre_auth_stream.get())),
                depth: limits.pre_auth_depth.get(),
                elements: limits.pre_auth_elements.get(),
                ..authenticated
            },
            limits: authenticated,
            deadlines: Deadlines {
                header: limits.stream_header.get(),
                handshake: limits.tls_handshake.get(),
                negotiation: limits.authentication.get(),
                closing: LAST_WORDS,
            },
        };
        let rate = Rate { per_second: bytes(s2s.rate.get()), burst: bytes(s2s.burst.get()) };
        Self {
            rates: Rates { connection: Rate::UNLIMITED, account: Rate::UNLIMITED, ..Rates::from(limits) },
            rate,
            exempt: limits.exempt.clone(),
            write_stall: limits.write_stall.get(),
            handshake: limits.tls_handshake.get(),
            idle: s2s.idle.get(),
            keepalive: s2s.keepalive.get(),
            connect: s2s.connect.get(),
            retry: s2s.retry.get(),
            streams: s2s.streams.len(),
            resume: limits.resume.get().min(s2s.wait.get()),
            stanza: s2s.stanza.get(),
            pre_auth: limits.pre_auth_element.get(),
            direct: Arc::new(Config { starttls: false, require_tls: false, secured: true, ..config.clone() }),
            calling_plain: Arc::new(Config { require_tls: false, ..config.clone() }),
            calling: Arc::new(config.clone()),
            starttls: Arc::new(config),
            roots,
            conf,
        }
    }

    /// For a stream that another server opens on such a port.
    pub(super) fn accepting(&self, mode: TlsMode) -> Arc<Config> {
        match mode {
            TlsMode::Starttls | TlsMode::Plain => self.starttls.clone(),
            TlsMode::Direct => self.direct.clone(),
        }
    }

    /// For a stream that we open to that domain.
    pub(super) fn calling(&self, remote: &BareJid) -> Arc<Config> {
        match self.certificates(remote) {
            Certificates::Plain => self.calling_plain.clone(),
            _ => self.calling.clone(),
        }
    }

    /// What a domain has to show.
    pub(super) fn certificates(&self, remote: &BareJid) -> Certificates {
        self.conf.certificates(remote.as_str())
    }

    /// Whether dialback stands in for a certificate of a domain that proves nothing.
    pub(super) fn allows_dialback(&self, remote: &BareJid) -> bool {
        matches!(self.certificates(remote), Certificates::Dialback | Certificates::Plain)
    }

    /// Whether a chain proves that domain of a server that we have called; `target` is where DNS has led us.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>], remote: &BareJid, target: Option<&Target>) -> Verdict {
        let pins = self.pins(remote);
        let trust = Trust::new(&self.roots, Role::Receiving).pinned(&pins);
        let trust = target.map_or(trust, |target| trust.found_at(target));
        identity::judge(chain, remote.as_str(), &trust, SystemTime::now())
    }

    /// Whether a chain proves that domain of a server that calls us; `found` is what DNS says of the domain's servers, or
    /// why its answer is not to be believed.
    pub(super) fn judge_caller(
        &self,
        chain: &[CertificateDer<'_>],
        remote: &BareJid,
        found: Result<&[Target], &str>,
    ) -> Verdict {
        let pins = self.pins(remote);
        let trust = Trust::new(&self.roots, Role::Initiating).pinned(&pins);
        identity::judge_caller(chain, remote.as_str(), &trust, found, SystemTime::now())
    }

    /// Whether the conf names the keys of a domain: then nothing else counts.
    pub(super) fn has_pins(&self, remote: &BareJid) -> bool {
        !self.conf.remote(remote.as_str()).pin.is_empty()
    }

    fn pins(&self, remote: &BareJid) -> Vec<KeyDigest> {
        self.conf.remote(remote.as_str()).pin.iter().map(|pin| pin.0).collect()
    }

    pub(super) fn is_exempt(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.exempt.iter().any(|range| range.contains(&address))
    }

    /// What is announced of the limits (XEP-0478), before a peer is authenticated and from then on.
    pub(super) fn limits(&self, authenticated: bool) -> Element {
        let most = if authenticated { self.stanza } else { self.pre_auth };
        let element = |name, value: String| Element::new(name, ns::STREAM_LIMITS).text(value);
        Element::new("limits", ns::STREAM_LIMITS)
            .child(element("max-bytes", most.to_string()))
            .child(element("idle-seconds", self.idle.as_secs().to_string()))
    }
}

/// What a peer has announced as the largest stanza that it takes; `within` holds its `<limits/>`.
pub(super) fn max_bytes(within: &Element) -> Option<usize> {
    let most = within.find("limits", ns::STREAM_LIMITS)?.find("max-bytes", ns::STREAM_LIMITS)?;
    most.content().trim_ascii().parse().ok().filter(|most| *most > 0)
}

/// The conf's bounds are far below 4 GiB.
fn bytes(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_limits_are_read() {
        let limits = |inside: &str| {
            let xml = format!(
                "<bidi xmlns='urn:xmpp:bidi'><limits xmlns='urn:xmpp:stream-limits:0'>{inside}</limits></bidi>"
            );
            max_bytes(&xml.parse().unwrap())
        };
        assert_eq!(limits("<max-bytes> 10000 </max-bytes><idle-seconds>5</idle-seconds>"), Some(10_000));
        for nothing in ["", "<idle-seconds>5</idle-seconds>", "<max-bytes>much</max-bytes>", "<max-bytes>0</max-bytes>"]
        {
            assert_eq!(limits(nothing), None, "{nothing}");
        }
        assert_eq!(max_bytes(&Element::new("bidi", ns::BIDI)), None);
    }
}
