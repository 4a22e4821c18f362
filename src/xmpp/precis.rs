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
        return if allowed { Ok(Cow::Borrowed(text)) } else { Err(Disallowed) };
    }
    let prepared = map_opaque(text)?;
    settled(&prepared, map_opaque)?;
    Ok(if prepared == text { Cow::Borrowed(text) } else { Cow::Owned(prepared) })
}

/// Nickname (RFC 8266 §2.4): what nicknames are compared by. It is not for being shown.
///
/// ```
/// # use rookery_xmpp::precis::nickname_key;
/// assert_eq!(nickname_key(" Foo  Bar ")?, "foo bar");
/// # Ok::<(), rookery_xmpp::precis::Disallowed>(())
/// ```
pub fn nickname_key(text: &str) -> Result<String, Disallowed> {
    let once = |text: &str| {
        property::allows(Class::Freeform, text)?;
        let spaced: String = text.chars().map(|c| if is_space(c) { ' ' } else { c }).collect();
        let words: Vec<&str> = spaced.split(' ').filter(|word| !word.is_empty()).collect();
        let lower: String = words.join(" ").chars().flat_map(char::to_lowercase).collect();
        let key = NFKC.normalize(&lower).into_owned();
        if key.is_empty() { Err(Disallowed) } else { Ok(key) }
    };
    // RFC 8266 §2.1: some strings settle only after a few rounds.
    let mut key = once(text)?;
    for _ in 0..3 {
        let again = once(&key)?;
        if again == key {
            return Ok(key);
        }
        key = again;
    }
    Err(Disallowed)
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
    if context::satisfies_bidi_rule(&composed) { Ok(composed) } else { Err(Disallowed) }
}

/// RFC 8265 §4.2.1 and §4.2.2, once.
fn map_opaque(text: &str) -> Result<String, Disallowed> {
    property::allows(Class::Freeform, text)?;
    let spaced: String = text.chars().map(|c| if is_space(c) { ' ' } else { c }).collect();
    Ok(NFC.normalize(&spaced).into_owned())
}

fn settled(prepared: &str, map: fn(&str) -> Result<String, Disallowed>) -> Result<(), Disallowed> {
    if map(prepared)? == prepared { Ok(()) } else { Err(Disallowed) }
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

#[cfg(test)]
mod tests {
    use precis_profiles::precis_core::{DerivedPropertyValue, FreeformClass, IdentifierClass, StringClass};

    use super::property::{Property, derive};
    use super::*;

    /// The table of IANA, as far as it goes.
    /// RFC 8266 §3.
    #[test]
    fn nicknames() {
        for (nickname, key) in [
            ("Foo", "foo"),
            ("foo", "foo"),
            ("Foo Bar", "foo bar"),
            ("foo  bar", "foo bar"),
            ("\u{3A3}", "\u{3C3}"),
            ("\u{3C3}", "\u{3C3}"),
            ("\u{3C2}", "\u{3C2}"),
            ("\u{265A}", "\u{265A}"),
            ("Richard \u{2163}", "richard iv"),
            ("   Foo  Bar  ", "foo bar"),
            ("\u{3000}", ""),
            ("\u{200B}", ""),
        ] {
            assert_eq!(nickname_key(nickname).unwrap_or_default(), key, "{nickname:?}");
        }
    }

    #[test]
    fn a22_properties_agree_with_the_iana_table() {
        let identifier = IdentifierClass::default();
        let freeform = FreeformClass::default();
        let mut differences = Vec::new();
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            use DerivedPropertyValue as Iana;
            let expected = match (identifier.get_value_from_char(c), freeform.get_value_from_char(c)) {
                (Iana::Unassigned, _) => continue,
                (Iana::PValid, _) => Property::Valid,
                (Iana::ContextJ | Iana::ContextO, _) => Property::Context,
                (Iana::Disallowed, _) => Property::Disallowed,
                (_, Iana::SpecClassPval) => Property::Freeform,
                (_, _) => Property::Disallowed,
            };
            if derive(c) != expected {
                differences.push((c, derive(c), expected));
            }
        }
        assert_eq!(differences, []);
    }

    fn username(text: &str, prepared: Option<&str>) {
        assert_eq!(username_case_mapped(text).ok().as_deref(), prepared, "{text:?}");
    }

    fn opaque(text: &str, prepared: Option<&str>) {
        assert_eq!(opaque_string(text).ok().as_deref(), prepared, "{text:?}");
    }

    #[test]
    fn examples_of_rfc_8265() {
        // §3.5
        username("juliet@example.com", Some("juliet@example.com"));
        username("fussball", Some("fussball"));
        username("fu\u{df}ball", Some("fu\u{df}ball"));
        username("\u{3c0}", Some("\u{3c0}"));
        username("\u{3a3}", Some("\u{3c3}"));
        username("\u{3c2}", Some("\u{3c2}"));
        username("foo bar", None);
        username("", None);
        username("henry\u{2163}", None);
        username("\u{221e}", None);
        // §4.3
        opaque("correct horse battery staple", Some("correct horse battery staple"));
        opaque("Correct Horse Battery Staple", Some("Correct Horse Battery Staple"));
        opaque("\u{3c0}\u{df}\u{e5}", Some("\u{3c0}\u{df}\u{e5}"));
        opaque("Jack of \u{2666}s", Some("Jack of \u{2666}s"));
        opaque("foo\u{1680}bar", Some("foo bar"));
        opaque("", None);
        opaque("my cat is a \u{9}by", None);
    }

    #[test]
    fn joiners_and_digits_in_context() {
        username("\u{915}\u{94d}\u{200d}\u{937}", Some("\u{915}\u{94d}\u{200d}\u{937}"));
        username("a\u{200d}b", None);
        username("\u{628}\u{200c}\u{628}", Some("\u{628}\u{200c}\u{628}"));
        username("\u{628}\u{64e}\u{200c}\u{64e}\u{628}", Some("\u{628}\u{64e}\u{200c}\u{64e}\u{628}"));
        username("a\u{200c}b", None);
        username("l\u{b7}l", Some("l\u{b7}l"));
        username("l\u{b7}a", None);
        username("\u{375}\u{3b1}", Some("\u{375}\u{3b1}"));
        username("\u{375}a", None);
        username("\u{5d0}\u{5f3}", Some("\u{5d0}\u{5f3}"));
        username("a\u{5f4}", None);
        username("\u{30ab}\u{30fb}", Some("\u{30ab}\u{30fb}"));
        username("a\u{30fb}", None);
        opaque("\u{661}\u{662}", Some("\u{661}\u{662}"));
        opaque("\u{661}\u{6f1}", None);
    }

    #[test]
    fn bidi_rule() {
        username("\u{5d0}\u{5d1}1", Some("\u{5d0}\u{5d1}1"));
        username("\u{5d0}a", None);
        username("a\u{5d0}", None);
        username("\u{5d0}-", None);
        username("\u{5d0}\u{5b0}", Some("\u{5d0}\u{5b0}"));
        username("\u{627}1\u{661}", None);
        username("\u{661}\u{627}", None);
        // Resources are free of it.
        opaque("a\u{5d0}", Some("a\u{5d0}"));
    }

    #[test]
    fn widths_and_marks() {
        username("\u{ff76}\u{ff9e}", Some("\u{30ac}"));
        opaque("\u{ff76}\u{ff9e}", Some("\u{ff76}\u{ff9e}"));
        username("\u{130}", Some("i\u{307}"));
        // Kelvin and Angstrom sign are letters in disguise.
        username("\u{212a}", None);
        username("\u{212b}", None);
        opaque("\u{212b}", Some("\u{c5}"));
        // Variation selectors and zero-width spaces show nothing.
        opaque("\u{2764}\u{fe0f}", None);
        opaque("a\u{200b}", None);
    }
}
