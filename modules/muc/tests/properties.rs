//! Random people do random things. Whatever they do, some things hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rookery_xmpp::stanza::{IqType, Kind, PresenceType};

use super::*;
use crate::muc::config::Whois;

const PEOPLE: [&str; 7] = [
    "a@verona.lit/1",
    "a@verona.lit/2",
    "b@verona.lit/1",
    "c@verona.lit/1",
    "d@verona.lit/1",
    "e@verona.lit/1",
    "f@verona.lit/1",
];

const NICKS: [&str; 5] = ["Alpha", "alpha ", "beta", "gamma", "delta"];

/// What somebody does: the actor, and numbers that choose.
type Deed = (usize, usize, usize, usize);

fn stanza((_, kind, x, y): Deed) -> String {
    let pick = |list: &[&'static str], n: usize| list[n % list.len()];
    let (room, nick, person) = (ROOM, pick(&NICKS, x), pick(&PEOPLE, x).split('/').next().unwrap());
    let role = pick(&["none", "visitor", "participant", "moderator"], y);
    let affiliation = pick(&["outcast", "none", "member", "admin", "owner"], y);
    let admin = |items: String| {
        format!(
            "<iq type='set' id='1' to='{room}'><query xmlns='http://jabber.org/protocol/muc#admin'>{items}</query></iq>"
        )
    };
    let config = |var: &str, value: &str| {
        format!(
            "<iq type='set' id='1' to='{room}'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>\
                 <field var='muc#roomconfig_{var}'><value>{value}</value></field></x></query></iq>"
        )
    };
    match kind {
        0..=5 => format!("<presence id='1' to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"),
        6..=7 => {
            format!("<presence id='1' to='{room}/{nick}'><show>away</show><priority>{}</priority></presence>", y % 3)
        }
        8..=9 => format!("<presence to='{room}/{nick}' type='unavailable'/>"),
        10..=11 => format!("<message id='1' type='groupchat' to='{room}'><body>x</body></message>"),
        12 => format!("<message id='1' type='groupchat' to='{room}'><subject>x</subject></message>"),
        13 => format!("<message id='1' type='chat' to='{room}/{nick}'><body>x</body></message>"),
        14..=16 => admin(format!("<item nick='{nick}' role='{role}'/>")),
        17..=20 => admin(format!("<item jid='{person}' affiliation='{affiliation}'/>")),
        21 => admin(format!("<item jid='{person}' affiliation='{affiliation}'/><item nick='{nick}' role='{role}'/>")),
        22 => config("membersonly", pick(&["0", "1"], y)),
        23 => config("moderatedroom", pick(&["0", "1"], y)),
        24 => config("whois", pick(&["anyone", "moderators"], y)),
        25 => config("presencebroadcast", pick(&["moderator", "participant", "visitor"], y)),
        26 => config("roomowners", person),
        27 => config("roomadmins", person),
        28 => format!(
            "<message id='1' to='{room}'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='{person}'/></x></message>"
        ),
        29 => format!("<iq type='get' id='1' to='{room}/{nick}'><query xmlns='jabber:iq:version'/></iq>"),
        30 => format!(
            "<iq type='get' id='1' to='{room}'><query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='{affiliation}'/></query></iq>"
        ),
        31 => format!(
            "<message type='error' to='{room}/{nick}'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        ),
        32 => format!(
            "<iq type='set' id='1' to='{room}'><query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'><field var='muc#register_roomnick'><value>{nick}</value></field></x></query></iq>"
        ),
        33 => format!("<iq type='set' id='1' to='{room}'><query xmlns='jabber:iq:register'><remove/></query></iq>"),
        34 => format!("<presence type='probe' to='{room}/{nick}'/>"),
        35 => config("presencebroadcast", "moderator</value><value>participant</value><value>visitor"),
        _ => format!("<iq type='get' id='1' to='{room}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"),
    }
}

/// What a client believes of the room: nickname, affiliation and role of those it sees.
type View = BTreeMap<String, (String, String)>;

#[derive(Default)]
struct Clients(BTreeMap<String, View>);

impl Clients {
    fn read(&mut self, got: &Got) {
        let Kind::Presence(kind @ (PresenceType::Available | PresenceType::Unavailable)) = got.stanza.head.kind else {
            return;
        };
        let Some(x) = got.stanza.find("x", ns::MUC_USER) else { return };
        let codes: Vec<&str> = x.elements().filter_map(|child| child.get("code")).collect();
        let item = x.find("item", ns::MUC_USER).expect("an item in each presence");
        let nick = got.stanza.head.from.as_ref().unwrap().resourcepart().unwrap().to_owned();
        let view = self.0.entry(got.to.clone()).or_default();
        let word = |name: &str| item.get(name).unwrap().to_owned();
        if kind == PresenceType::Available {
            view.insert(nick, (word("affiliation"), word("role")));
        } else {
            view.remove(&nick);
            if codes.contains(&"110") && !codes.contains(&"303") {
                self.0.remove(&got.to);
            }
        }
    }
}

fn sessions(room: &Room) -> BTreeSet<String> {
    room.sessions().iter().map(ToString::to_string).collect()
}

/// All that must hold of a room at any time.
fn check_room(room: &Room) {
    assert!(room.is_gone() || room.people.owners() >= 1);
    assert_eq!(room.people.owners(), room.people.list(Affiliation::Owner).count());
    let mut nicks = BTreeSet::new();
    for (_, occupant) in room.occupants.iter() {
        let affiliation = room.affiliation_of(occupant);
        assert!(occupant.role != Role::None && affiliation != Affiliation::Outcast);
        assert!(!room.config.members_only || affiliation >= Affiliation::Member);
        assert!(
            affiliation < Affiliation::Admin || occupant.role == Role::Moderator,
            "{affiliation:?} {:?}",
            occupant.role
        );
        assert!(occupant.sessions().len() > 0);
        assert!(nicks.insert(crate::muc::nicks::NickKey::new(occupant.nick()).unwrap()));
        for session in occupant.sessions() {
            assert_eq!(session.bare(), occupant.who);
            assert_eq!(room.occupant_of(session).unwrap().jid, occupant.jid);
        }
        assert!(!room.occupants.of_person(occupant.who.as_str()).is_empty());
        assert!(
            room.people
                .reserved_for(&crate::muc::nicks::NickKey::new(occupant.nick()).unwrap())
                .is_none_or(|who| *who == occupant.who)
                || room.people.person(occupant.who.as_str()).is_none_or(|p| p.nick.is_none())
        );
    }
}

/// What everybody sees is what is so.
fn check_views(room: &Room, clients: &Clients) {
    for (_, reader) in room.occupants.iter() {
        let seen = room.occupants.iter().map(|(_, occupant)| occupant).filter(|o| o.shown || o.jid == reader.jid);
        let expected: View = seen
            .map(|o| (o.nick().to_owned(), (room.affiliation_of(o).name().to_owned(), o.role.name().to_owned())))
            .collect();
        for session in reader.sessions() {
            assert_eq!(clients.0.get(session.as_str()), Some(&expected), "{session} sees something else");
        }
    }
    let inside = sessions(room);
    for who in clients.0.keys() {
        assert!(inside.contains(who), "{who} believes to be in the room");
    }
}

/// The room as its changes, one after the other, would have it after a restart.
fn rebuilt(base: &Image, stored: &[RoomChange]) -> Option<Image> {
    let mut image = base.clone();
    for change in stored {
        match change {
            RoomChange::Config(config) => image.config = (**config).clone(),
            RoomChange::Person(who, person) => {
                image.people.retain(|(other, _)| other != who);
                image.people.extend(person.clone().map(|person| (who.clone(), person)));
            }
            RoomChange::Enter(visit) => match image.visits.iter_mut().find(|other| other.jid == visit.jid) {
                Some(known) => *known = visit.clone(),
                None => image.visits.push(visit.clone()),
            },
            RoomChange::Leave(who) => image.visits.retain(|visit| visit.jid != *who),
            RoomChange::Destroy => return None,
            _ => {}
        }
    }
    Some(image)
}

fn people_of(room: &Room) -> Vec<(BareJid, Person)> {
    room.people.iter().map(|(who, person)| (who.clone(), person.clone())).collect()
}

fn roles_of(room: &Room) -> BTreeMap<String, (String, Role)> {
    let occupants = room.occupants.iter().map(|(_, occupant)| occupant);
    occupants
        .flat_map(|o| o.sessions().map(|s| (s.to_string(), (o.nick().to_owned(), o.role))).collect::<Vec<_>>())
        .collect()
}

fn act(deeds: &[Deed], persistent: bool) {
    let config = Config { persistent, ..Config::default() };
    let owner = (bare(PEOPLE[0]), Person::new(Affiliation::Owner));
    let visit = Visit {
        jid: jid(PEOPLE[0]).full().unwrap(),
        nick: "delta".into(),
        role: Role::Moderator,
        shown: None,
        presence: "<presence/>".parse().unwrap(),
    };
    let base = Image { config, people: vec![owner], visits: vec![visit], ..Image::default() };
    let at = At { now: start(), id: 1000, digest: None, stream: None };
    let mut stage = Stage::around(Room::restore(
        bare(ROOM),
        service(Limits { sessions: 3, ..Limits::default() }),
        base.clone(),
        at,
    ));
    let mut clients = Clients::default();
    clients.0.insert(PEOPLE[0].to_owned(), [("delta".to_owned(), ("owner".to_owned(), "moderator".to_owned()))].into());

    for deed in deeds {
        let who = PEOPLE[deed.0 % PEOPLE.len()];
        let sent = stanza(*deed);
        let (before, moderators): (BTreeSet<String>, BTreeSet<String>) = (
            sessions(&stage.room),
            stage
                .room
                .occupants
                .iter()
                .filter(|(_, o)| o.role == Role::Moderator)
                .flat_map(|(_, o)| o.sessions().map(ToString::to_string).collect::<Vec<_>>())
                .collect(),
        );
        let hidden_before = stage.room.config.whois == Whois::Moderators;
        let parsed: Stanza = sent.parse().unwrap();
        let is_join = parsed.has("x", ns::MUC);
        let got = stage.from(who, &sent);
        if is_join && got.iter().any(|got| got.to == who && got.stanza.to_xml().contains("code='110'")) {
            // Who enters begins with nothing.
            clients.0.insert(who.to_owned(), View::new());
        }
        got.iter().for_each(|got| clients.read(got));

        check_room(&stage.room);
        check_views(&stage.room, &clients);
        let after = sessions(&stage.room);
        for got in &got {
            let invite = got.stanza.find("x", ns::MUC_USER).and_then(|x| x.find("invite", ns::MUC_USER));
            let invitation = invite.is_some();
            assert!(
                before.contains(&got.to) || after.contains(&got.to) || got.to == who || invitation,
                "{sent}: {got:?}"
            );
            // Real addresses are for moderators, for admins, and for who is asked by it.
            let hidden = hidden_before && stage.room.config.whois == Whois::Moderators;
            let inviter = invite.and_then(|invite| invite.get("from"));
            assert!(!hidden || inviter.is_none_or(|inviter| jid(inviter).bare() == bare(ROOM)), "{sent}: {got:?}");
            let rank = stage.room.rank(&jid(&got.to));
            let may =
                moderators.contains(&got.to) || rank.role == Role::Moderator || rank.affiliation >= Affiliation::Admin;
            if hidden && !may && !invitation && got.stanza.head.from.as_ref() != Some(&jid(ROOM)) {
                let own = jid(&got.to).bare().to_string();
                assert!(!got.stanza.to_xml().replace(&own, "").contains("@verona.lit"), "{sent}: {got:?}");
            }
        }
        // Each request has one answer, and no error has any. Beside that, who has gone by it leaves questions unanswered.
        let is_of_room = |jid: &Option<Jid>| jid.as_ref().is_some_and(Jid::is_bare);
        let answers = got
            .iter()
            .filter(|got| got.to == who && matches!(got.stanza.head.kind, Kind::Iq(IqType::Result | IqType::Error)))
            .filter(|got| is_of_room(&got.stanza.head.from) == is_of_room(&parsed.head.to))
            .count();
        let asked =
            got.iter().filter(|got| matches!(got.stanza.head.kind, Kind::Iq(IqType::Get | IqType::Set))).count();
        match parsed.head.kind {
            Kind::Iq(_) => assert_eq!(answers + asked, 1, "{sent}: {got:?}"),
            kind if kind.is_error() => {
                assert!(!got.iter().any(|got| got.to == who && got.stanza.head.kind.is_error()), "{sent}: {got:?}");
            }
            _ => {}
        }
        // What is stored is what is so.
        let image = rebuilt(&base, &stage.stored);
        assert_eq!(image.is_none(), stage.room.is_gone(), "{sent}");
        let Some(image) = image else { return };
        let at = stage.at();
        let again = Room::restore(bare(ROOM), service(Limits::default()), image, at);
        assert_eq!(people_of(&again), people_of(&stage.room));
        assert_eq!(roles_of(&again), roles_of(&stage.room));
        assert_eq!(again.config, stage.room.config);
        stage.pass(1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_people_do(deeds in prop::collection::vec((0..7_usize, 0..37_usize, 0..7_usize, 0..5_usize), 1..80), persistent: bool) {
        act(&deeds, persistent);
    }
}
