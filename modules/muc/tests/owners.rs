//! XEP-0045 §10: what owners do, with the XEP's examples.

use super::*;
use crate::muc::config::{AllowPm, Registration, Whois};
use crate::muc::roles::Roles;

const JOIN: &str =
    "<presence to='coven@chat.shakespeare.lit/firstwitch'><x xmlns='http://jabber.org/protocol/muc'/></presence>";

fn created(locked: bool) -> (Stage, Vec<Got>) {
    let at = At { now: start(), id: 1000, digest: None, stream: None };
    let join: Stanza = JOIN.parse().unwrap();
    let (room, outcome) =
        Room::create(bare(ROOM), service(Limits::default()), Config::default(), locked, at, &join.from(jid(CRONE)));
    let mut stage = Stage::around(room);
    let got = stage.finish(outcome);
    (stage, got)
}

fn owner(kind: &str, id: &str, inside: &str) -> String {
    format!(
        "<iq id='{id}' to='coven@chat.shakespeare.lit' type='{kind}'>\
         <query xmlns='http://jabber.org/protocol/muc#owner'>{inside}</query></iq>"
    )
}

fn submit(fields: &[(&str, &[&str])]) -> String {
    let fields: String = fields
        .iter()
        .map(|(var, values)| {
            let values: String = values.iter().map(|value| format!("<value>{value}</value>")).collect();
            format!("<field var='{var}'>{values}</field>")
        })
        .collect();
    owner(
        "set",
        "create2",
        &format!(
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>\
             <value>http://jabber.org/protocol/muc#roomconfig</value></field>{fields}</x>"
        ),
    )
}

fn result(id: &str, to: &str) -> String {
    format!("<iq from='coven@chat.shakespeare.lit' id='{id}' to='{to}' type='result'/>")
}

fn version(affiliation: &str) -> String {
    format!("<mav xmlns='urn:xmpp:muc:affiliations:1' until='{affiliation}'/>")
}

/// §10.1.1.
#[test]
fn creating_a_room() {
    let (stage, got) = created(true);
    check(
        &got,
        &format!(
            "<presence from='coven@chat.shakespeare.lit/firstwitch' to='crone1@shakespeare.lit/desktop'>
               <x xmlns='http://jabber.org/protocol/muc#user'>
                 <item affiliation='owner' jid='crone1@shakespeare.lit/desktop' role='moderator'/>
                 <status code='110'/><status code='201'/>{}</x></presence>
             <message from='coven@chat.shakespeare.lit' to='crone1@shakespeare.lit/desktop' type='groupchat'><subject/></message>",
            version("3e8")
        ),
    );
    // What is not configured is not there yet, for the database as well.
    assert!(stage.room.is_locked() && stage.stored.is_empty());
    let (stage, _) = created(false);
    assert!(!stage.room.is_locked());
    assert_eq!(stage.stored[0], RoomChange::Create { created: start() });
    assert!(
        matches!(&stage.stored[1..], [RoomChange::Config(_), RoomChange::Person(who, _), RoomChange::Enter(_)] if *who == bare(CRONE))
    );
}

/// A room whose creator cannot enter is none.
#[test]
fn creating_a_room_in_vain() {
    let at = At { now: start(), id: 1000, digest: None, stream: None };
    for locked in [false, true] {
        let join: Stanza = JOIN.replace("/firstwitch", "").parse().unwrap();
        let (room, outcome) =
            Room::create(bare(ROOM), service(Limits::default()), Config::default(), locked, at, &join.from(jid(CRONE)));
        assert!(room.is_gone() && outcome.store.is_empty(), "{:?}", outcome.store);
        assert_eq!(outcome.send.len(), 1);
    }
}

/// §10.1.2.
#[test]
fn creating_an_instant_room() {
    let (mut stage, _) = created(true);
    let instant = owner("set", "create1", "<x xmlns='jabber:x:data' type='submit'/>");
    stage.refused(HAG, &instant, "cancel item-not-found");
    stage.check(CRONE, &instant, &result("create1", CRONE));
    assert!(!stage.room.is_locked());
    assert!(
        matches!(
            &stage.stored[..],
            [RoomChange::Create { .. }, RoomChange::Person(..), RoomChange::Config(_), RoomChange::Enter(_)]
        ),
        "{:?}",
        stage.stored
    );
    stage.enter(HAG, "thirdwitch");
}

/// §10.1.3: the form has all fields of the registry, and what is submitted is done.
#[test]
fn creating_a_reserved_room() {
    let (mut stage, _) = created(true);
    let got = stage.from(CRONE, &owner("get", "create1", ""));
    let form = got[0].stanza.payload().unwrap().find("x", ns::X_DATA).unwrap();
    let vars: Vec<&str> = form.elements().filter_map(|field| field.get("var")).collect();
    for registered in [
        "muc#maxhistoryfetch",
        "muc#roomconfig_allowpm",
        "muc#roomconfig_allowinvites",
        "muc#roomconfig_changesubject",
        "muc#roomconfig_enablelogging",
        "muc#roomconfig_getmemberlist",
        "muc#roomconfig_lang",
        "muc#roomconfig_pubsub",
        "muc#roomconfig_maxusers",
        "muc#roomconfig_membersonly",
        "muc#roomconfig_moderatedroom",
        "muc#roomconfig_passwordprotectedroom",
        "muc#roomconfig_persistentroom",
        "muc#roomconfig_presencebroadcast",
        "muc#roomconfig_publicroom",
        "muc#roomconfig_roomadmins",
        "muc#roomconfig_roomdesc",
        "muc#roomconfig_roomname",
        "muc#roomconfig_roomowners",
        "muc#roomconfig_roomsecret",
        "muc#roomconfig_whois",
        "muc#roomconfig_slow_mode_duration",
    ] {
        assert!(vars.contains(&registered), "{registered} is not in {vars:?}");
    }
    // XEP-0500 §5.1.
    let slow = form.elements().find(|field| field.get("var") == Some("muc#roomconfig_slow_mode_duration")).unwrap();
    assert_eq!(
        slow.find("validate", ns::X_DATA_VALIDATE).unwrap().find("range", ns::X_DATA_VALIDATE).unwrap().get("min"),
        Some("0")
    );
    stage.check(
        CRONE,
        &submit(&[
            ("muc#roomconfig_roomname", &["A Dark Cave"]),
            ("muc#roomconfig_roomdesc", &["The place for all good witches!"]),
            ("muc#roomconfig_enablelogging", &["0"]),
            ("muc#roomconfig_changesubject", &["1"]),
            ("muc#roomconfig_allowinvites", &["0"]),
            ("muc#roomconfig_allowpm", &["anyone"]),
            ("muc#roomconfig_maxusers", &["10"]),
            ("muc#roomconfig_publicroom", &["0"]),
            ("muc#roomconfig_persistentroom", &["0"]),
            ("muc#roomconfig_moderatedroom", &["0"]),
            ("muc#roomconfig_membersonly", &["0"]),
            ("muc#roomconfig_passwordprotectedroom", &["1"]),
            ("muc#roomconfig_roomsecret", &["cauldronburn"]),
            ("muc#roomconfig_whois", &["moderators"]),
            ("muc#maxhistoryfetch", &["50"]),
            ("muc#roomconfig_roomadmins", &["wiccarocks@shakespeare.lit", "hecate@shakespeare.lit"]),
        ]),
        &(result("create2", CRONE)
            + "<message from='coven@chat.shakespeare.lit' to='crone1@shakespeare.lit/desktop'>
                 <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='admin' jid='hecate@shakespeare.lit' role='none'/>
                 <mav xmlns='urn:xmpp:muc:affiliations:1' since='3e8' until='3eb'/></x></message>
               <message from='coven@chat.shakespeare.lit' to='crone1@shakespeare.lit/desktop'>
                 <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='admin' jid='wiccarocks@shakespeare.lit' role='none'/>
                 <mav xmlns='urn:xmpp:muc:affiliations:1' since='3eb' until='3ec'/></x></message>
               <message from='coven@chat.shakespeare.lit' to='crone1@shakespeare.lit/desktop' type='groupchat'>
                 <x xmlns='http://jabber.org/protocol/muc#user'><status code='104'/></x></message>"),
    );
    let config = stage.room.config();
    assert_eq!(
        (config.name.as_str(), config.password.as_deref(), config.max_users),
        ("A Dark Cave", Some("cauldronburn"), Some(10))
    );
    assert_eq!((config.history, config.change_subject, config.public), (50, true, false));
    assert_eq!(stage.affiliation(WICCA), Affiliation::Admin);
    stage.refused(HAG, JOIN, "auth not-authorized");
}

/// What cannot be is not acceptable, and changes nothing.
#[test]
fn unacceptable_configurations() {
    let (mut stage, _) = created(true);
    for fields in [
        &[("muc#roomconfig_passwordprotectedroom", &["1"][..])][..],
        &[("muc#roomconfig_passwordprotectedroom", &["1"]), ("muc#roomconfig_roomsecret", &[""])],
        &[("muc#roomconfig_maxusers", &["0"])],
        &[("muc#roomconfig_maxusers", &["a lot"])],
        &[("muc#roomconfig_maxusers", &["999999999"])],
        &[("muc#roomconfig_whois", &["none"])],
        &[("muc#roomconfig_allowpm", &["all"])],
        &[("muc#roomconfig_publicroom", &["maybe"])],
        &[("muc#roomconfig_presencebroadcast", &["none"])],
        &[("muc#roomconfig_slow_mode_duration", &["-1"])],
        &[("muc#roomconfig_roomowners", &["@"])],
    ] {
        stage.refused(CRONE, &submit(fields), "modify not-acceptable");
        assert!(stage.room.is_locked());
    }
    // §10.2: a room without owner.
    stage.refused(CRONE, &submit(&[("muc#roomconfig_roomowners", &[])]), "cancel conflict");
    for inside in ["", "<x xmlns='jabber:x:data' type='result'/>", "<x xmlns='jabber:x:data'/>"] {
        stage.refused(CRONE, &owner("set", "1", inside), "modify bad-request");
    }
    let wrong = owner(
        "set",
        "1",
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:x</value></field></x>",
    );
    stage.refused(CRONE, &wrong, "modify bad-request");
    assert!(stage.stored.is_empty());
}

/// §10.1.3: cancelled, left, or waited for too long.
#[test]
fn rooms_that_are_never_configured() {
    let gone = "<presence from='coven@chat.shakespeare.lit/firstwitch' to='crone1@shakespeare.lit/desktop' type='unavailable'>
        <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'/><destroy/><status code='110'/></x></presence>";
    let (mut stage, _) = created(true);
    stage.check(
        CRONE,
        &owner("set", "create2", "<x xmlns='jabber:x:data' type='cancel'/>"),
        &(gone.to_owned() + &result("create2", CRONE)),
    );
    assert!(stage.room.is_gone() && stage.stored.is_empty());
    let (mut stage, _) = created(true);
    stage.check(CRONE, "<presence type='unavailable' to='coven@chat.shakespeare.lit/firstwitch'/>", gone);
    assert!(stage.room.is_gone() && stage.stored.is_empty());
    let (mut stage, _) = created(true);
    for (seconds, locked) in [(599, true), (1, false)] {
        stage.pass(seconds);
        let at = stage.at();
        let outcome = stage.room.tick(at);
        stage.finish(outcome);
        assert_eq!(stage.room.is_locked(), locked);
    }
    assert!(matches!(
        &stage.stored[..],
        [RoomChange::Create { .. }, RoomChange::Config(_), RoomChange::Person(..), RoomChange::Enter(_)]
    ));
}

/// §10.2.
#[test]
fn subsequent_configuration() {
    let mut stage = Stage::witches(Config::default());
    let error =
        "<iq from='coven@chat.shakespeare.lit' id='configures' to='wiccarocks@shakespeare.lit/laptop' type='error'>
        <query xmlns='http://jabber.org/protocol/muc#owner'/>
        <error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
    stage.check(WICCA, &owner("get", "configures", ""), error);
    stage.refused(WICCA, &submit(&[]), "auth forbidden");
    stage.refused(HECATE, &owner("get", "1", ""), "auth forbidden");
    stage.check(CRONE, &owner("set", "config2", "<x xmlns='jabber:x:data' type='cancel'/>"), &result("config2", CRONE));
    // Nothing changed, nothing said.
    stage.check(CRONE, &submit(&[]), &result("create2", CRONE));
    // The form shows what is so: it can be submitted as it is.
    let got = stage.from(CRONE, &owner("get", "1", ""));
    let mut form = got[0].stanza.payload().unwrap().find("x", ns::X_DATA).unwrap().clone();
    form.set("type", "submit");
    stage.check(CRONE, &owner("set", "2", &form.to_xml()), &result("2", CRONE));
    assert_eq!(*stage.room.config(), Config::default());
}

/// §10.2: lists in the form are full lists, and what they change is shown.
#[test]
fn lists_of_admins_and_owners_in_the_form() {
    let mut stage = Stage::witches(Config { whois: Whois::Anyone, ..Config::default() });
    let seen = |got: &[Got], of: &str| -> Vec<String> {
        let of = jid(&format!("{ROOM}/{of}"));
        let seen = got.iter().filter(|got| got.to == HAG && got.stanza.head.from.as_ref() == Some(&of));
        let item = |got: &Got| {
            let x = got.stanza.find("x", ns::MUC_USER).unwrap().find("item", ns::MUC_USER).unwrap().clone();
            format!("{} {}", x.get("affiliation").unwrap(), x.get("role").unwrap())
        };
        seen.map(item).collect()
    };
    let admins = "muc#roomconfig_roomadmins";
    let owners = "muc#roomconfig_roomowners";
    let got = stage.from(CRONE, &submit(&[(admins, &[])]));
    assert_eq!(seen(&got, "secondwitch"), ["none participant"]);
    let got = stage.from(CRONE, &submit(&[(admins, &["wiccarocks@shakespeare.lit"])]));
    assert_eq!(seen(&got, "secondwitch"), ["admin moderator"]);
    let got = stage.from(CRONE, &submit(&[(owners, &["crone1@shakespeare.lit", "wiccarocks@shakespeare.lit"])]));
    assert_eq!(seen(&got, "secondwitch"), ["owner moderator"]);
    let got = stage.from(CRONE, &submit(&[(owners, &["crone1@shakespeare.lit"])]));
    assert_eq!(seen(&got, "secondwitch"), ["admin moderator"]);
    // An owner may go if another stays.
    let got = stage.from(CRONE, &submit(&[(owners, &["wiccarocks@shakespeare.lit"])]));
    assert_eq!(
        (seen(&got, "firstwitch"), seen(&got, "secondwitch")),
        (vec!["admin moderator".to_owned()], vec!["owner moderator".to_owned()])
    );
    stage.refused(WICCA, &submit(&[(owners, &[])]), "cancel conflict");
    // In a members-only room who is admin no more is still a member.
    stage.from(WICCA, &submit(&[("muc#roomconfig_membersonly", &["1"]), (admins, &[])]));
    assert_eq!(stage.affiliation(CRONE), Affiliation::Member);
    assert_eq!(stage.role(CRONE), Role::Participant);
}

/// §10.2: a room becomes members-only.
#[test]
fn strangers_are_removed_from_a_members_only_room() {
    let mut stage = Stage::witches(Config {
        whois: Whois::Anyone,
        member_list: Roles { moderator: false, participant: false, visitor: false },
        ..Config::default()
    });
    stage.check(
        CRONE,
        &submit(&[("muc#roomconfig_membersonly", &["1"])]),
        &("<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda' type='unavailable'>
             <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' jid='hag66@shakespeare.lit/pda' role='none'/>
             <status code='110'/><status code='322'/></x></presence>"
            .to_owned()
            + &result("create2", CRONE)
            + &[CRONE, WICCA].map(|to| format!(
                "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='{to}' type='unavailable'>
                   <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' jid='hag66@shakespeare.lit/pda' role='none'/>
                   <status code='322'/></x></presence>")).concat()
            + &[CRONE, WICCA].map(|to| format!(
                "<message from='coven@chat.shakespeare.lit' to='{to}' type='groupchat'>
                   <x xmlns='http://jabber.org/protocol/muc#user'><status code='104'/></x></message>")).concat()),
    );
}

/// §10.2.1.
#[test]
fn notification_of_configuration_changes() {
    let mut stage = Stage::new(Config::default());
    stage.enter(CRONE, "firstwitch");
    let mut codes = |fields: &[(&str, &[&str])]| -> Vec<String> {
        let got = stage.from(CRONE, &submit(fields));
        let notice = got.iter().find(|got| {
            got.stanza.head.kind == rookery_xmpp::stanza::Kind::Message(rookery_xmpp::stanza::MessageType::Groupchat)
        });
        let x = notice.map(|got| got.stanza.find("x", ns::MUC_USER).unwrap().clone());
        x.iter().flat_map(|x| x.elements()).map(|status| status.get("code").unwrap().to_owned()).collect()
    };
    assert_eq!(codes(&[("muc#roomconfig_enablelogging", &["1"])]), ["170"]);
    assert_eq!(codes(&[("muc#roomconfig_enablelogging", &["0"])]), ["171"]);
    assert_eq!(codes(&[("muc#roomconfig_whois", &["anyone"])]), ["172"]);
    assert_eq!(codes(&[("muc#roomconfig_whois", &["moderators"])]), ["173"]);
    assert_eq!(codes(&[("muc#roomconfig_roomname", &["x"])]), ["104"]);
    assert_eq!(
        codes(&[
            ("muc#roomconfig_roomname", &["y"]),
            ("muc#roomconfig_whois", &["anyone"]),
            ("muc#roomconfig_enablelogging", &["1"])
        ]),
        ["104", "170", "172"]
    );
    assert_eq!(codes(&[]), Vec::<String>::new());
}

/// §5.1.2: who has voice by default follows moderation.
#[test]
fn moderation_is_switched() {
    let mut stage = Stage::witches(Config::default());
    stage.from(CRONE, &submit(&[("muc#roomconfig_moderatedroom", &["1"])]));
    assert_eq!((stage.role(HAG), stage.role(WICCA)), (Role::Visitor, Role::Moderator));
    stage.from(CRONE, &submit(&[("muc#roomconfig_moderatedroom", &["0"])]));
    assert_eq!(stage.role(HAG), Role::Participant);
}

/// §10: a change of what is broadcast is seen at once.
#[test]
fn broadcast_is_switched() {
    let mut stage = Stage::witches(Config::default());
    stage.enter(HECATE, "hecate");
    let gone = |got: &[Got]| {
        got.iter()
            .filter(|got| got.to == HAG && got.stanza.head.from == Some(jid("coven@chat.shakespeare.lit/hecate")))
            .map(|got| got.stanza.head.kind.type_name())
            .collect::<Vec<_>>()
    };
    let got = stage.from(CRONE, &submit(&[("muc#roomconfig_presencebroadcast", &["moderator"])]));
    assert_eq!(gone(&got), [Some("unavailable")]);
    let got =
        stage.from(CRONE, &submit(&[("muc#roomconfig_presencebroadcast", &["moderator", "participant", "visitor"])]));
    assert_eq!(gone(&got), [None]);
}

/// A temporary room that nobody is in has no reason to be.
#[test]
fn persistent_no_more() {
    let mut stage = Stage::new(Config { persistent: true, ..Config::default() });
    stage.check(CRONE, &submit(&[("muc#roomconfig_persistentroom", &["0"])]), &result("create2", CRONE));
    assert!(stage.room.is_gone());
    assert_eq!(stage.stored.last(), Some(&RoomChange::Destroy));
}

/// §10.3 to §10.8.
#[test]
fn owner_and_admin_lists() {
    let mut stage = Stage::witches(Config { whois: Whois::Anyone, ..Config::default() });
    let set = |items: &str| {
        format!(
            "<iq id='owner1' to='{ROOM}' type='set'><query xmlns='http://jabber.org/protocol/muc#admin'>{items}</query></iq>"
        )
    };
    let get = |affiliation: &str| {
        format!(
            "<iq id='owner3' to='{ROOM}' type='get'><query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='{affiliation}'/></query></iq>"
        )
    };
    // Somebody who is not there: those who may see the list are told by message.
    let told = |affiliation: &str, since: &str, until: &str, reason: &str| {
        [CRONE, WICCA, HAG]
            .map(|to| {
                format!(
            "<message from='coven@chat.shakespeare.lit' to='{to}'><x xmlns='http://jabber.org/protocol/muc#user'>
               <item affiliation='{affiliation}' jid='hecate@shakespeare.lit' role='none'>{reason}</item>
               <mav xmlns='urn:xmpp:muc:affiliations:1' since='{since}' until='{until}'/></x></message>")
            })
            .concat()
    };
    let reason = "<reason>A worthy witch indeed!</reason>";
    stage.check(
        CRONE,
        &set(&format!("<item affiliation='owner' jid='hecate@shakespeare.lit'>{reason}</item>")),
        &(result("owner1", CRONE) + &told("owner", "3e8", "3ed", reason)),
    );
    stage.check(
        CRONE,
        &get("owner"),
        &format!(
            "<iq from='coven@chat.shakespeare.lit' id='owner3' to='crone1@shakespeare.lit/desktop' type='result'>
           <query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='owner' jid='crone1@shakespeare.lit'/>
             <item affiliation='owner' jid='hecate@shakespeare.lit'>{reason}</item></query></iq>"
        ),
    );
    // One who is there: by presence, of each of their nicknames.
    let got = stage.from(CRONE, &set("<item affiliation='admin' jid='hag66@shakespeare.lit/pda'/>"));
    assert_eq!(stage.role(HAG), Role::Moderator);
    assert_eq!(
        got.iter().filter(|got| got.stanza.head.from == Some(jid("coven@chat.shakespeare.lit/thirdwitch"))).count(),
        3
    );
    stage.from(CRONE, &set("<item affiliation='none' jid='hag66@shakespeare.lit'/>"));
    assert_eq!(stage.role(HAG), Role::Participant);
    for items in [
        "<item affiliation='owner' jid='a@b'/>",
        "<item affiliation='admin' jid='a@b'/>",
        "<item affiliation='none' jid='hecate@shakespeare.lit'/>",
    ] {
        stage.refused(WICCA, &set(items), "auth forbidden");
        stage.refused(HAG, &set(items), "auth forbidden");
    }
    // §10.4: the last owner stays; as long as there are others, each may go.
    stage.from(CRONE, &set("<item affiliation='none' jid='crone1@shakespeare.lit'/>"));
    assert_eq!((stage.affiliation(CRONE), stage.role(CRONE)), (Affiliation::None, Role::Participant));
    stage.refused(HECATE, &set("<item affiliation='admin' jid='hecate@shakespeare.lit'/>"), "cancel conflict");
    // In one request, the order does not matter.
    stage.from(HECATE, &set("<item affiliation='admin' jid='hecate@shakespeare.lit'/><item affiliation='owner' jid='wiccarocks@shakespeare.lit'/>"));
    assert_eq!((stage.affiliation(HECATE), stage.affiliation(WICCA)), (Affiliation::Admin, Affiliation::Owner));
}

/// §10.9.
#[test]
fn destroying_a_room() {
    let mut stage = Stage::witches(Config { persistent: true, ..Config::default() });
    let inside = "<destroy jid='heath@chat.shakespeare.lit'><password>toil</password><reason>Macbeth doth come.</reason></destroy>";
    stage.check(
        WICCA,
        &owner("set", "destroytest", inside),
        &format!(
            "<iq from='coven@chat.shakespeare.lit' id='destroytest' to='wiccarocks@shakespeare.lit/laptop' type='error'>
               <query xmlns='http://jabber.org/protocol/muc#owner'>{inside}</query>
               <error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        ),
    );
    let gone = |nick: &str, to: &str| {
        format!(
            "<presence from='coven@chat.shakespeare.lit/{nick}' to='{to}' type='unavailable'>
               <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'/>{inside}<status code='110'/></x></presence>"
        )
    };
    stage.refused(CRONE, &owner("set", "1", "<destroy jid='@'/>"), "modify jid-malformed");
    stage.check(
        CRONE,
        &owner("set", "begone", inside),
        &(gone("firstwitch", CRONE)
            + &gone("secondwitch", WICCA)
            + &gone("thirdwitch", HAG)
            + &result("begone", CRONE)),
    );
    assert!(stage.room.is_gone());
    assert_eq!(stage.stored.iter().filter(|change| **change == RoomChange::Destroy).count(), 1);
    stage.refused(HAG, JOIN, "cancel item-not-found");
}

/// What is configured survives: as it is stored, so it is loaded.
#[test]
fn c4_what_is_configured_survives_a_restart() {
    let mut stage = Stage::witches(Config { persistent: true, ..Config::default() });
    stage.from(
        CRONE,
        &submit(&[
            ("muc#roomconfig_moderatedroom", &["1"]),
            ("x-roomconfig_registration", &["open"]),
            ("muc#roomconfig_allowpm", &["moderators"]),
        ]),
    );
    stage.from(CRONE, &format!("<iq id='1' to='{ROOM}' type='set'><query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='admin' jid='hecate@shakespeare.lit' nick='hecate'/></query></iq>"));
    stage.from(CRONE, &format!("<iq id='1' to='{ROOM}' type='set'><query xmlns='http://jabber.org/protocol/muc#admin'><item nick='thirdwitch' role='participant'/></query></iq>"));
    stage.from(CRONE, &format!("<message to='{ROOM}' type='groupchat'><subject>Spells</subject></message>"));
    stage.from(HAG, &format!("<message to='{ROOM}' type='groupchat'><body>Double</body></message>"));
    let mut image = Image {
        people: vec![(bare(CRONE), Person::new(Affiliation::Owner)), (bare(WICCA), Person::new(Affiliation::Admin))],
        ..Image::default()
    };
    for change in &stage.stored {
        match change {
            RoomChange::Config(config) => image.config = Config::default().from_element(&config.to_element()).unwrap(),
            RoomChange::Person(who, person) => {
                image.people.retain(|(other, _)| other != who);
                image.people.extend(person.clone().map(|person| (who.clone(), person)));
            }
            RoomChange::Subject(subject) => image.subject = Some(subject.clone()),
            RoomChange::Message(message) if message.history => image.history.push(message.clone()),
            RoomChange::Enter(visit) => {
                image.visits.retain(|other| other.jid != visit.jid);
                image.visits.push(visit.clone());
            }
            _ => {}
        }
    }
    let at = stage.at();
    let mut again = Stage::around(Room::restore(bare(ROOM), service(Limits::default()), image, at));
    assert_eq!(
        (again.room.config().allow_pm, again.room.config().registration),
        (AllowPm::Moderators, Registration::Open)
    );
    assert_eq!(
        (again.affiliation(HECATE), again.role(HAG), again.role(CRONE)),
        (Affiliation::Admin, Role::Participant, Role::Moderator)
    );
    again.now = stage.now;
    let got = again.enter(HECATE, "hecate");
    let before = stage.enter(HECATE, "hecate");
    let strip = |got: Vec<Got>| -> Vec<String> {
        got.iter()
            .filter(|got| got.to == HECATE)
            .map(|got| got.stanza.to_xml())
            .filter(|xml| !xml.contains("urn:xmpp:muc:affiliations"))
            .collect()
    };
    assert_eq!(strip(got), strip(before));
    // Those who did not come back are seen to go.
    let outcome = again.room.gone(&jid(HAG).full().unwrap());
    let got = again.finish(outcome);
    assert!(got.len() == 4 && got.iter().all(|got| got.stanza.to_xml().contains("333")), "{got:?}");
}

/// Whoever makes a room may be in it by several sessions before it is configured: it ends with the last of them.
#[test]
fn a_room_that_is_being_made_ends_with_its_makers_last_session() {
    const OTHER: &str = "crone1@shakespeare.lit/pda";
    const LEAVE: &str = "<presence to='coven@chat.shakespeare.lit/firstwitch' type='unavailable'/>";
    for nick in ["firstwitch", "crone"] {
        let (mut stage, _) = created(true);
        stage.enter(OTHER, nick);
        let got = stage.from(CRONE, LEAVE);
        assert!(got.iter().all(|got| !got.stanza.to_xml().contains("destroy")), "{got:?}");
        assert!(stage.room.is_locked() && stage.room.seat_of(&jid(OTHER)).is_some());
        assert_eq!(stage.stored, []);
        stage.from(OTHER, &submit(&[]));
        assert!(!stage.room.is_locked() && !stage.room.is_gone());
    }
    let (mut stage, _) = created(true);
    stage.enter(OTHER, "firstwitch");
    stage.from(OTHER, LEAVE);
    let got = stage.from(CRONE, LEAVE);
    assert!(got[0].stanza.to_xml().contains("destroy") && stage.room.is_gone(), "{got:?}");
}
