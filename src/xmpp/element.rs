//! An XML element as a tree: what modules build, read and edit.
//!
//! Namespaces are resolved; prefixes are gone. Nothing here recurses on depth, `Drop` included: an element may be
//! nested as deep as memory allows. Reading one from bytes is in `parser.rs`, writing in `write.rs`.

use std::fmt;
use std::slice;

use crate::name::{Name, Namespace};

/// An element: a name in a namespace, attributes, and text and elements inside.
///
/// Equality ignores the order of attributes, as XML does.
pub struct Element {
    pub(crate) name: Name,
    pub(crate) ns: Namespace,
    pub(crate) attrs: Vec<Attribute>,
    nodes: Vec<Node>,
}

/// What stands inside an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Character data with every reference resolved.
    Text(String),
}

/// An attribute; `ns` is empty unless it was prefixed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) ns: Namespace,
    pub(crate) name: Name,
    pub(crate) value: String,
}

impl Attribute {
    fn is(&self, name: &str) -> bool {
        match name.strip_prefix("xml:") {
            Some(name) => self.ns == Namespace::XML && *self.name == *name,
            None => self.ns.is_empty() && *self.name == *name,
        }
    }
}

impl Element {
    /// An empty element `name` in namespace `ns`.
    pub fn new(name: impl Into<Name>, ns: impl Into<Namespace>) -> Self {
        Self { name: name.into(), ns: ns.into(), attrs: Vec::new(), nodes: Vec::new() }
    }

    /// Sets an attribute; `xml:lang` is the name of the language.
    #[must_use]
    pub fn attr(mut self, name: impl Into<Name> + AsRef<str>, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets an attribute if there is a value for it.
    #[must_use]
    pub fn attr_opt(mut self, name: impl Into<Name> + AsRef<str>, value: Option<impl Into<String>>) -> Self {
        if let Some(value) = value {
            self.set(name, value);
        }
        self
    }

    /// Adds a child element.
    #[must_use]
    pub fn child(mut self, child: Self) -> Self {
        self.push(child);
        self
    }

    /// Adds child elements.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.nodes.extend(children.into_iter().map(Node::Element));
        self
    }

    /// Adds text; it is escaped when written.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.push_text(text);
        self
    }

    /// Sets an attribute, replacing any former value.
    pub fn set(&mut self, name: impl Into<Name> + AsRef<str>, value: impl Into<String>) {
        let value = value.into();
        match self.attrs.iter_mut().find(|a| a.is(name.as_ref())) {
            Some(attr) => attr.value = value,
            None => {
                let (ns, name) = match name.as_ref().strip_prefix("xml:") {
                    Some(name) => (Namespace::XML, Name::from(name.to_owned())),
                    None => (Namespace::NONE, name.into()),
                };
                self.attrs.push(Attribute { ns, name, value });
            }
        }
    }

    /// Removes an attribute.
    pub fn unset(&mut self, name: &str) {
        self.attrs.retain(|a| !a.is(name));
    }

    /// Adds a child element.
    pub fn push(&mut self, child: Self) {
        self.nodes.push(Node::Element(child));
    }

    /// Adds text behind what is there; joined with text that stands last.
    pub fn push_text(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.extend_text(|last| if last.is_empty() { *last = text } else { last.push_str(&text) });
    }

    /// Keeps the child elements for which `keep` says so; text stays.
    pub fn retain(&mut self, mut keep: impl FnMut(&Self) -> bool) {
        self.nodes.retain(|node| match node {
            Node::Element(child) => keep(child),
            Node::Text(_) => true,
        });
        // Texts that became neighbours are one text: equality must not depend on how a tree came about.
        self.nodes.dedup_by(|later, earlier| match (later, earlier) {
            (Node::Text(later), Node::Text(earlier)) => {
                earlier.push_str(later);
                true
            }
            _ => false,
        });
    }

    /// Removes the first child element of that name and returns it.
    pub fn take(&mut self, name: &str, ns: &str) -> Option<Self> {
        let at = self.nodes.iter().position(|n| matches!(n, Node::Element(e) if e.is(name, ns)))?;
        let Node::Element(child) = self.nodes.remove(at) else {
            return None;
        };
        self.retain(|_| true);
        Some(child)
    }

    /// The child elements, to be changed in place.
    pub fn elements_mut(&mut self) -> impl Iterator<Item = &mut Self> {
        self.nodes.iter_mut().filter_map(|node| match node {
            Node::Element(child) => Some(child),
            Node::Text(_) => None,
        })
    }

    /// The first child element of that name, to be changed in place.
    pub fn find_mut(&mut self, name: &str, ns: &str) -> Option<&mut Self> {
        self.elements_mut().find(|child| child.is(name, ns))
    }

    /// The local name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace name; empty for none.
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// Whether this is element `name` of namespace `ns`.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        *self.name == *name && *self.ns == *ns
    }

    /// An attribute's value; of the prefixed ones only `xml:` are found here.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|a| a.is(name)).map(|a| a.value.as_str())
    }

    /// The value of an attribute that is in a namespace.
    pub fn get_ns(&self, name: &str, ns: &str) -> Option<&str> {
        self.attrs.iter().find(|a| *a.name == *name && *a.ns == *ns).map(|a| a.value.as_str())
    }

    /// All attributes as (namespace, name, value); the namespace is mostly empty.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.attrs.iter().map(|a| (&*a.ns, &*a.name, a.value.as_str()))
    }

    /// The child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Self> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(child) => Some(child),
            Node::Text(_) => None,
        })
    }

    /// The first child element of that name.
    pub fn find(&self, name: &str, ns: &str) -> Option<&Self> {
        self.elements().find(|child| child.is(name, ns))
    }

    /// The element's own text; that of children is not part of it.
    pub fn content(&self) -> String {
        let mut content = String::new();
        for node in &self.nodes {
            if let Node::Text(text) = node {
                content.push_str(text);
            }
        }
        content
    }

    /// Text and elements in their order. Neighbouring texts are joined, none is empty.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Adds to the text that stands last, or makes one.
    pub(crate) fn extend_text(&mut self, add: impl FnOnce(&mut String)) {
        if let Some(Node::Text(last)) = self.nodes.last_mut() {
            return add(last);
        }
        let mut text = String::new();
        add(&mut text);
        if !text.is_empty() {
            self.nodes.push(Node::Text(text));
        }
    }

    /// The element without what is inside.
    fn shell(&self) -> Self {
        Self {
            name: self.name.clone(),
            ns: self.ns.clone(),
            attrs: self.attrs.clone(),
            nodes: Vec::with_capacity(self.nodes.len()),
        }
    }

    fn is_nested(&self) -> bool {
        self.nodes.iter().any(|n| matches!(n, Node::Element(_)))
    }
}

impl Clone for Element {
    fn clone(&self) -> Self {
        let mut parents: Vec<(Self, slice::Iter<'_, Node>)> = Vec::new();
        let (mut copy, mut nodes) = (self.shell(), self.nodes.iter());
        loop {
            match nodes.next() {
                Some(Node::Text(text)) => copy.nodes.push(Node::Text(text.clone())),
                Some(Node::Element(child)) => {
                    let parent = std::mem::replace(&mut copy, child.shell());
                    parents.push((parent, std::mem::replace(&mut nodes, child.nodes.iter())));
                }
                None => {
                    let Some((parent, rest)) = parents.pop() else {
                        return copy;
                    };
                    let child = std::mem::replace(&mut copy, parent);
                    copy.nodes.push(Node::Element(child));
                    nodes = rest;
                }
            }
        }
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        let mut pairs = vec![(self, other)];
        while let Some((a, b)) = pairs.pop() {
            // Attributes are unique in an element, so that one inclusion and equal length make equality.
            if a.name != b.name
                || a.ns != b.ns
                || a.attrs.len() != b.attrs.len()
                || a.nodes.len() != b.nodes.len()
                || !a.attrs.iter().all(|attr| b.attrs.contains(attr))
            {
                return false;
            }
            for pair in a.nodes.iter().zip(&b.nodes) {
                match pair {
                    (Node::Text(a), Node::Text(b)) if a == b => {}
                    (Node::Element(a), Node::Element(b)) => pairs.push((a, b)),
                    _ => return false,
                }
            }
        }
        true
    }
}

impl Eq for Element {}

impl Drop for Element {
    fn drop(&mut self) {
        if !self.elements().any(Self::is_nested) {
            return;
        }
        let mut doomed = std::mem::take(&mut self.nodes);
        while let Some(node) = doomed.pop() {
            if let Node::Element(mut child) = node {
                doomed.append(&mut child.nodes);
            }
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_xml())
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_xml())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep(depth: usize) -> Element {
        let mut element = Element::new("leaf", "urn:x").text("x");
        for _ in 0..depth {
            element = Element::new("e", "urn:x").child(element);
        }
        element
    }

    #[test]
    fn b5_depth_costs_no_stack() {
        let element = deep(100_000);
        let copy = element.clone();
        assert!(copy == element);
        assert!(copy != deep(99_999));
        assert_eq!(element.to_xml().len(), copy.to_xml().len());
        drop(copy);
        // A wide and deep tree takes the other way through Drop.
        let wide = Element::new("w", "urn:x").child(Element::new("a", "")).child(element).child(deep(3));
        drop(wide);
    }

    #[test]
    fn attributes_are_set_replaced_and_removed() {
        let mut e = Element::new("x", "urn:x").attr("a", "1").attr("a", "2").attr("xml:lang", "de");
        assert_eq!((e.get("a"), e.get("xml:lang"), e.get("lang")), (Some("2"), Some("de"), None));
        assert_eq!(e.attributes().count(), 2);
        e.unset("xml:lang");
        assert_eq!(e.get("xml:lang"), None);
        let e = e.attr_opt("b", None::<String>).attr_opt("c", Some("3"));
        assert_eq!((e.get("b"), e.get("c")), (None, Some("3")));
    }

    #[test]
    fn attribute_order_does_not_matter_but_values_do() {
        let a = Element::new("x", "").attr("a", "1").attr("b", "2");
        assert_eq!(a, Element::new("x", "").attr("b", "2").attr("a", "1"));
        assert_ne!(a, Element::new("x", "").attr("b", "2").attr("a", "2"));
        assert_ne!(a, Element::new("x", "").attr("a", "1"));
    }

    #[test]
    fn neighbouring_texts_are_one() {
        let mut e = Element::new("x", "").text("a").text("").child(Element::new("y", "")).text("b");
        assert_eq!((e.nodes().len(), e.content()), (3, "ab".to_owned()));
        e.retain(|_| false);
        assert_eq!(e, Element::new("x", "").text("ab"));
    }

    #[test]
    fn children_are_found_by_both_name_and_namespace() {
        let mut e = Element::new("x", "").child(Element::new("a", "urn:1")).child(Element::new("a", "urn:2").text("2"));
        assert_eq!(e.find("a", "urn:2").map(Element::content), Some("2".to_owned()));
        assert!(e.find("a", "").is_none());
        assert_eq!(e.take("a", "urn:2").map(|e| e.content()), Some("2".to_owned()));
        assert_eq!(e.elements().count(), 1);
    }
}
