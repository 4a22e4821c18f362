//! Finds the elements of an XMPP stream (RFC 6120 §4) as fast as memory allows: no tree, no names, no namespaces, only where
//! each child of the stream begins and ends. It trusts the server to be well-formed and stops at what XMPP forbids
//! (RFC 6120 §11.1). What is inside an element is for [`crate::xml`].

use memchr::{memchr, memchr3, memmem};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The stream's header.
    Header,
    /// A whole child of the stream.
    Element,
    /// The stream's end tag.
    End,
}

/// Something found, by its place in the scanner's buffer. Valid until the buffer is filled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    start: usize,
    end: usize,
}

/// The bytes are no XMPP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server sent a comment, a DOCTYPE, or an end tag too many")]
pub struct Malformed;

/// Bytes that were read, and how far they were looked at.
#[derive(Debug, Default)]
pub struct Scanner {
    buffer: Vec<u8>,
    start: usize,
    pos: usize,
    depth: usize,
}

impl Scanner {
    /// Where to append what was read. Forgets what was handed out before: no [`Token`] survives.
    pub fn room(&mut self) -> &mut Vec<u8> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.pos = 0;
            self.start = 0;
        } else if self.start > 16 << 10 {
            self.buffer.drain(..self.start);
            self.pos -= self.start;
            self.start = 0;
        }
        &mut self.buffer
    }

    /// The next complete item of the stream, if there is one.
    pub fn scan(&mut self) -> Result<Option<Token>, Malformed> {
        loop {
            let Some(open) = memchr(b'<', &self.buffer[self.pos..]).map(|at| at + self.pos) else {
                self.pos = self.buffer.len();
                if self.depth <= 1 {
                    self.start = self.pos;
                }
                return Ok(None);
            };
            self.pos = open;
            if self.depth <= 1 {
                self.start = open;
            }
            let Some(end) = self.tag_end(open)? else { return Ok(None) };
            self.pos = end;
            let inside = &self.buffer[open + 1..end - 1];
            let kind = match inside.first() {
                Some(b'?' | b'!') => continue,
                Some(b'/') => {
                    self.depth = self.depth.checked_sub(1).ok_or(Malformed)?;
                    match self.depth {
                        0 => Kind::End,
                        1 => Kind::Element,
                        _ => continue,
                    }
                }
                _ => {
                    let empty = inside.last() == Some(&b'/');
                    let depth = self.depth;
                    if !empty {
                        self.depth += 1;
                    }
                    match (depth, empty) {
                        (0, _) => Kind::Header,
                        (1, true) => Kind::Element,
                        _ => continue,
                    }
                }
            };
            let token = Token { kind, start: self.start, end };
            self.start = end;
            return Ok(Some(token));
        }
    }

    /// A token's bytes.
    pub fn bytes(&self, token: Token) -> &[u8] {
        &self.buffer[token.start..token.end]
    }

    /// The stream begins anew (after STARTTLS or SASL); bytes that are there already belong to the new one.
    pub fn restart(&mut self) {
        self.depth = 0;
    }

    /// Bytes after the last complete item: part of one that has not arrived whole.
    pub fn unfinished(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn tag_end(&self, open: usize) -> Result<Option<usize>, Malformed> {
        let rest = &self.buffer[open..];
        if rest.starts_with(b"<!") {
            const CDATA: &[u8] = b"<![CDATA[";
            if rest.len() < CDATA.len() && CDATA.starts_with(rest) {
                return Ok(None);
            }
            if !rest.starts_with(CDATA) || self.depth < 2 {
                return Err(Malformed);
            }
            return Ok(memmem::find(rest, b"]]>").map(|at| open + at + 3));
        }
        let mut at = 1;
        while let Some(found) = memchr3(b'>', b'"', b'\'', &rest[at..]) {
            let byte = rest[at + found];
            at += found + 1;
            if byte == b'>' {
                return Ok(Some(open + at));
            }
            match memchr(byte, &rest[at..]) {
                Some(close) => at += close + 1,
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b"<?xml version='1.0'?><stream:stream id='a>b' xmlns='jabber:client'> <a/>\n<message a=\"'/>\"><body>x &lt; \
        <![CDATA[</body>]]></body><x/></message><r xmlns='urn:xmpp:sm:3'/></stream:stream>";

    fn scan(chunk: usize) -> Vec<(Kind, String)> {
        let mut scanner = Scanner::default();
        let mut found = Vec::new();
        for piece in STREAM.chunks(chunk) {
            scanner.room().extend_from_slice(piece);
            while let Some(token) = scanner.scan().unwrap() {
                found.push((token.kind, String::from_utf8(scanner.bytes(token).to_vec()).unwrap()));
            }
        }
        assert_eq!(scanner.unfinished(), 0);
        found
    }

    #[test]
    fn elements_are_found_however_the_bytes_are_cut() {
        let whole = scan(STREAM.len());
        assert_eq!(
            whole.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            [Kind::Header, Kind::Element, Kind::Element, Kind::Element, Kind::End]
        );
        assert!(whole[2].1.starts_with("<message") && whole[2].1.ends_with("</message>"));
        for chunk in 1..40 {
            assert_eq!(scan(chunk), whole, "in pieces of {chunk}");
        }
    }

    #[test]
    fn comments_and_surplus_end_tags_are_refused() {
        for bad in ["<s><!-- -->", "<!DOCTYPE s>", "<s></s></s>"] {
            let mut scanner = Scanner::default();
            scanner.room().extend_from_slice(bad.as_bytes());
            let outcome = loop {
                match scanner.scan() {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            };
            assert_eq!(outcome, Err(Malformed), "{bad}");
        }
    }
}
