//! XEP-0045 §17.1 and §7.2.8: which nicknames there can be, and which are the same.

use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::precis;

/// What is left of a nickname when what people do not see is taken away. Nicknames with the same key are the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NickKey(Box<str>);

impl NickKey {
    /// The key of a nickname that has been prepared as a resourcepart.
    ///
    /// # Errors
    /// `jid-malformed` when nothing of it can be seen (§17.1).
    pub(super) fn new(nick: &str) -> Result<Self, StanzaError> {
        let seen = precis::nickname_key(nick).ok().filter(|key| !key.chars().all(is_blank));
        let key = seen.ok_or_else(|| {
            StanzaError::new(Condition::JidMalformed).with_text("A nickname that nobody can see is not allowed.")
        })?;
        Ok(Self(key.into()))
    }
}

/// Characters of PRECIS' FreeformClass that leave nothing on the screen: joiners, where their context allows them, and the
/// empty Braille pattern.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\u{200C}' | '\u{200D}' | '\u{2800}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c4_nicknames_that_look_the_same_are_the_same() {
        let key = |nick: &str| NickKey::new(nick).unwrap();
        for other in ["JuliC", "julic", "JULIC", " JuliC", "JuliC ", "Ｊｕｌｉ\u{ff23}"] {
            assert_eq!(key("JuliC"), key(other), "{other:?}");
        }
        assert_eq!(key("king lear"), key("King  Lear"));
        assert_ne!(key("king lear"), key("kinglear"));
        assert_ne!(key("thirdwitch"), key("firstwitch"));
    }

    #[test]
    fn c4_no_nickname_is_invisible() {
        for nick in [" ", "  ", "\u{a0}", "\u{3000}", "\u{2800}", "\u{2800} \u{2800}"] {
            assert_eq!(NickKey::new(nick).unwrap_err().condition, Condition::JidMalformed, "{nick:?}");
        }
        assert!(NickKey::new("\u{1F43B}").is_ok());
    }
}
