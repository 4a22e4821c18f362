//! T9: the clock jumps under traffic, an hour ahead and back, a day, to 1970 and to 2038, and while the server is away.
//! Archive ids grow all the while, nobody is disconnected, no timer takes notice. The clock is libfaketime's (Debian:
//! faketime), which leaves the monotonic clock alone, as a jump of the real one does.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rookery_rigs::Failure;
use rookery_rigs::server::Setup;
use tokio::time::sleep;

use crate::device::{Device, Spec};
use crate::people;
use crate::report::Report;
use crate::world::{Options, World, seeded};

/// `loss t9`
#[derive(Debug, Clone, clap::Args)]
pub struct Clock {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
    /// From one jump to the next, in milliseconds
    #[arg(long, default_value_t = 1000)]
    pub step: u64,
}

const DIALOGUES: usize = 6;
/// Where the clock goes, as libfaketime reads it, for people too.
const JUMPS: [&str; 8] =
    ["+1h", "-1h", "-1d", "@1970-01-01 00:01:00", "@2038-01-19 03:14:00", "@2040-02-29 23:59:58", "-30d", "+0"];

fn preload() -> Option<&'static str> {
    const PLACES: [&str; 3] = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/faketime/libfaketimeMT.so.1",
    ];
    PLACES.into_iter().find(|place| Path::new(place).exists())
}

/// Runs it.
pub async fn run(options: &Clock) -> Result<Report, Failure> {
    let (mut rng, seed) = seeded(&options.common);
    let mut report = Report::new("t9");
    let preload =
        preload().ok_or_else(|| Failure::Protocol("libfaketime is not installed (Debian: faketime)".into()))?;
    let clock = std::env::temp_dir().join(format!("loss-{}-clock", std::process::id()));
    fs::write(&clock, "+0\n")?;
    let env = [
        ("LD_PRELOAD", preload),
        ("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let world = World::new(&options.common, Setup { env, ..Setup::default() }, people::users(DIALOGUES), seed).await?;
    report.say(format!("{}, --seed {seed}", world.server().version()));
    let step = Duration::from_millis(options.step);
    let mut devices = people::dialogues(&world, DIALOGUES, &mut rng, |spec| Spec {
        pace: (Duration::ZERO, Duration::from_millis(40)),
        resumes: false,
        ..spec
    });
    world.gather(devices.iter()).await?;
    world.talking.send_replace(true);
    let mut pings = Vec::new();
    for jump in JUMPS {
        sleep(step).await;
        world.mark(&format!("the clock says {jump}"));
        fs::write(&clock, format!("{jump}\n"))?;
        pings.push(devices[0].ping(Duration::from_secs(5)).await);
    }
    sleep(step).await;
    world.talking.send_replace(false);
    judge(&world, &mut report, &devices).await?;
    report.connections(&devices);
    report.pings(&pings, Duration::from_millis(500));
    report.protocol(&devices, false);
    // What was delivered and not on disk when it died had its id in vain; so these are judged before.
    let came = (0..world.users.len() as u32).map(|account| world.ledger().stanza_ids(account)).collect();
    growing(&mut report, "stanza-ids grow", came);
    // And while it is away.
    for jump in ["-1h", "-1d"] {
        world.kill(None);
        world.wait(Duration::from_secs(10), || !devices.iter().any(Device::is_online)).await;
        world.mark(&format!("the clock says {jump}"));
        fs::write(&clock, format!("{jump}\n"))?;
        world.restart().await?;
        world.gather(devices.iter()).await?;
        world.talk(step).await;
        judge(&world, &mut report, &devices).await?;
    }
    for device in &mut devices {
        device.stop().await;
    }
    world.audit_all().await?;
    report.judge(&world);
    if world.ledger().has_archive {
        let kept = (0..world.users.len() as u32).map(|account| world.ledger().archive_ids(account)).collect();
        growing(&mut report, "archive ids grow", kept);
    }
    report.rules(&world, &options.common);
    let _ = fs::remove_file(&clock);
    Ok(report)
}

async fn judge(world: &Arc<World>, report: &mut Report, devices: &[Device]) -> Result<(), Failure> {
    world.settle(devices).await;
    world.audit().await?;
    report.judge(world);
    Ok(())
}

/// Ids that are numbers are greater than those before them in the same account.
fn growing(report: &mut Report, what: &str, accounts: Vec<Vec<String>>) {
    let (mut falls, mut count, mut span) = (Vec::new(), 0, (u64::MAX, 0));
    for ids in accounts {
        let numbers: Vec<u64> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        count += numbers.len();
        span = numbers.iter().fold(span, |(low, high), id| (low.min(*id), high.max(*id)));
        let pairs = numbers.windows(2).filter(|pair| pair[0] >= pair[1]);
        falls.extend(pairs.map(|pair| format!("{} after {}", pair[1], pair[0])));
    }
    let text =
        if count == 0 { "these are no numbers".into() } else { format!("{count}, from {} to {}", span.0, span.1) };
    report.check(falls.is_empty(), what, format!("{text} {}", falls.join(", ")));
}
