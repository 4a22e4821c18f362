//! XEP-0045 §9: what admins do, with the XEP's examples.

use super::*;
use crate::muc::config::Whois;

const HENRY: &str = "kinghenryv@shakespeare.lit/throne";
const CAMBRIDGE: &str = "earlofcambridge@shakespeare.lit/stabber";
const EXETER: &str = "exeter@shakespeare.lit/pda";

fn admin(kind: &str, id: &str, items: &str) -> String {
    format!(
        "<iq id='{id}' to='coven@chat.shakespeare.lit' type='{kind}'>\
         <query xmlns='http://jabber.org/protocol/muc#admin'>{items}</query></iq>"
    )
}

fn result(id: &str, to: &str) -> String {
    format!("<iq from='coven@chat.shakespeare.lit' id='{id}' to='{to}' type='result'/>")
}

fn list(id: &str, to: &str, items: &str) -> String {
    format!(
        "<iq from='coven@chat.shakespeare.lit' id='{id}' to='{to}' type='result'>
           <query xmlns='http://jabber.org/protocol/muc#admin'>{items}</query></iq>"
    )
}

fn court() -> Stage {
    let people = [(CRONE, Affiliation::Owner), (HENRY, Affiliation::Admin)];
    let visits = [
        (HENRY, "The ♚", Role::Moderator),
        (CAMBRIDGE, "cambridge", Role::Participant),
        (EXETER, "exeter", Role::Participant),
    ];
    Stage::of(Config { persistent: true, ..Config::default() }, Limits::default(), &people, &visits)
}

/// §9.1.
#[test]
fn banning_a_user() {
    let mut stage = court();
    stage.from(
        HENRY,
        &admin("set", "0", "<item affiliation='member' jid='earlofcambridge@shakespeare.lit' nick='cambridge'/>"),
    );
    let items = "<item affiliation='outcast' jid='earlofcambridge@shakespeare.lit'><reason>Treason</reason></item>";
    let version = "<mav xmlns='urn:xmpp:muc:affiliations:1' since='3ea' until='3ec'/>";
    let got = stage.from(HENRY, &admin("set", "ban1", items));
    check(
        &got,
        &("<presence from='coven@chat.shakespeare.lit/cambridge' to='earlofcambridge@shakespeare.lit/stabber' type='unavailable'>
             <x xmlns='http://jabber.org/protocol/muc#user'>
               <item affiliation='outcast' role='none'><actor nick='The ♚'/><reason>Treason</reason></item>
               <status code='110'/><status code='301'/></x></presence>"
            .to_owned()
            + &result("ban1", HENRY)
            + &format!("<presence from='coven@chat.shakespeare.lit/cambridge' to='kinghenryv@shakespeare.lit/throne' type='unavailable'>
                 <x xmlns='http://jabber.org/protocol/muc#user'>
                   <item affiliation='outcast' jid='earlofcambridge@shakespeare.lit/stabber' role='none'><actor nick='The ♚'/><reason>Treason</reason></item>
                   <status code='301'/>{version}</x></presence>")
            + "<presence from='coven@chat.shakespeare.lit/cambridge' to='exeter@shakespeare.lit/pda' type='unavailable'>
                 <x xmlns='http://jabber.org/protocol/muc#user'>
                   <item affiliation='outcast' role='none'><actor nick='The ♚'/><reason>Treason</reason></item>
                   <status code='301'/></x></presence>"),
    );
    let outcast = Person { reason: Some("Treason".into()), ..Person::new(Affiliation::Outcast) };
    assert!(stage.stored.contains(&RoomChange::Person(bare(CAMBRIDGE), Some(outcast))));
    stage.refused(
        CAMBRIDGE,
        "<presence to='coven@chat.shakespeare.lit/cambridge'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
        "auth forbidden",
    );
    // §9.1: the nickname is free.
    stage.enter(HECATE, "cambridge");
    // Not those above, not oneself.
    stage.refused(
        HENRY,
        &admin("set", "1", "<item affiliation='outcast' jid='crone1@shakespeare.lit'/>"),
        "cancel not-allowed",
    );
    stage.refused(
        HENRY,
        &admin("set", "1", "<item affiliation='outcast' jid='kinghenryv@shakespeare.lit'/>"),
        "cancel conflict",
    );
    stage.from(CRONE, &admin("set", "1", "<item affiliation='owner' jid='bard@shakespeare.lit'/>"));
    stage.refused(
        CRONE,
        &admin("set", "1", "<item affiliation='outcast' jid='crone1@shakespeare.lit'/>"),
        "cancel conflict",
    );
    stage.refused(
        EXETER,
        &admin("set", "1", "<item affiliation='outcast' jid='hag66@shakespeare.lit'/>"),
        "auth forbidden",
    );
}

/// §9.2.
#[test]
fn modifying_the_ban_list() {
    let mut stage = court();
    stage.from(
        HENRY,
        &admin(
            "set",
            "1",
            "<item affiliation='outcast' jid='earlofcambridge@shakespeare.lit/stabber'><reason>Treason</reason></item>",
        ),
    );
    let ban = "<item affiliation='outcast' jid='earlofcambridge@shakespeare.lit'><reason>Treason</reason></item>";
    stage.check(HENRY, &admin("get", "ban2", "<item affiliation='outcast'/>"), &list("ban2", HENRY, ban));
    stage.refused(EXETER, &admin("get", "ban2", "<item affiliation='outcast'/>"), "auth forbidden");
    let items = "<item affiliation='outcast' jid='lordscroop@shakespeare.lit'><reason>Treason</reason></item>
                 <item affiliation='outcast' jid='sirthomasgrey@shakespeare.lit'><reason>Treason</reason></item>";
    let got = stage.from(HENRY, &admin("set", "ban3", items));
    check(&got[..1], &result("ban3", HENRY));
    assert_eq!(stage.affiliation("lordscroop@shakespeare.lit"), Affiliation::Outcast);
    // Who may see the list is told of those who are not there; exeter is not.
    assert!(got[1..].iter().all(|got| got.to == HENRY), "{got:?}");
    // Nothing is done if not all may be.
    let items = "<item affiliation='outcast' jid='a@b'/><item affiliation='outcast' jid='crone1@shakespeare.lit'/>";
    stage.refused(HENRY, &admin("set", "1", items), "cancel not-allowed");
    assert_eq!(stage.affiliation("a@b"), Affiliation::None);
    // A domain, and those of it who have no standing of their own.
    let people = [(CRONE, Affiliation::Owner), (WICCA, Affiliation::Admin)];
    let visits =
        [(WICCA, "second", Role::Moderator), (HAG, "third", Role::Participant), ("a@b/c", "a", Role::Participant)];
    let mut stage = Stage::of(Config::default(), Limits::default(), &people, &visits);
    let got = stage.from(CRONE, &admin("set", "1", "<item affiliation='outcast' jid='shakespeare.lit'/>"));
    assert_eq!(
        (stage.role(HAG), stage.role(WICCA), stage.role("a@b/c")),
        (Role::None, Role::Moderator, Role::Participant)
    );
    assert!(got[0].to == HAG && squeezed(&got[0].stanza.to_xml()).contains("affiliation='outcast'"), "{got:?}");
    stage.from(CRONE, &admin("set", "1", "<item affiliation='none' jid='shakespeare.lit'/>"));
    stage.enter(HAG, "third");
}

/// §9.3, §9.4.
#[test]
fn granting_and_revoking_membership() {
    let mut stage = Stage::new(Config { whois: Whois::Anyone, ..Config::default() });
    stage.enter(CRONE, "firstwitch");
    stage.enter(HAG, "thirdwitch");
    let presence = |affiliation: &str, reason: &str, since: &str, until: &str| {
        let version = format!("<mav xmlns='urn:xmpp:muc:affiliations:1' since='{since}' until='{until}'/>");
        let one = |to: &str, own: &str| {
            format!(
                "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='{to}'><x xmlns='http://jabber.org/protocol/muc#user'>
                   <item affiliation='{affiliation}' jid='hag66@shakespeare.lit/pda' role='participant'><actor nick='firstwitch'/>{reason}</item>{own}{version}</x></presence>"
            )
        };
        one(CRONE, "") + &one(HAG, "<status code='110'/>")
    };
    let reason = "<reason>A worthy witch indeed!</reason>";
    let items = format!("<item affiliation='member' jid='hag66@shakespeare.lit' nick='thirdwitch'>{reason}</item>");
    stage.check(
        CRONE,
        &admin("set", "member1", &items),
        &(result("member1", CRONE) + &presence("member", reason, "3e8", "3ec")),
    );
    let reason = "<reason>Not so worthy after all!</reason>";
    let items = format!("<item affiliation='none' jid='hag66@shakespeare.lit'>{reason}</item>");
    stage.check(
        CRONE,
        &admin("set", "member2", &items),
        &(result("member2", CRONE) + &presence("none", reason, "3ec", "3ee")),
    );
    assert_eq!(
        stage.stored.last(),
        Some(&RoomChange::Enter(Visit {
            jid: jid(HAG).full().unwrap(),
            nick: "thirdwitch".into(),
            role: Role::Participant,
            shown: Some(true),
            presence: "<presence/>".parse().unwrap()
        }))
    );
    assert!(stage.stored.contains(&RoomChange::Person(bare(HAG), None)));
}

/// §9.4: who loses membership of a members-only room is removed, and seen to be removed only.
#[test]
fn revoking_membership_of_a_members_only_room() {
    let people = [(CRONE, Affiliation::Owner), (HAG, Affiliation::Member), (HECATE, Affiliation::Member)];
    let visits = [
        (CRONE, "TheBard", Role::Moderator),
        (HAG, "thirdwitch", Role::Participant),
        (HECATE, "hecate", Role::Participant),
    ];
    let config = Config { members_only: true, ..Config::default() };
    let mut stage = Stage::of(config, Limits::default(), &people, &visits);
    let version = "<mav xmlns='urn:xmpp:muc:affiliations:1' since='3e8' until='3ea'/>";
    stage.check(
        CRONE,
        &admin("set", "member2", "<item affiliation='none' jid='hag66@shakespeare.lit'/>"),
        &("<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda' type='unavailable'>
             <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'><actor nick='TheBard'/></item>
             <status code='110'/><status code='321'/></x></presence>"
            .to_owned()
            + &result("member2", CRONE)
            + &format!("<presence from='coven@chat.shakespeare.lit/thirdwitch' to='crone1@shakespeare.lit/desktop' type='unavailable'>
                 <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' jid='hag66@shakespeare.lit/pda' role='none'><actor nick='TheBard'/></item>
                 <status code='321'/>{version}</x></presence>")
            + "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hecate@shakespeare.lit/broom' type='unavailable'>
                 <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'><actor nick='TheBard'/></item>
                 <status code='321'/></x></presence>"),
    );
    stage.refused(
        HAG,
        "<presence to='coven@chat.shakespeare.lit/thirdwitch'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
        "auth registration-required",
    );
}

/// §9.5.
#[test]
fn modifying_the_member_list() {
    let config =
        Config { members_only: true, password: Some("cauldronburn".to_owned()), persistent: true, ..Config::default() };
    let people = [(CRONE, Affiliation::Owner), (HAG, Affiliation::Member), (WICCA, Affiliation::Admin)];
    let mut stage = Stage::of(config, Limits::default(), &people, &[]);
    let member = "<item affiliation='member' jid='hag66@shakespeare.lit'/>";
    stage.check(CRONE, &admin("get", "member3", "<item affiliation='member'/>"), &list("member3", CRONE, member));
    // §5.2.1 ***: in a semi-anonymous room, for admins only (security.md C5).
    stage.refused(HAG, &admin("get", "1", "<item affiliation='member'/>"), "auth forbidden");
    stage.refused(HECATE, &admin("get", "1", "<item affiliation='member'/>"), "auth forbidden");
    stage.check(WICCA, &admin("get", "member3", "<item affiliation='member'/>"), &list("member3", WICCA, member));
    let items = "<item affiliation='none' jid='hag66@shakespeare.lit'/><item affiliation='member' jid='hecate@shakespeare.lit'/>";
    stage.check(
        CRONE,
        &admin("set", "member4", items),
        &(result("member4", CRONE)
            + "<message from='coven@chat.shakespeare.lit' to='hecate@shakespeare.lit'>
                 <x xmlns='http://jabber.org/protocol/muc#user'><invite from='coven@chat.shakespeare.lit'/><password>cauldronburn</password></x></message>"),
    );
    assert_eq!((stage.affiliation(HAG), stage.affiliation(HECATE)), (Affiliation::None, Affiliation::Member));
    stage.refused(HECATE, &admin("set", "1", "<item affiliation='none' jid='a@b'/>"), "auth forbidden");
    stage.refused(CRONE, &admin("set", "1", "<item affiliation='member' jid='@b'/>"), "modify jid-malformed");
    stage.refused(CRONE, &admin("set", "1", "<item affiliation='member'/>"), "modify bad-request");
    stage.refused(CRONE, &admin("set", "1", "<item affiliation='king' jid='a@b'/>"), "modify bad-request");
    stage.refused(
        CRONE,
        &admin("set", "1", "<item affiliation='member' jid='a@b'/><item affiliation='none' jid='a@b/c'/>"),
        "modify bad-request",
    );
    stage.refused(CRONE, &admin("set", "1", "<item affiliation='member' jid='b.lit'/>"), "modify not-acceptable");
    // Reserved nicknames: set, taken, and unset by an empty one.
    stage.from(CRONE, &admin("set", "1", "<item affiliation='member' jid='hecate@shakespeare.lit' nick='hecate'/>"));
    stage.refused(CRONE, &admin("set", "1", "<item affiliation='member' jid='a@b' nick='Hecate'/>"), "cancel conflict");
    let twice = "<item affiliation='member' jid='a@b' nick='x'/><item affiliation='member' jid='c@d' nick='X'/>";
    stage.refused(CRONE, &admin("set", "1", twice), "cancel conflict");
    stage.from(CRONE, &admin("set", "1", "<item affiliation='member' jid='hecate@shakespeare.lit' nick=''/>"));
    stage.from(CRONE, &admin("set", "1", "<item affiliation='member' jid='a@b' nick='Hecate'/>"));
    assert_eq!(stage.room.people.person("a@b").unwrap().nick.as_deref(), Some("Hecate"));
}

/// §9.5: in a non-anonymous room members may ask for the list, in the room or not; §10.5, §10.8.
#[test]
fn lists_in_a_non_anonymous_room() {
    let people = [(CRONE, Affiliation::Owner), (HAG, Affiliation::Member), (WICCA, Affiliation::Admin)];
    let get = |affiliation: &str| admin("get", "1", &format!("<item affiliation='{affiliation}'/>"));
    let mut stage = Stage::of(
        Config { whois: Whois::Anyone, ..Config::default() },
        Limits::default(),
        &people,
        &[(HECATE, "hecate", Role::Participant)],
    );
    for who in [HAG, HECATE, WICCA, CRONE] {
        for affiliation in ["member", "admin", "owner"] {
            assert_eq!(error_of(&stage.from(who, &get(affiliation))[0]), "", "{who} {affiliation}");
        }
    }
    stage.refused(HAG, &get("outcast"), "auth forbidden");
    stage.refused("stranger@x/y", &get("member"), "auth forbidden");
    let mut stage = Stage::of(Config::default(), Limits::default(), &people, &[(HECATE, "hecate", Role::Moderator)]);
    for (who, affiliation, may) in [
        (HECATE, "member", false),
        (HECATE, "owner", false),
        (HECATE, "outcast", false),
        (WICCA, "member", true),
        (WICCA, "outcast", true),
        (WICCA, "admin", false),
        (WICCA, "owner", false),
        (CRONE, "admin", true),
        (CRONE, "owner", true),
    ] {
        let got = error_of(&stage.from(who, &get(affiliation))[0]);
        assert_eq!(got, if may { "" } else { "auth forbidden" }, "{who} {affiliation}");
    }
}

/// Long lists come in pages, asked for or not.
#[test]
fn long_lists() {
    let mut stage =
        Stage::with_limits(Config { persistent: true, ..Config::default() }, Limits { page: 2, ..Limits::default() });
    for name in ["a", "b", "c"] {
        stage.from(CRONE, &admin("set", "1", &format!("<item affiliation='member' jid='{name}@x'/>")));
    }
    let set = |first: &str, index: u64, last: &str| {
        format!(
            "<set xmlns='http://jabber.org/protocol/rsm'><first index='{index}'>{first}@x</first><last>{last}@x</last><count>3</count></set>"
        )
    };
    let item = |name: &str| format!("<item affiliation='member' jid='{name}@x'/>");
    stage.check(
        CRONE,
        &admin("get", "1", "<item affiliation='member'/>"),
        &list("1", CRONE, &(item("a") + &item("b") + &set("a", 0, "b"))),
    );
    let more =
        "<item affiliation='member'/><set xmlns='http://jabber.org/protocol/rsm'><max>10</max><after>b@x</after></set>";
    stage.check(CRONE, &admin("get", "1", more), &list("1", CRONE, &(item("c") + &set("c", 2, "c"))));
}

/// §9.6 to §9.8.
#[test]
fn granting_and_revoking_moderator_status() {
    let people = [(CRONE, Affiliation::Admin), (HAG, Affiliation::Member), ("bard@globe", Affiliation::Owner)];
    let visits = [
        (CRONE, "firstwitch", Role::Moderator),
        (HAG, "thirdwitch", Role::Participant),
        (HECATE, "Hecate", Role::Participant),
        ("bard@globe/x", "bard", Role::Moderator),
    ];
    let mut stage = Stage::of(Config::default(), Limits::default(), &people, &visits);
    let items = "<item nick='thirdwitch' role='moderator'><reason>A worthy witch indeed!</reason></item>";
    let got = stage.from(CRONE, &admin("set", "mod1", items));
    check(
        &got[..2],
        &(result("mod1", CRONE)
            + "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='crone1@shakespeare.lit/desktop'>
                 <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='member' jid='hag66@shakespeare.lit/pda' role='moderator'>
                 <actor nick='firstwitch'/><reason>A worthy witch indeed!</reason></item></x></presence>"),
    );
    stage.check(
        CRONE,
        &admin("get", "mod3", "<item role='moderator'/>"),
        &list(
            "mod3",
            CRONE,
            "<item affiliation='admin' jid='crone1@shakespeare.lit/desktop' nick='firstwitch' role='moderator'/>
            <item affiliation='member' jid='hag66@shakespeare.lit/pda' nick='thirdwitch' role='moderator'/>
            <item affiliation='owner' jid='bard@globe/x' nick='bard' role='moderator'/>",
        ),
    );
    let got = stage.from(
        CRONE,
        &admin("set", "mod4", "<item nick='thirdwitch' role='participant'/><item nick='Hecate' role='moderator'/>"),
    );
    check(&got[..1], &result("mod4", CRONE));
    assert_eq!((stage.role(HAG), stage.role(HECATE)), (Role::Participant, Role::Moderator));
    for nick in ["bard", "firstwitch"] {
        stage.refused(
            CRONE,
            &admin("set", "modtest", &format!("<item nick='{nick}' role='participant'/>")),
            "cancel not-allowed",
        );
    }
}

/// security.md B16: a request is not without end.
#[test]
fn requests_and_lists_are_bounded() {
    let limits = Limits { items: 2, affiliations: 4, ..Limits::default() };
    let mut stage = Stage::with_limits(Config { persistent: true, ..Config::default() }, limits);
    let item = |name: &str| format!("<item affiliation='member' jid='{name}@x'/>");
    stage.refused(CRONE, &admin("set", "1", &(item("a") + &item("b") + &item("c"))), "modify policy-violation");
    stage.from(CRONE, &admin("set", "1", &(item("a") + &item("b"))));
    stage.refused(CRONE, &admin("set", "1", &item("c")), "wait resource-constraint");
    stage.from(CRONE, &admin("set", "1", "<item affiliation='none' jid='a@x'/>"));
    stage.from(CRONE, &admin("set", "1", &item("c")));
    assert_eq!(stage.affiliation("c@x"), Affiliation::Member);
}

#[test]
fn b16_lists_are_bounded_in_bytes() {
    let limits = Limits { lists: 1000, ..Limits::default() };
    let mut stage = Stage::with_limits(Config { persistent: true, members_only: true, ..Config::default() }, limits);
    let long = "x".repeat(600);
    let item = |name: &str, reason: &str| {
        format!("<item affiliation='member' jid='{name}@x'><reason>{reason}</reason></item>")
    };
    stage.from(CRONE, &admin("set", "1", &item("a", &long)));
    stage.refused(CRONE, &admin("set", "1", &item("b", &long)), "wait resource-constraint");
    let invite = format!(
        "<message to='{ROOM}'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='{}@x'/></x></message>",
        "b".repeat(600)
    );
    stage.refused(CRONE, &invite, "wait resource-constraint");
    stage.from(CRONE, &admin("set", "1", &item("b", "short")));
    assert_eq!(stage.affiliation("b@x"), Affiliation::Member);
    // What makes them shorter is always possible.
    stage.from(CRONE, &admin("set", "1", &item("a", "")));
    stage.from(CRONE, &admin("set", "1", &item("b", &long)));
    stage.from(CRONE, &admin("set", "1", "<item affiliation='none' jid='b@x'/>"));
    assert_eq!(stage.affiliation("b@x"), Affiliation::None);
}
