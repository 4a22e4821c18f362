//! Elements as bytes: own `xmlns` whenever it differs from the inherited one, no prefixes but `xml:`, those that
//! prefixed attributes need, and, on request, `stream:`.

use smallvec::SmallVec;

use crate::element::{Element, Node};
use crate::escape::{self, Sink};
use crate::ns::{self, XML, XMLNS};

impl Element {
    /// Writes the element where the default namespace is `inherited_ns`.
    pub fn write(&self, out: &mut Vec<u8>, inherited_ns: &str) {
        write_tree(self, out, inherited_ns);
    }

    /// Writes a child of the stream: like [`Element::write`], but what is in the streams namespace gets the prefix
    /// `stream`, which the stream header declares and old entities insist on (RFC 6120 §4.8.5), and between servers, what
    /// is dialback's gets `db` (XEP-0220 §2).
    pub fn write_in_stream(&self, out: &mut Vec<u8>, content_ns: &str) {
        let prefixes = if content_ns == ns::SERVER { Prefixes::Servers } else { Prefixes::Stream };
        write_with(self, out, content_ns, prefixes);
    }

    /// The element as a document of its own.
    pub fn to_xml(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out, "");
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// The prefixes that a stream header of ours has declared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefixes {
    None,
    Stream,
    Servers,
}

/// Writes `root` and all below it.
pub(crate) fn write_tree(root: &Element, out: &mut impl Sink, inherited_ns: &str) {
    write_with(root, out, inherited_ns, Prefixes::None);
}

fn write_with(root: &Element, out: &mut impl Sink, inherited_ns: &str, prefixes: Prefixes) {
    let mut open: SmallVec<[_; 8]> = SmallVec::new();
    let (mut element, mut default) = (root, inherited_ns);
    let mut nodes = Writer { out, prefixes };
    let mut rest = nodes.start(element, &mut default);
    loop {
        match rest.next() {
            Some(Node::Text(text)) => escape::text(nodes.out, text),
            Some(Node::Element(child)) => {
                open.push((element, default, rest));
                element = child;
                rest = nodes.start(element, &mut default);
            }
            None => {
                nodes.end(element);
                let Some(parent) = open.pop() else { return };
                (element, default, rest) = parent;
            }
        }
    }
}

/// Writes `around`, each inside the one before it and behind what that one holds, and innermost what `inside` writes.
pub(crate) fn write_around(
    around: &[Element],
    out: &mut Vec<u8>,
    inherited_ns: &str,
    inside: impl FnOnce(&mut Vec<u8>),
) {
    let mut default = inherited_ns;
    for element in around {
        let mut writer = Writer { out: &mut *out, prefixes: Prefixes::None };
        for node in writer.open(element, &mut default) {
            match node {
                Node::Text(text) => escape::text(out, text),
                Node::Element(child) => write_tree(child, out, default),
            }
        }
    }
    inside(out);
    for element in around.iter().rev() {
        Writer { out: &mut *out, prefixes: Prefixes::None }.close(element);
    }
}

/// Writes an element with nothing inside, in a namespace of its own.
pub(crate) fn write_leaf(out: &mut impl Sink, name: &str, ns: &str, attrs: &[(&str, &str)]) {
    out.put(b"<");
    out.put(name.as_bytes());
    escape::attr_pair(out, "xmlns", ns);
    for (name, value) in attrs {
        escape::attr_pair(out, name, value);
    }
    out.put(b"/>");
}

struct Writer<'o, S> {
    out: &'o mut S,
    prefixes: Prefixes,
}

impl<S: Sink> Writer<'_, S> {
    /// Writes the start tag, or the whole of an empty element; `default` becomes the namespace inside.
    fn start<'e>(&mut self, element: &'e Element, default: &mut &'e str) -> std::slice::Iter<'e, Node> {
        self.begin(element, default);
        self.out.put(if element.nodes().is_empty() { b"/>" } else { b">" });
        element.nodes().iter()
    }

    /// Writes the start tag of an element that something more will stand in.
    fn open<'e>(&mut self, element: &'e Element, default: &mut &'e str) -> std::slice::Iter<'e, Node> {
        self.begin(element, default);
        self.out.put(b">");
        element.nodes().iter()
    }

    fn begin<'e>(&mut self, element: &'e Element, default: &mut &'e str) {
        self.out.put(b"<");
        self.name(element);
        let ns = element.ns();
        if self.prefix(ns).is_none() && ns != *default {
            // The namespace of declarations cannot be declared: nothing legal is in it.
            let ns = if ns == XMLNS { "" } else { ns };
            escape::attr_pair(self.out, "xmlns", ns);
            *default = ns;
        }
        self.attributes(element);
    }

    fn end(&mut self, element: &Element) {
        if !element.nodes().is_empty() {
            self.close(element);
        }
    }

    fn close(&mut self, element: &Element) {
        self.out.put(b"</");
        self.name(element);
        self.out.put(b">");
    }

    fn name(&mut self, element: &Element) {
        if let Some(prefix) = self.prefix(element.ns()) {
            self.out.put(prefix);
        }
        self.out.put(element.name().as_bytes());
    }

    fn prefix(&self, namespace: &str) -> Option<&'static [u8]> {
        match namespace {
            XML => Some(b"xml:"),
            ns::STREAMS if self.prefixes != Prefixes::None => Some(b"stream:"),
            ns::DIALBACK if self.prefixes == Prefixes::Servers => Some(b"db:"),
            _ => None,
        }
    }

    fn attributes(&mut self, element: &Element) {
        let mut foreign: SmallVec<[&str; 4]> = SmallVec::new();
        for attr in &element.attrs {
            match attr.ns.as_str() {
                "" | XMLNS => escape::attr_pair(self.out, &attr.name, &attr.value),
                XML => {
                    self.out.put(b" xml:");
                    self.value(&attr.name, &attr.value);
                }
                ns => {
                    let known = foreign.iter().position(|known| *known == ns);
                    let number = known.unwrap_or(foreign.len());
                    if known.is_none() {
                        foreign.push(ns);
                        self.out.put(b" xmlns:");
                        self.numbered(number);
                        self.value("", ns);
                    }
                    self.out.put(b" ");
                    self.numbered(number);
                    self.out.put(b":");
                    self.value(&attr.name, &attr.value);
                }
            }
        }
    }

    /// A prefix for prefixed attributes: `ns0`, `ns1`, ... anew in each element.
    fn numbered(&mut self, mut number: usize) {
        let mut digits: SmallVec<[u8; 20]> = SmallVec::new();
        loop {
            digits.push(b'0' + u8::try_from(number % 10).unwrap_or_default());
            number /= 10;
            if number == 0 {
                break;
            }
        }
        digits.reverse();
        self.out.put(b"ns");
        self.out.put(&digits);
    }

    fn value(&mut self, name: &str, value: &str) {
        self.out.put(name.as_bytes());
        self.out.put(b"='");
        escape::attr(self.out, value);
        self.out.put(b"'");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(element: &Element, inherited: &str, written: &str) {
        let mut out = Vec::new();
        element.write(&mut out, inherited);
        assert_eq!(String::from_utf8(out).unwrap(), written);
    }

    #[test]
    fn namespaces_are_declared_where_they_change() {
        let e = Element::new("a", "urn:1")
            .child(Element::new("b", "urn:1").child(Element::new("c", "urn:2").text("<t>")))
            .child(Element::new("d", "").child(Element::new("e", "urn:1")));
        check(&e, "urn:1", "<a><b><c xmlns='urn:2'>&lt;t&gt;</c></b><d xmlns=''><e xmlns='urn:1'/></d></a>");
        check(&Element::new("a", "urn:1"), "jabber:client", "<a xmlns='urn:1'/>");
        check(&Element::new("a", "urn:'<"), "", "<a xmlns='urn:&apos;&lt;'/>");
    }

    #[test]
    fn the_xml_prefix_is_never_declared() {
        check(
            &Element::new("a", XML).attr("xml:lang", "de").child(Element::new("b", "urn:1")),
            "",
            "<xml:a xml:lang='de'><b xmlns='urn:1'/></xml:a>",
        );
        check(&Element::new("a", XMLNS), "", "<a xmlns=''/>");
    }

    #[test]
    fn stream_children_may_carry_the_stream_prefix() {
        let e = Element::new("features", ns::STREAMS)
            .child(Element::new("bind", ns::BIND))
            .child(Element::new("x", ns::CLIENT));
        let mut out = Vec::new();
        e.write_in_stream(&mut out, ns::CLIENT);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><x/></stream:features>"
        );
    }
}
