//! Between what a room says is to be stored and what the database keeps: XML that only we read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rookery_core::control::rooms::ListedRoom;
use rookery_core::store::{
    ArchivedMessage, LONGEST_VISIT, RoomRecord, RoomWrite, StoreError, StoredRoom, StoredRoomHead,
};
use rookery_xmpp::datetime;
use rookery_xmpp::element::Element;
use rookery_xmpp::jid::{BareJid, FullJid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::Stanza;
use tracing::error;

use super::record;
use crate::muc::config::Config;
use crate::muc::image::{Hat, Hats, Image, Message, Person, RoomChange, Subject, Token, Tokens, Visit};
use crate::muc::roles::{Affiliation, Role};

const CONFIG: &str = "config";
const SUBJECT: &str = "subject";
const VCARD: &str = "vcard";
const HATS: &str = "hats";
const TOKENS: &str = "tokens";

fn bytes(element: &Element) -> Bytes {
    Bytes::from(element.to_xml())
}

fn read(bytes: &Bytes) -> Option<Element> {
    str::from_utf8(bytes).ok()?.parse().ok()
}

// ---- writing ------------------------------------------------------------------------------------------------------

/// A change as the database gets it; `None` for what is none of a room's own rows. `maker`: who has made the room.
pub(super) fn write(service: &BareJid, maker: Option<&BareJid>, change: RoomChange) -> Option<RoomWrite> {
    let value = |name, element: Option<Element>| RoomWrite::Value { name, value: element.as_ref().map(bytes) };
    Some(match change {
        RoomChange::Create { created } => RoomWrite::Create { service: service.clone(), created },
        RoomChange::Config(config) => value(CONFIG, Some(config_element(&config, maker))),
        RoomChange::Person(jid, person) => {
            RoomWrite::Person { jid, value: person.as_ref().map(person_element).as_ref().map(bytes) }
        }
        RoomChange::Subject(subject) => value(SUBJECT, Some(subject_element(&subject))),
        RoomChange::Vcard(vcard) => value(VCARD, vcard),
        RoomChange::Hats(hats) => value(HATS, Some(hats_element(&hats))),
        RoomChange::Tokens(tokens) => value(TOKENS, tokens_element(&tokens)),
        RoomChange::Message(message) => RoomWrite::Message(message_record(&message)),
        // Whoever has an address like that is out after a restart.
        RoomChange::Enter(visit) if visit.jid.as_str().len() > LONGEST_VISIT => return None,
        RoomChange::Enter(visit) => {
            let element = visit_element(&visit);
            RoomWrite::Visit { jid: visit.jid, value: Some(bytes(&element)) }
        }
        RoomChange::Leave(jid) => RoomWrite::Visit { jid, value: None },
        RoomChange::Destroy => RoomWrite::Destroy,
        RoomChange::Retract { .. } => return None,
    })
}

fn config_element(config: &Config, maker: Option<&BareJid>) -> Element {
    Element::new(CONFIG, "").attr_opt("maker", maker.map(|maker| maker.as_str())).child(config.to_element())
}

fn person_element(person: &Person) -> Element {
    Element::new("person", "")
        .attr("affiliation", person.affiliation.name())
        .attr_opt("nick", person.nick.as_deref())
        .attr_opt("reason", person.reason.as_deref())
        .attr_opt("voice", person.voice.map(Role::name))
        .attr_opt("last-nick", person.last_nick.as_deref())
        .attr_opt("told", person.told.then_some("true"))
}

fn subject_element(subject: &Subject) -> Element {
    Element::new(SUBJECT, "").attr("stamp", datetime::format(subject.stamp)).child(subject.message.to_element())
}

fn hats_element(hats: &Hats) -> Element {
    let kind = |(uri, hat): (&String, &Hat)| {
        Element::new("hat", "")
            .attr("uri", uri.as_str())
            .attr("title", hat.title.as_str())
            .attr_opt("lang", hat.lang.as_deref())
            .attr_opt("hue", hat.hue.as_deref())
    };
    let worn = hats.worn.iter().flat_map(|(who, uris)| uris.iter().map(move |uri| (who, uri)));
    let worn = worn.map(|(who, uri)| Element::new("worn", "").attr("by", who.as_str()).attr("uri", uri.as_str()));
    Element::new(HATS, "").children(hats.kinds.iter().map(kind)).children(worn)
}

fn tokens_element(tokens: &Tokens) -> Option<Element> {
    let token = |(text, token): (&String, &Token)| {
        Element::new("token", "")
            .attr("text", text.as_str())
            .attr("creator", token.creator.as_str())
            .attr("expires", datetime::format(token.expires))
            .attr_opt("counter", token.counter.map(|counter| counter.to_string()))
    };
    (!tokens.is_empty()).then(|| Element::new(TOKENS, "").children(tokens.iter().map(token)))
}

fn visit_element(visit: &Visit) -> Element {
    Element::new("visit", "")
        .attr("nick", &*visit.nick)
        .attr("role", visit.role.name())
        .attr_opt("shown", visit.shown.map(|shown| if shown { "true" } else { "false" }))
        .child(visit.presence.to_element())
}

fn message_record(message: &Message) -> RoomRecord {
    let from = message.stanza.head.from.as_ref();
    let sender = message.sender.clone().map(|jid| record::Sender { jid, stamps: message.stamped });
    RoomRecord {
        id: message.id,
        stamp: message.stamp,
        stanza: record::sealed(&message.stanza, sender.as_ref()),
        nick: from.and_then(|from| from.resourcepart()).map(Box::from),
        message_id: message.stanza.head.id.clone(),
        history: message.history,
        archived: message.archive,
        digest: message.digest,
    }
}

// ---- reading ------------------------------------------------------------------------------------------------------

/// What a list of rooms says of one: its configuration, and who has made it.
pub(super) fn config(bytes: &Bytes) -> Option<(Config, Option<BareJid>)> {
    let element = read(bytes)?;
    let maker = element.get("maker").and_then(|maker| BareJid::new(maker).ok());
    let config = Config::default().from_element(element.find("x", ns::X_DATA)?).ok()?;
    Some((config, maker))
}

/// A room in a list for an admin.
pub(super) fn listed(head: &StoredRoomHead) -> ListedRoom {
    let name = config(&head.config).map(|(config, _)| config.name);
    ListedRoom {
        room: head.jid.to_string(),
        name: name.unwrap_or_default(),
        created: humantime::format_rfc3339_seconds(head.created).to_string(),
        occupants: None,
    }
}

/// A room as the database has it, without its messages. What cannot be read of it is left out, and the log says so; but
/// without its configuration a room could be open to all.
pub(super) fn image(jid: &BareJid, stored: StoredRoom) -> Result<(Image, Option<BareJid>), StoreError> {
    let mut image = Image { created: Some(stored.created), ..Image::default() };
    let mut found = None;
    for (name, value) in &stored.values {
        match name.as_str() {
            CONFIG => found = config(value),
            SUBJECT => image.subject = or_log(jid, name, subject(value)),
            VCARD => image.vcard = or_log(jid, name, read(value)),
            HATS => image.hats = or_log(jid, name, hats(value)).unwrap_or_default(),
            TOKENS => image.tokens = or_log(jid, name, tokens(value)).unwrap_or_default(),
            _ => {}
        }
    }
    let (config, maker) = found.ok_or_else(|| StoreError::Corrupt(format!("the configuration of the room {jid}")))?;
    image.config = config;
    for (who, value) in stored.people {
        image.people.extend(or_log(jid, who.as_str(), person(&value)).map(|person| (who, person)));
    }
    for (who, value) in stored.visits {
        image.visits.extend(or_log(jid, who.as_str(), visit(who.clone(), &value)));
    }
    Ok((image, maker))
}

fn or_log<T>(room: &BareJid, what: &str, value: Option<T>) -> Option<T> {
    if value.is_none() {
        error!(%room, what, "the database holds something of a room that cannot be read");
    }
    value
}

fn person(bytes: &Bytes) -> Option<Person> {
    let element = read(bytes)?;
    Some(Person {
        affiliation: Affiliation::from_name(element.get("affiliation")?)?,
        nick: element.get("nick").map(Box::from),
        reason: element.get("reason").map(Box::from),
        voice: element.get("voice").and_then(Role::from_name),
        last_nick: element.get("last-nick").map(Box::from),
        told: element.get("told") == Some("true"),
    })
}

fn stanza(element: &Element) -> Option<Stanza> {
    element.to_xml().parse().ok()
}

fn subject(bytes: &Bytes) -> Option<Subject> {
    let element = read(bytes)?;
    let stamp = datetime::parse(element.get("stamp")?)?;
    Some(Subject { message: stanza(element.elements().next()?)?, stamp })
}

fn hats(bytes: &Bytes) -> Option<Hats> {
    let element = read(bytes)?;
    let (mut kinds, mut worn) = (BTreeMap::new(), BTreeMap::<BareJid, BTreeSet<String>>::new());
    for child in element.elements() {
        let uri = child.get("uri")?.to_owned();
        match child.name() {
            "hat" => {
                let title = child.get("title")?.to_owned();
                let (lang, hue) = (child.get("lang").map(Box::from), child.get("hue").map(Box::from));
                kinds.insert(uri, Hat { title, lang, hue });
            }
            _ => {
                worn.entry(BareJid::new(child.get("by")?).ok()?).or_default().insert(uri);
            }
        }
    }
    Some(Hats { kinds, worn })
}

fn tokens(bytes: &Bytes) -> Option<Tokens> {
    let token = |token: &Element| {
        let counter = match token.get("counter") {
            Some(counter) => Some(counter.parse().ok()?),
            None => None,
        };
        let creator = BareJid::new(token.get("creator")?).ok()?;
        let expires = datetime::parse(token.get("expires")?)?;
        Some((token.get("text")?.to_owned(), Token { creator, expires, counter }))
    };
    read(bytes)?.elements().map(token).collect()
}

fn visit(jid: FullJid, bytes: &Bytes) -> Option<Visit> {
    let element = read(bytes)?;
    Some(Visit {
        jid,
        nick: element.get("nick")?.into(),
        role: Role::from_name(element.get("role")?)?,
        // COMPAT: what was stored before this was says nothing of it (2026).
        shown: element.get("shown").map(|shown| shown == "true"),
        presence: stanza(element.elements().next()?)?,
    })
}

/// A message of the history.
pub(super) fn message(stored: ArchivedMessage) -> Option<Message> {
    let (stanza, sender) = record::opened(&stored.stanza)?;
    // What was taken back says nothing any more.
    let stamped = sender.as_ref().is_some_and(|sender| sender.stamps) && stanza.has("delay", ns::DELAY);
    Some(Message {
        id: stored.id,
        stamp: stored.stamp,
        stanza,
        stamped,
        sender: sender.map(|sender| sender.jid),
        digest: None,
        history: true,
        archive: true,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn seconds(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_room_is_read_as_it_was_written() {
        let room = BareJid::new("coven@rooms.example").unwrap();
        let crone = BareJid::new("crone1@example.org").unwrap();
        let config = Config { name: "A Dark Cave & more".to_owned(), persistent: true, ..Config::default() };
        let subject = Subject {
            message:
                "<message from='coven@rooms.example/witch' type='groupchat'><subject>&lt;Fire&gt;</subject></message>"
                    .parse()
                    .unwrap(),
            stamp: seconds(1_000_000),
        };
        let hats = Hats {
            kinds: [("http://x/1".to_owned(), Hat { title: "Cook".to_owned(), lang: Some("en".into()), hue: None })]
                .into(),
            worn: [(crone.clone(), BTreeSet::from(["http://x/1".to_owned()]))].into(),
        };
        let token = |counter| Token { creator: crone.clone(), expires: seconds(99), counter };
        let tokens = Tokens::from([("a&b".into(), token(None)), ("c".into(), token(Some(3)))]);
        let person = Person {
            affiliation: Affiliation::Member,
            nick: Some("Old 'crone'".into()),
            reason: Some("wise".into()),
            voice: Some(Role::Visitor),
            last_nick: Some("crone".into()),
            told: true,
        };
        let visit = Visit {
            jid: FullJid::new("crone1@example.org/desktop").unwrap(),
            nick: "witch".into(),
            role: Role::Moderator,
            shown: Some(false),
            presence: "<presence><show>away</show></presence>".parse().unwrap(),
        };
        let mut stored =
            StoredRoom { created: seconds(77), values: Vec::new(), people: Vec::new(), visits: Vec::new() };
        for change in [
            RoomChange::Config(config.clone().into()),
            RoomChange::Subject(subject.clone()),
            RoomChange::Hats(hats.clone()),
            RoomChange::Tokens(tokens.clone()),
            RoomChange::Person(crone.clone(), Some(person.clone())),
            RoomChange::Enter(visit.clone()),
        ] {
            match write(&room, Some(&crone), change).unwrap() {
                RoomWrite::Value { name, value } => stored.values.push((name.to_owned(), value.unwrap())),
                RoomWrite::Person { jid, value } => stored.people.push((jid, value.unwrap())),
                RoomWrite::Visit { jid, value } => stored.visits.push((jid, value.unwrap())),
                other => panic!("{other:?}"),
            }
        }
        let (image, maker) = image(&room, stored).unwrap();
        assert_eq!(maker, Some(crone.clone()));
        assert_eq!((image.config, image.subject, image.hats), (config, Some(subject), hats));
        assert_eq!(image.tokens, tokens);
        assert_eq!((image.people, image.visits), (vec![(crone, person)], vec![visit]));
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        for stamped in [false, true] {
            let message = Message {
                id: 7,
                stamp: seconds(1_000_000),
                stanza: "<message from='coven@rooms.example/witch' type='groupchat'><body>hi</body>\
                    <delay xmlns='urn:xmpp:delay' stamp='2001-09-29T01:54:37Z'/></message>"
                    .parse()
                    .unwrap(),
                sender: FullJid::new("crone1@example.org/desktop").ok(),
                digest: None,
                history: true,
                archive: true,
                stamped,
            };
            let record = message_record(&message);
            let stored = ArchivedMessage { id: record.id, stamp: record.stamp, stanza: record.stanza, waits: None };
            assert_eq!(super::message(stored), Some(message));
        }
    }

    #[test]
    fn an_address_that_no_index_takes_is_not_stored() {
        let room = BareJid::new("coven@rooms.example").unwrap();
        let enter = |resource: usize| {
            let domain = vec!["x".repeat(63); 15].join(".");
            let jid = FullJid::new(&format!("{}@{domain}/{}", "a".repeat(1023), "b".repeat(resource))).unwrap();
            let presence = "<presence/>".parse().unwrap();
            write(
                &room,
                None,
                RoomChange::Enter(Visit { jid, nick: "x".into(), role: Role::Visitor, shown: None, presence }),
            )
        };
        assert!(enter(100).is_some());
        assert!(enter(1023).is_none());
    }

    #[test]
    fn a_room_without_configuration_is_not_open_to_all() {
        let room = BareJid::new("coven@rooms.example").unwrap();
        let stored = StoredRoom { created: seconds(0), values: Vec::new(), people: Vec::new(), visits: Vec::new() };
        assert!(matches!(image(&room, stored), Err(StoreError::Corrupt(_))));
    }
}
