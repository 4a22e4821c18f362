//! Finds whole top-level elements in the bytes of a stream, resumably: however the bytes are cut, the frames are the same.
//!
//! Every limit is counted while reading, before anything is kept. The framer looks at the shape of tags alone; what is
//! inside a frame is checked by the parser (RFC 6120 §11). It owns memory only while an element is incomplete.
//!
//! RFC 6120 §11.6 has a byte order mark read as the character U+FEFF: text before the stream header, hence refused.

mod scan;

use std::borrow::Cow;

use bytes::Bytes;

use crate::chars::is_space;
use crate::error::{StreamCondition, StreamError};
use crate::header::{self, StreamHeader};
use crate::limits::{Limits, exceeded, not_well_formed, too_big};

/// What a stream consists of.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// The start tag of the stream, with the XML declaration before it.
    Header(Box<StreamHeader>),
    /// A whole top-level element in an allocation of its own size.
    Element(Bytes),
    /// Whitespace between elements: a keepalive (RFC 6120 §4.6.1). Neighbouring ones may come as one.
    Whitespace,
    /// The end tag of the stream. What follows is ignored.
    End,
}

/// The state between two reads.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    /// The beginning of an element whose end has not come yet.
    partial: Vec<u8>,
    /// The stream's own name as the header wrote it, which its end tag must repeat.
    root: Cow<'static, str>,
    phase: Phase,
    state: State,
    /// Bytes read of the current element.
    element_bytes: u32,
    /// Bytes read since the limits were set.
    stream_bytes: u32,
    depth: u32,
    elements: u32,
    attributes: u32,
    namespaces: u32,
    /// Bytes of the current name or attribute value.
    run: u32,
    /// The first bytes of the current attribute's name: tells declarations of namespaces from other attributes.
    start: [u8; 6],
    is_declaration: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing but whitespace has come.
    Prolog,
    /// An XML declaration has come.
    Declared,
    /// Inside the stream.
    Open,
    /// One element without a stream around it.
    Alone,
    /// After the end, or after an error.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Text,
    /// Behind `<`.
    Markup,
    Name,
    /// Inside a tag, where an attribute or the tag's end may come; `true` if space has come before.
    Tag(bool),
    Attribute,
    /// Behind an attribute's name, before `=`.
    Equals,
    /// Behind `=`.
    Quote,
    Value(u8),
    /// Behind the `/` of an empty element.
    Slash,
    /// Behind `</`.
    EndName,
    /// Behind the name in an end tag.
    EndSpace,
    /// Behind so many bytes of `[CDATA[`.
    CDataStart(u8),
    CData,
    /// Behind so many `]` in a CDATA section, at most two.
    CDataEnd(u8),
    /// In the XML declaration; `true` behind `?`.
    Declaration(bool),
}

impl Framer {
    /// A framer before a stream header.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            partial: Vec::new(),
            root: Cow::Borrowed(header::USUAL_ROOT),
            phase: Phase::Prolog,
            state: State::Between,
            element_bytes: 0,
            stream_bytes: 0,
            depth: 0,
            elements: 0,
            attributes: 0,
            namespaces: 0,
            run: 0,
            start: [0; 6],
            is_declaration: false,
        }
    }

    /// Replaces the limits, which count from here on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.stream_bytes = 0;
    }

    /// Expects a new stream header, as after TLS and SASL. `stream_bytes` counts on.
    pub fn reset(&mut self) {
        *self = Self { stream_bytes: self.stream_bytes, ..Self::new(self.limits) };
    }

    /// Whether no element is half read. An idle framer owns no heap memory.
    pub fn is_idle(&self) -> bool {
        self.state == State::Between && self.partial.is_empty()
    }

    /// Reads the next frame from the front of `input`, which is left with what was not read.
    ///
    /// `None` means that all was read and more is needed. After an error, as after the end, all input is ignored.
    ///
    /// # Errors
    /// The stream error to close the stream with.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, StreamError> {
        let frame = self.advance(input);
        if frame.is_err() {
            self.close();
        }
        frame
    }

    /// Checks that `input` is exactly one element within `limits`: what WebSocket and BOSH framing deliver, where no
    /// stream surrounds the elements (RFC 7395 §3.3.3).
    ///
    /// # Errors
    /// The stream error to close the stream with.
    pub fn check_whole(input: &[u8], limits: Limits) -> Result<(), StreamError> {
        let mut framer = Self { phase: Phase::Alone, ..Self::new(limits) };
        if input.first() != Some(&b'<') {
            return Err(not_well_formed("not an element"));
        }
        match framer.scan_within_limits(input)? {
            Some(end) if end == input.len() => Ok(()),
            Some(_) => Err(not_well_formed("more than one element")),
            None => Err(not_well_formed("element does not end")),
        }
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.state = State::Between;
        self.partial = Vec::new();
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, StreamError> {
        loop {
            if self.phase == Phase::Closed {
                *input = &[];
                return Ok(None);
            }
            if self.state == State::Between {
                let spaces = input.iter().take_while(|b| is_space(**b)).count();
                if spaces > 0 {
                    self.count_spaces(spaces)?;
                    *input = input.get(spaces..).unwrap_or_default();
                    if self.phase == Phase::Open {
                        return Ok(Some(Frame::Whitespace));
                    }
                }
                match input.first() {
                    Some(b'<') => {}
                    Some(byte) => return Err(self.no_markup(*byte)),
                    None => return Ok(None),
                }
            }
            let Some(end) = self.scan_within_limits(input)? else {
                self.keep(input);
                *input = &[];
                return Ok(None);
            };
            let (whole, rest) = input.split_at_checked(end).unwrap_or((input, &[]));
            *input = rest;
            if let Some(frame) = self.complete(whole)? {
                return Ok(Some(frame));
            }
        }
    }

    /// Whitespace counts where an element would: what is unbounded by [`Limits::stream_bytes`] before the header is
    /// bounded by the size of the header.
    fn count_spaces(&mut self, spaces: usize) -> Result<(), StreamError> {
        let spaces = u32::try_from(spaces).unwrap_or(u32::MAX);
        self.stream_bytes = self.stream_bytes.saturating_add(spaces);
        if self.limits.stream_bytes.is_some_and(|max| self.stream_bytes > max) {
            return Err(exceeded("too many bytes before authentication"));
        }
        if self.phase != Phase::Open {
            self.element_bytes = self.element_bytes.saturating_add(spaces);
            if self.element_bytes > self.limits.element_bytes {
                return Err(too_big());
            }
        }
        Ok(())
    }

    /// Something other than markup between elements.
    fn no_markup(&self, byte: u8) -> StreamError {
        match (self.phase, byte) {
            // Byte order marks of UTF-16 and UTF-32, and what these make of `<`.
            (Phase::Prolog, 0xFE | 0xFF | 0) => StreamCondition::UnsupportedEncoding.into(),
            (Phase::Open, _) => StreamError::new(StreamCondition::BadFormat).with_text("text between stanzas"),
            _ => not_well_formed("text before the stream header"),
        }
    }

    /// Scans on, but no farther than the limits on bytes go.
    fn scan_within_limits(&mut self, input: &[u8]) -> Result<Option<usize>, StreamError> {
        let element_room = self.limits.element_bytes.saturating_sub(self.element_bytes);
        let stream_room = match self.limits.stream_bytes {
            Some(max) => max.saturating_sub(self.stream_bytes),
            None => u32::MAX,
        };
        let room = usize::try_from(element_room.min(stream_room)).unwrap_or(usize::MAX);
        let window = input.get(..room).unwrap_or(input);
        let end = self.scan(window)?;
        if end.is_none() && window.len() < input.len() {
            return Err(if element_room <= stream_room {
                too_big()
            } else {
                exceeded("too many bytes before authentication")
            });
        }
        let read = u32::try_from(end.unwrap_or(window.len())).unwrap_or(u32::MAX);
        self.element_bytes = self.element_bytes.saturating_add(read);
        self.stream_bytes = self.stream_bytes.saturating_add(read);
        Ok(end)
    }

    /// Keeps the beginning of an element, in a buffer that grows to at most the largest element.
    fn keep(&mut self, input: &[u8]) {
        let needed = self.partial.len() + input.len();
        if needed > self.partial.capacity() {
            let most = usize::try_from(self.limits.element_bytes).unwrap_or(usize::MAX);
            let wanted = needed.max(self.partial.capacity().saturating_mul(2).min(most));
            self.partial.reserve_exact(wanted - self.partial.len());
        }
        self.partial.extend_from_slice(input);
    }

    /// Makes a frame of what has been kept and of `end`, the rest of it. The XML declaration makes none.
    fn complete(&mut self, end: &[u8]) -> Result<Option<Frame>, StreamError> {
        let ended = self.state;
        self.state = State::Between;
        let whole = if self.partial.is_empty() {
            Cow::Borrowed(end)
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            partial.reserve_exact(end.len());
            partial.extend_from_slice(end);
            Cow::Owned(partial)
        };
        match (self.phase, ended) {
            (Phase::Prolog, State::Declaration(_)) => {
                header::check_declaration(&whole)?;
                self.phase = Phase::Declared;
                Ok(None)
            }
            (Phase::Prolog | Phase::Declared, _) => {
                let (header, root) = header::parse(&whole)?;
                if *root != *self.root {
                    self.root = Cow::Owned(root.to_owned());
                }
                self.phase = Phase::Open;
                self.begin();
                Ok(Some(Frame::Header(Box::new(header))))
            }
            // An end tag at depth 0.
            (_, State::EndSpace) if self.elements == 0 => {
                let name = whole.strip_prefix(b"</").and_then(|tag| tag.strip_suffix(b">")).unwrap_or_default();
                if name.trim_ascii_end() != self.root.as_bytes() {
                    return Err(not_well_formed("end tag of something that is not open"));
                }
                self.close();
                Ok(Some(Frame::End))
            }
            _ => {
                self.begin();
                let bytes = match whole {
                    Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
                    Cow::Owned(bytes) => Bytes::from(bytes.into_boxed_slice()),
                };
                Ok(Some(Frame::Element(bytes)))
            }
        }
    }

    /// Counts for the next element.
    const fn begin(&mut self) {
        self.element_bytes = 0;
        self.elements = 0;
        self.depth = 0;
    }
}

#[cfg(test)]
mod tests;
