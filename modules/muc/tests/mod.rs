//! Conversations with a room: who says what, and what everybody gets. The people and the room are the XEP's.
//!
//! Occupant ids are left out of what is compared, where a test does not ask for them.

mod admins;
mod away;
mod conversations;
mod elsewhere;
mod entering;
mod leaks;
mod matrix;
mod moderators;
mod occupants;
mod owners;
mod properties;
mod service;
mod tokens;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rookery_xmpp::datetime;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::Stanza;

use super::config::{Config, Limits};
use super::image::{Image, Person, RoomChange, Visit};
use super::outcome::{At, Outcome, Stored};
use super::roles::{Affiliation, Role};
use super::room::{Room, Service};

const ROOM: &str = "coven@chat.shakespeare.lit";
const CRONE: &str = "crone1@shakespeare.lit/desktop";
const WICCA: &str = "wiccarocks@shakespeare.lit/laptop";
const HAG: &str = "hag66@shakespeare.lit/pda";
const HECATE: &str = "hecate@shakespeare.lit/broom";

fn jid(text: &str) -> Jid {
    Jid::new(text).unwrap()
}

fn bare(text: &str) -> BareJid {
    jid(text).bare()
}

fn service(limits: Limits) -> Arc<Service> {
    // Any function will do that differs by person and room, and hides the person.
    let occupant_id = |room: &BareJid, who: &BareJid| {
        let sum = |text: &str| text.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        format!("{:x}", sum(room.as_str()) ^ sum(who.as_str()).rotate_left(17))
    };
    let last = std::sync::atomic::AtomicU64::new(0);
    let token = move || Some(format!("token-{}", 1 + last.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
    Arc::new(Service { limits, occupant_id: Box::new(occupant_id), token: Box::new(token) })
}

/// A room, a clock, and a database that remembers what it was given.
struct Stage {
    room: Room,
    now: SystemTime,
    id: u64,
    stored: Vec<RoomChange>,
    /// What the database says next.
    answer: Result<Stored, StanzaError>,
    keep_occupant_ids: bool,
}

/// What one gets.
#[derive(Clone, PartialEq)]
struct Got {
    to: String,
    stanza: Stanza,
}

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "\n  {}", self.stanza.clone().to(jid(&self.to)).to_xml())
    }
}

fn start() -> SystemTime {
    datetime::parse("2002-10-13T23:58:37Z").unwrap()
}

impl Stage {
    /// A room of this configuration with the people of the XEP (§4.3), none of whom is in it.
    fn new(config: Config) -> Self {
        Self::with_limits(config, Limits::default())
    }

    fn with_limits(config: Config, limits: Limits) -> Self {
        let people = [(CRONE, Affiliation::Owner), (WICCA, Affiliation::Admin)];
        Self::of(config, limits, &people, &[])
    }

    /// A room as it was stored, with these affiliations and visits.
    fn of(config: Config, limits: Limits, people: &[(&str, Affiliation)], visits: &[(&str, &str, Role)]) -> Self {
        let image = Image {
            config,
            created: Some(start()),
            people: people.iter().map(|(who, affiliation)| (bare(who), Person::new(*affiliation))).collect(),
            visits: visits
                .iter()
                .map(|(who, nick, role)| Visit {
                    jid: jid(who).full().unwrap(),
                    nick: (*nick).into(),
                    role: *role,
                    shown: None,
                    presence: "<presence/>".parse().unwrap(),
                })
                .collect(),
            ..Image::default()
        };
        let at = At { now: start(), id: 1000, digest: None, stream: None };
        Self::around(Room::restore(bare(ROOM), service(limits), image, at))
    }

    fn around(room: Room) -> Self {
        Self { room, now: start(), id: 1000, stored: Vec::new(), answer: Ok(Stored::Done), keep_occupant_ids: false }
    }

    /// The same with the three witches in it.
    fn witches(config: Config) -> Self {
        let mut stage = Self::new(config);
        stage.enter(CRONE, "firstwitch");
        stage.enter(WICCA, "secondwitch");
        stage.enter(HAG, "thirdwitch");
        stage
    }

    /// The same room after a restart of the server: of messages and visits, what was stored, in the database's order.
    fn restarted(&mut self, limits: Limits) -> Self {
        let mut image = Image {
            config: self.room.config().clone(),
            created: Some(start()),
            people: self.room.people.iter().map(|(who, person)| (who.clone(), person.clone())).collect(),
            ..Image::default()
        };
        let mut visits = std::collections::BTreeMap::new();
        for change in &self.stored {
            match change {
                RoomChange::Enter(visit) => {
                    visits.insert(visit.jid.to_string(), visit.clone());
                }
                RoomChange::Leave(jid) => {
                    visits.remove(jid.as_str());
                }
                RoomChange::Message(message) if message.history => image.history.push(message.clone()),
                _ => {}
            }
        }
        image.visits = visits.into_values().collect();
        let at = self.at();
        Self { now: self.now, id: self.id, ..Self::around(Room::restore(bare(ROOM), service(limits), image, at)) }
    }

    fn at(&mut self) -> At {
        self.id += 1;
        At { now: self.now, id: self.id, digest: None, stream: None }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn enter(&mut self, who: &str, nick: &str) -> Vec<Got> {
        let got = self
            .from(who, &format!("<presence to='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"));
        assert!(self.room.seat_of(&jid(who)).is_some(), "{who} does not get in: {got:?}");
        got
    }

    /// Somebody sends something; the database does what it is asked.
    fn from(&mut self, who: &str, xml: &str) -> Vec<Got> {
        let stanza: Stanza = xml.parse().unwrap_or_else(|error| panic!("{error}: {xml}"));
        let stanza = stanza.from(jid(who));
        let at = self.at();
        let outcome = self.room.handle(at, stanza);
        self.finish(outcome)
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Got> {
        let Outcome { send, store, pending } = outcome;
        let mut got: Vec<Got> = Vec::new();
        for delivery in &send {
            for to in delivery.to.iter() {
                let mut stanza = delivery.stanza.clone();
                assert!(stanza.head.to.is_none() || stanza.head.to.as_ref() == Some(to), "{stanza:?} to {to}");
                stanza.head.to = None;
                if !self.keep_occupant_ids {
                    stanza.strip(&[(ns::OCCUPANT_ID, "occupant-id")]);
                }
                got.push(Got { to: to.as_str().to_owned(), stanza });
            }
        }
        if let Some(pending) = pending {
            assert!(got.is_empty(), "nothing goes out before it is stored: {got:?}");
            let answer = self.answer.clone();
            if answer == Ok(Stored::Done) {
                self.stored.extend(store);
            }
            let at = self.at();
            let outcome = self.room.stored(at, pending, answer);
            got.extend(self.finish(outcome));
        } else {
            self.stored.extend(store);
        }
        got
    }

    /// Somebody sends something, and this is what all get, in this order.
    #[track_caller]
    fn check(&mut self, who: &str, xml: &str, expected: &str) {
        let got = self.from(who, xml);
        check(&got, expected);
    }

    /// The same, where only what one of them gets matters.
    #[track_caller]
    fn check_one(&mut self, who: &str, xml: &str, reader: &str, expected: &str) {
        let got: Vec<Got> = self.from(who, xml).into_iter().filter(|got| got.to == reader).collect();
        check(&got, expected);
    }

    /// Somebody sends something, and gets this error, and nobody else anything.
    #[track_caller]
    fn refused(&mut self, who: &str, xml: &str, condition: &str) {
        let got = self.from(who, xml);
        assert_eq!(got.len(), 1, "{got:?}");
        assert_eq!((got[0].to.as_str(), error_of(&got[0]).as_str()), (who, condition), "{got:?}");
    }

    fn affiliation(&self, who: &str) -> Affiliation {
        self.room.people.of(&jid(who))
    }

    fn role(&self, who: &str) -> Role {
        self.room.occupant_of(&jid(who)).map_or(Role::None, |occupant| occupant.role)
    }
}

/// The type and condition of an error.
fn error_of(got: &Got) -> String {
    let error = got.stanza.children().iter().find_map(StanzaError::from_element);
    error.map(|error| format!("{} {}", error.kind.name(), error.condition)).unwrap_or_default()
}

/// Stanzas that stand one behind the other, each with its `to`.
#[track_caller]
fn check(got: &[Got], expected: &str) {
    let whole = format!("<all xmlns='jabber:client'>{expected}</all>");
    let all: rookery_xmpp::element::Element = whole.parse().unwrap_or_else(|error| panic!("{error}: {expected}"));
    let expected: Vec<Got> = all
        .elements()
        .map(|element| {
            let mut stanza: Stanza = element.to_xml().parse().unwrap();
            let to = stanza.head.to.take().unwrap_or_else(|| panic!("no 'to': {element}"));
            Got { to: to.as_str().to_owned(), stanza }
        })
        .collect();
    let text = |list: &[Got]| -> Vec<String> {
        // Elements are compared without the white space between them, as people write it.
        list.iter().map(|got| squeezed(&got.stanza.clone().to(jid(&got.to)).to_xml())).collect()
    };
    let (got, expected) = (text(got), text(&expected));
    assert_eq!(got, expected, "\ngot:\n{}\nexpected:\n{}\n", got.join("\n"), expected.join("\n"));
}

/// A stanza in one spelling: attributes by name, no blank text.
fn squeezed(xml: &str) -> String {
    use rookery_xmpp::element::{Element, Node};
    fn write(element: &Element, outer: &str, out: &mut String) {
        let mut attributes: Vec<String> =
            element.attributes().map(|(_, name, value)| format!(" {name}='{value}'")).collect();
        attributes.sort();
        *out += &format!("<{}", element.name());
        if element.ns() != outer {
            *out += &format!(" xmlns='{}'", element.ns());
        }
        *out += &attributes.concat();
        out.push('>');
        for node in element.nodes() {
            match node {
                Node::Element(child) => write(child, element.ns(), out),
                Node::Text(text) => *out += text.trim(),
            }
        }
        *out += &format!("</{}>", element.name());
    }
    let mut out = String::new();
    write(&xml.parse().unwrap(), ns::CLIENT, &mut out);
    out
}
