//! XEP-0045 §16.6.2: status codes, those of the registry that a room sends.

use rookery_xmpp::element::Element;
use rookery_xmpp::ns;

/// A status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Any occupant may see the user's full JID.
    NonAnonymous = 100,
    /// The configuration has changed in a way that does not concern privacy.
    ConfigChanged = 104,
    /// The presence is that of its recipient.
    OwnPresence = 110,
    /// The discussions are logged in public.
    LoggingOn = 170,
    /// They are not any more.
    LoggingOff = 171,
    /// The room has become non-anonymous.
    NowNonAnonymous = 172,
    /// The room has become semi-anonymous.
    NowSemiAnonymous = 173,
    /// The room was created.
    Created = 201,
    /// The service has assigned or modified the nickname.
    NickModified = 210,
    /// Banned.
    Banned = 301,
    /// Goes by a new nickname.
    NewNick = 303,
    /// Kicked.
    Kicked = 307,
    /// Removed because of an affiliation change.
    AffiliationLost = 321,
    /// Removed because the room is members-only now.
    MembersOnly = 322,
    /// Removed because the service ends.
    Shutdown = 332,
    /// Removed because of an error.
    TechnicalProblem = 333,
}

impl Status {
    /// The `<status/>` element.
    pub fn to_element(self) -> Element {
        Element::new("status", ns::MUC_USER).attr("code", (self as u16).to_string())
    }
}
