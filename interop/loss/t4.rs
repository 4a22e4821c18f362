//! T4: connections that are cut again and again, by resets, ends, in silence and within stanzas, and resumed: at once or
//! later, through another listener, while the server still believes in the old socket, by two connections at the same time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rookery_rigs::Failure;
use rookery_rigs::server::{Setup, Subject};
use tokio::time::{Instant, sleep_until};

use crate::device::{Cut, Spec};
use crate::report::Report;
use crate::world::{Options, World, seeded};
use crate::{people, t2};

/// `loss t4`
#[derive(Debug, Clone, clap::Args)]
pub struct Flapping {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
    /// Clients, an even number
    #[arg(long, default_value_t = 50)]
    pub clients: usize,
    /// For how long
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Messages a second, of all together
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// Never cut within a stanza: Prosody 0.12 goes on parsing where the old connection stopped
    #[arg(long)]
    pub whole: bool,
}

/// How much more memory the server may take than before.
const GROWTH: u64 = 64 << 20;

/// Runs it.
pub async fn run(options: &Flapping) -> Result<Report, Failure> {
    let (mut rng, seed) = seeded(&options.common);
    let mut report = Report::new("t4");
    let setup = Setup { limits: t2::ROOM.into(), ..Setup::default() };
    let world = World::new(&options.common, setup, people::users(options.clients / 2), seed).await?;
    report.say(format!(
        "{}, {} clients, {} s, --seed {seed}",
        world.server().version(),
        options.clients,
        options.seconds
    ));
    let pace = Duration::from_secs(2) * options.clients as u32 / options.rate.max(1);
    let mut devices = people::dialogues(&world, options.clients / 2, &mut rng, |spec| Spec {
        pace: (Duration::ZERO, pace),
        window: 100,
        twice: 8,
        roams: true,
        ..spec
    });
    world.gather(devices.iter()).await?;
    let base = world.memory();
    let watcher = world.watch_memory();
    let torn = !options.whole && options.common.server.server != Subject::Prosody;
    world.talking.send_replace(true);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut cuts: Vec<Instant> = Vec::new();
    let life = |rng: &mut rookery_rigs::rng::Rng| rng.between(Duration::from_secs(1), Duration::from_secs(10));
    for _ in &devices {
        cuts.push(Instant::now() + life(&mut rng));
    }
    let mut count = 0;
    loop {
        let (at, next) = cuts.iter().copied().enumerate().min_by_key(|(_, at)| *at).expect("there are devices");
        if next > end {
            break;
        }
        sleep_until(next).await;
        let back = if rng.one_in(3) { Duration::ZERO } else { rng.between(Duration::ZERO, Duration::from_secs(2)) };
        if devices[at].is_online() {
            devices[at].cut(Cut::any(&mut rng, torn), Some(back));
            count += 1;
        }
        cuts[at] = Instant::now() + life(&mut rng);
    }
    sleep_until(end).await;
    world.talking.send_replace(false);
    world.gather(devices.iter()).await?;
    world.settle(&devices).await;
    drop(watcher);
    world.audit().await?;
    report.judge(&world);
    let sum = |count: fn(&crate::device::State) -> &std::sync::atomic::AtomicU64| -> u64 {
        devices.iter().map(|device| count(&device.state).load(Ordering::SeqCst)).sum()
    };
    let (resumed, refused, twins) =
        (sum(|state| &state.resumed), sum(|state| &state.refused), sum(|state| &state.twins));
    report.check(resumed > 0, "sessions were resumed", format!("{resumed}, after {count} cuts"));
    report.check(refused == 0, "no resumption was refused", refused);
    report.check(twins == 0, "a session has one connection", format!("{twins} times two"));
    let grown = world.peak().saturating_sub(base);
    report.check(
        grown <= GROWTH,
        "I4 memory is bounded",
        format!("{} KiB at first, {} KiB more at most", base >> 10, grown >> 10),
    );
    report.protocol(&devices, false);
    for device in &mut devices {
        device.stop().await;
    }
    report.rules(&Arc::clone(&world), &options.common);
    Ok(report)
}
