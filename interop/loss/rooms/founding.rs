//! The rooms are made before anybody enters: by the first account, which stays their owner.

use rookery_rigs::client::Connection;
use rookery_rigs::server::PASSWORD;
use rookery_rigs::{Failure, within, xml};

use std::time::Duration;

use crate::archive;
use crate::world::World;

const OWNER: &str = "http://jabber.org/protocol/muc#owner";

/// Fields of a room's configuration, by their values.
const FIELDS: [(&str, &str); 4] = [
    ("FORM_TYPE", "http://jabber.org/protocol/muc#roomconfig"),
    ("muc#roomconfig_persistentroom", "1"),
    ("muc#roomconfig_enablearchiving", "1"),
    ("muc#roomconfig_roomname", "Name 0."),
];

/// Makes them: persistent, with an archive.
pub(super) async fn found(world: &World) -> Result<(), Failure> {
    within(Duration::from_secs(30), async {
        let mut connection = Connection::log_in(&world.target, &world.users[0], PASSWORD).await?;
        connection.bind(Some("founder")).await?;
        connection.queue(b"<presence/>");
        for room in (0..world.rooms.len()).map(|room| world.jid(world.room(room))) {
            let muc = "<x xmlns='http://jabber.org/protocol/muc'/>";
            connection.queue(format!("<presence to='{room}/founder'>{muc}</presence>").as_bytes());
            configure(&mut connection, &room, &FIELDS).await?;
            let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
            connection.queue(format!("<iq type='get' id='disco' to='{room}'>{query}</iq>").as_bytes());
            let info = connection.expect("iq").await?;
            if !xml::holds(&info, archive::NS) {
                let info = String::from_utf8_lossy(&info).into_owned();
                return Err(Failure::Protocol(format!("the room has no archive: {info}")));
            }
        }
        connection.close().await
    })
    .await
}

/// Sets these fields of a room's configuration.
pub(super) async fn configure(connection: &mut Connection, room: &str, fields: &[(&str, &str)]) -> Result<(), Failure> {
    connection.queue(form(room, fields).as_bytes());
    let answer = connection.expect("iq").await?;
    match xml::attribute(&answer, "type").as_deref() {
        Some("result") => Ok(()),
        _ => Err(Failure::Protocol(format!("{room} is not configured: {}", String::from_utf8_lossy(&answer)))),
    }
}

/// The IQ that does.
pub(super) fn form(room: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("<field var='{name}'><value>{}</value></field>", xml::escape(value)))
        .collect();
    format!(
        "<iq type='set' id='configure' to='{room}'><query xmlns='{OWNER}'><x xmlns='jabber:x:data' type='submit'>{fields}\
         </x></query></iq>"
    )
}
