//! Names and namespaces of elements and attributes: two separate types, never one joined string.
//!
//! Constants cost no allocation; names made from data are forced into a legal form, so that an element cannot be
//! written as anything but well-formed XML.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::chars;
use crate::ns;

/// The local part of an element's or attribute's name: an NCName of Namespaces in XML 1.0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Cow<'static, str>);

impl Name {
    /// A name the parser has already found legal.
    pub(crate) fn checked(name: &str) -> Self {
        Self(match well_known(name) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(name.to_owned()),
        })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that no name may hold become `_`.
impl<T: Into<Cow<'static, str>>> From<T> for Name {
    fn from(name: T) -> Self {
        let name = name.into();
        if chars::is_ncname(&name) {
            return Self(name);
        }
        let mut legal = String::with_capacity(name.len() + 1);
        for c in name.chars() {
            if legal.is_empty() && !chars::is_name_start(c) {
                legal.push('_');
            }
            if chars::is_name_part(c) {
                legal.push(c);
            } else if !legal.ends_with('_') {
                legal.push('_');
            }
        }
        if legal.is_empty() {
            legal.push('_');
        }
        Self(Cow::Owned(legal))
    }
}

/// A namespace name (URI); empty for "no namespace".
#[derive(Clone)]
pub struct Namespace(Uri);

#[derive(Clone)]
enum Uri {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Namespace {
    /// No namespace at all.
    pub const NONE: Self = Self(Uri::Static(""));
    /// The namespace of `xml:lang`; its prefix needs no declaration.
    pub const XML: Self = Self(Uri::Static(ns::XML));

    /// A namespace the parser has read; those of streams and stanzas are not allocated.
    pub(crate) fn checked(uri: &str) -> Self {
        macro_rules! table {
            ($($known:ident)*) => { match uri { $(ns::$known => Self(Uri::Static(ns::$known)),)* _ => Self(Uri::Shared(uri.into())) } };
        }
        match uri {
            "" => Self::NONE,
            _ => {
                table!(CLIENT SERVER STREAMS XML STANZAS SASL SASL2 BIND BIND2 TLS SM CSI DIALBACK COMPONENT ROSTER DISCO_INFO
                DISCO_ITEMS PING CAPS DELAY SID CARBONS FORWARD HINTS MAM CHATSTATES RECEIPTS MUC MUC_USER OCCUPANT_ID X_DATA RSM)
            }
        }
    }

    /// The namespace name as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Uri::Static(uri) => uri,
            Uri::Shared(uri) => uri,
        }
    }
}

impl From<&'static str> for Namespace {
    fn from(uri: &'static str) -> Self {
        Self(Uri::Static(uri))
    }
}

impl From<String> for Namespace {
    fn from(uri: String) -> Self {
        Self(Uri::Shared(uri.into()))
    }
}

impl From<Arc<str>> for Namespace {
    fn from(uri: Arc<str>) -> Self {
        Self(Uri::Shared(uri))
    }
}

impl From<&Self> for Namespace {
    fn from(other: &Self) -> Self {
        other.clone()
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Deref for Namespace {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Namespace {}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Names so frequent that parsed elements should not allocate them.
fn well_known(name: &str) -> Option<&'static str> {
    macro_rules! table {
        ($($known:literal)*) => { match name { $($known => Some($known),)* _ => None } };
    }
    table!("a" "active" "affiliation" "autojoin" "body" "by" "c" "command" "db" "delay" "display-name" "error" "feature" "field"
        "forwarded" "from" "group" "hash" "hashes" "id" "identity" "item" "items" "iq" "jid" "lang" "max" "message"
        "name" "node" "nick" "origin-id" "photo" "presence" "priority" "pubsub" "query" "r" "received" "request"
        "resume" "role" "set" "show" "stamp" "stanza-id" "status" "store" "stream" "subject" "subscription" "text" "thread"
        "to" "type" "value" "var" "ver" "x" "xmlns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b6_names_from_data_are_made_legal() {
        for (given, name) in
            [("body", "body"), ("1a", "_1a"), ("a b|c", "a_b_c"), ("", "_"), ("a\u{1}\nb", "a_b"), ("{u}x", "_u_x")]
        {
            assert_eq!(Name::from(given).as_str(), name);
            assert!(chars::is_ncname(Name::from(given.to_owned()).as_str()));
        }
    }
}
