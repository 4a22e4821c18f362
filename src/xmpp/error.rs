//! Stream errors (RFC 6120 §4.9), stanza errors (§8.3) and SASL failures (§6.5): one table each, with the condition's
//! name on the wire, its default type, what it means and what the RFC warns of. Nothing here decides when an error is
//! sent; whoever answers says which condition, and the table says the rest.

mod condition;

use std::borrow::Cow;
use std::fmt;

use crate::element::Element;
use crate::jid::Jid;
use crate::ns;

pub use condition::{Condition, ErrorKind, SaslCondition, StreamCondition};

/// A `<stream:error/>`: the last thing that is sent on a stream before its end tag.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamError {
    /// The defined condition.
    pub condition: StreamCondition,
    /// Text for people, in English.
    pub text: Option<Cow<'static, str>>,
    /// What the condition's own element holds: the host of [`StreamCondition::SeeOtherHost`], else nothing.
    pub host: Option<Box<str>>,
    /// An application-specific condition beside the defined one (RFC 6120 §4.9.4).
    pub app: Option<Box<Element>>,
}

impl StreamError {
    /// An error without text.
    pub const fn new(condition: StreamCondition) -> Self {
        Self { condition, text: None, host: None, app: None }
    }

    /// A `see-other-host` that names `host`: a domain or address, with `:port` if it is not the usual one.
    pub fn see_other_host(host: impl Into<Box<str>>) -> Self {
        Self { host: Some(host.into()), ..Self::new(StreamCondition::SeeOtherHost) }
    }

    /// Adds text for people.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.text = Some(text.into());
        self
    }
}

impl StreamError {
    /// Adds an application-specific condition.
    #[must_use]
    pub fn with_app(mut self, app: Element) -> Self {
        self.app = Some(Box::new(app));
        self
    }

    /// The `<error/>` element. On a stream it is [written](Self::write) with the prefix `stream`.
    pub fn to_element(&self) -> Element {
        Element::new("error", ns::STREAMS).children(self.children())
    }

    /// Reads an `<error/>` element; a condition that is unknown is undefined (RFC 6120 §4.9.1.1). `None` for other
    /// elements.
    pub fn from_element(error: &Element) -> Option<Self> {
        if !error.is("error", ns::STREAMS) {
            return None;
        }
        let Parts { name, content, text, app } = read(error, ns::STREAM_ERRORS);
        let condition = name.and_then(StreamCondition::from_name).unwrap_or(StreamCondition::UndefinedCondition);
        Some(Self { condition, text, host: content, app })
    }

    /// Writes `<stream:error/>`; the prefix is the one of the stream header, and the one that
    /// every implementation understands (RFC 6120 §4.8.5).
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<stream:error>");
        for child in self.children() {
            child.write(out, ns::STREAMS);
        }
        out.extend_from_slice(b"</stream:error>");
    }

    fn children(&self) -> impl Iterator<Item = Element> {
        children(self.condition.name(), ns::STREAM_ERRORS, &self.host, &self.text, &self.app)
    }
}

impl From<StreamCondition> for StreamError {
    fn from(condition: StreamCondition) -> Self {
        Self::new(condition)
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, self.condition.name(), self.text.as_deref())
    }
}

impl std::error::Error for StreamError {}

/// An `<error/>` inside a stanza of type "error".
#[derive(Debug, Clone, PartialEq)]
pub struct StanzaError {
    /// What the sender should do about it.
    pub kind: ErrorKind,
    /// The defined condition.
    pub condition: Condition,
    /// Text for people, in English.
    pub text: Option<Cow<'static, str>>,
    /// What the condition's own element holds: the URI of [`Condition::Gone`] or [`Condition::Redirect`], else nothing.
    pub uri: Option<Box<str>>,
    /// An application-specific condition beside the defined one (RFC 6120 §8.3.4).
    pub app: Option<Box<Element>>,
    /// Who found the error, if that is not the stanza's `from` (RFC 6120 §8.3.2).
    pub by: Option<Jid>,
}

impl StanzaError {
    /// An error with the condition's default type and no text.
    pub const fn new(condition: Condition) -> Self {
        Self { kind: condition.default_kind(), condition, text: None, uri: None, app: None, by: None }
    }

    /// Adds text for people.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Replaces the condition's default type.
    #[must_use]
    pub const fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds the new address, as a URI, of `gone` or `redirect`.
    #[must_use]
    pub fn with_uri(mut self, uri: impl Into<Box<str>>) -> Self {
        self.uri = Some(uri.into());
        self
    }

    /// Adds an application-specific condition.
    #[must_use]
    pub fn with_app(mut self, app: Element) -> Self {
        self.app = Some(Box::new(app));
        self
    }

    /// Says who found the error.
    #[must_use]
    pub fn with_by(mut self, by: impl Into<Jid>) -> Self {
        self.by = Some(by.into());
        self
    }
}

impl StanzaError {
    /// The `<error/>` element, in the namespace of a client's stanzas.
    pub fn to_element(&self) -> Element {
        Element::new("error", ns::CLIENT)
            .attr("type", self.kind.name())
            .attr_opt("by", self.by.as_ref().map(Jid::as_str))
            .children(children(self.condition.name(), ns::STANZAS, &self.uri, &self.text, &self.app))
    }

    /// Reads the `<error/>` child of a stanza, leniently: a condition that is unknown is undefined (RFC 6120 §8.3.2), a
    /// type that is unknown is the condition's default. `None` for an element with another name.
    pub fn from_element(error: &Element) -> Option<Self> {
        if error.name() != "error" {
            return None;
        }
        let Parts { name, content: uri, text, app } = read(error, ns::STANZAS);
        let condition = name.and_then(Condition::from_name).unwrap_or(Condition::UndefinedCondition);
        let kind = error.get("type").and_then(ErrorKind::from_name).unwrap_or(condition.default_kind());
        let by = error.get("by").and_then(|by| Jid::new(by).ok());
        Some(Self { kind, condition, text, uri, app, by })
    }
}

impl From<Condition> for StanzaError {
    fn from(condition: Condition) -> Self {
        Self::new(condition)
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, self.condition.name(), self.text.as_deref())
    }
}

impl std::error::Error for StanzaError {}

/// A SASL `<failure/>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslError {
    /// The defined condition.
    pub condition: SaslCondition,
    /// Text for people, in English.
    pub text: Option<Cow<'static, str>>,
}

impl SaslError {
    /// A failure without text.
    pub const fn new(condition: SaslCondition) -> Self {
        Self { condition, text: None }
    }

    /// Adds text for people.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.text = Some(text.into());
        self
    }
}

impl SaslError {
    /// The `<failure/>` element (RFC 6120 §6.4.5).
    pub fn to_element(&self) -> Element {
        Element::new("failure", ns::SASL).children(children(self.condition.name(), ns::SASL, &None, &self.text, &None))
    }

    /// Reads a `<failure/>`; a condition that is unknown is `not-authorized`. `None` for other elements.
    pub fn from_element(failure: &Element) -> Option<Self> {
        if !failure.is("failure", ns::SASL) {
            return None;
        }
        let Parts { name, text, .. } = read(failure, ns::SASL);
        let condition = name.and_then(SaslCondition::from_name).unwrap_or(SaslCondition::NotAuthorized);
        Some(Self { condition, text })
    }
}

impl From<SaslCondition> for SaslError {
    fn from(condition: SaslCondition) -> Self {
        Self::new(condition)
    }
}

impl fmt::Display for SaslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, self.condition.name(), self.text.as_deref())
    }
}

impl std::error::Error for SaslError {}

fn describe(f: &mut fmt::Formatter<'_>, name: &str, text: Option<&str>) -> fmt::Result {
    match text {
        Some(text) => write!(f, "{name}: {text}"),
        None => f.write_str(name),
    }
}

/// What the three elements have in common: the condition, the text, what the application adds.
fn children(
    name: &'static str,
    ns: &'static str,
    content: &Option<Box<str>>,
    text: &Option<Cow<'static, str>>,
    app: &Option<Box<Element>>,
) -> impl Iterator<Item = Element> {
    let condition = match content {
        Some(content) => Element::new(name, ns).text(&**content),
        None => Element::new(name, ns),
    };
    let text = text.as_ref().map(|text| Element::new("text", ns).attr("xml:lang", "en").text(&**text));
    [Some(condition), text, app.as_deref().cloned()].into_iter().flatten()
}

/// What the three elements have in common, as read.
struct Parts<'a> {
    /// The name of the condition.
    name: Option<&'a str>,
    /// What the condition's element holds.
    content: Option<Box<str>>,
    text: Option<Cow<'static, str>>,
    app: Option<Box<Element>>,
}

fn read<'a>(error: &'a Element, ns: &str) -> Parts<'a> {
    let condition = error.elements().find(|child| child.ns() == ns && child.name() != "text");
    let content = condition.map(Element::content).filter(|content| !content.is_empty());
    Parts {
        name: condition.map(Element::name),
        content: content.map(String::into_boxed_str),
        text: error.find("text", ns).map(|text| Cow::Owned(text.content())),
        app: error.elements().find(|child| child.ns() != ns).cloned().map(Box::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_is_found_by_its_name() {
        for condition in StreamCondition::ALL {
            let error = StreamError::new(*condition).with_text("a < b");
            assert_eq!(StreamError::from_element(&error.to_element()), Some(error));
        }
        for condition in Condition::ALL {
            let error = StanzaError::new(*condition).with_text("a < b");
            assert_eq!(StanzaError::from_element(&error.to_element()), Some(error));
        }
        for condition in SaslCondition::ALL {
            let error = SaslError::new(*condition).with_text("a < b");
            assert_eq!(SaslError::from_element(&error.to_element()), Some(error));
        }
        assert_eq!((StreamCondition::ALL.len(), Condition::ALL.len(), SaslCondition::ALL.len()), (25, 22, 11));
    }

    #[test]
    fn errors_are_small_enough_to_be_results() {
        assert!(size_of::<StanzaError>() <= 96);
        assert!(size_of::<StreamError>() <= 64);
    }

    #[test]
    fn stanza_error_as_xml() {
        let error = StanzaError::new(Condition::Gone)
            .with_uri("xmpp:romeo@afterlife.example.net")
            .with_by(Jid::new("example.net").unwrap())
            .with_text("moved on")
            .with_app(Element::new("too-many-parameters", "http://example.org/ns"));
        let element = error.to_element();
        assert_eq!(
            element.to_string(),
            "<error xmlns='jabber:client' type='cancel' by='example.net'>\
             <gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:romeo@afterlife.example.net</gone>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>moved on</text>\
             <too-many-parameters xmlns='http://example.org/ns'/></error>"
        );
        assert_eq!(StanzaError::from_element(&element), Some(error));
    }

    #[test]
    fn stream_error_as_xml() {
        let error = StreamError::see_other_host("[2001:db8::9]:5222");
        let mut out = Vec::new();
        error.write(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[2001:db8::9]:5222</see-other-host>\
             </stream:error>"
        );
        assert_eq!(StreamError::from_element(&error.to_element()), Some(error));
        let error =
            StreamError::new(StreamCondition::PolicyViolation).with_app(Element::new("stanza-too-big", ns::ERRORS));
        assert_eq!(StreamError::from_element(&error.to_element()), Some(error));
    }

    #[test]
    fn unknown_words_are_understood_as_the_rfc_says() {
        let element =
            Element::new("error", ns::CLIENT).attr("type", "panic").child(Element::new("no-such", ns::STANZAS));
        assert_eq!(StanzaError::from_element(&element), Some(StanzaError::new(Condition::UndefinedCondition)));
        let element = Element::new("error", ns::CLIENT).attr("type", "wait");
        let error = StanzaError::new(Condition::UndefinedCondition).with_kind(ErrorKind::Wait);
        assert_eq!(StanzaError::from_element(&element), Some(error));
        let element = Element::new("failure", ns::SASL).child(Element::new("bad-auth", ns::SASL));
        assert_eq!(SaslError::from_element(&element), Some(SaslCondition::NotAuthorized.into()));
        assert_eq!(StreamError::from_element(&element), None);
    }
}
