//! RFC 7622 §3.2 to §3.4: how the parts of an address are prepared.
//!
//! - localpart: UsernameCaseMapped of PRECIS, without `"&'/:<>@`;
//! - domainpart: UTS #46 (non-transitional, STD3) to lower-case U-labels, where UTS #46 lets symbols pass that IDNA2008
//!   alone would not; or an IPv4 address, or an IPv6 address in brackets;
//! - resourcepart: OpaqueString of PRECIS.
//!
//! Unassigned code points are refused in all three. Preparing what is prepared changes nothing. What is ASCII already,
//! nearly everything, is looked at once and not copied unless a letter has to become lower-case.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::{JidError, Part};
use crate::precis;

/// RFC 7622 §3.1: the most bytes that a prepared part may have.
const MAX: usize = 1023;
/// Preparing makes a part at most so much shorter (a fullwidth letter of three bytes becomes one of ASCII); what is longer
/// is not worth the work.
const MAX_RAW: usize = 4 * MAX;
/// RFC 1035 §2.3.4: the most bytes of a label.
const MAX_LABEL: usize = 63;

pub(super) fn local(text: &str) -> Result<Cow<'_, str>, JidError> {
    if text.bytes().all(is_plain) && (1..=MAX).contains(&text.len()) {
        return Ok(Cow::Borrowed(text));
    }
    let text = enforce(text, Part::Local, precis::username_case_mapped)?;
    // Only now: the width mapping makes an '@' of a fullwidth one.
    if text.contains(['"', '&', '\'', '/', ':', '<', '>', '@']) {
        return Err(JidError::Forbidden(Part::Local));
    }
    Ok(text)
}

/// Visible ASCII that a localpart may have as it is.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'+' | b'=' | b'~' | b'!' | b'#' | b'$' | b'%')
}

pub(super) fn resource(text: &str) -> Result<Cow<'_, str>, JidError> {
    enforce(text, Part::Resource, precis::opaque_string)
}

fn enforce<'a>(
    text: &'a str,
    part: Part,
    profile: impl FnOnce(&'a str) -> Result<Cow<'a, str>, precis::Disallowed>,
) -> Result<Cow<'a, str>, JidError> {
    measure(text, part, MAX_RAW)?;
    let prepared = profile(text).map_err(|_| JidError::Forbidden(part))?;
    measure(&prepared, part, MAX)?;
    Ok(prepared)
}

fn measure(text: &str, part: Part, max: usize) -> Result<(), JidError> {
    match text.len() {
        0 => Err(JidError::Empty(part)),
        len if len > max => Err(JidError::TooLong(part)),
        _ => Ok(()),
    }
}

pub(super) fn domain(text: &str) -> Result<Cow<'_, str>, JidError> {
    if text.is_ascii() && text.len() <= MAX && check_labels(text).is_ok() {
        return Ok(Cow::Borrowed(text));
    }
    measure(text, Part::Domain, MAX_RAW)?;
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| JidError::Forbidden(Part::Domain))?;
        return Ok(Cow::Owned(format!("[{address}]")));
    }
    // RFC 7622 §3.2: a final dot is stripped before anything else.
    let text = text.strip_suffix('.').unwrap_or(text);
    let prepared =
        if text.is_ascii() && !text.split('.').any(is_ace) { text.to_ascii_lowercase() } else { unicode_domain(text)? };
    measure(&prepared, Part::Domain, MAX)?;
    check_labels(&prepared)?;
    Ok(Cow::Owned(prepared))
}

/// Whether the label begins like an A-label, in any case.
fn is_ace(label: &str) -> bool {
    label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"))
}

/// UTS #46 ToUnicode. The way to A-labels and back must end where it began: a label in Punycode that says nothing but
/// ASCII, or says it in another way than an encoder would, must not become equal to another domain (RUSTSEC-2024-0421).
fn unicode_domain(text: &str) -> Result<String, JidError> {
    let uts46 = Uts46::new();
    let to_unicode = |text: &str| {
        let (unicode, result) = uts46.to_unicode(text.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
        result.map(|()| unicode.into_owned()).map_err(|_| JidError::Forbidden(Part::Domain))
    };
    let unicode = to_unicode(text)?;
    if unicode.split('.').any(is_ace) {
        return Err(JidError::Forbidden(Part::Domain));
    }
    let ascii = uts46
        .to_ascii(unicode.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Ignore)
        .map_err(|_| JidError::Forbidden(Part::Domain))?;
    if ascii.split('.').any(|label| label.len() > MAX_LABEL) {
        return Err(JidError::TooLong(Part::Domain));
    }
    if to_unicode(&ascii)? != unicode || to_unicode(&unicode)? != unicode {
        return Err(JidError::Forbidden(Part::Domain));
    }
    Ok(unicode)
}

/// What every domain must satisfy at the end: labels that are not empty, LDH where they are ASCII (RFC 5890 §2.3.1), and
/// no number at the end unless the whole is an IPv4 address in its usual form.
fn check_labels(domain: &str) -> Result<(), JidError> {
    let (mut len, mut ascii, mut numeric, mut last) = (0, true, true, b'.');
    for byte in domain.bytes().chain([b'.']) {
        match byte {
            b'0'..=b'9' => {}
            b'a'..=b'z' => numeric = false,
            b'-' if len != 0 && (len != 3 || last != b'-' || !ascii) => numeric = false,
            b'.' if len == 0 => return Err(JidError::Empty(Part::Domain)),
            b'.' if last != b'-' => {
                // The length of a U-label is that of its A-label, measured where that is known.
                if ascii && len > MAX_LABEL {
                    return Err(JidError::TooLong(Part::Domain));
                }
                (len, ascii, last) = (0, true, byte);
                continue;
            }
            0x80.. => (ascii, numeric) = (false, false),
            _ => return Err(JidError::Forbidden(Part::Domain)),
        }
        if len == 0 {
            numeric = byte.is_ascii_digit();
        }
        len += 1;
        last = byte;
    }
    if numeric && domain.parse::<Ipv4Addr>().is_err() {
        return Err(JidError::Forbidden(Part::Domain));
    }
    Ok(())
}
