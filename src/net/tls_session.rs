//! One TLS connection's server side, between slices: no socket, no buffer while idle.
//!
//! rustls' buffered connection would keep 4 KiB for the next read; its unbuffered one works on our slices and keeps
//! nothing but keys and counters. What is left here between calls is the tail of an unfinished record.

#[cfg(test)]
mod tests;

use std::mem;
use std::sync::Arc;

use rustls::ProtocolVersion;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};

use crate::tls::{Entry, Handshake, Tls, TlsInfo};

/// No record is longer, and no handshake message that a client without a certificate has reason to send.
pub(crate) const MAX_UNFINISHED: usize = 16 * 1024 + 2048 + 5;

/// A record carries at most this much; around it go header, nonce, padding and tag.
const RECORD: usize = 16 * 1024;
const RECORD_OVERHEAD: usize = 64;

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
    connection: UnbufferedServerConnection,
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

impl TlsSession {
    pub(crate) fn new(tls: &Tls, entry: Entry) -> Result<Self, TlsError> {
        let (config, handshake) = tls.handshake(entry);
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            unfinished: Vec::new(),
            early: Vec::new(),
            handshake: Some(handshake),
            info: None,
            more: false,
            peer_closed: false,
            dead: false,
        })
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
        if !secured && rest.len() > MAX_UNFINISHED {
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

    /// Encrypts `plain` to the end of `wire`.
    pub(crate) fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), TlsError> {
        let overhead = (plain.len() / RECORD + 2) * RECORD_OVERHEAD;
        self.when_open(wire, &mut |traffic, wire| {
            append(wire, plain.len() + overhead, |room| traffic.encrypt(plain, room))
        })
    }

    /// Says that nothing more will be sent. Nothing happens while the handshake is not done.
    pub(crate) fn close(&mut self, wire: &mut Vec<u8>) -> Result<(), TlsError> {
        self.when_open(wire, &mut |traffic, wire| {
            append(wire, RECORD_OVERHEAD, |room| traffic.queue_close_notify(room))
        })
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
        mut act: Option<Act<'_>>,
    ) -> Result<(usize, bool), TlsError> {
        let mut used = 0;
        loop {
            let slice = input.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(slice);
            let go_on = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(wire, 0, |room| data.encode(room))?;
                    true
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    true
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) if self.info.is_some() => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        deliver(record.payload);
                    }
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_closed = true;
                    true
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    if let Some(act) = act.take() {
                        act(&mut traffic, wire)?;
                    }
                    false
                }
                Ok(_) => false,
                Err(error) => {
                    self.encode_alert(input.get_mut(used + discard..).unwrap_or_default(), wire);
                    let refused = self.handshake.as_ref().and_then(|handshake| handshake.refused());
                    return Err(match refused {
                        Some(why) => TlsError::Refused(why.to_owned()),
                        None => error.into(),
                    });
                }
            };
            used += discard;
            if self.info.is_none() && !self.connection.is_handshaking() {
                self.settle()?;
                return Ok((used, true));
            }
            if !go_on {
                return match act {
                    Some(_) => Err(TlsError::NotOpen),
                    None => Ok((used, false)),
                };
            }
        }
    }

    /// The handshake is done: keep what it settled, drop what it needed.
    fn settle(&mut self) -> Result<(), TlsError> {
        let handshake = self.handshake.take();
        let (Some(handshake), Some(version), Some(suite)) =
            (handshake, self.connection.protocol_version(), self.connection.negotiated_cipher_suite())
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
            group: self.connection.negotiated_key_exchange_group().map(|group| group.name()),
            resumed: self.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            exporter: (version == ProtocolVersion::TLSv1_3).then(|| handshake.exporter()).flatten(),
        });
        Ok(())
    }

    fn encode_alert(&mut self, rest: &mut [u8], wire: &mut Vec<u8>) {
        while self.connection.wants_write() {
            let status = self.connection.process_tls_records(rest);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state else {
                return;
            };
            if append(wire, 0, |room| data.encode(room)).is_err() {
                return;
            }
        }
    }
}

type Act<'a> = &'a mut dyn FnMut(
    &mut WriteTraffic<'_, rustls::server::ServerConnectionData>,
    &mut Vec<u8>,
) -> Result<(), TlsError>;

/// Why one of rustls' writers could not write.
trait NoRoom {
    fn required(&self) -> Option<usize>;
}

impl NoRoom for EncodeError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl NoRoom for EncryptError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Lets `write` put bytes behind those in `wire`, with `guess` bytes of room, or as many as it then says it needs.
fn append<E: NoRoom>(
    wire: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), TlsError> {
    let start = wire.len();
    let mut room = guess;
    for _ in 0..2 {
        wire.resize(start + room, 0);
        match write(wire.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                wire.truncate(start + written);
                return Ok(());
            }
            Err(error) => match error.required() {
                Some(required) => room = required,
                None => break,
            },
        }
    }
    wire.truncate(start);
    Err(TlsError::Exhausted)
}
