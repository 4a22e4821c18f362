//! Rooms: SIGKILL, and at the end SIGTERM, while everybody talks in rooms; in half of the loops the kill comes within a
//! millisecond after a driver has read an `<a/>`. Some occupants were cut off before, some leave, some have two devices
//! under one nickname, some have no stream management; and some do not come back: nobody may go on seeing them for longer
//! than a minute. Meanwhile an owner changes affiliations, the configuration and the subject; what it was promised is there
//! afterwards.

mod clerk;
mod founding;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rookery_rigs::rng::Rng;
use rookery_rigs::server::Setup;
use rookery_rigs::{Failure, process};
use tokio::time::sleep;

use crate::device::{Cut, Device, Spec};
use crate::ledger::{Care, FATE};
use crate::report::Report;
use crate::t1::Disk;
use crate::trace::power::Rest;
use crate::world::{Options, World, names, seeded};

/// `loss rooms`
#[derive(Debug, Clone, clap::Args)]
pub struct Rooms {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
    /// How often the server is killed
    #[arg(long, default_value_t = 20)]
    pub loops: u32,
    /// How often it is told to end, after that
    #[arg(long, default_value_t = 5)]
    pub restarts: u32,
    /// People; each is in all rooms
    #[arg(long, default_value_t = 30)]
    pub occupants: usize,
    /// Rooms
    #[arg(long, default_value_t = 2)]
    pub rooms: usize,
    /// Messages that each says in a loop at most
    #[arg(long, default_value_t = 40)]
    pub messages: u32,
    /// The longest time from the first message to the end, in milliseconds
    #[arg(long, default_value_t = 2000)]
    pub longest: u64,
    /// In one of so many loops some do not come back; 0: in none
    #[arg(long, default_value_t = 2)]
    pub ghosts: u32,
    /// Some do not come back from the last restart either; their sessions may be resumed for a minute
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub linger: bool,
    /// At the end nobody comes back from a kill; who enters first so many seconds later is alone. 0: not tried
    #[arg(long, default_value_t = 60)]
    pub empty: u64,
    /// With each kill the power is cut, too: of what was not synced nothing is left, or half of it
    #[arg(long)]
    pub power: bool,
    /// One line for each loop
    #[arg(long)]
    pub verbose: bool,
}

/// Ghosts are gone by then, and a bit for those who watch.
const GHOSTS: Duration = FATE;
const TOLERANCE: Duration = Duration::from_secs(2);
/// For how many seconds a session may be resumed; one that has outlived a restart, for a minute from there on.
const RESUME: u64 = 15;
/// How long those are seen who do not come back to such a session.
const LINGER: Duration = Duration::from_secs(75);
/// For Rookery: whoever is cut off in a room has room for what is said meanwhile, and is not put out.
const OUTBOX: &str = "outbox = \"4 MiB\"\n";
/// How long nothing may come before what is missing counts as lost.
const SILENCE: Duration = Duration::from_secs(5);

/// When a device goes, which one, and how: cut off, and after how long it comes back; or it leaves.
type Parting = (Duration, usize, Option<(Cut, Option<Duration>)>);

/// The device of a person in rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Has stream management, and stays.
    Managed,
    /// Is cut off by a reset before the end; half of the times it is back before it, too.
    Reset,
    /// Its network goes away in silence; the same.
    Silent,
    /// Leaves, and enters again.
    Leaver,
    /// Has stream management, but asks for no old session; is cut off and comes back at once.
    Fresh,
    /// Has no stream management and only listens; it asks for the history.
    Bare,
}

const SHAPES: [Shape; 10] = [
    Shape::Managed,
    Shape::Reset,
    Shape::Managed,
    Shape::Silent,
    Shape::Managed,
    Shape::Fresh,
    Shape::Managed,
    Shape::Bare,
    Shape::Managed,
    Shape::Leaver,
];

/// One in so many people has a second device under the same nickname.
const TWO: usize = 5;

struct Crowd {
    world: Arc<World>,
    devices: Vec<Device>,
    shapes: Vec<Shape>,
}

/// Runs it.
pub async fn run(options: &Rooms) -> Result<Report, Failure> {
    let (mut rng, seed) = seeded(&options.common);
    let mut report = Report::new("rooms");
    let setup = Setup { resume: Some(RESUME), limits: OUTBOX.into(), ..Setup::default() };
    let users = names("p", options.occupants);
    let world = World::with_rooms(&options.common, setup, users, options.rooms, seed).await?;
    report.say(format!(
        "{}, {} kills, {} restarts, {} people in {} rooms, --seed {seed}",
        world.server().version(),
        options.loops,
        options.restarts,
        options.occupants,
        options.rooms
    ));
    report.say(process::machine());
    founding::found(&world).await?;
    let mut crowd = Crowd::new(&world, options, &mut rng);
    let mut clerk = clerk::Clerk::new(&world);
    let mut gone: Vec<Duration> = Vec::new();
    for number in 0..options.loops + options.restarts {
        let mut rng = rng.fork(number.into());
        let kills = number < options.loops;
        let took = crowd.play(options, &mut clerk, number, kills, &mut rng, &mut report).await?;
        gone.extend(took);
        let faults = report.judge(&world);
        if options.verbose || faults > 0 {
            let counts = world.ledger().counts();
            let took =
                took.map_or_else(|| "no view that is right".into(), |took| format!("all views right after {took:.1?}"));
            report.say(format!("loop {number}: {took}; {} acknowledged so far, {faults} faults", counts.acked));
        }
    }
    let items = world.audit_rooms_whole().await?;
    report.judge(&world);
    crowd.verdict(options, &gone, &mut report);
    clerk.verdict(&mut report);
    if options.empty > 0 {
        crowd.empty(options, &mut report).await?;
    }
    report.protocol(&crowd.devices, true);
    for device in &mut crowd.devices {
        device.stop().await;
    }
    report.say(format!("{items} items in the rooms' archives, read again as a whole at the end"));
    report.rules(&world, &options.common);
    Ok(report)
}

impl Crowd {
    fn new(world: &Arc<World>, options: &Rooms, rng: &mut Rng) -> Self {
        let (mut devices, mut shapes) = (Vec::new(), Vec::new());
        let rooms: Vec<u32> = (0..options.rooms).map(|room| world.room(room)).collect();
        // So that the messages last until the end.
        let pace = (Duration::ZERO, Duration::from_millis(options.longest * 5 / 2) / options.messages.max(1));
        for (person, shape) in SHAPES.into_iter().cycle().take(options.occupants).enumerate() {
            let two = person % TWO == 0;
            for resource in ["phone", "desk"].into_iter().take(if two { 2 } else { 1 }) {
                let talks = |talks: bool| {
                    let mut ledger = world.ledger();
                    let open = |room: &u32| ledger.open_with(person as u32, *room, Care::Room);
                    if talks { rooms.iter().map(open).collect() } else { Vec::new() }
                };
                let managed = shape != Shape::Bare;
                let spec = Spec {
                    managed,
                    resumes: managed && shape != Shape::Fresh,
                    carbons: false,
                    catches_up: managed,
                    talks: talks(managed),
                    pace,
                    ration: options.messages,
                    rooms: rooms.clone(),
                    nick: world.users[person].clone(),
                    history: if managed { 0 } else { 20 },
                    silence: Duration::from_secs(5),
                    ..Spec::new(person as u32, resource)
                };
                devices.push(Device::new(world, spec, rng.fork(devices.len() as u64)));
                shapes.push(if resource == "desk" { Shape::Managed } else { shape });
            }
        }
        Self { world: Arc::clone(world), devices, shapes }
    }

    /// One loop; the server runs before and after. How long it took until all saw who was there, if they did in time.
    async fn play(
        &mut self,
        options: &Rooms,
        clerk: &mut clerk::Clerk,
        number: u32,
        kills: bool,
        rng: &mut Rng,
        report: &mut Report,
    ) -> Result<Option<Duration>, Failure> {
        let world = Arc::clone(&self.world);
        let after = rng.between(Duration::from_millis(options.longest / 4), Duration::from_millis(options.longest));
        world.ledger().stay_away([]);
        world.gather(self.devices.iter()).await?;
        world.mark(&format!("loop {number}"));
        let refused = self.count(|device| device.state.refused.load(Ordering::SeqCst));
        let ousted = self.ousted();
        self.devices.iter().for_each(|device| device.state.left.lock().expect("no panic while locked").clear());
        // People who do not come back, with all their devices: one in four, but not those who leave.
        let last = number + 1 == options.loops + options.restarts;
        let haunted =
            options.ghosts > 0 && if kills { number.is_multiple_of(options.ghosts) } else { last && options.linger };
        let mut ghosts: BTreeSet<u32> = BTreeSet::new();
        for account in (1..world.users.len() as u32).filter(|_| haunted && rng.one_in(4)) {
            ghosts.insert(account);
        }
        let disk = if kills && options.power { Some(Disk::watch(&world).await?) } else { None };
        let start = tokio::time::Instant::now();
        clerk.begin();
        world.talking.send_replace(true);
        for (at, device, cut) in self.cuts(after, rng) {
            tokio::time::sleep_until(start + at).await;
            match cut {
                Some((cut, back)) => self.devices[device].cut(cut, back),
                None => self.devices[device].leave(),
            }
        }
        tokio::time::sleep_until(start + after).await;
        if kills {
            if number.is_multiple_of(2) {
                world.arm();
                world.wait(Duration::from_millis(500), || world.is_killed()).await;
            }
            world.kill(None);
        } else {
            world.blocking(|world| world.server().stop()).await;
        }
        let of_ghost = |device: &&Device| ghosts.contains(&device.spec.account);
        self.devices.iter().filter(of_ghost).for_each(|device| device.cut(Cut::Reset, None));
        world.talking.send_replace(false);
        world.wait(Duration::from_secs(10), || !self.devices.iter().any(Device::is_online)).await;
        clerk.end().await;
        if let Some(disk) = disk {
            disk.cut(&world, if number % 4 < 2 { Rest::Nothing } else { Rest::Some }, rng).await?;
        }
        world.restart().await?;
        let restarted = Instant::now();
        world.ledger().stay_away(ghosts.iter().copied());
        let back: Vec<&Device> = self.devices.iter().filter(|device| !of_ghost(device)).collect();
        world.gather(back.iter().copied()).await?;
        self.settle(&back).await?;
        clerk.audit(&world).await?;
        let expected: BTreeSet<String> = back.iter().map(|device| device.spec.nick.clone()).collect();
        let rights = || back.iter().all(|device| sees(device, &expected));
        let due = if kills || ghosts.is_empty() { GHOSTS } else { LINGER } + TOLERANCE;
        let right = world.wait(due.saturating_sub(restarted.elapsed()), rights).await;
        let took = right.then(|| restarted.elapsed());
        if !kills && right && !ghosts.is_empty() {
            report.say(format!(
                "restart {number}: those who did not come back were out after {:.1?}",
                restarted.elapsed()
            ));
        }
        if !right {
            let text = wrong(&back, &expected).unwrap_or_default();
            world.mark(&format!("who is there is not who is seen: {text}"));
            report.check(false, format!("loop {number}: in time all see who is there, and nobody else"), text);
        }
        if !kills {
            self.stayed(number, &ghosts, refused, ousted, report);
        }
        Ok(took)
    }

    /// Who goes in the midst of the traffic, in order of time.
    fn cuts(&self, after: Duration, rng: &mut Rng) -> Vec<Parting> {
        let mut cuts = Vec::new();
        for (at, shape) in self.shapes.iter().enumerate() {
            let soon = rng.between(Duration::ZERO, Duration::from_millis(300));
            let back = rng.one_in(2).then_some(soon);
            let cut = match shape {
                Shape::Reset => Some((Cut::Reset, back)),
                Shape::Silent => Some((Cut::Silence, back)),
                Shape::Fresh => Some((Cut::any(rng, false), Some(soon))),
                Shape::Leaver => None,
                _ => continue,
            };
            cuts.push((rng.between(Duration::ZERO, after), at, cut));
        }
        cuts.sort_by_key(|(at, ..)| *at);
        cuts
    }

    /// Whether all devices of an account stay in the room over a restart.
    fn is_resumable(&self, account: u32) -> bool {
        let stays = |shape: &Shape| matches!(shape, Shape::Managed | Shape::Reset | Shape::Silent);
        let mut devices = self.devices.iter().zip(&self.shapes).filter(|(device, _)| device.spec.account == account);
        devices.all(|(_, shape)| stays(shape))
    }

    /// All has its acknowledgement, the archives are read by those who read them and by us, and what is said has come.
    async fn settle(&self, back: &[&Device]) -> Result<(), Failure> {
        let world = &self.world;
        let busy = |device: &&Device| {
            device.state.unacked.load(Ordering::SeqCst) > 0 || device.state.reading.load(Ordering::SeqCst) > 0
        };
        // Those who do not come back have unacknowledged messages, which wait for the next loop.
        world.wait(FATE, || !back.iter().any(busy)).await;
        world.audit_rooms().await?;
        let present: Vec<(u32, u32, bool)> = (back.iter())
            .map(|device| (device.party, device.state.session.load(Ordering::SeqCst), device.spec.catches_up))
            .collect();
        let rooms = || (0..world.rooms.len()).map(|room| world.room(room));
        let mut newest = (world.ledger().receptions(), Instant::now());
        while newest.1.elapsed() < SILENCE && rooms().any(|room| world.ledger().awaited(room, &present) > 0) {
            sleep(Duration::from_millis(10)).await;
            let receptions = world.ledger().receptions();
            if receptions != newest.0 {
                newest = (receptions, Instant::now());
            }
        }
        rooms().for_each(|room| world.ledger().judge_room(room, &present));
        Ok(())
    }

    /// After an orderly restart: whose session goes on has been in the room all the while.
    fn stayed(&self, number: u32, ghosts: &BTreeSet<u32>, refused: u64, ousted: u64, report: &mut Report) {
        let refused = self.count(|device| device.state.refused.load(Ordering::SeqCst)) - refused;
        report.check(
            refused == 0,
            format!("restart {number}: sessions are resumed"),
            format!("{refused} were refused"),
        );
        let ousted = self.ousted() - ousted;
        report.check(ousted == 0, format!("restart {number}: nobody who resumes is put out of a room"), ousted);
        let stayers: BTreeSet<&String> = (0..self.world.users.len() as u32)
            .filter(|account| !ghosts.contains(account) && self.is_resumable(*account))
            .map(|account| &self.world.users[account as usize])
            .collect();
        let mut seen = BTreeSet::new();
        for device in &self.devices {
            let left = device.state.left.lock().expect("no panic while locked");
            seen.extend(left.iter().filter(|nick| stayers.contains(nick)).cloned());
        }
        let seen: Vec<String> = seen.into_iter().collect();
        report.check(seen.is_empty(), format!("restart {number}: nobody sees those go who resume"), seen.join(", "));
    }

    /// All are ghosts: who comes late enough is alone.
    async fn empty(&self, options: &Rooms, report: &mut Report) -> Result<(), Failure> {
        let world = &self.world;
        world.ledger().stay_away([]);
        world.gather(self.devices.iter()).await?;
        world.mark("nobody comes back");
        world.kill(None);
        self.devices.iter().for_each(|device| device.cut(Cut::Reset, None));
        world.wait(Duration::from_secs(10), || !self.devices.iter().any(Device::is_online)).await;
        world.restart().await?;
        sleep(Duration::from_secs(options.empty)).await;
        let late = &self.devices[0];
        world.gather([late].into_iter()).await?;
        let alone = [late.spec.nick.clone()].into();
        let text = wrong(&[late], &alone).unwrap_or_default();
        report.check(text.is_empty(), format!("who enters {} s after a kill is alone", options.empty), text);
        world.gather(self.devices.iter()).await?;
        let devices: Vec<&Device> = self.devices.iter().collect();
        self.settle(&devices).await?;
        report.judge(world);
        Ok(())
    }

    fn verdict(&self, options: &Rooms, gone: &[Duration], report: &mut Report) {
        let rounds = (options.loops + options.restarts) as usize;
        let mut gone = gone.to_vec();
        gone.sort();
        let longest = gone.last().copied().unwrap_or_default();
        let text = format!("{} of {rounds} times, after {longest:.1?} at most", gone.len());
        report.check(gone.len() == rounds, "all see who is there, and no ghosts, in time", text);
        let talks: Vec<u32> = self.devices.iter().flat_map(|device| device.spec.talks.clone()).collect();
        let refusals: Vec<String> = self.world.ledger().refusals(&talks).into_iter().collect();
        report.check(refusals.is_empty(), "nobody who is in a room is refused", refusals.join(", "));
        let early = self.count(|device| device.state.early.load(Ordering::SeqCst));
        report.check(
            early == 0,
            "who has not entered a room hears nothing of it",
            format!("{early} messages were heard"),
        );
        let unknown = self.count(|device| device.state.unknown.load(Ordering::SeqCst));
        report
            .say(format!("{unknown} times the newest message that a client knew was not on disk when the server died"));
    }

    /// How often those were put out of a room whose sessions go on.
    fn ousted(&self) -> u64 {
        let count = |device: &Device| device.state.ousted.load(Ordering::SeqCst);
        self.count(|device| if device.spec.resumes { count(device) } else { 0 })
    }

    fn count(&self, what: impl Fn(&Device) -> u64) -> u64 {
        self.devices.iter().map(what).sum()
    }
}

/// Whether a device sees these, and nobody else, in all of its rooms.
fn sees(device: &Device, expected: &BTreeSet<String>) -> bool {
    device.state.views.lock().expect("no panic while locked").iter().all(|view| view == expected)
}

/// What the first of these that is wrong sees, and how many are.
fn wrong(devices: &[&Device], expected: &BTreeSet<String>) -> Option<String> {
    let wrong: Vec<&&Device> = devices.iter().filter(|device| !sees(device, expected)).collect();
    let views = wrong.first()?.state.views.lock().expect("no panic while locked");
    let view = views.iter().find(|view| *view != expected)?;
    let list = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(" ");
    let (ghosts, missing) = (view.difference(expected).collect(), expected.difference(view).collect());
    let (first, count) = (&wrong.first()?.spec, wrong.len());
    Some(format!(
        "{count} devices do not; {}/{} sees as ghosts [{}], does not see [{}]",
        first.nick,
        first.resource,
        list(ghosts),
        list(missing)
    ))
}
