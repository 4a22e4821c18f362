//! `rigs dns`: a nameserver for tests. It knows the zones that it is given as text (`zone`), answers over UDP and TCP as a
//! recursive nameserver would (`answer`), signs what it is told to sign with keys of its own (`sign`), and fails as it is told
//! to. Zones may change while it runs. See [`Trouble`] for what can go wrong, `zone` for how it is written.

mod answer;
mod sign;
mod zone;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, rdata::A};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::Verdict;
use sign::Keys;
use zone::Zones;
pub use zone::{Trouble, ZoneError};

/// Questions that are remembered.
const MAX_ASKED: usize = 10_000;
/// RFC 1035 §4.2.1: what fits into UDP without EDNS.
const SMALLEST_PAYLOAD: u16 = 512;

/// `rigs dns`
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where it listens; port 0 lets the system choose, and the first line of the output says which
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Files of zones; read again when they change
    #[arg(long, required = true)]
    zone: Vec<PathBuf>,
    /// Writes the root's DNSKEY record there: the trust anchor of those who ask
    #[arg(long)]
    anchor: Option<PathBuf>,
}

/// Serves until it is ended.
pub async fn run(options: &Options) -> Verdict {
    let server = Server::start(options.listen, &read(&options.zone)?).await?;
    if let Some(anchor) = &options.anchor {
        std::fs::write(anchor, server.trust_anchor())?;
    }
    println!("listening on {}", server.address());
    let changed = || -> Vec<_> {
        options.zone.iter().map(|file| std::fs::metadata(file).and_then(|file| file.modified()).ok()).collect()
    };
    let mut seen = changed();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = changed();
        if now != seen {
            seen = now;
            // A file that is being written makes no sense for a moment; the zones stay what they were.
            match read(&options.zone).and_then(|text| Ok(server.set(&text)?)) {
                Ok(()) => println!("zones read again"),
                Err(error) => eprintln!("{error}"),
            }
        }
    }
}

fn read(files: &[PathBuf]) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = String::new();
    for file in files {
        text += &std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        text += "\n$ORIGIN .\n";
    }
    Ok(text)
}

/// A nameserver. It stops when it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    zones: Mutex<Arc<Zones>>,
    keys: Keys,
    asked: Mutex<VecDeque<String>>,
}

impl Server {
    /// Starts one with these zones. Port 0 is one that is free over UDP and TCP.
    pub async fn start(listen: SocketAddr, zones: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let zones = Zones::parse(zones)?;
        let (udp, tcp) = bind(listen).await?;
        let address = udp.local_addr()?;
        let shared =
            Arc::new(Shared { zones: Mutex::new(Arc::new(zones)), keys: Keys::default(), asked: Mutex::default() });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(Arc::new(udp), shared.clone()));
        tasks.spawn(serve_tcp(tcp, shared.clone()));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where it listens, over UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other zones from now on, in place of all it had; on an error they stay as they are.
    pub fn set(&self, zones: &str) -> Result<(), ZoneError> {
        *self.shared.zones.lock() = Arc::new(Zones::parse(zones)?);
        Ok(())
    }

    /// What is to go wrong from now on for a name (`b.test.`) and all below it, beside what the zones say.
    pub fn trouble(&self, place: &str, trouble: Trouble) {
        let mut zones = self.shared.zones.lock();
        Arc::make_mut(&mut zones).troubles.push((zone::name(place).to_lowercase(), trouble));
    }

    /// Nothing goes wrong any more.
    pub fn calm(&self) {
        Arc::make_mut(&mut self.shared.zones.lock()).troubles.clear();
    }

    /// The root's DNSKEY record as a line: the trust anchor of those who are to believe the signatures.
    pub fn trust_anchor(&self) -> String {
        let key = self.shared.keys.dnskey(&Name::root());
        key.records_without_rrsigs().map(|record| format!(". 60 IN DNSKEY {}\n", record.data)).collect()
    }

    /// What has been asked so far, oldest first, as `a.test. SRV`; over TCP with `tcp` behind it.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().iter().cloned().collect()
    }
}

/// Both kinds of sockets on one port.
async fn bind(listen: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let udp = UdpSocket::bind(listen).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            // The port that was free over UDP is somebody's over TCP.
            Err(error) if listen.port() == 0 && error.kind() == io::ErrorKind::AddrInUse && tries < 100 => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; 4096];
    let mut answers = JoinSet::new();
    loop {
        while answers.try_join_next().is_some() {}
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let (question, socket, shared) = (buffer[..length].to_vec(), socket.clone(), shared.clone());
        answers.spawn(async move {
            if let Some(answer) = shared.reply(&question, false).await {
                let _ = socket.send_to(&answer, peer).await;
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        connections.spawn(async move {
            // An error is the end of the connection, which is the asker's affair.
            let _ = converse(stream, &shared).await;
        });
    }
}

async fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut question = vec![0; length.into()];
        stream.read_exact(&mut question).await?;
        if let Some(answer) = shared.reply(&question, true).await {
            stream.write_u16(answer.len() as u16).await?;
            stream.write_all(&answer).await?;
        }
    }
}

impl Shared {
    async fn reply(&self, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let question =
            Message::from_bytes(question).ok().filter(|message| message.message_type == MessageType::Query)?;
        let query = question.queries.first()?;
        let name = query.name().to_lowercase();
        {
            let mut asked = self.asked.lock();
            if asked.len() == MAX_ASKED {
                asked.pop_front();
            }
            asked.push_back(format!("{name} {}{}", query.query_type(), if tcp { " tcp" } else { "" }));
        }
        let zones = self.zones.lock().clone();
        let signatures = |trouble| matches!(trouble, Trouble::Bogus | Trouble::Expired | Trouble::Strip);
        let trouble = zones.trouble(&name, |trouble| !signatures(trouble));
        let mut answer = answer::answer(&zones, &self.keys, &question);
        match trouble {
            Some(Trouble::Drop) => return None,
            Some(Trouble::Garbage) => return Some(vec![0xff; 7]),
            Some(Trouble::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Trouble::ServFail) => fail(&mut answer, ResponseCode::ServFail),
            Some(Trouble::Refused) => fail(&mut answer, ResponseCode::Refused),
            Some(Trouble::Unchecked) if !question.checking_disabled => fail(&mut answer, ResponseCode::ServFail),
            Some(Trouble::Elsewhere) => {
                let other = zone::name("elsewhere.invalid.");
                for query in &mut answer.queries {
                    query.set_name(other.clone());
                }
                answer.answers = vec![Record::from_rdata(other, 60, RData::A(A::new(192, 0, 2, 66)))];
            }
            _ => {}
        }
        let bytes = answer.to_bytes().ok()?;
        let room = question.edns.as_ref().map_or(SMALLEST_PAYLOAD, |edns| edns.max_payload()).max(SMALLEST_PAYLOAD);
        if tcp || (bytes.len() <= room.into() && trouble != Some(Trouble::Truncate)) {
            return Some(bytes);
        }
        clear(&mut answer);
        answer.metadata.truncation = true;
        answer.to_bytes().ok()
    }
}

fn fail(answer: &mut Message, code: ResponseCode) {
    clear(answer);
    answer.metadata.response_code = code;
}

fn clear(answer: &mut Message) {
    answer.answers.clear();
    answer.authorities.clear();
}
