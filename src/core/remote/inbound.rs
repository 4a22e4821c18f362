//! A stream by which another server or a component sends to us: what of it is handled and durable (XEP-0198).

use std::sync::Arc;

use parking_lot::Mutex;
use rookery_xmpp::ack;
use tokio::sync::Notify;

use crate::server::Server;
use crate::session::Receipt;

/// What comes by a stream of another server or a component. It lives as long as the stream can be resumed, over all its
/// connections.
pub struct Inbound {
    id: u64,
    acks: Mutex<Option<Acks>>,
    wake: Notify,
    settled: Notify,
}

struct Acks {
    incoming: ack::Incoming,
    /// The peer asked, and some stanza was not durable yet.
    answer_due: bool,
    answer_now: bool,
}

impl Inbound {
    /// A stream that has just been opened.
    pub fn new(server: &Server) -> Arc<Self> {
        Arc::new(Self { id: server.next_stream(), acks: Mutex::new(None), wake: Notify::new(), settled: Notify::new() })
    }

    /// Names the stream in the log.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Turns stream management on; `false` when it is on already. From here on stanzas are counted.
    pub fn enable_acks(&self) -> bool {
        let mut acks = self.acks.lock();
        let is_new = acks.is_none();
        acks.get_or_insert_with(|| Acks { incoming: ack::Incoming::new(0), answer_due: false, answer_now: false });
        is_new
    }

    /// Counts a stanza that has come; without stream management there is nothing to count. It counts as handled when the
    /// receipt is dropped.
    pub fn receive(self: &Arc<Self>) -> Option<Receipt> {
        let slot = self.acks.lock().as_mut()?.incoming.receive();
        Some(Receipt::of_stream(self.clone(), slot))
    }

    /// How many of the peer's stanzas are handled and durable.
    pub fn handled(&self) -> u32 {
        self.acks.lock().as_ref().map_or(0, |acks| acks.incoming.h())
    }

    /// The peer asks what is handled: it is told at once, and again when the rest is durable (XEP-0198 §4).
    pub fn answer_acks(&self) {
        if let Some(acks) = self.acks.lock().as_mut() {
            acks.answer_now = true;
            acks.answer_due = acks.incoming.in_flight() > 0;
        }
        self.wake.notify_one();
    }

    /// The `h` of an answer that is to be written now; it is given once.
    pub fn answer(&self) -> Option<u32> {
        let mut acks = self.acks.lock();
        let acks = acks.as_mut()?;
        std::mem::take(&mut acks.answer_now).then(|| acks.incoming.h())
    }

    /// Waits until there may be an [`answer`](Self::answer). Safe to drop at any await.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits until all that has come is handled, so that a resumption can say the exact count.
    pub async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.acks.lock().as_ref().is_none_or(|acks| acks.incoming.in_flight() == 0) {
                return;
            }
            settled.await;
        }
    }

    pub(crate) fn handled_slot(&self, slot: ack::Slot) {
        let mut guard = self.acks.lock();
        let Some(acks) = guard.as_mut() else { return };
        acks.incoming.complete(slot);
        let done = acks.incoming.in_flight() == 0;
        let due = acks.answer_due;
        if due {
            acks.answer_now = true;
            acks.answer_due = !done;
        }
        drop(guard);
        if due {
            self.wake.notify_one();
        }
        if done {
            self.settled.notify_waiters();
        }
    }
}
