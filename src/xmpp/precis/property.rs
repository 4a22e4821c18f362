//! RFC 8264 §8 and §9: the derived property of a code point, and which strings the two string classes allow.

use icu_properties::props::{
    DefaultIgnorableCodePoint, GeneralCategory as Gc, HangulSyllableType, JoinControl, NoncharacterCodePoint,
};
use icu_properties::{CodePointMapData, CodePointSetData};

use super::context::Context;
use super::{Disallowed, NFKC, category};

/// RFC 8264 §4: the two sets of code points that profiles build upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Letters, digits and visible ASCII: names that identify.
    Identifier,
    /// These, and symbols, punctuation, spaces: words that people choose.
    Freeform,
}

/// RFC 8264 §8, the value of a code point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Property {
    /// PVALID.
    Valid,
    /// ID_DIS or FREE_PVAL: for the freeform class alone.
    Freeform,
    /// CONTEXTJ or CONTEXTO: only where the rule of RFC 5892 appendix A allows it.
    Context,
    /// DISALLOWED.
    Disallowed,
    /// UNASSIGNED.
    Unassigned,
}

/// Whether each code point belongs to the class, and stands where it may.
pub(super) fn allows(class: Class, text: &str) -> Result<(), Disallowed> {
    let context = Context::new(text);
    let allowed = text.char_indices().all(|(at, c)| match derive(c) {
        Property::Valid => true,
        Property::Freeform => class == Class::Freeform,
        Property::Context => context.allows(at, c),
        Property::Disallowed | Property::Unassigned => false,
    });
    if allowed && !text.is_empty() { Ok(()) } else { Err(Disallowed) }
}

/// The algorithm of RFC 8264 §8, in its order. BackwardCompatible is empty.
pub(super) fn derive(c: char) -> Property {
    match c {
        // Exceptions (§9.6, which is RFC 5892 §2.6).
        '\u{df}' | '\u{3c2}' | '\u{6fd}' | '\u{6fe}' | '\u{f0b}' | '\u{3007}' => Property::Valid,
        '\u{b7}' | '\u{375}' | '\u{5f3}' | '\u{5f4}' | '\u{30fb}' => Property::Context,
        '\u{660}'..='\u{669}' | '\u{6f0}'..='\u{6f9}' => Property::Context,
        '\u{640}' | '\u{7fa}' | '\u{302e}' | '\u{302f}' | '\u{3031}'..='\u{3035}' | '\u{303b}' => Property::Disallowed,
        '!'..='~' => Property::Valid,
        _ => derive_by_category(c),
    }
}

fn derive_by_category(c: char) -> Property {
    let noncharacter = CodePointSetData::new::<NoncharacterCodePoint>().contains(c);
    let gc = category(c);
    if gc == Gc::Unassigned && !noncharacter {
        Property::Unassigned
    } else if CodePointSetData::new::<JoinControl>().contains(c) {
        Property::Context
    } else if is_old_hangul_jamo(c)
        || noncharacter
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || gc == Gc::Control
    {
        Property::Disallowed
    } else if has_compatible(c) {
        Property::Freeform
    } else {
        match gc {
            Gc::LowercaseLetter
            | Gc::UppercaseLetter
            | Gc::OtherLetter
            | Gc::ModifierLetter
            | Gc::DecimalNumber
            | Gc::NonspacingMark
            | Gc::SpacingMark => Property::Valid,
            Gc::TitlecaseLetter | Gc::LetterNumber | Gc::OtherNumber | Gc::EnclosingMark => Property::Freeform,
            Gc::SpaceSeparator => Property::Freeform,
            Gc::MathSymbol | Gc::CurrencySymbol | Gc::ModifierSymbol | Gc::OtherSymbol => Property::Freeform,
            Gc::ConnectorPunctuation
            | Gc::DashPunctuation
            | Gc::OpenPunctuation
            | Gc::ClosePunctuation
            | Gc::InitialPunctuation
            | Gc::FinalPunctuation
            | Gc::OtherPunctuation => Property::Freeform,
            _ => Property::Disallowed,
        }
    }
}

fn is_old_hangul_jamo(c: char) -> bool {
    matches!(
        CodePointMapData::<HangulSyllableType>::new().get(c),
        HangulSyllableType::LeadingJamo | HangulSyllableType::VowelJamo | HangulSyllableType::TrailingJamo
    )
}

/// HasCompat (§9.17): NFKC changes the code point.
fn has_compatible(c: char) -> bool {
    let mut buffer = [0; 4];
    let text: &str = c.encode_utf8(&mut buffer);
    !NFKC.is_normalized(text)
}
