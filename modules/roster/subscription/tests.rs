//! Every row of RFC 6121 Appendix A.2.1 to A.3.4, pre-approval, and that the two sides of a subscription never disagree.

use rookery_xmpp::stanza::Kind;

use super::*;

/// The RFC's tables, in its words.
const APPENDIX_A: &str = "
A.2.1 outbound subscribe
    None                  | MUST     | None + Pending Out
    None + Pending Out    | MUST     | no state change
    None + Pending In     | MUST     | None + Pending Out+In
    None + Pending Out+In | MUST     | no state change
    To                    | MUST     | no state change
    To + Pending In       | MUST     | no state change
    From                  | MUST     | From + Pending Out
    From + Pending Out    | MUST     | no state change
    Both                  | MUST     | no state change
A.2.2 outbound unsubscribe
    None                  | MUST     | no state change
    None + Pending Out    | MUST     | None
    None + Pending In     | MUST     | no state change
    None + Pending Out+In | MUST     | None + Pending In
    To                    | MUST     | None
    To + Pending In       | MUST     | None + Pending In
    From                  | MUST     | no state change
    From + Pending Out    | MUST     | From
    Both                  | MUST     | From
A.2.3 outbound subscribed
    None                  | MUST NOT | no state change
    None + Pending Out    | MUST NOT | no state change
    None + Pending In     | MUST     | From
    None + Pending Out+In | MUST     | From + Pending Out
    To                    | MUST NOT | no state change
    To + Pending In       | MUST     | Both
    From                  | MUST NOT | no state change
    From + Pending Out    | MUST NOT | no state change
    Both                  | MUST NOT | no state change
A.2.4 outbound unsubscribed
    None                  | MUST NOT | no state change
    None + Pending Out    | MUST NOT | no state change
    None + Pending In     | MUST     | None
    None + Pending Out+In | MUST     | None + Pending Out
    To                    | MUST NOT | no state change
    To + Pending In       | MUST     | To
    From                  | MUST     | None
    From + Pending Out    | MUST     | None + Pending Out
    Both                  | MUST     | To
A.3.1 inbound subscribe
    None                  | MUST     | None + Pending In
    None + Pending Out    | MUST     | None + Pending Out+In
    None + Pending In     | MUST NOT | no state change
    None + Pending Out+In | MUST NOT | no state change
    To                    | MUST     | To + Pending In
    To + Pending In       | MUST NOT | no state change
    From                  | MUST NOT | no state change
    From + Pending Out    | MUST NOT | no state change
    Both                  | MUST NOT | no state change
A.3.2 inbound unsubscribe
    None                  | MUST NOT | no state change
    None + Pending Out    | MUST NOT | no state change
    None + Pending In     | MUST     | None
    None + Pending Out+In | MUST     | None + Pending Out
    To                    | MUST NOT | no state change
    To + Pending In       | MUST     | To
    From                  | MUST     | None
    From + Pending Out    | MUST     | None + Pending Out
    Both                  | MUST     | To
A.3.3 inbound subscribed
    None                  | MUST NOT | no state change
    None + Pending Out    | MUST     | To
    None + Pending In     | MUST NOT | no state change
    None + Pending Out+In | MUST     | To + Pending In
    To                    | MUST NOT | no state change
    To + Pending In       | MUST NOT | no state change
    From                  | MUST NOT | no state change
    From + Pending Out    | MUST     | Both
    Both                  | MUST NOT | no state change
A.3.4 inbound unsubscribed
    None                  | MUST NOT | no state change
    None + Pending Out    | MUST     | None
    None + Pending In     | MUST NOT | no state change
    None + Pending Out+In | MUST     | None + Pending In
    To                    | MUST     | None
    To + Pending In       | MUST     | None + Pending In
    From                  | MUST NOT | no state change
    From + Pending Out    | MUST     | From
    Both                  | MUST     | From
";

const STATES: [(&str, State); 9] = [
    ("None", S::None),
    ("None + Pending Out", S::NoneOut),
    ("None + Pending In", S::NoneIn),
    ("None + Pending Out+In", S::NoneOutIn),
    ("To", S::To),
    ("To + Pending In", S::ToIn),
    ("From", S::From),
    ("From + Pending Out", S::FromOut),
    ("Both", S::Both),
];

const KINDS: [PresenceType; 4] =
    [PresenceType::Subscribe, PresenceType::Subscribed, PresenceType::Unsubscribe, PresenceType::Unsubscribed];

fn state(name: &str) -> State {
    STATES.iter().find(|(known, _)| *known == name).unwrap().1
}

#[test]
fn every_row_of_appendix_a() {
    let (mut rows, mut table) = (0, None);
    for line in APPENDIX_A.lines().filter(|line| !line.is_empty()) {
        if line.starts_with("A.") {
            let words: Vec<&str> = line.split(' ').collect();
            let way = if words[1] == "outbound" { Way::Outgoing } else { Way::Incoming };
            table =
                Some((way, *KINDS.iter().find(|kind| Kind::Presence(**kind).type_name() == Some(words[2])).unwrap()));
            continue;
        }
        let (way, kind) = table.unwrap();
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let existing = state(cells[0]);
        let new = if cells[2] == "no state change" { existing } else { state(cells[2]) };
        let step = step(way, kind, existing, false).unwrap();
        assert_eq!((step.state, step.passes), (new, cells[1] == "MUST"), "{way:?} {kind:?}: {line}");
        rows += 1;
    }
    assert_eq!(rows, 8 * 9);
}

#[test]
fn states_are_what_their_parts_say() {
    for (name, state) in STATES {
        assert_eq!(State::of(state.subscription(), state.is_out(), state.is_in()), state);
        assert_eq!(state.is_out(), name.contains("Out"));
        assert_eq!(state.is_in(), name.ends_with("In"));
    }
}

#[test]
fn the_server_answers_for_those_who_see_the_user_already() {
    for (name, state) in STATES {
        let step = step(Way::Incoming, PresenceType::Subscribe, state, false).unwrap();
        assert_eq!(step.answers, state.subscription().is_from(), "{name}");
        assert!(!(step.answers && step.passes), "{name}");
    }
}

#[test]
fn pre_approval_is_noted_where_nobody_has_asked() {
    for (name, state) in STATES {
        let step = step(Way::Outgoing, PresenceType::Subscribed, state, false).unwrap();
        assert_eq!(step.approved, ["None", "None + Pending Out", "To"].contains(&name), "{name}");
    }
}

#[test]
fn pre_approval_answers_at_once_and_is_used_up() {
    for (before, after) in [("None", "From"), ("None + Pending Out", "From + Pending Out"), ("To", "Both")] {
        let wanted = Step { state: state(after), approved: false, passes: false, answers: true };
        assert_eq!(step(Way::Incoming, PresenceType::Subscribe, state(before), true), Some(wanted));
    }
}

#[test]
fn pre_approval_is_taken_back_and_survives_all_else() {
    for before in [State::None, State::NoneOut, State::To] {
        let back = step(Way::Outgoing, PresenceType::Unsubscribed, before, true).unwrap();
        assert_eq!((back.approved, back.passes, back.state), (false, false, before));
        for (way, kind) in [
            (Way::Outgoing, PresenceType::Subscribe),
            (Way::Outgoing, PresenceType::Unsubscribe),
            (Way::Incoming, PresenceType::Subscribed),
            (Way::Incoming, PresenceType::Unsubscribe),
            (Way::Incoming, PresenceType::Unsubscribed),
        ] {
            assert!(step(way, kind, before, true).unwrap().approved, "{way:?} {kind:?}");
        }
    }
}

#[test]
fn other_types_are_no_steps() {
    for kind in [PresenceType::Available, PresenceType::Unavailable, PresenceType::Probe, PresenceType::Error] {
        assert_eq!(step(Way::Incoming, kind, State::Both, false), None);
        assert_eq!(step(Way::Outgoing, kind, State::Both, false), None);
    }
}

/// One side's view of the other's state.
fn mirrored(state: State) -> State {
    let turned = Subscription::of(state.subscription().is_from(), state.subscription().is_to());
    State::of(turned, state.is_in(), state.is_out())
}

/// Whatever one side does, from any state in which the two agree, they agree afterwards.
#[test]
fn both_sides_agree_after_each_stanza() {
    for (name, user) in STATES {
        for kind in KINDS {
            for approved in [false, true] {
                let contact = mirrored(user);
                if approved && (contact.is_in() || contact.subscription().is_from()) {
                    continue;
                }
                let sent = step(Way::Outgoing, kind, user, false).unwrap();
                let (mut user, mut contact) = (sent.state, contact);
                if sent.passes {
                    let received = step(Way::Incoming, kind, contact, approved).unwrap();
                    contact = received.state;
                    if received.answers {
                        user = step(Way::Incoming, PresenceType::Subscribed, user, false).unwrap().state;
                    }
                }
                assert_eq!(mirrored(user), contact, "{name}, {kind:?}, approved: {approved}");
            }
        }
    }
}
