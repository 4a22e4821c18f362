//! RFC 8264 and RFC 8265 (PRECIS): how user names and opaque strings (passwords, resources) are made comparable.
//!
//! The property of a code point is derived by the algorithm of RFC 8264 §8 from the Unicode data of ICU4X, the same that
//! the `idna` crate uses, so that an address is judged by one version of Unicode throughout. Code points that this version
//! does not assign are refused: what is accepted today stays valid under every later version. The table that IANA keeps
//! ends with Unicode 6.3 (2013) and would refuse the scripts and emoji of all years since.
//!
//! Both profiles are idempotent by construction: the result is prepared a second time and refused if it changes.

mod context;
mod property;

use std::borrow::Cow;
use std::fmt;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointMapData;
use icu_properties::props::{EastAsianWidth, GeneralCategory};

use property::Class;

/// The string is empty or has a code point, or a sequence of them, that the profile does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disallowed;

impl fmt::Display for Disallowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("empty, or a character that is not allowed here")
    }
}

impl std::error::Error for Disallowed {}

/// UsernameCaseMapped (RFC 8265 §3.3): the user part of addresses and of SASL exchanges.
///
/// ```
/// # use rookery_xmpp::precis::username_case_mapped;
/// assert_eq!(username_case_mapped("Ｊürgen")?, "jürgen");
/// # Ok::<(), rookery_xmpp::precis::Disallowed>(())
/// ```
pub fn username_case_mapped(text: &str) -> Result<Cow<'_, str>, Disallowed> {
    if text.is_ascii() {
        return ascii_username(text);
    }
    let prepared = map_username(text)?;
    settled(&prepared, map_username)?;
    Ok(Cow::Owned(prepared))
}

/// OpaqueString (RFC 8265 §4.2): passwords and resources. Case and width are kept.
///
/// ```
/// # use rookery_xmpp::precis::opaque_string;
/// assert_eq!(opaque_string("Correct\u{a0}Horse")?, "Correct Horse");
/// # Ok::<(), rookery_xmpp::precis::Disallowed>(())
/// ```
pub fn opaque_string(text: &str) -> Result<Cow<'_, str>, Disallowed> {
    if text.is_ascii() {
        let allowed = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        return if allowed {
            Ok(Cow::Borrowed(text))
        } else {
            Err(Disallowed)
        };
    }
    let prepared = map_opaque(text)?;
    settled(&prepared, map_opaque)?;
    Ok(if prepared == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(prepared)
    })
}

fn ascii_username(text: &str) -> Result<Cow<'_, str>, Disallowed> {
    if text.is_empty() || !text.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        Err(Disallowed)
    } else if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Ok(Cow::Owned(text.to_ascii_lowercase()))
    } else {
        Ok(Cow::Borrowed(text))
    }
}

/// RFC 8265 §3.3.1 and §3.3.2, once.
fn map_username(text: &str) -> Result<String, Disallowed> {
    let narrowed: String = text.chars().map(narrow).collect();
    property::allows(Class::Identifier, &narrowed)?;
    // Code point by code point, as Go's precis package does, so that a sigma is the same at the end of a name and inside.
    let lower: String = narrowed.chars().flat_map(char::to_lowercase).collect();
    let composed = NFC.normalize(&lower).into_owned();
    if context::satisfies_bidi_rule(&composed) {
        Ok(composed)
    } else {
        Err(Disallowed)
    }
}

/// RFC 8265 §4.2.1 and §4.2.2, once.
fn map_opaque(text: &str) -> Result<String, Disallowed> {
    property::allows(Class::Freeform, text)?;
    let spaced: String = text
        .chars()
        .map(|c| if is_space(c) { ' ' } else { c })
        .collect();
    Ok(NFC.normalize(&spaced).into_owned())
}

fn settled(prepared: &str, map: fn(&str) -> Result<String, Disallowed>) -> Result<(), Disallowed> {
    if map(prepared)? == prepared {
        Ok(())
    } else {
        Err(Disallowed)
    }
}

const NFC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfc();
const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfkc();

/// The width mapping rule: a fullwidth or halfwidth code point becomes the one it is compatible with.
fn narrow(c: char) -> char {
    match CodePointMapData::<EastAsianWidth>::new().get(c) {
        EastAsianWidth::Fullwidth | EastAsianWidth::Halfwidth => compatible(c).unwrap_or(c),
        _ => c,
    }
}

/// The one code point that NFKC makes of `c`, if it makes one.
fn compatible(c: char) -> Option<char> {
    let mut buffer = [0; 4];
    let normal = NFKC.normalize(c.encode_utf8(&mut buffer));
    let mut chars = normal.chars();
    chars.next().filter(|_| chars.next().is_none())
}

fn is_space(c: char) -> bool {
    category(c) == GeneralCategory::SpaceSeparator
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}
