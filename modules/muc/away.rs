//! Members who are not in the room learn, where the conf says so, that something is said in it or that they are mentioned
//! (the case of XEP-0452, in a message that every client shows): once, until they have been in the room again.
//!
//! The message says where, and neither what nor by whom: that is for those who enter. Somebody is mentioned by a reference
//! (XEP-0372), or by the reserved nickname or the one of the last visit in the text.

use std::collections::BTreeSet;

use rookery_xmpp::element::Element;
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{MessageType, Stanza};

use super::affiliations::words;
use super::config::NotifyAway;
use super::image::{Person, RoomChange};
use super::nicks::NickKey;
use super::occupants::Seat;
use super::outcome::Outcome;
use super::roles::Affiliation;
use super::room::Room;

/// So many are told at once; the others by and by.
const AT_ONCE: usize = 200;
/// So many people one message may mention.
const MENTIONED: usize = 50;
/// So much of a text is searched for nicknames, and so many are compared.
const SEARCHED: usize = 4096;
const COMPARED: usize = 10_000;

impl Room {
    /// Something was said to all.
    pub(super) fn tell_away(&mut self, message: &Stanza, out: &mut Outcome) {
        match self.service.limits.notify_away {
            NotifyAway::Nobody => {}
            NotifyAway::Mentioned => {
                for who in self.mentioned(message) {
                    self.tell(&who, "You are mentioned in the room", out);
                }
            }
            NotifyAway::All => {
                self.owes_word = true;
                self.tell_rest(out);
            }
        }
    }

    /// Goes on telling those who were too many.
    pub(super) fn tell_rest(&mut self, out: &mut Outcome) {
        if !self.owes_word || !self.is_stored() {
            return;
        }
        let away = self.people.untold().filter(|who| self.is_away(who));
        let next: Vec<BareJid> = away.take(AT_ONCE).cloned().collect();
        self.owes_word = next.len() == AT_ONCE;
        for who in next {
            self.tell(&who, "There are new messages in the room", out);
        }
    }

    fn is_away(&self, who: &BareJid) -> bool {
        self.occupants.of_person(who.as_str()).is_empty()
    }

    fn tell(&mut self, who: &BareJid, what: &str, out: &mut Outcome) {
        let Some(person) = self.people.person(who.as_str()).cloned() else { return };
        let name = Some(self.config.name.as_str()).filter(|name| !name.is_empty());
        let body = match name {
            Some(name) => format!("{what} {name} ({}).", self.jid),
            None => format!("{what} {}.", self.jid),
        };
        // Without an id, so that no error for it is taken for one of an invitation's.
        let message = Stanza::message(MessageType::Normal)
            .from(self.jid.clone())
            .child(Element::new("body", ns::CLIENT).text(body));
        out.send(message, who.clone().into_jid());
        self.put_person(who, Person { told: true, ..person }, out);
    }

    /// The last of somebody's sessions under a nickname leaves.
    pub(super) fn note_departure(&mut self, seat: Seat, out: &mut Outcome) {
        if self.service.limits.notify_away == NotifyAway::Nobody {
            return;
        }
        let Some(occupant) = self.occupants.get(seat) else { return };
        let (who, nick) = (occupant.who.clone(), occupant.nick());
        let known = self.people.person(who.as_str()).filter(|person| person.affiliation >= Affiliation::Member);
        let Some(known) = known.filter(|known| known.told || known.last_nick.as_deref() != Some(nick)) else { return };
        let person = Person { told: false, last_nick: Some(nick.into()), ..known.clone() };
        self.put_person(&who, person, out);
    }

    fn put_person(&mut self, who: &BareJid, person: Person, out: &mut Outcome) {
        self.people.put(who.clone(), person.clone());
        self.keep(RoomChange::Person(who.clone(), Some(person)), out);
    }

    // ---- mentions -------------------------------------------------------------------------------------------------

    /// Those whom a message mentions, who are away and do not know it yet.
    fn mentioned(&self, message: &Stanza) -> BTreeSet<BareJid> {
        let mut found = BTreeSet::new();
        let references = message.children().iter().filter(|child| child.is("reference", ns::REFERENCE));
        let uris = references.filter(|child| child.get("type") == Some("mention")).filter_map(|child| child.get("uri"));
        for jid in uris.take(MENTIONED).filter_map(address) {
            if *jid.bare_str() != *self.jid.as_str() {
                found.insert(jid.bare());
            } else if let Some(nick) = jid.resourcepart() {
                self.named_in(nick, &mut found);
            }
        }
        for body in message.children().iter().filter(|child| child.is("body", ns::CLIENT)) {
            self.named_in(&body.content(), &mut found);
        }
        found.retain(|who| self.people.is_untold(who) && self.is_away(who));
        found.into_iter().take(MENTIONED).collect()
    }

    /// Those whose nicknames are in a text. Whoever is in the room under a nickname is meant by it, or has it reserved.
    fn named_in(&self, text: &str, found: &mut BTreeSet<BareJid>) {
        let words: Vec<String> = words(beginning(text)).collect();
        let mut left = COMPARED;
        for start in 0..words.len() {
            let rest = words.get(start..).unwrap_or_default();
            let Some(first) = rest.first() else { return };
            for (who, nick) in self.people.called(first) {
                let Some(fewer) = left.checked_sub(1) else { return };
                left = fewer;
                if self::words(nick)
                    .zip(rest.iter().map(Some).chain(std::iter::repeat(None)))
                    .all(|(a, b)| Some(&a) == b)
                    && self.means(nick, who)
                {
                    found.insert(who.clone());
                }
            }
        }
    }

    fn means(&self, nick: &str, who: &BareJid) -> bool {
        let Ok(key) = NickKey::new(nick) else { return false };
        self.occupants.of_nick(&key).is_none() && self.people.reserved_for(&key).is_none_or(|owner| owner == who)
    }
}

fn beginning(text: &str) -> &str {
    let end = (0..=SEARCHED.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// The address in an `xmpp:` URI (RFC 5122).
fn address(uri: &str) -> Option<Jid> {
    let path = uri.strip_prefix("xmpp:")?.split(['?', '#']).next()?;
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    Jid::new(str::from_utf8(&bytes).ok()?).ok()
}
