//! The connection of a check: bytes in both directions, plain or inside TLS, and what exactly was seen when it fails.
//!
//! The server's own transport says that a handshake failed, which is all that it needs. Who asks here wants to know how: an
//! alert, another protocol, a version of TLS that is too old, or a silence after so many bytes. So the check drives rustls
//! itself, and takes any certificate: the judgement is `identity`'s, afterwards.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, NamedGroup, PeerIncompatible, ProtocolVersion,
    SignatureScheme,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::report::{Speech, Stop};
use crate::dns::TlsMode;
use crate::peer_certificate::AnyCertificate;
use crate::tls::ALPN_SERVER;

/// Read at once.
const PIECE: usize = 16 * 1024;

/// So much of what came is looked at to say what language it is.
const SAMPLE: usize = 64;

/// A connection to a server that is looked at.
pub(super) struct Wire {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

/// What a handshake showed.
pub(super) struct Handshake {
    /// `"TLS 1.3"`.
    pub(super) version: &'static str,
    /// The certificate and what was sent with it.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whether the other side has asked for our certificate.
    pub(super) asked_for_ours: bool,
}

impl Wire {
    pub(super) const fn new(tcp: TcpStream) -> Self {
        Self { tcp, tls: None }
    }

    /// Reads once, behind what is in `into`; 0 is the end.
    pub(super) async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let mut piece = [0; PIECE];
        loop {
            if let Some(tls) = &mut self.tls {
                let waiting = tls.process_new_packets().map_err(io::Error::other)?;
                if waiting.plaintext_bytes_to_read() > 0 {
                    let mut plain = io::Read::take(tls.reader(), PIECE as u64);
                    return match io::Read::read_to_end(&mut plain, into) {
                        // The reader blocks where more may come later.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            Ok(waiting.plaintext_bytes_to_read())
                        }
                        other => other,
                    };
                }
                if waiting.peer_has_closed() {
                    return Ok(0);
                }
            }
            let count = self.tcp.read(&mut piece).await?;
            let mut came = piece.get(..count).unwrap_or_default();
            match &mut self.tls {
                _ if count == 0 => return Ok(0),
                None => {
                    into.extend_from_slice(came);
                    return Ok(count);
                }
                Some(tls) => {
                    while !came.is_empty() {
                        tls.read_tls(&mut came)?;
                        tls.process_new_packets().map_err(io::Error::other)?;
                    }
                }
            }
        }
    }

    /// Sends all of it.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return self.tcp.write_all(bytes).await;
        };
        io::Write::write_all(&mut tls.writer(), bytes)?;
        flush(tls, &mut self.tcp).await
    }

    /// Does the TLS handshake. `unread` is what had come before it and belongs to it.
    pub(super) async fn secure(
        &mut self,
        asking: &Asking,
        mode: TlsMode,
        small: bool,
        unread: &[u8],
        until: Instant,
    ) -> Result<Handshake, Stop> {
        let was_asked = Arc::new(AtomicBool::new(false));
        let mut tls =
            asking.connection(mode, small, was_asked.clone()).map_err(|error| Stop::TlsFailed(error.to_string()))?;
        let mut sample = Sample::default();
        let result = timeout_at(until, shake(&mut tls, &mut self.tcp, unread, &mut sample)).await;
        match result {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Err(failure.explain(&sample)),
            Err(_) if sample.count == 0 => return Err(Stop::TlsSilent),
            Err(_) => return Err(Stop::TlsStalled { bytes: sample.count }),
        }
        let handshake = Handshake {
            version: match tls.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
                _ => "TLS 1.2",
            },
            chain: tls.peer_certificates().unwrap_or_default().iter().map(|one| one.clone().into_owned()).collect(),
            asked_for_ours: was_asked.load(Ordering::Relaxed),
        };
        self.tls = Some(Box::new(tls));
        Ok(handshake)
    }

    /// Ends the conversation as is polite. What the other side says to that is not awaited.
    pub(super) async fn end(&mut self, patience: Duration) {
        let farewell = async {
            self.write(b"</stream:stream>").await?;
            if let Some(tls) = &mut self.tls {
                tls.send_close_notify();
                flush(tls, &mut self.tcp).await?;
            }
            self.tcp.shutdown().await
        };
        // Whoever is gone already needs no farewell.
        drop(tokio::time::timeout(patience, farewell).await);
    }
}

/// The first bytes of an answer, and how many there were.
#[derive(Default)]
struct Sample {
    first: Vec<u8>,
    count: usize,
}

impl Sample {
    fn take(&mut self, bytes: &[u8]) {
        self.count += bytes.len();
        let room = SAMPLE.saturating_sub(self.first.len());
        self.first.extend(bytes.iter().take(room));
    }
}

enum Failure {
    Tls(Error),
    Io(io::Error),
    Ended,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Failure {
    fn explain(self, sample: &Sample) -> Stop {
        match (self, Speech::of(&sample.first)) {
            // TLS says only that this is none.
            (Self::Tls(Error::InvalidMessage(_)), Some(speech)) if speech != Speech::Tls => Stop::TlsNotSpoken(speech),
            (
                Self::Tls(
                    Error::AlertReceived(AlertDescription::ProtocolVersion)
                    | Error::PeerIncompatible(
                        PeerIncompatible::ServerDoesNotSupportTls12Or13
                        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
                    ),
                ),
                _,
            ) => Stop::TlsOld,
            (Self::Tls(Error::AlertReceived(alert)), _) => Stop::TlsAlert(alert_name(alert)),
            (Self::Tls(error), _) => Stop::TlsFailed(error.to_string()),
            (Self::Ended, _) => Stop::TlsEnded,
            (Self::Io(error), _) if is_end(&error) => Stop::TlsEnded,
            (Self::Io(error), _) => Stop::TlsFailed(error.to_string()),
        }
    }
}

/// The name that RFC 8446 section 6 has for an alert.
fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    for char in format!("{alert:?}").chars() {
        if char.is_ascii_uppercase() && name.ends_with(|last: char| last.is_ascii_lowercase()) {
            name.push('_');
        }
        name.push(char);
    }
    name.make_ascii_lowercase();
    // rustls spells it as in Britain.
    name.replace("unrecognised", "unrecognized")
}

/// The alert that ended TLS after the handshake, if an error is about that: TLS 1.3 refuses our certificate so late.
pub(super) fn alert(error: &io::Error) -> Option<Stop> {
    match error.get_ref()?.downcast_ref()? {
        Error::AlertReceived(alert) => Some(Stop::TlsAlert(alert_name(*alert))),
        _ => None,
    }
}

/// Whether an error says that the other side has hung up.
pub(super) fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted | UnexpectedEof)
}

async fn flush(tls: &mut ClientConnection, tcp: &mut TcpStream) -> io::Result<()> {
    let mut wire = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut wire)?;
    }
    if wire.is_empty() { Ok(()) } else { tcp.write_all(&wire).await }
}

async fn shake(
    tls: &mut ClientConnection,
    tcp: &mut TcpStream,
    unread: &[u8],
    sample: &mut Sample,
) -> Result<(), Failure> {
    let mut piece = [0; PIECE];
    let mut came = unread.to_vec();
    loop {
        sample.take(&came);
        let mut rest = came.as_slice();
        while !rest.is_empty() {
            tls.read_tls(&mut rest)?;
            if let Err(error) = tls.process_new_packets() {
                // The alert that says why; whether it arrives does not matter here.
                drop(flush(tls, tcp).await);
                return Err(Failure::Tls(error));
            }
        }
        flush(tls, tcp).await?;
        if !tls.is_handshaking() {
            return Ok(());
        }
        let count = tcp.read(&mut piece).await?;
        if count == 0 {
            return Err(Failure::Ended);
        }
        came.clear();
        came.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
}

/// What all handshakes of one check have in common.
pub(super) struct Asking {
    provider: Arc<CryptoProvider>,
    name: ServerName<'static>,
    ours: Option<Arc<CertifiedKey>>,
}

impl Asking {
    /// `domain` in ASCII form is what is asked for; `ours` is shown when the other side asks.
    pub(super) fn new(domain: &str, ours: Option<Arc<CertifiedKey>>) -> Option<Self> {
        let name = ServerName::try_from(domain.to_owned()).ok()?;
        Some(Self { provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()), name, ours })
    }

    /// `small`: without the post-quantum key exchange, whose shares make the first message larger than a packet.
    fn connection(&self, mode: TlsMode, small: bool, was_asked: Arc<AtomicBool>) -> Result<ClientConnection, Error> {
        let mut provider = CryptoProvider::clone(&self.provider);
        if small {
            provider.kx_groups.retain(|group| group.name() != NamedGroup::X25519MLKEM768);
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(&self.provider)))
            .with_client_cert_resolver(Arc::new(Ours { key: self.ours.clone(), was_asked }));
        config.resumption = rustls::client::Resumption::disabled();
        if mode == TlsMode::Direct {
            config.alpn_protocols = vec![ALPN_SERVER.to_vec()];
        }
        ClientConnection::new(Arc::new(config), self.name.clone())
    }
}

/// Our certificate, and whether somebody wanted it.
#[derive(Debug)]
struct Ours {
    key: Option<Arc<CertifiedKey>>,
    was_asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Ours {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    /// Yes in any case: otherwise nobody says that we were asked.
    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_called_as_in_the_rfc() {
        for (alert, name) in [
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::UnrecognisedName, "unrecognized_name"),
            (AlertDescription::CertificateRequired, "certificate_required"),
            (AlertDescription::ProtocolVersion, "protocol_version"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }
}
