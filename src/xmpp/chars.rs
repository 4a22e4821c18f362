//! XML 1.0 character classes: which characters a document, a name and a namespace may hold.
//!
//! Names are those of Namespaces in XML 1.0 (no colon inside). Spaces are XML's four, not Unicode's.

mod wide;

/// Space, tab, line feed, carriage return: XML 1.0 production `S`.
#[inline]
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// XML 1.0 production `Char`: what text and attribute values may hold, written out or as a reference.
#[inline]
pub(crate) const fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// Whether every character of `text` is legal in an XML document.
///
/// Beyond UTF-8 itself that leaves the C0 controls and U+FFFE and U+FFFF to look for.
pub(crate) fn is_xml_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    // No early exit: this way the loop is one the compiler turns into wide instructions.
    let control = bytes.iter().fold(false, |found, &b| found | (b < 0x20 && !is_space(b)));
    !control && !memchr::memchr_iter(0xEF, bytes).any(|at| is_nonchar(bytes.get(at..).unwrap_or_default()))
}

/// U+FFFE and U+FFFF in UTF-8.
#[inline]
pub(crate) fn is_nonchar(bytes: &[u8]) -> bool {
    matches!(bytes, [0xEF, 0xBF, 0xBE | 0xBF, ..])
}

const START: u8 = 1;
const PART: u8 = 2;
const NO_URI: u8 = 4;

/// What an ASCII byte may be in a name or must not be in a URI; bytes of other characters have no bit.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const ASCII: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        if b <= b' ' || matches!(b, 0x7F | b'{' | b'}' | b'|' | b'<' | b'>' | b'"' | b'\\' | b'^' | b'`') {
            table[byte] = NO_URI;
        } else if b.is_ascii_alphabetic() || b == b'_' {
            table[byte] = START | PART;
        } else if b.is_ascii_digit() || b == b'-' || b == b'.' {
            table[byte] = PART;
        }
        byte += 1;
    }
    table
};

#[inline]
fn class(byte: u8) -> u8 {
    ASCII.get(usize::from(byte)).copied().unwrap_or_default()
}

/// The length of the run of ASCII name characters that `text` begins with.
#[inline]
pub(crate) fn plain_name_len(text: &str) -> usize {
    text.bytes().take_while(|b| class(*b) & PART != 0).count()
}

/// Whether `name` is an NCName: what an element, an attribute or a prefix may be called.
#[inline]
pub(crate) fn is_ncname(name: &str) -> bool {
    match name.as_bytes() {
        [first, rest @ ..] if class(*first) & START != 0 && rest.iter().all(|b| class(*b) & PART != 0) => true,
        _ => is_wide_ncname(name),
    }
}

#[cold]
fn is_wide_ncname(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(is_name_start) && chars.all(is_name_part)
}

/// May stand first in a name.
pub(crate) fn is_name_start(c: char) -> bool {
    match u8::try_from(c) {
        Ok(byte) if c.is_ascii() => class(byte) & START != 0,
        _ => is_in(&wide::STARTS, c),
    }
}

/// May stand in a name after its first character.
pub(crate) fn is_name_part(c: char) -> bool {
    match u8::try_from(c) {
        Ok(byte) if c.is_ascii() => class(byte) & PART != 0,
        _ => is_in(&wide::STARTS, c) || is_in(&wide::PARTS, c),
    }
}

fn is_in(table: &[u16], c: char) -> bool {
    u16::try_from(u32::from(c)).is_ok_and(|c| table.partition_point(|edge| *edge <= c) % 2 == 1)
}

/// Whether `uri` can name a namespace without being mistaken by parsers that join namespace and name with
/// a separator (expat with `\n`, `|` or space; ElementTree with `{}`). None of these is legal in a URI.
pub(crate) fn is_namespace_name(uri: &str) -> bool {
    uri.bytes().all(|b| class(b) & NO_URI == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b8_control_characters_and_noncharacters_are_no_xml() {
        for bad in ["\0", "a\u{1}", "\u{8}", "\u{B}", "\u{1F}", "x\u{FFFE}", "\u{FFFF}y"] {
            assert!(!is_xml_text(bad), "{bad:?}");
            assert!(bad.chars().any(|c| !is_xml_char(c)), "{bad:?}");
        }
        for good in ["", "\t\r\n", "\u{7F}\u{85}", "\u{FFFD}\u{FEFF}\u{10FFFF}", "naïve ﬀ"] {
            assert!(is_xml_text(good), "{good:?}");
            assert!(good.chars().all(is_xml_char), "{good:?}");
        }
    }

    #[test]
    fn b6_names_hold_no_separators() {
        for bad in ["", "1a", "-a", "a b", "a\nb", "a|b", "a{b", "{urn:x}b", "a:b", "a\u{1}b", "a=", "a/", "é\u{D7}"] {
            assert!(!is_ncname(bad), "{bad:?}");
        }
        for good in ["a", "_", "stanza-id", "x.1", "é", "日本語", "a\u{B7}"] {
            assert!(is_ncname(good), "{good:?}");
        }
        for bad in ["a b", "a\nb", "urn:x}name", "{urn:x", "a|b"] {
            assert!(!is_namespace_name(bad), "{bad:?}");
        }
        assert!(is_namespace_name("http://jabber.org/protocol/muc#user"));
    }
}
