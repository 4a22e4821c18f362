//! Words of a text, to be found by: the same for every database (XEP-0431 leaves to the server what a word is).
//!
//! A word is a run of letters and digits without case and accents; of scripts that put no space between words, each
//! character is one. A term is a word behind the number of its account or room, so that a search touches nothing of other accounts
//! and a term holds no character that means something to a database's search syntax.
//!
//! An archive's texts are put into the index by the first search, and what came since by each that follows: `searched` has
//! the id up to which all are in. An archive's ids only grow, so nothing comes up below it but what is stored again, and that
//! sets it back (the commits).

use std::collections::BTreeSet;

use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_properties::props::{GeneralCategory, Ideographic, Script};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Messages that are read at once to be made findable.
pub(crate) const PIECE: usize = 50;

/// Bytes of messages after which a step ends.
pub(crate) const HEAVY: usize = 1 << 20;

/// For as many bytes a term counts: writing it takes a good deal longer than reading it.
pub(crate) const TERM: usize = 50;

/// The longest word, in bytes; what is longer is known by its beginning.
const LONGEST: usize = 64;

/// The most different words of a text that it is found by.
const MOST: usize = 4096;

/// The words of a text.
pub(crate) fn words(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut word = String::new();
    if text.is_ascii() {
        for part in text.split(|char: char| !char.is_ascii_alphanumeric()) {
            word.push_str(part.get(..LONGEST).unwrap_or(part));
            word.make_ascii_lowercase();
            end_word(&mut word, &mut found);
        }
        return found;
    }
    let category = CodePointMapData::<GeneralCategory>::new();
    let script = CodePointMapData::<Script>::new();
    let ideographic = CodePointSetData::new::<Ideographic>();
    let lower = text.to_lowercase();
    for char in DecomposingNormalizerBorrowed::new_nfkd().normalize_iter(lower.chars()) {
        match category.get(char) {
            GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark => continue,
            GeneralCategory::SpacingMark => {}
            _ if char.is_alphanumeric() => {}
            _ => {
                end_word(&mut word, &mut found);
                continue;
            }
        }
        let alone = ideographic.contains(char)
            || matches!(
                script.get(char),
                Script::Hiragana | Script::Katakana | Script::Thai | Script::Lao | Script::Khmer | Script::Myanmar
            );
        if alone {
            end_word(&mut word, &mut found);
        }
        if word.len() + char.len_utf8() <= LONGEST {
            word.extend(char.to_lowercase());
        }
        if alone {
            end_word(&mut word, &mut found);
        }
    }
    end_word(&mut word, &mut found);
    found
}

fn end_word(word: &mut String, found: &mut BTreeSet<String>) {
    if !word.is_empty() && found.len() < MOST {
        found.insert(std::mem::take(word));
    }
    word.clear();
}

/// The terms that a text of an account or a room is found by; the number of a room is negative.
pub(crate) fn terms(owner: i64, text: &str) -> Vec<String> {
    let sign = if owner < 0 { "r" } else { "" };
    let number = owner.unsigned_abs();
    words(text).into_iter().map(|word| format!("{sign}{number}_{word}")).collect()
}

/// Statements on one connection. `$begin` starts a transaction that writes; the module has `put`, which writes the terms of
/// messages into the index.
macro_rules! index {
    ($connection:ty, $begin:literal) => {
        use rookery_xmpp::jid::BareJid;
        use sqlx::{Connection, query, query_as, query_scalar};

        use super::rows::owner;
        use super::texts;
        use crate::words::{HEAVY, PIECE, TERM};

        /// Whether an archive has nothing that is still to be made findable.
        pub(super) async fn is_findable(on: &mut $connection, user: &BareJid) -> Outcome<bool> {
            match owner(on, user).await? {
                Some(account) => Ok(query_scalar(texts::FINDABLE).bind(account).fetch_one(on).await?),
                None => Ok(true),
            }
        }

        /// Makes some more of an archive findable; `true` when there may be more.
        pub(super) async fn index(on: &mut $connection, user: &BareJid, limit: usize) -> Outcome<bool> {
            let mut tx = on.begin_with($begin).await?;
            let Some(account) = owner(&mut tx, user).await? else {
                tx.rollback().await?;
                return Ok(false);
            };
            hold(&mut tx, account).await?;
            let before: Option<i64> = query_scalar(texts::SEARCHED).bind(account).fetch_optional(&mut *tx).await?;
            let mut up_to = before.unwrap_or(0);
            let (mut found, mut left, mut bytes, mut more) = (Vec::new(), limit, 0, true);
            while more && left > 0 && bytes < HEAVY {
                let wanted = left.min(PIECE);
                let rows: Vec<(i64, Vec<u8>)> = query_as(texts::UNSEARCHED)
                    .bind(account)
                    .bind(up_to)
                    .bind(i64::try_from(wanted).unwrap_or(i64::MAX))
                    .fetch_all(&mut *tx)
                    .await?;
                more = rows.len() == wanted;
                left -= rows.len();
                for (id, stanza) in rows {
                    if bytes >= HEAVY {
                        more = true;
                        break;
                    }
                    up_to = id;
                    bytes += stanza.len();
                    let text = rookery_core::archiving::text(stanza.into());
                    let terms = text.map(|text| terms(account, &text)).unwrap_or_default();
                    bytes += terms.len() * TERM;
                    if !terms.is_empty() {
                        found.push((id, terms.join(" ")));
                    }
                }
            }
            if before.unwrap_or(0) != up_to {
                put(&mut tx, account, &found).await?;
                query(
                    "INSERT INTO searched (account, up_to) VALUES ($1, $2) \
                     ON CONFLICT (account) DO UPDATE SET up_to = excluded.up_to",
                )
                .bind(account)
                .bind(up_to)
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            Ok(more)
        }

        /// Lets nobody else change what an archive is found by until the transaction ends, where not all that write wait
        /// for each other anyway.
        pub(super) async fn hold(on: &mut $connection, account: i64) -> Outcome<()> {
            for statement in texts::HOLD {
                query(statement).bind(account).execute(&mut *on).await?;
            }
            Ok(())
        }
    };
}

pub(crate) use index;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: &[&str]) {
        let found: Vec<String> = words(text).into_iter().collect();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{text}");
    }

    #[test]
    fn words_are_letters_and_digits_without_case_and_accents() {
        check("", &[]);
        check("?! -- ... \" ' * : ( ) ^", &[]);
        check("Hello, WORLD! It's 7 o'clock", &["hello", "world", "it", "s", "7", "o", "clock"]);
        check("Äpfel für Ångström; CAFÉ cafe\u{301}", &["apfel", "fur", "angstrom", "cafe"]);
        check("ﬁne ＡＢＣ", &["fine", "abc"]);
        check("Привет, Ёжик", &["привет", "ежик"]);
        check("a_b NOT x* AND", &["a", "b", "not", "x", "and"]);
        check("東京 ラーメン", &["東", "京", "ラ", "ー", "メ", "ン"]);
        check("🙂👍", &[]);
    }

    #[test]
    fn a_word_is_cut_and_so_is_the_number_of_words() {
        let long = "x".repeat(1000);
        check(&long, &[&"x".repeat(LONGEST)]);
        let wide = "ж".repeat(1000);
        check(&wide, &[&"ж".repeat(LONGEST / 2)]);
        let many: String = (0..10_000).map(|n| format!("{n} ")).collect();
        assert_eq!(words(&many).len(), MOST);
    }

    #[test]
    fn a_term_belongs_to_its_account() {
        assert_eq!(terms(7, "Hi, you"), ["7_hi", "7_you"]);
        assert_eq!(terms(-7, "Hi"), ["r7_hi"]);
        assert!(terms(7, "*").is_empty());
    }
}
