//! T14: counters come round at 2^32, and an `h` that cannot be.
//!
//! Nobody sends four thousand million stanzas to see a counter come round. But Rookery keeps sessions over a restart, so the
//! server is ended, the counters of its sessions are moved to just below 2^32 in the database, it is started again, and the
//! sessions are resumed by clients whose counters were moved as much. From there on all goes as in any other session: through
//! the point where both counters come round, with cuts and resumptions on both sides of it.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rookery_rigs::client::Connection;
use rookery_rigs::server::{PASSWORD, Setup, Store, Subject};
use rookery_rigs::sm::NS as SM;
use rookery_rigs::{Failure, within};
use tokio::time::sleep;

use crate::device::{Cut, Spec};
use crate::people;
use crate::report::Report;
use crate::world::{Options, World, seeded};

/// `loss t14`
#[derive(Debug, Clone, clap::Args)]
pub struct Counters {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
}

const DIALOGUES: usize = 4;
/// How far below 2^32 the counters go on.
const BELOW: u32 = 3;

/// Runs it.
pub async fn run(options: &Counters) -> Result<Report, Failure> {
    let (mut rng, seed) = seeded(&options.common);
    let mut report = Report::new("t14");
    let common = &options.common.server;
    let world = World::new(&options.common, Setup::default(), people::users(DIALOGUES), seed).await?;
    report.say(format!("{}, --seed {seed}", world.server().version()));
    let mut devices = people::dialogues(&world, DIALOGUES, &mut rng, |spec| Spec {
        pace: (Duration::ZERO, Duration::from_millis(50)),
        ..spec
    });
    wrong(&world, &mut report).await?;
    world.gather(devices.iter()).await?;
    world.talk(Duration::from_millis(300)).await;
    world.settle(&devices).await;
    if common.server == Subject::Rookery && common.store == Store::Sqlite {
        let shifts = world.blocking(|world| {
            world.server().stop();
            shift(world)
        });
        let shifts = shifts.await?;
        report.check(
            shifts.len() == devices.len(),
            "all sessions are kept",
            format!("{} of {}", shifts.len(), devices.len()),
        );
        for device in &devices {
            let user = &world.users[device.spec.account as usize];
            let Some((_, ours, theirs)) = shifts.iter().find(|(name, ..)| name == user) else { continue };
            device.shift(*ours, *theirs);
        }
        world.restart().await?;
        world.gather(devices.iter()).await?;
    } else {
        report.say("the counters are not moved: that is for Rookery on SQLite");
    }
    // Through the point and beyond it, with a cut in every phase.
    for phase in 0..4 {
        world.mark(&format!("phase {phase}"));
        world.talking.send_replace(true);
        sleep(Duration::from_millis(150)).await;
        for device in &devices {
            device.cut(Cut::any(&mut rng, true), Some(Duration::from_millis(50)));
        }
        sleep(Duration::from_millis(100)).await;
        world.gather(devices.iter()).await?;
        world.talking.send_replace(false);
        world.settle(&devices).await;
    }
    world.audit().await?;
    report.judge(&world);
    let resumed: u64 = devices.iter().map(|device| device.state.resumed.load(Ordering::SeqCst)).sum();
    let refused: u64 = devices.iter().map(|device| device.state.refused.load(Ordering::SeqCst)).sum();
    report.check(
        refused == 0 && resumed > 0,
        "sessions are resumed",
        format!("{resumed} were, {refused} were refused"),
    );
    report.protocol(&devices, true);
    for device in &mut devices {
        device.stop().await;
    }
    report.rules(&Arc::clone(&world), &options.common);
    Ok(report)
}

/// Moves the counters of all stored sessions to just below 2^32. Gives for each account by how much: the stanzas that the
/// client has handled, and those that the server has.
fn shift(world: &World) -> Result<Vec<(String, u32, u32)>, Failure> {
    let file = world.server().data().join("rookery.sqlite");
    let sqlite = |statement: &str| -> Result<String, Failure> {
        let output = Command::new("sqlite3").arg(&file).arg(statement).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            return Err(Failure::Protocol(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let rows = sqlite("SELECT s.rowid, a.jid, hex(s.state) FROM sessions s JOIN accounts a ON a.number = s.account")?;
    let mut shifts = Vec::new();
    for row in rows.lines() {
        let mut fields = row.split('|');
        let (Some(rowid), Some(jid), Some(hex)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let user = jid.split('@').next().unwrap_or_default();
        let state: Option<Vec<u8>> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()).collect();
        let moved = state.as_deref().and_then(moved);
        let (state, ours, theirs) =
            moved.ok_or_else(|| Failure::Protocol(format!("the session of {user} cannot be read")))?;
        let hex: String = state.iter().map(|byte| format!("{byte:02x}")).collect();
        sqlite(&format!("UPDATE sessions SET state = x'{hex}' WHERE rowid = {rowid}"))?;
        shifts.push((user.to_owned(), ours, theirs));
    }
    Ok(shifts)
}

/// A stored session (a version, then records, each behind its length; the first is an element with the counters) with other
/// counters, and by how much they differ.
fn moved(state: &[u8]) -> Option<(Vec<u8>, u32, u32)> {
    let length = u32::from_be_bytes(state.get(1..5)?.try_into().ok()?) as usize;
    let session = std::str::from_utf8(state.get(5..5 + length)?).ok()?;
    let attribute = |name: &str| {
        let begin = session.find(&format!(" {name}='"))? + name.len() + 3;
        let end = session[begin..].find('\'')? + begin;
        Some((begin..end, session[begin..end].parse::<u32>().ok()?))
    };
    let (handled_at, handled) = attribute("handled")?;
    let (acked_at, acked) = attribute("acked")?;
    let goal = 0_u32.wrapping_sub(BELOW);
    let mut edited = session.to_owned();
    let mut places = [handled_at, acked_at];
    places.sort_by_key(|place| std::cmp::Reverse(place.start));
    places.into_iter().for_each(|place| edited.replace_range(place, &goal.to_string()));
    let mut out = vec![*state.first()?];
    out.extend((edited.len() as u32).to_be_bytes());
    out.extend(edited.into_bytes());
    out.extend_from_slice(state.get(5 + length..)?);
    Some((out, goal.wrapping_sub(acked), goal.wrapping_sub(handled)))
}

/// Values of `h` that cannot be: the stream ends with an error, or the element is of no effect; no session is harmed but this.
async fn wrong(world: &Arc<World>, report: &mut Report) -> Result<(), Failure> {
    for (h, expected) in [
        ("1000", Some("handled-count-too-high")),
        ("4294967295", Some("handled-count-too-high")),
        ("4294967296", None),
        ("-1", None),
        ("1x", None),
        ("", None),
    ] {
        let mut connection = Connection::log_in(&world.target, &world.users[0], PASSWORD).await?;
        connection.bind(Some("wrong")).await?;
        connection.enable(false).await?;
        connection.queue(format!("<a xmlns='{SM}' h='{h}'/><r xmlns='{SM}'/>").as_bytes());
        let answer = within(Duration::from_secs(5), async {
            let mut said = Vec::new();
            loop {
                match connection.next().await {
                    Ok(token) => {
                        said.extend_from_slice(connection.bytes(token));
                        // Of no effect: it goes on.
                        if connection.bytes(token).starts_with(b"<a ") {
                            return Ok(said);
                        }
                    }
                    Err(Failure::Closed | Failure::Io(_)) => return Ok(said),
                    Err(error) => return Err(error),
                }
            }
        });
        let answer =
            answer.await.map_or_else(|error| error.to_string(), |said| String::from_utf8_lossy(&said).into_owned());
        let fit = match expected {
            Some(expected) => answer.contains(expected),
            None => answer.contains("stream:error") || answer.starts_with("<a "),
        };
        report.check(fit, format!("h='{h}' from a client that has handled nothing"), short(&answer));
    }
    Ok(())
}

fn short(answer: &str) -> String {
    answer.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_moved_and_nothing_else() {
        let session = "<session id='x' handled='10' history='7' acked='7' stuck='0'/>";
        let mut state = vec![1];
        state.extend((session.len() as u32).to_be_bytes());
        state.extend_from_slice(session.as_bytes());
        state.extend_from_slice(b"\0\0\0\x04<a/>");
        let (state, ours, theirs) = moved(&state).unwrap();
        assert_eq!((ours.wrapping_add(7), theirs.wrapping_add(10)), (u32::MAX - 2, u32::MAX - 2));
        let expected = "<session id='x' handled='4294967293' history='7' acked='4294967293' stuck='0'/>";
        assert_eq!(state[1..5], (expected.len() as u32).to_be_bytes());
        assert_eq!(&state[5..], [expected.as_bytes(), b"\0\0\0\x04<a/>"].concat());
        assert!(moved(&state[..20]).is_none());
    }
}
