//! XEP-0313: the archive of a room, asked by its bare JID. Who may read it is for the room to say (`Room::reading`), each time
//! before something is read; what a message says of its sender's real JID is for those who may see it (security.md C5).
//!
//! A query is answered beside all else: the room goes on meanwhile. A session of ours gets the results as fast as it reads,
//! and nobody else of its account gets them; who is on another server gets them as fast as that server takes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rookery_core::archive::asking::{self, Asking};
use rookery_core::archive::pages::{self, Whole};
use rookery_core::archive::query::{self, Offer, Query};
use rookery_core::archive::result;
use rookery_core::module::{Arrival, BoxFuture, Setup};
use rookery_core::server::Server;
use rookery_core::session::{Pushed, Session};
use rookery_core::store::{ArchivePage, ArchiveQuery, ArchivedMessage, Page};
use rookery_core::turns::{Pace, Place, Queue};
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, Stanza};
use tracing::error;

use super::record;
use super::rooms::Rooms;
use super::turn::Turn;
use crate::muc::entering::Reading;
use crate::muc::outcome::{At, Outcome};
use crate::muc::room::Room;

/// People of other servers whose queries are remembered.
const STRANGERS: usize = 1000;

/// Messages that are looked through for those of one sender before a query is given up.
const SEARCHED: usize = 5000;

/// Messages that are looked through at once.
const PIECE: usize = 100;

/// Asks the room whether, and how, whoever has asked may read its archive now.
type Judge = Arc<dyn Fn() -> BoxFuture<Result<Reading, StanzaError>> + Send + Sync>;

/// The archives of a service's rooms.
pub(super) struct Archives {
    offer: Offer,
    asking: Asking,
    strangers: Mutex<BTreeMap<BareJid, Stranger>>,
}

/// What somebody has asked who has no session here.
#[derive(Clone)]
struct Stranger {
    queue: Arc<Queue>,
    pace: Arc<Pace>,
}

/// Who asks.
enum Asker {
    /// A session of ours.
    Session(Arc<Session>),
    /// Somebody of another server, or a service.
    Stranger(Jid, Stranger),
}

impl Archives {
    /// The archives of rooms, of which so much may be asked.
    pub(super) fn new(offer: Offer, setup: &Setup<'_>) -> Self {
        Self { offer, asking: Asking::new(setup), strangers: Mutex::default() }
    }

    /// Answers a request, beside all else. `judge` is asked before anything is read, and each time anew.
    fn answer(self: &Arc<Self>, server: &Arc<Server>, request: Stanza, judge: Judge) {
        let (Some(from), Some(room)) = (request.head.from.clone(), request.head.to.as_ref().map(Jid::bare)) else {
            return;
        };
        let (archives, beside) = (self.clone(), server.clone());
        // Its place in the queue is taken now: queries are answered in the order in which they came.
        let asker = match self.asker(server, &from) {
            Ok(Some(asker)) => asker,
            // It has asked and gone.
            Ok(None) => return,
            Err(error) => {
                server.beside(async move { beside.bounce(&request, error, None).await });
                return;
            }
        };
        let place = match self.line_up(&asker) {
            Ok(place) => place,
            Err(error) => {
                server.beside(async move { asker.refuse(&beside, &request, error).await });
                return;
            }
        };
        server.beside(async move {
            let _turn = place.turn().await;
            if let Err(error) = archives.respond(&beside, &asker, &room, &request, &judge).await {
                asker.refuse(&beside, &request, error).await;
            }
        });
    }

    fn asker(&self, server: &Arc<Server>, from: &Jid) -> Result<Option<Asker>, StanzaError> {
        if server.host(from.domainpart()).is_some() {
            let account = server.accounts.loaded(from.bare_str());
            let session = account.zip(from.resourcepart()).and_then(|(account, resource)| account.session(resource));
            return Ok(session.map(Asker::Session));
        }
        let mut strangers = self.strangers.lock();
        if strangers.len() >= STRANGERS && !strangers.contains_key(&from.bare()) {
            strangers.retain(|_, stranger| Arc::strong_count(&stranger.queue) > 1);
        }
        if strangers.len() >= STRANGERS && !strangers.contains_key(&from.bare()) {
            return Err(asking::too_many());
        }
        let stranger = strangers
            .entry(from.bare())
            .or_insert_with(|| Stranger { queue: Arc::new(asking::new_queue()), pace: Arc::new(asking::new_pace()) });
        Ok(Some(Asker::Stranger(from.clone(), stranger.clone())))
    }

    fn line_up(&self, asker: &Asker) -> Result<Place, StanzaError> {
        match asker {
            Asker::Session(session) => self.asking.line_up(session),
            Asker::Stranger(_, stranger) => stranger.queue.line_up().ok_or_else(asking::too_many),
        }
    }

    fn pace(&self, asker: &Asker) -> Arc<Pace> {
        match asker {
            Asker::Session(session) => self.asking.pace(&session.account),
            Asker::Stranger(_, stranger) => stranger.pace.clone(),
        }
    }

    async fn respond(
        &self,
        server: &Arc<Server>,
        asker: &Asker,
        room: &BareJid,
        request: &Stanza,
        judge: &Judge,
    ) -> Result<(), StanzaError> {
        let (Some((_, name)), Some(payload)) = (request.payload_name(), request.payload()) else {
            return Err(Condition::BadRequest.into());
        };
        let pace = self.pace(asker);
        let is_set = request.head.kind == Kind::Iq(IqType::Set);
        let answer = match (name, is_set) {
            ("query", true) => {
                let query = Query::read(payload, self.offer)?;
                pace.wait().await;
                return self.send_page(server, asker, room, request, &query, judge).await;
            }
            ("query", false) => {
                judge().await?;
                query::form(self.offer)
            }
            ("metadata", false) => {
                pace.wait().await;
                judge().await?;
                server.stored().await?;
                result::metadata(server.store.archive_ends(room).await?)
            }
            _ => return Err(Condition::ServiceUnavailable.into()),
        };
        asker.send(server, request.result(Some(answer))).await;
        Ok(())
    }

    async fn send_page(
        &self,
        server: &Arc<Server>,
        asker: &Asker,
        room: &BareJid,
        request: &Stanza,
        query: &Query,
        judge: &Judge,
    ) -> Result<(), StanzaError> {
        // Nothing is read before there is room for it.
        if !asker.room(server, room).await {
            return asker.given_up();
        }
        // What has been said so far is found, and who was put out meanwhile finds nothing.
        server.stored().await?;
        let reading = judge().await?;
        let page = self.pace(asker).work(read(server, room, &query.archive, reading)).await?;
        let page = page.ok_or_else(|| StanzaError::new(Condition::ItemNotFound))?;
        let fin = result::fin(&page);
        for piece in page.into_pieces(query.flip) {
            let mut messages: Vec<_> = piece.messages.iter().collect();
            if query.flip {
                messages.reverse();
            }
            for message in messages {
                let shown = shown(message, reading);
                let result = shown.and_then(|shown| result::result(room, asker.jid(), query.id.as_deref(), &shown));
                let Some(result) = result else {
                    error!(%room, id = message.id, "an archived message cannot be read");
                    continue;
                };
                if !asker.room(server, room).await || asker.send(server, result).await == Pushed::Refused {
                    return asker.given_up();
                }
            }
        }
        asker.send(server, request.result(Some(fin))).await;
        Ok(())
    }
}

impl Turn {
    /// Whether a stanza is a request to the archive.
    pub(super) fn is_for_archive(&self, stanza: &Stanza) -> bool {
        matches!(stanza.head.kind, Kind::Iq(IqType::Get | IqType::Set))
            && stanza.head.to.as_ref().is_some_and(Jid::is_bare)
            && stanza.payload_name().is_some_and(|(ns, _)| ns == ns::MAM)
    }

    /// Has a request answered. It has come after all that its sender has said before; what it needs, and what is said of
    /// who may ask when its time comes, takes a while.
    pub(super) async fn ask_archive(&mut self, arrival: Arrival) {
        let stanza = arrival.stanza;
        let (Some(open), Some(from)) = (self.open.as_ref(), stanza.head.from.clone()) else { return };
        if let Err(error) = open.room.reading(&from) {
            return self.server.bounce(&stanza, error, None).await;
        }
        let judge = self.rooms.judge(&self.server, &self.hall.jid, from);
        self.rooms.terms().archives.answer(&self.server, stanza, judge);
    }
}

impl Rooms {
    fn judge(self: &Arc<Self>, server: &Arc<Server>, room: &BareJid, who: Jid) -> Judge {
        let (rooms, server, room) = (self.clone(), server.clone(), room.clone());
        Arc::new(move || {
            let (rooms, server, room, who) = (rooms.clone(), server.clone(), room.clone(), who.clone());
            Box::pin(async move { rooms.judge_reading(&server, &room, who).await })
        })
    }

    async fn judge_reading(
        self: &Arc<Self>,
        server: &Arc<Server>,
        room: &BareJid,
        who: Jid,
    ) -> Result<Reading, StanzaError> {
        let reading = move |room: &mut Room, _: At| (room.reading(&who), Outcome::default());
        self.ask_room(server, room, reading).await?.unwrap_or_else(|| Err(Condition::ItemNotFound.into()))
    }
}

impl Asker {
    fn jid(&self) -> &Jid {
        match self {
            Self::Session(session) => &session.jid,
            Self::Stranger(jid, _) => jid,
        }
    }

    /// Waits until there is room for more; `false` when nobody is there any more, or nobody takes it.
    async fn room(&self, server: &Arc<Server>, room: &BareJid) -> bool {
        match self {
            Self::Session(session) => session.room().await,
            Self::Stranger(jid, _) => match BareJid::new(room.domainpart()) {
                Ok(service) => server.when_clear(&service, jid.domainpart()).await,
                Err(_) => false,
            },
        }
    }

    /// What becomes of a query whose results nobody takes: who has gone is told nothing, who is too slow learns that it has
    /// not got all of them.
    fn given_up(&self) -> Result<(), StanzaError> {
        match self {
            Self::Session(_) => Ok(()),
            Self::Stranger(..) => Err(StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Wait)),
        }
    }

    async fn send(&self, server: &Arc<Server>, stanza: Stanza) -> Pushed {
        match self {
            Self::Session(session) => session.send(stanza),
            Self::Stranger(..) if server.offer(stanza).await => Pushed::Taken,
            Self::Stranger(..) => Pushed::Refused,
        }
    }

    async fn refuse(&self, server: &Arc<Server>, request: &Stanza, error: StanzaError) {
        if let Some(reply) = request.error_reply(&error) {
            self.send(server, reply).await;
        }
    }
}

/// A message as somebody sees it who looks it up.
fn shown(stored: &ArchivedMessage, reading: Reading) -> Option<ArchivedMessage> {
    if reading.sees_jids {
        return Some(stored.clone());
    }
    let (message, _) = record::opened(&stored.stanza)?;
    Some(ArchivedMessage { stanza: record::sealed(&message, None), ..stored.clone() })
}

/// The page that is asked for.
async fn read(
    server: &Arc<Server>,
    room: &BareJid,
    query: &ArchiveQuery,
    reading: Reading,
) -> Result<Option<Whole<ArchivePage>>, StanzaError> {
    if query.words.is_some() {
        server.make_findable(room).await?;
    }
    // §4.1.1: by whom a message is, as far as whoever asks may know it: by nickname, or by real JID.
    let sender = query.with.as_ref().filter(|with| with.bare_str() != room.as_str() && reading.sees_jids);
    let search =
        sender.map(|sender| Search { sender, left: AtomicUsize::new(SEARCHED), found: AtomicBool::new(false) });
    let page = pages::read(query, |piece| {
        let search = search.as_ref();
        async move {
            match search {
                None => Ok::<_, StanzaError>(server.store.archive_page(room, &piece).await?),
                Some(search) => search.read(server, room, &piece).await,
            }
        }
    });
    page.await
}

/// A search for one sender, who is known by what is stored inside the messages: they are looked through, up to a bound.
struct Search<'a> {
    sender: &'a Jid,
    left: AtomicUsize,
    found: AtomicBool,
}

impl Search<'_> {
    async fn read(
        &self,
        server: &Arc<Server>,
        room: &BareJid,
        query: &ArchiveQuery,
    ) -> Result<Option<ArchivePage>, StanzaError> {
        let is_backward = matches!(query.page, Page::Before(_) | Page::Last);
        let mut found = ArchivePage::default();
        let mut next = ArchiveQuery { with: None, max: PIECE, count: false, ..query.clone() };
        while self.left.load(Ordering::Relaxed) > 0 {
            let Some(page) = server.store.archive_page(room, &next).await? else { return Ok(None) };
            let looked_at = page.messages.len().min(self.left.load(Ordering::Relaxed)).max(1);
            self.left.fetch_sub(looked_at, Ordering::Relaxed);
            let edge = if is_backward { page.messages.first() } else { page.messages.last() };
            let edge = edge.map(|message| message.id);
            found.complete = page.complete;
            found.messages = with(found.messages, page.messages.into_iter().filter(|m| self.is_theirs(m)), is_backward);
            if found.messages.len() > query.max {
                found.complete = false;
                let excess = found.messages.len().saturating_sub(query.max);
                let cut = if is_backward { 0..excess } else { query.max..found.messages.len() };
                found.messages.drain(cut);
            }
            let Some(edge) = edge.filter(|_| !page.complete && found.messages.len() < query.max) else { break };
            next.page = if is_backward { Page::Before(edge) } else { Page::After(edge) };
        }
        let any = self.found.fetch_or(!found.messages.is_empty(), Ordering::Relaxed) || !found.messages.is_empty();
        if !any && !found.complete && query.max > 0 {
            let text = "Too much was said in between: narrow the query down by 'start' and 'end'.";
            return Err(StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Modify).with_text(text));
        }
        Ok(Some(found))
    }

    fn is_theirs(&self, stored: &ArchivedMessage) -> bool {
        let by = record::opened(&stored.stanza).and_then(|(_, sender)| sender);
        by.is_some_and(|by| {
            by.jid.bare_str() == self.sender.bare_str() && (self.sender.is_bare() || *by.jid == *self.sender)
        })
    }
}

/// Messages with more of them, which come before or behind.
fn with(
    mut messages: Vec<ArchivedMessage>,
    more: impl Iterator<Item = ArchivedMessage>,
    before: bool,
) -> Vec<ArchivedMessage> {
    if !before {
        messages.extend(more);
        return messages;
    }
    let mut all: Vec<_> = more.collect();
    all.append(&mut messages);
    all
}
