//! XEP-0045 §8: what moderators do, with the XEP's examples.

use super::*;
use crate::muc::config::Whois;
use crate::muc::roles::Roles;

const FLUELLEN: &str = "fluellen@shakespeare.lit/pda";
const PISTOL: &str = "pistol@shakespeare.lit/harfleur";
const GOWER: &str = "gower@shakespeare.lit/cell";

fn admin(kind: &str, id: &str, items: &str) -> String {
    format!(
        "<iq id='{id}' to='coven@chat.shakespeare.lit' type='{kind}'>\
         <query xmlns='http://jabber.org/protocol/muc#admin'>{items}</query></iq>"
    )
}

fn result(id: &str, to: &str) -> String {
    format!("<iq from='coven@chat.shakespeare.lit' id='{id}' to='{to}' type='result'/>")
}

/// An iq error has neither `by` nor more than its condition.
fn error(id: &str, to: &str, items: &str, kind: &str, condition: &str) -> String {
    format!(
        "<iq from='coven@chat.shakespeare.lit' id='{id}' to='{to}' type='error'>
           <query xmlns='http://jabber.org/protocol/muc#admin'>{items}</query>
           <error type='{kind}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )
}

/// §8.2, with the order that it wants: the kicked, the moderator, the others.
#[test]
fn moderator_kicks_occupant() {
    let people = [(CRONE, Affiliation::Owner)];
    let visits = [
        (FLUELLEN, "Fluellen", Role::Moderator),
        (PISTOL, "pistol", Role::Participant),
        (GOWER, "gower", Role::Visitor),
    ];
    let mut stage = Stage::of(Config::default(), Limits::default(), &people, &visits);
    let items = "<item nick='pistol' role='none'><reason>Avaunt, you cullion!</reason></item>";
    stage.check(
        FLUELLEN,
        &admin("set", "kick1", items),
        &("<presence from='coven@chat.shakespeare.lit/pistol' to='pistol@shakespeare.lit/harfleur' type='unavailable'>
             <x xmlns='http://jabber.org/protocol/muc#user'>
               <item affiliation='none' role='none'><actor nick='Fluellen'/><reason>Avaunt, you cullion!</reason></item>
               <status code='110'/><status code='307'/></x></presence>"
            .to_owned()
            + &result("kick1", FLUELLEN)
            + "<presence from='coven@chat.shakespeare.lit/pistol' to='fluellen@shakespeare.lit/pda' type='unavailable'>
                 <x xmlns='http://jabber.org/protocol/muc#user'>
                   <item affiliation='none' jid='pistol@shakespeare.lit/harfleur' role='none'><actor nick='Fluellen'/><reason>Avaunt, you cullion!</reason></item>
                   <status code='307'/></x></presence>
               <presence from='coven@chat.shakespeare.lit/pistol' to='gower@shakespeare.lit/cell' type='unavailable'>
                 <x xmlns='http://jabber.org/protocol/muc#user'>
                   <item affiliation='none' role='none'><actor nick='Fluellen'/><reason>Avaunt, you cullion!</reason></item>
                   <status code='307'/></x></presence>"),
    );
    // A kick is for the moment.
    stage.enter(PISTOL, "pistol");
    let kick = |nick: &str| format!("<item nick='{nick}' role='none'/>");
    stage.refused(FLUELLEN, &admin("set", "1", &kick("Fluellen")), "cancel not-allowed");
    stage.refused(FLUELLEN, &admin("set", "1", &kick("nobody")), "cancel item-not-found");
    stage.refused(GOWER, &admin("set", "1", &kick("pistol")), "auth forbidden");
    stage.refused(GOWER, &admin("set", "1", &kick("nobody")), "auth forbidden");
    stage.refused(HECATE, &admin("set", "1", &kick("pistol")), "auth forbidden");
    // An owner may kick from outside, and be kicked by nobody below.
    assert_eq!(stage.from(CRONE, &admin("set", "1", &kick("pistol"))).len(), 4);
    stage.enter(CRONE, "firstwitch");
    let items = kick("firstwitch");
    stage.check(
        FLUELLEN,
        &admin("set", "kicktest", &items),
        &error("kicktest", FLUELLEN, &items, "cancel", "not-allowed"),
    );
    // §8.2: not oneself.
    stage.refused(CRONE, &admin("set", "1", &kick("firstwitch")), "cancel conflict");
}

/// §8.3, §8.4.
#[test]
fn granting_and_revoking_voice() {
    let config = Config {
        moderated: true,
        whois: Whois::Anyone,
        member_list: Roles { moderator: false, participant: false, visitor: false },
        ..Config::default()
    };
    let mut stage = Stage::new(config);
    stage.enter(CRONE, "firstwitch");
    stage.enter(HAG, "thirdwitch");
    let presence = |role: &str, reason: &str| {
        let one = |to: &str, own: &str| {
            format!(
                "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='{to}'><x xmlns='http://jabber.org/protocol/muc#user'>
                   <item affiliation='none' jid='hag66@shakespeare.lit/pda' role='{role}'><actor nick='firstwitch'/>{reason}</item>{own}</x></presence>"
            )
        };
        one(CRONE, "") + &one(HAG, "<status code='110'/>")
    };
    let reason = "<reason>A worthy witch indeed!</reason>";
    let items = format!("<item nick='thirdwitch' role='participant'>{reason}</item>");
    stage.check(CRONE, &admin("set", "voice1", &items), &(result("voice1", CRONE) + &presence("participant", reason)));
    stage.check(
        CRONE,
        &admin("set", "voice2", "<item nick='thirdwitch' role='visitor'/>"),
        &(result("voice2", CRONE) + &presence("visitor", "")),
    );
    // A visitor who leaves and comes back is no participant for that.
    stage.from(CRONE, &admin("set", "1", "<item affiliation='member' jid='hag66@shakespeare.lit'/>"));
    assert_eq!(stage.role(HAG), Role::Participant);
    stage.from(CRONE, &admin("set", "1", "<item nick='thirdwitch' role='visitor'/>"));
    stage.from(HAG, "<presence to='coven@chat.shakespeare.lit/thirdwitch' type='unavailable'/>");
    stage.enter(HAG, "thirdwitch");
    assert_eq!(stage.role(HAG), Role::Visitor);
    // §8.4: not from an admin or owner, not even by themselves.
    stage.enter(WICCA, "secondwitch");
    for nick in ["firstwitch", "secondwitch"] {
        let items = format!("<item nick='{nick}' role='visitor'/>");
        stage.check(
            CRONE,
            &admin("set", "voicetest", &items),
            &error("voicetest", CRONE, &items, "cancel", "not-allowed"),
        );
    }
}

/// §8.5.
#[test]
fn modifying_the_voice_list() {
    let people = [(CRONE, Affiliation::Owner), (HECATE, Affiliation::Member)];
    let visits = [
        (CRONE, "bard", Role::Moderator),
        ("polonius@hamlet/castle", "Polo", Role::Participant),
        ("horatio@hamlet/castle", "horotoro", Role::Participant),
        (HECATE, "Hecate", Role::Participant),
        ("rosencrantz@hamlet/x", "rosencrantz", Role::Visitor),
        ("guildenstern@hamlet/x", "guildenstern", Role::Visitor),
    ];
    let config = Config { moderated: true, ..Config::default() };
    let mut stage = Stage::of(config, Limits::default(), &people, &visits);
    stage.check(
        CRONE,
        &admin("get", "voice3", "<item role='participant'/>"),
        "<iq from='coven@chat.shakespeare.lit' id='voice3' to='crone1@shakespeare.lit/desktop' type='result'>
           <query xmlns='http://jabber.org/protocol/muc#admin'>
             <item affiliation='none' jid='polonius@hamlet/castle' nick='Polo' role='participant'/>
             <item affiliation='none' jid='horatio@hamlet/castle' nick='horotoro' role='participant'/>
             <item affiliation='member' jid='hecate@shakespeare.lit/broom' nick='Hecate' role='participant'/></query></iq>",
    );
    stage.refused(HECATE, &admin("get", "1", "<item role='participant'/>"), "auth forbidden");
    stage.refused(HECATE, &admin("get", "1", "<item role='visitor'/>"), "auth forbidden");
    let items = "<item nick='Hecate' role='visitor'/>
        <item nick='rosencrantz' role='participant'><reason>A worthy fellow.</reason></item>
        <item nick='guildenstern' role='participant'><reason>A worthy fellow.</reason></item>";
    let got = stage.from(CRONE, &admin("set", "voice4", items));
    check(&got[..1], &result("voice4", CRONE));
    assert_eq!(got.len(), 1 + 3 * 6);
    assert_eq!(stage.role(HECATE), Role::Visitor);
    assert_eq!(stage.role("rosencrantz@hamlet/x"), Role::Participant);
    // Nothing of a request is done if not all of it may be.
    let items = "<item nick='Polo' role='visitor'/><item nick='bard' role='visitor'/>";
    stage.check(CRONE, &admin("set", "voicetest", items), &error("voicetest", CRONE, items, "cancel", "not-allowed"));
    assert_eq!(stage.role("polonius@hamlet/castle"), Role::Participant);
    // §17.4: one thing at a time, and known words.
    for items in [
        "<item nick='Polo' role='visitor' affiliation='member'/>",
        "<item nick='Polo'/>",
        "<item role='visitor'/>",
        "<item nick='Polo' role='king'/>",
        "<item nick='Polo' role='visitor'/><item nick='polo' role='none'/>",
        "<item nick='Polo' role='none'/><item jid='polonius@hamlet' affiliation='outcast'/>",
        "",
    ] {
        stage.refused(CRONE, &admin("set", "1", items), "modify bad-request");
    }
    for items in [
        "",
        "<item role='none'/>",
        "<item affiliation='none'/>",
        "<item/>",
        "<item role='visitor'/><item role='visitor'/>",
    ] {
        stage.refused(CRONE, &admin("get", "1", items), "modify bad-request");
    }
}

/// §9.6, §9.7, which are admins' business.
#[test]
fn moderators_make_no_moderators() {
    let visits = [(HECATE, "hecate", Role::Moderator), (HAG, "thirdwitch", Role::Participant)];
    let mut stage = Stage::of(Config::default(), Limits::default(), &[(CRONE, Affiliation::Owner)], &visits);
    stage.refused(HECATE, &admin("set", "1", "<item nick='thirdwitch' role='moderator'/>"), "auth forbidden");
    stage.refused(HECATE, &admin("get", "1", "<item role='moderator'/>"), "auth forbidden");
    assert_eq!(stage.from(HECATE, &admin("set", "1", "<item nick='thirdwitch' role='visitor'/>")).len(), 3);
}

/// A moderator sees real JIDs from then on, and no longer afterwards.
#[test]
fn c5_who_becomes_moderator_sees_who_comes() {
    let mut stage = Stage::new(Config::default());
    stage.enter(CRONE, "firstwitch");
    stage.enter(HAG, "thirdwitch");
    let sees = |stage: &mut Stage| {
        let got = stage.enter(HECATE, "hecate");
        stage.from(HECATE, "<presence to='coven@chat.shakespeare.lit/hecate' type='unavailable'/>");
        let told = got.iter().find(|got| got.to == HAG).unwrap();
        told.stanza.to_xml().contains("hecate@shakespeare.lit")
    };
    assert!(!sees(&mut stage));
    stage.from(CRONE, &admin("set", "1", "<item nick='thirdwitch' role='moderator'/>"));
    assert!(sees(&mut stage));
    stage.from(CRONE, &admin("set", "1", "<item nick='thirdwitch' role='participant'/>"));
    assert!(!sees(&mut stage));
}

/// Nothing has happened while nothing is stored: a grant of voice lasts, so it waits for the database.
#[test]
fn what_is_not_stored_has_not_happened() {
    let mut stage = Stage::witches(Config { moderated: true, ..Config::default() });
    stage.answer = Err(rookery_xmpp::error::Condition::ResourceConstraint.into());
    stage.refused(
        CRONE,
        &admin("set", "1", "<item nick='thirdwitch' role='participant'/>"),
        "wait resource-constraint",
    );
    stage.refused(
        CRONE,
        &admin("set", "1", "<item affiliation='outcast' jid='hag66@shakespeare.lit'/>"),
        "wait resource-constraint",
    );
    assert_eq!((stage.role(HAG), stage.affiliation(HAG)), (Role::Visitor, Affiliation::None));
    stage.answer = Ok(Stored::Done);
    stage.from(CRONE, &admin("set", "1", "<item nick='thirdwitch' role='participant'/>"));
    assert_eq!(stage.role(HAG), Role::Participant);
}
