//! Members who are not in the room are told that something is said in it.

use super::*;
use crate::muc::config::NotifyAway;

const PEOPLE: [(&str, Affiliation); 3] =
    [(CRONE, Affiliation::Owner), (WICCA, Affiliation::Member), (HAG, Affiliation::Member)];

fn stage(notify_away: NotifyAway) -> Stage {
    let config = Config { persistent: true, name: "A Dark Cave".to_owned(), ..Config::default() };
    let mut stage = Stage::of(config, Limits { notify_away, ..Limits::default() }, &PEOPLE, &[]);
    stage.enter(CRONE, "firstwitch");
    stage
}

fn leave(nick: &str) -> String {
    format!("<presence type='unavailable' to='{ROOM}/{nick}'/>")
}

fn say(inside: &str) -> String {
    format!("<message type='groupchat' to='{ROOM}'>{inside}</message>")
}

/// Who is told by a message, besides those who are in the room.
fn told(stage: &mut Stage, inside: &str) -> Vec<String> {
    let got = stage.from(CRONE, &say(inside));
    bare_only(&got)
}

fn bare_only(got: &[Got]) -> Vec<String> {
    got.iter().filter(|got| !got.to.contains('/')).map(|got| got.to.clone()).collect()
}

const WICCAS: &str = "wiccarocks@shakespeare.lit";
const HAGS: &str = "hag66@shakespeare.lit";

#[test]
fn nobody_is_told_unless_the_conf_says_so() {
    let mut stage = stage(NotifyAway::Nobody);
    stage.enter(HAG, "thirdwitch");
    stage.from(HAG, &leave("thirdwitch"));
    let before = stage.stored.len();
    assert!(told(&mut stage, "<body>thirdwitch: hail</body>").is_empty());
    assert!(!stage.stored[before..].iter().any(|change| matches!(change, RoomChange::Person(..))));
}

#[test]
fn all_members_who_are_away_are_told_once_until_they_come_again() {
    let mut stage = stage(NotifyAway::All);
    stage.enter(HECATE, "hecate");
    stage.from(HECATE, &leave("hecate"));
    let got = stage.from(CRONE, &say("<body>Thrice the brinded cat hath mew'd.</body>"));
    let own = |text: &str, to: &str| format!("<message from='{ROOM}' to='{to}'><body>{text}</body></message>");
    let text = format!("There are new messages in the room A Dark Cave ({ROOM}).");
    let notices: Vec<Got> = got.iter().filter(|got| !got.to.contains('/')).cloned().collect();
    check(&notices, &(own(&text, HAGS) + &own(&text, WICCAS)));
    assert!(told(&mut stage, "<body>Thrice and once the hedge-pig whined.</body>").is_empty());
    // Who has been here since is told again.
    stage.enter(HAG, "thirdwitch");
    assert!(told(&mut stage, "<body>Harpier cries</body>").is_empty());
    stage.from(HAG, &leave("thirdwitch"));
    assert_eq!(told(&mut stage, "<body>'Tis time, 'tis time.</body>"), [HAGS]);
    // What is about other messages, what is not kept and what is taken back says nothing.
    stage.enter(HAG, "thirdwitch");
    stage.from(HAG, &leave("thirdwitch"));
    for silent in [
        "<subject>Fire Burn</subject>",
        "<body>psst</body><no-store xmlns='urn:xmpp:hints'/>",
        "<body>gone</body><retract xmlns='urn:xmpp:message-retract:1' id='1'/>",
        "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
    ] {
        assert!(told(&mut stage, silent).is_empty(), "{silent}");
    }
}

#[test]
fn who_was_told_is_not_told_again_after_a_restart() {
    let mut first = stage(NotifyAway::All);
    assert_eq!(told(&mut first, "<body>hail</body>").len(), 2);
    let mut people: std::collections::BTreeMap<_, _> =
        PEOPLE.iter().map(|(who, affiliation)| (bare(who), Person::new(*affiliation))).collect();
    for change in &first.stored {
        if let RoomChange::Person(who, Some(person)) = change {
            people.insert(who.clone(), person.clone());
        }
    }
    let config = Config { persistent: true, ..Config::default() };
    let image = Image { config, people: people.into_iter().collect(), ..Image::default() };
    let limits = Limits { notify_away: NotifyAway::All, ..Limits::default() };
    let at = first.at();
    let mut again = Stage::around(Room::restore(bare(ROOM), service(limits), image, at));
    again.enter(CRONE, "firstwitch");
    assert!(told(&mut again, "<body>hail</body>").is_empty());
}

#[test]
fn many_are_told_by_and_by() {
    let mut people: Vec<(String, Affiliation)> =
        (0..450).map(|n| (format!("witch{n}@shakespeare.lit/broom"), Affiliation::Member)).collect();
    people.push((CRONE.to_owned(), Affiliation::Owner));
    let people: Vec<(&str, Affiliation)> = people.iter().map(|(who, what)| (who.as_str(), *what)).collect();
    let limits = Limits { notify_away: NotifyAway::All, ..Limits::default() };
    let mut stage = Stage::of(Config { persistent: true, ..Config::default() }, limits, &people, &[]);
    stage.enter(CRONE, "firstwitch");
    let tick = |stage: &mut Stage| {
        let at = stage.at();
        let outcome = stage.room.tick(at);
        bare_only(&stage.finish(outcome)).len()
    };
    assert_eq!(tick(&mut stage), 0);
    assert_eq!(told(&mut stage, "<body>hail</body>").len(), 200);
    assert_eq!([tick(&mut stage), tick(&mut stage), tick(&mut stage)], [200, 50, 0]);
}

#[test]
fn those_who_are_mentioned_are_told() {
    let mut stage = stage(NotifyAway::Mentioned);
    stage.enter(HAG, "Third Witch");
    stage.from(HAG, &leave("Third Witch"));
    for other in ["third", "thirdwitch", "the third witches", "witch third"] {
        assert!(told(&mut stage, &format!("<body>{other}</body>")).is_empty(), "{other}");
    }
    let got = stage.from(CRONE, &say("<body>Hail, third witch! Hecate is angry.</body>"));
    let notices: Vec<Got> = got.into_iter().filter(|got| !got.to.contains('/')).collect();
    check(
        &notices,
        &format!(
            "<message from='{ROOM}' to='{HAGS}'><body>You are mentioned in the room A Dark Cave ({ROOM}).</body></message>"
        ),
    );
    assert!(told(&mut stage, "<body>third witch!</body>").is_empty());
    // By reference: the address, or the occupant's.
    let reference =
        |uri: &str| format!("<body>you</body><reference xmlns='urn:xmpp:reference:0' type='mention' uri='{uri}'/>");
    assert_eq!(told(&mut stage, &reference("xmpp:wiccarocks@shakespeare.lit?message")), [WICCAS]);
    stage.enter(HAG, "Third Witch");
    stage.from(HAG, &leave("Third Witch"));
    for strange in ["xmpp:hecate@shakespeare.lit", "xmpp:%zz", "xmpp:%ff%fe", "mailto:hag66@shakespeare.lit", "xmpp:"] {
        assert!(told(&mut stage, &reference(strange)).is_empty(), "{strange}");
    }
    assert_eq!(told(&mut stage, &reference(&format!("xmpp:{ROOM}/Third%20Witch"))), [HAGS]);
}

#[test]
fn a_nickname_means_who_is_here_under_it_or_has_it_reserved() {
    let mut stage = stage(NotifyAway::Mentioned);
    stage.enter(HAG, "witch");
    stage.from(HAG, &leave("witch"));
    stage.enter(HECATE, "Witch");
    assert!(told(&mut stage, "<body>witch: hail</body>").is_empty());
    stage.from(HECATE, &leave("Witch"));
    stage.from(
        WICCA,
        &format!(
            "<iq type='set' id='1' to='{ROOM}'><query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>\
             <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>\
             <field var='muc#register_roomnick'><value>witch</value></field></x></query></iq>"
        ),
    );
    assert_eq!(told(&mut stage, "<body>witch: hail</body>"), [WICCAS]);
}
