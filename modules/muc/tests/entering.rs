//! XEP-0045 §7.1, §7.2: entering a room, with the examples in their order and the errors beside them.

use super::*;
use crate::muc::config::Whois;

const JOIN: &str = "<presence id='n13mt3l' to='coven@chat.shakespeare.lit/thirdwitch'><x xmlns='http://jabber.org/protocol/muc'/></presence>";

fn join(inside: &str) -> String {
    JOIN.replace(
        "<x xmlns='http://jabber.org/protocol/muc'/>",
        &format!("<x xmlns='http://jabber.org/protocol/muc'>{inside}</x>"),
    )
}

/// What a refused entry looks like.
fn refusal(inside: &str, error: &str) -> String {
    format!(
        "<presence from='coven@chat.shakespeare.lit/thirdwitch' id='n13mt3l' to='hag66@shakespeare.lit/pda' type='error'>
           <x xmlns='http://jabber.org/protocol/muc'>{inside}</x>{error}</presence>"
    )
}

fn error(kind: &str, condition: &str) -> String {
    format!(
        "<error by='coven@chat.shakespeare.lit' type='{kind}'>\
         <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    )
}

#[test]
fn no_nickname_specified() {
    let mut stage = Stage::new(Config::default());
    stage.check(
        HAG,
        "<presence to='coven@chat.shakespeare.lit' id='273hs51g'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
        &format!(
            "<presence from='coven@chat.shakespeare.lit' id='273hs51g' to='hag66@shakespeare.lit/pda' type='error'>
               <x xmlns='http://jabber.org/protocol/muc'/>{}</presence>",
            error("modify", "jid-malformed")
        ),
    );
}

/// §7.2.2 and §7.2.4: real JIDs go to moderators.
#[test]
fn presence_broadcast_in_a_semi_anonymous_room() {
    let mut stage = Stage::new(Config::default());
    stage.enter(CRONE, "firstwitch");
    stage.enter(WICCA, "secondwitch");
    stage.check(
        HAG,
        JOIN,
        "<presence from='coven@chat.shakespeare.lit/firstwitch' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/secondwitch' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='admin' role='moderator'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='crone1@shakespeare.lit/desktop'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='participant'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='wiccarocks@shakespeare.lit/laptop'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='participant'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' id='n13mt3l' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' role='participant'/><status code='110'/></x>
         </presence>
         <message from='coven@chat.shakespeare.lit' to='hag66@shakespeare.lit/pda' type='groupchat'><subject/></message>",
    );
    // The next one sees the others, and nobody's JID; those who are no moderators do not see his.
    stage.check_one(
        HECATE,
        "<presence to='coven@chat.shakespeare.lit/hecate'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
        HAG,
        "<presence from='coven@chat.shakespeare.lit/hecate' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='participant'/></x>
         </presence>",
    );
}

/// §7.2.3, §7.2.12: who enters is warned.
#[test]
fn non_anonymous_and_logged_rooms_say_so() {
    let config = Config { whois: Whois::Anyone, logging: true, ..Config::default() };
    let mut stage = Stage::new(config);
    stage.enter(WICCA, "secondwitch");
    stage.enter(HECATE, "hecate");
    let got = stage.from(HAG, JOIN);
    let version = "<mav xmlns='urn:xmpp:muc:affiliations:1' until='3e8'/>";
    check(
        &got,
        &format!(
            "<presence from='coven@chat.shakespeare.lit/secondwitch' to='hag66@shakespeare.lit/pda'>
               <x xmlns='http://jabber.org/protocol/muc#user'>
                 <item affiliation='admin' jid='wiccarocks@shakespeare.lit/laptop' role='moderator'/></x>
             </presence>
             <presence from='coven@chat.shakespeare.lit/hecate' to='hag66@shakespeare.lit/pda'>
               <x xmlns='http://jabber.org/protocol/muc#user'>
                 <item affiliation='none' jid='hecate@shakespeare.lit/broom' role='participant'/></x>
             </presence>
             <presence from='coven@chat.shakespeare.lit/thirdwitch' to='wiccarocks@shakespeare.lit/laptop'>
               <x xmlns='http://jabber.org/protocol/muc#user'>
                 <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='participant'/></x>
             </presence>
             <presence from='coven@chat.shakespeare.lit/thirdwitch' to='hecate@shakespeare.lit/broom'>
               <x xmlns='http://jabber.org/protocol/muc#user'>
                 <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='participant'/></x>
             </presence>
             <presence from='coven@chat.shakespeare.lit/thirdwitch' id='n13mt3l' to='hag66@shakespeare.lit/pda'>
               <x xmlns='http://jabber.org/protocol/muc#user'>
                 <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='participant'/>
                 <status code='100'/><status code='110'/><status code='170'/>{version}</x>
             </presence>
             <message from='coven@chat.shakespeare.lit' to='hag66@shakespeare.lit/pda' type='groupchat'><subject/></message>"
        ),
    );
}

#[test]
fn password_protected_rooms() {
    let config = Config { password: Some("cauldronburn".to_owned()), ..Config::default() };
    let mut stage = Stage::new(config);
    stage.check(HAG, JOIN, &refusal("", &error("auth", "not-authorized")));
    let wrong = "<password>toilandtrouble</password>";
    stage.check(HAG, &join(wrong), &refusal(wrong, &error("auth", "not-authorized")));
    stage.from(HAG, &join("<password>cauldronburn</password>"));
    assert_eq!(stage.role(HAG), Role::Participant);
    // Who is in may have forgotten it.
    assert_eq!(stage.from(HAG, JOIN).len(), 2);
}

#[test]
fn members_only_rooms() {
    let mut stage = Stage::new(Config { members_only: true, ..Config::default() });
    stage.check(HAG, JOIN, &refusal("", &error("auth", "registration-required")));
    stage.enter(WICCA, "secondwitch");
}

/// §7.2.7, §9.2: bans of persons and of domains.
#[test]
fn banned_users() {
    let people = [
        (CRONE, Affiliation::Owner),
        (HAG, Affiliation::Outcast),
        ("mantua.lit", Affiliation::Outcast),
        ("tybalt@mantua.lit", Affiliation::Member),
    ];
    let mut stage = Stage::of(Config::default(), Limits::default(), &people, &[]);
    stage.check(HAG, JOIN, &refusal("", &error("auth", "forbidden")));
    stage.refused("romeo@mantua.lit/x", JOIN, "auth forbidden");
    stage.refused("mantua.lit/x", JOIN, "auth forbidden");
    stage.enter("tybalt@mantua.lit/x", "tybalt");
    stage.enter("romeo@not.mantua.lit/x", "romeo");
}

#[test]
fn nickname_conflict() {
    let mut stage = Stage::new(Config::default());
    stage.enter(HECATE, "thirdwitch");
    stage.check(HAG, JOIN, &refusal("", &error("cancel", "conflict")));
    // C4: nor one that looks like it.
    stage.refused(HAG, &JOIN.replace("/thirdwitch", "/ThirdWitch "), "cancel conflict");
    stage.refused(HAG, &JOIN.replace("/thirdwitch", "/   "), "modify jid-malformed");
    let long = "x".repeat(200);
    stage.refused(HAG, &JOIN.replace("/thirdwitch", &format!("/{long}")), "modify not-acceptable");
}

/// §7.2.8, §7.10: a nickname that is reserved for somebody else is taken, whether they are there or not.
#[test]
fn reserved_nicknames() {
    let mut stage = Stage::new(Config { persistent: true, ..Config::default() });
    let reserve = "<iq type='set' id='1' to='coven@chat.shakespeare.lit'><query xmlns='http://jabber.org/protocol/muc#admin'>\
                   <item affiliation='member' jid='hecate@shakespeare.lit' nick='ThirdWitch'/></query></iq>";
    stage.from(CRONE, reserve);
    stage.check(HAG, JOIN, &refusal("", &error("cancel", "conflict")));
    stage.enter(HECATE, "thirdwitch");
}

/// §7.2.8: one person, one nickname, two resources.
#[test]
fn several_sessions_under_one_nickname() {
    let mut stage = Stage::new(Config::default());
    stage.enter(CRONE, "firstwitch");
    stage.enter(HAG, "thirdwitch");
    let phone = "hag66@shakespeare.lit/phone";
    // The new session is the one that is seen from now on, for moderators.
    stage.check(
        phone,
        JOIN,
        "<presence from='coven@chat.shakespeare.lit/firstwitch' to='hag66@shakespeare.lit/phone'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='crone1@shakespeare.lit/desktop'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/phone' role='participant'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' role='participant'/><status code='110'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' id='n13mt3l' to='hag66@shakespeare.lit/phone'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' role='participant'/><status code='110'/></x>
         </presence>
         <message from='coven@chat.shakespeare.lit' to='hag66@shakespeare.lit/phone' type='groupchat'><subject/></message>",
    );
    assert_eq!(stage.room.occupants(), 2);
    // All of them get messages, and all may send.
    let got = stage.from(HAG, "<message type='groupchat' to='coven@chat.shakespeare.lit'><body>x</body></message>");
    let to: Vec<&str> = got.iter().map(|got| got.to.as_str()).collect();
    assert_eq!(to, [CRONE, HAG, phone]);
    assert!(got.iter().all(|got| got.stanza.head.from == Some(jid("coven@chat.shakespeare.lit/thirdwitch"))));
    // Private messages as well.
    let private = "<message type='chat' to='coven@chat.shakespeare.lit/thirdwitch'><body>x</body></message>";
    let to: Vec<String> = stage.from(CRONE, private).into_iter().map(|got| got.to).collect();
    assert_eq!(to, [HAG, phone]);
    // When one goes, the other stays; only who sees JIDs sees a difference.
    stage.check(
        phone,
        "<presence type='unavailable' to='coven@chat.shakespeare.lit/thirdwitch'/>",
        "<presence type='unavailable' from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/phone'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'/><status code='110'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='crone1@shakespeare.lit/desktop'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='participant'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' role='participant'/><status code='110'/></x>
         </presence>",
    );
    assert_eq!((stage.role(HAG), stage.role(phone)), (Role::Participant, Role::None));
}

/// security.md B16: what everybody gets is bounded.
#[test]
fn b16_presence_is_bounded() {
    let mut stage = Stage::witches(Config::default());
    let large = format!("<presence id='1' to='{ROOM}/thirdwitch'><status>{}</status></presence>", "x".repeat(9000));
    stage.refused(HAG, &large, "modify policy-violation");
}

#[test]
fn one_person_has_so_many_sessions() {
    let mut stage = Stage::with_limits(Config::default(), Limits { sessions: 2, ..Limits::default() });
    stage.enter("hag66@shakespeare.lit/1", "thirdwitch");
    stage.enter("hag66@shakespeare.lit/2", "other");
    stage.refused("hag66@shakespeare.lit/3", JOIN, "wait service-unavailable");
}

/// §7.2.9: admins and owners have a reserve.
#[test]
fn max_users() {
    let config = Config { max_users: Some(1), ..Config::default() };
    let mut stage = Stage::with_limits(config, Limits { reserve: 1, ..Limits::default() });
    stage.enter(HECATE, "hecate");
    stage.check(HAG, JOIN, &refusal("", &error("wait", "service-unavailable")));
    stage.enter(WICCA, "secondwitch");
    stage.refused(CRONE, JOIN, "wait service-unavailable");
    // Another resource under the same nickname is no other occupant.
    stage.enter("hecate@shakespeare.lit/other", "hecate");
}

/// §7.2.10, §10.1: nobody but its creator is in a room that is not configured.
#[test]
fn locked_room() {
    let at = At { now: start(), id: 1000, digest: None, stream: None };
    let join: Stanza = JOIN.parse().unwrap();
    let (room, _) =
        Room::create(bare(ROOM), service(Limits::default()), Config::default(), true, at, &join.from(jid(CRONE)));
    let mut stage = Stage::around(room);
    stage.check(HAG, JOIN, &refusal("", &error("cancel", "item-not-found")));
    stage.refused(
        HAG,
        "<message type='groupchat' id='1' to='coven@chat.shakespeare.lit'><body>x</body></message>",
        "cancel item-not-found",
    );
    stage.refused(HAG, "<iq type='get' id='1' to='coven@chat.shakespeare.lit'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>", "cancel item-not-found");
}

/// Nothing that is said in a room that is not in the database could be acknowledged; what it has been given besides is stored
/// with it.
#[test]
fn what_is_in_a_room_before_it_is_configured() {
    let at = At { now: start(), id: 1000, digest: None, stream: None };
    let join: Stanza = JOIN.parse().unwrap();
    for form in [
        "<x xmlns='jabber:x:data' type='submit'/>",
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field><field var='muc#roomconfig_persistentroom'><value>1</value></field></x>",
    ] {
        let (room, _) = Room::create(
            bare(ROOM),
            service(Limits::default()),
            Config::default(),
            true,
            at,
            &join.clone().from(jid(CRONE)),
        );
        let mut stage = Stage::around(room);
        for said in ["<body>x</body>", "<subject>x</subject>"] {
            let said = format!("<message type='groupchat' id='1' to='{ROOM}'>{said}</message>");
            stage.refused(CRONE, &said, "wait not-allowed");
        }
        let vcard = format!("<iq type='set' id='2' to='{ROOM}'><vCard xmlns='vcard-temp'><FN>Coven</FN></vCard></iq>");
        assert!(stage.from(CRONE, &vcard).iter().any(|got| got.stanza.to_xml().contains("type='result'")));
        assert!(stage.stored.is_empty());
        stage.from(CRONE, &format!("<iq type='set' id='3' to='{ROOM}'><query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query></iq>"));
        assert!(stage.stored.iter().any(|change| matches!(change, RoomChange::Vcard(Some(_)))), "{form}");
        let got = stage.from(CRONE, &format!("<message type='groupchat' id='4' to='{ROOM}'><body>x</body></message>"));
        assert!(got.len() == 1 && got[0].stanza.to_xml().contains("<stanza-id "), "{got:?}");
    }
}

/// §7.2.16.
#[test]
fn groupchat_1_0_and_lost_track() {
    let mut stage = Stage::new(Config::default());
    stage.enter(CRONE, "firstwitch");
    stage.check(
        HAG,
        "<presence to='coven@chat.shakespeare.lit/thirdwitch'/>",
        "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda' type='unavailable'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' role='none'><reason>You are not in the room.</reason></item>
             <status code='110'/><status code='307'/><status code='333'/></x>
         </presence>",
    );
}

/// §7.2.1, §17.3: who asks to enter once more gets all again, and the others only what is new.
#[test]
fn entering_again() {
    let mut stage = Stage::new(Config::default());
    stage.enter(HECATE, "hecate");
    let first = stage.enter(HAG, "thirdwitch");
    let own = |got: Vec<Got>| -> Vec<Got> { got.into_iter().filter(|got| got.to == HAG).collect() };
    let again = stage.enter(HAG, "thirdwitch");
    assert_eq!(again.len(), 3, "{again:?}");
    assert_eq!(own(first), own(again));
    let away = JOIN.replace("<x ", "<show>away</show><x ");
    let got = stage.from(HAG, &away);
    assert_eq!(got.iter().filter(|got| got.to == HECATE).count(), 1, "{got:?}");
    // Under another nickname: the others see the change, and who has lost track sees an entry.
    let got = stage.from(HAG, &JOIN.replace("/thirdwitch", "/oldhag"));
    check(
        &got,
        "<presence from='coven@chat.shakespeare.lit/hecate' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='participant'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='hecate@shakespeare.lit/broom' type='unavailable'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' nick='oldhag' role='participant'/><status code='303'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/oldhag' to='hecate@shakespeare.lit/broom'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='participant'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/oldhag' id='n13mt3l' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' role='participant'/><status code='110'/></x>
         </presence>
         <message from='coven@chat.shakespeare.lit' to='hag66@shakespeare.lit/pda' type='groupchat'><subject/></message>",
    );
}

fn say(stage: &mut Stage, who: &str, text: &str) {
    stage.from(who, &format!("<message type='groupchat' to='{ROOM}'><body>{text}</body></message>"));
}

/// Three messages, six seconds apart, and the joiner's view of them.
fn history_stage() -> Stage {
    let mut stage = Stage::witches(Config::default());
    say(&mut stage, CRONE, "Thrice the brinded cat hath mew&apos;d.");
    stage.pass(6);
    say(&mut stage, WICCA, "Thrice and once the hedge-pig whined.");
    stage.pass(6);
    say(&mut stage, HAG, "Harpier cries &apos;Tis time, &apos;tis time.");
    stage
}

fn bodies(got: &[Got], to: &str) -> Vec<String> {
    let mine = got.iter().filter(|got| got.to == to);
    mine.filter_map(|got| got.stanza.find("body", ns::CLIENT)).map(|body| body.content()).collect()
}

#[test]
fn discussion_history() {
    let mut stage = history_stage();
    stage.check_one(
        HECATE,
        "<presence to='coven@chat.shakespeare.lit/hecate'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='2'/></x></presence>",
        HECATE,
        "<presence from='coven@chat.shakespeare.lit/firstwitch' to='hecate@shakespeare.lit/broom'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/secondwitch' to='hecate@shakespeare.lit/broom'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='admin' role='moderator'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='hecate@shakespeare.lit/broom'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='participant'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/hecate' to='hecate@shakespeare.lit/broom'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' role='participant'/><status code='110'/></x>
         </presence>
         <message from='coven@chat.shakespeare.lit/secondwitch' to='hecate@shakespeare.lit/broom' type='groupchat'>
           <body>Thrice and once the hedge-pig whined.</body>
           <stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.shakespeare.lit' id='1005'/>
           <delay xmlns='urn:xmpp:delay' from='coven@chat.shakespeare.lit' stamp='2002-10-13T23:58:43.000000Z'/>
         </message>
         <message from='coven@chat.shakespeare.lit/thirdwitch' to='hecate@shakespeare.lit/broom' type='groupchat'>
           <body>Harpier cries 'Tis time, 'tis time.</body>
           <stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.shakespeare.lit' id='1006'/>
           <delay xmlns='urn:xmpp:delay' from='coven@chat.shakespeare.lit' stamp='2002-10-13T23:58:49.000000Z'/>
         </message>
         <message from='coven@chat.shakespeare.lit' to='hecate@shakespeare.lit/broom' type='groupchat'><subject/></message>",
    );
}

/// §7.2.14: the smallest of what is asked for, in complete messages.
#[test]
fn managing_discussion_history() {
    let mut stage = history_stage();
    let mut count = |history: &str| {
        let xml = format!(
            "<presence to='{ROOM}/hecate'><x xmlns='http://jabber.org/protocol/muc'><history {history}/></x></presence>"
        );
        bodies(&stage.from(HECATE, &xml), HECATE).len()
    };
    assert_eq!(count(""), 3);
    assert_eq!(count("maxstanzas='20'"), 3);
    assert_eq!(count("maxstanzas='0'"), 0);
    assert_eq!(count("maxchars='65000'"), 3);
    assert_eq!(count("maxchars='0'"), 0);
    assert_eq!(count("seconds='180'"), 3);
    assert_eq!(count("seconds='6'"), 2);
    assert_eq!(count("seconds='0'"), 1);
    assert_eq!(count("since='1970-01-01T00:00:00Z'"), 3);
    assert_eq!(count("since='2002-10-13T23:58:43Z'"), 2);
    assert_eq!(count("since='2002-10-13T23:58:43Z' maxstanzas='1'"), 1);
    assert_eq!(count("seconds='6' since='2002-10-13T23:58:49Z'"), 1);
    // What cannot be read is not asked for.
    assert_eq!(count("maxstanzas='many' since='yesterday'"), 3);
    // One character less than a message has, and exactly as many.
    let one = |got: Vec<Got>| got.into_iter().rev().find(|got| got.stanza.has("body", ns::CLIENT)).unwrap();
    let ask = |chars: usize| {
        format!(
            "<presence to='{ROOM}/hecate'><x xmlns='http://jabber.org/protocol/muc'><history maxchars='{chars}'/></x></presence>"
        )
    };
    stage.keep_occupant_ids = true;
    let last = one(stage.from(HECATE, &ask(65000)));
    let mut xml = Vec::new();
    last.stanza.write(&mut xml, Some(&jid(&last.to)));
    let chars = String::from_utf8(xml).unwrap().chars().count();
    assert_eq!(bodies(&stage.from(HECATE, &ask(chars - 1)), HECATE).len(), 0);
    assert_eq!(bodies(&stage.from(HECATE, &ask(chars)), HECATE).len(), 1);
}

#[test]
fn history_holds_so_many_and_nothing_of_the_moment() {
    let mut stage = Stage::witches(Config { history: 2, ..Config::default() });
    for text in ["one", "two", "three"] {
        say(&mut stage, CRONE, text);
    }
    let state = "<message type='groupchat' to='coven@chat.shakespeare.lit'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>";
    assert_eq!(stage.from(CRONE, state).len(), 3);
    stage.from(CRONE, "<message type='groupchat' to='coven@chat.shakespeare.lit'><body>secret</body><no-store xmlns='urn:xmpp:hints'/></message>");
    let got = stage.enter(HECATE, "hecate");
    assert_eq!(bodies(&got, HECATE), ["two", "three"]);
}

/// §7.9: an owner may bring a conversation along; its messages have their own times.
#[test]
fn continued_conversations_keep_their_times() {
    let mut stage = Stage::witches(Config::default());
    let old = "<message type='groupchat' to='coven@chat.shakespeare.lit'>
                 <thread>e0ffe42b28561960c6b12b944a092794b9683a38</thread><body>Thrice the brinded cat</body>
                 <delay xmlns='urn:xmpp:delay' from='crone1@shakespeare.lit/desktop' stamp='2001-09-29T01:54:37Z'/></message>";
    let delays = |got: Vec<Got>| -> Vec<String> {
        let said = got.into_iter().filter(|got| got.to == HECATE && got.stanza.has("body", ns::CLIENT));
        let delays = said.flat_map(|got| {
            got.stanza
                .children()
                .iter()
                .filter(|c| c.is("delay", ns::DELAY))
                .map(|c| c.get("stamp").unwrap().to_owned())
                .collect::<Vec<_>>()
        });
        delays.collect()
    };
    stage.from(CRONE, old);
    assert_eq!(delays(stage.enter(HECATE, "hecate")), ["2001-09-29T01:54:37Z"]);
    let mut again = stage.restarted(Limits::default());
    assert_eq!(delays(again.enter(HECATE, "hecate")), ["2001-09-29T01:54:37Z"]);
    // C10: others' times are kept, and the room's own comes last.
    stage.from(HAG, old);
    let got = delays(stage.enter(HECATE, "hecate"));
    assert_eq!(got, ["2001-09-29T01:54:37Z", "2001-09-29T01:54:37Z", "2002-10-13T23:58:37.000000Z"]);
}

/// §7.2.15: the subject comes last, always.
#[test]
fn room_subject() {
    let mut stage = Stage::witches(Config::default());
    stage.from(WICCA, "<message type='groupchat' id='lh2bs617' to='coven@chat.shakespeare.lit'><subject>Fire Burn and Cauldron Bubble!</subject></message>");
    stage.pass(60);
    say(&mut stage, HAG, "Double, double");
    let subject = |got: Vec<Got>| got.into_iter().rfind(|got| got.to == HECATE).unwrap();
    let got = subject(stage.enter(HECATE, "hecate"));
    check(
        &[got],
        "<message from='coven@chat.shakespeare.lit/secondwitch' id='lh2bs617' to='hecate@shakespeare.lit/broom' type='groupchat'>
           <subject>Fire Burn and Cauldron Bubble!</subject>
           <stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.shakespeare.lit' id='1004'/>
           <delay xmlns='urn:xmpp:delay' from='coven@chat.shakespeare.lit' stamp='2002-10-13T23:58:37.000000Z'/>
         </message>",
    );
    // Cleared, it is empty, and has its time.
    stage.from(
        WICCA,
        "<message type='groupchat' id='uj3bs61g' to='coven@chat.shakespeare.lit'><subject></subject></message>",
    );
    let got = subject(stage.enter(HECATE, "hecate"));
    assert!(got.stanza.has("delay", ns::DELAY) && got.stanza.find("subject", ns::CLIENT).unwrap().content().is_empty());
}

/// §17.3: no other presence enters or leaves.
#[test]
fn presence_with_a_type_is_no_way_in_or_out() {
    let mut stage = Stage::new(Config::default());
    stage.enter(CRONE, "firstwitch");
    for kind in ["probe", "subscribed", "unsubscribe", "unsubscribed", "unavailable", "error"] {
        let xml = JOIN.replace("<presence ", &format!("<presence type='{kind}' "));
        assert_eq!(stage.from(HAG, &xml), [], "{kind}");
        assert_eq!(stage.role(HAG), Role::None);
    }
    for kind in ["probe", "subscribe", "subscribed", "unsubscribe", "unsubscribed"] {
        stage.from(CRONE, &format!("<presence type='{kind}' to='{ROOM}/firstwitch'/>"));
        assert_eq!(stage.role(CRONE), Role::Moderator, "{kind}");
    }
}
