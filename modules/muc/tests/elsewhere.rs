//! XEP-0045 §18.1.2: people of other servers: those who are gone together, and those who may be gone.

use super::*;

const NURSE: &str = "nurse@capulet.lit/chamber";
const JULIET: &str = "juliet@capulet.lit/balcony";

fn stage() -> Stage {
    let mut stage = Stage::witches(Config { persistent: true, ..Config::default() });
    stage.enter(NURSE, "nurse");
    stage.enter(JULIET, "juliet");
    stage
}

fn sessions(list: &[&str]) -> Vec<rookery_xmpp::jid::FullJid> {
    list.iter().map(|who| jid(who).full().unwrap()).collect()
}

/// Who gets what about whom: "to: kind of nick".
fn told(got: &[Got]) -> Vec<String> {
    let line = |got: &Got| {
        let from = got.stanza.head.from.as_ref().and_then(|from| from.resourcepart()).unwrap_or_default().to_owned();
        let is_333 = got.stanza.to_xml().contains("<status code='333'/>");
        format!("{}: {from} {}", got.to, if is_333 { "333" } else { "" })
    };
    got.iter().map(line).collect()
}

#[test]
fn those_who_go_together_are_not_told_of_each_other() {
    let mut stage = stage();
    let outcome = stage.room.gone_together(&sessions(&[NURSE, JULIET, HECATE]));
    let got = stage.finish(outcome);
    let mut expected = vec![format!("{NURSE}: nurse 333"), format!("{JULIET}: juliet 333")];
    for nick in ["nurse", "juliet"] {
        expected.extend([CRONE, WICCA, HAG].map(|who| format!("{who}: {nick} 333")));
    }
    assert_eq!(told(&got), expected);
    assert_eq!(stage.room.occupants(), 3);
}

#[test]
fn a_nickname_stays_as_long_as_one_of_its_sessions() {
    let mut stage = stage();
    let phone = "juliet@capulet.lit/phone";
    stage.enter(phone, "juliet");
    let outcome = stage.room.gone_together(&sessions(&[JULIET]));
    stage.finish(outcome);
    assert_eq!((stage.role(JULIET), stage.role(phone)), (Role::None, Role::Participant));
    let outcome = stage.room.gone_together(&sessions(&[phone, NURSE]));
    stage.finish(outcome);
    assert_eq!(stage.room.occupants(), 3);
}

#[test]
fn a_temporary_room_ends_with_those_who_go_together() {
    let mut stage = Stage::new(Config::default());
    stage.enter(NURSE, "nurse");
    stage.enter(JULIET, "juliet");
    let outcome = stage.room.gone_together(&sessions(&[NURSE, JULIET]));
    assert_eq!(told(&stage.finish(outcome)), [format!("{NURSE}: nurse 333"), format!("{JULIET}: juliet 333")]);
    assert!(stage.room.is_gone());
}

#[test]
fn who_is_asked_and_not_there_is_out_and_nobody_else() {
    let mut stage = stage();
    let outcome = stage.room.ask_whether_there(&sessions(&[NURSE, JULIET]));
    let asked = stage.finish(outcome);
    assert_eq!(asked.len(), 2);
    check(
        &asked[..1],
        &format!("<iq from='{ROOM}' to='{NURSE}' id='whether-there' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"),
    );
    let answer = |id: &str, kind: &str, inside: &str| format!("<iq to='{ROOM}' id='{id}' type='{kind}'>{inside}</iq>");
    let error = |condition: &str| {
        format!("<error type='cancel'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")
    };
    // Somebody is there who answers, whatever it is; and an error for something else says nothing.
    for there in [
        answer("whether-there", "result", ""),
        answer("whether-there", "error", &error("feature-not-implemented")),
        answer("other", "error", &error("service-unavailable")),
    ] {
        assert_eq!(stage.from(NURSE, &there), []);
        assert_eq!(stage.role(NURSE), Role::Participant);
    }
    // One cannot answer for another.
    assert_eq!(stage.from(HECATE, &answer("whether-there", "error", &error("service-unavailable"))), []);
    for (who, condition) in [(NURSE, "service-unavailable"), (JULIET, "remote-server-timeout")] {
        let got = stage.from(who, &answer("whether-there", "error", &error(condition)));
        assert!(told(&got).iter().all(|line| line.ends_with("333")) && got.len() > 3, "{got:?}");
        assert_eq!(stage.role(who), Role::None);
    }
}
