//! One session: sends, receives, loses its connection, comes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::journal::Journal;
use super::{Phase, Run};
use crate::client::{Connection, Resumption, Target};
use crate::comeback;
use crate::rng::Rng;
use crate::server::PASSWORD;
use crate::sm::{NS as SM, Unacked};
use crate::{Failure, xml};

const RESOURCE: &str = "rig";
const MOMENT: Duration = Duration::from_millis(50);

/// What sessions count, each or all together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) resets: u64,
    pub(super) ends: u64,
    pub(super) silences: u64,
    pub(super) partial: u64,
    pub(super) dropped: u64,
    pub(super) resumed: u64,
    pub(super) refused: u64,
    pub(super) doubles: u64,
    pub(super) stolen: u64,
    pub(super) twins: u64,
    pub(super) failures: u64,
    pub(super) bounced: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) resent: u64,
    pub(super) disordered: u64,
    pub(super) unacked: u64,
    pub(super) complaints: Vec<String>,
}

impl Tally {
    /// Adds another's counts.
    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.resets += other.resets;
        self.ends += other.ends;
        self.silences += other.silences;
        self.partial += other.partial;
        self.dropped += other.dropped;
        self.resumed += other.resumed;
        self.refused += other.refused;
        self.doubles += other.doubles;
        self.stolen += other.stolen;
        self.twins += other.twins;
        self.failures += other.failures;
        self.bounced += other.bounced;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.resent += other.resent;
        self.disordered += other.disordered;
        self.unacked += other.unacked;
        self.complaints.extend_from_slice(&other.complaints);
    }
}

/// One session.
pub(super) struct Session {
    run: Arc<Run>,
    index: usize,
    target: Target,
    rng: Rng,
    /// None while it is cut off.
    connection: Option<Connection>,
    /// What to resume it with.
    id: String,
    /// Stanzas of the server handled.
    h: u32,
    unacked: Unacked<Vec<u8>>,
    journal: Journal,
    tally: Tally,
    is_complete: bool,
}

/// Where an attempt to resume led.
enum Attempt {
    /// The session goes on here; what arrived already.
    Resumed { connection: Connection, h: u32, arrived: Vec<Vec<u8>> },
    /// It does not; the connection is authenticated.
    Refused { connection: Connection, condition: String, h: Option<u32> },
}

impl Attempt {
    fn from(connection: Connection, resumption: Resumption) -> Self {
        match resumption {
            Resumption::Resumed(h) => Self::Resumed { connection, h, arrived: Vec::new() },
            Resumption::Failed(condition, h) => Self::Refused { connection, condition, h },
        }
    }
}

impl Session {
    /// Logs in, with stream management and presence.
    pub(super) async fn begin(run: Arc<Run>, index: usize, target: Target, rng: Rng) -> Result<Self, Failure> {
        let connection = Connection::log_in(&target, &format!("u{index}"), PASSWORD).await?;
        let mut session = Self {
            run,
            index,
            target,
            rng,
            connection: Some(connection),
            id: String::new(),
            h: 0,
            unacked: Unacked::default(),
            journal: Journal::default(),
            tally: Tally::default(),
            is_complete: false,
        };
        session.establish().await?;
        Ok(session)
    }

    /// Sends, receives, is cut off and comes back, to the run's end.
    pub(super) async fn live(mut self) -> Tally {
        while !self.connected().await {
            let gap = if self.rng.one_in(3) { Duration::ZERO } else { Duration::from_millis(2000) };
            let gap = self.rng.between(Duration::ZERO, gap);
            sleep(gap).await;
            if let Err(failure) = self.come_back().await {
                self.tally.complaints.push(format!("session {}: {failure}", self.index));
                break;
            }
        }
        let partner = self.run.sent[self.index ^ 1].load(Ordering::Relaxed);
        self.tally.sent = self.run.sent[self.index].load(Ordering::Relaxed).into();
        self.tally.lost = self.journal.lost(partner);
        self.tally.doubled = self.journal.doubled;
        self.tally.resent = self.journal.resent;
        self.tally.disordered = self.journal.disordered;
        self.tally.unacked = self.unacked.len() as u64;
        self.tally
    }

    /// Binds and enables what a new session needs, and sends again what the old one did not get acknowledged.
    async fn establish(&mut self) -> Result<(), Failure> {
        self.link().bind(Some(RESOURCE)).await?;
        let enabled = self.link().enable(true).await?;
        self.id = enabled.id.ok_or_else(|| Failure::Protocol("the server does not let sessions be resumed".into()))?;
        // What came before `<enabled/>` is not counted.
        let early = std::mem::take(&mut self.link().early);
        early.iter().filter(|stanza| stanza.starts_with(b"<message")).for_each(|stanza| self.take_message(stanza));
        self.h = 0;
        let again = self.unacked.restart();
        self.stanza(b"<presence/>".to_vec());
        again.into_iter().filter(|stanza| stanza.starts_with(b"<message")).for_each(|stanza| self.stanza(stanza));
        self.link().flush().await
    }

    fn link(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("connected")
    }

    /// One connection's life. Whether the run has ended.
    async fn connected(&mut self) -> bool {
        let mut phase = self.run.phase.subscribe();
        let life = self.rng.between(Duration::ZERO, 2 * self.run.life);
        let cut = sleep_until(Instant::now() + life);
        tokio::pin!(cut);
        let mut next = Instant::now();
        loop {
            let now = *phase.borrow_and_update();
            if now == Phase::End {
                return true;
            }
            let traffic = now == Phase::Traffic;
            let mut read = Ok(());
            tokio::select! {
                _ = phase.changed() => {}
                () = &mut cut, if traffic => {
                    self.cut().await;
                    return false;
                }
                () = sleep_until(next) => {
                    if traffic && self.unacked.len() < 200 {
                        let message = self.message();
                        self.stanza(message);
                    }
                    if !traffic || self.rng.one_in(3) {
                        self.link().queue(format!("<r xmlns='{SM}'/>").as_bytes());
                    }
                    next = Instant::now() + self.rng.between(Duration::ZERO, 2 * self.run.pace);
                }
                filled = self.connection.as_mut().expect("connected").fill() => read = filled,
            }
            // What was read together with the answer to `<resume/>` is there before the socket is readable again.
            if let Err(failure) = read.and_then(|()| self.read()) {
                self.tally.dropped += 1;
                if !matches!(failure, Failure::Closed | Failure::Io(_)) {
                    self.tally.complaints.push(format!("session {}: {failure}", self.index));
                }
                self.connection = None;
                return false;
            }
            self.check_complete(traffic);
        }
    }

    fn check_complete(&mut self, traffic: bool) {
        let partner = self.run.sent[self.index ^ 1].load(Ordering::Relaxed);
        if !traffic && !self.is_complete && self.unacked.is_empty() && self.journal.complete(partner) {
            self.is_complete = true;
            self.run.complete.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn message(&mut self) -> Vec<u8> {
        let seq = self.run.sent[self.index].fetch_add(1, Ordering::Relaxed);
        let (index, partner, domain) = (self.index, self.index ^ 1, &self.target.domain);
        // Half of the pairs write to each other's devices, half to each other's accounts.
        let resource = if index & 2 == 0 { "/rig" } else { "" };
        let padding = "x".repeat(self.rng.below(80) as usize);
        format!(
            "<message to='u{partner}@{domain}{resource}' type='chat' id='m{index}-{seq}'><body>{seq} {padding}</body></message>"
        )
        .into_bytes()
    }

    fn stanza(&mut self, stanza: Vec<u8>) {
        self.link().queue(&stanza);
        self.unacked.push(stanza);
    }

    fn read(&mut self) -> Result<(), Failure> {
        while let Some(token) = self.link().scan()? {
            let element = self.link().bytes(token).to_vec();
            self.take(&element)?;
        }
        Ok(())
    }

    fn take(&mut self, element: &[u8]) -> Result<(), Failure> {
        match xml::name(element) {
            b"message" => {
                self.h = self.h.wrapping_add(1);
                self.take_message(element);
            }
            b"presence" | b"iq" => self.h = self.h.wrapping_add(1),
            b"r" => {
                let answer = format!("<a xmlns='{SM}' h='{}'/>", self.h);
                self.link().queue(answer.as_bytes());
            }
            b"a" => {
                let h = xml::attribute(element, "h").and_then(|h| h.parse().ok());
                let h = h.ok_or_else(|| Failure::Protocol("an acknowledgement without h".into()))?;
                self.unacked.acknowledge(h)?.for_each(drop);
            }
            b"stream:error" => return Err(Failure::Stream(xml::condition(element))),
            b"/stream:stream" => return Err(Failure::Closed),
            _ => {}
        }
        Ok(())
    }

    fn take_message(&mut self, message: &[u8]) {
        if xml::attribute(message, "type").as_deref() == Some("error") {
            self.tally.bounced += 1;
            return;
        }
        let partner = self.index ^ 1;
        let id = xml::attribute(message, "id").unwrap_or_default();
        let seq = id.strip_prefix(&format!("m{partner}-")).and_then(|seq| seq.parse().ok());
        match seq {
            Some(seq) => {
                let renewed = |index: usize| self.run.renewed[index].load(Ordering::Relaxed) > 0;
                let renewed = renewed(self.index) || renewed(partner);
                self.journal.receive(seq, renewed);
            }
            None => self.tally.complaints.push(format!("session {}: foreign message {id}", self.index)),
        }
    }

    /// Loses the connection: in half of the cases within a stanza.
    async fn cut(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let _ = timeout(MOMENT, connection.flush()).await;
        if self.run.split && self.rng.one_in(2) {
            let message = self.message();
            let (now, never) = message.split_at(self.rng.below(message.len() as u64) as usize);
            connection.queue(now);
            let _ = timeout(MOMENT, connection.flush()).await;
            connection.queue(never);
            self.unacked.push(message);
            self.tally.partial += 1;
        }
        match self.rng.below(3) {
            0 => {
                self.tally.resets += 1;
                connection.reset();
            }
            1 => self.tally.ends += 1,
            _ => {
                self.tally.silences += 1;
                let silence = self.rng.between(Duration::ZERO, Duration::from_secs(15));
                let late = self.rng.one_in(2);
                tokio::spawn(async move {
                    sleep(silence).await;
                    // The old network delivers after all; the server has long taken its session elsewhere.
                    if late {
                        let _ = timeout(MOMENT, connection.flush()).await;
                    }
                });
            }
        }
    }

    /// Connects until the session goes on or a new one has begun.
    async fn come_back(&mut self) -> Result<(), Failure> {
        let mut failures = 0;
        loop {
            let attempt = if self.rng.one_in(8) { self.resume_twice().await } else { self.resume_once().await };
            match attempt {
                Ok(Attempt::Resumed { connection, h, arrived }) => {
                    self.tally.resumed += 1;
                    self.connection = Some(connection);
                    self.unacked.acknowledge(h)?.for_each(drop);
                    let again: Vec<Vec<u8>> = self.unacked.iter().cloned().collect();
                    again.iter().for_each(|stanza| self.link().queue(stanza));
                    return arrived.iter().try_for_each(|element| self.take(element));
                }
                Ok(Attempt::Refused { connection, condition, h }) => {
                    self.tally.refused += 1;
                    self.tally.complaints.push(format!("session {}: resumption refused: {condition}", self.index));
                    self.run.renewed[self.index].fetch_add(1, Ordering::Relaxed);
                    if let Some(h) = h {
                        self.unacked.acknowledge(h)?.for_each(drop);
                    }
                    self.connection = Some(connection);
                    return self.establish().await;
                }
                Err(failure) => {
                    self.tally.failures += 1;
                    failures += 1;
                    if failures == 20 {
                        return Err(failure);
                    }
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn resume_once(&self) -> Result<Attempt, Failure> {
        let user = format!("u{}", self.index);
        let (connection, resumption) = comeback::resume(&self.target, &user, &self.id, self.h).await?;
        Ok(Attempt::from(connection, resumption))
    }

    async fn resume_twice(&mut self) -> Result<Attempt, Failure> {
        self.tally.doubles += 1;
        let user = format!("u{}", self.index);
        let rivals = comeback::resume_twice(&self.target, &user, &self.id, self.h).await?;
        self.tally.stolen += u64::from(rivals.both);
        self.tally.twins += u64::from(rivals.twins);
        Ok(match (rivals.resumption, rivals.connection) {
            (Resumption::Resumed(h), connection) => Attempt::Resumed { connection, h, arrived: rivals.arrived },
            (refused, connection) => Attempt::from(connection, refused),
        })
    }
}
