//! Copies of a message for other sessions of its account, as modules ask for them at `Stage::Copy` (XEP-0280). They are
//! sent when the message itself is, and a message that is refused after all is not copied.

use std::sync::Arc;

use parking_lot::Mutex;
use rookery_xmpp::stanza::{Kind, MessageType, Stanza};

use crate::account::Account;
use crate::host::Host;
use crate::module::{Cx, Stage, Way};
use crate::router::InOrder;
use crate::server::Server;
use crate::session::Session;
use crate::tail::{Kept, Tail};

/// Copies that are to be sent, each with its session.
#[derive(Default)]
pub(crate) struct Copies(Mutex<Vec<(Arc<Session>, Arc<Stanza>)>>);

impl Copies {
    /// Whether there are any.
    pub(crate) fn is_any(&self) -> bool {
        !self.0.lock().is_empty()
    }

    /// Sends them. `kept`: what they are copies of, if it waits in the tail. The tail is locked.
    pub(crate) fn send(&self, kept: Option<&Arc<Kept>>) {
        for (session, copy) in std::mem::take(&mut *self.0.lock()) {
            session.push_copy(copy, kept.cloned());
        }
    }

    /// A session that has sent no presence yet gets the tail with its first one. A copy of what lies there behind older
    /// messages would overtake them, unless it has copies of those: it is to get the message itself in its turn.
    pub(crate) fn leave_to_tail(&self, tail: &Tail) {
        self.0.lock().retain(|(session, _)| session.priority().is_some() || session.has_all(tail));
    }
}

impl Cx<'_> {
    /// A copy of the message goes to this session, which gets it with its own full JID as recipient. To be used at
    /// [`Stage::Copy`]. A session that has no room for it ends, and says why: a copy does not go missing in silence.
    pub fn copy(&self, session: &Arc<Session>, copy: &Arc<Stanza>) {
        self.copies.0.lock().push((session.clone(), copy.clone()));
    }
}

impl Server {
    /// What goes to no session may be copied to some all the same. The tail is locked.
    pub(crate) fn copy_alone(self: &Arc<Self>, host: &Arc<Host>, account: &Arc<Account>, stanza: &mut Stanza) {
        let order = InOrder::new(host, account, Way::Incoming);
        if self.pass_in_order(&order, stanza, Stage::Copy).is_ok() {
            order.copies.send(None);
        }
    }

    /// Copies an error that the server has sent to the session whose message it came of.
    pub(crate) fn copy_error(self: &Arc<Self>, session: &Arc<Session>, mut error: Stanza) {
        if error.head.kind != Kind::Message(MessageType::Error) {
            return;
        }
        let account = &session.account;
        let Some(host) = self.host(account.jid.domainpart()) else { return };
        let _order = account.tail.lock();
        let order = InOrder { targets: std::slice::from_ref(session), ..InOrder::new(&host, account, Way::Incoming) };
        if self.pass_in_order(&order, &mut error, Stage::Copy).is_ok() {
            order.copies.send(None);
        }
    }
}
