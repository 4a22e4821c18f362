//! A strict reader over whole elements: quick-xml finds the tokens, this checks what it leaves unchecked.
//!
//! Checked here or by those it asks: UTF-8, legal characters and references, legal names, attributes unique after
//! namespaces are resolved, no comment, processing instruction or DOCTYPE (RFC 6120 §11.1). quick-xml itself matches
//! the end tags. The reader also notes what keeps bytes from being passed on as they are: see [`Traits`].

use quick_xml::events::Event as Token;
use smallvec::SmallVec;

use crate::chars::is_xml_text;
use crate::error::StreamError;
use crate::header::Namespaces;
use crate::limits::{not_well_formed, restricted};
use crate::ns;
use crate::scope::{NsRef, Scope};
use crate::tag::{self, RawAttrs};

pub(crate) struct Reader<'a> {
    text: &'a str,
    tokens: quick_xml::Reader<&'a [u8]>,
    /// Namespaces at the place that has been read.
    pub(crate) scope: Scope<'a>,
    /// The attributes of the last start tag, declarations left out.
    pub(crate) attrs: SmallVec<[Attr<'a>; 6]>,
    /// Up to here all has been read, in bytes.
    pub(crate) at: usize,
    pub(crate) traits: Traits,
    /// The last start tag was that of an empty element: its scope ends with the next token.
    leave: bool,
}

/// Why bytes inside the first element may not travel as they are.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Traits {
    /// A prefix is used that is declared outside of the first element's content.
    pub(crate) foreign_prefix: bool,
    /// A stanza namespace is declared, which means something else in a stream of another kind.
    pub(crate) content_declared: bool,
    /// A declared namespace is not written as it reads.
    pub(crate) namespace_escaped: bool,
    /// There is a CDATA section: legal, but an old source of differences between parsers.
    pub(crate) cdata: bool,
}

impl Traits {
    pub(crate) fn is_plain(self) -> bool {
        self == Self::default()
    }
}

/// An attribute with its namespace resolved.
#[derive(Clone, Copy)]
pub(crate) struct Attr<'a> {
    pub(crate) ns: NsRef,
    pub(crate) local: &'a str,
    pub(crate) raw: &'a str,
    prefix: &'a str,
}

pub(crate) enum Event<'a> {
    Start(Start<'a>),
    /// Also comes for empty elements.
    End,
    /// Line ends as written.
    Text(&'a str),
    /// A resolved reference.
    Char(char),
    CData(&'a str),
}

#[derive(Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) ns: NsRef,
    pub(crate) local: &'a str,
    /// Where the local name begins, in bytes.
    pub(crate) local_at: usize,
    /// Where the tag begins, in bytes.
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which stand where `stream`'s declarations hold.
    pub(crate) fn new(bytes: &'a [u8], stream: &'a Namespaces) -> Result<Self, StreamError> {
        let text = str::from_utf8(bytes).map_err(|_| not_well_formed("not UTF-8"))?;
        if !is_xml_text(text) {
            return Err(not_well_formed("illegal character"));
        }
        // quick-xml would skip what looks like a byte order mark (see RFC 6120 §11.6).
        if text.starts_with('\u{FEFF}') {
            return Err(not_well_formed("text outside of an element"));
        }
        Ok(Self {
            text,
            tokens: quick_xml::Reader::from_str(text),
            scope: Scope::new(stream),
            attrs: SmallVec::new(),
            at: 0,
            traits: Traits::default(),
            leave: false,
        })
    }

    /// The next event; `None` at the end, where no element is open.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Event<'a>>, StreamError> {
        if self.leave {
            self.leave = false;
            self.scope.leave();
            return Ok(Some(Event::End));
        }
        let from = self.at;
        let token = self.tokens.read_event().map_err(|_| not_well_formed("malformed markup"))?;
        self.at = usize::try_from(self.tokens.buffer_position()).unwrap_or(usize::MAX);
        let written = |skip: usize, drop: usize| {
            let to = self.at.saturating_sub(drop);
            self.text.get(from + skip..to).ok_or_else(|| not_well_formed("malformed markup"))
        };
        Ok(Some(match token {
            Token::Start(tag) => Event::Start(self.start(written(1, 1)?, tag.name().as_ref().len(), from, false)?),
            Token::Empty(tag) => Event::Start(self.start(written(1, 2)?, tag.name().as_ref().len(), from, true)?),
            Token::End(_) if self.scope.leave() => Event::End,
            Token::Text(_) => Event::Text(checked_text(written(0, 0)?)?),
            Token::GeneralRef(_) => Event::Char(tag::reference(written(1, 1)?)?),
            Token::CData(_) => {
                self.traits.cdata = true;
                Event::CData(written("<![CDATA[".len(), "]]>".len())?)
            }
            Token::Eof if self.scope.depth() == 0 => return Ok(None),
            Token::Comment(_) => return Err(restricted("comment")),
            Token::DocType(_) => return Err(restricted("document type declaration")),
            Token::PI(_) | Token::Decl(_) => return Err(restricted("processing instruction")),
            Token::End(_) | Token::Eof => {
                return Err(not_well_formed("elements and end tags do not match"));
            }
        }))
    }

    fn start(&mut self, tag: &'a str, name_len: usize, at: usize, empty: bool) -> Result<Start<'a>, StreamError> {
        let (name, rest) = tag.split_at_checked(name_len).unwrap_or_default();
        let (prefix, local) = tag::split_name(name)?;
        self.scope.enter();
        self.leave = empty;
        let inside = self.scope.depth() > 1;
        self.attrs.clear();
        let mut attrs = RawAttrs::new(rest);
        while let Some(attr) = attrs.next()? {
            match self.scope.declare(&attr)? {
                Some(uri) if inside => {
                    self.traits.namespace_escaped |= **uri != *attr.value;
                    self.traits.content_declared |= matches!(&**uri, ns::CLIENT | ns::SERVER | ns::COMPONENT);
                }
                Some(_) => {}
                None => {
                    self.attrs.push(Attr { ns: NsRef::None, local: attr.local, raw: attr.value, prefix: attr.prefix })
                }
            }
        }
        // Only now are all declarations of this tag known.
        let (ns, declared) = self.scope.element(prefix)?;
        let mut foreign = declared < 2;
        for at in 0..self.attrs.len() {
            let Some((earlier, [attr, ..])) = self.attrs.split_at_mut_checked(at) else {
                break;
            };
            let (ns, declared) = self.scope.attribute(attr.prefix)?;
            foreign |= declared < 2;
            attr.ns = ns;
            let same_ns = |other| other == ns || self.scope.uri(other) == self.scope.uri(ns);
            if earlier.iter().any(|other| other.local == attr.local && same_ns(other.ns)) {
                return Err(not_well_formed("attribute is there twice"));
            }
        }
        self.traits.foreign_prefix |= foreign && inside;
        Ok(Start { ns, local, local_at: at + 1 + name.len() - local.len(), at })
    }

    /// Where `part` of the text begins, in bytes; `None` if it is not part of it.
    pub(crate) fn offset(&self, part: &str) -> Option<usize> {
        let at = part.as_ptr().addr().checked_sub(self.text.as_ptr().addr())?;
        (at + part.len() <= self.text.len()).then_some(at)
    }
}

/// XML 1.0 §2.4: `]]>` ends a CDATA section and nothing else.
fn checked_text(text: &str) -> Result<&str, StreamError> {
    let bytes = text.as_bytes();
    let ended = memchr::memchr_iter(b'>', bytes).any(|at| bytes.get(..at).is_some_and(|b| b.ends_with(b"]]")));
    if ended { Err(not_well_formed("']]>' in text")) } else { Ok(text) }
}
