//! XEP-0045 §7.6 and §7.7: changing nickname and availability; §17.3: probes.

use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::stanza::{PresenceType, Stanza};

use super::announce::Notice;
use super::nicks::NickKey;
use super::occupants::Seat;
use super::outcome::Outcome;
use super::permissions::Privilege;
use super::room::Room;
use super::status::Status;

impl Room {
    /// Available presence of somebody who is in the room.
    pub(super) fn update(
        &mut self,
        seat: Seat,
        from: &FullJid,
        nick: &str,
        stanza: &Stanza,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let renamed = self.occupants.get(seat).is_some_and(|occupant| occupant.nick() != nick);
        if renamed {
            self.rename(seat, from, nick, false, out)?;
        }
        let seat = self.seat_of(from).unwrap_or(seat);
        let presence = self.presence_of_client(stanza);
        self.put_presence(seat, from, presence, renamed, out);
        if let Some(occupant) = self.occupants.get(seat) {
            let mut own = self.own_view(occupant, &Notice::default());
            own.head.id.clone_from(&stanza.head.id);
            out.send(own, from);
        }
        Ok(())
    }

    /// Gives an occupant, with all its sessions, another nickname; says to all that the old one goes (303). That the new
    /// one comes is left to the caller. `silent`: this session learns it otherwise.
    pub(super) fn rename(
        &mut self,
        seat: Seat,
        from: &FullJid,
        nick: &str,
        silent: bool,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let key: NickKey = self.check_nick(nick)?;
        let jid = self.occupant_jid(nick)?;
        let Some(occupant) = self.occupants.get(seat) else { return Ok(()) };
        if !self.rank_of(occupant).may(Privilege::ChangeNick, &self.config) {
            return Err(Condition::Forbidden.into());
        }
        if self.locked_nick(from).is_some_and(|locked| *locked != *nick) {
            return Err(StanzaError::new(Condition::NotAcceptable).with_kind(ErrorKind::Cancel));
        }
        if self.is_taken(&key, from) {
            return Err(Condition::Conflict.into());
        }
        let notice = Notice { statuses: &[Status::NewNick], nick: Some(nick), ..Notice::default() };
        let own: Vec<FullJid> = occupant.sessions().cloned().collect();
        self.announce_departure(occupant, occupant.role, &notice, None, &own, out);
        let but = if silent { std::slice::from_ref(from) } else { &[] };
        self.farewell(occupant, occupant.role, &notice, but, out);
        match self.occupants.of_nick(&key).filter(|other| *other != seat) {
            // Only the same person's: §7.6 lets them meet.
            Some(other) => self.occupants.merge(seat, other),
            None => self.occupants.rename(seat, jid, key),
        }
        if let Some(seat) = self.seat_of(from) {
            self.store_visits(seat, out);
        }
        Ok(())
    }

    /// What an occupant, or its server, may ask for: the presence of the others, as it has seen them.
    pub(super) fn probe(&self, from: &Jid, to: &Jid, out: &mut Outcome) {
        let own = self.occupant_of(from).or_else(|| {
            // RFC 6121 §4.3: a server probes on behalf of the bare JID.
            let seat = self.occupants.of_person(from.as_str()).first()?;
            self.occupants.get(*seat)
        });
        let Some(own) = own else { return };
        let asked = match to.resourcepart() {
            None => Some(own),
            Some(nick) => self.occupants.named(nick).and_then(|seat| self.occupants.get(seat)),
        };
        match asked {
            Some(asked) if asked.jid == own.jid => out.send(self.own_view(own, &Notice::default()), from),
            Some(asked) if asked.shown => out.send(self.view(asked, self.sees_jids(own)), from),
            _ => out.send(Stanza::presence(PresenceType::Unavailable).from(to.clone()), from),
        }
    }
}
