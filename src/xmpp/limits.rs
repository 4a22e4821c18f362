//! How large and how deep XML may be. Counted by the framer while bytes arrive, before anything is kept.

use crate::element::Element;
use crate::error::{StreamCondition, StreamError};
use crate::ns;

/// Bounds for what one stream may send. Exceeding one ends the stream with `policy-violation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one top-level element, its tags included; also of the prolog with the stream header.
    pub element_bytes: u32,
    /// Bytes of everything, whitespace included, until the limits are replaced; unbounded if `None`.
    pub stream_bytes: Option<u32>,
    /// Nesting below the stream: a stanza has depth 1, its payload 2.
    pub depth: u32,
    /// Elements in one top-level element, itself included.
    pub elements: u32,
    /// Attributes of one element, namespace declarations not counted.
    pub attributes: u32,
    /// Namespace declarations of one element.
    pub namespaces: u32,
    /// Bytes of one name as written, prefix and colon included.
    pub name_bytes: u32,
    /// Bytes of one attribute value as written.
    pub attr_value_bytes: u32,
    /// Bytes of one namespace name as written.
    pub ns_uri_bytes: u32,
}

impl Limits {
    /// Before the other side has authenticated: room for SASL and nothing else.
    pub const fn pre_auth() -> Self {
        Self { element_bytes: 10 * 1024, stream_bytes: Some(64 * 1024), depth: 8, elements: 32, ..Self::s2s() }
    }

    /// Authenticated clients.
    pub const fn c2s() -> Self {
        Self { element_bytes: 256 * 1024, ..Self::s2s() }
    }

    /// Authenticated servers and components.
    pub const fn s2s() -> Self {
        Self {
            element_bytes: 512 * 1024,
            stream_bytes: None,
            depth: 64,
            elements: 4000,
            attributes: 64,
            namespaces: 32,
            name_bytes: 256,
            attr_value_bytes: 16 * 1024,
            ns_uri_bytes: 512,
        }
    }
}

/// XEP-0205 has a condition for this: the element is larger than `element_bytes`.
#[cold]
pub(crate) fn too_big() -> StreamError {
    exceeded("element is too big").with_app(Element::new("stanza-too-big", ns::ERRORS))
}

/// Another limit is exceeded; `text` says which.
#[cold]
pub(crate) fn exceeded(text: &'static str) -> StreamError {
    StreamError::new(StreamCondition::PolicyViolation).with_text(text)
}

/// XML 1.0 or its namespaces are violated.
#[cold]
pub(crate) fn not_well_formed(text: &'static str) -> StreamError {
    StreamError::new(StreamCondition::NotWellFormed).with_text(text)
}

/// RFC 6120 §11.1: XML that XMPP does without.
#[cold]
pub(crate) fn restricted(text: &'static str) -> StreamError {
    StreamError::new(StreamCondition::RestrictedXml).with_text(text)
}
