//! The lines of the journal.

use std::fmt;
use std::time::Duration;

/// A message: its conversation, and its number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Which conversation.
    pub conversation: u32,
    /// 0, 1, 2 ...
    pub seq: u32,
}

impl Key {
    /// `l` RUN `-` CONVERSATION `-` NUMBER: the id and the origin-id of the message.
    pub fn id(self, run: u16) -> String {
        format!("l{run:04x}-{}-{}", self.conversation, self.seq)
    }

    /// Back from an id of this run.
    pub fn parse(run: u16, id: &str) -> Option<Self> {
        let mut parts = id.strip_prefix('l')?.split('-');
        if u16::from_str_radix(parts.next()?, 16) != Ok(run) {
            return None;
        }
        let key = Self { conversation: parts.next()?.parse().ok()?, seq: parts.next()?.parse().ok()? };
        parts.next().is_none().then_some(key)
    }
}

/// How a message came to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// As it was sent.
    Live,
    /// With the stamp of a delay: from offline storage, or of a session that was cut off.
    Delayed,
    /// In a carbon (XEP-0280).
    Carbon,
    /// In the results of a query (XEP-0313).
    Archive,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum What {
    /// The message was written to the socket.
    Sent(Key),
    /// The server's `h` passed it.
    Acked(Key),
    /// The server answered it with an error of this condition.
    Told(Key, Box<str>),
    /// It came.
    Received {
        /// Which one.
        key: Key,
        /// How.
        path: Path,
        /// On the how manieth session of this device; resumption goes on with a session.
        session: u32,
        /// The id that the device's account gave it (XEP-0359).
        stanza_id: Option<Box<str>>,
    },
    /// The account's archive holds it, under this id.
    Kept(Key, Box<str>),
    /// Something that is about no message.
    Mark(Box<str>),
}

impl What {
    /// The message it is about.
    pub fn key(&self) -> Option<Key> {
        match self {
            Self::Sent(key)
            | Self::Acked(key)
            | Self::Told(key, _)
            | Self::Received { key, .. }
            | Self::Kept(key, _) => Some(*key),
            Self::Mark(_) => None,
        }
    }
}

/// A line.
#[derive(Debug, Clone)]
pub struct Event {
    /// Since the run began.
    pub at: Duration,
    /// Who saw it.
    pub party: u32,
    /// What it was.
    pub what: What,
}

impl Event {
    /// For people.
    pub(super) fn line(&self, party: &str, run: u16) -> String {
        let message = self.what.key().map(|key| key.id(run)).unwrap_or_default();
        format!("{:>11.6} {party:<14} {} {message}{}", self.at.as_secs_f64(), self.what.verb(), self.what)
    }
}

impl What {
    /// The id that an account gave to the message.
    pub(super) fn stanza_id(&self) -> Option<&str> {
        match self {
            Self::Received { stanza_id, .. } => stanza_id.as_deref(),
            Self::Kept(_, id) => Some(id),
            _ => None,
        }
    }

    fn verb(&self) -> &'static str {
        match self {
            Self::Sent(_) => "sent    ",
            Self::Acked(_) => "acked   ",
            Self::Told(..) => "told    ",
            Self::Received { .. } => "received",
            Self::Kept(..) => "archived",
            Self::Mark(_) => "--------",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(_) | Self::Acked(_) => Ok(()),
            Self::Told(_, condition) => write!(f, " by {condition}"),
            Self::Received { path, session, stanza_id, .. } => {
                let path = match path {
                    Path::Live => "live",
                    Path::Delayed => "delayed",
                    Path::Carbon => "as a carbon",
                    Path::Archive => "from the archive",
                };
                write!(f, " {path}, session {session}, stanza-id {}", stanza_id.as_deref().unwrap_or("none"))
            }
            Self::Kept(_, id) => write!(f, " as {id}"),
            Self::Mark(text) => f.write_str(text),
        }
    }
}
