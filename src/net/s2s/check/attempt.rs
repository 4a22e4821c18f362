//! One attempt: one address and port, tried as a server would try it (RFC 6120 sections 4 and 5, XEP-0368), as far as it gets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rookery_xmpp::element::Element;
use rookery_xmpp::error::{StreamCondition, StreamError};
use rookery_xmpp::framer::{Frame, Framer};
use rookery_xmpp::header::{Namespaces, StreamHeader};
use rookery_xmpp::limits::Limits;
use rookery_xmpp::ns;
use rookery_xmpp::parser::{Parsed, parse};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::report::{Attempt, Greeting, Secured, Speech, Stage, Starttls, Stop};
use super::wire::{Asking, Wire, alert, is_end};
use crate::dns::TlsMode;

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// So much is read of what is no XML stream, to say what it is.
const SAMPLE: usize = 256;

/// Who asks whom, and how.
pub(super) struct Caller {
    /// Our domain; no stream names it as its `from` when it is the one that is looked at.
    pub(super) local: String,
    /// The domain that is asked for.
    pub(super) remote: String,
    pub(super) asking: Asking,
    /// For connecting, and for each answer.
    pub(super) patience: Duration,
}

impl Caller {
    /// Goes as far as it can. What the certificate is worth is left to be judged.
    pub(super) async fn attempt(&self, target: usize, address: SocketAddr, mode: TlsMode) -> Attempt {
        let mut attempt = Attempt::new(target, address, mode);
        if let Err(stop) = self.advance(&mut attempt, false).await {
            if stop == Stop::TlsSilent && self.passes_when_small(address, mode).await {
                attempt.stop = Some(Stop::HelloSwallowed);
            } else {
                attempt.stop = Some(stop);
            }
        }
        attempt
    }

    /// Whether the handshake gets an answer if its first message fits into one packet: there are boxes that lose others.
    async fn passes_when_small(&self, address: SocketAddr, mode: TlsMode) -> bool {
        let mut attempt = Attempt::new(0, address, mode);
        let stop = self.advance(&mut attempt, true).await.err();
        attempt.secured.is_some() || !matches!(stop, None | Some(Stop::TlsSilent | Stop::NoAnswer))
    }

    async fn advance(&self, attempt: &mut Attempt, small: bool) -> Result<(), Stop> {
        let began = Instant::now();
        let tcp = match timeout_at(began + self.patience, TcpStream::connect(attempt.address)).await {
            Err(_) => return Err(Stop::NoAnswer),
            Ok(Err(error)) => return Err(not_connected(&error)),
            Ok(Ok(tcp)) => tcp,
        };
        attempt.connected = Some(began.elapsed());
        let mut talk = Talk::new(tcp);
        let result = self.talk(&mut talk, attempt, small).await;
        talk.wire.end(FAREWELL).await;
        result
    }

    async fn talk(&self, talk: &mut Talk, attempt: &mut Attempt, small: bool) -> Result<(), Stop> {
        if attempt.mode == TlsMode::Starttls {
            let greeting = attempt.plain.insert(Greeting::default());
            self.open(talk, greeting, Stage::Header, Stage::Features).await?;
            if greeting.starttls == Starttls::None {
                return Err(Stop::NoStarttls);
            }
            talk.write(format!("<starttls xmlns='{}'/>", ns::TLS).as_bytes(), Stage::Proceed).await?;
            let answer = talk.element(Stage::Proceed, self.deadline()).await?;
            if !answer.is("proceed", ns::TLS) {
                return Err(Stop::StarttlsRefused);
            }
        }
        let began = Instant::now();
        let unread = std::mem::take(&mut talk.unread);
        let shaken = talk.wire.secure(&self.asking, attempt.mode, small, &unread, self.deadline()).await?;
        attempt.secured = Some(Secured {
            version: shaken.version,
            dates: super::dates(&shaken.chain),
            chain: shaken.chain,
            asked_for_ours: shaken.asked_for_ours,
            took: began.elapsed(),
        });
        talk.framer = Framer::new(Limits::pre_auth());
        let greeting = attempt.secret.insert(Greeting::default());
        self.open(talk, greeting, Stage::SecretHeader, Stage::SecretFeatures).await
    }

    /// Opens a stream, and reads what it offers.
    async fn open(&self, talk: &mut Talk, greeting: &mut Greeting, header: Stage, features: Stage) -> Result<(), Stop> {
        let from = if self.local == self.remote { String::new() } else { format!(" from='{}'", self.local) };
        // Domains hold nothing that XML would want escaped.
        let opening = format!(
            "<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}' xmlns:db='{}'{from} to='{}' version='1.0' xml:lang='en'>",
            ns::SERVER,
            ns::STREAMS,
            ns::DIALBACK,
            self.remote
        );
        talk.write(opening.as_bytes(), header).await?;
        let opened = talk.header(header, self.deadline()).await?;
        greeting.from = opened.from.map(String::from);
        greeting.has_dialback = opened.namespaces.prefixes().any(|(_, uri)| uri == ns::DIALBACK);
        greeting.version = opened.version.map(String::from);
        talk.declared = opened.namespaces;
        if !is_current(greeting.version.as_deref()) {
            // Such a server may still say why it wants nothing of us.
            return Err(Stop::OldStream);
        }
        let offered = talk.element(features, self.deadline()).await?;
        greeting.read(&offered);
        Ok(())
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }
}

/// RFC 6120 section 4.7.5: no version, or one below 1.0, is a stream without features.
fn is_current(version: Option<&str>) -> bool {
    version
        .and_then(|version| version.split_once('.'))
        .is_some_and(|(major, _)| major.parse::<u32>().is_ok_and(|major| major > 0))
}

fn not_connected(error: &io::Error) -> Stop {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    match error.kind() {
        ConnectionRefused => Stop::Refused,
        TimedOut => Stop::NoAnswer,
        // Without an address of its own kind, a machine has no way either.
        HostUnreachable | NetworkUnreachable | AddrNotAvailable => Stop::NoRoute,
        _ => Stop::NotConnected(error.to_string()),
    }
}

impl Greeting {
    fn read(&mut self, features: &Element) {
        let has = |name, space| features.find(name, space).is_some();
        self.starttls = match features.find("starttls", ns::TLS) {
            None => Starttls::None,
            Some(offer) if offer.find("required", ns::TLS).is_some() => Starttls::Required,
            Some(_) => Starttls::Offered,
        };
        let mechanisms = features.find("mechanisms", ns::SASL);
        let offered = mechanisms.into_iter().flat_map(Element::elements).filter(|one| one.is("mechanism", ns::SASL));
        self.has_external = offered.into_iter().any(|one| one.content().trim() == "EXTERNAL");
        // COMPAT: servers that declare the namespace of dialback and announce nothing do dialback all the same.
        self.has_dialback |= has("dialback", ns::DIALBACK_FEATURE);
        self.has_bidi = has("bidi", ns::BIDI_FEATURE);
        self.has_resumption = has("sm", ns::SM);
    }
}

/// A conversation: the connection, and what has been read of it and not looked at.
struct Talk {
    wire: Wire,
    framer: Framer,
    unread: Vec<u8>,
    declared: Namespaces,
}

impl Talk {
    fn new(tcp: TcpStream) -> Self {
        let framer = Framer::new(Limits::pre_auth());
        Self { wire: Wire::new(tcp), framer, unread: Vec::new(), declared: Namespaces::none() }
    }

    async fn write(&mut self, bytes: &[u8], stage: Stage) -> Result<(), Stop> {
        self.wire.write(bytes).await.map_err(|error| broken(&error, stage))
    }

    async fn header(&mut self, stage: Stage, until: Instant) -> Result<StreamHeader, Stop> {
        match self.frame(stage, until).await? {
            Frame::Header(header) => Ok(*header),
            _ => Err(Stop::NotXmpp(Speech::Xml)),
        }
    }

    /// The next element, unless it is an error of the stream.
    async fn element(&mut self, stage: Stage, until: Instant) -> Result<Element, Stop> {
        let bytes = match self.frame(stage, until).await? {
            Frame::Element(bytes) => bytes,
            Frame::End => return Err(Stop::Ended(stage)),
            Frame::Header(_) | Frame::Whitespace => return Err(Stop::NotXmpp(Speech::Xml)),
        };
        match parse(bytes, &self.declared) {
            Ok(Parsed::Nonza(element)) => match StreamError::from_element(&element) {
                Some(error) => Err(Stop::StreamError(error)),
                None => Ok(element),
            },
            _ => Err(Stop::NotXmpp(Speech::Xml)),
        }
    }

    /// The next frame that is not whitespace.
    async fn frame(&mut self, stage: Stage, until: Instant) -> Result<Frame, Stop> {
        let mut sample = Vec::new();
        loop {
            sample.extend(self.unread.iter().take(SAMPLE.saturating_sub(sample.len())));
            let mut input = self.unread.as_slice();
            let frame = self.framer.next(&mut input);
            let rest = input.len();
            self.unread.drain(..self.unread.len() - rest);
            match frame {
                Ok(Some(Frame::Whitespace)) => continue,
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => return Err(not_a_stream(&sample, error, stage)),
            }
            match timeout_at(until, self.wire.read(&mut self.unread)).await {
                Err(_) if sample.is_empty() => return Err(Stop::Silent(stage)),
                Err(_) => return Err(Stop::Stalled(stage)),
                Ok(Err(error)) => return Err(broken(&error, stage)),
                Ok(Ok(0)) => return Err(Stop::Ended(stage)),
                Ok(Ok(_)) => {}
            }
        }
    }
}

fn not_a_stream(sample: &[u8], error: StreamError, stage: Stage) -> Stop {
    match Speech::of(sample) {
        Some(Speech::Xml) | None if error.condition == StreamCondition::PolicyViolation => Stop::Excessive(stage),
        Some(speech) => Stop::NotXmpp(speech),
        None => Stop::NotXmpp(Speech::Other),
    }
}

fn broken(error: &io::Error, stage: Stage) -> Stop {
    match alert(error) {
        Some(stop) => stop,
        None if is_end(error) => Stop::Ended(stage),
        None => Stop::Broken(stage, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_version_1_has_features() {
        for version in ["1.0", "1.5", "2.0", "10.0"] {
            assert!(is_current(Some(version)), "{version}");
        }
        for version in [None, Some(""), Some("1"), Some("0.9"), Some("x.0")] {
            assert!(!is_current(version), "{version:?}");
        }
    }

    #[test]
    fn errors_of_the_system_say_what_is_wrong() {
        use io::ErrorKind;
        for (kind, stop) in [
            (ErrorKind::ConnectionRefused, Stop::Refused),
            (ErrorKind::TimedOut, Stop::NoAnswer),
            (ErrorKind::NetworkUnreachable, Stop::NoRoute),
            (ErrorKind::HostUnreachable, Stop::NoRoute),
        ] {
            assert_eq!(not_connected(&kind.into()), stop);
        }
        assert!(
            matches!(not_connected(&io::Error::other("no more files")), Stop::NotConnected(why) if why == "no more files")
        );
    }
}
