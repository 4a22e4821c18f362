//! Two questions that hickory-resolver cannot be asked, each one packet: whether a nameserver hands DNSSEC signatures on, and
//! whether it has an answer that it does not like.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

/// How long one nameserver has for its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it is believed what a nameserver can: people change nameservers, and machines networks.
const HOLDS: Duration = Duration::from_secs(600);
/// The payload that is said to fit into a UDP answer, as hickory says it.
const PAYLOAD: u16 = 1232;

/// The nameservers, and what is known of them.
#[derive(Debug)]
pub(super) struct Probe {
    nameservers: Vec<SocketAddr>,
    /// Whether they hand signatures on, and when that was seen.
    signatures: Mutex<Option<(bool, Instant)>>,
}

impl Probe {
    pub(super) fn new(nameservers: Vec<SocketAddr>) -> Self {
        Self { nameservers, signatures: Mutex::new(None) }
    }

    /// Whether the nameservers give the root's SOA with its signature. When none answers, so will none to any other question:
    /// then true, and the next asks again.
    pub(super) async fn hands_signatures_on(&self) -> bool {
        if let Some((known, at)) = *self.signatures.lock()
            && at.elapsed() < HOLDS
        {
            return known;
        }
        for nameserver in &self.nameservers {
            let asked = exchange(*nameserver, Name::root(), RecordType::SOA, false);
            let Ok(Ok(answer)) = timeout(PATIENCE, asked).await else { continue };
            // An answer that was cut off is one with signatures, since a SOA alone fits always.
            let signed =
                answer.truncation || answer.answers.iter().any(|record| record.record_type() == RecordType::RRSIG);
            let before = self.signatures.lock().replace((signed, Instant::now()));
            match before {
                Some((before, _)) if before == signed => {}
                None if signed => {}
                _ if signed => info!("the nameserver {nameserver} hands DNSSEC signatures on again"),
                _ => warn!(
                    "the nameserver {nameserver} gives answers without DNSSEC signatures, so there is no DANE: set \
                     s2s.nameservers to one that has them (unbound or another on this machine is best), or s2s.dnssec = false"
                ),
            }
            return signed;
        }
        true
    }

    /// Whether a nameserver has records when it is told not to check their signatures.
    pub(super) async fn has_unchecked(&self, name: &Name, kind: RecordType) -> bool {
        for nameserver in &self.nameservers {
            let asked = exchange(*nameserver, name.clone(), kind, true);
            if let Ok(Ok(answer)) = timeout(PATIENCE, asked).await {
                return answer.response_code == ResponseCode::NoError
                    && (answer.truncation || !answer.answers.is_empty());
            }
        }
        false
    }
}

/// One question and its answer over UDP.
async fn exchange(nameserver: SocketAddr, name: Name, kind: RecordType, unchecked: bool) -> std::io::Result<Message> {
    let any = if nameserver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // The system draws the port, the generator the id: both have to be guessed by who would answer in the other's name.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(nameserver).await?;
    let id = crate::dns::srv::draw(u32::from(u16::MAX)) as u16;
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.metadata.checking_disabled = unchecked;
    question.add_query(Query::query(name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD).enable_dnssec();
    question.set_edns(edns);
    let bytes = question.to_bytes().map_err(std::io::Error::other)?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; usize::from(PAYLOAD)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(answer) = Message::from_bytes(buffer.get(..length).unwrap_or_default()) else { continue };
        if answer.id == id && answer.message_type == MessageType::Response && answer.queries == question.queries {
            return Ok(answer);
        }
    }
}
