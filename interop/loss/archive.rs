//! Reading an account's archive (XEP-0313), page after page (XEP-0059).

use rookery_rigs::client::{Connection, Target};
use rookery_rigs::server::PASSWORD;
use rookery_rigs::{Failure, within, xml};

use std::time::Duration;

/// The namespace.
pub const NS: &str = "urn:xmpp:mam:2";

/// How many items are asked for at once; servers give fewer.
const PAGE: u32 = 250;

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An item of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its archive id.
    pub id: String,
    /// The `id` of the message.
    pub message: Option<String>,
}

/// The query for what comes after an item.
pub fn query(id: &str, after: Option<&str>) -> String {
    query_of(None, id, after)
}

/// The same, to the archive of somebody else.
pub fn query_of(whose: Option<&str>, id: &str, after: Option<&str>) -> String {
    let to = whose.map(|whose| format!(" to='{}'", xml::escape(whose))).unwrap_or_default();
    let after = after.map(|after| format!("<after>{}</after>", xml::escape(after))).unwrap_or_default();
    format!(
        "<iq type='set' id='{id}'{to}><query xmlns='{NS}' queryid='{id}'><set xmlns='http://jabber.org/protocol/rsm'>\
         <max>{PAGE}</max>{after}</set></query></iq>"
    )
}

/// An item, if this message is one.
pub fn item(message: &[u8]) -> Option<Item> {
    let result = xml::child(message, "result")?;
    if xml::attribute(result, "xmlns").as_deref() != Some(NS) {
        return None;
    }
    let inner = xml::child(&result[1..], "message")?;
    Some(Item {
        id: xml::attribute(result, "id")?.into_owned(),
        message: xml::attribute(inner, "id").map(std::borrow::Cow::into_owned),
    })
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// There is more, after this item.
    More(String),
    /// This was all.
    Complete,
}

/// What the answer to a query says.
pub fn end(iq: &[u8]) -> Result<End, Failure> {
    let fin = match xml::child(iq, "fin") {
        Some(fin) if xml::attribute(iq, "type").as_deref() == Some("result") => fin,
        _ => return Err(Failure::Protocol(format!("no archive: {}", String::from_utf8_lossy(iq)))),
    };
    if xml::attribute(fin, "complete").as_deref() == Some("true") {
        return Ok(End::Complete);
    }
    let last = xml::text(fin, "last").ok_or_else(|| Failure::Protocol("an incomplete page without its last".into()))?;
    Ok(End::More(last.into_owned()))
}

/// Reads what an account's archive holds after an item, on a connection of its own that is not available for messages.
pub async fn read(target: &Target, user: &str, after: Option<String>) -> Result<Vec<Item>, Failure> {
    let mut connection = Connection::log_in(target, user, PASSWORD).await?;
    connection.bind(Some("audit")).await?;
    let items = read_on(&mut connection, None, after).await?;
    connection.close().await?;
    Ok(items)
}

/// Reads what a room's archive holds after an item, as one of its owners.
pub async fn read_room(target: &Target, owner: &str, room: &str, after: Option<String>) -> Result<Vec<Item>, Failure> {
    let mut connection = Connection::log_in(target, owner, PASSWORD).await?;
    connection.bind(Some("audit")).await?;
    let items = read_on(&mut connection, Some(room), after).await?;
    connection.close().await?;
    Ok(items)
}

/// The same, on a connection that is there; whatever else comes is passed over.
pub async fn read_on(
    connection: &mut Connection,
    whose: Option<&str>,
    mut after: Option<String>,
) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    loop {
        connection.queue(query_of(whose, "audit", after.as_deref()).as_bytes());
        let page = within(PATIENCE, async {
            loop {
                let token = connection.element().await?;
                let bytes = connection.bytes(token);
                match xml::name(bytes) {
                    b"message" => items.extend(item(bytes)),
                    b"iq" if xml::attribute(bytes, "id").as_deref() == Some("audit") => return end(bytes),
                    _ => {}
                }
            }
        });
        match page.await? {
            End::Complete => return Ok(items),
            End::More(last) => after = Some(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_and_ends_of_pages_are_read() {
        let message = b"<message to='a@b/c'><result xmlns='urn:xmpp:mam:2' id='28482-98726-73623' queryid='f27'>\
            <forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/>\
            <message xmlns='jabber:client' id='x1' from='w@s.lit'><body>Hail to thee</body></message></forwarded></result></message>";
        assert_eq!(item(message), Some(Item { id: "28482-98726-73623".into(), message: Some("x1".into()) }));
        assert_eq!(item(b"<message id='x'><body/></message>"), None);
        assert_eq!(item(b"<message><result xmlns='other' id='1'><message id='2'/></result></message>"), None);
        let fin = |inside: &str| end(format!("<iq type='result'><fin xmlns='{NS}'{inside}</fin></iq>").as_bytes());
        assert_eq!(fin(" complete='true'><set/>").unwrap(), End::Complete);
        assert_eq!(fin("><set><first index='0'>a</first><last>b</last></set>").unwrap(), End::More("b".into()));
        assert!(fin("><set/>").is_err());
        assert!(end(b"<iq type='error'><error/></iq>").is_err());
    }
}
