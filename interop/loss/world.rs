//! What a scenario happens in: the subject, its accounts, the journal, and those who watch.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rookery_rigs::client::{Connection, Target, Transport};
use rookery_rigs::rng::Rng;
use rookery_rigs::server::{self, Choice, DOMAIN, PASSWORD, ROOMS, Server, Setup};
use rookery_rigs::{Failure, process, within, xml};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::archive;
use crate::device::Device;
use crate::ledger::{Care, Key, Ledger, What};

/// How long those who wait for something wait.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing may come before what is missing counts as lost.
const SILENCE: Duration = Duration::from_secs(5);
/// How long second copies get to show themselves.
const QUIET: Duration = Duration::from_millis(150);

/// What all scenarios take.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The subject
    #[command(flatten)]
    pub server: Choice,
    /// Where the random moments come from; printed, so that a run can be played again
    #[arg(long)]
    pub seed: Option<u64>,
    /// Write the whole journal to this file
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
}

/// When the server is to be killed, and how that went.
#[derive(Debug, Default)]
struct Trigger {
    armed: bool,
    killed: bool,
    gap: Option<Duration>,
}

/// Stanzas by the order in which a connection's `h` counts them, for each connection by its port.
type Counted = HashMap<u16, Vec<Option<Key>>>;

/// The world.
#[derive(Debug)]
pub struct World {
    server: Mutex<Server>,
    /// Where to connect: a listener without TLS.
    pub target: Target,
    /// Where else: one that begins with it.
    pub elsewhere: Target,
    /// Accounts, by number.
    pub users: Vec<String>,
    /// Rooms; as accounts, their numbers come after those of the users.
    pub rooms: Vec<String>,
    /// The server has carbons.
    pub has_carbons: bool,
    /// Devices that talk may do so.
    pub talking: watch::Sender<bool>,
    ledger: Mutex<Ledger>,
    auditors: Vec<u32>,
    trigger: Mutex<Trigger>,
    counted: Mutex<Option<Counted>>,
    peak: AtomicU64,
}

impl World {
    /// Starts the subject and makes its accounts.
    pub async fn new(options: &Options, setup: Setup, users: Vec<String>, seed: u64) -> Result<Arc<Self>, Failure> {
        Self::with_rooms(options, setup, users, 0, seed).await
    }

    /// The same, with names for so many rooms, which nobody has made yet.
    pub async fn with_rooms(
        options: &Options,
        setup: Setup,
        users: Vec<String>,
        rooms: usize,
        seed: u64,
    ) -> Result<Arc<Self>, Failure> {
        let setup = Setup { rooms: rooms > 0, ..setup };
        let rooms = names("room", rooms);
        let mut server = Server::with(&options.server, setup)?;
        server.start()?;
        server.add_accounts(&users)?;
        let target = server.target(Transport::Plain);
        let elsewhere = server.target(Transport::Direct);
        let (has_archive, has_carbons) = traits(&target, &users[0]).await?;
        let mut ledger = Ledger::new(seed as u16, has_archive);
        let owners = users.iter().chain(&rooms).enumerate();
        let auditors = owners.map(|(at, name)| ledger.join(&format!("{name}/archive"), at as u32)).collect();
        Ok(Arc::new(Self {
            server: Mutex::new(server),
            target,
            elsewhere,
            users,
            rooms,
            has_carbons,
            talking: watch::Sender::new(false),
            ledger: Mutex::new(ledger),
            auditors,
            trigger: Mutex::default(),
            counted: Mutex::default(),
            peak: AtomicU64::new(0),
        }))
    }

    /// The journal.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no panic while locked")
    }

    /// The subject.
    pub fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().expect("no panic while locked")
    }

    /// Writes a line into the journal that is about no message.
    pub fn mark(&self, text: &str) {
        self.ledger().note(u32::MAX, What::Mark(text.into()));
    }

    /// The bare JID of an account or a room.
    pub fn jid(&self, number: u32) -> String {
        let number = number as usize;
        match number.checked_sub(self.users.len()) {
            Some(room) => format!("{}@{ROOMS}", self.rooms[room]),
            None => format!("{}@{DOMAIN}", self.users[number]),
        }
    }

    /// A room's number as an account.
    pub fn room(&self, number: usize) -> u32 {
        (self.users.len() + number) as u32
    }

    /// A message, as it goes over the wire.
    pub fn message(&self, key: Key, filling: usize) -> Vec<u8> {
        let (id, conversation) = {
            let ledger = self.ledger();
            (ledger.id(key), ledger.conversation(key.conversation))
        };
        let to = self.jid(conversation.to);
        let kind = if conversation.care == Care::Room { "groupchat" } else { "chat" };
        let hint = if conversation.care == Care::Unstored { "<no-store xmlns='urn:xmpp:hints'/>" } else { "" };
        let filling = "x".repeat(filling);
        format!(
            "<message to='{to}' type='{kind}' id='{id}'><body>Text of {id}. {filling}</body>\
             <origin-id xmlns='urn:xmpp:sid:0' id='{id}'/>{hint}</message>"
        )
        .into_bytes()
    }

    /// Arms the kill: the next acknowledgement that a driver reads is the server's last.
    pub fn arm(&self) {
        self.trigger.lock().expect("no panic while locked").armed = true;
    }

    /// A device has just read, at this moment, that messages are acknowledged.
    pub fn acknowledged(&self, at: Instant) {
        let armed = self.trigger.lock().expect("no panic while locked").armed;
        if armed {
            self.kill(Some(at));
        }
    }

    /// SIGKILL, once until [`Self::restart`].
    pub fn kill(&self, read_at: Option<Instant>) {
        let mut trigger = self.trigger.lock().expect("no panic while locked");
        if !trigger.killed {
            let mut server = self.server();
            // Until the call, not until it returns: that may be a time slice later.
            trigger.gap = read_at.map(|at| at.elapsed());
            server.kill();
            trigger.killed = true;
            drop(server);
            self.mark("SIGKILL");
        }
    }

    /// Whether it was killed.
    pub fn is_killed(&self) -> bool {
        self.trigger.lock().expect("no panic while locked").killed
    }

    /// Starts a killed or stopped server again; how long that took, and how long after an acknowledgement it was killed.
    pub async fn restart(self: &Arc<Self>) -> Result<(Duration, Option<Duration>), Failure> {
        // By now all have noticed. Not after the start: devices may be back before this task is.
        if self.is_killed() {
            self.ledger().crashed();
        }
        let world = Arc::clone(self);
        let start = move || {
            let mut server = world.server();
            server.reap();
            server.start()
        };
        let took = tokio::task::spawn_blocking(start).await.expect("no panic")?;
        self.mark("the server is up");
        let trigger = std::mem::take(&mut *self.trigger.lock().expect("no panic while locked"));
        self.ledger().recovered();
        Ok((took, trigger.gap))
    }

    /// Runs something that takes its time.
    pub async fn blocking<T: Send + 'static>(self: &Arc<Self>, work: impl FnOnce(&Self) -> T + Send + 'static) -> T {
        let world = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&world)).await.expect("no panic")
    }

    /// From now on, connections' stanzas are remembered in the order of their count.
    pub fn count(&self) {
        *self.counted.lock().expect("no panic while locked") = Some(HashMap::new());
    }

    /// Stream management begins on the connection from this port.
    pub fn enabled(&self, port: u16) {
        if let Some(counted) = &mut *self.counted.lock().expect("no panic while locked") {
            counted.insert(port, Vec::new());
        }
    }

    /// A stanza is sent on it.
    pub fn counted(&self, port: u16, key: Option<Key>) {
        if let Some(counted) = &mut *self.counted.lock().expect("no panic while locked")
            && let Some(stanzas) = counted.get_mut(&port)
        {
            stanzas.push(key);
        }
    }

    /// What was remembered of a connection: the stanzas number `from..to`.
    pub fn stanzas(&self, port: u16, from: usize, to: usize) -> Vec<Option<Key>> {
        let counted = self.counted.lock().expect("no panic while locked");
        let stanzas = counted.as_ref().and_then(|counted| counted.get(&port));
        stanzas.and_then(|stanzas| stanzas.get(from..to)).map(<[_]>::to_vec).unwrap_or_default()
    }

    /// Waits until this holds. Whether it did in time.
    pub async fn wait(&self, patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + patience;
        while !holds() {
            if Instant::now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Lets those who talk do so for a while.
    pub async fn talk(&self, time: Duration) {
        self.talking.send_replace(true);
        sleep(time).await;
        self.talking.send_replace(false);
    }

    /// Waits until these are online.
    pub async fn gather(&self, devices: impl Iterator<Item = &Device> + Clone) -> Result<(), Failure> {
        devices.clone().for_each(Device::come);
        let all = self.wait(PATIENCE, || devices.clone().all(Device::is_online)).await;
        let away =
            devices.filter(|device| !device.is_online()).map(|device| self.users[device.spec.account as usize].clone());
        let away: Vec<String> = away.collect();
        if all { Ok(()) } else { Err(Failure::Protocol(format!("not online: {}", away.join(", ")))) }
    }

    /// Waits until all senders have their acknowledgements.
    pub async fn settle_senders(&self, devices: &[Device]) -> bool {
        let waiting = |device: &Device| device.state.unacked.load(Ordering::SeqCst) > 0;
        self.wait(PATIENCE, || !devices.iter().any(waiting)).await
    }

    /// Waits until all senders have their acknowledgements, all recipients what was acknowledged, and nothing more comes.
    pub async fn settle(&self, devices: &[Device]) {
        self.settle_within(devices, SILENCE).await;
    }

    /// The same, where nothing may come for so long. Gives the longest time in which nothing came.
    pub async fn settle_within(&self, devices: &[Device], silence: Duration) -> Duration {
        self.settle_senders(devices).await;
        // A subject that loses messages is not waited for longer than anything still comes.
        let mut newest = (self.ledger().receptions(), Instant::now());
        let mut longest = Duration::ZERO;
        loop {
            let look = Instant::now();
            if newest.1.elapsed() >= silence || self.ledger().on_the_way() == 0 {
                break;
            }
            // While somebody counts nobody can write down what came: with many messages that would be most of the time.
            sleep((look.elapsed() * 10).max(Duration::from_millis(10))).await;
            let receptions = self.ledger().receptions();
            if receptions != newest.0 {
                longest = longest.max(newest.1.elapsed());
                newest = (receptions, Instant::now());
            }
        }
        sleep(QUIET).await;
        longest.max(newest.1.elapsed())
    }

    /// Reads what the archives hold beyond what was read before.
    pub async fn audit(&self) -> Result<(), Failure> {
        if !self.ledger().has_archive {
            return Ok(());
        }
        for (account, user) in self.users.iter().enumerate() {
            let after = self.ledger().last_archived(account as u32);
            let items = archive::read(&self.target, user, after).await?;
            let mut ledger = self.ledger();
            let items = self.keyed(&ledger, items);
            ledger.note_archived(self.auditors[account], items);
        }
        Ok(())
    }

    /// Reads what the archives of the rooms hold beyond what was read before, as the first account, which owns them.
    pub async fn audit_rooms(&self) -> Result<(), Failure> {
        for room in (0..self.rooms.len()).map(|room| self.room(room)) {
            let after = self.ledger().last_archived(room);
            let items = archive::read_room(&self.target, &self.users[0], &self.jid(room), after).await?;
            let mut ledger = self.ledger();
            let items = self.keyed(&ledger, items);
            ledger.note_archived(self.auditors[room as usize], items);
        }
        Ok(())
    }

    /// Reads the rooms' archives from their beginning: each is what was read piece by piece. How many items there are.
    pub async fn audit_rooms_whole(&self) -> Result<usize, Failure> {
        let mut count = 0;
        for room in (0..self.rooms.len()).map(|room| self.room(room)) {
            let items = archive::read_room(&self.target, &self.users[0], &self.jid(room), None).await?;
            count += items.len();
            let mut ledger = self.ledger();
            let items = self.keyed(&ledger, items);
            ledger.compare_archive(room, &items);
        }
        Ok(count)
    }

    /// Reads all archives from their beginning: each is what was read piece by piece.
    pub async fn audit_all(&self) -> Result<usize, Failure> {
        let mut count = 0;
        if self.ledger().has_archive {
            for (account, user) in self.users.iter().enumerate() {
                let items = archive::read(&self.target, user, None).await?;
                count += items.len();
                let mut ledger = self.ledger();
                let items = self.keyed(&ledger, items);
                ledger.compare_archive(account as u32, &items);
            }
        }
        Ok(count)
    }

    fn keyed(&self, ledger: &Ledger, items: Vec<archive::Item>) -> Vec<(String, Option<Key>)> {
        items.into_iter().map(|item| (item.id, item.message.and_then(|id| ledger.key(&id)))).collect()
    }

    /// Watches the server's memory until dropped.
    pub fn watch_memory(self: &Arc<Self>) -> impl Drop + use<> {
        let world = Arc::downgrade(self);
        Watcher(tokio::spawn(async move {
            while let Some(world) = world.upgrade() {
                let pid = world.server().pid();
                world.peak.fetch_max(process::rss(pid), Ordering::SeqCst);
                drop(world);
                sleep(Duration::from_millis(100)).await;
            }
        }))
    }

    /// The server's memory now (RSS), in bytes.
    pub fn memory(&self) -> u64 {
        process::rss(self.server().pid())
    }

    /// The most that was seen since the last time it was asked.
    pub fn peak(&self) -> u64 {
        self.peak.swap(0, Ordering::SeqCst)
    }
}

struct Watcher(tokio::task::JoinHandle<()>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether accounts have archives, and the server has carbons.
async fn traits(target: &Target, user: &str) -> Result<(bool, bool), Failure> {
    within(PATIENCE, async {
        let mut connection = Connection::log_in(target, user, PASSWORD).await?;
        connection.bind(Some("disco")).await?;
        let mut holds = Vec::new();
        for (to, feature) in [(format!("{user}@{DOMAIN}"), archive::NS), (DOMAIN.to_owned(), "urn:xmpp:carbons:2")] {
            let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
            connection.queue(format!("<iq type='get' id='disco' to='{to}'>{query}</iq>").as_bytes());
            let answer = connection.expect("iq").await?;
            holds.push(xml::holds(&answer, &format!("'{feature}'")) || xml::holds(&answer, &format!("\"{feature}\"")));
        }
        connection.close().await?;
        Ok((holds[0], holds[1]))
    })
    .await
}

/// Names for accounts: `s0`, `s1` ...
pub fn names(prefix: &str, count: usize) -> Vec<String> {
    server::users(prefix, count)
}

/// A generator from the options' seed, and the seed.
pub fn seeded(options: &Options) -> (Rng, u64) {
    let seed = options.seed.unwrap_or_else(Rng::seed);
    (Rng::new(seed), seed)
}
