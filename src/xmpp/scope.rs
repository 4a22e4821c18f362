//! Which namespace a prefix stands for, element by element (Namespaces in XML 1.0).

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::error::{StreamCondition, StreamError};
use crate::header::Namespaces;
use crate::limits::{exceeded, not_well_formed};
use crate::ns;
use crate::tag::{self, RawAttr};

/// Declarations that may be in force at one place; keeps looking up a prefix cheap however a stanza is nested. Room for
/// a default namespace on each of the 64 levels that a stanza may have, and as many prefixes.
const MOST_DECLARATIONS: usize = 128;

/// A namespace in a [`Scope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NsRef {
    None,
    Xml,
    /// An index into the declarations.
    Declared(u16),
}

/// The declarations in force.
pub(crate) struct Scope<'a> {
    declarations: SmallVec<[Declaration<'a>; 4]>,
    /// For each open element, what holds around it.
    outside: SmallVec<[Level; 8]>,
    default: NsRef,
}

struct Declaration<'a> {
    prefix: &'a str,
    uri: Cow<'a, str>,
    level: u32,
}

struct Level {
    declarations: u16,
    default: NsRef,
}

impl<'a> Scope<'a> {
    /// What holds in a stream.
    pub(crate) fn new(stream: &'a Namespaces) -> Self {
        let mut scope = Self { declarations: SmallVec::new(), outside: SmallVec::new(), default: NsRef::None };
        if !stream.default_ns().is_empty() {
            scope.default = scope.push("", Cow::Borrowed(stream.default_ns()));
        }
        for (prefix, uri) in stream.prefixes() {
            scope.push(prefix, Cow::Borrowed(uri));
        }
        scope
    }

    /// How many elements are open.
    #[inline]
    pub(crate) fn depth(&self) -> usize {
        self.outside.len()
    }

    /// Begins an element, before its declarations are made.
    #[inline]
    pub(crate) fn enter(&mut self) {
        let declarations = u16::try_from(self.declarations.len()).unwrap_or(u16::MAX);
        self.outside.push(Level { declarations, default: self.default });
    }

    /// Ends an element; `false` if none is open.
    #[inline]
    pub(crate) fn leave(&mut self) -> bool {
        let Some(level) = self.outside.pop() else {
            return false;
        };
        self.declarations.truncate(usize::from(level.declarations));
        self.default = level.default;
        true
    }

    /// Declares what `attr` declares; `None` if it is an ordinary attribute.
    #[inline]
    pub(crate) fn declare(&mut self, attr: &RawAttr<'a>) -> Result<Option<&Cow<'a, str>>, StreamError> {
        let prefix = match (attr.prefix, attr.local) {
            ("", "xmlns") => "",
            ("xmlns", prefix) => prefix,
            _ => return Ok(None),
        };
        let uri = tag::value(attr.value);
        tag::check_namespace(&uri)?;
        let legal = match (prefix, &*uri) {
            ("xml", uri) => uri == ns::XML,
            ("xmlns", _) | (_, ns::XML | ns::XMLNS) => false,
            (prefix, uri) => prefix.is_empty() || !uri.is_empty(),
        };
        if !legal {
            return Err(not_well_formed("illegal namespace declaration"));
        }
        if self.declarations.len() >= MOST_DECLARATIONS {
            return Err(exceeded("too many namespace declarations"));
        }
        let level = self.level();
        if self.declarations.iter().rev().take_while(|d| d.level == level).any(|d| d.prefix == prefix) {
            return Err(not_well_formed("attribute is there twice"));
        }
        let declared = self.push(prefix, uri);
        if prefix.is_empty() {
            self.default = declared;
        }
        Ok(self.declarations.last().map(|d| &d.uri))
    }

    /// The namespace of an element's name, and the number of open elements where its prefix was declared.
    #[inline]
    pub(crate) fn element(&self, prefix: &str) -> Result<(NsRef, u32), StreamError> {
        match prefix {
            "" => Ok((self.default, u32::MAX)),
            prefix => self.prefixed(prefix),
        }
    }

    /// The same for an attribute: without prefix it is in no namespace.
    #[inline]
    pub(crate) fn attribute(&self, prefix: &str) -> Result<(NsRef, u32), StreamError> {
        match prefix {
            "" => Ok((NsRef::None, u32::MAX)),
            prefix => self.prefixed(prefix),
        }
    }

    fn prefixed(&self, prefix: &str) -> Result<(NsRef, u32), StreamError> {
        if prefix == "xml" {
            return Ok((NsRef::Xml, u32::MAX));
        }
        let found = self.declarations.iter().enumerate().rev().find(|(_, d)| d.prefix == prefix);
        let Some((at, declaration)) = found else {
            return Err(StreamError::new(StreamCondition::BadNamespacePrefix).with_text("prefix is not declared"));
        };
        Ok((NsRef::Declared(u16::try_from(at).unwrap_or(u16::MAX)), declaration.level))
    }

    /// The namespace without prefix at this place.
    pub(crate) const fn default_ns(&self) -> NsRef {
        self.default
    }

    /// The same inside the outermost element.
    pub(crate) fn outer_default(&self) -> NsRef {
        self.outside.get(1).map_or(self.default, |level| level.default)
    }

    /// The namespace name.
    #[inline]
    pub(crate) fn uri(&self, ns: NsRef) -> &str {
        match ns {
            NsRef::None => "",
            NsRef::Xml => ns::XML,
            NsRef::Declared(at) => self.declarations.get(usize::from(at)).map_or("", |d| &d.uri),
        }
    }

    fn level(&self) -> u32 {
        u32::try_from(self.outside.len()).unwrap_or(u32::MAX)
    }

    fn push(&mut self, prefix: &'a str, uri: Cow<'a, str>) -> NsRef {
        let at = u16::try_from(self.declarations.len()).unwrap_or(u16::MAX);
        // `xmlns=''` takes the default away; the entry is there to be found when declared twice.
        let none = uri.is_empty();
        self.declarations.push(Declaration { prefix, uri, level: self.level() });
        if none { NsRef::None } else { NsRef::Declared(at) }
    }
}
