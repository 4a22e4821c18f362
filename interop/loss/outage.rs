//! A database that does not take what it is given, for a while: what T7 and T8 have in common.
//!
//! Acknowledgements stop, none is false; new messages that only the database could take are refused with a `wait` error
//! after ten seconds; pings are answered and what needs no storage goes on; when it is over, acknowledgements are back within
//! five seconds and nothing is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_rigs::Failure;
use rookery_rigs::rng::Rng;
use tokio::time::sleep;

use crate::archive;
use crate::device::{Device, Spec};
use crate::ledger::Care;
use crate::report::Report;
use crate::world::{World, names};

/// Ends what it began.
pub type End = Box<dyn FnOnce(&World) -> std::io::Result<()> + Send>;

/// What goes on meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Nothing is stored.
    pub total: bool,
    /// Archives can be read.
    pub readable: bool,
}

/// Begins an outage. May take its time.
pub type Begin = Box<dyn FnOnce(&World) -> std::io::Result<End> + Send>;

/// Before an acknowledgement that was under way counts as false.
const UNDER_WAY: Duration = Duration::from_millis(500);
/// When the server says that it cannot store a message; and how much later at most a driver may have heard of it: what is part
/// of an attempt at the database then may still be stored, and an attempt ends after ten seconds.
const REFUSAL: Duration = Duration::from_secs(10);
const TOLERANCE: Duration = Duration::from_secs(11);
const RECOVERY: Duration = Duration::from_secs(5);

const DIALOGUES: u32 = 4;
const SENDERS: u32 = 4;

/// The accounts of an outage.
pub fn users() -> Vec<String> {
    let count = DIALOGUES as usize;
    [names("a", count), names("b", count), names("s", SENDERS as usize), names("o", SENDERS as usize), names("w", 1)]
        .concat()
}

/// Those who are there: pairs who are online, one of which stores nothing; senders to those who are offline.
pub struct People {
    /// All devices.
    pub devices: Vec<Device>,
    unstored: Vec<u32>,
    offline: Vec<u32>,
}

impl People {
    /// Makes them.
    pub fn new(world: &Arc<World>, rng: &mut Rng) -> Self {
        let mut people = Self { devices: Vec::new(), unstored: Vec::new(), offline: Vec::new() };
        let pace = (Duration::from_millis(10), Duration::from_millis(60));
        let mut add = |spec: Spec| {
            let rng = rng.fork(people.devices.len() as u64);
            people.devices.push(Device::new(world, Spec { pace, ..spec }, rng));
        };
        for number in 0..DIALOGUES {
            let pair = (number, number + DIALOGUES);
            let talks = {
                let mut ledger = world.ledger();
                [pair, (pair.1, pair.0)].map(|(from, to)| match number {
                    0 => ledger.open_with(from, to, Care::Unstored),
                    _ => ledger.open(from, to),
                })
            };
            if number == 0 {
                people.unstored.extend(talks);
            }
            add(Spec::new(pair.0, "desk").talking(vec![talks[0]]));
            add(Spec::new(pair.1, "desk").talking(vec![talks[1]]));
        }
        let sender = 2 * DIALOGUES;
        for number in sender..sender + SENDERS {
            let talk = world.ledger().open(number, number + SENDERS);
            people.offline.push(talk);
            // Somebody has to send something new when nothing has been acknowledged for ten seconds.
            add(Spec { window: usize::MAX, ..Spec::new(number, "desk").talking(vec![talk]) });
        }
        // The last one watches.
        add(Spec::new(sender + 2 * SENDERS, "desk"));
        for number in sender + SENDERS..sender + 2 * SENDERS {
            add(Spec::new(number, "phone"));
        }
        people
    }

    /// All but those who are offline.
    pub fn present(&self) -> &[Device] {
        &self.devices[..self.devices.len() - SENDERS as usize]
    }

    /// Sends those away who are offline in an outage.
    pub fn part(&self) {
        self.devices[self.present().len()..].iter().for_each(Device::leave);
    }

    fn watcher(&self) -> &Device {
        self.present().last().expect("there is one")
    }
}

/// Plays one outage of some seconds.
pub async fn play(
    world: &Arc<World>,
    report: &mut Report,
    people: &People,
    seconds: u64,
    begin: Begin,
    kind: Kind,
) -> Result<(), Failure> {
    let length = Duration::from_secs(seconds);
    world.gather(people.present().iter()).await?;
    world.talk(Duration::from_secs(1)).await;
    let refused_before = world.ledger().fates(&people.offline).refused;
    world.mark("the outage begins");
    let end = world.blocking(move |world| begin(world)).await?;
    let start = Instant::now();
    world.talking.send_replace(true);
    let mut pings = Vec::new();
    let mut accepted = None;
    let mut unstored = None;
    while start.elapsed() < length {
        pings.push(people.watcher().ping(Duration::from_secs(5)).await);
        if accepted.is_none() && start.elapsed() > UNDER_WAY {
            accepted = Some(world.ledger().fates(&people.offline).accepted);
        }
        if unstored.is_none() && start.elapsed() > length * 2 / 3 {
            unstored = Some(world.ledger().fates(&people.unstored).reached);
        }
        sleep(Duration::from_millis(100)).await;
    }
    let offline = world.ledger().fates(&people.offline);
    let talk = world.ledger().fates(&people.unstored);
    let refusals = world.ledger().refusals(&people.offline);
    if kind.readable && world.ledger().has_archive {
        let begin = Instant::now();
        let items = archive::read(&world.target, &world.users[1], None).await;
        let took = begin.elapsed();
        let (fit, text) = match items {
            Ok(items) => (!items.is_empty(), format!("{} items in {took:.1?}", items.len())),
            // What the database has not taken yet would be missing in the answer.
            Err(error) if error.to_string().contains("type='wait'") => (true, format!("told to wait after {took:.1?}")),
            Err(error) => (false, error.to_string()),
        };
        report.check(fit, "archives are read meanwhile, or their clients told to wait", text);
    }
    world.mark("the outage ends");
    // The server may have recovered before whoever ends the outage says so.
    world.ledger().recovered();
    world.blocking(move |world| end(world)).await?;
    let over = Instant::now();
    let accepted_then = world.ledger().fates(&people.offline).accepted;
    let again = || world.ledger().fates(&people.offline).accepted > accepted_then;
    let recovered = world.wait(Duration::from_secs(30), again).await;
    let took = over.elapsed();
    sleep(Duration::from_secs(1)).await;
    world.talking.send_replace(false);

    let false_acks = offline.accepted - accepted.unwrap_or_default();
    if kind.total {
        let text = "acknowledgements stop for what only the database could take";
        report.check(false_acks == 0, text, format!("{false_acks} came"));
    }
    let went_on = talk.reached - unstored.unwrap_or_default();
    report.check(went_on > 0, "chat that needs no storage goes on to the end", format!("{went_on} in the last third"));
    report.pings(&pings, Duration::from_millis(100));
    if kind.total && length > REFUSAL + TOLERANCE {
        let refused = offline.refused - refused_before;
        let all_wait = refused > 0 && refusals.iter().all(|condition| condition.ends_with("(wait)"));
        let conditions: Vec<String> = refusals.into_iter().collect();
        let fit = all_wait && offline.longest <= REFUSAL + TOLERANCE;
        let text = format!("{refused} were, by {}, after {:.1?} at most", conditions.join(" and "), offline.longest);
        report.check(fit, "new messages are refused by a wait error after 10 s", text);
    } else if kind.total {
        report.say("too short to tell whether new messages are refused");
    }
    report.check(recovered && took <= RECOVERY, "acknowledgements are back within 5 s", format!("after {took:.1?}"));
    Ok(())
}

/// All come, collect and are judged.
pub async fn conclude(world: &Arc<World>, report: &mut Report, people: &People) -> Result<(), Failure> {
    world.gather(people.devices.iter()).await?;
    world.settle(&people.devices).await;
    world.audit().await?;
    report.judge(world);
    Ok(())
}
