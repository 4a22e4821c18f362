//! T1: SIGKILL under traffic, again and again; in half of the loops within a millisecond after a driver has read an `<a/>`:
//! then whatever was acknowledged too early is lost.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rookery_rigs::rng::Rng;
use rookery_rigs::server::Setup;
use rookery_rigs::{Failure, process};

use crate::device::{Cut, Device, Spec};
use crate::report::Report;
use crate::trace::Tracer;
use crate::trace::power::{self, Files, Rest};
use crate::world::{Options, World, names, seeded};

/// `loss t1`
#[derive(Debug, Clone, clap::Args)]
pub struct Kill {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
    /// How often the server is killed
    #[arg(long, default_value_t = 50)]
    pub loops: u32,
    /// Conversations at once
    #[arg(long, default_value_t = 21)]
    pub pairs: usize,
    /// Messages a sender sends in a loop at most; offline storage has limits, too
    #[arg(long, default_value_t = 100)]
    pub messages: u32,
    /// The longest time from the first message to the kill, in milliseconds
    #[arg(long, default_value_t = 2000)]
    pub longest: u64,
    /// How many messages are to be acknowledged altogether, for a run that is to prove something by their number
    #[arg(long, default_value_t = 1)]
    pub at_least: u64,
    /// One line for each loop
    #[arg(long)]
    pub verbose: bool,
}

/// Where a recipient is while messages are sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Online, with stream management, on two devices.
    Managed,
    /// Online, without.
    Bare,
    /// Not logged in.
    Offline,
    /// Its connection was reset.
    Reset,
    /// Its network went away without a word.
    Silent,
    /// Online, and it writes back.
    Dialogue,
    /// Not logged in; reads its archive before it becomes available.
    Reader,
}

const SHAPES: [Shape; 7] =
    [Shape::Managed, Shape::Bare, Shape::Offline, Shape::Reset, Shape::Silent, Shape::Dialogue, Shape::Reader];

struct Pair {
    shape: Shape,
    /// Of `devices`, the recipient's.
    recipient: usize,
}

/// Runs it.
pub async fn run(options: &Kill) -> Result<Report, Failure> {
    let mut report = Report::new("t1");
    campaign(options, &mut report, false).await?;
    Ok(report)
}

/// All loops; with `power` the power is cut, too.
pub async fn campaign(options: &Kill, report: &mut Report, power: bool) -> Result<(), Failure> {
    let (mut rng, seed) = seeded(&options.common);
    let users = [names("s", options.pairs), names("r", options.pairs)].concat();
    let world = World::new(&options.common, Setup::default(), users, seed).await?;
    let version = world.server().version();
    report.say(format!("{version}, {} loops, {} pairs, --seed {seed}", options.loops, options.pairs));
    report.say(process::machine());
    let (mut devices, pairs) = people(&world, options, &mut rng);
    let (mut restarts, mut gaps) = (Vec::new(), Vec::new());
    for number in 0..options.loops {
        let mut rng = rng.fork(number.into());
        let (took, gap) = play(&world, options, &devices, &pairs, number, power, &mut rng).await?;
        let faults = report.judge(&world);
        restarts.push(took);
        gaps.extend(gap);
        if options.verbose || faults > 0 {
            let counts = world.ledger().counts();
            let how = gap.map_or_else(|| "at random".into(), |gap| format!("{gap:?} after an <a/>"));
            report.say(format!(
                "loop {number}: killed {how}, back in {took:?}; {} acknowledged so far, {faults} faults",
                counts.acked
            ));
        }
    }
    let items = world.audit_all().await?;
    report.judge(&world);
    for device in &mut devices {
        device.stop().await;
    }
    report.rules(&world, &options.common);
    if options.at_least > 1 {
        let acked = world.ledger().acked();
        report.check(
            acked >= options.at_least,
            format!("at least {} messages were acknowledged", options.at_least),
            acked,
        );
    }
    if world.ledger().has_archive {
        report.say(format!("{items} items in the archives, read again as a whole at the end"));
    }
    report.protocol(&devices, false);
    restarts.sort();
    gaps.sort();
    let (median, longest) = (restarts[restarts.len() / 2], restarts[restarts.len() - 1]);
    report.check(
        longest <= Duration::from_secs(2),
        "from start to greeting in 2 s",
        format!("median {median:?}, longest {longest:?}"),
    );
    if !gaps.is_empty() {
        let soon = gaps.iter().filter(|gap| **gap <= Duration::from_millis(1)).count();
        let (all, median) = (gaps.len(), gaps[gaps.len() / 2]);
        report.check(
            soon * 10 >= all * 8,
            "kills on an <a/> came within 1 ms",
            format!("{soon} of {all}, median {median:?}"),
        );
    }
    Ok(())
}

fn people(world: &Arc<World>, options: &Kill, rng: &mut Rng) -> (Vec<Device>, Vec<Pair>) {
    let mut devices = Vec::new();
    let mut pairs = Vec::new();
    // So that the messages last until the kill.
    let pace = (Duration::ZERO, Duration::from_millis(options.longest * 5 / 2) / options.messages.max(1));
    let mut add = |spec: Spec| {
        devices.push(Device::new(
            world,
            Spec { ration: options.messages, pace, ..spec },
            rng.fork(devices.len() as u64),
        ));
        devices.len() - 1
    };
    for (number, shape) in SHAPES.into_iter().cycle().take(options.pairs).enumerate() {
        let (from, to) = (number as u32, (number + options.pairs) as u32);
        let talk = world.ledger().open(from, to);
        add(Spec::new(from, "desk").talking(vec![talk]));
        // Every other sender sees on its phone what it writes on its desk.
        if number % 2 == 0 {
            add(Spec::new(from, "phone"));
        }
        let mut spec = Spec::new(to, "phone");
        match shape {
            Shape::Bare => (spec.managed, spec.resumes) = (false, false),
            Shape::Dialogue => spec.talks = vec![world.ledger().open(to, from)],
            Shape::Reader => spec.catches_up = true,
            Shape::Managed | Shape::Offline | Shape::Reset | Shape::Silent => {}
        }
        let recipient = add(spec);
        if shape == Shape::Managed {
            add(Spec::new(to, "desk"));
        }
        pairs.push(Pair { shape, recipient });
    }
    (devices, pairs)
}

/// One loop; the server runs before and after.
async fn play(
    world: &Arc<World>,
    options: &Kill,
    devices: &[Device],
    pairs: &[Pair],
    number: u32,
    power: bool,
    rng: &mut Rng,
) -> Result<(Duration, Option<Duration>), Failure> {
    let on_ack = number.is_multiple_of(2);
    let after = rng.between(Duration::from_millis(200), Duration::from_millis(options.longest.max(201)));
    world.gather(devices.iter()).await?;
    let absent = |pair: &&Pair| matches!(pair.shape, Shape::Offline | Shape::Reader);
    pairs.iter().filter(absent).for_each(|pair| devices[pair.recipient].leave());
    // Half of the detached are cut off before the traffic, half of them in it.
    let mut cuts = Vec::new();
    for pair in pairs {
        let cut = match pair.shape {
            Shape::Reset => Cut::Reset,
            Shape::Silent => Cut::Silence,
            _ => continue,
        };
        let at = if rng.one_in(2) { Duration::ZERO } else { rng.between(Duration::ZERO, after) };
        cuts.push((at, pair.recipient, cut));
    }
    cuts.sort_by_key(|(at, ..)| *at);
    world.mark(&format!("loop {number}"));
    let disk = if power { Some(Disk::watch(world).await?) } else { None };
    let start = tokio::time::Instant::now();
    world.talking.send_replace(true);
    for (at, recipient, cut) in cuts {
        tokio::time::sleep_until(start + at).await;
        devices[recipient].cut(cut, None);
    }
    tokio::time::sleep_until(start + after).await;
    if on_ack {
        world.arm();
        // With nothing in flight no acknowledgement will come.
        world.wait(Duration::from_millis(500), || world.is_killed()).await;
    }
    world.kill(None);
    world.talking.send_replace(false);
    // Those who are online read what their sockets still hold, and notice.
    world.wait(Duration::from_secs(10), || !devices.iter().any(Device::is_online)).await;
    if let Some(disk) = disk {
        disk.cut(world, if number % 4 < 2 { Rest::Nothing } else { Rest::Some }, rng).await?;
    }
    let restarted = world.restart().await?;
    world.gather(devices.iter()).await?;
    world.settle(devices).await;
    world.audit().await?;
    Ok(restarted)
}

/// What the disk has, of what the server writes.
pub(crate) struct Disk {
    files: Arc<Mutex<Files>>,
    tracer: Tracer,
}

impl Disk {
    /// From now on; nobody writes anything yet.
    pub(crate) async fn watch(world: &Arc<World>) -> Result<Self, Failure> {
        world
            .blocking(|world| {
                let pid = world.server().pid();
                let data = world.server().data();
                let files = Arc::new(Mutex::new(Files::default()));
                let seen = Arc::clone(&files);
                let tracer = Tracer::attach(pid, power::CALLS, None, move |step| {
                    seen.lock().expect("no panic while locked").step(step);
                })?;
                *files.lock().expect("no panic while locked") = Files::snapshot(&data)?;
                Ok(Self { files, tracer })
            })
            .await
    }

    /// Takes from the disk what was not synced; the server is dead already.
    pub(crate) async fn cut(self, world: &Arc<World>, rest: Rest, rng: &mut Rng) -> Result<(), Failure> {
        let mut rng = rng.fork(1);
        let lost = world.blocking(move |world| {
            world.server().reap();
            self.tracer.finish();
            self.files.lock().expect("no panic while locked").cut(rest, &mut rng)
        });
        let lost = lost.await?;
        world.mark(&format!("the power is cut, {lost} writes were not synced and are lost"));
        Ok(())
    }
}
