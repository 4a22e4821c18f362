//! A device: a client of the subject that talks, listens, is cut off and comes back, and writes all of it into the journal.
//! As real clients do, it sends again under the same id and origin-id what was not acknowledged when its session ended.

mod drive;
mod seats;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rookery_rigs::rng::Rng;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::world::World;

/// What a device is.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Whose, by number.
    pub account: u32,
    /// Its resource.
    pub resource: &'static str,
    /// It has stream management (XEP-0198).
    pub managed: bool,
    /// And asks for its old session when it comes back.
    pub resumes: bool,
    /// It asks for carbons, where the server has them.
    pub carbons: bool,
    /// It reads in the archive what it has not seen, before it is available, where the server has archives.
    pub catches_up: bool,
    /// Its conversations.
    pub talks: Vec<u32>,
    /// From one of its messages to the next.
    pub pace: (Duration, Duration),
    /// Messages that it has unacknowledged at most.
    pub window: usize,
    /// How many messages it sends at most in one spell of talking.
    pub ration: u32,
    /// Bytes of filling in each message.
    pub filling: usize,
    /// The kernel's buffer for what it does not read.
    pub receive_buffer: Option<u32>,
    /// One resumption in so many is tried by two connections at the same time; 0: none.
    pub twice: u64,
    /// It comes back through another listener than it left, half of the times.
    pub roams: bool,
    /// For how long at most a socket stays open whose network went away in silence.
    pub silence: Duration,
    /// The rooms it is in, by their numbers as accounts.
    pub rooms: Vec<u32>,
    /// Under this nickname in all of them.
    pub nick: String,
    /// How many messages of their history it asks for when it enters.
    pub history: u32,
}

impl Spec {
    /// A managed, resuming device with carbons that says nothing.
    pub fn new(account: u32, resource: &'static str) -> Self {
        Self {
            account,
            resource,
            managed: true,
            resumes: true,
            carbons: true,
            catches_up: false,
            talks: Vec::new(),
            pace: (Duration::from_millis(1), Duration::from_millis(10)),
            window: 8,
            ration: u32::MAX,
            filling: 0,
            receive_buffer: None,
            twice: 0,
            roams: false,
            silence: Duration::from_secs(15),
            rooms: Vec::new(),
            nick: String::new(),
            history: 0,
        }
    }

    /// It talks.
    pub fn talking(self, talks: Vec<u32>) -> Self {
        Self { talks, ..self }
    }
}

/// How a connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// By a reset: the server learns at once.
    Reset,
    /// By an end of the socket.
    End,
    /// Without a word; the old socket stays open.
    Silence,
    /// Within a stanza, by an end of the socket.
    Torn,
}

impl Cut {
    /// Any of the first three, or with `torn` of the four.
    pub fn any(rng: &mut Rng, torn: bool) -> Self {
        [Self::Reset, Self::End, Self::Silence, Self::Torn][rng.below(if torn { 4 } else { 3 }) as usize]
    }
}

/// What a device is told to do.
#[derive(Debug)]
enum Command {
    /// Be online, and stay it.
    Come,
    /// Close the stream and stay away.
    Leave,
    /// Lose the connection; come back after a while, or stay away.
    Cut(Cut, Option<Duration>),
    /// Read nothing any more, or read again.
    Freeze(bool),
    /// Ping the server and say when it answered.
    Ping(oneshot::Sender<()>),
    /// Send these bytes; they are no stanza of ours to count.
    Raw(Vec<u8>),
    /// The counters of the session are higher than they were: what it has handled, and what the server has.
    Shift(u32, u32),
    /// End.
    Stop,
}

/// What can be seen of a device from outside.
#[derive(Debug, Default)]
pub struct State {
    /// It has a session and is available.
    pub online: AtomicBool,
    /// Messages that are not acknowledged.
    pub unacked: AtomicUsize,
    /// How often its session was resumed.
    pub resumed: AtomicU64,
    /// How often it was refused, and began a new session.
    pub refused: AtomicU64,
    /// How often two connections both had the session for good.
    pub twins: AtomicU64,
    /// How often the server closed its connection, unasked.
    pub dropped: AtomicU64,
    /// The session that it has, by its number.
    pub session: AtomicU32,
    /// Who it sees in each of its rooms.
    pub views: Mutex<Vec<BTreeSet<String>>>,
    /// Whom it saw leaving a room, since somebody asked.
    pub left: Mutex<BTreeSet<String>>,
    /// How often it was told that it is in a room no more, unasked.
    pub ousted: AtomicU64,
    /// How many messages of rooms came to a session that had not entered them.
    pub early: AtomicU64,
    /// Queries to archives of rooms that are not answered.
    pub reading: AtomicUsize,
    /// How often the newest message that it knew was not in a room's archive.
    pub unknown: AtomicU64,
    /// What went wrong with the protocol.
    pub complaints: Mutex<Vec<String>>,
}

/// A running device.
#[derive(Debug)]
pub struct Device {
    /// Its description.
    pub spec: Spec,
    /// Its number in the journal.
    pub party: u32,
    /// What can be seen of it.
    pub state: Arc<State>,
    commands: mpsc::UnboundedSender<Command>,
    task: Option<JoinHandle<()>>,
}

impl Device {
    /// Starts one, which does nothing yet.
    pub fn new(world: &Arc<World>, spec: Spec, rng: Rng) -> Self {
        let name = format!("{}/{}", world.users[spec.account as usize], spec.resource);
        let party = world.ledger().join(&name, spec.account);
        let state = Arc::new(State::default());
        let (commands, orders) = mpsc::unbounded_channel();
        let drive = drive::Drive::new(Arc::clone(world), spec.clone(), party, Arc::clone(&state), orders, rng);
        Self { spec, party, state, commands, task: Some(tokio::spawn(drive.live())) }
    }

    fn tell(&self, command: Command) {
        self.commands.send(command).expect("a device lives until it is stopped");
    }

    /// Goes online and stays it.
    pub fn come(&self) {
        self.tell(Command::Come);
    }

    /// Closes its stream and stays away.
    pub fn leave(&self) {
        self.state.online.store(false, Ordering::SeqCst);
        self.tell(Command::Leave);
    }

    /// Is cut off; comes back after a while, or stays away.
    pub fn cut(&self, cut: Cut, back: Option<Duration>) {
        self.tell(Command::Cut(cut, back));
    }

    /// Reads nothing any more, or reads again.
    pub fn freeze(&self, frozen: bool) {
        self.tell(Command::Freeze(frozen));
    }

    /// Sends bytes that are no stanza.
    pub fn raw(&self, bytes: &str) {
        self.tell(Command::Raw(bytes.as_bytes().to_vec()));
    }

    /// Counts on from elsewhere: what it has handled, and what the server has.
    pub fn shift(&self, ours: u32, theirs: u32) {
        self.tell(Command::Shift(ours, theirs));
    }

    /// Whether the server answers a ping in time, and how long it takes.
    pub async fn ping(&self, patience: Duration) -> Option<Duration> {
        let (answer, answered) = oneshot::channel();
        let start = std::time::Instant::now();
        self.tell(Command::Ping(answer));
        tokio::time::timeout(patience, answered).await.ok()?.ok()?;
        Some(start.elapsed())
    }

    /// Whether it has a session and is available.
    pub fn is_online(&self) -> bool {
        self.state.online.load(Ordering::SeqCst)
    }

    /// Ends it.
    pub async fn stop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
