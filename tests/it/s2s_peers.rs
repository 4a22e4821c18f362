//! Servers that follow a script, in order or in disorder: what `rookery s2s check` is tried on.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

/// A script waits no longer for what does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server of these tests does, one after the other.
#[derive(Clone)]
pub(crate) enum Step {
    /// Reads until this has come.
    Hears(&'static str),
    /// Reads at least so many bytes.
    Takes(usize),
    /// Sends this.
    Says(String),
    /// Sends these bytes.
    Sends(Vec<u8>),
    /// TLS begins.
    Secures(Arc<ServerConfig>),
    /// Goes on only if no more than so many bytes come at once; else it says nothing any more.
    IfSmall(usize),
    /// Waits for the other side to hang up.
    Waits,
}

enum Wire {
    Plain(TcpStream),
    Secret(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into),
            Self::Secret(tls) => tls.read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Secret(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Secret(tls) => tls.flush(),
        }
    }
}

/// Serves everybody who connects to a port of the loopback net by the script, as long as the process lives.
pub(crate) fn serve(address: impl Into<IpAddr>, port: u16, script: Vec<Step>) -> SocketAddr {
    let listener = TcpListener::bind((address.into(), port)).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let script = script.clone();
            // Whoever looks at a server may hang up at any step.
            std::thread::spawn(move || drop(follow(tcp, script)));
        }
    });
    at
}

/// A port of the loopback net that nobody listens on: it was free a moment ago.
pub(crate) fn closed(address: impl Into<IpAddr>) -> SocketAddr {
    TcpListener::bind((address.into(), 0)).unwrap().local_addr().unwrap()
}

/// A port that takes no more connections, with those that fill it: what else comes to it is dropped.
pub(crate) fn crowded(address: impl Into<IpAddr>) -> (SocketAddr, (Socket, Vec<TcpStream>)) {
    let address = SocketAddr::from((address.into(), 0));
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut crowd = Vec::new();
    while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        crowd.push(one);
    }
    (address, (socket, crowd))
}

fn follow(tcp: TcpStream, script: Vec<Step>) -> io::Result<()> {
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    let mut wire = Wire::Plain(tcp);
    let mut heard = Vec::new();
    for step in script {
        match step {
            Step::Hears(word) => loop {
                if let Some(at) = heard.windows(word.len()).position(|some| some == word.as_bytes()) {
                    heard.drain(..at + word.len());
                    break;
                }
                hear(&mut wire, &mut heard)?;
            },
            Step::Takes(count) => {
                while heard.len() < count {
                    hear(&mut wire, &mut heard)?;
                }
                heard.clear();
            }
            Step::Says(text) => wire.write_all(text.as_bytes())?,
            Step::Sends(bytes) => wire.write_all(&bytes)?,
            Step::Secures(config) => {
                let Wire::Plain(tcp) = wire else { return Err(io::ErrorKind::InvalidInput.into()) };
                let tls = ServerConnection::new(config).map_err(io::Error::other)?;
                wire = Wire::Secret(Box::new(StreamOwned::new(tls, tcp)));
            }
            Step::IfSmall(most) => {
                let Wire::Plain(tcp) = &wire else { return Err(io::ErrorKind::InvalidInput.into()) };
                let mut room = [0; 16 * 1024];
                tcp.peek(&mut room[..1])?;
                // All of a first flight on the loopback is there at once; more of it would only make it larger.
                if tcp.peek(&mut room)? > most {
                    while hear(&mut wire, &mut Vec::new()).is_ok() {}
                    return Ok(());
                }
            }
            Step::Waits => while hear(&mut wire, &mut heard).is_ok() {},
        }
    }
    Ok(())
}

fn hear(wire: &mut Wire, heard: &mut Vec<u8>) -> io::Result<()> {
    let mut room = [0; 4096];
    match wire.read(&mut room)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => {
            heard.extend_from_slice(&room[..count]);
            Ok(())
        }
    }
}

/// Reads a stream header and sends one back.
pub(crate) fn header(domain: &str) -> Vec<Step> {
    let header = format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback' id='42' from='{domain}' version='1.0'>"
    );
    vec![Step::Hears("<stream:stream "), Step::Hears(">"), Step::Says(header)]
}

/// Says what the stream offers.
pub(crate) fn features(inside: &str) -> Step {
    Step::Says(format!("<stream:features>{inside}</stream:features>"))
}

const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>";
pub(crate) const EXTERNAL: &str =
    "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>";
pub(crate) const DIALBACK: &str = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>";

/// The plain beginning of a stream, up to the other side's `<starttls/>`.
pub(crate) fn until_starttls(domain: &str) -> Vec<Step> {
    let mut script = header(domain);
    script.extend([features(STARTTLS), Step::Hears("<starttls"), Step::Hears(">")]);
    script
}

/// `<proceed/>`.
pub(crate) fn proceed() -> Step {
    Step::Says("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".to_owned())
}

/// A server in order, with STARTTLS, that offers this inside TLS.
pub(crate) fn starttls(domain: &str, config: &Arc<ServerConfig>, offers: &str) -> Vec<Step> {
    let mut script = until_starttls(domain);
    script.extend([proceed(), Step::Secures(config.clone())]);
    script.extend(header(domain));
    script.extend([features(offers), Step::Waits]);
    script
}

/// The same with TLS from the first byte.
pub(crate) fn direct(domain: &str, config: &Arc<ServerConfig>, offers: &str) -> Vec<Step> {
    let mut script = vec![Step::Secures(config.clone())];
    script.extend(header(domain));
    script.extend([features(offers), Step::Waits]);
    script
}
