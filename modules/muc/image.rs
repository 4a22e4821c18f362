//! What of a room outlasts the process, and the changes of it that are stored one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use rookery_xmpp::element::Element;
use rookery_xmpp::jid::{BareJid, FullJid};
use rookery_xmpp::stanza::Stanza;

use super::config::Config;
use super::roles::{Affiliation, Role};

/// What the room knows of a person, by bare JID. For a domain there is nothing but a ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The affiliation.
    pub affiliation: Affiliation,
    /// The reserved nickname, as the person wrote it.
    pub nick: Option<Box<str>>,
    /// Why the person was given the affiliation.
    pub reason: Option<Box<str>>,
    /// Voice that was granted or revoked while the room was moderated: §5.1 wants it to last across visits.
    pub voice: Option<Role>,
    /// The nickname of a member's last visit, where members who are away are told when they are mentioned.
    pub last_nick: Option<Box<str>>,
    /// They were told since, and are not told again until they have been in the room.
    pub told: bool,
}

impl Person {
    /// Somebody of an affiliation, and nothing else.
    pub const fn new(affiliation: Affiliation) -> Self {
        Self { affiliation, nick: None, reason: None, voice: None, last_nick: None, told: false }
    }

    /// Whether this says nothing.
    pub fn is_nobody(&self) -> bool {
        self.affiliation == Affiliation::None && self.nick.is_none() && self.voice.is_none()
    }
}

/// The last subject change.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// The message as it was sent to all, without `to`.
    pub message: Stanza,
    /// When.
    pub stamp: SystemTime,
}

/// A kind of hat (XEP-0317).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hat {
    /// What it is called.
    pub title: String,
    /// The language of the title.
    pub lang: Option<Box<str>>,
    /// The angle of its colour.
    pub hue: Option<Box<str>>,
}

/// Hats that there are, by URI, and who wears them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hats {
    /// By URI.
    pub kinds: BTreeMap<String, Hat>,
    /// URIs, by bare JID.
    pub worn: BTreeMap<BareJid, BTreeSet<String>>,
}

/// A token (XEP-0488) that makes members of those who enter with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Who has asked for it.
    pub creator: BareJid,
    /// When it is over.
    pub expires: SystemTime,
    /// How many people it makes members of; `None` is all who come in time.
    pub counter: Option<u32>,
}

/// Tokens, by their text.
pub type Tokens = BTreeMap<String, Token>;

/// A message in the room's archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its id, which is its stanza-id.
    pub id: u64,
    /// When the room took it.
    pub stamp: SystemTime,
    /// The message as it was sent to all, without `to`.
    pub stanza: Stanza,
    /// Whose it is: a full JID that only those may see who may see it in the room. `None` for the room's own.
    pub sender: Option<FullJid>,
    /// What it would be known by if it were sent again.
    pub digest: Option<u64>,
    /// Whether it is history for those who enter: a subject change is not (§7.2.14), nor what is only about another one.
    pub history: bool,
    /// Whether it is kept for queries, as the room's configuration says.
    pub archive: bool,
    /// It says itself when it was written, and its sender may say so (§7.9).
    pub stamped: bool,
}

/// A session in the room.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    /// Its full JID.
    pub jid: FullJid,
    /// Under which nickname.
    pub nick: Box<str>,
    /// With which role.
    pub role: Role,
    /// Whether others have been shown it; `None` if that is not known.
    pub shown: Option<bool>,
    /// Its presence as others see it, without what the room adds.
    pub presence: Stanza,
}

/// A change to be stored.
#[derive(Debug, Clone, PartialEq)]
pub enum RoomChange {
    /// The room exists from now on. Its configuration, people and visits follow.
    Create {
        /// When it was created.
        created: SystemTime,
    },
    /// The configuration.
    Config(Arc<Config>),
    /// What is known of a person; `None` forgets.
    Person(BareJid, Option<Person>),
    /// The subject.
    Subject(Subject),
    /// The vCard.
    Vcard(Option<Element>),
    /// The hats.
    Hats(Hats),
    /// The tokens.
    Tokens(Tokens),
    /// A message.
    Message(Message),
    /// The text of a message is taken back: what is left of it.
    Retract {
        /// The message's id.
        id: u64,
        /// Only if it came from this bare JID.
        by: Option<BareJid>,
        /// `<retracted/>`, to stand in place of all that the message said.
        tombstone: Element,
    },
    /// A session is in the room, or in it under another nickname or with another role. Nothing waits for this.
    Enter(Visit),
    /// A session has left. Nothing waits for this.
    Leave(FullJid),
    /// The room is gone, with all that belongs to it.
    Destroy,
}

/// A room as it is loaded.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// How it is configured.
    pub config: Config,
    /// When it was created.
    pub created: Option<SystemTime>,
    /// The last subject change.
    pub subject: Option<Subject>,
    /// The vCard.
    pub vcard: Option<Element>,
    /// The hats.
    pub hats: Hats,
    /// The tokens.
    pub tokens: Tokens,
    /// All people with an affiliation, a reserved nickname or a voice of their own.
    pub people: Vec<(BareJid, Person)>,
    /// Messages of the last day that may be sent again: digest and id, the oldest first.
    pub known: Vec<(u64, u64)>,
    /// The newest messages that are history, the oldest first; no more are needed than the configuration sends.
    pub history: Vec<Message>,
    /// Who was in the room when the process ended.
    pub visits: Vec<Visit>,
}
