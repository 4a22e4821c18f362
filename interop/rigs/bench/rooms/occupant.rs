//! An occupant's connection: what comes is looked at once and as little as possible, since 5,000 of them are one process.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use memchr::memmem::{Finder, find};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::room::{Cue, Entered, Room};
use crate::client::{Connection, Target};
use crate::server::PASSWORD;
use crate::sm::NS as SM;
use crate::{Failure, xml};

/// Digits of a message's number, with which its body begins.
const DIGITS: usize = 10;

static BODY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("<body>"));

/// Somebody who is in a room or may enter it.
pub(super) struct Occupant {
    connection: Connection,
    room: Arc<Room>,
    nick: String,
    cues: UnboundedReceiver<Cue>,
    /// The message that is sent, but for its number.
    template: Vec<u8>,
    digits: usize,
    state: State,
    asked: Instant,
    entered: Entered,
    /// Messages that have come.
    heard: u64,
    /// The same, of those that came in one piece.
    numbers: Vec<u64>,
    /// The count of handled stanzas, with stream management.
    h: u32,
}

#[derive(PartialEq)]
enum State {
    Outside,
    Entering { admitted: bool },
    Inside,
}

impl Occupant {
    /// Logs in; what is to be done comes by what is given back.
    pub(super) async fn log_in(
        target: &Target,
        user: &str,
        resource: usize,
        (room, nick): (Arc<Room>, String),
        (body, sm): (usize, bool),
    ) -> Result<(Self, UnboundedSender<Cue>), Failure> {
        let mut connection = Connection::log_in(target, user, PASSWORD).await?;
        connection.bind(Some(&format!("r{resource}"))).await?;
        if sm {
            connection.enable(true).await?;
        }
        connection.queue(b"<presence/>");
        connection.flush().await?;
        let (number, body) = ("0".repeat(DIGITS), "b".repeat(body.saturating_sub(DIGITS)));
        let template =
            format!("<message to='{}' type='groupchat' id='{number}'><body>{number}{body}</body></message>", room.jid);
        let (sender, cues) = unbounded_channel();
        let occupant = Self {
            connection,
            room,
            nick,
            cues,
            digits: find(template.as_bytes(), b"<body>").expect("it is there") + b"<body>".len(),
            template: template.into_bytes(),
            state: State::Outside,
            asked: Instant::now(),
            entered: Entered { took: Duration::ZERO, bytes: 0, history: 0 },
            heard: 0,
            numbers: Vec::new(),
            h: 0,
        };
        Ok((occupant, sender))
    }

    /// Enters first and stays; makes the room what this run needs: an instant room (XEP-0045 §10.1.2), or one where others are told only of moderators.
    pub(super) async fn found(&mut self, thin: bool) -> Result<(), Failure> {
        let room = &self.room.jid;
        let enter =
            format!("<presence to='{room}/{}'><x xmlns='http://jabber.org/protocol/muc'/></presence>", self.nick);
        self.connection.queue(enter.as_bytes());
        let field = |name: &str, value: &str| format!("<field var='{name}'><value>{value}</value></field>");
        let fields = if thin {
            field("FORM_TYPE", "http://jabber.org/protocol/muc#roomconfig")
                + &field("muc#roomconfig_presencebroadcast", "moderator")
        } else {
            String::new()
        };
        let submit = format!(
            "<iq to='{room}' type='set' id='config'><query xmlns='http://jabber.org/protocol/muc#owner'>\
             <x xmlns='jabber:x:data' type='submit'>{fields}</x></query></iq>"
        );
        loop {
            let token = self.connection.element().await?;
            let bytes = self.connection.bytes(token);
            self.h = self.h.wrapping_add(u32::from(is_stanza(bytes)));
            let from_room = xml::attribute(bytes, "from").is_some_and(|from| from.starts_with(room.as_str()));
            match xml::name(bytes) {
                b"presence" | b"iq" if from_room && is_type(bytes, "error") => return Err(refused(bytes)),
                b"presence" if self.is_occupants(bytes) => self.connection.queue(submit.as_bytes()),
                b"iq" if from_room => break,
                _ => {}
            }
        }
        self.state = State::Inside;
        self.room.with(|state| (state.arrivals, state.counted) = (1, 1));
        Ok(())
    }

    /// Does what it is told to until nobody can tell any more.
    pub(super) async fn act(mut self) {
        let room = Arc::clone(&self.room);
        if let Err(failure) = self.go_on().await {
            let jid = &self.connection.jid;
            room.fail(Failure::Protocol(format!("{jid}: {failure}")));
        }
    }

    async fn go_on(&mut self) -> Result<(), Failure> {
        loop {
            tokio::select! {
                filled = self.connection.fill() => {
                    filled?;
                    self.read()?;
                }
                cue = self.cues.recv() => {
                    let Some(mut cue) = cue else { return Ok(()) };
                    loop {
                        self.take(cue);
                        match self.cues.try_recv() {
                            Ok(next) => cue = next,
                            Err(_) => break,
                        }
                    }
                    // What does not fit now leaves while reading.
                    tokio::select! {
                        biased;
                        flushed = self.connection.flush() => flushed?,
                        () = std::future::ready(()) => {}
                    }
                }
            }
        }
    }

    fn take(&mut self, cue: Cue) {
        let (room, nick) = (&self.room.jid, &self.nick);
        match cue {
            Cue::Enter => {
                let enter =
                    format!("<presence to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
                self.connection.queue(enter.as_bytes());
                self.state = State::Entering { admitted: false };
                (self.entered.bytes, self.entered.history) = (0, 0);
                self.asked = Instant::now();
            }
            Cue::Leave => {
                self.connection.queue(format!("<presence to='{room}/{nick}' type='unavailable'/>").as_bytes());
            }
            Cue::Say(number) => {
                let mut rest = number;
                for place in (self.digits..self.digits + DIGITS).rev() {
                    self.template[place] = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
                self.room.written(number);
                self.connection.queue(&self.template);
            }
        }
    }

    /// Whether it comes from somebody in the room.
    fn is_occupants(&self, bytes: &[u8]) -> bool {
        let from = xml::attribute(bytes, "from").unwrap_or_default();
        from.strip_prefix(self.room.jid.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    fn read(&mut self) -> Result<(), Failure> {
        let (mut arrivals, mut departures, mut inside) = (0, 0, false);
        while let Some(token) = self.connection.scan()? {
            let bytes = self.connection.bytes(token);
            match xml::name(bytes) {
                b"message" => {
                    self.h = self.h.wrapping_add(1);
                    let body = BODY.find(bytes).map(|at| &bytes[at + b"<body>".len()..]);
                    match (&mut self.state, body) {
                        _ if is_type(bytes, "error") => return Err(refused(bytes)),
                        (State::Inside, Some(body)) => self.numbers.push(number(body)?),
                        (State::Outside, Some(_)) => return Err(Failure::Protocol("void: a message outside".into())),
                        (State::Entering { .. }, Some(_)) => {
                            self.entered.bytes += bytes.len();
                            self.entered.history += 1;
                        }
                        (State::Entering { admitted }, None) => {
                            self.entered.bytes += bytes.len();
                            if xml::holds(bytes, "<subject") {
                                if !*admitted {
                                    return Err(Failure::Protocol("the subject came before status 110".into()));
                                }
                                self.state = State::Inside;
                                self.entered.took = self.asked.elapsed();
                                inside = true;
                            }
                        }
                        _ => {}
                    }
                }
                b"presence" => {
                    self.h = self.h.wrapping_add(1);
                    if !xml::attribute(bytes, "from").is_some_and(|from| from.starts_with(&self.room.jid)) {
                        continue;
                    }
                    let own = || xml::holds(bytes, "='110'") || xml::holds(bytes, "=\"110\"");
                    if is_type(bytes, "error") {
                        return Err(refused(bytes));
                    } else if is_type(bytes, "unavailable") {
                        departures += 1;
                        if own() {
                            self.state = State::Outside;
                        }
                    } else {
                        // Some rooms have a presence of their own.
                        arrivals += u64::from(self.is_occupants(bytes));
                        if let State::Entering { admitted } = &mut self.state {
                            self.entered.bytes += bytes.len();
                            *admitted |= own();
                        }
                    }
                }
                b"iq" => self.h = self.h.wrapping_add(1),
                b"r" => {
                    let answer = format!("<a xmlns='{SM}' h='{}'/>", self.h);
                    self.connection.queue(answer.as_bytes());
                }
                b"stream:error" => return Err(Failure::Stream(xml::condition(bytes))),
                _ => {}
            }
        }
        if !self.numbers.is_empty() {
            self.room.heard(self.heard, &self.numbers)?;
            self.heard += self.numbers.len() as u64;
            self.numbers.clear();
        }
        if arrivals + departures > 0 || inside {
            self.room.with(|state| {
                state.arrivals += arrivals;
                state.departures += departures;
                if inside {
                    state.entered.push(self.entered);
                }
            });
            self.room.notify();
        }
        Ok(())
    }
}

fn number(body: &[u8]) -> Result<u64, Failure> {
    let digits = body.get(..DIGITS).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let digits = digits.ok_or_else(|| Failure::Protocol("void: a message that nobody sent".into()))?;
    Ok(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn is_stanza(bytes: &[u8]) -> bool {
    matches!(xml::name(bytes), b"message" | b"presence" | b"iq")
}

fn is_type(bytes: &[u8], wanted: &str) -> bool {
    xml::attribute(bytes, "type").is_some_and(|found| found == wanted)
}

fn refused(bytes: &[u8]) -> Failure {
    let condition = xml::child(bytes, "error").map(xml::condition).unwrap_or_default();
    Failure::Protocol(format!("refused: {condition}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(400)])))
}
