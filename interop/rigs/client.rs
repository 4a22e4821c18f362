//! A cheap XMPP client (RFC 6120, XEP-0198): prebuilt bytes out, whole elements in, nothing in between. Writes go out while
//! reading, so that a client never deadlocks with a server that stops reading until it was read.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::sasl::{Exchange, Mechanism};
use crate::scanner::{Kind, Scanner, Token};
use crate::{Failure, sm, tls, within, xml};

/// How long connecting and logging in may take.
pub const LOGIN: Duration = Duration::from_secs(30);

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// Not at all.
    Plain,
    /// STARTTLS.
    Starttls,
    /// TLS from the first byte.
    Direct,
}

/// Where to connect, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// The listener.
    pub address: SocketAddr,
    /// What it speaks.
    pub transport: Transport,
    /// The XMPP domain.
    pub domain: String,
    /// The address to connect from; the kernel's choice otherwise.
    pub source: Option<IpAddr>,
    /// The mechanism; the strongest that is offered otherwise.
    pub mechanism: Option<Mechanism>,
    /// The kernel's buffer for what we do not read, in bytes; its own choice otherwise.
    pub receive_buffer: Option<u32>,
    /// Nobody logs in there, nothing is bound, nothing answered but the header: see [`crate::relay`].
    pub bare: bool,
}

/// What `<enabled/>` said.
#[derive(Debug, Clone)]
pub struct Enabled {
    /// The id to resume with, when the server allows it.
    pub id: Option<String>,
    /// For how many seconds at most.
    pub max: Option<u64>,
}

/// What `<resume/>` led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumption {
    /// The session goes on; the server has handled this many stanzas.
    Resumed(u32),
    /// It does not, for this reason; perhaps with the number of stanzas that the server had handled.
    Failed(String, Option<u32>),
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection with its stream.
pub struct Connection {
    io: Io,
    scanner: Scanner,
    out: Vec<u8>,
    written: usize,
    unflushed: bool,
    target: Target,
    /// The features the server announced last.
    pub features: Vec<u8>,
    /// The full JID, once bound.
    pub jid: String,
    /// Messages and presences that came while something else was expected.
    pub early: Vec<Vec<u8>>,
}

impl Connection {
    /// Connects, and performs the handshake where TLS comes first; sends no stream header yet.
    pub async fn open(target: &Target) -> Result<Self, Failure> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = target.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        if let Some(size) = target.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        let tcp = socket.connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let io = match target.transport {
            Transport::Direct => Io::Tls(Box::new(tls::connect(tcp, &target.domain).await?)),
            _ => Io::Plain(tcp),
        };
        Ok(Self {
            io,
            scanner: Scanner::default(),
            out: Vec::new(),
            written: 0,
            unflushed: false,
            target: target.clone(),
            features: Vec::new(),
            jid: String::new(),
            early: Vec::new(),
        })
    }

    /// Connects, secures the stream and authenticates: what comes next is binding or resuming.
    pub async fn log_in(target: &Target, user: &str, password: &str) -> Result<Self, Failure> {
        within(LOGIN, async {
            if target.bare {
                let mut connection = Self::open(target).await?;
                connection.jid = format!("{user}@{}", target.domain);
                connection.open_stream_from(user).await?;
                return Ok(connection);
            }
            let mut connection = Self::open(target).await?.secure().await?;
            connection.authenticate(user, password).await?;
            Ok(connection)
        })
        .await
    }

    /// Opens the stream and, where the transport asks for it, performs STARTTLS.
    pub async fn secure(mut self) -> Result<Self, Failure> {
        self.open_stream().await?;
        if self.target.transport == Transport::Starttls {
            self.queue(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
            self.expect("proceed").await?;
            let Io::Plain(tcp) = self.io else { return Err(Failure::Protocol("TLS inside TLS".into())) };
            self.io = Io::Tls(Box::new(tls::connect(tcp, &self.target.domain).await?));
            self.open_stream().await?;
        }
        Ok(self)
    }

    /// Sends a stream header and reads the server's, with its features.
    pub async fn open_stream(&mut self) -> Result<(), Failure> {
        self.open_stream_from("").await
    }

    async fn open_stream_from(&mut self, user: &str) -> Result<(), Failure> {
        self.scanner.restart();
        let domain = xml::escape(&self.target.domain);
        let from = if user.is_empty() { String::new() } else { format!(" from='{}'", xml::escape(user)) };
        self.queue(
            format!(
                "<?xml version='1.0'?><stream:stream to='{domain}'{from} version='1.0' xmlns='jabber:client' \
                 xmlns:stream='http://etherx.jabber.org/streams'>"
            )
            .as_bytes(),
        );
        self.features = self.expect("stream:features").await?;
        Ok(())
    }

    /// SASL, and the new stream after it.
    pub async fn authenticate(&mut self, user: &str, password: &str) -> Result<(), Failure> {
        self.try_password(user, password).await?;
        self.open_stream().await
    }

    /// SASL alone; after a failure another attempt may follow on the same stream.
    pub async fn try_password(&mut self, user: &str, password: &str) -> Result<(), Failure> {
        let offered = self.target.mechanism.or_else(|| Mechanism::strongest(&self.features));
        let mechanism = offered
            .ok_or_else(|| Failure::Sasl(format!("no mechanism in {}", String::from_utf8_lossy(&self.features))))?;
        let mut exchange = Exchange::new(mechanism, user, password);
        let sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
        let (name, initial) = (mechanism.name(), exchange.initial());
        self.queue(format!("<auth xmlns='{sasl}' mechanism='{name}'>{initial}</auth>").as_bytes());
        loop {
            let answer = self.element().await?;
            let answer = self.bytes(answer);
            match xml::name(answer) {
                b"challenge" => {
                    let response = exchange.respond(&xml::text(answer, "challenge").unwrap_or_default())?;
                    self.queue(format!("<response xmlns='{sasl}'>{response}</response>").as_bytes());
                }
                b"success" => return exchange.verify(&xml::text(answer, "success").unwrap_or_default()),
                b"failure" => return Err(Failure::Sasl(xml::condition(answer))),
                _ => return Err(unexpected(answer)),
            }
        }
    }

    /// Binds a resource, one of the server's making where none is named.
    pub async fn bind(&mut self, resource: Option<&str>) -> Result<(), Failure> {
        if self.target.bare {
            return Ok(());
        }
        let resource = resource.map(|name| format!("<resource>{}</resource>", xml::escape(name))).unwrap_or_default();
        let bind = "urn:ietf:params:xml:ns:xmpp-bind";
        self.queue(format!("<iq type='set' id='bind'><bind xmlns='{bind}'>{resource}</bind></iq>").as_bytes());
        let answer = self.expect("iq").await?;
        match xml::text(&answer, "jid") {
            Some(jid) => self.jid = jid.into_owned(),
            None => {
                return Err(Failure::Protocol(xml::child(&answer, "error").map(xml::condition).unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// Enables stream management, with resumption where asked.
    pub async fn enable(&mut self, resume: bool) -> Result<Enabled, Failure> {
        let resume = if resume { " resume='true'" } else { "" };
        self.queue(format!("<enable xmlns='{}'{resume}/>", sm::NS).as_bytes());
        let answer = self.expect("enabled").await?;
        let max = xml::attribute(&answer, "max").and_then(|max| max.parse().ok());
        Ok(Enabled { id: xml::attribute(&answer, "id").map(Into::into), max })
    }

    /// Asks to go on with an old session, having handled `h` of its stanzas.
    pub async fn resume(&mut self, id: &str, h: u32) -> Result<Resumption, Failure> {
        self.queue(format!("<resume xmlns='{}' previd='{}' h='{h}'/>", sm::NS, xml::escape(id)).as_bytes());
        let answer = self.element().await?;
        let answer = self.bytes(answer);
        let h = xml::attribute(answer, "h").and_then(|h| h.parse().ok());
        match (xml::name(answer), h) {
            (b"resumed", Some(h)) => Ok(Resumption::Resumed(h)),
            (b"failed", h) => Ok(Resumption::Failed(xml::condition(answer), h)),
            _ => Err(unexpected(answer)),
        }
    }

    /// Sends `</stream:stream>` and waits for the server's.
    pub async fn close(mut self) -> Result<(), Failure> {
        if self.target.bare {
            return Ok(());
        }
        self.queue(b"</stream:stream>");
        let goodbye = async {
            loop {
                match self.next().await {
                    Ok(token) if token.kind == Kind::End => return Ok(()),
                    Ok(_) => {}
                    Err(Failure::Closed) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        within(Duration::from_secs(10), goodbye).await
    }

    /// Cuts the connection by a reset: the server learns at once.
    pub fn reset(self) {
        if self.tcp().set_zero_linger().is_ok() {
            drop(self);
        }
    }

    /// Bytes for the server; they leave while reading, or by [`Self::flush`].
    pub fn queue(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Where to write such bytes to.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Writes all that is queued.
    pub async fn flush(&mut self) -> Result<(), Failure> {
        Ok(poll_fn(|cx| self.poll_flush(cx)).await?)
    }

    /// The next item of the stream. Loses nothing when dropped halfway.
    pub async fn next(&mut self) -> Result<Token, Failure> {
        loop {
            if let Some(token) = self.scan()? {
                return Ok(token);
            }
            self.fill().await?;
        }
    }

    /// The next item among the bytes that were read already.
    pub fn scan(&mut self) -> Result<Option<Token>, Failure> {
        Ok(self.scanner.scan()?)
    }

    /// Reads once what is there, at least one byte; meanwhile writes what is queued.
    pub async fn fill(&mut self) -> Result<(), Failure> {
        match poll_fn(|cx| self.poll_fill(cx)).await? {
            0 => Err(Failure::Closed),
            _ => Ok(()),
        }
    }

    /// The next element; a stream error and the stream's end are failures.
    pub async fn element(&mut self) -> Result<Token, Failure> {
        loop {
            let token = self.next().await?;
            match token.kind {
                Kind::Header => {}
                Kind::End => return Err(Failure::Closed),
                Kind::Element => {
                    let bytes = self.bytes(token);
                    if xml::name(bytes) == b"stream:error" {
                        return Err(Failure::Stream(xml::condition(bytes)));
                    }
                    return Ok(token);
                }
            }
        }
    }

    /// An item's bytes.
    pub fn bytes(&self, token: Token) -> &[u8] {
        self.scanner.bytes(token)
    }

    /// The next element, which must be of this name.
    pub async fn expect(&mut self, name: &str) -> Result<Vec<u8>, Failure> {
        loop {
            let token = self.element().await?;
            let bytes = self.bytes(token).to_vec();
            match xml::name(&bytes) {
                found if found == name.as_bytes() => return Ok(bytes),
                b"message" | b"presence" => self.early.push(bytes),
                _ => return Err(unexpected(&bytes)),
            }
        }
    }

    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(tcp) => tcp,
            Io::Tls(tls) => tls.get_ref().0,
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let rest = &self.out[self.written..];
            let count = ready!(match &mut self.io {
                Io::Plain(tcp) => Pin::new(tcp).poll_write(cx, rest),
                Io::Tls(tls) => Pin::new(tls).poll_write(cx, rest),
            })?;
            self.written += count;
            self.unflushed = true;
        }
        self.out.clear();
        self.written = 0;
        if self.unflushed {
            if let Io::Tls(tls) = &mut self.io {
                ready!(Pin::new(tls).poll_flush(cx))?;
            }
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // A write that fails says less than what can still be read.
        let broken = matches!(self.poll_flush(cx), Poll::Ready(Err(_)));
        if broken {
            self.out.clear();
            self.written = 0;
            self.unflushed = false;
        }
        let room = self.scanner.room();
        let filled = room.len();
        room.resize(filled + READ, 0);
        let mut read = ReadBuf::new(&mut room[filled..]);
        let outcome = match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_read(cx, &mut read),
            Io::Tls(tls) => Pin::new(tls).poll_read(cx, &mut read),
        };
        let count = read.filled().len();
        room.truncate(filled + count);
        outcome.map_ok(|()| count)
    }
}

const READ: usize = 8 << 10;

fn unexpected(bytes: &[u8]) -> Failure {
    Failure::Protocol(format!("unexpected {}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)])))
}
