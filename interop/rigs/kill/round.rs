//! One round: log in, send, kill, drain what the sockets hold, restart, collect.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

use super::journal::{Journal, Received, Whereabouts};
use crate::client::{Connection, Resumption, Target};
use crate::rng::Rng;
use crate::server::{PASSWORD, Server};
use crate::sm::{NS as SM, Unacked};
use crate::{Failure, xml};

/// How long collecting may take, and how long silence must last to be the end.
const COLLECT: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(250);

/// Who writes to whom.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) sender: String,
    pub(super) recipient: String,
    pub(super) whereabouts: Whereabouts,
}

/// What a round is to be.
pub(super) struct Plan {
    pub(super) number: u32,
    pub(super) pairs: Arc<Vec<Pair>>,
    pub(super) target: Target,
    pub(super) messages: u32,
    pub(super) window: usize,
    /// When the server is killed, from the first message on.
    pub(super) after: Duration,
    /// Kill it at the first acknowledgement after that.
    pub(super) on_ack: bool,
    /// Senders send again, under the same ids, what was not acknowledged.
    pub(super) resend: bool,
    pub(super) rng: Rng,
}

/// What it was.
pub(super) struct Outcome {
    pub(super) journals: Vec<Journal>,
    pub(super) restart: Duration,
    pub(super) ack_to_kill: Option<Duration>,
    pub(super) complaints: Vec<String>,
}

/// What all tasks of a round share.
struct Round {
    plan: Plan,
    server: Arc<Mutex<Server>>,
    journals: Vec<Mutex<Journal>>,
    trigger: Mutex<Trigger>,
    /// When the traffic began.
    started: watch::Sender<Option<Instant>>,
}

#[derive(Default)]
struct Trigger {
    armed: bool,
    gap: Option<Duration>,
    killed: bool,
}

/// What a recipient takes through the crash: what it needs to ask for its old session.
type Session = Option<(String, u32)>;

/// Plays it. The server runs before and after.
pub(super) async fn play(plan: Plan, server: &Arc<Mutex<Server>>) -> Result<Outcome, Box<dyn std::error::Error>> {
    let journals = plan.pairs.iter().map(|_| Mutex::default()).collect();
    let started = watch::Sender::new(None);
    let mut rng = plan.rng.clone();
    let round = Arc::new(Round { plan, server: Arc::clone(server), journals, trigger: Mutex::default(), started });
    let count = round.plan.pairs.len();

    let mut recipients = Vec::new();
    let mut senders = Vec::new();
    for index in 0..count {
        // Half of the detached are cut off before the traffic, half of them in it.
        let cut = rng.one_in(2).then(|| rng.between(Duration::ZERO, round.plan.after));
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(Arc::clone(&round).receive(index, cut, ready));
        recipients.push(task);
        is_ready.await.map_err(|_| format!("recipient {index} did not get in"))?;
    }
    for index in 0..count {
        let connection = log_in(&round, &round.plan.pairs[index].sender).await?;
        senders.push(tokio::spawn(Arc::clone(&round).send(index, connection, rng.fork(index as u64))));
    }
    round.started.send_replace(Some(Instant::now()));
    sleep(round.plan.after).await;
    if round.plan.on_ack {
        round.trigger.lock().expect("no panic while locked").armed = true;
        // With nothing in flight no acknowledgement will come.
        sleep(Duration::from_millis(500)).await;
    }
    round.kill(None);
    for sender in senders {
        sender.await?;
    }
    let mut sessions = Vec::new();
    for recipient in recipients {
        sessions.push(timeout(COLLECT, recipient).await??);
    }
    let restart = {
        let mut server = server.lock().expect("no panic while locked");
        server.reap();
        server.start()?
    };
    let mut tasks = Vec::new();
    for (index, session) in sessions.into_iter().enumerate() {
        tasks.push((
            tokio::spawn(timeout(COLLECT, Arc::clone(&round).collect(index, session))),
            tokio::spawn(timeout(COLLECT, Arc::clone(&round).resend(index))),
        ));
    }
    let mut complaints = Vec::new();
    for (index, (recipient, sender)) in tasks.into_iter().enumerate() {
        for (who, outcome) in [("recipient", recipient.await?), ("sender", sender.await?)] {
            let complaint = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) => failure.to_string(),
                Err(_) => format!("not done in {COLLECT:?}"),
            };
            let place = round.plan.pairs[index].whereabouts.name();
            complaints.push(format!("{who} {index} ({place}): {complaint}"));
        }
    }
    let ack_to_kill = round.trigger.lock().expect("no panic while locked").gap;
    let journals =
        round.journals.iter().map(|journal| std::mem::take(&mut *journal.lock().expect("no panic while locked")));
    Ok(Outcome { journals: journals.collect(), restart, ack_to_kill, complaints })
}

impl Round {
    fn kill(&self, read_at: Option<Instant>) {
        let mut trigger = self.trigger.lock().expect("no panic while locked");
        if !trigger.killed {
            let mut server = self.server.lock().expect("no panic while locked");
            // Until the call, not until it returns: that may be a time slice later.
            trigger.gap = read_at.map(|at| at.elapsed());
            server.kill();
            trigger.killed = true;
        }
    }

    fn journal(&self, index: usize) -> std::sync::MutexGuard<'_, Journal> {
        self.journals[index].lock().expect("no panic while locked")
    }

    fn message(&self, index: usize, seq: u32) -> Vec<u8> {
        let (round, to) = (self.plan.number, &self.plan.pairs[index].recipient);
        let domain = &self.plan.target.domain;
        // Long enough to be one that nobody uses twice: what is sent again is known by it.
        format!(
            "<message to='{to}@{domain}' type='chat' id='k{round:04}-{index:04}-{seq:06}'><body>Message {seq} of pair {index}, \
             round {round}</body></message><r xmlns='{SM}'/>"
        )
        .into_bytes()
    }

    /// The number of a message of this conversation and round.
    fn seq(&self, index: usize, message: &[u8]) -> Option<Result<u32, ()>> {
        let id = xml::attribute(message, "id")?;
        let mut parts = id.strip_prefix('k')?.split('-').map(str::parse::<u32>);
        let mut part = || parts.next()?.ok();
        let (round, pair, seq) = (part()?, part()?, part()?);
        Some(if round == self.plan.number && pair as usize == index { Ok(seq) } else { Err(()) })
    }

    async fn send(self: Arc<Self>, index: usize, mut connection: Connection, mut rng: Rng) {
        let mut started = self.started.subscribe();
        let _ = started.wait_for(Option::is_some).await;
        let mut unacked = Unacked::default();
        let mut next = tokio::time::Instant::now();
        let mut alive = true;
        while alive {
            let sent = self.journal(index).sent;
            let may_send = unacked.len() < self.plan.window && sent < self.plan.messages;
            tokio::select! {
                () = sleep_until(next), if may_send => {
                    connection.queue(&self.message(index, sent));
                    unacked.push(sent);
                    self.journal(index).sent += 1;
                    next = tokio::time::Instant::now() + rng.between(Duration::from_millis(1), Duration::from_millis(10));
                }
                filled = connection.fill() => alive = filled.is_ok(),
            }
            let read_at = Instant::now();
            while let Ok(Some(token)) = connection.scan() {
                let bytes = connection.bytes(token);
                match xml::name(bytes) {
                    b"a" => {
                        let h = xml::attribute(bytes, "h").and_then(|h| h.parse().ok()).unwrap_or(0);
                        let acked = match unacked.acknowledge(h) {
                            Ok(acked) => acked.count(),
                            Err(error) => panic!("{error}"),
                        };
                        let armed = self.trigger.lock().expect("no panic while locked").armed;
                        if acked > 0 && armed {
                            self.kill(Some(read_at));
                        }
                        let mut journal = self.journal(index);
                        journal.acked += acked as u32;
                        journal.settled = journal.acked;
                    }
                    b"message" => self.note_bounce(index, bytes),
                    b"r" => connection.queue(format!("<a xmlns='{SM}' h='0'/>").as_bytes()),
                    _ => {}
                }
            }
        }
    }

    fn note_bounce(&self, index: usize, message: &[u8]) {
        if xml::attribute(message, "type").as_deref() == Some("error")
            && let Some(Ok(seq)) = self.seq(index, message)
        {
            self.journal(index).bounced.push(seq);
        }
    }

    /// Before the crash. Says when it is in its place, reads until its connection is cut or dies.
    async fn receive(
        self: Arc<Self>,
        index: usize,
        cut: Option<Duration>,
        ready: tokio::sync::oneshot::Sender<()>,
    ) -> Session {
        let place = self.plan.pairs[index].whereabouts;
        if place == Whereabouts::Offline {
            let _ = ready.send(());
            return None;
        }
        let mut inbox = match self.enter(index, None, place.managed()).await {
            Ok(inbox) => inbox,
            Err(error) => panic!("recipient {index}: {error}"),
        };
        let _ = ready.send(());
        let detaching = matches!(place, Whereabouts::Reset | Whereabouts::Silent);
        let mut started = self.started.subscribe();
        let departure = async {
            if let Some(cut) = cut {
                let _ = started.wait_for(Option::is_some).await;
                sleep(cut).await;
            }
        };
        tokio::pin!(departure);
        let cut_off = loop {
            tokio::select! {
                () = &mut departure, if detaching => break true,
                read = inbox.read(&self, index, false) => if read.is_err() {
                    break false;
                },
            }
        };
        let session = inbox.id.take().map(|id| (id, inbox.h));
        if cut_off && place == Whereabouts::Reset {
            inbox.connection.reset();
        } else if cut_off {
            // Nobody reads any more and nobody says so, until the crash.
            while !self.trigger.lock().expect("no panic while locked").killed {
                sleep(Duration::from_millis(20)).await;
            }
            drop(inbox);
        }
        session
    }

    /// Logs in, asks for the old session if there is one, else begins a new one with presence.
    async fn enter(&self, index: usize, session: Session, managed: bool) -> Result<Inbox, Failure> {
        let user = &self.plan.pairs[index].recipient;
        let mut connection = Connection::log_in(&self.plan.target, user, PASSWORD).await?;
        if let Some((id, h)) = session
            && let Resumption::Resumed(_) = connection.resume(&id, h).await?
        {
            return Ok(Inbox { connection, h, id: Some(id), is_ready: true });
        }
        connection.bind(Some("rig")).await?;
        let id = if managed { connection.enable(true).await?.id } else { None };
        let domain = &self.plan.target.domain;
        connection.queue(
            format!("<presence/><iq type='get' id='ready' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>").as_bytes(),
        );
        let mut inbox = Inbox { connection, h: 0, id, is_ready: false };
        // What is waiting for a recipient after the crash belongs to the journal's second half.
        let after = self.trigger.lock().expect("no panic while locked").killed;
        while !inbox.is_ready {
            inbox.read(self, index, after).await?;
        }
        Ok(inbox)
    }

    /// After the restart: everything up to the sender's last message, and what comes within a while after that.
    async fn collect(self: Arc<Self>, index: usize, session: Session) -> Result<(), Failure> {
        let place = self.plan.pairs[index].whereabouts;
        let managed = place.managed() || (place == Whereabouts::Offline && self.plan.number.is_multiple_of(2));
        let mut inbox = self.enter(index, session, managed).await?;
        loop {
            let ended = self.journal(index).after.iter().any(|received| received.seq == END);
            match timeout(if ended { QUIET } else { COLLECT }, inbox.read(&self, index, true)).await {
                Ok(outcome) => outcome?,
                Err(_) => break,
            }
        }
        self.journal(index).after.retain(|received| received.seq != END);
        if managed {
            inbox.acknowledge();
        }
        inbox.connection.close().await
    }

    /// After the restart: what was not acknowledged, under its old ids, and a last message.
    async fn resend(self: Arc<Self>, index: usize) -> Result<(), Failure> {
        let mut connection = log_in(&self, &self.plan.pairs[index].sender)
            .await
            .map_err(|error| Failure::Protocol(format!("cannot log in again: {error}")))?;
        let mut unacked = Unacked::default();
        let (acked, sent) = {
            let journal = self.journal(index);
            (journal.acked, journal.sent)
        };
        let again = if self.plan.resend { acked..sent } else { 0..0 };
        for seq in again.chain([END]) {
            connection.queue(&self.message(index, seq));
            unacked.push(seq);
        }
        while !unacked.is_empty() {
            let token = connection.element().await?;
            let bytes = connection.bytes(token);
            match xml::name(bytes) {
                b"a" => {
                    let h = xml::attribute(bytes, "h").and_then(|h| h.parse().ok()).unwrap_or(0);
                    let settled = unacked.acknowledge(h)?.filter(|seq| *seq != END).count();
                    self.journal(index).settled += settled as u32;
                }
                b"message" => self.note_bounce(index, bytes),
                _ => {}
            }
        }
        connection.close().await
    }
}

/// The last message's number.
const END: u32 = u32::MAX;

async fn log_in(round: &Round, user: &str) -> Result<Connection, Failure> {
    let mut connection = Connection::log_in(&round.plan.target, user, PASSWORD).await?;
    connection.bind(Some("rig")).await?;
    connection.enable(false).await?;
    Ok(connection)
}

/// A recipient's side of a stream.
struct Inbox {
    connection: Connection,
    /// Stanzas handled; counts without stream management too.
    h: u32,
    /// What the session can be resumed with.
    id: Option<String>,
    /// The server answered a ping after the presence.
    is_ready: bool,
}

impl Inbox {
    async fn read(&mut self, round: &Round, index: usize, after: bool) -> Result<(), Failure> {
        let token = self.connection.element().await?;
        let bytes = self.connection.bytes(token);
        match xml::name(bytes) {
            b"message" => {
                self.h = self.h.wrapping_add(1);
                let stanza_id = xml::child(bytes, "stanza-id").and_then(|child| xml::attribute(child, "id"));
                let stanza_id = stanza_id.map(|id| id.into_owned());
                let mut journal = round.journal(index);
                match round.seq(index, bytes) {
                    Some(Ok(seq)) if after => journal.after.push(Received { seq, stanza_id }),
                    Some(Ok(seq)) => journal.before.push(Received { seq, stanza_id }),
                    Some(Err(())) => journal.strays += 1,
                    None => {}
                }
            }
            b"iq" => {
                self.h = self.h.wrapping_add(1);
                self.is_ready |= xml::attribute(bytes, "id").as_deref() == Some("ready");
            }
            b"presence" => self.h = self.h.wrapping_add(1),
            b"r" => self.acknowledge(),
            _ => {}
        }
        Ok(())
    }

    fn acknowledge(&mut self) {
        self.connection.queue(format!("<a xmlns='{SM}' h='{}'/>", self.h).as_bytes());
    }
}
