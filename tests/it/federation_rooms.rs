//! Rooms (XEP-0045) with people of two servers in them, and our users in rooms of another server.

use std::time::Duration;

use rookery_core::remote::Failure;
use rookery_core::store::{AccountStore, StoreError};
use rookery_xmpp::error::Condition;
use rookery_xmpp::sasl::Credentials;

use crate::verona::{BENVOLIO, CAPULET, JULIET, MONTAGUE, NURSE, ROMEO, Verona};
use crate::world::{Client, bodies, jid};

const HALL: &str = "hall@conference.capulet.example";
const MUC: &str = "<x xmlns='http://jabber.org/protocol/muc'/>";

/// Rooms that are open as soon as they are made.
const OPEN: &str = "[modules.muc]\nlock_new = false\n";

impl Verona {
    async fn with_rooms() -> Self {
        Self::with_conf(OPEN).await
    }

    async fn enter(&self, who: &Client, nick: &str) -> String {
        who.send(&format!("<presence to='{HALL}/{nick}'>{MUC}</presence>")).await;
        self.read(who).await
    }

    async fn say(&self, who: &Client, text: &str) {
        who.send(&format!("<message type='groupchat' id='{text}' to='{HALL}'><body>{text}</body></message>")).await;
        self.settle().await;
    }

    async fn ask(&self, who: &Client, kind: &str, to: &str, payload: &str) -> String {
        who.send(&format!("<iq type='{kind}' id='q' to='{to}'>{payload}</iq>")).await;
        self.read(who).await
    }

    /// So many of the Montagues come in.
    async fn guests(&self, many: usize) -> Vec<Client> {
        let credentials = Credentials::from_password("secret", 4096).unwrap();
        let mut guests = Vec::new();
        for number in 0..many {
            let guest = format!("guest{number}@{MONTAGUE}");
            assert!(self.montague.store.create_account(&jid(&guest), &credentials).await.unwrap());
            let guest = self.montague.bind(&guest, "x").await;
            guest.send(&format!("<presence to='{HALL}/guest{number}'>{MUC}</presence>")).await;
            guests.push(guest);
        }
        self.settle().await;
        guests
    }

    /// Juliet makes a room on her server; Romeo enters, and so does her nurse.
    async fn ball(&self) -> (Client, Client, Client) {
        let juliet = self.login(JULIET, "balcony").await;
        let (romeo, nurse) = (self.login(ROMEO, "orchard").await, self.login(NURSE, "chamber").await);
        let made = self.enter(&juliet, "juliet").await;
        assert!(made.contains("code='201'"), "{made}");
        self.enter(&romeo, "romeo").await;
        self.enter(&nurse, "nurse").await;
        for client in [&juliet, &romeo, &nurse] {
            client.read();
        }
        (romeo, juliet, nurse)
    }
}

#[tokio::test(start_paused = true)]
async fn people_of_two_servers_talk_in_a_room() {
    let verona = Verona::with_rooms().await;
    let (juliet, romeo) = (verona.login(JULIET, "balcony").await, verona.login(ROMEO, "orchard").await);
    verona.enter(&juliet, "juliet").await;
    verona.say(&juliet, "before").await;
    let got = verona.enter(&romeo, "romeo").await;
    let order = ["/juliet'", "/romeo'", "<body>before</body>", "urn:xmpp:delay", "<subject"];
    let places: Vec<_> = order.iter().map(|text| got.find(text).unwrap_or_else(|| panic!("{text} in {got}"))).collect();
    assert!(places.is_sorted(), "{places:?} {got}");
    assert!(juliet.read().contains(&format!("jid='{ROMEO}/orchard'")), "moderators see who it is");
    assert!(!got.contains(JULIET), "others do not: {got}");
    verona.say(&romeo, "here").await;
    verona.say(&juliet, "there").await;
    assert_eq!(juliet.bodies(), ["here", "there"]);
    let got = romeo.read();
    assert_eq!(bodies(&got), ["here", "there"]);
    assert!(got.contains(&format!("by='{HALL}'")) && got.contains("<occupant-id"), "{got}");
    // He takes another nickname, says what he is doing, and goes.
    verona.send(&romeo, &format!("<presence to='{HALL}/pilgrim'/>")).await;
    let got = juliet.read();
    assert!(got.contains("code='303'") && got.contains(&format!("from='{HALL}/pilgrim'")), "{got}");
    verona.send(&romeo, &format!("<presence to='{HALL}/pilgrim'><show>away</show></presence>")).await;
    assert!(juliet.read().contains("<show>away</show>"));
    verona
        .send(&romeo, &format!("<presence type='unavailable' to='{HALL}/pilgrim'><status>bye</status></presence>"))
        .await;
    let got = juliet.read();
    assert!(got.contains("type='unavailable'") && got.contains("<status>bye</status>"), "{got}");
    assert_eq!(verona.wire.refused(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_ends_the_session_is_out_of_the_room() {
    let verona = Verona::with_rooms().await;
    let (romeo, juliet, _nurse) = verona.ball().await;
    romeo.leave().await;
    let got = verona.read(&juliet).await;
    assert!(got.contains(&format!("from='{HALL}/romeo'")) && got.contains("type='unavailable'"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn people_of_other_servers_are_kicked_banned_and_given_affiliations() {
    let verona = Verona::with_rooms().await;
    let (romeo, juliet, nurse) = verona.ball().await;
    let admin = |item: &str| format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>");
    let kick = admin("<item nick='romeo' role='none'><reason>thumb biting</reason></item>");
    assert!(verona.ask(&juliet, "set", HALL, &kick).await.contains("type='result'"));
    let got = romeo.read();
    assert!(got.contains("code='307'") && got.contains("thumb biting"), "{got}");
    verona.enter(&romeo, "romeo").await;
    let ban = admin(&format!("<item jid='{MONTAGUE}' affiliation='outcast'/>"));
    assert!(verona.ask(&juliet, "set", HALL, &ban).await.contains("type='result'"));
    assert!(romeo.read().contains("code='301'"));
    assert!(verona.enter(&romeo, "romeo").await.contains("<forbidden"));
    let benvolio = verona.login(BENVOLIO, "street").await;
    assert!(verona.enter(&benvolio, "benvolio").await.contains("<forbidden"), "the whole domain");
    // One of them is a member all the same.
    let member = admin(&format!("<item jid='{ROMEO}' affiliation='member'/>"));
    assert!(verona.ask(&juliet, "set", HALL, &member).await.contains("type='result'"));
    assert!(verona.enter(&romeo, "romeo").await.contains("code='110'"));
    nurse.read();
    // He may not do what she may.
    let got = verona.ask(&romeo, "set", HALL, &admin("<item nick='nurse' role='none'/>")).await;
    assert!(got.contains("<forbidden") && nurse.read().is_empty(), "{got}");
    let admin_now = admin(&format!("<item jid='{ROMEO}' affiliation='admin'/>"));
    verona.ask(&juliet, "set", HALL, &admin_now).await;
    romeo.read();
    let got = verona.ask(&romeo, "set", HALL, &admin("<item nick='nurse' role='none'/>")).await;
    assert!(got.contains("type='result'") && nurse.read().contains("code='307'"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn private_messages_and_questions_pass_between_servers() {
    let verona = Verona::with_rooms().await;
    let (romeo, juliet, _nurse) = verona.ball().await;
    let whisper = |to: &str| {
        format!(
            "<message type='chat' id='w' to='{HALL}/{to}'><body>psst</body>{}</message>",
            "<x xmlns='http://jabber.org/protocol/muc#user'/>"
        )
    };
    verona.send(&romeo, &whisper("juliet")).await;
    let got = juliet.read();
    assert!(got.contains(&format!("from='{HALL}/romeo'")) && got.contains("psst"), "{got}");
    verona.send(&juliet, &whisper("romeo")).await;
    let got = romeo.read();
    assert!(got.contains(&format!("from='{HALL}/juliet'")) && got.contains("psst"), "{got}");
    // It is in the archive of who got it, by the occupant JID (XEP-0313 §6.1).
    romeo.send("<iq type='set' id='a'><query xmlns='urn:xmpp:mam:2' queryid='a'/></iq>").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let got = verona.read(&romeo).await;
    assert!(got.matches("psst").count() == 2 && got.contains(&format!("from='{HALL}/juliet'")), "{got}");
    assert!(!got.contains("groupchat"), "{got}");
    // XEP-0410: the self-ping of somebody who is in, and of somebody who is not.
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let got = verona.ask(&romeo, "get", &format!("{HALL}/romeo"), ping).await;
    assert!(got.contains("type='result'") && got.contains(&format!("from='{HALL}/romeo'")), "{got}");
    let benvolio = verona.login(BENVOLIO, "street").await;
    let got = verona.ask(&benvolio, "get", &format!("{HALL}/benvolio"), ping).await;
    assert!(got.contains("<not-acceptable"), "{got}");
    // An IQ to an occupant goes to its client, without the real JID.
    romeo.send(&format!("<iq type='get' id='v' to='{HALL}/juliet'><query xmlns='jabber:iq:version'/></iq>")).await;
    let got = verona.read(&juliet).await;
    assert!(got.contains(&format!("from='{HALL}/romeo'")) && !got.contains(ROMEO), "{got}");
    let id = got.split(" id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    verona
        .send(
            &juliet,
            &format!("<iq type='result' id='{id}' to='{HALL}/romeo'><query xmlns='jabber:iq:version'/></iq>"),
        )
        .await;
    let got = romeo.read();
    assert!(got.contains(" id='v'") && got.contains(&format!("from='{HALL}/juliet'")), "{got}");
}

#[tokio::test(start_paused = true)]
async fn invitations_go_both_ways() {
    let verona = Verona::with_rooms().await;
    let (romeo, juliet, _nurse) = verona.ball().await;
    let benvolio = verona.login(BENVOLIO, "street").await;
    let invite = |who: &str| {
        format!(
            "<message id='i' to='{HALL}'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='{who}'><reason>come</reason></invite></x></message>"
        )
    };
    // Somebody of her server invites one of the other, and one who is there from the other server his friend.
    for inviter in [&juliet, &romeo] {
        verona.send(inviter, &invite(BENVOLIO)).await;
        let got = benvolio.read();
        assert!(got.contains(&format!("from='{HALL}'")) && got.contains("<reason>come</reason>"), "{got}");
        let decline =
            "<x xmlns='http://jabber.org/protocol/muc#user'><decline to='x@y'><reason>no</reason></decline></x>";
        verona.send(&benvolio, &format!("<message id='d' to='{HALL}'>{decline}</message>")).await;
        let got = inviter.read();
        assert!(got.contains("<decline") && got.contains(BENVOLIO), "{got}");
    }
    // Nobody is there: whoever invites learns it.
    for nobody in ["friar@mantua.example"] {
        verona.send(&romeo, &invite(nobody)).await;
        let got = romeo.read();
        assert!(got.contains("type='error'") && got.contains("<item-not-found") && got.contains(nobody), "{got}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_archive_of_a_room_is_for_those_who_may_enter() {
    let verona = Verona::with_rooms().await;
    let (romeo, juliet, _nurse) = verona.ball().await;
    for text in ["one", "two"] {
        verona.say(&romeo, text).await;
    }
    romeo.read();
    let query = "<query xmlns='urn:xmpp:mam:2' queryid='a'/>";
    async fn found(verona: &Verona, who: &Client, query: &str) -> String {
        who.send(&format!("<iq type='set' id='a' to='{HALL}'>{query}</iq>")).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        verona.read(who).await
    }
    let got = found(&verona, &romeo, query).await;
    assert_eq!(bodies(&got), ["one", "two"], "{got}");
    assert!(got.contains("<fin"), "{got}");
    let ban = format!(
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item jid='{ROMEO}' affiliation='outcast'/></query>"
    );
    verona.ask(&juliet, "set", HALL, &ban).await;
    romeo.read();
    let got = found(&verona, &romeo, query).await;
    assert!(got.contains("<forbidden") && bodies(&got).is_empty(), "{got}");
    // Nobody asks for an account's.
    romeo.send(&format!("<iq type='set' id='b' to='{JULIET}'>{query}</iq>")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let got = verona.read(&romeo).await;
    assert!(got.contains("<service-unavailable"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn a_room_and_its_service_say_what_they_are() {
    let verona = Verona::with_rooms().await;
    let (romeo, juliet, _nurse) = verona.ball().await;
    let items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
    let got = verona.ask(&romeo, "get", CAPULET, items).await;
    assert!(got.contains("jid='conference.capulet.example'"), "{got}");
    let got = verona.ask(&romeo, "get", "conference.capulet.example", items).await;
    assert!(got.contains(&format!("jid='{HALL}'")), "{got}");
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    for (to, feature) in
        [(HALL, "muc_open"), ("conference.capulet.example", "urn:xmpp:ping"), (CAPULET, "urn:xmpp:ping")]
    {
        let got = verona.ask(&romeo, "get", to, info).await;
        assert!(got.contains(feature), "{to}: {got}");
    }
    let vcard = "<vCard xmlns='vcard-temp'><PHOTO><TYPE>image/png</TYPE><BINVAL>AAAA</BINVAL></PHOTO></vCard>";
    assert!(verona.ask(&juliet, "set", HALL, vcard).await.contains("type='result'"));
    romeo.read();
    let got = verona.ask(&romeo, "get", HALL, "<vCard xmlns='vcard-temp'/>").await;
    assert!(got.contains("<BINVAL>AAAA</BINVAL>"), "{got}");
}

/// What only a room may say is not believed from another server either (security.md C3).
#[tokio::test(start_paused = true)]
async fn c3_what_only_the_room_may_say_is_taken_out() {
    let verona = Verona::with_rooms().await;
    let (romeo, juliet, _nurse) = verona.ball().await;
    let forged = format!(
        "<stanza-id xmlns='urn:xmpp:sid:0' by='{HALL}' id='forged'/><occupant-id xmlns='urn:xmpp:occupant-id:0' id='forged'/>\
         <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator'/></x>"
    );
    // As a server would send it that takes nothing out of what its users write.
    let speak = |kind: &str, to: &str| {
        format!("<message type='{kind}' from='{ROMEO}/orchard' to='{to}' id='{kind}'><body>x</body>{forged}</message>")
    };
    for (kind, to) in [("groupchat", HALL.to_owned()), ("chat", format!("{HALL}/juliet"))] {
        verona.capulet.route(&speak(kind, &to)).await;
        let got = verona.read(&juliet).await;
        assert!(got.contains("<body>x</body>") && !got.contains("forged") && !got.contains("'owner'"), "{got}");
    }
    drop(romeo);
}

fn gone_for_good() -> Failure {
    Failure { definite: true, condition: Condition::RemoteServerNotFound, text: "no such domain".to_owned() }
}

/// What cannot be brought to an occupant comes back through the room: nobody learns from its failure who that is (security.md C5).
#[tokio::test(start_paused = true)]
async fn c5_a_private_message_that_fails_names_nobody() {
    let verona = Verona::with_rooms().await;
    let (_romeo, _juliet, nurse) = verona.ball().await;
    nurse.send("<enable xmlns='urn:xmpp:sm:3'/>").await;
    nurse.read();
    for failure in [gone_for_good(), Failure { definite: false, ..gone_for_good() }] {
        let is_definite = failure.definite;
        verona.wire.fail(MONTAGUE, failure);
        // What is not on disk yet is still waited for.
        verona.capulet.store.pause_commits();
        nurse.send(&format!("<message type='chat' id='p' to='{HALL}/romeo'><body>psst</body></message>")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if !is_definite {
            verona.capulet.store.fail(Some(StoreError::Full("no space".into())));
        }
        verona.capulet.store.resume_commits();
        tokio::time::sleep(Duration::from_secs(20)).await;
        verona.capulet.store.fail(None);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let got = nurse.read();
        assert!(!got.contains(ROMEO) && !got.contains("montague"), "{got}");
        assert!(got.contains("type='error'") || got.contains("code='333'"), "{got}");
        verona.wire.mend(MONTAGUE);
        let romeo = verona.login(ROMEO, "orchard").await;
        verona.enter(&romeo, "romeo").await;
        nurse.read();
    }
}

/// Those of a server that cannot be reached leave together (333), and nobody of them is told of the others.
#[tokio::test(start_paused = true)]
async fn ghosts_go_when_their_server_cannot_be_reached() {
    let verona = Verona::with_rooms().await;
    let (romeo, juliet, nurse) = verona.ball().await;
    let benvolio = verona.login(BENVOLIO, "street").await;
    verona.enter(&benvolio, "benvolio").await;
    for client in [&romeo, &juliet, &nurse] {
        client.read();
    }
    verona.wire.fail(MONTAGUE, gone_for_good());
    verona.say(&juliet, "anybody there").await;
    let got = verona.read(&nurse).await;
    for nick in ["romeo", "benvolio"] {
        let presence = got.split("<presence").find(|presence| presence.contains(&format!("/{nick}'")));
        let presence = presence.unwrap_or_else(|| panic!("{nick} in {got}"));
        assert!(presence.contains("type='unavailable'") && presence.contains("code='333'"), "{presence}");
    }
    assert_eq!(got.matches("<presence").count(), 2, "{got}");
    // They come back, and enter anew.
    verona.wire.mend(MONTAGUE);
    verona.settle().await;
    let got = verona.enter(&romeo, "romeo").await;
    assert!(got.contains("code='110'"), "{got}");
}

/// A black hole: after the conf's time what was said comes back, and with it go those who did not get it.
#[tokio::test(start_paused = true)]
async fn ghosts_go_when_their_server_is_silent() {
    let verona = Verona::with_rooms().await;
    let (romeo, juliet, nurse) = verona.ball().await;
    verona.wire.cut(MONTAGUE);
    verona.say(&juliet, "anybody there").await;
    assert_eq!(nurse.bodies(), ["anybody there"], "the others go on");
    tokio::time::sleep(Duration::from_secs(310)).await;
    let got = verona.read(&nurse).await;
    assert!(got.contains(&format!("from='{HALL}/romeo'")) && got.contains("code='333'"), "{got}");
    verona.say(&juliet, "alone").await;
    verona.wire.mend(MONTAGUE);
    let got = verona.read(&romeo).await;
    assert!(!got.contains("alone"), "{got}");
}

/// A client of the other server that is there no more: its server says so, and it is out.
#[tokio::test(start_paused = true)]
async fn ghosts_go_when_their_server_says_so() {
    let mut verona = Verona::with_rooms().await;
    let (_romeo, juliet, nurse) = verona.ball().await;
    // Killed before anything was noted: nobody tells the room.
    verona.kill_montague().await;
    verona.say(&juliet, "anybody there").await;
    let got = verona.read(&nurse).await;
    assert!(got.contains(&format!("from='{HALL}/romeo'")) && got.contains("code='333'"), "{got}");
}

/// Our users are out of others' rooms after a crash, since the server says so when it is up again.
#[tokio::test(start_paused = true)]
async fn a_crash_takes_our_users_out_of_rooms_elsewhere() {
    let mut verona = Verona::with_rooms().await;
    let (_romeo, juliet, _nurse) = verona.ball().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    juliet.read();
    verona.kill_montague().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let got = verona.read(&juliet).await;
    assert!(got.contains(&format!("from='{HALL}/romeo'")) && got.contains("type='unavailable'"), "{got}");
}

/// The room's own server ends and starts again: those of the other one are in it still, if they are there.
#[tokio::test(start_paused = true)]
async fn people_of_other_servers_stay_over_a_restart_if_they_are_there() {
    let mut verona = Verona::with_rooms().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    let benvolio = verona.login(BENVOLIO, "street").await;
    const SQUARE: &str = "square@conference.montague.example";
    let enter = |nick: &str| format!("<presence to='{SQUARE}/{nick}'>{MUC}</presence>");
    for (client, nick) in [(&romeo, "romeo"), (&juliet, "juliet")] {
        verona.send(client, &enter(nick)).await;
        client.read();
    }
    let nurse = verona.login(NURSE, "chamber").await;
    verona.send(&nurse, &enter("nurse")).await;
    let config = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>\
                  <field var='muc#roomconfig_persistentroom'><value>1</value></field></x>";
    let got = verona
        .ask(&romeo, "set", SQUARE, &format!("<query xmlns='http://jabber.org/protocol/muc#owner'>{config}</query>"))
        .await;
    assert!(got.contains("type='result'"), "{got}");
    verona.settle().await;
    juliet.read();
    nurse.read();
    benvolio.read();
    // The nurse goes while nobody can hear it.
    verona.wire.cut(MONTAGUE);
    nurse.leave().await;
    verona.montague.stop().await;
    assert_eq!(juliet.read(), "", "nobody is told that the room ends, since it does not");
    verona.kill_montague().await;
    verona.settle().await;
    // The server asks; her client answers, the nurse's server says that she is not there.
    let got = juliet.read();
    assert!(got.contains("urn:xmpp:ping") && got.contains(&format!("from='{SQUARE}'")), "{got}");
    verona.send(&juliet, &format!("<iq type='result' id='whether-there' to='{SQUARE}'/>")).await;
    juliet.read();
    let benvolio = verona.login(BENVOLIO, "street").await;
    verona.send(&benvolio, &enter("benvolio")).await;
    let got = benvolio.read();
    assert!(got.contains(&format!("from='{SQUARE}/juliet'")), "{got}");
    for gone in ["nurse", "romeo"] {
        assert!(!got.contains(&format!("from='{SQUARE}/{gone}'")), "{got}");
    }
    verona
        .send(&benvolio, &format!("<message type='groupchat' id='m' to='{SQUARE}'><body>good morrow</body></message>"))
        .await;
    assert_eq!(juliet.bodies(), ["good morrow"]);
}

/// A server that takes each stanza slowly makes nobody else wait.
#[tokio::test(start_paused = true)]
async fn a_slow_server_slows_no_room() {
    let verona = Verona::with_rooms().await;
    let (romeo, juliet, nurse) = verona.ball().await;
    verona.wire.slow(MONTAGUE, Duration::from_secs(2));
    let begun = tokio::time::Instant::now();
    for number in 0..50 {
        juliet
            .send(&format!("<message type='groupchat' id='{number}' to='{HALL}'><body>{number}</body></message>"))
            .await;
    }
    let all: Vec<_> = (0..50).map(|number: u32| number.to_string()).collect();
    assert_eq!(nurse.bodies(), all);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    verona.settle().await;
    assert_eq!(romeo.bodies(), all, "in order");
}

/// A link that is full: those behind it are out, and told nothing in silence.
#[tokio::test(start_paused = true)]
async fn who_cannot_be_sent_more_is_taken_out() {
    let verona = Verona::with_conf(&format!("{OPEN}[s2s]\nqueue = \"64 KiB\"\n")).await;
    let (romeo, juliet, nurse) = verona.ball().await;
    verona.wire.cut(MONTAGUE);
    let long = "x".repeat(10_000);
    for number in 0..8 {
        juliet
            .send(&format!("<message type='groupchat' id='{number}' to='{HALL}'><body>{long}</body></message>"))
            .await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let got = nurse.read();
    assert_eq!(bodies(&got).len(), 8);
    assert!(got.contains(&format!("from='{HALL}/romeo'")) && got.contains("code='333'"), "{}", got.replace(&long, ""));
    verona.wire.mend(MONTAGUE);
    let ping = verona.ask(&romeo, "get", &format!("{HALL}/romeo"), "<ping xmlns='urn:xmpp:ping'/>").await;
    assert!(ping.contains("<not-acceptable"), "his client finds out: {}", ping.replace(&long, ""));
}

/// A server that takes its people's presence in a room with it: each of them leaves once, and what is said of that stays
/// within bounds.
#[tokio::test(start_paused = true)]
async fn c9_b16_those_of_a_dead_server_leave_once_and_together() {
    const MANY: usize = 200;
    let verona = Verona::with_rooms().await;
    let (romeo, juliet, nurse) = verona.ball().await;
    let guests = verona.guests(MANY).await;
    let here = verona.read(&nurse).await.matches("<presence").count();
    assert_eq!(here, guests.len());
    romeo.read();
    juliet.read();
    let before = verona.wire.carried();
    verona.wire.fail(MONTAGUE, gone_for_good());
    verona.say(&juliet, "anybody there").await;
    let got = verona.read(&nurse).await;
    assert_eq!(got.matches("<presence").count(), MANY + 1, "each of them, and Romeo, once");
    assert_eq!(got.matches("code='333'").count(), MANY + 1);
    assert!(verona.wire.carried() - before <= 2, "nothing gets there, and next to nothing comes from there");
    assert_eq!(verona.wire.refused(), [""; 0]);
    juliet.read();
    let items = "<query xmlns='http://jabber.org/protocol/muc#admin'><item role='participant'/></query>";
    let got = verona.ask(&juliet, "get", HALL, items).await;
    assert!(got.contains("nick='nurse'") && !got.contains("guest") && !got.contains("romeo"), "{got}");
}

/// A message to many of another server: they all get it in order, and the speaker waits for none of them.
#[tokio::test(start_paused = true)]
async fn a_large_room_goes_into_the_link() {
    const MANY: usize = 200;
    let verona = Verona::with_rooms().await;
    let juliet = verona.login(JULIET, "balcony").await;
    verona.enter(&juliet, "juliet").await;
    let guests = verona.guests(MANY).await;
    verona.settle().await;
    verona.wire.cut(MONTAGUE);
    juliet.read();
    let begun = tokio::time::Instant::now();
    for number in 0..10 {
        juliet
            .send(&format!("<message type='groupchat' id='{number}' to='{HALL}'><body>{number}</body></message>"))
            .await;
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(juliet.bodies().len(), 10);
    let waits = verona.capulet.server.remote(&jid(MONTAGUE)).unwrap();
    let stanzas: usize = waits.links.iter().map(|link| link.stanzas).sum();
    assert!(stanzas >= 10 * MANY, "{stanzas}");
    verona.wire.mend(MONTAGUE);
    verona.settle().await;
    let all: Vec<_> = (0..10).map(|number: u32| number.to_string()).collect();
    for guest in guests {
        assert_eq!(guest.bodies(), all);
    }
}

/// Members of another server who are not in the room are told that something was said.
#[tokio::test(start_paused = true)]
async fn members_of_another_server_who_are_away_are_told() {
    let verona = Verona::with_conf(&format!("{OPEN}notify_away = \"all\"\n")).await;
    let (romeo, juliet, _nurse) = verona.ball().await;
    let benvolio = verona.login(BENVOLIO, "street").await;
    let member = format!(
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item jid='{BENVOLIO}' affiliation='member' nick='cousin'/></query>"
    );
    assert!(verona.ask(&juliet, "set", HALL, &member).await.contains("type='result'"));
    benvolio.read();
    verona.say(&romeo, "here").await;
    let got = benvolio.read();
    assert!(got.contains(&format!("from='{HALL}'")) && got.contains("new messages"), "{got}");
}

/// Whoever asks an archive from a server that is slow, or has little room, gets all of it, or is told that it is not all.
#[tokio::test(start_paused = true)]
async fn an_archive_goes_at_the_pace_of_the_link() {
    let verona = Verona::with_conf(&format!("{OPEN}archive_page_most = 100\n[s2s]\nqueue = \"64 KiB\"\n")).await;
    let (romeo, juliet, nurse) = verona.ball().await;
    let long = "x".repeat(4000);
    for number in 0..60 {
        let body = format!("<body>{number} {long}</body>");
        verona.send(&juliet, &format!("<message type='groupchat' id='{number}' to='{HALL}'>{body}</message>")).await;
        // The room lets nobody speak without end.
        tokio::time::sleep(Duration::from_millis(100)).await;
        juliet.read();
        nurse.read();
        assert_eq!(romeo.bodies().len(), 1, "{number}");
    }
    verona.wire.slow(MONTAGUE, Duration::from_millis(200));
    let page = "<set xmlns='http://jabber.org/protocol/rsm'><max>60</max></set>";
    let ask =
        |id: &str| format!("<iq type='set' id='{id}' to='{HALL}'><query xmlns='urn:xmpp:mam:2'>{page}</query></iq>");
    romeo.send(&ask("slow")).await;
    let mut got = String::new();
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        got += &romeo.read();
    }
    assert_eq!(bodies(&got).len(), 60, "{}", got.replace(&long, ""));
    assert!(got.contains("<fin"), "{}", got.replace(&long, ""));
    // Nobody takes it: the query is given up, and that it is not all is told when there is a way again.
    romeo.send(&ask("stuck")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    verona.wire.cut(MONTAGUE);
    tokio::time::sleep(Duration::from_secs(90)).await;
    verona.wire.mend(MONTAGUE);
    let got = verona.read(&romeo).await;
    assert!(bodies(&got).len() < 60 && !got.contains("<fin"), "{}", got.replace(&long, ""));
    assert!(got.contains("id='stuck'") && got.contains("<resource-constraint"), "{}", got.replace(&long, ""));
}

/// Rooms are for people of the own server to make, if the conf says nothing else.
#[tokio::test(start_paused = true)]
async fn people_of_other_servers_make_no_rooms() {
    for (create, expected) in [("local", "<not-allowed"), ("anybody", "code='201'")] {
        let verona = Verona::with_conf(&format!("{OPEN}create = \"{create}\"\n")).await;
        let romeo = verona.login(ROMEO, "orchard").await;
        let got = verona.enter(&romeo, "romeo").await;
        assert!(got.contains(expected), "{create}: {got}");
    }
}

/// A room that was never configured ends with its server, and whoever waits in it is told so (332).
#[tokio::test(start_paused = true)]
async fn whoever_waits_in_a_room_without_configuration_is_told_of_its_end() {
    let verona = Verona::with_conf("[modules.muc]\ncreate = \"anybody\"\n").await;
    let romeo = verona.login(ROMEO, "orchard").await;
    assert!(verona.enter(&romeo, "romeo").await.contains("code='201'"));
    verona.capulet.stop().await;
    let got = verona.read(&romeo).await;
    assert!(got.contains("type='unavailable'") && got.contains("code='332'"), "{got}");
}

/// A server that cannot be connected to for a moment loses nobody by what one of its people says; when its time is up, all.
#[tokio::test(start_paused = true)]
async fn nobody_speaks_for_the_others_of_a_server() {
    let verona = Verona::with_rooms().await;
    let (_romeo, juliet, nurse) = verona.ball().await;
    let benvolio = verona.login(BENVOLIO, "street").await;
    verona.enter(&benvolio, "benvolio").await;
    let refused = Failure { definite: false, condition: Condition::RemoteServerTimeout, text: "refused".to_owned() };
    verona.wire.fail(MONTAGUE, refused);
    verona.say(&juliet, "anybody there").await;
    juliet.read();
    nurse.read();
    let error = "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    verona
        .capulet
        .route(&format!("<message type='error' id='e' from='{ROMEO}/orchard' to='{HALL}/juliet'>{error}</message>"))
        .await;
    let got = verona.read(&nurse).await;
    assert!(got.contains(&format!("from='{HALL}/romeo'")) && got.contains("code='333'"), "{got}");
    assert!(!got.contains("benvolio"), "{got}");
    tokio::time::sleep(Duration::from_secs(310)).await;
    let got = verona.read(&nurse).await;
    assert!(got.contains(&format!("from='{HALL}/benvolio'")) && got.contains("code='333'"), "{got}");
}
