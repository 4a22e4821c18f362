//! XEP-0160: Best Practices for Handling Offline Messages. A message that no resource can take stays in the account's
//! tail, which core keeps in any case, and goes to the first resource that becomes reachable, stamped by XEP-0203.
//!
//! How much a tail may hold is a limit of the server. Without this module a message to nobody is refused.

use std::sync::Arc;

use rookery_core::module::{Cx, Fault, Flow, Hooks, Module, SessionEvent, Setup, Stage, Way, Xep};
use rookery_core::server::Server;
use rookery_core::session::Session;
use rookery_xmpp::stanza::Stanza;

/// Keeps messages for those who are away.
pub struct Offline;

impl Module for Offline {
    const NAME: &'static str = "offline";
    const XEPS: &'static [Xep] = &[Xep(160, "1.0.1"), Xep(203, "2.0"), Xep(334, "1.0.0")];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco("msgoffline")
            .message(Way::Incoming, Stage::Undelivered, Self::keep)
            .session(SessionEvent::Reachable, Self::deliver);
    }
}

impl Offline {
    fn keep(self: &Arc<Self>, cx: &Cx<'_>, message: &mut Stanza) -> Flow {
        if cx.server.is_storable(message) { Flow::Done } else { Flow::Next }
    }

    fn deliver(self: &Arc<Self>, server: &Arc<Server>, session: &Arc<Session>) -> Flow {
        server.flush_tail(session);
        Flow::Next
    }
}
