//! The scanner of the framer: finds the end of an element, one state per byte that matters.
//!
//! It checks what it has to look at anyway, the shape of tags, and skips over text and attribute values. A limit is
//! exceeded at the same byte however the input is cut.

use memchr::{memchr, memchr2};

use super::{Framer, Phase, State};
use crate::chars::is_space;
use crate::error::{StreamCondition, StreamError};
use crate::limits::{exceeded, not_well_formed, restricted};

/// What opens a CDATA section, behind `<!`.
const CDATA: &[u8] = b"[CDATA[";

impl Framer {
    /// Reads on in `window`; `Some` is the number of bytes up to the end of the frame. When it is, `state` is the last.
    pub(super) fn scan(&mut self, window: &[u8]) -> Result<Option<usize>, StreamError> {
        let mut rest = window;
        while let [byte, tail @ ..] = rest {
            // Most states read one byte; those that skip many say what is left.
            let mut left = tail;
            let mut element_ended = false;
            match self.state {
                State::Between => self.state = State::Markup,
                State::Text => match memchr(b'<', rest) {
                    Some(at) => {
                        left = rest.get(at + 1..).unwrap_or_default();
                        self.state = State::Markup;
                    }
                    None => return Ok(None),
                },
                State::Markup => self.markup(*byte)?,
                State::Name | State::Attribute | State::EndName => {
                    let len = rest.iter().position(|b| ends_name(*b)).unwrap_or(rest.len());
                    let (name, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
                    self.name(name)?;
                    let Some(byte) = behind.first() else {
                        return Ok(None);
                    };
                    self.state = match self.state {
                        State::Attribute => {
                            self.count_attribute()?;
                            State::Equals
                        }
                        State::EndName => State::EndSpace,
                        _ => State::Tag(false),
                    };
                    if is_space(*byte) || matches!(byte, b'>' | b'/' | b'=') {
                        left = behind;
                    } else {
                        return Err(not_well_formed("illegal character in a tag"));
                    }
                }
                State::Tag(spaced) => match byte {
                    b'>' if matches!(self.phase, Phase::Prolog | Phase::Declared) => {
                        return Ok(Some(window.len() - tail.len()));
                    }
                    b'>' => {
                        self.depth += 1;
                        self.state = State::Text;
                    }
                    b'/' => self.state = State::Slash,
                    b if is_space(*b) => self.state = State::Tag(true),
                    _ if spaced => {
                        self.run = 0;
                        self.state = State::Attribute;
                        left = rest;
                    }
                    _ => return Err(not_well_formed("no space between attributes")),
                },
                State::Equals => match byte {
                    b'=' => self.state = State::Quote,
                    b if is_space(*b) => {}
                    _ => return Err(not_well_formed("attribute without a value")),
                },
                State::Quote => match byte {
                    b'"' | b'\'' => {
                        self.run = 0;
                        self.state = State::Value(*byte);
                    }
                    b if is_space(*b) => {}
                    _ => return Err(not_well_formed("attribute value without quotes")),
                },
                State::Value(quote) => {
                    let end = memchr2(quote, b'<', rest);
                    self.value(end.unwrap_or(rest.len()))?;
                    let Some(end) = end else { return Ok(None) };
                    if rest.get(end) == Some(&b'<') {
                        return Err(not_well_formed("'<' in an attribute value"));
                    }
                    left = rest.get(end + 1..).unwrap_or_default();
                    self.state = State::Tag(false);
                }
                State::Slash => match byte {
                    b'>' if matches!(self.phase, Phase::Prolog | Phase::Declared) => {
                        return Err(StreamError::new(StreamCondition::BadFormat).with_text("empty stream"));
                    }
                    b'>' => element_ended = true,
                    _ => return Err(not_well_formed("'/' inside a tag")),
                },
                State::EndSpace => match byte {
                    b'>' => element_ended = true,
                    b if is_space(*b) => {}
                    _ => return Err(not_well_formed("illegal character in an end tag")),
                },
                State::CDataStart(at) => match CDATA.get(usize::from(at)..) {
                    Some([expected]) if expected == byte => self.state = State::CData,
                    Some([expected, ..]) if expected == byte => self.state = State::CDataStart(at + 1),
                    _ => return Err(restricted("declaration")),
                },
                State::CData => match memchr(b']', rest) {
                    Some(at) => {
                        left = rest.get(at + 1..).unwrap_or_default();
                        self.state = State::CDataEnd(1);
                    }
                    None => return Ok(None),
                },
                State::CDataEnd(seen) => {
                    self.state = match byte {
                        b']' => State::CDataEnd(2),
                        b'>' if seen == 2 => State::Text,
                        _ => State::CData,
                    };
                }
                State::Declaration(mark) => match byte {
                    b'>' if mark => return Ok(Some(window.len() - tail.len())),
                    _ => self.state = State::Declaration(*byte == b'?'),
                },
            }
            if element_ended {
                // An empty element never counted as open.
                if self.state != State::Slash {
                    self.depth = self.depth.saturating_sub(1);
                }
                if self.depth == 0 {
                    return Ok(Some(window.len() - tail.len()));
                }
                self.state = State::Text;
            }
            rest = left;
        }
        Ok(None)
    }

    /// The byte behind `<`.
    fn markup(&mut self, byte: u8) -> Result<(), StreamError> {
        self.run = 0;
        self.state = match byte {
            b'/' if self.depth > 0 || self.phase == Phase::Open => State::EndName,
            b'!' if self.depth > 0 => State::CDataStart(0),
            b'!' => return Err(restricted("comment or document type declaration")),
            b'?' if self.phase == Phase::Prolog => State::Declaration(false),
            b'?' => return Err(restricted("processing instruction")),
            // What UTF-16 makes of the byte behind `<`.
            0 if self.phase == Phase::Prolog => {
                return Err(StreamCondition::UnsupportedEncoding.into());
            }
            _ if ends_name(byte) => return Err(not_well_formed("tag without a name")),
            _ => {
                self.elements += 1;
                self.attributes = 0;
                self.namespaces = 0;
                if self.elements > self.limits.elements {
                    return Err(exceeded("too many elements"));
                }
                if self.depth >= self.limits.depth {
                    return Err(exceeded("elements are nested too deep"));
                }
                self.name(&[byte])?;
                State::Name
            }
        };
        Ok(())
    }

    /// More of the current name.
    fn name(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let known = usize::try_from(self.run).unwrap_or(usize::MAX);
        for (slot, byte) in self.start.iter_mut().skip(known).zip(bytes) {
            *slot = *byte;
        }
        self.run = self.run.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        if self.run > self.limits.name_bytes {
            return Err(exceeded("name is too long"));
        }
        Ok(())
    }

    /// An attribute's name is complete.
    fn count_attribute(&mut self) -> Result<(), StreamError> {
        self.is_declaration = match self.run {
            0 => return Err(not_well_formed("attribute without a name")),
            5 => self.start.starts_with(b"xmlns"),
            6.. => self.start == *b"xmlns:",
            _ => false,
        };
        if self.is_declaration {
            self.namespaces += 1;
            if self.namespaces > self.limits.namespaces {
                return Err(exceeded("too many namespace declarations"));
            }
        } else {
            self.attributes += 1;
            if self.attributes > self.limits.attributes {
                return Err(exceeded("too many attributes"));
            }
        }
        Ok(())
    }

    /// So many more bytes of the current attribute value.
    fn value(&mut self, bytes: usize) -> Result<(), StreamError> {
        self.run = self.run.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.is_declaration && self.run > self.limits.ns_uri_bytes {
            return Err(exceeded("namespace name is too long"));
        }
        if self.run > self.limits.attr_value_bytes {
            return Err(exceeded("attribute value is too long"));
        }
        Ok(())
    }
}

/// Whether a byte cannot be part of a name; which of the others can is the parser's matter.
#[inline]
const fn ends_name(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b'>' | b'/' | b'=' | b'<' | b'"' | b'\'' | b'&' | b'!' | b'?')
}
