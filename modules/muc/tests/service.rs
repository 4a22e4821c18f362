//! XEP-0045 §6, §11, and what rooms do beyond: occupant ids, retraction and moderation, slow mode, avatars, hats, versions
//! of the lists.

use rookery_xmpp::error::Condition;

use super::*;
use crate::muc::config::Whois;

fn iq(kind: &str, inside: &str) -> String {
    format!("<iq id='1' to='{ROOM}' type='{kind}'>{inside}</iq>")
}

fn info(node: &str) -> String {
    iq("get", &format!("<query xmlns='http://jabber.org/protocol/disco#info'{node}/>"))
}

fn features(got: &[Got]) -> Vec<String> {
    let query = got[0].stanza.payload().unwrap();
    query
        .elements()
        .filter(|child| child.name() == "feature")
        .map(|child| child.get("var").unwrap().to_owned())
        .collect()
}

fn field(got: &[Got], var: &str) -> Option<String> {
    let form = got[0].stanza.payload().unwrap().find("x", ns::X_DATA)?.clone();
    let field = form.elements().find(|field| field.get("var") == Some(var))?.clone();
    Some(
        field
            .elements()
            .filter(|value| value.name() == "value")
            .map(|value| value.content())
            .collect::<Vec<_>>()
            .join(" "),
    )
}

/// §6.4.
#[test]
fn room_information() {
    let mut stage =
        Stage::witches(Config { name: "A Dark Cave".to_owned(), lang: "en".to_owned(), ..Config::default() });
    stage.from(CRONE, &format!("<message to='{ROOM}' type='groupchat'><subject>Spells</subject></message>"));
    let got = stage.from(HECATE, &info(""));
    let identity = got[0].stanza.payload().unwrap().find("identity", ns::DISCO_INFO).unwrap().clone();
    assert_eq!(
        (identity.get("category"), identity.get("type"), identity.get("name")),
        (Some("conference"), Some("text"), Some("A Dark Cave"))
    );
    let has = features(&got);
    for feature in [
        "http://jabber.org/protocol/muc",
        "http://jabber.org/protocol/muc#stable_id",
        "muc_public",
        "muc_temporary",
        "muc_open",
        "muc_unmoderated",
        "muc_semianonymous",
        "muc_unsecured",
        "urn:xmpp:occupant-id:0",
        "urn:xmpp:sid:0",
        "urn:xmpp:mam:2",
        "http://jabber.org/protocol/muc#self-ping-optimization",
        "urn:xmpp:message-moderate:1",
        "urn:xmpp:message-retract:1#tombstone",
        "urn:xmpp:hats:0",
        "urn:xmpp:muc:affiliations:1",
        "vcard-temp",
    ] {
        assert!(has.contains(&feature.to_owned()), "{feature} is not in {has:?}");
    }
    assert_eq!(field(&got, "muc#roominfo_occupants").as_deref(), Some("3"));
    assert_eq!(field(&got, "muc#roominfo_subject").as_deref(), Some("Spells"));
    assert_eq!(field(&got, "muc#roominfo_lang").as_deref(), Some("en"));
    assert_eq!(field(&got, "muc#roominfo_contactjid"), None);
    let strict = Config {
        public: false,
        persistent: true,
        members_only: true,
        moderated: true,
        whois: Whois::Anyone,
        archive: false,
        password: Some("x".to_owned()),
        ..Config::default()
    };
    let mut stage = Stage::new(strict);
    let got = stage.from(HECATE, &info(""));
    let has = features(&got);
    for feature in [
        "muc_hidden",
        "muc_persistent",
        "muc_membersonly",
        "muc_moderated",
        "muc_nonanonymous",
        "muc_passwordprotected",
    ] {
        assert!(has.contains(&feature.to_owned()), "{feature} is not in {has:?}");
    }
    assert!(!has.contains(&"urn:xmpp:mam:2".to_owned()));
    // §13.4: what is said inside is not told outside.
    assert_eq!(field(&got, "muc#roominfo_subject"), None);
    stage.check(
        HECATE,
        &iq("get", "<query xmlns='http://jabber.org/protocol/disco#items'/>"),
        "<iq from='coven@chat.shakespeare.lit' id='1' to='hecate@shakespeare.lit/broom' type='result'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>",
    );
    stage.refused(HECATE, &info(" node='http://jabber.org/protocol/muc#traffic'"), "cancel service-unavailable");
    stage.refused(HECATE, &info(" node='urn:x'"), "cancel item-not-found");
    stage.refused(HECATE, &iq("get", "<query xmlns='urn:x'/>"), "cancel service-unavailable");
    stage.check(
        HECATE,
        &iq("get", "<ping xmlns='urn:xmpp:ping'/>"),
        "<iq from='coven@chat.shakespeare.lit' id='1' to='hecate@shakespeare.lit/broom' type='result'/>",
    );
    assert_eq!(stage.from(HECATE, &iq("result", "")), []);
    assert_eq!(
        stage.from(
            HECATE,
            &iq("error", "<error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")
        ),
        []
    );
}

/// XEP-0421: on everything that an occupant says, one id, the same for the same person.
#[test]
fn occupant_ids() {
    let mut stage = Stage::witches(Config::default());
    stage.keep_occupant_ids = true;
    let id = |got: &[Got]| -> Vec<String> {
        let of = |got: &Got| {
            let ids: Vec<String> = got
                .stanza
                .children()
                .iter()
                .filter(|child| child.is("occupant-id", ns::OCCUPANT_ID))
                .map(|child| child.get("id").unwrap().to_owned())
                .collect();
            assert_eq!(ids.len(), 1, "{got:?}");
            ids[0].clone()
        };
        got.iter().map(of).collect()
    };
    let own = stage.room.occupant_id(&bare(HAG));
    let said = stage.from(HAG, &format!("<message to='{ROOM}' type='groupchat'><body>x</body></message>"));
    assert_eq!(id(&said), [&*own, &own, &own]);
    assert_eq!(
        id(&stage.from(HAG, &format!("<message to='{ROOM}/firstwitch' type='chat'><body>x</body></message>"))),
        [&*own]
    );
    assert_eq!(id(&stage.from(HAG, &format!("<presence to='{ROOM}/oldhag'/>"))), vec![own.clone(); 6]);
    assert_eq!(
        id(&stage.from(HAG, &format!("<presence to='{ROOM}/oldhag' type='unavailable'/>"))),
        vec![own.clone(); 3]
    );
    // Back again, by another name and from another place.
    let got = stage.enter("hag66@shakespeare.lit/elsewhere", "somebody");
    let me: Vec<Got> = got
        .into_iter()
        .filter(|got| got.stanza.head.from == Some(jid("coven@chat.shakespeare.lit/somebody")))
        .collect();
    assert_eq!(id(&me), vec![own; 3]);
    let history = stage.enter(HECATE, "hecate");
    let history: Vec<Got> = history.into_iter().filter(|got| got.stanza.has("body", ns::CLIENT)).collect();
    assert_eq!(id(&history).len(), 1);
}

/// XEP-0424: one's own messages, by stanza-id.
#[test]
fn retracting_a_message() {
    let mut stage = Stage::witches(Config::default());
    stage.from(
        HAG,
        &format!("<message id='a' to='{ROOM}' type='groupchat'><body>DM me for free magic potions!</body></message>"),
    );
    let retract = format!(
        "<message id='b' to='{ROOM}' type='groupchat'><retract xmlns='urn:xmpp:message-retract:1' id='1004'/><body>retracted</body></message>"
    );
    stage.refused(WICCA, &retract, "auth forbidden");
    assert_eq!(stage.from(HAG, &retract).len(), 3);
    let tombstone =
        "<retracted xmlns='urn:xmpp:message-retract:1' id='b' stamp='2002-10-13T23:58:37.000000Z'/>".parse().unwrap();
    assert_eq!(stage.stored.last(), Some(&RoomChange::Retract { id: 1004, by: Some(bare(HAG)), tombstone }));
    // It is not distributed any more, and the retraction is no history but in the archive.
    let got = stage.enter(HECATE, "hecate");
    assert!(!got.iter().any(|got| got.stanza.has("body", ns::CLIENT)));
    assert!(stage.stored.iter().any(|change| matches!(change, RoomChange::Message(message) if message.id == 1006 && !message.history && message.archive)));
    // Of those that the room does not remember the database decides.
    let got = stage.from(HAG, &retract.replace("1004", "5"));
    assert_eq!(got.len(), 4);
    assert!(matches!(stage.stored.last(), Some(RoomChange::Retract { id: 5, by: Some(who), .. }) if *who == bare(HAG)));
}

/// XEP-0425.
#[test]
fn moderating_a_message() {
    let mut stage = Stage::witches(Config::default());
    stage.from(
        HAG,
        &format!("<message id='a' to='{ROOM}' type='groupchat'><body>DM me for free magic potions!</body></message>"),
    );
    let moderate = |id: &str| {
        iq(
            "set",
            &format!(
                "<moderate id='{id}' xmlns='urn:xmpp:message-moderate:1'><retract xmlns='urn:xmpp:message-retract:1'/><reason>inappropriate</reason></moderate>"
            ),
        )
    };
    stage.refused(HAG, &moderate("1004"), "auth forbidden");
    stage.refused(WICCA, &moderate("x"), "cancel item-not-found");
    stage.refused(WICCA, &iq("set", "<moderate id='1004' xmlns='urn:xmpp:message-moderate:1'/>"), "modify bad-request");
    stage.answer = Ok(Stored::NotFound);
    stage.refused(WICCA, &moderate("7"), "cancel item-not-found");
    stage.answer = Ok(Stored::Done);
    let got = stage.from(WICCA, &moderate("1004"));
    let id = stage.room.occupant_id(&bare(WICCA));
    let moderated = format!(
        "<moderated by='coven@chat.shakespeare.lit/secondwitch' xmlns='urn:xmpp:message-moderate:1'><occupant-id xmlns='urn:xmpp:occupant-id:0' id='{id}'/></moderated>"
    );
    let all: String = [CRONE, WICCA, HAG]
        .map(|to| {
            format!(
                "<message type='groupchat' id='retraction-1010' from='coven@chat.shakespeare.lit' to='{to}'>
           <retract id='1004' xmlns='urn:xmpp:message-retract:1'>{moderated}<reason>inappropriate</reason></retract>
           <stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.shakespeare.lit' id='1011'/></message>"
            )
        })
        .concat();
    check(
        &got,
        &(all + "<iq from='coven@chat.shakespeare.lit' id='1' to='wiccarocks@shakespeare.lit/laptop' type='result'/>"),
    );
    let tombstone = format!("<retracted xmlns='urn:xmpp:message-retract:1' id='retraction-1010' stamp='2002-10-13T23:58:37.000000Z'>{moderated}<reason>inappropriate</reason></retracted>").parse().unwrap();
    assert!(stage.stored.contains(&RoomChange::Retract { id: 1004, by: None, tombstone }), "{:?}", stage.stored);
    assert!(
        matches!(stage.stored.last(), Some(RoomChange::Message(message)) if message.id == 1011 && message.sender.is_none())
    );
    let got = stage.enter(HECATE, "hecate");
    assert!(!got.iter().any(|got| got.stanza.has("body", ns::CLIENT)));
}

/// XEP-0500: by person, not by session or nickname; only what has a text; not for admins.
#[test]
fn slow_mode() {
    let mut stage = Stage::witches(Config { slow_mode: 20, ..Config::default() });
    let say = format!("<message id='1' to='{ROOM}' type='groupchat'><body>x</body></message>");
    let state = format!(
        "<message to='{ROOM}' type='groupchat'><active xmlns='http://jabber.org/protocol/chatstates'/></message>"
    );
    assert_eq!(stage.from(HAG, &say).len(), 3);
    stage.pass(19);
    let got = stage.from(HAG, &say);
    assert_eq!(error_of(&got[0]), "wait policy-violation");
    assert!(got[0].stanza.to_xml().contains("20 seconds"));
    assert_eq!(stage.from(HAG, &state).len(), 3);
    stage.enter("hag66@shakespeare.lit/phone", "other");
    stage.refused("hag66@shakespeare.lit/phone", &say, "wait policy-violation");
    stage.from(HAG, &format!("<presence to='{ROOM}/thirdwitch' type='unavailable'/>"));
    stage.enter(HAG, "thirdwitch");
    stage.refused(HAG, &say, "wait policy-violation");
    stage.pass(1);
    assert_eq!(stage.from(HAG, &say).len(), 4);
    for _ in 0..3 {
        assert_eq!(stage.from(WICCA, &say).len(), 4);
    }
    assert_eq!(field(&stage.from(HECATE, &info("")), "muc#roominfo_slow_mode_duration").as_deref(), Some("20"));
}

/// XEP-0486, with the example's pictures.
#[test]
fn avatars() {
    let mut stage = Stage::witches(Config::default());
    let photo = "<PHOTO><TYPE>image/svg+xml</TYPE><BINVAL>PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHdpZHRoPSIzMiIgaGVpZ2h0PSIzMiI+\nCiA8cmVjdCB4PSIwIiB5PSIwIiB3aWR0aD0iMzIiIGhlaWdodD0iMzIiIGZpbGw9InJlZCIvPgo8L3N2Zz4K</BINVAL></PHOTO>";
    let vcard = |inside: &str| format!("<vCard xmlns='vcard-temp'>{inside}</vCard>");
    stage.refused(WICCA, &iq("set", &vcard(photo)), "auth forbidden");
    stage.refused(CRONE, &iq("set", &vcard(&"x".repeat(70_000))), "modify not-acceptable");
    let got = stage.from(CRONE, &iq("set", &vcard(photo)));
    assert_eq!(got.len(), 4);
    assert!(got[1].stanza.to_xml().contains("code='104'"));
    stage.check(
        HECATE,
        &iq("get", &vcard("")),
        &format!("<iq from='{ROOM}' id='1' to='{HECATE}' type='result'>{}</iq>", vcard(photo)),
    );
    assert_eq!(
        field(&stage.from(HECATE, &info("")), "muc#roominfo_avatarhash").as_deref(),
        Some("a31c4bd04de69663cfd7f424a8453f4674da37ff")
    );
    stage.from(CRONE, &iq("set", &vcard("")));
    assert_eq!(field(&stage.from(HECATE, &info("")), "muc#roominfo_avatarhash"), None);
    assert_eq!(stage.stored.last(), Some(&RoomChange::Vcard(None)));
}

fn hats(node: &str, fields: &[(&str, &str)]) -> String {
    let fields: String =
        fields.iter().map(|(var, value)| format!("<field var='{var}'><value>{value}</value></field>")).collect();
    let form = format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:hats:commands</value></field>{fields}</x>"
    );
    iq(
        "set",
        &format!(
            "<command xmlns='http://jabber.org/protocol/commands' node='urn:xmpp:hats:commands:{node}' sessionid='s'>{form}</command>"
        ),
    )
}

/// Each change of a hat stores all of them: what an admin may make of them is little.
#[test]
fn b16_hats_are_bounded_in_bytes() {
    let mut stage = Stage::with_limits(Config::default(), Limits { wardrobe: 5000, ..Limits::default() });
    stage.enter(CRONE, "firstwitch");
    let uri = |number: usize| format!("{number}{}", "x".repeat(400));
    for number in 0..10 {
        let create = hats("create", &[("hats#title", "Cook"), ("hats#uri", &uri(number))]);
        assert!(stage.from(CRONE, &create)[0].stanza.to_xml().contains("completed"));
    }
    let assign = |who: &str| hats("assign", &[("hats#jid", who), ("hats#uri", &uri(1))]);
    stage.from(CRONE, &assign("a@x"));
    stage.from(CRONE, &assign("b@x"));
    stage.refused(CRONE, &assign("c@x"), "wait resource-constraint");
    let destroy = hats("destroy", &[("hats#uri", &uri(2))]);
    assert!(stage.from(CRONE, &destroy)[0].stanza.to_xml().contains("completed"));
    assert!(stage.from(CRONE, &assign("c@x"))[0].stanza.to_xml().contains("completed"));
}

/// XEP-0317.
#[test]
fn hats_are_made_and_worn() {
    let mut stage = Stage::witches(Config::default());
    let uri = "http://tech.example.edu/hats#TeacherAssistant";
    let create = hats("create", &[("hats#title", "Assistant"), ("hats#uri", uri), ("hats#hue", "327.255249")]);
    stage.refused(HAG, &create, "auth forbidden");
    let done = |node: &str| {
        format!(
            "<iq from='{ROOM}' id='1' to='{WICCA}' type='result'><command xmlns='http://jabber.org/protocol/commands' node='urn:xmpp:hats:commands:{node}' sessionid='s' status='completed'/></iq>"
        )
    };
    let got = stage.from(WICCA, &create);
    check(&got[..1], &done("create"));
    assert!(got.len() == 4 && got[3].stanza.to_xml().contains("code='104'"));
    stage.refused(
        WICCA,
        &hats("assign", &[("hats#jid", "hag66@shakespeare.lit"), ("hats#uri", "urn:other")]),
        "cancel item-not-found",
    );
    let got = stage.from(WICCA, &hats("assign", &[("hats#jid", "hag66@shakespeare.lit"), ("hats#uri", uri)]));
    let hat = format!("<hats xmlns='urn:xmpp:hats:0'><hat title='Assistant' uri='{uri}' hue='327.255249'/></hats>");
    check(&got[..1], &done("assign"));
    check(
        &got[3..],
        &format!(
            "<presence from='{ROOM}/thirdwitch' to='{HAG}'><x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='participant'/><status code='110'/></x>{hat}</presence>"
        ),
    );
    // Who comes sees it.
    let got = stage.enter(HECATE, "hecate");
    assert_eq!(got.iter().filter(|got| got.to == HECATE && got.stanza.has("hats", ns::HATS)).count(), 1);
    // Asked for, forms and lists.
    let ask = |node: &str| {
        iq(
            "set",
            &format!(
                "<command xmlns='http://jabber.org/protocol/commands' action='execute' node='urn:xmpp:hats:commands:{node}'/>"
            ),
        )
    };
    for node in ["create", "destroy", "assign", "unassign"] {
        let got = stage.from(WICCA, &ask(node));
        assert_eq!(got[0].stanza.payload().unwrap().get("status"), Some("executing"));
    }
    assert!(stage.from(WICCA, &ask("list"))[0].stanza.to_xml().contains("Assistant"));
    assert!(stage.from(WICCA, &ask("list-assigned"))[0].stanza.to_xml().contains("hag66@shakespeare.lit"));
    stage.refused(HAG, &ask("list-assigned"), "auth forbidden");
    stage.refused(WICCA, &ask("other"), "cancel item-not-found");
    let items =
        iq("get", "<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/>");
    assert_eq!(stage.from(WICCA, &items)[0].stanza.payload().unwrap().elements().count(), 6);
    assert_eq!(stage.from(HAG, &items)[0].stanza.payload().unwrap().elements().count(), 0);
    let got = stage.from(WICCA, &hats("destroy", &[("hats#uri", uri)]));
    assert!(!got.iter().any(|got| got.stanza.has("hats", ns::HATS)));
    assert_eq!(stage.stored.last(), Some(&RoomChange::Hats(crate::muc::image::Hats::default())));
    stage.refused(
        WICCA,
        &hats("unassign", &[("hats#jid", "hag66@shakespeare.lit"), ("hats#uri", uri)]),
        "cancel item-not-found",
    );
}

/// XEP-0463.
#[test]
fn versions_of_the_lists() {
    let people = [(CRONE, Affiliation::Owner), (HAG, Affiliation::Member)];
    let mut stage = Stage::of(
        Config { whois: Whois::Anyone, persistent: true, ..Config::default() },
        Limits::default(),
        &people,
        &[],
    );
    let join = |since: &str| {
        format!(
            "<presence to='{ROOM}/thirdwitch'><x xmlns='http://jabber.org/protocol/muc'><mav xmlns='urn:xmpp:muc:affiliations:1'{since}/></x></presence>"
        )
    };
    let answer = |attributes: &str, items: &str| {
        format!(
            "<message from='{ROOM}' to='{HAG}'><x xmlns='http://jabber.org/protocol/muc#user'><mav xmlns='urn:xmpp:muc:affiliations:1'{attributes}/>{items}</x></message>"
        )
    };
    let all = "<item affiliation='member' jid='hag66@shakespeare.lit'/><item affiliation='owner' jid='crone1@shakespeare.lit'/>";
    let got = stage.from(HAG, &join(""));
    check(&got[..1], &answer(" until='3e8'", all));
    assert!(got[1].stanza.to_xml().contains("<mav xmlns='urn:xmpp:muc:affiliations:1' until='3e8'/>"));
    let set = |jid: &str, affiliation: &str| {
        iq(
            "set",
            &format!(
                "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='{affiliation}' jid='{jid}'/></query>"
            ),
        )
    };
    stage.from(CRONE, &set("a@b", "member"));
    stage.from(CRONE, &set("a@b", "none"));
    stage.from(CRONE, &set("c@d", "admin"));
    let now = format!("{:x}", stage.room.people.version());
    let got = stage.from(HAG, &join(" since='3e8'"));
    check(
        &got[..1],
        &answer(
            &format!(" since='3e8' until='{now}'"),
            "<item affiliation='none' jid='a@b'/><item affiliation='admin' jid='c@d'/>",
        ),
    );
    // Up to date: nothing but the version in the own presence. Unknown: all of it.
    assert!(stage.from(HAG, &join(&format!(" since='{now}'")))[0].stanza.has("x", ns::MUC_USER));
    let got = stage.from(HAG, &join(" since='1'"));
    assert!(
        squeezed(&got[0].stanza.to_xml()).contains(&format!("until='{now}'"))
            && !got[0].stanza.to_xml().contains("since")
    );
    // In several messages, where it is long: each goes on where the last one ended.
    let mut stage = Stage::of(
        Config { whois: Whois::Anyone, ..Config::default() },
        Limits { page: 1, ..Limits::default() },
        &people,
        &[],
    );
    let got = stage.from(HAG, &join(""));
    let part = |attributes: &str, who: &str, affiliation: &str| {
        answer(attributes, &format!("<item affiliation='{affiliation}' jid='{who}'/>"))
    };
    check(
        &got[..2],
        &(part(" until='3e8-1'", "hag66@shakespeare.lit", "member")
            + &part(" since='3e8-1' until='3e8'", "crone1@shakespeare.lit", "owner")),
    );
    // Where addresses are hidden, it is not for members.
    let mut stage = Stage::of(Config { persistent: true, ..Config::default() }, Limits::default(), &people, &[]);
    let got = stage.from(HAG, &join(""));
    assert_eq!(error_of(&got[0]), "auth forbidden");
    assert_eq!(stage.role(HAG), Role::Participant);
}

/// XEP-0463: who may not see outcasts learns that a member is none any more, and nothing of who was none before.
#[test]
fn a_banned_member_is_no_member_to_those_who_come_back() {
    let people = [(CRONE, Affiliation::Owner), (HAG, Affiliation::Member), ("c@d", Affiliation::Member)];
    let config = Config { whois: Whois::Anyone, persistent: true, ..Config::default() };
    let mut stage = Stage::of(config, Limits::default(), &people, &[]);
    for (jid, affiliation) in [("c@d", "outcast"), ("e@f", "outcast"), ("g@h", "member"), ("g@h", "outcast")] {
        let item = format!("<item affiliation='{affiliation}' jid='{jid}'/>");
        stage.from(CRONE, &iq("set", &format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>")));
    }
    let until = format!("{:x}", stage.room.people.version());
    let answer = |to: &str, items: &str| {
        format!(
            "<message from='{ROOM}' to='{to}'><x xmlns='http://jabber.org/protocol/muc#user'>
               <mav xmlns='urn:xmpp:muc:affiliations:1' since='3e8' until='{until}'/>{items}</x></message>"
        )
    };
    let join = "<presence to='coven@chat.shakespeare.lit/nick'><x xmlns='http://jabber.org/protocol/muc'><mav xmlns='urn:xmpp:muc:affiliations:1' since='3e8'/></x></presence>";
    let got = stage.from(HAG, join);
    check(&got[..1], &answer(HAG, "<item affiliation='none' jid='c@d'/>"));
    let got = stage.from(CRONE, &join.replace("/nick", "/firstwitch"));
    let outcast = |jid: &str| format!("<item affiliation='outcast' jid='{jid}'/>");
    check(&got[..1], &answer(CRONE, &["c@d", "e@f", "g@h"].map(outcast).concat()));
}

/// §11.2.
#[test]
fn the_service_shuts_down() {
    let stage = Stage::witches(Config::default());
    let outcome = stage.room.shutdown();
    assert!(outcome.store.is_empty());
    let mut stage = stage;
    let got = stage.finish(outcome);
    assert_eq!(got.len(), 3);
    check(
        &got[2..],
        "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda' type='unavailable'>
           <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'/><status code='110'/><status code='332'/></x></presence>",
    );
    let outcome = stage.room.close(Some("for good"));
    let got = stage.finish(outcome);
    assert!(got.len() == 3 && got[0].stanza.to_xml().contains("<reason>for good</reason>"));
    assert!(stage.room.is_gone());
}

/// XEP-0502.
#[test]
fn activity() {
    let mut stage = Stage::witches(Config { persistent: true, ..Config::default() });
    for _ in 0..3 {
        stage.from(CRONE, &format!("<message to='{ROOM}' type='groupchat'><body>x</body></message>"));
    }
    let var = "{urn:xmpp:muc-activity}message-activity";
    assert_eq!(field(&stage.from(HECATE, &info("")), var), None);
    stage.pass(7200);
    assert_eq!(field(&stage.from(HECATE, &info("")), var).as_deref(), Some("1.50"));
}

/// XEP-0313 §6.1.2: whoever could enter may look up what was said.
#[test]
fn who_may_read_the_archive() {
    let people = [(CRONE, Affiliation::Owner), (HAG, Affiliation::Member), ("evil@x", Affiliation::Outcast)];
    for (config, may) in [
        (Config::default(), [true, true, true, false]),
        (Config { members_only: true, ..Config::default() }, [true, true, false, false]),
        (Config { password: Some("x".to_owned()), ..Config::default() }, [true, true, false, false]),
    ] {
        let stage = Stage::of(config, Limits::default(), &people, &[]);
        assert_eq!([CRONE, HAG, HECATE, "evil@x/y"].map(|who| stage.room.may_read(&jid(who))), may);
    }
}

/// XEP-0313 §6.1.2, §8.1: and who looks it up sees who is behind a nickname if they would see it in the room.
#[test]
fn c5_real_addresses_in_the_archive_are_for_those_who_see_them_in_the_room() {
    let moderator = [(CRONE, "firstwitch", Role::Moderator), (HAG, "thirdwitch", Role::Participant)];
    let people = [(CRONE, Affiliation::Owner), ("evil@x", Affiliation::Outcast)];
    let reading = |config: Config, who| {
        let stage = Stage::of(config, Limits::default(), &people, &moderator);
        stage.room.reading(&jid(who)).map(|reading| reading.sees_jids).map_err(|error| error.condition)
    };
    let open = || Config { whois: Whois::Anyone, ..Config::default() };
    for (who, hidden, shown) in [
        (CRONE, Ok(true), Ok(true)),
        (HAG, Ok(false), Ok(true)),
        (HECATE, Ok(false), Ok(true)),
        ("evil@x/y", Err(Condition::Forbidden), Err(Condition::Forbidden)),
    ] {
        assert_eq!(reading(Config::default(), who), hidden, "{who}");
        assert_eq!(reading(open(), who), shown, "{who}");
    }
    let without = Config { archive: false, ..Config::default() };
    assert_eq!(reading(without, CRONE), Err(Condition::ServiceUnavailable));
    let members_only = Config { members_only: true, ..open() };
    assert_eq!(reading(members_only, HECATE), Err(Condition::Forbidden));
}

/// A room announces an archive when it has one, and a search when the service has one.
#[test]
fn what_is_said_of_the_archive() {
    let said = |archive, search| {
        let limits = Limits { search, ..Limits::default() };
        let mut stage = Stage::with_limits(Config { archive, ..Config::default() }, limits);
        let features = features(&stage.from(HECATE, &info("")));
        [ns::MAM, ns::MAM_EXTENDED, ns::FULLTEXT].map(|feature| features.iter().any(|said| said == feature))
    };
    assert_eq!(said(true, true), [true, true, true]);
    assert_eq!(said(true, false), [true, true, false]);
    assert_eq!(said(false, true), [false, false, false]);
}
