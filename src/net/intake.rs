//! What comes in on a connection, of a client, another server or a component: read from the socket and given to the stream, which
//! says what it means. What the stream cannot take yet is kept: behind a question, or behind a step of the negotiation, whose
//! answer may change how the next bytes are to be read.

use std::io;
use std::mem;
use std::time::Instant;

use rookery_xmpp::stream::{Event, Stream};

use crate::transport::{Read, Transport};

/// What was read and not looked at yet.
#[derive(Default)]
pub(crate) struct Intake {
    unread: Vec<u8>,
}

impl Intake {
    /// What the stream has not been given.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Reads once from the socket, `most` bytes at most: how many came, if any could, and what they say. That the connection
    /// has ended is an error.
    pub(crate) fn read(
        &mut self,
        transport: &mut Transport,
        stream: &mut Stream,
        most: usize,
        now: Instant,
    ) -> io::Result<(Option<usize>, Vec<Event>)> {
        let (unread, mut events) = (&mut self.unread, Vec::new());
        let read = transport.read(most, |bytes| {
            let used = if unread.is_empty() { feed(stream, now, bytes, &mut events) } else { 0 };
            unread.extend_from_slice(bytes.get(used..).unwrap_or_default());
        })?;
        match read {
            Read::Bytes(count) => Ok((Some(count), events)),
            Read::Blocked | Read::Secured => Ok((None, events)),
            Read::Ended => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "ended without </stream:stream>")),
            Read::Cut => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut off")),
        }
    }

    /// What the stream has to say, and then what the rest of the bytes says. Nothing when more has to come first, of the peer or
    /// of the answer that the stream waits for.
    pub(crate) fn next(&mut self, stream: &mut Stream, now: Instant) -> Vec<Event> {
        let mut events: Vec<Event> = stream.poll_event().into_iter().collect();
        while events.is_empty() && !self.unread.is_empty() && !stream.is_busy() {
            let unread = mem::take(&mut self.unread);
            let used = feed(stream, now, &unread, &mut events);
            let rest = unread.get(used..).unwrap_or_default();
            self.unread = rest.to_vec();
            if events.is_empty() {
                events.extend(stream.poll_event());
            }
        }
        events
    }
}

/// Gives the stream what was read. An open stream is fed on while its events are plain; else one event at a time, since
/// the answer may change how the next bytes are to be read.
fn feed(stream: &mut Stream, now: Instant, bytes: &[u8], events: &mut Vec<Event>) -> usize {
    let mut used = 0;
    while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
        if !stream.is_open() && !events.is_empty() {
            break;
        }
        let taken = stream.handle_input(now, rest);
        used += taken;
        match stream.poll_event() {
            Some(event) => events.push(event),
            None if taken == 0 => break,
            None => {}
        }
    }
    used
}
