//! XEP-0045 §7.4: messages to all; XEP-0500: slow mode; XEP-0424: taking the own ones back.
//!
//! A message that is worth it goes to the archive, with a stanza-id (XEP-0359). One that was sent again goes back to who
//! has sent it, and to nobody else.

use std::time::Duration;

use rookery_xmpp::datetime;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{Kind, MessageType, Stanza};

use super::image::{Message, RoomChange, Subject};
use super::outcome::{At, Outcome};
use super::payload;
use super::permissions::{Privilege, Rank};
use super::roles::Affiliation;
use super::room::Room;
use super::subject;

/// Payloads other than a body for which a message is kept.
const LASTING: &[&str] = &[ns::OMEMO, ns::OMEMO_LEGACY, ns::REACTIONS, ns::RETRACT, ns::FASTEN];

/// Those that say something themselves, and are history.
const TEXTS: &[&str] = &[ns::OMEMO, ns::OMEMO_LEGACY];

/// So many people are remembered while there is slow mode before those are forgotten that may speak again.
const SPEAKERS: usize = 1000;

/// Whether a message is kept at all (XEP-0313 §6.1.2, XEP-0334).
fn is_kept(message: &Stanza) -> bool {
    if message.has("no-store", ns::HINTS) || message.has("no-permanent-store", ns::HINTS) {
        return false;
    }
    message.has("body", ns::CLIENT)
        || subject::is_change(message)
        || message.has("store", ns::HINTS)
        || message.has_such(|ns, _| LASTING.contains(&ns))
}

/// What it takes to say it.
fn needed(message: &Stanza) -> Privilege {
    match message.head.kind {
        Kind::Message(MessageType::Groupchat) if subject::is_change(message) => Privilege::ChangeSubject,
        Kind::Message(MessageType::Groupchat) => Privilege::Speak,
        _ => Privilege::Whisper,
    }
}

/// Whether who enters later is to have it.
fn is_history(message: &Stanza) -> bool {
    let says = message.has("body", ns::CLIENT) || message.has_such(|ns, _| TEXTS.contains(&ns));
    says && !message.has("retract", ns::RETRACT)
}

impl Room {
    /// A message of type "groupchat" to the room.
    pub(super) fn speak(&mut self, at: At, from: &Jid, stanza: &Stanza, out: &mut Outcome) -> Result<(), StanzaError> {
        let occupant = self.occupant_of(from).ok_or(Condition::NotAcceptable)?;
        let (rank, nick) = (self.rank_of(occupant), occupant.jid.clone());
        let occupant_id = payload::occupant_id(self.id_of(occupant));
        let from = from.full().ok_or(Condition::NotAcceptable)?;
        let is_subject = subject::is_change(stanza);
        if !rank.may(needed(stanza), &self.config) {
            return Err(Condition::Forbidden.into());
        }
        if self.is_locked() && is_kept(stanza) {
            // It is not in the database, and nothing that is said in it could be acknowledged.
            let text = "The room is not configured yet; what is said in it now would be lost.";
            return Err(StanzaError::new(Condition::NotAllowed).with_kind(ErrorKind::Wait).with_text(text));
        }
        if is_subject && stanza.size() > self.service.limits.text {
            return Err(StanzaError::new(Condition::NotAcceptable).with_text("This subject is too long."));
        }
        let retracted = self.retracted_by(&from, stanza)?;

        let mut message = stanza.clone();
        payload::strip(&mut message, &self.jid);
        message.head.from = Some(nick.into());
        message.head.to = None;
        message.append(occupant_id);
        let kept = is_kept(&message);
        let digest = at.digest.filter(|_| kept);
        if let Some(known) = digest.and_then(|digest| self.history.known(digest, at.stream, at.now)) {
            message.append(payload::stanza_id(&self.jid, known));
            out.send(message, &from);
            // The server may have ended between the two.
            if let Some(id) = retracted {
                self.retract(at, id, &from, stanza, out);
            }
            return Ok(());
        }
        self.check_slow_mode(at, rank, &from, stanza)?;

        if kept {
            message.append(payload::stanza_id(&self.jid, at.id));
        }
        self.activity.note(at.now, &message);
        out.send_many(message.clone(), self.occupants.all(), &[]);
        if is_subject {
            let subject = Subject { message: message.clone(), stamp: at.now };
            self.subject = Some(subject.clone());
            self.keep(RoomChange::Subject(subject), out);
        }
        if kept {
            // §7.9: an owner may bring a conversation along, with its own times.
            let stamped = rank.affiliation == Affiliation::Owner && message.has("delay", ns::DELAY);
            if is_history(&message) && !stamped {
                self.tell_away(&message, out);
            }
            self.keep_message(at, message, Some(from.clone()), stamped, out);
        }
        if let Some(id) = retracted {
            self.retract(at, id, &from, stanza, out);
        }
        Ok(())
    }

    /// Whether somebody is in the room and may say this to others.
    pub fn hears(&self, from: &Jid, message: &Stanza) -> bool {
        self.occupant_of(from).is_some_and(|occupant| self.rank_of(occupant).may(needed(message), &self.config))
    }

    /// Whether a message to all would be stored.
    pub fn would_keep(&self, message: &Stanza) -> bool {
        is_kept(message) && (self.config.archive || is_history(message) || subject::is_change(message))
    }

    /// Takes a message back at its sender's wish.
    fn retract(&mut self, at: At, id: u64, from: &FullJid, stanza: &Stanza, out: &mut Outcome) {
        let tombstone = Element::new("retracted", ns::RETRACT)
            .attr_opt("id", stanza.head.id.as_deref())
            .attr("stamp", datetime::format(at.now));
        self.history.retract(id);
        self.keep(RoomChange::Retract { id, by: Some(from.bare()), tombstone }, out);
    }

    /// Puts a message into history and archive.
    pub(super) fn keep_message(
        &mut self,
        at: At,
        stanza: Stanza,
        sender: Option<FullJid>,
        stamped: bool,
        out: &mut Outcome,
    ) {
        let history = is_history(&stanza);
        let message = Message {
            id: at.id,
            stamp: at.now,
            history,
            archive: self.config.archive,
            stamped,
            digest: at.digest,
            sender,
            stanza,
        };
        self.history.push(message.clone(), at.stream);
        if message.archive || message.history {
            self.keep(RoomChange::Message(message), out);
        }
    }

    /// The id of the message that this one takes back. Others' messages are not for who has not sent them.
    fn retracted_by(&self, from: &FullJid, stanza: &Stanza) -> Result<Option<u64>, StanzaError> {
        let Some(retract) = stanza.find("retract", ns::RETRACT) else { return Ok(None) };
        // Only the room says that a moderator has done it (XEP-0425).
        if retract.elements().any(|child| child.ns() == ns::MODERATE) {
            return Err(Condition::BadRequest.into());
        }
        let Some(id) = retract.get("id").and_then(|id| id.parse().ok()) else { return Ok(None) };
        match self.history.sender(id) {
            Some(sender) if sender.bare_str() != from.bare_str() => Err(Condition::Forbidden.into()),
            _ => Ok(Some(id)),
        }
    }

    /// XEP-0500 §5: whether somebody speaks too soon after they have spoken, by whichever session and nickname.
    fn check_slow_mode(&mut self, at: At, rank: Rank, from: &FullJid, stanza: &Stanza) -> Result<(), StanzaError> {
        let pause = Duration::from_secs(self.config.slow_mode.into());
        if pause.is_zero() || rank.affiliation >= Affiliation::Admin || !stanza.has("body", ns::CLIENT) {
            return Ok(());
        }
        let is_over = |spoke: &std::time::SystemTime| !at.now.duration_since(*spoke).is_ok_and(|since| since < pause);
        if self.spoke.get(from.bare_str()).is_some_and(|spoke| !is_over(spoke)) {
            let text = format!("In this room {} seconds must pass between two messages.", pause.as_secs());
            return Err(StanzaError::new(Condition::PolicyViolation).with_kind(ErrorKind::Wait).with_text(text));
        }
        if self.spoke.len() >= SPEAKERS {
            self.spoke.retain(|_, spoke| !is_over(spoke));
        }
        self.spoke.insert(from.bare(), at.now);
        Ok(())
    }
}
