//! XEP-0313 §4.2, §4.3: a result as a stanza, and the end of a page. The archived message goes into it as its bytes are.

use crate::store::{ArchiveEnds, ArchivePlace, ArchivedMessage};
use rookery_xmpp::datetime;
use rookery_xmpp::element::Element;
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::parser::{self, Parsed};
use rookery_xmpp::rsm;
use rookery_xmpp::stanza::{MessageType, Stanza};

use super::pages::{Piece, Whole};

/// How a result ends, behind the archived message.
const END: &str = "</forwarded></result></message>";

/// A result for whoever has asked. `None` when what is stored is no message.
pub fn result(archive: &BareJid, to: &Jid, query_id: Option<&str>, message: &ArchivedMessage) -> Option<Stanza> {
    let delay = Element::new("delay", ns::DELAY).attr("stamp", datetime::format(message.stamp));
    let result = Element::new("result", ns::MAM)
        .attr_opt("queryid", query_id)
        .attr("id", message.id.to_string())
        .child(Element::new("forwarded", ns::FORWARD).child(delay));
    let frame = Stanza::message(MessageType::Normal).from(archive.clone()).to(to.clone()).child(result).to_xml();
    let mut bytes = frame.strip_suffix(END)?.as_bytes().to_vec();
    bytes.extend_from_slice(&message.stanza);
    bytes.extend_from_slice(END.as_bytes());
    match parser::parse(bytes.into(), &Namespaces::none()) {
        Ok(Parsed::Stanza(stanza)) => Some(stanza),
        Ok(_) | Err(_) => None,
    }
}

/// The end of a page.
pub fn fin<P: Piece>(page: &Whole<P>) -> Element {
    let ends = page.ends().map(|(first, last)| (first.to_string(), last.to_string()));
    let set = rsm::Page { ends, index: page.index, count: page.count };
    Element::new("fin", ns::MAM).attr_opt("complete", page.complete.then_some("true")).child(set.to_element())
}

/// What is known of an archive (§5).
pub fn metadata(ends: Option<ArchiveEnds>) -> Element {
    let place = |name, place: ArchivePlace| {
        Element::new(name, ns::MAM).attr("id", place.id.to_string()).attr("timestamp", datetime::format(place.stamp))
    };
    let ends = ends.map(|ends| [place("start", ends.start), place("end", ends.end)]);
    Element::new("metadata", ns::MAM).children(ends.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use crate::store::ArchivePage;
    use bytes::Bytes;

    use super::*;

    fn message(id: u64, stanza: &'static str) -> ArchivedMessage {
        let stamp = UNIX_EPOCH + Duration::from_micros(1_278_803_305_000_001);
        ArchivedMessage { id, stamp, stanza: Bytes::from_static(stanza.as_bytes()), waits: None }
    }

    fn written(query_id: Option<&str>, stanza: &'static str) -> Option<String> {
        let (archive, to) = (BareJid::new("juliet@capulet.lit").unwrap(), Jid::new("juliet@capulet.lit/b&b").unwrap());
        let result = result(&archive, &to, query_id, &message(7, stanza))?;
        let mut bytes = Vec::new();
        result.write(&mut bytes, None);
        Some(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_result_holds_the_message_as_it_was_stored() {
        let stored = "<message xmlns='jabber:client' type='chat' from='a@b/c'><y xmlns='urn:z'>&lt;</y></message>";
        assert_eq!(
            written(Some("<'\"&>"), stored).unwrap(),
            format!(
                "<message to='juliet@capulet.lit/b&amp;b' from='juliet@capulet.lit'>\
                 <result xmlns='urn:xmpp:mam:2' queryid='&lt;&apos;&quot;&amp;&gt;' id='7'>\
                 <forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25.000001Z'/>\
                 {stored}</forwarded></result></message>"
            )
        );
        assert!(written(None, stored).unwrap().contains("<result xmlns='urn:xmpp:mam:2' id='7'>"));
        assert_eq!(written(None, "<message xmlns='jabber:client'>"), None);
    }

    #[test]
    fn ends_of_pages() {
        let page = |messages: &[u64]| Whole {
            pieces: messages
                .iter()
                .map(|id| ArchivePage { messages: vec![message(*id, "")], ..ArchivePage::default() })
                .collect(),
            complete: false,
            count: None,
            index: None,
        };
        let set = |set: &str| format!("<set xmlns='http://jabber.org/protocol/rsm'{set}");
        let check = |page: Whole<ArchivePage>, attributes: &str, rest: &str| {
            let expected = format!("<fin xmlns='urn:xmpp:mam:2'{attributes}>{}</fin>", set(rest));
            assert_eq!(fin(&page).to_xml(), expected);
        };
        check(page(&[]), "", "/>");
        check(page(&[7]), "", "><first>7</first><last>7</last></set>");
        let known = Whole { complete: true, count: Some(20), index: Some(18), ..page(&[7, 8]) };
        check(known, " complete='true'", "><first index='18'>7</first><last>8</last><count>20</count></set>");
        let counted = Whole { count: Some(0), ..page(&[]) };
        check(counted, "", "><count>0</count></set>");
    }

    #[test]
    fn what_is_known_of_an_archive() {
        assert_eq!(metadata(None).to_xml(), "<metadata xmlns='urn:xmpp:mam:2'/>");
        let place = |id| ArchivePlace { id, stamp: UNIX_EPOCH + Duration::from_secs(id) };
        assert_eq!(
            metadata(Some(ArchiveEnds { start: place(1), end: place(2) })).to_xml(),
            "<metadata xmlns='urn:xmpp:mam:2'><start id='1' timestamp='1970-01-01T00:00:01.000000Z'/>\
             <end id='2' timestamp='1970-01-01T00:00:02.000000Z'/></metadata>"
        );
    }
}
