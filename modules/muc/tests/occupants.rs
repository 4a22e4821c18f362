//! XEP-0045 §7.6, §7.7, §7.14, §17.3: what occupants do with their presence.

use super::*;
use crate::muc::config::Whois;
use crate::muc::roles::Roles;

/// Everybody sees everybody, as in the XEP's examples.
fn open() -> Config {
    Config {
        whois: Whois::Anyone,
        member_list: Roles { moderator: false, participant: false, visitor: false },
        ..Config::default()
    }
}

/// §7.6.
#[test]
fn occupant_changes_nickname() {
    let mut stage = Stage::new(open());
    stage.enter(HECATE, "hecate");
    stage.enter(HAG, "thirdwitch");
    stage.check(
        HAG,
        "<presence id='ifd1c35' to='coven@chat.shakespeare.lit/oldhag'/>",
        "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hecate@shakespeare.lit/broom' type='unavailable'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' nick='oldhag' role='participant'/>
             <status code='303'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda' type='unavailable'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' nick='oldhag' role='participant'/>
             <status code='110'/><status code='303'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/oldhag' to='hecate@shakespeare.lit/broom'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='participant'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/oldhag' id='ifd1c35' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='participant'/>
             <status code='110'/></x>
         </presence>",
    );
    // The old one is free.
    stage.enter(WICCA, "thirdwitch");
    // A taken one is not to be had, in no spelling.
    stage.refused(HAG, "<presence id='1' to='coven@chat.shakespeare.lit/hecate'/>", "cancel conflict");
    stage.refused(HAG, "<presence id='1' to='coven@chat.shakespeare.lit/Hecate'/>", "cancel conflict");
    stage.refused(HAG, "<presence id='1' to='coven@chat.shakespeare.lit/ '/>", "modify jid-malformed");
    // One's own in another spelling is.
    let got = stage.from(HAG, "<presence to='coven@chat.shakespeare.lit/OldHag'/>");
    assert_eq!(got.len(), 6);
    assert_eq!(stage.room.occupant_of(&jid(HAG)).unwrap().nick(), "OldHag");
}

#[test]
fn nicknames_may_be_locked_down() {
    let mut stage = Stage::new(Config { lock_nicks: true, persistent: true, ..open() });
    stage.from(
        CRONE,
        "<iq type='set' id='1' to='coven@chat.shakespeare.lit'><query xmlns='http://jabber.org/protocol/muc#admin'>\
        <item affiliation='member' jid='hag66@shakespeare.lit' nick='thirdwitch'/></query></iq>",
    );
    // §7.10: the registered nickname is given.
    let got = stage.enter(HAG, "oldhag");
    check(
        &got[..1],
        "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='member' jid='hag66@shakespeare.lit/pda' role='participant'/>
             <status code='100'/><status code='110'/><status code='210'/></x>
         </presence>",
    );
    stage.refused(HAG, "<presence id='1' to='coven@chat.shakespeare.lit/oldhag'/>", "cancel not-acceptable");
    // Who has none may choose.
    stage.enter(HECATE, "hecate");
    stage.from(HECATE, "<presence to='coven@chat.shakespeare.lit/broom'/>");
    assert_eq!(stage.room.occupant_of(&jid(HECATE)).unwrap().nick(), "broom");
}

/// All sessions of an occupant go by the new nickname; two occupants of one person may become one.
#[test]
fn nickname_of_several_sessions() {
    let mut stage = Stage::new(open());
    let (pda, phone) = (HAG, "hag66@shakespeare.lit/phone");
    stage.enter(pda, "thirdwitch");
    stage.enter(phone, "thirdwitch");
    stage.enter(HECATE, "hecate");
    let got = stage.from(phone, "<presence to='coven@chat.shakespeare.lit/oldhag'/>");
    let to: Vec<&str> = got.iter().map(|got| got.to.as_str()).collect();
    assert_eq!(to, [HECATE, pda, phone, HECATE, pda, phone]);
    assert_eq!(stage.room.occupant_of(&jid(pda)).unwrap().nick(), "oldhag");
    // A third session has another nickname, and comes to the others.
    let tablet = "hag66@shakespeare.lit/tablet";
    stage.enter(tablet, "newhag");
    assert_eq!(stage.room.occupants(), 3);
    stage.from(tablet, "<presence to='coven@chat.shakespeare.lit/oldhag'/>");
    assert_eq!(stage.room.occupants(), 2);
    assert_eq!(stage.room.occupant_of(&jid(tablet)).unwrap().sessions().count(), 3);
}

/// §7.7.
#[test]
fn occupant_changes_availability() {
    let mut stage = Stage::new(Config::default());
    stage.enter(CRONE, "firstwitch");
    stage.enter(WICCA, "secondwitch");
    stage.enter(HAG, "thirdwitch");
    stage.check(
        WICCA,
        "<presence id='kr7v143h' to='coven@chat.shakespeare.lit/secondwitch'>
           <show>xa</show><status>gone where the goblins go</status></presence>",
        "<presence from='coven@chat.shakespeare.lit/secondwitch' to='crone1@shakespeare.lit/desktop'>
           <show>xa</show><status>gone where the goblins go</status>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='admin' jid='wiccarocks@shakespeare.lit/laptop' role='moderator'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/secondwitch' to='hag66@shakespeare.lit/pda'>
           <show>xa</show><status>gone where the goblins go</status>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='admin' role='moderator'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/secondwitch' id='kr7v143h' to='wiccarocks@shakespeare.lit/laptop'>
           <show>xa</show><status>gone where the goblins go</status>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='admin' jid='wiccarocks@shakespeare.lit/laptop' role='moderator'/>
             <status code='110'/><mav xmlns='urn:xmpp:muc:affiliations:1' until='3e8'/></x>
         </presence>",
    );
    // Who comes later sees it so.
    let got = stage.enter(HECATE, "hecate");
    let seen = got.iter().find(|got| got.to == HECATE && got.stanza.has("show", ns::CLIENT)).unwrap();
    assert_eq!(seen.stanza.head.from, Some(jid("coven@chat.shakespeare.lit/secondwitch")));
}

/// §17.3: what only the room says is not passed on from clients (security.md C3).
#[test]
fn c3_presence_says_nothing_in_the_rooms_place() {
    let mut stage = Stage::new(Config::default());
    stage.keep_occupant_ids = true;
    stage.enter(HECATE, "hecate");
    stage.enter(HAG, "thirdwitch");
    let forged = "<presence to='coven@chat.shakespeare.lit/thirdwitch'>
        <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator'/><status code='100'/></x>
        <y:x xmlns:y='http://jabber.org/protocol/muc#user'/>
        <occupant-id xmlns='urn:xmpp:occupant-id:0' id='1'/><z:occupant-id xmlns:z='urn:xmpp:occupant-id:0' id='2'/>
        <hats xmlns='urn:xmpp:hats:0'><hat title='Host' uri='x'/></hats>
        <stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.shakespeare.lit' id='1'/>
        <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/></presence>";
    let id = stage.room.occupant_id(&bare(HAG));
    stage.check_one(
        HAG,
        forged,
        HECATE,
        &format!(
            "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hecate@shakespeare.lit/broom'>
               <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/>
               <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='participant'/></x>
               <occupant-id xmlns='urn:xmpp:occupant-id:0' id='{id}'/>
             </presence>"
        ),
    );
}

/// §7.14.
#[test]
fn occupant_exits() {
    let mut stage = Stage::witches(open());
    stage.check(
        HAG,
        "<presence to='coven@chat.shakespeare.lit/thirdwitch' type='unavailable'>
           <status>gone where the goblins go</status>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator'/></x></presence>",
        "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda' type='unavailable'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='none'/><status code='110'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='crone1@shakespeare.lit/desktop' type='unavailable'>
           <status>gone where the goblins go</status>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='none'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='wiccarocks@shakespeare.lit/laptop' type='unavailable'>
           <status>gone where the goblins go</status>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='none'/></x>
         </presence>",
    );
    assert_eq!(stage.from(HAG, "<presence to='coven@chat.shakespeare.lit/thirdwitch' type='unavailable'/>"), []);
    // To whatever of the room's addresses it is sent.
    stage.from(WICCA, "<presence to='coven@chat.shakespeare.lit/earlier' type='unavailable'/>");
    assert_eq!(stage.role(WICCA), Role::None);
}

/// §7.14: a temporary room ends with its last occupant, a persistent one does not.
#[test]
fn the_last_one_to_leave() {
    for persistent in [false, true] {
        let mut stage = Stage::new(Config { persistent, ..Config::default() });
        stage.enter(HAG, "thirdwitch");
        stage.from(HAG, "<presence to='coven@chat.shakespeare.lit/thirdwitch' type='unavailable'/>");
        assert_eq!(stage.room.is_gone(), !persistent);
        assert_eq!(stage.stored.contains(&RoomChange::Destroy), !persistent);
    }
}

/// §10: presence of visitors is not shown where the owner has chosen so.
#[test]
fn presence_that_is_not_broadcast() {
    let config =
        Config { moderated: true, presence_broadcast: Roles { visitor: false, ..Roles::ALL }, ..Config::default() };
    let mut stage = Stage::new(config);
    stage.enter(CRONE, "firstwitch");
    stage.enter(HECATE, "hecate");
    let got = stage.enter(HAG, "thirdwitch");
    assert!(got.iter().all(|got| got.to == HAG), "{got:?}");
    let from: Vec<Option<Jid>> = got.iter().map(|got| got.stanza.head.from.clone()).collect();
    assert_eq!(
        from,
        ["firstwitch", "thirdwitch", ""].map(|nick| Some(jid(format!("{ROOM}/{nick}").trim_end_matches('/'))))
    );
    // With voice she comes into sight, and goes again without.
    let voice = |role: &str| {
        format!(
            "<iq type='set' id='1' to='{ROOM}'><query xmlns='http://jabber.org/protocol/muc#admin'><item nick='thirdwitch' role='{role}'/></query></iq>"
        )
    };
    stage.check_one(
        CRONE,
        &voice("participant"),
        HECATE,
        "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hecate@shakespeare.lit/broom'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='participant'><actor nick='firstwitch'/></item></x>
         </presence>",
    );
    stage.check_one(
        CRONE,
        &voice("visitor"),
        HECATE,
        "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hecate@shakespeare.lit/broom' type='unavailable'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'/></x>
         </presence>",
    );
    // Nobody learns that she leaves.
    let got = stage.from(HAG, "<presence to='coven@chat.shakespeare.lit/thirdwitch' type='unavailable'/>");
    assert_eq!(got.len(), 1, "{got:?}");
}

/// Large rooms: newcomers are shown only if they are moderators; whoever was shown is seen to leave.
#[test]
fn presence_in_large_rooms_is_thinned() {
    let mut stage = Stage::with_limits(Config::default(), Limits { thin_from: 2, ..Limits::default() });
    stage.enter(HECATE, "hecate");
    stage.enter("a@b/c", "a");
    let got = stage.enter(HAG, "thirdwitch");
    assert!(got.iter().all(|got| got.to == HAG), "{got:?}");
    assert_eq!(got.len(), 4);
    let got = stage.enter(CRONE, "firstwitch");
    assert_eq!(got.iter().filter(|got| got.to != CRONE).count(), 3);
    // The moderator sees whom the others see.
    assert_eq!(got.iter().filter(|got| got.to == CRONE).count(), 4);
    let got = stage.from(HECATE, "<presence to='coven@chat.shakespeare.lit/hecate' type='unavailable'/>");
    assert_eq!(got.len(), 4);
}

/// Where not even moderators are shown, everybody still sees whom the others see, and themselves.
#[test]
fn presence_in_large_rooms_is_thinned_to_none() {
    let limits = Limits { thin_from: 2, thin_to_moderators: false, ..Limits::default() };
    let mut stage = Stage::with_limits(Config::default(), limits);
    stage.enter(HECATE, "hecate");
    stage.enter("a@b/c", "a");
    for (who, nick, role) in [(HAG, "thirdwitch", "participant"), (CRONE, "firstwitch", "moderator")] {
        let got = stage.enter(who, nick);
        assert!(got.iter().all(|got| got.to == who), "{got:?}");
        // The two who are shown, oneself, the subject.
        assert_eq!(got.len(), 4, "{got:?}");
        let own = got.iter().map(|got| got.stanza.to_xml()).find(|xml| xml.contains("code='110'")).unwrap();
        assert!(own.contains(&format!("role='{role}'")), "{own}");
    }
    // Nor does who becomes a moderator then come into sight.
    let change = format!(
        "<iq id='1' to='{ROOM}' type='set'><query xmlns='http://jabber.org/protocol/muc#admin'><item nick='thirdwitch' role='moderator'/></query></iq>"
    );
    let got = stage.from(CRONE, &change);
    assert!(got.len() == 2 && got.iter().all(|got| [HAG, CRONE].contains(&got.to.as_str())), "{got:?}");
    let got = stage.from(HAG, "<presence to='coven@chat.shakespeare.lit/thirdwitch' type='unavailable'/>");
    assert!(got.iter().all(|got| got.to == HAG), "{got:?}");
    let got = stage.from(HECATE, "<presence to='coven@chat.shakespeare.lit/hecate' type='unavailable'/>");
    assert_eq!(got.len(), 3, "who is shown is seen to leave: {got:?}");
}

/// The same after a restart: those who see somebody learn that they leave, in whatever order they are read.
#[test]
fn who_is_shown_in_large_rooms_stays_so_over_a_restart() {
    let limits = Limits { thin_from: 2, ..Limits::default() };
    let mut stage = Stage::with_limits(Config::default(), limits.clone());
    for who in ["z", "y", "b", "a"] {
        stage.enter(&format!("{who}@shakespeare.lit/x"), who);
    }
    let mut stage = stage.restarted(limits);
    for (who, learn_it) in [("a", 0), ("z", 2), ("b", 0), ("y", 0)] {
        let from = format!("{who}@shakespeare.lit/x");
        let got = stage.from(&from, &format!("<presence to='{ROOM}/{who}' type='unavailable'/>"));
        assert_eq!(got.iter().filter(|got| got.to != from).count(), learn_it, "{who}: {got:?}");
    }
    // What role and configuration have made of it counts, too.
    let mut stage = Stage::with_limits(Config::default(), Limits { thin_from: 1, ..Limits::default() });
    stage.enter(CRONE, "firstwitch");
    stage.enter(HAG, "thirdwitch");
    let change = |role: &str| {
        format!(
            "<iq id='1' to='{ROOM}' type='set'><query xmlns='http://jabber.org/protocol/muc#admin'><item nick='thirdwitch' role='{role}'/></query></iq>"
        )
    };
    stage.from(CRONE, &change("moderator"));
    stage.from(CRONE, &change("participant"));
    let mut stage = stage.restarted(Limits { thin_from: 1, ..Limits::default() });
    let got = stage.from(HAG, &format!("<presence to='{ROOM}/thirdwitch' type='unavailable'/>"));
    assert_eq!(got.len(), 2, "{got:?}");
}

/// §17.3: probes of occupants and their servers; of others nothing is said (security.md C5).
#[test]
fn c5_probes() {
    let mut stage = Stage::witches(Config::default());
    let probe = |to: &str| format!("<presence type='probe' to='{ROOM}{to}'/>");
    stage.check(
        HAG,
        &probe("/firstwitch"),
        "<presence from='coven@chat.shakespeare.lit/firstwitch' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator'/></x></presence>",
    );
    stage.check(
        HAG,
        &probe(""),
        "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='participant'/><status code='110'/></x></presence>",
    );
    stage.check(
        "hag66@shakespeare.lit",
        &probe("/nobody"),
        "<presence type='unavailable' from='coven@chat.shakespeare.lit/nobody' to='hag66@shakespeare.lit'/>",
    );
    for to in ["", "/firstwitch", "/nobody"] {
        assert_eq!(stage.from(HECATE, &probe(to)), []);
        assert_eq!(stage.from("shakespeare.lit", &probe(to)), []);
    }
}

/// §18.1.2, §11.1: errors give away who is not there any more.
#[test]
fn ghosts_leave() {
    let mut stage = Stage::witches(open());
    let error = |condition: &str| {
        format!(
            "<message type='error' to='{ROOM}/firstwitch'><body>x</body><error type='cancel'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        )
    };
    for harmless in ["policy-violation", "not-acceptable", "undefined-condition"] {
        assert_eq!(stage.from(HAG, &error(harmless)), []);
    }
    stage.check(
        HAG,
        &error("recipient-unavailable"),
        "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda' type='unavailable'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='none'/><status code='110'/><status code='333'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='crone1@shakespeare.lit/desktop' type='unavailable'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='none'/><status code='333'/></x>
         </presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='wiccarocks@shakespeare.lit/laptop' type='unavailable'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='none'/><status code='333'/></x>
         </presence>",
    );
    for condition in [
        "gone",
        "item-not-found",
        "redirect",
        "remote-server-not-found",
        "remote-server-timeout",
        "service-unavailable",
    ] {
        stage.enter(HAG, "thirdwitch");
        let presence = format!(
            "<presence type='error' to='{ROOM}/firstwitch'><error type='cancel'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"
        );
        stage.from(HAG, &presence);
        assert_eq!(stage.role(HAG), Role::None, "{condition}");
    }
    // C9: errors of those who are not there are answered by nothing.
    assert_eq!(stage.from(HAG, &error("gone")), []);
}
