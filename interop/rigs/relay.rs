//! `rigs relay`: the least that a server on this kernel can cost, to be measured beside servers. Streams are opened, and messages
//! go from socket to socket as bytes; there is no login and no address, and of XML no more than where a message ends.
//!
//! A stream's `from` says whose it is. Two of one number, as `s7` and `r7`, are a pair: what one says the other gets, all
//! that was read at once in one write. Those named `room7` are a room, in which one talks: each message goes to each of
//! them, the talker last, in a write of its own.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use memchr::memmem;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::xml;

const END: &[u8] = b"</message>";

const HEADER: &[u8] = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>\
    <stream:features/>";

/// What is read at once.
const READ: usize = 16 << 10;

/// `rigs relay`
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where to listen
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
}

/// Serves until it is killed, on all CPUs.
pub fn run(options: &Options) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(options.listen).await?;
        let groups = Groups::default();
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            tokio::spawn(serve(socket, Arc::clone(&groups)));
        }
    })
}

type Groups = Arc<Mutex<HashMap<String, Arc<Group>>>>;

/// A pair or a room.
#[derive(Default)]
struct Group {
    members: Mutex<Vec<Arc<TcpStream>>>,
}

/// What a socket did not take at once.
type Rest = (Arc<TcpStream>, Vec<u8>);

async fn serve(mut socket: TcpStream, groups: Groups) -> io::Result<()> {
    let Some(name) = greet(&mut socket).await? else { return Ok(()) };
    let number = name.find(|letter: char| letter.is_ascii_digit()).unwrap_or_default();
    let is_room = &name[..number] == "room";
    let key = if is_room { &name[..] } else { &name[number..] };
    let group = Arc::clone(groups.lock().entry(key.to_owned()).or_default());
    drop((name, groups));
    let socket = Arc::new(socket);
    group.members.lock().push(Arc::clone(&socket));
    let outcome = forward(&socket, &group, is_room).await;
    group.members.lock().retain(|other| !Arc::ptr_eq(other, &socket));
    outcome
}

/// Reads the stream's header and answers it; whose stream it is, unless it ends before that is said.
async fn greet(socket: &mut TcpStream) -> io::Result<Option<String>> {
    let mut read = Vec::new();
    loop {
        if socket.read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
        let start = memmem::find(&read, b"<stream:stream");
        if let Some(header) = start.map(|start| &read[start..]).filter(|header| header.ends_with(b">")) {
            // This socket is new, and takes so little for certain.
            socket.try_write(HEADER)?;
            return Ok(xml::attribute(header, "from").map(Into::into));
        }
    }
}

async fn forward(socket: &Arc<TcpStream>, group: &Group, is_room: bool) -> io::Result<()> {
    let mut unfinished = Vec::new();
    loop {
        socket.readable().await?;
        match step(socket, group, is_room, &mut unfinished) {
            Ok(None) => return Ok(()),
            Ok(Some(rests)) => {
                for (other, rest) in rests {
                    write_all(&other, &rest).await?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads once and writes what has come whole, as far as sockets take it. None: there is no more to read.
fn step(
    socket: &Arc<TcpStream>,
    group: &Group,
    is_room: bool,
    unfinished: &mut Vec<u8>,
) -> io::Result<Option<Vec<Rest>>> {
    let mut buffer = [0; READ];
    let count = socket.try_read(&mut buffer)?;
    if count == 0 {
        return Ok(None);
    }
    let mut joined = std::mem::take(unfinished);
    let read = if joined.is_empty() {
        &buffer[..count]
    } else {
        joined.extend_from_slice(&buffer[..count]);
        &joined[..]
    };
    let whole = memmem::rfind(read, END).map_or(0, |at| at + END.len());
    let mut rests = Vec::new();
    let members = group.members.lock();
    if is_room {
        // The talker came first, and gets it last: then all have it.
        let mut start = 0;
        for end in memmem::find_iter(&read[..whole], END).map(|at| at + END.len()) {
            members.iter().rev().for_each(|member| offer(member, &read[start..end], &mut rests));
            start = end;
        }
    } else {
        let others = members.iter().filter(|other| whole > 0 && !Arc::ptr_eq(other, socket));
        others.for_each(|other| offer(other, &read[..whole], &mut rests));
    }
    *unfinished = read[whole..].to_vec();
    Ok(Some(rests))
}

/// Writes what the socket takes now; a socket that is broken is its own task's business.
fn offer(member: &Arc<TcpStream>, bytes: &[u8], rests: &mut Vec<Rest>) {
    if let Some((_, rest)) = rests.iter_mut().find(|(other, _)| Arc::ptr_eq(other, member)) {
        rest.extend_from_slice(bytes);
        return;
    }
    let written = member.try_write(bytes).unwrap_or(0);
    if written < bytes.len() {
        rests.push((Arc::clone(member), bytes[written..].to_vec()));
    }
}

async fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Its own task will say so.
            Err(_) => break,
        }
    }
    Ok(())
}
