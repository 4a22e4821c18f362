//! An owner at work in a room while the server dies: it makes people members, renames the room and sets its subject, one after
//! the other. What was answered, or acknowledged, is there when the server is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rookery_rigs::client::Connection;
use rookery_rigs::server::PASSWORD;
use rookery_rigs::sm::NS as SM;
use rookery_rigs::{Failure, within, xml};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::founding;
use crate::report::Report;
use crate::world::World;

const ADMIN: &str = "http://jabber.org/protocol/muc#admin";
const MUC: &str = "http://jabber.org/protocol/muc";
/// Beside the people.
const NICK: &str = "clerk";
/// Between two changes, and for what is under way when it is told to end.
const PACE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);

/// What was begun, and what was promised.
#[derive(Debug, Default, Clone)]
struct Book {
    /// The number of the change that is tried next.
    next: u32,
    members: BTreeSet<u32>,
    /// The highest number of a name and of a subject that was promised.
    name: u32,
    subject: u32,
}

/// The owner.
#[derive(Debug)]
pub(super) struct Clerk {
    world: Arc<World>,
    room: String,
    book: Arc<Mutex<Book>>,
    work: Option<JoinHandle<()>>,
    complaints: Vec<String>,
}

impl Clerk {
    pub(super) fn new(world: &Arc<World>) -> Self {
        let book = Book { next: 1, ..Book::default() };
        Self {
            world: Arc::clone(world),
            room: world.jid(world.room(0)),
            book: Arc::new(Mutex::new(book)),
            work: None,
            complaints: Vec::new(),
        }
    }

    /// Goes to work.
    pub(super) fn begin(&mut self) {
        let (world, room, book) = (Arc::clone(&self.world), self.room.clone(), Arc::clone(&self.book));
        self.work = Some(tokio::spawn(async move {
            // Ends with the server.
            let outcome = work(&world, &room, &book).await;
            if let Err(failure) = outcome {
                world.mark(&format!("the clerk: {failure}"));
            }
        }));
    }

    /// The server is gone, and so is the connection.
    pub(super) async fn end(&mut self) {
        if let Some(mut work) = self.work.take()
            && timeout(PATIENCE, &mut work).await.is_err()
        {
            work.abort();
        }
    }

    /// Looks whether all that was promised is there.
    pub(super) async fn audit(&mut self, world: &World) -> Result<(), Failure> {
        let book = self.book.lock().expect("no panic while locked").clone();
        let found = within(PATIENCE, look(world, &self.room)).await?;
        let lost: Vec<String> = book.members.difference(&found.members).map(|number| format!("m{number}")).collect();
        if !lost.is_empty() {
            self.complaints.push(format!("members that were promised and are not: {}", lost.join(" ")));
        }
        for (what, promised, is) in [("name", book.name, found.name), ("subject", book.subject, found.subject)] {
            if is < promised {
                self.complaints.push(format!("the {what} is number {is}, and number {promised} was promised"));
            }
        }
        for complaint in &self.complaints {
            world.mark(complaint);
        }
        Ok(())
    }

    pub(super) fn verdict(&self, report: &mut Report) {
        let book = self.book.lock().expect("no panic while locked");
        let text = format!("{} members, name {}, subject {} at last", book.members.len(), book.name, book.subject);
        let text = if self.complaints.is_empty() { text } else { self.complaints.join("; ") };
        let done = !book.members.is_empty() && book.name > 0 && book.subject > 0;
        let kept = self.complaints.is_empty() && done;
        report.check(kept, "affiliations, configuration and subject that were promised are there", text);
    }
}

async fn enter(world: &World, room: &str) -> Result<Connection, Failure> {
    let mut connection = Connection::log_in(&world.target, &world.users[0], PASSWORD).await?;
    connection.bind(Some(NICK)).await?;
    connection.enable(false).await?;
    let history = "<history maxstanzas='0'/>";
    connection
        .queue(format!("<presence/><presence to='{room}/{NICK}'><x xmlns='{MUC}'>{history}</x></presence>").as_bytes());
    Ok(connection)
}

/// Changes one thing after the other.
async fn work(world: &World, room: &str, book: &Mutex<Book>) -> Result<(), Failure> {
    let mut connection = enter(world, room).await?;
    // What is sent and counted: two presences.
    let mut sent = 2_u32;
    // Not before it is in.
    await_subject(&mut connection).await?;
    while *world.talking.borrow() {
        let number = {
            let mut book = book.lock().expect("no panic while locked");
            book.next += 1;
            book.next - 1
        };
        sent += 1;
        match number % 3 {
            0 => {
                let item = format!("<item affiliation='member' jid='m{number}@elsewhere.example'/>");
                let iq =
                    format!("<iq type='set' id='n{number}' to='{room}'><query xmlns='{ADMIN}'>{item}</query></iq>");
                connection.queue(iq.as_bytes());
                answered(&mut connection, &format!("n{number}")).await?;
                book.lock().expect("no panic while locked").members.insert(number);
            }
            1 => {
                let name = format!("Name {number}.");
                let fields =
                    [("FORM_TYPE", "http://jabber.org/protocol/muc#roomconfig"), ("muc#roomconfig_roomname", &name)];
                connection.queue(founding::form(room, &fields).as_bytes());
                answered(&mut connection, "configure").await?;
                book.lock().expect("no panic while locked").name = number;
            }
            _ => {
                let subject = format!("<subject>Subject {number}.</subject>");
                let message = format!("<message type='groupchat' id='n{number}' to='{room}'>{subject}</message>");
                connection.queue(format!("{message}<r xmlns='{SM}'/>").as_bytes());
                acknowledged(&mut connection, sent).await?;
                book.lock().expect("no panic while locked").subject = number;
            }
        }
        sleep(PACE).await;
    }
    Ok(())
}

/// Waits for the subject that ends the entering.
async fn await_subject(connection: &mut Connection) -> Result<Vec<u8>, Failure> {
    loop {
        let token = connection.element().await?;
        let element = connection.bytes(token);
        let is_error = xml::attribute(element, "type").as_deref() == Some("error");
        match xml::name(element) {
            b"message" if xml::holds(element, "<subject") => return Ok(element.to_vec()),
            b"presence" if is_error => {
                return Err(Failure::Protocol(String::from_utf8_lossy(element).into_owned()));
            }
            _ => {}
        }
    }
}

async fn answered(connection: &mut Connection, id: &str) -> Result<Vec<u8>, Failure> {
    loop {
        let token = connection.element().await?;
        let element = connection.bytes(token);
        if xml::name(element) == b"iq" && xml::attribute(element, "id").as_deref() == Some(id) {
            return match xml::attribute(element, "type").as_deref() {
                Some("result") => Ok(element.to_vec()),
                _ => Err(Failure::Protocol(String::from_utf8_lossy(element).into_owned())),
            };
        }
    }
}

async fn acknowledged(connection: &mut Connection, count: u32) -> Result<(), Failure> {
    loop {
        let token = connection.element().await?;
        let element = connection.bytes(token);
        let h = xml::attribute(element, "h").and_then(|h| h.parse::<u32>().ok());
        match xml::name(element) {
            b"a" if h.is_some_and(|h| h >= count) => return Ok(()),
            b"message" if xml::attribute(element, "type").as_deref() == Some("error") => {
                return Err(Failure::Protocol(String::from_utf8_lossy(element).into_owned()));
            }
            _ => {}
        }
    }
}

/// What is there.
async fn look(world: &World, room: &str) -> Result<Book, Failure> {
    let mut connection = enter(world, room).await?;
    let subject = await_subject(&mut connection).await?;
    let subject = number_after(&subject, "Subject ").unwrap_or(0);
    let item = "<item affiliation='member'/>";
    let list = format!("<iq type='get' id='list' to='{room}'><query xmlns='{ADMIN}'>{item}</query></iq>");
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    connection.queue(format!("{list}<iq type='get' id='info' to='{room}'>{info}</iq>").as_bytes());
    let list = answered(&mut connection, "list").await?;
    let info = answered(&mut connection, "info").await?;
    let mut members = BTreeSet::new();
    let mut rest = &list[..];
    while let Some(item) = xml::child(rest, "item") {
        let jid = xml::attribute(item, "jid").unwrap_or_default();
        let number = jid.strip_prefix('m').and_then(|jid| jid.split('@').next()?.parse::<u32>().ok());
        members.extend(number);
        rest = &item[1..];
    }
    let name = number_after(&info, "Name ").unwrap_or(0);
    connection.close().await?;
    Ok(Book { next: 0, members, name, subject })
}

/// The number after these words, before a full stop.
fn number_after(bytes: &[u8], words: &str) -> Option<u32> {
    let text = String::from_utf8_lossy(bytes);
    let rest = &text[text.find(words)? + words.len()..];
    rest.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_names_and_subjects() {
        assert_eq!(number_after(b"<identity name='Name 17.' type='text'/>", "Name "), Some(17));
        assert_eq!(number_after(b"<subject/>", "Subject "), None);
    }
}
