//! Writing text so that every parser reads back what was meant.
//!
//! Line ends and tabs in attributes become character references, since attribute normalisation (XML 1.0 §3.3.3)
//! would turn them into spaces; so does a carriage return in text (§2.11). Characters that XML cannot hold at all
//! become U+FFFD: text may come from a database or an API, and must not break the stream of whoever receives it.

use crate::chars;

/// Where XML is written to: a buffer, or a mere count of bytes.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    /// Character data, or with [`ATTR`] the inside of an attribute value.
    fn put_escaped(&mut self, text: &str, place: u8);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_escaped(&mut self, text: &str, place: u8) {
        escape(self, text, place);
    }
}

/// Counts what would be written, as if nothing had to be escaped: it is asked several times of each stanza, for bounds
/// of what is held, and what is held is not escaped.
pub(crate) struct Count(pub(crate) usize);

impl Sink for Count {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }

    #[inline]
    fn put_escaped(&mut self, text: &str, _: u8) {
        self.put(text.as_bytes());
    }
}

const TEXT: u8 = 1;
const ATTR: u8 = 2;

/// Bytes that may need a second look, in text or in attribute values.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const SPECIAL: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = TEXT | ATTR;
        byte += 1;
    }
    table[b'\t' as usize] = ATTR;
    table[b'\n' as usize] = ATTR;
    table[b'<' as usize] = TEXT | ATTR;
    table[b'>' as usize] = TEXT | ATTR;
    table[b'&' as usize] = TEXT | ATTR;
    table[b'\'' as usize] = ATTR;
    table[b'"' as usize] = ATTR;
    // The first byte of U+FFFE and U+FFFF.
    table[0xEF] = TEXT | ATTR;
    table
};

/// Writes character data.
pub(crate) fn text(out: &mut impl Sink, text: &str) {
    out.put_escaped(text, TEXT);
}

/// Writes the inside of an attribute value, for either kind of quotes.
pub(crate) fn attr(out: &mut impl Sink, value: &str) {
    out.put_escaped(value, ATTR);
}

/// Writes ` name='value'`.
pub(crate) fn attr_pair(out: &mut impl Sink, name: &str, value: &str) {
    out.put(b" ");
    out.put(name.as_bytes());
    out.put(b"='");
    attr(out, value);
    out.put(b"'");
}

/// Bytes that are looked at together.
const BLOCK: usize = 16;

/// Whether nothing in a block needs a second look, wherever it stands. No early exit and no table: this way the loop is
/// one that the compiler turns into wide instructions.
fn is_plain(block: &[u8; BLOCK]) -> bool {
    !block.iter().fold(false, |found, &b| {
        // With one bit set, `"`, `&` and `'` are the same; so are `<` and `>`.
        found | (b < 0x20) | (b | 0b101 == b'\'') | (b | 0b10 == b'>') | (b == 0xEF)
    })
}

/// Where the first byte is that needs a second look.
fn find_special(bytes: &[u8], place: u8) -> Option<usize> {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let plain = blocks.iter().take_while(|block| is_plain(block)).count() * BLOCK;
    let special = |b: &u8| SPECIAL.get(usize::from(*b)).is_some_and(|s| s & place != 0);
    bytes.get(plain..)?.iter().position(special).map(|at| plain + at)
}

fn escape(out: &mut Vec<u8>, text: &str, place: u8) {
    let mut rest = text.as_bytes();
    while let Some((plain, [byte, tail @ ..])) = find_special(rest, place).map(|at| rest.split_at(at)) {
        out.put(plain);
        let (written, len): (&[u8], _) = match byte {
            b'<' => (b"&lt;", 1),
            b'>' => (b"&gt;", 1),
            b'&' => (b"&amp;", 1),
            b'\'' => (b"&apos;", 1),
            b'"' => (b"&quot;", 1),
            b'\t' => (b"&#9;", 1),
            b'\n' => (b"&#10;", 1),
            b'\r' => (b"&#13;", 1),
            0xEF if !chars::is_nonchar(rest.get(plain.len()..).unwrap_or_default()) => (&[0xEF], 1),
            0xEF => ("\u{FFFD}".as_bytes(), 3),
            _ => ("\u{FFFD}".as_bytes(), 1),
        };
        out.put(written);
        rest = tail.get(len - 1..).unwrap_or_default();
    }
    out.put(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(place: fn(&mut Vec<u8>, &str), input: &str, output: &str) {
        let mut out = Vec::new();
        place(&mut out, input);
        assert_eq!(String::from_utf8(out).unwrap(), output);
    }

    #[test]
    fn text_and_attributes_survive_normalisation() {
        check(text, "a<b>&'\"\r\n\t", "a&lt;b&gt;&amp;'\"&#13;\n\t");
        check(attr, "a<b>&'\"\r\n\t", "a&lt;b&gt;&amp;&apos;&quot;&#13;&#10;&#9;");
        check(text, "]]>", "]]&gt;");
        check(text, "", "");
    }

    #[test]
    fn what_needs_a_second_look_is_found_wherever_it_stands() {
        for place in [TEXT, ATTR] {
            for byte in 0..=0x7F_u8 {
                let special = SPECIAL[usize::from(byte)] & place != 0;
                for (before, after) in [(0, 0), (5, 40), (15, 0), (16, 1), (40, 3)] {
                    let text = format!("{}{}{}", "é".repeat(before), char::from(byte), "x".repeat(after));
                    assert_eq!(find_special(text.as_bytes(), place), special.then_some(2 * before), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn b8_what_xml_cannot_hold_is_replaced() {
        check(text, "a\u{1}b\0c\u{FFFE}d\u{FFFF}", "a\u{FFFD}b\u{FFFD}c\u{FFFD}d\u{FFFD}");
        check(attr, "\u{1F}\u{FEFF}\u{FFFD}ﬀ", "\u{FFFD}\u{FEFF}\u{FFFD}ﬀ");
    }
}
