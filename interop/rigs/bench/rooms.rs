//! What a room costs: a message delivered to an occupant, somebody who enters a room with n others in it, an occupant in
//! memory. A figure is void unless each message came to each occupant once, and in the same order to all; and, while
//! everybody's presence is sent, unless each occupant has seen each other one enter, once.

mod occupant;
mod room;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use self::occupant::Occupant;
use self::room::{Cue, Entered, Room};
use super::chat::Times;
use super::{Figure, micros, transport_name};
use crate::client::{Target, Transport};
use crate::process::{self, Cpu};
use crate::server::{ROOMS, Server, Setup, Subject, users};
use crate::{Failure, within};

/// Those who enter and leave again, to see what that costs.
const GUESTS: usize = 3;

/// How many enter a room at the same time while it fills.
const AT_ONCE: usize = 10;

/// How long a step of the work may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// `rigs bench rooms`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Rooms x occupants of each
    #[arg(long, value_delimiter = ',', default_value = "10x50")]
    size: Vec<Size>,
    /// Several servers by turns, in place of the one of --server
    #[arg(long, value_enum, value_delimiter = ',')]
    beside: Vec<Subject>,
    /// Messages of a room on their way at once: that is, not yet with all occupants
    #[arg(long, value_delimiter = ',', default_value = "20")]
    in_flight: Vec<usize>,
    /// Occupants of a room who talk, by turns
    #[arg(long, default_value_t = 5)]
    senders: usize,
    /// Bytes of a message's body
    #[arg(long, default_value_t = 100)]
    body: usize,
    /// Whose presence is sent to everybody: all, or moderators (muc#roomconfig_presencebroadcast)
    #[arg(long, value_enum, default_value = "all")]
    presence: Presence,
    /// How many are in the room when it is measured what entering costs; when it is full, it is measured in any case
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    enter_at: Vec<usize>,
    /// Sessions of an account, each an occupant
    #[arg(long, default_value_t = 1)]
    resources: usize,
    /// How they connect
    #[arg(long, value_enum, default_value = "plain")]
    transport: Transport,
    /// Stream management
    #[arg(long)]
    sm: bool,
    /// Seconds of a run
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Seconds of silence before memory is read
    #[arg(long, default_value_t = 3)]
    settle: u64,
}

/// Whose presence is sent to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Presence {
    /// Each occupant's
    All,
    /// Only that of moderators
    Moderators,
}

impl Options {
    /// Rooms of one size, with the defaults and no visits on the way.
    pub(super) fn of(rooms: usize, occupants: usize) -> Self {
        Self {
            size: vec![Size { rooms, occupants }],
            beside: Vec::new(),
            in_flight: vec![20],
            senders: 5,
            body: 100,
            presence: Presence::All,
            enter_at: Vec::new(),
            resources: 1,
            transport: Transport::Plain,
            sm: false,
            seconds: 5,
            settle: 2,
        }
    }
}

/// So many rooms with so many occupants each.
#[derive(Debug, Clone, Copy)]
struct Size {
    rooms: usize,
    occupants: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('x').and_then(|(rooms, each)| Some((rooms.parse().ok()?, each.parse().ok()?)));
        match parts {
            Some((rooms, occupants)) if rooms > 0 && occupants > 0 => Ok(Self { rooms, occupants }),
            _ => Err("rooms x occupants, as in 10x50".into()),
        }
    }
}

/// Measures each size on each server, on a server of its own.
pub(super) async fn measure(
    bench: &super::Options,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    for &size in &options.size {
        let subjects = if options.beside.is_empty() { vec![bench.server.server] } else { options.beside.clone() };
        for subject in subjects {
            let mut bench = bench.clone();
            bench.server.server = subject;
            let mut server = Server::with(&bench.server, Setup { rooms: true, ..Setup::default() })?;
            server.start()?;
            println!(
                "{} rooms of {}: {}, {}, archive {}, presence of {}",
                size.rooms,
                size.occupants,
                server.version(),
                transport_name(options.transport),
                if bench.server.archive { "on" } else { "off" },
                if options.presence == Presence::All { "all" } else { "moderators" }
            );
            let outcome = Stage::set(&bench, options, size, &server).await?.perform(&server, figures).await;
            // Nobody has to see them all leave.
            server.kill();
            server.reap();
            outcome?;
        }
    }
    Ok(())
}

/// The rooms, and all who will be in them, logged in.
struct Stage<'a> {
    bench: &'a super::Options,
    options: &'a Options,
    rooms: Vec<(Arc<Room>, Vec<UnboundedSender<Cue>>)>,
    /// They enter the first room only.
    guests: Vec<UnboundedSender<Cue>>,
    size: Size,
}

impl<'a> Stage<'a> {
    async fn set(
        bench: &'a super::Options,
        options: &'a Options,
        size: Size,
        server: &Server,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let accounts = users("u", (size.rooms * size.occupants).div_ceil(options.resources) + GUESTS);
        server.add_accounts(&accounts)?;
        let target = server.target(options.transport);
        let mut stage = Self { bench, options, rooms: Vec::new(), guests: Vec::new(), size };
        let (people, visitors) = accounts.split_at(accounts.len() - GUESTS);
        let seats: Vec<_> = people
            .iter()
            .flat_map(|user| (0..options.resources).map(move |resource| (user.clone(), resource)))
            .collect();
        for (number, seats) in seats.chunks(size.occupants).take(size.rooms).enumerate() {
            let room = Arc::new(Room::new(format!("room{number}@{ROOMS}")));
            let thin = options.presence == Presence::Moderators;
            let mut occupants = log_in(&target, seats, &room, "n", options).await?;
            if let Some((occupant, _)) = occupants.first_mut() {
                within(PATIENCE, occupant.found(thin)).await?;
            }
            stage.rooms.push((room, occupants.into_iter().map(begin).collect()));
        }
        let seats: Vec<_> = visitors.iter().map(|user| (user.clone(), 0)).collect();
        let guests = log_in(&target, &seats, &stage.rooms[0].0, "guest", options).await?;
        stage.guests = guests.into_iter().map(begin).collect();
        Ok(stage)
    }

    async fn perform(&self, server: &Server, figures: &mut Vec<Figure>) -> Result<(), Box<dyn std::error::Error>> {
        let settle = Duration::from_secs(self.options.settle);
        tokio::time::sleep(settle).await;
        let before = process::pss(server.pid());
        let (rooms, occupants) = (self.size.rooms, self.size.occupants);
        let mut steps: Vec<_> = self.options.enter_at.iter().copied().filter(|&count| count < occupants).collect();
        steps.sort_unstable();
        let (mut inside, mut filling) = (1, Duration::ZERO);
        for step in steps {
            filling += self.fill(inside, step).await?;
            inside = step;
            self.visit(server, inside, false, figures).await?;
        }
        filling += self.fill(inside, occupants).await?;
        tokio::time::sleep(settle).await;
        let after = process::pss(server.pid());
        Figure {
            what: "  all are in".into(),
            values: vec![filling.as_secs_f64() * 1e3],
            unit: "ms",
            note: format!("{AT_ONCE} enter a room at once, and the next when all have seen them"),
        }
        .done(figures);
        self.visit(server, occupants, false, figures).await?;
        Figure {
            what: "  memory of an occupant".into(),
            values: vec![after.saturating_sub(before) as f64 / 1024.0 / (rooms * occupants) as f64],
            unit: "KiB each",
            note: format!("PSS {} -> {} MiB", before >> 20, after >> 20),
        }
        .done(figures);
        for &in_flight in &self.options.in_flight {
            self.talk(server, in_flight, figures).await?;
        }
        self.visit(server, occupants, true, figures).await?;
        Ok(())
    }

    /// Lets all rooms fill up, from so many to so many, a few at a time; how long that took.
    async fn fill(&self, from: usize, to: usize) -> Result<Duration, Failure> {
        let start = Instant::now();
        let mut inside = from;
        while inside < to {
            let next = (inside + AT_ONCE).min(to);
            for (_, cues) in &self.rooms {
                for cue in &cues[inside..next] {
                    let _ = cue.send(Cue::Enter);
                }
            }
            for (room, _) in &self.rooms {
                self.seen(room, next - inside, inside).await?;
                room.with(|state| state.entered.clear());
            }
            inside = next;
        }
        Ok(start.elapsed())
    }

    /// Waits until so many have entered, to so many others, and all have seen what they should; each entrance anew by those
    /// who were there, and each who was there by who entered.
    async fn seen(&self, room: &Room, entering: usize, others: usize) -> Result<(), Failure> {
        let all = (others + entering).pow(2) - others.pow(2);
        let all = if self.options.presence == Presence::All { all as u64 } else { 0 };
        let before = room.with(|state| state.counted);
        let what = format!("{entering} entering to {others}");
        room.until(PATIENCE, &what, |state| state.entered.len() >= entering && state.arrivals >= before + all).await?;
        room.with(|state| {
            if all > 0 && state.arrivals > before + all {
                let surplus = state.arrivals - before - all;
                return Err(Failure::Protocol(format!("void: {what}: {surplus} presences too many")));
            }
            state.counted = state.arrivals;
            Ok(())
        })
    }

    /// Guests enter the first room one after the other, and each leaves before the next.
    async fn visit(
        &self,
        server: &Server,
        others: usize,
        history: bool,
        figures: &mut Vec<Figure>,
    ) -> Result<(), Failure> {
        let (room, _) = &self.rooms[0];
        let mut visits: Vec<(Entered, f64)> = Vec::new();
        for guest in &self.guests {
            // What was said before must be out of the way.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let cpu = Cpu::read(server.pid());
            let _ = guest.send(Cue::Enter);
            self.seen(room, 1, others).await?;
            // Thinned presence says nothing of when the work is over.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let cpu = micros(Cpu::read(server.pid()).since(&cpu));
            let entered = room.with(|state| state.entered.pop());
            visits.extend(entered.map(|entered| (entered, cpu)));
            room.with(|state| state.entered.clear());
            let gone = if self.options.presence == Presence::All { others as u64 + 1 } else { 1 };
            let before = room.with(|state| state.departures);
            let _ = guest.send(Cue::Leave);
            room.until(PATIENCE, "leaving", |state| state.departures >= before + gone).await?;
        }
        let first = visits.first().map(|(entered, _)| *entered);
        let mut cpu: Vec<_> = visits.iter().map(|(_, cpu)| *cpu).collect();
        cpu.sort_by(f64::total_cmp);
        Figure {
            what: format!("  entering to {others}{}", if history { ", with history" } else { "" }),
            values: visits.iter().map(|(entered, _)| entered.took.as_secs_f64() * 1e3).collect(),
            unit: "ms",
            note: format!(
                "{} bytes, {} messages, {:.0} us CPU with all that others are sent",
                first.map_or(0, |entered| entered.bytes),
                first.map_or(0, |entered| entered.history),
                cpu.get(cpu.len() / 2).copied().unwrap_or(f64::NAN)
            ),
        }
        .done(figures);
        Ok(())
    }

    /// All rooms talk at once.
    async fn talk(&self, server: &Server, in_flight: usize, figures: &mut Vec<Figure>) -> Result<(), Failure> {
        for (room, cues) in &self.rooms {
            let senders = cues.iter().take(self.options.senders).cloned().collect();
            room.talk(senders, self.size.occupants, in_flight);
        }
        let delivered = || -> u64 { self.rooms.iter().map(|(room, _)| room.delivered.load(Ordering::Relaxed)).sum() };
        let own = std::process::id();
        let (mut values, mut ours, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..self.bench.runs {
            let before = (delivered(), Cpu::read(server.pid()), Cpu::read(own), Instant::now());
            tokio::time::sleep(Duration::from_secs(self.options.seconds)).await;
            // With servers that write in gusts, several of these.
            let gust = (in_flight * self.size.rooms * self.size.occupants) as u64;
            while delivered() - before.0 < 4 * gust {
                if before.3.elapsed() > PATIENCE {
                    return Err(Failure::Protocol(format!("void: {} deliveries in a run", delivered() - before.0)));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let count = (delivered() - before.0) as f64;
            values.push(micros(Cpu::read(server.pid()).since(&before.1)) / count);
            ours.push(micros(Cpu::read(own).since(&before.2)) / count);
            rates.push(count / before.3.elapsed().as_secs_f64());
        }
        let mut times = Vec::new();
        for (room, _) in &self.rooms {
            room.fall_silent().await?;
            room.with(|state| times.append(&mut state.times));
        }
        let middle = |list: &mut Vec<f64>| {
            list.sort_by(f64::total_cmp);
            list[list.len() / 2]
        };
        Figure {
            what: format!("  a delivery, {in_flight} in flight"),
            values,
            unit: "us CPU",
            note: format!(
                "body {} B, {:.0}/s, p50 {:.1?} p99 {:.1?}, ours {:.1} us",
                self.options.body,
                middle(&mut rates),
                Times::quantile(&mut times, 0.5),
                Times::quantile(&mut times, 0.99),
                middle(&mut ours)
            ),
        }
        .done(figures);
        Ok(())
    }
}

/// In the order of their seats, a few at a time.
async fn log_in(
    target: &Target,
    seats: &[(String, usize)],
    room: &Arc<Room>,
    nick: &str,
    options: &Options,
) -> Result<Vec<(Occupant, UnboundedSender<Cue>)>, Box<dyn std::error::Error>> {
    let mut occupants = Vec::with_capacity(seats.len());
    for (group, seats) in seats.chunks(AT_ONCE).enumerate() {
        let tasks: Vec<_> = (group * AT_ONCE..)
            .zip(seats)
            .map(|(number, (user, resource))| {
                let (target, user, resource) = (target.clone(), user.clone(), *resource);
                let place = (Arc::clone(room), format!("{nick}{number}"));
                let kind = (options.body, options.sm);
                tokio::spawn(async move { Occupant::log_in(&target, &user, resource, place, kind).await })
            })
            .collect();
        for task in tasks {
            occupants.push(task.await??);
        }
    }
    Ok(occupants)
}

fn begin((occupant, cues): (Occupant, UnboundedSender<Cue>)) -> UnboundedSender<Cue> {
    tokio::spawn(occupant.act());
    cues
}
