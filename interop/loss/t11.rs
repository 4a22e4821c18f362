//! T11: the server is told to end (SIGTERM) under load and started again, the same binary or another. Sessions are resumed
//! after it, with all that was under way in both directions.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rookery_rigs::Failure;
use rookery_rigs::server::Setup;
use tokio::time::sleep;

use crate::device::{Cut, Spec};
use crate::people;
use crate::report::Report;
use crate::t2::ROOM;
use crate::world::{Options, World, seeded};

/// `loss t11`
#[derive(Debug, Clone, clap::Args)]
pub struct Restart {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
    /// How often
    #[arg(long, default_value_t = 10)]
    pub loops: u32,
    /// Clients, an even number
    #[arg(long, default_value_t = 40)]
    pub clients: usize,
    /// The binary that is started after the first end, in place of the same
    #[arg(long, value_name = "FILE")]
    pub upgrade: Option<std::path::PathBuf>,
}

/// Runs it.
pub async fn run(options: &Restart) -> Result<Report, Failure> {
    let (mut rng, seed) = seeded(&options.common);
    let mut report = Report::new("t11");
    let setup = Setup { limits: ROOM.into(), ..Setup::default() };
    let world = World::new(&options.common, setup, people::users(options.clients / 2), seed).await?;
    report.say(format!("{}, {} loops, --seed {seed}", world.server().version(), options.loops));
    let mut devices = people::dialogues(&world, options.clients / 2, &mut rng, |spec| Spec {
        pace: (Duration::ZERO, Duration::from_millis(60)),
        ..spec
    });
    let mut downtimes = Vec::new();
    for number in 0..options.loops {
        world.gather(devices.iter()).await?;
        world.mark(&format!("loop {number}"));
        world.talking.send_replace(true);
        sleep(rng.between(Duration::from_millis(200), Duration::from_millis(1000))).await;
        // Some are cut off already, and are written to.
        let away: Vec<usize> = (0..devices.len()).filter(|_| rng.one_in(5)).collect();
        for at in &away {
            devices[*at].cut(if rng.one_in(2) { Cut::Reset } else { Cut::Silence }, None);
        }
        sleep(rng.between(Duration::from_millis(100), Duration::from_millis(500))).await;
        let start = Instant::now();
        if let Some(binary) = options.upgrade.clone() {
            world.server().run_from(binary);
        }
        world.blocking(|world| world.server().stop()).await;
        let stopped = start.elapsed();
        world.restart().await?;
        downtimes.push((start.elapsed(), stopped));
        world.gather(devices.iter()).await?;
        sleep(rng.between(Duration::from_millis(100), Duration::from_millis(500))).await;
        world.talking.send_replace(false);
        world.settle(&devices).await;
        world.audit().await?;
        report.judge(&world);
    }
    world.audit_all().await?;
    report.judge(&world);
    let resumed: u64 = devices.iter().map(|device| device.state.resumed.load(Ordering::SeqCst)).sum();
    let refused: u64 = devices.iter().map(|device| device.state.refused.load(Ordering::SeqCst)).sum();
    report.check(
        refused == 0 && resumed > 0,
        "sessions are resumed after the restart",
        format!("{resumed} were, {refused} were refused"),
    );
    downtimes.sort();
    let (longest, stopped) = downtimes.last().copied().unwrap_or_default();
    let text = format!("{longest:.1?} at most, of these {stopped:.1?} until it had ended");
    report.check(longest <= Duration::from_secs(2), "away for 2 s at most", text);
    report.protocol(&devices, true);
    for device in &mut devices {
        device.stop().await;
    }
    report.rules(&world, &options.common);
    Ok(report)
}
