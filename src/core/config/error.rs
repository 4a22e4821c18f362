//! What is wrong in a conf file, where, and what to write instead.
//!
//! The texts never hold the value of a string option: it may be a password, or a line that slipped into the wrong key.

use std::fmt;
use std::sync::Arc;

/// Something wrong in a conf file. Prints as `conf/rookery.toml:12:3: unknown option "tsl" in [[listen]]; did you mean "tls"?`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigError {
    /// The file as the admin named it; empty when the fault is in no file.
    pub file: String,
    /// The line, from 1; 0 when the fault has no place in the file.
    pub line: usize,
    /// The character in the line, from 1; 0 when the fault has no place in the file.
    pub column: usize,
    /// The option as a dotted TOML key (`listen.tls`); empty when it is about the file as a whole.
    pub option: String,
    /// What is wrong and what to write instead: a whole sentence, with the option's name.
    pub why: String,
}

impl ConfigError {
    /// A fault without a place, for checks that know the option and not the file.
    pub fn new(option: impl Into<String>, why: impl Into<String>) -> Self {
        Self { option: option.into(), why: why.into(), ..Self::default() }
    }

    pub(super) fn at(source: &Source, offset: usize, option: impl Into<String>, why: impl Into<String>) -> Self {
        let (line, column) = source.place(offset);
        Self { file: source.name.to_string(), line, column, option: option.into(), why: why.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for ConfigError {}

/// A conf file's name, and where its lines begin: enough to turn an offset into a line, without keeping the text.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    text: Arc<str>,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Line and character, both from 1.
    fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// The known name nearest to one that is not known; `None` when none is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `"a", "b" or "c"`.
pub(super) fn quoted_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut quoted: Vec<String> = words.into_iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.pop() {
        None => "nothing".to_owned(),
        Some(last) if quoted.is_empty() => last,
        Some(last) => format!("{} or {last}", quoted.join(", ")),
    }
}

/// `; did you mean "x"?` or, when nothing is near, what there is to choose from.
pub(super) fn remedy(name: &str, known: &[&str], there_are: &str) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("; did you mean \"{near}\"?"),
        None if known.is_empty() => String::new(),
        None => {
            let mut names: Vec<&str> = known.to_vec();
            names.sort_unstable();
            format!("; {there_are} {}", names.join(", "))
        }
    }
}
