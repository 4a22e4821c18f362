//! RFC 6121 Appendix A: the states of a subscription between a user and a contact, and what each stanza of the handshake
//! does to them, with pre-approval (§3.4) on top. Pure: the tables are the RFC's, row by row.

use rookery_core::module::Way;
use rookery_core::roster::Subscription;
use rookery_xmpp::stanza::PresenceType;

/// RFC 6121 Appendix A.1, seen from the user whose roster it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// "None"
    None,
    /// "None + Pending Out"
    NoneOut,
    /// "None + Pending In"
    NoneIn,
    /// "None + Pending Out+In"
    NoneOutIn,
    /// "To"
    To,
    /// "To + Pending In"
    ToIn,
    /// "From"
    From,
    /// "From + Pending Out"
    FromOut,
    /// "Both"
    Both,
}

impl State {
    /// The state that the roster holds in parts. `out`: the user has asked; `asked`: the contact has. A question that has
    /// been answered is none.
    pub(super) fn of(subscription: Subscription, out: bool, asked: bool) -> Self {
        match (subscription, out, asked) {
            (Subscription::None, false, false) => Self::None,
            (Subscription::None, true, false) => Self::NoneOut,
            (Subscription::None, false, true) => Self::NoneIn,
            (Subscription::None, true, true) => Self::NoneOutIn,
            (Subscription::To, _, false) => Self::To,
            (Subscription::To, _, true) => Self::ToIn,
            (Subscription::From, false, _) => Self::From,
            (Subscription::From, true, _) => Self::FromOut,
            (Subscription::Both, _, _) => Self::Both,
        }
    }

    /// What the roster item's `subscription` says.
    pub(super) fn subscription(self) -> Subscription {
        match self {
            Self::None | Self::NoneOut | Self::NoneIn | Self::NoneOutIn => Subscription::None,
            Self::To | Self::ToIn => Subscription::To,
            Self::From | Self::FromOut => Subscription::From,
            Self::Both => Subscription::Both,
        }
    }

    /// "Pending Out": what the roster item's `ask` says.
    pub(super) fn is_out(self) -> bool {
        matches!(self, Self::NoneOut | Self::NoneOutIn | Self::FromOut)
    }

    /// "Pending In": the contact's request waits.
    pub(super) fn is_in(self) -> bool {
        matches!(self, Self::NoneIn | Self::NoneOutIn | Self::ToIn)
    }
}

use State as S;

/// The existing state; whether the stanza is routed to the contact, or delivered to the user; the new state.
type Table = [(State, bool, State); 9];

/// "MUST", in the RFC's tables.
const YES: bool = true;
/// "MUST NOT".
const NOT: bool = false;

/// A.2.1. Outbound: subscribe.
#[rustfmt::skip]
const SUBSCRIBE_OUT: Table = [
    // existing      route?  new state
    (S::None,        YES,    S::NoneOut),
    (S::NoneOut,     YES,    S::NoneOut),
    (S::NoneIn,      YES,    S::NoneOutIn),
    (S::NoneOutIn,   YES,    S::NoneOutIn),
    (S::To,          YES,    S::To),
    (S::ToIn,        YES,    S::ToIn),
    (S::From,        YES,    S::FromOut),
    (S::FromOut,     YES,    S::FromOut),
    (S::Both,        YES,    S::Both),
];

/// A.2.2. Outbound: unsubscribe.
#[rustfmt::skip]
const UNSUBSCRIBE_OUT: Table = [
    // existing      route?  new state
    (S::None,        YES,    S::None),
    (S::NoneOut,     YES,    S::None),
    (S::NoneIn,      YES,    S::NoneIn),
    (S::NoneOutIn,   YES,    S::NoneIn),
    (S::To,          YES,    S::None),
    (S::ToIn,        YES,    S::NoneIn),
    (S::From,        YES,    S::From),
    (S::FromOut,     YES,    S::From),
    (S::Both,        YES,    S::From),
];

/// A.2.3. Outbound: subscribed. Where it is not routed and the contact sees nothing, it is a pre-approval (§3.4.2).
#[rustfmt::skip]
const SUBSCRIBED_OUT: Table = [
    // existing      route?  new state
    (S::None,        NOT,    S::None),
    (S::NoneOut,     NOT,    S::NoneOut),
    (S::NoneIn,      YES,    S::From),
    (S::NoneOutIn,   YES,    S::FromOut),
    (S::To,          NOT,    S::To),
    (S::ToIn,        YES,    S::Both),
    (S::From,        NOT,    S::From),
    (S::FromOut,     NOT,    S::FromOut),
    (S::Both,        NOT,    S::Both),
];

/// A.2.4. Outbound: unsubscribed. It takes a pre-approval back (§3.2.2).
#[rustfmt::skip]
const UNSUBSCRIBED_OUT: Table = [
    // existing      route?  new state
    (S::None,        NOT,    S::None),
    (S::NoneOut,     NOT,    S::NoneOut),
    (S::NoneIn,      YES,    S::None),
    (S::NoneOutIn,   YES,    S::NoneOut),
    (S::To,          NOT,    S::To),
    (S::ToIn,        YES,    S::To),
    (S::From,        YES,    S::None),
    (S::FromOut,     YES,    S::NoneOut),
    (S::Both,        YES,    S::To),
];

/// A.3.1. Inbound: subscribe. Who sees the user's presence already is told so by the server; so is who was approved
/// before, see [`step`].
#[rustfmt::skip]
const SUBSCRIBE_IN: Table = [
    // existing      deliver?  new state
    (S::None,        YES,      S::NoneIn),
    (S::NoneOut,     YES,      S::NoneOutIn),
    (S::NoneIn,      NOT,      S::NoneIn),
    (S::NoneOutIn,   NOT,      S::NoneOutIn),
    (S::To,          YES,      S::ToIn),
    (S::ToIn,        NOT,      S::ToIn),
    (S::From,        NOT,      S::From),
    (S::FromOut,     NOT,      S::FromOut),
    (S::Both,        NOT,      S::Both),
];

/// A.3.2. Inbound: unsubscribe.
#[rustfmt::skip]
const UNSUBSCRIBE_IN: Table = [
    // existing      deliver?  new state
    (S::None,        NOT,      S::None),
    (S::NoneOut,     NOT,      S::NoneOut),
    (S::NoneIn,      YES,      S::None),
    (S::NoneOutIn,   YES,      S::NoneOut),
    (S::To,          NOT,      S::To),
    (S::ToIn,        YES,      S::To),
    (S::From,        YES,      S::None),
    (S::FromOut,     YES,      S::NoneOut),
    (S::Both,        YES,      S::To),
];

/// A.3.3. Inbound: subscribed.
#[rustfmt::skip]
const SUBSCRIBED_IN: Table = [
    // existing      deliver?  new state
    (S::None,        NOT,      S::None),
    (S::NoneOut,     YES,      S::To),
    (S::NoneIn,      NOT,      S::NoneIn),
    (S::NoneOutIn,   YES,      S::ToIn),
    (S::To,          NOT,      S::To),
    (S::ToIn,        NOT,      S::ToIn),
    (S::From,        NOT,      S::From),
    (S::FromOut,     YES,      S::Both),
    (S::Both,        NOT,      S::Both),
];

/// A.3.4. Inbound: unsubscribed.
#[rustfmt::skip]
const UNSUBSCRIBED_IN: Table = [
    // existing      deliver?  new state
    (S::None,        NOT,      S::None),
    (S::NoneOut,     YES,      S::None),
    (S::NoneIn,      NOT,      S::NoneIn),
    (S::NoneOutIn,   YES,      S::NoneIn),
    (S::To,          YES,      S::None),
    (S::ToIn,        YES,      S::NoneIn),
    (S::From,        NOT,      S::From),
    (S::FromOut,     YES,      S::From),
    (S::Both,        YES,      S::From),
];

/// What a stanza of the handshake does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// The new state.
    pub(super) state: State,
    /// Whether the contact is approved before asking, from now on.
    pub(super) approved: bool,
    /// The stanza is routed to the contact (outbound) or delivered to the user's resources (inbound).
    pub(super) passes: bool,
    /// The server answers `subscribed` in the user's name.
    pub(super) answers: bool,
}

/// What a stanza does in a state. `None` for types that have nothing to do with subscriptions.
pub(super) fn step(way: Way, kind: PresenceType, state: State, approved: bool) -> Option<Step> {
    let table = match (way, kind) {
        (Way::Outgoing, PresenceType::Subscribe) => &SUBSCRIBE_OUT,
        (Way::Outgoing, PresenceType::Unsubscribe) => &UNSUBSCRIBE_OUT,
        (Way::Outgoing, PresenceType::Subscribed) => &SUBSCRIBED_OUT,
        (Way::Outgoing, PresenceType::Unsubscribed) => &UNSUBSCRIBED_OUT,
        (Way::Incoming, PresenceType::Subscribe) => &SUBSCRIBE_IN,
        (Way::Incoming, PresenceType::Unsubscribe) => &UNSUBSCRIBE_IN,
        (Way::Incoming, PresenceType::Subscribed) => &SUBSCRIBED_IN,
        (Way::Incoming, PresenceType::Unsubscribed) => &UNSUBSCRIBED_IN,
        (_, PresenceType::Available | PresenceType::Unavailable | PresenceType::Probe | PresenceType::Error) => {
            return None;
        }
    };
    let (_, passes, next) = *table.iter().find(|(existing, _, _)| *existing == state)?;
    let row = Step { state: next, approved, passes, answers: false };
    Some(match (way, kind) {
        // §3.4.2: approved before being asked; used up by the approval itself.
        (Way::Outgoing, PresenceType::Subscribed) => {
            Step { approved: !passes && !state.subscription().is_from(), ..row }
        }
        (Way::Outgoing, PresenceType::Unsubscribed) => Step { approved: false, ..row },
        // §3.1.3, rule 2.
        (Way::Incoming, PresenceType::Subscribe) if state.subscription().is_from() => Step { answers: true, ..row },
        // §3.4.2: as if the user had been asked and had approved at once.
        (Way::Incoming, PresenceType::Subscribe) if approved => {
            let to = state.subscription().is_to();
            Step {
                state: State::of(Subscription::of(to, true), state.is_out(), false),
                approved: false,
                passes: false,
                answers: true,
            }
        }
        _ => row,
    })
}

#[cfg(test)]
mod tests;
