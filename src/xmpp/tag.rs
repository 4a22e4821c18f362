//! The inside of a tag: names, attributes and references, by the letter of XML 1.0 and its namespaces.
//!
//! This is what the tokeniser does not check: legal names, space between attributes, no `<` in values, and references to
//! nothing but characters that XML can hold.

use std::borrow::Cow;

use crate::chars::{is_namespace_name, is_ncname, is_space, is_xml_char, plain_name_len};
use crate::error::{StreamCondition, StreamError};
use crate::limits::{not_well_formed, restricted};

/// An attribute as written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawAttr<'a> {
    /// Empty if there is none.
    pub(crate) prefix: &'a str,
    pub(crate) local: &'a str,
    /// Between the quotes; references are legal but not resolved.
    pub(crate) value: &'a str,
}

/// Splits `prefix:local`; the prefix is empty if there is none.
#[inline]
pub(crate) fn split_name(name: &str) -> Result<(&str, &str), StreamError> {
    let plain = plain_name_len(name);
    let colon = match name.as_bytes().get(plain) {
        None => None,
        Some(b':') => Some(plain),
        // Something beyond ASCII, or illegal.
        Some(_) => name.find(':'),
    };
    let (prefix, local) = match colon.and_then(|at| name.split_at_checked(at)) {
        Some((prefix, rest)) => (prefix, rest.get(1..).unwrap_or_default()),
        None => ("", name),
    };
    if !is_ncname(local) || (colon.is_some() && !is_ncname(prefix)) {
        return Err(not_well_formed("illegal name"));
    }
    Ok((prefix, local))
}

/// The attributes in `tag`, which is what follows the name of an element up to `>` or `/>`.
pub(crate) struct RawAttrs<'a> {
    rest: &'a str,
}

impl<'a> RawAttrs<'a> {
    pub(crate) const fn new(tag: &'a str) -> Self {
        Self { rest: tag }
    }

    /// The next attribute, checked.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<RawAttr<'a>>, StreamError> {
        let trimmed = trim_start(self.rest);
        if trimmed.is_empty() {
            return Ok(None);
        }
        if trimmed.len() == self.rest.len() {
            return Err(not_well_formed("no space between attributes"));
        }
        let broken = || not_well_formed("malformed attribute");
        let (name, rest) = cut(trimmed, |b| b == b'=' || is_space(b)).ok_or_else(broken)?;
        let rest = trim_start(rest).strip_prefix('=').ok_or_else(broken)?;
        let rest = trim_start(rest);
        let quote = *rest.as_bytes().first().filter(|b| matches!(b, b'"' | b'\'')).ok_or_else(broken)?;
        let rest = rest.get(1..).unwrap_or_default();
        let end = memchr::memchr(quote, rest.as_bytes()).ok_or_else(broken)?;
        let (value, rest) = rest.split_at_checked(end).ok_or_else(broken)?;
        self.rest = rest.get(1..).unwrap_or_default();
        check_value(value)?;
        let (prefix, local) = split_name(name)?;
        Ok(Some(RawAttr { prefix, local, value }))
    }
}

fn check_value(value: &str) -> Result<(), StreamError> {
    let mut rest = value;
    while let Some(at) = memchr::memchr2(b'&', b'<', rest.as_bytes()) {
        let found = rest.get(at..).unwrap_or_default();
        let Some(name) = found.strip_prefix('&') else {
            return Err(not_well_formed("'<' in an attribute value"));
        };
        let (name, behind) = cut(name, |b| b == b';').ok_or_else(|| not_well_formed("unfinished reference"))?;
        reference(name)?;
        rest = behind;
    }
    Ok(())
}

/// The character that `&name;` stands for.
///
/// # Errors
/// `restricted-xml` for entities other than the five that XML predefines (RFC 6120 §11.1).
pub(crate) fn reference(name: &str) -> Result<char, StreamError> {
    match name {
        "amp" => return Ok('&'),
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "apos" => return Ok('\''),
        "quot" => return Ok('"'),
        _ => {}
    }
    let Some(number) = name.strip_prefix('#') else {
        return Err(if is_ncname(name) {
            restricted("entity reference")
        } else {
            not_well_formed("malformed reference")
        });
    };
    let (digits, radix) = match number.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    // Rust would take a sign, XML does not.
    let code = match digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => u32::from_str_radix(digits, radix).ok(),
        false => None,
    };
    code.and_then(char::from_u32)
        .filter(|c| is_xml_char(*c))
        .ok_or_else(|| not_well_formed("reference to what is no XML character"))
}

/// An attribute's value as XML 1.0 §3.3.3 reads it. `raw` has been checked.
pub(crate) fn value(raw: &str) -> Cow<'_, str> {
    if !raw.bytes().any(|b| matches!(b, b'&' | b'\t' | b'\n' | b'\r')) {
        return Cow::Borrowed(raw);
    }
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, found)) = cut(rest, |b| matches!(b, b'&' | b'\t' | b'\n' | b'\r')) {
        value.push_str(plain);
        let behind = found.get(1..).unwrap_or_default();
        rest = match found.as_bytes() {
            [b'&', ..] => {
                let (name, behind) = cut(behind, |b| b == b';').unwrap_or_default();
                value.extend(reference(name));
                behind.get(1..).unwrap_or_default()
            }
            // A line end is one character, however written (XML 1.0 §2.11).
            [b'\r', b'\n', ..] => behind,
            _ => {
                value.push(' ');
                behind
            }
        };
    }
    value.push_str(rest);
    Cow::Owned(value)
}

/// Character data with line ends as XML 1.0 §2.11 reads them.
pub(crate) fn push_text(out: &mut String, raw: &str) {
    let mut rest = raw;
    while let Some((plain, found)) = cut(rest, |b| b == b'\r') {
        out.push_str(plain);
        let behind = found.get(1..).unwrap_or_default();
        if !behind.starts_with('\n') {
            out.push('\n');
        }
        rest = behind;
    }
    out.push_str(rest);
}

/// Checks a namespace name that is declared.
pub(crate) fn check_namespace(uri: &str) -> Result<(), StreamError> {
    if is_namespace_name(uri) {
        return Ok(());
    }
    Err(StreamError::new(StreamCondition::BadFormat).with_text("namespace name is no URI"))
}

fn trim_start(text: &str) -> &str {
    let spaces = text.bytes().take_while(|b| is_space(*b)).count();
    text.get(spaces..).unwrap_or_default()
}

/// Splits before the first byte that `at` accepts, which must be an ASCII one.
fn cut(text: &str, at: impl Fn(u8) -> bool) -> Option<(&str, &str)> {
    let at = text.bytes().position(at)?;
    text.split_at_checked(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(tag: &str) -> Option<Vec<(&str, &str, String)>> {
        let mut attrs = RawAttrs::new(tag);
        let mut found = Vec::new();
        loop {
            match attrs.next() {
                Ok(Some(a)) => found.push((a.prefix, a.local, value(a.value).into_owned())),
                Ok(None) => return Some(found),
                Err(_) => return None,
            }
        }
    }

    #[test]
    fn attributes_are_read_by_the_letter() {
        assert_eq!(all(" a='1' p:b = \"&lt;'\" "), Some(vec![("", "a", "1".into()), ("p", "b", "<'".into())]));
        assert_eq!(all("\n"), Some(vec![]));
        for bad in [
            "a='1'",
            " a='1'b='2'",
            " a",
            " a=",
            " a=1",
            " a='1",
            " ='1'",
            " a='<'",
            " a='&'",
            " a='&x;'",
            " 1a='1'",
            " a:='1'",
            " :a='1'",
            " a:b:c='1'",
            " a|b='1'",
            " a\u{b}='1'",
            " a='&#0;'",
            " a='&#xD800;'",
            " a='&#+65;'",
            " a='&#;'",
            " a='&#xfffe;'",
        ] {
            assert_eq!(all(bad), None, "{bad}");
        }
    }

    #[test]
    fn values_are_normalised() {
        assert_eq!(value("a\r\nb\tc\rd&#10;&#x9;e&amp;amp;"), "a b c d\n\te&amp;");
        assert!(matches!(value("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn b1_only_predefined_entities_exist() {
        assert_eq!(reference("lol").unwrap_err().condition, StreamCondition::RestrictedXml);
        assert_eq!(reference("#x10FFFF"), Ok('\u{10FFFF}'));
        assert_eq!(reference("#1").unwrap_err().condition, StreamCondition::NotWellFormed);
        assert_eq!(reference("").unwrap_err().condition, StreamCondition::NotWellFormed);
    }
}
