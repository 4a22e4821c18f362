//! XEP-0488: tokens that make members.

use super::*;
use crate::muc::image::Tokens;

fn members_only() -> Config {
    Config { members_only: true, persistent: true, ..Config::default() }
}

fn iq(kind: &str, payload: &str) -> String {
    format!("<iq type='{kind}' id='1' to='{ROOM}'>{payload}</iq>")
}

fn request(attributes: &str) -> String {
    iq("set", &format!("<request xmlns='urn:xmpp:muc-token-invite:0'{attributes}/>"))
}

fn revoke(token: &str) -> String {
    iq("set", &format!("<revoke xmlns='urn:xmpp:muc-token-invite:0'>{token}</revoke>"))
}

fn list() -> String {
    iq("get", "<tokens xmlns='urn:xmpp:muc-token-invite:0'/>")
}

fn join(nick: &str, password: &str) -> String {
    format!(
        "<presence to='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc'><password>{password}</password></x></presence>"
    )
}

/// The answer to somebody's request for a token or for the list.
fn answer(to: &str, payload: &str) -> String {
    format!("<iq type='result' id='1' from='{ROOM}' to='{to}'>{payload}</iq>")
}

fn token(text: &str, attributes: &str) -> String {
    format!("<token xmlns='urn:xmpp:muc-token-invite:0'{attributes}>{text}</token>")
}

fn tokens(inside: &str) -> String {
    format!("<tokens xmlns='urn:xmpp:muc-token-invite:0'>{inside}</tokens>")
}

const MONTH: &str = " delay='2592000'";

fn stored(stage: &Stage) -> Option<&Tokens> {
    stage.stored.iter().rev().find_map(|change| match change {
        RoomChange::Tokens(tokens) => Some(tokens),
        _ => None,
    })
}

#[test]
fn who_enters_with_a_token_becomes_a_member() {
    let mut stage = Stage::new(members_only());
    stage.check(CRONE, &request(""), &answer(CRONE, &token("token-1", MONTH)));
    stage.refused(HAG, &join("thirdwitch", ""), "auth registration-required");
    let got = stage.from(HAG, &join("thirdwitch", "token-1"));
    assert_eq!((stage.affiliation(HAG), stage.role(HAG)), (Affiliation::Member, Role::Participant), "{got:?}");
    let member = RoomChange::Person(bare(HAG), Some(Person::new(Affiliation::Member)));
    assert!(stage.stored.contains(&member), "{:?}", stage.stored);
    // Nobody but those who enter are told, and none of it says the token.
    assert!(!format!("{got:?}").contains("token-1"));
    // It is needed once, and goes on without a counter.
    stage.from(HAG, &format!("<presence type='unavailable' to='{ROOM}/thirdwitch'/>"));
    stage.enter(HAG, "thirdwitch");
    stage.from(HECATE, &join("hecate", "token-1"));
    assert_eq!(stage.affiliation(HECATE), Affiliation::Member);
}

#[test]
fn who_is_in_an_open_room_may_become_a_member_by_entering_again() {
    let mut stage = Stage::witches(Config::default());
    assert_eq!(stage.affiliation(HAG), Affiliation::None);
    stage.from(CRONE, &request(" counter='1'"));
    let got = stage.from(HAG, &join("thirdwitch", "token-1"));
    assert_eq!(stage.affiliation(HAG), Affiliation::Member);
    // The others see it.
    let seen = |got: &&Got| got.to == WICCA && got.stanza.to_xml().contains("affiliation='member'");
    assert_eq!(got.iter().filter(seen).count(), 1, "{got:?}");
    // Where everybody may enter, one that is over is no obstacle.
    stage.from(HECATE, &join("hecate", "token-1"));
    assert_eq!((stage.affiliation(HECATE), stage.role(HECATE)), (Affiliation::None, Role::Participant));
}

#[test]
fn a_counter_counts_those_who_became_members() {
    let mut stage = Stage::new(members_only());
    stage.check(CRONE, &request(" counter='2'"), &answer(CRONE, &token("token-1", &format!("{MONTH} counter='2'"))));
    // Those who are something already use nothing up, nor do those who cannot get in.
    stage.from(WICCA, &join("secondwitch", "token-1"));
    stage.refused(HAG, &join("secondwitch", "token-1"), "cancel conflict");
    assert_eq!(stage.affiliation(HAG), Affiliation::None);
    stage.from(HAG, &join("thirdwitch", "token-1"));
    stage.from(HAG, &join("thirdwitch", "token-1"));
    let listed = token("token-1", &format!("{MONTH} counter='1' creator='crone1@shakespeare.lit'"));
    stage.check(CRONE, &list(), &answer(CRONE, &tokens(&listed)));
    stage.from(HECATE, &join("hecate", "token-1"));
    assert_eq!(stage.affiliation(HECATE), Affiliation::Member);
    stage.check(CRONE, &list(), &answer(CRONE, &tokens("")));
    let late = "macbeth@shakespeare.lit/castle";
    let got = stage.from(late, &join("macbeth", "token-1"));
    assert_eq!((got.len(), error_of(&got[0]).as_str()), (1, "auth not-authorized"));
    assert!(got[0].stanza.to_xml().contains("<expired-token xmlns='urn:xmpp:muc-token-invite:0'/>"), "{got:?}");
}

#[test]
fn a_token_has_its_time() {
    let mut stage = Stage::new(members_only());
    stage.check(CRONE, &request(" delay='60'"), &answer(CRONE, &token("token-1", " delay='60'")));
    // More than the service allows.
    stage.check(CRONE, &request(" delay='4294967295'"), &answer(CRONE, &token("token-2", MONTH)));
    stage.pass(59);
    let listed = token("token-1", " delay='1' creator='crone1@shakespeare.lit'")
        + &token("token-2", " delay='2591941' creator='crone1@shakespeare.lit'");
    stage.check(CRONE, &list(), &answer(CRONE, &tokens(&listed)));
    stage.pass(1);
    stage.refused(HAG, &join("thirdwitch", "token-1"), "auth not-authorized");
    stage.refused(CRONE, &revoke("token-1"), "cancel item-not-found");
    // It goes from the database with the next change.
    stage.from(CRONE, &request(""));
    assert_eq!(stored(&stage).unwrap().keys().map(String::as_str).collect::<Vec<_>>(), ["token-2", "token-3"]);
    for wrong in [" delay='0'", " counter='0'", " counter='-1'", " delay='4294967296'", " counter='two'"] {
        stage.refused(CRONE, &request(wrong), "modify bad-request");
    }
}

#[test]
fn a_revoked_token_makes_no_members() {
    let mut stage = Stage::new(members_only());
    stage.from(CRONE, &request(""));
    stage.check(WICCA, &revoke("token-1"), &answer(WICCA, ""));
    assert_eq!(stored(&stage).unwrap().len(), 0);
    stage.refused(HAG, &join("thirdwitch", "token-1"), "auth not-authorized");
    stage.refused(WICCA, &revoke("token-1"), "cancel item-not-found");
    // What the database did not take has not happened.
    stage.from(CRONE, &request(""));
    stage.answer = Err(rookery_xmpp::error::Condition::InternalServerError.into());
    stage.refused(CRONE, &revoke("token-2"), "cancel internal-server-error");
    stage.answer = Ok(Stored::Done);
    stage.from(HAG, &join("thirdwitch", "token-2"));
    assert_eq!(stage.affiliation(HAG), Affiliation::Member);
}

/// As with invitations that make members; and a token is worth what its creator may do.
#[test]
fn who_may_make_members_may_have_tokens() {
    let people = [(CRONE, Affiliation::Owner), (HAG, Affiliation::Member), (HECATE, Affiliation::Member)];
    let mut stage = Stage::of(members_only(), Limits::default(), &people, &[]);
    for who in [HAG, "macbeth@shakespeare.lit/castle"] {
        stage.refused(who, &request(""), "auth forbidden");
        stage.refused(who, &list(), "auth forbidden");
        stage.refused(who, &revoke("token-1"), "auth forbidden");
    }
    let mut stage = Stage::of(Config { allow_invites: true, ..members_only() }, Limits::default(), &people, &[]);
    stage.from(HAG, &request(""));
    stage.from(CRONE, &request(""));
    // Members see their own; in a semi-anonymous room nobody's address.
    stage.check(HAG, &list(), &answer(HAG, &tokens(&token("token-1", MONTH))));
    stage.check(HECATE, &list(), &answer(HECATE, &tokens("")));
    stage.refused(HAG, &revoke("token-2"), "cancel item-not-found");
    let of_all = token("token-1", &format!("{MONTH} creator='hag66@shakespeare.lit'"))
        + &token("token-2", &format!("{MONTH} creator='crone1@shakespeare.lit'"));
    stage.check(CRONE, &list(), &answer(CRONE, &tokens(&of_all)));
    // Of somebody who is no member any more.
    let ban = "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='outcast' jid='hag66@shakespeare.lit'/></query>";
    stage.from(CRONE, &iq("set", ban));
    assert_eq!(stage.affiliation(HAG), Affiliation::Outcast);
    stage.refused("macbeth@shakespeare.lit/castle", &join("macbeth", "token-1"), "auth not-authorized");
    stage.refused(HAG, &join("hag", "token-2"), "auth forbidden");
}

#[test]
fn tokens_are_few() {
    let people = [(CRONE, Affiliation::Owner), (HAG, Affiliation::Member)];
    let config = Config { allow_invites: true, ..members_only() };
    let limits = Limits { tokens: 12, ..Limits::default() };
    let mut stage = Stage::of(config.clone(), limits, &people, &[]);
    for _ in 0..10 {
        stage.from(HAG, &request(" delay='60'"));
    }
    stage.refused(HAG, &request(""), "wait resource-constraint");
    stage.from(CRONE, &request(""));
    stage.from(CRONE, &request(""));
    stage.refused(CRONE, &request(""), "wait resource-constraint");
    stage.pass(60);
    stage.from(CRONE, &request(""));
    assert_eq!(stored(&stage).unwrap().len(), 3);

    let mut stage = Stage::of(config, Limits { tokens: 0, ..Limits::default() }, &people, &[]);
    stage.refused(CRONE, &request(""), "cancel service-unavailable");
}

#[test]
fn a_room_with_a_password_has_no_tokens() {
    let has = |stage: &mut Stage| {
        let got = stage.from(HAG, &iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"));
        got[0].stanza.to_xml().contains("urn:xmpp:muc-token-invite:0")
    };
    let mut stage = Stage::new(members_only());
    assert!(has(&mut stage));
    let mut stage = Stage::new(Config { password: Some("cauldronburn".to_owned()), ..members_only() });
    assert!(!has(&mut stage));
    stage.refused(CRONE, &request(""), "cancel not-allowed");
    stage.refused(HAG, &join("thirdwitch", "cauldronburn"), "auth registration-required");
}

#[test]
fn tokens_survive_a_restart() {
    let mut stage = Stage::new(members_only());
    stage.from(CRONE, &request(" counter='1'"));
    let image = Image {
        config: members_only(),
        people: vec![(bare(CRONE), Person::new(Affiliation::Owner))],
        tokens: stored(&stage).unwrap().clone(),
        ..Image::default()
    };
    let at = stage.at();
    let mut stage = Stage::around(Room::restore(bare(ROOM), service(Limits::default()), image, at));
    stage.from(HAG, &join("thirdwitch", "token-1"));
    assert_eq!(stage.affiliation(HAG), Affiliation::Member);
    assert_eq!(stored(&stage).unwrap().len(), 0);
}
