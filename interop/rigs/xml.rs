//! Looks into the bytes of one element: names, attributes of the start tag, the text of a child. For the short and plain XML
//! that servers write; no parser.

use std::borrow::Cow;
use std::fmt::Write as _;

use memchr::{memchr, memmem};

/// The element's name with its prefix.
pub fn name(element: &[u8]) -> &[u8] {
    let inside = element.get(1..).unwrap_or_default();
    let end = inside.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>'));
    &inside[..end.unwrap_or(inside.len())]
}

/// An attribute of the start tag.
pub fn attribute<'a>(element: &'a [u8], wanted: &str) -> Option<Cow<'a, str>> {
    let mut rest = &element[1 + name(element).len()..];
    loop {
        rest = rest.trim_ascii_start();
        if matches!(rest.first(), None | Some(b'>' | b'/')) {
            return None;
        }
        let equals = memchr(b'=', rest)?;
        let key = rest[..equals].trim_ascii_end();
        let value = rest[equals + 1..].trim_ascii_start();
        let quote = *value.first()?;
        let end = memchr(quote, &value[1..])? + 1;
        if key == wanted.as_bytes() {
            return Some(unescape(&value[1..end]));
        }
        rest = &value[end + 1..];
    }
}

/// The first element with this name, this one or a descendant: from its start tag to this element's end.
pub fn child<'a>(element: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut from = 0;
    while let Some(at) = memchr(b'<', &element[from..]) {
        let here = &element[from + at..];
        if name(here) == wanted.as_bytes() {
            return Some(here);
        }
        from += at + 1;
    }
    None
}

/// The text at the start of such an element.
pub fn text<'a>(element: &'a [u8], wanted: &str) -> Option<Cow<'a, str>> {
    let child = child(element, wanted)?;
    let open = memchr(b'>', child)?;
    if child[open - 1] == b'/' {
        return Some(Cow::Borrowed(""));
    }
    let inside = &child[open + 1..];
    Some(unescape(&inside[..memchr(b'<', inside)?]))
}

/// Whether the bytes hold this text anywhere.
pub fn holds(element: &[u8], text: &str) -> bool {
    memmem::find(element, text.as_bytes()).is_some()
}

/// The name of the first child that is not `<text/>`: the condition in `<failure/>`, `<failed/>`, `<stream:error/>`, `<error/>`.
pub fn condition(element: &[u8]) -> String {
    let mut from = 1;
    while let Some(at) = memchr(b'<', &element[from..]) {
        let found = name(&element[from + at..]);
        if !found.is_empty() && found != b"text" && !found.starts_with(b"/") {
            return String::from_utf8_lossy(found).into_owned();
        }
        from += at + 1;
    }
    String::new()
}

/// Text as it is written between quotes or tags.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

fn unescape(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains('&') {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (entity, tail) = after.split_once(';').unwrap_or((after, ""));
        match entity {
            "lt" => out.push('<'),
            "gt" => out.push('>'),
            "amp" => out.push('&'),
            "apos" => out.push('\''),
            "quot" => out.push('"'),
            other => {
                let code = other.strip_prefix("#x").map_or_else(
                    || other.strip_prefix('#').and_then(|code| code.parse().ok()),
                    |code| u32::from_str_radix(code, 16).ok(),
                );
                match code.and_then(char::from_u32) {
                    Some(character) => out.push(character),
                    None => write!(out, "&{other};").expect("a String takes all"),
                }
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] =
        b"<message to='a@b/c' id=\"x&apos;1&#x21;\"><thread/><body>1 &lt; 2</body><error type='wait'><text>no</text><conflict/></error></message>";

    #[test]
    fn attributes_and_children_are_found() {
        assert_eq!(name(MESSAGE), b"message");
        assert_eq!(attribute(MESSAGE, "id").unwrap(), "x'1!");
        assert_eq!(attribute(MESSAGE, "to").unwrap(), "a@b/c");
        assert_eq!(attribute(MESSAGE, "from"), None);
        assert_eq!(attribute(b"<a h='1'/>", "h").unwrap(), "1");
        assert_eq!(attribute(b"<a/>", "h"), None);
        assert_eq!(text(MESSAGE, "body").unwrap(), "1 < 2");
        assert_eq!(text(MESSAGE, "thread").unwrap(), "");
        assert_eq!(text(MESSAGE, "subject"), None);
        assert_eq!(condition(child(MESSAGE, "error").unwrap()), "conflict");
        assert_eq!(unescape(escape("<a b='\"&\"'>").as_bytes()), "<a b='\"&\"'>");
    }
}
