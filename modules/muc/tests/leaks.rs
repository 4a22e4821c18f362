//! security.md C5: in a semi-anonymous room nobody learns a real JID who is no moderator, on any path: as occupant, as
//! member, from outside, and banned.

use super::*;
use crate::muc::config::Registration;

const MEMBER: &str = "member@secret.lit/m";
const GUEST: &str = "guest@secret.lit/g";
const BANNED: &str = "banned@secret.lit/b";
const STRANGER: &str = "stranger@secret.lit/s";

/// The people whose addresses are nobody's business, and who may know whose.
fn check_secrets(stage: &Stage, before: &[String], got: &[Got]) -> usize {
    let people = [
        "crone1@shakespeare.lit",
        "wiccarocks@shakespeare.lit",
        "member@secret.lit",
        "guest@secret.lit",
        "banned@secret.lit",
    ];
    for got in got {
        let reader = jid(&got.to);
        let rank = stage.room.rank(&reader);
        let knows = rank.role == Role::Moderator || rank.affiliation >= Affiliation::Admin || before.contains(&got.to);
        let xml = got.stanza.to_xml();
        for who in people.iter().filter(|who| **who != reader.bare_str()) {
            assert!(knows || !xml.contains(who), "{} learns of {who}: {xml}", got.to);
        }
    }
    got.len()
}

fn moderators(stage: &Stage) -> Vec<String> {
    let occupants = stage.room.occupants.iter().map(|(_, occupant)| occupant);
    occupants
        .filter(|occupant| occupant.role == Role::Moderator)
        .flat_map(|o| o.sessions().map(ToString::to_string))
        .collect()
}

#[test]
fn c5_a_semi_anonymous_room_keeps_its_secrets() {
    let people = [
        (CRONE, Affiliation::Owner),
        (WICCA, Affiliation::Admin),
        (MEMBER, Affiliation::Member),
        (BANNED, Affiliation::Outcast),
    ];
    let visits = [
        (CRONE, "firstwitch", Role::Moderator),
        (WICCA, "secondwitch", Role::Moderator),
        (MEMBER, "member", Role::Participant),
        (GUEST, "guest", Role::Visitor),
    ];
    let config =
        Config { moderated: true, persistent: true, registration: Registration::Approval, ..Config::default() };
    let mut stage = Stage::of(config, Limits::default(), &people, &visits);

    let mut paths: Vec<String> = Vec::new();
    let room = ROOM;
    // What anybody may ask of the room.
    for inside in [
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
        "<query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/>",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
        "<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'/>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='owner'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='admin'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='member'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='outcast'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item role='moderator'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item role='participant'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item role='visitor'/></query>",
        "<query xmlns='jabber:iq:register'/>",
        "<vCard xmlns='vcard-temp'/>",
        "<ping xmlns='urn:xmpp:ping'/>",
        "<query xmlns='jabber:iq:version'/>",
    ] {
        paths.push(format!("<iq type='get' id='1' to='{room}'>{inside}</iq>"));
        for nick in ["firstwitch", "member", "guest", "nobody"] {
            paths.push(format!("<iq type='get' id='1' to='{room}/{nick}'>{inside}</iq>"));
        }
    }
    for inside in [
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='firstwitch' role='none'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='guest' role='participant'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='member' affiliation='outcast'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item jid='x@y' affiliation='member'/></query>",
        "<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>\
         <value>http://jabber.org/protocol/muc#register</value></field><field var='muc#register_roomnick'><value>nick</value></field></x></query>",
        "<command xmlns='http://jabber.org/protocol/commands' node='urn:xmpp:hats:commands:list-assigned'/>",
        "<moderate xmlns='urn:xmpp:message-moderate:1' id='1'><retract xmlns='urn:xmpp:message-retract:1'/></moderate>",
    ] {
        paths.push(format!("<iq type='set' id='1' to='{room}'>{inside}</iq>"));
    }
    // Presence, in and out, by right and by wrong.
    for to in ["", "/firstwitch", "/member", "/guest", "/nobody"] {
        for kind in ["probe", "subscribe", "unsubscribe"] {
            paths.push(format!("<presence type='{kind}' to='{room}{to}'/>"));
        }
        paths.push(format!("<message type='chat' id='1' to='{room}{to}'><body>x</body></message>"));
        paths.push(format!("<message type='groupchat' id='1' to='{room}{to}'><body>x</body></message>"));
        paths.push(format!("<message type='groupchat' id='1' to='{room}{to}'><subject>x</subject></message>"));
    }
    for inside in [
        "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='stranger@secret.lit'/></x>",
        "<x xmlns='http://jabber.org/protocol/muc#user'><decline to='crone1@shakespeare.lit'/></x>",
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field><field var='muc#role'><value>participant</value></field></x>",
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field><field var='muc#roomnick'><value>guest</value></field><field var='muc#request_allow'><value>1</value></field></x>",
    ] {
        paths.push(format!("<message id='1' to='{room}'>{inside}</message>"));
    }
    for nick in ["firstwitch", "newnick", "member", "guest", " "] {
        paths.push(format!("<presence id='1' to='{room}/{nick}'/>"));
        paths.push(format!("<presence id='1' to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'><mav xmlns='urn:xmpp:muc:affiliations:1'/></x></presence>"));
        paths.push(format!("<presence id='1' to='{room}/{nick}' type='unavailable'/>"));
        paths.push(format!(
            "<presence id='1' to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        ));
    }

    let mut count = 0;
    // What the moderators do, the others see; what the others do, they see each other do.
    for who in [MEMBER, GUEST, STRANGER, BANNED, CRONE, WICCA] {
        for path in &paths {
            let before = moderators(&stage);
            let got = stage.from(who, path);
            count += check_secrets(&stage, &before, &got);
            // Queries that reach a client are answered, with its address where servers put it.
            for query in
                got.iter().filter(|got| got.stanza.head.id.as_deref().is_some_and(|id| id.starts_with("room-")))
            {
                let (to, id) = (query.stanza.head.from.clone().unwrap(), query.stanza.head.id.clone().unwrap());
                let error = format!(
                    "<error type='cancel' by='{0}'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:{0}</gone><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>{0}</text></error>",
                    query.to
                );
                let before = moderators(&stage);
                let got = stage.from(&query.to, &format!("<iq type='error' id='{id}' to='{to}'>{error}</iq>"));
                count += check_secrets(&stage, &before, &got);
            }
            stage.pass(1);
        }
    }
    // Kicks, bans, errors and other endings.
    for (who, path) in [
        (
            CRONE,
            format!(
                "<iq type='set' id='1' to='{room}'><query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='none' jid='member@secret.lit'><reason>x</reason></item></query></iq>"
            ),
        ),
        (
            CRONE,
            format!(
                "<iq type='set' id='1' to='{room}'><query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='outcast' jid='guest@secret.lit'/></query></iq>"
            ),
        ),
        (
            CRONE,
            format!(
                "<iq type='set' id='1' to='{room}'><query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='member' jid='banned@secret.lit'/></query></iq>"
            ),
        ),
        (MEMBER, format!("<presence to='{room}/member'><x xmlns='http://jabber.org/protocol/muc'/></presence>")),
        (BANNED, format!("<presence to='{room}/banned'><x xmlns='http://jabber.org/protocol/muc'/></presence>")),
        (
            MEMBER,
            format!(
                "<message type='error' to='{room}/banned'><error type='cancel' by='member@secret.lit'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:member@secret.lit</gone><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>member@secret.lit</text></error></message>"
            ),
        ),
        (
            CRONE,
            format!(
                "<iq type='set' id='1' to='{room}'><query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query></iq>"
            ),
        ),
    ] {
        let before = moderators(&stage);
        let got = stage.from(who, &path);
        count += check_secrets(&stage, &before, &got);
    }
    println!("{count} stanzas looked at");
    assert!(count > 1000, "{count}");
}

/// The archive's rows carry the sender beside the stanza, not in it: what is handed out is the stanza.
#[test]
fn c5_what_is_archived_names_nobody() {
    let mut stage = Stage::witches(Config::default());
    stage.from(HAG, &format!("<message type='groupchat' to='{ROOM}'><body>x</body></message>"));
    stage.from(CRONE, &format!("<message type='groupchat' to='{ROOM}'><subject>x</subject></message>"));
    let mut count = 0;
    for change in &stage.stored {
        if let RoomChange::Message(message) = change {
            let xml = message.stanza.to_xml();
            assert!(!xml.contains("@shakespeare.lit"), "{xml}");
            count += 1;
        }
    }
    assert_eq!(count, 2);
}
