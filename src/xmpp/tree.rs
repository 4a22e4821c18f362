//! Elements from the events of the reader, without recursion; and the entry points for single elements.

use std::str::FromStr;

use crate::element::{Attribute, Element};
use crate::error::StreamError;
use crate::framer::Framer;
use crate::header::Namespaces;
use crate::limits::{Limits, not_well_formed};
use crate::name::{Name, Namespace};
use crate::ns;
use crate::reader::{Event, Reader, Start};
use crate::scope::NsRef;
use crate::tag;

impl Element {
    /// Reads one element that stands for itself, within `limits`.
    ///
    /// # Errors
    /// What is wrong with it, as the stream error that it would cause.
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<Self, StreamError> {
        Framer::check_whole(bytes, limits)?;
        read_document(bytes, &Namespaces::none())
    }
}

impl FromStr for Element {
    type Err = StreamError;

    /// Reads one element that stands for itself, within the limits of servers.
    fn from_str(text: &str) -> Result<Self, StreamError> {
        Self::parse(text.as_bytes(), Limits::s2s())
    }
}

/// Reads the one element that `bytes` are.
pub(crate) fn read_document(bytes: &[u8], stream: &Namespaces) -> Result<Element, StreamError> {
    let mut reader = Reader::new(bytes, stream)?;
    let element = match reader.next()? {
        Some(Event::Start(start)) => read_element(&mut reader, &start, None)?,
        _ => return Err(not_well_formed("not an element")),
    };
    end(&mut reader)?;
    Ok(element)
}

/// Nothing may follow.
pub(crate) fn end(reader: &mut Reader<'_>) -> Result<(), StreamError> {
    match reader.next()? {
        None => Ok(()),
        Some(_) => Err(not_well_formed("more than one element")),
    }
}

/// Reads elements up to the end of their parent, or of all; text between them is passed over.
///
/// What is in the namespace `content` becomes `jabber:client`: inside the server, stanzas are in no other.
pub(crate) fn read_children(reader: &mut Reader<'_>, content: &str) -> Result<Vec<Element>, StreamError> {
    let mut children = Vec::new();
    loop {
        match reader.next()? {
            Some(Event::Start(start)) => children.push(read_element(reader, &start, Some(content))?),
            Some(Event::End) | None => return Ok(children),
            Some(Event::Text(_) | Event::Char(_) | Event::CData(_)) => {}
        }
    }
}

/// Reads the element that `start` begins, up to its end.
pub(crate) fn read_element(
    reader: &mut Reader<'_>,
    start: &Start<'_>,
    content: Option<&str>,
) -> Result<Element, StreamError> {
    let mut parents: Vec<Element> = Vec::new();
    let mut element = begin(reader, start, None, content);
    loop {
        match reader.next()? {
            Some(Event::Start(start)) => {
                let child = begin(reader, &start, Some(&element), content);
                parents.push(std::mem::replace(&mut element, child));
            }
            Some(Event::End) => {
                let Some(parent) = parents.pop() else {
                    return Ok(element);
                };
                let child = std::mem::replace(&mut element, parent);
                element.push(child);
            }
            Some(Event::Text(text) | Event::CData(text)) => element.extend_text(|last| tag::push_text(last, text)),
            Some(Event::Char(c)) => element.extend_text(|last| last.push(c)),
            None => return Err(not_well_formed("element does not end")),
        }
    }
}

fn begin(reader: &Reader<'_>, start: &Start<'_>, parent: Option<&Element>, content: Option<&str>) -> Element {
    let uri = reader.scope.uri(start.ns);
    let ns = match parent {
        _ if content.is_some_and(|content| content == uri) => Namespace::from(ns::CLIENT),
        Some(parent) if parent.ns() == uri => parent.ns.clone(),
        _ => Namespace::checked(uri),
    };
    let mut element = Element::new(Name::checked(start.local), ns);
    element.attrs = reader
        .attrs
        .iter()
        .map(|attr| Attribute {
            ns: match attr.ns {
                NsRef::None => Namespace::NONE,
                NsRef::Xml => Namespace::XML,
                declared => Namespace::checked(reader.scope.uri(declared)),
            },
            name: Name::checked(attr.local),
            value: tag::value(attr.raw).into_owned(),
        })
        .collect();
    element
}
