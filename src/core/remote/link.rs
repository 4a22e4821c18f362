//! A link: what waits to go from one of our domains to one of another server, and the stream that carries it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::stanza::{Kind, Stanza};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::posted::{self, Known, Over, Posted};
use super::queue::{Carrier, Failed, OVERTIME, Queue};
use super::{Failure, Pair};
use crate::server::Server;
use crate::session::Receipt;
use crate::tail::Receipts;
use crate::writer::Writer;

/// A link that is empty and that nobody has used for so long is dropped.
const IDLE: Duration = Duration::from_secs(60);

/// How much longer than others a stanza waits that a stream has been given and nobody has confirmed, when the stream is gone. It
/// may have arrived: its sender is not told the contrary while the other server may still come back and take it.
const DOUBT: Duration = Duration::from_secs(60 * 60);

/// A stanza that a stream is to write.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its place: those of a link grow. [`Link::confirm`] takes it back.
    pub ticket: u64,
    /// The stanza, with its addresses.
    pub stanza: Arc<Stanza>,
}

/// How much waits in a link.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    /// Stanzas that are not confirmed.
    pub stanzas: usize,
    /// The bytes that they take.
    pub bytes: u64,
    /// A stream carries them.
    pub carried: bool,
    /// How long the oldest has waited.
    pub oldest: Option<Duration>,
    /// Why the last attempt to connect failed, and when, if none has succeeded since.
    pub failure: Option<(Failure, SystemTime)>,
}

/// What bounds a link when something is added to it.
pub(super) struct Room {
    /// Bytes of one link.
    pub(super) link: u64,
    /// Bytes of all.
    pub(super) all: u64,
}

/// Who sends a stanza.
#[derive(Default)]
pub(super) struct Sender {
    /// Who waits for its fate.
    pub(super) waiting: Option<Arc<Receipt>>,
    /// What it is known by, if it may be sent again.
    pub(super) known: Option<Known>,
}

struct State {
    queue: Queue<Arc<Posted>>,
    /// The network knows that the link is wanted.
    is_wanted: bool,
    failure: Option<(Failure, SystemTime)>,
    used: Instant,
    /// One for each carrier: what wakes the present one is not lost to one that is past.
    wake: Arc<Notify>,
}

/// What waits to go from one of our domains to one of another server, in order. It is on disk as far as it has to be.
///
/// There is one for each [`Pair`], made when it is first needed, dropped when it is empty and idle.
pub struct Link {
    pub(super) pair: Arc<Pair>,
    is_component: bool,
    server: Weak<Server>,
    writer: Arc<Writer>,
    /// Bytes in all links.
    all: Arc<AtomicU64>,
    state: Mutex<State>,
}

impl Link {
    pub(super) fn new(pair: Pair, is_component: bool, server: &Arc<Server>) -> Arc<Self> {
        Arc::new(Self {
            pair: Arc::new(pair),
            is_component,
            server: Arc::downgrade(server),
            writer: server.writer.clone(),
            all: server.links.bytes.clone(),
            state: Mutex::new(State {
                queue: Queue::new(),
                is_wanted: false,
                failure: None,
                used: Instant::now(),
                wake: Arc::default(),
            }),
        })
    }

    // ---- for the stream -------------------------------------------------------------------------------------------

    /// The two domains.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Whether a stream carries it.
    pub fn is_carried(&self) -> bool {
        self.state.lock().queue.is_carried()
    }

    /// Whether it leads to an external component.
    pub fn is_component(&self) -> bool {
        self.is_component
    }

    /// A stream that is ready to carry the link takes it over; whoever carried it before is past. What was handed out and
    /// never confirmed goes out again, first.
    pub fn carry(&self) -> Carrier {
        let mut state = self.state.lock();
        let past = state.wake.clone();
        let carrier = state.take_over();
        drop(state);
        past.notify_one();
        carrier
    }

    /// The same unless a stream carries it already: that one may have written what is not confirmed, and a second one would
    /// write it again.
    pub fn carry_if_free(&self) -> Option<Carrier> {
        let mut state = self.state.lock();
        if state.queue.is_carried() {
            return None;
        }
        Some(state.take_over())
    }

    /// The next stanza to be written; `None` when nothing waits, or the carrier is past.
    pub fn next(&self, carrier: Carrier) -> Option<Due> {
        let mut state = self.state.lock();
        let (ticket, posted) = state.queue.next(carrier, Instant::now())?;
        Some(Due { ticket, stanza: posted.stanza.clone() })
    }

    /// The peer has all that this carrier was handed up to this ticket, for certain: its `h` says so (XEP-0198), or it has
    /// answered a ping that was sent after. A carrier that is past is still believed.
    pub fn confirm(&self, carrier: Carrier, up_to: u64) {
        let confirmed = {
            let mut state = self.state.lock();
            state.used = Instant::now();
            let was_careful = state.queue.is_careful();
            let confirmed = state.queue.confirm(carrier, up_to);
            if was_careful {
                // The next one has waited for this.
                state.wake.notify_one();
            }
            confirmed
        };
        self.subtract(confirmed.iter());
        for posted in confirmed {
            let Over { receipts, is_stored, .. } = posted.over();
            if is_stored {
                self.writer.remove_posted(posted.id);
            }
            drop(receipts);
        }
    }

    /// The stream does not write what it was handed under this ticket, and never will: the peer would not take it (too
    /// large, XEP-0478). Its sender is told; no other stream gets it.
    pub fn refuse(&self, carrier: Carrier, ticket: u64, error: &StanzaError) {
        let refused = self.state.lock().queue.refuse(carrier, ticket);
        let refused = refused.map(|what| Failed { what, in_doubt: false });
        self.send_back(refused.into_iter().collect(), error);
    }

    /// The peer has ended the carrier's stream with an error that may be about what it was sent. What it ends stream after
    /// stream over goes back to its sender, and the rest goes on. To be called before [`Self::let_go`].
    pub fn blame(&self, carrier: Carrier) {
        let failed = self.state.lock().queue.blame(carrier);
        let text = format!("{} ends its streams when it is sent this.", self.pair.remote);
        self.send_back(failed.into_iter().collect(), &StanzaError::new(Condition::UndefinedCondition).with_text(text));
    }

    /// The peer has dropped the carrier's connection, and does not go on with it: the same for what it does that over. Only for
    /// the link whose stanza was written first of all that the stream has unconfirmed; to be called before [`Self::let_go`].
    pub fn dropped(&self, carrier: Carrier) {
        let failed = self.state.lock().queue.dropped(carrier);
        self.send_back(failed.into_iter().collect(), &self.deadly());
    }

    /// The peer goes on with the carrier's stream, and has dropped connection after connection with the stanza of this
    /// ticket first of those that it had not handled: its sender is told, and nobody has it again.
    pub fn abandon(&self, carrier: Carrier, ticket: u64) {
        let refused = self.state.lock().queue.refuse(carrier, ticket);
        let failed = refused.map(|what| Failed { what, in_doubt: true });
        self.send_back(failed.into_iter().collect(), &self.deadly());
    }

    fn deadly(&self) -> StanzaError {
        let text = format!("{} drops the connection when it is sent this.", self.pair.remote);
        StanzaError::new(Condition::UndefinedCondition).with_text(text)
    }

    /// Whether its stanzas go one by one, since the peer may have ended a stream over one of them. Then nothing of another link
    /// may be unconfirmed on the same stream either.
    pub fn is_careful(&self) -> bool {
        self.state.lock().queue.is_careful()
    }

    /// Whether the carrier is the one that carries; one that is not has nothing more to do here.
    pub fn is_current(&self, carrier: Carrier) -> bool {
        self.state.lock().queue.is_current(carrier)
    }

    /// Waits until there may be something for the carrier, or it is past. Safe to drop at any await.
    pub async fn woken(&self, carrier: Carrier) {
        let wake = {
            let state = self.state.lock();
            if !state.queue.is_current(carrier) {
                return;
            }
            state.wake.clone()
        };
        wake.notified().await;
    }

    /// The stream is gone and will not be resumed: what it did not confirm waits again, in front. The connection must be cut
    /// off by then, so that nothing of it arrives any more.
    pub fn let_go(self: &Arc<Self>, carrier: Carrier) {
        let mut state = self.state.lock();
        state.used = Instant::now();
        if !state.queue.let_go(carrier) {
            return;
        }
        let past = std::mem::take(&mut state.wake);
        let is_wanted = state.wants();
        drop(state);
        past.notify_one();
        if is_wanted {
            self.want();
        }
    }

    /// Connecting has failed. A definite failure sends back all that waits but what may have arrived; with another one it
    /// waits until its time is up. A link that is carried meanwhile goes on.
    pub fn failed(&self, failure: Failure) {
        let mut state = self.state.lock();
        if state.queue.is_carried() {
            return;
        }
        state.is_wanted = false;
        let failed = if failure.definite { state.queue.turn_back() } else { Vec::new() };
        let error = StanzaError::new(failure.condition).with_text(failure.text.clone());
        state.failure = Some((failure, SystemTime::now()));
        drop(state);
        self.send_back(failed, &error);
    }

    /// How much waits.
    pub fn waiting(&self) -> Waiting {
        let state = self.state.lock();
        let age = |posted: &Arc<Posted>| SystemTime::now().duration_since(posted.stamp).unwrap_or_default();
        Waiting {
            stanzas: state.queue.len(),
            bytes: state.queue.bytes(),
            carried: state.queue.is_carried(),
            oldest: state.queue.first().map(age),
            failure: state.failure.clone(),
        }
    }

    // ---- for the server -------------------------------------------------------------------------------------------

    /// Appends a stanza, unless there is no room.
    pub(super) fn post(
        self: &Arc<Self>,
        server: &Server,
        stanza: Stanza,
        durable: bool,
        sender: Sender,
        wait: Duration,
        room: &Room,
    ) -> Result<Arc<Posted>, (Box<Stanza>, StanzaError)> {
        let size = posted::size(&stanza);
        // What is not stored is handled when it is in the queue.
        let receipts: Receipts = sender.waiting.into_iter().filter(|_| durable).collect();
        let mut state = self.state.lock();
        if durable && (server.writer.is_full() || (server.writer.is_failing() && !state.queue.is_carried())) {
            return Err((Box::new(stanza), Writer::refusal()));
        }
        if state.queue.bytes() + size > room.link || self.all.load(Ordering::Relaxed) + size > room.all {
            let text = format!("Too much waits for {} already; please try again later.", self.pair.remote);
            let error = StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Wait).with_text(text);
            return Err((Box::new(stanza), error));
        }
        self.all.fetch_add(size, Ordering::Relaxed);
        // Under the lock, so that the order of the ids is that of the queue.
        let doubt = self.doubt(&stanza);
        let id = server.ids.next();
        let posted = Posted::new(id, self, stanza, durable, receipts, sender.known);
        let now = Instant::now();
        state.used = now;
        // Whoever was called for what there was before may have gone home.
        state.is_wanted &= !state.queue.is_empty();
        state.queue.push(id, size, now + wait, doubt, posted.clone());
        state.wake.notify_one();
        let is_wanted = state.wants();
        drop(state);
        if durable {
            self.writer.append_posted(posted.clone());
        }
        if is_wanted {
            self.want();
        }
        Ok(posted)
    }

    /// Lists one that was on disk when the server started. It may have arrived before; and its sender may not be back yet to be
    /// told anything.
    pub(super) fn recall(self: &Arc<Self>, id: u64, stanza: Stanza, stamp: SystemTime, wait: Duration) {
        let doubt = self.doubt(&stanza);
        let posted = Posted::stored(id, self, stanza, stamp);
        let size = posted.size();
        self.all.fetch_add(size, Ordering::Relaxed);
        self.state.lock().queue.recall(id, size, Instant::now() + wait, doubt, posted);
    }

    /// How much longer a stanza waits when it may have arrived. Whoever asks something is told in time; a component says
    /// nothing of what it has, nor has what it had when it comes back.
    fn doubt(&self, stanza: &Stanza) -> Duration {
        match stanza.head.kind {
            Kind::Iq(_) => OVERTIME,
            _ if self.is_component => Duration::ZERO,
            _ => DOUBT,
        }
    }

    /// Tells the network if something waits that nobody carries.
    pub(super) fn ask(self: &Arc<Self>) {
        if self.state.lock().wants() {
            self.want();
        }
    }

    fn want(self: &Arc<Self>) {
        let Some(server) = self.server.upgrade().filter(|_| !self.is_component) else { return };
        if let Some(net) = server.links.net() {
            net.wanted(self.clone());
        }
    }

    /// Sends back what has waited too long.
    pub(super) fn expire(self: &Arc<Self>, now: Instant) {
        let mut state = self.state.lock();
        let was_carried = state.queue.is_carried();
        let failed = state.queue.expire(now);
        let is_carried = state.queue.is_carried();
        let is_wanted = was_carried && !is_carried && state.wants();
        if was_carried && !is_carried {
            // The carrier was too slow and is past: it sees that when it wakes.
            std::mem::take(&mut state.wake).notify_one();
        }
        let error = (!failed.is_empty()).then(|| self.late(&mut state));
        drop(state);
        if let Some(error) = error {
            self.send_back(failed, &error);
        }
        if is_wanted {
            self.want();
        }
    }

    /// What senders are told whose time is up.
    fn late(&self, state: &mut State) -> StanzaError {
        let remote = &self.pair.remote;
        let text = match self.is_component {
            true => format!("The component {remote} is not connected."),
            false => format!("{remote} did not answer in time."),
        };
        let failure = Failure { definite: false, condition: Condition::RemoteServerTimeout, text };
        let why = match &mut state.failure {
            Some((known, _)) => known.text.clone(),
            // Whoever connects may be waiting still; but nobody has come through in all this time.
            none if !state.queue.is_carried() => none.insert((failure, SystemTime::now())).0.text.clone(),
            None => failure.text,
        };
        StanzaError::new(Condition::RemoteServerTimeout).with_text(why)
    }

    /// Sends back all that waits and is not with a carrier.
    pub(super) fn give_up(&self, error: &StanzaError) {
        let failed = self.state.lock().queue.give_up();
        self.send_back(failed, error);
    }

    /// A stanza that the database does not take, and that no stream has been handed either: its sender is to be told.
    pub(crate) fn take(&self, id: u64) -> Option<Arc<Posted>> {
        let posted = self.state.lock().queue.take(id)?.what;
        self.subtract([&posted]);
        Some(posted)
    }

    /// Whether it can be dropped: nobody else holds it now, and nothing is in it.
    pub(super) fn is_idle(self: &Arc<Self>, now: Instant) -> bool {
        let state = self.state.lock();
        state.queue.is_empty() && now.saturating_duration_since(state.used) >= IDLE && Arc::strong_count(self) == 1
    }

    fn subtract<'a>(&self, gone: impl IntoIterator<Item = &'a Arc<Posted>>) {
        let bytes: u64 = gone.into_iter().map(|posted| posted.size()).sum();
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn send_back(&self, failed: Vec<Failed<Arc<Posted>>>, error: &StanzaError) {
        self.subtract(failed.iter().map(|failed| &failed.what));
        let Some(server) = self.server.upgrade().filter(|_| !failed.is_empty()) else { return };
        // From here on the writer passes them over, and they may be sent again.
        let failed: Vec<_> = failed
            .into_iter()
            .map(|Failed { what, in_doubt }| {
                let text = error.text.clone().unwrap_or_default();
                let error = match in_doubt {
                    true => error.clone().with_text(format!("{text} It is not known whether this has arrived.")),
                    false => error.clone(),
                };
                let over = what.failed(&server);
                (what, over, error)
            })
            .collect();
        tokio::spawn(async move {
            for (posted, over, error) in failed {
                posted.send_back(&server, over, error).await;
            }
        });
    }
}

impl State {
    fn take_over(&mut self) -> Carrier {
        self.is_wanted = false;
        self.failure = None;
        self.wake = Arc::default();
        self.queue.carry()
    }

    /// Whether the network is to be told that the link is wanted; notes that it is.
    fn wants(&mut self) -> bool {
        let wants = !self.is_wanted && !self.queue.is_carried() && !self.queue.is_empty();
        self.is_wanted |= wants;
        wants
    }
}
