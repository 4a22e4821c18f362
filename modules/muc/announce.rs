//! XEP-0045 §7.2.2 to §7.2.4: presence as the room sends it. Who may see real JIDs gets them, others do not (security.md
//! C5); what all of one kind get is one stanza.

use std::sync::Arc;

use rookery_xmpp::element::Element;
use rookery_xmpp::jid::FullJid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{Head, Kind, PresenceType, Stanza};

use super::image::{RoomChange, Visit};
use super::occupants::{Occupant, Seat};
use super::outcome::Outcome;
use super::payload::{self, Item};
use super::permissions::{Privilege, Rank};
use super::roles::{Affiliation, Role};
use super::room::Room;
use super::status::Status;

/// What a presence says beside what the occupant is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Notice<'a> {
    pub(super) statuses: &'a [Status],
    /// Status codes for the occupant's own sessions; 110 is always one.
    pub(super) own: &'a [Status],
    /// Who has caused it, by nickname.
    pub(super) actor: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    /// The new nickname, when the old one goes.
    pub(super) nick: Option<&'a str>,
    /// The lists' versions before and after (XEP-0463).
    pub(super) versions: Option<(u64, u64)>,
}

impl Room {
    pub(super) fn affiliation_of(&self, occupant: &Occupant) -> Affiliation {
        self.people.of(&occupant.who)
    }

    pub(super) fn rank_of(&self, occupant: &Occupant) -> Rank {
        Rank { role: occupant.role, affiliation: self.affiliation_of(occupant) }
    }

    /// Whether an occupant may see the real JIDs of the others.
    pub(super) fn sees_jids(&self, occupant: &Occupant) -> bool {
        self.rank_of(occupant).may(Privilege::SeeJids, &self.config)
    }

    /// A presence of an occupant without what the room says of it.
    fn presence_from(&self, occupant: &Occupant, kind: PresenceType, client: Option<&Stanza>) -> Stanza {
        let mut stanza = client.cloned().unwrap_or_else(|| Stanza::presence(kind));
        let lang = stanza.head.lang.take();
        stanza.head = Head { from: Some(occupant.jid.clone().into()), lang, ..Head::new(Kind::Presence(kind)) };
        stanza
    }

    /// What the room says of an occupant, behind its own words.
    fn add_room_words(&self, stanza: &mut Stanza, occupant: &Occupant, x: Element) {
        stanza.append(x);
        stanza.append(payload::occupant_id(self.id_of(occupant)));
        if let Some(hats) = self.hats_of(&occupant.who) {
            stanza.append(hats);
        }
    }

    fn x(&self, occupant: &Occupant, rank: Rank, with_jid: bool, notice: &Notice<'_>, own: bool) -> Element {
        let mut item = Item::new(rank.affiliation, rank.role);
        item.jid = occupant.first_session().filter(|_| with_jid).map(|jid| &**jid);
        (item.nick, item.actor, item.reason) = (notice.nick, notice.actor, notice.reason);
        let mut statuses = notice.statuses.to_vec();
        if own {
            statuses.extend([Status::OwnPresence].iter().chain(notice.own));
        }
        let x = payload::user_item(item, &statuses);
        match notice.versions.filter(|_| with_jid) {
            Some((since, until)) => x.child(self.versions_element(Some(since), until)),
            None => x,
        }
    }

    /// An occupant as others see it, with the real JID or without.
    pub(super) fn view(&self, occupant: &Occupant, with_jid: bool) -> Stanza {
        let place = if with_jid { &occupant.views.full } else { &occupant.views.plain };
        place.get_or_init(|| self.view_with(occupant, with_jid, &Notice::default())).clone()
    }

    fn view_with(&self, occupant: &Occupant, with_jid: bool, notice: &Notice<'_>) -> Stanza {
        let mut stanza = self.presence_from(occupant, PresenceType::Available, occupant.presence());
        let x = self.x(occupant, self.rank_of(occupant), with_jid, notice, false);
        self.add_room_words(&mut stanza, occupant, x);
        stanza
    }

    /// An occupant's presence to one of its own sessions.
    pub(super) fn own_view(&self, occupant: &Occupant, notice: &Notice<'_>) -> Stanza {
        let with_jid = self.sees_jids(occupant);
        let mut stanza = self.presence_from(occupant, PresenceType::Available, occupant.presence());
        let mut x = self.x(occupant, self.rank_of(occupant), with_jid, notice, true);
        if notice.versions.is_none() && self.rank_of(occupant).may(Privilege::ListMembers, &self.config) {
            x.push(self.versions_element(None, self.people.version()));
        }
        self.add_room_words(&mut stanza, occupant, x);
        stanza
    }

    /// Tells all who are to see an occupant how it is now, its own sessions last. Those in `but` are told otherwise.
    pub(super) fn announce(&self, seat: Seat, notice: &Notice<'_>, but: &[FullJid], out: &mut Outcome) {
        let Some(occupant) = self.occupants.get(seat) else { return };
        self.announce_to_others(occupant, notice, but, out);
        let own = self.own_view(occupant, notice);
        for session in occupant.sessions().filter(|session| !but.contains(session)) {
            out.send(own.clone(), session);
        }
    }

    pub(super) fn announce_to_others(
        &self,
        occupant: &Occupant,
        notice: &Notice<'_>,
        but: &[FullJid],
        out: &mut Outcome,
    ) {
        if !occupant.shown {
            return;
        }
        let is_plain = notice.statuses.is_empty()
            && notice.actor.is_none()
            && notice.reason.is_none()
            && notice.versions.is_none();
        let but: Vec<FullJid> = but.iter().chain(occupant.sessions()).cloned().collect();
        for (with_jid, all) in self.audiences() {
            let stanza =
                if is_plain { self.view(occupant, with_jid) } else { self.view_with(occupant, with_jid, notice) };
            out.send_many(stanza, all, &but);
        }
    }

    /// The sessions in the room: those who see real JIDs, and those who do not.
    pub(super) fn audiences(&self) -> impl Iterator<Item = (bool, &Arc<[FullJid]>)> {
        let lists = if self.config.is_non_anonymous() {
            [Some((true, self.occupants.all())), None]
        } else {
            [Some((true, self.occupants.moderators())), Some((false, self.occupants.others()))]
        };
        lists.into_iter().flatten()
    }

    /// Tells an occupant's own sessions that its nickname goes; the others are told by
    /// [`Room::announce_departure`]. `role` is what it still is: none, but for who only changes the nickname.
    pub(super) fn farewell(
        &self,
        occupant: &Occupant,
        role: Role,
        notice: &Notice<'_>,
        but: &[FullJid],
        out: &mut Outcome,
    ) {
        let rank = Rank { role, affiliation: self.affiliation_of(occupant) };
        let mut own = self.presence_from(occupant, PresenceType::Unavailable, None);
        let x = self.x(occupant, rank, self.sees_jids(occupant), notice, true);
        self.add_room_words(&mut own, occupant, x);
        for session in occupant.sessions().filter(|session| !but.contains(session)) {
            out.send(own.clone(), session);
        }
    }

    /// Tells all but the occupant itself that it is there no more, with its own last words. It may be out already.
    pub(super) fn announce_departure(
        &self,
        occupant: &Occupant,
        role: Role,
        notice: &Notice<'_>,
        last: Option<&Stanza>,
        but: &[FullJid],
        out: &mut Outcome,
    ) {
        if !occupant.shown {
            return;
        }
        let rank = Rank { role, affiliation: self.affiliation_of(occupant) };
        for (with_jid, all) in self.audiences() {
            let mut stanza = self.presence_from(occupant, PresenceType::Unavailable, last);
            let x = self.x(occupant, rank, with_jid, notice, false);
            self.add_room_words(&mut stanza, occupant, x);
            out.send_many(stanza, all, but);
        }
    }

    /// Whether an occupant of this role is shown to the others if it came now.
    pub(super) fn would_show(&self, role: Role) -> bool {
        let limits = &self.service.limits;
        let fits = self.occupants.len() < limits.thin_from || (role == Role::Moderator && limits.thin_to_moderators);
        self.config.presence_broadcast.holds(role) && fits
    }

    /// Gives a role, and tells everybody.
    pub(super) fn give_role(&mut self, seat: Seat, role: Role, notice: &Notice<'_>, out: &mut Outcome) {
        self.occupants.set_role(seat, role);
        self.store_visits(seat, out);
        self.announce_change(seat, notice, out);
    }

    /// Tells everybody of a new role or affiliation. Who is not to be shown any more goes from sight, and comes back.
    pub(super) fn announce_change(&mut self, seat: Seat, notice: &Notice<'_>, out: &mut Outcome) {
        self.occupants.touch(seat);
        let Some(occupant) = self.occupants.get(seat) else { return };
        let role = occupant.role;
        // Who is seen stays so in a room that has become large: else nobody would learn that they leave.
        let shown = self.config.presence_broadcast.holds(role) && (occupant.shown || self.would_show(role));
        if !shown {
            let own: Vec<FullJid> = occupant.sessions().cloned().collect();
            self.announce_departure(occupant, Role::None, &Notice::default(), None, &own, out);
        }
        let was_shown = occupant.shown;
        if let Some(occupant) = self.occupants.get_mut(seat) {
            occupant.shown = shown;
        }
        if shown != was_shown {
            self.store_visits(seat, out);
        }
        self.announce(seat, notice, &[], out);
    }

    /// Notes who is in the room, for after a restart.
    pub(super) fn store_visits(&self, seat: Seat, out: &mut Outcome) {
        let Some(occupant) = self.occupants.get(seat).filter(|_| self.is_stored()) else { return };
        for jid in occupant.sessions() {
            let presence =
                occupant.presence_of(jid).cloned().unwrap_or_else(|| Stanza::presence(PresenceType::Available));
            let nick = occupant.nick().into();
            let visit = Visit { jid: jid.clone(), nick, role: occupant.role, shown: Some(occupant.shown), presence };
            out.store.push(RoomChange::Enter(visit));
        }
    }

    /// The element that says which version the lists have.
    pub(super) fn versions_element(&self, since: Option<u64>, until: u64) -> Element {
        Element::new("mav", ns::MUC_AFFILIATIONS)
            .attr_opt("since", since.map(|since| format!("{since:x}")))
            .attr("until", format!("{until:x}"))
    }
}
