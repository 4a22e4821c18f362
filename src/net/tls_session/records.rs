//! What rustls wants of us after each input, the same for both of its kinds of connection.
//!
//! Its two unbuffered connections share no trait; [`Records`] is the one that they would need here.

use rustls::CommonState;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};

use super::TlsError;

/// A record carries at most this much; around it go header, nonce, padding and tag.
const RECORD: usize = 16 * 1024;
const RECORD_OVERHEAD: usize = 64;

/// A connection of rustls, whichever end it is.
pub(super) trait Records {
    /// What sets its states apart from the other's.
    type Data;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn common(&self) -> &CommonState;
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

/// What is to be written once rustls has done its own.
pub(super) enum Act<'a> {
    Encrypt(&'a [u8]),
    Close,
}

impl Act<'_> {
    fn carry_out<D>(self, traffic: &mut WriteTraffic<'_, D>, wire: &mut Vec<u8>) -> Result<(), TlsError> {
        match self {
            Self::Encrypt(plain) => {
                let overhead = (plain.len() / RECORD + 2) * RECORD_OVERHEAD;
                append(wire, plain.len() + overhead, |room| traffic.encrypt(plain, room))
            }
            Self::Close => append(wire, RECORD_OVERHEAD, |room| traffic.queue_close_notify(room)),
        }
    }
}

/// How far it came.
pub(super) struct Progress {
    /// So much of the input rustls is done with.
    pub(super) used: usize,
    /// The handshake was completed.
    pub(super) secured: bool,
}

/// One call's worth of work.
pub(super) struct Step<'a> {
    pub(super) input: &'a mut [u8],
    /// Gets what goes to the peer.
    pub(super) wire: &'a mut Vec<u8>,
    /// Gets plaintext, if `open`.
    pub(super) deliver: &'a mut dyn FnMut(&[u8]),
    /// To be done once; the connection must be open.
    pub(super) act: Option<Act<'a>>,
    /// The handshake was over before.
    pub(super) open: bool,
    pub(super) peer_closed: &'a mut bool,
}

impl Step<'_> {
    /// Lets rustls work until it wants more input, or has just completed the handshake.
    pub(super) fn run<C: Records>(self, connection: &mut C) -> Result<Progress, TlsError> {
        let Step { input, wire, deliver, mut act, open, peer_closed } = self;
        let mut used = 0;
        loop {
            let slice = input.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = connection.process(slice);
            let go_on = match state {
                // Even when the handshake is over with it, its last words go first.
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(wire, 0, |room| data.encode(room))?;
                    used += discard;
                    continue;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    used += discard;
                    continue;
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) if open => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        deliver(record.payload);
                    }
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    *peer_closed = true;
                    true
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    if let Some(act) = act.take() {
                        act.carry_out(&mut traffic, wire)?;
                    }
                    false
                }
                Ok(_) => false,
                Err(error) => {
                    encode_alert(connection, input.get_mut(used + discard..).unwrap_or_default(), wire);
                    return Err(error.into());
                }
            };
            used += discard;
            if !open && !connection.common().is_handshaking() {
                return Ok(Progress { used, secured: true });
            }
            if !go_on {
                return match act {
                    Some(_) => Err(TlsError::NotOpen),
                    None => Ok(Progress { used, secured: false }),
                };
            }
        }
    }
}

fn encode_alert<C: Records>(connection: &mut C, rest: &mut [u8], wire: &mut Vec<u8>) {
    while connection.common().wants_write() {
        let status = connection.process(rest);
        let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state else {
            return;
        };
        if append(wire, 0, |room| data.encode(room)).is_err() {
            return;
        }
    }
}

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
