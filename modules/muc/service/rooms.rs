//! The rooms of one service: which are in memory, and who is busy with them.
//!
//! A room is loaded when something arrives for it, and let go when it is empty and quiet, or gone. One at a time is busy
//! with it: what comes meanwhile, also by the busy one's own doing, is left in the queue ([`super::turn`]). That is the
//! room's order.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rookery_core::module::Arrival;
use rookery_core::server::Server;
use rookery_core::store::StoreError;
use rookery_core::turns;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::{BareJid, FullJid};
use rookery_xmpp::stanza::{Kind, PresenceType};

use super::commands::{Answers, Founding};
use super::creation::Makers;
use super::directory::Directory;
use super::terms::Terms;
use super::turn::{self, Open};
use crate::muc::outcome::{At, Outcome};
use crate::muc::room::Room;

/// So much waits for a busy room at most: stanzas, and bytes of them.
const MOST_WAITING: (usize, usize) = (5000, 16 << 20);

/// A turn that takes longer goes on beside whoever has begun it.
const SLOW: Duration = Duration::from_millis(500);

/// A service.
pub(super) struct Rooms {
    domain: BareJid,
    host: BareJid,
    terms: RwLock<Arc<Terms>>,
    halls: Mutex<HashMap<BareJid, Arc<Hall>>>,
    /// The rooms that everybody may find.
    pub(super) directory: Mutex<Directory>,
    /// Who has made which.
    pub(super) makers: Makers,
    /// What the service waits for itself.
    pub(super) answers: Answers,
    /// Rooms that were let go before all of them was on disk.
    pub(super) unsettled: Mutex<HashSet<BareJid>>,
    /// Rooms that somebody was in when the server ended, or when they were lost, and that were not looked into since.
    pub(super) haunted: Mutex<BTreeMap<BareJid, Haunted>>,
}

/// Where a room is, or will be.
pub(super) struct Hall {
    pub(super) jid: BareJid,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) waiting: VecDeque<Job>,
    bytes: usize,
    /// Somebody has the room, and sees to what waits.
    pub(super) busy: bool,
    /// The room while nobody is busy with it; `None` if it is not in memory.
    pub(super) room: Option<Box<Open>>,
    /// Nobody finds the hall any more.
    is_out: bool,
}

/// Since when a room is not in memory, though there may be people in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haunted {
    /// Who is there now was not there before, unless its session goes on.
    SinceRestart,
    /// It was lost, and they were not.
    InThisRun,
}

/// Something to do with a room, if it is there, that is done with its answer: for commands and the like.
pub(super) type Ask = Box<dyn FnOnce(Option<&mut Room>) -> Outcome + Send>;

/// What a room has to do.
pub(super) enum Job {
    /// A stanza has come.
    Stanza(Arrival),
    /// Sessions do not take what they are sent, or there is no way to them.
    Lost(Vec<FullJid>),
    /// A session is not there any more, which was in the room by this stream.
    Gone(FullJid, Option<u64>),
    /// Time has passed.
    Tick,
    /// Those who are there no more are to be found.
    Sweep,
    /// Something else, by somebody inside the server.
    Ask(Ask),
    /// An admin makes the room.
    Found(Box<Founding>),
}

impl Job {
    fn size(&self) -> usize {
        match self {
            Self::Stanza(arrival) => arrival.stanza.size(),
            _ => 0,
        }
    }

    /// Whether it may be refused: that somebody has left is to be known in any case.
    fn is_optional(&self) -> bool {
        let Self::Stanza(arrival) = self else { return false };
        !matches!(arrival.stanza.head.kind, Kind::Presence(PresenceType::Unavailable | PresenceType::Error))
            && !arrival.stanza.head.kind.is_error()
    }
}

impl State {
    pub(super) fn next(&mut self) -> Option<Job> {
        let job = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(job.size());
        if self.waiting.is_empty() && self.waiting.capacity() > 64 {
            self.waiting = VecDeque::new();
        }
        Some(job)
    }
}

/// What became of a job.
enum LinedUp {
    /// Whoever has brought it is to be busy now.
    Free(Option<Box<Open>>),
    /// Somebody is busy.
    Waits,
    /// Too much waits.
    Refused(Box<Job>),
    /// The hall has been left.
    Out(Box<Job>),
}

impl Hall {
    fn line_up(&self, job: Job) -> LinedUp {
        let mut state = self.state.lock();
        if state.is_out {
            return LinedUp::Out(Box::new(job));
        }
        let size = job.size();
        if job.is_optional() && (state.waiting.len() >= MOST_WAITING.0 || state.bytes + size > MOST_WAITING.1) {
            return LinedUp::Refused(Box::new(job));
        }
        state.bytes += size;
        state.waiting.push_back(job);
        if state.busy {
            return LinedUp::Waits;
        }
        state.busy = true;
        LinedUp::Free(state.room.take())
    }
}

impl Rooms {
    pub(super) fn new(domain: BareJid, host: BareJid, terms: Arc<Terms>) -> Arc<Self> {
        Arc::new(Self {
            domain,
            host,
            terms: RwLock::new(terms),
            halls: Mutex::default(),
            directory: Mutex::default(),
            makers: Makers::default(),
            answers: Answers::default(),
            unsettled: Mutex::default(),
            haunted: Mutex::default(),
        })
    }

    pub(super) fn domain(&self) -> &BareJid {
        &self.domain
    }

    /// The host that the service belongs to.
    pub(super) fn host(&self) -> &BareJid {
        &self.host
    }

    pub(super) fn terms(&self) -> Arc<Terms> {
        self.terms.read().clone()
    }

    pub(super) fn set_terms(&self, terms: &Arc<Terms>) {
        *self.terms.write() = terms.clone();
    }

    /// A stanza for the service or one of its rooms.
    pub(super) async fn arrived(self: &Arc<Self>, server: &Arc<Server>, arrival: Arrival) {
        let Some(to) = arrival.stanza.head.to.clone() else { return };
        if to.localpart().is_none() {
            return self.asked(server, arrival).await;
        }
        self.give(server, &to.bare(), Job::Stanza(arrival)).await;
    }

    /// Has a room do something: here and now, or when it is free.
    pub(super) async fn give(self: &Arc<Self>, server: &Arc<Server>, room: &BareJid, mut job: Job) {
        loop {
            let hall = {
                let mut halls = self.halls.lock();
                let new = || Arc::new(Hall { jid: room.clone(), state: Mutex::default() });
                halls.entry(room.clone()).or_insert_with(new).clone()
            };
            match hall.line_up(job) {
                LinedUp::Waits => return,
                LinedUp::Free(open) => {
                    let mut turn = Box::pin(turn::run(self.clone(), server.clone(), hall, open));
                    // A database that does not answer is no reason to keep a client from its other business.
                    if !server.within(SLOW, &mut turn).await {
                        server.beside(turn);
                    }
                    return;
                }
                LinedUp::Out(again) => job = *again,
                LinedUp::Refused(job) => {
                    if let Job::Stanza(arrival) = *job {
                        let text = "This room has more to do than it can at the moment; please try again later.";
                        let error = StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Wait);
                        server.bounce(&arrival.stanza, error.with_text(text), None).await;
                    }
                    return;
                }
            }
        }
    }

    /// Asks a room something, when it is free. `None` when it is not there.
    pub(super) async fn ask_room<T: Send + 'static>(
        self: &Arc<Self>,
        server: &Arc<Server>,
        room: &BareJid,
        ask: impl FnOnce(&mut Room, At) -> (T, Outcome) + Send + 'static,
    ) -> Result<Option<T>, StanzaError> {
        let (tell, told) = turns::word();
        let for_ids = server.clone();
        let ask: Ask = Box::new(move |room| {
            let at = turn::now(&for_ids);
            let (answer, outcome) = room.map(|room| ask(room, at)).unzip();
            tell(answer);
            outcome.unwrap_or_default()
        });
        self.give(server, room, Job::Ask(ask)).await;
        told.await.ok_or_else(|| StanzaError::new(Condition::InternalServerError).with_kind(ErrorKind::Wait))
    }

    /// Forgets a hall that nobody is in and nothing waits for.
    pub(super) fn leave(&self, hall: &Arc<Hall>) {
        let mut halls = self.halls.lock();
        let mut state = hall.state.lock();
        if !state.busy && state.waiting.is_empty() && state.room.is_none() && !state.is_out {
            state.is_out = true;
            halls.remove(&hall.jid);
        }
    }

    /// A room is lost from memory though there may be people in it.
    pub(super) fn look_again(&self, room: &BareJid) {
        self.unsettled.lock().insert(room.clone());
        self.haunted.lock().entry(room.clone()).or_insert(Haunted::InThisRun);
    }

    /// The rooms in memory.
    pub(super) fn loaded(&self) -> Vec<BareJid> {
        self.halls.lock().keys().cloned().collect()
    }

    /// Time passes for the rooms in memory.
    pub(super) fn look_after(self: &Arc<Self>, server: &Arc<Server>) {
        {
            let mut unsettled = self.unsettled.lock();
            if server.has_stored_all() {
                *unsettled = HashSet::new();
            }
        }
        let (rooms, server) = (self.clone(), server.clone());
        server.clone().beside(async move {
            for room in rooms.loaded() {
                rooms.give(&server, &room, Job::Tick).await;
            }
            // Those that could not be read when the server started, and those that were lost.
            let haunted: Vec<BareJid> = rooms.haunted.lock().keys().cloned().collect();
            for room in haunted {
                rooms.give(&server, &room, Job::Sweep).await;
            }
        });
    }

    /// When the server starts: which rooms there are, and who was in them.
    pub(super) async fn begin(self: &Arc<Self>, server: &Arc<Server>) -> Result<(), StoreError> {
        if self.directory.lock().is_complete() {
            return Ok(());
        }
        self.read_directory(server).await?;
        let visited = server.store.visited_rooms(&self.domain).await?;
        self.haunted.lock().extend(visited.iter().map(|room| (room.clone(), Haunted::SinceRestart)));
        let (rooms, server) = (self.clone(), server.clone());
        server.clone().beside(async move {
            for room in visited {
                rooms.give(&server, &room, Job::Sweep).await;
            }
        });
        Ok(())
    }
}
