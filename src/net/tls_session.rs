//! One TLS connection between slices, server's side or client's: no socket, no buffer while idle.
//!
//! rustls' buffered connection would keep 4 KiB for the next read; its unbuffered one works on our slices and keeps
//! nothing but keys and counters. What is left here between calls is the tail of an unfinished record. rustls has a
//! type for each side; `records` makes one of the two.

mod records;
#[cfg(test)]
mod tests;
mod words;

use std::mem;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, ProtocolVersion};

use crate::outgoing::OutgoingTls;
use crate::tls::{Entry, Handshake, Tls, TlsInfo};
use records::{Act, Progress, Step};

/// No record is longer, and no handshake message that a client without a certificate has reason to send.
pub(crate) const MAX_UNFINISHED: usize = 16 * 1024 + 2048 + 5;

/// The same while two servers shake hands: a chain of certificates comes in one message, and must fit into the
/// worker's buffer with room for a read behind it. Three certificates with the largest keys and signatures that are
/// in sight (ML-DSA-87, some 8 KiB each) fit well.
pub(crate) const MAX_HANDSHAKE: usize = 40 * 1024;

/// A TLS connection that cannot go on; what it owes the peer (an alert) is in `wire`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Protocol(#[from] rustls::Error),
    #[error("a handshake message is too long")]
    TooLong,
    #[error("not secured, or closed already")]
    NotOpen,
    #[error("the keys are used up")]
    Exhausted,
}

pub(crate) struct TlsSession {
    connection: Side,
    /// Bytes from the peer that are no whole record yet (or not looked at, right after the handshake).
    unfinished: Vec<u8>,
    /// Decrypted bytes that turned up while something was being written.
    early: Vec<u8>,
    /// The handshake's choices, while it lasts.
    handshake: Option<Arc<Handshake>>,
    info: Option<TlsInfo>,
    /// Input is left that the next read must look at before it asks the socket.
    more: bool,
    peer_closed: bool,
    /// An error ended it. rustls must then not be called again: it takes that for a bug, and panics.
    dead: bool,
}

/// Which of the two ends we are.
#[expect(clippy::large_enum_variant, reason = "nearly all are servers; a box would cost each of them an allocation")]
enum Side {
    Server(UnbufferedServerConnection),
    /// Boxed, so that the many connections of clients are not larger for the sake of the few to servers.
    Client(Box<UnbufferedClientConnection>),
}

impl Side {
    fn common(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }
}

impl TlsSession {
    /// The end that is connected to.
    pub(crate) fn new(tls: &Tls, entry: Entry) -> Result<Self, TlsError> {
        let (config, handshake) = tls.handshake(entry);
        Ok(Self::begin(Side::Server(UnbufferedServerConnection::new(config)?), handshake))
    }

    /// The end that connects, to another server. Its first words are in `wire` then.
    pub(crate) fn client(
        tls: &OutgoingTls,
        direct: bool,
        local: &str,
        remote: &str,
        wire: &mut Vec<u8>,
    ) -> Result<Self, TlsError> {
        let (config, name, handshake) = tls.handshake(direct, local, remote)?;
        let connection = UnbufferedClientConnection::new(config, name)?;
        let mut session = Self::begin(Side::Client(Box::new(connection)), handshake);
        session.receive(&mut [], wire, &mut |_| {})?;
        Ok(session)
    }

    fn begin(connection: Side, handshake: Arc<Handshake>) -> Self {
        Self {
            connection,
            unfinished: Vec::new(),
            early: Vec::new(),
            handshake: Some(handshake),
            info: None,
            more: false,
            peer_closed: false,
            dead: false,
        }
    }

    /// What the peer has shown of itself: its certificate first, as it sent them, unchecked but for the signature that
    /// proves that it has the key. Empty while the handshake lasts, and where none was asked for or shown.
    pub(crate) fn peer_chain(&self) -> &[CertificateDer<'static>] {
        match &self.info {
            Some(_) => self.connection.common().peer_certificates().unwrap_or_default(),
            None => &[],
        }
    }

    /// Once the handshake is done.
    pub(crate) fn info(&self) -> Option<&TlsInfo> {
        self.info.as_ref()
    }

    /// The peer said that nothing more will come.
    pub(crate) fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Something to deliver is here without the socket.
    pub(crate) fn has_more(&self) -> bool {
        self.more || !self.early.is_empty() || self.peer_closed
    }

    pub(crate) fn unfinished(&self) -> &[u8] {
        &self.unfinished
    }

    pub(crate) fn take_early(&mut self) -> Vec<u8> {
        mem::take(&mut self.early)
    }

    /// Takes what came: `input` is [`Self::unfinished`] and the socket's bytes behind it. Plaintext goes to `deliver`,
    /// answers to `wire`. Returns whether the handshake was completed just now; then no plaintext has been
    /// delivered yet, and the next call gets it.
    pub(crate) fn receive(
        &mut self,
        input: &mut [u8],
        wire: &mut Vec<u8>,
        deliver: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, TlsError> {
        self.more = false;
        let (used, secured) = self.advance(input, wire, deliver, None)?;
        let rest = input.get(used..).unwrap_or_default();
        if !secured && rest.len() > self.max_unfinished() {
            self.die();
            return Err(TlsError::TooLong);
        }
        if rest.is_empty() {
            self.unfinished = Vec::new();
        } else {
            self.unfinished.clear();
            self.unfinished.extend_from_slice(rest);
        }
        self.more = secured;
        Ok(secured)
    }

    fn max_unfinished(&self) -> usize {
        if self.handshake.as_ref().is_some_and(|handshake| handshake.is_between_servers()) {
            MAX_HANDSHAKE
        } else {
            MAX_UNFINISHED
        }
    }

    /// Encrypts `plain` to the end of `wire`.
    pub(crate) fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), TlsError> {
        self.when_open(wire, Act::Encrypt(plain))
    }

    /// Says that nothing more will be sent. Nothing happens while the handshake is not done.
    pub(crate) fn close(&mut self, wire: &mut Vec<u8>) -> Result<(), TlsError> {
        self.when_open(wire, Act::Close)
    }

    fn when_open(&mut self, wire: &mut Vec<u8>, act: Act<'_>) -> Result<(), TlsError> {
        if self.info.is_none() {
            return Err(TlsError::NotOpen);
        }
        // rustls may hold positions within the unfinished bytes: it must see the same ones again.
        let mut unfinished = mem::take(&mut self.unfinished);
        let mut early = mem::take(&mut self.early);
        let result = self.advance(&mut unfinished, wire, &mut |plain| early.extend_from_slice(plain), Some(act));
        self.early = early;
        let (used, _) = result?;
        if used > 0 {
            unfinished.drain(..used.min(unfinished.len()));
        }
        self.unfinished = unfinished;
        Ok(())
    }

    /// Nothing more goes in or out.
    fn die(&mut self) {
        self.dead = true;
        self.unfinished = Vec::new();
        self.early = Vec::new();
        self.handshake = None;
    }

    /// Lets rustls work until it wants more input. Returns how much of `input` it is done with, and whether the
    /// handshake was completed in this call. With `act`, the connection must be open and `act` is called once.
    fn advance(
        &mut self,
        input: &mut [u8],
        wire: &mut Vec<u8>,
        deliver: &mut dyn FnMut(&[u8]),
        act: Option<Act<'_>>,
    ) -> Result<(usize, bool), TlsError> {
        if self.dead {
            return Err(TlsError::NotOpen);
        }
        self.advance_living(input, wire, deliver, act).inspect_err(|_| self.die())
    }

    fn advance_living(
        &mut self,
        input: &mut [u8],
        wire: &mut Vec<u8>,
        deliver: &mut dyn FnMut(&[u8]),
        act: Option<Act<'_>>,
    ) -> Result<(usize, bool), TlsError> {
        let step = Step { input, wire, deliver, act, open: self.info.is_some(), peer_closed: &mut self.peer_closed };
        let progress = match &mut self.connection {
            Side::Server(connection) => step.run(connection),
            Side::Client(connection) => step.run(&mut **connection),
        };
        match progress {
            Ok(Progress { used, secured }) => {
                if secured {
                    self.settle()?;
                }
                Ok((used, secured))
            }
            Err(TlsError::Protocol(error)) => {
                let words = self.handshake.as_ref().and_then(|handshake| match handshake.refused() {
                    Some(why) => Some(why.to_owned()),
                    None => handshake.is_between_servers().then(|| words::of(&error)).flatten(),
                });
                Err(match words {
                    Some(why) => TlsError::Refused(why),
                    None => TlsError::Protocol(error),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// The handshake is done: keep what it settled, drop what it needed.
    fn settle(&mut self) -> Result<(), TlsError> {
        let handshake = self.handshake.take();
        let common = self.connection.common();
        let (Some(handshake), Some(version), Some(suite)) =
            (handshake, common.protocol_version(), common.negotiated_cipher_suite())
        else {
            return Err(TlsError::NotOpen);
        };
        let Some(certificate) = handshake.chosen().cloned() else {
            return Err(TlsError::NotOpen);
        };
        self.info = Some(TlsInfo {
            certificate,
            version,
            suite: suite.suite(),
            group: common.negotiated_key_exchange_group().map(|group| group.name()),
            resumed: common.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            exporter: (version == ProtocolVersion::TLSv1_3).then(|| handshake.exporter()).flatten(),
        });
        Ok(())
    }
}
