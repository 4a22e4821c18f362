//! What is inside a stanza: the sender's own bytes with an index of the children, or elements.
//!
//! Bytes are kept only if the parser has found them plain (design: "bytes stay bytes until someone looks"): well-formed,
//! every prefix declared inside, elements without `xmlns` in the stanza's namespace whatever stream they are written to.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::element::Element;
use crate::escape::{self, Sink};
use crate::header::Namespaces;
use crate::ns;
use crate::reader::Reader;
use crate::{tree, write};

#[derive(Clone, Default)]
pub(super) enum Body {
    #[default]
    Empty,
    Raw(Arc<Raw>),
    /// The elements are the truth. Clones share them until one is changed.
    Edited(Arc<Vec<Element>>),
}

/// Bytes, which clones of the stanza share, as they do the elements once parsed.
pub(super) struct Raw {
    bytes: Bytes,
    /// What lies between the stanza's tags.
    content: Range<u32>,
    children: Children,
    elements: OnceLock<Vec<Element>>,
}

/// The direct children in their order.
pub(crate) type Children = SmallVec<[Child; 4]>;

/// Where a child is, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) whole: Range<u32>,
    pub(crate) name: Range<u32>,
    /// Where the namespace is written; `None` if it is that of the stanza.
    pub(crate) ns: Option<Range<u32>>,
}

impl Child {
    fn moved(&self, offset: i64) -> Self {
        let moved = |range: &Range<u32>| shift(range.start, offset)..shift(range.end, offset);
        Self { whole: moved(&self.whole), name: moved(&self.name), ns: self.ns.as_ref().map(moved) }
    }
}

fn shift(at: u32, offset: i64) -> u32 {
    u32::try_from(i64::from(at) + offset).unwrap_or_default()
}

fn slice<'b>(bytes: &'b [u8], range: &Range<u32>) -> &'b [u8] {
    let at = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    bytes.get(at(range.start)..at(range.end)).unwrap_or_default()
}

/// The bytes have been checked as a whole; names and namespaces begin and end with ASCII quotes, spaces and brackets.
fn text<'b>(bytes: &'b [u8], range: &Range<u32>) -> &'b str {
    str::from_utf8(slice(bytes, range)).unwrap_or_default()
}

impl Raw {
    pub(super) const fn new(bytes: Bytes, content: Range<u32>, children: Children) -> Self {
        Self { bytes, content, children, elements: OnceLock::new() }
    }

    pub(super) fn content(&self) -> &[u8] {
        slice(&self.bytes, &self.content)
    }

    fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.children.iter().map(|child| {
            let ns = child.ns.as_ref().map_or(ns::CLIENT, |ns| text(&self.bytes, ns));
            (ns, text(&self.bytes, &child.name))
        })
    }

    /// Whether a child has one of these (namespace, name). To compare them, bytes need not be text.
    fn is_one_of(&self, child: &Child, names: &[(&str, &str)]) -> bool {
        let name = slice(&self.bytes, &child.name);
        let ns = || child.ns.as_ref().map_or(ns::CLIENT.as_bytes(), |ns| slice(&self.bytes, ns));
        names.iter().any(|(wanted_ns, wanted)| wanted.as_bytes() == name && wanted_ns.as_bytes() == ns())
    }

    fn elements(&self) -> &[Element] {
        self.elements.get_or_init(|| {
            // These bytes have passed the same reader before: there is no error to lose.
            let around = Namespaces::content_only(ns::CLIENT);
            Reader::new(self.content(), &around)
                .and_then(|mut reader| tree::read_children(&mut reader, ns::CLIENT))
                .unwrap_or_default()
        })
    }

    /// The same without those children for which `keep` is false.
    fn without(&self, keep: &[bool]) -> Body {
        let mut bytes = Vec::with_capacity(self.content().len());
        let mut children = Children::new();
        for (child, _) in self.children.iter().zip(keep).filter(|(_, keep)| **keep) {
            let at = i64::try_from(bytes.len()).unwrap_or_default();
            children.push(child.moved(at - i64::from(child.whole.start)));
            bytes.extend_from_slice(slice(&self.bytes, &child.whole));
        }
        Body::from_written(bytes, children)
    }

    /// The same with `element` behind; `None` if its namespace is not written as it reads.
    fn with(&self, element: &Element) -> Option<Body> {
        let mut size = escape::Count(0);
        write::write_tree(element, &mut size, ns::CLIENT);
        self.with_written((element.ns(), element.name()), size.0, |bytes| element.write(bytes, ns::CLIENT))
    }

    /// The same with what `write` writes behind: an element of this (namespace, name), about `size` bytes.
    fn with_written(&self, (ns, name): (&str, &str), size: usize, write: impl FnOnce(&mut Vec<u8>)) -> Option<Body> {
        let content = self.content();
        let mut bytes = Vec::with_capacity(content.len() + size);
        bytes.extend_from_slice(content);
        write(&mut bytes);

        let offset = -i64::from(self.content.start);
        let mut children: Children = self.children.iter().map(|child| child.moved(offset)).collect();
        let start = u32::try_from(content.len()).ok()?;
        let end = u32::try_from(bytes.len()).ok()?;
        let name_at = start + 1..start + 1 + u32::try_from(name.len()).ok()?;
        let ns_at = if ns == ns::CLIENT {
            None
        } else {
            let at = name_at.end + u32::try_from(" xmlns='".len()).ok()?;
            Some(at..at + u32::try_from(ns.len()).ok()?)
        };
        let as_read = text(&bytes, &name_at) == name && ns_at.as_ref().is_none_or(|at| text(&bytes, at) == ns);
        children.push(Child { whole: start..end, name: name_at, ns: ns_at });
        as_read.then(|| Body::from_written(bytes, children))
    }
}

impl Body {
    /// A body of `bytes` that hold nothing but `children`.
    fn from_written(bytes: Vec<u8>, children: Children) -> Self {
        match u32::try_from(bytes.len()) {
            Ok(len) if len > 0 => Self::Raw(Arc::new(Raw::new(Bytes::from(bytes), 0..len, children))),
            _ => Self::Empty,
        }
    }

    pub(super) fn edited(elements: Vec<Element>) -> Self {
        if elements.is_empty() { Self::Empty } else { Self::Edited(Arc::new(elements)) }
    }

    pub(super) fn elements(&self) -> &[Element] {
        match self {
            Self::Empty => &[],
            Self::Raw(raw) => raw.elements(),
            Self::Edited(elements) => elements,
        }
    }

    pub(super) fn elements_mut(&mut self) -> &mut Vec<Element> {
        loop {
            *self = match self {
                Self::Edited(elements) => return Arc::make_mut(elements),
                Self::Empty => Self::Edited(Arc::default()),
                Self::Raw(raw) => Self::Edited(Arc::new(raw.elements().to_vec())),
            };
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Raw(raw) => raw.children.len(),
            Self::Edited(elements) => elements.len(),
        }
    }

    /// Where the first child that `wanted` accepts by (namespace, name) stands.
    pub(super) fn position(&self, wanted: impl Fn(&str, &str) -> bool) -> Option<usize> {
        match self {
            Self::Empty => None,
            Self::Raw(raw) => raw.names().position(|(ns, name)| wanted(ns, name)),
            Self::Edited(elements) => elements.iter().position(|e| wanted(e.ns(), e.name())),
        }
    }

    /// The same for one of these (namespace, name): a good deal cheaper.
    pub(super) fn position_of(&self, names: &[(&str, &str)]) -> Option<usize> {
        match self {
            Self::Empty => None,
            Self::Raw(raw) => raw.children.iter().position(|child| raw.is_one_of(child, names)),
            Self::Edited(elements) => elements.iter().position(|e| names.contains(&(e.ns(), e.name()))),
        }
    }

    pub(super) fn child_bytes(&self, position: usize) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Empty => None,
            Self::Raw(raw) => raw.children.get(position).map(|child| Cow::Borrowed(slice(&raw.bytes, &child.whole))),
            Self::Edited(elements) => elements.get(position).map(|element| {
                let mut bytes = Vec::new();
                element.write(&mut bytes, ns::CLIENT);
                Cow::Owned(bytes)
            }),
        }
    }

    /// The bytes of the children that `wanted` accepts by (namespace, name), as they are written.
    pub(super) fn bytes_of(&self, wanted: impl Fn(&str, &str) -> bool) -> Vec<Cow<'_, [u8]>> {
        let kept: SmallVec<[bool; 16]> = match self {
            Self::Empty => SmallVec::new(),
            Self::Raw(raw) => raw.names().map(|(ns, name)| wanted(ns, name)).collect(),
            Self::Edited(elements) => elements.iter().map(|e| wanted(e.ns(), e.name())).collect(),
        };
        let places = kept.iter().enumerate().filter(|(_, wanted)| **wanted);
        places.filter_map(|(place, _)| self.child_bytes(place)).collect()
    }

    pub(super) fn first_name(&self) -> Option<(&str, &str)> {
        match self {
            Self::Empty => None,
            Self::Raw(raw) => raw.names().next(),
            Self::Edited(elements) => elements.first().map(|e| (e.ns(), e.name())),
        }
    }

    pub(super) fn append(&mut self, element: Element) {
        let appended = match self {
            Self::Empty => Raw::new(Bytes::new(), 0..0, Children::new()).with(&element),
            Self::Raw(raw) => raw.with(&element),
            Self::Edited(_) => None,
        };
        match appended {
            Some(body) => *self = body,
            None => self.elements_mut().push(element),
        }
    }

    pub(super) fn append_leaf(&mut self, ns: &'static str, name: &'static str, attrs: &[(&'static str, &str)]) {
        let with = |raw: &Raw| {
            let mut size = escape::Count(0);
            write::write_leaf(&mut size, name, ns, attrs);
            raw.with_written((ns, name), size.0, |bytes| write::write_leaf(bytes, name, ns, attrs))
        };
        let appended = match self {
            Self::Empty => with(&Raw::new(Bytes::new(), 0..0, Children::new())),
            Self::Raw(raw) => with(raw),
            Self::Edited(_) => None,
        };
        match appended {
            Some(body) => *self = body,
            None => self
                .elements_mut()
                .push(attrs.iter().fold(Element::new(name, ns), |element, (name, value)| element.attr(*name, *value))),
        }
    }

    /// Elements become bytes, unless a namespace would not be written as it reads.
    pub(super) fn encode(&mut self) {
        let Self::Edited(elements) = self else { return };
        let none = Raw::new(Bytes::new(), 0..0, Children::new());
        let mut all = None;
        for element in elements.iter() {
            let with = match &all {
                Some(Self::Raw(raw)) => raw.with(element),
                _ => none.with(element),
            };
            let Some(with) = with else { return };
            all = Some(with);
        }
        *self = all.unwrap_or_default();
    }

    /// Whether two share what they hold.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Empty, Self::Empty) => true,
            (Self::Raw(one), Self::Raw(other)) => Arc::ptr_eq(one, other),
            (Self::Edited(one), Self::Edited(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// A single child: `around`, each inside the one before it, and innermost what `inside` writes, about `size` bytes.
    /// `None` if that cannot be kept as bytes.
    pub(super) fn around(around: &[Element], size: usize, inside: impl FnOnce(&mut Vec<u8>)) -> Option<Self> {
        let outermost = around.first()?;
        let none = Raw::new(Bytes::new(), 0..0, Children::new());
        none.with_written((outermost.ns(), outermost.name()), size + 256, |bytes| {
            write::write_around(around, bytes, ns::CLIENT, inside)
        })
    }

    /// Removes children by (namespace, name); says how many.
    pub(super) fn retain_names(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> usize {
        match self {
            Self::Empty => 0,
            Self::Raw(raw) => {
                let kept: SmallVec<[bool; 16]> = raw.names().map(|(ns, name)| keep(ns, name)).collect();
                self.keep(&kept)
            }
            Self::Edited(elements) => {
                let kept: SmallVec<[bool; 16]> = elements.iter().map(|e| keep(e.ns(), e.name())).collect();
                self.keep(&kept)
            }
        }
    }

    /// Removes children by what they are; says how many.
    pub(super) fn retain_elements(&mut self, keep: impl FnMut(&Element) -> bool) -> usize {
        let kept: SmallVec<[bool; 16]> = self.elements().iter().map(keep).collect();
        self.keep(&kept)
    }

    fn keep(&mut self, kept: &[bool]) -> usize {
        let removed = kept.iter().filter(|keep| !**keep).count();
        if removed == 0 {
            return 0;
        }
        match self {
            Self::Empty => {}
            Self::Raw(raw) => *self = raw.without(kept),
            Self::Edited(elements) => {
                let mut kept = kept.iter();
                Arc::make_mut(elements).retain(|_| kept.next().copied().unwrap_or(true));
            }
        }
        removed
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Raw(raw) => raw.content.is_empty(),
            Self::Edited(elements) => elements.is_empty(),
        }
    }

    pub(super) fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Empty => {}
            Self::Raw(raw) => out.put(raw.content()),
            Self::Edited(elements) => {
                for element in elements.iter() {
                    write::write_tree(element, out, ns::CLIENT);
                }
            }
        }
    }
}
