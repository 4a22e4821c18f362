//! How archives are asked (XEP-0313): a session's queries are answered one after the other, each as fast as the session
//! reads, and nobody asks, or makes the database look through long archives, for more than their share (security.md B16).

use std::sync::Arc;
use std::time::Duration;

use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::stanza::Stanza;

use super::pages::{Piece, Whole};
use crate::account::Account;
use crate::module::Setup;
use crate::session::{Pushed, Session};
use crate::slots::Slot;
use crate::store::ArchivedMessage;
use crate::turns::{Pace, Place, Queue};

/// Queries of one session that may be in hand: one that is answered, and others that wait for their turn.
const IN_HAND: usize = 10;
/// A query of more bytes is not kept as it is while it waits.
const LARGE: usize = 4096;
/// How often an account may query in the long run, and how often at once.
const INTERVAL: Duration = Duration::from_millis(200);
const BURST: u32 = 50;

/// Whose modules share these slots: what an account may ask is one measure for all archives.
const OWNER: &str = "archives";

/// Where sessions and accounts keep what they have asked.
pub struct Asking {
    queue: Slot<Option<Arc<Queue>>>,
    pace: Slot<Option<Arc<Pace>>>,
}

impl Asking {
    /// The same places for every module.
    pub fn new(setup: &Setup<'_>) -> Self {
        let server = setup.server;
        Self { queue: server.session_slots.slot(OWNER, "queue"), pace: server.account_slots.slot(OWNER, "pace") }
    }

    /// A place in the session's queue; the error is for a client that has asked too much.
    pub fn line_up(&self, session: &Session) -> Result<Place, StanzaError> {
        let queue = session.update(self.queue, |queue: &mut Option<Arc<Queue>>| {
            queue.get_or_insert_with(|| Arc::new(new_queue())).clone()
        });
        queue.and_then(|queue| queue.line_up()).ok_or_else(too_many)
    }

    /// The pace of an account, all of its sessions together.
    pub fn pace(&self, account: &Account) -> Arc<Pace> {
        let new = || Arc::new(new_pace());
        let pace = account.update(self.pace, |pace: &mut Option<Arc<Pace>>| pace.get_or_insert_with(new).clone());
        pace.unwrap_or_else(new)
    }
}

/// A queue as each session has one.
pub fn new_queue() -> Queue {
    Queue::new(IN_HAND)
}

/// A pace as each account has one.
pub fn new_pace() -> Pace {
    Pace::new(INTERVAL, BURST)
}

/// What who has no more place in a queue is told.
pub fn too_many() -> StanzaError {
    let text = "Your client has as many queries under way as are allowed.";
    StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Wait).with_text(text)
}

/// Makes a request small that may wait for long, and that has been read: only its head is needed for the answer.
pub fn lighten(request: &mut Stanza) {
    if request.size() > LARGE {
        request.children_mut().clear();
    }
}

/// Sends a page, each message when the session has room for it. `push` makes the result and sends it; what it has none for
/// is passed over. `false` when the session has ended meanwhile: it is owed nothing more.
pub async fn deliver<P: Piece>(
    session: &Session,
    page: Whole<P>,
    flip: bool,
    mut push: impl FnMut(&P, &ArchivedMessage) -> Option<Pushed>,
) -> bool {
    for piece in page.into_pieces(flip) {
        let mut messages: Vec<_> = piece.page().messages.iter().collect();
        if flip {
            messages.reverse();
        }
        for message in messages {
            if !session.room().await || push(&piece, message) == Some(Pushed::Refused) {
                return false;
            }
        }
    }
    true
}
