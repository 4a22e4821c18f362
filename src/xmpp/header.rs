//! The stream header (RFC 6120 §4.7): what its attributes say, and the namespaces it declares for all that follows.

use crate::chars::{is_space, is_xml_text};
use crate::error::{StreamCondition, StreamError};
use crate::limits::{not_well_formed, restricted};
use crate::name::{Name, Namespace};
use crate::ns;
use crate::scope::Scope;
use crate::tag::{self, RawAttrs};

/// What nearly every stream header is called.
pub(crate) const USUAL_ROOT: &str = "stream:stream";

/// The attributes of a stream header as text: whether these are addresses is for the stream to judge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamHeader {
    /// The domain that is wanted.
    pub to: Option<Box<str>>,
    /// Who wants it.
    pub from: Option<Box<str>>,
    /// The stream's identifier, made by the receiving entity.
    pub id: Option<Box<str>>,
    /// The version of XMPP.
    pub version: Option<Box<str>>,
    /// `xml:lang`; also in `namespaces`, for stanzas inherit it.
    pub lang: Option<Box<str>>,
    /// What the header declares.
    pub namespaces: Namespaces,
}

/// What a stream header declares for the elements in the stream: namespaces and language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces {
    default: Namespace,
    prefixes: Box<[(Name, Namespace)]>,
    content: Namespace,
    lang: Option<Box<str>>,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self::none()
    }
}

impl Namespaces {
    /// Nothing is declared: each element stands for itself, as in WebSocket framing (RFC 7395 §3.3.3).
    pub fn none() -> Self {
        Self { default: Namespace::NONE, prefixes: Box::default(), content: Namespace::from(ns::CLIENT), lang: None }
    }

    /// The default namespace is `content_ns` and there are no prefixes.
    pub fn content_only(content_ns: impl Into<Namespace>) -> Self {
        let content = content_ns.into();
        Self { default: content.clone(), content, ..Self::none() }
    }

    /// The default namespace, which elements without prefix are in; may be empty.
    pub fn default_ns(&self) -> &str {
        &self.default
    }

    /// The namespace of stanzas (RFC 6120 §4.8.2). The default namespace if that is one of stanzas, else
    /// `jabber:client`: a stream may also declare it on each stanza.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// Says which namespace stanzas are in.
    pub fn set_content(&mut self, content_ns: impl Into<Namespace>) {
        self.content = content_ns.into();
    }

    /// The language of stanzas that name none.
    pub fn lang(&self) -> Option<&str> {
        self.lang.as_deref()
    }

    /// Sets the language of stanzas that name none.
    pub fn set_lang(&mut self, lang: Option<Box<str>>) {
        self.lang = lang;
    }

    /// The declared prefixes with their namespaces.
    pub fn prefixes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.prefixes.iter().map(|(prefix, uri)| (&**prefix, &**uri))
    }
}

/// Reads the start tag of a stream; also returns its name as written.
pub(crate) fn parse(tag: &[u8]) -> Result<(StreamHeader, &str), StreamError> {
    let tag = str::from_utf8(tag).map_err(|_| not_utf8())?;
    if !is_xml_text(tag) {
        return Err(not_well_formed("illegal character"));
    }
    let inside = tag.strip_prefix('<').and_then(|tag| tag.strip_suffix('>'));
    let inside = inside.ok_or_else(|| not_well_formed("not a tag"))?;
    let name_len = inside.bytes().position(is_space).unwrap_or(inside.len());
    let (name, rest) = inside.split_at_checked(name_len).unwrap_or_default();
    let (prefix, local) = tag::split_name(name)?;

    let nothing = Namespaces::none();
    let mut scope = Scope::new(&nothing);
    scope.enter();
    let mut header = StreamHeader::default();
    let (mut prefixes, mut plain) = (Vec::new(), Vec::new());
    let mut attrs = RawAttrs::new(rest);
    while let Some(attr) = attrs.next()? {
        match scope.declare(&attr)? {
            Some(uri) if attr.prefix.is_empty() => header.namespaces.default = Namespace::checked(uri),
            Some(_) if attr.local == "xml" => {}
            Some(uri) => prefixes.push((Name::checked(attr.local), Namespace::checked(uri))),
            None => plain.push(attr),
        }
    }
    let mut seen = Vec::with_capacity(plain.len());
    for attr in &plain {
        let (attr_ns, _) = scope.attribute(attr.prefix)?;
        let key = (scope.uri(attr_ns), attr.local);
        if seen.contains(&key) {
            return Err(not_well_formed("attribute is there twice"));
        }
        seen.push(key);
        let slot = match key {
            ("", "to") => &mut header.to,
            ("", "from") => &mut header.from,
            ("", "id") => &mut header.id,
            ("", "version") => &mut header.version,
            (ns::XML, "lang") => &mut header.lang,
            _ => continue,
        };
        *slot = Some(tag::value(attr.value).into());
    }

    let (root_ns, _) = scope.element(prefix)?;
    if scope.uri(root_ns) != ns::STREAMS {
        return Err(StreamError::new(StreamCondition::InvalidNamespace).with_text("not a stream of XMPP"));
    }
    if local != "stream" {
        return Err(StreamError::new(StreamCondition::BadFormat).with_text("not a stream header"));
    }
    header.namespaces.prefixes = prefixes.into();
    header.namespaces.lang.clone_from(&header.lang);
    if matches!(&*header.namespaces.default, ns::CLIENT | ns::SERVER | ns::COMPONENT) {
        header.namespaces.content = header.namespaces.default.clone();
    }
    Ok((header, name))
}

/// Checks `<?xml ...?>`: XML 1.0 in UTF-8 (RFC 6120 §11.5, §11.6).
pub(crate) fn check_declaration(declaration: &[u8]) -> Result<(), StreamError> {
    let text = str::from_utf8(declaration).map_err(|_| not_utf8())?;
    let inside = text.strip_prefix("<?xml").and_then(|text| text.strip_suffix("?>"));
    let inside = inside.filter(|text| text.starts_with([' ', '\t', '\n', '\r']));
    let inside = inside.ok_or_else(|| restricted("processing instruction"))?;
    let malformed = || not_well_formed("malformed XML declaration");
    let mut attrs = RawAttrs::new(inside);
    // The order is fixed: version, encoding, standalone.
    let mut last = 0;
    while let Some(attr) = attrs.next()? {
        let (place, fits) = match (attr.prefix, attr.local) {
            ("", "version") => (1, attr.value == "1.0"),
            ("", "encoding") if !attr.value.eq_ignore_ascii_case("utf-8") => {
                return Err(StreamCondition::UnsupportedEncoding.into());
            }
            ("", "encoding") => (2, true),
            ("", "standalone") => (3, matches!(attr.value, "yes" | "no")),
            _ => (0, false),
        };
        if !fits || place <= last || (last == 0 && place != 1) {
            return Err(malformed());
        }
        last = place;
    }
    if last == 0 { Err(malformed()) } else { Ok(()) }
}

/// RFC 6120 §11.6: XMPP is UTF-8.
#[cold]
fn not_utf8() -> StreamError {
    StreamError::new(StreamCondition::UnsupportedEncoding).with_text("not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(tag: &str) -> StreamCondition {
        parse(tag.as_bytes()).unwrap_err().condition
    }

    #[test]
    fn a_header_declares_namespaces_and_language() {
        let tag = "<stream:stream to='a&amp;b' from=\"c\" id='1' version='1.0' xml:lang='de'
            xmlns='jabber:server' xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams' >";
        let (header, root) = parse(tag.as_bytes()).unwrap();
        assert_eq!(root, "stream:stream");
        assert_eq!(
            (header.to.as_deref(), header.from.as_deref(), header.id.as_deref()),
            (Some("a&b"), Some("c"), Some("1"))
        );
        assert_eq!((header.version.as_deref(), header.lang.as_deref()), (Some("1.0"), Some("de")));
        let namespaces = &header.namespaces;
        assert_eq!(
            (namespaces.default_ns(), namespaces.content(), namespaces.lang()),
            (ns::SERVER, ns::SERVER, Some("de"))
        );
        assert_eq!(namespaces.prefixes().collect::<Vec<_>>(), [("db", ns::DIALBACK), ("stream", ns::STREAMS)]);
    }

    #[test]
    fn the_stream_may_have_any_prefix_or_none() {
        let (header, root) = parse(b"<stream xmlns='http://etherx.jabber.org/streams'>").unwrap();
        assert_eq!((root, header.namespaces.content()), ("stream", ns::CLIENT));
        assert!(parse(b"<s:stream xmlns:s='http://etherx.jabber.org/streams'>").is_ok());
    }

    #[test]
    fn what_is_no_stream_is_told_so() {
        use StreamCondition::{BadFormat, BadNamespacePrefix, InvalidNamespace, NotWellFormed};
        assert_eq!(condition("<stream:stream>"), BadNamespacePrefix);
        assert_eq!(condition("<stream:stream xmlns:stream='urn:x'>"), InvalidNamespace);
        assert_eq!(condition("<stream>"), InvalidNamespace);
        assert_eq!(condition("<s:flow xmlns:s='http://etherx.jabber.org/streams'>"), BadFormat);
        assert_eq!(condition("<s:stream xmlns:s='http://etherx.jabber.org/streams' to='a' to='b'>"), NotWellFormed);
        assert_eq!(condition("<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns:s='urn:x'>"), NotWellFormed);
        assert_eq!(condition("<s:stream xmlns:xml='urn:x'>"), NotWellFormed);
    }

    #[test]
    fn b1_declarations_are_xml_in_utf8() {
        for good in ["<?xml version='1.0'?>", "<?xml version=\"1.0\" encoding='utf-8' standalone='yes' ?>"] {
            assert_eq!(check_declaration(good.as_bytes()), Ok(()), "{good}");
        }
        for (bad, condition) in [
            ("<?xml version='1.0' encoding='UTF-16'?>", StreamCondition::UnsupportedEncoding),
            ("<?xml version='1.1'?>", StreamCondition::NotWellFormed),
            ("<?xml encoding='UTF-8'?>", StreamCondition::NotWellFormed),
            ("<?xml?>", StreamCondition::RestrictedXml),
            ("<?xml ?>", StreamCondition::NotWellFormed),
            ("<?xml-stylesheet version='1.0'?>", StreamCondition::RestrictedXml),
            ("<?xml version='1.0' version='1.0'?>", StreamCondition::NotWellFormed),
        ] {
            assert_eq!(check_declaration(bad.as_bytes()).unwrap_err().condition, condition, "{bad}");
        }
    }
}
