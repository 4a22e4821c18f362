//! XEP-0045 §7.4, §7.5, §7.8 to §7.13, §8.1, §17.4: what is said in a room and through it.

use rookery_xmpp::error::Condition;
use rookery_xmpp::stanza::{IqType, Kind};

use super::*;
use crate::muc::config::{AllowPm, Registration, Whois};

fn plain(who: &str, to: &str) -> String {
    format!(
        "<message from='coven@chat.shakespeare.lit/{who}' id='hysf1v37' to='{to}' type='groupchat'>
           <body>Harpier cries: 'tis time, 'tis time.</body>
           <stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.shakespeare.lit' id='1004'/></message>"
    )
}

const CRY: &str = "<message id='hysf1v37' to='coven@chat.shakespeare.lit' type='groupchat'><body>Harpier cries: 'tis time, 'tis time.</body></message>";

/// §7.4.
#[test]
fn message_to_all_occupants() {
    let mut stage = Stage::witches(Config::default());
    stage.check(HAG, CRY, &(plain("thirdwitch", CRONE) + &plain("thirdwitch", WICCA) + &plain("thirdwitch", HAG)));
    let Some(RoomChange::Message(message)) = stage.stored.last() else { panic!("{:?}", stage.stored) };
    assert_eq!((message.id, message.sender.as_ref().unwrap().as_str(), message.history), (1004, HAG, true));
    stage.refused(HECATE, CRY, "modify not-acceptable");
    let got = stage.from(HECATE, CRY);
    assert_eq!(got[0].stanza.head.from, Some(jid(ROOM)));
    // §17.2: other messages to the room are for nobody.
    for kind in ["chat", "normal", "headline"] {
        let xml = CRY.replace("groupchat", kind);
        stage.refused(HAG, &xml, "modify bad-request");
        stage.refused(HECATE, &xml, "modify not-acceptable");
    }
    assert_eq!(stage.from(HECATE, &CRY.replace("groupchat", "error")), []);
}

#[test]
fn visitors_do_not_speak() {
    let mut stage = Stage::witches(Config { moderated: true, ..Config::default() });
    assert_eq!(stage.role(HAG), Role::Visitor);
    stage.refused(HAG, CRY, "auth forbidden");
    assert_eq!(stage.from(WICCA, CRY).len(), 3);
}

/// One message to all is one stanza and one list, however many there are.
#[test]
fn fan_out_shares_stanza_and_list() {
    let mut stage = Stage::witches(Config::default());
    let stanza: Stanza = CRY.parse().unwrap();
    let mut lists = Vec::new();
    for _ in 0..2 {
        let at = stage.at();
        let outcome = stage.room.handle(at, stanza.clone().from(jid(HAG)));
        assert_eq!(outcome.send.len(), 1);
        assert!(outcome.send[0].stanza.is_raw(), "the sender's bytes");
        let crate::muc::outcome::Recipients::Many { all, but } = outcome.send[0].to.clone() else { panic!() };
        assert!(but.is_empty());
        lists.push(all);
    }
    assert!(Arc::ptr_eq(&lists[0], &lists[1]));
}

/// security.md C3: N copies in every spelling, and exactly one of the room's.
#[test]
fn c3_messages_say_nothing_in_the_rooms_place() {
    let mut stage = Stage::witches(Config::default());
    stage.keep_occupant_ids = true;
    let forged = "<message to='coven@chat.shakespeare.lit' type='groupchat'><body>x</body>
        <stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.shakespeare.lit' id='1'/>
        <s:stanza-id xmlns:s='urn:xmpp:sid:0' by='COVEN@chat.shakespeare.lit' id='2'/>
        <occupant-id xmlns='urn:xmpp:occupant-id:0' id='3'/><o:occupant-id xmlns:o='urn:xmpp:occupant-id:0' id='4'/>
        <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator' jid='a@b'/></x>
        <result xmlns='urn:xmpp:mam:2' id='1'/><sent xmlns='urn:xmpp:carbons:2'/>
        <delay xmlns='urn:xmpp:delay' from='Coven@Chat.Shakespeare.lit' stamp='2001-01-01T00:00:00Z'/>
        <delay xmlns='urn:xmpp:delay' from='elsewhere.lit' stamp='2001-01-01T00:00:00Z'/>
        <retracted xmlns='urn:xmpp:message-retract:1' stamp='2001-01-01T00:00:00Z' id='1'/>
        <origin-id xmlns='urn:xmpp:sid:0' id='mine'/></message>";
    let id = stage.room.occupant_id(&bare(HAG));
    stage.check_one(
        HAG,
        forged,
        HAG,
        &format!(
            "<message from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda' type='groupchat'><body>x</body>
               <delay xmlns='urn:xmpp:delay' from='elsewhere.lit' stamp='2001-01-01T00:00:00Z'/>
               <origin-id xmlns='urn:xmpp:sid:0' id='mine'/>
               <occupant-id xmlns='urn:xmpp:occupant-id:0' id='{id}'/>
               <stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.shakespeare.lit' id='1004'/></message>"
        ),
    );
    // Only the room says that a moderator took something back.
    stage.refused(HAG, "<message to='coven@chat.shakespeare.lit' type='groupchat'><retract xmlns='urn:xmpp:message-retract:1' id='1'>\
        <moderated xmlns='urn:xmpp:message-moderate:1' by='coven@chat.shakespeare.lit/firstwitch'/></retract></message>", "modify bad-request");
}

/// What was sent again goes to its sender alone, with the id that it had.
#[test]
fn resending_is_harmless() {
    let mut stage = Stage::witches(Config::default());
    let mut send = |digest| {
        let at = At { digest: Some(digest), ..stage.at() };
        let outcome = stage.room.handle(at, CRY.parse::<Stanza>().unwrap().from(jid(HAG)));
        stage.finish(outcome)
    };
    let first = send(7);
    assert_eq!(first.len(), 3);
    let again = send(7);
    assert_eq!(again, first.into_iter().filter(|got| got.to == HAG).collect::<Vec<_>>());
    assert_eq!(send(8).len(), 3);
    assert_eq!(stage.stored.iter().filter(|change| matches!(change, RoomChange::Message(_))).count(), 2);
    // On one and the same stream nothing is sent again.
    for _ in 0..2 {
        let at = At { digest: Some(9), stream: Some(1), ..stage.at() };
        assert_eq!(stage.room.handle(at, CRY.parse::<Stanza>().unwrap().from(jid(HAG))).store.len(), 1);
    }
    stage.pass(2 * 24 * 60 * 60);
    let at = At { digest: Some(7), ..stage.at() };
    assert_eq!(stage.room.handle(at, CRY.parse::<Stanza>().unwrap().from(jid(HAG))).store.len(), 1);
}

/// §7.5.
#[test]
fn private_messages() {
    let mut stage = Stage::witches(Config::default());
    let expected = "<message from='coven@chat.shakespeare.lit/secondwitch' id='hgn27af1' to='crone1@shakespeare.lit/desktop' type='chat'>
         <body>I'll give thee a wind.</body><x xmlns='http://jabber.org/protocol/muc#user'/></message>";
    let wind = "<message id='hgn27af1' to='coven@chat.shakespeare.lit/firstwitch' type='chat'>
         <body>I'll give thee a wind.</body><x xmlns='http://jabber.org/protocol/muc#user'/></message>";
    stage.check(WICCA, wind, expected);
    stage.check(WICCA, &wind.replace("<x xmlns='http://jabber.org/protocol/muc#user'/>", ""), expected);
    // Nothing of it is kept by the room.
    assert!(!stage.stored.iter().any(|change| matches!(change, RoomChange::Message(_))));
    stage.check(
        WICCA,
        "<message id='bx71f29k' to='coven@chat.shakespeare.lit/firstwitch' type='groupchat'><body>I'll give thee a wind.</body></message>",
        "<message from='coven@chat.shakespeare.lit/firstwitch' id='bx71f29k' to='wiccarocks@shakespeare.lit/laptop' type='error'>
           <body>I'll give thee a wind.</body>
           <error by='coven@chat.shakespeare.lit' type='modify'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
    );
    stage.refused(WICCA, &wind.replace("firstwitch", "nobody"), "cancel item-not-found");
    stage.refused(HECATE, wind, "modify not-acceptable");
    stage.refused(HECATE, &wind.replace("firstwitch", "nobody"), "modify not-acceptable");
}

#[test]
fn who_may_send_private_messages() {
    let wind = "<message id='1' to='coven@chat.shakespeare.lit/firstwitch' type='chat'><body>x</body></message>";
    for (allow_pm, visitor, moderator) in [
        (AllowPm::Anyone, true, true),
        (AllowPm::Participants, false, true),
        (AllowPm::Moderators, false, true),
        (AllowPm::Nobody, false, false),
    ] {
        let mut stage = Stage::witches(Config { allow_pm, moderated: true, ..Config::default() });
        for (who, may) in [(HAG, visitor), (WICCA, moderator)] {
            if may {
                assert_eq!(stage.from(who, wind)[0].to, CRONE, "{allow_pm:?}");
            } else {
                stage.refused(who, wind, "auth forbidden");
            }
        }
    }
}

/// Errors for private messages find their sender, who learns no address from them; who is blocked is not a ghost's witness.
#[test]
fn c5_errors_for_private_messages() {
    let mut stage = Stage::witches(Config::default());
    let error = |condition: &str| {
        format!(
            "<message type='error' id='hgn27af1' to='{ROOM}/thirdwitch'><body>x</body><x xmlns='http://jabber.org/protocol/muc#user'/>
               <error type='cancel' by='crone1@shakespeare.lit'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>
               <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>crone1@shakespeare.lit is not there</text></error></message>"
        )
    };
    let expected = |condition: &str| {
        format!(
            "<message type='error' from='{ROOM}/firstwitch' id='hgn27af1' to='hag66@shakespeare.lit/pda'>
               <x xmlns='http://jabber.org/protocol/muc#user'/>
               <error type='cancel'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        )
    };
    stage.check(CRONE, &error("service-unavailable"), &expected("service-unavailable"));
    assert_eq!(stage.role(CRONE), Role::Moderator);
    let got = stage.from(CRONE, &error("recipient-unavailable"));
    check(&got[..1], &expected("recipient-unavailable"));
    assert_eq!(stage.role(CRONE), Role::None);
}

/// §7.8.2.
#[test]
fn mediated_invitations() {
    let config = Config { password: Some("cauldronburn".to_owned()), whois: Whois::Anyone, ..Config::default() };
    let mut stage = Stage::new(config);
    stage.from(CRONE, "<presence to='coven@chat.shakespeare.lit/firstwitch'><x xmlns='http://jabber.org/protocol/muc'><password>cauldronburn</password></x></presence>");
    let invite = "<message id='nzd143v8' to='coven@chat.shakespeare.lit'>
         <x xmlns='http://jabber.org/protocol/muc#user'><invite to='hecate@shakespeare.lit'>
           <reason>Hey Hecate, this is the place for all good witches!</reason></invite></x></message>";
    stage.check(
        CRONE,
        invite,
        "<message from='coven@chat.shakespeare.lit' id='nzd143v8' to='hecate@shakespeare.lit'>
           <x xmlns='http://jabber.org/protocol/muc#user'><invite from='crone1@shakespeare.lit'>
             <reason>Hey Hecate, this is the place for all good witches!</reason></invite>
           <password>cauldronburn</password></x></message>",
    );
    stage.check(
        HECATE,
        "<message id='jk2vs61v' to='coven@chat.shakespeare.lit'>
           <x xmlns='http://jabber.org/protocol/muc#user'><decline to='crone1@shakespeare.lit'>
             <reason>Sorry, I'm too busy right now.</reason></decline></x></message>",
        "<message from='coven@chat.shakespeare.lit' id='jk2vs61v' to='crone1@shakespeare.lit/desktop'>
           <x xmlns='http://jabber.org/protocol/muc#user'><decline from='hecate@shakespeare.lit'>
             <reason>Sorry, I'm too busy right now.</reason></decline></x></message>",
    );
    // Once; and not by who was not invited: the room carries no letters for strangers.
    let decline = "<message to='coven@chat.shakespeare.lit'><x xmlns='http://jabber.org/protocol/muc#user'><decline to='crone1@shakespeare.lit'/></x></message>";
    assert_eq!(stage.from(HECATE, decline), []);
    assert_eq!(stage.from("stranger@mantua.lit/x", decline), []);
    stage.refused(HAG, invite, "auth forbidden");
    stage.refused(CRONE, &invite.replace("hecate@shakespeare.lit", "@"), "modify jid-malformed");
    stage.refused(CRONE, &invite.replace(" to='hecate@shakespeare.lit'", ""), "modify bad-request");
}

/// §7.8.2: "If the inviter supplies a non-existent JID".
#[test]
fn invitations_of_nobody() {
    let mut stage = Stage::new(Config::default());
    stage.enter(CRONE, "firstwitch");
    let user = "xmlns='http://jabber.org/protocol/muc#user'";
    let invite = |id: &str, to: &str| format!("<message{id} to='{ROOM}'><x {user}><invite to='{to}'/></x></message>");
    let error = |id: &str, condition: &str| {
        format!(
            "<message type='error'{id} to='{ROOM}'><error type='cancel' by='shakespeare.lit'>
               <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        )
    };
    let (id, banquo) = (" id='i1'", "banquo@shakespeare.lit");
    stage.from(CRONE, &invite(id, banquo));
    // What says nothing of whether there is such an address is not the inviter's business.
    assert_eq!(stage.from(banquo, &error(id, "policy-violation")), []);
    stage.check(
        banquo,
        &error(id, "service-unavailable"),
        &format!(
            "<message type='error' from='{ROOM}' id='i1' to='{CRONE}'><x {user}><invite to='{banquo}'/></x>
               <error type='cancel' by='{ROOM}'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        ),
    );
    // Once, and not for who was not invited or is in the room.
    assert_eq!(stage.from(banquo, &error(id, "service-unavailable")), []);
    stage.from(CRONE, &invite(id, HECATE));
    stage.enter(HECATE, "hecate");
    let got = stage.from(HECATE, &error(id, "item-not-found"));
    assert!(
        got.iter().all(|got| got.stanza.find("x", ns::MUC_USER).is_none_or(|x| !x.to_xml().contains("invite"))),
        "{got:?}"
    );
    // Nor for an invitation that was no message (§9.5).
    stage.from(CRONE, &invite("", banquo));
    assert_eq!(stage.from(banquo, &error("", "item-not-found")), []);
}

/// §7.9: several at once, with the thread that goes on; where JIDs are hidden, the inviter's is.
#[test]
fn continuing_a_conversation() {
    let mut stage = Stage::with_limits(Config::default(), Limits { invitations: 2, ..Limits::default() });
    stage.enter(CRONE, "firstwitch");
    let inside = "<reason>This coven needs both.</reason><continue thread='e0ffe42b28561960c6b12b944a092794b9683a38'/>";
    let xml = format!(
        "<message id='gl3s85n7' to='coven@chat.shakespeare.lit'><x xmlns='http://jabber.org/protocol/muc#user'>
           <invite to='wiccarocks@shakespeare.lit/laptop'>{inside}</invite><invite to='hag66@shakespeare.lit'>{inside}</invite></x></message>"
    );
    let invitation = |to: &str| {
        format!(
            "<message from='coven@chat.shakespeare.lit' id='gl3s85n7' to='{to}'><x xmlns='http://jabber.org/protocol/muc#user'>
               <invite from='coven@chat.shakespeare.lit/firstwitch'>{inside}</invite></x></message>"
        )
    };
    stage.check(CRONE, &xml, &(invitation(WICCA) + &invitation("hag66@shakespeare.lit")));
    // B16: one stanza is not a hundred.
    let many = "<invite to='a@b'/>".repeat(3);
    stage.refused(
        CRONE,
        &format!("<message id='1' to='{ROOM}'><x xmlns='http://jabber.org/protocol/muc#user'>{many}</x></message>"),
        "modify policy-violation",
    );
}

/// §7.8.2, §9.5: who may invite to a members-only room makes members by it.
#[test]
fn inviting_to_a_members_only_room() {
    for allow_invites in [false, true] {
        let config = Config { members_only: true, allow_invites, persistent: true, ..Config::default() };
        let people = [(CRONE, Affiliation::Owner), (WICCA, Affiliation::Member), ("evil@x", Affiliation::Outcast)];
        let mut stage = Stage::of(config, Limits::default(), &people, &[]);
        stage.enter(WICCA, "secondwitch");
        let invite = "<message to='coven@chat.shakespeare.lit'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='hecate@shakespeare.lit'/></x></message>";
        if allow_invites {
            let got = stage.from(WICCA, invite);
            assert_eq!(
                got.iter().map(|got| got.to.as_str()).collect::<Vec<_>>(),
                ["hecate@shakespeare.lit"],
                "{got:?}"
            );
        } else {
            stage.refused(WICCA, invite, "auth forbidden");
        }
        assert_eq!(stage.affiliation(HECATE) == Affiliation::Member, allow_invites);
        stage.from(CRONE, &invite.replace("hecate", "hag66"));
        assert_eq!(stage.affiliation(HAG), Affiliation::Member);
        stage.refused(CRONE, &invite.replace("hecate@shakespeare.lit", "evil@x"), "cancel not-allowed");
    }
    // Invitations to an open room make nobody a member.
    let mut stage = Stage::witches(Config::default());
    stage.from(HAG, "<message to='coven@chat.shakespeare.lit'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='hecate@shakespeare.lit'/></x></message>");
    assert_eq!(stage.affiliation(HECATE), Affiliation::None);
}

const ASK: &str =
    "<iq id='jw81b36f' to='coven@chat.shakespeare.lit' type='get'><query xmlns='jabber:iq:register'/></iq>";

fn register(nick: &str) -> String {
    format!(
        "<iq id='nv71va54' to='coven@chat.shakespeare.lit' type='set'><query xmlns='jabber:iq:register'>
           <x xmlns='jabber:x:data' type='submit'>
             <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>
             <field var='muc#register_roomnick'><value>{nick}</value></field></x></query></iq>"
    )
}

/// §7.10.
#[test]
fn registering_with_a_room() {
    let mut stage = Stage::witches(Config { registration: Registration::Open, ..Config::default() });
    stage.check(
        HAG,
        ASK,
        "<iq from='coven@chat.shakespeare.lit' id='jw81b36f' to='hag66@shakespeare.lit/pda' type='result'>
           <query xmlns='jabber:iq:register'><instructions>To register, fill in the form.</instructions>
             <x xmlns='jabber:x:data' type='form'><title>Registration with the room</title>
               <instructions>Choose the nickname that is to be reserved for you in this room.</instructions>
               <field type='hidden' var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>
               <field label='Desired nickname' type='text-single' var='muc#register_roomnick'><required/></field></x></query></iq>",
    );
    stage.check(
        HAG,
        &register("thirdwitch"),
        "<iq from='coven@chat.shakespeare.lit' id='nv71va54' to='hag66@shakespeare.lit/pda' type='result'/>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='crone1@shakespeare.lit/desktop'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='member' jid='hag66@shakespeare.lit/pda' role='participant'/>
             <mav xmlns='urn:xmpp:muc:affiliations:1' since='3e8' until='3ee'/></x></presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='wiccarocks@shakespeare.lit/laptop'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='member' jid='hag66@shakespeare.lit/pda' role='participant'/>
             <mav xmlns='urn:xmpp:muc:affiliations:1' since='3e8' until='3ee'/></x></presence>
         <presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='member' role='participant'/><status code='110'/></x></presence>",
    );
    stage.check(
        HAG,
        ASK,
        "<iq from='coven@chat.shakespeare.lit' id='jw81b36f' to='hag66@shakespeare.lit/pda' type='result'>
           <query xmlns='jabber:iq:register'><registered/><username>thirdwitch</username></query></iq>",
    );
    // §7.12.
    let reserved = "<iq id='getnick1' to='coven@chat.shakespeare.lit' type='get'><query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/></iq>";
    let answer = |inside: &str, to: &str| {
        format!(
            "<iq from='coven@chat.shakespeare.lit' id='getnick1' to='{to}' type='result'><query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'>{inside}</query></iq>"
        )
    };
    stage.check(HAG, reserved, &answer("<identity category='conference' name='thirdwitch' type='text'/>", HAG));
    stage.check(HECATE, reserved, &answer("", HECATE));
    // Taken.
    stage.refused(HECATE, &register("ThirdWitch"), "cancel conflict");
    stage.refused(HECATE, &register("firstwitch"), "cancel conflict");
    let bad = "<iq id='1' to='coven@chat.shakespeare.lit' type='set'><query xmlns='jabber:iq:register'/></iq>";
    stage.refused(HECATE, bad, "modify bad-request");
    stage.refused(HECATE, &register(""), "modify bad-request");
    // And taken back.
    stage.from(
        HAG,
        &bad.replace("<query xmlns='jabber:iq:register'/>", "<query xmlns='jabber:iq:register'><remove/></query>"),
    );
    assert_eq!((stage.affiliation(HAG), stage.role(HAG)), (Affiliation::None, Role::Participant));
    stage.from(HECATE, &register("hecate"));
    assert_eq!(stage.affiliation(HECATE), Affiliation::Member);
}

#[test]
fn registration_may_be_closed() {
    let mut stage = Stage::witches(Config { registration: Registration::Closed, ..Config::default() });
    stage.refused(HAG, ASK, "cancel not-allowed");
    stage.refused(HAG, &register("thirdwitch"), "cancel service-unavailable");
    // Those who belong to it may have a nickname.
    stage.from(WICCA, &register("secondwitch"));
    assert_eq!(stage.affiliation(WICCA), Affiliation::Admin);
    let banned = [(CRONE, Affiliation::Owner), (HAG, Affiliation::Outcast)];
    let config = Config { registration: Registration::Open, persistent: true, ..Config::default() };
    Stage::of(config, Limits::default(), &banned, &[]).refused(HAG, &register("x"), "cancel not-allowed");
}

/// Whoever asks for membership, from outside of the room too, does not call its admins again and again.
#[test]
fn b16_admins_are_asked_for_somebody_now_and_then() {
    let mut stage = Stage::witches(Config { registration: Registration::Approval, ..Config::default() });
    let told = |got: &[Got]| got.iter().filter(|got| got.to != HECATE).count();
    assert_eq!(told(&stage.from(HECATE, &register("hecate"))), 2);
    let again = stage.from(HECATE, &register("hecate"));
    assert_eq!((told(&again), again.len()), (0, 1));
    stage.refused(HECATE, &register("another"), "wait policy-violation");
    stage.pass(600);
    assert_eq!(told(&stage.from(HECATE, &register("another"))), 2);
}

/// §9.9.
#[test]
fn approving_registration_requests() {
    let mut stage = Stage::witches(Config { members_only: false, ..Config::default() });
    let form = |to: &str, id: u64| {
        format!(
            "<message from='coven@chat.shakespeare.lit' id='form-{id}' to='{to}'><x xmlns='jabber:x:data' type='form'>
               <title>Registration request</title>
               <instructions>To let this person register with the room, check the box and submit the form; to skip this request, cancel it.</instructions>
               <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/muc#register</value></field>
               <field var='muc#jid' type='jid-single' label='User ID'><value>hecate@shakespeare.lit</value></field>
               <field var='muc#register_roomnick' type='text-single' label='Desired nickname'><value>hecate</value></field>
               <field var='muc#register_allow' type='boolean' label='Allow this person to register with the room?'><value>0</value></field>
             </x></message>"
        )
    };
    stage.check(
        HECATE,
        &register("hecate"),
        &("<iq from='coven@chat.shakespeare.lit' id='nv71va54' to='hecate@shakespeare.lit/broom' type='result'/>"
            .to_owned()
            + &form(CRONE, 1004)
            + &form(WICCA, 1004)),
    );
    assert_eq!(stage.affiliation(HECATE), Affiliation::None);
    // An admin who comes later is asked, too; who is none, is not, and may not decide.
    let got = stage.enter("crone1@shakespeare.lit/other", "firstwitch");
    check(&got[got.len() - 1..], &form("crone1@shakespeare.lit/other", 1005));
    let approval = "<message to='coven@chat.shakespeare.lit'><x xmlns='jabber:x:data' type='submit'>
        <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>
        <field var='muc#register_roomnick'><value>hecate</value></field>
        <field var='muc#register_allow'><value>1</value></field></x></message>";
    stage.refused(HAG, approval, "auth forbidden");
    // What the database does not take has not happened: the request waits still.
    stage.answer = Err(Condition::ResourceConstraint.into());
    stage.refused(WICCA, approval, "wait resource-constraint");
    assert_eq!(stage.affiliation(HECATE), Affiliation::None);
    stage.answer = Ok(Stored::Done);
    stage.from(WICCA, approval);
    assert_eq!(stage.affiliation(HECATE), Affiliation::Member);
    stage.refused(WICCA, approval, "cancel item-not-found");
}

const ASK_VOICE: &str = "<message id='yd53c486' to='coven@chat.shakespeare.lit'><x xmlns='jabber:x:data' type='submit'>
    <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field>
    <field var='muc#role' type='list-single' label='Requested role'><value>participant</value></field></x></message>";

fn approve_voice(who: &str, nick: &str, allow: bool) -> String {
    format!(
        "<message id='approve' to='coven@chat.shakespeare.lit'><x xmlns='jabber:x:data' type='submit'>
           <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/muc#request</value></field>
           <field var='muc#role'><value>participant</value></field><field var='muc#jid'><value>{who}</value></field>
           <field var='muc#roomnick'><value>{nick}</value></field>
           <field var='muc#request_allow'><value>{allow}</value></field></x></message>"
    )
}

/// §7.13, §8.6.
#[test]
fn requesting_voice() {
    let mut stage = Stage::witches(Config { moderated: true, ..Config::default() });
    let form = |to: &str| {
        format!(
            "<message from='coven@chat.shakespeare.lit' id='form-1004' to='{to}'><x xmlns='jabber:x:data' type='form'>
               <title>Voice request</title>
               <instructions>To grant voice to this person, check the box and submit the form; to skip this request, cancel it.</instructions>
               <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/muc#request</value></field>
               <field var='muc#role' type='list-single' label='Requested role'><value>participant</value>
                 <option label='Participant'><value>participant</value></option></field>
               <field var='muc#jid' type='jid-single' label='User ID'><value>hag66@shakespeare.lit/pda</value></field>
               <field var='muc#roomnick' type='text-single' label='Room nickname'><value>thirdwitch</value></field>
               <field var='muc#request_allow' type='boolean' label='Grant voice to this person?'><value>0</value></field></x></message>"
        )
    };
    stage.check(HAG, ASK_VOICE, &(form(CRONE) + &form(WICCA)));
    stage.refused(HAG, ASK_VOICE, "wait policy-violation");
    stage.pass(61);
    assert_eq!(stage.from(HAG, ASK_VOICE).len(), 2);
    stage.refused(HECATE, ASK_VOICE, "modify not-acceptable");
    stage.refused(HAG, &approve_voice(HAG, "thirdwitch", true), "auth forbidden");
    assert_eq!(stage.from(CRONE, &approve_voice(HAG, "thirdwitch", false)), []);
    stage.refused(CRONE, &approve_voice(HECATE, "thirdwitch", true), "cancel item-not-found");
    stage.refused(CRONE, &approve_voice(HAG, "nobody", true), "cancel item-not-found");
    stage.check_one(
        CRONE,
        &approve_voice(HAG, "thirdwitch", true),
        HAG,
        "<presence from='coven@chat.shakespeare.lit/thirdwitch' to='hag66@shakespeare.lit/pda'>
           <x xmlns='http://jabber.org/protocol/muc#user'>
             <item affiliation='none' role='participant'><actor nick='firstwitch'/></item><status code='110'/></x></presence>",
    );
    // §5.1: in a moderated room voice lasts across visits.
    stage.from(HAG, "<presence to='coven@chat.shakespeare.lit/thirdwitch' type='unavailable'/>");
    stage.enter(HAG, "thirdwitch");
    assert_eq!(stage.role(HAG), Role::Participant);
    assert_eq!(stage.from(HAG, ASK_VOICE), []);
}

/// The pause between two requests is the person's, whatever they leave and come back by.
#[test]
fn who_comes_back_does_not_ask_for_voice_sooner() {
    let mut stage = Stage::witches(Config { moderated: true, ..Config::default() });
    stage.from(HAG, ASK_VOICE);
    stage.from(HAG, "<presence to='coven@chat.shakespeare.lit/thirdwitch' type='unavailable'/>");
    stage.enter(HAG, "thirdwitch");
    stage.refused(HAG, ASK_VOICE, "wait policy-violation");
    stage.enter("hag66@shakespeare.lit/other", "another");
    stage.refused("hag66@shakespeare.lit/other", ASK_VOICE, "wait policy-violation");
    stage.pass(61);
    assert_eq!(stage.from("hag66@shakespeare.lit/other", ASK_VOICE).len(), 2);
    stage.pass(61);
    let at = stage.at();
    stage.room.tick(at);
    assert!(stage.room.asked_voice.is_empty());
}

/// §8.1.
#[test]
fn modifying_the_room_subject() {
    let mut stage = Stage::witches(Config::default());
    let subject = "<message id='lh2bs617' to='coven@chat.shakespeare.lit' type='groupchat'><subject>Fire Burn and Cauldron Bubble!</subject></message>";
    let got = stage.from(WICCA, subject);
    assert_eq!(got.len(), 3);
    check(
        &got[..1],
        "<message from='coven@chat.shakespeare.lit/secondwitch' id='lh2bs617' to='crone1@shakespeare.lit/desktop' type='groupchat'>
           <subject>Fire Burn and Cauldron Bubble!</subject>
           <stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.shakespeare.lit' id='1004'/></message>",
    );
    assert_eq!(stage.room.subject.as_ref().unwrap().text(), "Fire Burn and Cauldron Bubble!");
    assert!(stage.stored.iter().any(|change| matches!(change, RoomChange::Subject(_))));
    stage.check(
        HAG,
        subject,
        "<message from='coven@chat.shakespeare.lit' id='lh2bs617' to='hag66@shakespeare.lit/pda' type='error'>
           <subject>Fire Burn and Cauldron Bubble!</subject>
           <error by='coven@chat.shakespeare.lit' type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
    );
    // With a body or a thread it is a message like others, and for who may speak.
    for other in ["<body>x</body>", "<thread>x</thread>", "<body/>"] {
        let xml = subject.replace("</message>", &format!("{other}</message>"));
        assert_eq!(stage.from(HAG, &xml).len(), 3);
    }
    assert_eq!(stage.room.subject.as_ref().unwrap().text(), "Fire Burn and Cauldron Bubble!");
    let long = subject.replace("Fire", &"Fire".repeat(2000));
    stage.refused(WICCA, &long, "modify not-acceptable");
    let mut stage = Stage::witches(Config { change_subject: true, ..Config::default() });
    assert_eq!(stage.from(HAG, subject).len(), 3);
    let mut stage = Stage::witches(Config { change_subject: true, moderated: true, ..Config::default() });
    stage.refused(HAG, subject, "auth forbidden");
}

/// §17.4: queries between occupants, without either learning the other's address.
#[test]
fn c5_queries_between_occupants() {
    let mut stage = Stage::witches(Config::default());
    let query =
        "<iq type='get' id='v1' to='coven@chat.shakespeare.lit/firstwitch'><query xmlns='jabber:iq:version'/></iq>";
    stage.check(
        HAG,
        query,
        "<iq type='get' id='room-1' from='coven@chat.shakespeare.lit/thirdwitch' to='crone1@shakespeare.lit/desktop'>
           <query xmlns='jabber:iq:version'/></iq>",
    );
    // Nobody answers in another's place, and nobody twice.
    let answer = "<iq type='result' id='room-1' to='coven@chat.shakespeare.lit/thirdwitch'><query xmlns='jabber:iq:version'><name>Exodus</name></query></iq>";
    assert_eq!(stage.from(WICCA, answer), []);
    assert_eq!(stage.from(HECATE, answer), []);
    stage.check(
        CRONE,
        answer,
        "<iq type='result' id='v1' from='coven@chat.shakespeare.lit/firstwitch' to='hag66@shakespeare.lit/pda'>
           <query xmlns='jabber:iq:version'><name>Exodus</name></query></iq>",
    );
    assert_eq!(stage.from(CRONE, answer), []);
    // An error says no address.
    stage.from(HAG, query);
    stage.check(
        CRONE,
        "<iq type='error' id='room-2' to='coven@chat.shakespeare.lit/thirdwitch'><query xmlns='jabber:iq:version'/>
           <error type='cancel' by='crone1@shakespeare.lit/desktop'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>
           <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>crone1@shakespeare.lit/desktop does not tell</text></error></iq>",
        "<iq type='error' id='v1' from='coven@chat.shakespeare.lit/firstwitch' to='hag66@shakespeare.lit/pda'>
           <error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
    );
    // A vCard is asked of the account, and comes from it.
    stage.check(
        HAG,
        "<iq type='get' id='v2' to='coven@chat.shakespeare.lit/firstwitch'><vCard xmlns='vcard-temp'/></iq>",
        "<iq type='get' id='room-3' from='coven@chat.shakespeare.lit/thirdwitch' to='crone1@shakespeare.lit'><vCard xmlns='vcard-temp'/></iq>",
    );
    stage.check(
        "crone1@shakespeare.lit",
        "<iq type='result' id='room-3' to='coven@chat.shakespeare.lit/thirdwitch'><vCard xmlns='vcard-temp'><FN>Crone</FN></vCard></iq>",
        "<iq type='result' id='v2' from='coven@chat.shakespeare.lit/firstwitch' to='hag66@shakespeare.lit/pda'><vCard xmlns='vcard-temp'><FN>Crone</FN></vCard></iq>",
    );
    stage.refused(HAG, &query.replace("firstwitch", "nobody"), "cancel item-not-found");
    // §6.6 and XEP-0410 for who is outside.
    stage.refused(HECATE, query, "cancel not-acceptable");
    for ns in ["http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items"] {
        stage.refused(HECATE, &query.replace("jabber:iq:version", ns), "modify bad-request");
        stage.refused(
            HECATE,
            &query.replace("jabber:iq:version", ns).replace("firstwitch", "nobody"),
            "modify bad-request",
        );
    }
    // They do not pile up.
    for _ in 0..20 {
        stage.from(HAG, query);
    }
    stage.refused(HAG, query, "wait resource-constraint");
    stage.pass(301);
    assert_eq!(stage.from(HAG, query)[0].to, CRONE);
}

/// XEP-0410.
#[test]
fn self_ping() {
    let mut stage = Stage::witches(Config::default());
    let ping = "<iq id='s2c1' type='get' to='coven@chat.shakespeare.lit/thirdwitch'><ping xmlns='urn:xmpp:ping'/></iq>";
    stage.check(
        HAG,
        ping,
        "<iq from='coven@chat.shakespeare.lit/thirdwitch' id='s2c1' type='result' to='hag66@shakespeare.lit/pda'/>",
    );
    stage.enter("hag66@shakespeare.lit/phone", "thirdwitch");
    stage.check(
        HAG,
        ping,
        "<iq from='coven@chat.shakespeare.lit/thirdwitch' id='s2c1' type='result' to='hag66@shakespeare.lit/pda'/>",
    );
    stage.check(
        HECATE,
        ping,
        "<iq from='coven@chat.shakespeare.lit/thirdwitch' id='s2c1' type='error' to='hecate@shakespeare.lit/broom'>
           <ping xmlns='urn:xmpp:ping'/>
           <error type='cancel' by='coven@chat.shakespeare.lit'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
    );
    assert_eq!(stage.from(HAG, &ping.replace("thirdwitch", "firstwitch"))[0].to, CRONE);
}

/// §17.4, RFC 6120 §8.2.3: who has asked somebody who goes without an answer is told, and hears no answer afterwards.
#[test]
fn who_was_asked_has_gone() {
    let mut stage = Stage::witches(Config::default());
    let ask = format!("<iq type='get' id='7' to='{ROOM}/thirdwitch'><query xmlns='jabber:iq:version'/></iq>");
    let got = stage.from(CRONE, &ask);
    let id = got.first().unwrap().stanza.head.id.clone().unwrap();
    let got = stage.from(HAG, &format!("<presence type='unavailable' to='{ROOM}/thirdwitch'/>"));
    let told: Vec<String> = got
        .iter()
        .filter(|got| matches!(got.stanza.head.kind, Kind::Iq(IqType::Error)))
        .map(|got| got.stanza.to_xml())
        .collect();
    assert!(told.len() == 1 && told[0].contains("id='7'") && told[0].contains("<item-not-found "), "{got:?}");
    assert!(!told[0].contains("hag66"), "{told:?}");
    let late = format!("<iq type='result' id='{id}' to='{ROOM}/firstwitch'><query xmlns='jabber:iq:version'/></iq>");
    assert!(stage.from(HAG, &late).is_empty());
}
