//! XEP-0012: Last Activity. The uptime of the server, and when an account's last resource went, with what it said then.
//!
//! Only who sees an account's presence learns it. All others get the error for accounts that do not exist, where §3 has
//! `<forbidden/>`: that would tell them that the account exists (security.md C8). Requests to full JIDs are the client's
//! to answer, from those who see that resource (§4).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rookery_core::module::{
    Call, Cx, Fault, Flow, Hooks, IqResult, Module, SessionEvent, Setup, Stage, Target, Way, Xep,
};
use rookery_core::server::Server;
use rookery_core::session::Session;
use rookery_core::slots::Slot;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, PresenceType, Stanza};
use tracing::warn;

/// The key of the stored value: seconds since 1970, a line break, and the status.
const LOGOUT: &str = "logout";
/// Bytes of a status that are kept.
const MOST_STATUS: usize = 1024;
/// How long the end of a session may wait for the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Remembers when users left.
pub struct Last {
    /// The status with which a client has just left.
    status: Slot<String>,
}

impl Module for Last {
    const NAME: &'static str = "last";
    const XEPS: &'static [Xep] = &[Xep(12, "2.0")];
    type Config = ();

    fn new((): (), setup: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self { status: setup.session_slot("status") })
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco(ns::LAST)
            .account_disco(ns::LAST)
            .iq(IqType::Get, Target::Server, ns::LAST, "query", Self::uptime)
            .iq(IqType::Get, Target::Account, ns::LAST, "query", Self::last)
            .iq_passing(Way::Incoming, Stage::Guard, Self::guard)
            .presence(Way::Outgoing, Stage::Stamp, Self::leaving)
            .session(SessionEvent::Unavailable, Self::left);
    }
}

impl Last {
    async fn uptime(self: Arc<Self>, call: Call) -> IqResult {
        Ok(Some(answer(call.server.uptime().as_secs(), "")))
    }

    async fn last(self: Arc<Self>, call: Call) -> IqResult {
        call.may_see()?;
        let Some(account) = &call.account else { return Err(StanzaError::new(Condition::ServiceUnavailable)) };
        if account.sessions().iter().any(|session| session.is_available()) {
            return Ok(Some(answer(0, "")));
        }
        let value = call.server.store.value(&account.jid, Self::NAME, LOGOUT).await?;
        let Some((left, status)) = value.as_deref().and_then(read) else {
            return Err(StanzaError::new(Condition::ItemNotFound).with_text("This user has not been here yet."));
        };
        Ok(Some(answer(SystemTime::now().duration_since(left).unwrap_or_default().as_secs(), status)))
    }

    /// How long a user has been idle is for those who see that the resource is there.
    fn guard(self: &Arc<Self>, cx: &Cx<'_>, iq: &mut Stanza) -> Flow {
        let (Some(from), Some(to)) = (&iq.head.from, &iq.head.to) else { return Flow::Next };
        if iq.head.kind != Kind::Iq(IqType::Get) || to.is_bare() || !iq.has("query", ns::LAST) {
            return Flow::Next;
        }
        let account = cx.account;
        let sees = from.bare_str() == account.jid.as_str() || account.roster().subscription(from.bare_str()).is_from();
        let directed = |session: Arc<Session>| {
            session.update(cx.server.directed, |directed| directed.contains(from)).unwrap_or_default()
        };
        if sees || to.resourcepart().and_then(|resource| account.session(resource)).is_some_and(directed) {
            return Flow::Next;
        }
        Flow::Reject(StanzaError::new(Condition::ServiceUnavailable))
    }

    fn leaving(self: &Arc<Self>, cx: &Cx<'_>, presence: &mut Stanza) -> Flow {
        if let (Some(session), Kind::Presence(PresenceType::Unavailable), None) =
            (cx.session, presence.head.kind, &presence.head.to)
            && let Some(status) = presence.find("status", ns::CLIENT)
        {
            session.set(self.status, shortened(status.content()));
        }
        Flow::Next
    }

    fn left(self: &Arc<Self>, server: &Arc<Server>, session: &Arc<Session>) -> Flow {
        let status = session.take(self.status).unwrap_or_default();
        let account = session.account.clone();
        if account.is_deleted() || account.sessions().iter().any(|other| other.is_available()) {
            return Flow::Next;
        }
        let server = server.clone();
        Flow::Wait(Box::pin(async move {
            if !server.within(PATIENCE, store(&server, &account.jid, status)).await {
                warn!(account = %account.jid, "the database is too slow to remember that the user has left");
            }
            Flow::Next
        }))
    }
}

async fn store(server: &Server, user: &BareJid, status: String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let value = format!("{now}\n{status}").into_bytes();
    if let Err(error) = server.store.set_values(user, Last::NAME, &[(LOGOUT.to_owned(), Some(value))]).await {
        warn!(account = %user, %error, "cannot remember that the user has left");
    }
}

fn read(value: &[u8]) -> Option<(SystemTime, &str)> {
    let (seconds, status) = std::str::from_utf8(value).ok()?.split_once('\n')?;
    Some((UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?, status))
}

fn shortened(mut status: String) -> String {
    status.truncate(status.floor_char_boundary(MOST_STATUS));
    status
}

fn answer(seconds: u64, status: &str) -> Element {
    let query = Element::new("query", ns::LAST).attr("seconds", seconds.to_string());
    if status.is_empty() { query } else { query.text(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_and_no_more() {
        for (value, expected) in [
            ("100\nHeading Home", Some((100, "Heading Home"))),
            ("100\ntwo\nlines", Some((100, "two\nlines"))),
            ("100\n", Some((100, ""))),
            ("100", None),
            ("18446744073709551615\n", None),
            ("x\n", None),
        ] {
            let expected = expected.map(|(seconds, status)| (UNIX_EPOCH + Duration::from_secs(seconds), status));
            assert_eq!(read(value.as_bytes()), expected, "for {value:?}");
        }
        assert_eq!(shortened("\u{e9}".repeat(MOST_STATUS)).len(), MOST_STATUS);
        assert_eq!(shortened(format!("x{}", "\u{e9}".repeat(MOST_STATUS))).len(), MOST_STATUS - 1);
    }
}
