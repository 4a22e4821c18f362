//! T5: sessions that are never resumed. With one, two or three resources, cut off by a reset or in silence, with and without
//! archives, one of an account's resources goes away for good while it is written to; after its time is over another one
//! logs in and takes what is there, or reads the archive first. Each message is delivered or refused, and not both.

use std::time::Duration;

use rookery_rigs::Failure;
use rookery_rigs::client::Connection;
use rookery_rigs::server::{PASSWORD, Setup};
use rookery_rigs::xml;
use tokio::time::sleep;

use crate::device::{Cut, Device, Spec};
use crate::report::Report;
use crate::t2::ROOM;
use crate::world::{Options, World, names, seeded};

/// `loss t5`
#[derive(Debug, Clone, clap::Args)]
pub struct Expiry {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
    /// How long a session may be resumed, in seconds
    #[arg(long, default_value_t = 3)]
    pub expiry: u64,
    /// How often the matrix is gone through
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
}

const RESOURCES: [&str; 3] = ["one", "two", "three"];

/// When at the latest the server hears of a network that went away in silence.
const SILENCE: Duration = Duration::from_secs(2);

/// One field of the matrix: its account is `r` and its number.
struct Field {
    cut: Cut,
    /// The resources that are there, of these the first goes away.
    devices: Vec<usize>,
    /// The one that logs in later.
    newcomer: usize,
}

/// Runs it: with archives, and without.
pub async fn run(options: &Expiry) -> Result<Report, Failure> {
    let mut report = Report::new("t5");
    let mut common = options.common.clone();
    if matrix(options, &common, &mut report).await? {
        common.server.archive = false;
        matrix(options, &common, &mut report).await?;
    }
    Ok(report)
}

/// Goes through it on a server of its own; whether that one had archives.
async fn matrix(options: &Expiry, common: &Options, sum: &mut Report) -> Result<bool, Failure> {
    let (mut rng, seed) = seeded(common);
    let mut report = Report::new("t5");
    let count = RESOURCES.len() * 4;
    let users = [names("s", count), names("r", count)].concat();
    let setup = Setup { limits: ROOM.into(), resume: Some(options.expiry), ..Setup::default() };
    let world = World::new(common, setup, users, seed).await?;
    let archives = if world.ledger().has_archive { "with archives" } else { "without archives" };
    report.say(format!("{}, {archives}, {} rounds, --seed {seed}", world.server().version(), options.rounds));
    report.say(if bind2(&world).await? { "Bind 2 is offered, and not tried" } else { "no Bind 2 here" });
    let mut devices = Vec::new();
    let mut fields = Vec::new();
    let mut add = |spec: Spec| {
        devices.push(Device::new(&world, spec, rng.fork(devices.len() as u64)));
        devices.len() - 1
    };
    for number in 0..count {
        let (from, to) = (number as u32, (number + count) as u32);
        let talk = world.ledger().open(from, to);
        add(Spec { pace: (Duration::ZERO, Duration::from_millis(40)), ..Spec::new(from, "desk").talking(vec![talk]) });
        let resources = RESOURCES.into_iter().take(number / 4 + 1);
        let here: Vec<usize> =
            resources.map(|name| add(Spec { resumes: false, silence: SILENCE, ..Spec::new(to, name) })).collect();
        let newcomer = add(Spec { catches_up: number % 2 == 1, resumes: false, ..Spec::new(to, "new") });
        let cut = if number % 4 < 2 { Cut::Reset } else { Cut::Silence };
        fields.push(Field { cut, devices: here, newcomer });
    }
    for round in 0..options.rounds {
        world.mark(&format!("round {round}"));
        fields.iter().for_each(|field| devices[field.newcomer].leave());
        let newcomers: Vec<usize> = fields.iter().map(|field| field.newcomer).collect();
        let others = || devices.iter().enumerate().filter(|(at, _)| !newcomers.contains(at)).map(|(_, device)| device);
        world.gather(others()).await?;
        world.talking.send_replace(true);
        sleep(Duration::from_millis(300)).await;
        for field in &fields {
            devices[field.devices[0]].cut(field.cut, None);
        }
        sleep(Duration::from_secs(1)).await;
        world.talking.send_replace(false);
        world.settle_senders(&devices).await;
        // The session's time is over, and what it had not confirmed is taken elsewhere.
        sleep(SILENCE + Duration::from_secs(options.expiry + 2)).await;
        world.gather(newcomers.iter().map(|at| &devices[*at])).await?;
        world.settle(&devices).await;
        world.audit().await?;
        report.judge(&world);
    }
    world.audit_all().await?;
    report.judge(&world);
    report.protocol(&devices, false);
    for device in &mut devices {
        device.stop().await;
    }
    report.rules(&world, common);
    sum.add(&report);
    let has_archive = world.ledger().has_archive;
    Ok(has_archive)
}

async fn bind2(world: &World) -> Result<bool, Failure> {
    let connection = Connection::log_in(&world.target, &world.users[0], PASSWORD).await?;
    let offered = xml::holds(&connection.features, "urn:xmpp:bind:0");
    connection.close().await?;
    Ok(offered)
}
