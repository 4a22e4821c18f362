//! What a device does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rookery_rigs::client::{Connection, Resumption, Target};
use rookery_rigs::rng::Rng;
use rookery_rigs::server::{DOMAIN, PASSWORD};
use rookery_rigs::sm::{NS as SM, Unacked};
use rookery_rigs::{Failure, comeback, xml};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout};

use super::seats::{Seat, seats};
use super::{Command, Cut, Spec, State};
use crate::archive;
use crate::ledger::{Key, Path, What};
use crate::world::World;

/// From one attempt to connect to the next.
const RETRY: Duration = Duration::from_millis(50);
/// How long the last bytes before a cut may take, and the end of a stream.
const MOMENT: Duration = Duration::from_millis(50);
const GOODBYE: Duration = Duration::from_secs(10);

/// A stanza on its way.
pub(super) struct Stanza {
    pub(super) bytes: Vec<u8>,
    /// Which message of ours it is, if it is one.
    pub(super) key: Option<Key>,
}

pub(super) struct Drive {
    pub(super) world: Arc<World>,
    pub(super) spec: Spec,
    pub(super) party: u32,
    target: Target,
    pub(super) state: Arc<State>,
    orders: mpsc::UnboundedReceiver<Command>,
    rng: Rng,
    /// None while it is away.
    connection: Option<Connection>,
    /// It wants to be online.
    wanted: bool,
    /// But not before this.
    not_before: tokio::time::Instant,
    frozen: bool,
    /// What the session can be resumed with.
    id: Option<String>,
    /// Stanzas of the server handled.
    h: u32,
    pub(super) session: u32,
    unacked: Unacked<Stanza>,
    pub(super) seats: Vec<Seat>,
    /// What the last session did not get acknowledged, until it is back in its rooms.
    pub(super) again: Vec<Stanza>,
    /// The next message of each conversation.
    next_seq: Vec<u32>,
    /// How many were sent in this spell of talking.
    said: u32,
    last_archived: Option<String>,
    pings: Vec<oneshot::Sender<()>>,
}

impl Drive {
    pub(super) fn new(
        world: Arc<World>,
        spec: Spec,
        party: u32,
        state: Arc<State>,
        orders: mpsc::UnboundedReceiver<Command>,
        rng: Rng,
    ) -> Self {
        let target = Target { receive_buffer: spec.receive_buffer, ..world.target.clone() };
        let next_seq = vec![0; spec.talks.len()];
        let seats = seats(&world, &spec);
        *state.views.lock().expect("no panic while locked") = vec![Default::default(); seats.len()];
        Self {
            world,
            spec,
            party,
            target,
            state,
            orders,
            rng,
            connection: None,
            wanted: false,
            not_before: tokio::time::Instant::now(),
            frozen: false,
            id: None,
            h: 0,
            session: 0,
            unacked: Unacked::default(),
            seats,
            again: Vec::new(),
            next_seq,
            said: 0,
            last_archived: None,
            pings: Vec::new(),
        }
    }

    pub(super) async fn live(mut self) {
        while if self.connection.is_some() { self.connected().await } else { self.away().await } {}
    }

    fn link(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("connected")
    }

    /// One step towards a connection. False when it is to end.
    async fn away(&mut self) -> bool {
        if !self.wanted {
            let Some(command) = self.orders.recv().await else { return false };
            return self.obey(command).await;
        }
        tokio::select! {
            biased;
            command = self.orders.recv() => match command {
                Some(command) => return self.obey(command).await,
                None => return false,
            },
            () = sleep_until(self.not_before) => {}
        }
        if self.come_back().await.is_err() {
            self.connection = None;
            self.not_before = tokio::time::Instant::now() + RETRY;
        }
        true
    }

    /// A connection's life. False when it is to end.
    async fn connected(&mut self) -> bool {
        let mut talking = self.world.talking.subscribe();
        let mut next = tokio::time::Instant::now();
        // What was read together with the answer to `<resume/>` is there before the socket is readable again.
        let mut read = self.read(Instant::now());
        while read.is_ok() {
            self.show_unacked();
            let talks = *talking.borrow_and_update();
            if !talks {
                self.said = 0;
            }
            let may = talks && self.state.online.load(Ordering::SeqCst) && !self.spec.talks.is_empty();
            let may = may && self.unacked.len() < self.spec.window && self.said < self.spec.ration;
            tokio::select! {
                command = self.orders.recv() => {
                    let Some(command) = command else { return false };
                    let goes_on = self.obey(command).await;
                    if !goes_on || self.connection.is_none() {
                        return goes_on;
                    }
                    // One that is frozen does not write while it reads.
                    let _ = timeout(MOMENT, self.link().flush()).await;
                }
                _ = talking.changed() => {}
                () = sleep_until(next), if may => {
                    self.say();
                    next = tokio::time::Instant::now() + self.rng.between(self.spec.pace.0, self.spec.pace.1);
                }
                filled = self.connection.as_mut().expect("connected").fill(), if !self.frozen => {
                    // What came before an end counts.
                    read = self.read(Instant::now()).and(filled);
                }
            }
        }
        self.state.online.store(false, Ordering::SeqCst);
        self.state.dropped.fetch_add(1, Ordering::SeqCst);
        if let Err(failure) = read {
            if !matches!(failure, Failure::Closed | Failure::Io(_)) {
                self.complain(&failure);
            }
            self.world.ledger().note(self.party, What::Mark(format!("lost its connection: {failure}").into()));
        }
        self.connection = None;
        self.pings.clear();
        true
    }

    fn show_unacked(&self) {
        let messages = self.unacked.iter().chain(&self.again).filter(|stanza| stanza.key.is_some()).count();
        self.state.unacked.store(messages, Ordering::SeqCst);
    }

    pub(super) fn complain(&self, failure: &Failure) {
        let who = &self.world.users[self.spec.account as usize];
        let text = format!("{who}/{}: {failure}", self.spec.resource);
        self.state.complaints.lock().expect("no panic while locked").push(text);
    }

    async fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Come => {
                self.wanted = true;
                self.not_before = tokio::time::Instant::now();
            }
            Command::Leave => {
                self.wanted = false;
                self.state.online.store(false, Ordering::SeqCst);
                if self.connection.is_some() {
                    let _ = timeout(GOODBYE, self.close()).await;
                    self.connection = None;
                }
                self.id = None;
            }
            Command::Cut(cut, back) => {
                self.wanted = back.is_some();
                self.not_before = tokio::time::Instant::now() + back.unwrap_or_default();
                self.state.online.store(false, Ordering::SeqCst);
                self.cut(cut).await;
            }
            Command::Freeze(frozen) => self.frozen = frozen,
            Command::Ping(answer) if self.connection.is_some() => {
                self.pings.push(answer);
                let ping = format!("<iq type='get' id='ping' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>");
                self.stanza(Stanza { bytes: ping.into_bytes(), key: None });
            }
            Command::Ping(_) => {}
            Command::Raw(bytes) => {
                if self.connection.is_some() {
                    self.link().queue(&bytes);
                }
            }
            Command::Shift(ours, theirs) => {
                self.h = self.h.wrapping_add(ours);
                self.unacked.shift(theirs);
            }
            Command::Stop => return false,
        }
        true
    }

    /// Confirms what came, ends the stream, and takes what comes until the server's end.
    async fn close(&mut self) -> Result<(), Failure> {
        if self.spec.managed {
            let answer = format!("<a xmlns='{SM}' h='{}'/>", self.h);
            self.link().queue(answer.as_bytes());
        }
        self.link().queue(b"</stream:stream>");
        loop {
            let token = self.link().element().await?;
            let element = self.link().bytes(token).to_vec();
            self.take(&element, Instant::now())?;
        }
    }

    async fn cut(&mut self, cut: Cut) {
        if self.connection.is_none() {
            return;
        }
        // Whoever is cut off is often in the middle of something.
        let talks = *self.world.talking.borrow() && !self.spec.talks.is_empty() && self.said < self.spec.ration;
        if talks && self.spec.managed {
            (0..self.rng.below(4)).for_each(|_| self.say());
        }
        let torn = if cut == Cut::Torn && talks { self.tear() } else { Vec::new() };
        let Some(mut connection) = self.connection.take() else { return };
        self.world.ledger().note(self.party, What::Mark(format!("is cut off: {cut:?}").into()));
        connection.queue(&torn);
        let _ = timeout(MOMENT, connection.flush()).await;
        self.pings.clear();
        match cut {
            Cut::Reset => connection.reset(),
            Cut::End | Cut::Torn => drop(connection),
            Cut::Silence => {
                let silence = self.rng.between(Duration::ZERO, self.spec.silence);
                tokio::spawn(async move {
                    tokio::time::sleep(silence).await;
                    drop(connection);
                });
            }
        }
    }

    /// Connects until the session goes on or a new one has begun.
    async fn come_back(&mut self) -> Result<(), Failure> {
        let user = self.world.users[self.spec.account as usize].clone();
        if self.spec.roams {
            let elsewhere = if self.rng.one_in(2) { &self.world.elsewhere } else { &self.world.target };
            self.target = Target { receive_buffer: self.spec.receive_buffer, ..elsewhere.clone() };
        }
        let Some(id) = self.id.clone().filter(|_| self.spec.resumes) else {
            self.connection = Some(Connection::log_in(&self.target, &user, PASSWORD).await?);
            return self.establish().await;
        };
        let (connection, resumption, arrived) = if self.spec.twice > 0 && self.rng.one_in(self.spec.twice) {
            let rivals = comeback::resume_twice(&self.target, &user, &id, self.h).await?;
            self.state.twins.fetch_add(u64::from(rivals.twins), Ordering::SeqCst);
            (rivals.connection, rivals.resumption, rivals.arrived)
        } else {
            let (connection, resumption) = comeback::resume(&self.target, &user, &id, self.h).await?;
            (connection, resumption, Vec::new())
        };
        self.connection = Some(connection);
        match resumption {
            Resumption::Resumed(h) => {
                self.state.resumed.fetch_add(1, Ordering::SeqCst);
                self.world.ledger().note(self.party, What::Mark("resumed".into()));
                let at = Instant::now();
                self.acknowledge(h, at)?;
                let again: Vec<_> = self.unacked.iter().map(|stanza| (stanza.bytes.clone(), stanza.key)).collect();
                for (bytes, key) in again {
                    self.link().queue(&bytes);
                    self.note_sent(key);
                }
                if !self.enter() {
                    self.state.online.store(true, Ordering::SeqCst);
                }
                arrived.iter().try_for_each(|element| self.take(element, at))?;
                self.request();
                Ok(())
            }
            Resumption::Failed(condition, h) => {
                self.state.refused.fetch_add(1, Ordering::SeqCst);
                self.world.ledger().note(self.party, What::Mark(format!("may not resume: {condition}").into()));
                self.id = None;
                if let Some(h) = h {
                    self.acknowledge(h, Instant::now())?;
                }
                self.establish().await
            }
        }
    }

    /// Binds and enables what a new session needs, and sends again what the old one did not get acknowledged.
    async fn establish(&mut self) -> Result<(), Failure> {
        let resource = self.spec.resource;
        self.session += 1;
        self.stand_up();
        self.link().bind(Some(resource)).await?;
        if self.spec.managed {
            let enabled = self.link().enable(true).await?;
            self.id = enabled.id;
        }
        // What came before `<enabled/>` is not counted.
        let early = std::mem::take(&mut self.link().early);
        early.iter().filter(|stanza| xml::name(stanza) == b"message").for_each(|stanza| self.journal(stanza));
        self.h = 0;
        let port = self.link().tcp().local_addr()?.port();
        self.world.enabled(port);
        self.state.session.store(self.session, Ordering::SeqCst);
        let unacked = self.unacked.restart();
        self.again.extend(unacked.into_iter().filter(|stanza| stanza.key.is_some()));
        self.world.ledger().note(self.party, What::Mark(format!("begins session {}", self.session).into()));
        if self.spec.carbons && self.world.has_carbons {
            let enable = "<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>";
            self.stanza(Stanza { bytes: enable.into(), key: None });
        }
        let has_archive = self.world.ledger().has_archive;
        if self.spec.catches_up && has_archive {
            self.ask_archive();
        } else {
            self.become_available();
        }
        if self.seats.is_empty() {
            self.send_again();
        } else {
            self.enter();
        }
        self.request();
        self.link().flush().await
    }

    pub(super) fn send_again(&mut self) {
        for stanza in std::mem::take(&mut self.again) {
            self.note_sent(stanza.key);
            self.stanza(stanza);
        }
    }

    fn ask_archive(&mut self) {
        let query = archive::query("catch-up", self.last_archived.as_deref());
        self.stanza(Stanza { bytes: query.into_bytes(), key: None });
    }

    fn become_available(&mut self) {
        // The answer to the ping says that the presence was heard.
        let ping = format!("<iq type='get' id='hello' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>");
        for bytes in [b"<presence/>".to_vec(), ping.into_bytes()] {
            self.stanza(Stanza { bytes, key: None });
        }
    }

    /// The first part of a message whose rest never comes on this connection.
    fn tear(&mut self) -> Vec<u8> {
        let (key, bytes) = self.next_message();
        let part = bytes[..self.rng.below(bytes.len() as u64) as usize].to_vec();
        self.unacked.push(Stanza { bytes, key: Some(key) });
        part
    }

    fn next_message(&mut self) -> (Key, Vec<u8>) {
        let turn = self.said as usize % self.spec.talks.len();
        let key = Key { conversation: self.spec.talks[turn], seq: self.next_seq[turn] };
        self.next_seq[turn] += 1;
        self.said += 1;
        self.note_sent(Some(key));
        (key, self.world.message(key, self.spec.filling))
    }

    fn say(&mut self) {
        let (key, bytes) = self.next_message();
        self.stanza(Stanza { bytes, key: Some(key) });
        self.request();
    }

    fn note_sent(&self, key: Option<Key>) {
        if let Some(key) = key {
            self.world.ledger().note(self.party, What::Sent(key));
        }
    }

    pub(super) fn stanza(&mut self, stanza: Stanza) {
        let port = self.link().tcp().local_addr().map_or(0, |address| address.port());
        self.world.counted(port, stanza.key);
        self.link().queue(&stanza.bytes);
        if self.spec.managed {
            self.unacked.push(stanza);
        }
    }

    pub(super) fn request(&mut self) {
        if self.spec.managed {
            self.link().queue(format!("<r xmlns='{SM}'/>").as_bytes());
        }
    }

    fn read(&mut self, at: Instant) -> Result<(), Failure> {
        while let Some(token) = self.link().scan()? {
            let element = self.link().bytes(token).to_vec();
            self.take(&element, at)?;
        }
        Ok(())
    }

    fn take(&mut self, element: &[u8], at: Instant) -> Result<(), Failure> {
        match xml::name(element) {
            b"message" => {
                self.h = self.h.wrapping_add(1);
                self.journal(element);
            }
            b"presence" => {
                self.h = self.h.wrapping_add(1);
                self.see(element);
            }
            b"iq" => {
                self.h = self.h.wrapping_add(1);
                self.take_iq(element)?;
            }
            b"r" => {
                let answer = format!("<a xmlns='{SM}' h='{}'/>", self.h);
                self.link().queue(answer.as_bytes());
            }
            b"a" => {
                let h = xml::attribute(element, "h").and_then(|h| h.parse().ok());
                let h = h.ok_or_else(|| Failure::Protocol("an acknowledgement without h".into()))?;
                self.acknowledge(h, at)?;
            }
            b"stream:error" => return Err(Failure::Stream(xml::condition(element))),
            b"/stream:stream" => return Err(Failure::Closed),
            _ => {}
        }
        Ok(())
    }

    fn take_iq(&mut self, iq: &[u8]) -> Result<(), Failure> {
        match xml::attribute(iq, "id").as_deref() {
            Some("hello") if self.seats.is_empty() => self.state.online.store(true, Ordering::SeqCst),
            Some("ping") if !self.pings.is_empty() => {
                let _ = self.pings.remove(0).send(());
            }
            Some("catch-up") => match archive::end(iq)? {
                archive::End::Complete => self.become_available(),
                archive::End::More(last) => {
                    self.last_archived = Some(last);
                    self.ask_archive();
                }
            },
            Some(id) => self.take_page(id, iq)?,
            None => {}
        }
        Ok(())
    }

    fn acknowledge(&mut self, h: u32, at: Instant) -> Result<(), Failure> {
        let keys: Vec<Key> = self.unacked.acknowledge(h)?.filter_map(|stanza| stanza.key).collect();
        if !keys.is_empty() {
            self.world.acknowledged(at);
            let mut ledger = self.world.ledger();
            keys.into_iter().for_each(|key| ledger.note(self.party, What::Acked(key)));
        }
        Ok(())
    }

    /// Writes down what a message says.
    fn journal(&mut self, message: &[u8]) {
        let mut path = if xml::holds(message, "urn:xmpp:delay") { Path::Delayed } else { Path::Live };
        let mut inner = message;
        let mut stanza_id = None;
        if let Some(item) = archive::item(message) {
            path = Path::Archive;
            inner = xml::child(&message[1..], "message").unwrap_or(message);
            stanza_id = Some(item.id.clone());
            match self.seat_of(message) {
                Some(seat) => self.seats[seat].read(item.id),
                None => self.last_archived = Some(item.id),
            }
        } else if xml::holds(message, "urn:xmpp:carbons:2")
            && let Some(copy) = xml::child(&message[1..], "message")
        {
            path = Path::Carbon;
            inner = copy;
        }
        let seat = self.seat_of(message);
        if let (Some(seat), None) = (seat, &stanza_id) {
            if xml::attribute(inner, "type").as_deref() == Some("groupchat") && self.is_early(seat) {
                let id = xml::attribute(inner, "id").unwrap_or_default();
                let text = format!("is in the room no more, or not yet, and hears {id}");
                return self.world.ledger().note(self.party, What::Mark(text.into()));
            }
            stanza_id = own_stanza_id(inner, &self.seats[seat].room);
            if let Some(id) = &stanza_id {
                self.seats[seat].heard(id);
            }
        }
        let Some(id) = xml::attribute(inner, "id") else { return };
        let mut ledger = self.world.ledger();
        let Some(key) = ledger.key(&id) else { return };
        if xml::attribute(inner, "type").as_deref() == Some("error") {
            let error = xml::child(inner, "error").unwrap_or(b"<error/>");
            let kind = xml::attribute(error, "type").unwrap_or_default();
            let condition = format!("{} ({kind})", xml::condition(error));
            ledger.note(self.party, What::Told(key, condition.into()));
            return;
        }
        let user = &self.world.users[self.spec.account as usize];
        let stanza_id = stanza_id.or_else(|| own_stanza_id(inner, &format!("{user}@{DOMAIN}")));
        let what = What::Received { key, path, session: self.session, stanza_id: stanza_id.map(Into::into) };
        ledger.note(self.party, what);
    }
}

/// The stanza-id that this account gave (XEP-0359).
fn own_stanza_id(message: &[u8], by: &str) -> Option<String> {
    let mut rest = message;
    while let Some(child) = xml::child(rest, "stanza-id") {
        if xml::attribute(child, "by").as_deref() == Some(by) {
            return xml::attribute(child, "id").map(std::borrow::Cow::into_owned);
        }
        rest = &child[1..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stanza_id_is_that_of_the_own_account() {
        let message = b"<message><stanza-id by='a@x' id='1'/><body/><stanza-id by='b@x' id='2'/></message>";
        assert_eq!(own_stanza_id(message, "b@x").as_deref(), Some("2"));
        assert_eq!(own_stanza_id(message, "c@x"), None);
    }
}
