//! The byte layer of one connection, plain or TLS: what a driver reads from and writes to.
//!
//! It owns a socket, the keys, and no buffer while idle: reading and writing go through the worker's (`worker`); only
//! what the socket would not take, and the beginning of an unfinished TLS record, stay with the connection.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::outgoing::OutgoingTls;
use crate::tls::{Entry, Tls, TlsInfo};
use crate::tls_session::{TlsError, TlsSession};
use crate::worker::{Buffers, INPUT, with_buffers};

/// How long a connection may be silent before TCP asks whether the peer is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(300);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(60);

/// How long sent bytes may stay without TCP's acknowledgement: a phone in a tunnel comes back later than that, but on
/// a new connection, and resumes there.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// Bytes that the kernel holds at most beyond what is on its way to the peer. It would take megabytes for one that does not
/// read, and with stream management each of them is held here as well until it is acknowledged.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// While closing, so much of what the peer still sends is read and thrown away.
const DRAIN: usize = 256 * 1024;

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Nothing there: await [`Transport::readable`].
    Blocked,
    /// So many bytes were delivered; zero when TLS had business of its own. There may be more: read again, or await
    /// [`Transport::readable`], which then returns at once.
    Bytes(usize),
    /// The TLS handshake is done: [`Transport::tls`] has its results. Nothing was delivered yet.
    Secured,
    /// The peer ended its side in order: close_notify on TLS, FIN on plain TCP.
    Ended,
    /// TLS ended without close_notify: whoever cut the line may have cut the data.
    Cut,
}

/// Plaintext came behind `<starttls/>` or `<proceed/>`: it must not be read as if it had come through TLS (CVE-2011-0411).
#[derive(Debug, thiserror::Error)]
#[error("plaintext was sent where TLS had to begin")]
pub struct Pipelined;

/// A connection's bytes.
pub struct Transport {
    tcp: TcpStream,
    tls: Option<Box<TlsSession>>,
    /// Wire bytes that the socket has not taken, from `taken` on.
    unwritten: Vec<u8>,
    taken: usize,
    written: u64,
}

impl Transport {
    /// A plain connection, its socket options set.
    pub fn plain(tcp: TcpStream) -> io::Result<Self> {
        let socket = SockRef::from(&tcp);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(UNSENT)?;
        Ok(Self { tcp, tls: None, unwritten: Vec::new(), taken: 0, written: 0 })
    }

    /// A connection that begins with TLS (XEP-0368). Call [`Self::secure`] next.
    pub fn direct_tls(tcp: TcpStream, tls: &Tls) -> io::Result<Self> {
        let mut transport = Self::plain(tcp)?;
        transport.tls = Some(Box::new(TlsSession::new(tls, Entry::Direct).map_err(invalid)?));
        Ok(transport)
    }

    /// From here on the connection is TLS; `<proceed/>` has been written. `unread` is what was delivered behind
    /// `<starttls/>`: anything there is an attack or a broken client, and the connection must be closed.
    pub fn start_tls(&mut self, tls: &Tls, to: &str, unread: &[u8]) -> io::Result<()> {
        if !unread.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Pipelined));
        }
        if self.tls.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let entry = Entry::StartTls { to: to.into() };
        self.tls = Some(Box::new(TlsSession::new(tls, entry).map_err(invalid)?));
        Ok(())
    }

    /// A connection to another server that begins with TLS (XEP-0368), from `local`, a domain of ours, to `remote`, a
    /// domain of theirs. Call [`Self::secure`] next. Whose certificate it is ([`Self::peer_chain`]) must be judged
    /// then: any is taken here.
    pub fn direct_tls_client(tcp: TcpStream, tls: &OutgoingTls, local: &str, remote: &str) -> io::Result<Self> {
        let mut transport = Self::plain(tcp)?;
        transport.begin_tls_client(tls, true, local, remote)?;
        Ok(transport)
    }

    /// From here on the connection to another server is TLS; its `<proceed/>` has been read, and `unread` is what was
    /// delivered behind it: anything there is an attack, and the connection must be closed. Otherwise like
    /// [`Self::direct_tls_client`].
    pub fn start_tls_client(&mut self, tls: &OutgoingTls, local: &str, remote: &str, unread: &[u8]) -> io::Result<()> {
        if !unread.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Pipelined));
        }
        if self.tls.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.begin_tls_client(tls, false, local, remote)
    }

    fn begin_tls_client(&mut self, tls: &OutgoingTls, direct: bool, local: &str, remote: &str) -> io::Result<()> {
        with_buffers(|buffers| {
            let session = TlsSession::client(tls, direct, local, remote, &mut buffers.wire).map_err(invalid)?;
            self.tls = Some(Box::new(session));
            self.send(&buffers.wire)
        })
    }

    /// Awaits the end of the TLS handshake, at most for `patience`. An error's text says why it failed.
    pub async fn secure(&mut self, patience: Duration) -> io::Result<()> {
        self.handshake(patience, None).await
    }

    /// The same for those who come to us. Each step of a handshake takes the time of many messages, so it waits for a turn
    /// and for all else that is to be done now: a storm of logins slows itself down before those who are there.
    pub async fn secure_by_turns(&mut self, patience: Duration, turns: &Semaphore) -> io::Result<()> {
        self.handshake(patience, Some(turns)).await
    }

    async fn handshake(&mut self, patience: Duration, turns: Option<&Semaphore>) -> io::Result<()> {
        let handshake = async {
            loop {
                let turn = match turns {
                    Some(turns) => {
                        let turn = turns.acquire().await.map_err(io::Error::other)?;
                        // The runtime goes on with those who yield when it has nothing else to do.
                        tokio::task::yield_now().await;
                        Some(turn)
                    }
                    None => None,
                };
                let read = self.read(INPUT, |_| {})?;
                drop(turn);
                match read {
                    Read::Secured => break,
                    Read::Ended | Read::Cut => {
                        return Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "the peer went away during the TLS handshake",
                        ));
                    }
                    Read::Blocked | Read::Bytes(_) => {
                        self.readable_or_flushed().await?;
                    }
                }
            }
            self.flush().await
        };
        match tokio::time::timeout(patience, handshake).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")),
        }
    }

    /// How long sent bytes may stay without TCP's acknowledgement before the connection counts as broken.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        SockRef::from(&self.tcp).set_tcp_user_timeout(Some(patience))?;
        Ok(())
    }

    /// Ends the connection at once when it is dropped: what the kernel has not sent yet goes nowhere any more.
    pub fn cut(&self) {
        // Best effort: what is gone already cannot be cut off.
        let _ = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO));
    }

    /// Returns when [`Self::read`] may have something to say.
    pub async fn readable(&self) -> io::Result<()> {
        if self.tls.as_ref().is_some_and(|tls| tls.has_more()) {
            return Ok(());
        }
        self.tcp.readable().await
    }

    /// Reads once from the socket, at most `most` bytes and one worker buffer (64 KiB), and hands the (decrypted) bytes to
    /// `deliver` in one or more pieces. A TLS record is delivered whole, once its last byte is there.
    ///
    /// # Errors
    /// The socket's, and `InvalidData` for what TLS refuses; the alert for the peer has then been sent.
    pub fn read(&mut self, most: usize, mut deliver: impl FnMut(&[u8])) -> io::Result<Read> {
        with_buffers(|buffers| self.read_with(most, buffers, &mut deliver))
    }

    fn read_with(&mut self, most: usize, buffers: &mut Buffers, deliver: &mut dyn FnMut(&[u8])) -> io::Result<Read> {
        let Some(tls) = &mut self.tls else {
            return match receive(&self.tcp, most, &mut buffers.input)? {
                None => Ok(Read::Blocked),
                Some(0) => Ok(Read::Ended),
                Some(count) => {
                    deliver(buffers.input.get(..count).unwrap_or_default());
                    Ok(Read::Bytes(count))
                }
            };
        };

        let early = tls.take_early();
        if !early.is_empty() {
            deliver(&early);
            return Ok(Read::Bytes(early.len()));
        }
        if tls.peer_closed() {
            return Ok(Read::Ended);
        }
        let kept = tls.unfinished().len();
        let (before, room) = buffers.input.split_at_mut_checked(kept).ok_or_else(|| invalid(TlsError::TooLong))?;
        before.copy_from_slice(tls.unfinished());
        let count = if tls.has_more() {
            0
        } else {
            match receive(&self.tcp, most, room)? {
                None => return Ok(Read::Blocked),
                Some(0) => return Ok(Read::Cut),
                Some(count) => count,
            }
        };

        let input = buffers.input.get_mut(..kept + count).unwrap_or_default();
        let mut delivered = 0;
        let result = tls.receive(input, &mut buffers.wire, &mut |plain| {
            delivered += plain.len();
            deliver(plain);
        });
        let ended = delivered == 0 && tls.peer_closed();
        let sent = self.send(&buffers.wire);
        match result {
            Ok(true) => sent.map(|()| Read::Secured),
            Ok(false) if ended => Ok(Read::Ended),
            Ok(false) => sent.map(|()| Read::Bytes(delivered)),
            // The alert has been tried; a socket that takes no more does not hide the reason.
            Err(error) => Err(invalid(error)),
        }
    }

    /// Sends `bytes`: encrypts them, offers them to the socket in one call, and keeps what it does not take.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        with_buffers(|buffers| match &mut self.tls {
            None => self.send(bytes),
            Some(tls) => {
                tls.send(bytes, &mut buffers.wire).map_err(invalid)?;
                self.send(&buffers.wire)
            }
        })
    }

    /// Like [`Self::write`] with what `fill` puts into one of the worker's buffers: one call for all that is queued.
    pub fn write_with(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        with_buffers(|buffers| {
            fill(&mut buffers.plain);
            match &mut self.tls {
                None => self.send(&buffers.plain),
                Some(tls) => {
                    tls.send(&buffers.plain, &mut buffers.wire).map_err(invalid)?;
                    self.send(&buffers.wire)
                }
            }
        })
    }

    /// Whether the socket has taken everything that was written.
    pub fn is_flushed(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// How many wire bytes the socket has not taken yet.
    pub fn unwritten(&self) -> usize {
        self.unwritten.len() - self.taken
    }

    /// How many wire bytes the socket has taken so far: stands still while the peer does not read.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Offers the socket what it has not taken yet, until it has taken all. Safe to drop at any await.
    pub async fn flush(&mut self) -> io::Result<()> {
        loop {
            self.offer()?;
            if self.is_flushed() {
                return Ok(());
            }
            self.tcp.writable().await?;
        }
    }

    /// Returns when the socket may take more: call [`Self::offer`] then.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Returns `true` when [`Self::read`] may have something to say, if `listens`; `false` when the socket may take more of
    /// what waits. One future for both, since each connection has it.
    pub async fn ready(&self, listens: bool) -> io::Result<bool> {
        if listens && self.tls.as_ref().is_some_and(|tls| tls.has_more()) {
            return Ok(true);
        }
        let interest = match (listens, self.is_flushed()) {
            (true, true) => Interest::READABLE,
            (true, false) => Interest::READABLE | Interest::WRITABLE,
            (false, _) => Interest::WRITABLE,
        };
        Ok(self.tcp.ready(interest).await?.is_readable())
    }

    /// What the TLS handshake settled; `None` on a plain connection and before its end.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_ref()?.info()
    }

    /// The certificates that the other server has shown, its own first; as it sent them, proven to be held, believed by
    /// nobody yet: see [`crate::s2s::identity::judge`]. Empty if it has none, and for clients, who are not asked.
    pub fn peer_chain(&self) -> &[CertificateDer<'static>] {
        self.tls.as_ref().map_or(&[], |tls| tls.peer_chain())
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    /// Ends the connection in order: close_notify, what is unwritten, FIN; then awaits the peer's end, so that a reset
    /// does not take the last words from it. All of it within `patience`; then drop it.
    pub async fn close(&mut self, patience: Duration) {
        let closing = async {
            self.say_goodbye()?;
            self.flush().await?;
            self.tcp.shutdown().await?;
            let mut drained = 0;
            while drained < DRAIN {
                self.tcp.readable().await?;
                match with_buffers(|buffers| receive(&self.tcp, INPUT, &mut buffers.input))? {
                    Some(0) => break,
                    Some(count) => drained += count,
                    None => {}
                }
            }
            Ok::<(), io::Error>(())
        };
        // Nobody is left to be told that closing failed.
        let _ = tokio::time::timeout(patience, closing).await;
    }

    fn say_goodbye(&mut self) -> io::Result<()> {
        with_buffers(|buffers| {
            if let Some(tls) = &mut self.tls {
                // Before the end of the handshake there is nothing to say.
                let _ = tls.close(&mut buffers.wire);
            }
            self.send(&buffers.wire)
        })
    }

    async fn readable_or_flushed(&mut self) -> io::Result<()> {
        if self.is_flushed() {
            return self.readable().await;
        }
        let ready = self.tcp.ready(Interest::READABLE | Interest::WRITABLE).await?;
        if ready.is_writable() {
            self.offer()?;
        }
        Ok(())
    }

    /// Wire bytes to the socket, behind those that wait.
    fn send(&mut self, wire: &[u8]) -> io::Result<()> {
        if wire.is_empty() {
            return Ok(());
        }
        if !self.is_flushed() {
            if self.taken > self.unwritten.len() / 2 {
                self.unwritten.drain(..self.taken);
                self.taken = 0;
            }
            self.unwritten.extend_from_slice(wire);
            return self.offer();
        }
        let taken = match self.tcp.try_write(wire) {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.written += taken as u64;
        self.unwritten.extend_from_slice(wire.get(taken..).unwrap_or_default());
        Ok(())
    }

    /// Offers the socket what it has not taken yet. Free if there is nothing.
    pub fn offer(&mut self) -> io::Result<()> {
        while self.taken < self.unwritten.len() {
            match self.tcp.try_write(self.unwritten.get(self.taken..).unwrap_or_default()) {
                Ok(count) => {
                    self.taken += count;
                    self.written += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.unwritten = Vec::new();
        self.taken = 0;
        Ok(())
    }
}

/// Reads once without waiting; `None`: nothing there.
///
/// A read that does not fill `room` has emptied the socket. Telling tokio so within the same call (its own reads do
/// it as well) spares the second read that would only find that out.
fn receive(tcp: &TcpStream, most: usize, room: &mut [u8]) -> io::Result<Option<usize>> {
    // Nothing read is the end.
    let most = most.clamp(1, room.len().max(1));
    let room = room.get_mut(..most).unwrap_or_default();
    let mut count = None;
    let result = tcp.try_io(Interest::READABLE, || {
        let got = (&*SockRef::from(tcp)).read(room)?;
        count = Some(got);
        if got > 0 && got < room.len() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    match result {
        Ok(()) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(count),
        Err(error) => Err(error),
    }
}

fn invalid(error: TlsError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
