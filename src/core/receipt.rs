//! A stanza that has come by a stream with acknowledgements (XEP-0198) and is being handled: a client's or another
//! server's.

use std::sync::{Arc, OnceLock, Weak};

use rookery_xmpp::ack;

use crate::remote::Inbound;
use crate::session::Session;
use crate::tail::Kept;

/// Whose count the stanza is in.
enum Owner {
    Session(Arc<Session>),
    Stream(Arc<Inbound>),
}

/// A stanza that is being handled; dropping it counts the stanza as handled (XEP-0198 `h`).
///
/// Whoever takes responsibility for the stanza holds the receipt until that is on disk.
pub struct Receipt {
    owner: Owner,
    slot: ack::Slot,
    /// What the sender's own account has recorded of it.
    record: OnceLock<Weak<Kept>>,
    /// The sender's account knows it under this id: it was sent again.
    first: OnceLock<u64>,
}

impl Receipt {
    pub(crate) fn of_session(session: Arc<Session>, slot: ack::Slot) -> Self {
        Self { owner: Owner::Session(session), slot, record: OnceLock::new(), first: OnceLock::new() }
    }

    pub(crate) fn of_stream(inbound: Arc<Inbound>, slot: ack::Slot) -> Self {
        Self { owner: Owner::Stream(inbound), slot, record: OnceLock::new(), first: OnceLock::new() }
    }

    pub(crate) fn stands_for(&self, record: &Arc<Kept>) {
        // A stanza is recorded once.
        let _ = self.record.set(Arc::downgrade(record));
    }

    pub(crate) fn comes_again(&self, first: u64) {
        let _ = self.first.set(first);
    }

    /// Under which id its sender's account knows it, if it was sent again.
    pub(crate) fn first(&self) -> Option<u64> {
        self.first.get().copied()
    }

    /// The stanza was refused since it could not be stored, and its sender is told: what its own account has recorded of
    /// it goes as well. Not with a tail locked.
    pub(crate) fn withdraw(&self) {
        if let Some(record) = self.record.get().and_then(Weak::upgrade) {
            record.withdraw();
        }
    }

    /// The session whose client sent the stanza; `None` when it came from another server.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        match &self.owner {
            Owner::Session(session) => Some(session),
            Owner::Stream(_) => None,
        }
    }

    /// The stream that it came by, as the log names it: on one stream nothing is sent again.
    pub(crate) fn stream(&self) -> u64 {
        match &self.owner {
            Owner::Session(session) => session.stream.id,
            Owner::Stream(inbound) => inbound.id(),
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        match &self.owner {
            Owner::Session(session) => session.handled_slot(self.slot),
            Owner::Stream(inbound) => inbound.handled_slot(self.slot),
        }
    }
}
