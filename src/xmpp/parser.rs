//! From the bytes of a top-level element to a stanza or another element, in one strict pass.
//!
//! Bytes that are plain stay bytes, with an index of the children; anything else that is legal is read into elements and
//! will be written anew. Either way the whole has been checked: what was read here is safe to send on (RFC 6120 §11).

use std::ops::Range;
use std::str::FromStr;

use bytes::Bytes;

use crate::element::Element;
use crate::error::{Condition, StanzaError, StreamCondition, StreamError};
use crate::header::Namespaces;
use crate::jid::Jid;
use crate::limits::not_well_formed;
use crate::ns;
use crate::reader::{Event, Reader, Start};
use crate::scope::NsRef;
use crate::stanza::{Child, Children, Head, IqType, Kind, MessageType, PresenceType, Stanza};
use crate::{tag, tree};

/// What a top-level element is.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// A stanza that RFC 6120 allows.
    Stanza(Stanza),
    /// Any other element.
    Nonza(Element),
    /// A stanza whose start tag, or number of children, is not as it must be.
    Invalid {
        /// What can be answered: [`Stanza::error_reply`] on it makes the error, or says that none is due.
        head_for_reply: Option<Stanza>,
        /// What is wrong.
        error: StanzaError,
    },
}

/// Reads one whole top-level element, as the framer or a WebSocket frame delivers it, where `stream`'s declarations hold.
///
/// # Errors
/// If the bytes are not one element of the XML that XMPP allows: the error to close the stream with.
pub fn parse(bytes: Bytes, stream: &Namespaces) -> Result<Parsed, StreamError> {
    let mut reader = Reader::new(&bytes, stream)?;
    let Some(Event::Start(root)) = reader.next()? else {
        return Err(not_well_formed("not an element"));
    };
    let in_content = reader.scope.uri(root.ns) == stream.content();
    if !in_content || !matches!(root.local, "message" | "presence" | "iq") {
        let nonza = tree::read_element(&mut reader, &root, None)?;
        tree::end(&mut reader)?;
        return Ok(Parsed::Nonza(nonza));
    }

    let (head, flaw) = read_head(&reader, &root, stream);
    // Without a prefix, children are in the stanza's namespace only if it is the default one.
    let default_holds = reader.scope.uri(reader.scope.default_ns()) == stream.content();
    let index = index(&mut reader)?;
    let plain = default_holds && !index.has_text && reader.traits.is_plain();
    let stanza = match index.children {
        Some(children) if plain => {
            drop(reader);
            Stanza::raw(head, bytes, index.content, children)
        }
        _ => {
            drop(reader);
            Stanza::edited(head, read_anew(&bytes, stream)?)
        }
    };
    Ok(judge(stanza, flaw))
}

/// Reads the stanza's children into elements.
fn read_anew(bytes: &[u8], stream: &Namespaces) -> Result<Vec<Element>, StreamError> {
    let mut reader = Reader::new(bytes, stream)?;
    reader.next()?;
    tree::read_children(&mut reader, stream.content())
}

/// What one pass over the inside of a stanza has found.
struct Index {
    content: Range<u32>,
    /// `None` if the namespace of one of them cannot be pointed at.
    children: Option<Children>,
    /// Text stands beside the children, where no stanza has any.
    has_text: bool,
}

/// Checks all that follows the stanza's start tag, to its end, and notes where the children are.
fn index(reader: &mut Reader<'_>) -> Result<Index, StreamError> {
    let start = offset(reader.at);
    let mut children = Some(Children::new());
    let mut has_text = false;
    let mut depth = 0_u32;
    let end = loop {
        let from = reader.at;
        match reader.next()?.ok_or_else(|| not_well_formed("element does not end"))? {
            Event::Start(child) => {
                if depth == 0 {
                    match (children.as_mut(), locate(reader, &child)) {
                        (Some(children), Some(child)) => children.push(child),
                        _ => children = None,
                    }
                }
                depth += 1;
            }
            Event::End if depth == 0 => break offset(from),
            Event::End => {
                depth -= 1;
                if depth == 0
                    && let Some(child) = children.as_mut().and_then(|children| children.last_mut())
                {
                    child.whole.end = offset(reader.at);
                }
            }
            Event::Text(text) => has_text |= depth == 0 && !text.trim_ascii().is_empty(),
            Event::Char(_) | Event::CData(_) => has_text |= depth == 0,
        }
    };
    tree::end(reader)?;
    Ok(Index { content: start..end.max(start), children, has_text })
}

/// Where the names of a child that has just begun are written.
fn locate(reader: &Reader<'_>, child: &Start<'_>) -> Option<Child> {
    let ns = match child.ns {
        NsRef::None => Some(0..0),
        NsRef::Xml => return None,
        declared if declared == reader.scope.outer_default() => None,
        declared => {
            let uri = reader.scope.uri(declared);
            let at = offset(reader.offset(uri)?);
            Some(at..at + offset(uri.len()))
        }
    };
    let name = offset(child.local_at)..offset(child.local_at + child.local.len());
    Some(Child { whole: offset(child.at)..offset(child.at), name, ns })
}

/// Elements are far smaller than 4 GiB: the framer's limits are in `u32`.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Reads the start tag of a stanza, and what is wrong with it.
fn read_head(reader: &Reader<'_>, root: &Start<'_>, stream: &Namespaces) -> (Head, Option<StanzaError>) {
    let mut flaw = None;
    let mut kind_name = None;
    let mut head = Head::new(Kind::Message(MessageType::Normal));
    for attr in &reader.attrs {
        let value = || tag::value(attr.raw);
        let mut address = |name| match Jid::new(&value()) {
            Ok(jid) => Some(jid),
            Err(error) => {
                flaw = Some(StanzaError::new(Condition::JidMalformed).with_text(format!("'{name}': {error}")));
                None
            }
        };
        match (attr.ns, attr.local) {
            (NsRef::None, "to") => head.to = address("to"),
            (NsRef::None, "from") => head.from = address("from"),
            (NsRef::None, "id") => head.id = Some(value().into()),
            (NsRef::None, "type") => kind_name = Some(value()),
            (NsRef::Xml, "lang") => head.lang = Some(value().into()),
            _ => {}
        }
    }
    if head.lang.is_none() {
        head.lang = stream.lang().map(Box::from);
    }
    let kind_name = kind_name.as_deref();
    let known = match root.local {
        // RFC 6121 §5.2.2: an unknown type is to be taken for "normal".
        "message" => Some(Kind::Message(kind_name.and_then(MessageType::from_name).unwrap_or(MessageType::Normal))),
        "presence" => match kind_name {
            None => Some(Kind::Presence(PresenceType::Available)),
            // The empty name stands for the absent attribute, not for an empty one.
            Some("") => None,
            Some(name) => PresenceType::from_name(name).map(Kind::Presence),
        },
        _ => kind_name.and_then(IqType::from_name).map(Kind::Iq),
    };
    head.kind = known.unwrap_or_else(|| {
        flaw = Some(StanzaError::new(Condition::BadRequest).with_text("unknown type"));
        // Of these it is known that they may be answered.
        if root.local == "iq" { Kind::Iq(IqType::Get) } else { Kind::Presence(PresenceType::Available) }
    });
    if flaw.is_none() && head.id.is_none() && matches!(head.kind, Kind::Iq(_)) {
        flaw = Some(StanzaError::new(Condition::BadRequest).with_text("an iq needs an id"));
    }
    (head, flaw)
}

/// RFC 6120 §8.2.3: a get or set has exactly one child, a result at most one.
fn judge(stanza: Stanza, flaw: Option<StanzaError>) -> Parsed {
    let children = stanza.child_count();
    let fits = match stanza.head.kind {
        Kind::Iq(IqType::Get | IqType::Set) => children == 1,
        Kind::Iq(IqType::Result) => children <= 1,
        _ => true,
    };
    let flaw = flaw.or_else(|| {
        (!fits).then(|| StanzaError::new(Condition::BadRequest).with_text("wrong number of elements in an iq"))
    });
    match flaw {
        None => Parsed::Stanza(stanza),
        Some(error) => Parsed::Invalid { head_for_reply: Some(stanza), error },
    }
}

impl FromStr for Stanza {
    type Err = StreamError;

    /// Reads a stanza as in a stream of clients; `xmlns='jabber:client'` may be there or not.
    fn from_str(text: &str) -> Result<Self, StreamError> {
        match parse(Bytes::copy_from_slice(text.as_bytes()), &Namespaces::content_only(ns::CLIENT))? {
            Parsed::Stanza(stanza) => Ok(stanza),
            Parsed::Nonza(_) => Err(StreamCondition::UnsupportedStanzaType.into()),
            Parsed::Invalid { error, .. } => {
                Err(StreamError::new(StreamCondition::BadFormat).with_text(error.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
