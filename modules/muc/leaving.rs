//! XEP-0045 §7.14: exiting; §11: removal by the service; §18.1.2: ghosts, whom errors give away.

use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Stanza};

use super::announce::Notice;
use super::image::RoomChange;
use super::occupants::{Occupant, Seat};
use super::outcome::Outcome;
use super::payload;
use super::roles::Role;
use super::room::Room;
use super::status::Status;

/// Why a session is taken out that does not answer.
const GHOST: Notice<'static> =
    Notice { statuses: &[Status::TechnicalProblem], own: &[], actor: None, reason: None, nick: None, versions: None };

/// The id of the question whether somebody is there. Nobody but who is asked can answer it, and who answers in a wrong way
/// harms nobody else; so it need not be a secret.
const WHETHER_THERE: &str = "whether-there";

/// Errors that say that somebody is not there (§18.1.2), and those that servers send for it as well.
pub(super) fn says_gone(condition: Condition) -> bool {
    matches!(
        condition,
        Condition::Gone
            | Condition::ItemNotFound
            | Condition::RecipientUnavailable
            | Condition::Redirect
            | Condition::RemoteServerNotFound
            | Condition::RemoteServerTimeout
            | Condition::ServiceUnavailable
            | Condition::JidMalformed
            | Condition::InternalServerError
    )
}

/// The error in a stanza of type "error".
pub(super) fn error_in(stanza: &Stanza) -> StanzaError {
    let read = stanza.children().iter().find_map(StanzaError::from_element);
    read.unwrap_or_else(|| Condition::UndefinedCondition.into())
}

impl Room {
    /// Unavailable presence. Of who is not in the room it is ignored (§17.3).
    pub(super) fn leave(&mut self, from: &Jid, _to: &Jid, stanza: &Stanza, out: &mut Outcome) {
        if let Some(from) = from.full().filter(|from| self.seat_of(from).is_some()) {
            let mut last = stanza.clone();
            payload::strip(&mut last, &self.jid);
            self.session_left(&from, Some(&last), &Notice::default(), out);
        }
    }

    /// Somebody is known not to be there any more: after a restart, or because a connection is lost.
    pub fn gone(&mut self, session: &FullJid) -> Outcome {
        let mut out = Outcome::default();
        self.session_left(session, None, &GHOST, &mut out);
        out
    }

    /// The same of several who are gone together, as when their server cannot be reached: each is told, should it ever be
    /// reached, that it is out; nobody is told of it who goes as well.
    pub fn gone_together(&mut self, sessions: &[FullJid]) -> Outcome {
        let mut out = Outcome::default();
        let mut left = Vec::new();
        for session in sessions {
            let Some(seat) = self.seat_of(session).filter(|_| !self.is_gone()) else { continue };
            let is_last = self.occupants.get(seat).is_some_and(|occupant| occupant.sessions().len() == 1);
            if self.is_locked() || !is_last {
                self.session_left(session, None, &GHOST, &mut out);
            } else {
                left.extend(self.expel(seat, &GHOST, &mut out));
            }
        }
        for occupant in &left {
            self.announce_departure(occupant, Role::None, &GHOST, None, &[], &mut out);
        }
        self.end_if_empty(&mut out);
        out
    }

    /// Asks those whether they are there whose servers alone know: people of other servers, after a restart of this one.
    pub fn ask_whether_there(&self, sessions: &[FullJid]) -> Outcome {
        let mut out = Outcome::default();
        for session in sessions {
            let ping = Stanza::iq(IqType::Get, WHETHER_THERE).from(self.jid.clone());
            out.send(ping.child(Element::new("ping", ns::PING)), session);
        }
        out
    }

    /// The answer. Whatever a client says, it is there, unless it says what its server says of who is not; who says nothing
    /// may have lost the connection for a while.
    pub(super) fn answer_whether_there(&mut self, from: &Jid, stanza: &Stanza, out: &mut Outcome) {
        let is_error = stanza.head.kind.is_error() && stanza.head.id.as_deref() == Some(WHETHER_THERE);
        if let Some(from) = from.full().filter(|_| is_error && says_gone(error_in(stanza).condition)) {
            self.session_left(&from, None, &GHOST, out);
        }
    }

    /// The service ends: tells everybody so (§11.2). The room itself stays as it is, and notes the presence of those who may
    /// be in it afterwards: to store each as it changes would be a write for every one.
    pub fn shutdown(&self) -> Outcome {
        let mut out = Outcome::default();
        let notice = Notice { statuses: &[Status::Shutdown], ..Notice::default() };
        for (seat, occupant) in self.occupants.iter() {
            self.farewell(occupant, Role::None, &notice, &[], &mut out);
            if occupant.changed {
                self.store_visits(seat, &mut out);
            }
        }
        out
    }

    pub(super) fn presence_error(&mut self, from: &Jid, stanza: &Stanza, out: &mut Outcome) {
        if let Some(from) = from.full().filter(|_| says_gone(error_in(stanza).condition)) {
            self.session_left(&from, None, &GHOST, out);
        }
    }

    /// An error for a message that the room has sent.
    pub(super) fn message_error(&mut self, from: &Jid, to: &Jid, stanza: &Stanza, out: &mut Outcome) {
        if self.private_error(from, to, stanza, out) {
            return;
        }
        if to.is_bare() {
            self.invitation_error(from, stanza, out);
        }
        if let Some(from) = from.full().filter(|_| says_gone(error_in(stanza).condition)) {
            self.session_left(&from, None, &GHOST, out);
        }
    }

    /// One session has left. If it was the last under its nickname, so has the occupant.
    pub(super) fn session_left(
        &mut self,
        session: &FullJid,
        last: Option<&Stanza>,
        notice: &Notice<'_>,
        out: &mut Outcome,
    ) {
        let Some(seat) = self.seat_of(session) else { return };
        let Some(occupant) = self.occupants.get(seat) else { return };
        // Its maker may be in it by several sessions.
        if self.is_locked() && self.occupants.all().len() == 1 {
            return self.dissolve(&Element::new("destroy", ns::MUC_USER), out);
        }
        if occupant.sessions().len() == 1 {
            if let Some(occupant) = self.expel(seat, notice, out) {
                self.announce_departure(&occupant, Role::None, notice, last, &[], out);
            }
        } else {
            let others: Vec<FullJid> = occupant.sessions().filter(|other| *other != session).cloned().collect();
            let first = occupant.first_session().cloned();
            self.farewell(occupant, Role::None, notice, &others, out);
            self.occupants.drop_session(session);
            self.forget_session(session, out);
            if self.occupants.get(seat).and_then(Occupant::first_session) != first.as_ref() {
                self.announce(seat, &Notice::default(), &[], out);
            }
        }
        self.end_if_empty(out);
    }

    /// Takes an occupant out and tells its sessions. The others are to be told by [`Room::announce_departure`].
    pub(super) fn expel(&mut self, seat: Seat, notice: &Notice<'_>, out: &mut Outcome) -> Option<Occupant> {
        self.farewell(self.occupants.get(seat)?, Role::None, notice, &[], out);
        self.note_departure(seat, out);
        let occupant = self.occupants.leave(seat)?;
        for session in occupant.sessions() {
            self.forget_session(session, out);
        }
        Some(occupant)
    }

    fn forget_session(&mut self, session: &FullJid, out: &mut Outcome) {
        self.forget_queries(session, out);
        self.keep(RoomChange::Leave(session.clone()), out);
    }
}
