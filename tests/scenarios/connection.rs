//! The two ends that a script can play: a client that logs in with the stream machine of this project, and a bare
//! connection that says what it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_xmpp::element::Element;
use rookery_xmpp::framer::{Frame, Framer};
use rookery_xmpp::header::{Namespaces, StreamHeader};
use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::limits::Limits;
use rookery_xmpp::ns;
use rookery_xmpp::parser::{self, Parsed};
use rookery_xmpp::sasl::{Decoy, Login, Policy, Secret};
use rookery_xmpp::stream::{Binding, Config, Deadlines, Ending, Event, Kind, Peer, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::matching::elements;

/// How long the server may take for anything. Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came from the server.
#[derive(Debug, Clone)]
pub(crate) enum Incoming {
    Element(Element),
    /// The stream or the connection has ended.
    End,
}

/// A connection to the server.
pub(crate) struct Connection {
    socket: TcpStream,
    side: Side,
    unread: Vec<u8>,
    inbox: VecDeque<Incoming>,
    /// The socket gives nothing more.
    ended: bool,
    /// The client's address, once it has one.
    pub(crate) jid: Option<FullJid>,
    pings: u32,
}

enum Side {
    Client(Box<Stream>),
    Bare { framer: Framer, context: Namespaces },
}

impl Connection {
    /// Logs in; then asks for a resource, or not.
    pub(crate) async fn login(
        address: SocketAddr,
        jid: &Jid,
        password: &str,
        resource: Option<&str>,
        bind: bool,
    ) -> Result<Self, String> {
        let config = Config {
            kind: Kind::C2s,
            starttls: false,
            require_tls: false,
            secured: false,
            policy: Policy::CLIENTS,
            decoy: Decoy { secret: Secret::new(b"none: we log in"), iterations: 4096 },
            auth_attempts: 1,
            pre_auth: Limits::s2s(),
            limits: Limits::s2s(),
            deadlines: Deadlines::default(),
        };
        let binding = match (bind, resource) {
            (false, _) => Binding::Later,
            (true, None) => Binding::Any,
            (true, Some(resource)) => Binding::Resource(resource.to_owned()),
        };
        let login = Login {
            user: jid.localpart().unwrap_or_default().to_owned(),
            password: password.to_owned().into(),
            plain: false,
            external: false,
            only: None,
        };
        let peer = Peer { to: jid.domain(), from: Some(jid.bare().into()), login: Some(login), binding };
        let stream = Stream::initiating(Arc::new(config), Arc::new(peer), Instant::now());
        let mut connection = Self::over(address, Side::Client(Box::new(stream))).await?;
        connection.transmit().await?;
        connection.settle(|connection| connection.jid.is_some() || !connection.inbox.is_empty()).await?;
        match connection.inbox.front() {
            Some(Incoming::End) => Err(format!("{jid} cannot log in")),
            _ => Ok(connection),
        }
    }

    /// Connects and says nothing.
    pub(crate) async fn bare(address: SocketAddr) -> Result<Self, String> {
        let side = Side::Bare { framer: Framer::new(Limits::s2s()), context: Namespaces::content_only(ns::CLIENT) };
        Self::over(address, side).await
    }

    async fn over(address: SocketAddr, side: Side) -> Result<Self, String> {
        let socket = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
        let _ = socket.set_nodelay(true);
        Ok(Self { socket, side, unread: Vec::new(), inbox: VecDeque::new(), ended: false, jid: None, pings: 0 })
    }

    /// Asks for a resource, after [`Self::login`] has left it at that.
    pub(crate) async fn bind(&mut self, resource: Option<&str>) -> Result<(), String> {
        if let Side::Client(stream) = &mut self.side {
            stream.bind(resource);
        }
        self.transmit().await?;
        self.settle(|connection| connection.jid.is_some() || connection.ended).await
    }

    /// Whether it can send stanzas and is not at its end.
    pub(crate) fn is_bound(&self) -> bool {
        self.jid.is_some() && !self.ended && !matches!(self.inbox.back(), Some(Incoming::End))
    }

    /// Sends text as it is. A connection that has ended takes it and does nothing.
    pub(crate) async fn send(&mut self, text: &str) {
        // The server may be gone already, and what it says of that is in the inbox.
        let _ = self.socket.write_all(text.as_bytes()).await;
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Result<Incoming, String> {
        self.settle(|connection| !connection.inbox.is_empty()).await?;
        Ok(self.inbox.pop_front().unwrap_or(Incoming::End))
    }

    /// All that has come and not been looked at.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Incoming> {
        self.inbox.iter()
    }

    /// A round trip: what the server had for us before is in the inbox afterwards.
    pub(crate) async fn ping(&mut self) -> Result<(), String> {
        let Some(jid) = self.jid.clone().filter(|_| self.is_bound()) else { return Ok(()) };
        self.pings += 1;
        let id = format!("round-trip-{}", self.pings);
        let ping = format!("<iq type='get' id='{id}' to='{}'><ping xmlns='urn:xmpp:ping'/></iq>", jid.domainpart());
        self.send(&ping).await;
        let is_pong = |incoming: &Incoming| match incoming {
            Incoming::Element(element) => element.is("iq", ns::CLIENT) && element.get("id") == Some(&id),
            Incoming::End => false,
        };
        self.settle(|connection| connection.ended || connection.inbox.iter().any(is_pong)).await?;
        self.inbox.retain(|incoming| !is_pong(incoming));
        Ok(())
    }

    /// Ends the stream as a client should, and waits until the server is done with it.
    pub(crate) async fn disconnect(&mut self) -> Result<(), String> {
        match &mut self.side {
            Side::Client(stream) => stream.close(Instant::now(), None),
            Side::Bare { .. } => self.send("</stream:stream>").await,
        }
        self.transmit().await?;
        self.settle(|connection| connection.ended).await
    }

    /// Loses the network, and waits until the server has seen it.
    pub(crate) async fn cut(&mut self) -> Result<(), String> {
        let _ = self.socket.shutdown().await;
        self.settle(|connection| connection.ended).await
    }

    /// Reads until something is so.
    async fn settle(&mut self, is_so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !is_so(self) {
            if self.ended {
                self.inbox.push_back(Incoming::End);
                continue;
            }
            match tokio::time::timeout_at(deadline, self.read()).await {
                Ok(result) => result?,
                Err(_) => return Err("nothing comes".to_owned()),
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), String> {
        let mut buffer = vec![0; 16 * 1024];
        match self.socket.read(&mut buffer).await {
            Ok(0) | Err(_) => self.ended = true,
            Ok(count) => {
                self.unread.extend_from_slice(buffer.get(..count).unwrap_or_default());
                match self.side {
                    Side::Client(_) => self.digest().await?,
                    Side::Bare { .. } => self.digest_bare()?,
                }
            }
        }
        Ok(())
    }

    async fn digest(&mut self) -> Result<(), String> {
        loop {
            let Side::Client(stream) = &mut self.side else { return Ok(()) };
            let used = stream.handle_input(Instant::now(), &self.unread);
            self.unread.drain(..used);
            let event = stream.poll_event();
            let idle = used == 0 && event.is_none();
            if let Some(event) = event {
                self.handle(event)?;
            }
            self.transmit().await?;
            if idle {
                return Ok(());
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Stanza(stanza) => self.inbox.extend(elements(&stanza.to_xml())?.into_iter().map(Incoming::Element)),
            Event::Nonza(element) | Event::Features(element) => {
                if let Side::Client(stream) = &mut self.side
                    && element.is("resumed", ns::SM)
                {
                    stream.established();
                }
                self.inbox.push_back(Incoming::Element(element));
            }
            Event::Bound(jid) => self.jid = Some(jid),
            Event::Closed(ending) => {
                if let Ending::ByPeer(Some(error)) = &ending {
                    self.inbox.push_back(Incoming::Element(error.to_element()));
                }
                if let Ending::Login(error) = &ending {
                    return Err(format!("cannot log in: {error}"));
                }
                self.inbox.push_back(Incoming::End);
            }
            Event::AuthFailed { condition, .. } => return Err(format!("cannot log in: {condition:?}")),
            Event::Answered(_) => return Err("the server sent something that is no valid stanza".to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn digest_bare(&mut self) -> Result<(), String> {
        let Side::Bare { framer, context } = &mut self.side else { return Ok(()) };
        let unread = std::mem::take(&mut self.unread);
        let mut rest = unread.as_slice();
        let wrong = |error| format!("the server sent bad XML: {error:?}");
        while !rest.is_empty() {
            match framer.next(&mut rest).map_err(wrong)? {
                Some(Frame::Header(header)) => {
                    self.inbox.push_back(Incoming::Element(header_element(&header)));
                    *context = header.namespaces;
                }
                Some(Frame::Element(bytes)) => {
                    let element = match parser::parse(bytes, context).map_err(wrong)? {
                        Parsed::Stanza(stanza) => stanza.to_element(),
                        Parsed::Nonza(element) => element,
                        Parsed::Invalid { error, .. } => {
                            return Err(format!("the server sent no valid stanza: {error:?}"));
                        }
                    };
                    // The peer opens a new stream now (RFC 6120 §6.4.6).
                    if element.is("success", ns::SASL) {
                        framer.reset();
                    }
                    self.inbox.push_back(Incoming::Element(element));
                }
                Some(Frame::End) => self.inbox.push_back(Incoming::End),
                Some(Frame::Whitespace) | None => {}
            }
        }
        Ok(())
    }

    async fn transmit(&mut self) -> Result<(), String> {
        if let Side::Client(stream) = &mut self.side
            && let Some(bytes) = stream.poll_transmit()
        {
            // An error shows when we read.
            let _ = self.socket.write_all(&bytes).await;
        }
        Ok(())
    }
}

fn header_element(header: &StreamHeader) -> Element {
    Element::new("stream", ns::STREAMS)
        .attr_opt("from", header.from.as_deref())
        .attr_opt("to", header.to.as_deref())
        .attr_opt("id", header.id.as_deref())
        .attr_opt("version", header.version.as_deref())
        .attr_opt("xml:lang", header.lang.as_deref())
}
