//! What a check has found, as data: in words it is the binary's.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use rookery_core::config::Certificates;
use rookery_xmpp::error::StreamError;
use rustls::pki_types::CertificateDer;

use super::verdict::Denial;
use crate::dns::{Finding, LookupError, TlsMode};
use crate::s2s::identity::Verdict;

/// All that a check has found.
#[derive(Debug)]
pub struct Report {
    /// Our domain, in whose name was asked.
    pub local: String,
    /// The domain that was looked at.
    pub remote: String,
    /// What our clock says.
    pub now: SystemTime,
    /// Whether the conf has federation on.
    pub enabled: bool,
    /// Whether the conf has a port for other servers.
    pub has_port: bool,
    /// Why the conf keeps us from the domain, if it does. Then nobody was asked anything.
    pub denial: Option<Denial>,
    /// What the domain has to show, by the conf.
    pub certificates: Certificates,
    /// Whether the conf names the domain's keys, one of which it has to have.
    pub has_pins: bool,
    /// Our own certificate as others see it; `None` if we have none yet.
    pub own: Option<Own>,
    /// Why our own certificate cannot be read, if that is so.
    pub own_trouble: Option<String>,
    /// What DNS says.
    pub lookup: Lookup,
    /// What became of each address.
    pub attempts: Vec<Attempt>,
}

impl Report {
    /// Whether it is a domain of ours that was looked at.
    pub fn is_own(&self) -> bool {
        self.local == self.remote
    }
}

/// What asking DNS came to.
#[derive(Debug)]
pub enum Lookup {
    /// DNS was not asked.
    Skipped,
    /// Servers.
    Found(Finding),
    /// None.
    Failed(LookupError),
}

/// Our own certificate.
#[derive(Debug)]
pub struct Own {
    /// What others find who judge it as we judge theirs.
    pub judgement: Verdict,
    /// When it begins.
    pub begins: SystemTime,
    /// When it ends.
    pub ends: SystemTime,
}

/// One address and port, tried one way, as far as it went.
#[derive(Debug)]
pub struct Attempt {
    /// Which of the servers that were found, by its place.
    pub target: usize,
    /// The address.
    pub address: SocketAddr,
    /// How TLS begins there.
    pub mode: TlsMode,
    /// How long connecting took.
    pub connected: Option<Duration>,
    /// What the stream said before TLS.
    pub plain: Option<Greeting>,
    /// What the handshake showed.
    pub secured: Option<Secured>,
    /// What the certificate is worth that was shown.
    pub judgement: Option<Verdict>,
    /// Whether that is the very certificate which we have for this domain, if it is a domain of ours.
    pub is_ours: Option<bool>,
    /// What the stream said inside TLS.
    pub secret: Option<Greeting>,
    /// Why it went no further; `None` at the goal.
    pub stop: Option<Stop>,
}

impl Attempt {
    pub(super) const fn new(target: usize, address: SocketAddr, mode: TlsMode) -> Self {
        Self {
            target,
            address,
            mode,
            connected: None,
            plain: None,
            secured: None,
            judgement: None,
            is_ours: None,
            secret: None,
            stop: None,
        }
    }

    /// How far it came; more is further.
    pub(super) fn progress(&self) -> u8 {
        let plain = self.plain.as_ref().map_or(0, |greeting| 1 + u8::from(greeting.version.is_some()));
        [self.connected.is_some(), self.secured.is_some(), self.secret.is_some(), self.stop.is_none()]
            .into_iter()
            .fold(plain, |sum, done| sum + 4 * u8::from(done))
    }
}

/// What a stream header and its features say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// Who it says it is.
    pub from: Option<String>,
    /// The version of XMPP.
    pub version: Option<String>,
    /// Whether TLS can be begun on it.
    pub starttls: Starttls,
    /// Whether it offers SASL EXTERNAL (XEP-0178).
    pub has_external: bool,
    /// Whether it does dialback (XEP-0220).
    pub has_dialback: bool,
    /// Whether one stream may serve both ways (XEP-0288).
    pub has_bidi: bool,
    /// Whether it does stream management (XEP-0198).
    pub has_resumption: bool,
}

/// What a stream says of STARTTLS.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Starttls {
    /// It does not offer it.
    #[default]
    None,
    /// It may be used.
    Offered,
    /// It must be used.
    Required,
}

/// What a TLS handshake showed.
#[derive(Debug)]
pub struct Secured {
    /// `"TLS 1.3"` or `"TLS 1.2"`.
    pub version: &'static str,
    /// The certificate and those sent with it.
    pub chain: Vec<CertificateDer<'static>>,
    /// From when to when the certificate is good.
    pub dates: Option<(SystemTime, SystemTime)>,
    /// Whether our certificate was asked for.
    pub asked_for_ours: bool,
    /// How long it took.
    pub took: Duration,
}

/// Where a conversation was when it came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The stream header is due.
    Header,
    /// The features.
    Features,
    /// The answer to `<starttls/>`.
    Proceed,
    /// The stream header inside TLS.
    SecretHeader,
    /// The features inside TLS.
    SecretFeatures,
}

/// What the bytes are that came instead of what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// HTTP.
    Http,
    /// TLS, where plain text was due.
    Tls,
    /// XML that is no stream of XMPP where one was due; also a stream where TLS was due.
    Xml,
    /// Something else.
    Other,
}

impl Speech {
    /// Says by its first bytes what it is; `None` if there are none.
    pub(super) fn of(first: &[u8]) -> Option<Self> {
        let text = first.trim_ascii_start();
        match text.first()? {
            _ if text.starts_with(b"HTTP/") => Some(Self::Http),
            _ if text
                .get(..5)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"<html") || start.eq_ignore_ascii_case(b"<!doc")) =>
            {
                Some(Self::Http)
            }
            b'<' => Some(Self::Xml),
            // A record of TLS: its kind (an alert, a handshake), and version 3.
            0x15 | 0x16 if text.get(1).is_none_or(|major| *major == 3) => Some(Self::Tls),
            _ => Some(Self::Other),
        }
    }
}

/// Why an attempt went no further.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// The address says that nobody listens on the port.
    Refused,
    /// The address does not answer at all.
    NoAnswer,
    /// There is no way to the address.
    NoRoute,
    /// The system has another reason.
    NotConnected(String),
    /// The connection is there, and nothing comes.
    Silent(Stage),
    /// Something has come, and then no more, though it is not complete.
    Stalled(Stage),
    /// The other side hung up.
    Ended(Stage),
    /// The connection failed.
    Broken(Stage, String),
    /// What came is not XMPP.
    NotXmpp(Speech),
    /// What came before authentication is larger than anybody needs.
    Excessive(Stage),
    /// The other side ended the stream with an error.
    StreamError(StreamError),
    /// The stream has no version 1.0, hence no features.
    OldStream,
    /// STARTTLS is not offered.
    NoStarttls,
    /// STARTTLS was offered and then refused.
    StarttlsRefused,
    /// Nothing came in the handshake.
    TlsSilent,
    /// Nothing came in the handshake until it was begun with less bytes.
    HelloSwallowed,
    /// Something came in the handshake, and then no more.
    TlsStalled {
        /// So many bytes.
        bytes: usize,
    },
    /// The other side hung up in the handshake.
    TlsEnded,
    /// Neither TLS 1.2 nor 1.3.
    TlsOld,
    /// No TLS at all.
    TlsNotSpoken(Speech),
    /// The other side refused, with this alert of RFC 8446 section 6.
    TlsAlert(String),
    /// Another reason.
    TlsFailed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_by_their_first_bytes() {
        for (first, speech) in [
            (&b""[..], None),
            (b"  \r\n", None),
            (b"HTTP/1.0 400", Some(Speech::Http)),
            (b"\n<!DOCTYPE html>", Some(Speech::Http)),
            (b"<HTML>", Some(Speech::Http)),
            (b"<?xml version='1.0'?>", Some(Speech::Xml)),
            (b"<", Some(Speech::Xml)),
            (b"\x15\x03\x01", Some(Speech::Tls)),
            (b"\x16", Some(Speech::Tls)),
            (b"\x16\x01", Some(Speech::Other)),
            (b"SSH-2.0", Some(Speech::Other)),
            (b"\xff", Some(Speech::Other)),
        ] {
            assert_eq!(Speech::of(first), speech, "{first:?}");
        }
    }
}
