//! T6: clients that stop reading, while they are written to. The server's memory stays bounded, others notice nothing, and
//! when they read again they get everything. One in ten has no stream management: what the server has written to it counts as
//! delivered, so it gets more than the sockets hold, and is disconnected.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rookery_rigs::Failure;
use rookery_rigs::server::Setup;
use tokio::time::sleep;

use crate::device::{Device, Spec};
use crate::ledger::Care;
use crate::report::Report;
use crate::t2::ROOM;
use crate::world::{Options, World, names, seeded};

/// `loss t6`
#[derive(Debug, Clone, clap::Args)]
pub struct Slow {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
    /// Clients that stop reading
    #[arg(long, default_value_t = 200)]
    pub slow: usize,
    /// Clients that are well
    #[arg(long, default_value_t = 10)]
    pub healthy: usize,
    /// How many KiB a second are written to those who do not read
    #[arg(long, default_value_t = 2048)]
    pub kib: u32,
    /// For how long
    #[arg(long, default_value_t = 600)]
    pub seconds: u64,
    /// Messages that a sender has unacknowledged at most
    #[arg(long, default_value_t = 200)]
    pub window: usize,
    /// Up to how many milliseconds nobody minds what the others' pings take
    #[arg(long, default_value_t = 20)]
    pub ping: u64,
    /// How long the server may write in vain before it disconnects, in seconds
    #[arg(long, default_value_t = 5)]
    pub stall: u64,
}

/// Bytes of a message.
const SIZE: u32 = 4096;
/// What the server may keep for each who does not read, in its conf by default.
const OUTBOX: u64 = 256 << 10;
/// And for the rest of its work, which does not grow with time: the caches of the database's connections, what is under way.
const WORK: u64 = 160 << 20;
const SENDERS: usize = 10;
/// How long nothing may come once they read again: as long as a message may be without a fate (I5). What waits for them is
/// gigabytes, read from the disk, through sockets with hardly any room.
const READS: Duration = Duration::from_secs(60);
/// What the sockets hold at most for one who does not read.
const FULL: u64 = 5 << 20;

/// Runs it.
pub async fn run(options: &Slow) -> Result<Report, Failure> {
    let (mut rng, seed) = seeded(&options.common);
    let mut report = Report::new("t6");
    let senders = SENDERS;
    let users = [names("s", senders), names("r", options.slow), names("h", options.healthy)].concat();
    let limits = format!("{ROOM}write_stall = \"{} seconds\"\n", options.stall);
    let world = World::new(&options.common, Setup { limits, ..Setup::default() }, users, seed).await?;
    let version = world.server().version();
    report.say(format!(
        "{version}, {} slow clients, {} KiB/s, {} s, --seed {seed}",
        options.slow, options.kib, options.seconds
    ));
    let mut devices: Vec<Device> = Vec::new();
    let pace = Duration::from_secs(1) * senders as u32 / (options.kib * 1024 / SIZE).max(1);
    for sender in 0..senders {
        let mut ledger = world.ledger();
        let slow = (0..options.slow).filter(|slow| slow % senders == sender);
        let open = |slow| ledger.open_with(sender as u32, (senders + slow) as u32, care(slow));
        let talks = slow.map(open).collect();
        drop(ledger);
        let spec = Spec {
            pace: (pace, pace),
            window: options.window,
            filling: SIZE as usize - 300,
            ..Spec::new(sender as u32, "desk").talking(talks)
        };
        devices.push(Device::new(&world, spec, rng.fork(sender as u64)));
    }
    for slow in 0..options.slow {
        let managed = care(slow) == Care::Full;
        let spec = Spec::new((senders + slow) as u32, "phone");
        let spec = Spec { managed, resumes: managed, receive_buffer: Some(4096), ..spec };
        devices.push(Device::new(&world, spec, rng.fork(slow as u64)));
    }
    for healthy in 0..options.healthy {
        let account = senders + options.slow + healthy;
        devices.push(Device::new(&world, Spec::new(account as u32, "phone"), rng.fork(account as u64)));
    }
    world.gather(devices.iter()).await?;
    let (slow, healthy) = devices[senders..].split_at(options.slow);
    let before = pings(healthy, Duration::from_secs(2)).await;
    let base = world.memory();
    let watcher = world.watch_memory();
    slow.iter().for_each(|device| device.freeze(true));
    world.mark("nobody reads");
    world.talking.send_replace(true);
    let half = Duration::from_millis(options.seconds * 500);
    let mut during = pings(healthy, half).await;
    let first = world.peak();
    during.extend(pings(healthy, half).await);
    during.sort();
    let second = world.peak();
    world.talking.send_replace(false);
    world.settle_senders(&devices).await;
    drop(watcher);
    let grown = first.max(second).max(world.peak()).saturating_sub(base);
    let bound = options.slow as u64 * OUTBOX + WORK;
    let text = format!("{} KiB at most in the first half, {} KiB in the second", first >> 10, second >> 10);
    report.check(second <= first + first / 4, "I4 memory does not grow with time", text);
    let text = format!("{} KiB at first, {} KiB more at most, {} allowed", base >> 10, grown >> 10, bound >> 10);
    report.check(grown <= bound, "I4 memory is bounded", text);
    world.mark("all read again");
    slow.iter().for_each(|device| device.freeze(false));
    let back = Instant::now();
    // Their sockets are closed, or get the rest.
    sleep(Duration::from_secs(1)).await;
    world.gather(devices.iter()).await?;
    let longest = world.settle_within(&devices, READS).await;
    report.say(format!("read for {:.1?} what had waited, at most {longest:.1?} in which nothing came", back.elapsed()));
    let has_lost = |device: &Device| device.state.dropped.load(Ordering::SeqCst) > 0;
    // Less would fit into the buffers of the sockets.
    let each = world.ledger().acked() * u64::from(SIZE) / options.slow as u64;
    if each >= FULL {
        let count = slow.iter().filter(|device| !device.spec.managed && has_lost(device)).count();
        let all = slow.iter().filter(|device| !device.spec.managed).count();
        report.check(count == all, "who reads nothing is disconnected", format!("{count} of {all} without 0198"));
    }
    let well = healthy.iter().filter(|device| has_lost(device)).count();
    report.check(well == 0, "others are not", well);
    let (p99, was) = (part(&during, 99), part(&before, 99));
    let fit = p99 <= (2 * was).max(Duration::from_millis(options.ping));
    let text = format!("p50 {:.1?}, p99 {p99:.1?}, and {was:.1?} before", part(&during, 50));
    report.check(fit, format!("the others' p99 is at most twice what it was, or {} ms", options.ping), text);
    world.audit().await?;
    report.judge(&world);
    let stalls = |text: &String| text.contains("stream error");
    let unexpected =
        devices.iter().flat_map(|device| device.state.complaints.lock().expect("no panic while locked").clone());
    let unexpected: Vec<String> = unexpected.filter(|text| !stalls(text)).collect();
    report.check(unexpected.is_empty(), "the server kept to the protocol", unexpected.join("; "));
    for device in &mut devices {
        device.stop().await;
    }
    report.rules(&world, &options.common);
    Ok(report)
}

/// Of those without stream management nobody knows what they got.
fn care(slow: usize) -> Care {
    if slow % 10 == 9 { Care::None } else { Care::Full }
}

/// Pings by all of these, one after the other, for a while; how long each took, sorted.
async fn pings(devices: &[Device], time: Duration) -> Vec<Duration> {
    let start = Instant::now();
    let mut took = Vec::new();
    while start.elapsed() < time {
        for device in devices {
            took.push(device.ping(Duration::from_secs(10)).await.unwrap_or(Duration::from_secs(10)));
            sleep(Duration::from_millis(10)).await;
        }
    }
    took.sort();
    took
}

fn part(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
