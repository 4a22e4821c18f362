//! What depends on a code point's neighbours: the rules of RFC 5892 appendix A, and the Bidi Rule of RFC 5893 §2.

use std::cell::OnceCell;

use icu_properties::CodePointMapData;
use icu_properties::props::{BidiClass, CanonicalCombiningClass, JoiningType, Script};

/// A string, and what the rules ask of the whole of it, found out once.
pub(super) struct Context<'a> {
    text: &'a str,
    japanese: OnceCell<bool>,
    indic_digits: OnceCell<bool>,
    extended_digits: OnceCell<bool>,
}

impl<'a> Context<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, japanese: OnceCell::new(), indic_digits: OnceCell::new(), extended_digits: OnceCell::new() }
    }

    /// Whether `c`, which stands at byte `at` and is CONTEXTJ or CONTEXTO, may stand there.
    pub(super) fn allows(&self, at: usize, c: char) -> bool {
        let (Some(head), Some(tail)) = (self.text.get(..at), self.text.get(at + c.len_utf8()..)) else {
            return false;
        };
        let before = head.chars().next_back();
        let after = tail.chars().next();
        match c {
            // A.1, A.2: zero width (non-)joiner.
            '\u{200c}' => before.is_some_and(is_virama) || joins(head, tail),
            '\u{200d}' => before.is_some_and(is_virama),
            // A.3: middle dot, between two l as in Catalan.
            '\u{b7}' => before == Some('l') && after == Some('l'),
            // A.4: Greek keraia.
            '\u{375}' => after.is_some_and(|c| script(c) == Script::Greek),
            // A.5, A.6: Hebrew geresh and gershayim.
            '\u{5f3}' | '\u{5f4}' => before.is_some_and(|c| script(c) == Script::Hebrew),
            // A.7: Katakana middle dot.
            '\u{30fb}' => {
                self.has(&self.japanese, |c| matches!(script(c), Script::Hiragana | Script::Katakana | Script::Han))
            }
            // A.8, A.9: one kind of Arabic digits only.
            '\u{660}'..='\u{669}' => !self.has(&self.extended_digits, |c| matches!(c, '\u{6f0}'..='\u{6f9}')),
            '\u{6f0}'..='\u{6f9}' => !self.has(&self.indic_digits, |c| matches!(c, '\u{660}'..='\u{669}')),
            _ => false,
        }
    }

    fn has(&self, known: &OnceCell<bool>, wanted: impl Fn(char) -> bool) -> bool {
        *known.get_or_init(|| self.text.chars().any(wanted))
    }
}

fn script(c: char) -> Script {
    CodePointMapData::<Script>::new().get(c)
}

fn is_virama(c: char) -> bool {
    CodePointMapData::<CanonicalCombiningClass>::new().get(c) == CanonicalCombiningClass::Virama
}

/// A.1: `(Joining_Type:{L,D})(Joining_Type:T)*\u200C(Joining_Type:T)*(Joining_Type:{R,D})`.
fn joins(head: &str, tail: &str) -> bool {
    let joining = CodePointMapData::<JoiningType>::new();
    let solid = |c: &char| joining.get(*c) != JoiningType::Transparent;
    let left = head.chars().rev().find(solid).map(|c| joining.get(c));
    let right = tail.chars().find(solid).map(|c| joining.get(c));
    matches!(left, Some(JoiningType::LeftJoining | JoiningType::DualJoining))
        && matches!(right, Some(JoiningType::RightJoining | JoiningType::DualJoining))
}

/// RFC 5893 §2, for a string with a right-to-left code point; others satisfy it (RFC 8265 §3.3.2).
pub(super) fn satisfies_bidi_rule(text: &str) -> bool {
    type B = BidiClass;
    let classes = CodePointMapData::<BidiClass>::new();
    let bidi = || text.chars().map(|c| classes.get(c));
    if !bidi().any(|class| matches!(class, B::RightToLeft | B::ArabicLetter | B::ArabicNumber)) {
        return true;
    }
    let last = bidi().rev().find(|class| *class != B::NonspacingMark);
    match bidi().next() {
        // Conditions 2, 3 and 4.
        Some(B::RightToLeft | B::ArabicLetter) => {
            bidi().all(|class| matches!(class, B::RightToLeft | B::ArabicLetter | B::ArabicNumber) || is_weak(class))
                && matches!(last, Some(B::RightToLeft | B::ArabicLetter | B::EuropeanNumber | B::ArabicNumber))
                && !(bidi().any(|class| class == B::EuropeanNumber) && bidi().any(|class| class == B::ArabicNumber))
        }
        // Condition 5: a left-to-right string has no right-to-left code point. Condition 1: nothing else comes first.
        _ => false,
    }
}

fn is_weak(class: BidiClass) -> bool {
    type B = BidiClass;
    matches!(
        class,
        B::EuropeanNumber
            | B::EuropeanSeparator
            | B::CommonSeparator
            | B::EuropeanTerminator
            | B::OtherNeutral
            | B::BoundaryNeutral
            | B::NonspacingMark
    )
}
