//! A device's places in rooms (XEP-0045): it enters when a session begins, keeps an eye on who else is there, and reads in the
//! room's archive (XEP-0313) what it missed while it was away. What its last session did not get acknowledged is sent again
//! when it is in, as clients do: a room refuses those who are not.

use std::sync::atomic::Ordering;

use rookery_rigs::{Failure, xml};

use super::Spec;
use super::drive::{Drive, Stanza};
use crate::archive;
use crate::ledger::What;
use crate::world::World;

/// The payload of a presence that enters a room.
const MUC: &str = "http://jabber.org/protocol/muc";
/// The `id` of a query to a room's archive, before the number of the seat.
const PAGE: &str = "page-";

/// A place in a room.
#[derive(Debug)]
pub(super) struct Seat {
    /// The room's JID, and its number as an account.
    pub(super) room: String,
    number: u32,
    nick: String,
    inside: bool,
    /// It was told that the service ends.
    ends: bool,
    /// All up to this message was heard or read.
    known: Option<String>,
    /// The newest that was read: this one is in the archive for certain.
    archived: Option<String>,
    /// While it reads: the newest that was heard.
    ahead: Option<String>,
    reads: bool,
}

impl Seat {
    /// An item of the archive came.
    pub(super) fn read(&mut self, id: String) {
        self.known = Some(id.clone());
        self.archived = Some(id);
    }

    /// A message was said.
    pub(super) fn heard(&mut self, id: &str) {
        let newest = if self.reads { &mut self.ahead } else { &mut self.known };
        *newest = Some(id.into());
    }
}

/// The seats of a device.
pub(super) fn seats(world: &World, spec: &Spec) -> Vec<Seat> {
    let seat = |&number: &u32| Seat {
        room: world.jid(number),
        number,
        nick: spec.nick.clone(),
        inside: false,
        ends: false,
        known: None,
        archived: None,
        ahead: None,
        reads: false,
    };
    spec.rooms.iter().map(seat).collect()
}

impl Drive {
    /// A new session is in no room.
    pub(super) fn stand_up(&mut self) {
        self.state.reading.store(0, Ordering::SeqCst);
        for seat in &mut self.seats {
            seat.inside = false;
            seat.ends = false;
            seat.reads = false;
            seat.ahead = None;
        }
        self.state.views.lock().expect("no panic while locked").iter_mut().for_each(|view| view.clear());
    }

    /// Enters the rooms that it is not in; whether there are any.
    pub(super) fn enter(&mut self) -> bool {
        let history = self.spec.history;
        let outside = self.seats.iter().filter(|seat| !seat.inside);
        let presences: Vec<String> = outside
            .map(|seat| {
                let (room, nick) = (&seat.room, &seat.nick);
                format!(
                    "<presence to='{room}/{nick}'><x xmlns='{MUC}'><history maxstanzas='{history}'/></x></presence>"
                )
            })
            .collect();
        let any = !presences.is_empty();
        for presence in presences {
            self.stanza(Stanza { bytes: presence.into_bytes(), key: None });
        }
        any
    }

    /// Which seat a stanza is about, by the room that sent it.
    pub(super) fn seat_of(&self, stanza: &[u8]) -> Option<usize> {
        let from = xml::attribute(stanza, "from")?;
        let room = from.split('/').next()?;
        self.seats.iter().position(|seat| seat.room == room)
    }

    /// Whether a message of a room, which is none of its archive, comes too early: before this session has entered. It counts
    /// for nothing, as what comes after it may be missing.
    pub(super) fn is_early(&self, seat: usize) -> bool {
        let early = !self.seats[seat].inside;
        if early && !self.seats[seat].ends {
            self.state.early.fetch_add(1, Ordering::SeqCst);
        }
        early
    }

    /// A presence came.
    pub(super) fn see(&mut self, presence: &[u8]) {
        let Some(at) = self.seat_of(presence) else { return };
        let from = xml::attribute(presence, "from").unwrap_or_default();
        let nick = from.split_once('/').map(|(_, nick)| nick.to_owned()).unwrap_or_default();
        let kind = xml::attribute(presence, "type").unwrap_or_default().into_owned();
        let own = nick == self.seats[at].nick && has_status(presence, 110);
        match kind.as_str() {
            "" => {
                self.state.views.lock().expect("no panic while locked")[at].insert(nick);
                if own && !self.seats[at].inside {
                    self.seats[at].inside = true;
                    let text = format!("is in {}", self.seats[at].room);
                    self.world.ledger().note(self.party, What::Mark(text.into()));
                    self.world.ledger().entered(self.seats[at].number, self.party, self.session);
                    self.read_on(at);
                    if self.seats.iter().all(|seat| seat.inside) {
                        self.send_again();
                        self.request();
                        self.state.online.store(true, Ordering::SeqCst);
                    }
                }
            }
            "unavailable" => {
                self.state.views.lock().expect("no panic while locked")[at].remove(&nick);
                // Before it is inside, this is about an older session of the same address.
                if own && self.seats[at].inside {
                    let text = format!("is told that it left: {}", String::from_utf8_lossy(presence));
                    self.world.ledger().note(self.party, What::Mark(text.into()));
                    self.state.ousted.fetch_add(1, Ordering::SeqCst);
                    self.state.online.store(false, Ordering::SeqCst);
                    self.seats[at].inside = false;
                    // With the service, all ends.
                    self.seats[at].ends = has_status(presence, 332);
                    if !self.seats[at].ends {
                        self.enter();
                    }
                } else if !own {
                    self.state.left.lock().expect("no panic while locked").insert(nick);
                }
            }
            "error" => {
                let error = xml::child(presence, "error").unwrap_or(b"<error/>");
                let text = format!("{from} answers presence with {}", xml::condition(error));
                self.world.ledger().note(self.party, What::Mark(text.clone().into()));
                self.complain(&Failure::Protocol(text));
            }
            _ => {}
        }
    }

    /// Asks the room's archive for what came after the newest message that it knows.
    fn read_on(&mut self, at: usize) {
        if self.spec.catches_up && !self.seats[at].reads {
            self.seats[at].reads = true;
            self.state.reading.fetch_add(1, Ordering::SeqCst);
            self.ask_room(at);
        }
    }

    fn ask_room(&mut self, at: usize) {
        let query =
            archive::query_of(Some(&self.seats[at].room), &format!("{PAGE}{at}"), self.seats[at].known.as_deref());
        self.stanza(Stanza { bytes: query.into_bytes(), key: None });
    }

    /// An answer to an IQ came; perhaps it is the end of a page.
    pub(super) fn take_page(&mut self, id: &str, iq: &[u8]) -> Result<(), Failure> {
        let Some(at) = id.strip_prefix(PAGE).and_then(|at| at.parse::<usize>().ok()) else { return Ok(()) };
        let Some(seat) = self.seats.get_mut(at).filter(|seat| seat.reads) else { return Ok(()) };
        if xml::attribute(iq, "type").as_deref() == Some("error") && seat.known != seat.archived {
            // What was said and not on disk when the server died.
            seat.known = seat.archived.clone();
            self.state.unknown.fetch_add(1, Ordering::SeqCst);
            self.ask_room(at);
            return Ok(());
        }
        match archive::end(iq)? {
            archive::End::More(last) => {
                seat.known = Some(last);
                self.ask_room(at);
            }
            archive::End::Complete => {
                seat.reads = false;
                if let Some(ahead) = seat.ahead.take() {
                    seat.known = Some(ahead);
                }
                self.state.reading.fetch_sub(1, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}

/// Whether a presence has this status code.
fn has_status(presence: &[u8], code: u32) -> bool {
    xml::holds(presence, &format!("code='{code}'")) || xml::holds(presence, &format!("code=\"{code}\""))
}
