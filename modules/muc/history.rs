//! XEP-0045 §7.2.13 and §7.2.14: the discussion history that who enters gets, as much of it as they ask for; and which
//! messages were sent again.

use std::cell::OnceCell;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use rookery_xmpp::datetime;
use rookery_xmpp::element::Element;
use rookery_xmpp::jid::{BareJid, FullJid};
use rookery_xmpp::stanza::Stanza;

use super::image::Message;
use super::outcome::{At, Outcome};
use super::payload;
use super::room::Room;

/// For how long a message is known that may be sent again.
pub(super) const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// So many are known at most. What a room forgets it does not look for: no account remembers what its user has said in rooms,
/// so that nothing tells a message that is sent again from a new one.
pub(super) const KNOWN: usize = 8192;

/// The last messages.
#[derive(Debug)]
pub(super) struct History {
    most: usize,
    entries: VecDeque<Entry>,
    known: HashMap<u64, Known>,
    order: VecDeque<(u64, SystemTime)>,
}

/// A message that may be sent again.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: u64,
    /// The stream that it came by, if that is known.
    stream: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    /// As it is sent to who enters; made for the first of them.
    delayed: OnceCell<Stanza>,
}

impl Entry {
    fn delayed(&self, room: &BareJid) -> &Stanza {
        self.delayed.get_or_init(|| {
            let mut delayed = self.message.stanza.clone();
            if !self.message.stamped {
                delayed.append(payload::delay(room, self.message.stamp));
            }
            delayed
        })
    }
}

impl History {
    pub(super) fn new(most: usize) -> Self {
        Self { most, entries: VecDeque::new(), known: HashMap::new(), order: VecDeque::new() }
    }

    /// What was stored, the oldest first.
    pub(super) fn fill(&mut self, messages: Vec<Message>, known: Vec<(u64, u64)>, now: SystemTime) {
        for (digest, id) in known {
            self.learn(digest, Known { id, stream: None }, now);
        }
        for message in messages {
            self.push(message, None);
        }
    }

    fn learn(&mut self, digest: u64, known: Known, stamp: SystemTime) {
        if self.order.len() >= KNOWN
            && let Some((oldest, _)) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(digest, known);
        self.order.push_back((digest, stamp));
    }

    /// How many messages who enters may get.
    pub(super) fn set_most(&mut self, most: usize) {
        self.most = most;
        self.cut();
    }

    /// Another message.
    pub(super) fn push(&mut self, message: Message, stream: Option<u64>) {
        if let Some(digest) = message.digest {
            self.learn(digest, Known { id: message.id, stream }, message.stamp);
        }
        if message.history {
            self.entries.push_back(Entry { message, delayed: OnceCell::new() });
            self.cut();
        }
    }

    fn cut(&mut self) {
        while self.entries.len() > self.most {
            self.entries.pop_front();
        }
    }

    /// The id of a message that was here before, and came by another stream.
    pub(super) fn known(&mut self, digest: u64, stream: Option<u64>, now: SystemTime) -> Option<u64> {
        while let Some((oldest, stamp)) = self.order.front()
            && now.duration_since(*stamp).is_ok_and(|age| age > MEMORY)
        {
            self.known.remove(oldest);
            self.order.pop_front();
        }
        let known = self.known.get(&digest)?;
        (known.stream.is_none() || known.stream != stream).then_some(known.id)
    }

    /// Who has sent a message of the history. The room's own are nobody's.
    pub(super) fn sender(&self, id: u64) -> Option<&FullJid> {
        self.entries.iter().find(|entry| entry.message.id == id)?.message.sender.as_ref()
    }

    /// A message was taken back: nobody gets it any more.
    pub(super) fn retract(&mut self, id: u64) {
        self.entries.retain(|entry| entry.message.id != id);
    }
}

/// What somebody wants of the history: all of it must be met.
struct Wanted {
    stanzas: usize,
    chars: usize,
    since: Option<SystemTime>,
}

impl Wanted {
    /// Reads `<history/>`. What is no number is as if it were not there.
    fn read(history: Option<&Element>, now: SystemTime) -> Self {
        let number = |name: &str| history?.get(name)?.trim().parse::<u32>().ok();
        let seconds = number("seconds").and_then(|seconds| now.checked_sub(Duration::from_secs(seconds.into())));
        let since = history.and_then(|history| datetime::parse(history.get("since")?));
        let most = |number: Option<u32>| number.and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX);
        Self { stanzas: most(number("maxstanzas")), chars: most(number("maxchars")), since: seconds.max(since) }
    }
}

impl Room {
    /// Sends the history, complete messages only.
    pub(super) fn send_history(&self, at: At, to: &FullJid, history: Option<&Element>, out: &mut Outcome) {
        let wanted = Wanted::read(history, at.now);
        let mut chars = wanted.chars;
        let mut fits = |entry: &&Entry| {
            if wanted.since.is_some_and(|since| entry.message.stamp < since) {
                return false;
            }
            if wanted.chars == usize::MAX {
                return true;
            }
            // "the character count is the characters of the complete XML stanzas"
            let mut written = Vec::new();
            entry.delayed(&self.jid).write(&mut written, Some(to));
            let count = str::from_utf8(&written).map_or(usize::MAX, |text| text.chars().count());
            chars.checked_sub(count).map(|left| chars = left).is_some()
        };
        let entries = self.history.entries.iter().rev().take(wanted.stanzas);
        let newest_first: Vec<&Entry> = entries.take_while(|entry| fits(entry)).collect();
        for entry in newest_first.into_iter().rev() {
            out.send(entry.delayed(&self.jid).clone(), to);
        }
    }
}
