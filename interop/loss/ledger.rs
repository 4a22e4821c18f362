//! What happened to each message, as the clients saw it: written down in the order of time, judged against the rules.
//!
//! * **I1** What was acknowledged is in the archives of its sender and its recipient, or its sender was told by an error;
//!   never both.
//! * **Delivery** It also came to a device of the recipient, live, as a copy or from the tail, without its asking the archive.
//! * **I2** A message has one stanza-id in an account, is once in its archive, and comes to a device a second time only on
//!   another session and under the same stanza-id.
//! * **I3** A conversation keeps its order: in the archives, and on each session.
//! * **I5** Each message has a fate, acknowledged or refused, within a minute after the server was there again.
//!
//! What is said in a room is judged by the room: its archive is the one that must have it, and its stanza-id counts
//! (`room.rs` says what else).
//!
//! Where the subject has no archives, what came to no device is lost. (I4, memory, is not about messages.)

mod event;
mod judge;
mod room;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

pub use event::{Event, Key, Path, What};
pub use judge::{Rule, Violation};

/// How long after a recovery a message may be without a fate.
pub const FATE: Duration = Duration::from_secs(60);

/// A device, or whoever else writes into the journal.
#[derive(Debug, Clone)]
pub struct Party {
    /// For people: `r3/phone`.
    pub name: String,
    /// Whose it is.
    pub account: u32,
}

/// One direction of talk: from a device to an account.
#[derive(Debug, Clone, Copy)]
pub struct Conversation {
    /// The sending account.
    pub from: u32,
    /// The account written to.
    pub to: u32,
    /// What is promised for its messages.
    pub care: Care,
}

/// What is promised for the messages of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// All that there is to promise.
    Full,
    /// They are said in a room, which is the account written to.
    Room,
    /// They say that nobody may store them (XEP-0334): they come to who is there, and are in no archive.
    Unstored,
    /// Nothing that could be judged, as their recipient does not say what it got.
    None,
}

/// What is known of a message.
#[derive(Debug, Default, Clone)]
struct Message {
    sent: Vec<Duration>,
    acked: Option<Duration>,
    told: Option<Duration>,
    received: Vec<Reception>,
    /// In these accounts' archives, under these ids.
    kept: Vec<(u32, Box<str>)>,
}

#[derive(Debug, Clone)]
struct Reception {
    at: Duration,
    party: u32,
    session: u32,
    path: Path,
    stanza_id: Option<Box<str>>,
}

/// Counts over all messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Sent at least once.
    pub sent: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Refused by an error.
    pub told: u64,
    /// Sent more than once.
    pub resent: u64,
    /// Received a second time by a device.
    pub redelivered: u64,
    /// Of these, under another stanza-id, as it was delivered, not acknowledged and not on disk when the server died.
    pub phantoms: u64,
}

/// What became of the messages of some conversations.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Fates {
    /// Acknowledged and not refused.
    pub accepted: u64,
    /// Refused.
    pub refused: u64,
    /// Came to a device of their recipient.
    pub reached: u64,
    /// The longest time from sending to refusal.
    pub longest: Duration,
}

/// The journal with its index.
#[derive(Debug)]
pub struct Ledger {
    run: u16,
    start: Instant,
    /// The subject has archives: I1 and I2 ask for them.
    pub has_archive: bool,
    parties: Vec<Party>,
    conversations: Vec<Conversation>,
    events: Vec<Event>,
    messages: HashMap<Key, Message>,
    touched: HashSet<Key>,
    /// Each account's archive as read so far.
    archives: HashMap<u32, Vec<Archived>>,
    archive_ids: HashSet<(u32, Box<str>)>,
    /// Which message has a stanza-id, by account.
    given: HashMap<(u32, Box<str>), Key>,
    /// The newest message seen, by where it was seen.
    newest: HashMap<(Place, u32), u32>,
    crashes: Vec<Duration>,
    recoveries: Vec<Duration>,
    rooms: room::Rooms,
    /// Accounts whose messages are not at rest, and when others came back.
    away: HashSet<u32>,
    returned: HashMap<u32, Duration>,
    receptions: usize,
    acked: u64,
    found: Vec<Violation>,
}

/// An item of an archive: its id, and which message it is if it is one of ours.
type Archived = (Box<str>, Option<Key>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Archive(u32),
    /// Of a party, with its number, by what came there: copies and archives are streams of their own beside what is
    /// delivered.
    Session(u32, u32, Lane),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Delivery,
    Copies,
    Archive,
}

impl Ledger {
    /// An empty one; `run` tells the messages of this run from all others.
    pub fn new(run: u16, has_archive: bool) -> Self {
        Self {
            run,
            start: Instant::now(),
            has_archive,
            parties: Vec::new(),
            conversations: Vec::new(),
            events: Vec::new(),
            messages: HashMap::new(),
            touched: HashSet::new(),
            archives: HashMap::new(),
            archive_ids: HashSet::new(),
            given: HashMap::new(),
            newest: HashMap::new(),
            crashes: Vec::new(),
            recoveries: Vec::new(),
            rooms: room::Rooms::default(),
            away: HashSet::new(),
            returned: HashMap::new(),
            receptions: 0,
            acked: 0,
            found: Vec::new(),
        }
    }

    /// A new party.
    pub fn join(&mut self, name: &str, account: u32) -> u32 {
        self.parties.push(Party { name: name.into(), account });
        self.parties.len() as u32 - 1
    }

    /// A new conversation.
    pub fn open(&mut self, from: u32, to: u32) -> u32 {
        self.open_with(from, to, Care::Full)
    }

    /// A new conversation for which less is promised.
    pub fn open_with(&mut self, from: u32, to: u32, care: Care) -> u32 {
        self.conversations.push(Conversation { from, to, care });
        self.conversations.len() as u32 - 1
    }

    /// Who writes to whom.
    pub fn conversation(&self, number: u32) -> Conversation {
        self.conversations[number as usize]
    }

    /// The id that a message goes by on the wire.
    pub fn id(&self, key: Key) -> String {
        key.id(self.run)
    }

    /// The message of this run that goes by this id.
    pub fn key(&self, id: &str) -> Option<Key> {
        Key::parse(self.run, id).filter(|key| (key.conversation as usize) < self.conversations.len())
    }

    /// Writes down what a party saw, now.
    pub fn note(&mut self, party: u32, what: What) {
        self.note_at(self.start.elapsed(), party, what);
    }

    /// The server died, and all that it sent before was read.
    pub fn crashed(&mut self) {
        self.crashes.push(self.start.elapsed());
    }

    /// The server is there again: I5's clock starts anew.
    pub fn recovered(&mut self) {
        self.recoveries.push(self.start.elapsed());
    }

    /// These accounts, and no others, may still send again what they have sent: their messages are judged later.
    pub fn stay_away(&mut self, accounts: impl IntoIterator<Item = u32>) {
        let now = self.start.elapsed();
        let away: HashSet<u32> = accounts.into_iter().collect();
        self.returned.extend(self.away.difference(&away).map(|account| (*account, now)));
        self.away = away;
    }

    fn note_at(&mut self, at: Duration, party: u32, what: What) {
        if let Some(key) = what.key() {
            self.touched.insert(key);
            let message = self.messages.entry(key).or_default();
            match &what {
                What::Sent(_) => message.sent.push(at),
                What::Acked(_) => {
                    self.acked += u64::from(message.acked.is_none());
                    message.acked = message.acked.or(Some(at));
                }
                What::Told(..) => message.told = message.told.or(Some(at)),
                What::Received { path, session, stanza_id, .. } => {
                    self.receptions += 1;
                    let (path, session) = (*path, *session);
                    if self.conversations[key.conversation as usize].care == Care::Room {
                        let room = self.conversations[key.conversation as usize].to;
                        self.rooms.received((room, party, session), path, stanza_id.as_deref(), key);
                    }
                    let again = message.received.iter().any(|old| old.party == party && old.session == session);
                    message.received.push(Reception { at, party, session, path, stanza_id: stanza_id.clone() });
                    if !again {
                        let lane = match path {
                            Path::Live | Path::Delayed => Lane::Delivery,
                            Path::Carbon => Lane::Copies,
                            Path::Archive => Lane::Archive,
                        };
                        self.in_order(Place::Session(party, session, lane), key);
                    }
                }
                What::Kept(_, id) => {
                    let account = self.parties[party as usize].account;
                    let again = message.kept.iter().any(|(other, _)| *other == account);
                    message.kept.push((account, id.clone()));
                    if !again {
                        self.in_order(Place::Archive(account), key);
                    }
                }
                What::Mark(_) => {}
            }
        }
        if let (Some(key), Some(id)) = (what.key(), what.stanza_id()) {
            let account = self.giver(key, party);
            let other = *self.given.entry((account, id.into())).or_insert(key);
            if other != key {
                let (one, two, name) = (self.id(other), self.id(key), self.account_name(account));
                let text = format!("{one} and {two} have one stanza-id, {id}, at {name}");
                self.found.push(Violation { rule: Rule::I2, text, keys: vec![other, key] });
            }
        }
        self.events.push(Event { at, party, what });
    }

    /// Whose stanza-id a party sees on a message: its account's, or that of the room in which it was said.
    fn giver(&self, key: Key, party: u32) -> u32 {
        let conversation = self.conversations[key.conversation as usize];
        if conversation.care == Care::Room { conversation.to } else { self.parties[party as usize].account }
    }

    fn in_order(&mut self, place: Place, key: Key) {
        let newest = self.newest.entry((place, key.conversation)).or_insert(key.seq);
        if *newest > key.seq {
            let before = Key { seq: *newest, ..key };
            let of = |account: u32| self.account_name(account);
            let place = match place {
                Place::Archive(account) => format!("in the archive of {}", of(account)),
                Place::Session(party, session, _) => {
                    format!("at {}, session {session}", self.parties[party as usize].name)
                }
            };
            let text = format!("{} comes after {} {place}", self.id(key), self.id(before));
            self.found.push(Violation { rule: Rule::I3, text, keys: vec![before, key] });
        } else {
            *newest = key.seq;
        }
    }

    /// The items that an account's archive holds beyond those of [`Self::last_archived`].
    pub fn note_archived(&mut self, party: u32, items: Vec<(String, Option<Key>)>) {
        let account = self.parties[party as usize].account;
        for (id, key) in items {
            let id: Box<str> = id.into();
            if !self.archive_ids.insert((account, id.clone())) {
                let text =
                    format!("two messages have the archive id {id} in the archive of {}", self.account_name(account));
                self.found.push(Violation { rule: Rule::I2, text, keys: key.into_iter().collect() });
            }
            if let Some(key) = key {
                self.note(party, What::Kept(key, id.clone()));
            }
            self.archives.entry(account).or_default().push((id, key));
        }
    }

    /// The id of the newest item that was read of an account's archive.
    pub fn last_archived(&self, account: u32) -> Option<String> {
        self.archives.get(&account)?.last().map(|(id, _)| id.to_string())
    }

    /// A whole archive, read anew: what was in it is in it still, in the same order, and nothing came in between.
    pub fn compare_archive(&mut self, account: u32, items: &[(String, Option<Key>)]) {
        let known = self.archives.get(&account).map(Vec::as_slice).unwrap_or_default();
        let differs = (0..known.len().max(items.len())).find(|&at| {
            known.get(at).map(|(id, key)| (&**id, *key)) != items.get(at).map(|(id, key)| (id.as_str(), *key))
        });
        if let Some(at) = differs {
            let item = |id: Option<&str>| id.map_or_else(|| "nothing".to_owned(), str::to_owned);
            let text = format!(
                "item {at} in the archive of {} was {}, and is {} when the archive is read as a whole ({} items, then {})",
                self.account_name(account),
                item(known.get(at).map(|(id, _)| &**id)),
                item(items.get(at).map(|(id, _)| id.as_str())),
                known.len(),
                items.len()
            );
            let keys = known.get(at).and_then(|(_, key)| *key).into_iter();
            let keys = keys.chain(items.get(at).and_then(|(_, key)| *key)).collect();
            self.found.push(Violation { rule: Rule::I2, text, keys });
        }
    }

    /// How many acknowledged messages have not reached a device of their recipient, and were not refused.
    pub fn on_the_way(&self) -> usize {
        let way = self.touched.iter().filter(|key| {
            // Who is in a room has its copy when everybody has.
            if matches!(self.conversations[key.conversation as usize].care, Care::None | Care::Room) {
                return false;
            }
            let message = &self.messages[*key];
            message.acked.is_some() && message.told.is_none() && !self.reached(**key, message)
        });
        way.count()
    }

    /// How many messages were received in all, copies included; for those who wait for silence.
    pub fn receptions(&self) -> usize {
        self.receptions
    }

    /// How many messages are acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Of these conversations: how many messages are acknowledged and were not refused, how many were refused, how many came.
    pub fn fates(&self, conversations: &[u32]) -> Fates {
        let mut fates = Fates::default();
        for (key, message) in self.messages.iter().filter(|(key, _)| conversations.contains(&key.conversation)) {
            fates.accepted += u64::from(message.acked.is_some() && message.told.is_none());
            fates.reached += u64::from(self.reached(*key, message));
            if let (Some(told), Some(sent)) = (message.told, message.sent.first()) {
                fates.refused += 1;
                fates.longest = fates.longest.max(told.saturating_sub(*sent));
            }
        }
        fates
    }

    /// The conditions by which messages of these conversations were refused.
    pub fn refusals(&self, conversations: &[u32]) -> BTreeSet<String> {
        let told = self.events.iter().filter_map(|event| match &event.what {
            What::Told(key, condition) if conversations.contains(&key.conversation) => Some(condition.to_string()),
            _ => None,
        });
        told.collect()
    }

    /// The ids that an account's archive gave, oldest first.
    pub fn archive_ids(&self, account: u32) -> Vec<String> {
        self.archives.get(&account).into_iter().flatten().map(|(id, _)| id.to_string()).collect()
    }

    /// The stanza-ids of what came to an account as new, in the order in which it came.
    pub fn stanza_ids(&self, account: u32) -> Vec<String> {
        let of_it = |party: u32| self.parties.get(party as usize).is_some_and(|party| party.account == account);
        let ids = self.events.iter().filter_map(|event| match &event.what {
            What::Received { path: Path::Live, stanza_id: Some(id), .. } if of_it(event.party) => Some(id.to_string()),
            _ => None,
        });
        ids.collect()
    }

    /// Counts over the whole run.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for message in self.messages.values() {
            counts.sent += u64::from(!message.sent.is_empty());
            counts.acked += u64::from(message.acked.is_some());
            counts.told += u64::from(message.told.is_some());
            counts.resent += u64::from(message.sent.len() > 1);
            for (at, one) in message.received.iter().enumerate().filter(|(_, one)| one.path != Path::Archive) {
                let mut before = message.received.iter().take(at).filter(|other| other.party == one.party);
                if let Some(other) = before.next() {
                    counts.redelivered += 1;
                    counts.phantoms += u64::from(other.stanza_id != one.stanza_id);
                }
            }
        }
        counts
    }

    /// Whose archive, for people.
    pub fn account_name(&self, account: u32) -> String {
        let party = self.parties.iter().find(|party| party.account == account);
        party.map(|party| party.name.split('/').next().unwrap_or_default().to_owned()).unwrap_or_default()
    }

    /// All lines of the journal.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.events.iter().map(|event| self.line(event))
    }

    /// The lines about these messages, and what happened to the server meanwhile.
    pub fn lines_about(&self, keys: &[Key]) -> Vec<String> {
        let conversations = keys.iter().map(|key| self.conversations[key.conversation as usize]);
        let accounts: HashSet<u32> = conversations.flat_map(|one| [one.from, one.to]).collect();
        let concerns =
            |party: u32| self.parties.get(party as usize).is_none_or(|party| accounts.contains(&party.account));
        let about = |event: &&Event| event.what.key().map_or_else(|| concerns(event.party), |key| keys.contains(&key));
        let of_them = |event: &Event| event.what.key().is_some();
        let events: Vec<&Event> = self.events.iter().filter(about).collect();
        let first = events.iter().position(|event| of_them(event)).unwrap_or(0).saturating_sub(1);
        let last = events.iter().rposition(|event| of_them(event)).map_or(0, |last| last + 2).min(events.len());
        events[first..last].iter().map(|event| self.line(event)).collect()
    }

    fn line(&self, event: &Event) -> String {
        let party = self.parties.get(event.party as usize).map_or("driver", |party| &party.name);
        event.line(party, self.run)
    }
}
